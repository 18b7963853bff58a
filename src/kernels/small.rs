//! Products of small matrices on the calling thread: a few dozen features by a block of some hundred samples. Plain loops where the smaller matrix has fewer
//! than [`LARGE`] elements, the large product's routine otherwise.
//!
//! m, n = rows and columns of the result, k = summed dimension. The order of every sum is fixed.

use super::gemm::{Strided, product_strided};
use super::simd::{LANES, dispatch, dot, sum_lanes};

/// Elements of the smaller matrix from which the large product's routine is taken. Measured on AVX2, whole training steps: the loops here are 1.3 to 1.8 times
/// as fast at 5 x 2 features by dimensions, equal at 2 x 1, up to a fifth slower at 10 x 5 and 20 x 5, and a third as fast at 400 x 30.
const LARGE: usize = 1 << 10;

/// c = a b. Shapes: a (m, k), b (k, n), c (m, n).
pub fn small_nn(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    check(m, n, k, a.len(), b.len(), c.len());
    match m * k >= LARGE {
        true => large((m, n, k), (a, k, 1), (b, n, 1), c, false),
        false => rows(m, n, k, a, k, 1, b, c),
    }
}

/// c = a^T b. Shapes: a (k, m), b (k, n), c (m, n).
pub fn small_tn(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    check(m, n, k, a.len(), b.len(), c.len());
    match m * k >= LARGE {
        true => large((m, n, k), (a, 1, m), (b, n, 1), c, false),
        false => rows(m, n, k, a, 1, m, b, c),
    }
}

/// c += a b^T. Shapes: a (m, k), b (n, k), c (m, n).
pub fn small_nt_add(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    check(m, n, k, a.len(), b.len(), c.len());
    match m * n >= LARGE {
        true => large((m, n, k), (a, k, 1), (b, 1, k), c, true),
        false => dots(n, k, a, b, c),
    }
}

fn check(m: usize, n: usize, k: usize, a: usize, b: usize, c: usize) {
    assert!(a == m * k && b == k * n && c == m * n, "small product of ({m}, {k}) and ({k}, {n}): got {a}, {b} and {c} elements");
}

/// Each operand with its row and column stride.
fn large((m, n, k): (usize, usize, usize), a: (&[f32], usize, usize), b: (&[f32], usize, usize), c: &mut [f32], accumulate: bool) {
    // SAFETY: `check` has seen that the slices have m*k, k*n and m*n elements, the strides stay inside them, and c is borrowed uniquely.
    unsafe {
        product_strided(m, n, k, Strided(a.0.as_ptr(), a.1, a.2), Strided(b.0.as_ptr(), b.1, b.2), c.as_mut_ptr(), n, accumulate, 1.0);
    }
}

dispatch! {
    /// Row i of c is the sum over p of a(i, p) times row p of b; LANES columns at a time stay in registers.
    fn rows(m: usize, n: usize, k: usize, a: &[f32], a_row: usize, a_col: usize, b: &[f32], c: &mut [f32]) {
        let whole = n / LANES * LANES;
        for i in 0..m {
            for j in (0..whole).step_by(LANES) {
                let mut lanes = [0.0f32; LANES];
                for p in 0..k {
                    let (factor, row) = (a[i * a_row + p * a_col], &b[p * n + j..p * n + j + LANES]);
                    for l in 0..LANES {
                        lanes[l] = factor.mul_add(row[l], lanes[l]);
                    }
                }
                c[i * n + j..i * n + j + LANES].copy_from_slice(&lanes);
            }
            for j in whole..n {
                c[i * n + j] = (0..k).fold(0.0f32, |sum, p| a[i * a_row + p * a_col].mul_add(b[p * n + j], sum));
            }
        }
    }
}

dispatch! {
    /// c(i, j) += row i of a . row j of b, two rows of b at a time: a row of a is then loaded half as often.
    fn dots(n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
        for (x, c) in a.chunks_exact(k).zip(c.chunks_exact_mut(n)) {
            let mut two = b.chunks_exact(2 * k);
            let mut out = c.chunks_exact_mut(2);
            for (rows, c) in (&mut two).zip(&mut out) {
                let (y, z) = rows.split_at(k);
                let (mut ys, mut zs) = ([0.0f32; LANES], [0.0f32; LANES]);
                let (blocks, rest) = x.as_chunks::<LANES>();
                for (i, block) in blocks.iter().enumerate() {
                    let (yb, zb) = (&y[i * LANES..(i + 1) * LANES], &z[i * LANES..(i + 1) * LANES]);
                    for l in 0..LANES {
                        ys[l] = block[l].mul_add(yb[l], ys[l]);
                        zs[l] = block[l].mul_add(zb[l], zs[l]);
                    }
                }
                let tail = blocks.len() * LANES;
                let left = |side: &[f32]| rest.iter().zip(&side[tail..]).map(|(a, b)| a * b).sum::<f32>();
                c[0] += sum_lanes(&ys) + left(y);
                c[1] += sum_lanes(&zs) + left(z);
            }
            if let ([last], row) = (out.into_remainder(), two.remainder()) {
                *last += dot(x, row);
            }
        }
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
