//! What a training will cost, told before it begins.

use super::architectures::Selection;
use super::{TrainConfig, history};
use crate::artifact::{seed, size};
use crate::kernels::gemm::matmul_nt;
use rand::RngExt;
use std::time::Instant;

/// Products that the first steps of a penalised SAE make while half of its latents are active, over those of the encoder alone.
const DENSE_PRODUCTS: f64 = 5.0;

/// Share of the run in which much is active, where a penalty makes the SAE sparse.
const DENSE_SHARE: f64 = 0.15;

/// Time of the rest of a step over that of the encoder's product.
const REST: f64 = 0.35;

/// Sizes and work of one training.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Of the products, for the whole run.
    pub flop: f64,
    /// Weights, moments, gradients and the buffers of a step.
    pub ram_bytes: u64,
    pub disk_bytes: u64,
    pub snapshot_bytes: u64,
    pub checkpoint_bytes: u64,
    /// Active latents per row, where the architecture or a target fixes it.
    pub l0: Option<f64>,
}

impl Forecast {
    pub fn of(config: &TrainConfig) -> Self {
        let (d, e, f) = (config.sae.d_in as u64, config.sae.d_out() as u64, config.sae.d_sae as u64);
        let weights = 4 * ((d + e) * f + f + e + if config.sae.skip() { d * e } else { 0 });
        let penalised = config.sae.recipe.sparsity(config.sae.d_out()).is_some();
        // A refining step encodes twice, a pursuit once for each latent that it takes.
        let encodes = match config.sae.recipe.selection() {
            Selection::Pursuit { k, .. } => k as f64,
            _ if config.sae.recipe.refine().is_some() => 2.0,
            _ => 1.0,
        };
        let products = encodes + if penalised { DENSE_SHARE * (DENSE_PRODUCTS - 1.0) } else { 0.0 };
        let l0 = config.sae.recipe.settings().iter().find(|(name, _)| name == "k").and_then(|(_, k)| k.as_f64()).or(config.target_l0);
        // A block of pre-activations, its gradients where a step may be dense, and rows and errors of the batch.
        let block = (1u64 << 26) * if penalised { 2 } else { 1 };
        let batch =
            4 * config.batch as u64 * (d + 2 * e + 6 * l0.unwrap_or(100.0) as u64 + if config.sae.target.is_some() { 2 * (d + e) } else { 0 });
        let snapshots = config.snapshot_steps().len() as u64 * history::bytes(&config.sae);
        Forecast {
            flop: 2.0
                * (products * (d * f) as f64 + if config.sae.skip() { 2.0 * (d * e) as f64 } else { 0.0 })
                * (config.steps() * config.batch as u64) as f64,
            ram_bytes: 4 * weights + block + batch,
            disk_bytes: weights + snapshots,
            snapshot_bytes: snapshots,
            checkpoint_bytes: 3 * weights,
            l0,
        }
    }

    /// One line: work, memory, sparsity.
    pub fn in_words(&self) -> String {
        let l0 = self.l0.map_or("L0 follows from the penalty (--target-l0 steers it)".into(), |l0| format!("L0 {l0}"));
        format!("{:.1e} FLOP of products, {} of memory beside the shuffle buffer; {l0}", self.flop, size(self.ram_bytes))
    }

    /// Seconds at a speed of products in FLOP/s.
    pub fn seconds(&self, speed: f64) -> f64 {
        self.flop / speed * (1.0 + REST)
    }

    /// FLOP/s of an f32 product of the encoder's shape on this machine now: a few hundredths of a second.
    pub fn product_speed() -> f64 {
        let (m, n, k) = (512, 2048, 256);
        let mut rng = seed::rng(0, "sae/forecast", 0);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let (a, b, mut c) = (random(m * k), random(n * k), vec![0.0; m * n]);
        let time = |c: &mut [f32]| {
            let start = Instant::now();
            matmul_nt(m, n, k, &a, &b, c, false);
            start.elapsed().as_secs_f64()
        };
        let best = (0..5).map(|_| time(&mut c)).fold(f64::INFINITY, f64::min);
        2.0 * (m * n * k) as f64 / best.max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::{Recipe, ReluApril2024, SaeConfig};

    #[test]
    fn sizes_are_those_of_the_weights_and_work_is_that_of_the_encoder() {
        let of = |recipe: Recipe| Forecast::of(&TrainConfig::short(SaeConfig::new(512, 16_384, recipe), 4096 * 100, 4096, 0));
        let topk = of(Recipe::topk(32, true));
        // 2 * 512 * 16,384 = 16.8 MFLOP a row.
        assert!((topk.flop / (16_777_216.0 * 409_600.0) - 1.0).abs() < 1e-9);
        assert_eq!((topk.l0, topk.checkpoint_bytes), (Some(32.0), 3 * 4 * (2 * 512 * 16_384 + 16_384 + 512)));
        let relu = of(ReluApril2024 { l1: 5.0 }.into());
        assert!(relu.flop > topk.flop && relu.l0.is_none() && relu.in_words().contains("--target-l0"));
        let pursuit = of(Recipe::named("matching-pursuit", &[("k", 32.into())]).unwrap());
        assert!((pursuit.flop / topk.flop - 32.0).abs() < 1e-9);
        assert!(topk.seconds(1e9) > topk.flop / 1e9 && Forecast::product_speed() > 1e6);
    }
}
