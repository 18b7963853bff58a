//! The parts against forward passes that are written out differently, with one source taken away.

// The oracle is written with the indices of its formula.
#![allow(clippy::needless_range_loop)]

use super::super::testing::{model, random};
use super::*;
use crate::lm::{CpuEngine, LmConfig};

const IDS: [u32; 7] = [16, 3, 9, 3, 11, 0, 5];
fn lm(activation: Activation, n_layers: usize) -> Lm {
    let lm = model(n_layers, 17);
    Lm { config: LmConfig { activation, ..lm.config }, weights: lm.weights }
}

fn reader(hook: HookPoint, direction: &[f32]) -> Reader<'_> {
    Reader { hook, direction, offset: 0.25 }
}

/// z at the last position with pattern, scales and gates of the whole text, when `gone` (by token, by position) gives nothing through attention
/// or, where it is `n`, past it. Written as vectors going forward, where the code under test takes one direction backward.
fn without(lm: &Lm, hook: HookPoint, direction: &[f32], gone: Option<(usize, bool)>, entering: &[f32]) -> f64 {
    let (w, d, p) = (&lm.weights.blocks[hook.layer], lm.config.d_model, lm.config.d_mlp);
    let inputs = Inputs::new(lm, hook.layer, &IDS, entering);
    let held = Held::new(lm, hook.layer, &inputs);
    let (n, width) = (IDS.len(), d / lm.config.n_heads);
    let left = |j: usize| -> Vec<f64> {
        match gone {
            Some((g, true)) if g == j => inputs.position[j].clone(),
            Some((g, false)) if g == j => inputs.token[j].clone(),
            _ => inputs.whole(j),
        }
    };
    let mut mid = if gone.is_some_and(|g| g.0 == n) {
        if gone.unwrap().1 { inputs.position[n - 1].clone() } else { inputs.token[n - 1].clone() }
    } else {
        inputs.whole(n - 1)
    };
    let centre = |x: &[f64]| -> Vec<f64> { x.iter().map(|v| v - x.iter().sum::<f64>() / d as f64).collect() };
    for (h, pattern) in held.pattern.iter().enumerate() {
        for e in 0..width {
            let c = 2 * d + h * width + e;
            let mut z = f64::from(w.c_attn_b[c]);
            for j in 0..n {
                let x = centre(&left(j));
                for i in 0..d {
                    let normed = x[i] * inputs.scale[j] * f64::from(w.ln_1_w[i]) + f64::from(w.ln_1_b[i]);
                    z += pattern[j] * normed * f64::from(w.c_attn_w[i * 3 * d + c]);
                }
            }
            for i in 0..d {
                mid[i] += z * f64::from(w.attn_proj_w[(h * width + e) * d + i]);
            }
        }
    }
    (0..d).for_each(|i| mid[i] += f64::from(w.attn_proj_b[i]));
    let y: Vec<f64> = centre(&mid).iter().enumerate().map(|(i, x)| x * held.scale * f64::from(w.ln_2_w[i]) + f64::from(w.ln_2_b[i])).collect();
    let pre: Vec<f64> = (0..p).map(|c| f64::from(w.c_fc_b[c]) + (0..d).map(|i| y[i] * f64::from(w.c_fc_w[i * p + c])).sum::<f64>()).collect();
    let post: Vec<f64> = pre.iter().zip(&held.gates).map(|(x, g)| x * g).collect();
    let out: Vec<f64> =
        (0..d).map(|i| f64::from(w.mlp_proj_b[i]) + (0..p).map(|c| post[c] * f64::from(w.mlp_proj_w[c * d + i])).sum::<f64>()).collect();
    let at_hook: Vec<f64> = match hook.site {
        Site::ResidPre => unreachable!("nothing arrives there through attention"),
        Site::ResidMid => mid,
        Site::MlpIn => y,
        Site::MlpPre => pre,
        Site::MlpPost => post,
        Site::MlpOut => out,
        Site::ResidPost => mid.iter().zip(&out).map(|(a, b)| a + b).collect(),
    };
    at_hook.iter().zip(direction).map(|(x, &u)| x * f64::from(u)).sum::<f64>() + 0.25
}

