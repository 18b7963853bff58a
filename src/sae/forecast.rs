//! What a training will cost, told before it begins.

use super::architectures::Selection;
use super::format::SELFTEST_ROWS;
use super::{Sae, Select, SparseRows, TrainConfig, history};
use crate::artifact::{seed, size, time};
use crate::kernels::gemm::matmul_nt;
use rand::RngExt;
use std::time::Instant;

/// Time of the rest of a step over that of its products.
const REST: f64 = 0.35;

/// Sizes and work of one training.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Of the encoder's selections, for the whole run, with few latents active.
    pub flop: f64,
    /// Of dense products in f32 instead of them, should many be active in the whole run; 0 where a k forbids it.
    pub dense_flop: f64,
    /// Weights, moments, gradients, the buffers of a step, and the folded SAE that is made of the weights to be written. What dead latents take in AuxK comes on top.
    pub ram_bytes: u64,
    pub disk_bytes: u64,
    pub snapshot_bytes: u64,
    pub checkpoint_bytes: u64,
    /// Active latents per row, where the architecture fixes it or it is steered.
    pub l0: Option<f64>,
    /// Whether it is steered.
    pub steered: bool,
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
        let dense = if penalised { config.sae.recipe.dense_products() } else { 0.0 };
        let l0 = config.sae.recipe.settings().iter().find(|(name, _)| name == "k").and_then(|(_, k)| k.as_f64()).or(config.target_l0);
        let rows = config.rows_of_steps() as f64;
        // A block of pre-activations, its z and their gradients where a step may be dense; rows and errors of the batch, one to a level.
        let block = (1u64 << 26) * if penalised { 3 } else { 1 };
        let levels = config.sae.recipe.levels(config.sae.d_sae, 0, config.seed).map_or(1, |levels| levels.ends.len()) as u64;
        let transcoder = if config.sae.target.is_some() { 2 * (d + e) } else { 0 };
        let batch = 4 * config.batch as u64 * (d + (levels + 1) * e + 6 * l0.unwrap_or(100.0) as u64 + transcoder);
        // The encoder packed for the screen in at most 16 bits, and once more where it is made of both rows of a latent.
        let encoder = d * f * if config.sae.recipe.ties_encoder() { 6 } else { 2 };
        // Written are a snapshot in bf16, and at the end the encoder transposed, while the self-test has packed it once more.
        let snapshot = if config.snapshot_steps().is_empty() { 0 } else { history::bytes(&config.sae) };
        let folded = weights + snapshot.max(6 * d * f);
        let snapshots = config.snapshot_steps().len() as u64 * history::bytes(&config.sae);
        Forecast {
            flop: 2.0 * (encodes * (d * f) as f64 + if config.sae.skip() { 2.0 * (d * e) as f64 } else { 0.0 }) * rows,
            dense_flop: 2.0 * dense * (d * f) as f64 * rows,
            ram_bytes: 4 * weights + folded + encoder + block + batch,
            // With the rows of the self-test and what becomes of them.
            disk_bytes: weights + 4 * SELFTEST_ROWS as u64 * (d + e + f) + snapshots,
            snapshot_bytes: snapshots,
            checkpoint_bytes: 3 * weights,
            l0,
            steered: config.target_l0.is_some(),
        }
    }

    /// One line: work, memory, sparsity.
    pub fn in_words(&self) -> String {
        let l0 = match self.l0 {
            None => "L0 follows from the penalty (--target-l0 steers it)".to_string(),
            Some(l0) if self.steered => format!("L0 is steered to {l0} and is another on the way there"),
            Some(l0) => format!("L0 {l0}"),
        };
        let dense = if self.dense_flop > self.flop { format!(" to {:.1e}", self.dense_flop) } else { String::new() };
        format!("{:.1e}{dense} FLOP of products, {} of memory beside what holds the rows; {l0}", self.flop, size(self.ram_bytes))
    }

    /// The same with the time that the steps take, of which a share of `left` is still to be made.
    pub fn with_time(&self, speed: Speed, left: f64) -> String {
        let (least, most) = self.seconds(speed);
        format!("{}; some {} for its steps", self.in_words(), seconds_in_words((left * least, left * most)))
    }

    /// With few latents active all the while, and with many; the same where a k says how many there are. How fast a penalty makes latents silent cannot be told.
    pub fn seconds(&self, speed: Speed) -> (f64, f64) {
        let sparse = self.flop / speed.encode * (1.0 + REST);
        (sparse, sparse.max(self.dense_flop / speed.product * (1.0 + REST)))
    }
}

