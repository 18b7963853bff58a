//! The stages of a recipe in their order, each skipped while what it would make is already there, from the same inputs with the same settings.

use super::evaluate::{EVAL_FORMAT_VERSION, inputs_of_sae_results};
use super::report::{Report, Sources};
use super::{Error, EvalConfig, Evaluated, Recipe, Result, evaluate, write_evaluated};
use crate::activations::Streamed;
use crate::artifact::{self, Manifest, Progress, RunDir, Start, TensorFile, read_json, settings, write_json};
use crate::corpus::planted::Planted;
use crate::corpus::{self, TokenStream, Tokenizer};
use crate::features::exam::{self, ExamConfig, ExamReport, Subject};
use crate::features::{self, BuildConfig, Dictionary, Inputs, NEURONS, Units};
use crate::lm::{self, CpuEngine, Engine, HookPoint, Lm, LmConfig};
use crate::sae::{self, Origin, Place, SAE_FORMAT_VERSION, Sae};
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
        corpus::build(&self.recipe.corpus, self.run, self.progress)?;
        self.end(Stage::Tokens, Some(began));
        Ok(TokenStream::open(&dir)?)
    }

    /// Tokens -> language model.
    pub fn lm(&mut self, stream: &TokenStream) -> Result<Lm> {
        let recipe = &self.recipe.lm;
        // A tokenizer may find less to merge than was asked for, and one that was given has its own vocabulary.
        let model = LmConfig { d_vocab: stream.d_vocab(), ..recipe.model.clone() };
        let wanted = serde_json::json!({ "lm": model, "train": recipe.train });
        let tokens = stream.manifest().hash();
        let same = |m: &Manifest| settings::differences(&m.config, &wanted).is_empty();
        let fresh = lm_manifest(self.run).is_ok_and(|m| same(&m) && m.inputs.get("tokens") == Some(&tokens));
        let began = self.begin(Stage::Lm, fresh);
        if fresh {
            self.end(Stage::Lm, None);
            return Ok(Lm::load(&self.run.lm())?);
        }
        let anew = match lm::train(stream, &model, &recipe.train, self.run, Start::Resume, self.progress) {
            Err(lm::Error::NoCheckpoint { .. }) if !self.replace => Some(Start::New),
            // A checkpoint of other tokens is worth nothing; one of other settings is somebody's work.
            Err(lm::Error::OtherRun { settings, .. }) if self.replace || !settings => Some(Start::Replace),
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
            let anew = match sae::train(&mut source, &stage.train, &place, self.progress) {
                // Rows of another model make a checkpoint worth nothing; one of other settings is somebody's work.
                Err(sae::Error::OtherRun { settings, .. }) if self.replace || !settings => Start::Replace,
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
            checkpoints: self.run.checkpoints(&format!("sae-{}", stage.name)),
            start: Start::Resume,
            origin: Origin {
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
        let config = EvalConfig {
            hook: stage.hook,
            tokens: self.recipe.dictionary.tokens,
            ce_tokens: stage.eval_tokens,
            neurons: EvalConfig::neurons_for(&sae.select),
            seed: self.recipe.seed,
        };
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
                && meta.n_tokens.abs_diff(wanted) <= wanted / 50
        });
        let began = self.begin(stage, fresh);
        if !fresh {
            let tokenizer = Tokenizer::load(&self.run.tokens().join("tokenizer.json"))?;
            let inputs = Inputs { engine, lm_hash: &lm_hash, stream, tokenizer: &tokenizer, hook };
            let units = match (sae, &sae_hash) {
                (Some(sae), Some(manifest_hash)) => Units::Latents { sae, name, manifest_hash },
                _ => Units::Neurons,
            };
            features::build(&path, inputs, units, &config, self.progress)?;
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
        let config = ExamConfig { n_tokens: self.recipe.exam.tokens, probe: full, seed: self.recipe.seed, ..Default::default() };
        let asked = serde_json::json!({ "hook": hook, "full": full, "exam": config });
        let mut record = Manifest::new("exam", exam::FORMAT_VERSION, asked, config.seed);
        record.inputs = inputs_of_sae_results(self.run, name, stream)?;
        let fresh = record.is_fresh_beside(&dir);
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
        if !dir.join("gaps.json").exists() {
            // The exam was held before gaps were measured.
            self.gaps(engine, stream)?;
        }
        let report: ExamReport = read_json(&path)?;
        // Also of a fresh exam: the dictionary may have been built again since.
        features::store::set_concepts(&self.run.features(name), &report.best_of_latent)?;
        self.end(Stage::Exam, (!fresh).then_some(began));
        Ok(report)
    }

    /// On planted text: the model's gap per concept, into `gaps.json` beside the exam. No gaps on other text.
    fn gaps(&mut self, engine: &mut dyn Engine, stream: &TokenStream) -> Result<()> {
        let gaps = match super::exam::generator_seed(&self.recipe.corpus) {
            Some(seed) => {
                let tokenizer = Tokenizer::load(&self.run.tokens().join("tokenizer.json"))?;
                super::gaps(engine, stream, &tokenizer, &Planted::new(seed), self.recipe.exam.tokens, self.progress)?
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

    /// The control of the full exam: the trained model with the entries of each weight matrix shuffled, and an SAE trained on it exactly as the real one.
    fn untrained(&mut self, engine: &dyn Engine, stream: &TokenStream) -> Result<(CpuEngine, Sae)> {
        let stage = &self.recipe.sae;
        let mut shuffled = CpuEngine::new(engine.lm().shuffled(self.recipe.seed));
        let real = self.place(stream)?;
        let mut inputs = real.inputs.clone();
        inputs.insert("weights".into(), "shuffled".into());
        let name = format!("{}-shuffled", stage.name);
        let place = Place { out: self.run.sae(&name), checkpoints: self.run.checkpoints(&format!("sae-{name}")), inputs, ..real };
        if !place.is_fresh(&stage.train) {
            let mut source = Streamed::open(&mut shuffled, stream, stage.hook, stage.shuffle)?;
            match sae::train(&mut source, &stage.train, &place, self.progress) {
                // A control of an SAE that is no more.
                Err(sae::Error::OtherRun { .. } | sae::Error::Artifact(artifact::Error::Finished { .. })) => {
                    let place = Place { start: Start::Replace, ..place.clone() };
                    sae::train(&mut source, &stage.train, &place, self.progress)
                }
                done => done,
            }?;
        }
        Ok((shuffled, Sae::load(&place.out)?))
    }
}

/// Refuses a recipe that would replace finished tokens, model or SAE of other settings; names what differs, with both values.
fn refuse_other_settings(recipe: &Recipe, run: &RunDir) -> Result<()> {
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
    let place = Place { out: run.sae(&recipe.sae.name), inputs: rows, ..Place::default() };
    add(Stage::Sae, place.differences(&recipe.sae.train)?);
    if differs.is_empty() { Ok(()) } else { Err(Error::OtherSettings { run: run.root.clone(), differs }) }
}

/// The manifest of a run's model.
pub fn lm_manifest(run: &RunDir) -> Result<Manifest> {
    Ok(Manifest::read(&run.lm(), "lm", lm::FORMAT_VERSION)?)
}

/// Whether an artifact is there and made from what is there now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    Missing,
    Fresh {
        hash: String,
        figures: BTreeMap<String, u64>,
    },
    /// A training was interrupted after so many steps; its checkpoint is there.
    Interrupted {
        step: u64,
    },
    /// `input` has changed since, or the files are damaged.
    Stale {
        why: String,
    },
}

/// What is in a run, stage by stage, with the command that makes it.
pub fn status(run: &RunDir, sae: &str) -> Vec<(&'static str, Status, String)> {
    let tokens = TokenStream::open(&run.tokens());
    let tokens_hash = tokens.as_ref().map(|s| s.manifest().hash()).ok();
    let lm = lm_manifest(run);
    let lm_hash = lm.as_ref().map(Manifest::hash).ok();
    let sae_manifest = Manifest::read(&run.sae(sae), "sae", SAE_FORMAT_VERSION).map_err(Error::from);
    let sae_hash = sae_manifest.as_ref().map(Manifest::hash).ok();
    let made = |file: std::path::PathBuf, manifest: Result<Manifest>, inputs: &[(&str, &Option<String>)]| match manifest {
        _ if !file.exists() => Status::Missing,
        Err(error) => Status::Stale { why: error.to_string() },
        Ok(manifest) => match inputs.iter().find(|(input, hash)| manifest.inputs.get(*input) != hash.as_ref()) {
            Some((input, _)) => Status::Stale { why: format!("{input} has changed since") },
            // Tokens were compared when they were opened.
            None => match if manifest.stage == "tokens" { Ok(()) } else { manifest.check_files(file.parent().unwrap_or(&file)) } {
                Err(error) => Status::Stale { why: error.to_string() },
                Ok(()) => Status::Fresh { hash: manifest.hash(), figures: manifest.counts },
            },
        },
    };
    let dictionary = |path: std::path::PathBuf, of_sae: bool| match Dictionary::open(&path) {
        Err(features::Error::Missing { .. }) => Status::Missing,
        Err(error) => Status::Stale { why: error.to_string() },
        Ok(d) if Some(&d.meta().tokens_hash) != tokens_hash.as_ref() => Status::Stale { why: "tokens has changed since".into() },
        Ok(d) if Some(&d.meta().lm_hash) != lm_hash.as_ref() => Status::Stale { why: "lm has changed since".into() },
        Ok(d) if of_sae && d.meta().sae_hash != sae_hash => Status::Stale { why: "sae has changed since".into() },
        Ok(d) => {
            let meta = d.meta();
            let figures = [("units", u64::from(meta.n_units)), ("tokens", meta.n_tokens), ("dead", meta.n_dead)];
            Status::Fresh { hash: meta.weights_hash.clone(), figures: figures.map(|(k, v)| (k.to_string(), v)).into() }
        }
    };
    let eval = Manifest::read_beside(&run.sae(sae), "eval", EVAL_FORMAT_VERSION).map_err(Error::from);
    let manifest = |dir: std::path::PathBuf| dir.join("manifest.json");
    let with_run = |command: &str| format!("monosem {command} {}", run.flags());
    let checkpoints = [run.checkpoints("lm"), run.checkpoints(&format!("sae-{sae}"))];
    let mut all = vec![
        ("tokens", made(manifest(run.tokens()), tokens.map(|s| s.manifest().clone()).map_err(Error::from), &[]), with_run("corpus build")),
        ("lm", made(manifest(run.lm()), lm, &[("tokens", &tokens_hash)]), with_run("lm train")),
        ("sae", made(manifest(run.sae(sae)), sae_manifest, &[("lm", &lm_hash), ("tokens", &tokens_hash)]), with_run("sae train")),
        ("eval", made(run.sae(sae).join("eval.json"), eval, &[("sae", &sae_hash), ("lm", &lm_hash), ("tokens", &tokens_hash)]), with_run("sae eval")),
        ("features", dictionary(run.features(sae), true), with_run("features build")),
        ("neurons", dictionary(run.features(NEURONS), false), with_run("features build --neurons")),
    ];
    // No command makes the exam alone.
    let path = run.sae(sae).join("exam.json");
    if path.exists() || run.config().exists() {
        let exam = Manifest::read_beside(&run.sae(sae), "exam", exam::FORMAT_VERSION).map_err(Error::from);
        let whole_path = format!("monosem run {} {}", run.config().display(), run.flags());
        all.push(("exam", made(path, exam, &[("sae", &sae_hash), ("lm", &lm_hash), ("tokens", &tokens_hash)]), whole_path));
    }
    for (stage, dir) in ["lm", "sae"].into_iter().zip(checkpoints) {
        let Some((step, path)) = newest_checkpoint(&dir) else { continue };
        let entry = all.iter_mut().find(|entry| entry.0 == stage).expect("both stages are listed");
        entry.1 = Status::Interrupted { step };
        entry.2 = match run_toml_made(run, stage, &path) {
            true => format!("monosem run {} {}", run.config().display(), run.flags()),
            false => format!("{} --resume   (and the flags that it was started with)", entry.2),
        };
    }
    all
}

/// Step and file of the newest checkpoint in a folder.
fn newest_checkpoint(dir: &Path) -> Option<(u64, std::path::PathBuf)> {
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    std::fs::read_dir(dir).ok()?.flatten().filter_map(|e| Some((step(&e.path())?, e.path()))).max()
}

/// Whether the checkpoint of a stage was made with the settings of `run.toml`, so that running that goes on from it.
fn run_toml_made(run: &RunDir, stage: &str, checkpoint: &Path) -> bool {
    let Ok(recipe) = Recipe::read(&run.config()) else { return false };
    let identity = TensorFile::open(checkpoint).ok().and_then(|file| file.metadata().get("run").cloned()).unwrap_or_default();
    let there: serde_json::Value = serde_json::from_str(&identity).unwrap_or_default();
    let mut here = match stage {
        "lm" => serde_json::json!({ "lm": recipe.lm.model, "train": recipe.lm.train }),
        _ => serde_json::to_value(&recipe.sae.train).expect("a config is plain data"),
    };
    if stage == "lm" {
        here["lm"]["d_vocab"] = there["config"]["lm"]["d_vocab"].clone();
    } else {
        // How often is logged or saved is not part of what a checkpoint is.
        (here["log_every"], here["checkpoint_every"]) = (0.into(), 0.into());
    }
    settings::differences(&there["config"], &here).is_empty()
}
