//! The engine against a naive forward in f64 written here, finite differences and itself.

use super::*;
use crate::kernels::activation::gelu_naive;
use crate::kernels::testing::{at_threads, random};
use crate::lm::{Activation, TrainConfig, tensor_specs};

fn config(activation: Activation, tied: bool) -> LmConfig {
    LmConfig { d_vocab: 11, n_ctx: 7, d_model: 6, n_layers: 2, n_heads: 2, d_mlp: 10, activation, tied }
}

/// A model whose weights are large enough that every part matters.
fn model(config: &LmConfig) -> Lm {
    let mut lm = Lm::init(config, 5);
    for (i, tensor) in lm.weights.tensors_mut().into_iter().enumerate() {
        let noise = random(tensor.len(), 1000 + i as u64);
        tensor.iter_mut().zip(noise).for_each(|(w, x)| *w += 0.4 * x);
    }
    lm
}

fn tokens(n: usize, d_vocab: usize) -> (Vec<u32>, Vec<u32>) {
    let ids: Vec<u32> = (0..=n).map(|i| ((i * i + 3 * i) % d_vocab) as u32).collect();
    (ids[..n].to_vec(), ids[1..].to_vec())
}

fn linear(x: &[f64], w: &[f32], b: &[f32]) -> Vec<f64> {
    let n = b.len();
    (0..n).map(|j| b[j] as f64 + x.iter().enumerate().map(|(i, x)| x * w[i * n + j] as f64).sum::<f64>()).collect()
}

fn norm(x: &[f64], w: &[f32], b: &[f32]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    x.iter().zip(w).zip(b).map(|((x, w), b)| (x - mean) / (variance + 1e-5).sqrt() * *w as f64 + *b as f64).collect()
}

fn add(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

/// The model written token by token in f64: logits of every position, and the rows at `hook` after `offset` was added to row `at` of it.
fn naive(lm: &Lm, ids: &[u32], window: usize, hook: HookPoint, offset: Option<(usize, &[f32])>) -> (Vec<f64>, Vec<f64>) {
    let LmConfig { d_model: d, n_heads, .. } = lm.config;
    let e = lm.config.d_head();
    let mut hooked = Vec::new();
    let mut see = |layer: usize, site: Site, rows: &mut [Vec<f64>]| {
        if hook == (HookPoint { layer, site }) {
            if let Some((at, vector)) = offset {
                rows[at].iter_mut().zip(vector).for_each(|(x, v)| *x += *v as f64);
            }
            hooked = rows.concat();
        }
    };
    let row = |matrix: &[f32], i: usize| matrix[i * d..(i + 1) * d].iter().map(|&x| x as f64).collect::<Vec<f64>>();
    let mut x: Vec<Vec<f64>> =
        ids.iter().enumerate().map(|(t, &id)| add(&row(&lm.weights.wte, id as usize), &row(&lm.weights.wpe, t % window))).collect();
    for (layer, w) in lm.weights.blocks.iter().enumerate() {
        see(layer, Site::ResidPre, &mut x);
        let qkv: Vec<Vec<f64>> = x.iter().map(|x| linear(&norm(x, &w.ln_1_w, &w.ln_1_b), &w.c_attn_w, &w.c_attn_b)).collect();
        let mut mid: Vec<Vec<f64>> = (0..ids.len())
            .map(|t| {
                let mut z = vec![0.0; d];
                for h in 0..n_heads {
                    let score = |s: usize| (0..e).map(|i| qkv[t][h * e + i] * qkv[s][d + h * e + i]).sum::<f64>() / (e as f64).sqrt();
                    let seen = t / window * window..=t;
                    let total: f64 = seen.clone().map(|s| score(s).exp()).sum();
                    for s in seen {
                        (0..e).for_each(|i| z[h * e + i] += score(s).exp() / total * qkv[s][2 * d + h * e + i]);
                    }
                }
                add(&x[t], &linear(&z, &w.attn_proj_w, &w.attn_proj_b))
            })
            .collect();
        see(layer, Site::ResidMid, &mut mid);
        let mut normed: Vec<Vec<f64>> = mid.iter().map(|x| norm(x, &w.ln_2_w, &w.ln_2_b)).collect();
        see(layer, Site::MlpIn, &mut normed);
        let mut pre: Vec<Vec<f64>> = normed.iter().map(|x| linear(x, &w.c_fc_w, &w.c_fc_b)).collect();
        see(layer, Site::MlpPre, &mut pre);
        let act = |x: &f64| if lm.config.activation == Activation::Relu { x.max(0.0) } else { gelu_naive(*x) };
        let mut post: Vec<Vec<f64>> = pre.iter().map(|row| row.iter().map(act).collect()).collect();
        see(layer, Site::MlpPost, &mut post);
        let mut out: Vec<Vec<f64>> = post.iter().map(|x| linear(x, &w.mlp_proj_w, &w.mlp_proj_b)).collect();
        see(layer, Site::MlpOut, &mut out);
        x = mid.iter().zip(&out).map(|(x, y)| add(x, y)).collect();
        see(layer, Site::ResidPost, &mut x);
    }
    let unembedding = lm.weights.unembedding();
    let logits = x.iter().flat_map(|x| {
        let normed = norm(x, &lm.weights.ln_f_w, &lm.weights.ln_f_b);
        unembedding.chunks(d).map(|w| w.iter().zip(&normed).map(|(w, x)| *w as f64 * x).sum()).collect::<Vec<f64>>()
    });
    (logits.collect(), hooked)
}

fn close(a: &[f32], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (*a as f64 - b).abs() < tolerance)
}

