//! Tokens -> a trained model. Reads the token stream; writes `lm/` and checkpoints.
//!
//! While it trains its log lies beside the checkpoints: a model that is finished stays as it is, log included, until the one that takes its place is
//! complete. Window i of epoch e is entry i of a permutation that is a function of (seed, e), so that a resumed run reads what it would have read.
//! Nothing else is random after the initial weights.

use super::checkpoint::Checkpoints;
use super::hugging_face::{FORMAT_VERSION, save_tokenizer};
use super::{CpuEngine, Engine, Error, Lm, LmConfig, Result, StepReport, TrainConfig};
use crate::artifact::{self, Manifest, Progress, RunDir, Start, seed, settings};
use crate::corpus::{Split, TokenStream};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// What a finished run reports; also `details` of its manifest, but for the times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    pub steps: u64,
    pub tokens: u64,
    pub n_params: u64,
    /// Mean loss in nats over the steps of the last log line.
    pub train_loss: f64,
    /// Mean loss in nats on the windows of held-out half A.
    pub held_out_loss: f64,
    pub tokens_per_s: f64,
    pub wall_seconds: f64,
}

/// A line of `train.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainLine {
    /// Steps made.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Mean loss in nats since the line before.
    pub loss: f64,
    pub lr: f32,
    /// Global L2 norm before clipping, of this step.
    pub grad_norm: f64,
    pub tokens_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_out_loss: Option<f64>,
}

/// Where a run stands; together with weights and moments it is all that a checkpoint holds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    pub step: u64,
    /// Losses since the last line of the log.
    pub loss_sum: f64,
    pub loss_steps: u64,
    /// Of the last line.
    pub train_loss: f64,
    pub held_out_loss: f64,
    /// Seconds of training before this process.
    pub seconds: f64,
}

/// Trains a model on the stream's training windows and saves it to the run's `lm/`.
///
/// With [`Start::Resume`] it goes on from the newest checkpoint, bit for bit as if it had never stopped. A model that is finished with the same
/// settings from the same tokens is returned as it is, unless it is to be replaced.
///
/// # Errors
/// A finished model of other settings and, without [`Start::Resume`], a checkpoint are refused, unless they are to be replaced;
/// [`Error::Interrupted`] after saving when `progress` says so; [`Error::NotFinite`] when the loss is; sizes that do not fit the stream.
pub fn train(
    stream: &TokenStream,
    config: &LmConfig,
    train: &TrainConfig,
    run: &RunDir,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<TrainReport> {
    let mut trainer = Trainer::open(stream, config, train, run, start)?;
    if let Some(report) = trainer.finished()? {
        progress.note(&format!("{} is finished and fresh", run.lm().display()));
        return Ok(report);
    }
    let steps = trainer.steps;
    progress.begin("training the language model", steps * trainer.step_tokens, "tokens");
    progress.advance(trainer.at.step * trainer.step_tokens);
    while trainer.at.step < steps {
        if progress.interrupted() {
            trainer.checkpoint()?;
            return Err(Error::Interrupted { step: trainer.at.step });
        }
        if let Some(line) = trainer.step()? {
            let held_out = line.held_out_loss.map(|l| format!(", held out {l:.3}")).unwrap_or_default();
            progress.figure(&format!("loss {:.3}{held_out}", line.loss));
        }
        progress.advance(trainer.step_tokens);
        if train.checkpoint_every.is_some_and(|every| trainer.at.step.is_multiple_of(every)) && trainer.at.step < steps {
            trainer.checkpoint()?;
        }
    }
    progress.end();
    trainer.finish()
}

struct Trainer<'a> {
    stream: &'a TokenStream,
    train: &'a TrainConfig,
    run: &'a RunDir,
    engine: Box<dyn Engine>,
    checkpoints: Checkpoints,
    order: WindowOrder,
    held_out: Vec<u64>,
    at: Standing,
    steps: u64,
    step_tokens: u64,
    /// Steps after which the held-out loss is measured.
    eval_every: u64,
    began: Instant,
    /// Time and step of the last line of the log.
    logged: (Instant, u64),
    start: Start,
    manifest: Manifest,
}

