//! Which latents made the model predict a token: activation times gradient, and what the token loses when each is truly removed.
//!
//! > attribution_j = act_j (u_j . d ln p(target) / d r),   u_j = what one unit of latent j adds to the residual stream r before the final norm
//!
//! After the last attention the effect of a latent is one vector added to r, so removal needs no second run of the model ([`super::exact`]). What the
//! SAE does not explain (x - x_hat) has an attribution too. Source: Bricken et al. 2023, "attribution vectors" and "feature ablation".
//!
//! M = d_model, V = d_vocab.

use super::exact::{ExactEffect, norm_of, residual_directions};
use super::measure::batches;
use super::write::Rig;
use super::{Error, Result, check_width};
use crate::corpus::{Split, TokenStream, counts};
use crate::kernels::softmax::log_prob;
use crate::kernels::sparse::dot;
use crate::lm::{CpuEngine, Engine, HookPoint, Lm};
use crate::sae::SparseRows;
use serde::Serialize;
use std::collections::BTreeMap;

/// A latent's part in one prediction, nats of ln p of the target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attributed {
    pub latent: u32,
    pub act: f32,
    /// Activation times gradient.
    pub attribution: f64,
    /// ln p(target) less what it is with the latent removed, everything else as it was.
    pub ablation: f64,
}

/// Why the model predicted a token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attribution {
    pub target: u32,
    pub log_prob: f64,
    /// Every active latent, the largest |ablation| first.
    pub latents: Vec<Attributed>,
    /// Attribution of what the SAE does not explain.
    pub error: f64,
}

/// d ln p(target) / d r, (M,), in f64, at residual stream `r` (M,) after the last block.
fn gradient(lm: &Lm, r: &[f32], target: u32) -> Vec<f64> {
    let m = r.len();
    let (mean, scale) = norm_of(r);
    let normed: Vec<f64> = r.iter().map(|&x| (f64::from(x) - mean) * scale).collect();
    let y: Vec<f32> =
        normed.iter().zip(lm.weights.ln_f_w.iter().zip(&lm.weights.ln_f_b)).map(|(n, (&w, &b))| (n * f64::from(w) + f64::from(b)) as f32).collect();
    let logits: Vec<f64> = lm.weights.unembedding().chunks_exact(m).map(|row| f64::from(dot(row, &y))).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
    // d ln p / d y = W_U^T (onehot - softmax).
    let mut d = vec![0.0; m];
    for (token, (row, z)) in lm.weights.unembedding().chunks_exact(m).zip(&logits).enumerate() {
        let g = f64::from(u8::from(token == target as usize)) - (z - largest).exp() / total;
        d.iter_mut().zip(row).for_each(|(d, &w)| *d += g * f64::from(w));
    }
    d.iter_mut().zip(&lm.weights.ln_f_w).for_each(|(d, &w)| *d *= f64::from(w));
    // Back through centring and scaling.
    let d_mean = d.iter().sum::<f64>() / m as f64;
    let d_along = d.iter().zip(&normed).map(|(d, n)| d * n).sum::<f64>() / m as f64;
    d.iter().zip(&normed).map(|(d, n)| (d - d_mean - n * d_along) * scale).collect()
}

fn along(u: &[f32], gradient: &[f64]) -> f64 {
    u.iter().zip(gradient).map(|(&u, g)| f64::from(u) * g).sum()
}

