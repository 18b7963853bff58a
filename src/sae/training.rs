//! One SAE in training: a step after the other, its schedules, its dead latents, its log, checkpoints and snapshots. Which rows a step is given is not its
//! business.

use super::architectures::{Init, Units};
use super::checkpoint::Checkpoint;
use super::coefficient::Control;
use super::config::AUXK_FROM;
use super::fold::fold;
use super::history::{self, Moment};
use super::init::{Scales, gaussian, init_params, mean_to_spread};
use super::place::{LOG, PLOT, Place};
use super::resample::{Draw, RowLoss, replacements};
use super::train::TrainedSae;
use super::{
    Architecture, CpuEngine, Engine, Error, Recipe, Result, RowSource, SELFTEST_ROWS, Sae, SaeConfig, SparseRows, StepReport, StepSettings,
    TrainConfig,
};
use crate::artifact::{self, Progress, seed};
use crate::kernels::sparse::dot;
use serde_json::json;
use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Rows that those of the self-test are chosen from.
const SELFTEST_CANDIDATES: usize = 2048;

/// Share of its target by which L0 is so far off that the coefficient is changed at full speed, nearly.
const FAR_OFF: f64 = 0.25;

/// Share of the loss below which a penalty counts for nothing.
const INERT: f64 = 1e-4;

/// Active latents up to which a penalty has a small share because it has done all that it can.
const ENOUGH: f64 = 1.0;

/// Whether L0 does not follow the coefficient that it is steered with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stuck {
    No,
    /// From this step on L0 is off by the share `off` and comes no nearer.
    Since {
        step: u64,
        off: f64,
        factor: f64,
    },
    /// It was said.
    Said,
}

/// What a step was taken with: the learning rate, and the coefficient of the penalty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub lr: f64,
    pub sparsity: f64,
}

/// One training in progress.
pub(super) struct Training<'a> {
    pub config: &'a TrainConfig,
    pub place: &'a Place,
    pub engine: Box<dyn Engine>,
    pub scales: Scales,
    pub last_fired: Vec<u64>,
    /// (F,): running mean of the share of rows that each latent fires on, where latents are sorted by it; else empty.
    frequency: Vec<f32>,
    control: Control,
    stuck: Stuck,
    /// Seconds of earlier sessions.
    seconds_before: f64,
    started: Instant,
    sample: Vec<f32>,
    pub step: u64,
    /// Where the source stood when the training began.
    pub start: u64,
    run: String,
    pub last: StepReport,
    /// (B, D) or (B, D + E): the rows of the step in the units of training.
    batch: Vec<f32>,
    dead: Vec<u32>,
}

impl<'a> Training<'a> {
    /// From new weights; the source is left where it stood.
    pub fn start(source: &mut dyn RowSource, config: &'a TrainConfig, place: &'a Place, run: String, progress: &mut dyn Progress) -> Result<Self> {
        let d = config.sae.d_row();
        let start = source.position();
        let mut rows = vec![0.0; config.init_rows.max(SELFTEST_ROWS) * d];
        let n = source.next_rows(&mut rows).map_err(|source| Error::Source { position: start, source })?;
        if n == 0 {
            return Err(Error::TooFewRows { found: 0, expected: config.batch as u64 });
        }
        rows.truncate(n * d);
        check_finite(&rows, d, start)?;
        source.seek(start).map_err(|source| Error::Source { position: start, source })?;
        let sample = rows[..n.min(SELFTEST_ROWS) * d].to_vec();
        let spread = mean_to_spread(&inputs(&config.sae, &rows), config.sae.d_in);
        // By the units, or by a b_dec that begins near it.
        let begins_there = matches!(config.sae.recipe.init(config.sae.d_in, config.sae.d_sae), Init::Linear);
        let removed = config.units() == Units::Centred || config.sae.pre_bias() && begins_there;
        let risk = match removed {
            true => "is removed",
            false if spread > 3.0 => "stays: expect dead latents",
            false => "stays, too small to make latents die by itself",
        };
        progress.note(&format!("the mean of the activations is {spread:.2} times their spread and {risk}"));
        if config.units() != config.sae.recipe.units() {
            let (ours, own) = (config.units().in_words(), config.sae.recipe.units().in_words());
            progress.note(&format!(
                "rows are {ours} here, and {own} by the recipe: its coefficients and thresholds are meant for those, and are taken as they are"
            ));
        }
        if config.sae.recipe.sparsity(config.sae.d_out()) == Some(0.0) {
            progress.note("the coefficient of the penalty is 0: nothing makes this SAE sparse");
        }
        if let Some(caution) = config.sae.recipe.caution().filter(|_| config.target_l0.is_none()) {
            progress.note(&caution);
        }
        let scales = Scales::estimate(config.units(), &config.sae, &rows);
        scales.apply(&mut rows);
        let engine = Box::new(CpuEngine::new(config, init_params(&config.sae, config.seed, &rows)));
        // Nothing that is there goes before the rows are known to do.
        Checkpoint::clear(&place.checkpoints)?;
        history::keep_until(&place.checkpoints, 0)?;
        artifact::remove_if_there(&place.checkpoints.join(PLOT))?;
        artifact::write_atomic(&place.checkpoints.join(LOG), |_| Ok(()))?;
        let last_fired = vec![0; config.sae.d_sae];
        let frequency = vec![0.0; if config.sae.recipe.sort_every().is_some() { config.sae.d_sae } else { 0 }];
        Ok(Self::new(
            config,
            place,
            engine,
            Checkpoint {
                state: Default::default(),
                scales,
                last_fired,
                frequency,
                control: Control::default(),
                seconds: 0.0,
                sample,
                step: 0,
                position: start,
                start,
                run,
            },
        ))
    }

