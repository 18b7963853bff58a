//! What is trained and how: the recipe, the sizes, the schedules. Every schedule is a fraction of the run, so that short runs exercise everything.

use super::architectures::{Selection, Units};
use super::{Error, Recipe, Result, Target};
use serde::{Deserialize, Serialize};

/// Sizes and recipe of one SAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaeConfig {
    /// Width of the activations.
    pub d_in: usize,
    /// Number of latents.
    pub d_sae: usize,
    pub recipe: Recipe,
    /// What is reconstructed in place of the input (a transcoder); none: the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

impl SaeConfig {
    /// An autoencoder.
    pub fn new(d_in: usize, d_sae: usize, recipe: Recipe) -> Self {
        SaeConfig { d_in, d_sae, recipe, target: None }
    }

    /// Width of what is reconstructed.
    pub fn d_out(&self) -> usize {
        self.target.map_or(self.d_in, |target| target.d_out)
    }

    /// Numbers to a row of the source: the input, and behind it the target of a transcoder.
    pub fn d_row(&self) -> usize {
        self.d_in + self.target.map_or(0, |target| target.d_out)
    }

    /// Whether b_dec is subtracted from the input before encoding.
    pub fn pre_bias(&self) -> bool {
        self.recipe.pre_bias() && self.target.is_none()
    }

    pub fn skip(&self) -> bool {
        self.target.is_some_and(|target| target.skip)
    }
}

/// Most rows that the first sample, for weights, mean and scale, may have: all are held in memory.
const MOST_INIT_ROWS: usize = 1 << 20;

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
    /// Random directions in place of drawn inputs: a simple re-initialisation, to see what drawing them is worth.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub random: bool,
}

impl Resample {
    /// Four times in a run of so many rows, each time what was silent for a twentieth of it.
    pub fn over(rows: u64) -> Self {
        let sample_rows = 819_200.min(rows / 10).max(1);
        Resample { at: vec![0.1, 0.2, 0.4, 0.6], window: 0.05, sample_rows, centred: true, random: false }
    }
}

/// What training may do to decoder directions. All but the first are controls: SAEs that learn little and look better than one would think (Korznikov et al. 2026).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// Anything.
    #[default]
    Free,
    /// Nothing: they stay as they were drawn; encoder and biases are trained (of matching pursuit, which has no other encoder, b_dec alone).
    Frozen,
    /// They keep a cosine of at least 0.8 with what was drawn.
    SoftFrozen,
}

impl Decoder {
    /// Least cosine of a soft-frozen direction with the first one.
    pub const LEAST_COSINE: f32 = 0.8;

    fn is_free(&self) -> bool {
        *self == Decoder::Free
    }
}

/// Dead windows after which AuxK begins. In the first of them most latents of a wide SAE have not had their turn: hundreds that reconstruct one residual together learn activations
/// too small for any to be selected, and stay dead, where by themselves they come alive (LOG.md: of 16,384 latents 44 % are dead in the end with AuxK from the first window on, 4.4 % without it, 0.5 % from the third).
pub(super) const AUXK_FROM: u64 = 3;

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
    /// Last fraction of the run over which the L1 coefficient falls linearly to 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub l1_decay: f64,
    /// Largest norm of the whole gradient; none: not clipped.
    pub clip: Option<f64>,
    pub beta1: f64,
    pub beta2: f64,
    /// Adam's epsilon.
    pub eps: f64,
    /// A latent that fired on none of the last so many rows is dead, for AuxK (which begins after [`AUXK_FROM`] times as many) and for the log. Resampling has a window of its own,
    /// [`Resample::window`].
    pub dead_window_rows: u64,
    /// For controls.
    #[serde(default, skip_serializing_if = "Decoder::is_free")]
    pub decoder: Decoder,
    /// None: dead latents are not resampled.
    pub resample: Option<Resample>,
    /// Active latents per row that the coefficient of the sparsity penalty is steered to; none: the coefficient stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_l0: Option<f64>,
    /// Units that rows are brought into; none: the recipe's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Units>,
    /// Rows read first to estimate mean, scale and geometric median; the source is then rewound.
    pub init_rows: usize,
    /// Steps between lines of train.jsonl.
    pub log_every: u64,
    /// Steps between checkpoints; of several SAEs on one stream the first one says.
    pub checkpoint_every: u64,
    /// SAEs that are kept on the way, at 1/2, 1/4, 1/8 ... of the run, for the explorer's slider; 0: none.
    #[serde(default = "snapshots")]
    pub snapshots: usize,
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

/// The first of six is at 1/64 of the run.
fn snapshots() -> usize {
    6
}

