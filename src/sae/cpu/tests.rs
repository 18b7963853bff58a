//! Gradients against finite differences of an f64 oracle; sparse against dense; the same bits at any number of threads.

use super::*;
use crate::artifact::seed;
use crate::sae::SaeConfig;
use rand::RngExt;

const D: usize = 5;
const F: usize = 7;
const B: usize = 3;
const DEAD: [u32; 3] = [1, 4, 6];

fn random(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "test/cpu", index);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn config(recipe: Recipe, d_in: usize, d_sae: usize) -> TrainConfig {
    TrainConfig::short(SaeConfig { d_in, d_sae, recipe }, 1_000_000, 100, 0)
}

fn params(d: usize, f: usize, unit: bool) -> Params {
    let mut params = Params { w_enc: random(f * d, 1), b_enc: random(f, 2), w_dec: random(f * d, 3), b_dec: random(d, 4) };
    if unit {
        params.w_dec.chunks_exact_mut(d).for_each(normalise);
    }
    params
}

/// The loss in f64. Selections and what AuxK holds fixed are taken at `at`, so that finite differences see the function whose gradient is meant.
fn oracle_loss(recipe: Recipe, p: &[Vec<f64>; 4], at: &[Vec<f64>; 4], x: &[f32], l1: f64, dead: &[u32]) -> f64 {
    let pre = |p: &[Vec<f64>; 4], x: &[f32]| -> Vec<f64> {
        let centre = |i: usize| x[i] as f64 - if recipe.pre_bias() { p[3][i] } else { 0.0 };
        (0..F).map(|j| p[1][j] + (0..D).map(|i| centre(i) * p[0][j * D + i]).sum::<f64>()).collect()
    };
    let largest = |z: &[f64], among: Vec<usize>, k: usize| {
        let mut order = among;
        order.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
        order.truncate(k);
        order
    };
    let active = |z: &[f64]| match recipe {
        Recipe::TopK { k, .. } => largest(z, (0..F).filter(|&j| z[j] > 0.0).collect(), k),
        _ => (0..F).filter(|&j| z[j] > 0.0).collect(),
    };
    let decode = |p: &[Vec<f64>; 4], z: &[f64], active: &[usize], bias: f64, i: usize| {
        bias * p[3][i] + active.iter().map(|&j| z[j] * p[2][j * D + i]).sum::<f64>()
    };
    let mut loss = 0.0;
    for x in x.chunks_exact(D) {
        let (z, z_at) = (pre(p, x), pre(at, x));
        let on = active(&z_at);
        loss += (0..D).map(|i| (decode(p, &z, &on, 1.0, i) - x[i] as f64).powi(2)).sum::<f64>();
        let norm = |j: usize| match recipe {
            Recipe::ReluApril2024 { .. } => (0..D).map(|i| p[2][j * D + i].powi(2)).sum::<f64>().sqrt(),
            _ => 1.0,
        };
        if !matches!(recipe, Recipe::TopK { .. }) {
            loss += l1 * on.iter().map(|&j| z[j] * norm(j)).sum::<f64>();
        }
        if let Recipe::TopK { auxk: true, .. } = recipe
            && !dead.is_empty()
        {
            let kept = largest(&z_at, dead.iter().map(|&j| j as usize).collect(), (D / 2).min(dead.len()));
            let residual = |i: usize| x[i] as f64 - decode(at, &z_at, &on, 1.0, i);
            let scale = (dead.len() as f64 / (D / 2) as f64).min(1.0) / 32.0;
            loss += scale * (0..D).map(|i| (decode(p, &z, &kept, 0.0, i) - residual(i)).powi(2)).sum::<f64>();
        }
    }
    loss / (x.len() / D) as f64
}

fn wide(p: &Params) -> [Vec<f64>; 4] {
    [&p.w_enc, &p.b_enc, &p.w_dec, &p.b_dec].map(|t| t.iter().map(|&v| v as f64).collect())
}

/// Largest difference of the engine's gradient from central differences; also checks the loss.
fn gradient_error(recipe: Recipe, l1: f64, dead: &[u32], dense_above: f64) -> (f64, [Vec<f64>; 4]) {
    let p = params(D, F, false);
    let x = random(B * D, 5);
    let mut engine = CpuEngine::new(&config(recipe, D, F), p.clone());
    engine.dense_above = dense_above;
    let (report, gradient) = engine.gradients(&x, &StepSettings { lr: 0.0, l1, dead });
    let (at, got) = (wide(&p), wide(gradient));
    let want_loss = oracle_loss(recipe, &at, &at, &x, l1, dead);
    assert!((report.loss - want_loss).abs() < 1e-5 * want_loss.max(1.0), "{recipe:?}: loss {} and {want_loss}", report.loss);
    let mut worst = 0.0f64;
    for (tensor, got) in got.iter().enumerate() {
        for (i, got) in got.iter().enumerate() {
            let shifted = |by: f64| {
                let mut p = at.clone();
                p[tensor][i] += by;
                oracle_loss(recipe, &p, &at, &x, l1, dead)
            };
            let want = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            worst = worst.max((got - want).abs());
        }
    }
    (worst, got)
}