/// Why the model predicts `target` after `ids`.
///
/// # Errors
/// [`Error::NotExact`] where later layers read the hook; [`Error::Width`]; no token, or more than the model's context; a last token on whose activations no SAE is trained.
pub fn attribute(rig: Rig, ids: &[u32], target: u32) -> Result<Attribution> {
    check_width(&rig.lm.config, rig.hook, rig.sae)?;
    let n_ctx = rig.lm.config.n_ctx;
    if ids.is_empty() || ids.len() > n_ctx {
        return Err(Error::Edit { what: format!("{} tokens come before the prediction; 1 to {n_ctx} can", ids.len()) });
    }
    if !counts(ids[ids.len() - 1], ids.len() - 1, rig.tokenizer.end_of_text()) {
        return Err(Error::Edit { what: "the prediction is made at <|endoftext|> or at the first token, whose activations the SAE was not trained on\n  give some text before it".into() });
    }
    let mut engine = CpuEngine::new(rig.lm.clone());
    let (d_in, m) = (rig.sae.d_in, rig.lm.config.d_model);
    let (mut rows, mut resid) = (vec![0.0; ids.len() * d_in], vec![0.0; ids.len() * m]);
    engine.forward_to(ids, ids.len(), rig.hook, &mut rows);
    engine.forward_to(ids, ids.len(), HookPoint::last(&rig.lm.config), &mut resid);
    let (x, r) = (&rows[rows.len() - d_in..], &resid[resid.len() - m..]);
    let mut acts = SparseRows::default();
    rig.sae.encode(x, &mut acts);
    let gradient = gradient(rig.lm, r, target);
    let clean = log_prob(&ExactEffect::new(rig.lm, rig.hook, rig.sae, &[])?.logits(r, &[]), target);
    let mut latents = Vec::new();
    for (&latent, &act) in acts.latent.iter().zip(&acts.act) {
        let u = residual_directions(rig.lm, rig.hook, rig.sae.direction(latent))?;
        let without = log_prob(&ExactEffect::new(rig.lm, rig.hook, rig.sae, &[latent])?.logits(r, &[-act]), target);
        latents.push(Attributed { latent, act, attribution: f64::from(act) * along(&u, &gradient), ablation: clean - without });
    }
    latents.sort_by(|a, b| b.ablation.abs().total_cmp(&a.ablation.abs()).then(a.latent.cmp(&b.latent)));
    let mut x_hat = vec![0.0; d_in];
    rig.sae.decode(&acts, &mut x_hat);
    let error: Vec<f32> = x.iter().zip(&x_hat).map(|(x, hat)| x - hat).collect();
    let error = along(&residual_directions(rig.lm, rig.hook, &error)?, &gradient);
    Ok(Attribution { target, log_prob: clean, latents, error })
}

/// How often activation times gradient tells the sign of a latent's true effect on the token that follows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Signs {
    /// Latents looked at, at even distances by density.
    pub latents: Vec<u32>,
    /// Positions at which one of them is active.
    pub n: u64,
    /// Share of these at which the sign is right.
    pub right: f64,
    /// The same for always saying a latent's more frequent sign.
    pub majority: f64,
    /// Share at which the latent helps to predict what follows.
    pub helps: f64,
}

