//! Element-wise non-linearities of the MLP, forward and backward.

use super::simd::{self, dispatch};
use rayon::prelude::*;

/// Elements in one task: 64 KiB of input.
const CHUNK: usize = 1 << 14;

/// post = max(pre, 0).
pub fn relu_forward(pre: &[f32], post: &mut [f32]) {
    assert_eq!(pre.len(), post.len(), "ReLU from {} to {} elements", pre.len(), post.len());
    post.par_chunks_mut(CHUNK).zip(pre.par_chunks(CHUNK)).for_each(|(post, pre)| relu_chunk(pre, post));
}

dispatch! {
    fn relu_chunk(pre: &[f32], post: &mut [f32]) {
        for (post, pre) in post.iter_mut().zip(pre) {
            *post = if *pre < 0.0 { 0.0 } else { *pre };
        }
    }
}

/// In place: d holds d_post and becomes d_pre. The gradient at exactly 0 is 0.
pub fn relu_backward(pre: &[f32], d: &mut [f32]) {
    assert_eq!(pre.len(), d.len(), "ReLU of {} elements, {} gradients", pre.len(), d.len());
    d.par_chunks_mut(CHUNK).zip(pre.par_chunks(CHUNK)).for_each(|(d, pre)| relu_backward_chunk(pre, d));
}

dispatch! {
    fn relu_backward_chunk(pre: &[f32], d: &mut [f32]) {
        for (d, pre) in d.iter_mut().zip(pre) {
            *d = if *pre > 0.0 { *d } else { 0.0 };
        }
    }
}

/// sqrt(2 / pi)
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBE: f32 = 0.044_715;

/// Sigmoid of twice GELU's inner polynomial: x * this is the tanh approximation, since (1 + tanh u) / 2 = 1 / (1 + e^-2u).
#[inline(always)]
fn gelu_gate(x: f32) -> f32 {
    let u = GELU_SCALE * x * (GELU_CUBE * x).mul_add(x, 1.0);
    1.0 / (1.0 + simd::exp(-2.0 * u))
}

/// tanh approximation of GELU, `gelu_new`: post = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2. Error below 1e-6 (|x| + 1).
///
/// Source: Hendrycks and Gimpel 2016, section 2.
pub fn gelu_forward(pre: &[f32], post: &mut [f32]) {
    assert_eq!(pre.len(), post.len(), "GELU from {} to {} elements", pre.len(), post.len());
    post.par_chunks_mut(CHUNK).zip(pre.par_chunks(CHUNK)).for_each(|(post, pre)| gelu_chunk(pre, post));
}

dispatch! {
    fn gelu_chunk(pre: &[f32], post: &mut [f32]) {
        for (post, &pre) in post.iter_mut().zip(pre) {
            *post = pre * gelu_gate(pre);
        }
    }
}

/// In place: d holds d_post and becomes d_pre. The gate s is computed again, which is cheaper than storing it: d/dx = s + x s (1 - s) 2 u'.
pub fn gelu_backward(pre: &[f32], d: &mut [f32]) {
    assert_eq!(pre.len(), d.len(), "GELU of {} elements, {} gradients", pre.len(), d.len());
    d.par_chunks_mut(CHUNK).zip(pre.par_chunks(CHUNK)).for_each(|(d, pre)| gelu_backward_chunk(pre, d));
}

dispatch! {
    fn gelu_backward_chunk(pre: &[f32], d: &mut [f32]) {
        for (d, &x) in d.iter_mut().zip(pre) {
            let s = gelu_gate(x);
            let slope = 2.0 * GELU_SCALE * (3.0 * GELU_CUBE * x).mul_add(x, 1.0);
            *d *= (x * s * (1.0 - s)).mul_add(slope, s);
        }
    }
}

/// The naive twin of GELU, in f64.
pub fn gelu_naive(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// Every row of x (N, D) becomes `bias` (D,). A product is then accumulated onto it.
pub fn broadcast_rows(bias: &[f32], x: &mut [f32]) {
    assert!(!bias.is_empty() && x.len().is_multiple_of(bias.len()), "rows of {} in {} elements", bias.len(), x.len());
    let rows = CHUNK.div_ceil(bias.len());
    x.par_chunks_mut(rows * bias.len()).for_each(|chunk| chunk.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias)));
}

/// x (N, D) = y (N, D) + bias (D,): the residual stream before a product is accumulated onto it.
pub fn add_rows(y: &[f32], bias: &[f32], x: &mut [f32]) {
    assert!(
        !bias.is_empty() && x.len().is_multiple_of(bias.len()) && x.len() == y.len(),
        "rows of {} in {} and {} elements",
        bias.len(),
        y.len(),
        x.len()
    );
    let rows = CHUNK.div_ceil(bias.len()) * bias.len();
    x.par_chunks_mut(rows).zip(y.par_chunks(rows)).for_each(|(x, y)| add_rows_chunk(y, bias, x));
}

