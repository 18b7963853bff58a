//! Adding a vector at one (token, hook) changes the logits exactly as a brute-force forward pass in f64 says, from that position on and
//! nowhere before.
//!
//! T = tokens of one window, M = d_model, P = d_mlp, H = n_heads, V = d_vocab.

use monosem::artifact::seed;
use monosem::lm::{Activation, CpuEngine, Edit, Engine, HookPoint, Lm, LmConfig, Site};
use rand::RngExt;

const SITES: [Site; 6] = [Site::ResidPre, Site::ResidMid, Site::MlpPre, Site::MlpPost, Site::MlpOut, Site::ResidPost];

fn model(activation: Activation) -> Lm {
    let config = LmConfig { d_vocab: 13, n_ctx: 7, d_model: 6, n_layers: 2, n_heads: 2, d_mlp: 11, activation, tied: false };
    let mut lm = Lm::init(&config, 1);
    for (i, tensor) in lm.weights.tensors_mut().into_iter().enumerate() {
        let mut rng = seed::rng(2, "test/splice", i as u64);
        tensor.iter_mut().for_each(|w| *w += rng.random_range(-0.4..0.4));
    }
    lm
}

type Rows = Vec<Vec<f64>>;

/// x (T, n) times w (n, m) plus b (m,).
fn linear(x: &Rows, w: &[f32], b: &[f32]) -> Rows {
    let m = b.len();
    x.iter().map(|row| (0..m).map(|j| b[j] as f64 + row.iter().enumerate().map(|(i, x)| x * w[i * m + j] as f64).sum::<f64>()).collect()).collect()
}

fn norm(x: &Rows, gain: &[f32], bias: &[f32]) -> Rows {
    x.iter()
        .map(|row| {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
            row.iter().enumerate().map(|(j, x)| (x - mean) / (variance + 1e-5).sqrt() * gain[j] as f64 + bias[j] as f64).collect()
        })
        .collect()
}

fn add(x: &mut Rows, y: &Rows) {
    x.iter_mut().flatten().zip(y.iter().flatten()).for_each(|(x, y)| *x += y);
}

