//! Products of small matrices on the calling thread, in the three layouts a layer and its gradients need: a few dozen features by a block of some hundred
//! samples. They are calls of the large product's routine without its threads; loops of their own won at 5 x 2 alone and lost a sixth at 20 x 5 (LOG.md).
//!
//! m, n = rows and columns of the result, k = summed dimension. The order of every sum is fixed.

use super::gemm::{Strided, product_strided};

/// c = a b. Shapes: a (m, k), b (k, n), c (m, n).
pub fn small_nn(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    product((m, n, k), (a, k, 1), (b, n, 1), c, false);
}

/// c = a^T b. Shapes: a (k, m), b (k, n), c (m, n).
pub fn small_tn(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    product((m, n, k), (a, 1, m), (b, n, 1), c, false);
}

/// c += a b^T. Shapes: a (m, k), b (n, k), c (m, n).
pub fn small_nt_add(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    product((m, n, k), (a, k, 1), (b, 1, k), c, true);
}

/// Each operand with its row and column stride.
fn product((m, n, k): (usize, usize, usize), a: (&[f32], usize, usize), b: (&[f32], usize, usize), c: &mut [f32], accumulate: bool) {
    let sizes = (a.0.len(), b.0.len(), c.len());
    assert!(sizes == (m * k, k * n, m * n), "small product of ({m}, {k}) and ({k}, {n}): got {}, {} and {} elements", sizes.0, sizes.1, sizes.2);
    // SAFETY: the slices have m*k, k*n and m*n elements, the strides of the three layouts stay inside them, and c is borrowed uniquely.
    unsafe {
        product_strided(m, n, k, Strided(a.0.as_ptr(), a.1, a.2), Strided(b.0.as_ptr(), b.1, b.2), c.as_mut_ptr(), n, accumulate, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm::matmul_naive;
    use crate::kernels::testing::random;

    fn transposed(rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
        (0..cols).flat_map(|j| (0..rows).map(move |i| x[i * cols + j])).collect()
    }

    fn close(ours: &[f32], want: &[f32]) {
        // Up to 400 products of numbers in [-1, 1), summed in another order.
        assert!(ours.iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-5), "{ours:?} {want:?}");
    }

    #[test]
    fn every_layout_equals_the_naive_product_at_small_and_large_sizes() {
        for (index, (m, n, k)) in [(3, 39, 5), (1, 64, 2), (40, 37, 35), (5, 3, 71), (33, 41, 129), (1, 1, 3)].into_iter().enumerate() {
            let (a, b) = (random(m * k, index as u64), random(k * n, 100 + index as u64));
            let want = matmul_naive(m, n, k, &a, &b);
            let mut c = vec![9.0; m * n];
            small_nn(m, n, k, &a, &b, &mut c);
            close(&c, &want);
            c.fill(9.0);
            small_tn(m, n, k, &transposed(m, k, &a), &b, &mut c);
            close(&c, &want);
            c.fill(2.0);
            small_nt_add(m, n, k, &a, &transposed(k, n, &b), &mut c);
            close(&c, &want.iter().map(|x| x + 2.0).collect::<Vec<_>>());
        }
    }
}
