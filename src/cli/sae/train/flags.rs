//! The flags of `monosem sae train`, and the SAEs that they ask for.

use crate::activations::{ReadRows, ShuffleConfig};
use crate::cli::{one_or_more, sae_name};
use crate::lm::{self, HookPoint};
use crate::sae::{Begun, Decoder, Recipe, Resample, SaeConfig, Target, TrainConfig};
use anyhow::{Context, bail};

pub(in crate::cli::sae) const EXAMPLES: &str = "\
Examples:
  monosem sae train --run mine                            TopK, 8 times the width
  monosem sae train --run mine --name wide --d-sae 16384 --rows 20000000
  monosem sae train --run mine --name relu --recipe relu-2023 --l1 0.002
  monosem sae train --run mine --name sweep --k 16,32,64  three, sweep-k16 to sweep-k64, on one pass over the activations
  monosem sae train --run mine --name jump --recipe jump-relu --target-l0 32
  monosem sae train --run mine --name mlp --recipe batch-topk --hook blocks.0.ln2.hook_normalized --target blocks.0.hook_mlp_out
  monosem sae train --run mine --name wide --resume       goes on with what was interrupted; its flags are in the checkpoint
  monosem harvest --run mine                              once, then --cached reads the rows from disk";

#[derive(Debug, Clone, PartialEq, clap::Args)]
pub(in crate::cli::sae) struct Train {
    /// Name of the SAE: its files are in DIR/RUN/sae/NAME. Of several, names are NAME-k16 and the like
    #[arg(long, visible_alias = "sae", default_value = "main", value_name = "NAME", value_parser = sae_name)]
    pub name: String,
    /// Where activations are read
    #[arg(long, default_value = "blocks.0.mlp.hook_post", value_name = "HOOK")]
    pub hook: HookPoint,
    /// Train a transcoder: read at --hook, reconstruct what the model computes here, later. E.g. what the MLP does:
    /// --hook blocks.0.ln2.hook_normalized --target blocks.0.hook_mlp_out; gated, aligned and matching-pursuit cannot
    #[arg(long, value_name = "HOOK")]
    pub target: Option<HookPoint>,
    /// Give the transcoder a linear path beside its latents
    #[arg(long, requires = "target")]
    skip: bool,
    /// Read the rows that `monosem harvest` cached instead of running the model; with --target those of both hooks
    #[arg(long)]
    pub cached: bool,
    /// How the SAE is made sparse, and by whose recipe; `monosem sae recipes` lists their settings
    #[arg(long, value_name = "NAME", default_value = "topk", value_parser = recipe_names())]
    recipe: String,
    /// Latents [default: 8 times the width of the activations]. Several values, here and below, train an SAE of each combination on one pass over
    /// the activations
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    d_sae: Vec<usize>,
    /// Latents kept per token, of recipes with a k [default: 32]
    #[arg(long, value_name = "N,...", value_delimiter = ',', allow_negative_numbers = true)]
    k: Vec<f64>,
    /// Leave dead latents dead, in recipes with AuxK
    #[arg(long)]
    no_auxk: bool,
    /// L1 coefficient in the recipe's own units [default: the recipe's]
    #[arg(long, value_name = "X,...", value_delimiter = ',', allow_negative_numbers = true)]
    l1: Vec<f64>,
    /// Any other setting of the recipe, as in a recipe file: --set detached=true --set prefixes=[128,512]; several values too: --set bandwidth=0.5,1
    #[arg(long = "set", value_name = "KEY=VALUE,...")]
    set: Vec<String>,
    /// Active latents per token that the penalty is steered to, in recipes with a penalty; then its coefficient is only where the search begins. A run of a
    /// few hundred steps may end off it
    #[arg(long, value_name = "N,...", value_delimiter = ',', allow_negative_numbers = true)]
    target_l0: Vec<f64>,
    /// Rows (tokens) to train on, rounded down to whole batches
    #[arg(long, value_name = "N", default_value_t = 4_000_000, value_parser = one_or_more::<u64>)]
    rows: u64,
    /// Steps to train for, instead of rows
    #[arg(long, value_name = "N", conflicts_with = "rows", value_parser = one_or_more::<u64>)]
    steps: Option<u64>,
    /// A setting of the training itself, as in a recipe file: lr_warmup, lr_decay, l1_warmup, l1_decay (fractions of the run), clip (null: none), beta1, beta2, eps,
    /// units (raw, root-norm or centred, other than the recipe's), init_rows, log_every, checkpoint_every, resample (an object; null: none); may be given more than once
    #[arg(long = "train", value_name = "KEY=VALUE")]
    train: Vec<String>,
    /// Rows per step
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = one_or_more::<usize>)]
    pub batch: usize,
    /// Highest learning rate [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Rows without firing after which a latent is dead, for AuxK, which begins after three times as many, and for what is told; resampling has a window of its own
    /// (--train resample=...) [default: 200,000, at most a fifth of the rows]
    #[arg(long, value_name = "ROWS", value_parser = one_or_more::<u64>)]
    dead_window: Option<u64>,
    /// Do not resample dead latents (relu-2023 does by itself)
    #[arg(long)]
    no_resample: bool,
    /// Resample dead latents in recipes that do not by themselves
    #[arg(long, conflicts_with = "no_resample")]
    resample: bool,
    /// Resample dead latents with random directions instead of inputs of high loss, to see what these are worth
    #[arg(long, conflicts_with = "no_resample")]
    reinit: bool,
    /// For controls: hold decoder directions where they were drawn (frozen) or within a cosine of 0.8 (soft-frozen)
    #[arg(long, value_enum, default_value_t = HeldDecoder::Free)]
    decoder: HeldDecoder,
    /// The paper's schedule instead of the short one
    #[arg(long)]
    paper: bool,
    /// SAEs to keep on the way, at 1/2, 1/4, 1/8 ... of the run, each half as large as the result; the explorer's /training has a slider
    /// over them. 0: none
    #[arg(long, value_name = "N", default_value_t = 6)]
    snapshots: usize,
    /// Seed of weights and resampling; the first one is that of the shuffle too
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0")]
    pub seed: Vec<u64>,
    /// Shuffle buffer in RAM, MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = one_or_more::<usize>)]
    buffer_mib: usize,
    /// Go on from the last checkpoint. With --name alone beside it, with the flags that it was begun with; all of a sweep by its name
    #[arg(long)]
    pub resume: bool,
    /// Replace a finished SAE of other settings, and checkpoints. Beside --resume with --name alone: go on, or begin anew with its settings where its model has changed
    #[arg(long)]
    pub yes: bool,
}

