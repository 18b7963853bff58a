//! Experiments with published numbers: each makes its data, trains its SAEs, and says what came out beside what was published.

mod absorption;
mod bench;
mod crowded;
mod generator;
mod hedging;
mod sharkey;
mod tree;
mod wrong_l0;

use super::prune;
use super::scores::{self, Scored, Scores};
use super::source::{Generator, Rows};
use super::{Error, Result};
use crate::artifact::{self, Figure, Progress, Start};
use crate::sae::{self, Forecast, Origin, Place, Recipe, Speed, TrainConfig, Units};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All of them, in the order of `monosem synth list`.
pub const EXPERIMENTS: [&Experiment; 10] = [
    &generator::GENERATOR,
    &bench::BENCH_16K,
    &bench::BENCH_16K_V1,
    &bench::BENCH_SMALL,
    &crowded::CROWDED,
    &sharkey::SHARKEY,
    &absorption::ABSORPTION,
    &hedging::HEDGING,
    &tree::TREE,
    &wrong_l0::WRONG_L0,
];

pub struct Experiment {
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Who published it.
    pub source: &'static str,
    /// Rows that each SAE is trained on, unless others are asked for; 0: nothing is trained.
    pub rows: u64,
    /// Time on two cores with the settings it has by itself.
    pub takes: &'static str,
    pub run: fn(&Ask, &mut dyn Progress) -> Result<Outcome>,
}

/// The experiment of that name.
///
/// # Errors
/// One that lists the names there are.
pub fn find(name: &str) -> Result<&'static Experiment> {
    let known = || EXPERIMENTS.map(|e| e.name).join(", ");
    EXPERIMENTS.into_iter().find(|e| e.name == name).ok_or_else(|| Error::Unknown { what: "experiment", name: name.into(), known: known() })
}

/// What is asked of an experiment.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// `synth/<experiment>/` of a run: a folder for each SAE, and `outcome.json`.
    pub folder: PathBuf,
    /// One SAE of each kind for each of them.
    pub seeds: Vec<u64>,
    /// Instead of the experiment's own number.
    pub rows: Option<u64>,
    /// Instead of the experiment's own SAEs.
    pub recipes: Vec<Architecture>,
    /// What becomes of SAEs and checkpoints that are there.
    pub start: Start,
}

/// An SAE's architecture by the name of its recipe and the settings that are not the recipe's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    pub recipe: String,
    pub settings: Map<String, Value>,
}

/// An architecture at an L0, ready to be trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub recipe: Recipe,
    /// What the recipe's penalty is steered to; none: it keeps a number of latents, or its penalty stays as it is.
    pub target_l0: Option<f64>,
    /// The highest learning rate, the first part of the run over which it rises, the last part over which it falls; none: as the experiment has it.
    pub lr: Option<f64>,
    pub lr_warmup: Option<f64>,
    pub lr_decay: Option<f64>,
    /// Rows without a firing after which a latent is dead.
    pub dead_window_rows: Option<u64>,
    /// Units that rows are brought into; none: the recipe's.
    pub units: Option<Units>,
    /// For tables and, with dashes, for folders: `batch-topk k=25`, `jump-relu target_l0=25`.
    pub label: String,
}

/// Settings that belong to the training, not to the recipe: numbers, and a word.
const OF_TRAINING: [&str; 6] = ["target_l0", "lr", "lr_warmup", "lr_decay", WINDOW, UNITS];
const WINDOW: &str = "dead_window_rows";
const UNITS: &str = "units";

impl Architecture {
    pub fn new(recipe: &str, settings: Value) -> Self {
        let Value::Object(settings) = settings else { panic!("settings are an object, not {settings}") };
        Architecture { recipe: recipe.into(), settings }
    }

