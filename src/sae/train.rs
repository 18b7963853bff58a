//! The training loop: schedules, dead latents, log, checkpoints, snapshots. Reads a [`RowSource`]; writes `sae/<name>/` and checkpoints.

use super::checkpoint::Checkpoint;
use super::fold::fold;
use super::history::{self, Moment};
use super::init::{Normaliser, init_params, mean_to_spread};
use super::resample::{Draw, replacements, row_losses};
use super::{CpuEngine, Engine, Error, Recipe, Result, RowSource, SELFTEST_ROWS, Sae, SparseRows, StepReport, StepSettings, TrainConfig};
use crate::artifact::{self, Manifest, Progress, Start, seed, settings};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Raised when the files of `sae/<name>/` change meaning.
pub const SAE_FORMAT_VERSION: u32 = 1;

/// Rows that those of the self-test are chosen from.
const SELFTEST_CANDIDATES: usize = 2048;

/// Where the result goes and what it is made from.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// `sae/<name>/`
    pub out: PathBuf,
    /// Folder of this SAE's checkpoints.
    pub checkpoints: PathBuf,
    /// What becomes of a checkpoint and of a finished SAE that are there.
    pub start: Start,
    /// Recorded in cfg.json for other tools.
    pub origin: Origin,
    /// Stage name -> hash of its manifest, for manifest.json.
    pub inputs: BTreeMap<String, String>,
}

/// Where the rows come from, in SAELens' words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    pub model_name: String,
    /// e.g. `blocks.0.mlp.hook_post`
    pub hook_name: String,
    /// n_ctx
    pub context_size: usize,
    pub dataset: String,
}

/// What a finished training hands back; everything is on disk as well.
#[derive(Debug, Clone)]
pub struct TrainedSae {
    pub sae: Sae,
    pub steps: u64,
    pub rows: u64,
    /// Of the last step.
    pub fvu: f64,
    pub l0: f64,
    pub dead_frac: f64,
}

/// Trains on the rows of `source`, from its present position; writes `place.out` when done. Where the source ends too early it starts over.
///
/// An SAE that is finished with the same settings from the same inputs is returned as it is, unless it is to be replaced.
///
/// # Errors
/// A finished SAE of other settings and, without [`Start::Resume`], a checkpoint are refused, unless they are to be replaced;
/// [`Error::Config`] before anything is read; [`Error::Interrupted`] after a checkpoint was written; [`Error::Diverged`] and [`Error::NotFinite`]
/// with the checkpoints of before kept.
pub fn train(source: &mut dyn RowSource, config: &TrainConfig, place: &Place, progress: &mut dyn Progress) -> Result<TrainedSae> {
    config.check()?;
    if source.d_in() != config.sae.d_in {
        return Err(Error::Width { found: source.d_in(), expected: config.sae.d_in });
    }
    let started = Instant::now();
    let (d, f) = (config.sae.d_in, config.sae.d_sae);
    let run = identity(config, place);
    let resumed = if place.start == Start::Resume { Checkpoint::newest(&place.checkpoints, d, f, &run)? } else { None };
    if place.start != Start::Replace && resumed.is_none() {
        if let Some(done) = finished(config, place)? {
            progress.note("this SAE is trained already; nothing to do");
            return Ok(done);
        }
        Checkpoint::refuse_any(&place.checkpoints)?;
    }
    let mut training = match resumed {
        Some(checkpoint) => {
            progress.note(&format!("going on after step {} of {}", checkpoint.step, config.steps()));
            Training::resume(source, config, place, checkpoint)?
        }
        None => Training::start(source, config, place, run, progress)?,
    };
    progress.begin("sae", config.steps() * config.batch as u64, "rows");
    progress.advance(training.step * config.batch as u64);
    let ran = training.run(progress);
    progress.end();
    ran?;
    let trained = training.finish()?;
    let mut manifest = Manifest::new("sae", SAE_FORMAT_VERSION, serde_json::to_value(config).expect("plain data"), config.seed);
    manifest.counts = BTreeMap::from([("rows".into(), trained.rows), ("steps".into(), trained.steps), ("latents".into(), f as u64)]);
    manifest.details = json!({ "fvu": trained.fvu, "l0": trained.l0, "dead_frac": trained.dead_frac });
    manifest.inputs.clone_from(&place.inputs);
    manifest.wall_seconds = started.elapsed().as_secs_f64();
    for name in ["cfg.json", "sae_weights.safetensors", "selftest.safetensors"] {
        manifest.record_file(&place.out, name)?;
    }
    manifest.write(&place.out)?;
    Checkpoint::clear(&place.checkpoints)?;
    Ok(trained)
}

