//! What is estimated from a first sample of rows, and the weights before the first step.
//!
//! N = rows of the sample, D = d_in, E = d_out (= D but for transcoders), F = d_sae.

use super::architectures::{Init, Units};
use super::cpu::normalise;
use super::encode::CHUNK;
use super::transcoder::split;
use super::{Params, SaeConfig, TrainConfig};
use crate::artifact::seed;
use crate::kernels::sparse::{axpy, dot};
use rand::RngExt;
use rayon::prelude::*;

/// x' = scale (x - mean): the units in which the engine works. Folded away when the SAE is saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Normaliser {
    /// (D,)
    pub mean: Vec<f32>,
    pub scale: f32,
}

impl Normaliser {
    /// The units that an architecture asks for, estimated from rows (N, D).
    pub fn estimate(units: Units, rows: &[f32], d: usize) -> Self {
        let n = (rows.len() / d).max(1) as f64;
        let zero = vec![0.0; d];
        let root = (d as f64).sqrt();
        match units {
            Units::Raw => Normaliser { mean: zero, scale: 1.0 },
            Units::RootNorm => {
                let mean_norm = rows.chunks_exact(d).map(norm).sum::<f64>() / n;
                Normaliser { mean: zero, scale: inverse(mean_norm / root) }
            }
            Units::Centred => {
                let mean = mean_row(rows, d);
                let squares: f64 = rows.chunks_exact(d).map(|x| distance(x, &mean).powi(2)).sum();
                Normaliser { mean, scale: inverse((squares / n).sqrt() / root) }
            }
        }
    }

    /// x' in place of x, rows (n, D).
    pub fn apply(&self, rows: &mut [f32]) {
        if self.scale == 1.0 && self.mean.iter().all(|&m| m == 0.0) {
            return;
        }
        let d = self.mean.len();
        rows.par_chunks_mut(CHUNK * d).for_each(|rows| {
            rows.chunks_exact_mut(d).for_each(|row| self.apply_to_row(row));
        });
    }

    fn apply_to_row(&self, row: &mut [f32]) {
        row.iter_mut().zip(&self.mean).for_each(|(v, m)| *v = (*v - m) * self.scale);
    }
}

/// Rows that first biases of the encoder are found on.
const BIAS_ROWS: usize = 2048;

/// The units of both ends: an autoencoder's are one.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales {
    pub input: Normaliser,
    /// Of what a transcoder reconstructs.
    pub target: Option<Normaliser>,
}

impl Scales {
    /// Estimated from rows (N, D), or (N, D + E) of a transcoder.
    pub fn estimate(units: Units, config: &SaeConfig, rows: &[f32]) -> Self {
        match config.target {
            None => Scales { input: Normaliser::estimate(units, rows, config.d_in), target: None },
            Some(target) => {
                let (mut x, mut y) = (vec![], vec![]);
                split(rows, config.d_in, &mut x, &mut y, target.d_out);
                let target = Normaliser::estimate(units, &y, target.d_out);
                Scales { input: Normaliser::estimate(units, &x, config.d_in), target: Some(target) }
            }
        }
    }

    /// Of what is reconstructed.
    pub fn output(&self) -> &Normaliser {
        self.target.as_ref().unwrap_or(&self.input)
    }

    /// Rows in the units of training, in place.
    pub fn apply(&self, rows: &mut [f32]) {
        let Some(target) = &self.target else { return self.input.apply(rows) };
        let (d, e) = (self.input.mean.len(), target.mean.len());
        rows.par_chunks_mut(CHUNK * (d + e)).for_each(|rows| {
            for row in rows.chunks_exact_mut(d + e) {
                let (x, y) = row.split_at_mut(d);
                self.input.apply_to_row(x);
                target.apply_to_row(y);
            }
        });
    }
}

/// |mean| / sqrt(mean squared distance from it): above some 3, much of the SAE's work is the mean, and latents die early.
pub fn mean_to_spread(rows: &[f32], d: usize) -> f64 {
    let mean = mean_row(rows, d);
    let squares: f64 = rows.chunks_exact(d).map(|x| distance(x, &mean).powi(2)).sum();
    norm(&mean) / (squares / (rows.len() / d).max(1) as f64).sqrt().max(f64::MIN_POSITIVE)
}

