//! Feature hedging (Chanin et al. 2025): an SAE that is too narrow mixes features that fire together.
//!
//! A parent at rate 0.25 and three children, each at 0.15 given the parent, orthogonal, magnitude 1, in 50 dimensions. Four latents can hold them.
//! One latent does best when its direction leans towards the children: with c = 0.15 the leading eigenvector of E[x x^T], (1, b, b, b) with
//! 3 c b^2 + (1 - c - 2 c^2) b - c = 0, b = 0.170: cosine 0.959 with the parent and 0.163 with each child.
//!
//! Ours: L1 0.03 beside the squared error summed over dimensions, rate 3e-3, falling over the last 0.3 of 5M rows; and TopK beside it, which has no penalty.

use super::{Ask, Experiment, Outcome};
use crate::artifact::{Figure, Progress};
use crate::sae::{SaeConfig, TrainConfig};
use crate::synth::Result;
use crate::synth::data::Dictionary;
use crate::synth::data::trees::{Group, Trees};
use serde_json::{Value, json};

pub const HEDGING: Experiment = Experiment {
    name: "hedging",
    about: "one latent for a parent and its children: its direction mixes them",
    source: "Chanin et al. 2025, Feature hedging",
    rows: 5_000_000,
    takes: "20 seconds",
    run,
};

const D: usize = 50;
/// Magnitude of every feature.
const MAGNITUDE: f32 = 1.0;
/// Cosines of the leading eigenvector of E[x x^T] with the parent and with each child.
const BY_HAND: [f64; 2] = [0.959, 0.163];

fn groups() -> Vec<Group> {
    vec![
        Group { parent: None, exclusive: false, members: vec![(0, 0.25)] },
        Group { parent: Some(0), exclusive: false, members: vec![(1, 0.15), (2, 0.15), (3, 0.15)] },
    ]
}

/// What the rows follow from.
fn identity() -> Value {
    json!({ "generator": "hedging", "world": 0, "d_in": D, "groups": groups(), "magnitude": MAGNITUDE })
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let data = Trees::new(Dictionary::orthogonal(4, D, 0), groups(), vec![MAGNITUDE; 4]);
    let mut figures = Vec::new();
    for architecture in ask.architectures(&[("relu-2023", json!({ "l1": 0.03 / D as f64 })), ("topk", json!({ "k": 1 }))]) {
        let chosen = architecture.as_it_is()?;
        let mut cosines: Vec<[f64; 3]> = Vec::new();
        for &seed in &ask.seeds {
            let sae = SaeConfig::new(D, 1, chosen.recipe.clone());
            let short = TrainConfig::short(sae, ask.rows(&HEDGING), 1024, seed);
            let config = chosen.tuned(TrainConfig { lr: 3e-3, lr_decay: 0.3, resample: None, snapshots: 0, ..short });
            let jobs = [(chosen.label.clone(), config)];
            let scored = ask.trained(&data, &identity(), &jobs, 20_000, progress)?.remove(0);
            // Where rows are centred first, the latent may as well fire where the parent does not, with the opposite direction.
            let sign = scored.geometry.cosine(0, 0).signum() as f64;
            let with = |feature| sign * scored.geometry.cosine(0, feature) as f64;
            let children = [with(1), with(2), with(3)];
            cosines.push([with(0), children.into_iter().fold(1.0, f64::min), children.into_iter().fold(-1.0, f64::max)]);
        }
        let label = chosen.label;
        let figure = |what: &str, i: usize| Figure::new(&label, what, &cosines.iter().map(|c| c[i]).collect::<Vec<_>>());
        figures.extend([
            figure("cosine of the latent with the parent", 0).published(BY_HAND[0]).within(0.93, 0.98),
            figure("smallest cosine with a child", 1).published(BY_HAND[1]).within(0.11, 0.22),
            figure("largest cosine with a child", 2).published(BY_HAND[1]).within(0.11, 0.22),
        ]);
    }
    let says = says(&figures, &ask.on_rows(&HEDGING));
    Ok(Outcome { experiment: HEDGING.name, says, figures })
}