    /// From `NAME` or `NAME:key=value,key=value`; values are JSON or words.
    ///
    /// # Errors
    /// A setting without `=`, one that is given twice, or one of the training that is not a number, whole where it counts rows, or the name of units.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (recipe, settings) = text.split_once(':').unwrap_or((text, ""));
        let mut depth = 0;
        let between = |c: char| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            c == ',' && depth == 0
        };
        let pair = |word: &str| {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word} is not a setting; write KEY=VALUE"))?;
            let value: Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            if key == UNITS {
                serde_json::from_value::<Units>(value.clone()).map_err(|e| format!("{key} is {value}: {e}"))?;
            } else if key == WINDOW && value.as_u64().is_none_or(|rows| rows == 0) {
                return Err(format!("{key} is {value}; it is a whole number of rows, at least 1"));
            } else if OF_TRAINING.contains(&key) && !value.is_number() {
                return Err(format!("{key} is {value}; it is a number"));
            }
            Ok((key.to_string(), value))
        };
        let words: Vec<&str> = settings.split(between).filter(|word| !word.is_empty()).collect();
        let mut settings = Map::new();
        for (key, value) in words.into_iter().map(pair).collect::<std::result::Result<Vec<_>, String>>()? {
            if let Some(before) = settings.insert(key.clone(), value.clone()) {
                return Err(format!("{key} is given twice, as {before} and as {value}: leave one out"));
            }
        }
        Ok(Architecture { recipe: recipe.into(), settings })
    }

    /// The architecture at this L0, unless its settings say another one: by its `k` where it has one, otherwise its penalty is steered there
    /// (`target_l0`).
    ///
    /// # Errors
    /// A name or a setting that there is not.
    pub fn at_l0(&self, l0: f64) -> Result<Chosen> {
        let mut own = self.clone();
        let keeps_a_number = Recipe::named(&self.recipe, &[])?.settings().iter().any(|(key, _)| key == "k");
        let key = if keeps_a_number { "k" } else { "target_l0" };
        // Some recipes keep a whole number, others a mean.
        own.settings.entry(key).or_insert(if l0.fract() == 0.0 { json!(l0 as u64) } else { json!(l0) });
        // Where the recipe cannot have the number, whose number that is has to be said.
        let is_ours = !self.settings.contains_key(key) && Recipe::named(&self.recipe, &[(key, own.settings[key].clone())]).is_err();
        own.as_it_is().map_err(|error| match error {
            Error::Sae(sae::Error::Config { what }) if is_ours => {
                let what = format!("{what} (the {key} of {l0} is the experiment's own; another is asked for by --recipe {}:{key}=N)", self.recipe);
                sae::Error::Config { what }.into()
            }
            other => other,
        })
    }

    /// The architecture with its own settings only.
    ///
    /// # Errors
    /// As [`Architecture::at_l0`].
    pub fn as_it_is(&self) -> Result<Chosen> {
        let settings: Vec<(&str, Value)> =
            self.settings.iter().filter(|(key, _)| !OF_TRAINING.contains(&key.as_str())).map(|(key, v)| (key.as_str(), v.clone())).collect();
        let recipe = Recipe::named(&self.recipe, &settings)?;
        let number = |key: &str| self.settings.get(key).and_then(Value::as_f64);
        let words = self.settings.iter().map(|(key, value)| format!(" {key}={}", value.to_string().replace(['"', ' '], "")));
        let label = self.recipe.clone() + &words.collect::<String>();
        let (lr, lr_warmup, lr_decay) = (number("lr"), number("lr_warmup"), number("lr_decay"));
        let dead_window_rows = self.settings.get(WINDOW).and_then(Value::as_u64);
        let units = self.settings.get(UNITS).and_then(|word| serde_json::from_value(word.clone()).ok());
        Ok(Chosen { recipe, target_l0: number("target_l0"), lr, lr_warmup, lr_decay, dead_window_rows, units, label })
    }

    /// The same with `settings` where it says nothing.
    #[must_use]
    pub fn or(&self, settings: Value) -> Self {
        let Architecture { settings: mut all, .. } = Architecture::new("", settings);
        all.extend(self.settings.clone());
        Architecture { recipe: self.recipe.clone(), settings: all }
    }
}

