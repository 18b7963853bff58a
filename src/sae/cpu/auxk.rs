//! AuxK: dead latents reconstruct what the live ones left over (Gao et al. 2024, section 2.4), so that they come back to life.
//!
//! B = rows, D = d_in, E = d_out (= D but for transcoders), N = dead latents. z = xc w_enc[dead]^T + b_enc[dead]; the k_aux = min(E/2, N) largest raw z of a row are kept, negative
//! ones too (a deviation: the code of the paper rectifies them, and could never revive a latent that is negative everywhere); x_aux = kept w_dec[dead], without b_dec.
//! aux = min(N / (E/2), 1) * mean over rows of |x_aux - (x - x_hat)|^2, with x_hat held fixed. Nested reconstructions may have one for each level, with its x_hat and the
//! dead latents that it adds (as SAELens has it for Matryoshka).
//!
//! The coefficient is 1. Published are 1 (SAELens) and 1/32 of an error divided by the residual's variance (Gao). 1/32 of the error itself, less than either, is too weak:
//! Adam's second moments remember a latent's last firings for thousands of steps, and latents die faster than they come back (LOG.md). When it begins: [`AUXK_FROM`](crate::sae::config::AUXK_FROM).
//!
//! k_aux of the N dead latents are kept per row, all of them while they are few: products over the N are dense.

use super::Params;
use crate::kernels::gemm::{matmul_nn, matmul_nt, matmul_tn};
use crate::kernels::sparse::{axpy, error_row};
use crate::sae::encode::{CHUNK, block_rows, grow};
use rayon::prelude::*;
use std::ops::Range;

/// What one auxiliary loss reads.
pub(super) struct AuxK<'a> {
    /// Which of the dead latents, by their places among them.
    pub part: Range<usize>,
    /// (B, D): what the encoder saw.
    pub centred: &'a [f32],
    /// (B, E): 2 weight (x_hat - x) / B.
    pub g: &'a [f32],
    pub weight: f64,
    pub batch: usize,
}

/// Buffers, and the gradients of the dead latents after [`AuxWork::begin`] and [`AuxWork::run`] for all of them.
#[derive(Default)]
pub(super) struct AuxWork {
    /// (F,): place of a latent among the dead, u32::MAX for the others.
    slot: Vec<u32>,
    d: usize,
    e: usize,
    /// (N, D)
    w_enc: Vec<f32>,
    d_w_enc: Vec<f32>,
    /// (N, E)
    w_dec: Vec<f32>,
    d_w_dec: Vec<f32>,
    /// (N,)
    b_enc: Vec<f32>,
    d_b_enc: Vec<f32>,
    /// (n, N) of the rows of a block.
    acts: Vec<f32>,
    d_acts: Vec<f32>,
    /// (n, E): the gradient of x_aux, and what is left over.
    g: Vec<f32>,
    residual: Vec<f32>,
}

impl AuxWork {
    /// Gathers the weights of the dead latents, which ascend; `w_enc` (F, D) is the encoder that is read with.
    pub fn begin(&mut self, params: &Params, w_enc: &[f32], dead: &[u32]) {
        let (f, e, n_dead) = (params.b_enc.len(), params.b_dec.len(), dead.len());
        let d = w_enc.len() / f;
        (self.d, self.e) = (d, e);
        self.slot.clear();
        self.slot.resize(f, u32::MAX);
        self.w_enc.clear();
        self.w_dec.clear();
        for (slot, &j) in dead.iter().enumerate() {
            self.slot[j as usize] = slot as u32;
            self.w_enc.extend_from_slice(&w_enc[j as usize * d..][..d]);
            self.w_dec.extend_from_slice(&params.w_dec[j as usize * e..][..e]);
        }
        self.b_enc.clear();
        self.b_enc.extend(dead.iter().map(|&j| params.b_enc[j as usize]));
        self.d_w_enc.resize(n_dead * d, 0.0);
        self.d_w_dec.resize(n_dead * e, 0.0);
        self.d_b_enc.clear();
        self.d_b_enc.resize(n_dead, 0.0);
    }

