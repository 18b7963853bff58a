//! Sparse but wrong (Chanin and Garriga-Alonso 2025): at too low an L0 an SAE mixes correlated features, and reconstructs better for it.
//!
//! 50 orthogonal features in 100 dimensions, rates 0.345 (49 - i) / 50 + 0.05, firing with random correlations (7 of 10 pairs, size 0.3 to 0.9, either
//! sign, then the nearest that a copula can have), magnitudes N(1, 0.15); 50 latents. Mean L0 is 10.95. With k = 11 the features are found; with
//! k = 9 they are mixed, and the error is below that of the true directions at k = 9.
//!
//! What tells the right L0 without the truth: the mean over rows of the n-th largest |(x - b_dec) . w_j|, n somewhat above L0. Mixed directions see
//! features that are not theirs; it is least where directions are clean.

use super::{Ask, Chosen, Experiment, Outcome};
use crate::artifact::{Figure, Progress, seed};
use crate::kernels::gemm::matmul_nt;
use crate::sae::{RowSource, Sae, SaeConfig, Select, TrainConfig};
use crate::synth::data::plain::{Magnitude, Plain};
use crate::synth::data::{Dictionary, copula};
use crate::synth::source::{Generator, Rows};
use crate::synth::{Result, scores};
use rand::RngExt;
use serde_json::json;

pub const WRONG_L0: Experiment = Experiment {
    name: "wrong-l0",
    about: "50 correlated features: too small a k mixes them and reconstructs better; how to find the right k",
    source: "Chanin and Garriga-Alonso 2025, Sparse but Wrong",
    rows: 15_000_000,
    takes: "5 minutes",
    run,
};

const N: usize = 50;
const D: usize = 100;
/// The k that are tried, and the place of the projection that judges them.
const KS: std::ops::RangeInclusive<usize> = 7..=15;
const NTH: usize = 20;

fn rates() -> Vec<f64> {
    (0..N).map(|i| 0.345 * (49 - i) as f64 / 50.0 + 0.05).collect()
}

fn data() -> Plain {
    let mut rng = seed::rng(0, "synth/wrong-l0/correlations", 0);
    let mut correlation = vec![0.0; N * N];
    for i in 0..N {
        correlation[i * N + i] = 1.0;
        for j in 0..i {
            let sign = if rng.random() { 1.0 } else { -1.0 };
            let r = if rng.random_bool(0.7) { sign * rng.random_range(0.3..0.9) } else { 0.0 };
            (correlation[i * N + j], correlation[j * N + i]) = (r, r);
        }
    }
    Plain::new(Dictionary::orthogonal(N, D, 0), &rates(), &copula::factor_of(&correlation, N), N, Magnitude::Normal { mean: 1.0, sd: 0.15 })
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let data = data();
    let mut figures = Vec::new();
    for architecture in ask.architectures(&[("batch-topk", json!({}))]) {
        let chosen = KS.map(|k| architecture.at_l0(k as f64)).collect::<Result<Vec<Chosen>>>()?;
        // For each seed: matched cosine and error at k = 11 and 9, error of the truth at 9, k with the least projection.
        let mut seen: Vec<[f64; 6]> = Vec::new();
        for &seed in &ask.seeds {
            let mut projections = Vec::new();
            let mut at = [0.0; 6];
            let config = |chosen: &Chosen| {
                let sae = SaeConfig::new(D, N, chosen.recipe.clone());
                let short = TrainConfig::short(sae, ask.rows(&WRONG_L0), 1024, seed);
                chosen.tuned(TrainConfig { lr: 3e-4, lr_decay: 0.2, snapshots: 0, ..short })
            };
            let jobs: Vec<(String, TrainConfig)> = chosen.iter().map(|chosen| (chosen.label.clone(), config(chosen))).collect();
            let scored = ask.trained(&data, &json!({ "generator": "wrong-l0", "world": 0 }), &jobs, 50_000, progress)?;
            for ((k, (label, _)), scored) in KS.zip(&jobs).zip(scored) {
                let sae = Sae::load(&ask.place(label, seed))?;
                projections.push((k, nth_projection(&sae, &data, seed)));
                figures.push(Figure::new(label, &format!("{NTH}th projection"), &[projections[projections.len() - 1].1]));
                match k {
                    11 => (at[0], at[1]) = (scored.scores.mcc, scored.scores.mse),
                    9 => (at[2], at[3]) = (scored.scores.mcc, scored.scores.mse),
                    _ => {}
                }
            }
            at[4] = scores::score(&true_sae(&data, 9), &data, seed, 50_000, progress).scores.mse;
            at[5] = projections.iter().fold((0, f64::INFINITY), |best, &(k, p)| if p < best.1 { (k, p) } else { best }).0 as f64;
            seen.push(at);
        }
        let label = architecture.recipe.clone();
        let figure = |what: &str, of: &dyn Fn(&[f64; 6]) -> f64| Figure::new(&label, what, &seen.iter().map(of).collect::<Vec<_>>());
        figures.extend([
            figure("matched cosine, k = 11", &|s| s[0]).published(1.0),
            figure("matched cosine, k = 9", &|s| s[2]),
            figure("matched cosine, k = 11 less k = 9", &|s| s[0] - s[2]).within(0.1, 1.0),
            figure("mse, k = 9", &|s| s[3]),
            figure("mse of the true directions, k = 9", &|s| s[4]),
            figure("mse, k = 9, over that of the true directions", &|s| s[3] / s[4]).within(0.0, 1.0),
            figure("k with the least projection", &|s| s[5]).published(11.0).within(10.0, 12.0),
        ]);
    }
    let says =
        "With as many latents per row as features fire, directions are the true ones. With fewer the SAE does better than the truth could: it \
                mixes features that fire together, and its error is lower for being wrong. Which k is right shows without the truth in how much the \
                latents that are not used still see of a row."
            .into();
    Ok(Outcome { experiment: WRONG_L0.name, says, figures })
}

