//! Which features to try for a concept, which to hold at zero, and which to compare with.

use super::super::Result;
use super::TrialConfig;
use super::seen::Seen;
use crate::artifact::seed;
use crate::intervene::exact::ExactEffect;
use crate::intervene::fit::Fitted;
use crate::intervene::write::Rig;
use crate::kernels::softmax::{kl_divergence, log_sum_exp};
use rand::RngExt;
use rayon::prelude::*;

/// Strengths that exact distributions are looked at with, in maxima.
const STRENGTHS: [f32; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// Features that they are looked at with.
const LOOKED_AT: usize = 150;

/// The features, each with a strength, that give what has the concept most probability at [`POSITIONS`] of half A, at a mean KL of at most the logarithm of the largest perplexity ratio.
/// Where the effect is not exact, the best by rank at their maximum.
pub(super) fn promising<'a>(rig: Rig, seen: &Seen, concept: usize, ranked: &'a [Fitted], config: &TrialConfig) -> Result<Vec<(&'a Fitted, f32)>> {
    let (n, largest_kl) = (config.candidates, config.max_perplexity_ratio.ln());
    let looked_at = in_turn(ranked, LOOKED_AT);
    // What share of its places each token has the concept.
    let weight: Vec<f64> = seen.with[concept].iter().zip(&seen.tokens).map(|(&with, &all)| with as f64 / all.max(1) as f64).collect();
    let v = rig.lm.config.d_vocab;
    let mass = |logits: &[f32]| -> f64 {
        let sum = log_sum_exp(logits);
        logits.iter().zip(&weight).filter(|(_, w)| **w > 0.0).map(|(&z, w)| w * (f64::from(z) - sum).exp()).sum()
    };
    let nothing = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[]);
    let Ok(nothing) = nothing else { return Ok(looked_at.into_iter().take(n).map(|f| (f, 1.0)).collect()) };
    let unedited = nothing.logits(&seen.resid, &[]);
    let one = |fitted: &'a Fitted| -> Result<(f64, &'a Fitted, f32)> {
        let effect = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[fitted.latent])?;
        let acts = seen.acts_of(fitted.latent);
        let mut best = (0.0, fitted, STRENGTHS[0]);
        for strength in STRENGTHS {
            let changes: Vec<f32> = acts.iter().map(|act| strength * fitted.max_act - act).collect();
            let logits = effect.logits(&seen.resid, &changes);
            let rows = logits.chunks_exact(v).zip(unedited.chunks_exact(v));
            let n = acts.len().max(1) as f64;
            if rows.clone().map(|(edited, unedited)| kl_divergence(edited, unedited)).sum::<f64>() / n > largest_kl {
                break;
            }
            let mean = rows.map(|(edited, _)| mass(edited)).sum::<f64>() / n;
            if mean > best.0 {
                best = (mean, fitted, strength);
            }
        }
        Ok(best)
    };
    let mut all: Vec<(f64, &Fitted, f32)> = looked_at.into_par_iter().map(one).collect::<Result<_>>()?;
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(all.into_iter().take(n).map(|(_, fitted, strength)| (fitted, strength)).collect())
}

/// The best by rank, by output and by contrast in turn, each once.
fn in_turn(ranked: &[Fitted], n: usize) -> Vec<&Fitted> {
    let sorted = |key: &dyn Fn(&Fitted) -> f64| {
        let mut by: Vec<&Fitted> = ranked.iter().collect();
        by.sort_by(|a, b| key(b).total_cmp(&key(a)));
        by
    };
    let (by_output, by_f1) = (sorted(&|f| f.output.unwrap_or(0.0)), sorted(&|f| f.f1));
    let mut all: Vec<&Fitted> = Vec::new();
    for i in 0..ranked.len() {
        for fitted in [&ranked[i], by_output[i], by_f1[i]] {
            if all.len() < n && !all.iter().any(|f| f.latent == fitted.latent) {
                all.push(fitted);
            }
        }
    }
    all
}

/// Latents by what is lost without them, the most first.
pub(super) fn driving(ranked: &[Fitted]) -> Vec<u32> {
    let mut by: Vec<&Fitted> = ranked.iter().collect();
    by.sort_by(|a, b| b.attribution.unwrap_or(b.mean_difference).total_cmp(&a.attribution.unwrap_or(a.mean_difference)));
    by.iter().map(|f| f.latent).collect()
}

/// Three latents whose density is like that of `latent`, not among the hundred best for the concept.
pub(super) fn like(seen: &Seen, latent: u32, ranked: &[Fitted], seed_of_run: u64) -> Vec<u32> {
    let own = seen.density[latent as usize];
    let best: Vec<u32> = ranked.iter().take(100).map(|f| f.latent).collect();
    let mut near: Vec<u32> = (0..seen.density.len() as u32).filter(|l| seen.density[*l as usize] > 0.0 && !best.contains(l)).collect();
    near.sort_by(|a, b| {
        let far = |l: u32| (seen.density[l as usize] / own.max(1e-9)).ln().abs();
        far(*a).total_cmp(&far(*b)).then(a.cmp(b))
    });
    near.truncate(30);
    let mut rng = seed::rng(seed_of_run, "trial/random", u64::from(latent));
    (0..3).filter_map(|_| (!near.is_empty()).then(|| near.swap_remove(rng.random_range(0..near.len())))).collect()
}
