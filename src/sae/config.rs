//! What is trained and how: the recipe, the sizes, the schedules. Every schedule is a fraction of the run, so that short runs exercise everything.

use super::{Error, Result};
use serde::{Deserialize, Serialize};

/// The published recipe that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Recipe {
    /// ReLU + L1 of Bricken et al. 2023: raw inputs, pre-encoder bias at the geometric median, unit-norm decoder with gradient projection before and
    /// renormalisation after the step, resampling of dead latents.
    Relu2023 {
        /// The paper's coefficient; its squared error is averaged over d_in, ours is summed, so the engine gets d_in times this.
        l1: f64,
    },
    /// ReLU + L1 weighted by free decoder norms, of Anthropic's April 2024 update: inputs scaled so that E|x| = sqrt(d_in), no pre-encoder bias.
    ReluApril2024 {
        /// Coefficient beside the squared error summed over d_in (the update's default is 5).
        l1: f64,
    },
    /// The k largest pre-activations of a row (Gao et al. 2024), inputs x' = s (x - mean) with E|x'|^2 = d_in.
    TopK {
        /// Latents kept per row.
        k: usize,
        /// Whether dead latents are trained on the residual (AuxK).
        auxk: bool,
    },
}

impl Recipe {
    /// SAELens' word for what the recipe saves.
    pub fn architecture(&self) -> &'static str {
        match self {
            Recipe::TopK { .. } => "topk",
            _ => "standard",
        }
    }

    /// Whether decoder rows have unit norm all through training.
    pub fn unit_decoder(&self) -> bool {
        !matches!(self, Recipe::ReluApril2024 { .. })
    }

    /// Whether b_dec is subtracted from the input before encoding.
    pub fn pre_bias(&self) -> bool {
        !matches!(self, Recipe::ReluApril2024 { .. })
    }
}

/// Sizes and recipe of one SAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaeConfig {
    /// Width of the activations.
    pub d_in: usize,
    /// Number of latents.
    pub d_sae: usize,
    pub recipe: Recipe,
}

/// Resampling of dead latents (Bricken et al. 2023, "Neuron Resampling").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resample {
    /// When, as fractions of the run, ascending.
    pub at: Vec<f64>,
    /// A latent that fired on nothing during this last fraction of the run is dead.
    pub window: f64,
    /// Rows whose loss is evaluated to draw replacements from (the paper: 819,200).
    pub sample_rows: u64,
    /// The new direction is x - b_dec (true) or x itself: the paper's "input" leaves it open.
    pub centred: bool,
}

/// How one SAE is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    pub sae: SaeConfig,
    pub seed: u64,
    /// Rows to train on; steps = rows / batch, rounded down.
    pub rows: u64,
    /// Rows per step.
    pub batch: usize,
    /// Highest learning rate of Adam.
    pub lr: f64,
    /// Fraction of the run over which the learning rate rises linearly from 0.
    pub lr_warmup: f64,
    /// Last fraction of the run over which the learning rate falls linearly to 0.
    pub lr_decay: f64,
    /// Fraction of the run over which the L1 coefficient rises linearly from 0.
    pub l1_warmup: f64,
    /// Largest norm of the whole gradient; none: not clipped.
    pub clip: Option<f64>,
    pub beta1: f64,
    pub beta2: f64,
    /// Adam's epsilon.
    pub eps: f64,
    /// A latent that fired on nothing in this many rows is dead (for AuxK and for the log).
    pub dead_window_rows: u64,
    /// None: dead latents are not resampled.
    pub resample: Option<Resample>,
    /// Rows read first to estimate mean, scale and geometric median; the source is then rewound.
    pub init_rows: usize,
    /// Steps between lines of train.jsonl.
    pub log_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// SAEs that are kept on the way, at 1/2, 1/4, 1/8 ... of the run, for the explorer's slider; 0: none.
    #[serde(default = "snapshots")]
    pub snapshots: usize,
}

/// The first of six is at 1/64 of the run.
fn snapshots() -> usize {
    6
}