fn recipe_names() -> clap::builder::PossibleValuesParser {
    Recipe::all().iter().map(|recipe| clap::builder::PossibleValue::new(recipe.name()).help(recipe.about())).collect::<Vec<_>>().into()
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum HeldDecoder {
    /// Directions are trained
    Free,
    /// They stay as they were drawn
    Frozen,
    /// They keep a cosine of at least 0.8 with what was drawn
    SoftFrozen,
}

/// One SAE of those that are asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    d_sae: Option<usize>,
    k: Option<f64>,
    l1: Option<f64>,
    target_l0: Option<f64>,
    /// Settings of the recipe, key and value.
    set: Vec<(String, String)>,
    seed: u64,
    /// Behind the name: `-k16`; empty where there is only one.
    pub suffix: String,
}

/// What is to be trained, and how its rows are read.
pub struct Asked {
    pub choices: Vec<Choice>,
    pub configs: Vec<TrainConfig>,
    pub shuffle: ShuffleConfig,
}

/// A command line of these flags alone.
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    train: Train,
}

impl Train {
    /// What the flags ask for, on activations of `lm`.
    pub fn asked(&self, lm: &lm::LmConfig) -> anyhow::Result<Asked> {
        let choices = self.choices()?;
        let configs = choices.iter().map(|choice| self.config(choice, lm)).collect::<anyhow::Result<_>>()?;
        let shuffle = ShuffleConfig { seed: self.seed[0], buffer_mib: self.buffer_mib, visits: None, max_rows: Some(self.n_rows()) };
        Ok(Asked { choices, configs, shuffle })
    }