/// Looks at `n_latents` latents, at even distances in the order of their density, at up to `per_latent` positions of `split` at which each is active.
pub fn signs(rig: Rig, stream: &TokenStream, split: Split, n_tokens: u64, n_latents: usize, per_latent: usize) -> Result<Signs> {
    check_width(&rig.lm.config, rig.hook, rig.sae)?;
    let mut engine = CpuEngine::new(rig.lm.clone());
    let n_ctx = rig.lm.config.n_ctx;
    let (d_in, m) = (rig.sae.d_in, rig.lm.config.d_model);
    let windows = stream.spread_windows(split, n_ctx, n_tokens.div_ceil(n_ctx as u64));
    let mut encoder = rig.sae.encoder();
    let (mut rows, mut resid, mut acts) = (Vec::new(), Vec::new(), SparseRows::default());
    // First where each latent is active, then the chosen ones.
    let mut fires = vec![0u64; rig.sae.d_sae];
    let mut encoded = Vec::new();
    for batch in batches(stream, &windows, n_ctx) {
        rows.resize(batch.ids.len() * d_in, 0.0);
        resid.resize(batch.ids.len() * m, 0.0);
        engine.forward_to(&batch.ids, n_ctx, rig.hook, &mut rows);
        engine.forward_to(&batch.ids, n_ctx, HookPoint::last(&rig.lm.config), &mut resid);
        encoder.encode(&rows, &mut acts);
        for (i, _) in batch.counted.iter().enumerate().filter(|(_, c)| **c) {
            acts.row(i).0.iter().for_each(|&l| fires[l as usize] += 1);
        }
        encoded.push((batch, resid.clone(), acts.clone()));
    }
    let mut by_density: Vec<u32> = (0..rig.sae.d_sae as u32).filter(|&l| fires[l as usize] > 0).collect();
    by_density.sort_by_key(|&l| (fires[l as usize], l));
    let n_latents = n_latents.min(by_density.len());
    let latents: Vec<u32> = (0..n_latents).map(|i| by_density[(2 * i + 1) * by_density.len() / (2 * n_latents)]).collect();
    let directions: BTreeMap<u32, Vec<f32>> =
        latents.iter().map(|&l| Ok((l, residual_directions(rig.lm, rig.hook, rig.sae.direction(l))?))).collect::<Result<_>>()?;
    // Per latent: positions, right signs, positive effects.
    let mut seen: BTreeMap<u32, [u64; 3]> = latents.iter().map(|&l| (l, [0; 3])).collect();
    let nothing = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[])?;
    for (batch, resid, acts) in &encoded {
        for (i, _) in batch.counted.iter().enumerate().filter(|(i, c)| **c && batch.targets[*i] != stream.end_of_text()) {
            let (active, values) = acts.row(i);
            let mine: Vec<(u32, f32)> =
                active.iter().zip(values).filter(|(l, _)| seen.get(l).is_some_and(|s| s[0] < per_latent as u64)).map(|(&l, &a)| (l, a)).collect();
            if mine.is_empty() {
                continue;
            }
            let (r, target) = (&resid[i * m..][..m], batch.targets[i]);
            let gradient = gradient(rig.lm, r, target);
            let clean = log_prob(&nothing.logits(r, &[]), target);
            for (latent, act) in mine {
                let predicted = f64::from(act) * along(&directions[&latent], &gradient);
                let effect = ExactEffect::along(rig.lm, rig.hook, rig.sae.direction(latent))?;
                let ablation = clean - log_prob(&effect.logits(r, &[-act]), target);
                let tally = seen.get_mut(&latent).expect("it is one of the chosen");
                tally[0] += 1;
                tally[1] += u64::from((predicted > 0.0) == (ablation > 0.0));
                tally[2] += u64::from(ablation > 0.0);
            }
        }
    }
    let sum = |of: &dyn Fn(&[u64; 3]) -> u64| seen.values().map(of).sum::<u64>() as f64;
    let n = sum(&|s| s[0]);
    let share = |x: f64| x / n.max(1.0);
    Ok(Signs { latents, n: n as u64, right: share(sum(&|s| s[1])), majority: share(sum(&|s| s[2].max(s[0] - s[2]))), helps: share(sum(&|s| s[2])) })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{model, random, sae};
    use super::super::{Editor, Rule, Steering};
    use super::*;
    use crate::corpus::Tokenizer;
    use crate::lm::{Edit, Site};
    use crate::sae::Select;

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let lm = model(1, 17);
        let r = random(6, 80);
        let gradient = gradient(&lm, &r, 5);
        let hook = HookPoint { layer: 0, site: Site::ResidPost };
        let at = |r: &[f32]| log_prob(&ExactEffect::along(&lm, hook, &[0.0; 6]).unwrap().logits(r, &[0.0]), 5);
        for i in 0..6 {
            let moved = |by: f32| {
                let mut r = r.clone();
                r[i] += by;
                at(&r)
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((gradient[i] - difference).abs() < 2e-3 * (1.0 + difference.abs()), "{i}: {} and {difference}", gradient[i]);
        }
    }

    #[test]
    fn a_removed_latent_costs_what_the_edited_model_says_and_small_ones_what_the_gradient_says() {
        let tokenizer = Tokenizer::train(["a b c d the king and queen do"].into_iter(), 260).unwrap();
        let lm = model(1, tokenizer.d_vocab());
        let sae = sae(10, 23, Select::TopK { k: 5 });
        let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook: HookPoint::mlp_post(0) };
        let ids = [tokenizer.end_of_text(), 70, 71, 72];
        let found = attribute(rig, &ids, 80).unwrap();
        assert!(found.latents.len() > 2 && found.latents.is_sorted_by(|a, b| a.ablation.abs() >= b.ablation.abs()));
        let mut engine = CpuEngine::new(lm.clone());
        let mut log_prob_with = |edit: Option<&Steering>| {
            let mut z = vec![0.0; lm.config.d_vocab];
            match edit {
                None => engine.logits(&ids, 4, &[3], None, &mut z),
                Some(steering) => {
                    let mut editor = Editor::new(&sae, steering, 4, tokenizer.end_of_text()).unwrap();
                    let mut apply = |rows: &mut [f32]| editor.apply(3, &ids[3..], &mut rows[3 * 10..]);
                    engine.logits(&ids, 4, &[3], Some(Edit { hook: rig.hook, apply: &mut apply }), &mut z);
                }
            }
            log_prob(&z, 80)
        };
        let clean = log_prob_with(None);
        assert!((clean - found.log_prob).abs() < 1e-5);
        for l in &found.latents {
            let without = log_prob_with(Some(&Steering::one(l.latent, Rule::Zero)));
            assert!((l.ablation - (clean - without)).abs() < 1e-5, "{l:?} and {}", clean - without);
            // A hundredth of the way the effect is linear.
            let part = log_prob_with(Some(&Steering::one(l.latent, Rule::Add(0.01 * l.act))));
            assert!((part - clean - 0.01 * l.attribution).abs() < 2e-3 * (0.01 + l.attribution.abs()), "{l:?}: {}", part - clean);
        }
        assert!(attribute(rig, &ids[..1], 3).unwrap_err().to_string().contains("not trained on"));
        assert!(attribute(rig, &[], 3).is_err() && attribute(rig, &[1; 10], 3).unwrap_err().to_string().contains("1 to 9"));
    }
}