impl TrainConfig {
    /// Settings for a short run (up to some 10M rows): the recipe's own constants, schedules stretched over the run as DESIGN.md says.
    pub fn short(sae: SaeConfig, rows: u64, batch: usize, seed: u64) -> Self {
        let steps = (rows / batch.max(1) as u64).max(1);
        let base = TrainConfig {
            seed,
            rows,
            batch,
            lr: 1e-3,
            lr_warmup: 0.02,
            lr_decay: 0.2,
            l1_warmup: 0.05,
            clip: Some(1.0),
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            dead_window_rows: 200_000.min(rows / 5).max(1),
            resample: None,
            init_rows: 32_768,
            log_every: (steps / 200).max(1),
            checkpoint_every: (steps / 10).max(1),
            snapshots: snapshots(),
            sae,
        };
        match base.sae.recipe {
            Recipe::Relu2023 { .. } => TrainConfig {
                lr: 3e-4,
                lr_warmup: 0.0,
                l1_warmup: 0.0,
                clip: None,
                resample: Some(Resample { at: vec![0.1, 0.2, 0.4, 0.6], window: 0.05, sample_rows: 819_200.min(rows / 10).max(1), centred: true }),
                ..base
            },
            // The update's 5e-5 is for 200,000 steps; a short run needs larger ones.
            Recipe::ReluApril2024 { .. } => TrainConfig { lr: 3e-4, ..base },
            Recipe::TopK { .. } => TrainConfig { lr: topk_lr(base.sae.d_sae), eps: 6.25e-10, ..base },
        }
    }

    /// Settings of the paper, for runs of its length: resampling at 2.5, 5, 7.5 and 10 % with a window of 1.25 %, lr 5e-5 for April 2024,
    /// AuxK's window of 10M rows.
    pub fn paper(sae: SaeConfig, rows: u64, batch: usize, seed: u64) -> Self {
        let mut config = Self::short(sae, rows, batch, seed);
        config.dead_window_rows = 10_000_000.min(rows / 5).max(1);
        match config.sae.recipe {
            Recipe::Relu2023 { .. } => {
                config.lr_decay = 0.0;
                let resample = config.resample.as_mut().expect("the 2023 recipe resamples");
                (resample.at, resample.window) = (vec![0.025, 0.05, 0.075, 0.1], 0.0125);
            }
            Recipe::ReluApril2024 { .. } => (config.lr, config.lr_warmup) = (5e-5, 0.0),
            Recipe::TopK { .. } => {}
        }
        config
    }

    pub fn steps(&self) -> u64 {
        self.rows / self.batch.max(1) as u64
    }

    /// Refuses settings that contradict each other, and a run in which the chosen cure for dead latents can never fire.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::Config { what });
        let SaeConfig { d_in, d_sae, recipe } = self.sae;
        if d_in == 0 || d_sae == 0 || d_sae > u32::MAX as usize / 2 {
            return refuse(format!("d_in {d_in} and d_sae {d_sae} must be positive and d_sae below 2^31"));
        }
        if let Recipe::TopK { k, .. } = recipe
            && !(1..=d_sae).contains(&k)
        {
            return refuse(format!("k is {k}; it must be from 1 to d_sae = {d_sae}"));
        }
        if self.batch == 0 || self.steps() == 0 {
            return refuse(format!("{} rows in batches of {} make no step; raise rows or lower batch", self.rows, self.batch));
        }
        for (name, fraction) in [("lr_warmup", self.lr_warmup), ("lr_decay", self.lr_decay), ("l1_warmup", self.l1_warmup)] {
            if !(0.0..=1.0).contains(&fraction) {
                return refuse(format!("{name} is {fraction}; it is a fraction of the run, from 0 to 1"));
            }
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return refuse(format!("lr is {}; it must be positive", self.lr));
        }
        if let Recipe::TopK { auxk: true, .. } = recipe
            && self.dead_window_rows >= self.rows
        {
            return refuse(format!(
                "AuxK counts a latent as dead after {} rows without firing, but the run has only {}: it could never act; lower the dead window or train on more rows",
                self.dead_window_rows, self.rows
            ));
        }
        if let Some(resample) = &self.resample {
            let window_steps = (resample.window * self.steps() as f64) as u64;
            let fires = resample.at.iter().any(|&at| {
                let step = (at * self.steps() as f64) as u64;
                window_steps >= 1 && step >= window_steps && step >= 1 && step < self.steps()
            });
            if !fires || resample.sample_rows == 0 {
                return refuse(format!(
                    "resampling at {:?} of {} steps with a window of {} can never fire; train on more rows or switch resampling off",
                    resample.at,
                    self.steps(),
                    resample.window
                ));
            }
        }
        Ok(())
    }
}

/// 2e-4 / sqrt(d_sae / 2^14) (Gao et al. 2024, as in their code).
fn topk_lr(d_sae: usize) -> f64 {
    2e-4 / (d_sae as f64 / 16_384.0).sqrt()
}
