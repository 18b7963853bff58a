//! Through what a concept survives: to first order, how far everything at the hook pushes towards it where it follows.

use super::BeforeAfter;
use crate::intervene::exact::{ExactEffect, norm_of, residual_directions, toward};
use crate::intervene::write::Rig;
use crate::intervene::{Editor, Result, Steering};
use crate::kernels::softmax::log_sum_exp;
use crate::sae::SparseRows;
use serde::Serialize;

/// Shares of what the hook adds towards the concept where it follows: of the sum over latents that push towards it and of the SAE's error, before the edit. What pushes
/// away is not in it, nor is what passes the hook by in the residual stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leak {
    /// Of the edited latents.
    pub edited: f64,
    /// Of other latents, and the largest of them.
    pub others: f64,
    pub largest: Vec<(u32, f64)>,
    /// Of what the SAE does not explain.
    pub error: f64,
}

/// Latents named in [`Leak::largest`].
const NAMED: usize = 5;

/// Which tokens follow.
pub(super) struct Followers {
    /// How often each token follows with the concept, and at all, (d_vocab,).
    pub with: Vec<u64>,
    pub all: Vec<u64>,
}

impl Followers {
    /// The tokens that have the concept at half or more of their places, (d_vocab,).
    pub fn own(&self) -> Vec<bool> {
        self.with.iter().zip(&self.all).map(|(&with, &all)| with > 0 && 2 * with >= all).collect()
    }

    /// What share of the concept's places have one of the tokens `own`.
    pub fn own_share(&self, own: &[bool]) -> f64 {
        let n: u64 = self.with.iter().sum();
        let own: u64 = self.with.iter().zip(own).filter(|(_, own)| **own).map(|(with, _)| with).sum();
        own as f64 / n.max(1) as f64
    }

    /// The share of each token among those that follow with the concept, less that among all others, (d_vocab,): they sum to 0, whether the concept is a set of tokens
    /// or is written with tokens that others use too.
    pub fn weights(&self) -> Vec<f64> {
        let with: u64 = self.with.iter().sum();
        let without = self.all.iter().sum::<u64>() - with;
        let v = self.all.len() as f64;
        let share = |(&with_it, &all): (&u64, &u64)| {
            let elsewhere = if without == 0 { 1.0 / v } else { (all - with_it) as f64 / without as f64 };
            with_it as f64 / with.max(1) as f64 - elsewhere
        };
        self.with.iter().zip(&self.all).map(share).collect()
    }
}

/// Positions at which the concept follows.
pub(super) struct Positions<'a> {
    pub rig: Rig<'a>,
    /// (n, d_in), before the edit.
    pub rows: &'a [f32],
    /// (n, d_model), the residual stream before the final norm.
    pub resid: &'a [f32],
}

