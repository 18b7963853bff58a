//! Causal multi-head attention inside windows, forward and backward.
//!
//! W windows of L tokens, H heads of width E; D = H E. Rows are tokens, windows one after another. For one head of one window:
//! p = softmax_j<=i(q_i . k_j / sqrt(E)),  z_i = sum_j p_ij v_j                              (Vaswani et al. 2017, eq. 1)
//!
//! Heads of windows are the tasks. Inside one, 64 queries at a time meet only the keys up to the last of them, so that about a third of the
//! square above the diagonal is never computed. Probabilities are not kept: the backward pass makes them again from the log of their sum.

use super::gemm::{Strided, product_strided};
use super::simd::{self, Shared, dispatch};
use rayon::prelude::*;

/// Queries that meet their keys in one product.
const QUERIES: usize = 64;

/// Sizes of one call.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    pub n_windows: usize,
    /// Tokens of a window.
    pub window: usize,
    pub n_heads: usize,
    pub d_head: usize,
}

impl AttentionShape {
    fn d_model(&self) -> usize {
        self.n_heads * self.d_head
    }

    fn tokens(&self) -> usize {
        self.n_windows * self.window
    }

    fn check(&self, qkv: usize, z: usize, lse: usize) {
        let want = (self.tokens() * 3 * self.d_model(), self.tokens() * self.d_model(), self.tokens() * self.n_heads);
        assert_eq!((qkv, z, lse), want, "attention of {self:?}: elements of qkv, z, lse");
    }

    /// 1 / sqrt(E)
    fn scale(&self) -> f32 {
        1.0 / (self.d_head as f32).sqrt()
    }

    /// Where (window, head) `task` begins in qkv and in z.
    fn offsets(&self, task: usize) -> (usize, usize) {
        let (w, h) = (task / self.n_heads, task % self.n_heads);
        (w * self.window * 3 * self.d_model() + h * self.d_head, w * self.window * self.d_model() + h * self.d_head)
    }
}

/// Shapes: qkv (W L, 3 D) = queries, keys, values side by side; z (W L, D); lse (W, H, L) = log of the sum of the exponentials of each query, for the backward pass.
pub fn attention_forward(shape: AttentionShape, qkv: &[f32], z: &mut [f32], lse: &mut [f32]) {
    shape.check(qkv.len(), z.len(), lse.len());
    let AttentionShape { window, d_head, .. } = shape;
    let d = shape.d_model();
    let z_all = Shared(z.as_mut_ptr());
    lse.par_chunks_mut(window).enumerate().for_each_init(
        || vec![0.0; QUERIES * window],
        |scores, (task, lse)| {
            let (qkv_at, z_at) = shape.offsets(task);
            for from in (0..window).step_by(QUERIES) {
                let n = QUERIES.min(window - from);
                let keys = from + n;
                let scores = &mut scores[..n * keys];
                let p = scores.as_mut_ptr();
                // SAFETY: rows from..from+n and 0..keys are inside this window, columns inside this head; only this task writes this head's columns of z.
                unsafe {
                    let q = qkv.as_ptr().add(qkv_at + from * 3 * d);
                    let (k, v) = (qkv.as_ptr().add(qkv_at + d), qkv.as_ptr().add(qkv_at + 2 * d));
                    product_strided(n, keys, d_head, Strided(q, 3 * d, 1), Strided(k, 1, 3 * d), p, keys, false, shape.scale());
                    causal_softmax(scores, keys, from, &mut lse[from..from + n]);
                    let p = scores.as_ptr();
                    product_strided(n, d_head, keys, Strided(p, keys, 1), Strided(v, 3 * d, 1), z_all.get().add(z_at + from * d), d, false, 1.0);
                }
            }
        },
    );
}

dispatch! {
    /// scores (n, keys): row i keeps columns 0..=first + i, becomes their softmax, and the rest 0.
    fn causal_softmax(scores: &mut [f32], keys: usize, first: usize, lse: &mut [f32]) {
        for (i, (row, lse)) in scores.chunks_exact_mut(keys).zip(lse).enumerate() {
            let (seen, hidden) = row.split_at_mut(first + i + 1);
            let max = simd::max(seen);
            let sum = simd::exp_in_place(seen, 1.0, max);
            let inverse = 1.0 / sum;
            for p in seen {
                *p *= inverse;
            }
            hidden.fill(0.0);
            *lse = max + sum.ln();
        }
    }
}

