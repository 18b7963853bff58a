//! The generator of SynthSAEBench (Chanin and Garriga-Alonso, arXiv 2602.14687): Zipf-like rates, features in trees, correlated firing.
//!
//! Features are numbered by rank, the most frequent first. The first of them form a forest in breadth-first order; the others are free.
//! - base rate of rank r = 1, 2 ...: rate_min + (rate_max - rate_min) (r^-a - N^-a) / (1 - N^-a);
//! - a child can fire only where its parent fires; of the children of one parent that would fire one is drawn, all alike;
//! - so that its rate stays near its base rate all the same, a child with siblings S is drawn at rate base / P (1 + sum over S of base / P),
//!   P the base rate of the parent;
//! - who would fire is a Gaussian copula (`copula`) with a factor F ~ scale * N(0, 1);
//! - the magnitude of an active feature is relu(mu_i + sigma_i N(0, 1)), mu linear over ranks, sigma_i = |N(m, s)| fixed for each feature; a feature
//!   whose magnitude is 0 does not fire; a child's is multiplied by magnitude / mu of its parent (where `scaled`).
//!
//! N = features, D = d_in, R = rank.

use super::{Dictionary, copula::Copula};
use crate::artifact::seed;
use crate::sae::SparseRows;
use crate::synth::normal;
use crate::synth::source::Generator;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForestConfig {
    pub n_features: usize,
    pub d_in: usize,
    pub rate_max: f64,
    pub rate_min: f64,
    /// a
    pub exponent: f64,
    pub roots: usize,
    pub branching: usize,
    /// Levels below the roots.
    pub depth: usize,
    /// R; the copula's factor has entries scale * N(0, 1).
    pub rank: usize,
    pub scale: f64,
    /// mu of the first and of the last feature.
    pub mean: (f64, f64),
    /// m and s of sigma_i = |N(m, s)|.
    pub spread: (f64, f64),
    /// Norm of what is added to every row.
    pub bias: f32,
    /// Adam steps, and their rate, that push directions apart; 0: directions are uniform on the sphere.
    pub apart_steps: u64,
    pub apart_lr: f64,
    /// Whether a child's magnitude is multiplied by magnitude / mu of its parent. Written only where it is not, so that data from before there was a choice keep their name.
    #[serde(skip_serializing_if = "is_scaled")]
    pub scaled: bool,
}

fn is_scaled(scaled: &bool) -> bool {
    *scaled
}

impl ForestConfig {
    /// SynthSAEBench-16k (version 2, with children scaled by their parents).
    pub fn bench_16k() -> Self {
        ForestConfig {
            n_features: 16_384,
            d_in: 768,
            rate_max: 0.4,
            rate_min: 5e-4,
            exponent: 0.5,
            roots: 128,
            branching: 4,
            depth: 3,
            rank: 25,
            scale: 0.1,
            mean: (5.0, 4.0),
            spread: (0.5, 0.5),
            bias: 0.5,
            apart_steps: 100,
            apart_lr: 3e-4,
            scaled: true,
        }
    }

    /// SynthSAEBench-16k as first uploaded, synth-sae-bench-16k-v1: by an error children are not scaled by their parents (docs of SAELens, synth_sae_bench).
    pub fn bench_16k_v1() -> Self {
        ForestConfig { scaled: false, ..Self::bench_16k() }
    }

    /// SynthSAEBench cut down to an eighth of the features in a sixth of the dimensions.
    pub fn bench_small() -> Self {
        ForestConfig { n_features: 2048, d_in: 128, roots: 16, ..Self::bench_16k() }
    }

    /// For tests: 4 trees of 1 + 3 + 9 features and 8 free ones in 16 dimensions.
    #[cfg(test)]
    pub fn tiny() -> Self {
        ForestConfig { n_features: 60, d_in: 17, roots: 4, branching: 3, depth: 2, rank: 5, apart_steps: 3, ..Self::bench_16k() }
    }

    /// Features in trees.
    pub fn in_trees(&self) -> usize {
        (0..=self.depth).map(|level| self.roots * self.branching.pow(level as u32)).sum()
    }

    fn base_rate(&self, feature: usize) -> f64 {
        let power = |rank: f64| rank.powf(-self.exponent);
        let last = power(self.n_features as f64);
        self.rate_min + (self.rate_max - self.rate_min) * (power((feature + 1) as f64) - last) / (1.0 - last)
    }

