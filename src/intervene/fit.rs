//! From examples to features: which latents tell positive positions from negative ones (contrast), and which push the model towards what
//! follows there (output score).
//!
//! A latent that detects a concept and one that makes the model write it are often two: choosing by output score steers two to three times better
//! (Arad et al. 2025, "SAEs are good for steering - if you select the right features").
//!
//! F = d_sae, M = d_model, V = d_vocab.

use super::exact::residual_directions;
use super::{Error, Result};
use crate::kernels::gemm::matmul_nt;
use crate::lm::{HookPoint, Lm};
use crate::sae::{Sae, SparseRows};
use serde::Serialize;

/// What was seen at positive (index 1) and negative (index 0) positions.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Positions.
    n: [u64; 2],
    /// (F,) positions at which the latent is active.
    fires: [Vec<u64>; 2],
    /// (F,) summed activation.
    sums: [Vec<f64>; 2],
    /// (F,) largest activation anywhere.
    max_act: Vec<f32>,
    /// (V,) how often each token follows.
    next: [Vec<u64>; 2],
}

/// A latent's scores as the feature of the positive positions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fitted {
    pub latent: u32,
    /// Of "it fires" as a detector of positive positions.
    pub f1: f64,
    /// ln odds of firing at positive positions less that at negative ones, with half a position added to every count.
    pub log_odds: f64,
    /// Mean activation at positive positions less that at negative ones, in multiples of its largest.
    pub mean_difference: f64,
    /// What its largest activation adds to the logits of what follows positive positions, less that of what follows negative ones, up to the scale of the
    /// final norm; absent where the hook's effect on logits is not linear.
    pub output: Option<f64>,
    /// Geometric mean of its ranks by mean difference and by output, 1 the best.
    pub rank: f64,
    pub max_act: f32,
    /// Mean activation over positive positions where it is active.
    pub mean_positive: f32,
}

impl Evidence {
    pub fn new(d_sae: usize, d_vocab: usize) -> Self {
        Evidence {
            n: [0; 2],
            fires: [vec![0; d_sae], vec![0; d_sae]],
            sums: [vec![0.0; d_sae], vec![0.0; d_sae]],
            max_act: vec![0.0; d_sae],
            next: [vec![0; d_vocab], vec![0; d_vocab]],
        }
    }

    /// Adds rows of activations, each with whether it is positive (none: it does not count) and the token that follows it.
    pub fn add(&mut self, acts: &SparseRows, rows: impl IntoIterator<Item = (Option<bool>, u32)>) {
        for (r, (positive, next)) in rows.into_iter().enumerate() {
            let Some(positive) = positive else { continue };
            let side = usize::from(positive);
            self.n[side] += 1;
            self.next[side][next as usize] += 1;
            let (latents, acts) = acts.row(r);
            for (&latent, &act) in latents.iter().zip(acts) {
                let latent = latent as usize;
                self.fires[side][latent] += 1;
                self.sums[side][latent] += f64::from(act);
                self.max_act[latent] = self.max_act[latent].max(act);
            }
        }
    }

    /// Positions seen, (positive, negative).
    pub fn n(&self) -> (u64, u64) {
        (self.n[1], self.n[0])
    }

    /// Share of what follows positive positions less that of what follows negative ones, (V,).
    pub fn next_difference(&self) -> Vec<f64> {
        let share = |side: usize, token: usize| self.next[side][token] as f64 / self.n[side].max(1) as f64;
        (0..self.next[0].len()).map(|t| share(1, t) - share(0, t)).collect()
    }

    /// All latents that fired at a positive position, the best first by [`Fitted::rank`].
    ///
    /// # Errors
    /// No positive or no negative position.
    pub fn rank(&self, lm: &Lm, hook: HookPoint, sae: &Sae) -> Result<Vec<Fitted>> {
        if self.n[0] == 0 || self.n[1] == 0 {
            return Err(Error::Edit { what: format!("there are {} positive and {} negative positions; both are needed", self.n[1], self.n[0]) });
        }
        let output = output_scores(lm, hook, sae, &self.next_difference())?;
        let mut all: Vec<Fitted> = (0..sae.d_sae).filter(|&j| self.fires[1][j] > 0).map(|j| self.fitted(j, output.as_deref())).collect();
        let ranks = |key: &dyn Fn(&Fitted) -> f64| {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by(|&a, &b| key(&all[b]).total_cmp(&key(&all[a])).then(a.cmp(&b)));
            let mut rank = vec![0.0; all.len()];
            order.iter().enumerate().for_each(|(place, &i)| rank[i] = (place + 1) as f64);
            rank
        };
        let contrast = ranks(&|f| f.mean_difference);
        let pushed = ranks(&|f| f.output.unwrap_or(f.mean_difference));
        all.iter_mut().zip(contrast.iter().zip(&pushed)).for_each(|(f, (a, b))| f.rank = (a * b).sqrt());
        all.sort_by(|a, b| a.rank.total_cmp(&b.rank).then(a.latent.cmp(&b.latent)));
        Ok(all)
    }

    fn fitted(&self, j: usize, output: Option<&[f64]>) -> Fitted {
        let [negative, positive] = [0, 1].map(|side| self.fires[side][j] as f64);
        let [n_negative, n_positive] = self.n.map(|n| n as f64);
        let odds = |fires: f64, n: f64| ((fires + 0.5) / (n - fires + 0.5)).ln();
        let max_act = self.max_act[j];
        let mean = |side: usize| self.sums[side][j] / self.n[side] as f64;
        Fitted {
            latent: j as u32,
            f1: 2.0 * positive / (positive + n_positive + negative),
            log_odds: odds(positive, n_positive) - odds(negative, n_negative),
            mean_difference: (mean(1) - mean(0)) / f64::from(max_act.max(f32::MIN_POSITIVE)),
            output: output.map(|o| o[j] * f64::from(max_act)),
            rank: 0.0,
            max_act,
            mean_positive: (self.sums[1][j] / positive.max(1.0)) as f32,
        }
    }
}

/// For every latent what one unit of it adds to sum over tokens of weights (V,) * logit, weights that sum to 0, up to the scale of the final norm. (F,); none where
/// later layers read the hook.
fn output_scores(lm: &Lm, hook: HookPoint, sae: &Sae, weights: &[f64]) -> Result<Option<Vec<f64>>> {
    let directions = match residual_directions(lm, hook, &sae.w_dec) {
        Ok(directions) => directions,
        Err(Error::NotExact { .. }) => return Ok(None),
        Err(other) => return Err(other),
    };
    let m = lm.config.d_model;
    // The gradient of the weighted logits at the normed residual stream, (M,), with the norm's own weights and without what its centring takes away.
    let mut gradient = vec![0.0f64; m];
    for (row, &weight) in lm.weights.unembedding().chunks_exact(m).zip(weights).filter(|(_, w)| **w != 0.0) {
        gradient.iter_mut().zip(row).for_each(|(g, &w)| *g += weight * f64::from(w));
    }
    gradient.iter_mut().zip(&lm.weights.ln_f_w).for_each(|(g, &w)| *g *= f64::from(w));
    let mean = gradient.iter().sum::<f64>() / m as f64;
    let gradient: Vec<f32> = gradient.iter().map(|g| (g - mean) as f32).collect();
    let mut scores = vec![0.0; sae.d_sae];
    matmul_nt(sae.d_sae, 1, m, &directions, &gradient, &mut scores, false);
    Ok(Some(scores.into_iter().map(f64::from).collect()))
}