/// Weights before the first step, as [`Init`] says; `rows` (N, D) or (N, D + E) are normalised. w_skip is 0, and so are biases, but for b_dec of
/// [`Init::Linear`] and b_enc where [`first_firing`](super::Architecture::first_firing) sets it. A transcoder's encoder has directions of its own.
pub fn init_params(config: &SaeConfig, run_seed: u64, rows: &[f32]) -> Params {
    let (d, e, f) = (config.d_in, config.d_out(), config.d_sae);
    let init = config.recipe.init(d, f);
    let mut w_dec = first_directions(config, run_seed);
    let mut b_dec = vec![0.0; e];
    let mut w_enc = if config.target.is_none() { w_dec.clone() } else { directions(init, (d, f), run_seed, "sae/init/encoder") };
    match init {
        Init::Linear => {
            let (mut x, mut target) = (vec![], vec![]);
            if config.target.is_some() {
                split(rows, d, &mut x, &mut target, e);
            }
            b_dec = geometric_median(if config.target.is_some() { &target } else { rows }, e);
            let bound = 1.0 / (d as f32).sqrt();
            w_enc.par_chunks_mut(d).enumerate().for_each(|(j, row)| {
                let mut rng = seed::rng(run_seed, "sae/init/encoder", j as u64);
                row.iter_mut().for_each(|v| *v = rng.random_range(-bound..bound));
            });
        }
        Init::Tied { norm, encoder } => {
            w_dec.iter_mut().for_each(|v| *v *= norm);
            w_enc.iter_mut().for_each(|v| *v *= norm * encoder);
        }
    }
    let vectors = config.recipe.vectors().iter().map(|&(_, first)| vec![first; f]).collect();
    let w_skip = vec![0.0; if config.skip() { e * d } else { 0 }];
    let mut b_enc = vec![0.0; f];
    if let Some((share, above)) = config.recipe.first_firing(f) {
        let rows: Vec<f32> = rows.chunks_exact(config.d_row()).take(BIAS_ROWS).flat_map(|row| &row[..d]).copied().collect();
        b_enc.par_chunks_mut(CHUNK).zip(w_enc.par_chunks(CHUNK * d)).for_each(|(b_enc, w_enc)| fire_on(share, above, &rows, w_enc, b_enc));
    }
    Params { w_enc, b_enc, w_dec, b_dec, w_skip, vectors }
}

/// Sets b_enc (K,) so that each of K latents w_enc (K, D) is above `above` on this share of the rows (n, D); of none, as it is.
fn fire_on(share: f64, above: f32, rows: &[f32], w_enc: &[f32], b_enc: &mut [f32]) {
    let d = w_enc.len() / b_enc.len();
    let mut z = Vec::new();
    for (b, w) in b_enc.iter_mut().zip(w_enc.chunks_exact(d)) {
        z.clear();
        z.extend(rows.chunks_exact(d).map(|x| dot(x, w)));
        let rank = (share * z.len() as f64) as usize;
        if rank < z.len() {
            *b = above - *z.select_nth_unstable_by(rank, |a, b| b.total_cmp(a)).1;
        }
    }
}

/// Decoder directions (F, E) before the first step, of unit norm.
pub(super) fn first_directions(config: &SaeConfig, run_seed: u64) -> Vec<f32> {
    directions(config.recipe.init(config.d_in, config.d_sae), (config.d_out(), config.d_sae), run_seed, "sae/init/decoder")
}

/// Random directions (F, D) of unit norm.
fn directions(init: Init, (d, f): (usize, usize), run_seed: u64, what: &str) -> Vec<f32> {
    let mut w_dec = vec![0.0; f * d];
    w_dec.par_chunks_mut(d).enumerate().for_each(|(j, row)| {
        let mut rng = seed::rng(run_seed, what, j as u64);
        row.iter_mut().for_each(|v| *v = if init == Init::Linear { rng.random_range(-1.0..1.0) } else { gaussian(&mut rng) });
        normalise(row);
    });
    w_dec
}

impl TrainConfig {
    /// Whether latents of one number begin with one direction in both trainings: it is drawn from the seed and the number alone, uniform or normal, and
    /// a training that sorts its latents does not keep the numbers.
    pub fn begins_as(&self, other: &TrainConfig) -> bool {
        let start = |config: &TrainConfig| {
            let SaeConfig { d_in, d_sae, recipe, target } = &config.sae;
            (config.seed, (*d_in, target.map(|t| t.d_out)), recipe.init(*d_in, *d_sae) == Init::Linear, recipe.sort_every().is_some())
        };
        start(self) == start(other) && !start(self).3
    }
}

