//! Gated SAE (Rajamanoharan et al. 2024, "Improving Dictionary Learning with Gated Sparse Autoencoders"): one product decides whether a latent is on and how
//! strongly, with biases and a scale of their own, so that the penalty does not shrink activations.
//!
//! p = w_enc (x - b_dec), gate = p + b_enc, magnitude = relu(e^r p + b_mag), a = magnitude where gate > 0
//! loss = |x - x_hat|^2 + l1 sum relu(gate_j) + |x - sum relu(gate_j) w_dec[j] - b_dec|^2, with w_dec and b_dec held fixed in the last term.
//!
//! The first two terms' gradient reaches the encoder through the magnitude and through the gate respectively; the last one teaches the gate alone.

use super::{Architecture, Entries, LatentStep, Select, Selection, Trained};
use crate::kernels::sparse::{error_row, gather_axpy, gather_dot};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of the gated SAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Gated {
    /// Coefficient of L1 beside the squared error summed over d_in, in units in which E|x|^2 = d_in.
    pub l1: f64,
}

impl Default for Gated {
    fn default() -> Self {
        Gated { l1: 2.0 }
    }
}

const B_MAG: usize = 0;
const R_MAG: usize = 1;

impl Architecture for Gated {
    fn about(&self) -> &'static str {
        "One product decides whether a latent is on and how strongly (Rajamanoharan et al. 2024)"
    }

    fn in_words(&self) -> String {
        format!("Gated (L1 {})", self.l1)
    }

    fn tune(&self, config: &mut TrainConfig) {
        (config.lr, config.beta1) = (3e-4, 0.0);
    }

    fn transcodes(&self) -> bool {
        false
    }

    fn selection(&self) -> Selection {
        Selection::Positive
    }

    fn select(&self, trained: &Trained) -> Select {
        let b_mag = trained.vectors[B_MAG].iter().enumerate().map(|(j, b)| b * trained.factor(j)).collect();
        Select::Gated { b_mag, r_mag: trained.vectors[R_MAG].clone() }
    }

    fn sparsity(&self, _: usize) -> Option<f64> {
        Some(self.l1)
    }

    fn vectors(&self) -> Vec<(&'static str, f32)> {
        vec![("b_mag", 0.0), ("r_mag", 0.0)]
    }

    fn shapes_activations(&self) -> bool {
        true
    }

    /// What the open gates reconstruct, and its gradient, cost as much again: they are gathered one by one.
    fn dense_products(&self) -> f64 {
        10.0
    }

    fn activate(&self, entries: &mut Entries, vectors: &[Vec<f32>]) {
        for ((act, &gate), &j) in entries.act.iter_mut().zip(entries.z).zip(entries.latent) {
            let j = j as usize;
            let magnitude = vectors[R_MAG][j].exp() * (gate - entries.b_enc[j]) + vectors[B_MAG][j];
            *act = if gate > 0.0 { magnitude.max(0.0) } else { 0.0 };
        }
    }

    /// The penalty is of the gates.
    fn row_penalty(&self, _: &mut [f32]) -> Option<f64> {
        None
    }

    /// The penalty is on the gates, which `backward` sees; on the activations there is none.
    fn penalty(&self, u: &mut [f32]) -> Option<f64> {
        u.fill(0.0);
        Some(0.0)
    }

    fn backward(&self, entries: &mut Entries, vectors: &[Vec<f32>]) {
        // What the open gates alone reconstruct.
        let on: Vec<usize> = (0..entries.z.len()).filter(|&i| entries.z[i] > 0.0).collect();
        let latent: Vec<u32> = on.iter().map(|&i| entries.latent[i]).collect();
        let gate: Vec<f32> = on.iter().map(|&i| entries.z[i]).collect();
        let mut g = entries.b_dec.to_vec();
        gather_axpy(&latent, &gate, entries.w_dec, &mut g);
        entries.other += error_row(entries.target, entries.scale, &mut g);
        let mut d_gate = vec![0.0; on.len()];
        gather_dot(&latent, entries.w_dec, &g, &mut d_gate);
        entries.penalty += gate.iter().map(|&v| v as f64).sum::<f64>();
        let mut d_gate = d_gate.into_iter();
        for i in 0..entries.z.len() {
            let j = entries.latent[i] as usize;
            let place = entries.range.start + i;
            let d_magnitude = if entries.act[i] > 0.0 { entries.d_pre[i] } else { 0.0 };
            let slope = vectors[R_MAG][j].exp();
            entries.d_vectors[B_MAG][place] = d_magnitude;
            entries.d_vectors[R_MAG][place] = slope * (entries.z[i] - entries.b_enc[j]) * d_magnitude;
            let through_gate = if entries.z[i] > 0.0 { d_gate.next().expect("one for each open gate") + entries.sparsity } else { 0.0 };
            entries.d_pre[i] = slope * d_magnitude + through_gate;
        }
    }

    /// The magnitude does not see the gate's bias.
    fn finish_latent(&self, step: &mut LatentStep) {
        *step.d_b_enc -= step.vectors[R_MAG][step.latent].exp() * step.d_vectors[B_MAG];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::StepSettings;
    use crate::sae::cpu::check::*;

    #[test]
    fn gradients_match_finite_differences_with_the_last_term_teaching_the_gate_alone() {
        for dense_above in [0.0, 1.1] {
            let settings = StepSettings { lr: 0.0, sparsity: 0.7, dead: &[] };
            let checked = gradient_error(&Gated { l1: 0.0 }.into(), &settings, dense_above, |p, at| {
                let row = |x: &[f32]| {
                    let (z, z_at) = (pre_acts(p, x, true), pre_acts(at, x, true));
                    let on = |j: &usize| z_at[*j] > 0.0;
                    let magnitude = |w: &Tensors, z: &[f64], j: usize| w[5][j].exp() * (z[j] - w[1][j]) + w[4][j];
                    let acts: Vec<(usize, f64)> =
                        (0..F).filter(on).filter(|&j| magnitude(at, &z_at, j) > 0.0).map(|j| (j, magnitude(p, &z, j))).collect();
                    let gates: Vec<(usize, f64)> = (0..F).filter(on).map(|j| (j, z[j])).collect();
                    squared_error(p, x, &acts) + 0.7 * gates.iter().map(|g| g.1).sum::<f64>() + squared_error(at, x, &gates)
                };
                rows().chunks_exact(D).map(row).sum::<f64>() / B as f64
            });
            assert!(checked.worst < 5e-5, "dense above {dense_above}: {}", checked.worst);
            assert!(checked.gradient[4].iter().any(|&g| g != 0.0) && checked.gradient[5].iter().any(|&g| g != 0.0));
            assert_repeatable_at_any_thread_count(&Gated::default().into(), dense_above, &[]);
        }
    }
}
