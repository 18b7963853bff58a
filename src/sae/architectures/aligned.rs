//! Aligned training ("Aligned Training: A Parameter-Free Method to Improve Feature Quality and Stability of Sparse Autoencoders", arXiv 2605.18629, 2026): TopK whose encoder and decoder rows agree by construction: their product is 1 for every latent.
//!
//! With the trained rows v and d (of unit norm) the encoder reads with w = d + (I - d d^T) v, so that w . d = 1. From dw = d loss / d w:
//! dv = dw - (dw . d) d,  and d gets dw - (dw . d) v - (d . v) dw beside its own gradient.
//! A latent that the data does not reach keeps a direction it could be reached by: few die.

use super::topk::topk_lr;
use super::{Architecture, Init, LatentStep, Select, Selection, Trained};
use crate::kernels::sparse::{axpy, dot};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of aligned training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Aligned {
    /// Latents kept per row.
    pub k: usize,
    /// Whether dead latents are trained on the residual (AuxK).
    pub auxk: bool,
}

impl Default for Aligned {
    fn default() -> Self {
        Aligned { k: 32, auxk: false }
    }
}

impl Architecture for Aligned {
    fn about(&self) -> &'static str {
        "TopK whose encoder and decoder rows have a product of 1 (2026)"
    }

    fn in_words(&self) -> String {
        format!("Aligned TopK (k {}{})", self.k, if self.auxk { ", AuxK" } else { "" })
    }

    fn check(&self, _: usize, d_sae: usize) -> Result<(), String> {
        if (1..=d_sae).contains(&self.k) { Ok(()) } else { Err(format!("k is {}; it must be from 1 to d_sae = {d_sae}", self.k)) }
    }

    fn tune(&self, config: &mut TrainConfig) {
        config.lr = topk_lr(config.sae.d_sae);
        config.eps = 6.25e-10;
    }

    /// v = 0 to begin with: encoder = decoder.
    fn init(&self, _: usize, _: usize) -> Init {
        Init::Tied { norm: 1.0, encoder: 0.0 }
    }

    fn transcodes(&self) -> bool {
        false
    }

    fn selection(&self) -> Selection {
        Selection::TopK { k: self.k }
    }

    fn select(&self, _: &Trained) -> Select {
        Select::TopK { k: self.k }
    }

    fn auxk(&self) -> bool {
        self.auxk
    }

    fn ties_encoder(&self) -> bool {
        true
    }

    fn encoder_row(&self, v: &[f32], d: &[f32], out: &mut [f32]) {
        out.copy_from_slice(v);
        axpy(1.0 - dot(v, d), d, out);
    }

    fn finish_latent(&self, step: &mut LatentStep) {
        let (v, d) = (step.w_enc, step.w_dec);
        let (along, overlap) = (dot(step.d_w_enc, d), dot(v, d));
        axpy(1.0 - overlap, step.d_w_enc, step.d_w_dec);
        axpy(-along, v, step.d_w_dec);
        axpy(-along, d, step.d_w_enc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::cpu::check::*;
    use crate::sae::{CpuEngine, Engine, StepSettings};

    #[test]
    fn gradients_match_finite_differences_through_both_rows() {
        let read = |p: &Tensors| {
            let mut read = p.clone();
            for j in 0..F {
                let row = j * D..(j + 1) * D;
                let overlap: f64 = row.clone().map(|i| p[0][i] * p[2][i]).sum();
                row.for_each(|i| read[0][i] = p[0][i] + (1.0 - overlap) * p[2][i]);
            }
            read
        };
        for dead in [&[][..], &[1, 4, 6]] {
            let settings = StepSettings { lr: 0.0, sparsity: 0.0, dead };
            let checked = gradient_error(&Aligned { k: 2, auxk: !dead.is_empty() }.into(), &settings, 1.1, |p, at| {
                let row = |x: &[f32]| {
                    let (z, z_at) = (pre_acts(&read(p), x, true), pre_acts(&read(at), x, true));
                    let on = largest(&z_at, (0..F).filter(|&j| z_at[j] > 0.0), 2);
                    let acts: Vec<(usize, f64)> = on.iter().map(|&j| (j, z[j])).collect();
                    squared_error(p, x, &acts) + aux_loss((p, &z), (at, &z_at), x, &on, dead)
                };
                rows().chunks_exact(D).map(row).sum::<f64>() / B as f64
            });
            assert!(checked.worst < 5e-5, "{dead:?}: {}", checked.worst);
        }
    }

    #[test]
    fn encoder_and_decoder_rows_have_a_product_of_one_after_many_steps() {
        let (d, f) = (6, 20);
        let recipe = Aligned { k: 3, auxk: false };
        let mut engine = CpuEngine::new(&config(&recipe.clone().into(), d, f), params(&recipe.clone().into(), d, f, true));
        for i in 0..200 {
            engine.step(&random(50 * d, 100 + i % 10), &StepSettings { lr: 1e-2, sparsity: 0.0, dead: &[] });
        }
        let p = engine.read().into_owned().params;
        let mut w = vec![0.0; d];
        for (v, d) in p.w_enc.chunks(d).zip(p.w_dec.chunks(d)) {
            recipe.encoder_row(v, d, &mut w);
            assert!((dot(&w, d) - 1.0).abs() < 1e-5);
        }
        assert_repeatable_at_any_thread_count(&recipe.into(), 1.1, &[]);
    }
}
