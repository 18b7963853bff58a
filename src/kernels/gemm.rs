//! Matrix products on the `gemm` crate (AVX-512 where the CPU has it, chosen at run time).
//!
//! m, n = rows and columns of the result, k = summed dimension. Every function computes `c = a b` or, with `accumulate`, `c += a b`.

use gemm::Parallelism;

/// Below this many multiply-adds a product runs on the calling thread: starting the others costs more.
const PARALLEL_ABOVE: usize = 1 << 18;

/// Shapes: a (m, k), b (k, n), c (m, n).
pub fn matmul_nn(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32], accumulate: bool) {
    product(m, n, k, a, (k, 1), b, (n, 1), c, accumulate);
}

/// Shapes: a (m, k), b (n, k) read as its transpose, c (m, n).
pub fn matmul_nt(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32], accumulate: bool) {
    product(m, n, k, a, (k, 1), b, (1, k), c, accumulate);
}

/// Shapes: a (k, m) read as its transpose, b (k, n), c (m, n).
pub fn matmul_tn(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32], accumulate: bool) {
    product(m, n, k, a, (1, m), b, (n, 1), c, accumulate);
}

/// (row stride, column stride) of each operand in elements.
#[allow(clippy::too_many_arguments)]
fn product(
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    a_strides: (usize, usize),
    b: &[f32],
    b_strides: (usize, usize),
    c: &mut [f32],
    accumulate: bool,
) {
    assert!(
        a.len() == m * k && b.len() == k * n && c.len() == m * n,
        "product of ({m}, {k}) and ({k}, {n}): got {}, {} and {} elements",
        a.len(),
        b.len(),
        c.len()
    );
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = if m * n * k > PARALLEL_ABOVE { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: the three slices have exactly m*k, k*n and m*n elements (asserted above), the strides stay inside them, and c is borrowed uniquely.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.as_ptr(),
            a_strides.1 as isize,
            a_strides.0 as isize,
            b.as_ptr(),
            b_strides.1 as isize,
            b_strides.0 as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A matrix inside a larger one: first element, row stride, column stride (in elements).
#[derive(Clone, Copy)]
pub(super) struct Strided(pub *const f32, pub usize, pub usize);

/// c = alpha a b, or c += alpha a b, on the calling thread, for operands inside larger matrices. c has unit column stride and row stride `c_rows`.
///
/// # Safety
/// Every element that the sizes and strides reach must be valid, and nothing else may touch those of c meanwhile.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn product_strided(m: usize, n: usize, k: usize, a: Strided, b: Strided, c: *mut f32, c_rows: usize, accumulate: bool, alpha: f32) {
    // In `gemm` alpha scales what is there and beta the product.
    // SAFETY: promised by the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            c_rows as isize,
            accumulate,
            a.0,
            a.2 as isize,
            a.1 as isize,
            b.0,
            b.2 as isize,
            b.1 as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// The naive twin: c (m, n) = a (m, k) b (k, n), summed in f64.
pub fn matmul_naive(m: usize, n: usize, k: usize, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            c[i * n + j] = (0..k).map(|p| a[i * k + p] as f64 * b[p * n + j] as f64).sum::<f64>() as f32;
        }
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use rand::RngExt;

    fn random(n: usize, index: u64) -> Vec<f32> {
        let mut rng = seed::rng(0, "test/gemm", index);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn transposed(rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
        (0..cols).flat_map(|j| (0..rows).map(move |i| x[i * cols + j])).collect()
    }

    #[test]
    fn every_layout_equals_the_naive_product() {
        let (m, n, k) = (5, 7, 3);
        let (a, b) = (random(m * k, 0), random(k * n, 1));
        let want = matmul_naive(m, n, k, &a, &b);
        let close = |c: &[f32]| c.iter().zip(&want).all(|(x, y)| (x - y).abs() < 1e-6);
        let mut c = vec![9.0; m * n];
        matmul_nn(m, n, k, &a, &b, &mut c, false);
        assert!(close(&c));
        matmul_nt(m, n, k, &a, &transposed(k, n, &b), &mut c, false);
        assert!(close(&c));
        matmul_tn(m, n, k, &transposed(m, k, &a), &b, &mut c, false);
        assert!(close(&c));
        matmul_nn(m, n, k, &a, &b, &mut c, true);
        assert!(c.iter().zip(&want).all(|(x, y)| (x - 2.0 * y).abs() < 1e-5));
    }

    #[test]
    fn products_are_bitwise_equal_at_any_thread_count() {
        let (m, n, k) = (257, 513, 700);
        let (a, b) = (random(m * k, 2), random(k * n, 3));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut c = vec![0.0; m * n];
                matmul_nn(m, n, k, &a, &b, &mut c, false);
                let mut d = vec![0.0; m * n];
                matmul_nt(m, n, k, &a, &b, &mut d, false);
                let mut e = vec![0.0; m * n];
                matmul_tn(m, n, k, &a, &b, &mut e, false);
                [c, d, e].concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(3));
    }
}