impl TrainConfig {
    /// Settings for a short run (up to some 10M rows): the recipe's own constants; all schedules are fractions of the run.
    pub fn short(sae: SaeConfig, rows: u64, batch: usize, seed: u64) -> Self {
        let steps = (rows / batch.max(1) as u64).max(1);
        let mut base = TrainConfig {
            seed,
            rows,
            batch,
            lr: 1e-3,
            lr_warmup: 0.02,
            lr_decay: 0.2,
            l1_warmup: 0.05,
            l1_decay: 0.0,
            clip: Some(1.0),
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            dead_window_rows: 200_000.min(rows / 5).max(1),
            decoder: Decoder::Free,
            resample: None,
            target_l0: None,
            units: None,
            init_rows: 32_768,
            log_every: (steps / 200).max(1),
            checkpoint_every: (steps / 10).max(1),
            snapshots: snapshots(),
            sae,
        };
        let recipe = base.sae.recipe.clone();
        recipe.tune(&mut base);
        base
    }

    /// Settings as published, for runs of the papers' length: resampling at 2.5, 5, 7.5 and 10 % with a window of 1.25 %, lr 5e-5 for April 2024,
    /// AuxK's window of 10M rows.
    pub fn paper(sae: SaeConfig, rows: u64, batch: usize, seed: u64) -> Self {
        let mut config = Self::short(sae, rows, batch, seed);
        config.dead_window_rows = 10_000_000.min(rows / 5).max(1);
        let recipe = config.sae.recipe.clone();
        recipe.tune_as_published(&mut config);
        config
    }

    pub fn steps(&self) -> u64 {
        self.rows / self.batch.max(1) as u64
    }

    /// Units that rows are brought into before the first step, and out of when the SAE is saved.
    pub fn units(&self) -> Units {
        self.units.unwrap_or(self.sae.recipe.units())
    }

    /// Rows that are trained on: whole batches.
    pub fn rows_of_steps(&self) -> u64 {
        self.steps() * self.batch as u64
    }

    /// Fraction of the run over which the coefficient of the penalty rises, and from which on it is steered where there is a target: at most half of the run then, to leave
    /// time for that.
    pub fn sparsity_warmup(&self) -> f64 {
        if self.target_l0.is_some() { self.l1_warmup.min(0.5) } else { self.l1_warmup }
    }

    /// What the coefficient is multiplied by at most where more of it does nothing ([`super::Architecture::saturates`]), as long as L0 follows; none: by
    /// [`super::Control::MOST`].
    pub fn factor_limit(&self) -> Option<f64> {
        Some(self.sae.recipe.saturates()? / self.sae.recipe.sparsity(self.sae.d_out())?)
    }

    /// The same training with a decoder that is held: nothing may put other latents in the place of those that it began with.
    #[must_use]
    pub fn held(&self, decoder: Decoder) -> Self {
        let mut held = TrainConfig { decoder, resample: None, ..self.clone() };
        if let Some(unsorted) = self.sae.recipe.unsorted() {
            held.sae.recipe = unsorted;
        }
        held
    }

