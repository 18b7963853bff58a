//! ReLU + tanh penalty (Anthropic, February 2024 update): like L1 near zero, but it stops pulling at large activations, so that it shrinks them less.
//!
//! a = relu(w_enc x + b_enc), loss = |x - x_hat|^2 + coefficient * sum tanh(c a_j |w_dec[j]|); all else as in April 2024.

use super::{Architecture, Init, Select, Selection, Trained, Units};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of the tanh penalty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Tanh {
    /// Coefficient of the penalty beside the squared error summed over d_in.
    pub coefficient: f64,
    /// c of tanh(c a |w_dec|): activations above some 1 / c count as on.
    pub scale: f32,
}

impl Default for Tanh {
    fn default() -> Self {
        Tanh { coefficient: 1.0, scale: 4.0 }
    }
}

/// Sum of tanh(c u); `u` becomes its slopes c (1 - tanh^2).
pub(super) fn tanh_penalty(scale: f32, u: &mut [f32]) -> f64 {
    let mut sum = 0.0;
    for u in u {
        let t = (scale * *u).tanh();
        sum += t as f64;
        *u = scale * (1.0 - t * t);
    }
    sum
}

impl Architecture for Tanh {
    fn about(&self) -> &'static str {
        "ReLU + a penalty that levels off (Anthropic, February 2024)"
    }

    fn in_words(&self) -> String {
        format!("ReLU with a tanh penalty ({}, c {})", self.coefficient, self.scale)
    }

    fn check(&self, _: usize, _: usize) -> Result<(), String> {
        if self.scale > 0.0 && self.scale.is_finite() { Ok(()) } else { Err(format!("scale is {}; it must be positive", self.scale)) }
    }

    fn tune(&self, config: &mut TrainConfig) {
        config.lr = 3e-4;
    }

    fn units(&self) -> Units {
        Units::RootNorm
    }

    fn init(&self, _: usize, _: usize) -> Init {
        Init::Tied { norm: 0.1, encoder: 1.0 }
    }

    fn pre_bias(&self) -> bool {
        false
    }

    fn unit_decoder(&self) -> bool {
        false
    }

    fn selection(&self) -> Selection {
        Selection::Positive
    }

    fn select(&self, _: &Trained) -> Select {
        Select::Relu
    }

    fn sparsity(&self, _: usize) -> Option<f64> {
        Some(self.coefficient)
    }

    fn coefficient(&self) -> &'static str {
        "coefficient"
    }

    fn penalty(&self, u: &mut [f32]) -> Option<f64> {
        Some(tanh_penalty(self.scale, u))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::StepSettings;
    use crate::sae::cpu::check::*;

    #[test]
    fn gradients_match_finite_differences() {
        for dense_above in [0.0, 1.1] {
            let settings = StepSettings { lr: 0.0, sparsity: 0.7, dead: &[] };
            let checked = gradient_error(&Tanh { coefficient: 0.0, scale: 2.0 }.into(), &settings, dense_above, |p, at| {
                let row = |x: &[f32]| {
                    let (z, z_at) = (pre_acts(p, x, false), pre_acts(at, x, false));
                    let acts: Vec<(usize, f64)> = (0..F).filter(|&j| z_at[j] > 0.0).map(|j| (j, z[j])).collect();
                    squared_error(p, x, &acts) + 0.7 * acts.iter().map(|&(j, a)| (2.0 * a * norm(p, j)).tanh()).sum::<f64>()
                };
                rows().chunks_exact(D).map(row).sum::<f64>() / B as f64
            });
            assert!(checked.worst < 2e-5, "dense above {dense_above}: {}", checked.worst);
        }
        for dense_above in [0.0, 1.1] {
            assert_repeatable_at_any_thread_count(&Tanh::default().into(), dense_above, &[]);
        }
    }
}
