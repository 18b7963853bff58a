//! Which features fire together: a Gaussian copula of low rank, drawn at the cost of the features that fire.
//!
//! g_i = F_i . e + s_i u_i with shared e ~ N(0, I_rank), own u_i ~ N(0, 1) and s_i^2 = 1 - |F_i|^2; feature i fires where g_i > t_i = Phi^-1(1 - p_i).
//! Given e, features are independent and i fires with probability Phi(z_i), z_i = (F_i . e - t_i) / s_i. Rank 0: all features are independent.
//!
//! n = rows, R = rank, N = features.

use crate::kernels::gemm::matmul_nt;
use crate::synth::normal;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Rare features that share one bound of their rates.
const GROUP: usize = 16;

/// Features whose z are computed at once: with 64 rows they stay in the first-level cache.
const TILE: usize = 9 * GROUP;

pub struct Copula {
    rank: usize,
    /// (N, R + 1): F_i / s_i, then -t_i / s_i; z_i is its product with (e, 1).
    slope: Vec<f32>,
}

impl Copula {
    /// Shapes: rates (N,), strictly between 0 and 1; factor F (N, R) with |F_i| < 1.
    pub fn new(rates: &[f64], factor: &[f32], rank: usize) -> Self {
        assert_eq!(factor.len(), rates.len() * rank, "factor of {} features of rank {rank}", rates.len());
        let mut slope = Vec::with_capacity(rates.len() * (rank + 1));
        for (i, &p) in rates.iter().enumerate() {
            let factor = &factor[i * rank..][..rank];
            let own = 1.0 - factor.iter().map(|&f| (f as f64).powi(2)).sum::<f64>();
            assert!(own > 0.0, "feature {i} has {own} left of its own variance");
            slope.extend(factor.iter().map(|&f| (f as f64 / own.sqrt()) as f32));
            slope.push((normal::quantile(p) / own.sqrt()) as f32);
        }
        Copula { rank, slope }
    }

    /// What the features of each of n rows share: (n, R + 1), e and a 1.
    pub fn shared(&self, rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
        let mut e = vec![1.0; n * (self.rank + 1)];
        e.chunks_exact_mut(self.rank + 1).for_each(|e| normal::fill(rng, &mut e[..self.rank]));
        e
    }

    /// z of one feature in a row whose shared part is `e` (R + 1,).
    #[inline]
    pub fn z(&self, feature: usize, e: &[f32]) -> f32 {
        let slope = &self.slope[feature * e.len()..][..e.len()];
        let (mut sums, mut rest) = ([0.0f32; 8], 0.0);
        let (pieces, tail) = (slope.chunks_exact(8), slope.len() / 8 * 8);
        for (a, b) in pieces.zip(e.chunks_exact(8)) {
            (0..8).for_each(|i| sums[i] += a[i] * b[i]);
        }
        for (a, b) in slope[tail..].iter().zip(&e[tail..]) {
            rest += a * b;
        }
        sums.iter().sum::<f32>() + rest
    }

    /// Calls `fires(rng, row, feature)` for each feature of `features` that fires in each row of `shared`, asking every one of them.
    pub fn each(&self, features: Range<usize>, shared: &[f32], rng: &mut ChaCha8Rng, mut fires: impl FnMut(&mut ChaCha8Rng, usize, usize)) {
        self.tiles(features, shared, |row, first, z| {
            for (i, &z) in z.iter().enumerate() {
                if normal::is_below(rng.random(), z) {
                    fires(rng, row, first + i);
                }
            }
        });
    }

    /// The same, in distribution, for features that rarely fire. In groups of [`GROUP`] the largest z bounds all rates by Q; a candidate fires with
    /// probability Phi(z) / Q, and candidates are a geometric number of features apart. An exponential clock counts down to the next one: passing m
    /// features takes m (-ln(1 - Q)) of it, which is a subtraction for a group without a candidate, as most are.
    pub fn each_rare(&self, features: Range<usize>, shared: &[f32], rng: &mut ChaCha8Rng, mut fires: impl FnMut(&mut ChaCha8Rng, usize, usize)) {
        let exponential = |rng: &mut ChaCha8Rng| -(1.0 - rng.random::<f64>()).ln();
        let mut left = exponential(rng);
        self.tiles(features, shared, |row, first, z| {
            for (group, z) in z.chunks(GROUP).enumerate() {
                let (bound, clock) = normal::bound(largest(z));
                let mut place = 0;
                loop {
                    let passing = (z.len() - place) as f64 * clock;
                    if left >= passing {
                        left -= passing;
                        break;
                    }
                    place += ((left / clock) as usize).min(z.len() - 1 - place);
                    if normal::is_below(rng.random::<f64>() * bound, z[place]) {
                        fires(rng, row, first + group * GROUP + place);
                    }
                    left = exponential(rng);
                    place += 1;
                    // Where the bound is 1 the clock is infinite: everyone is a candidate, and nothing is left to pass.
                    if place == z.len() {
                        break;
                    }
                }
            }
        });
    }