/// Seconds of [`Forecast::seconds`], or of several together, in words.
pub fn seconds_in_words((least, most): (f64, f64)) -> String {
    match time(most) {
        longest if longest == time(least) => longest,
        longest => format!("{} (were few latents active from the beginning) to {longest} (were many to the end)", time(least)),
    }
}

/// What this machine does now, in FLOP/s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// An encoder's product with its selection, screened where the CPU can.
    pub encode: f64,
    /// A dense product in f32.
    pub product: f64,
}

impl Speed {
    /// Of an encoder of middle size: a tenth of a second.
    pub fn measure() -> Self {
        let (n, f, d) = (512, 4096, 512);
        let mut rng = seed::rng(0, "sae/forecast", 0);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let (x, w_enc, mut pre, mut acts) = (random(n * d), random(f * d), vec![0.0; n * f], SparseRows::default());
        let sae = Sae {
            d_in: d,
            d_sae: f,
            select: Select::TopK { k: 32 },
            w_dec: Vec::new(),
            w_enc,
            b_enc: vec![0.0; f],
            b_dec: vec![0.0; d],
            apply_b_dec_to_input: false,
            transcoder: None,
        };
        let mut encoder = sae.encoder();
        let best = |work: &mut dyn FnMut()| {
            let time = |_| {
                let start = Instant::now();
                work();
                start.elapsed().as_secs_f64()
            };
            2.0 * (n * f * d) as f64 / (0..4).map(time).fold(f64::INFINITY, f64::min).max(1e-9)
        };
        Speed { encode: best(&mut || encoder.encode(&x, &mut acts)), product: best(&mut || matmul_nt(n, f, d, &x, &sae.w_enc, &mut pre, false)) }
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
        assert!(
            relu.flop == topk.flop && relu.dense_flop > 0.0 && topk.dense_flop == 0.0 && relu.l0.is_none() && relu.in_words().contains("--target-l0")
        );
        let pursuit = of(Recipe::named("matching-pursuit", &[("k", 32.into())]).unwrap());
        assert!((pursuit.flop / topk.flop - 32.0).abs() < 1e-9);
        let speed = Speed { encode: 1e9, product: 1e8 };
        let (least, most) = topk.seconds(speed);
        assert!(least == most && least > topk.flop / 1e9);
        // Five products, none of them screened.
        let (least, most) = relu.seconds(speed);
        assert!(least == topk.seconds(speed).0 && (most / (50.0 * least) - 1.0).abs() < 1e-9, "{least} {most}");
        assert!(relu.in_words().contains(" to "), "{}", relu.in_words());
        // 9.3 TFLOP in products of 1 GFLOP/s and the rest.
        assert!(
            topk.with_time(speed, 1.0).ends_with("; some 2.6 hours for its steps")
                && topk.with_time(speed, 0.25).ends_with("; some 39 minutes for its steps")
                && relu.with_time(speed, 1.0).contains("(were many to the end)"),
            "{}",
            topk.with_time(speed, 1.0)
        );
        let Speed { encode, product } = Speed::measure();
        assert!(encode > 1e6 && product > 1e6, "{encode} {product}");
        // Weights, two moments and gradients, the folded SAE, half of one for a snapshot: five and a half times the weights and more.
        let weights = topk.checkpoint_bytes / 3;
        assert!(topk.ram_bytes > 11 * weights / 2 && topk.ram_bytes < 8 * weights, "{} {weights}", topk.ram_bytes);
    }
}
