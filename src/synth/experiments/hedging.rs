//! Feature hedging (Chanin et al. 2025): an SAE that is too narrow mixes features that fire together.
//!
//! A parent at rate 0.25 and three children, each at 0.15 given the parent, orthogonal, magnitude 1, in 50 dimensions. Four latents can hold them.
//! One latent does best when its direction leans towards the children: with c = 0.15 the leading eigenvector of E[x x^T], (1, b, b, b) with
//! 3 c b^2 + (1 - c - 2 c^2) b - c = 0, b = 0.170: cosine 0.959 with the parent and 0.163 with each child.

use super::{Ask, Experiment, Outcome};
use crate::artifact::{Figure, Progress};
use crate::sae::{SaeConfig, TrainConfig};
use crate::synth::Result;
use crate::synth::data::Dictionary;
use crate::synth::data::trees::{Group, Trees};
use serde_json::json;

pub const HEDGING: Experiment = Experiment {
    name: "hedging",
    about: "one latent for a parent and its children: its direction mixes them",
    source: "Chanin et al. 2025, Feature hedging",
    rows: 5_000_000,
    takes: "20 seconds",
    run,
};

const D: usize = 50;

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let groups = vec![
        Group { parent: None, exclusive: false, members: vec![(0, 0.25)] },
        Group { parent: Some(0), exclusive: false, members: vec![(1, 0.15), (2, 0.15), (3, 0.15)] },
    ];
    let data = Trees::new(Dictionary::orthogonal(4, D, 0), groups, vec![1.0; 4]);
    let mut figures = Vec::new();
    for architecture in ask.architectures(&[("relu-2023", json!({ "l1": 0.03 / D as f64 })), ("topk", json!({ "k": 1 }))]) {
        let chosen = architecture.as_it_is()?;
        let mut cosines: Vec<[f64; 2]> = Vec::new();
        for &seed in &ask.seeds {
            let sae = SaeConfig::new(D, 1, chosen.recipe.clone());
            let config =
                TrainConfig { lr: 3e-3, lr_decay: 0.3, resample: None, snapshots: 0, ..TrainConfig::short(sae, ask.rows(&HEDGING), 1024, seed) };
            let jobs = [(chosen.label.clone(), config)];
            let scored = ask.trained(&data, &json!({ "generator": "hedging" }), &jobs, 20_000, progress)?.remove(0);
            // Where rows are centred first, the latent may as well fire where the parent does not, with the opposite direction.
            let sign = scored.geometry.cosine(0, 0).signum() as f64;
            let with = |feature| sign * scored.geometry.cosine(0, feature) as f64;
            cosines.push([with(0), (with(1) + with(2) + with(3)) / 3.0]);
        }
        let label = chosen.label;
        let figure = |what: &str, i: usize| Figure::new(&label, what, &cosines.iter().map(|c| c[i]).collect::<Vec<_>>());
        figures.extend([
            figure("cosine of the latent with the parent", 0).published(0.959).within(0.93, 0.98),
            figure("mean cosine with a child", 1).published(0.163).within(0.11, 0.22),
        ]);
    }
    let says = "A single latent does not point to the parent, the strongest feature: it leans towards each of its children, because they are part of \
                what it can reconstruct. The published column is the leading eigenvector, worked out by hand. No sparsity penalty cures this; more latents do."
        .into();
    Ok(Outcome { experiment: HEDGING.name, says, figures })
}