#[test]
fn the_parts_add_up_to_the_pre_activation_of_the_forward_pass_at_every_hook() {
    for activation in [Activation::Relu, Activation::Gelu] {
        let mut engine = CpuEngine::new(lm(activation, 2));
        for layer in 0..2 {
            for (i, site) in Site::ALL.into_iter().enumerate() {
                let hook = HookPoint { layer, site };
                let direction = random(hook.d_in(engine.config()), 200 + i as u64);
                for n in 1..=IDS.len() {
                    let found = why(&mut engine, &IDS[..n], reader(hook, &direction)).unwrap();
                    // The forward pass is in f32, with sums of some thirty numbers of size 1 to 10.
                    assert!((found.sum() - found.pre_act).abs() < 2e-5, "{hook} {activation:?}: {} and {}", found.sum(), found.pre_act);
                    assert_eq!(found.sources.len(), if site == Site::ResidPre { 0 } else { n });
                }
            }
        }
    }
}

#[test]
fn taking_one_source_away_with_all_else_held_changes_the_pre_activation_by_its_part() {
    for activation in [Activation::Relu, Activation::Gelu] {
        let lm = lm(activation, 1);
        let mut engine = CpuEngine::new(lm.clone());
        for (i, site) in Site::ALL.into_iter().enumerate().skip(1) {
            let hook = HookPoint { layer: 0, site };
            let direction = random(hook.d_in(&lm.config), 300 + i as u64);
            let found = why(&mut engine, &IDS, reader(hook, &direction)).unwrap();
            let whole = without(&lm, hook, &direction, None, &[]);
            assert!((whole - found.sum()).abs() < 1e-9, "{hook}: {whole} and {}", found.sum());
            for (j, heads) in found.sources.iter().enumerate() {
                let by_token: f64 = heads.iter().map(|h| h.part.token).sum();
                let by_position: f64 = heads.iter().map(|h| h.part.position).sum();
                assert!((whole - without(&lm, hook, &direction, Some((j, true)), &[]) - by_token).abs() < 1e-9, "{hook}, token {j}");
                assert!((whole - without(&lm, hook, &direction, Some((j, false)), &[]) - by_position).abs() < 1e-9, "{hook}, position {j}");
            }
            let n = IDS.len();
            assert!((whole - without(&lm, hook, &direction, Some((n, true)), &[]) - found.direct.token).abs() < 1e-9);
            assert!((whole - without(&lm, hook, &direction, Some((n, false)), &[]) - found.direct.position).abs() < 1e-9);
        }
    }
}

#[test]
fn each_head_s_pattern_adds_up_to_one() {
    let mut engine = CpuEngine::new(lm(Activation::Relu, 1));
    let hook = HookPoint::mlp_post(0);
    let direction = random(10, 9);
    let found = why(&mut engine, &IDS, reader(hook, &direction)).unwrap();
    for h in 0..2 {
        let total: f64 = found.sources.iter().map(|s| s[h].pattern).sum();
        assert!((total - 1.0).abs() < 1e-12 && found.sources.iter().all(|s| s.len() == 2 && s[h].pattern > 0.0));
    }
}

#[test]
fn a_direction_of_the_wrong_width_and_a_window_that_is_too_long_are_refused() {
    let mut engine = CpuEngine::new(lm(Activation::Relu, 1));
    let hook = HookPoint::mlp_post(0);
    assert!(why(&mut engine, &IDS, reader(hook, &[1.0; 9])).is_err());
    assert!(why(&mut engine, &[1; 10], reader(hook, &[1.0; 10])).is_err());
    assert!(why(&mut engine, &[], reader(hook, &[1.0; 10])).is_err());
}