/// Writes d_qkv (W L, 3 D) from d_z (W L, D) and what the forward pass read and wrote.
///
/// dV = P^T dZ;  dS = P * (dZ V^T - rowsum(dZ * Z)) / sqrt(E);  dQ = dS K;  dK = dS^T Q                 (Dao et al. 2022, section 3.2)
pub fn attention_backward(shape: AttentionShape, qkv: &[f32], z: &[f32], lse: &[f32], d_z: &[f32], d_qkv: &mut [f32]) {
    shape.check(qkv.len(), z.len(), lse.len());
    shape.check(d_qkv.len(), d_z.len(), lse.len());
    let AttentionShape { window, d_head, .. } = shape;
    let d = shape.d_model();
    let d_all = Shared(d_qkv.as_mut_ptr());
    lse.par_chunks(window).enumerate().for_each_init(
        || vec![0.0; 2 * QUERIES * window],
        |scratch, (task, lse)| {
            let (qkv_at, z_at) = shape.offsets(task);
            let (probabilities, d_scores) = scratch.split_at_mut(QUERIES * window);
            // The last queries first: they meet every key, so their products write dK and dV and the others add.
            let blocks = window.div_ceil(QUERIES);
            for block in (0..blocks).rev() {
                let from = block * QUERIES;
                let n = QUERIES.min(window - from);
                let keys = from + n;
                let add = block + 1 < blocks;
                let (probabilities, d_scores) = (&mut probabilities[..n * keys], &mut d_scores[..n * keys]);
                // SAFETY: as in the forward pass; only this task writes this head's columns of d_qkv.
                unsafe {
                    let q = Strided(qkv.as_ptr().add(qkv_at + from * 3 * d), 3 * d, 1);
                    let (k, v) = (qkv.as_ptr().add(qkv_at + d), qkv.as_ptr().add(qkv_at + 2 * d));
                    let dz = d_z.as_ptr().add(z_at + from * d);
                    let (dq, dk, dv) = (d_all.get().add(qkv_at + from * 3 * d), d_all.get().add(qkv_at + d), d_all.get().add(qkv_at + 2 * d));
                    let (p, ds) = (probabilities.as_mut_ptr(), d_scores.as_mut_ptr());
                    product_strided(n, keys, d_head, q, Strided(k, 1, 3 * d), p, keys, false, shape.scale());
                    product_strided(n, keys, d_head, Strided(dz, d, 1), Strided(v, 1, 3 * d), ds, keys, false, 1.0);
                    let last = (n - 1) * d + d_head;
                    softmax_backward(
                        probabilities,
                        d_scores,
                        keys,
                        from,
                        &lse[from..from + n],
                        &z[z_at + from * d..][..last],
                        &d_z[z_at + from * d..][..last],
                        d,
                        d_head,
                        shape.scale(),
                    );
                    let (p, ds) = (probabilities.as_ptr(), d_scores.as_ptr());
                    product_strided(n, d_head, keys, Strided(ds, keys, 1), Strided(k, 3 * d, 1), dq, 3 * d, false, 1.0);
                    product_strided(keys, d_head, n, Strided(ds, 1, keys), q, dk, 3 * d, add, 1.0);
                    product_strided(keys, d_head, n, Strided(p, 1, keys), Strided(dz, d, 1), dv, 3 * d, add, 1.0);
                }
            }
        },
    );
}

dispatch! {
    /// p holds scaled scores and becomes probabilities; ds holds dZ V^T and becomes the gradient of the scores before scaling. Hidden keys become 0 in both.
    #[allow(clippy::too_many_arguments)]
    fn softmax_backward(p: &mut [f32], ds: &mut [f32], keys: usize, first: usize, lse: &[f32], z: &[f32], d_z: &[f32], stride: usize, d_head: usize, scale: f32) {
        for (i, ((p, ds), lse)) in p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys)).zip(lse).enumerate() {
            let at = i * stride;
            let mean = simd::dot(&z[at..at + d_head], &d_z[at..at + d_head]);
            let seen = first + i + 1;
            for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
                *p = simd::exp(*p - lse);
                *ds = *p * (*ds - mean) * scale;
            }
            p[seen..].fill(0.0);
            ds[seen..].fill(0.0);
        }
    }
}