/// What one sees, unless a latent has not come to it. `rows` says on how many.
fn says(figures: &[Figure], rows: &str) -> String {
    let by_hand = "Worked out by hand, as the leading eigenvector of E[x x^T], the cosines are 0.959 with the parent and 0.163 with each child.";
    let mut missed: Vec<&str> = figures.iter().filter(|figure| figure.holds() == Some(false)).map(|figure| figure.of.as_str()).collect();
    missed.dedup();
    if missed.is_empty() {
        format!(
            "A single latent does not point to the parent, the strongest feature: it leans towards each of its children, because they are part of \
             what it can reconstruct. {by_hand} It comes of reconstruction alone: with a penalty and with a fixed number of latents it is the same."
        )
    } else {
        format!(
            "{by_hand} The single latent of {} did not come to these on {rows}, so nothing follows from where it points.",
            missed.join(", nor that of ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Silent;
    use crate::synth::experiments::Architecture;

    #[test]
    fn the_data_are_named_by_what_their_rows_follow_from() {
        let identity = identity();
        assert_eq!((&identity["groups"][0]["members"], &identity["groups"][1]["members"][2]), (&json!([[0, 0.25]]), &json!([3, 0.15])));
    }

    #[test]
    fn the_cosines_worked_out_by_hand_are_those_of_the_eigenvector() {
        // 3 c b^2 + (1 - c - 2 c^2) b - c = 0 at c = 0.15.
        let c: f64 = 0.15;
        let half = (1.0 - c - 2.0 * c * c) / (6.0 * c);
        let b = (half * half + 1.0 / 3.0).sqrt() - half;
        let norm = (1.0 + 3.0 * b * b).sqrt();
        assert!((1.0 / norm - BY_HAND[0]).abs() < 5e-4 && (b / norm - BY_HAND[1]).abs() < 5e-4, "{} {}", 1.0 / norm, b / norm);
        // It is one: E[x x^T], over the parent's rate, has rows (1, c, c, c) and (c, c, c^2, c^2).
        let first = 1.0 + 3.0 * c * b;
        let second = c + c * b + 2.0 * c * c * b;
        assert!((second - first * b).abs() < 1e-12);
    }

    #[test]
    fn where_the_latent_is_elsewhere_nothing_is_concluded() {
        let parent = |of: &str, ours: f64| Figure::new(of, "cosine of the latent with the parent", &[ours]).within(0.93, 0.98);
        let found = says(&[parent("a", 0.96), parent("b", 0.95)], "7 rows");
        assert!(found.contains("leans towards each") && found.contains("0.959") && !found.contains("nothing follows"), "{found}");
        let lost = says(&[parent("a", 0.96), parent("b", 0.3), parent("b", 0.4)], "7 rows");
        assert!(lost.contains("The single latent of b did not come to these on 7 rows, so nothing follows") && !lost.contains("leans"), "{lost}");
    }

    #[test]
    fn settings_of_the_training_are_heeded_and_what_follows_by_hand_stands_beside_it() {
        let parts = tempfile::tempdir().unwrap();
        let recipes = vec![Architecture::parse("relu-2023:l1=0.0006,lr=0.123").unwrap()];
        let ask = Ask { folder: parts.path().into(), seeds: vec![0], rows: Some(20_480), recipes, ..Ask::default() };
        let outcome = run(&ask, &mut Silent).unwrap();
        let manifest = std::fs::read_to_string(parts.path().join("relu-2023-l1=0.0006-lr=0.123-s0/manifest.json")).unwrap();
        assert!(manifest.contains("\"lr\": 0.123"), "{manifest}");
        assert_eq!(outcome.figures.iter().map(|f| f.published).collect::<Vec<_>>(), [Some(0.959), Some(0.163), Some(0.163)]);
        assert!(outcome.figures.iter().all(|f| f.band.is_some()) && outcome.says.contains("0.959"));
    }
}
