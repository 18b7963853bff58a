//! Sharkey et al. 2022, "Taking features out of superposition with sparse autoencoders": a grid over L1 and dictionary size.
//!
//! 512 directions uniform on the sphere in 256 dimensions, 5 active in a row, rates falling as 0.99^i, strengths U[0, 1); features independent, or
//! correlated by a Gaussian copula. Score: MMCS, the mean over features of the largest cosine with a latent. Outcome: a band of L1, the "Goldilocks
//! zone", in which it is near 1 when there are at least as many latents as features.

use super::{Ask, Chosen, Experiment, Outcome};
use crate::artifact::{Figure, Progress, seed};
use crate::sae::{SaeConfig, TrainConfig};
use crate::synth::data::Dictionary;
use crate::synth::data::plain::{Magnitude, Plain};
use crate::synth::{Result, normal};
use serde_json::json;

pub const SHARKEY: Experiment = Experiment {
    name: "sharkey",
    about: "L1 against dictionary size on 512 features in 256 dimensions, independent and correlated",
    source: "Sharkey, Braun and Millidge 2022",
    rows: 2_000_000,
    takes: "12 minutes",
    run,
};

/// Rows of a step. The rarest features fire once in 3,400 rows, and what finds them is steps: with 1,024 rows to a step a million rows give an MMCS of 0.74.
const BATCH: usize = 256;

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
    let (mut figures, mut says) = (Vec::new(), Vec::new());
    for (case, factor, rank) in [("independent", Vec::new(), 0), ("correlated", factor(), RANK)] {
        let data = Plain::new(Dictionary::random(N, D, 0), &rates(), &factor, rank, Magnitude::Uniform);
        let identity = json!({ "generator": "sharkey", "world": 0, "case": case });
        for architecture in ask.architectures(&[("relu-2023", json!({}))]) {
            for (d_sae, size) in SIZES {
                // The 2023 paper's coefficient stands beside a mean over dimensions.
                let beside = if architecture.recipe == "relu-2023" { D as f64 } else { 1.0 };
                let grid = L1.iter().map(|l1| architecture.or(json!({ "l1": l1 / beside })).as_it_is()).collect::<Result<Vec<Chosen>>>()?;
                let label = |l1: f64| format!("{case} {} {d_sae} latents l1 {l1}", architecture.recipe);
                let mut mmcs: Vec<Vec<f64>> = vec![Vec::new(); L1.len()];
                for &seed in &ask.seeds {
                    let config = |chosen: &Chosen| {
                        let sae = SaeConfig::new(D, d_sae, chosen.recipe.clone());
                        TrainConfig { lr: 1e-3, lr_decay: 0.2, snapshots: 0, ..TrainConfig::short(sae, ask.rows(&SHARKEY), BATCH, seed) }
                    };
                    let jobs: Vec<(String, TrainConfig)> = grid.iter().zip(L1).map(|(chosen, l1)| (label(l1), config(chosen))).collect();
                    let scored = ask.trained(&data, &identity, &jobs, 20_000, progress)?;
                    mmcs.iter_mut().zip(scored).for_each(|(all, scored)| all.push(scored.scores.mmcs));
                }
                let grid: Vec<Figure> = L1.iter().zip(&mmcs).map(|(&l1, mmcs)| Figure::new(&label(l1), "mmcs", mmcs)).collect();
                let best = grid.iter().max_by(|a, b| a.ours.total_cmp(&b.ours)).expect("the grid has values of L1").clone();
                says.push(format!("{case} {size}x {:.2}", best.ours));
                let mut best = Figure { of: format!("{case} {} {size}x", architecture.recipe), what: "best mmcs".into(), ..best };
                if case == "independent" && size == "2" {
                    best = best.published(1.0).within(0.95, 1.0);
                }
                figures.extend(grid);
                figures.push(best);
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
