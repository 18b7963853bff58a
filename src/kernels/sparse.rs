//! Kernels over sparse rows: the products of an SAE after its encoder, and the fused Adam step.
//!
//! D = width of a row. `rows` is a matrix (_, D); `idx` names some of its rows. All in fixed order, so results are bitwise repeatable.

use super::simd::dispatch;

dispatch! {
    /// Dot product in f32, in 64 interleaved partial sums.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        dot_inner(a, b)
    }
}

dispatch! {
    /// |a - b|^2, in 64 interleaved partial sums.
    pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "distance of {} and {} elements", a.len(), b.len());
        let mut sums = [0.0f32; 64];
        let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<64>(), b.as_chunks::<64>());
        for k in 0..a_blocks.len() {
            let (x, y) = (&a_blocks[k], &b_blocks[k]);
            for i in 0..64 {
                let e = x[i] - y[i];
                sums[i] = e.mul_add(e, sums[i]);
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| (x - y) * (x - y)).sum();
        sums.iter().sum::<f32>() + rest
    }
}

dispatch! {
    /// y += a x.
    pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        axpy_inner(a, x, y)
    }
}

dispatch! {
    /// out[p] = rows[idx[p]] . y. Shapes: idx (P,), rows (_, D), y (D,), out (P,).
    pub fn gather_dot(idx: &[u32], rows: &[f32], y: &[f32], out: &mut [f32]) {
        let d = y.len();
        assert_eq!(idx.len(), out.len(), "{} rows named, {} results", idx.len(), out.len());
        for (out, &row) in out.iter_mut().zip(idx) {
            *out = dot_inner(&rows[row as usize * d..][..d], y);
        }
    }
}

dispatch! {
    /// One Adam step on p, its moments and its gradient; the gradient is multiplied by `grad_scale` first (clipping).
    /// Bias correction and the place of epsilon are Kingma & Ba 2015, Algorithm 1, as PyTorch has it.
    pub fn adam(step: &AdamStep, grad_scale: f32, p: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        let &AdamStep { beta1, beta2, rate, second_scale, eps } = step;
        for (((p, m), v), g) in p.iter_mut().zip(first).zip(second).zip(gradient) {
            let g = g * grad_scale;
            *m = beta1.mul_add(*m, (1.0 - beta1) * g);
            *v = beta2.mul_add(*v, (1.0 - beta2) * g * g);
            *p -= rate * *m / v.sqrt().mul_add(second_scale, eps);
        }
    }
}

dispatch! {
    /// e = x_hat - x, written over x_hat times `scale`; returns |e|^2 in f64. Shapes: all (D,).
    pub fn error_row(x: &[f32], scale: f32, x_hat: &mut [f32]) -> f64 {
        let mut sums = [0.0f32; 16];
        let n = x.len();
        for start in (0..n).step_by(16) {
            let width = 16.min(n - start);
            for i in 0..width {
                let e = x_hat[start + i] - x[start + i];
                sums[i] = e.mul_add(e, sums[i]);
                x_hat[start + i] = e * scale;
            }
        }
        sums.iter().map(|&s| s as f64).sum()
    }
}

dispatch! {
    /// acts = relu(pre + bias) in place. Shapes: both (F,).
    pub fn relu_row(bias: &[f32], pre: &mut [f32]) {
        for (p, b) in pre.iter_mut().zip(bias) {
            let z = *p + b;
            *p = if z > 0.0 { z } else { 0.0 };
        }
    }
}

dispatch! {
    /// Backward of ReLU with L1 over one row: d_pre = (d_act + l1 * weight) where act > 0, else 0; per-latent sums are added to.
    /// Shapes: all (F,).
    pub fn relu_backward_row(acts: &[f32], l1: f32, weight: &[f32], d_acts: &mut [f32], sum_d: &mut [f32], fires: &mut [u32]) {
        let f = acts.len();
        let (weight, d_acts, sum_d, fires) = (&weight[..f], &mut d_acts[..f], &mut sum_d[..f], &mut fires[..f]);
        for j in 0..f {
            let on = acts[j] > 0.0;
            let d = if on { l1.mul_add(weight[j], d_acts[j]) } else { 0.0 };
            d_acts[j] = d;
            sum_d[j] += d;
            fires[j] += on as u32;
        }
    }
}