dispatch! {
    fn add_rows_chunk(y: &[f32], bias: &[f32], x: &mut [f32]) {
        for (x, y) in x.chunks_exact_mut(bias.len()).zip(y.chunks_exact(bias.len())) {
            for j in 0..bias.len() {
                x[j] = y[j] + bias[j];
            }
        }
    }
}

/// x += y.
pub fn add(y: &[f32], x: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "adding {} elements to {}", y.len(), x.len());
    x.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).for_each(|(x, y)| add_chunk(y, x));
}

dispatch! {
    fn add_chunk(y: &[f32], x: &mut [f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += *y;
        }
    }
}

/// sums (D,) += the sum over the rows of d (N, D): the gradient of a bias. Blocks of rows are summed in f32, the blocks in f64.
pub fn sum_rows(d: &[f32], sums: &mut [f32]) {
    const ROWS: usize = 128;
    let width = sums.len();
    assert!(width > 0 && d.len().is_multiple_of(width), "rows of {width} in {} elements", d.len());
    let partial: Vec<Vec<f32>> = d
        .par_chunks(ROWS * width)
        .map(|d| {
            let mut block = vec![0.0; width];
            d.chunks_exact(width).for_each(|row| add_chunk(row, &mut block));
            block
        })
        .collect();
    for (j, sum) in sums.iter_mut().enumerate() {
        *sum += partial.iter().map(|p| p[j] as f64).sum::<f64>() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{at_threads, bits, gradient_error, random};

    fn wide() -> Vec<f32> {
        random(1003, 20).iter().map(|x| x * 6.0).collect()
    }

    #[test]
    fn gelu_is_within_its_stated_error_of_the_naive_twin() {
        let pre: Vec<f32> = (-4000..4000).map(|i| i as f32 / 200.0).collect();
        let mut post = vec![0.0; pre.len()];
        gelu_forward(&pre, &mut post);
        let worst = pre.iter().zip(&post).map(|(&x, &y)| (y as f64 - gelu_naive(x as f64)).abs() / (x.abs() as f64 + 1.0)).fold(0.0, f64::max);
        assert!(worst < 1e-6, "{worst}");
    }

    #[test]
    fn gelu_and_relu_gradients_match_finite_differences() {
        let (pre, d_post) = (wide(), random(1003, 21));
        let mut d = d_post.clone();
        gelu_backward(&pre, &mut d);
        assert!(gradient_error(&pre, &d, |x| x.iter().zip(&d_post).map(|(x, d)| gelu_naive(*x as f64) * *d as f64).sum()) < 2e-5);
        let away: Vec<f32> = pre.iter().map(|&x| if x.abs() < 0.01 { 0.5 } else { x }).collect();
        let mut d = d_post.clone();
        relu_backward(&away, &mut d);
        assert!(gradient_error(&away, &d, |x| x.iter().zip(&d_post).map(|(x, d)| x.max(0.0) as f64 * *d as f64).sum()) < 1e-4);
    }

    #[test]
    fn relu_and_its_gradient_are_zero_at_zero() {
        let mut post = [9.0; 3];
        relu_forward(&[-1.0, 0.0, 2.0], &mut post);
        assert_eq!(post, [0.0, 0.0, 2.0]);
        let mut d = [1.0; 3];
        relu_backward(&[-1.0, 0.0, 2.0], &mut d);
        assert_eq!(d, [0.0, 0.0, 1.0]);
    }

    #[test]
    fn sums_over_rows_are_bitwise_repeatable_at_any_thread_count() {
        let d = random(700 * 5, 22);
        let run = |threads| {
            at_threads(threads, || {
                let mut sums = vec![1.0; 5];
                sum_rows(&d, &mut sums);
                bits(&[sums])
            })
        };
        assert_eq!(run(1), run(3));
        let mut sums = vec![1.0; 5];
        sum_rows(&d, &mut sums);
        let want = 1.0 + (0..700).map(|i| d[i * 5 + 3] as f64).sum::<f64>();
        assert!((sums[3] as f64 - want).abs() < 1e-4);
    }

    #[test]
    fn rows_are_broadcast_and_added() {
        let mut x = vec![0.0; 6];
        broadcast_rows(&[1.0, 2.0], &mut x);
        assert_eq!(x, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let mut y = vec![0.0; 6];
        add_rows(&x, &[10.0, 20.0], &mut y);
        assert_eq!(y, [11.0, 22.0, 11.0, 22.0, 11.0, 22.0]);
        add(&x, &mut y);
        assert_eq!(y[..2], [12.0, 24.0]);
    }
}