    /// Refuses settings that contradict each other, and a run in which the chosen cure for dead latents can never fire.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::Config { what });
        let SaeConfig { d_in, d_sae, ref recipe, target } = self.sae;
        if d_in == 0 || d_sae == 0 || d_sae > u32::MAX as usize / 2 {
            return refuse(format!("d_in {d_in} and d_sae {d_sae} must be positive and d_sae below 2^31"));
        }
        recipe.check(d_in, d_sae).or_else(refuse)?;
        if let Some(target) = target {
            target.check(recipe).or_else(refuse)?;
        }
        if self.batch == 0 || self.steps() == 0 {
            return refuse(format!("{} rows in batches of {} make no step; raise rows or lower batch", self.rows, self.batch));
        }
        if let Some(units) = self.units {
            if units == recipe.units() {
                return refuse(format!("units: rows are {} by {} itself; leave units out", units.in_words(), recipe.in_words()));
            }
            if self.target_l0.is_some() && recipe.saturates().is_some() {
                return refuse(format!(
                    "units: how far the coefficient of {} may be steered is known in its own units alone; leave units or target_l0 out",
                    recipe.in_words()
                ));
            }
        }
        if self.init_rows > MOST_INIT_ROWS {
            return refuse(format!(
                "init_rows is {}; at most {MOST_INIT_ROWS} are held in memory, and 32,768 tell a mean well enough",
                self.init_rows
            ));
        }
        for (name, every) in [("log_every", self.log_every), ("checkpoint_every", self.checkpoint_every)] {
            if every == 0 {
                return refuse(format!("{name} is 0; it is a number of steps, at least 1"));
            }
        }
        if self.dead_window_rows == 0 {
            return refuse("a dead window of 0 rows would call every latent dead; leave it out for 200,000 rows, at most a fifth of the run".into());
        }
        for (name, fraction) in
            [("lr_warmup", self.lr_warmup), ("lr_decay", self.lr_decay), ("l1_warmup", self.l1_warmup), ("l1_decay", self.l1_decay)]
        {
            if !(0.0..=1.0).contains(&fraction) {
                return refuse(format!("{name} is {fraction}; it is a fraction of the run, from 0 to 1"));
            }
        }
        // A hair of slack, so that shares of 1 in all are taken in spite of rounding.
        if self.lr_warmup + self.lr_decay > 1.0 + 1e-9 {
            return refuse(format!(
                "lr_warmup is {} and lr_decay {}: together more than the whole run, so that the rate would fall before it has risen to lr; lower one of them",
                self.lr_warmup, self.lr_decay
            ));
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return refuse(format!("lr is {}; it must be positive", self.lr));
        }
        if self.clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
            return refuse(format!("clip is {:?}; it is the largest norm of the gradient, above 0", self.clip));
        }
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            // As the step computes with it.
            if !(0.0..1.0).contains(&(beta as f32)) {
                return refuse(format!("{name} is {beta}; it must be at least 0 and below 1 by more than 3e-8, or nothing is learnt"));
            }
        }
        if !(self.eps as f32 > 0.0 && self.eps.is_finite()) {
            return refuse(format!("eps is {}; it must be above 1e-45, or a weight without a gradient becomes 0 / 0", self.eps));
        }
        if let Selection::BatchTopK { k } = recipe.selection()
            && k * (self.batch as f64) < 1.0
        {
            return refuse(format!("k is {k} in batches of {}: that is less than one latent to a batch; raise one of them", self.batch));
        }
        if let Some(every) = recipe.sort_every().filter(|every| every.saturating_mul(2) > self.steps()) {
            return refuse(format!(
                "sort_every is {every}, but latents are sorted from step {} on and there are {}: it would do nothing; lower it, or leave it out",
                every.saturating_mul(2),
                self.steps()
            ));
        }
        if let Some(coefficient) = recipe.sparsity(self.sae.d_out()).filter(|c| !(*c >= 0.0 && c.is_finite())) {
            return refuse(format!("the coefficient of the penalty of {} comes to {coefficient}; it must be 0 or more", recipe.in_words()));
        }
        // Rows before the last step, whole batches. Nothing is asked of a run of one or two steps, which cures nothing.
        let before_last = self.steps().saturating_sub(1) * self.batch as u64;
        if recipe.auxk() && self.steps() > 2 && self.dead_window_rows.saturating_mul(AUXK_FROM) > before_last {
            return refuse(format!(
                "AuxK counts a latent as dead after {} rows without firing and begins after {AUXK_FROM} times as many, but the last of {} steps begins after {before_last}: it could never act; a dead window of at most {} rows would let it, or more rows",
                self.dead_window_rows,
                self.steps(),
                before_last / AUXK_FROM
            ));
        }
        if self.decoder != Decoder::Free && self.resample.is_some() {
            return refuse("a decoder that is held cannot be resampled; switch resampling off (--no-resample)".into());
        }
        if self.decoder != Decoder::Free && recipe.sort_every().is_some() {
            return refuse(
                "latents whose decoder is held cannot be sorted: each is held to the direction that it began with; leave sort_every out".into(),
            );
        }
        if let Some(target) = self.target_l0 {
            if recipe.sparsity(d_in).is_none() {
                return refuse(format!("target_l0 is {target}, but {} has no penalty to steer; set its k", recipe.in_words()));
            }
            if self.l1_decay > 0.0 {
                return refuse(format!(
                    "l1_decay is {}, but with target_l0 {target} the coefficient is steered to the end; leave one of them out",
                    self.l1_decay
                ));
            }
            if recipe.sparsity(self.sae.d_out()) == Some(0.0) {
                return refuse(format!("target_l0 is {target}, but the coefficient that is steered is 0, and stays it; set it above 0"));
            }
            if !(target > 0.0 && target < d_sae as f64) {
                return refuse(format!("target_l0 is {target}; it must be above 0 and below d_sae = {d_sae}"));
            }
        }
        if let Some(resample) = &self.resample {
            if recipe.ties_encoder() || matches!(recipe.selection(), Selection::Pursuit { .. }) {
                return refuse(format!(
                    "{} reads with rows that are made of its decoder's, so a resampled latent could not begin weakly; leave resampling out",
                    recipe.in_words()
                ));
            }
            if !resample.random && recipe.row_penalty(&mut [1.0]).is_none() {
                return refuse(format!(
                    "resampling draws rows by their loss, which cannot be told from the activations of {}; random directions can be put in the place of dead latents (--reinit)",
                    recipe.in_words()
                ));
            }
            let window_steps = (resample.window * self.steps() as f64) as u64;
            let fires = |&&at: &&f64| {
                let step = (at * self.steps() as f64) as u64;
                window_steps >= 1 && step >= window_steps && step < self.steps()
            };
            if let Some(never) = resample.at.iter().find(|at| !fires(at)) {
                return refuse(format!(
                    "resampling at {never} of {} steps with a window of {} can never find a dead latent; train on more rows or switch resampling off (--no-resample)",
                    self.steps(),
                    resample.window
                ));
            }
            let most = self.rows.max(819_200);
            if resample.sample_rows > most {
                return refuse(format!("resampling would draw from {} rows each time; it can draw from at most {most}", resample.sample_rows));
            }
            if resample.at.is_empty() || resample.sample_rows == 0 {
                return refuse(format!(
                    "resampling at {:?} from {} rows does nothing; switch it off, or give both",
                    resample.at, resample.sample_rows
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchTopK, Matryoshka, ReluApril2024};
    use super::*;

    fn refused(config: &TrainConfig) -> String {
        config.check().unwrap_err().to_string()
    }

    fn short(recipe: Recipe, steps: u64) -> TrainConfig {
        TrainConfig::short(SaeConfig::new(12, 24, recipe), 64 * steps, 64, 0)
    }

    #[test]
    fn a_cure_for_dead_latents_that_can_never_fire_is_refused() {
        // Ten steps of 64 rows: the last begins after 576, three times 192.
        let with_window = |rows| TrainConfig { dead_window_rows: rows, ..short(Recipe::topk(3, true), 10) };
        assert!(refused(&with_window(193)).contains("could never act"));
        with_window(192).check().unwrap();
        assert!(refused(&with_window(0)).contains("every latent dead"));
        let at = |steps: u64, at: &[f64]| {
            let resample = Some(Resample { at: at.into(), ..Resample::over(64 * steps) });
            TrainConfig { resample, ..short(ReluApril2024 { l1: 5.0 }.into(), steps) }
        };
        // No step to a window; before the first window is over; after the last step.
        for (steps, times, never) in [(5, &[0.1][..], "at 0.1 of 5"), (100, &[0.02, 0.3], "at 0.02 of"), (100, &[0.1, 1.0], "at 1 of")] {
            assert!(refused(&at(steps, times)).contains(never), "{}", refused(&at(steps, times)));
        }
        assert!(refused(&at(100, &[])).contains("does nothing"));
        at(100, &[0.05, 0.3]).check().unwrap();
        let sorted = |steps| short(Matryoshka { k: 3.0, prefixes: vec![8], sort_every: Some(50), ..Default::default() }.into(), steps);
        assert!(refused(&sorted(99)).contains("from step 100 on and there are 99"));
        sorted(100).check().unwrap();
    }

    #[test]
    fn settings_that_undo_each_other_or_divide_by_nothing_are_refused() {
        let base = short(ReluApril2024 { l1: 5.0 }.into(), 100);
        base.check().unwrap();
        assert!(refused(&TrainConfig { target_l0: Some(4.0), l1_decay: 0.2, ..base.clone() }).contains("leave one of them out"));
        assert!(refused(&TrainConfig { eps: 0.0, ..base.clone() }).contains("0 / 0"));
        assert!(refused(&TrainConfig { eps: 1e-60, ..base.clone() }).contains("0 / 0"));
        assert!(refused(&TrainConfig { beta2: 0.999_999_99, ..base.clone() }).contains("beta2"));
        let rate = |lr_warmup: f64, lr_decay: f64| TrainConfig { lr_warmup, lr_decay, ..base.clone() };
        assert!(refused(&rate(0.6, 0.5)).contains("lr_warmup is 0.6 and lr_decay 0.5"), "{}", refused(&rate(0.6, 0.5)));
        for (up, down) in [(0.3, 0.7), (1.0, 0.0), (0.0, 1.0), (1.0 / 3.0, 2.0 / 3.0), (0.1 + 0.2, 0.7)] {
            rate(up, down).check().unwrap();
        }
        let of_batches = |k| short(BatchTopK { k, ..Default::default() }.into(), 100);
        assert!(refused(&of_batches(0.01)).contains("less than one latent"));
        of_batches(1.0 / 64.0).check().unwrap();
    }
}
