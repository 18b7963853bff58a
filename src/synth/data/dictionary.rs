//! The true directions: random, random and spread apart, or orthogonal.
//!
//! N = features, D = d_in. Matrices are row-major, one direction per row.

use crate::artifact::seed;
use crate::kernels::gemm::{matmul_nn, matmul_tn};
use crate::kernels::sparse::{AdamStep, adam, dot};
use crate::synth::normal;
use rayon::prelude::*;

/// Unit directions, and what is added to every row.
#[derive(Debug, Clone, PartialEq)]
pub struct Dictionary {
    pub d_in: usize,
    /// (N, D)
    pub directions: Vec<f32>,
    /// (D,)
    pub bias: Vec<f32>,
}

impl Dictionary {
    /// `n` directions uniform on the sphere; no bias.
    pub fn random(n: usize, d_in: usize, world: u64) -> Self {
        let mut directions = vec![0.0; n * d_in];
        directions.par_chunks_mut(d_in).enumerate().for_each(|(i, v)| {
            normal::fill(&mut seed::rng(world, "synth/directions", i as u64), v);
            to_norm(v, 1.0);
        });
        Dictionary { d_in, directions, bias: vec![0.0; d_in] }
    }

    /// `n` <= D orthogonal directions, otherwise random; no bias.
    pub fn orthogonal(n: usize, d_in: usize, world: u64) -> Self {
        assert!(n <= d_in, "{n} directions cannot be orthogonal in {d_in} dimensions");
        let mut dictionary = Self::random(n, d_in, world);
        for i in 0..n {
            let (before, rest) = dictionary.directions.split_at_mut(i * d_in);
            let v = &mut rest[..d_in];
            // Gram and Schmidt, twice: once leaves what rounding put back.
            for _ in 0..2 {
                for u in before.chunks_exact(d_in) {
                    let product = dot(u, v);
                    v.iter_mut().zip(u).for_each(|(v, u)| *v -= product * u);
                }
                to_norm(v, 1.0);
            }
        }
        dictionary
    }

    /// The same with a bias of this norm in a random direction.
    pub fn with_bias(mut self, norm: f32, world: u64) -> Self {
        normal::fill(&mut seed::rng(world, "synth/bias", 0), &mut self.bias);
        to_norm(&mut self.bias, norm);
        self
    }

    /// Adam (0.9, 0.999) on  sum over i != j of (v_i . v_j)^2  +  N sum_i (|v_i|^2 - 1)^2,  then unit norms again.
    ///
    /// The gradient is 4 (V S - |v_i|^2 v_i) + 4 N (|v_i|^2 - 1) v_i with S = V^T V: a D x D matrix, where the published code makes the N x N one.
    /// Source: SynthSAEBench (arXiv 2602.14687), orthogonalisation.
    pub fn spread_apart(&mut self, steps: u64, lr: f64) {
        let (d, v) = (self.d_in, &mut self.directions);
        let n = v.len() / d;
        let (mut scatter, mut gradient) = (vec![0.0; d * d], vec![0.0; n * d]);
        let (mut first, mut second) = (vec![0.0; n * d], vec![0.0; n * d]);
        for step in 1..=steps {
            matmul_tn(d, d, n, v, v, &mut scatter, false);
            matmul_nn(n, d, d, v, &scatter, &mut gradient, false);
            let adam_step = AdamStep::new(lr, 0.9, 0.999, 1e-8, step);
            let rows = (v.par_chunks_mut(d), first.par_chunks_mut(d), second.par_chunks_mut(d), gradient.par_chunks_mut(d));
            rows.into_par_iter().for_each(|(v, first, second, gradient)| {
                let square = dot(v, v);
                let inward = n as f32 * (square - 1.0) - square;
                gradient.iter_mut().zip(&*v).for_each(|(g, v)| *g = 4.0 * (*g + inward * v));
                adam(&adam_step, 1.0, v, first, second, gradient);
            });
        }
        v.par_chunks_mut(d).for_each(|v| to_norm(v, 1.0));
    }

    pub fn n_features(&self) -> usize {
        self.directions.len() / self.d_in
    }

    /// (D,)
    pub fn direction(&self, feature: usize) -> &[f32] {
        &self.directions[feature * self.d_in..][..self.d_in]
    }
}

fn to_norm(v: &mut [f32], norm: f32) {
    let is = v.iter().map(|&x| (x as f64).powi(2)).sum::<f64>().sqrt();
    v.iter_mut().for_each(|x| *x = (*x as f64 * norm as f64 / is) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sum of squared cosines of all pairs.
    fn crowding(dictionary: &Dictionary) -> f64 {
        let n = dictionary.n_features();
        let pairs = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
        pairs.map(|(i, j)| (dot(dictionary.direction(i), dictionary.direction(j)) as f64).powi(2)).sum()
    }

    #[test]
    fn directions_are_unit_and_another_world_has_others() {
        let random = Dictionary::random(13, 7, 1).with_bias(0.5, 1);
        assert!((0..13).all(|i| (dot(random.direction(i), random.direction(i)) - 1.0).abs() < 1e-6));
        assert!((dot(&random.bias, &random.bias).sqrt() - 0.5).abs() < 1e-6);
        assert_eq!(random, Dictionary::random(13, 7, 1).with_bias(0.5, 1));
        assert_ne!(random.directions, Dictionary::random(13, 7, 2).directions);
        assert!(crowding(&Dictionary::orthogonal(7, 7, 1)) < 1e-10);
    }

    #[test]
    fn spreading_apart_follows_the_gradient_of_its_stated_loss() {
        // One step of Adam from rest moves each coordinate by lr against the sign of its gradient; here by finite differences of the plain loss.
        let (n, d, lr) = (11, 5, 1e-3);
        let start = Dictionary::random(n, d, 3);
        let loss = |v: &[f64]| {
            let product = |i: usize, j: usize| (0..d).map(|k| v[i * d + k] * v[j * d + k]).sum::<f64>();
            let pairs: f64 = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|(i, j)| i != j).map(|(i, j)| product(i, j).powi(2)).sum();
            pairs + n as f64 * (0..n).map(|i| (product(i, i) - 1.0).powi(2)).sum::<f64>()
        };
        let v: Vec<f64> = start.directions.iter().map(|&x| x as f64).collect();
        let mut want = start.clone();
        for i in 0..n * d {
            let at = |by: f64| loss(&v.iter().enumerate().map(|(k, &x)| if k == i { x + by } else { x }).collect::<Vec<_>>());
            let gradient = at(1e-5) - at(-1e-5);
            assert!(gradient.abs() > 1e-9, "the sign of gradient {i} is beyond doubt");
            want.directions[i] -= (lr * gradient.signum()) as f32;
        }
        want.directions.chunks_exact_mut(d).for_each(|v| to_norm(v, 1.0));
        let mut got = start.clone();
        got.spread_apart(1, lr);
        assert!(got.directions.iter().zip(&want.directions).all(|(g, w)| (g - w).abs() < 1e-6));
        got.spread_apart(200, 3e-3);
        // Welch: n unit vectors in d dimensions have at least (n^2/d - n)/2 = 6.6 of it.
        assert!(crowding(&start) > 9.0 && crowding(&got) < 6.8, "{} {}", crowding(&start), crowding(&got));
    }
}
