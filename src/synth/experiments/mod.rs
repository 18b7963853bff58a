//! Experiments with published numbers: each makes its data, trains its SAEs, and says what came out beside what was published.

mod absorption;
mod bench;
mod crowded;
mod generator;
mod hedging;
mod sharkey;
mod tree;
mod wrong_l0;

use super::scores::{self, Scored};
use super::source::{Generator, Rows};
use super::{Error, Result};
use crate::artifact::{self, Progress, Start};
use crate::sae::{self, Origin, Place, Recipe, TrainConfig};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All of them, in the order of `monosem synth list`.
pub const EXPERIMENTS: [&Experiment; 9] = [
    &generator::GENERATOR,
    &bench::BENCH_16K,
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

impl Architecture {
    pub fn new(recipe: &str, settings: Value) -> Self {
        let Value::Object(settings) = settings else { panic!("settings are an object, not {settings}") };
        Architecture { recipe: recipe.into(), settings }
    }

    /// From `NAME` or `NAME:key=value,key=value`; values are numbers, true, false or words.
    ///
    /// # Errors
    /// A setting without `=`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (recipe, settings) = text.split_once(':').unwrap_or((text, ""));
        let pair = |word: &str| {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word} is not a setting; write KEY=VALUE"))?;
            Ok((key.to_string(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
        };
        let settings = settings.split(',').filter(|word| !word.is_empty()).map(pair).collect::<std::result::Result<_, String>>()?;
        Ok(Architecture { recipe: recipe.into(), settings })
    }

    /// The recipe with `defaults` where this says nothing.
    ///
    /// # Errors
    /// A name or a setting that there is not.
    pub fn recipe(&self, defaults: &Value) -> Result<Recipe> {
        let mut settings = defaults.as_object().cloned().unwrap_or_default();
        settings.extend(self.settings.clone());
        let tag = match self.recipe.as_str() {
            "topk" => "top-k",
            "relu-2023" => "relu2023",
            "relu-april-2024" => "relu-april2024",
            other => other,
        };
        if tag == "top-k" {
            settings.entry("auxk").or_insert(json!(true));
        }
        settings.insert("name".into(), tag.into());
        serde_json::from_value(Value::Object(settings)).map_err(|e| Error::Recipe { recipe: self.recipe.clone(), what: e.to_string() })
    }

    /// `topk k=25`, for tables; with dashes it names folders.
    pub fn spoken(&self) -> String {
        let settings = self.settings.iter().map(|(key, value)| format!(" {key}={}", value.to_string().trim_matches('"').replace([' ', '"'], "")));
        self.recipe.clone() + &settings.collect::<String>()
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

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is a figure of: an SAE, the generator.
    pub of: String,
    /// A name of [`scores::Scores`], or words.
    pub what: String,
    /// Mean over seeds.
    pub ours: f64,
    /// Standard deviation over seeds, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<f64>,
    /// Lowest and highest value that `--check` accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<(f64, f64)>,
}

impl Figure {
    /// From one value for each seed.
    pub fn new(of: &str, what: &str, values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let ours = values.iter().sum::<f64>() / n;
        let sd = (values.len() > 1).then(|| (values.iter().map(|v| (v - ours).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
        Figure { of: of.into(), what: what.into(), ours, sd, published: None, band: None }
    }

    pub fn published(self, value: f64) -> Self {
        Figure { published: Some(value), ..self }
    }

    pub fn within(self, low: f64, high: f64) -> Self {
        Figure { band: Some((low, high)), ..self }
    }

    /// Whether it lies in its band; `None` where nothing is asserted.
    pub fn holds(&self) -> Option<bool> {
        self.band.map(|(low, high)| (low..=high).contains(&self.ours))
    }
}

impl Ask {
    pub fn rows(&self, experiment: &Experiment) -> u64 {
        self.rows.unwrap_or(experiment.rows)
    }

    /// The folder of the SAE `label` of one seed.
    fn place(&self, label: &str, seed: u64) -> PathBuf {
        self.folder.join(format!("{}-s{seed}", label.replace(' ', "-")))
    }

    /// Trains the SAE `label` of these settings on rows of `generator` (or finds it trained), and scores it on `eval_rows` others.
    /// `data` names the generator's settings: an SAE of other data is not taken for this one.
    fn trained(
        &self,
        generator: &dyn Generator,
        data: &Value,
        label: &str,
        config: &TrainConfig,
        eval_rows: u64,
        progress: &mut dyn Progress,
    ) -> Result<Scored> {
        let out = self.place(label, config.seed);
        let place = Place {
            checkpoints: out.join("checkpoints"),
            start: self.start,
            origin: Origin { model_name: "synth".into(), hook_name: "none".into(), context_size: 1, dataset: data.to_string() },
            inputs: BTreeMap::from([("rows".into(), data.to_string())]),
            out,
        };
        progress.note(&format!("{label}, seed {}: {} latents on {} rows", config.seed, config.sae.d_sae, artifact::grouped(config.rows)));
        let trained = sae::train(&mut Rows::new(generator, config.seed, "train"), config, &place, progress)?;
        let scored = scores::score(&trained.sae, generator, config.seed, eval_rows, progress);
        artifact::write_json(&place.out.join("scores.json"), &scored.scores)?;
        Ok(scored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_read_from_the_command_line_and_refused_with_the_reason() {
        let topk = Architecture::parse("topk:k=7").unwrap();
        assert_eq!(topk.recipe(&json!({"k": 25})).unwrap(), Recipe::topk(7, true));
        assert_eq!(Architecture::parse("topk").unwrap().recipe(&json!({"k": 25})).unwrap(), Recipe::topk(25, true));
        assert_eq!(topk.spoken(), "topk k=7");
        assert_eq!(Architecture::parse("relu-2023:l1=0.5").unwrap().recipe(&json!({})).unwrap(), crate::sae::Relu2023 { l1: 0.5 }.into());
        assert!(Architecture::parse("topk:k").unwrap_err().contains("KEY=VALUE"));
        assert!(Architecture::parse("topk:q=1").unwrap().recipe(&json!({})).unwrap_err().to_string().contains('q'));
    }

    #[test]
    fn figures_of_several_seeds_have_their_deviation_and_hold_inside_their_band() {
        let figure = Figure::new("x", "f1", &[0.5, 0.6, 0.7]).within(0.55, 0.65);
        assert!((figure.ours - 0.6).abs() < 1e-12 && (figure.sd.unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(figure.holds(), Some(true));
        assert_eq!(figure.clone().within(0.61, 1.0).holds(), Some(false));
        assert_eq!((Figure::new("x", "f1", &[0.5]).sd, Figure::new("x", "f1", &[f64::NAN]).within(0.0, 1.0).holds()), (None, Some(false)));
    }

    #[test]
    fn experiments_are_found_by_name_and_others_are_told_which_there_are() {
        assert!(EXPERIMENTS.iter().all(|e| find(e.name).is_ok() && !e.about.ends_with('.')));
        let error = find("nope").err().unwrap().to_string();
        assert!(error.contains("nope") && error.contains("bench-16k"), "{error}");
    }
}