/// y += sum over p of coef[p] * rows[idx[p]]. Shapes: idx (P,), coef (P,), rows (_, D), y (D,).
#[inline]
pub fn gather_axpy(idx: &[u32], coef: &[f32], rows: &[f32], y: &mut [f32]) {
    let d = y.len();
    assert_eq!(idx.len(), coef.len(), "{} rows named with {} coefficients", idx.len(), coef.len());
    if let Some(&most) = idx.iter().max() {
        assert!((most as usize + 1) * d <= rows.len(), "row {most} of width {d} is outside of {} elements", rows.len());
    }
    #[cfg(target_arch = "x86_64")]
    if super::simd::level() == super::simd::Level::Avx512 {
        // SAFETY: the CPU has AVX-512, and every named row lies inside `rows` (asserted above).
        return unsafe { avx512::gather_axpy(idx, coef, rows, y) };
    }
    gather_axpy_portable(idx, coef, rows, y);
}

dispatch! {
    /// Four rows at a time, one after the other in each sum: y is loaded and stored once for the four.
    pub fn gather_axpy_portable(idx: &[u32], coef: &[f32], rows: &[f32], y: &mut [f32]) {
        let d = y.len();
        let row = |row: u32| &rows[row as usize * d..][..d];
        let ((fours, idx_rest), (coefs, coef_rest)) = (idx.as_chunks::<4>(), coef.as_chunks::<4>());
        for (idx, c) in fours.iter().zip(coefs) {
            let x = idx.map(row);
            for i in 0..d {
                let mut sum = y[i];
                for k in 0..4 {
                    sum = c[k].mul_add(x[k][i], sum);
                }
                y[i] = sum;
            }
        }
        for (&idx, &c) in idx_rest.iter().zip(coef_rest) {
            axpy_inner(c, row(idx), y);
        }
    }
}

/// The constants of one Adam step.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    beta1: f32,
    beta2: f32,
    /// lr / (1 - beta1^t)
    rate: f32,
    /// 1 / sqrt(1 - beta2^t)
    second_scale: f32,
    eps: f32,
}

impl AdamStep {
    /// `step` counts from 1.
    pub fn new(lr: f64, beta1: f64, beta2: f64, eps: f64, step: u64) -> Self {
        let power = |beta: f64| 1.0 - beta.powf(step as f64);
        AdamStep {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            rate: (lr / power(beta1)) as f32,
            second_scale: (1.0 / power(beta2).sqrt()) as f32,
            eps: eps as f32,
        }
    }
}

/// For the bodies of kernels, which are compiled once for each instruction set.
#[inline(always)]
fn dot_inner(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "dot of {} and {} elements", a.len(), b.len());
    let mut sums = [0.0f32; 64];
    // Arrays and numbers instead of iterators: these become one loop without link-time optimisation too.
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<64>(), b.as_chunks::<64>());
    for k in 0..a_blocks.len() {
        let (x, y) = (&a_blocks[k], &b_blocks[k]);
        for i in 0..64 {
            sums[i] = x[i].mul_add(y[i], sums[i]);
        }
    }
    let mut tail = 0.0;
    for i in 0..a_rest.len() {
        tail += a_rest[i] * b_rest[i];
    }
    let mut width = 32;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0] + tail
}

