//! The stages of a recipe in their order, each skipped while what it would make is already there, from the same inputs with the same settings.

use super::evaluate::inputs_of_sae_results;
use super::report::{Report, Sources};
use super::{Error, EvalConfig, Evaluated, Recipe, Result, evaluate, write_evaluated};
use crate::activations::Streamed;
use crate::artifact::{self, Manifest, Progress, RunDir, Start, read_json, settings, write_json};
use crate::corpus::planted::Planted;
use crate::corpus::{self, TokenStream, Tokenizer};
use crate::features::exam::{self, ExamConfig, ExamReport, Subject};
use crate::features::{self, BuildConfig, Checkpoint, Dictionary, Inputs, NEURONS, Units};
use crate::lm::{self, CpuEngine, Engine, HookPoint, Lm, LmConfig};
use crate::sae::{self, Forecast, Origin, Place, SAE_FORMAT_VERSION, Sae, Speed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// One step of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Tokens,
    Lm,
    Sae,
    Eval,
    Features,
    Neurons,
    Exam,
}

impl Stage {
    pub fn name(self) -> &'static str {
        ["tokens", "lm", "sae", "eval", "features", "neurons", "exam"][self as usize]
    }
}

/// How long a stage took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Took {
    pub stage: Stage,
    /// This time. None: it was fresh and skipped.
    pub seconds: Option<f64>,
    /// When it was made, this time or before; None where that is not recorded.
    pub made_in: Option<f64>,
}

/// Runs the stages of one recipe in one run folder. The caller holds the run's lock.
pub struct Stages<'a> {
    pub recipe: &'a Recipe,
    pub run: &'a RunDir,
    pub progress: &'a mut dyn Progress,
    pub took: Vec<Took>,
    /// Finished work of other settings and its checkpoints are replaced.
    replace: bool,
}

impl<'a> Stages<'a> {
    /// Writes `run.toml` and is ready to run.
    ///
    /// # Errors
    /// [`Error::OtherSettings`], before anything is written, when the run holds finished tokens, model or SAE of other settings and `replace` is
    /// not said: they would be lost.
    pub fn new(recipe: &'a Recipe, run: &'a RunDir, replace: bool, progress: &'a mut dyn Progress) -> Result<Self> {
        if !replace {
            refuse_other_settings(recipe, run)?;
        }
        let text = recipe.to_toml();
        artifact::write_atomic(&run.config(), |out| std::io::Write::write_all(out, text.as_bytes()))?;
        Ok(Stages { recipe, run, progress, took: Vec::new(), replace })
    }

    fn begin(&mut self, stage: Stage, fresh: bool) -> Instant {
        let word = if fresh { "fresh" } else { "making" };
        self.progress.note(&format!("{}: {word}", stage.name()));
        Instant::now()
    }

    fn end(&mut self, stage: Stage, began: Option<Instant>) {
        let seconds = began.map(|b| b.elapsed().as_secs_f64());
        let made_in = seconds.or_else(|| self.recorded_seconds(stage));
        self.took.push(Took { stage, seconds, made_in });
    }

    /// What the stage's own record says of the time that it took.
    fn recorded_seconds(&self, stage: Stage) -> Option<f64> {
        let sae = self.run.sae(&self.recipe.sae.name);
        let manifest = |path: std::path::PathBuf| Some(read_json::<Manifest>(&path).ok()?.wall_seconds);
        let dictionary = |name: &str| Some(Dictionary::open(&self.run.features(name)).ok()?.meta().wall_seconds);
        let seconds = match stage {
            Stage::Tokens => manifest(self.run.tokens().join("manifest.json")),
            Stage::Lm => manifest(self.run.lm().join("manifest.json")),
            Stage::Sae => manifest(sae.join("manifest.json")),
            Stage::Eval => manifest(sae.join("eval.manifest.json")),
            Stage::Exam => manifest(sae.join("exam.manifest.json")),
            Stage::Features => dictionary(&self.recipe.sae.name),
            Stage::Neurons => dictionary(NEURONS),
        };
        // 0: made by somebody who did not look at a clock.
        seconds.filter(|&seconds| seconds > 0.0)
    }

