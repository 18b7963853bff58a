//! The stages of a recipe in their order, each skipped while what it would make is already there, from the same inputs with the same settings.

use super::report::{Report, Sources};
use super::{Controls, Error, Recipe, Result, evaluate};
use crate::activations::Streamed;
use crate::artifact::{self, Manifest, Progress, RunDir, read_json, write_json};
use crate::corpus::{self, TokenStream, Tokenizer};
use crate::features::exam::{self, ExamConfig, ExamReport, Subject};
use crate::features::{self, BuildConfig, Dictionary, Inputs, NEURONS, Units};
use crate::lm::{self, CpuEngine, Engine, HookPoint, Lm};
use crate::sae::{self, Eval, Origin, Place, SAE_FORMAT_VERSION, Sae};
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

/// How long a stage took; nothing when it was fresh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Took {
    pub stage: Stage,
    /// None: it was fresh and skipped.
    pub seconds: Option<f64>,
}

/// Runs the stages of one recipe in one run folder. The caller holds the run's lock.
pub struct Stages<'a> {
    pub recipe: &'a Recipe,
    pub run: &'a RunDir,
    pub progress: &'a mut dyn Progress,
    pub took: Vec<Took>,
}

/// `eval.json` and `controls.json` as one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluated {
    pub eval: Eval,
    pub controls: Controls,
}

impl<'a> Stages<'a> {
    /// Writes `run.toml` and is ready to run.
    pub fn new(recipe: &'a Recipe, run: &'a RunDir, progress: &'a mut dyn Progress) -> Result<Self> {
        let text = recipe.to_toml();
        artifact::write_atomic(&run.config(), |out| std::io::Write::write_all(out, text.as_bytes()))?;
        Ok(Stages { recipe, run, progress, took: Vec::new() })
    }

    fn begin(&mut self, stage: Stage, fresh: bool) -> Instant {
        let word = if fresh { "fresh" } else { "making" };
        self.progress.note(&format!("{}: {word}", stage.name()));
        Instant::now()
    }

    fn end(&mut self, stage: Stage, began: Option<Instant>) {
        self.took.push(Took { stage, seconds: began.map(|b| b.elapsed().as_secs_f64()) });
    }

    /// Text -> tokens.
    pub fn tokens(&mut self) -> Result<TokenStream> {
        let dir = self.run.tokens();
        let wanted = serde_json::to_value(&self.recipe.corpus).expect("a config is plain data");
        if let Some(stream) = TokenStream::open(&dir).ok().filter(|s| s.manifest().config == wanted) {
            self.begin(Stage::Tokens, true);
            self.end(Stage::Tokens, None);
            return Ok(stream);
        }
        if TokenStream::open(&dir).is_ok() {
            self.progress.note(&format!("{} was made with other settings; everything is made anew", dir.display()));
        }
        let began = self.begin(Stage::Tokens, false);
        corpus::build(&self.recipe.corpus, self.run, self.progress)?;
        self.end(Stage::Tokens, Some(began));
        Ok(TokenStream::open(&dir)?)
    }

    /// Tokens -> language model.
    pub fn lm(&mut self, stream: &TokenStream) -> Result<Lm> {
        let recipe = &self.recipe.lm;
        let wanted = serde_json::json!({ "lm": recipe.model, "train": recipe.train });
        let tokens = stream.manifest().hash();
        let fresh = lm_manifest(self.run).is_ok_and(|m| m.config == wanted && m.inputs.get("tokens") == Some(&tokens));
        let began = self.begin(Stage::Lm, fresh);
        if fresh {
            self.end(Stage::Lm, None);
            return Ok(Lm::load(&self.run.lm())?);
        }
        match lm::train(stream, &recipe.model, &recipe.train, self.run, true, self.progress) {
            // No checkpoint, or one of another recipe: start anew.
            Err(lm::Error::NoCheckpoint { .. } | lm::Error::OtherRun { .. }) => {
                lm::train(stream, &recipe.model, &recipe.train, self.run, false, self.progress)
            }
            done => done,
        }?;
        self.end(Stage::Lm, Some(began));
        Ok(Lm::load(&self.run.lm())?)
    }

    /// Model + tokens -> SAE.
    pub fn sae(&mut self, engine: &mut dyn Engine, stream: &TokenStream) -> Result<Sae> {
        let stage = &self.recipe.sae;
        let place = self.place(stream)?;
        let fresh = Manifest::read(&place.out, "sae", SAE_FORMAT_VERSION)
            .is_ok_and(|m| m.inputs == place.inputs && Some(m.config) == serde_json::to_value(&stage.train).ok());
        let began = self.begin(Stage::Sae, fresh);
        if !fresh {
            let mut source = Streamed::open(engine, stream, stage.hook, stage.shuffle)?;
            self.progress.note(&source.describe());
            let trained = match sae::train(&mut source, &stage.train, &place, self.progress) {
                // The checkpoint belongs to another recipe: start anew.
                Err(sae::Error::OtherRun { .. }) => {
                    let place = Place { resume: false, ..place.clone() };
                    sae::train(&mut source, &stage.train, &place, self.progress)
                }
                done => done,
            };
            trained?;
        }
        self.end(Stage::Sae, (!fresh).then_some(began));
        Ok(Sae::load(&place.out)?)
    }

    fn place(&self, stream: &TokenStream) -> Result<Place> {
        let stage = &self.recipe.sae;
        let lm = lm_manifest(self.run)?;
        let rows = format!("{} through {} MiB, seed {}", stage.hook, stage.shuffle.buffer_mib, stage.shuffle.seed);
        Ok(Place {
            out: self.run.sae(&stage.name),
            checkpoints: self.run.checkpoints(&format!("sae-{}", stage.name)),
            resume: true,
            origin: Origin {
                model_name: self.run.name(),
                hook_name: stage.hook.to_string(),
                context_size: self.recipe.lm.model.n_ctx,
                dataset: self.run.name(),
            },
            inputs: BTreeMap::from([("lm".into(), lm.hash()), ("tokens".into(), stream.manifest().hash()), ("rows".into(), rows)]),
        })
    }