/// One training in progress.
struct Training<'a> {
    source: &'a mut dyn RowSource,
    config: &'a TrainConfig,
    place: &'a Place,
    engine: Box<dyn Engine>,
    normaliser: Normaliser,
    last_fired: Vec<u64>,
    sample: Vec<f32>,
    step: u64,
    start: u64,
    run: String,
    last: StepReport,
    batch: Vec<f32>,
    dead: Vec<u32>,
}

impl<'a> Training<'a> {
    fn start(source: &'a mut dyn RowSource, config: &'a TrainConfig, place: &'a Place, run: String, progress: &mut dyn Progress) -> Result<Self> {
        Checkpoint::clear(&place.checkpoints)?;
        history::keep_until(&place.out, 0)?;
        let d = config.sae.d_in;
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
        let spread = mean_to_spread(&rows, d);
        if spread > 3.0 && !config.sae.recipe.pre_bias() {
            progress.note(&format!(
                "the mean of the activations is {spread:.1} times their spread and this recipe does not remove it: expect dead latents"
            ));
        }
        let normaliser = Normaliser::estimate(config.sae.recipe, &rows, d);
        normaliser.apply(&mut rows);
        let engine = Box::new(CpuEngine::new(config, init_params(&config.sae, config.seed, &rows)));
        let log = place.out.join("train.jsonl");
        artifact::write_atomic(&log, |_| Ok(()))?;
        let last_fired = vec![0; config.sae.d_sae];
        Ok(Self::new(
            source,
            config,
            place,
            engine,
            Checkpoint { state: Default::default(), normaliser, last_fired, sample, step: 0, position: start, start, run },
        ))
    }

    fn resume(source: &'a mut dyn RowSource, config: &'a TrainConfig, place: &'a Place, checkpoint: Checkpoint) -> Result<Self> {
        let position = checkpoint.position;
        source.seek(position).map_err(|source| Error::Source { position, source })?;
        let mut engine = Box::new(CpuEngine::new(config, checkpoint.state.params.clone()));
        engine.write(&checkpoint.state);
        keep_log_until(&place.out.join("train.jsonl"), checkpoint.step)?;
        history::keep_until(&place.out, checkpoint.step)?;
        Ok(Self::new(source, config, place, engine, checkpoint))
    }

    fn new(source: &'a mut dyn RowSource, config: &'a TrainConfig, place: &'a Place, engine: Box<dyn Engine>, from: Checkpoint) -> Self {
        let Checkpoint { normaliser, last_fired, sample, step, start, run, .. } = from;
        let batch = vec![0.0; config.batch * config.sae.d_in];
        Training {
            source,
            config,
            place,
            engine,
            normaliser,
            last_fired,
            sample,
            step,
            start,
            run,
            last: StepReport::default(),
            batch,
            dead: Vec::new(),
        }
    }

    fn run(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let config = self.config;
        let (mut since, mut rows_since) = (Instant::now(), 0);
        let snapshots = config.snapshot_steps();
        while self.step < config.steps() {
            let lr = self.one_step(progress)?;
            rows_since += config.batch as u64;
            progress.advance(config.batch as u64);
            if self.step.is_multiple_of(config.log_every) || self.step == config.steps() {
                let rows_per_s = rows_since as f64 / since.elapsed().as_secs_f64().max(1e-9);
                self.log(lr, rows_per_s, progress)?;
                (since, rows_since) = (Instant::now(), 0);
            }
            if snapshots.contains(&self.step) {
                self.snapshot()?;
            }
            let interrupted = progress.interrupted() && self.step < config.steps();
            if interrupted || (self.step.is_multiple_of(config.checkpoint_every) && self.step < config.steps()) {
                let path = self.checkpoint().write(&self.place.checkpoints)?;
                if interrupted {
                    return Err(Error::Interrupted { step: self.step, path });
                }
            }
        }
        Ok(())
    }

