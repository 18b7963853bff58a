//! From sparse activations ordered by row to the gradients of one latent after the other.
//!
//! One pass over the latents gathers both weight gradients, lets the architecture have the last word, projects, and takes the norm while the rows are
//! in cache.

use super::auxk::AuxWork;
use super::step::Chunk;
use super::{LATENTS, Params};
use crate::kernels::sparse::{axpy, dot, gather_axpy};
use crate::sae::architectures::{Architecture, LatentStep};
use crate::sae::encode::CHUNK;
use rayon::prelude::*;

/// The active entries of a batch ordered by latent: entries `start[j]..start[j + 1]` are those of latent j, rows ascending.
#[derive(Default)]
pub(super) struct ByLatent {
    pub start: Vec<usize>,
    /// Row of the batch.
    row: Vec<u32>,
    /// Row of the errors, (B, L): row * L + level; empty where L = 1.
    error_row: Vec<u32>,
    act: Vec<f32>,
    d_pre: Vec<f32>,
    /// Slope of the penalty times act, where decoder norms are free.
    pull: Vec<f32>,
    d_vectors: Vec<Vec<f32>>,
}

impl ByLatent {
    /// Counting sort of all entries by latent; rows stay in order.
    pub fn fill(&mut self, chunks: &[Chunk], f: usize, n_levels: usize, n_vectors: usize) {
        let n: usize = chunks.iter().map(|c| c.rows.n_active()).sum();
        self.start.clear();
        self.start.resize(f + 1, 0);
        for &j in chunks.iter().flat_map(|c| &c.rows.latent) {
            self.start[j as usize + 1] += 1;
        }
        for j in 0..f {
            self.start[j + 1] += self.start[j];
        }
        let has_pull = chunks.iter().any(|c| !c.pull.is_empty());
        self.row.resize(n, 0);
        self.error_row.resize(if n_levels > 1 { n } else { 0 }, 0);
        self.act.resize(n, 0.0);
        self.d_pre.resize(n, 0.0);
        self.pull.resize(if has_pull { n } else { 0 }, 0.0);
        self.d_vectors.resize(n_vectors, Vec::new());
        self.d_vectors.iter_mut().for_each(|v| v.resize(n, 0.0));
        // start[j] moves to the end of latent j while it is filled, and is shifted back afterwards.
        for (c, chunk) in chunks.iter().enumerate() {
            for r in 0..chunk.rows.n_rows() {
                let row = (c * CHUNK + r) as u32;
                for p in chunk.rows.row_start[r]..chunk.rows.row_start[r + 1] {
                    let at = &mut self.start[chunk.rows.latent[p] as usize];
                    self.row[*at] = row;
                    self.act[*at] = chunk.rows.act[p];
                    self.d_pre[*at] = chunk.d_pre[p];
                    if n_levels > 1 {
                        self.error_row[*at] = row * n_levels as u32 + chunk.level[p] as u32;
                    }
                    if has_pull {
                        self.pull[*at] = chunk.pull[p];
                    }
                    for (to, from) in self.d_vectors.iter_mut().zip(&chunk.d_vectors) {
                        to[*at] = from[p];
                    }
                    *at += 1;
                }
            }
        }
        self.start.copy_within(0..f, 1);
        self.start[0] = 0;
    }

    /// Rows that each latent fired on; an entry below its threshold, or of a level behind the main one, is no firing.
    pub fn count_fires(&self, fires: &mut [u32], n_levels: usize, main: usize) {
        let counts = |&p: &usize| self.act[p] > 0.0 && self.error_row.get(p).is_none_or(|row| *row as usize % n_levels <= main);
        for (fires, span) in fires.iter_mut().zip(self.start.windows(2)) {
            *fires += (span[0]..span[1]).filter(counts).count() as u32;
        }
    }
}

