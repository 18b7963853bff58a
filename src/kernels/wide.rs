//! Sums in f64 over rows in f32.

use super::simd::dispatch;

/// Running values kept in registers: eight of AVX-512.
const WIDE: usize = 64;

dispatch! {
    /// sum (D,) += a x\[row\] over `rows` = (row, a), in their order: the bits do not depend on how the rows are cut into calls.
    ///
    /// Shapes: x (N, D). Same result as [`add_rows_naive`], bit for bit.
    pub fn add_rows_wide(rows: &[(u32, f32)], x: &[f32], sum: &mut [f64]) {
        let d = sum.len();
        for (chunk, sum) in sum.chunks_mut(WIDE).enumerate() {
            let from = chunk * WIDE;
            if let Ok(sum) = <&mut [f64; WIDE]>::try_from(&mut *sum) {
                let mut running = *sum;
                for &(row, a) in rows {
                    let x = &x[row as usize * d + from..][..WIDE];
                    for i in 0..WIDE {
                        running[i] += a as f64 * x[i] as f64;
                    }
                }
                *sum = running;
            } else {
                for &(row, a) in rows {
                    let x = &x[row as usize * d + from..];
                    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += a as f64 * *x as f64);
                }
            }
        }
    }
}

/// The oracle of [`add_rows_wide`].
pub fn add_rows_naive(rows: &[(u32, f32)], x: &[f32], sum: &mut [f64]) {
    let d = sum.len();
    for &(row, a) in rows {
        for i in 0..d {
            sum[i] += a as f64 * x[row as usize * d + i] as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use rand::RngExt;

    #[test]
    fn wide_sums_equal_the_naive_ones_bit_for_bit_however_rows_are_cut() {
        for d in [1, 63, 64, 131] {
            let mut rng = seed::rng(0, "test/wide", d as u64);
            let x: Vec<f32> = (0..9 * d).map(|_| rng.random_range(-1.0..1.0)).collect();
            let rows: Vec<(u32, f32)> = [8, 0, 3, 3, 5].iter().map(|&row| (row, rng.random_range(0.0..2.0))).collect();
            let start: Vec<f64> = (0..d).map(|i| i as f64).collect();
            let (mut wide, mut naive, mut cut) = (start.clone(), start.clone(), start);
            add_rows_wide(&rows, &x, &mut wide);
            add_rows_naive(&rows, &x, &mut naive);
            rows.iter().for_each(|row| add_rows_wide(&[*row], &x, &mut cut));
            assert!(wide == naive && wide == cut, "width {d}");
        }
    }
}