    /// Whether nothing is said but which training to go on with.
    pub fn only_resumes(&self) -> bool {
        let bare = <Line as clap::Parser>::parse_from(["", "--resume", &format!("--name={}", self.name)]).train;
        self.resume && Train { yes: self.yes, ..bare } == *self
    }

    /// The flags as which SAEs were begun together, each with what stands behind the name, and what they ask for; none where their rows are not the same, or
    /// not of a kind that flags ask for.
    pub fn as_begun(&self, begun: Vec<(String, Begun)>) -> Option<(Train, Asked)> {
        let (_, Begun { config, inputs, .. }) = begun.first()?;
        let ReadRows { hook, target, cached, shuffle } = ReadRows::parse(inputs.get("rows")?)?;
        let together = |(_, other): &(String, Begun)| (&other.inputs, other.config.rows, other.config.batch) == (inputs, config.rows, config.batch);
        if !begun.iter().all(together) {
            return None;
        }
        let shuffle = ShuffleConfig { max_rows: Some(config.rows), ..shuffle };
        let train = Train {
            hook,
            target,
            cached,
            rows: config.rows,
            batch: config.batch,
            seed: vec![shuffle.seed],
            buffer_mib: shuffle.buffer_mib,
            ..self.clone()
        };
        let (suffixes, configs): (Vec<_>, Vec<_>) = begun.into_iter().map(|(suffix, begun)| (suffix, begun.config)).unzip();
        let choices = suffixes.into_iter().map(|suffix| Choice { suffix, ..Choice::default() }).collect();
        Some((train, Asked { choices, configs, shuffle }))
    }

    /// Rows to train on.
    pub fn n_rows(&self) -> u64 {
        self.steps.map_or(self.rows, |steps| steps.saturating_mul(self.batch as u64))
    }

    /// Every combination of the values given, the last one changing fastest.
    pub fn choices(&self) -> anyhow::Result<Vec<Choice>> {
        /// The choices so far with each of the values; where there are several, each with a word and its value behind the name.
        fn each<T: Clone + std::fmt::Display>(choices: Vec<Choice>, values: &[T], word: &str, put: impl Fn(&mut Choice, T)) -> Vec<Choice> {
            if values.is_empty() {
                return choices;
            }
            let one = |choice: &Choice, value: &T| {
                let mut choice = choice.clone();
                put(&mut choice, value.clone());
                if values.len() > 1 {
                    choice.suffix += &format!("-{word}{value}");
                }
                choice
            };
            choices.iter().flat_map(|choice| values.iter().map(move |value| one(choice, value))).collect()
        }
        let mut choices = vec![Choice::default()];
        choices = each(choices, &self.d_sae, "f", |c, v| c.d_sae = Some(v));
        choices = each(choices, &self.k, "k", |c, v| c.k = Some(v));
        choices = each(choices, &self.l1, "l", |c, v| c.l1 = Some(v));
        choices = each(choices, &self.target_l0, "t", |c, v| c.target_l0 = Some(v));
        for set in &self.set {
            let (key, values) = key_and_value("--set", set)?;
            choices = each(choices, &parts(values), &format!("{key}-"), |c, v| c.set.push((key.into(), v.into())));
        }
        let choices = each(choices, &self.seed, "s", |c, v| c.seed = v);
        let mut suffixes: Vec<&str> = choices.iter().map(|choice| &choice.suffix[..]).collect();
        suffixes.sort_unstable();
        if let Some(twice) = suffixes.windows(2).find(|two| two[0] == two[1]) {
            let which = self.given_twice().map_or("a value is given twice".into(), |(flag, value)| format!("{flag} has {value} twice"));
            bail!("{}{} would be trained twice: {which}\n  give each value once", self.name, twice[0]);
        }
        Ok(choices)
    }