    /// Calls `row(row, first feature, z of up to TILE features)` over all tiles and rows.
    fn tiles(&self, features: Range<usize>, shared: &[f32], mut row: impl FnMut(usize, usize, &[f32])) {
        let width = self.rank + 1;
        let n = shared.len() / width;
        let mut z = vec![0.0; n * TILE.min(features.len())];
        for first in features.clone().step_by(TILE) {
            let wide = TILE.min(features.end - first);
            let z = &mut z[..n * wide];
            matmul_nt(n, wide, width, shared, &self.slope[first * width..][..wide * width], z, false);
            z.chunks_exact(wide).enumerate().for_each(|(r, z)| row(r, first, z));
        }
    }
}

/// The factor (n, n) of the copula whose correlations are those of `correlation` (n, n), or near them where that is no matrix of correlations: negative
/// eigenvalues become 0 and rows are brought back to one length, 0.9999 squared, so that each feature has a little of its own.
pub fn factor_of(correlation: &[f64], n: usize) -> Vec<f32> {
    let (values, vectors) = eigen(correlation, n);
    let mut factor = vec![0.0; n * n];
    for (i, row) in factor.chunks_exact_mut(n).enumerate() {
        let raw: Vec<f64> = (0..n).map(|k| vectors[i * n + k] * values[k].max(0.0).sqrt()).collect();
        let norm = raw.iter().map(|f| f * f).sum::<f64>().sqrt();
        row.iter_mut().zip(&raw).for_each(|(f, raw)| *f = (raw / norm * 0.9999f64.sqrt()) as f32);
    }
    factor
}

/// Eigenvalues (n,) and, as columns (n, n), eigenvectors of a symmetric matrix, by Jacobi's rotations.
fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut v: Vec<f64> = (0..n * n).map(|ij| f64::from(u8::from(ij / n == ij % n))).collect();
    for _ in 0..100 {
        let off: f64 = (0..n * n).filter(|ij| ij / n != ij % n).map(|ij| a[ij] * a[ij]).sum();
        if off < 1e-20 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] == 0.0 {
                    continue;
                }
                // The rotation that makes a_pq zero.
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (v[k * n + p], v[k * n + q]);
                    (v[k * n + p], v[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), v)
}