    /// From a checkpoint; the source is not touched.
    pub fn resume(config: &'a TrainConfig, place: &'a Place, mut checkpoint: Checkpoint) -> Result<Self> {
        let mut engine = Box::new(CpuEngine::new(config, checkpoint.state.params.clone()));
        // What changes with this step is told from what was before it.
        if let Some(before) = recipe_before(config, checkpoint.step) {
            engine.set_recipe(&before);
        }
        engine.write(std::mem::take(&mut checkpoint.state).into_owned());
        keep_log_until(&place.checkpoints.join(LOG), checkpoint.step)?;
        history::keep_until(&place.checkpoints, checkpoint.step)?;
        Ok(Self::new(config, place, engine, checkpoint))
    }

    fn new(config: &'a TrainConfig, place: &'a Place, engine: Box<dyn Engine>, from: Checkpoint) -> Self {
        let Checkpoint { scales, last_fired, frequency, control, seconds, sample, step, start, run, .. } = from;
        let batch = vec![0.0; config.batch * config.sae.d_row()];
        Training {
            config,
            place,
            engine,
            scales,
            last_fired,
            frequency,
            control,
            stuck: Stuck::No,
            seconds_before: seconds,
            started: Instant::now(),
            sample,
            step,
            start,
            run,
            last: StepReport::default(),
            batch,
            dead: Vec::new(),
        }
    }

    /// One step on raw rows (B, D) or (B, D + E): trains and counts.
    pub fn one_step(&mut self, rows: &[f32], progress: &mut dyn Progress) -> Result<Taken> {
        let config = self.config;
        self.batch.copy_from_slice(rows);
        self.scales.apply(&mut self.batch);
        let done = self.step as f64 / config.steps() as f64;
        let lr = config.lr * lr_factor(config, self.step);
        self.follow_schedule(done);
        let sparsity = config.sae.recipe.sparsity(config.sae.d_out()).unwrap_or(0.0) * self.control.factor * penalty_schedule(config, done);
        let rows_before = self.step * config.batch as u64;
        self.dead.clear();
        if config.sae.recipe.auxk() && rows_before >= AUXK_FROM * config.dead_window_rows {
            let is_dead = |last: &u64| rows_before.saturating_sub(*last) >= config.dead_window_rows;
            self.dead.extend(self.last_fired.iter().enumerate().filter(|(_, last)| is_dead(last)).map(|(j, _)| j as u32));
        }
        self.last = self.engine.step(&self.batch, &StepSettings { lr, sparsity, dead: &self.dead });
        self.step += 1;
        if !(self.last.loss.is_finite() && self.last.grad_norm.is_finite()) {
            let StepReport { loss, grad_norm, .. } = self.last;
            return Err(Error::Diverged { path: self.place.out.clone(), step: self.step, loss, grad_norm, lr: config.lr });
        }
        let rows = self.step * config.batch as u64;
        for (last, &fires) in self.last_fired.iter_mut().zip(self.engine.fires()) {
            if fires > 0 {
                *last = rows;
            }
        }
        if let Some(target) = config.target_l0
            && done >= config.sparsity_warmup()
        {
            self.control.steer(self.last.l0, target, config.steps(), config.factor_limit());
            self.say_if_stuck(target, progress);
        }
        if self.step == config.steps().div_ceil(5) {
            self.say_if_inert(sparsity, progress);
        }
        self.sort_latents();
        Ok(Taken { lr, sparsity })
    }

