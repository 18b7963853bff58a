//! Pearson's correlation and the cosine of each unit with each coordinate of the hook, from sums in f64.
//!
//! r = (n sum(a x) - sum(a) sum(x)) / sqrt((n sum(a^2) - sum(a)^2) (n sum(x^2) - sum(x)^2)), over all n tokens that count, those where the unit
//! is silent included; cosine = sum(a x) / sqrt(sum(a^2) sum(x^2)) over the same. U = units, D = d_in. Memory: 8 U D bytes.

use serde::{Deserialize, Serialize};

/// Running sums. Rows are added in order of t, one at a time, so that they do not depend on batches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    pub n: u64,
    /// (U, D); empty where correlations are not asked for.
    pub products: Vec<f64>,
    /// (D,)
    pub sum: Vec<f64>,
    pub squares: Vec<f64>,
}

impl Moments {
    pub fn new(n_units: usize, d_in: usize) -> Self {
        Moments { n: 0, products: vec![0.0; n_units * d_in], sum: vec![0.0; d_in], squares: vec![0.0; d_in] }
    }

    /// Adds one row x (D,) that counts.
    pub fn row(&mut self, x: &[f32]) {
        self.n += 1;
        for ((sum, square), &x) in self.sum.iter_mut().zip(&mut self.squares).zip(x) {
            *sum += x as f64;
            *square += x as f64 * x as f64;
        }
    }

    /// (coordinate, r, cosine) of the `n_best` with the largest |r| for unit `u`, largest first; `sums` are sum(a) and sum(a^2).
    pub fn strongest(&self, u: usize, sums: (f64, f64), n_best: usize) -> Vec<(u32, f32, f32)> {
        let (n, d) = (self.n as f64, self.sum.len());
        let variance = n * sums.1 - sums.0 * sums.0;
        if variance <= 0.0 || self.products.is_empty() {
            return vec![];
        }
        let r = |i: usize| {
            let of_x = n * self.squares[i] - self.sum[i] * self.sum[i];
            let covariance = n * self.products[u * d + i] - sums.0 * self.sum[i];
            // A coordinate that never changes correlates with nothing; what cancels below 1e-12 of its terms is rounding.
            if of_x > 1e-12 * n * self.squares[i] { Some((covariance / (variance * of_x).sqrt()) as f32) } else { None }
        };
        let mut found: Vec<(u32, f32)> = (0..d).filter_map(|i| Some((i as u32, r(i)?))).collect();
        found.sort_unstable_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        found.truncate(n_best);
        let cosine = |i: usize| (self.products[u * d + i] / (sums.1 * self.squares[i]).sqrt()) as f32;
        found.into_iter().map(|(i, r)| (i, r, cosine(i as usize))).collect()
    }
}
