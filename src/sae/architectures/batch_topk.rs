//! BatchTopK: the B k largest pre-activations of a batch (Bussmann et al. 2024), so that a row may keep more latents than another.
//!
//! Refined (one step of ISTA, as in LISTA-Matryoshka, 2026): with a' selected so from xc and x_hat' its reconstruction, z = w_enc u + b_enc of
//! u = xc + refine (x - x_hat') is selected from again. The gradient goes through both selections; that of AuxK, which reads u, through the second alone.
//!
//! a = relu(z) where z is among the B k largest of the batch, loss = |x - x_hat|^2 + aux. The gradient takes the selection as it is: da/dz is 1 where a latent is kept, else 0. Used on single rows the SAE is a JumpReLU whose one threshold is
//! the running mean of the least activation that batches kept, since k was last changed; it is saved as that, a refined one with the thresholds of both selections.

use super::topk::topk_lr;
use super::{Architecture, Recipe, Select, Selection, Trained};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of BatchTopK.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct BatchTopK {
    /// Latents kept per row, on average.
    pub k: f64,
    /// Whether dead latents are trained on the residual (AuxK).
    pub auxk: bool,
    /// k at the first step, from where it falls linearly to `k`; none: always k.
    pub k_start: Option<f64>,
    /// Share of the run over which it falls; none: 0.9, so that the threshold is a mean over many batches of the last k.
    pub k_until: Option<f64>,
    /// Size of a refining step between two selections; none: one selection.
    pub refine: Option<f64>,
}

impl Default for BatchTopK {
    fn default() -> Self {
        BatchTopK { k: 32.0, auxk: true, k_start: None, k_until: None, refine: None }
    }
}

impl Architecture for BatchTopK {
    fn about(&self) -> &'static str {
        "The k largest per row on average over a batch, saved as JumpReLU (Bussmann et al. 2024)"
    }

    fn in_words(&self) -> String {
        let auxk = if self.auxk { ", AuxK" } else { "" };
        format!("BatchTopK ({}{}{auxk})", k_in_words(self.k, self.k_start), refine_in_words(self.refine))
    }

    fn check(&self, _: usize, d_sae: usize) -> Result<(), String> {
        check_refine(self.refine)?;
        check_k(self.k, (self.k_start, self.k_until), d_sae)
    }

    fn refine(&self) -> Option<f32> {
        self.refine.map(|step| step as f32)
    }

    fn tune(&self, config: &mut TrainConfig) {
        config.lr = topk_lr(config.sae.d_sae);
        config.eps = 6.25e-10;
    }

    fn selection(&self) -> Selection {
        Selection::BatchTopK { k: self.k }
    }

    fn select(&self, trained: &Trained) -> Select {
        one_threshold(trained, self.refine())
    }

    fn auxk(&self) -> bool {
        self.auxk
    }

    fn at(&self, done: f64) -> Option<Recipe> {
        let k = annealed(self.k, (self.k_start?, self.k_until), done);
        Some(BatchTopK { k, ..self.clone() }.into())
    }
}

/// The running mean of the least activation kept, as a threshold of each latent.
pub(super) fn one_threshold(trained: &Trained, refine: Option<f32>) -> Select {
    let of_each = |kept: f64| (0..trained.b_enc.len()).map(|j| kept as f32 * trained.factor(j)).collect();
    match refine {
        None => Select::JumpRelu { threshold: of_each(trained.kept) },
        Some(step) => Select::Refined { step, first: of_each(trained.kept_first), threshold: of_each(trained.kept) },
    }
}

pub(super) fn check_refine(refine: Option<f64>) -> Result<(), String> {
    match refine {
        Some(step) if !(step > 0.0 && step <= 1.0) => Err(format!("refine is {step}; it is the size of a step, above 0 and at most 1")),
        _ => Ok(()),
    }
}

pub(super) fn refine_in_words(refine: Option<f64>) -> String {
    refine.map_or(String::new(), |step| format!(", refine {step}"))
}

/// Share of the run over which k changes, unless another is given. Over the rest it is what the SAE is used with, so that the threshold is the mean of that.
const ANNEALED: f64 = 0.9;

/// k after this share of the run, from its start and the share until which it changes.
pub(super) fn annealed(k: f64, (start, until): (f64, Option<f64>), done: f64) -> f64 {
    let until = until.unwrap_or(ANNEALED);
    if done >= until { k } else { start + (k - start) * done / until }
}

pub(super) fn k_in_words(k: f64, start: Option<f64>) -> String {
    start.map_or(format!("k {k}"), |start| format!("k {start} to {k}"))
}