    /// Whether dead latents are to be resampled after the next step.
    pub fn resamples_next(&self) -> bool {
        self.resamples_after(self.step + 1)
    }

    fn resamples_after(&self, step: u64) -> bool {
        let steps = self.config.steps() as f64;
        self.config.resample.as_ref().is_some_and(|r| r.at.iter().any(|&at| (at * steps) as u64 == step))
    }

    /// After a step: resamples where it is due, from the rows that come next in `source`, which is put back.
    pub fn resample_if_due(&mut self, taken: Taken, source: &mut dyn RowSource, progress: &mut dyn Progress) -> Result<()> {
        if !self.resamples_after(self.step) {
            return Ok(());
        }
        // A reward for latents that are active says nothing of which rows are badly explained.
        self.resample(taken.sparsity.max(0.0), source, progress)
    }

    /// Says once that the coefficient is changed at full speed, or is as far as it goes, and L0 does not follow.
    fn say_if_stuck(&mut self, target: f64, progress: &mut dyn Progress) {
        // Thresholds take their time.
        let (patience, other) =
            if self.config.factor_limit().is_some() { (3, "") } else { (10, ", or begin with another coefficient of the recipe") };
        let off = (self.control.l0 / target - 1.0).abs();
        match self.stuck {
            Stuck::No if off > FAR_OFF => self.stuck = Stuck::Since { step: self.step, off, factor: self.control.factor },
            Stuck::Since { off: then, .. } if off <= FAR_OFF || off < 0.95 * then => self.stuck = Stuck::No,
            // From the worst of it on it may come nearer.
            Stuck::Since { step, off: then, factor } if off > then => self.stuck = Stuck::Since { step, off, factor },
            Stuck::Since { step, factor, .. } if (self.step - step) * patience >= self.config.steps() => {
                progress.note(&format!(
                    "step {}: L0 is {:.1} and does not come nearer to {target}, though {} steps ago the coefficient was {factor:.2} times the recipe's and is {:.2} times now: train for more steps{other}",
                    self.step,
                    self.control.l0,
                    self.step - step,
                    self.control.factor
                ));
                self.stuck = Stuck::Said;
            }
            _ => {}
        }
    }

    /// Says what has done next to nothing in the first fifth of the run: a penalty, or thresholds that stand where they began.
    /// `coefficient` is that of the step.
    fn say_if_inert(&self, coefficient: f64, progress: &mut dyn Progress) {
        let (recipe, StepReport { loss, penalty, l0, .. }) = (&self.config.sae.recipe, self.last);
        let share = coefficient * penalty / loss;
        if coefficient > 0.0 && share < INERT && l0 > ENOUGH && self.config.target_l0.is_none() {
            progress.note(&format!(
                "step {}: the penalty is {:.3} % of the loss and L0 is {l0:.1}: it hardly makes anything sparse; raise its coefficient, or steer it with --target-l0",
                self.step,
                100.0 * share
            ));
        }
        for ((vector, first), values) in recipe.vectors().iter().zip(&self.engine.read().params.vectors) {
            if values.iter().all(|value| value == first) {
                progress.note(&format!("step {}: no {vector} has moved from {first}: nothing trains them with these settings", self.step));
            }
        }
    }

    /// The architecture as it is to be at this point. Where the shape of its penalty changes, the coefficient is changed so that the penalty of this batch does not.
    fn follow_schedule(&mut self, done: f64) {
        let Some(recipe) = self.config.sae.recipe.at(done) else { return };
        if let Some(before) = recipe_before(self.config, self.step)
            && before != recipe
            && recipe.keeps_its_penalty()
        {
            let mut rows = SparseRows::default();
            self.engine.encode(&inputs(&self.config.sae, &self.batch), &mut rows);
            let penalty = |recipe: &dyn Architecture| recipe.penalty(&mut rows.act.clone()).unwrap_or(0.0);
            self.control.keep_penalty(penalty(&*before), penalty(&*recipe));
        }
        self.engine.set_recipe(&recipe);
    }