/// Causal attention over one window; qkv (T, 3 M).
fn attention(qkv: &Rows, d_model: usize, n_heads: usize) -> Rows {
    let d_head = d_model / n_heads;
    let mut out = vec![vec![0.0; d_model]; qkv.len()];
    for h in 0..n_heads {
        let at = |t: usize, which: usize| &qkv[t][which * d_model + h * d_head..][..d_head];
        for (t, out) in out.iter_mut().enumerate() {
            let dot = |s: usize| at(t, 0).iter().zip(at(s, 1)).map(|(q, k)| q * k).sum::<f64>() / (d_head as f64).sqrt();
            let weights: Vec<f64> = (0..=t).map(|s| dot(s).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (s, w) in weights.iter().enumerate() {
                for j in 0..d_head {
                    out[h * d_head + j] += w / total * at(s, 2)[j];
                }
            }
        }
    }
    out
}

/// Logits (T, V) of one window, with `vector` added at (`position`, `hook`).
fn brute_force(lm: &Lm, ids: &[u32], hook: HookPoint, position: usize, vector: &[f32]) -> Rows {
    let (w, d) = (&lm.weights, lm.config.d_model);
    let change = |layer: usize, site: Site, x: &mut Rows| {
        if hook == (HookPoint { layer, site }) {
            x[position].iter_mut().zip(vector).for_each(|(x, &v)| *x += v as f64);
        }
    };
    let activation = |x: f64| match lm.config.activation {
        Activation::Relu => x.max(0.0),
        Activation::Gelu => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
    };
    let mut x: Rows =
        ids.iter().enumerate().map(|(t, &id)| (0..d).map(|j| w.wte[id as usize * d + j] as f64 + w.wpe[t * d + j] as f64).collect()).collect();
    for (layer, b) in w.blocks.iter().enumerate() {
        change(layer, Site::ResidPre, &mut x);
        let mixed = attention(&linear(&norm(&x, &b.ln_1_w, &b.ln_1_b), &b.c_attn_w, &b.c_attn_b), d, lm.config.n_heads);
        add(&mut x, &linear(&mixed, &b.attn_proj_w, &b.attn_proj_b));
        change(layer, Site::ResidMid, &mut x);
        let mut pre = linear(&norm(&x, &b.ln_2_w, &b.ln_2_b), &b.c_fc_w, &b.c_fc_b);
        change(layer, Site::MlpPre, &mut pre);
        let mut post: Rows = pre.iter().map(|row| row.iter().map(|&x| activation(x)).collect()).collect();
        change(layer, Site::MlpPost, &mut post);
        let mut out = linear(&post, &b.mlp_proj_w, &b.mlp_proj_b);
        change(layer, Site::MlpOut, &mut out);
        add(&mut x, &out);
        change(layer, Site::ResidPost, &mut x);
    }
    let normed = norm(&x, &w.ln_f_w, &w.ln_f_b);
    let unembed = w.unembedding();
    normed
        .iter()
        .map(|row| (0..lm.config.d_vocab).map(|v| row.iter().enumerate().map(|(j, x)| x * unembed[v * d + j] as f64).sum()).collect())
        .collect()
}

#[test]
fn a_vector_added_at_one_position_changes_logits_as_brute_force_says_and_none_before() {
    for activation in [Activation::Relu, Activation::Gelu] {
        let lm = model(activation);
        let (t, v) = (lm.config.n_ctx, lm.config.d_vocab);
        let ids: Vec<u32> = (0..3 * t as u32).map(|i| (i * i + 5 * i + 2) % v as u32).collect();
        let all: Vec<usize> = (0..3 * t).collect();
        let mut engine = CpuEngine::new(lm.clone());
        let mut clean = vec![0.0f32; 3 * t * v];
        engine.logits(&ids, t, &all, None, &mut clean);
        for layer in 0..2 {
            for site in SITES {
                let hook = HookPoint { layer, site };
                let d_in = hook.d_in(&lm.config);
                let vector: Vec<f32> = (0..d_in).map(|j| 0.9 - 0.35 * j as f32).collect();
                // The middle one of three windows, at its position 3.
                let at = t + 3;
                let mut add = |rows: &mut [f32]| rows[at * d_in..][..d_in].iter_mut().zip(&vector).for_each(|(x, v)| *x += v);
                let mut got = vec![0.0f32; 3 * t * v];
                engine.logits(&ids, t, &all, Some(Edit { hook, apply: &mut add }), &mut got);
                let expected = brute_force(&lm, &ids[t..2 * t], hook, 3, &vector);
                let mut n_changed = 0;
                for i in 0..3 * t {
                    let (got, clean) = (&got[i * v..][..v], &clean[i * v..][..v]);
                    if i < at || i >= 2 * t {
                        assert!(got.iter().zip(clean).all(|(a, b)| a.to_bits() == b.to_bits()), "{hook} changed position {i}");
                        continue;
                    }
                    n_changed += usize::from(got != clean);
                    for (got, expected) in got.iter().zip(&expected[i - t]) {
                        assert!((*got as f64 - expected).abs() < 1e-4, "{hook} at {i}: {got}, brute force {expected}");
                    }
                }
                // In the last layer after attention nothing is passed on to later positions.
                let alone = layer == 1 && site != Site::ResidPre;
                assert_eq!(n_changed, if alone { 1 } else { 4 }, "{hook}");
            }
        }
    }
}

#[test]
fn the_identity_changes_no_logit_at_any_hook() {
    let lm = model(Activation::Gelu);
    let (t, v) = (lm.config.n_ctx, lm.config.d_vocab);
    let ids: Vec<u32> = (0..2 * t as u32).map(|i| (i * 3 + 1) % v as u32).collect();
    let positions = [0, 3, t + 1, 2 * t - 1];
    let mut engine = CpuEngine::new(lm);
    let (mut clean, mut same) = (vec![0.0f32; 4 * v], vec![1.0f32; 4 * v]);
    engine.logits(&ids, t, &positions, None, &mut clean);
    for layer in 0..2 {
        for site in SITES {
            let mut called = 0;
            let mut look = |_: &mut [f32]| called += 1;
            engine.logits(&ids, t, &positions, Some(Edit { hook: HookPoint { layer, site }, apply: &mut look }), &mut same);
            assert_eq!(called, 1);
            assert!(clean.iter().zip(&same).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