    /// Text -> tokens.
    pub fn tokens(&mut self) -> Result<TokenStream> {
        let dir = self.run.tokens();
        let wanted = serde_json::to_value(&self.recipe.corpus).expect("a config is plain data");
        let same = |s: &TokenStream| settings::differences(&s.manifest().config, &wanted).is_empty();
        if let Some(stream) = TokenStream::open(&dir).ok().filter(same) {
            let Some(change) = corpus::sources_changed(&dir, &self.recipe.corpus) else {
                self.begin(Stage::Tokens, true);
                self.end(Stage::Tokens, None);
                return Ok(stream);
            };
            self.progress.note(&format!("{change} since the tokens were made: they, and all that follows from them, are made anew"));
        }
        let began = self.begin(Stage::Tokens, false);
        if let Err(error) = corpus::build(&self.recipe.corpus, self.run, self.progress) {
            self.forget_empty_run();
            return Err(error.into());
        }
        self.end(Stage::Tokens, Some(began));
        Ok(TokenStream::open(&dir)?)
    }

    /// Takes `run.toml` away again where it is all that there is.
    fn forget_empty_run(&self) {
        let entries = std::fs::read_dir(&self.run.root).into_iter().flatten().flatten();
        if entries.map(|e| e.file_name()).all(|name| name == ".lock" || name == "run.toml") {
            let _ = std::fs::remove_file(self.run.config());
        }
    }

    /// A training that was interrupted had other settings than the recipe has.
    fn begun_otherwise(&self, stage: Stage, what: &str) -> Error {
        Error::OtherSettings { run: self.run.root.clone(), differs: format!("\n  {}, which was begun: {what}", stage.name()) }
    }

    /// Tokens -> language model.
    pub fn lm(&mut self, stream: &TokenStream) -> Result<Lm> {
        let recipe = &self.recipe.lm;
        // A tokenizer may find less to merge than was asked for, and one that was given has its own vocabulary.
        let model = LmConfig { d_vocab: stream.d_vocab(), ..recipe.model.clone() };
        let wanted = serde_json::json!({ "lm": model, "train": recipe.train });
        let tokens = stream.manifest().hash();
        let same = |m: &Manifest| settings::differences(&m.config, &wanted).is_empty();
        let whole = |m: &Manifest| m.check_files(&self.run.lm()).is_ok();
        let fresh = lm_manifest(self.run).is_ok_and(|m| same(&m) && m.inputs.get("tokens") == Some(&tokens) && whole(&m));
        let began = self.begin(Stage::Lm, fresh);
        if fresh {
            self.end(Stage::Lm, None);
            return Ok(Lm::load(&self.run.lm())?);
        }
        let anew = match lm::train(stream, &model, &recipe.train, self.run, Start::Resume, self.progress) {
            Err(lm::Error::NoCheckpoint { .. }) if !self.replace => Some(Start::New),
            // A checkpoint of other tokens is worth nothing; one of other settings is somebody's work.
            Err(lm::Error::OtherRun { settings, .. }) if self.replace || !settings => Some(Start::Replace),
            Err(lm::Error::OtherRun { what, .. }) => return Err(self.begun_otherwise(Stage::Lm, &what)),
            Err(lm::Error::NoCheckpoint { .. } | lm::Error::Artifact(artifact::Error::Finished { .. })) if self.replace => Some(Start::Replace),
            done => done.map(|_| None)?,
        };
        if let Some(start) = anew {
            lm::train(stream, &model, &recipe.train, self.run, start, self.progress)?;
        }
        self.end(Stage::Lm, Some(began));
        Ok(Lm::load(&self.run.lm())?)
    }