    /// Reads, trains, counts, resamples where it is due; returns the learning rate.
    fn one_step(&mut self, progress: &mut dyn Progress) -> Result<f64> {
        let config = self.config;
        self.read_batch(progress)?;
        let done = self.step as f64 / config.steps() as f64;
        let lr = config.lr * lr_factor(config, self.step);
        let l1 = l1_coefficient(config) * if config.l1_warmup > 0.0 { (done / config.l1_warmup).min(1.0) } else { 1.0 };
        let rows_before = self.step * config.batch as u64;
        self.dead.clear();
        if let Recipe::TopK { auxk: true, .. } = config.sae.recipe {
            let is_dead = |last: &u64| rows_before.saturating_sub(*last) >= config.dead_window_rows;
            self.dead.extend(self.last_fired.iter().enumerate().filter(|(_, last)| is_dead(last)).map(|(j, _)| j as u32));
        }
        self.last = self.engine.step(&self.batch, &StepSettings { lr, l1, dead: &self.dead });
        self.step += 1;
        if !self.last.loss.is_finite() {
            return Err(Error::Diverged { step: self.step, loss: self.last.loss, lr });
        }
        let rows = self.step * config.batch as u64;
        for (last, &fires) in self.last_fired.iter_mut().zip(self.engine.fires()) {
            if fires > 0 {
                *last = rows;
            }
        }
        let due = config.resample.as_ref().is_some_and(|r| r.at.iter().any(|&at| (at * config.steps() as f64) as u64 == self.step));
        if due {
            self.resample(l1, progress)?;
        }
        Ok(lr)
    }

    /// Fills the batch, from the beginning again where the rows end, and puts it into the units of training.
    fn read_batch(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let d = self.config.sae.d_in;
        let mut filled = 0;
        let mut wrapped = false;
        while filled < self.config.batch {
            let position = self.source.position();
            let n = self.source.next_rows(&mut self.batch[filled * d..]).map_err(|source| Error::Source { position, source })?;
            check_finite(&self.batch[filled * d..(filled + n) * d], d, position)?;
            filled += n;
            if filled < self.config.batch {
                if wrapped && n == 0 {
                    return Err(Error::TooFewRows { found: filled as u64, expected: self.config.batch as u64 });
                }
                wrapped = n == 0 || wrapped;
                progress.note(&format!("the rows ended after {}; starting over", position + n as u64 - self.start));
                self.source.seek(self.start).map_err(|source| Error::Source { position: self.start, source })?;
            }
        }
        self.normaliser.apply(&mut self.batch);
        Ok(())
    }

    /// The six steps of [`super::resample`]; the sample is the rows that come next, and the source is put back, so that nothing is lost.
    fn resample(&mut self, l1: f64, progress: &mut dyn Progress) -> Result<()> {
        let config = self.config;
        let settings = config.resample.as_ref().expect("only called where resampling is on");
        let rows = self.step * config.batch as u64;
        let window = (settings.window * config.steps() as f64) as u64 * config.batch as u64;
        let dead: Vec<u32> = (0..config.sae.d_sae as u32).filter(|&j| rows - self.last_fired[j as usize] >= window).collect();
        if dead.is_empty() || dead.len() == config.sae.d_sae {
            progress.note(&format!("step {}: {} latents are dead; none resampled", self.step, dead.len()));
            return Ok(());
        }
        let d = config.sae.d_in;
        let position = self.source.position();
        let mut draw = Draw::new(seed::rng(config.seed, "sae/resample", self.step), dead.len(), d);
        let (mut encoded, mut x_hat) = (SparseRows::default(), Vec::new());
        let b_dec = self.engine.read_b_dec();
        let mut buffer = vec![0.0; config.batch * d];
        let mut left = settings.sample_rows;
        while left > 0 {
            let n = (left as usize).min(config.batch);
            let got = self.source.next_rows(&mut buffer[..n * d]).map_err(|source| Error::Source { position, source })?;
            if got == 0 {
                break;
            }
            let x = &mut buffer[..got * d];
            self.normaliser.apply(x);
            let losses = row_losses(&mut *self.engine, x, l1, &mut encoded, &mut x_hat);
            for (x, loss) in x.chunks_exact_mut(d).zip(losses) {
                if settings.centred {
                    x.iter_mut().zip(&b_dec).for_each(|(v, b)| *v -= b);
                }
                draw.offer(x, loss * loss);
            }
            left -= got as u64;
        }
        self.source.seek(position).map_err(|source| Error::Source { position, source })?;
        let Some(inputs) = draw.finish() else { return Ok(()) };
        let new = replacements(&*self.engine, &dead, &inputs);
        self.engine.replace_latents(&new);
        for replacement in &new {
            self.last_fired[replacement.latent as usize] = rows;
        }
        progress.note(&format!("step {}: resampled {} dead latents of {}", self.step, new.len(), config.sae.d_sae));
        Ok(())
    }