#[inline(always)]
fn axpy_inner(a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "axpy of {} onto {} elements", x.len(), y.len());
    for (y, x) in y.iter_mut().zip(x) {
        *y = a.mul_add(*x, *y);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    //! The gather with its accumulators in registers: a column strip of y is loaded once, all named rows are added, and it is stored once.

    use std::arch::x86_64::*;

    /// # Safety
    /// The CPU must have AVX-512 F; every idx must be a whole row of width y.len() inside `rows`; idx and coef have equal length.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn gather_axpy(idx: &[u32], coef: &[f32], rows: &[f32], y: &mut [f32]) {
        let d = y.len();
        let mut column = 0;
        // SAFETY: strips stay inside a row: column + width <= d at each call.
        unsafe {
            while column + 256 <= d {
                strip::<16>(idx, coef, rows, d, column, y);
                column += 256;
            }
            while column + 64 <= d {
                strip::<4>(idx, coef, rows, d, column, y);
                column += 64;
            }
            while column < d {
                narrow(idx, coef, rows, d, column, y);
                column += 16;
            }
        }
    }

    /// # Safety
    /// As [`gather_axpy`], and column + 16 N <= d.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn strip<const N: usize>(idx: &[u32], coef: &[f32], rows: &[f32], d: usize, column: usize, y: &mut [f32]) {
        // SAFETY: see above; every load and store covers columns column..column + 16 N of a row that exists.
        unsafe {
            let y = y.as_mut_ptr().add(column);
            let mut sums = [_mm512_setzero_ps(); N];
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(y.add(16 * i));
            }
            for (&row, &c) in idx.iter().zip(coef) {
                let source = rows.as_ptr().add(row as usize * d + column);
                let c = _mm512_set1_ps(c);
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_fmadd_ps(c, _mm512_loadu_ps(source.add(16 * i)), *sum);
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(y.add(16 * i), *sum);
            }
        }
    }

    /// The last up to 16 columns, masked.
    ///
    /// # Safety
    /// As [`gather_axpy`], and column < d.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn narrow(idx: &[u32], coef: &[f32], rows: &[f32], d: usize, column: usize, y: &mut [f32]) {
        let width = 16.min(d - column);
        let mask = (((1u32 << width) - 1) & 0xffff) as __mmask16;
        // SAFETY: the mask keeps every access inside columns column..d.
        unsafe {
            let y = y.as_mut_ptr().add(column);
            let mut sum = _mm512_maskz_loadu_ps(mask, y);
            for (&row, &c) in idx.iter().zip(coef) {
                let source = _mm512_maskz_loadu_ps(mask, rows.as_ptr().add(row as usize * d + column));
                sum = _mm512_fmadd_ps(_mm512_set1_ps(c), source, sum);
            }
            _mm512_mask_storeu_ps(y, mask, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use rand::RngExt;

    fn random(n: usize, index: u64) -> Vec<f32> {
        let mut rng = seed::rng(0, "test/sparse", index);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn an_error_row_is_the_scaled_difference_and_its_square() {
        for d in [1, 15, 16, 33, 512] {
            let (x, mut x_hat) = (random(d, 7), random(d, 8));
            let want: Vec<f32> = x.iter().zip(&x_hat).map(|(x, y)| y - x).collect();
            let square: f64 = want.iter().map(|&e| f64::from(e).powi(2)).sum();
            let got = error_row(&x, 0.25, &mut x_hat);
            assert!((got - square).abs() < 1e-6 * square, "{d}: {got}, not {square}");
            assert!(x_hat.iter().zip(&want).all(|(got, want)| *got == 0.25 * want), "{d}");
        }
    }

    #[test]
    fn gathers_equal_the_dense_sums_at_every_width() {
        for d in [1, 5, 16, 33, 64, 79, 256, 340, 593] {
            let (rows, y) = (random(7 * d, 1), random(d, 2));
            let (idx, coef) = ([6u32, 0, 3, 3, 5, 1], [0.5f32, -2.0, 1.5, 0.25, -0.75, 1.0]);
            let want: Vec<f64> =
                (0..d).map(|i| y[i] as f64 + idx.iter().zip(&coef).map(|(&r, &c)| c as f64 * rows[r as usize * d + i] as f64).sum::<f64>()).collect();
            for gather in [gather_axpy, gather_axpy_portable] {
                let mut got = y.clone();
                gather(&idx, &coef, &rows, &mut got);
                assert!(got.iter().zip(&want).all(|(g, w)| (*g as f64 - w).abs() < 1e-6), "width {d}");
            }
            let apart: f64 = rows[..d].iter().zip(&y).map(|(a, b)| (*a as f64 - *b as f64).powi(2)).sum();
            assert!((squared_distance(&rows[..d], &y) as f64 - apart).abs() < 1e-5 * apart.max(1.0), "width {d}");
            let mut dots = [0.0; 6];
            gather_dot(&idx, &rows, &y, &mut dots);
            for (got, &r) in dots.iter().zip(&idx) {
                let want: f64 = (0..d).map(|i| rows[r as usize * d + i] as f64 * y[i] as f64).sum();
                assert!((*got as f64 - want).abs() < 1e-5, "width {d}: {got} {want}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "row 7 of width 5")]
    fn a_gather_outside_its_matrix_panics_with_the_row() {
        gather_axpy(&[7], &[1.0], &random(35, 0), &mut random(5, 1));
    }

    #[test]
    fn adam_equals_its_formula_in_f64() {
        let (p0, g) = (random(37, 1), random(37, 2));
        let (mut p, mut m, mut v) = (p0.clone(), vec![0.0; 37], vec![0.0; 37]);
        let (mut p64, mut m64, mut v64): (Vec<f64>, _, _) = (p0.iter().map(|&x| x as f64).collect(), vec![0.0; 37], vec![0.0; 37]);
        for t in 1..=3 {
            adam(&AdamStep::new(0.1, 0.9, 0.999, 1e-8, t), 0.5, &mut p, &mut m, &mut v, &g);
            for i in 0..37 {
                let gradient = 0.5 * g[i] as f64;
                m64[i] = 0.9 * m64[i] + 0.1 * gradient;
                v64[i] = 0.999 * v64[i] + 0.001 * gradient * gradient;
                p64[i] -= 0.1 * (m64[i] / (1.0 - 0.9f64.powi(t as i32))) / ((v64[i] / (1.0 - 0.999f64.powi(t as i32))).sqrt() + 1e-8);
            }
        }
        assert!(p.iter().zip(&p64).all(|(a, b)| (*a as f64 - b).abs() < 1e-5));
    }

    #[test]
    fn adam_reaches_the_minimum_of_a_parabola() {
        let target = random(5, 3);
        let (mut p, mut m, mut v) = (vec![0.0; 5], vec![0.0; 5], vec![0.0; 5]);
        for t in 1..=800 {
            let gradient: Vec<f32> = p.iter().zip(&target).map(|(p, t)| 2.0 * (p - t)).collect();
            adam(&AdamStep::new(0.05 * (1.0 - t as f64 / 801.0), 0.9, 0.999, 1e-8, t), 1.0, &mut p, &mut m, &mut v, &gradient);
        }
        assert!(p.iter().zip(&target).all(|(p, t)| (p - t).abs() < 1e-3), "{p:?} {target:?}");
    }

    #[test]
    fn the_relu_rows_equal_their_formulas() {
        let f = 37;
        let (bias, pre0, d0, weight) = (random(f, 1), random(f, 2), random(f, 3), random(f, 4));
        let mut pre = pre0.clone();
        relu_row(&bias, &mut pre);
        let want: Vec<f32> = pre0.iter().zip(&bias).map(|(p, b)| (p + b).max(0.0)).collect();
        assert_eq!(pre, want);
        let (mut d, mut sum_d, mut fires) = (d0.clone(), vec![1.0; f], vec![3u32; f]);
        relu_backward_row(&pre, 0.5, &weight, &mut d, &mut sum_d, &mut fires);
        for j in 0..f {
            let on = want[j] > 0.0;
            let expected = if on { d0[j] + 0.5 * weight[j] } else { 0.0 };
            assert!((d[j] - expected).abs() < 1e-6 && (sum_d[j] - 1.0 - expected).abs() < 1e-6);
            assert_eq!(fires[j], 3 + on as u32);
        }
    }
}