/// What the pass over the latents reads.
pub(super) struct LatentPass<'a> {
    pub recipe: &'a dyn Architecture,
    pub params: &'a Params,
    /// (F, D): the encoder that was read with.
    pub w_enc: &'a [f32],
    pub by_latent: &'a ByLatent,
    /// (B, L, E): gradients of the reconstructions.
    pub g: &'a [f32],
    /// (B, D): what the encoder saw.
    pub centred: &'a [f32],
    /// (D,): its sum; empty where nobody asks for it.
    pub sum_centred: &'a [f32],
    pub norms: &'a [f32],
    /// Sums over the rows of dense blocks, (F,) each: of d_z, of pull, of the gradients of the vectors.
    pub dense: Option<&'a super::dense::DenseSums>,
    pub aux: Option<&'a AuxWork>,
    pub first: Option<&'a FirstSelection<'a>>,
    /// Whether gradients are to be projected where the recipe does so.
    pub project: bool,
    /// Whether the decoder is trained: what is not belongs to no norm by which the gradient is clipped.
    pub decoder_moves: bool,
}

/// What the selection before a refining step adds to the gradients.
pub(super) struct FirstSelection<'a> {
    /// Its activations a', with the gradients with respect to them as d_pre.
    pub by_latent: &'a ByLatent,
    /// (B, D): the rows that it was made from.
    pub centred: &'a [f32],
    /// (B, D): gradient of u = xc + step (xc - a' w_dec).
    pub d_u: &'a [f32],
    pub step: f32,
}