/// The point with the least sum of distances to the rows (N, D), by Weiszfeld's iteration until it moves less than 1e-5 of the mean distance.
pub fn geometric_median(rows: &[f32], d: usize) -> Vec<f32> {
    let mut median = mean_row(rows, d);
    for _ in 0..100 {
        // (sum of weights, sum of distances, weighted sum of rows) of fixed blocks, added in order.
        let block = |rows: &[f32]| {
            let (mut weights, mut distances, mut sum) = (0.0, 0.0, vec![0.0; d]);
            for x in rows.chunks_exact(d) {
                let far = distance(x, &median).max(1e-12);
                weights += 1.0 / far;
                distances += far;
                axpy((1.0 / far) as f32, x, &mut sum);
            }
            (weights, distances, sum)
        };
        let parts: Vec<(f64, f64, Vec<f32>)> = rows.par_chunks(CHUNK * d).map(block).collect();
        let weights: f64 = parts.iter().map(|p| p.0).sum();
        let mean_distance = parts.iter().map(|p| p.1).sum::<f64>() / (rows.len() / d).max(1) as f64;
        if weights == 0.0 {
            break;
        }
        let next: Vec<f32> = (0..d).map(|i| (parts.iter().map(|p| p.2[i] as f64).sum::<f64>() / weights) as f32).collect();
        let moved = distance(&next, &median);
        median = next;
        if moved <= 1e-5 * mean_distance {
            break;
        }
    }
    median
}

pub(super) fn mean_row(rows: &[f32], d: usize) -> Vec<f32> {
    let mut sum = vec![0.0f64; d];
    for row in rows.chunks_exact(d) {
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += *v as f64);
    }
    let n = (rows.len() / d).max(1) as f64;
    sum.iter().map(|s| (s / n) as f32).collect()
}

fn norm(x: &[f32]) -> f64 {
    (dot(x, x) as f64).sqrt()
}

fn distance(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, y)| ((x - y) as f64).powi(2)).sum::<f64>().sqrt()
}

/// 1 / x; rows that are all alike have no scale and keep theirs.
fn inverse(x: f64) -> f32 {
    if x > 0.0 && x.is_finite() { (1.0 / x) as f32 } else { 1.0 }
}

