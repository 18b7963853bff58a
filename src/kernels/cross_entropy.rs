//! Softmax cross-entropy fused with the unembedding: the (tokens, vocabulary) matrix never exists, only a block of its rows.
//!
//! N = tokens, D = d_model, V = d_vocab. logits = x w^T;  nll_i = log sum_v e^logits_iv - logits_i,target_i;
//! d_logits = (softmax(logits) - onehot(target)) * scale;  d_x = d_logits w;  d_w = d_logits^T x.

use super::gemm::{matmul_nn, matmul_nt, matmul_tn};
use super::simd::{self, dispatch};
use rayon::prelude::*;

/// Rows whose logits exist at once: 32 MiB of them, but enough rows that the products stay efficient. A function of the shape only.
pub fn block_rows(d_vocab: usize) -> usize {
    ((8 << 20) / d_vocab / 64 * 64).clamp(256, 1024)
}

/// Loss only. Shapes: x (N, D), w (V, D), targets and nll (N,). `logits` is scratch that is grown once and reused.
pub fn cross_entropy_forward(x: &[f32], w: &[f32], targets: &[u32], nll: &mut [f32], logits: &mut Vec<f32>) {
    let (n, d, v) = shape(x, w, targets, nll);
    for from in (0..n).step_by(block_rows(v)) {
        let rows = from..n.min(from + block_rows(v));
        let block = scratch(logits, rows.len() * v);
        matmul_nt(rows.len(), v, d, &x[rows.start * d..rows.end * d], w, block, false);
        block
            .par_chunks_mut(v)
            .zip(&targets[rows.clone()])
            .zip(&mut nll[rows])
            .for_each(|((row, &target), nll)| *nll = row_loss(row, target as usize));
    }
}

/// Loss and gradients in one sweep. d_x (N, D) is written; d_w (V, D) is written, or added to with `accumulate`. `scale` is 1 / (tokens the loss is averaged over).
#[allow(clippy::too_many_arguments)]
pub fn cross_entropy_backward(
    x: &[f32],
    w: &[f32],
    targets: &[u32],
    scale: f32,
    nll: &mut [f32],
    d_x: &mut [f32],
    d_w: &mut [f32],
    accumulate: bool,
    logits: &mut Vec<f32>,
) {
    let (n, d, v) = shape(x, w, targets, nll);
    assert!(d_x.len() == x.len() && d_w.len() == w.len(), "gradients of {} and {} elements for {} and {}", d_x.len(), d_w.len(), x.len(), w.len());
    for from in (0..n).step_by(block_rows(v)) {
        let rows = from..n.min(from + block_rows(v));
        let x = &x[rows.start * d..rows.end * d];
        let block = scratch(logits, rows.len() * v);
        matmul_nt(rows.len(), v, d, x, w, block, false);
        block
            .par_chunks_mut(v)
            .zip(&targets[rows.clone()])
            .zip(&mut nll[rows.clone()])
            .for_each(|((row, &target), nll)| *nll = row_gradient(row, target as usize, scale));
        matmul_nn(rows.len(), d, v, block, w, &mut d_x[rows.start * d..rows.end * d], false);
        matmul_tn(v, d, rows.len(), block, x, d_w, accumulate || from > 0);
    }
}

/// N, D, V after checking them.
fn shape(x: &[f32], w: &[f32], targets: &[u32], nll: &[f32]) -> (usize, usize, usize) {
    let n = targets.len();
    assert!(n > 0 && x.len().is_multiple_of(n) && nll.len() == n, "{} elements, {n} targets, {} losses", x.len(), nll.len());
    let d = x.len() / n;
    assert!(d > 0 && w.len().is_multiple_of(d), "unembedding of {} elements for width {d}", w.len());
    let v = w.len() / d;
    assert!(targets.iter().all(|&t| (t as usize) < v), "a target is outside the vocabulary of {v}");
    (n, d, v)
}

