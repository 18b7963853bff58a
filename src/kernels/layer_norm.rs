//! LayerNorm over the rows of a matrix, forward and backward. N = rows, D = width.
//!
//! y = (x - mean) * rstd * gain + bias with rstd = 1 / sqrt(variance + eps), the variance over D          (Ba et al. 2016, eq. 4)

use super::simd::{self, dispatch};
use rayon::prelude::*;

/// GPT-2's.
pub const EPS: f32 = 1e-5;

/// Rows whose share of the gain's and bias's gradient is summed by one task.
const ROWS: usize = 128;

/// Shapes: x and y (N, D), gain and bias (D,), stats (N, 2) = mean and rstd of each row, for the backward pass.
pub fn layer_norm_forward(x: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32], stats: &mut [f32]) {
    let d = gain.len();
    assert!(
        d > 0 && bias.len() == d && x.len().is_multiple_of(d) && y.len() == x.len() && stats.len() == x.len() / d * 2,
        "LayerNorm of width {d}: {} and {} elements, {} statistics",
        x.len(),
        y.len(),
        stats.len()
    );
    y.par_chunks_mut(ROWS * d)
        .zip(stats.par_chunks_mut(ROWS * 2))
        .zip(x.par_chunks(ROWS * d))
        .for_each(|((y, stats), x)| forward_rows(x, gain, bias, y, stats));
}

dispatch! {
    fn forward_rows(x: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32], stats: &mut [f32]) {
        let d = gain.len();
        for ((x, y), stats) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(2)) {
            let mean = simd::sum(x) / d as f32;
            for j in 0..d {
                y[j] = x[j] - mean;
            }
            let rstd = 1.0 / (simd::dot(y, y) / d as f32 + EPS).sqrt();
            for j in 0..d {
                y[j] = (y[j] * rstd).mul_add(gain[j], bias[j]);
            }
            stats[0] = mean;
            stats[1] = rstd;
        }
    }
}

/// Writes d_x, or adds to it with `accumulate` (the residual branch is then in it); adds to d_gain and d_bias.
///
/// With x_hat = (x - mean) rstd and g = d_y gain: d_x = rstd (g - mean(g) - x_hat mean(g x_hat)).
#[allow(clippy::too_many_arguments)]
pub fn layer_norm_backward(
    x: &[f32],
    stats: &[f32],
    gain: &[f32],
    d_y: &[f32],
    d_x: &mut [f32],
    accumulate: bool,
    d_gain: &mut [f32],
    d_bias: &mut [f32],
) {
    let d = gain.len();
    assert!(
        d > 0
            && x.len().is_multiple_of(d)
            && d_y.len() == x.len()
            && d_x.len() == x.len()
            && stats.len() == x.len() / d * 2
            && d_gain.len() == d
            && d_bias.len() == d,
        "LayerNorm of width {d}: {}, {} and {} elements",
        x.len(),
        d_y.len(),
        d_x.len()
    );
    let partial: Vec<Vec<f32>> = d_x
        .par_chunks_mut(ROWS * d)
        .zip(stats.par_chunks(ROWS * 2))
        .zip(x.par_chunks(ROWS * d))
        .zip(d_y.par_chunks(ROWS * d))
        .map(|(((d_x, stats), x), d_y)| {
            let mut sums = vec![0.0; 3 * d];
            let (d_affine, scratch) = sums.split_at_mut(2 * d);
            backward_rows(x, stats, gain, d_y, d_x, accumulate, d_affine, scratch);
            sums
        })
        .collect();
    for j in 0..d {
        d_gain[j] += partial.iter().map(|p| p[j] as f64).sum::<f64>() as f32;
        d_bias[j] += partial.iter().map(|p| p[d + j] as f64).sum::<f64>() as f32;
    }
}

dispatch! {
    fn backward_rows(x: &[f32], stats: &[f32], gain: &[f32], d_y: &[f32], d_x: &mut [f32], accumulate: bool, d_affine: &mut [f32], x_hat: &mut [f32]) {
        let d = gain.len();
        let (d_gain, d_bias) = d_affine.split_at_mut(d);
        let (d_bias, x_hat) = (&mut d_bias[..d], &mut x_hat[..d]);
        for (((x, d_y), d_x), stats) in x.chunks_exact(d).zip(d_y.chunks_exact(d)).zip(d_x.chunks_exact_mut(d)).zip(stats.chunks_exact(2)) {
            let (mean, rstd) = (stats[0], stats[1]);
            let mut mean_g = [0.0f32; simd::LANES];
            let mut mean_gx = [0.0f32; simd::LANES];
            for j in 0..d {
                x_hat[j] = (x[j] - mean) * rstd;
                d_gain[j] = d_y[j].mul_add(x_hat[j], d_gain[j]);
                d_bias[j] += d_y[j];
            }
            let whole = d / simd::LANES * simd::LANES;
            for at in (0..whole).step_by(simd::LANES) {
                for l in 0..simd::LANES {
                    let g = d_y[at + l] * gain[at + l];
                    mean_g[l] += g;
                    mean_gx[l] = g.mul_add(x_hat[at + l], mean_gx[l]);
                }
            }
            let (mut sum_g, mut sum_gx) = (simd::sum_lanes(&mean_g), simd::sum_lanes(&mean_gx));
            for j in whole..d {
                let g = d_y[j] * gain[j];
                sum_g += g;
                sum_gx += g * x_hat[j];
            }
            let (mean_g, mean_gx) = (sum_g / d as f32, sum_gx / d as f32);
            if accumulate {
                for j in 0..d {
                    d_x[j] += rstd * (d_y[j] * gain[j] - mean_g - x_hat[j] * mean_gx);
                }
            } else {
                for j in 0..d {
                    d_x[j] = rstd * (d_y[j] * gain[j] - mean_g - x_hat[j] * mean_gx);
                }
            }
        }
    }
}