impl<'a> Trainer<'a> {
    fn open(stream: &'a TokenStream, config: &LmConfig, train: &'a TrainConfig, run: &'a RunDir, start: Start) -> Result<Self> {
        config.check()?;
        train.check()?;
        if config.d_vocab != stream.d_vocab() {
            return Err(Error::Vocabulary { model: config.d_vocab, tokens: stream.d_vocab() });
        }
        let first = match &train.from {
            None => Lm::init(config, train.seed),
            Some(dir) => Lm::load(dir)?,
        };
        if let Some(dir) = &train.from {
            let read = |path: &Path| fs::read(path.join("tokenizer.json")).ok();
            if let (Some(theirs), Some(own)) = (read(dir), read(&run.tokens()))
                && theirs != own
            {
                return Err(Error::Config(format!(
                    "the model in {} reads the tokens of another tokenizer than {}\n  build the tokens with it: monosem corpus build --tokenizer {}",
                    dir.display(),
                    run.tokens().display(),
                    dir.join("tokenizer.json").display()
                )));
            }
        }
        if first.config != *config {
            let from = train.from.clone().unwrap_or_default();
            return Err(Error::Config(format!(
                "the model in {} has the sizes {:?}, the run asks for {config:?}\n  leave the sizes to the model that is gone on from",
                from.display(),
                first.config
            )));
        }
        let n_ctx = config.n_ctx;
        let windows = stream.windows(Split::Train, n_ctx);
        let held_out = stream.windows(Split::HeldOutA, n_ctx);
        let too_few = |split, range: &std::ops::Range<u64>, needed| Error::TooFewWindows { split, found: range.end - range.start, needed, n_ctx };
        if windows.is_empty() {
            return Err(too_few("the training text", &windows, 1));
        }
        if held_out.is_empty() {
            return Err(too_few("held-out half A", &held_out, 1));
        }
        // The same ones for every measurement.
        let held_out = stream.spread_windows(Split::HeldOutA, n_ctx, train.eval_windows.max(1) as u64);

        let mut manifest = Manifest::new("lm", FORMAT_VERSION, json!({ "lm": config, "train": train }), train.seed);
        manifest.inputs.insert("tokens".into(), stream.manifest().hash());
        if train.from.is_some() {
            let mut hasher = blake3::Hasher::new();
            for tensor in first.weights.tensors() {
                hasher.update(bytemuck::cast_slice(tensor));
            }
            manifest.inputs.insert("from".into(), hasher.finalize().to_hex()[..16].to_string());
        }
        let identity = settings::identity(&manifest.config, &manifest.inputs);
        let steps = train.steps(n_ctx);
        let now = Instant::now();
        let mut trainer = Trainer {
            stream,
            train,
            run,
            engine: Box::new(CpuEngine::new(first)),
            checkpoints: Checkpoints::new(run.checkpoints("lm"), identity),
            order: WindowOrder::new(train.seed, windows),
            held_out,
            at: Standing::default(),
            steps,
            step_tokens: (train.batch * train.accumulate * n_ctx) as u64,
            eval_every: steps.div_ceil(train.evals.max(1) as u64).max(1),
            began: now,
            logged: (now, 0),
            start,
            manifest,
        };
        match start {
            Start::Resume => match trainer.checkpoints.load(&mut *trainer.engine) {
                Ok(at) => trainer.at = at,
                // A finished run has no checkpoint any more.
                Err(Error::NoCheckpoint { .. }) if trainer.finished()?.is_some() => {}
                Err(Error::NoCheckpoint { path }) => {
                    trainer.refuse_finished()?;
                    return Err(Error::NoCheckpoint { path });
                }
                Err(e) => return Err(e),
            },
            Start::New => {
                trainer.refuse_finished()?;
                trainer.checkpoints.refuse_any()?;
            }
            Start::Replace => trainer.checkpoints.clear()?,
        }
        trainer.logged.1 = trainer.at.step;
        if trainer.finished()?.is_none() {
            cut_log(&trainer.log_path(), trainer.at.step)?;
        }
        Ok(trainer)
    }

    /// Refuses where the model that is there was made with other settings.
    fn refuse_finished(&self) -> Result<()> {
        let dir = self.run.lm();
        if !dir.join("manifest.json").exists() {
            return Ok(());
        }
        let found = Manifest::read(&dir, "lm", FORMAT_VERSION)?;
        Ok(settings::refuse_finished(&dir, &found.config, &self.manifest.config, "--run")?)
    }

