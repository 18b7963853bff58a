//! Matryoshka: BatchTopK whose first latents must reconstruct alone (Bussmann et al. 2025): the loss is a sum over prefixes of the latents, so that
//! general features come first and are not absorbed by special ones.
//!
//! x_hat_l = sum over active latents before end_l of a_j w_dec[j] + b_dec, loss = sum over l of weight_l |x - x_hat_l|^2 + aux.
//! Detached (LISTA-Matryoshka, Chanin 2026): in the loss of an inner level what the levels before it and b_dec reconstruct is held fixed; that of the whole, the last, is
//! everyone's. So a latent answers to its own level and to the whole. (Held fixed in the whole as well, the first levels keep the average of what fires with them: LOG.md.)
//! Random prefixes (Nabeshima 2024): the ends are drawn anew for each step, different ones, with P(end <= l) = (l / (F - 1))^(1/2).
//! Sorting: every so many steps the latents are put in the order of how often they fire, so that those that fire most are in the first prefix.

use super::batch_topk::{annealed, check_k, check_refine, k_in_words, one_threshold, refine_in_words};
use super::topk::topk_lr;
use super::{Architecture, Levels, Nesting, Recipe, Select, Selection, Trained};
use crate::artifact::seed;
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Settings of Matryoshka.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Matryoshka {
    /// Latents kept per row, on average.
    pub k: f64,
    /// Whether dead latents are trained on what is left over (AuxK).
    pub auxk: bool,
    /// Whether that is what their own level leaves over, each level an AuxK of its own; none: what the whole does.
    pub auxk_by_level: Option<bool>,
    /// k at the first step, from where it falls linearly to `k`; none: always k.
    pub k_start: Option<f64>,
    /// Share of the run over which it falls; none: 0.9, so that the threshold is a mean over many batches of the last k.
    pub k_until: Option<f64>,
    /// Where prefixes end, ascending, without the whole; empty: 1/16, 1/8, 1/4 and 1/2 of the latents.
    pub prefixes: Vec<usize>,
    /// Prefixes drawn anew for each step instead of fixed ones; 0: fixed.
    pub random: usize,
    /// Weight of the loss of each prefix; that of the whole is 1.
    pub inner_weight: f64,
    /// Whether what earlier levels reconstruct is held fixed in the losses of all but the whole.
    pub detached: bool,
    /// Steps after which latents are sorted by how often they fire; none: never.
    pub sort_every: Option<u64>,
    /// Size of a refining step between two selections; none: one selection.
    pub refine: Option<f64>,
}

impl Default for Matryoshka {
    fn default() -> Self {
        Matryoshka {
            k: 32.0,
            auxk: true,
            auxk_by_level: None,
            k_start: None,
            k_until: None,
            prefixes: Vec::new(),
            random: 0,
            inner_weight: 1.0,
            detached: false,
            sort_every: None,
            refine: None,
        }
    }
}