impl LatentPass<'_> {
    fn d_in(&self) -> usize {
        self.params.w_enc.len() / self.params.b_enc.len()
    }

    /// Fills (or, after dense blocks, adds to) `gradient` but for b_dec; returns the squared norm of what is trained (w_skip is not among it), minus the sum over latents of (sum of d_z) w_enc (D,), and
    /// the architecture's own terms of the loss.
    pub fn run(&self, gradient: &mut Params) -> (f64, Vec<f32>, f64) {
        let (d, e) = (self.d_in(), self.params.b_dec.len());
        let n_vectors = gradient.vectors.len();
        // One row of vectors to a latent, so that blocks of latents can be handed out; copied back below.
        let stride = n_vectors.max(1);
        let mut d_vectors = vec![0.0; gradient.b_enc.len() * stride];
        let parts: Vec<(f64, Vec<f32>, f64)> = (
            gradient.w_enc.par_chunks_mut(LATENTS * d),
            gradient.w_dec.par_chunks_mut(LATENTS * e),
            gradient.b_enc.par_chunks_mut(LATENTS),
            d_vectors.par_chunks_mut(LATENTS * stride),
        )
            .into_par_iter()
            .enumerate()
            .map(|(block, (d_w_enc, d_w_dec, d_b_enc, d_vectors))| self.block(block * LATENTS, d_w_enc, d_w_dec, d_b_enc, d_vectors))
            .collect();
        for (v, vector) in gradient.vectors.iter_mut().enumerate() {
            vector.iter_mut().enumerate().for_each(|(j, out)| *out = d_vectors[j * stride + v]);
        }
        let mut through_bias = vec![0.0; d];
        parts.iter().for_each(|(_, part, _)| axpy(1.0, part, &mut through_bias));
        (parts.iter().map(|p| p.0).sum(), through_bias, parts.iter().map(|p| p.2).sum())
    }

    fn block(&self, first: usize, d_w_enc: &mut [f32], d_w_dec: &mut [f32], d_b_enc: &mut [f32], d_vectors: &mut [f32]) -> (f64, Vec<f32>, f64) {
        let (d, e) = (self.d_in(), self.params.b_dec.len());
        let (stride, n_vectors) = (d_vectors.len() / d_b_enc.len(), self.params.vectors.len());
        let (mut squared, mut loss) = (0.0, 0.0);
        let mut through_bias = vec![0.0; d];
        for (i, d_b) in d_b_enc.iter_mut().enumerate() {
            let (d_enc, d_dec) = (&mut d_w_enc[i * d..][..d], &mut d_w_dec[i * e..][..e]);
            let d_vectors = &mut d_vectors[i * stride..][..n_vectors];
            let sum_d_pre = self.latent(first + i, d_enc, d_dec, d_b, d_vectors, &mut loss);
            if sum_d_pre != 0.0 {
                axpy(-sum_d_pre, &self.w_enc[(first + i) * d..][..d], &mut through_bias);
            }
            squared += dot(d_enc, d_enc) as f64 + (*d_b as f64).powi(2);
            squared += if self.decoder_moves { dot(d_dec, d_dec) as f64 } else { 0.0 };
            squared += d_vectors.iter().map(|&g| (g as f64).powi(2)).sum::<f64>();
        }
        (squared, through_bias, loss)
    }

    /// The gradients of latent j; returns the sum of d_z over the rows.
    fn latent(&self, j: usize, d_enc: &mut [f32], d_dec: &mut [f32], d_b: &mut f32, d_vectors: &mut [f32], loss: &mut f64) -> f32 {
        let (d, e) = (d_enc.len(), d_dec.len());
        let entries = self.by_latent;
        if self.dense.is_none() {
            d_enc.fill(0.0);
            d_dec.fill(0.0);
        }
        let range = entries.start[j]..entries.start[j + 1];
        let (row, act, d_pre) = (&entries.row[range.clone()], &entries.act[range.clone()], &entries.d_pre[range.clone()]);
        let error_row = if entries.error_row.is_empty() { row } else { &entries.error_row[range.clone()] };
        gather_axpy(error_row, act, self.g, d_dec);
        gather_axpy(row, d_pre, self.centred, d_enc);
        *d_b = self.dense.map_or(0.0, |sums| sums.d_pre[j]) + d_pre.iter().sum::<f32>();
        let mut sum_d_pre = *d_b;
        if let Some(aux) = self.aux {
            aux.add(j, d_enc, d_dec, d_b);
            sum_d_pre = *d_b;
        }
        if let Some(&FirstSelection { by_latent, centred, d_u, step }) = self.first {
            let range = by_latent.start[j]..by_latent.start[j + 1];
            let (row, act, d_pre) = (&by_latent.row[range.clone()], &by_latent.act[range.clone()], &by_latent.d_pre[range]);
            let coefficients: Vec<f32> = act.iter().map(|a| -step * a).collect();
            gather_axpy(row, &coefficients, d_u, d_dec);
            gather_axpy(row, d_pre, centred, d_enc);
            let sum = d_pre.iter().sum::<f32>();
            *d_b += sum;
            // b_dec is in u 1 + step times, and in the rows of this selection once.
            sum_d_pre += sum / (1.0 + step);
        }
        let w_dec = &self.params.w_dec[j * e..][..e];
        if !entries.pull.is_empty() || self.dense.is_some_and(|sums| !sums.pull.is_empty()) {
            let sparse = entries.pull.get(range.clone()).map_or(0.0, |pull| pull.iter().sum::<f32>());
            let pull = sparse + self.dense.and_then(|sums| sums.pull.get(j).copied()).unwrap_or(0.0);
            if self.norms[j] > 0.0 {
                axpy(pull / self.norms[j], w_dec, d_dec);
            }
        }
        for (v, out) in d_vectors.iter_mut().enumerate() {
            *out = entries.d_vectors[v][range.clone()].iter().sum::<f32>() + self.dense.map_or(0.0, |sums| sums.d_vectors[v][j]);
        }
        self.recipe.finish_latent(&mut LatentStep {
            latent: j,
            w_enc: &self.params.w_enc[j * d..][..d],
            w_dec,
            b_enc: self.params.b_enc[j],
            vectors: &self.params.vectors,
            d_w_enc: d_enc,
            d_w_dec: d_dec,
            d_b_enc: d_b,
            d_vectors,
            norm: self.norms[j],
            sum_d_pre: &mut sum_d_pre,
            loss,
            sum_centred: self.sum_centred,
            batch: self.centred.len() / d,
        });
        if self.project && self.recipe.unit_decoder() {
            axpy(-dot(d_dec, w_dec) / dot(w_dec, w_dec).max(f32::MIN_POSITIVE), w_dec, d_dec);
        }
        sum_d_pre
    }
}