    /// Model + tokens -> SAE.
    pub fn sae(&mut self, engine: &mut dyn Engine, stream: &TokenStream) -> Result<Sae> {
        let stage = &self.recipe.sae;
        let place = self.place(stream)?;
        let fresh = place.is_fresh(&stage.train);
        let began = self.begin(Stage::Sae, fresh);
        if !fresh {
            let mut source = Streamed::open(engine, stream, stage.hook, stage.shuffle)?;
            self.progress.note(&source.describe());
            // What is refused is refused before it is told what it would cost.
            if self.replace || place.refuse(&stage.train).is_ok() {
                let forecast = Forecast::of(&stage.train).with_time(Speed::measure(), place.left(&stage.train));
                self.progress.note(&format!("{forecast}; the model's time comes on top"));
            }
            let anew = match sae::train(&mut source, &stage.train, &place, self.progress) {
                // Rows of another model make a checkpoint worth nothing; one of other settings is somebody's work.
                Err(sae::Error::OtherRun { settings, .. }) if self.replace || !settings => Start::Replace,
                Err(sae::Error::OtherRun { what, .. }) => return Err(self.begun_otherwise(Stage::Sae, &what)),
                Err(sae::Error::Artifact(artifact::Error::Finished { .. })) if self.replace => Start::Replace,
                done => done.map(|_| Start::Resume)?,
            };
            if anew == Start::Replace {
                let place = Place { start: anew, ..place.clone() };
                sae::train(&mut source, &stage.train, &place, self.progress)?;
            }
        }
        self.end(Stage::Sae, (!fresh).then_some(began));
        Ok(Sae::load(&place.out)?)
    }

    fn place(&self, stream: &TokenStream) -> Result<Place> {
        let stage = &self.recipe.sae;
        let lm = lm_manifest(self.run)?;
        Ok(Place {
            out: self.run.sae(&stage.name),
            checkpoints: self.run.sae_checkpoints(&stage.name),
            start: Start::Resume,
            origin: Origin {
                hook_name_out: None,
                model_name: self.run.name(),
                hook_name: stage.hook.to_string(),
                context_size: self.recipe.lm.model.n_ctx,
                dataset: self.run.name(),
            },
            inputs: BTreeMap::from([("lm".into(), lm.hash()), ("tokens".into(), stream.manifest().hash()), ("rows".into(), stage.rows())]),
        })
    }

    /// Metrics and controls of the SAE, into `eval.json` and `controls.json`.
    pub fn eval(&mut self, engine: &mut dyn Engine, stream: &TokenStream, sae: &Sae) -> Result<Evaluated> {
        let stage = &self.recipe.sae;
        let dir = self.run.sae(&stage.name);
        let config =
            EvalConfig { hook: stage.hook, tokens: stage.reconstruction_tokens, ce_tokens: stage.eval_tokens, neurons: None, seed: self.recipe.seed };
        let mut record = config.record(self.run, &stage.name, stream)?;
        let fresh = record.is_fresh_beside(&dir);
        let began = self.begin(Stage::Eval, fresh);
        if !fresh {
            let evaluated = evaluate(engine, stream, sae, &config, self.progress)?;
            record.wall_seconds = began.elapsed().as_secs_f64();
            write_evaluated(&dir, &evaluated, record)?;
        }
        self.end(Stage::Eval, (!fresh).then_some(began));
        Ok(Evaluated { eval: read_json(&dir.join("eval.json"))?, controls: read_json(&dir.join("controls.json"))? })
    }