    /// Puts the latents in the order of how often they fire, where the architecture asks for it and it is due.
    fn sort_latents(&mut self) {
        let Some(every) = self.config.sae.recipe.sort_every() else { return };
        for (frequency, &fires) in self.frequency.iter_mut().zip(self.engine.fires()) {
            *frequency += 0.01 * (fires as f32 / self.config.batch as f32 - *frequency);
        }
        // Not before the running means mean something.
        if !self.step.is_multiple_of(every) || self.step < 2 * every {
            return;
        }
        let mut order: Vec<u32> = (0..self.frequency.len() as u32).collect();
        order.sort_by(|&a, &b| self.frequency[b as usize].total_cmp(&self.frequency[a as usize]));
        self.engine.permute_latents(&order);
        self.frequency = order.iter().map(|&j| self.frequency[j as usize]).collect();
        self.last_fired = order.iter().map(|&j| self.last_fired[j as usize]).collect();
    }

    /// The six steps of [`super::resample`]; the sample is the rows that come next, and the source is put back, so that nothing is lost.
    pub fn resample(&mut self, sparsity: f64, source: &mut dyn RowSource, progress: &mut dyn Progress) -> Result<()> {
        let config = self.config;
        let settings = config.resample.as_ref().expect("only called where resampling is on");
        let rows = self.step * config.batch as u64;
        let window = (settings.window * config.steps() as f64) as u64 * config.batch as u64;
        let dead: Vec<u32> = (0..config.sae.d_sae as u32).filter(|&j| rows - self.last_fired[j as usize] >= window).collect();
        if dead.is_empty() || dead.len() == config.sae.d_sae {
            progress.note(&format!("step {}: {} latents are dead; none resampled", self.step, dead.len()));
            return Ok(());
        }
        let d = config.sae.d_row();
        if settings.random {
            let mut rng = seed::rng(config.seed, "sae/resample", self.step);
            let directions: Vec<f32> = (0..dead.len() * d).map(|_| gaussian(&mut rng)).collect();
            self.replace(&dead, &directions, progress);
            return Ok(());
        }
        let position = source.position();
        let mut draw = Draw::new(seed::rng(config.seed, "sae/resample", self.step), dead.len(), d);
        let (b_dec, norms) = {
            let params = &self.engine.read().params;
            let free = if config.sae.recipe.unit_decoder() { &[][..] } else { &params.w_dec };
            (params.b_dec.clone(), free.chunks_exact(config.sae.d_out()).map(|w| dot(w, w).sqrt()).collect::<Vec<f32>>())
        };
        let recipe = recipe_before(config, self.step).unwrap_or_else(|| config.sae.recipe.clone());
        let mut loss = RowLoss { recipe: &*recipe, sparsity, norms: &norms, acts: SparseRows::default(), x_hat: Vec::new() };
        let mut buffer = vec![0.0; config.batch * d];
        let (mut left, mut wrapped) = (settings.sample_rows, false);
        while left > 0 {
            let n = (left as usize).min(config.batch);
            let got = source.next_rows(&mut buffer[..n * d]).map_err(|source| Error::Source { position, source })?;
            if got == 0 && wrapped {
                break;
            }
            if got == 0 {
                wrapped = true;
                source.seek(self.start).map_err(|source| Error::Source { position: self.start, source })?;
                continue;
            }
            let rows = &mut buffer[..got * d];
            self.scales.apply(rows);
            let (x, target) = (inputs(&config.sae, rows), targets(&config.sae, rows));
            let losses = loss.of(&mut *self.engine, &x, &target);
            for (row, loss) in rows.chunks_exact_mut(d).zip(losses) {
                if settings.centred {
                    // What b_dec is a mean of: the input, or the target behind it.
                    let from = d - b_dec.len();
                    row[from..].iter_mut().zip(&b_dec).for_each(|(v, b)| *v -= b);
                }
                draw.offer(row, loss * loss);
            }
            left -= got as u64;
        }
        source.seek(position).map_err(|source| Error::Source { position, source })?;
        match draw.finish() {
            Some(drawn) => self.replace(&dead, &drawn, progress),
            None => progress.note(&format!("step {}: no row has a loss, so none of {} dead latents is resampled", self.step, dead.len())),
        }
        Ok(())
    }