/// A standard normal draw (Box and Muller).
pub(super) fn gaussian(rng: &mut impl rand::Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random_range(0.0..1.0f64)).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random_range(0.0..1.0f64)).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::{Recipe, Relu2023, ReluApril2024, Target};

    fn rows(n: usize, d: usize) -> Vec<f32> {
        let mut rng = seed::rng(0, "test/init", 0);
        (0..n * d).map(|i| 3.0 * gaussian(&mut rng) + (i % d) as f32).collect()
    }

    #[test]
    fn the_units_of_each_recipe_are_as_stated() {
        let d = 5;
        let sample = rows(200, d);
        let mut topk = sample.clone();
        Normaliser::estimate(Units::Centred, &sample, d).apply(&mut topk);
        let mean_square = topk.iter().map(|v| (*v as f64).powi(2)).sum::<f64>() / 200.0;
        assert!((mean_square - 5.0).abs() < 1e-4 && mean_row(&topk, d).iter().all(|m| m.abs() < 1e-5), "{mean_square}");
        let mut april = sample.clone();
        Normaliser::estimate(Units::RootNorm, &sample, d).apply(&mut april);
        let mean_norm = april.chunks_exact(d).map(norm).sum::<f64>() / 200.0;
        assert!((mean_norm - 5f64.sqrt()).abs() < 1e-4, "{mean_norm}");
        let ratio = april[0] / sample[0];
        assert!(april.iter().zip(&sample).all(|(a, s)| (a - ratio * s).abs() < 1e-4), "April only scales");
        let mut raw = sample.clone();
        Normaliser::estimate(Units::Raw, &sample, d).apply(&mut raw);
        assert_eq!(raw, sample);
    }

    #[test]
    fn the_geometric_median_ignores_an_outlier_that_moves_the_mean() {
        // Four points around (1, 2) and one far away: the median of these five is (1, 2) itself, since the four unit pulls cancel in pairs
        // and (1, 2) is one of the points.
        let mut points = vec![0.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 3.0, 1.0, 2.0];
        points.extend([1000.0, 2.0]);
        let median = geometric_median(&points, 2);
        assert!((median[0] - 1.0).abs() < 0.05 && (median[1] - 2.0).abs() < 0.01, "{median:?}");
        // Gradient of the sum of distances at the result is no larger than the pull of the point it sits on.
        assert!(mean_row(&points, 2)[0] > 160.0);
    }

    #[test]
    fn initial_weights_have_the_norms_of_their_recipe() {
        let sample = rows(50, 6);
        let norms = |w: &[f32]| w.chunks_exact(6).map(norm).collect::<Vec<_>>();
        let config = |recipe| SaeConfig::new(6, 11, recipe);
        let topk = init_params(&config(Recipe::topk(2, true)), 1, &sample);
        assert!(norms(&topk.w_dec).iter().all(|n| (n - 1.0).abs() < 1e-5));
        assert_eq!(topk.w_enc, topk.w_dec);
        let april = init_params(&config(ReluApril2024 { l1: 5.0 }.into()), 1, &sample);
        assert!(norms(&april.w_dec).iter().all(|n| (n - 0.1).abs() < 1e-6));
        let old = init_params(&config(Relu2023 { l1: 1e-3 }.into()), 1, &sample);
        assert!(norms(&old.w_dec).iter().all(|n| (n - 1.0).abs() < 1e-5));
        assert!(old.w_enc.iter().all(|w| w.abs() <= 1.0 / 6f32.sqrt()) && old.w_enc != old.w_dec);
        assert_eq!(old.b_dec, geometric_median(&sample, 6));
        assert_ne!(init_params(&config(Recipe::topk(2, true)), 2, &sample), topk);
    }

    #[test]
    fn the_first_weights_of_every_recipe_are_as_its_init_says() {
        let (d, e, f) = (6, 4, 11);
        let zero = |values: &[f32]| values.iter().all(|&v| v == 0.0);
        let of_norm = |w: &[f32], d: usize, want: f32| w.len() == f * d && w.chunks_exact(d).all(|w| (norm(w) - want as f64).abs() < 1e-5);
        let transcoder = Some(Target { d_out: e, skip: true });
        let all = Recipe::all().into_iter().flat_map(|recipe| [(recipe.clone(), None), (recipe, transcoder)]);
        let (mut linear, mut tied, mut with_vectors) = (0, 0, 0);
        for (recipe, target) in all.filter(|(recipe, target)| target.is_none() || recipe.transcodes()) {
            let config = SaeConfig { target, ..SaeConfig::new(d, f, recipe.clone()) };
            let sample = rows(50, config.d_row());
            let Params { w_enc, b_enc, w_dec, b_dec, w_skip, vectors } = init_params(&config, 1, &sample);
            let named = format!("{recipe:?} {target:?}");
            match recipe.init(d, f) {
                Init::Tied { norm, encoder } => {
                    tied += 1;
                    assert!(of_norm(&w_dec, config.d_out(), norm) && zero(&b_dec), "{named}");
                    match target {
                        None => assert!(w_enc.iter().zip(&w_dec).all(|(e, w)| (e - encoder * w).abs() < 1e-7), "{named}"),
                        Some(_) => assert!(of_norm(&w_enc, d, norm * encoder), "{named}"),
                    }
                }
                Init::Linear => {
                    linear += 1;
                    let bound = 1.0 / (d as f32).sqrt();
                    let most = w_enc.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                    assert!(w_enc.len() == f * d && (0.8 * bound..=bound).contains(&most), "{named}: {most}");
                    assert!(of_norm(&w_dec, config.d_out(), 1.0) && w_enc.iter().any(|&w| w < 0.0), "{named}");
                    // Of what is reconstructed: of a transcoder the last numbers of a row.
                    let reconstructed: Vec<f32> =
                        sample.chunks_exact(config.d_row()).flat_map(|row| &row[row.len() - config.d_out()..]).copied().collect();
                    assert_eq!(b_dec, geometric_median(&reconstructed, config.d_out()), "{named}");
                }
            }
            assert!(b_enc.len() == f && zero(&b_enc), "{named}");
            assert!(w_skip.len() == target.map_or(0, |_| e * d) && zero(&w_skip), "{named}");
            let want: Vec<Vec<f32>> = recipe.vectors().iter().map(|(_, first)| vec![*first; f]).collect();
            assert_eq!(vectors, want, "{named}");
            with_vectors += usize::from(vectors.iter().any(|vector| !zero(vector)));
        }
        assert!(linear > 0 && tied > 0 && with_vectors > 0, "{linear} {tied} {with_vectors}");
    }
}
