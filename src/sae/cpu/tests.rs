//! Gradients against finite differences of an f64 oracle, and whole trainings against PyTorch; sparse against dense; the same bits at any number of threads.

use super::check::{
    B, D, F, Tensors, assert_repeatable_at_any_thread_count, aux_loss, config, gradient_error, largest, norm, params, pre_acts, random, rows,
    squared_error, wide,
};
use super::*;
use crate::artifact::{TensorFile, seed};
use crate::kernels::screen::Product;
use crate::sae::{BatchTopK, Relu2023, ReluApril2024, TopK};
use rand::RngExt;
use std::path::Path;

const DEAD: [u32; 3] = [1, 4, 6];

fn relu() -> Recipe {
    Relu2023 { l1: 0.0 }.into()
}

fn april() -> Recipe {
    ReluApril2024 { l1: 0.0 }.into()
}

/// The loss in f64. Selections and what AuxK holds fixed are taken at `at`, so that finite differences see the function whose gradient is meant.
fn oracle_loss(recipe: &Recipe, p: &Tensors, at: &Tensors, sparsity: f64, dead: &[u32]) -> f64 {
    let mut loss = 0.0;
    for x in rows().chunks_exact(D) {
        let (z, z_at) = (pre_acts(p, x, recipe.pre_bias()), pre_acts(at, x, recipe.pre_bias()));
        let positive = || (0..F).filter(|&j| z_at[j] > 0.0);
        let acts = |on: &[usize]| on.iter().map(|&j| (j, z[j])).collect::<Vec<_>>();
        let on = match recipe {
            Recipe::TopK(TopK { k, .. }) => largest(&z_at, positive(), *k),
            _ => positive().collect(),
        };
        loss += squared_error(p, x, &acts(&on));
        if let Recipe::TopK(TopK { k, multi: true, .. }) = recipe {
            loss += squared_error(p, x, &acts(&largest(&z_at, positive(), 4 * k))) / 8.0;
        }
        let weight = |j: usize| if recipe.unit_decoder() { 1.0 } else { norm(p, j) };
        if recipe.sparsity(D).is_some() {
            loss += sparsity * on.iter().map(|&j| z[j] * weight(j)).sum::<f64>();
        }
        if recipe.auxk() {
            loss += aux_loss((p, &z), (at, &z_at), x, &on, dead);
        }
    }
    loss / B as f64
}

fn checked(recipe: &Recipe, sparsity: f64, dead: &[u32], dense_above: f64) -> (f64, Tensors) {
    let checked = gradient_error(recipe, &StepSettings { lr: 0.0, sparsity, dead }, dense_above, |p, at| oracle_loss(recipe, p, at, sparsity, dead));
    (checked.worst, checked.gradient)
}

#[test]
fn gradients_of_every_loss_match_finite_differences() {
    // f32 sums over some ten products of size 1: 1e-5.
    let cases = [
        (Recipe::topk(2, false), 0.0, &[][..]),
        (Recipe::topk(2, true), 0.0, &DEAD[..]),
        (Recipe::topk(2, true), 0.0, &DEAD[..1]),
        (TopK { k: 1, auxk: false, multi: true }.into(), 0.0, &[]),
        (TopK { k: 1, auxk: true, multi: true }.into(), 0.0, &DEAD),
        (relu(), 0.0, &[]),
        (relu(), 0.7, &[]),
        (april(), 0.7, &[]),
    ];
    for (recipe, sparsity, dead) in cases {
        for dense_above in [0.0, 1.1] {
            let (error, _) = checked(&recipe, sparsity, dead, dense_above);
            assert!(error < 2e-5, "{recipe:?} sparsity {sparsity} dead {dead:?} dense above {dense_above}: {error}");
        }
    }
}

