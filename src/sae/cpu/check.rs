//! For tests of architectures: an engine's gradients against central differences of the loss, written out in f64.
//!
//! Small and unequal sizes, so that a swapped axis fails: [`B`] rows of [`D`] numbers, [`F`] latents.

use super::{CpuEngine, normalise};
use crate::artifact::seed;
use crate::sae::{Params, Recipe, SaeConfig, StepReport, StepSettings, TrainConfig};
use rand::RngExt;

pub(crate) const D: usize = 5;
pub(crate) const F: usize = 7;
pub(crate) const B: usize = 3;

/// w_enc, b_enc, w_dec, b_dec, then the vectors.
pub(crate) type Tensors = Vec<Vec<f64>>;

pub(crate) fn random(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "test/cpu", index);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The rows that gradients are taken on, (B, D).
pub(crate) fn rows() -> Vec<f32> {
    random(B * D, 5)
}

pub(crate) fn config(recipe: &Recipe, d_in: usize, d_sae: usize) -> TrainConfig {
    TrainConfig::short(SaeConfig::new(d_in, d_sae, recipe.clone()), 1_000_000, 100, 0)
}

/// Random weights; vectors as the architecture begins with, a little apart from each other.
pub(crate) fn params(recipe: &Recipe, d: usize, f: usize, unit: bool) -> Params {
    let vector = |(i, (_, first)): (usize, &(&str, f32))| random(f, 6 + i as u64).iter().map(|v| first * (1.0 + 0.3 * v) + 0.01 * v).collect();
    let vectors = recipe.vectors().iter().enumerate().map(vector).collect();
    let mut params = Params { w_enc: random(f * d, 1), b_enc: random(f, 2), w_dec: random(f * d, 3), b_dec: random(d, 4), w_skip: vec![], vectors };
    if unit {
        params.w_dec.chunks_exact_mut(d).for_each(normalise);
    }
    params
}

pub(crate) fn wide(p: &Params) -> Tensors {
    [&p.w_enc, &p.b_enc, &p.w_dec, &p.b_dec].into_iter().chain(&p.vectors).map(|t| t.iter().map(|&v| v as f64).collect()).collect()
}

/// What [`gradient_error`] found.
pub(crate) struct Checked {
    /// Largest difference of an element of the gradient from the central difference.
    pub worst: f64,
    pub gradient: Tensors,
    pub report: StepReport,
}

/// Gradients of a step on [`rows`] beside central differences of `loss(weights, weights at which selections are made and fixed things are fixed)`; the
/// engine's own loss must be the same too. `dense_above` 0 forces the dense path where there is one, 1.1 the sparse one; the former
/// with whole products and with those that leave out zeros, the worst of both.
pub(crate) fn gradient_error(recipe: &Recipe, settings: &StepSettings, dense_above: f64, loss: impl Fn(&Tensors, &Tensors) -> f64) -> Checked {
    let of = |skip_below: f64| gradient_error_of(recipe, settings, (dense_above, skip_below), &loss);
    let (whole, skipping) = (of(0.0), of(1.1));
    if whole.worst > skipping.worst { whole } else { skipping }
}

fn gradient_error_of(recipe: &Recipe, settings: &StepSettings, forced: (f64, f64), loss: &impl Fn(&Tensors, &Tensors) -> f64) -> Checked {
    let p = params(recipe, D, F, recipe.ties_encoder());
    let mut engine = CpuEngine::new(&config(recipe, D, F), p.clone());
    (engine.dense_above, engine.skip_below) = forced;
    let (report, gradient) = engine.gradients(&rows(), settings);
    let (at, gradient) = (wide(&p), wide(gradient));
    let want_loss = loss(&at, &at);
    assert!((report.loss - want_loss).abs() < 1e-5 * want_loss.max(1.0), "{recipe:?}: loss {} and {want_loss}", report.loss);
    let mut worst = 0.0f64;
    for (tensor, got) in gradient.iter().enumerate() {
        for (i, got) in got.iter().enumerate() {
            let shifted = |by: f64| {
                let mut p = at.clone();
                p[tensor][i] += by;
                loss(&p, &at)
            };
            let want = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            worst = worst.max((got - want).abs());
        }
    }
    Checked { worst, gradient, report }
}

/// z (F,) of one row in f64.
pub(crate) fn pre_acts(p: &Tensors, x: &[f32], pre_bias: bool) -> Vec<f64> {
    let centre = |i: usize| x[i] as f64 - if pre_bias { p[3][i] } else { 0.0 };
    (0..F).map(|j| p[1][j] + (0..D).map(|i| centre(i) * p[0][j * D + i]).sum::<f64>()).collect()
}

/// |x_hat - x|^2 of one row with these activations.
pub(crate) fn squared_error(p: &Tensors, x: &[f32], acts: &[(usize, f64)]) -> f64 {
    (0..D).map(|i| (p[3][i] + acts.iter().map(|&(j, a)| a * p[2][j * D + i]).sum::<f64>() - x[i] as f64).powi(2)).sum()
}

/// The places of the k largest.
pub(crate) fn largest(z: &[f64], among: impl Iterator<Item = usize>, k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = among.collect();
    order.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
    order.truncate(k);
    order
}

/// AuxK's loss of one row whose raw pre-activations are z at p and z_at at `at`: the residual of what the latents `on` reconstruct is that at `at`.
pub(crate) fn aux_loss((p, z): (&Tensors, &[f64]), (at, z_at): (&Tensors, &[f64]), x: &[f32], on: &[usize], dead: &[u32]) -> f64 {
    if dead.is_empty() {
        return 0.0;
    }
    let kept = largest(z_at, dead.iter().map(|&j| j as usize), (D / 2).min(dead.len()));
    let scale = (dead.len() as f64 / (D / 2) as f64).min(1.0);
    let x_hat = |i: usize| at[3][i] + on.iter().map(|&j| z_at[j] * at[2][j * D + i]).sum::<f64>();
    let aux = |i: usize| kept.iter().map(|&j| z[j] * p[2][j * D + i]).sum::<f64>();
    scale * (0..D).map(|i| (aux(i) - (x[i] as f64 - x_hat(i))).powi(2)).sum::<f64>()
}

/// |w_dec[j]|.
pub(crate) fn norm(p: &Tensors, j: usize) -> f64 {
    p[2][j * D..][..D].iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The same step at one, two and three threads gives the same bits, with whole products and with those that leave out zeros.
pub(crate) fn assert_repeatable_at_any_thread_count(recipe: &Recipe, dense_above: f64, dead: &[u32]) {
    use crate::sae::Engine;
    let (d, f, b) = (24, 300, 333);
    let run = |threads, skip_below| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut engine = CpuEngine::new(&config(recipe, d, f), params(recipe, d, f, true));
            (engine.dense_above, engine.skip_below) = (dense_above, skip_below);
            let settings = StepSettings { lr: 1e-3, sparsity: 0.1, dead };
            let reports: Vec<StepReport> = (0..3).map(|i| engine.step(&random(b * d, 20 + i), &settings)).collect();
            (reports, engine.read().into_owned())
        })
    };
    for skip_below in [0.0, 1.1] {
        let one = run(1, skip_below);
        assert!(run(2, skip_below) == one && run(3, skip_below) == one, "{recipe:?}, zeros left out below {skip_below}");
    }
}