    /// The first flag with a value that it has twice, and that value.
    fn given_twice(&self) -> Option<(String, String)> {
        fn texts<T: ToString>(values: &[T]) -> Vec<String> {
            values.iter().map(T::to_string).collect()
        }
        let mut flags: Vec<(String, Vec<String>)> = vec![
            ("--d-sae".into(), texts(&self.d_sae)),
            ("--k".into(), texts(&self.k)),
            ("--l1".into(), texts(&self.l1)),
            ("--target-l0".into(), texts(&self.target_l0)),
            ("--seed".into(), texts(&self.seed)),
        ];
        let sets = self.set.iter().filter_map(|set| set.split_once('='));
        flags.extend(sets.map(|(key, values)| (format!("--set {key}"), texts(&parts(values)))));
        flags.into_iter().find_map(|(flag, values)| {
            let twice = values.iter().enumerate().find(|(i, value)| values[..*i].contains(*value))?.1.clone();
            Some((flag, twice))
        })
    }

    /// The named recipe with its settings.
    fn recipe(&self, choice: &Choice) -> anyhow::Result<Recipe> {
        let mut settings: Vec<(&str, serde_json::Value)> = Vec::new();
        if let Some(k) = choice.k {
            // Some recipes keep a whole number, others a mean.
            settings.push(("k", if k.fract() == 0.0 && k >= 0.0 { (k as u64).into() } else { k.into() }));
        }
        settings.extend(choice.l1.map(|l1| ("l1", l1.into())));
        settings.extend(choice.set.iter().map(|(key, value)| (key.as_str(), json_or_word(value))));
        if self.no_auxk && !Recipe::named(&self.recipe, &[])?.auxk() {
            bail!("--no-auxk: {} has no AuxK by itself, so this would do nothing\n  leave it out", self.recipe);
        }
        settings.extend(self.no_auxk.then(|| ("auxk", false.into())));
        Ok(Recipe::named(&self.recipe, &settings)?)
    }