    /// Metrics and controls of the SAE, into `eval.json` and `controls.json`.
    pub fn eval(&mut self, engine: &mut dyn Engine, stream: &TokenStream, sae: &Sae) -> Result<Evaluated> {
        let stage = &self.recipe.sae;
        let dir = self.run.sae(&stage.name);
        let (eval_path, controls_path) = (dir.join("eval.json"), dir.join("controls.json"));
        let manifest = dir.join("manifest.json");
        let fresh = newer(&eval_path, &manifest) && newer(&controls_path, &manifest);
        let began = self.begin(Stage::Eval, fresh);
        if !fresh {
            let n_tokens = self.recipe.dictionary.tokens;
            let k = match &stage.train.sae.recipe {
                sae::Recipe::TopK { k, .. } => *k,
                _ => 40,
            };
            let (eval, controls) =
                evaluate(engine, stream, stage.hook, sae, n_tokens, stage.eval_tokens, k.max(40), self.recipe.seed, self.progress)?;
            write_json(&eval_path, &eval)?;
            write_json(&controls_path, &controls)?;
        }
        self.end(Stage::Eval, (!fresh).then_some(began));
        Ok(Evaluated { eval: read_json(&eval_path)?, controls: read_json(&controls_path)? })
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
        if let Some(report) = self.held(&path) {
            self.begin(Stage::Exam, true);
            // The dictionary may have been built again since.
            features::store::set_concepts(&self.run.features(name), &report.best_of_latent)?;
            self.end(Stage::Exam, None);
            return Ok(report);
        }
        let began = self.begin(Stage::Exam, false);
        let concepts = super::concepts(self.recipe, stream)?;
        let tokenizer = Tokenizer::load(&self.run.tokens().join("tokenizer.json"))?;
        let config = ExamConfig { n_tokens: self.recipe.exam.tokens, probe: self.recipe.exam.full, seed: self.recipe.seed, ..Default::default() };
        let mut control = if self.recipe.exam.full { Some(self.untrained(engine, stream)?) } else { None };
        let untrained = control.as_mut().map(|(engine, sae)| Subject { engine, sae });
        let hook = self.recipe.sae.hook;
        let report = exam::exam(Subject { engine, sae }, untrained, stream, &tokenizer, hook, &concepts, &config, self.progress)?;
        write_json(&path, &report)?;
        features::store::set_concepts(&self.run.features(name), &report.best_of_latent)?;
        self.end(Stage::Exam, Some(began));
        Ok(report)
    }

    /// The exam that was held of this SAE, if nothing that it depends on is newer and it has all that is asked for.
    fn held(&self, path: &Path) -> Option<ExamReport> {
        if !newer(path, &self.run.sae(&self.recipe.sae.name).join("manifest.json")) {
            return None;
        }
        let report: ExamReport = read_json(path).ok()?;
        let full = report.concepts.iter().any(|c| c.probe.is_some());
        (full == self.recipe.exam.full).then_some(report)
    }

    /// Everything that the report says, read back from what the stages left.
    pub fn report(self, stream: &TokenStream, neurons: &Dictionary, evaluated: Evaluated, exam: ExamReport) -> Result<Report> {
        let latents = Dictionary::open(&self.run.features(&self.recipe.sae.name))?;
        let Stages { recipe, run, took, .. } = self;
        Report::gather(Sources { recipe, run, took, stream, latents: &latents, neurons, evaluated, exam })
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
        let fresh = Manifest::read(&place.out, "sae", SAE_FORMAT_VERSION)
            .is_ok_and(|m| m.inputs == place.inputs && Some(m.config) == serde_json::to_value(&stage.train).ok());
        if !fresh {
            let mut source = Streamed::open(&mut shuffled, stream, stage.hook, stage.shuffle)?;
            sae::train(&mut source, &stage.train, &place, self.progress)?;
        }
        Ok((shuffled, Sae::load(&place.out)?))
    }
}

/// Whether `path` was written after `than`.
fn newer(path: &Path, than: &Path) -> bool {
    let time = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    time(path) > time(than)
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
    let made = |dir: std::path::PathBuf, manifest: Result<Manifest>, inputs: &[(&str, &Option<String>)]| match manifest {
        _ if !dir.join("manifest.json").exists() => Status::Missing,
        Err(error) => Status::Stale { why: error.to_string() },
        Ok(manifest) => match inputs.iter().find(|(input, hash)| manifest.inputs.get(*input) != hash.as_ref()) {
            Some((input, _)) => Status::Stale { why: format!("{input} has changed since") },
            None => Status::Fresh { hash: manifest.hash(), figures: manifest.counts },
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
    let with_run = |command: &str| format!("monosem {command} {}", run.flags());
    vec![
        ("tokens", made(run.tokens(), tokens.map(|s| s.manifest().clone()).map_err(Error::from), &[]), with_run("corpus build")),
        ("lm", made(run.lm(), lm, &[("tokens", &tokens_hash)]), with_run("lm train")),
        ("sae", made(run.sae(sae), sae_manifest, &[("lm", &lm_hash), ("tokens", &tokens_hash)]), with_run("sae train")),
        ("features", dictionary(run.features(sae), true), with_run("features build")),
        ("neurons", dictionary(run.features(NEURONS), false), with_run("features build --neurons")),
    ]
}