#[test]
fn rows_at_every_hook_of_every_layer_equal_the_naive_forward() {
    for activation in [Activation::Relu, Activation::Gelu] {
        let lm = model(&config(activation, false));
        let (ids, _) = tokens(10, 11);
        let mut engine = CpuEngine::new(lm.clone());
        for layer in 0..2 {
            for site in Site::ALL {
                let hook = HookPoint { layer, site };
                let mut rows = vec![9.0; 10 * hook.d_in(&lm.config)];
                engine.forward_to(&ids, 5, hook, &mut rows);
                assert!(close(&rows, &naive(&lm, &ids, 5, hook, None).1, 2e-5), "{hook}");
                // The same beside those of an earlier hook, in one pass.
                let first = HookPoint { layer: 0, site: Site::ResidPre };
                if first.is_before(&hook) {
                    let (d, e) = (first.d_in(&lm.config), hook.d_in(&lm.config));
                    let (mut both, mut earlier) = (vec![9.0; 10 * (d + e)], vec![9.0; 10 * d]);
                    engine.forward_to_both(&ids, 5, (first, hook), &mut both);
                    engine.forward_to(&ids, 5, first, &mut earlier);
                    for ((both, earlier), row) in both.chunks(d + e).zip(earlier.chunks(d)).zip(rows.chunks(e)) {
                        assert_eq!((&both[..d], &both[d..]), (earlier, row), "{hook}");
                    }
                }
            }
        }
    }
}

#[test]
fn adding_a_vector_at_one_token_changes_the_logits_as_the_naive_forward_says_and_nothing_before() {
    for tied in [false, true] {
        let lm = model(&config(Activation::Gelu, tied));
        let (ids, _) = tokens(10, 11);
        let positions: Vec<usize> = (0..10).collect();
        let mut engine = CpuEngine::new(lm.clone());
        let mut clean = vec![0.0; 110];
        engine.logits(&ids, 5, &positions, None, &mut clean);
        for layer in 0..2 {
            for site in Site::ALL {
                let hook = HookPoint { layer, site };
                let vector = random(hook.d_in(&lm.config), 70);
                let mut apply = |rows: &mut [f32]| rows[6 * vector.len()..7 * vector.len()].iter_mut().zip(&vector).for_each(|(x, v)| *x += v);
                let mut edited = vec![0.0; 110];
                engine.logits(&ids, 5, &positions, Some(Edit { hook, apply: &mut apply }), &mut edited);
                assert!(close(&edited, &naive(&lm, &ids, 5, hook, Some((6, &vector))).0, 5e-5), "{hook}");
                assert_eq!(edited[..6 * 11], clean[..6 * 11], "{hook}: positions before the edit");
                assert_ne!(edited[6 * 11..7 * 11], clean[6 * 11..7 * 11], "{hook}");
            }
        }
    }
}

#[test]
fn an_edit_that_changes_nothing_changes_no_logit() {
    let lm = model(&config(Activation::Relu, false));
    let (ids, _) = tokens(7, 11);
    let mut engine = CpuEngine::new(lm);
    let (mut clean, mut edited) = (vec![0.0; 22], vec![0.0; 22]);
    engine.logits(&ids, 7, &[2, 6], None, &mut clean);
    for site in Site::ALL {
        engine.logits(&ids, 7, &[2, 6], Some(Edit { hook: HookPoint { layer: 1, site }, apply: &mut |_| {} }), &mut edited);
        assert_eq!(clean, edited);
    }
}