    pub fn config(&self, choice: &Choice, lm: &lm::LmConfig) -> anyhow::Result<TrainConfig> {
        let d_in = self.hook.d_in(lm);
        let target = self.target.map(|hook| Target { d_out: hook.d_in(lm), skip: self.skip });
        let sae = SaeConfig { target, ..SaeConfig::new(d_in, choice.d_sae.unwrap_or(8 * d_in), self.recipe(choice)?) };
        let preset = if self.paper { TrainConfig::paper } else { TrainConfig::short };
        let mut config = preset(sae, self.n_rows(), self.batch, choice.seed);
        if self.paper {
            let short = TrainConfig::short(config.sae.clone(), self.n_rows(), self.batch, choice.seed);
            let window = config.dead_window_rows != short.dead_window_rows && config.sae.recipe.auxk() && self.dead_window.is_none();
            if !window && (TrainConfig { dead_window_rows: short.dead_window_rows, ..config.clone() }) == short {
                bail!(
                    "--paper: {} has no schedule of its own beside the short one; all that would change is after how many rows a latent is called dead\n  {}",
                    config.sae.recipe.in_words(),
                    if self.dead_window.is_some() { "leave it out: --dead-window says that" } else { "say --dead-window in its place" }
                );
            }
        }
        config.lr = self.lr.unwrap_or(config.lr);
        config.dead_window_rows = self.dead_window.unwrap_or(config.dead_window_rows);
        config.snapshots = self.snapshots;
        config.target_l0 = choice.target_l0;
        config.decoder = match self.decoder {
            HeldDecoder::Free => Decoder::Free,
            HeldDecoder::Frozen => Decoder::Frozen,
            HeldDecoder::SoftFrozen => Decoder::SoftFrozen,
        };
        if self.no_resample && config.resample.take().is_none() {
            bail!("--no-resample: {} resamples nothing by itself, so this would do nothing\n  leave it out", config.sae.recipe.in_words());
        }
        if self.resample && config.resample.is_some() {
            bail!("--resample: {} resamples by itself, so this would do nothing\n  leave it out", config.sae.recipe.in_words());
        }
        if self.resample || self.reinit {
            config.resample.get_or_insert_with(|| Resample::over(self.n_rows())).random = self.reinit;
        }
        for set in &self.train {
            let (key, value) = key_and_value("--train", set)?;
            let Some((_, is)) = SETTINGS.iter().find(|(name, _)| *name == key) else {
                let names = SETTINGS.map(|(name, _)| name).join(", ");
                bail!("--train {set}: there is no {key}; there are {names}\n  others have a flag of their own");
            };
            if key == "units" && value == "null" {
                bail!("--train {set}: rows are in the recipe's own units by themselves, so this would do nothing\n  leave it out");
            }
            if key == "resample" {
                let flags = [("--no-resample", self.no_resample), ("--resample", self.resample), ("--reinit", self.reinit)];
                if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
                    bail!("--train {set}: {flag} says something of it already\n  leave one of them out");
                }
                if value == "null" && config.resample.is_none() {
                    bail!("--train {set}: {} resamples nothing by itself, so this would do nothing\n  leave it out", config.sae.recipe.in_words());
                }
            }
            if key.starts_with("l1_") && config.sae.recipe.sparsity(config.sae.d_out()).is_none() {
                bail!("--train {set}: {} has no penalty, so this would do nothing\n  leave it out", config.sae.recipe.in_words());
            }
            let mut all = serde_json::to_value(&config)?;
            all[key] = json_or_word(value);
            config = serde_json::from_value(all).with_context(|| format!("--train {set}: {key} cannot be {value}\n  {key} is {is}"))?;
            if key == "l1_warmup" && config.l1_warmup != config.sparsity_warmup() {
                bail!(
                    "--train {set}: where L0 is steered (--target-l0) the coefficient may rise over half of the run at most, or no time is left for that"
                );
            }
        }
        config.check()?;
        Ok(config)
    }
}

/// Settings of a training without a flag of their own, and what each of them is.
const SETTINGS: [(&str, &str); 13] = [
    ("lr_warmup", "a fraction of the run, from 0 to 1"),
    ("lr_decay", "a fraction of the run, from 0 to 1"),
    ("l1_warmup", "a fraction of the run, from 0 to 1"),
    ("l1_decay", "a fraction of the run, from 0 to 1"),
    ("clip", "the largest norm of the gradient, a number above 0, or null"),
    ("beta1", "a number from 0 to below 1"),
    ("beta2", "a number from 0 to below 1"),
    ("eps", "a number above 0, such as 1e-8"),
    ("units", "raw, root-norm or centred"),
    ("init_rows", "a whole number of rows"),
    ("log_every", "a whole number of steps, at least 1"),
    ("checkpoint_every", "a whole number of steps, at least 1"),
    ("resample", r#"an object such as {"at":[0.1,0.3],"window":0.05,"sample_rows":10000,"centred":true}, or null"#),
];

fn key_and_value<'a>(flag: &str, set: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    set.split_once('=').with_context(|| format!("{flag} {set}: expected KEY=VALUE"))
}

/// What is no JSON is a word.
fn json_or_word(value: &str) -> serde_json::Value {
    serde_json::from_str(value).unwrap_or_else(|_| value.into())
}

/// The parts between commas, but for those within brackets.
fn parts(values: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (i, c) in values.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&values[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&values[from..]);
    parts
}