impl Chosen {
    /// Active latents per row that are asked for: the number that is kept, or what the penalty is steered to; none: whatever comes of the penalty.
    pub fn asked_l0(&self) -> Option<f64> {
        let kept = self.recipe.settings().into_iter().find(|(key, _)| key == "k");
        kept.and_then(|(_, k)| k.as_f64()).or(self.target_l0)
    }

    /// `config` with what was asked for of the training itself.
    pub fn tuned(&self, config: TrainConfig) -> TrainConfig {
        TrainConfig {
            target_l0: self.target_l0,
            lr: self.lr.unwrap_or(config.lr),
            lr_warmup: self.lr_warmup.unwrap_or(config.lr_warmup),
            lr_decay: self.lr_decay.unwrap_or(config.lr_decay),
            dead_window_rows: self.dead_window_rows.unwrap_or(config.dead_window_rows),
            units: self.units.or(config.units),
            ..config
        }
    }
}

/// What came out, beside what was published.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub experiment: &'static str,
    /// What one sees, in three sentences.
    pub says: String,
    pub figures: Vec<Figure>,
}

impl Outcome {
    /// With the formulas of those figures that are scores.
    pub fn with_formulas(&self) -> Value {
        let mut json = serde_json::to_value(self).expect("plain data");
        let known = self.figures.iter().filter_map(|figure| Some((figure.what.clone(), Scores::formula(&figure.what)?.into())));
        json["formulas"] = Value::Object(known.collect());
        json
    }
}

impl Ask {
    pub fn rows(&self, experiment: &Experiment) -> u64 {
        self.rows.unwrap_or(experiment.rows)
    }

    /// On how many rows, as it stands beside what was not found on them.
    fn on_rows(&self, experiment: &Experiment) -> String {
        let rows = artifact::grouped(self.rows(experiment));
        match self.rows(experiment) < experiment.rows {
            true => format!("{rows} rows (the experiment has {} by itself)", artifact::grouped(experiment.rows)),
            false => format!("{rows} rows"),
        }
    }

    /// The folder of the SAE `label` of one seed.
    fn place(&self, label: &str, seed: u64) -> PathBuf {
        self.folder.join(format!("{}-s{seed}", label.replace(' ', "-")))
    }

    /// What was asked for, or the experiment's own.
    fn architectures(&self, own: &[(&str, Value)]) -> Vec<Architecture> {
        match self.recipes.is_empty() {
            true => own.iter().map(|(recipe, settings)| Architecture::new(recipe, settings.clone())).collect(),
            false => self.recipes.clone(),
        }
    }