/// The largest of a few numbers: of a whole group without a branch, halving it.
#[inline]
fn largest(z: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let Ok(mut lanes) = <[f32; GROUP]>::try_from(z) else { return z.iter().fold(f32::NEG_INFINITY, |a, &b| larger(a, b)) };
    let mut half = GROUP / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = larger(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;

    /// How often each feature and each pair fired in n rows: rates (N,) and pairs (N, N).
    fn counts(n_features: usize, n: usize, index: u64, draw: impl Fn(&mut ChaCha8Rng, &mut Vec<Vec<usize>>)) -> (Vec<f64>, Vec<f64>) {
        let (mut rates, mut pairs) = (vec![0.0; n_features], vec![0.0; n_features * n_features]);
        for block in 0..n as u64 / 50 {
            let mut rows = vec![Vec::new(); 50];
            draw(&mut seed::rng(index, "test/copula", block), &mut rows);
            for row in rows {
                for &i in &row {
                    rates[i] += 1.0 / n as f64;
                    row.iter().for_each(|&j| pairs[i * n_features + j] += 1.0 / n as f64);
                }
            }
        }
        (rates, pairs)
    }

    /// Rates from 0.002 to 0.3 and a factor of rank 3 with |F_i|^2 up to 0.75.
    fn example() -> (Vec<f64>, Vec<f32>) {
        let rates = (0..29).map(|i| 0.002 + 0.3 * (1.0 - i as f64 / 29.0).powi(4)).collect();
        let factor = (0..29 * 3).map(|i| 0.5 * ((i * i) as f32).sin()).collect();
        (rates, factor)
    }

    #[test]
    fn skipping_and_asking_everyone_and_thresholding_normal_draws_agree_in_rates_and_pairs() {
        let ((rates, factor), n, m) = (example(), 40_000, 29);
        let copula = Copula::new(&rates, &factor, 3);
        let asked = counts(m, n, 1, |rng, rows| {
            let shared = copula.shared(rng, 50);
            copula.each(0..m, &shared, rng, |_, row, i| rows[row].push(i));
        });
        let skipped = counts(m, n, 2, |rng, rows| {
            let shared = copula.shared(rng, 50);
            copula.each_rare(0..m, &shared, rng, |_, row, i| rows[row].push(i));
        });
        let plain = counts(m, n, 3, |rng, rows| {
            for row in rows {
                let e: Vec<f64> = (0..3).map(|_| normal::draw(rng) as f64).collect();
                for i in 0..m {
                    let factor: Vec<f64> = factor[i * 3..][..3].iter().map(|&f| f as f64).collect();
                    let own = (1.0 - factor.iter().map(|f| f * f).sum::<f64>()).sqrt();
                    let g = factor.iter().zip(&e).map(|(f, e)| f * e).sum::<f64>() + own * normal::draw(rng) as f64;
                    if g > normal::quantile(1.0 - rates[i]) {
                        row.push(i);
                    }
                }
            }
        });
        for (i, &p) in rates.iter().enumerate() {
            for (way, (found, _)) in [("asked", &asked), ("skipped", &skipped), ("plain", &plain)] {
                let sigma = (p * (1.0 - p) / n as f64).sqrt();
                assert!((found[i] - p).abs() < 4.5 * sigma, "{way}: feature {i} fires at {}, not {p}", found[i]);
            }
        }
        for ij in 0..m * m {
            let p = plain.1[ij].max(1.0 / n as f64);
            for (way, found) in [("asked", asked.1[ij]), ("skipped", skipped.1[ij])] {
                assert!((found - plain.1[ij]).abs() < 6.0 * (2.0 * p / n as f64).sqrt(), "{way}: pair {ij} fires at {found}, not {}", plain.1[ij]);
            }
        }
        // The pairs are not those of independent features: the test above can tell.
        let dependent = (0..m * m).filter(|ij| ij / m < ij % m).filter(|ij| plain.1[*ij] > 2.0 * rates[ij / m] * rates[ij % m]).count();
        assert!(dependent > 50, "{dependent} pairs fire together twice as often as by chance");
    }

    #[test]
    fn the_factor_of_correlations_has_them_and_of_impossible_ones_some_that_are_near() {
        let product = |factor: &[f32], i: usize, j: usize| (0..3).map(|k| factor[i * 3 + k] as f64 * factor[j * 3 + k] as f64).sum::<f64>();
        let factor = factor_of(&[1.0, 0.5, -0.3, 0.5, 1.0, 0.2, -0.3, 0.2, 1.0], 3);
        for (i, j, want) in [(0, 1, 0.5), (0, 2, -0.3), (1, 2, 0.2), (0, 0, 1.0), (2, 2, 1.0)] {
            assert!((product(&factor, i, j) - 0.9999 * want).abs() < 1e-6, "{i} {j}");
        }
        // Three numbers cannot all go against each other: eigenvalues -0.6, 1.8, 1.8. Without the negative one all correlations are -1/2.
        let factor = factor_of(&[1.0, -0.8, -0.8, -0.8, 1.0, -0.8, -0.8, -0.8, 1.0], 3);
        assert!((product(&factor, 0, 1) + 0.49995).abs() < 1e-6 && (product(&factor, 1, 2) + 0.49995).abs() < 1e-6);
    }

    #[test]
    fn features_of_rank_0_are_independent_and_a_sure_one_always_fires() {
        let rates = [1.0 - 1e-15, 0.5, 0.01];
        let copula = Copula::new(&rates, &[], 0);
        let (found, pairs) = counts(3, 20_000, 4, |rng, rows| {
            let shared = copula.shared(rng, 50);
            copula.each_rare(0..3, &shared, rng, |_, row, i| rows[row].push(i));
        });
        assert!((found[0] - 1.0).abs() < 1e-9 && (found[1] - 0.5).abs() < 0.015 && (found[2] - 0.01).abs() < 0.003, "{found:?}");
        assert!((pairs[5] - 0.005).abs() < 0.0022, "{}", pairs[5]);
    }
}
