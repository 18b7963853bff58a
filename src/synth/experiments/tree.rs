//! The Matryoshka tree (Nabeshima 2024): parents whose children exclude each other, and free features.
//!
//! Three parents at rate 0.15, each with three exclusive children at 0.2 (none: 0.4), eight free features at 0.05; 20 orthogonal directions in 20
//! dimensions, magnitudes fixed around 1 with deviation 0.05. Mean L0: 3 * 0.15 * 1.6 + 8 * 0.05 = 1.12. A plain SAE absorbs: its latents for
//! parents are silent where a child fires. A Matryoshka SAE keeps them.

use super::{Ask, Chosen, Experiment, Outcome};
use crate::artifact::{Figure, Progress, seed};
use crate::sae::{SaeConfig, TrainConfig};
use crate::synth::data::Dictionary;
use crate::synth::data::trees::{Group, Trees};
use crate::synth::{Result, normal};
use serde_json::json;

pub const TREE: Experiment = Experiment {
    name: "tree",
    about: "three parents with exclusive children: who finds the parents?",
    source: "Nabeshima 2024, Matryoshka Sparse Autoencoders",
    rows: 8_000_000,
    takes: "1 minute",
    run,
};

const N: usize = 20;
/// What the published SAEs are steered to, a tenth above the features' own.
const TARGET_L0: f64 = 1.2338;

fn data() -> Trees {
    let mut groups = vec![Group { parent: None, exclusive: false, members: (0..3).map(|i| (i, 0.15)).chain((12..20).map(|i| (i, 0.05))).collect() }];
    groups.extend((0..3).map(|p| Group { parent: Some(p), exclusive: true, members: (0..3).map(|c| (3 + 3 * p + c, 0.2)).collect() }));
    let mut scale = vec![0.0; N];
    normal::fill(&mut seed::rng(0, "synth/tree/scale", 0), &mut scale);
    scale.iter_mut().for_each(|s| *s = 1.0 + 0.05 * *s);
    Trees::new(Dictionary::orthogonal(N, N, 0), groups, scale)
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let asked = ask.architectures(&[("relu-april-2024", json!({})), ("batch-topk", json!({})), ("matryoshka", json!({ "random": 10 }))]);
    let chosen = asked.iter().map(|a| a.at_l0(TARGET_L0)).collect::<Result<Vec<Chosen>>>()?;
    let data = data();
    let (mut figures, mut says) = (Vec::new(), Vec::new());
    for chosen in chosen {
        let label = &chosen.label;
        let mut seen: Vec<[f64; 4]> = Vec::new();
        for &seed in &ask.seeds {
            let sae = SaeConfig::new(N, N, chosen.recipe.clone());
            let config = chosen.tuned(TrainConfig {
                lr: 3e-2,
                lr_decay: 0.3,
                beta1: 0.5,
                beta2: 0.9375,
                resample: None,
                snapshots: 0,
                ..TrainConfig::short(sae, ask.rows(&TREE), 200, seed)
            });
            let scored = ask.trained(&data, &json!({ "generator": "tree" }), &[(label.clone(), config)], 50_000, progress)?.remove(0);
            // The detector of a feature is the latent that the matching gives it; where it is nearest to another feature, it detects that one.
            let f1 = |feature: u32| {
                let latent = scored.geometry.latent_of(feature).filter(|&j| scored.geometry.near[j as usize] == feature);
                latent.map_or(0.0, |j| scored.detectors[j as usize].f1)
            };
            seen.push([(0..3).map(f1).sum::<f64>() / 3.0, (3..12).map(f1).sum::<f64>() / 9.0, scored.scores.mcc, scored.scores.l0]);
        }
        let figure = |what: &str, i: usize| Figure::new(label, what, &seen.iter().map(|s| s[i]).collect::<Vec<_>>());
        let parents = figure("mean F1 of parents", 0);
        says.push(format!("{label} {:.2}", parents.ours));
        let parents = match chosen.recipe.name() {
            "matryoshka" => parents.published(1.0).within(0.95, 1.0),
            recipe if recipe.starts_with("relu") => parents.within(0.0, 0.8),
            _ => parents,
        };
        figures.extend([parents, figure("mean F1 of children", 1), figure("mcc", 2), figure("l0", 3)]);
    }
    let true_l0: f64 = data.rates().iter().sum();
    figures.push(Figure::new("generator", "true l0", &[true_l0]).published(1.12).within(1.12 - 1e-9, 1.12 + 1e-9));
    let says = format!(
        "F1 of the latents of parents: {}. A plain SAE saves activity by putting the parent's direction into each child's latent, so that the parent's \
         own latent only means \"none of the children\". Where an inner part of the dictionary has to reconstruct alone, the parents come back.",
        says.join(", ")
    );
    Ok(Outcome { experiment: TREE.name, says, figures })
}