    /// The report of a run that was finished with the same settings from the same tokens and whose files are whole, unless it is to be replaced.
    fn finished(&self) -> Result<Option<TrainReport>> {
        let dir = self.run.lm();
        if self.start == Start::Replace || self.at.step > 0 || !dir.join("manifest.json").exists() {
            return Ok(None);
        }
        let found = Manifest::read(&dir, "lm", FORMAT_VERSION)?;
        let same = settings::differences(&found.config, &self.manifest.config).is_empty() && found.inputs == self.manifest.inputs;
        if !same || found.check_files(&dir).is_err() {
            return Ok(None);
        }
        let figure = |name: &str| found.details[name].as_f64().unwrap_or(f64::NAN);
        let tokens = found.counts.get("tokens").copied().unwrap_or(0);
        Ok(Some(TrainReport {
            steps: found.counts.get("steps").copied().unwrap_or(0),
            tokens,
            n_params: found.counts.get("n_params").copied().unwrap_or(0),
            train_loss: figure("train_loss"),
            held_out_loss: figure("held_out_loss"),
            tokens_per_s: tokens as f64 / found.wall_seconds.max(1e-9),
            wall_seconds: found.wall_seconds,
        }))
    }

    /// One optimiser step; returns the line it wrote to the log, if it was its turn.
    fn step(&mut self) -> Result<Option<TrainLine>> {
        let (train, n_ctx) = (self.train, self.engine.config().n_ctx);
        let lr = train.lr_at(self.at.step, self.steps);
        let n_windows = (train.batch * train.accumulate) as u64;
        let first = self.at.step * n_windows;
        let windows: Vec<u64> = (first..first + n_windows).map(|i| self.order.window(i)).collect();
        let (ids, targets) = read_windows(self.stream, &windows, n_ctx);
        let StepReport { loss, grad_norm } = self.engine.step(&ids, &targets, n_ctx, &train.step_settings(lr, n_ctx));
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(Error::NotFinite { step: self.at.step, loss, grad_norm, lr });
        }
        self.at.step += 1;
        self.at.loss_sum += loss;
        self.at.loss_steps += 1;
        let last = self.at.step == self.steps;
        let evaluates = last || self.at.step.is_multiple_of(self.eval_every);
        if !(last || evaluates || self.at.step.is_multiple_of(train.log_every)) {
            return Ok(None);
        }
        let tokens_per_s = ((self.at.step - self.logged.1) * self.step_tokens) as f64 / self.logged.0.elapsed().as_secs_f64().max(1e-9);
        if evaluates {
            self.at.held_out_loss = held_out_loss(&mut *self.engine, self.stream, &self.held_out);
        }
        self.at.train_loss = self.at.loss_sum / self.at.loss_steps as f64;
        (self.at.loss_sum, self.at.loss_steps) = (0.0, 0);
        let line = TrainLine {
            step: self.at.step,
            tokens: self.at.step * self.step_tokens,
            loss: self.at.train_loss,
            lr,
            grad_norm,
            tokens_per_s: tokens_per_s.round(),
            held_out_loss: evaluates.then_some(self.at.held_out_loss),
        };
        append(&self.log_path(), &line)?;
        self.logged = (Instant::now(), self.at.step);
        Ok(Some(line))
    }

    fn checkpoint(&self) -> Result<()> {
        let at = Standing { seconds: self.at.seconds + self.began.elapsed().as_secs_f64(), ..self.at };
        self.checkpoints.save(&*self.engine, &at)
    }

    /// Writes `lm/` and takes the checkpoints away.
    fn finish(mut self) -> Result<TrainReport> {
        let dir = self.run.lm();
        let lm = self.engine.lm();
        let write = |dir: &Path| -> artifact::Result<()> {
            lm.save(dir, Some(self.stream.end_of_text()))?;
            save_tokenizer(&self.run.tokens(), dir, lm.config.n_ctx)
        };
        // From here to the new manifest the folder holds nothing finished, and the checkpoints lead back here.
        artifact::write_together(&dir, write, || artifact::remove_if_there(&dir.join("manifest.json")))?;
        let wall_seconds = self.at.seconds + self.began.elapsed().as_secs_f64();
        let tokens = self.steps * self.step_tokens;
        let report = TrainReport {
            steps: self.steps,
            tokens,
            n_params: lm.config.n_params() as u64,
            train_loss: self.at.train_loss,
            held_out_loss: self.at.held_out_loss,
            tokens_per_s: tokens as f64 / wall_seconds.max(1e-9),
            wall_seconds,
        };
        let manifest = &mut self.manifest;
        for (name, count) in
            [("steps", report.steps), ("tokens", tokens), ("n_params", report.n_params), ("eval_windows", self.held_out.len() as u64)]
        {
            manifest.counts.insert(name.into(), count);
        }
        manifest.details = json!({ "train_loss": report.train_loss, "held_out_loss": report.held_out_loss });
        manifest.wall_seconds = wall_seconds;
        manifest.record_file(&dir, "config.json")?;
        manifest.record_file(&dir, "model.safetensors")?;
        // Ids mean what the tokenizer says: a model beside another tokenizer writes nonsense.
        if dir.join("tokenizer.json").exists() {
            manifest.record_file(&dir, "tokenizer.json")?;
        }
        manifest.write(&dir)?;
        artifact::move_file(&self.log_path(), &dir.join("train.jsonl"))?;
        // Last: whoever is interrupted before goes on from here and comes to the same end.
        self.checkpoints.clear()?;
        Ok(report)
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.run.checkpoints("lm").join("train.jsonl")
    }
}