impl Matryoshka {
    fn ends(&self, d_sae: usize, step: u64, run_seed: u64) -> Vec<usize> {
        let mut ends = if self.random > 0 {
            let mut rng = seed::rng(run_seed, "sae/matryoshka/prefixes", step);
            let mut ends = BTreeSet::new();
            while ends.len() < self.random {
                ends.insert(drawn_end(rng.random_range(0.0..1.0), d_sae));
            }
            ends.into_iter().collect()
        } else if self.prefixes.is_empty() {
            [16, 8, 4, 2].map(|part| d_sae / part).to_vec()
        } else {
            self.prefixes.clone()
        };
        ends.push(d_sae);
        ends.retain(|&end| end > 0);
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

/// An end from 1 to f - 1 with P(end <= l) = (l / (f - 1))^(1/2), from a uniform draw u.
fn drawn_end(u: f64, f: usize) -> usize {
    ((u * u * (f - 1) as f64).ceil() as usize).clamp(1, f - 1)
}

impl Architecture for Matryoshka {
    fn about(&self) -> &'static str {
        "BatchTopK whose first latents must reconstruct alone (Bussmann et al. 2025)"
    }

    fn in_words(&self) -> String {
        let levels = if self.random > 0 { format!("{} random prefixes", self.random) } else { "fixed prefixes".into() };
        let detached = if self.detached { ", detached" } else { "" };
        let (refine, auxk) = (
            refine_in_words(self.refine),
            match (self.auxk, self.auxk_by_level()) {
                (false, _) => "",
                (true, false) => ", AuxK",
                (true, true) => ", AuxK of each level",
            },
        );
        format!("Matryoshka ({}, {levels}{detached}{refine}{auxk})", k_in_words(self.k, self.k_start))
    }

    fn check(&self, _: usize, d_sae: usize) -> Result<(), String> {
        check_k(self.k, (self.k_start, self.k_until), d_sae)?;
        check_refine(self.refine)?;
        if !self.prefixes.is_sorted_by(|a, b| a < b) || self.prefixes.iter().any(|&end| end == 0 || end >= d_sae) {
            return Err(format!("prefixes are {:?}; they must ascend from 1 to below d_sae = {d_sae}", self.prefixes));
        }
        if self.random > 0 && !self.prefixes.is_empty() {
            return Err(format!("prefixes are {:?} and random is {}; only one of them can be", self.prefixes, self.random));
        }
        if self.random >= d_sae {
            return Err(format!("random is {}, but of d_sae = {d_sae} latents there are {} prefixes beside the whole", self.random, d_sae - 1));
        }
        if self.auxk_by_level() && !self.auxk {
            return Err("auxk_by_level says how AuxK is done, and auxk is false; leave one of them out".into());
        }
        if self.prefixes.len().max(self.random) > 200 {
            return Err("there can be at most 200 prefixes".into());
        }
        if !(self.inner_weight > 0.0 && self.inner_weight.is_finite()) {
            return Err(format!("inner_weight is {}; it must be positive", self.inner_weight));
        }
        if self.sort_every == Some(0) {
            return Err("sort_every is 0; leave it out to never sort".into());
        }
        Ok(())
    }

    fn tune(&self, config: &mut TrainConfig) {
        config.lr = topk_lr(config.sae.d_sae);
        config.eps = 6.25e-10;
    }

    fn refine(&self) -> Option<f32> {
        self.refine.map(|step| step as f32)
    }

    fn selection(&self) -> Selection {
        Selection::BatchTopK { k: self.k }
    }

    fn select(&self, trained: &Trained) -> Select {
        one_threshold(trained, self.refine())
    }

    fn levels(&self, d_sae: usize, step: u64, run_seed: u64) -> Option<Levels> {
        let ends = self.ends(d_sae, step, run_seed);
        let weights = ends.iter().map(|&end| if end == d_sae { 1.0 } else { self.inner_weight }).collect();
        Some(Levels { ends, weights, nesting: Nesting::Latent, detached: self.detached })
    }

    fn auxk(&self) -> bool {
        self.auxk
    }

    fn auxk_by_level(&self) -> bool {
        self.auxk_by_level == Some(true)
    }

    fn at(&self, done: f64) -> Option<Recipe> {
        let k = annealed(self.k, (self.k_start?, self.k_until), done);
        Some(Matryoshka { k, ..self.clone() }.into())
    }

    fn unsorted(&self) -> Option<Recipe> {
        Some(Matryoshka { sort_every: None, ..self.clone() }.into())
    }

    fn sort_every(&self) -> Option<u64> {
        self.sort_every
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::StepSettings;
    use crate::sae::cpu::check::*;

    /// All that is above zero, so that the selection is that of ReLU and the levels alone are tested.
    fn recipe(detached: bool) -> Matryoshka {
        Matryoshka { k: F as f64, auxk: false, prefixes: vec![2, 5], inner_weight: 0.5, detached, ..Matryoshka::default() }
    }

    /// One level's loss of one row: latents before `fixed`, and b_dec where there are such, at the weights `at`; later ones up to `end` at `p`.
    fn level(p: &Tensors, at: &Tensors, x: &[f32], fixed: usize, end: usize) -> f64 {
        let (z, z_at) = (pre_acts(p, x, true), pre_acts(at, x, true));
        (0..D)
            .map(|i| {
                let part = |w: &Tensors, z: &[f64], range: std::ops::Range<usize>| -> f64 {
                    range.filter(|&j| z_at[j] > 0.0).map(|j| z[j] * w[2][j * D + i]).sum()
                };
                (if fixed > 0 { at } else { p }[3][i] + part(at, &z_at, 0..fixed) + part(p, &z, fixed..end) - x[i] as f64).powi(2)
            })
            .sum()
    }

    #[test]
    fn gradients_match_finite_differences_nested_and_detached() {
        for (detached, by_level, dead) in [
            (false, false, &[][..]),
            (true, false, &[]),
            (false, false, &[1, 4, 6]),
            (true, false, &[1, 4, 6]),
            (false, true, &[1, 4, 6]),
            (true, true, &[0, 1, 5, 6]),
        ] {
            let settings = StepSettings { lr: 0.0, sparsity: 0.0, dead };
            let recipe = Matryoshka { auxk: !dead.is_empty(), auxk_by_level: Some(by_level), ..recipe(detached) };
            let checked = gradient_error(&recipe.into(), &settings, 1.1, |p, at| {
                let row = |x: &[f32]| {
                    let ends = [(0, 2, 0.5), (2, 5, 0.5), (5, F, 1.0)];
                    let fixed = |from, end| if detached && end < F { from } else { 0 };
                    let levels: f64 = ends.iter().map(|&(from, end, weight)| weight * level(p, at, x, fixed(from, end), end)).sum();
                    // AuxK's residual is that of the whole, or of each level for the dead latents that it adds.
                    let (z, z_at) = (pre_acts(p, x, true), pre_acts(at, x, true));
                    let aux = |from: usize, end: usize| {
                        let on: Vec<usize> = (0..end).filter(|&j| z_at[j] > 0.0).collect();
                        let dead: Vec<u32> = dead.iter().copied().filter(|&j| (from..end).contains(&(j as usize))).collect();
                        aux_loss((p, &z), (at, &z_at), x, &on, &dead)
                    };
                    levels + if by_level { ends.iter().map(|&(from, end, _)| aux(from, end)).sum() } else { aux(0, F) }
                };
                rows().chunks_exact(D).map(row).sum::<f64>() / B as f64
            });
            assert!(checked.worst < 2e-5, "detached {detached}, by level {by_level}: {}", checked.worst);
            assert!(checked.report.other > 0.0);
        }
        let drawn = Matryoshka { k: 4.0, random: 10, auxk_by_level: Some(true), ..Matryoshka::default() };
        assert_repeatable_at_any_thread_count(&drawn.into(), 1.1, &[3, 8, 100]);
    }

    #[test]
    fn prefixes_end_where_they_should() {
        assert_eq!(Matryoshka::default().ends(64, 0, 0), [4, 8, 16, 32, 64]);
        let random = Matryoshka { random: 10, ..Matryoshka::default() };
        let (a, b) = (random.ends(1000, 1, 7), random.ends(1000, 2, 7));
        assert!(a != b && a == random.ends(1000, 1, 7) && a.len() == 11 && a.last() == Some(&1000) && a.is_sorted());
        // P(end <= 100) = (100 / 999)^(1/2) = 0.3164; the first and the last there are.
        let short = (0..10_000).filter(|&i| drawn_end(i as f64 / 10_000.0, 1000) <= 100).count();
        assert!((short as f64 / 10_000.0 - 0.3164).abs() < 1e-3, "{short}");
        assert_eq!((drawn_end(0.0, 1000), drawn_end(0.999_999, 1000)), (1, 999));
        assert_eq!(Matryoshka { random: 3, ..Matryoshka::default() }.ends(4, 5, 0), [1, 2, 3, 4], "different ones, all there are");
        assert!(Matryoshka { random: 4, ..Matryoshka::default() }.check(5, 4).is_err());
        assert!(Matryoshka { prefixes: vec![8, 4], ..Matryoshka::default() }.check(5, 64).is_err());
        assert!(Matryoshka { prefixes: vec![64], ..Matryoshka::default() }.check(5, 64).is_err());
    }
}