    /// Puts new latents, made of rows (n_dead, D) or (n_dead, D + E), in the place of the dead ones.
    fn replace(&mut self, dead: &[u32], rows: &[f32], progress: &mut dyn Progress) {
        let config = self.config;
        let rows_done = self.step * config.batch as u64;
        let new = replacements(&*self.engine, &*config.sae.recipe, dead, rows, config.sae.d_row());
        self.engine.replace_latents(&new);
        for replacement in &new {
            self.last_fired[replacement.latent as usize] = rows_done;
        }
        progress.note(&format!("step {}: resampled {} dead latents of {}", self.step, new.len(), config.sae.d_sae));
    }

    /// Raw inputs (n, D) for the self-test: the most telling of the rows that would come next and of the first ones.
    fn telling_sample(&mut self, sae: &Sae, source: &mut dyn RowSource) -> Vec<f32> {
        let d = self.config.sae.d_row();
        let position = source.position();
        let mut rows = vec![0.0; SELFTEST_CANDIDATES * d];
        // What the training does not use must not cost its result.
        let n = source.next_rows(&mut rows).unwrap_or(0);
        // Back, for the next SAE of the same stream; where that fails its rows are others, which is as good.
        let _ = source.seek(position);
        rows.truncate(n * d);
        if check_finite(&rows, d, position).is_err() {
            rows.clear();
        }
        rows.extend_from_slice(&self.sample);
        sae.telling_rows(&inputs(&self.config.sae, &rows))
    }

    /// Share of latents that did not fire for a window of rows.
    pub fn dead_frac(&self) -> f64 {
        let rows = self.step * self.config.batch as u64;
        let dead = self.last_fired.iter().filter(|&&last| rows.saturating_sub(last) >= self.config.dead_window_rows).count();
        dead as f64 / self.last_fired.len() as f64
    }

    /// mse / variance of the batch around its mean; of rows without any 0 where they are reconstructed exactly, else 1, as in [`super::Metrics`].
    pub fn fvu(&self) -> f64 {
        match self.last {
            StepReport { variance, mse, .. } if variance > 0.0 => mse / variance,
            StepReport { mse, .. } => f64::from(u8::from(mse > 0.0)),
        }
    }

    /// A line of train.jsonl: the figures of [`StepReport`], in the units of training, and `fvu`, of the last batch; `dead_frac` of the last
    /// `dead_window_rows`; `sparsity_factor` is what the recipe's coefficient is multiplied by, without its schedule.
    pub fn log(&self, lr: f64, rows_per_s: f64) -> Result<()> {
        let StepReport { loss, mse, l0, penalty, aux, other, grad_norm, .. } = self.last;
        let (fvu, dead_frac) = (self.fvu(), self.dead_frac());
        let line = json!({
            "step": self.step, "rows": self.step * self.config.batch as u64, "loss": loss, "mse": mse, "fvu": fvu, "l0": l0, "penalty": penalty, "aux": aux, "other": other,
            "dead_frac": dead_frac, "grad_norm": grad_norm, "lr": lr, "sparsity_factor": self.control.factor, "rows_per_s": rows_per_s,
        });
        let path = self.place.checkpoints.join(LOG);
        let appended = OpenOptions::new().append(true).create(true).open(&path).and_then(|mut file| writeln!(file, "{line}"));
        Ok(appended.map_err(|e| artifact::Error::io("append to", &path, e))?)
    }

    /// Keeps the SAE as it is now, for people who watch it learn.
    pub fn snapshot(&self) -> Result<()> {
        let sae = fold(&self.config.sae, &self.engine.read(), &self.scales);
        let moment = Moment {
            step: self.step,
            steps: self.config.steps(),
            rows: self.step * self.config.batch as u64,
            loss: self.last.loss,
            fvu: self.fvu(),
            l0: self.last.l0,
            dead_frac: self.dead_frac(),
            hook: self.place.origin.hook_name.clone(),
            hook_out: self.place.origin.hook_name_out.clone(),
            run: self.run.clone(),
        };
        Ok(history::write(&self.place.checkpoints, &sae, &moment)?)
    }