/// The naive twin, in f64.
pub fn layer_norm_naive(x: &[f32], gain: &[f32], bias: &[f32]) -> Vec<f64> {
    let d = gain.len();
    x.chunks_exact(d)
        .flat_map(|row| {
            let mean = row.iter().map(|&x| x as f64).sum::<f64>() / d as f64;
            let variance = row.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / d as f64;
            let rstd = 1.0 / (variance + EPS as f64).sqrt();
            (0..d).map(move |j| (row[j] as f64 - mean) * rstd * gain[j] as f64 + bias[j] as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{at_threads, bits, gradient_error, random};

    const N: usize = 3;
    const D: usize = 37;

    fn inputs() -> (Vec<f32>, Vec<f32>, Vec<f32>, Vec<f32>) {
        (random(N * D, 0), random(D, 1), random(D, 2), random(N * D, 3))
    }

    #[test]
    fn layer_norm_equals_the_naive_twin() {
        let (x, gain, bias, _) = inputs();
        let (mut y, mut stats) = (vec![9.0; N * D], vec![0.0; 2 * N]);
        layer_norm_forward(&x, &gain, &bias, &mut y, &mut stats);
        assert!(y.iter().zip(layer_norm_naive(&x, &gain, &bias)).all(|(a, b)| (*a as f64 - b).abs() < 2e-6));
    }

    #[test]
    fn layer_norm_gradients_match_finite_differences() {
        let (x, gain, bias, d_y) = inputs();
        let loss = |x: &[f32], gain: &[f32], bias: &[f32]| layer_norm_naive(x, gain, bias).iter().zip(&d_y).map(|(y, d)| y * *d as f64).sum::<f64>();
        let (mut y, mut stats) = (vec![0.0; N * D], vec![0.0; 2 * N]);
        layer_norm_forward(&x, &gain, &bias, &mut y, &mut stats);
        // d_x starts at one and the affine gradients at two: backward must add to what is there.
        let (mut d_x, mut d_gain, mut d_bias) = (vec![1.0; N * D], vec![2.0; D], vec![2.0; D]);
        layer_norm_backward(&x, &stats, &gain, &d_y, &mut d_x, true, &mut d_gain, &mut d_bias);
        let less = |v: &[f32], by: f32| v.iter().map(|x| x - by).collect::<Vec<_>>();
        assert!(gradient_error(&x, &less(&d_x, 1.0), |x| loss(x, &gain, &bias)) < 1e-4);
        assert!(gradient_error(&gain, &less(&d_gain, 2.0), |g| loss(&x, g, &bias)) < 1e-4);
        assert!(gradient_error(&bias, &less(&d_bias, 2.0), |b| loss(&x, &gain, b)) < 1e-4);
    }

    #[test]
    fn layer_norm_is_bitwise_repeatable_at_any_thread_count() {
        let n = 5 * ROWS + 7;
        let (x, gain, bias, d_y) = (random(n * D, 4), random(D, 5), random(D, 6), random(n * D, 7));
        let run = |threads| {
            at_threads(threads, || {
                let (mut y, mut stats) = (vec![0.0; n * D], vec![0.0; 2 * n]);
                layer_norm_forward(&x, &gain, &bias, &mut y, &mut stats);
                let (mut d_x, mut d_gain, mut d_bias) = (vec![0.0; n * D], vec![0.0; D], vec![0.0; D]);
                layer_norm_backward(&x, &stats, &gain, &d_y, &mut d_x, false, &mut d_gain, &mut d_bias);
                bits(&[y, d_x, d_gain, d_bias])
            })
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn a_constant_row_becomes_the_bias() {
        let (_, gain, bias, _) = inputs();
        let (mut y, mut stats) = (vec![0.0; D], vec![0.0; 2]);
        layer_norm_forward(&[4.0; D], &gain, &bias, &mut y, &mut stats);
        assert!(y.iter().zip(&bias).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}