    /// Computes the loss of a part of the dead latents, returned with its weight, and their gradients.
    pub fn run(&mut self, input: AuxK) -> f64 {
        let AuxK { part, centred, g, weight: main_weight, batch } = input;
        let (d, e, n_dead) = (self.d, self.e, part.len());
        let (of_rows, of_targets) = (part.start * d..part.end * d, part.start * e..part.end * e);
        let (w_enc, w_dec, bias) = (&self.w_enc[of_rows.clone()], &self.w_dec[of_targets.clone()], &self.b_enc[part.clone()]);
        let half = (e / 2).max(1);
        let k_aux = half.min(n_dead);
        let weight = (n_dead as f64 / half as f64).min(1.0);
        let rows = block_rows(n_dead);
        let to_residual = -(batch as f32) / (2.0 * main_weight as f32);
        let scale = (2.0 * weight / batch as f64) as f32;
        let mut squared_error = 0.0;
        for (block, (centred, g_main)) in centred.chunks(rows * d).zip(g.chunks(rows * e)).enumerate() {
            let n = centred.len() / d;
            for buffer in [&mut self.acts, &mut self.d_acts] {
                grow(buffer, n * n_dead);
            }
            for buffer in [&mut self.g, &mut self.residual] {
                grow(buffer, n * e);
            }
            let (acts, d_acts) = (&mut self.acts[..n * n_dead], &mut self.d_acts[..n * n_dead]);
            let (g, residual) = (&mut self.g[..n * e], &mut self.residual[..n * e]);
            matmul_nt(n, n_dead, d, centred, w_enc, acts, false);
            acts.par_chunks_mut(CHUNK * n_dead).for_each_init(Vec::new, |keys, acts| {
                acts.chunks_exact_mut(n_dead).for_each(|acts| keep_largest(acts, bias, k_aux, keys));
            });
            matmul_nn(n, e, n_dead, acts, w_dec, g, false);
            let errors: Vec<f64> = (g.par_chunks_mut(CHUNK * e), residual.par_chunks_mut(CHUNK * e), g_main.par_chunks(CHUNK * e))
                .into_par_iter()
                .map(|(g, residual, g_main)| {
                    residual.iter_mut().zip(g_main).for_each(|(r, g)| *r = g * to_residual);
                    g.chunks_exact_mut(e).zip(residual.chunks_exact(e)).map(|(g, residual)| error_row(residual, scale, g)).sum::<f64>()
                })
                .collect();
            squared_error += errors.iter().sum::<f64>();
            matmul_nt(n, n_dead, e, g, w_dec, d_acts, false);
            let sums: Vec<Vec<f32>> = (d_acts.par_chunks_mut(CHUNK * n_dead), acts.par_chunks(CHUNK * n_dead))
                .into_par_iter()
                .map(|(d_acts, acts)| {
                    let mut sum = vec![0.0; n_dead];
                    for (d_acts, acts) in d_acts.chunks_exact_mut(n_dead).zip(acts.chunks_exact(n_dead)) {
                        for ((d, &a), s) in d_acts.iter_mut().zip(acts).zip(&mut sum) {
                            *d = if a != 0.0 { *d } else { 0.0 };
                            *s += *d;
                        }
                    }
                    sum
                })
                .collect();
            sums.iter().for_each(|sum| axpy(1.0, sum, &mut self.d_b_enc[part.clone()]));
            matmul_tn(n_dead, e, n, acts, g, &mut self.d_w_dec[of_targets.clone()], block > 0);
            matmul_tn(n_dead, d, n, d_acts, centred, &mut self.d_w_enc[of_rows.clone()], block > 0);
        }
        weight * squared_error / batch as f64
    }

    /// Adds the gradients of latent j, if it is one of the dead.
    pub fn add(&self, j: usize, d_w_enc: &mut [f32], d_w_dec: &mut [f32], d_b_enc: &mut f32) {
        let slot = self.slot[j];
        if slot != u32::MAX {
            let (slot, d, e) = (slot as usize, d_w_enc.len(), d_w_dec.len());
            axpy(1.0, &self.d_w_enc[slot * d..][..d], d_w_enc);
            axpy(1.0, &self.d_w_dec[slot * e..][..e], d_w_dec);
            *d_b_enc += self.d_b_enc[slot];
        }
    }
}

/// Adds the bias and keeps the k largest values of a row, ties to the lower place; the others become zero.
fn keep_largest(row: &mut [f32], bias: &[f32], k: usize, keys: &mut Vec<u64>) {
    for (value, bias) in row.iter_mut().zip(bias) {
        *value += bias;
        // Zero means "not kept" below; a kept zero becomes the smallest number instead.
        if *value == 0.0 {
            *value = f32::MIN_POSITIVE;
        }
    }
    if row.len() <= k {
        return;
    }
    keys.clear();
    keys.extend(row.iter().enumerate().map(|(i, v)| (ordered(*v) as u64) << 32 | !(i as u32) as u64));
    let n_dropped = keys.len() - k;
    keys.select_nth_unstable(n_dropped);
    for &key in &keys[..n_dropped] {
        row[!(key as u32) as usize] = 0.0;
    }
}

/// Bits whose order as integers is the order of the floats, negative ones included.
fn ordered(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_raw_values_are_kept_negative_ones_included() {
        let mut row = [-3.0, -1.0, -2.0, -1.0, -5.0];
        keep_largest(&mut row, &[0.0; 5], 2, &mut vec![]);
        assert_eq!(row, [0.0, -1.0, 0.0, -1.0, 0.0]);
        let mut row = [2.0, 1.0, 2.0, 2.0];
        keep_largest(&mut row, &[0.0; 4], 2, &mut vec![]);
        assert_eq!(row, [2.0, 0.0, 2.0, 0.0]);
    }
}