/// SAEs that differ in the coefficient alone, which is steered to one target, will hardly differ.
pub fn differ_in_what_is_steered(args: &Train) -> bool {
    let Ok(recipe) = Recipe::named(&args.recipe, &[]) else { return false };
    let several = |set: &String| set.split_once('=').is_some_and(|(key, values)| key == recipe.coefficient() && parts(values).len() > 1);
    !args.target_l0.is_empty() && (args.l1.len() > 1 || args.set.iter().any(several))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn several_values_are_every_combination_with_a_name_for_each() {
        let names = |line: &[&str]| {
            let train = Line::parse_from([&["monosem"], line].concat()).train;
            train.choices().unwrap().into_iter().map(|choice| format!("{}{}", train.name, choice.suffix)).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["main"]);
        assert_eq!(names(&["--k", "8"]), ["main"]);
        assert_eq!(names(&["--name", "a", "--k", "8,16", "--seed", "1,2"]), ["a-k8-s1", "a-k8-s2", "a-k16-s1", "a-k16-s2"]);
        assert_eq!(
            names(&["--target-l0", "16,32", "--set", "bandwidth=0.5,1"]),
            ["main-t16-bandwidth-0.5", "main-t16-bandwidth-1", "main-t32-bandwidth-0.5", "main-t32-bandwidth-1"]
        );
        // Commas within brackets are the value's.
        assert_eq!(names(&["--set", "prefixes=[4,8]", "--set", "detached=true"]), ["main"]);
        assert_eq!(names(&["--set", "prefixes=[4,8],[16]"]), ["main-prefixes-[4,8]", "main-prefixes-[16]"]);
        // One folder for two.
        for (twice, said) in [
            (["--k", "8,8"], "main-k8 would be trained twice: --k has 8 twice"),
            (["--seed", "1,2,1"], "--seed has 1 twice"),
            (["--target-l0", "8,8.0"], "--target-l0 has 8 twice"),
            (["--set", "bandwidth=0.5,1,1"], "--set bandwidth has 1 twice"),
        ] {
            let error = Line::parse_from([&["monosem"], &twice[..]].concat()).train.choices().unwrap_err().to_string();
            assert!(error.contains(said), "{twice:?}: {error}");
        }
    }

    #[test]
    fn what_differs_in_what_is_steered_alone_is_told() {
        let differ = |line: &[&str]| differ_in_what_is_steered(&Line::parse_from([&["monosem", "--recipe", "gated"], line].concat()).train);
        assert!(differ(&["--l1", "1,2", "--target-l0", "8"]) && differ(&["--set", "l1=1,2", "--target-l0", "8"]));
        assert!(
            !differ(&["--l1", "1,2"]) && !differ(&["--l1", "1", "--target-l0", "8,16"]) && !differ(&["--set", "bandwidth=1,2", "--target-l0", "8"])
        );
    }

    #[test]
    fn a_resume_without_other_flags_takes_those_of_the_checkpoint() {
        let lm = lm::LmConfig::tiny();
        let parsed = |line: &[&str]| Line::parse_from([&["monosem"], line].concat()).train;
        let begun_as = parsed(&[
            "--recipe",
            "batch-topk",
            "--k",
            "5",
            "--hook",
            "blocks.0.ln2.hook_normalized",
            "--target",
            "blocks.0.hook_mlp_out",
            "--rows",
            "640",
            "--batch",
            "64",
            "--seed",
            "3",
            "--buffer-mib",
            "7",
            "--name",
            "wide",
        ]);
        let Asked { configs, shuffle, .. } = begun_as.asked(&lm).unwrap();
        let begun = |rows: String| Begun { config: configs[0].clone(), inputs: [("rows".into(), rows)].into(), step: 4 };
        let bare = parsed(&["--name", "wide", "--resume"]);
        assert!(bare.only_resumes() && !begun_as.only_resumes() && !parsed(&["--name", "wide", "--resume", "--k", "8"]).only_resumes());
        for cached in ["", ", cached"] {
            let rows = format!("{} to blocks.0.hook_mlp_out{cached}", shuffle.rows(begun_as.hook));
            let (train, asked) = bare.as_begun(vec![(String::new(), begun(rows.clone()))]).unwrap();
            assert_eq!((train.hook, train.target, train.cached), (begun_as.hook, begun_as.target, !cached.is_empty()));
            assert_eq!((&asked.configs, asked.shuffle, asked.choices[0].suffix.as_str()), (&configs, shuffle, ""));
            // Those of a sweep go on together, if they read the same rows.
            let sweep = |other: String| bare.as_begun(vec![("-k5".into(), begun(rows.clone())), ("-k6".into(), begun(other))]);
            let (_, asked) = sweep(rows.clone()).unwrap();
            assert_eq!(asked.choices.iter().map(|choice| choice.suffix.as_str()).collect::<Vec<_>>(), ["-k5", "-k6"]);
            assert!(asked.configs.len() == 2 && sweep(format!("{rows}, cached")).is_none());
        }
        assert!(bare.as_begun(vec![(String::new(), begun("drawn".into()))]).is_none());
    }

    #[test]
    fn steps_and_settings_of_the_training_are_those_that_were_given() {
        let lm = lm::LmConfig::tiny();
        let config = |line: &[&str]| {
            let train = Line::parse_from([&["monosem"], line].concat()).train;
            let choices = train.choices().unwrap();
            train.config(&choices[0], &lm)
        };
        let set = config(&[
            "--recipe",
            "tanh",
            "--steps",
            "100",
            "--batch",
            "64",
            "--train",
            "lr_warmup=0.5",
            "--train",
            "clip=null",
            "--train",
            "l1_decay=0.25",
        ])
        .unwrap();
        assert_eq!((set.steps(), set.rows, set.lr_warmup, set.clip, set.l1_decay), (100, 6400, 0.5, None, 0.25));
        for (line, named) in [
            ("lr_warm=1", "there is no lr_warm"),
            ("lr_warmup", "KEY=VALUE"),
            ("lr_warmup=fast", "--train lr_warmup=fast: lr_warmup cannot be fast\n  lr_warmup is a fraction of the run"),
            ("clip=abc", "clip is the largest norm of the gradient, a number above 0, or null"),
            ("log_every=2.5", "log_every is a whole number of steps"),
            ("resample=often", r#"resample is an object such as {"at""#),
            ("lr_warmup=2", "lr_warmup is 2"),
            ("l1_warmup=0.1", "no penalty"),
        ] {
            let error = format!("{:#}", config(&["--train", line]).unwrap_err());
            assert!(error.contains(named), "{line}: {error}");
        }
        for (line, named) in [
            (&["--recipe", "aligned", "--no-auxk"][..], "aligned has no AuxK by itself"),
            (&["--recipe", "relu-2023", "--resample"], "resamples by itself"),
            (&["--no-resample"], "resamples nothing by itself"),
            (&["--resample", "--train", "resample=null"], "--resample says something of it already"),
            (&["--train", "resample=null"], "resamples nothing by itself"),
            (&["--train", "log_every=0"], "log_every is 0"),
            (&["--train", "checkpoint_every=0"], "checkpoint_every is 0"),
            (&["--train", "units=metres"], "units=metres"),
            (&["--train", "units=null"], "would do nothing"),
            (&["--train", "lr_warmup=0.6", "--train", "lr_decay=0.6"], "lr_warmup is 0.6 and lr_decay 0.6"),
            (&["--train", "units=centred"], "rows are centred"),
            (&["--recipe", "jump-relu", "--target-l0", "8", "--train", "units=raw"], "in its own units alone"),
            (&["--set", "auxk=false", "--no-auxk"], "auxk of topk is given twice"),
        ] {
            let error = format!("{:#}", config(line).unwrap_err());
            assert!(error.contains(named), "{line:?}: {error}");
        }
        assert_eq!(config(&["--train", "units=raw"]).unwrap().units(), crate::sae::Units::Raw);
        for (recipe, coefficient) in [
            ("relu-2023", "l1=-1"),
            ("relu-april-2024", "l1=-5"),
            ("jump-relu", "l0=-1"),
            ("tanh", "coefficient=-1"),
            ("p-anneal", "l1=-1"),
            ("gated", "l1=-1"),
        ] {
            let error = config(&["--recipe", recipe, "--set", coefficient]).unwrap_err().to_string();
            assert!(error.contains("must be 0 or more"), "{recipe}: {error}");
        }
    }
}
