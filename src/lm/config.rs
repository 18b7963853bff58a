//! The shape of a model, and the named presets.

use super::{Error, Result, StepSettings};
use serde::{Deserialize, Serialize};

/// Non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    Relu,
    /// tanh approximation of GELU, `gelu_new` in Hugging Face files.
    Gelu,
}

/// GPT-2 architecture: learned positions, pre-LayerNorm, biases in linears, final LayerNorm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LmConfig {
    pub d_vocab: usize,
    pub n_ctx: usize,
    pub d_model: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub d_mlp: usize,
    pub activation: Activation,
    /// Unembedding shares the embedding's weights.
    pub tied: bool,
}

impl LmConfig {
    /// For CI: seconds on any machine.
    pub fn tiny() -> Self {
        LmConfig { d_vocab: 512, n_ctx: 64, d_model: 64, n_layers: 1, n_heads: 4, d_mlp: 128, activation: Activation::Relu, tied: false }
    }

    /// For the quickstart: minutes on a laptop.
    pub fn laptop() -> Self {
        LmConfig { d_vocab: 4096, n_ctx: 128, d_model: 128, n_layers: 1, n_heads: 4, d_mlp: 512, activation: Activation::Relu, tied: false }
    }

    /// One-layer transformer of Bricken et al. 2023 (residual 128, MLP 512, ReLU); the vocabulary and context are GPT-2's and ours, the paper leaves them open.
    pub fn bricken_a1() -> Self {
        LmConfig { d_vocab: 50_257, n_ctx: 256, ..Self::laptop() }
    }

    /// First reading of the post "some 50M parameters, dim 512": MLP as wide as the residual stream, the SAE reads the neurons.
    pub fn blog_mlp() -> Self {
        LmConfig { d_model: 512, d_mlp: 512, n_heads: 8, ..Self::bricken_a1() }
    }

    /// Second reading of the post: the usual four-fold MLP, the SAE reads its output.
    pub fn blog_out() -> Self {
        LmConfig { d_mlp: 2048, ..Self::blog_mlp() }
    }

    /// A preset by its name on the command line.
    pub fn preset(name: &str) -> Result<Self> {
        Ok(match name {
            "tiny" => Self::tiny(),
            "laptop" => Self::laptop(),
            "bricken-a1" => Self::bricken_a1(),
            "blog-mlp" => Self::blog_mlp(),
            "blog-out" => Self::blog_out(),
            _ => return Err(Error::Config(format!("unknown preset {name}; known are tiny, laptop, bricken-a1, blog-mlp, blog-out"))),
        })
    }

    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// Refuses shapes that cannot be a model.
    pub fn check(&self) -> Result<()> {
        let sizes = [self.d_vocab, self.n_ctx, self.d_model, self.n_layers, self.n_heads, self.d_mlp];
        if sizes.contains(&0) {
            return Err(Error::Config(format!("every size must be at least 1: {self:?}")));
        }
        if !self.d_model.is_multiple_of(self.n_heads) {
            return Err(Error::Config(format!("d_model {} must be a multiple of n_heads {}", self.d_model, self.n_heads)));
        }
        let limit = 1 << 31;
        if sizes.iter().any(|&s| s >= limit) || self.d_vocab.saturating_mul(self.d_model) >= limit * 4 {
            return Err(Error::Config(format!("sizes are absurd: {self:?}")));
        }
        Ok(())
    }

    /// Trained numbers in the model; a tied unembedding counts once.
    pub fn n_params(&self) -> usize {
        let (d, m) = (self.d_model, self.d_mlp);
        let attention = d * 3 * d + 3 * d + d * d + d;
        let mlp = d * m + m + m * d + d;
        let block = 2 * d + attention + 2 * d + mlp;
        let head = if self.tied { 0 } else { self.d_vocab * d };
        self.d_vocab * d + self.n_ctx * d + self.n_layers * block + 2 * d + head
    }
}

/// How a model is trained. AdamW with decay on matrices only, linear warm-up, then a cosine to `lr_end` of the peak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Tokens to train on; rounded up to whole steps.
    pub tokens: u64,
    /// Windows of n_ctx tokens in one pass of forward and backward.
    pub batch: usize,
    /// Passes whose gradients are summed before the weights change.
    pub accumulate: usize,
    /// Peak learning rate.
    #[serde(serialize_with = "as_written")]
    pub lr: f32,
    /// Part of the run in which the rate rises linearly.
    #[serde(serialize_with = "as_written")]
    pub warmup: f32,
    /// Rate at the end as a part of the peak.
    #[serde(serialize_with = "as_written")]
    pub lr_end: f32,
    #[serde(serialize_with = "as_written")]
    pub beta1: f32,
    #[serde(serialize_with = "as_written")]
    pub beta2: f32,
    #[serde(serialize_with = "as_written")]
    pub eps: f32,
    /// Decoupled weight decay of matrices; vectors have none.
    #[serde(serialize_with = "as_written")]
    pub weight_decay: f32,
    /// Largest global L2 norm of the gradient; larger ones are scaled down to it.
    #[serde(serialize_with = "as_written")]
    pub clip: f32,
    pub seed: u64,
    /// Windows of held-out half A that the loss is measured on.
    pub eval_windows: usize,
    /// Held-out measurements in the whole run, the last one at its end.
    pub evals: usize,
    /// Steps between lines of train.jsonl.
    pub log_every: u64,
    /// Steps between checkpoints; none in between if absent.
    pub checkpoint_every: Option<u64>,
    /// Folder of a model whose weights are gone on from (fine-tuning), of the same sizes; drawn anew if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<std::path::PathBuf>,
}