    /// Children of a feature; empty for leaves and free features.
    fn children(&self, feature: usize) -> std::ops::Range<usize> {
        let (mut first, mut size) = (0, self.roots);
        for _ in 0..self.depth {
            if feature < first + size {
                let child = first + size + (feature - first) * self.branching;
                return child..child + self.branching;
            }
            (first, size) = (first + size, size * self.branching);
        }
        0..0
    }
}

pub struct Forest {
    config: ForestConfig,
    dictionary: Dictionary,
    /// (N,): at which a feature is drawn, its parent active.
    rates: Vec<f64>,
    /// (N, R)
    factor: Vec<f32>,
    copula: Copula,
    /// (N,): mu_i and sigma_i.
    mean: Vec<f32>,
    spread: Vec<f32>,
}

impl Forest {
    /// The forest number `world` of these settings: directions, rates and magnitudes, not yet any row.
    pub fn new(config: &ForestConfig, world: u64) -> Self {
        let n = config.n_features;
        assert!(config.in_trees() <= n, "{} features are in trees, there are {n}", config.in_trees());
        let mut dictionary = Dictionary::random(n, config.d_in, world).with_bias(config.bias, world);
        dictionary.spread_apart(config.apart_steps, config.apart_lr);
        let mut rates: Vec<f64> = (0..n).map(|i| config.base_rate(i)).collect();
        for parent in 0..config.in_trees() {
            let above = config.base_rate(parent);
            let together: f64 = config.children(parent).map(|child| config.base_rate(child)).sum();
            for child in config.children(parent) {
                let base = config.base_rate(child);
                rates[child] = base / above * (1.0 + (together - base) / above);
            }
        }
        let mut factor = vec![0.0; n * config.rank];
        normal::fill(&mut seed::rng(world, "synth/factor", 0), &mut factor);
        factor.iter_mut().for_each(|f| *f *= config.scale as f32);
        let mut spread = vec![0.0; n];
        normal::fill(&mut seed::rng(world, "synth/spread", 0), &mut spread);
        spread.iter_mut().for_each(|s| *s = (config.spread.0 as f32 + config.spread.1 as f32 * *s).abs());
        let part = |i: usize| i as f64 / (n - 1).max(1) as f64;
        let mean = (0..n).map(|i| (config.mean.0 + (config.mean.1 - config.mean.0) * part(i)) as f32).collect();
        let copula = Copula::new(&rates, &factor, config.rank);
        Forest { config: config.clone(), dictionary, rates, factor, copula, mean, spread }
    }

    /// The smallest rate at which a feature fires by these rates, exclusion of siblings treated as if they were independent.
    pub fn smallest_rate(&self) -> f64 {
        self.expected_rates().into_iter().fold(1.0, f64::min)
    }

    /// Rate of each feature if features were independent but for their parents and the exclusion of siblings: with m others active, one of m + 1 stays.
    fn expected_rates(&self) -> Vec<f64> {
        let mut expected = self.rates.clone();
        for parent in 0..self.config.in_trees() {
            let children = self.config.children(parent);
            for child in children.clone() {
                // Chances that m = 0, 1 ... of the others would fire.
                let mut others = vec![1.0];
                for sibling in children.clone().filter(|&s| s != child) {
                    let p = self.rates[sibling];
                    others.push(0.0);
                    for m in (0..others.len()).rev() {
                        others[m] = others[m] * (1.0 - p) + if m > 0 { others[m - 1] * p } else { 0.0 };
                    }
                }
                let stays: f64 = others.iter().enumerate().map(|(m, chance)| chance / (m + 1) as f64).sum();
                expected[child] = expected[parent] * self.rates[child] * stays;
            }
        }
        expected
    }

    /// The raw magnitude of a feature that would fire, before its parent's factor.
    fn magnitude(&self, rng: &mut ChaCha8Rng, feature: usize) -> f32 {
        (self.mean[feature] + self.spread[feature] * normal::draw(rng)).max(0.0)
    }