/// The naive twin, in f64: z of shape (W L, D).
pub fn attention_naive(shape: AttentionShape, qkv: &[f32]) -> Vec<f64> {
    let AttentionShape { window, n_heads, d_head, .. } = shape;
    let d = shape.d_model();
    let mut z = vec![0.0; shape.tokens() * d];
    for t in 0..shape.tokens() {
        let start = t / window * window;
        for h in 0..n_heads {
            let at = |token: usize, part: usize, e: usize| qkv[token * 3 * d + part * d + h * d_head + e] as f64;
            let weight: Vec<f64> =
                (start..=t).map(|s| ((0..d_head).map(|e| at(t, 0, e) * at(s, 1, e)).sum::<f64>() / (d_head as f64).sqrt()).exp()).collect();
            let total: f64 = weight.iter().sum();
            for e in 0..d_head {
                z[t * d + h * d_head + e] = (start..=t).zip(&weight).map(|(s, w)| w / total * at(s, 2, e)).sum();
            }
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{at_threads, bits, gradient_error, random};

    fn forward(shape: AttentionShape, qkv: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (mut z, mut lse) = (vec![9.0; shape.tokens() * shape.d_model()], vec![0.0; shape.tokens() * shape.n_heads]);
        attention_forward(shape, qkv, &mut z, &mut lse);
        (z, lse)
    }

    #[test]
    fn attention_equals_the_naive_twin_below_and_above_one_block_of_queries() {
        for window in [1, 5, 64, 150] {
            let shape = AttentionShape { n_windows: 2, window, n_heads: 3, d_head: 7 };
            let qkv: Vec<f32> = random(shape.tokens() * 3 * shape.d_model(), window as u64).iter().map(|x| 3.0 * x).collect();
            let (z, _) = forward(shape, &qkv);
            assert!(z.iter().zip(attention_naive(shape, &qkv)).all(|(a, b)| (*a as f64 - b).abs() < 3e-6));
        }
    }

    #[test]
    fn attention_gradients_match_finite_differences() {
        for (window, n_heads, d_head) in [(5, 2, 3), (67, 1, 2)] {
            let shape = AttentionShape { n_windows: 2, window, n_heads, d_head };
            let qkv: Vec<f32> = random(shape.tokens() * 3 * shape.d_model(), 30).iter().map(|x| 2.0 * x).collect();
            let d_z = random(shape.tokens() * shape.d_model(), 31);
            let (z, lse) = forward(shape, &qkv);
            let mut d_qkv = vec![9.0; qkv.len()];
            attention_backward(shape, &qkv, &z, &lse, &d_z, &mut d_qkv);
            let error = gradient_error(&qkv, &d_qkv, |x| attention_naive(shape, x).iter().zip(&d_z).map(|(z, d)| z * *d as f64).sum());
            assert!(error < 1e-4, "{error}");
        }
    }

    #[test]
    fn a_token_sees_neither_later_tokens_nor_other_windows() {
        let shape = AttentionShape { n_windows: 2, window: 6, n_heads: 2, d_head: 4 };
        let mut qkv = random(shape.tokens() * 24, 32);
        let (before, _) = forward(shape, &qkv);
        qkv[8 * 24..9 * 24].fill(5.0);
        let (after, _) = forward(shape, &qkv);
        assert_eq!(before[..8 * 8], after[..8 * 8]);
        assert!((8..12).all(|t| before[t * 8..][..8] != after[t * 8..][..8]));
    }

    #[test]
    fn attention_is_bitwise_repeatable_at_any_thread_count() {
        let shape = AttentionShape { n_windows: 3, window: 70, n_heads: 2, d_head: 5 };
        let (qkv, d_z) = (random(shape.tokens() * 30, 33), random(shape.tokens() * 10, 34));
        let run = |threads| {
            at_threads(threads, || {
                let (z, lse) = forward(shape, &qkv);
                let mut d_qkv = vec![0.0; qkv.len()];
                attention_backward(shape, &qkv, &z, &lse, &d_z, &mut d_qkv);
                bits(&[z, lse, d_qkv])
            })
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(3));
    }
}
