//! Lp with p-annealing (Karvonen et al. 2024): L1 at first, then a penalty that comes ever closer to counting active latents.
//!
//! a = relu(w_enc (x - b_dec) + b_enc), loss = |x - x_hat|^2 + l1 f sum of ((a_j + e)^p - e^p), e = 1e-3 so that the slope at 0 is finite (the paper has none).
//! p stays 1 until `start` of the run, then falls to `p_end` in `jumps` equal steps; at each the factor f is multiplied by the ratio of the
//! penalty under the old and the new p on the batch at hand, so that the penalty does not jump. The paper takes the ratio over ten batches.

use super::{Architecture, Recipe, Select, Selection, Trained};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of p-annealing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct PAnneal {
    /// Coefficient of the penalty beside the squared error summed over d_in, in units in which E|x|^2 = d_in.
    pub l1: f64,
    /// p at the end of the run.
    pub p_end: f64,
    /// Share of the run after which p begins to fall.
    pub start: f64,
    /// In how many steps it falls.
    pub jumps: u32,
    /// p now: 1 in a configuration, moved by the schedule.
    #[serde(skip, default = "one")]
    pub p: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for PAnneal {
    fn default() -> Self {
        PAnneal { l1: 2.0, p_end: 0.2, start: 0.3, jumps: 10, p: 1.0 }
    }
}

impl PAnneal {
    const SOFT: f32 = 1e-3;
}

impl Architecture for PAnneal {
    fn about(&self) -> &'static str {
        "ReLU + an Lp penalty whose p falls (Karvonen et al. 2024)"
    }

    fn in_words(&self) -> String {
        format!("ReLU with an Lp penalty (L1 {}, p from 1 to {})", self.l1, self.p_end)
    }

    fn check(&self, _: usize, _: usize) -> Result<(), String> {
        match (self.p_end > 0.0 && self.p_end <= 1.0, (0.0..1.0).contains(&self.start), self.jumps > 0) {
            (true, true, true) => Ok(()),
            (false, ..) => Err(format!("p_end is {}; it must be above 0 and at most 1", self.p_end)),
            (_, false, _) => Err(format!("start is {}; it is a share of the run below 1", self.start)),
            _ => Err("jumps is 0; it must be at least 1".into()),
        }
    }

    fn tune(&self, config: &mut TrainConfig) {
        config.lr = 3e-4;
    }

    fn selection(&self) -> Selection {
        Selection::Positive
    }

    fn select(&self, _: &Trained) -> Select {
        Select::Relu
    }

    fn sparsity(&self, _: usize) -> Option<f64> {
        Some(self.l1)
    }

    fn penalty(&self, u: &mut [f32]) -> Option<f64> {
        let p = self.p as f32;
        let floor = Self::SOFT.powf(p);
        let mut sum = 0.0;
        for u in u {
            let soft = *u + Self::SOFT;
            let power = soft.powf(p);
            sum += (power - floor) as f64;
            *u = p * power / soft;
        }
        Some(sum)
    }

    fn at(&self, done: f64) -> Option<Recipe> {
        let gone = ((done - self.start) / (1.0 - self.start)).clamp(0.0, 1.0);
        let jumps = (gone * self.jumps as f64).ceil() / self.jumps as f64;
        Some(PAnneal { p: 1.0 - (1.0 - self.p_end) * jumps, ..self.clone() }.into())
    }

    fn keeps_its_penalty(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::StepSettings;
    use crate::sae::cpu::check::*;

    #[test]
    fn gradients_match_finite_differences_at_any_p() {
        for (p, dense_above) in [(1.0, 1.1), (0.4, 1.1), (0.4, 0.0)] {
            let settings = StepSettings { lr: 0.0, sparsity: 0.7, dead: &[] };
            let recipe = PAnneal { p, ..PAnneal::default() }.into();
            let checked = gradient_error(&recipe, &settings, dense_above, |w, at| {
                let row = |x: &[f32]| {
                    let (z, z_at) = (pre_acts(w, x, true), pre_acts(at, x, true));
                    let acts: Vec<(usize, f64)> = (0..F).filter(|&j| z_at[j] > 0.0).map(|j| (j, z[j])).collect();
                    squared_error(w, x, &acts) + 0.7 * acts.iter().map(|&(_, a)| (a + 1e-3).powf(p) - 1e-3f64.powf(p)).sum::<f64>()
                };
                rows().chunks_exact(D).map(row).sum::<f64>() / B as f64
            });
            // Slopes near zero are steep: p (a + e)^(p - 1) has a curvature that central differences of 1e-5 see.
            assert!(checked.worst < 1e-4, "p {p}: {}", checked.worst);
        }
    }

    #[test]
    fn p_falls_in_ten_steps_after_its_start() {
        let p = |done| match PAnneal::default().at(done) {
            Some(Recipe::PAnneal(PAnneal { p, .. })) => p,
            other => panic!("{other:?}"),
        };
        assert_eq!((p(0.0), p(0.3), p(1.0)), (1.0, 1.0, 1.0 - 0.8));
        // 1/20 of the way is in the first of ten steps.
        assert!((p(0.335) - 0.92).abs() < 1e-12 && (p(0.36) - 0.92).abs() < 1e-12 && (p(0.38) - 0.84).abs() < 1e-12);
    }
}