    /// That it took until now, in all its sessions.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Everything that the next step depends on; `position` is where it reads.
    pub fn checkpoint(&self, position: u64) -> Checkpoint<'_> {
        Checkpoint {
            state: self.engine.read(),
            scales: self.scales.clone(),
            last_fired: self.last_fired.clone(),
            frequency: self.frequency.clone(),
            control: self.control,
            seconds: self.seconds(),
            sample: self.sample.clone(),
            step: self.step,
            position,
            start: self.start,
            run: self.run.clone(),
        }
    }

    /// Folds and saves.
    pub fn finish(mut self, source: &mut dyn RowSource) -> Result<TrainedSae> {
        if let Some(name) = self.engine.read().params.not_finite() {
            return Err(Error::WeightsNotFinite { path: self.place.out.clone(), name, step: self.step, lr: self.config.lr });
        }
        let sae = fold(&self.config.sae, &self.engine.read(), &self.scales);
        self.sample = self.telling_sample(&sae, source);
        let out = &self.place.out;
        // What was said of the weights that were here before is not said of these, its manifest first: from here to the new one the folder
        // holds nothing finished, and the checkpoints lead back here.
        let forget = || {
            let said = [
                "manifest.json",
                LOG,
                "eval.json",
                "eval.manifest.json",
                "controls.json",
                "all_controls.json",
                PLOT,
                "exam.json",
                "exam.manifest.json",
                "gaps.json",
            ];
            said.iter().try_for_each(|name| artifact::remove_if_there(&out.join(name)))
        };
        artifact::write_together::<Error>(out, |dir| Ok(sae.save(dir, &self.place.origin, &self.sample)?), forget)?;
        let rows = self.step * self.config.batch as u64;
        let (fvu, l0, dead_frac, sparsity_factor) = (self.fvu(), self.last.l0, self.dead_frac(), Some(self.control.factor));
        Ok(TrainedSae { steps: self.step, rows, fvu, l0, dead_frac, sparsity_factor, sae })
    }
}

/// The architecture as it was in the step before `step`, where it changes in a run.
fn recipe_before(config: &TrainConfig, step: u64) -> Option<Recipe> {
    config.sae.recipe.at(step.checked_sub(1)? as f64 / config.steps() as f64)
}

/// The inputs (n, D) of rows as the source serves them.
fn inputs<'a>(config: &SaeConfig, rows: &'a [f32]) -> Cow<'a, [f32]> {
    if config.target.is_none() {
        return rows.into();
    }
    rows.chunks_exact(config.d_row()).flat_map(|row| &row[..config.d_in]).copied().collect::<Vec<f32>>().into()
}

/// What is to be reconstructed of them, (n, E).
fn targets<'a>(config: &SaeConfig, rows: &'a [f32]) -> Cow<'a, [f32]> {
    if config.target.is_none() {
        return rows.into();
    }
    rows.chunks_exact(config.d_row()).flat_map(|row| &row[config.d_in..]).copied().collect::<Vec<f32>>().into()
}

/// Linear warm-up from 0 at the beginning times linear decay to 0 at the end; step counts from 0.
pub(super) fn lr_factor(config: &TrainConfig, step: u64) -> f64 {
    let steps = config.steps() as f64;
    let (warm, decay) = (config.lr_warmup * steps, config.lr_decay * steps);
    let up = if warm > 0.0 { ((step + 1) as f64 / warm).min(1.0) } else { 1.0 };
    let down = if decay > 0.0 { ((steps - step as f64) / decay).min(1.0) } else { 1.0 };
    up * down
}

/// What the coefficient of the penalty is multiplied by after a share of the run: a rise from 0 and a fall to 0, both linear.
pub(super) fn penalty_schedule(config: &TrainConfig, done: f64) -> f64 {
    let (warm, decay) = (config.sparsity_warmup(), config.l1_decay);
    let up = if warm > 0.0 { (done / warm).min(1.0) } else { 1.0 };
    let down = if decay > 0.0 { ((1.0 - done) / decay).min(1.0) } else { 1.0 };
    up * down
}

pub(super) fn check_finite(rows: &[f32], d: usize, first_row: u64) -> Result<()> {
    match rows.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::NotFinite { row: first_row + (i / d) as u64, value: rows[i] }),
        None => Ok(()),
    }
}

/// Drops lines of the log that were written after the checkpoint.
fn keep_log_until(path: &Path, step: u64) -> Result<()> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let kept = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v["step"].as_u64().is_some_and(|s| s <= step));
    let lines: Vec<&str> = text.lines().filter(kept).collect();
    artifact::write_atomic(path, |out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))?;
    Ok(())
}