#[test]
fn losses_equal_the_logits_of_the_naive_forward() {
    let lm = model(&config(Activation::Gelu, true));
    let (ids, targets) = tokens(14, 11);
    let (logits, _) = naive(&lm, &ids, 7, HookPoint::mlp_post(0), None);
    let want: Vec<f64> = logits.chunks(11).zip(&targets).map(|(row, &t)| row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[t as usize]).collect();
    let mut nll = vec![0.0; 14];
    CpuEngine::new(lm).nll(&ids, &targets, 7, None, &mut nll);
    assert!(close(&nll, &want, 2e-5));
}

fn naive_loss(lm: &Lm, ids: &[u32], targets: &[u32], window: usize) -> f64 {
    let (logits, _) = naive(lm, ids, window, HookPoint::mlp_post(0), None);
    let loss = |(row, &t): (&[f64], &u32)| row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[t as usize];
    logits.chunks(lm.config.d_vocab).zip(targets).map(loss).sum::<f64>() / ids.len() as f64
}

#[test]
fn gradients_of_every_tensor_match_finite_differences() {
    for (activation, tied) in [(Activation::Gelu, false), (Activation::Relu, true)] {
        let lm = model(&config(activation, tied));
        let (ids, targets) = tokens(10, 11);
        let mut engine = CpuEngine::new(lm.clone());
        // Two windows in two passes, so that accumulation is in it.
        engine.accumulate(&ids[..5], &targets[..5], 5, 0.1, true);
        engine.accumulate(&ids[5..], &targets[5..], 5, 0.1, false);
        for (i, spec) in tensor_specs(&lm.config).iter().enumerate() {
            let gradient = engine.gradients().tensors()[i].clone();
            let largest = gradient.iter().fold(1e-3f32, |m, g| m.max(g.abs())) as f64;
            for at in (0..gradient.len()).step_by(1.max(gradient.len() / 12)) {
                let moved = |by: f32| {
                    let mut lm = lm.clone();
                    lm.weights.tensors_mut()[i][at] += by;
                    (naive_loss(&lm, &ids, &targets, 5), lm.weights.tensors()[i][at] as f64)
                };
                let ((up, above), (down, below)) = (moved(1e-3), moved(-1e-3));
                let want = (up - down) / (above - below);
                assert!((want - gradient[at] as f64).abs() < 2e-3 * largest, "{} [{at}]: {want} and {}", spec.name, gradient[at]);
            }
        }
    }
}

#[test]
fn embeddings_of_unused_tokens_and_positions_have_no_gradient_and_all_else_has() {
    let lm = model(&config(Activation::Gelu, false));
    let mut engine = CpuEngine::new(lm);
    engine.accumulate(&[1, 2, 3, 1], &[2, 3, 1, 0], 4, 0.25, true);
    let g = engine.gradients();
    for id in 0..11 {
        assert_eq!(g.wte[id * 6..id * 6 + 6].iter().any(|&x| x != 0.0), (1..=3).contains(&id), "token {id}");
    }
    assert!(g.wpe[4 * 6..].iter().all(|&x| x == 0.0) && g.wpe[..4 * 6].iter().all(|&x| x != 0.0));
    assert!(g.lm_head.iter().all(|&x| x != 0.0));
}

#[test]
fn training_is_bitwise_repeatable_at_any_thread_count_and_lowers_the_loss() {
    let config = LmConfig { d_vocab: 40, n_ctx: 70, d_model: 24, ..config(Activation::Gelu, false) };
    let (ids, targets) = tokens(210, 40);
    let run = |threads| {
        at_threads(threads, || {
            let mut engine = CpuEngine::new(Lm::init(&config, 1));
            let settings = TrainConfig { batch: 2, ..Default::default() }.step_settings(3e-3, 70);
            let losses: Vec<f64> = (0..30).map(|_| engine.step(&ids, &targets, 70, &settings).loss).collect();
            (losses, engine.lm().into_owned())
        })
    };
    let (losses, lm) = run(1);
    assert!(losses[29] < losses[0] - 1.0, "{losses:?}");
    assert!((losses[0] - 40f64.ln()).abs() < 0.1, "an untrained model knows nothing: {}", losses[0]);
    assert!(run(2) == (losses.clone(), lm.clone()) && run(3) == (losses, lm));
}