#[test]
fn gradients_of_every_loss_match_finite_differences() {
    // f32 sums over some ten products of size 1: 1e-5.
    let cases = [
        (Recipe::TopK { k: 2, auxk: false }, 0.0, &[][..]),
        (Recipe::TopK { k: 2, auxk: true }, 0.0, &DEAD[..]),
        (Recipe::TopK { k: 2, auxk: true }, 0.0, &DEAD[..1]),
        (Recipe::Relu2023 { l1: 0.0 }, 0.0, &[]),
        (Recipe::Relu2023 { l1: 0.0 }, 0.7, &[]),
        (Recipe::ReluApril2024 { l1: 0.0 }, 0.7, &[]),
    ];
    for (recipe, l1, dead) in cases {
        for dense_above in [0.0, 1.1] {
            let (error, _) = gradient_error(recipe, l1, dead, dense_above);
            assert!(error < 2e-5, "{recipe:?} l1 {l1} dead {dead:?} dense above {dense_above}: {error}");
        }
    }
}

#[test]
fn each_loss_term_reaches_exactly_the_parameters_that_it_should() {
    let topk = |auxk, dead: &[u32]| gradient_error(Recipe::TopK { k: 1, auxk }, 0.0, dead, 1.1).1;
    let (plain, aux) = (topk(false, &[]), topk(true, &DEAD));
    for j in 0..F {
        let differs = |tensor: usize| (0..D).any(|i| plain[tensor][j * D + i] != aux[tensor][j * D + i]);
        let dead = DEAD.contains(&(j as u32));
        assert!(dead || (!differs(0) && !differs(2) && plain[1][j] == aux[1][j]), "aux moved the live latent {j}");
    }
    let moved = DEAD.iter().filter(|&&j| plain[1][j as usize] != aux[1][j as usize]).count();
    assert!(moved >= 2, "aux reached the encoder bias of {moved} dead latents");
    // L1 reaches the encoder and, in the April recipe alone, the decoder.
    for (recipe, decoder) in [(Recipe::Relu2023 { l1: 0.0 }, false), (Recipe::ReluApril2024 { l1: 0.0 }, true)] {
        let (with, without) = (gradient_error(recipe, 0.5, &[], 1.1).1, gradient_error(recipe, 0.0, &[], 1.1).1);
        assert_ne!(with[0], without[0]);
        assert_ne!(with[1], without[1]);
        assert_eq!(with[2] != without[2], decoder, "{recipe:?}");
    }
}

#[test]
fn latents_that_never_fire_have_a_gradient_of_exactly_zero() {
    let mut p = params(D, F, false);
    p.b_enc[2] = -100.0;
    for dense_above in [0.0, 1.1] {
        let mut engine = CpuEngine::new(&config(Recipe::Relu2023 { l1: 0.0 }, D, F), p.clone());
        engine.dense_above = dense_above;
        let (_, gradient) = engine.gradients(&random(B * D, 5), &StepSettings { lr: 0.0, l1: 0.5, dead: &[] });
        assert!(gradient.w_enc[2 * D..3 * D].iter().chain(&gradient.w_dec[2 * D..3 * D]).chain([&gradient.b_enc[2]]).all(|&g| g == 0.0));
        assert!(gradient.b_enc.iter().any(|&g| g != 0.0));
        assert_eq!(engine.fires()[2], 0);
    }
}

#[test]
fn sparse_steps_equal_dense_steps() {
    let (d, f, b) = (33, 130, 150);
    for recipe in [Recipe::Relu2023 { l1: 0.0 }, Recipe::ReluApril2024 { l1: 0.0 }] {
        let run = |dense_above: f64| {
            let mut engine = CpuEngine::new(&config(recipe, d, f), params(d, f, true));
            engine.dense_above = dense_above;
            let reports: Vec<StepReport> =
                (0..5).map(|i| engine.step(&random(b * d, 10 + i), &StepSettings { lr: 1e-3, l1: 0.1, dead: &[] })).collect();
            (reports, engine.fires().to_vec(), engine.read())
        };
        let ((dense, dense_fires, dense_state), (sparse, sparse_fires, sparse_state)) = (run(0.0), run(1.1));
        assert_eq!(dense_fires, sparse_fires);
        for (a, b) in dense.iter().zip(&sparse) {
            assert_eq!(a.l0, b.l0);
            assert!(
                (a.loss - b.loss).abs() < 1e-5 * a.loss
                    && (a.l1 - b.l1).abs() < 1e-4 * a.l1
                    && (a.grad_norm - b.grad_norm).abs() < 1e-4 * a.grad_norm
            );
        }
        // Adam's first steps are lr times a sign: where a gradient is rounding noise they may differ by a few lr of 1e-3.
        let off = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 1e-4).count() as f64 / a.len() as f64;
        assert!(off(&dense_state.params.w_enc, &sparse_state.params.w_enc) < 0.01);
        assert!(off(&dense_state.params.w_dec, &sparse_state.params.w_dec) < 0.01);
    }
}

