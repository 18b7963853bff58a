//! Matching pursuit (Costa et al. 2025): a row gives up one latent after the other; encoder and decoder are one. The selection is [`crate::sae`]'s `pursuit`.
//!
//! loss = |r_K|^2, the residual after the last pick. Selections are held fixed, everything else is differentiated: with G_K = 2 r_K / B and, backwards from the last
//! pick i = K to the first, s = G_i . w_i:  d_w_i -= a_i G_i + s r_(i-1),  G_(i-1) = G_i - s w_i;  d_b_dec = - sum over rows of G_0.
//! Good at reconstruction and bad at finding features: nothing keeps latents apart from each other (SynthSAEBench: best variance explained, worst F1).

use super::{Architecture, Select, Selection, Trained};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of matching pursuit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct MatchingPursuit {
    /// Picks per row, at most; one ends it that takes a latent for the second time.
    pub k: usize,
    /// Norm of what is left below which a row is done, in units in which E|x|^2 = d_in; 0: never.
    pub residual_threshold: f32,
}

impl Default for MatchingPursuit {
    fn default() -> Self {
        MatchingPursuit { k: 32, residual_threshold: 0.0 }
    }
}

impl Architecture for MatchingPursuit {
    fn about(&self) -> &'static str {
        "A row gives up one latent after the other; slow (Costa et al. 2025)"
    }

    fn in_words(&self) -> String {
        format!("Matching pursuit (k {})", self.k)
    }

    fn check(&self, _: usize, d_sae: usize) -> Result<(), String> {
        match ((1..=d_sae).contains(&self.k), self.residual_threshold >= 0.0) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("k is {}; it must be from 1 to d_sae = {d_sae}", self.k)),
            _ => Err(format!("residual_threshold is {}; it must not be below 0", self.residual_threshold)),
        }
    }

    fn tune(&self, config: &mut TrainConfig) {
        config.lr = 3e-4;
    }

    fn transcodes(&self) -> bool {
        false
    }

    fn selection(&self) -> Selection {
        Selection::Pursuit { k: self.k, least: self.residual_threshold }
    }

    fn select(&self, trained: &Trained) -> Select {
        Select::Pursuit { k: self.k, least: self.residual_threshold * trained.factor(0) }
    }

    fn ties_encoder(&self) -> bool {
        true
    }

    fn encoder_row(&self, _: &[f32], d: &[f32], out: &mut [f32]) {
        out.copy_from_slice(d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::StepSettings;
    use crate::sae::cpu::check::*;

    #[test]
    fn gradients_match_finite_differences_through_every_pick() {
        let k = 6;
        let repeats = std::cell::Cell::new(0);
        let settings = StepSettings { lr: 0.0, sparsity: 0.0, dead: &[] };
        let row_of = |p: &Tensors, j: usize| p[2][j * D..][..D].to_vec();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let checked = gradient_error(&MatchingPursuit { k, residual_threshold: 0.0 }.into(), &settings, 1.1, |p, at| {
            let row = |x: &[f32]| {
                let centred = |p: &Tensors| (0..D).map(|i| x[i] as f64 - p[3][i]).collect::<Vec<f64>>();
                let (mut r, mut r_at) = (centred(p), centred(at));
                let mut taken: Vec<usize> = Vec::new();
                for _ in 0..k {
                    let best = (0..F).max_by(|&a, &b| dot(&row_of(at, a), &r_at).total_cmp(&dot(&row_of(at, b), &r_at))).unwrap();
                    let a_at = dot(&row_of(at, best), &r_at);
                    if a_at <= 0.0 {
                        break;
                    }
                    let a = dot(&row_of(p, best), &r);
                    r.iter_mut().zip(row_of(p, best)).for_each(|(r, w)| *r -= a * w);
                    r_at.iter_mut().zip(row_of(at, best)).for_each(|(r, w)| *r -= a_at * w);
                    if taken.contains(&best) {
                        repeats.set(repeats.get() + 1);
                        break;
                    }
                    taken.push(best);
                }
                assert!(taken.len() >= 2, "rows of the test take several");
                dot(&r, &r)
            };
            rows().chunks_exact(D).map(row).sum::<f64>() / B as f64
        });
        assert!(checked.worst < 5e-5, "{}", checked.worst);
        assert!(repeats.get() > 0, "no latent of the test came twice");
        assert!(checked.gradient[0].iter().chain(&checked.gradient[1]).all(|&g| g == 0.0), "there is no encoder to train");
        assert_repeatable_at_any_thread_count(&MatchingPursuit { k: 4, residual_threshold: 0.5 }.into(), 1.1, &[]);
    }
}