impl Positions<'_> {
    /// What the tokens `own` (d_vocab,) have of the probability, and what pushes towards the mean of logits with `weights` (d_vocab,), which sum to 0.
    ///
    /// # Errors
    /// [`crate::intervene::Error::NotExact`] where later layers read the hook.
    pub fn mass_and_leak(&self, steering: &Steering, own: &[bool], weights: &[f64]) -> Result<(BeforeAfter, Option<Leak>)> {
        let Positions { rig, rows, resid } = *self;
        let (d_in, m) = (rig.sae.d_in, rig.lm.config.d_model);
        let n = rows.len() / d_in;
        let probability = |logits: &[f32]| {
            let sum = log_sum_exp(logits);
            logits.iter().zip(own).filter(|(_, own)| **own).map(|(&z, _)| (f64::from(z) - sum).exp()).sum::<f64>()
        };
        let nothing = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[])?;
        let mut edited = rows.to_vec();
        // Every row is somewhere within a document, so none is the first of a window.
        let within = vec![rig.tokenizer.end_of_text().wrapping_add(1); n];
        Editor::new(rig.sae, steering, usize::MAX, rig.tokenizer.end_of_text())?.apply(1, &within, &mut edited);
        let (mut before, mut after) = (0.0, 0.0);
        for ((x, edited), r) in rows.chunks_exact(d_in).zip(edited.chunks_exact(d_in)).zip(resid.chunks_exact(m)) {
            before += probability(&nothing.logits(r, &[]));
            let change: Vec<f32> = edited.iter().zip(x).map(|(e, x)| e - x).collect();
            after += probability(&ExactEffect::along(rig.lm, rig.hook, &change)?.logits(r, &[1.0]));
        }
        let mass = BeforeAfter { before: before / n.max(1) as f64, after: after / n.max(1) as f64 };
        // Linear in r but for the final norm's scale, which all parts share at a position.
        let toward = toward(rig.lm, weights);
        let directions = residual_directions(rig.lm, rig.hook, &rig.sae.w_dec)?;
        let push: Vec<f64> = directions.chunks_exact(m).map(|u| u.iter().zip(&toward).map(|(&u, t)| f64::from(u) * t).sum()).collect();
        let mut acts = SparseRows::default();
        rig.sae.encoder().encode(rows, &mut acts);
        let mut x_hat = vec![0.0; rows.len()];
        rig.sae.decode(&acts, &mut x_hat);
        let errors: Vec<f32> = rows.iter().zip(&x_hat).map(|(x, hat)| x - hat).collect();
        let errors = residual_directions(rig.lm, rig.hook, &errors)?;
        let mut by_latent = vec![0.0f64; rig.sae.d_sae];
        let mut error = 0.0;
        for (i, (r, e)) in resid.chunks_exact(m).zip(errors.chunks_exact(m)).enumerate() {
            let (_, scale) = norm_of(r);
            let (active, values) = acts.row(i);
            active.iter().zip(values).for_each(|(&l, &a)| by_latent[l as usize] += scale * f64::from(a) * push[l as usize]);
            error += scale * e.iter().zip(&toward).map(|(&e, t)| f64::from(e) * t).sum::<f64>();
        }
        Ok((mass, shares(&by_latent, error, &steering.edits.iter().map(|e| e.latent).collect::<Vec<_>>())))
    }
}

/// The pushes (d_sae,) and the error's as shares of those that are positive; none where none is.
fn shares(by_latent: &[f64], error: f64, edited: &[u32]) -> Option<Leak> {
    let pushes = |l: u32| by_latent[l as usize].max(0.0);
    let total: f64 = by_latent.iter().map(|b| b.max(0.0)).sum::<f64>() + error.max(0.0);
    if total <= 0.0 {
        return None;
    }
    let mut others: Vec<(u32, f64)> =
        (0..by_latent.len() as u32).filter(|l| !edited.contains(l) && pushes(*l) > 0.0).map(|l| (l, pushes(l) / total)).collect();
    others.sort_by(|a, b| b.1.total_cmp(&a.1));
    let sum = others.iter().map(|o| o.1).sum();
    others.truncate(NAMED);
    Some(Leak { edited: edited.iter().map(|&l| pushes(l)).sum::<f64>() / total, others: sum, largest: others, error: error.max(0.0) / total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_nothing_for_a_token_set_for_a_context_and_where_all_is_the_concept() {
        // Tokens 0 and 1 are always the concept; a context has a share of everyone's tokens; everything.
        let cases = [(vec![4, 2, 0, 0], vec![4, 2, 3, 1]), (vec![1, 2, 3, 0], vec![10, 8, 6, 5]), (vec![1, 2, 3, 0], vec![1, 2, 3, 0])];
        for (with, all) in cases {
            let followers = Followers { with, all };
            assert!(followers.weights().iter().sum::<f64>().abs() < 1e-12, "{:?}", followers.weights());
        }
        let set = Followers { with: vec![4, 2, 0, 0], all: vec![4, 2, 3, 1] };
        assert_eq!((set.own(), set.own_share(&set.own())), (vec![true, true, false, false], 1.0));
        assert!((set.weights()[0] - 4.0 / 6.0).abs() < 1e-12 && (set.weights()[2] + 0.75).abs() < 1e-12);
        let context = Followers { with: vec![1, 2, 3, 0], all: vec![10, 8, 6, 5] };
        assert_eq!((context.own(), context.own_share(&context.own())), (vec![false, false, true, false], 0.5));
    }

    #[test]
    fn shares_are_of_what_pushes_towards_and_sum_to_one() {
        let leak = shares(&[3.0, -5.0, 1.0, 4.0], 2.0, &[0, 1]).unwrap();
        assert_eq!((leak.edited, leak.others, leak.error, leak.largest), (0.3, 0.5, 0.2, vec![(3, 0.4), (2, 0.1)]));
        assert_eq!(shares(&[-1.0, 0.0], -2.0, &[0]), None);
    }
}