    /// Raw rows for the self-test, out of those that would come next; where none come, the first ones of all.
    fn telling_sample(&mut self, sae: &Sae) -> Vec<f32> {
        let d = self.config.sae.d_in;
        let position = self.source.position();
        let mut rows = vec![0.0; SELFTEST_CANDIDATES * d];
        // What the training does not use must not cost its result.
        let n = self.source.next_rows(&mut rows).unwrap_or(0);
        rows.truncate(n * d);
        if check_finite(&rows, d, position).is_err() {
            rows.clear();
        }
        rows.extend_from_slice(&self.sample);
        sae.telling_rows(&rows)
    }

    fn dead_frac(&self) -> f64 {
        let rows = self.step * self.config.batch as u64;
        let dead = self.last_fired.iter().filter(|&&last| rows.saturating_sub(last) >= self.config.dead_window_rows).count();
        dead as f64 / self.last_fired.len() as f64
    }

    /// mse / variance of the batch around its mean.
    fn fvu(&self) -> f64 {
        if self.last.variance > 0.0 { self.last.mse / self.last.variance } else { 0.0 }
    }

    fn log(&self, lr: f64, rows_per_s: f64, progress: &mut dyn Progress) -> Result<()> {
        let StepReport { loss, mse, l0, l1, aux, grad_norm, .. } = self.last;
        let (fvu, dead_frac) = (self.fvu(), self.dead_frac());
        let line = json!({
            "step": self.step, "rows": self.step * self.config.batch as u64, "loss": loss, "mse": mse, "fvu": fvu, "l0": l0, "l1": l1, "aux": aux,
            "dead_frac": dead_frac, "grad_norm": grad_norm, "lr": lr, "rows_per_s": rows_per_s,
        });
        let path = self.place.out.join("train.jsonl");
        let appended = OpenOptions::new().append(true).create(true).open(&path).and_then(|mut file| writeln!(file, "{line}"));
        appended.map_err(|e| artifact::Error::io("append to", &path, e))?;
        progress.figure(&format!("fvu {fvu:.4}  l0 {l0:.1}  dead {:.1} %", 100.0 * dead_frac));
        Ok(())
    }

    /// Keeps the SAE as it is now, for people who watch it learn.
    fn snapshot(&self) -> Result<()> {
        let sae = fold(&self.config.sae, &self.engine.read().params, &self.normaliser);
        let moment = Moment {
            step: self.step,
            steps: self.config.steps(),
            rows: self.step * self.config.batch as u64,
            loss: self.last.loss,
            fvu: self.fvu(),
            l0: self.last.l0,
            dead_frac: self.dead_frac(),
            hook: self.place.origin.hook_name.clone(),
            run: self.run.clone(),
        };
        Ok(history::write(&self.place.out, &sae, &moment)?)
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            state: self.engine.read(),
            normaliser: self.normaliser.clone(),
            last_fired: self.last_fired.clone(),
            sample: self.sample.clone(),
            step: self.step,
            position: self.source.position(),
            start: self.start,
            run: self.run.clone(),
        }
    }

    fn finish(mut self) -> Result<TrainedSae> {
        let sae = fold(&self.config.sae, &self.engine.read().params, &self.normaliser);
        self.sample = self.telling_sample(&sae);
        // Figures of the weights that were here before are not figures of these.
        for name in ["eval.json", "eval.manifest.json", "controls.json", "exam.json", "exam.manifest.json", "gaps.json"] {
            let old = self.place.out.join(name);
            if old.exists() {
                fs::remove_file(&old).map_err(|e| artifact::Error::io("delete", &old, e))?;
            }
        }
        sae.save(&self.place.out, &self.place.origin, &self.sample)?;
        let rows = self.step * self.config.batch as u64;
        Ok(TrainedSae { steps: self.step, rows, fvu: self.fvu(), l0: self.last.l0, dead_frac: self.dead_frac(), sae })
    }
}