#[test]
fn a_step_is_bitwise_repeatable_at_any_thread_count() {
    let (d, f, b) = (24, 300, 333);
    let dead: Vec<u32> = (0..40).map(|j| 7 * j).collect();
    for (recipe, dense_above) in
        [(Recipe::TopK { k: 5, auxk: true }, 0.08), (Recipe::Relu2023 { l1: 0.0 }, 0.0), (Recipe::ReluApril2024 { l1: 0.0 }, 1.1)]
    {
        let run = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let mut engine = CpuEngine::new(&config(recipe, d, f), params(d, f, true));
                engine.dense_above = dense_above;
                let reports: Vec<StepReport> =
                    (0..3).map(|i| engine.step(&random(b * d, 20 + i), &StepSettings { lr: 1e-3, l1: 0.1, dead: &dead })).collect();
                (reports, engine.read())
            })
        };
        let one = run(1);
        assert!(run(2) == one && run(3) == one, "{recipe:?}");
    }
}

#[test]
fn decoder_rows_keep_unit_norm_over_many_steps_and_the_gradient_is_orthogonal_to_them() {
    let (d, f, b) = (6, 20, 50);
    for recipe in [Recipe::TopK { k: 3, auxk: true }, Recipe::Relu2023 { l1: 0.0 }] {
        let mut engine = CpuEngine::new(&config(recipe, d, f), params(d, f, true));
        for i in 0..1000 {
            let before = engine.state.params.w_dec.clone();
            engine.step(&random(b * d, 100 + i % 10), &StepSettings { lr: 1e-2, l1: 0.1, dead: &[3] });
            for (w, g) in before.chunks_exact(d).zip(engine.gradient.w_dec.chunks_exact(d)) {
                assert!(dot(w, g).abs() < 1e-5 * (1.0 + dot(g, g).sqrt()));
            }
        }
        assert!(engine.read().params.w_dec.chunks_exact(d).all(|w| (dot(w, w).sqrt() - 1.0).abs() < 1e-5));
    }
}

#[test]
fn clipping_bounds_the_norm_that_adam_sees() {
    let small = |clip| {
        let mut config = config(Recipe::TopK { k: 2, auxk: false }, D, F);
        (config.clip, config.eps) = (clip, 1.0);
        let mut engine = CpuEngine::new(&config, params(D, F, true));
        let report = engine.step(&random(B * D, 5).iter().map(|v| v * 100.0).collect::<Vec<_>>(), &StepSettings { lr: 1e-3, l1: 0.0, dead: &[] });
        (report.grad_norm, squared_norm(&engine.state.first).sqrt())
    };
    let ((norm, clipped), (same, free)) = (small(Some(1.0)), small(None));
    assert!(norm > 10.0 && norm == same);
    // After one step the first moment is 0.1 times the gradient.
    assert!((clipped - 0.1).abs() < 1e-4 && (free - 0.1 * norm).abs() < 1e-3 * norm, "{clipped} {free} {norm}");
}

#[test]
fn training_with_and_without_the_screen_gives_the_same_weights() {
    let (d, f, b) = (24, 700, 200);
    let run = |screen: fn() -> Screen| {
        let mut engine = CpuEngine::new(&config(Recipe::TopK { k: 5, auxk: true }, d, f), params(d, f, true));
        engine.screen = screen();
        let reports: Vec<StepReport> =
            (0..6).map(|i| engine.step(&random(b * d, 30 + i), &StepSettings { lr: 1e-2, l1: 0.0, dead: &[3, 40, 41] })).collect();
        // After other weights and new latents the screen must be made anew.
        let (mut before, mut after) = (SparseRows::default(), SparseRows::default());
        let x = random(b * d, 40);
        engine.encode(&x, &mut before);
        engine.replace_latents(&[Replacement { latent: 8, w_enc: vec![1.0; d], b_enc: 9.0, w_dec: vec![0.1; d] }]);
        engine.encode(&x, &mut after);
        assert!(before != after);
        assert!((0..b).any(|r| after.row(r).0.contains(&8)));
        assert_eq!(engine.screened().rows, if engine.screen.fast() { b } else { 0 });
        (reports, engine.read(), before, after)
    };
    assert!(run(Screen::default) == run(Screen::without_bf16));
}