pub(super) fn check_k(k: f64, (start, until): (Option<f64>, Option<f64>), d_sae: usize) -> Result<(), String> {
    if let Some(until) = until {
        if start.is_none() {
            return Err(format!("k_until is {until}, but without a k_start k does not change; give both, or leave it out"));
        }
        if !(until > 0.0 && until <= 1.0) {
            return Err(format!("k_until is {until}; it is a share of the run, above 0 and at most 1"));
        }
    }
    let fits = |k: f64| k > 0.0 && k <= d_sae as f64;
    match (fits(k), start.is_none_or(fits)) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("k is {k}; it must be above 0 and at most d_sae = {d_sae}")),
        _ => Err(format!("k_start is {start:?}; it must be above 0 and at most d_sae = {d_sae}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::StepSettings;
    use crate::sae::cpu::check::*;

    /// The B k largest of all rows, at the weights `at`.
    fn kept(at: &Tensors, n: usize) -> Vec<(usize, usize)> {
        let mut all: Vec<(f64, usize, usize)> = Vec::new();
        for (r, x) in rows().chunks_exact(D).enumerate() {
            all.extend(pre_acts(at, x, true).into_iter().enumerate().map(|(j, z)| (z, r, j)).filter(|v| v.0 > 0.0));
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.into_iter().take(n).map(|(_, r, j)| (r, j)).collect()
    }

    #[test]
    fn gradients_match_finite_differences() {
        // 1.5 latents a row of 3 rows: 5 of them, rounded up from 4.5.
        for (k, dead) in [(1.0, &[][..]), (1.5, &[]), (1.5, &[1, 4, 6]), (1.0, &[4])] {
            let recipe: Recipe = BatchTopK { k, auxk: !dead.is_empty(), ..Default::default() }.into();
            let n = (k * B as f64).round() as usize;
            let checked = gradient_error(&recipe, &StepSettings { lr: 0.0, sparsity: 0.0, dead }, 1.1, |p, at| {
                let kept = kept(at, n);
                let one = |(r, x): (usize, &[f32])| {
                    let (z, z_at) = (pre_acts(p, x, true), pre_acts(at, x, true));
                    let on: Vec<usize> = kept.iter().filter(|v| v.0 == r).map(|v| v.1).collect();
                    let acts: Vec<(usize, f64)> = on.iter().map(|&j| (j, z[j])).collect();
                    squared_error(p, x, &acts) + aux_loss((p, &z), (at, &z_at), x, &on, dead)
                };
                rows().chunks_exact(D).enumerate().map(one).sum::<f64>() / B as f64
            });
            assert!(checked.worst < 2e-5, "{}", checked.worst);
            assert_eq!(checked.report.l0, n as f64 / B as f64);
        }
        let recipe = BatchTopK { k: 4.0, ..Default::default() }.into();
        assert_repeatable_at_any_thread_count(&recipe, 1.1, &[3, 8, 100]);
    }

    #[test]
    fn gradients_of_refined_rows_match_finite_differences_through_both_selections() {
        let (k, step) = (1.5, 0.3);
        let n = (k * B as f64).round() as usize;
        let wide_step = step as f32 as f64;
        // u of each row; which latents the first selection keeps is that of `at`, what they reconstruct that of `through`.
        let refined = |p: &Tensors, at: &Tensors, through: &Tensors| -> Vec<Vec<f64>> {
            let first = kept(at, n);
            let one = |(r, x): (usize, &[f32])| {
                let z = pre_acts(through, x, true);
                let made = |i: usize| first.iter().filter(|v| v.0 == r).map(|&(_, j)| z[j] * through[2][j * D + i]).sum::<f64>();
                (0..D).map(|i| (1.0 + wide_step) * (x[i] as f64 - p[3][i]) - wide_step * made(i)).collect()
            };
            rows().chunks_exact(D).enumerate().map(one).collect()
        };
        let read = |p: &Tensors, u: &[f64]| (0..F).map(|j| p[1][j] + (0..D).map(|i| u[i] * p[0][j * D + i]).sum::<f64>()).collect::<Vec<f64>>();
        for dead in [&[][..], &[1, 4, 6], &[4]] {
            let recipe: Recipe = BatchTopK { k, auxk: !dead.is_empty(), refine: Some(step), ..Default::default() }.into();
            let checked = gradient_error(&recipe, &StepSettings { lr: 0.0, sparsity: 0.0, dead }, 1.1, |p, at| {
                let mut all: Vec<(f64, usize, usize)> = Vec::new();
                let u_at = refined(at, at, at);
                for (r, u) in u_at.iter().enumerate() {
                    all.extend(read(at, u).into_iter().enumerate().map(|(j, z)| (z, r, j)).filter(|v| v.0 > 0.0));
                }
                all.sort_by(|a, b| b.0.total_cmp(&a.0));
                all.truncate(n);
                // AuxK's gradient goes through the second selection alone: what the first one reconstructed is fixed for it.
                let (u, u_aux) = (refined(p, at, p), refined(p, at, at));
                let one = |(r, x): (usize, &[f32])| {
                    let z = read(p, &u[r]);
                    let on: Vec<usize> = all.iter().filter(|v| v.1 == r).map(|v| v.2).collect();
                    let acts: Vec<(usize, f64)> = on.iter().map(|&j| (j, z[j])).collect();
                    squared_error(p, x, &acts) + aux_loss((p, &read(p, &u_aux[r])), (at, &read(at, &u_at[r])), x, &on, dead)
                };
                rows().chunks_exact(D).enumerate().map(one).sum::<f64>() / B as f64
            });
            assert!(checked.worst < 3e-5, "{dead:?}: {}", checked.worst);
            assert_eq!(checked.report.aux > 0.0, !dead.is_empty());
            assert_repeatable_at_any_thread_count(&recipe, 1.1, dead);
        }
    }

    #[test]
    fn k_falls_in_a_line_and_then_stays() {
        let falls = |until: Option<f64>| BatchTopK { k: 25.0, k_start: Some(75.0), k_until: until, ..Default::default() };
        let k = |until, done| match falls(until).at(done) {
            Some(Recipe::BatchTopK(BatchTopK { k, .. })) => k,
            other => panic!("{other:?}"),
        };
        assert_eq!([0.0, 0.45, 0.9, 1.0].map(|done| k(None, done)), [75.0, 50.0, 25.0, 25.0]);
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|done| k(Some(1.0), done)), [75.0, 50.0, 30.0, 25.0]);
        for until in [0.0, 1.1, f64::NAN] {
            assert!(falls(Some(until)).check(5, 100).unwrap_err().contains("share of the run"));
        }
        assert!(BatchTopK { k_until: Some(0.5), ..Default::default() }.check(5, 100).unwrap_err().contains("without a k_start"));
        assert!(BatchTopK::default().at(0.5).is_none());
    }
}
