//! Rows -> active latents -> rows again: what training, evaluation and every later stage share.
//!
//! B = rows, D = d_in, F = d_sae. z = (x - b_dec) w_enc + b_enc (b_dec only where the architecture has it), acts = select(z),
//! x_hat = acts w_dec + b_dec. The encoder product is a dense product over a block of rows; after it everything is sparse.

use super::{Select, SparseRows};
use crate::kernels::gemm::{matmul_nn, matmul_nt};
use crate::kernels::select::{self, SelectScratch};
use crate::kernels::sparse::gather_axpy;
use rayon::prelude::*;

/// Rows that one thread selects and decodes at a time. Fixed, so that sums do not depend on the number of threads.
pub(super) const CHUNK: usize = 64;

/// Pre-activations held at once: 16M, 64 MiB. Smaller blocks would have the product repack the encoder more often.
const BLOCK_ELEMENTS: usize = 1 << 24;

/// Rows whose pre-activations are held at once.
pub(super) fn block_rows(d_sae: usize) -> usize {
    (BLOCK_ELEMENTS / d_sae.max(1) / CHUNK * CHUNK).max(CHUNK)
}

/// The encoder's weights, borrowed. Shapes: w_enc (F, D), b_enc (F,), pre_bias (D,).
#[derive(Clone, Copy)]
pub(super) struct EncoderView<'a> {
    pub w_enc: &'a [f32],
    pub b_enc: &'a [f32],
    /// What is subtracted from the input first.
    pub pre_bias: Option<&'a [f32]>,
    pub select: &'a Select,
}

/// Buffers of [`encode`], kept between calls.
#[derive(Debug, Default)]
pub(super) struct EncodeScratch {
    centred: Vec<f32>,
    pre: Vec<f32>,
    parts: Vec<SparseRows>,
}

/// Encodes x (B, D) into `out`, latents ascending in each row.
pub(super) fn encode(view: EncoderView, x: &[f32], scratch: &mut EncodeScratch, out: &mut SparseRows) {
    let f = view.b_enc.len();
    let d = view.w_enc.len() / f;
    assert_eq!(x.len() % d, 0, "{} elements are not rows of width {d}", x.len());
    out.clear();
    for x in x.chunks(block_rows(f) * d) {
        let n = x.len() / d;
        let x = match view.pre_bias {
            Some(bias) => subtract(x, bias, &mut scratch.centred),
            None => x,
        };
        grow(&mut scratch.pre, n * f);
        let pre = &mut scratch.pre[..n * f];
        matmul_nt(n, f, d, x, view.w_enc, pre, false);
        let n_parts = n.div_ceil(CHUNK);
        if scratch.parts.len() < n_parts {
            scratch.parts.resize(n_parts, SparseRows::default());
        }
        (pre.par_chunks(CHUNK * f), scratch.parts[..n_parts].par_iter_mut())
            .into_par_iter()
            .for_each_init(SelectScratch::default, |scratch, (pre, part)| select_rows(view, pre, scratch, part));
        for part in &scratch.parts[..n_parts] {
            out.append(part);
        }
    }
}

/// Selects the active latents of rows of pre-activations (n, F), biases not yet added.
pub(super) fn select_rows(view: EncoderView, pre: &[f32], scratch: &mut SelectScratch, out: &mut SparseRows) {
    out.clear();
    for pre in pre.chunks_exact(view.b_enc.len()) {
        let SparseRows { latent, act, .. } = out;
        match view.select {
            Select::Relu => select::above(pre, view.b_enc, None, scratch, latent, act),
            Select::TopK { k } => select::topk(pre, view.b_enc, *k, scratch, latent, act),
            Select::JumpRelu { threshold } => select::above(pre, view.b_enc, Some(threshold), scratch, latent, act),
        }
        out.row_start.push(out.latent.len());
    }
}

/// x_hat (B, D) = b_dec + sum over active latents of act * w_dec[latent].
///
/// Same result as the dense product `acts @ w_dec + b_dec`; [`decode_dense`] is the oracle.
pub(super) fn decode(rows: &SparseRows, w_dec: &[f32], b_dec: &[f32], x_hat: &mut [f32]) {
    let d = b_dec.len();
    assert_eq!(x_hat.len(), rows.n_rows() * d, "x_hat has {} elements for {} rows of width {d}", x_hat.len(), rows.n_rows());
    x_hat.par_chunks_mut(CHUNK * d).enumerate().for_each(|(chunk, x_hat)| {
        for (r, x_hat) in x_hat.chunks_exact_mut(d).enumerate() {
            let (latent, act) = rows.row(chunk * CHUNK + r);
            x_hat.copy_from_slice(b_dec);
            gather_axpy(latent, act, w_dec, x_hat);
        }
    });
}

/// The oracle of [`encode`]: all activations (B, F), zero where a latent is not active.
pub(super) fn encode_dense(view: EncoderView, x: &[f32]) -> Vec<f32> {
    let f = view.b_enc.len();
    let d = view.w_enc.len() / f;
    let mut acts = vec![0.0; x.len() / d * f];
    for (x, acts) in x.chunks_exact(d).zip(acts.chunks_exact_mut(f)) {
        let z: Vec<f32> = (0..f)
            .map(|j| {
                let product: f64 = (0..d).map(|i| (x[i] - view.pre_bias.map_or(0.0, |b| b[i])) as f64 * view.w_enc[j * d + i] as f64).sum();
                product as f32
            })
            .collect();
        match view.select {
            Select::TopK { k } => {
                let (latent, act) = select::topk_naive(&z, view.b_enc, *k);
                for (j, a) in latent.into_iter().zip(act) {
                    acts[j as usize] = a;
                }
            }
            Select::Relu => (0..f).for_each(|j| acts[j] = (z[j] + view.b_enc[j]).max(0.0)),
            Select::JumpRelu { threshold } => (0..f).for_each(|j| {
                let z = z[j] + view.b_enc[j];
                acts[j] = if z > threshold[j].max(0.0) { z } else { 0.0 };
            }),
        }
    }
    acts
}

/// The oracle of [`decode`]: acts (B, F) as a dense product.
pub(super) fn decode_dense(acts: &[f32], w_dec: &[f32], b_dec: &[f32]) -> Vec<f32> {
    let d = b_dec.len();
    let f = w_dec.len() / d;
    let n = acts.len() / f;
    let mut x_hat: Vec<f32> = b_dec.iter().copied().cycle().take(n * d).collect();
    matmul_nn(n, d, f, acts, w_dec, &mut x_hat, true);
    x_hat
}

/// x - bias in a kept buffer. Shapes: x (n, D), bias (D,).
pub(super) fn subtract<'a>(x: &[f32], bias: &[f32], out: &'a mut Vec<f32>) -> &'a mut [f32] {
    let d = bias.len();
    grow(out, x.len());
    let out = &mut out[..x.len()];
    (out.par_chunks_mut(CHUNK * d), x.par_chunks(CHUNK * d)).into_par_iter().for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            for ((out, x), bias) in out.iter_mut().zip(x).zip(bias) {
                *out = x - bias;
            }
        }
    });
    out
}

/// Makes a kept buffer at least `n` long.
pub(super) fn grow(buffer: &mut Vec<f32>, n: usize) {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
}