    /// The dictionary of the SAE's latents, or of the model's own neurons at the same hook.
    pub fn dictionary(&mut self, engine: &mut dyn Engine, stream: &TokenStream, sae: Option<&Sae>) -> Result<Dictionary> {
        let stage = if sae.is_some() { Stage::Features } else { Stage::Neurons };
        let name = if sae.is_some() { &self.recipe.sae.name } else { NEURONS };
        let hook: HookPoint = self.recipe.sae.hook;
        let path = self.run.features(name);
        let lm_hash = lm_manifest(self.run)?.hash();
        let sae_hash = match sae {
            Some(_) => Some(Manifest::read(&self.run.sae(name), "sae", SAE_FORMAT_VERSION)?.hash()),
            None => None,
        };
        let mut config = BuildConfig { n_tokens: self.recipe.dictionary.tokens, ..Default::default() };
        config.collect.seed = self.recipe.seed;
        let fresh = Dictionary::open(&path).is_ok_and(|d| {
            let meta = d.meta();
            let wanted = config.n_tokens.min(stream.range(corpus::Split::Train).end);
            meta.lm_hash == lm_hash
                && meta.sae_hash == sae_hash
                && meta.tokens_hash == stream.manifest().hash()
                && meta.hook == hook.to_string()
                && meta.tokens_from == corpus::Split::Train.name()
                && meta.seed == config.collect.seed
                // One of version 1 has hardly a part of what is collected now.
                && !meta.census.is_empty()
                && meta.n_tokens.abs_diff(wanted) <= wanted / 50
        });
        let began = self.begin(stage, fresh);
        if !fresh {
            let tokenizer = Tokenizer::load(&self.run.tokens().join("tokenizer.json"))?;
            // A pass of other settings, or of a model that is no more, is not gone on with.
            let place = |start| Some(Checkpoint::new(self.run.checkpoints(&format!("features-{name}")), start));
            let units = match (sae, &sae_hash) {
                (Some(sae), Some(manifest_hash)) => Units::Latents { sae, name, manifest_hash, target: None },
                _ => Units::Neurons,
            };
            let mut build = |start| {
                let inputs = Inputs { engine: &mut *engine, lm_hash: &lm_hash, stream, tokenizer: &tokenizer, hook, checkpoint: place(start) };
                features::build(&path, inputs, units, &config, self.progress)
            };
            match build(Start::Resume) {
                Err(features::Error::Artifact(artifact::Error::Refused { .. })) => build(Start::Replace),
                done => done,
            }?;
        }
        self.end(stage, (!fresh).then_some(began));
        Ok(Dictionary::open(&path)?)
    }
}