/// The SAE of the true directions that keeps the k largest products.
fn true_sae(data: &Plain, k: usize) -> Sae {
    let directions = &data.dictionary().directions;
    Sae {
        d_in: D,
        d_sae: N,
        select: Select::TopK { k },
        w_enc: directions.clone(),
        b_enc: vec![0.0; N],
        w_dec: directions.clone(),
        b_dec: vec![0.0; D],
        apply_b_dec_to_input: true,
        transcoder: None,
    }
}

/// Mean over rows of the NTH largest |(x - b_dec) . w_j|.
fn nth_projection(sae: &Sae, data: &Plain, seed: u64) -> f64 {
    const ROWS: usize = 20_000;
    let mut x = vec![0.0; ROWS * D];
    Rows::new(data, seed, "projection").next_rows(&mut x).expect("rows of a generator do not fail");
    x.chunks_exact_mut(D).for_each(|x| x.iter_mut().zip(&sae.b_dec).for_each(|(x, b)| *x -= b));
    let mut projections = vec![0.0; ROWS * N];
    matmul_nt(ROWS, N, D, &x, &sae.w_dec, &mut projections, false);
    let nth = |row: &mut [f32]| {
        row.iter_mut().for_each(|p| *p = p.abs());
        *row.select_nth_unstable_by(NTH - 1, |a, b| b.total_cmp(a)).1 as f64
    };
    projections.chunks_exact_mut(N).map(nth).sum::<f64>() / ROWS as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::SparseRows;

    #[test]
    fn the_data_fires_at_its_rates_and_is_correlated() {
        assert!((rates().iter().sum::<f64>() - 10.95).abs() < 0.01);
        let data = data();
        let mut rows = SparseRows::default();
        data.draw(&mut seed::rng(0, "test/wrong-l0", 0), 8000, &mut rows);
        assert!((rows.n_active() as f64 / 8000.0 - 10.95).abs() < 0.15, "{}", rows.n_active());
        let mut pairs = vec![0.0; N * N];
        (0..8000)
            .for_each(|r| rows.row(r).0.iter().for_each(|&i| rows.row(r).0.iter().for_each(|&j| pairs[i as usize * N + j as usize] += 1.0 / 8000.0)));
        let p = rates();
        let far = (0..N * N).filter(|ij| ij / N < ij % N).filter(|ij| {
            let chance = p[ij / N] * p[ij % N];
            (pairs[*ij] - chance).abs() > 5.0 * (chance / 8000.0).sqrt()
        });
        assert!(far.count() > 300, "most of the 1,225 pairs do not fire together by chance");
    }
}