/// Mean loss in nats on whole windows.
pub fn held_out_loss(engine: &mut dyn Engine, stream: &TokenStream, windows: &[u64]) -> f64 {
    let n_ctx = engine.config().n_ctx;
    let mut sum = 0.0;
    for windows in windows.chunks(16) {
        let (ids, targets) = read_windows(stream, windows, n_ctx);
        let mut nll = vec![0.0; ids.len()];
        engine.nll(&ids, &targets, n_ctx, None, &mut nll);
        sum += nll.iter().map(|&x| x as f64).sum::<f64>();
    }
    sum / (windows.len() * n_ctx) as f64
}

/// Tokens of the windows and the token after each.
fn read_windows(stream: &TokenStream, windows: &[u64], n_ctx: usize) -> (Vec<u32>, Vec<u32>) {
    let mut buffer = vec![0; n_ctx + 1];
    let (mut ids, mut targets) = (Vec::with_capacity(windows.len() * n_ctx), Vec::with_capacity(windows.len() * n_ctx));
    for w in windows {
        stream.read(w * n_ctx as u64, &mut buffer);
        ids.extend_from_slice(&buffer[..n_ctx]);
        targets.extend_from_slice(&buffer[1..]);
    }
    (ids, targets)
}

/// Every window once per epoch, in an order that is a function of (seed, epoch).
struct WindowOrder {
    seed: u64,
    windows: std::ops::Range<u64>,
    epoch: Option<u64>,
    permutation: Vec<u64>,
}

impl WindowOrder {
    fn new(seed: u64, windows: std::ops::Range<u64>) -> Self {
        WindowOrder { seed, windows, epoch: None, permutation: Vec::new() }
    }

    /// The `i`-th window of the whole run.
    fn window(&mut self, i: u64) -> u64 {
        let n = self.windows.end - self.windows.start;
        let epoch = i / n;
        if self.epoch != Some(epoch) {
            self.permutation.clear();
            self.permutation.extend(self.windows.clone());
            self.permutation.shuffle(&mut seed::rng(self.seed, "lm/order", epoch));
            self.epoch = Some(epoch);
        }
        self.permutation[(i % n) as usize]
    }
}

fn append(path: &Path, line: &TrainLine) -> Result<()> {
    let io = |e| artifact::Error::io("write", path, e);
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
    let text = serde_json::to_string(line).expect("a line is plain data");
    Ok(writeln!(file, "{text}").map_err(io)?)
}

/// Keeps the lines of the log up to `step`, so that a resumed run goes on where its checkpoint stands.
fn cut_log(path: &Path, step: u64) -> Result<()> {
    let text = if step > 0 { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let kept = text.lines().filter(|l| serde_json::from_str::<TrainLine>(l).is_ok_and(|l| l.step <= step));
    let lines: String = kept.map(|l| format!("{l}\n")).collect();
    Ok(artifact::write_atomic(path, |out| out.write_all(lines.as_bytes()))?)
}