    /// Trains SAEs of one seed, each with its label, on one stream of rows of `generator` (or finds them trained), and scores each on `eval_rows` others.
    /// `data` names all that the generator's rows follow from: an SAE of other data is not taken for one of these.
    ///
    /// # Errors
    /// [`Error::Twice`] and settings that cannot work before anything is trained; those of the training; [`Error::Interrupted`] while it is scored.
    fn trained(
        &self,
        generator: &dyn Generator,
        data: &Value,
        jobs: &[(String, TrainConfig)],
        eval_rows: u64,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Scored>> {
        let Some((_, first)) = jobs.first() else { return Ok(Vec::new()) };
        let twice = jobs.iter().enumerate().find(|(i, (label, _))| jobs[..*i].iter().any(|(before, _)| before == label));
        if let Some((_, (label, _))) = twice {
            return Err(Error::Twice { label: label.clone() });
        }
        for (label, config) in jobs {
            config.check().map_err(|error| match error {
                sae::Error::Config { what } => sae::Error::Config { what: format!("{label}: {what}") },
                other => other,
            })?;
        }
        let place = |(label, config): &(String, TrainConfig)| {
            let out = self.place(label, config.seed);
            Place {
                checkpoints: out.join("checkpoints"),
                start: self.start,
                origin: Origin {
                    model_name: "synth".into(),
                    hook_name: "none".into(),
                    hook_name_out: None,
                    context_size: 1,
                    dataset: data.to_string(),
                },
                inputs: BTreeMap::from([("rows".into(), data.to_string())]),
                out,
            }
        };
        let places: Vec<Place> = jobs.iter().map(place).collect();
        let left: Vec<f64> = jobs.iter().zip(&places).map(|((_, config), place)| place.left(config)).collect();
        let speed = left.iter().any(|&left| left > 0.0).then(Speed::measure);
        for (((label, config), &left), speed) in jobs.iter().zip(&left).filter(|(_, left)| **left > 0.0).zip(speed.iter().cycle()) {
            let (seed, d_sae, rows) = (config.seed, config.sae.d_sae, artifact::grouped(config.rows));
            progress.note(&format!("{label}, seed {seed}: {d_sae} latents on {rows} rows, {}", Forecast::of(config).with_time(*speed, left)));
        }
        let all: Vec<(&TrainConfig, &Place)> = jobs.iter().map(|(_, config)| config).zip(&places).collect();
        let trained = sae::train_all(&mut Rows::new(generator, first.seed, "train"), &all, progress).map_err(|error| match error {
            // The name of an SAE follows from its settings here.
            sae::Error::Artifact(artifact::Error::Finished { path, differs, .. }) => {
                artifact::Error::Finished { path, differs, other: "--run" }.into()
            }
            other => other,
        })?;
        let mut scored = Vec::new();
        for (trained, place) in trained.iter().zip(&places) {
            let mut of = scores::score(&trained.sae, generator, first.seed, eval_rows, progress)?;
            of.scores.pruned = Some(prune::pruned(&trained.sae, generator, first.seed, eval_rows, &of.geometry, progress)?);
            artifact::write_json(&place.out.join("scores.json"), &of.scores.with_formulas())?;
            scored.push(of);
        }
        Ok(scored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Silent;
    use crate::synth::data::forest::{Forest, ForestConfig};

    #[test]
    fn architectures_are_read_from_the_command_line_and_refused_with_the_reason() {
        let at = |text: &str, l0: f64| Architecture::parse(text).unwrap().at_l0(l0);
        let topk = at("topk:k=7", 25.0).unwrap();
        assert_eq!((topk.recipe, topk.target_l0, topk.label.as_str()), (Recipe::TopK(sae::TopK { k: 7, ..Default::default() }), None, "topk k=7"));
        assert_eq!(at("batch-topk", 1.5).unwrap().label, "batch-topk k=1.5");
        let jump = at("jump-relu:bandwidth=0.5", 25.0).unwrap();
        assert_eq!((jump.target_l0, jump.label.as_str()), (Some(25.0), "jump-relu bandwidth=0.5 target_l0=25"));
        let slower = at("topk:lr_decay=0.5", 2.0).unwrap();
        let config = TrainConfig::short(sae::SaeConfig::new(2, 4, slower.recipe.clone()), 10, 1, 0);
        assert_eq!((slower.label.as_str(), slower.tuned(config.clone()).lr_decay), ("topk lr_decay=0.5 k=2", 0.5));
        let sooner = at("topk:dead_window_rows=5000", 2.0).unwrap();
        assert_eq!(Architecture::parse("topk:lr=fast").unwrap_err(), r#"lr is "fast"; it is a number"#);
        assert_eq!((sooner.label.as_str(), sooner.tuned(config.clone()).dead_window_rows), ("topk dead_window_rows=5000 k=2", 5000));
        for (text, said) in [
            ("topk:k=16,k=8", "k is given twice, as 16 and as 8"),
            ("topk:dead_window_rows=-5", "dead_window_rows is -5; it is a whole number"),
            ("topk:dead_window_rows=0.5", "dead_window_rows is 0.5"),
        ] {
            assert!(Architecture::parse(text).unwrap_err().contains(said), "{text}");
        }
        let broken = at("topk", 1.5).unwrap_err().to_string();
        assert!(broken.contains("the k of 1.5 is the experiment's own") && broken.contains("--recipe topk:k=N"), "{broken}");
        assert!(["topk:k=1.5", "topk:q=1"].iter().all(|text| !at(text, 2.0).unwrap_err().to_string().contains("own")));
        let raw = at("topk:units=raw", 2.0).unwrap();
        assert_eq!((raw.label.as_str(), raw.tuned(config.clone()).units()), ("topk units=raw k=2", Units::Raw));
        let refused = Architecture::parse("topk:units=metres").unwrap_err();
        assert!(refused.contains("metres") && refused.contains("root-norm"), "{refused}");
        let nested = at("matryoshka:prefixes=[2,4],detached=true", 3.0).unwrap();
        assert_eq!(nested.recipe, Recipe::Matryoshka(sae::Matryoshka { k: 3.0, prefixes: vec![2, 4], detached: true, ..Default::default() }));
        assert_eq!(nested.label, "matryoshka prefixes=[2,4] detached=true k=3");
        assert!(Architecture::parse("topk:k").unwrap_err().contains("KEY=VALUE"));
        assert!(at("topk:q=1", 2.0).unwrap_err().to_string().contains('q') && at("nope", 2.0).unwrap_err().to_string().contains("nope"));
        let own = Architecture::parse("relu-2023:l1=1").unwrap().or(json!({ "l1": 2 })).as_it_is().unwrap();
        assert_eq!((own.label.as_str(), own.target_l0), ("relu-2023 l1=1", None));
    }

    #[test]
    fn the_l0_that_is_asked_for_is_what_is_kept_or_steered_to() {
        let at = |text: &str, l0: f64| Architecture::parse(text).unwrap().at_l0(l0).unwrap().asked_l0();
        assert_eq!([at("batch-topk", 1.5), at("topk:k=7", 25.0), at("matching-pursuit", 3.0)], [Some(1.5), Some(7.0), Some(3.0)]);
        assert_eq!([at("jump-relu", 25.0), at("jump-relu:target_l0=20", 25.0)], [Some(25.0), Some(20.0)]);
        assert_eq!(Architecture::parse("relu-2023:l1=1").unwrap().as_it_is().unwrap().asked_l0(), None);
    }

    #[test]
    fn two_saes_of_one_name_are_refused_before_anything_is_trained() {
        let forest = Forest::new(&ForestConfig::tiny(), 0);
        let job = |label: &str, k| (label.to_string(), TrainConfig::short(sae::SaeConfig::new(17, 8, Recipe::topk(k, false)), 640, 64, 0));
        let parts = tempfile::tempdir().unwrap();
        let ask = Ask { folder: parts.path().join("synth"), ..Ask::default() };
        let jobs = [job("topk k=2", 2), job("topk k=3", 3), job("topk k=2", 2)];
        let refused = ask.trained(&forest, &json!({}), &jobs, 10, &mut Silent).err().unwrap().to_string();
        assert!(refused.contains("two of the SAEs are called topk k=2") && refused.contains("--recipe once"), "{refused}");
        assert!(!ask.folder.exists());
        assert_eq!(ask.trained(&forest, &json!({}), &jobs[..2], 10, &mut Silent).unwrap().len(), 2);
    }

    #[test]
    fn fewer_rows_than_the_experiments_own_are_told_beside_them() {
        let on = |rows: Option<u64>| Ask { rows, ..Ask::default() }.on_rows(&absorption::ABSORPTION);
        assert_eq!([on(None), on(Some(7_000_000))], ["5,000,000 rows", "7,000,000 rows"]);
        assert_eq!(on(Some(100_000)), "100,000 rows (the experiment has 5,000,000 by itself)");
    }

    #[test]
    fn experiments_are_found_by_name_and_others_are_told_which_there_are() {
        assert!(EXPERIMENTS.iter().all(|e| find(e.name).is_ok() && !e.about.ends_with('.')));
        let error = find("nope").err().unwrap().to_string();
        assert!(error.contains("nope") && error.contains("bench-16k"), "{error}");
    }
}