impl Stages<'_> {
    /// Scores latents against known concepts, into `exam.json`, and writes each latent's best concept into the dictionary.
    pub fn exam(&mut self, engine: &mut dyn Engine, stream: &TokenStream, sae: &Sae) -> Result<ExamReport> {
        let name = &self.recipe.sae.name;
        let dir = self.run.sae(name);
        let path = dir.join("exam.json");
        let (hook, full) = (self.recipe.sae.hook, self.recipe.exam.full);
        let config = |full| ExamConfig { n_tokens: self.recipe.exam.tokens, probe: full, seed: self.recipe.seed, ..Default::default() };
        let inputs = inputs_of_sae_results(self.run, name, stream)?;
        let record = |full| {
            let asked = serde_json::json!({ "hook": hook, "full": full, "exam": config(full) });
            Manifest { inputs: inputs.clone(), ..Manifest::new("exam", exam::FORMAT_VERSION, asked, self.recipe.seed) }
        };
        // A full exam has all that a short one has.
        let fresh = record(full).is_fresh_beside(&dir) || (!full && record(true).is_fresh_beside(&dir));
        let (config, mut record) = (config(full), record(full));
        let began = self.begin(Stage::Exam, fresh);
        if !fresh {
            let concepts = super::concepts(&self.recipe.corpus, stream)?;
            let tokenizer = Tokenizer::load(&self.run.tokens().join("tokenizer.json"))?;
            let mut control = if full { Some(self.untrained(engine, stream)?) } else { None };
            let untrained = control.as_mut().map(|(engine, sae)| Subject { engine, sae });
            let report = exam::exam(Subject { engine, sae }, untrained, stream, &tokenizer, hook, &concepts, &config, self.progress)?;
            write_json(&path, &report)?;
            self.gaps(engine, stream)?;
            record.record_file(&dir, "exam.json")?;
            record.record_file(&dir, "gaps.json")?;
            record.wall_seconds = began.elapsed().as_secs_f64();
            record.write_beside(&dir)?;
        }
        let report: ExamReport = read_json(&path)?;
        // Also of a fresh exam: the dictionary may have been built again since.
        features::store::set_concepts(&self.run.features(name), &report.best_of_latent)?;
        self.end(Stage::Exam, (!fresh).then_some(began));
        Ok(report)
    }

    /// On planted text: the model's gap per concept, into `gaps.json` beside the exam. No gaps on other text.
    fn gaps(&mut self, engine: &mut dyn Engine, stream: &TokenStream) -> Result<()> {
        let gaps = match super::exam::generator(&self.recipe.corpus) {
            Some((seed, bytes)) => {
                let tokenizer = Tokenizer::load(&self.run.tokens().join("tokenizer.json"))?;
                super::gaps(engine, stream, &tokenizer, (&Planted::new(seed), bytes), self.recipe.exam.tokens, self.progress)?
            }
            None => vec![],
        };
        Ok(write_json(&self.run.sae(&self.recipe.sae.name).join("gaps.json"), &gaps)?)
    }

    /// Everything that the report says, read back from what the stages left.
    pub fn report(self, stream: &TokenStream, neurons: &Dictionary, evaluated: Evaluated, exam: ExamReport) -> Result<Report> {
        let latents = Dictionary::open(&self.run.features(&self.recipe.sae.name))?;
        let Stages { recipe, run, took, .. } = self;
        let gaps = read_json(&run.sae(&recipe.sae.name).join("gaps.json"))?;
        Report::gather(Sources { recipe, run, took, stream, latents: &latents, neurons, evaluated, exam, gaps })
    }

    /// The control of the full exam.
    fn untrained(&mut self, engine: &dyn Engine, stream: &TokenStream) -> Result<(CpuEngine, Sae)> {
        let stage = &self.recipe.sae;
        let place = self.place(stream)?;
        super::controls::shuffled(
            engine,
            stream,
            (stage.hook, stage.shuffle),
            &stage.train,
            (&place, self.run, &stage.name),
            (self.recipe.seed, self.replace),
            self.progress,
        )
    }
}

/// Refuses a recipe that would replace finished tokens, model or SAE of other settings; names what differs, with both values.
pub(super) fn refuse_other_settings(recipe: &Recipe, run: &RunDir) -> Result<()> {
    let there = |dir: &Path| dir.join("manifest.json").exists();
    let mut differs = String::new();
    let mut add = |stage: Stage, found: Vec<String>| {
        if !found.is_empty() {
            differs += &format!("\n  {}: {}", stage.name(), settings::listed(&found));
        }
    };
    let plain = |value: serde_json::Result<serde_json::Value>| value.expect("a config is plain data");
    if there(&run.tokens()) {
        let manifest = Manifest::read(&run.tokens(), "tokens", corpus::FORMAT_VERSION)?;
        add(Stage::Tokens, settings::differences(&manifest.config, &plain(serde_json::to_value(&recipe.corpus))));
    }
    if there(&run.lm()) {
        let manifest = lm_manifest(run)?;
        let mut wanted = serde_json::json!({ "lm": recipe.lm.model, "train": recipe.lm.train });
        // The tokens say how large it is.
        wanted["lm"]["d_vocab"] = manifest.config["lm"]["d_vocab"].clone();
        add(Stage::Lm, settings::differences(&manifest.config, &wanted));
    }
    let rows = BTreeMap::from([("rows".into(), recipe.sae.rows())]);
    let place = Place { out: run.sae(&recipe.sae.name), checkpoints: run.sae_checkpoints(&recipe.sae.name), inputs: rows, ..Place::default() };
    add(Stage::Sae, place.differences(&recipe.sae.train)?);
    if differs.is_empty() { Ok(()) } else { Err(Error::OtherSettings { run: run.root.clone(), differs }) }
}

/// The manifest of a run's model.
pub fn lm_manifest(run: &RunDir) -> Result<Manifest> {
    Ok(Manifest::read(&run.lm(), "lm", lm::FORMAT_VERSION)?)
}
