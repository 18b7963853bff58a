//! Sharkey et al. 2022, "Taking features out of superposition with sparse autoencoders": a grid over L1 and dictionary size.
//!
//! 512 directions uniform on the sphere in 256 dimensions, 5 active in a row, rates falling as 0.99^i, strengths U[0, 1); features independent, or
//! correlated by a Gaussian copula. Score: MMCS, the mean over features of the largest cosine with a latent. Outcome: a band of L1, the "Goldilocks
//! zone", in which it is near 1 when there are at least as many latents as features.

use super::{Architecture, Ask, Experiment, Figure, Outcome};
use crate::artifact::{Progress, seed};
use crate::sae::{SaeConfig, TrainConfig};
use crate::synth::data::Dictionary;
use crate::synth::data::plain::{Magnitude, Plain};
use crate::synth::{Result, normal};
use serde_json::json;

pub const SHARKEY: Experiment = Experiment {
    name: "sharkey",
    about: "L1 against dictionary size on 512 features in 256 dimensions, independent and correlated",
    source: "Sharkey, Braun and Millidge 2022",
    rows: 1_000_000,
    takes: "5 minutes",
    run,
};

const N: usize = 512;
const D: usize = 256;
/// Rank of the copula in the correlated case.
const RANK: usize = 8;

/// Coefficients of L1 beside the squared error summed over dimensions, and dictionary sizes as multiples of the number of features.
const L1: [f64; 5] = [0.01, 0.03, 0.1, 0.3, 1.0];
const SIZES: [(usize, &str); 3] = [(N / 2, "1/2"), (N, "1"), (2 * N, "2")];

/// Falling as 0.99^i, with a sum of 5.
fn rates() -> Vec<f64> {
    let sum: f64 = (0..N as i32).map(|i| 0.99f64.powi(i)).sum();
    (0..N as i32).map(|i| 5.0 * 0.99f64.powi(i) / sum).collect()
}

/// (N, RANK): random directions of squared norm 1/2, so that two features' g have a correlation of 0.18 on average in size.
fn factor() -> Vec<f32> {
    let mut factor = vec![0.0; N * RANK];
    normal::fill(&mut seed::rng(0, "synth/sharkey/factor", 0), &mut factor);
    for row in factor.chunks_exact_mut(RANK) {
        let norm = row.iter().map(|f| f * f).sum::<f32>().sqrt();
        row.iter_mut().for_each(|f| *f *= 0.5f32.sqrt() / norm);
    }
    factor
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let own = [Architecture::new("relu-2023", json!({}))];
    let asked = if ask.recipes.is_empty() { &own[..] } else { &ask.recipes };
    let (mut figures, mut says) = (Vec::new(), Vec::new());
    for (case, factor, rank) in [("independent", Vec::new(), 0), ("correlated", factor(), RANK)] {
        let data = Plain::new(Dictionary::random(N, D, 0), &rates(), &factor, rank, Magnitude::Uniform);
        let identity = json!({ "generator": "sharkey", "world": 0, "case": case });
        for architecture in asked {
            for (d_sae, size) in SIZES {
                let mut best: Option<Figure> = None;
                for l1 in L1 {
                    // The paper's coefficient stands beside a mean over dimensions.
                    let recipe = architecture.recipe(&json!({ "l1": l1 / D as f64 }))?;
                    let sae = SaeConfig { d_in: D, d_sae, recipe };
                    let label = format!("{case} {} {size}x l1 {l1}", architecture.spoken());
                    let mut mmcs = Vec::new();
                    for &seed in &ask.seeds {
                        let config =
                            TrainConfig { lr: 1e-3, lr_decay: 0.2, snapshots: 0, ..TrainConfig::short(sae.clone(), ask.rows(&SHARKEY), 1024, seed) };
                        mmcs.push(ask.trained(&data, &identity, &label.replace('/', "of"), &config, 20_000, progress)?.scores.mmcs);
                    }
                    let figure = Figure::new(&label, "mmcs", &mmcs);
                    if best.as_ref().is_none_or(|b| figure.ours > b.ours) {
                        best = Some(figure.clone());
                    }
                    figures.push(figure);
                }
                let best = best.expect("the grid has values of L1");
                says.push(format!("{case} {size}x {:.2}", best.ours));
                let mut figure = Figure { of: format!("{case} {} {size}x", architecture.spoken()), what: "best mmcs".into(), ..best };
                if case == "independent" && size == "2" {
                    figure = figure.published(1.0).within(0.95, 1.0);
                }
                figures.push(figure);
            }
        }
    }
    let says = format!(
        "Best MMCS over L1: {}. Too little L1 leaves features mixed and too much drops the rare ones; between them lies the zone where they are found. \
         With half as many latents as features no L1 helps.",
        says.join(", ")
    );
    Ok(Outcome { experiment: SHARKEY.name, says, figures })
}