    /// A root fires: it, and at most one child of each that fires, are added to `row`.
    fn grow(&self, rng: &mut ChaCha8Rng, root: usize, shared: &[f32], row: &mut Vec<(u32, f32)>) {
        let (mut feature, mut magnitude) = (root, self.magnitude(rng, root));
        while magnitude > 0.0 {
            row.push((feature as u32, magnitude));
            let (mut would_fire, mut chosen) = (0, None);
            for child in self.config.children(feature) {
                if !normal::is_below(rng.random(), self.copula.z(child, shared)) {
                    continue;
                }
                let raw = self.magnitude(rng, child);
                if raw > 0.0 {
                    would_fire += 1;
                    // Each of those that would fire is the chosen one in the end with the same probability.
                    if rng.random_range(0..would_fire) == 0 {
                        chosen = Some((child, raw));
                    }
                }
            }
            let Some((child, raw)) = chosen else { return };
            let scaled = if self.config.scaled { raw * magnitude / self.mean[feature] } else { raw };
            (feature, magnitude) = (child, scaled);
        }
    }
}

impl Generator for Forest {
    fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// Roots are asked one by one, children only where their parent fires, free features by skips: the cost is that of what fires.
    fn draw(&self, rng: &mut ChaCha8Rng, n: usize, rows: &mut SparseRows) {
        let shared = self.copula.shared(rng, n);
        let mut active: Vec<Vec<(u32, f32)>> = vec![Vec::with_capacity(64); n];
        let width = self.config.rank + 1;
        self.copula
            .each(0..self.config.roots, &shared, rng, |rng, row, root| self.grow(rng, root, &shared[row * width..][..width], &mut active[row]));
        self.copula.each_rare(self.config.in_trees()..self.config.n_features, &shared, rng, |rng, row, feature| {
            let magnitude = self.magnitude(rng, feature);
            if magnitude > 0.0 {
                active[row].push((feature as u32, magnitude));
            }
        });
        for row in &mut active {
            row.sort_unstable_by_key(|(feature, _)| *feature);
            let (ids, magnitudes): (Vec<u32>, Vec<f32>) = row.drain(..).unzip();
            rows.push_row(&ids, &magnitudes);
        }
    }
}

/// The oracle of [`Forest`]: the published steps one after the other on all features of a row, each normal draw made.
pub struct Dense<'a>(pub &'a Forest);

impl Generator for Dense<'_> {
    fn dictionary(&self) -> &Dictionary {
        &self.0.dictionary
    }

    fn draw(&self, rng: &mut ChaCha8Rng, n: usize, rows: &mut SparseRows) {
        let forest = self.0;
        let (n_features, rank) = (forest.config.n_features, forest.config.rank);
        let threshold: Vec<f64> = forest.rates.iter().map(|p| normal::quantile(1.0 - p)).collect();
        for _ in 0..n {
            let e: Vec<f32> = (0..rank).map(|_| normal::draw(rng)).collect();
            let mut acts: Vec<f32> = (0..n_features)
                .map(|i| {
                    let factor = &forest.factor[i * rank..][..rank];
                    let own = (1.0 - factor.iter().map(|f| f * f).sum::<f32>()).sqrt();
                    let g = factor.iter().zip(&e).map(|(f, e)| f * e).sum::<f32>() + own * normal::draw(rng);
                    let magnitude = forest.magnitude(rng, i);
                    if g as f64 > threshold[i] { magnitude } else { 0.0 }
                })
                .collect();
            // Breadth-first order: a parent is final before its children are looked at.
            for parent in 0..forest.config.in_trees() {
                let children = forest.config.children(parent);
                let would_fire: Vec<usize> = children.clone().filter(|&child| acts[child] > 0.0).collect();
                let stays = if would_fire.is_empty() { 0 } else { would_fire[rng.random_range(0..would_fire.len())] };
                let scale = if forest.config.scaled { acts[parent] / forest.mean[parent] } else { f32::from(u8::from(acts[parent] > 0.0)) };
                for child in children {
                    acts[child] *= if child == stays { scale } else { 0.0 };
                }
            }
            let fires: Vec<u32> = (0..n_features as u32).filter(|&i| acts[i as usize] > 0.0).collect();
            let magnitudes: Vec<f32> = fires.iter().map(|&i| acts[i as usize]).collect();
            rows.push_row(&fires, &magnitudes);
        }
    }
}

#[cfg(test)]
#[path = "forest_tests.rs"]
mod tests;