/// Linear warm-up from 0 at the beginning times linear decay to 0 at the end; step counts from 0.
fn lr_factor(config: &TrainConfig, step: u64) -> f64 {
    let steps = config.steps() as f64;
    let (warm, decay) = (config.lr_warmup * steps, config.lr_decay * steps);
    let up = if warm > 0.0 { ((step + 1) as f64 / warm).min(1.0) } else { 1.0 };
    let down = if decay > 0.0 { ((steps - step as f64) / decay).min(1.0) } else { 1.0 };
    up * down
}

/// Coefficient beside the squared error summed over d_in: the 2023 paper's error is a mean over d_in, so its coefficient is multiplied by d_in.
fn l1_coefficient(config: &TrainConfig) -> f64 {
    match config.sae.recipe {
        Recipe::Relu2023 { l1 } => l1 * config.sae.d_in as f64,
        Recipe::ReluApril2024 { l1 } => l1,
        Recipe::TopK { .. } => 0.0,
    }
}

fn check_finite(rows: &[f32], d: usize, first_row: u64) -> Result<()> {
    match rows.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::NotFinite { row: first_row + (i / d) as u64, value: rows[i] }),
        None => Ok(()),
    }
}

/// Names what determines the result: a checkpoint made from anything else is refused.
fn identity(config: &TrainConfig, place: &Place) -> String {
    settings::identity(&serde_json::to_value(config).expect("plain data"), &place.inputs)
}

impl Place {
    /// How the SAE that is finished here differs in its settings from what is asked for, the order of rows included; empty where there is none.
    ///
    /// # Errors
    /// A manifest that cannot be read.
    pub fn differences(&self, config: &TrainConfig) -> artifact::Result<Vec<String>> {
        if !self.out.join("manifest.json").exists() {
            return Ok(Vec::new());
        }
        let there = Manifest::read(&self.out, "sae", SAE_FORMAT_VERSION)?;
        let all = |config: &serde_json::Value, inputs: &BTreeMap<String, String>| json!({ "train": config, "rows": inputs.get("rows") });
        let here = serde_json::to_value(config).expect("plain data");
        Ok(settings::differences(&all(&there.config, &there.inputs), &all(&here, &self.inputs)))
    }

    /// Whether the SAE that is finished here was trained with these settings from these inputs and is as it was written.
    pub fn is_fresh(&self, config: &TrainConfig) -> bool {
        let same = || self.differences(config).is_ok_and(|d| d.is_empty());
        Manifest::read(&self.out, "sae", SAE_FORMAT_VERSION).is_ok_and(|there| there.inputs == self.inputs && there.check_files(&self.out).is_ok())
            && same()
    }
}

/// The SAE in `place.out`, if it was trained with these settings from these inputs; refuses one of other settings.
fn finished(config: &TrainConfig, place: &Place) -> Result<Option<TrainedSae>> {
    let differs = place.differences(config)?;
    if !differs.is_empty() {
        return Err(artifact::Error::Finished { path: place.out.clone(), differs: settings::listed(&differs), other: "--name or --run" }.into());
    }
    if !place.is_fresh(config) {
        return Ok(None);
    }
    let there = Manifest::read(&place.out, "sae", SAE_FORMAT_VERSION)?;
    let figure = |key: &str| there.details[key].as_f64().unwrap_or(f64::NAN);
    let (fvu, l0, dead_frac) = (figure("fvu"), figure("l0"), figure("dead_frac"));
    let rows = config.steps() * config.batch as u64;
    Ok(Some(TrainedSae { sae: Sae::load(&place.out)?, steps: config.steps(), rows, fvu, l0, dead_frac }))
}

/// Drops lines of the log that were written after the checkpoint.
fn keep_log_until(path: &Path, step: u64) -> Result<()> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let kept = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v["step"].as_u64().is_some_and(|s| s <= step));
    let lines: Vec<&str> = text.lines().filter(kept).collect();
    artifact::write_atomic(path, |out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))?;
    Ok(())
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