#[test]
fn each_loss_term_reaches_exactly_the_parameters_that_it_should() {
    let topk = |auxk, dead: &[u32]| checked(&Recipe::topk(1, auxk), 0.0, dead, 1.1).1;
    let (plain, aux) = (topk(false, &[]), topk(true, &DEAD));
    for j in 0..F {
        let differs = |tensor: usize| (0..D).any(|i| plain[tensor][j * D + i] != aux[tensor][j * D + i]);
        let dead = DEAD.contains(&(j as u32));
        assert!(dead || (!differs(0) && !differs(2) && plain[1][j] == aux[1][j]), "aux moved the live latent {j}");
    }
    let moved = DEAD.iter().filter(|&&j| plain[1][j as usize] != aux[1][j as usize]).count();
    assert!(moved >= 2, "aux reached the encoder bias of {moved} dead latents");
    // L1 reaches the encoder and, in the April recipe alone, the decoder.
    for (recipe, decoder) in [(relu(), false), (april(), true)] {
        let (with, without) = (checked(&recipe, 0.5, &[], 1.1).1, checked(&recipe, 0.0, &[], 1.1).1);
        assert_ne!(with[0], without[0]);
        assert_ne!(with[1], without[1]);
        assert_eq!(with[2] != without[2], decoder, "{recipe:?}");
    }
}

#[test]
fn latents_that_never_fire_have_a_gradient_of_exactly_zero() {
    let mut p = params(&relu(), D, F, false);
    p.b_enc[2] = -100.0;
    for dense_above in [0.0, 1.1] {
        let mut engine = CpuEngine::new(&config(&relu(), D, F), p.clone());
        engine.dense_above = dense_above;
        let (_, gradient) = engine.gradients(&rows(), &StepSettings { lr: 0.0, sparsity: 0.5, dead: &[] });
        assert!(gradient.w_enc[2 * D..3 * D].iter().chain(&gradient.w_dec[2 * D..3 * D]).chain([&gradient.b_enc[2]]).all(|&g| g == 0.0));
        assert!(gradient.b_enc.iter().any(|&g| g != 0.0));
        assert_eq!(engine.fires()[2], 0);
    }
}

#[test]
fn sparse_steps_equal_dense_steps() {
    let (d, f, b) = (33, 130, 150);
    for recipe in [relu(), april()] {
        let run = |dense_above: f64, skip_below: f64| {
            let mut engine = CpuEngine::new(&config(&recipe, d, f), params(&recipe, d, f, true));
            (engine.dense_above, engine.skip_below) = (dense_above, skip_below);
            let reports: Vec<StepReport> =
                (0..5).map(|i| engine.step(&random(b * d, 10 + i), &StepSettings { lr: 1e-3, sparsity: 0.1, dead: &[] })).collect();
            (reports, engine.fires().to_vec(), engine.read().into_owned())
        };
        let (sparse, sparse_fires, sparse_state) = run(1.1, 0.0);
        for (dense, dense_fires, dense_state) in [run(0.0, 0.0), run(0.0, 1.1)] {
            assert_eq!(dense_fires, sparse_fires);
            for (a, b) in dense.iter().zip(&sparse) {
                assert_eq!(a.l0, b.l0);
                assert!(
                    (a.loss - b.loss).abs() < 1e-5 * a.loss
                        && (a.penalty - b.penalty).abs() < 1e-4 * a.penalty
                        && (a.grad_norm - b.grad_norm).abs() < 1e-4 * a.grad_norm
                );
            }
            // Adam's first steps are lr times a sign: where a gradient is rounding noise they may differ by a few lr of 1e-3.
            let off = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 1e-4).count() as f64 / a.len() as f64;
            assert!(off(&dense_state.params.w_enc, &sparse_state.params.w_enc) < 0.01);
            assert!(off(&dense_state.params.w_dec, &sparse_state.params.w_dec) < 0.01);
        }
    }
}

#[test]
fn a_step_is_bitwise_repeatable_at_any_thread_count() {
    let dead: Vec<u32> = (0..40).map(|j| 7 * j).collect();
    let multi = TopK { k: 5, auxk: true, multi: true }.into();
    for (recipe, dense_above) in [(Recipe::topk(5, true), 0.08), (multi, 0.08), (relu(), 0.0), (april(), 0.0), (april(), 1.1)] {
        assert_repeatable_at_any_thread_count(&recipe, dense_above, &dead);
    }
}