fn scratch(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

dispatch! {
    /// Logits of one row become exponentials; returns its loss.
    fn row_loss(row: &mut [f32], target: usize) -> f32 {
        let logit = row[target];
        let max = simd::max(row);
        simd::exp_in_place(row, 1.0, max).ln() + max - logit
    }
}

dispatch! {
    /// Logits of one row become their gradient; returns its loss.
    fn row_gradient(row: &mut [f32], target: usize, scale: f32) -> f32 {
        let logit = row[target];
        let max = simd::max(row);
        let sum = simd::exp_in_place(row, 1.0, max);
        let factor = scale / sum;
        for p in row.iter_mut() {
            *p *= factor;
        }
        row[target] -= scale;
        sum.ln() + max - logit
    }
}

/// The naive twin: mean loss in f64.
pub fn cross_entropy_naive(x: &[f32], w: &[f32], targets: &[u32]) -> f64 {
    let d = x.len() / targets.len();
    let loss = |(x, &target): (&[f32], &u32)| {
        let logits: Vec<f64> = w.chunks_exact(d).map(|w| w.iter().zip(x).map(|(w, x)| *w as f64 * *x as f64).sum()).collect();
        logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[target as usize]
    };
    x.chunks_exact(d).zip(targets).map(loss).sum::<f64>() / targets.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{at_threads, bits, gradient_error, random};

    const D: usize = 5;
    const V: usize = 37;

    fn inputs(n: usize) -> (Vec<f32>, Vec<f32>, Vec<u32>) {
        let w = random(V * D, 41).iter().map(|x| 2.0 * x).collect();
        (random(n * D, 40), w, (0..n).map(|i| (i * 7 % V) as u32).collect())
    }

    fn backward(x: &[f32], w: &[f32], targets: &[u32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (mut nll, mut d_x, mut d_w) = (vec![0.0; targets.len()], vec![9.0; x.len()], vec![9.0; w.len()]);
        cross_entropy_backward(x, w, targets, 1.0 / targets.len() as f32, &mut nll, &mut d_x, &mut d_w, false, &mut Vec::new());
        (nll, d_x, d_w)
    }

    #[test]
    fn both_sweeps_equal_the_naive_twin_over_several_blocks() {
        let (x, w, targets) = inputs(block_rows(V) + 3);
        let mut nll = vec![0.0; targets.len()];
        cross_entropy_forward(&x, &w, &targets, &mut nll, &mut Vec::new());
        let (with_gradient, ..) = backward(&x, &w, &targets);
        let mean = |nll: &[f32]| nll.iter().map(|&x| x as f64).sum::<f64>() / nll.len() as f64;
        let want = cross_entropy_naive(&x, &w, &targets);
        assert!((mean(&nll) - want).abs() < 1e-6 && (mean(&with_gradient) - want).abs() < 1e-6);
    }

    #[test]
    fn cross_entropy_gradients_match_finite_differences() {
        let (x, w, targets) = inputs(3);
        let (_, d_x, d_w) = backward(&x, &w, &targets);
        assert!(gradient_error(&x, &d_x, |x| cross_entropy_naive(x, &w, &targets)) < 1e-4);
        assert!(gradient_error(&w, &d_w, |w| cross_entropy_naive(&x, w, &targets)) < 1e-4);
    }

    #[test]
    fn cross_entropy_is_bitwise_repeatable_at_any_thread_count() {
        let (x, w, targets) = inputs(block_rows(V) + 100);
        let run = |threads| at_threads(threads, || backward(&x, &w, &targets));
        let all = |(a, b, c)| bits(&[a, b, c]);
        assert_eq!(all(run(1)), all(run(2)));
        assert_eq!(all(run(1)), all(run(3)));
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let mut nll = vec![0.0; 2];
        cross_entropy_forward(&[1000.0, 1000.0], &[1.0, 0.0, -1.0], &[0, 2], &mut nll, &mut Vec::new());
        assert!(nll[0].abs() < 1e-6 && (nll[1] - 2000.0).abs() < 1e-3);
    }
}