/// The shortest decimal that is this number: 0.002, and not the 0.0020000000949949026 that it is as an f64.
fn as_written<S: serde::Serializer>(x: &f32, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_f64(x.to_string().parse().expect("a printed number is a number"))
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            tokens: 4_000_000,
            batch: 16,
            accumulate: 1,
            lr: 2e-3,
            warmup: 0.05,
            lr_end: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            clip: 1.0,
            seed: 0,
            eval_windows: 64,
            evals: 10,
            log_every: 10,
            checkpoint_every: Some(500),
            from: None,
        }
    }
}

impl TrainConfig {
    pub fn check(&self) -> Result<()> {
        if self.tokens == 0 || self.batch == 0 || self.accumulate == 0 || self.log_every == 0 || self.checkpoint_every == Some(0) {
            return Err(Error::Config("tokens, batch, accumulate, log_every and checkpoint_every must be at least 1".into()));
        }
        let unit = |x: f32| (0.0..1.0).contains(&x);
        let lr_fits = self.lr > 0.0 && self.lr.is_finite();
        if !lr_fits || !unit(self.warmup) || !(0.0..=1.0).contains(&self.lr_end) {
            return Err(Error::Config(format!(
                "lr {} must be positive, warmup {} in [0, 1), lr_end {} in [0, 1]",
                self.lr, self.warmup, self.lr_end
            )));
        }
        if !unit(self.beta1) || !unit(self.beta2) || self.eps <= 0.0 || self.weight_decay < 0.0 || self.clip <= 0.0 {
            return Err(Error::Config(format!(
                "beta1 {} and beta2 {} must be in [0, 1), eps {} and clip {} positive, weight_decay {} not negative",
                self.beta1, self.beta2, self.eps, self.clip, self.weight_decay
            )));
        }
        Ok(())
    }

    /// Optimiser steps of the whole run.
    pub fn steps(&self, n_ctx: usize) -> u64 {
        self.tokens.div_ceil((self.batch * self.accumulate * n_ctx) as u64)
    }

    /// What the engine is told for a step at this learning rate.
    pub fn step_settings(&self, lr: f32, n_ctx: usize) -> StepSettings {
        let TrainConfig { beta1, beta2, eps, weight_decay, clip, batch, .. } = *self;
        StepSettings { lr, beta1, beta2, eps, weight_decay, clip, pass_tokens: batch * n_ctx }
    }

    /// Learning rate of step `step` (from 0) of `steps`.
    pub fn lr_at(&self, step: u64, steps: u64) -> f32 {
        let warmup = (self.warmup as f64 * steps as f64).round();
        let s = step as f64;
        let part = if s < warmup {
            (s + 1.0) / warmup
        } else {
            let progress = (s - warmup) / (steps as f64 - warmup).max(1.0);
            let end = self.lr_end as f64;
            end + 0.5 * (1.0 - end) * (1.0 + (std::f64::consts::PI * progress).cos())
        };
        (self.lr as f64 * part) as f32
    }
}

/// How deep a model is: `1 layer`, `2 layers`.
pub fn layers(n: usize) -> String {
    if n == 1 { "1 layer".into() } else { format!("{n} layers") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_sizes_they_are_named_for() {
        // 2 V d + n_ctx d + (12-ish d^2 of the block with its biases and norms) + 2 d, worked out by hand.
        assert_eq!(
            LmConfig::tiny().n_params(),
            512 * 64 * 2 + 64 * 64 + (64 * 192 + 192 + 64 * 64 + 64 + 4 * 64 + 64 * 128 + 128 + 128 * 64 + 64) + 128
        );
        assert_eq!(LmConfig::laptop().n_params(), 1_263_488);
        assert_eq!(LmConfig::bricken_a1().n_params(), 13_097_088);
        assert_eq!(LmConfig::blog_mlp().n_params(), 53_173_248);
        assert_eq!(LmConfig::blog_out().n_params(), 54_747_648);
        for name in ["tiny", "laptop", "bricken-a1", "blog-mlp", "blog-out"] {
            LmConfig::preset(name).unwrap().check().unwrap();
        }
        assert!(LmConfig::preset("huge").unwrap_err().to_string().contains("laptop"));
    }

    #[test]
    fn one_layer_is_one() {
        assert_eq!([layers(1), layers(12)], ["1 layer", "12 layers"]);
    }

    #[test]
    fn a_shape_that_cannot_be_split_into_heads_is_refused() {
        let config = LmConfig { n_heads: 5, ..LmConfig::tiny() };
        assert!(config.check().unwrap_err().to_string().contains("multiple"));
    }

    #[test]
    fn settings_are_recorded_as_they_were_written() {
        let train = TrainConfig { lr: 0.002, eps: 1e-8, ..TrainConfig::default() };
        let record = serde_json::to_value(&train).unwrap();
        assert_eq!((record["lr"].to_string(), record["eps"].to_string()), ("0.002".into(), "1e-8".into()));
        assert_eq!(serde_json::from_value::<TrainConfig>(record).unwrap(), train);
        assert_eq!(toml::from_str::<TrainConfig>(&toml::to_string(&train).unwrap()).unwrap(), train);
    }

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_a_tenth() {
        let train = TrainConfig { lr: 1.0, warmup: 0.1, lr_end: 0.1, ..TrainConfig::default() };
        assert!((train.lr_at(0, 100) - 0.1).abs() < 1e-6);
        assert!((train.lr_at(9, 100) - 1.0).abs() < 1e-6);
        assert!((train.lr_at(10, 100) - 1.0).abs() < 1e-6);
        assert!((train.lr_at(100, 100) - 0.1).abs() < 1e-6);
        assert!((10..100).all(|s| train.lr_at(s + 1, 100) < train.lr_at(s, 100)));
    }
}