#[test]
fn decoder_rows_keep_unit_norm_over_many_steps_and_the_gradient_is_orthogonal_to_them() {
    let (d, f, b) = (6, 20, 50);
    for recipe in [Recipe::topk(3, true), relu()] {
        let mut engine = CpuEngine::new(&config(&recipe, d, f), params(&recipe, d, f, true));
        for i in 0..1000 {
            let before = engine.state.params.w_dec.clone();
            engine.step(&random(b * d, 100 + i % 10), &StepSettings { lr: 1e-2, sparsity: 0.1, dead: &[3] });
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
        let recipe = Recipe::topk(2, false);
        let mut config = config(&recipe, D, F);
        (config.clip, config.eps) = (clip, 1.0);
        let mut engine = CpuEngine::new(&config, params(&recipe, D, F, true));
        let report = engine.step(&rows().iter().map(|v| v * 100.0).collect::<Vec<_>>(), &StepSettings { lr: 1e-3, sparsity: 0.0, dead: &[] });
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
    let run = |recipe: &Recipe, product: Product| {
        let mut engine = CpuEngine::new(&config(recipe, d, f), params(recipe, d, f, true));
        engine.encoder.screen.screen = Screen::with(product);
        // Sparse, however much is active.
        engine.dense_above = 1.1;
        let reports: Vec<StepReport> =
            (0..6).map(|i| engine.step(&random(b * d, 30 + i), &StepSettings { lr: 1e-2, sparsity: 1e-3, dead: &[3, 40, 41] })).collect();
        // After other weights and new latents the screen must be made anew.
        let (mut before, mut after) = (SparseRows::default(), SparseRows::default());
        let x = random(b * d, 40);
        engine.encode(&x, &mut before);
        engine.replace_latents(&[Replacement { latent: 8, w_enc: vec![1.0; d], b_enc: 9.0, w_dec: vec![0.1; d] }]);
        engine.encode(&x, &mut after);
        assert!(before != after, "{recipe:?}");
        assert!((0..b).any(|r| after.row(r).0.contains(&8)), "{recipe:?}");
        assert_eq!(engine.screened().rows > 0, engine.encoder.screen.screen.fast(), "{recipe:?}");
        (reports, engine.read().into_owned(), before, after)
    };
    let batch_topk = |refine| Recipe::from(BatchTopK { k: 5.0, refine, ..Default::default() });
    let others = ["jump-relu", "gated", "matryoshka", "relu-2023"].map(|name| Recipe::named(name, &[]).unwrap());
    for recipe in [Recipe::topk(5, true), batch_topk(None), batch_topk(Some(0.3))].iter().chain(&others) {
        let runs: Vec<_> = Product::available().into_iter().map(|product| run(recipe, product)).collect();
        assert!(runs.iter().all(|run| *run == runs[0]), "{recipe:?}");
    }
}

#[test]
fn held_decoders_stay_where_they_were_drawn_or_near_it() {
    let (d, f, b) = (6, 20, 50);
    let recipe = Recipe::topk(3, false);
    for (decoder, least) in [(Decoder::Frozen, 1.0 - 1e-6), (Decoder::SoftFrozen, 0.8 - 1e-5), (Decoder::Free, -1.0)] {
        let mut config = config(&recipe, d, f);
        config.decoder = decoder;
        let first = first_directions(&config.sae, config.seed);
        let start = Params { w_dec: first.clone(), w_enc: first.clone(), ..params(&recipe, d, f, true) };
        let mut engine = CpuEngine::new(&config, start);
        for i in 0..300 {
            engine.step(&random(b * d, 100 + i % 10), &StepSettings { lr: 1e-2, sparsity: 0.0, dead: &[] });
        }
        let cosines: Vec<f32> = engine.state.params.w_dec.chunks(d).zip(first.chunks(d)).map(|(a, b)| dot(a, b)).collect();
        let lowest = cosines.iter().copied().fold(1.0, f32::min);
        assert!(lowest >= least, "{decoder:?}: {lowest}");
        // The bound is reached: without it directions go further.
        assert!(decoder != Decoder::SoftFrozen || lowest < 0.81, "{lowest}");
        assert!(decoder != Decoder::Free || lowest < 0.7, "{lowest}");
        assert!(engine.state.params.w_dec.chunks(d).all(|w| (dot(w, w) - 1.0).abs() < 1e-4));
        assert_ne!(engine.state.params.w_enc, first);
    }
}

#[test]
fn the_variance_of_a_batch_is_around_its_mean_however_far_that_is() {
    let (d, n) = (7, 300);
    let mut rng = seed::rng(0, "test/variance", 0);
    let config = TrainConfig::short(SaeConfig::new(d, 9, Recipe::topk(3, false)), 1000, 10, 0);
    for offset in [0.0f32, 10.0, 1000.0] {
        let x: Vec<f32> = (0..n * d).map(|_| offset + rng.random_range(-1.0f32..1.0)).collect();
        let mean = |i: usize| x.iter().skip(i).step_by(d).map(|&v| v as f64).sum::<f64>() / n as f64;
        let means: Vec<f64> = (0..d).map(mean).collect();
        let want = x.iter().enumerate().map(|(i, &v)| (v as f64 - means[i % d]).powi(2)).sum::<f64>() / n as f64;
        let mut engine = CpuEngine::new(&config, params(&config.sae.recipe, d, 9, true));
        let got = engine.step(&x, &StepSettings { lr: 0.0, sparsity: 0.0, dead: &[] }).variance;
        assert!((got / want - 1.0).abs() < 1e-4, "{offset}: {got} {want}");
    }
}

/// Against the same written densely in PyTorch, in f64 (`tests/fixtures/sae_pytorch.py`): the sparse step of either kind, and the dense one with and without zeros.
#[test]
fn the_first_gradient_is_pytorchs_and_the_loss_of_three_hundred_steps_goes_the_same_way() {
    let (d, f, b, steps) = (12, 48, 64, 300);
    let file = TensorFile::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sae_pytorch.safetensors")).unwrap();
    let rows = file.f32("rows", &[10 * b, d]).unwrap();
    for (name, recipe, sparsity, forced) in [
        ("topk", Recipe::topk(4, false), 0.0, (0.08, 0.0)),
        ("april", april(), 0.2, (1.1, 0.0)),
        ("april", april(), 0.2, (0.0, 0.0)),
        ("april", april(), 0.2, (0.0, 1.1)),
    ] {
        let tensors = |part: &str| {
            let of = |tensor: &str, shape: &[usize]| file.f32(&format!("{name}/{part}/{tensor}"), shape).unwrap();
            let (w_enc, b_enc, w_dec, b_dec) = (of("w_enc", &[f, d]), of("b_enc", &[f]), of("w_dec", &[f, d]), of("b_dec", &[d]));
            Params { w_enc, b_enc, w_dec, b_dec, ..Params::default() }
        };
        let mut engine = CpuEngine::new(&TrainConfig { eps: 1e-8, ..config(&recipe, d, f) }, tensors("w"));
        (engine.dense_above, engine.skip_below) = forced;
        let settings = StepSettings { lr: 1e-3, sparsity, dead: &[] };
        let (_, gradient) = engine.gradients(&rows[..b * d], &settings);
        for (got, want) in wide(gradient).iter().zip(wide(&tensors("g"))) {
            let largest = want.iter().fold(0.0f64, |most, g| most.max(g.abs()));
            let worst = got.iter().zip(&want).fold(0.0f64, |worst, (got, want)| worst.max((got - want).abs()));
            assert!(worst < 1e-5 * largest, "{recipe:?}: {worst} beside {largest}");
        }
        let losses = file.f32(&format!("{name}/losses"), &[steps]).unwrap();
        for (step, want) in losses.into_iter().enumerate() {
            let loss = engine.step(&rows[step % 10 * b * d..][..b * d], &settings).loss;
            assert!((loss / want as f64 - 1.0).abs() < 1e-3, "{recipe:?}, step {step}: {loss} and {want}");
        }
    }
}
