//! `monosem sae train`: one SAE, or several on one pass over the activations.

use super::{between, open_lm, open_stream, steered};
use crate::activations::{self, Cached, CachedRows, Paired, ShuffleConfig, Shuffled, Streamed, WindowRows};
use crate::artifact::{Manifest, RunDir, Start, grouped, read_json, shell_word, size, time};
use crate::cli::lm::lm_manifest;
use crate::cli::{Global, Interrupted, Terminal, again, sae_name};
use crate::corpus::{Split, TokenStream};
use crate::lm::{self, HookPoint};
use crate::sae::{self, Decoder, Origin, Place, Recipe, Resample, SaeConfig, Target, TrainConfig};
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::time::Instant;

pub(super) const EXAMPLES: &str = "\
Examples:
  monosem sae train --run mine                            TopK, 8 times the width
  monosem sae train --run mine --name wide --d-sae 16384 --rows 20000000
  monosem sae train --run mine --name relu --recipe relu-2023 --l1 0.002
  monosem sae train --run mine --name sweep --k 16,32,64  three, sweep-k16 to sweep-k64, on one pass over the activations
  monosem sae train --run mine --name jump --recipe jump-relu --target-l0 32
  monosem sae train --run mine --name mlp --recipe batch-topk --hook blocks.0.ln2.hook_normalized --target blocks.0.hook_mlp_out
  monosem harvest --run mine                              once, then --cached reads the rows from disk";

#[derive(Debug, clap::Args)]
pub(super) struct Train {
    /// Name of the SAE: its files are in DIR/RUN/sae/NAME. Of several, names are NAME-k16 and the like
    #[arg(long, visible_alias = "sae", default_value = "main", value_name = "NAME", value_parser = sae_name)]
    name: String,
    /// Where activations are read
    #[arg(long, default_value = "blocks.0.mlp.hook_post", value_name = "HOOK")]
    hook: HookPoint,
    /// Train a transcoder: read at --hook, reconstruct what the model computes here, later. E.g. what the MLP does:
    /// --hook blocks.0.ln2.hook_normalized --target blocks.0.hook_mlp_out
    #[arg(long, value_name = "HOOK")]
    target: Option<HookPoint>,
    /// Give the transcoder a linear path beside its latents
    #[arg(long, requires = "target")]
    skip: bool,
    /// Read the rows that `monosem harvest` cached instead of running the model; with --target those of both hooks
    #[arg(long)]
    cached: bool,
    /// How the SAE is made sparse, and by whose recipe; `monosem sae recipes` lists their settings
    #[arg(long, value_name = "NAME", default_value = "topk", value_parser = recipe_names())]
    recipe: String,
    /// Latents [default: 8 times the width of the activations]. Several values, here and below, train an SAE of each combination on one pass over
    /// the activations
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    d_sae: Vec<usize>,
    /// Latents kept per token, of recipes with a k [default: 32]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    k: Vec<f64>,
    /// Leave dead latents dead, in recipes with AuxK
    #[arg(long)]
    no_auxk: bool,
    /// L1 coefficient in the recipe's own units [default: the recipe's]
    #[arg(long, value_name = "X,...", value_delimiter = ',')]
    l1: Vec<f64>,
    /// Any other setting of the recipe, as in a recipe file: --set detached=true --set prefixes=[128,512]; several values too: --set bandwidth=0.5,1
    #[arg(long = "set", value_name = "KEY=VALUE,...")]
    set: Vec<String>,
    /// Active latents per token that the penalty is steered to, in recipes with a penalty; then its coefficient is only where the search begins
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    target_l0: Vec<f64>,
    /// Rows (tokens) to train on
    #[arg(long, value_name = "N", default_value_t = 4_000_000)]
    rows: u64,
    /// Steps to train for, instead of rows
    #[arg(long, value_name = "N", conflicts_with = "rows")]
    steps: Option<u64>,
    /// A setting of the training itself, as in a recipe file: lr_warmup, lr_decay, l1_warmup, l1_decay (fractions of the run), clip (null: none), beta1, beta2, eps,
    /// init_rows, log_every, checkpoint_every, resample (an object; null: none); may be given more than once
    #[arg(long = "train", value_name = "KEY=VALUE")]
    train: Vec<String>,
    /// Rows per step
    #[arg(long, value_name = "N", default_value_t = 2048)]
    batch: usize,
    /// Highest learning rate [default: the recipe's]
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// Rows without firing after which a latent is dead; AuxK begins after three times as many [default: 200,000, at most a fifth of the rows]
    #[arg(long, value_name = "ROWS")]
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
    seed: Vec<u64>,
    /// Shuffle buffer in RAM, MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    buffer_mib: usize,
    /// Go on from the last checkpoint
    #[arg(long)]
    resume: bool,
    /// Replace a finished SAE of other settings, and checkpoints
    #[arg(long)]
    yes: bool,
}

fn recipe_names() -> clap::builder::PossibleValuesParser {
    Recipe::all().iter().map(|recipe| clap::builder::PossibleValue::new(recipe.name()).help(recipe.about())).collect::<Vec<_>>().into()
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum HeldDecoder {
    /// Directions are trained
    Free,
    /// They stay as they were drawn
    Frozen,
    /// They keep a cosine of 0.8 with it
    SoftFrozen,
}

/// One SAE of those that are asked for.
#[derive(Debug, Clone, Default, PartialEq)]
struct Choice {
    d_sae: Option<usize>,
    k: Option<f64>,
    l1: Option<f64>,
    target_l0: Option<f64>,
    /// Settings of the recipe, key and value.
    set: Vec<(String, String)>,
    seed: u64,
    /// Behind the name: `-k16`; empty where there is only one.
    suffix: String,
}

impl Train {
    /// Rows to train on.
    fn n_rows(&self) -> u64 {
        self.steps.map_or(self.rows, |steps| steps.saturating_mul(self.batch as u64))
    }

    /// Every combination of the values given, the last one changing fastest.
    fn choices(&self) -> anyhow::Result<Vec<Choice>> {
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
            bail!("{}{} would be trained twice: a value is given twice\n  give each value once", self.name, twice[0]);
        }
        Ok(choices)
    }

    /// The named recipe with its settings.
    fn recipe(&self, choice: &Choice) -> anyhow::Result<Recipe> {
        let mut settings: Vec<(&str, serde_json::Value)> = Vec::new();
        if let Some(k) = choice.k {
            // Some recipes keep a whole number, others a mean.
            settings.push(("k", if k.fract() == 0.0 && k >= 0.0 { (k as u64).into() } else { k.into() }));
        }
        settings.extend(choice.l1.map(|l1| ("l1", l1.into())));
        settings.extend(self.no_auxk.then(|| ("auxk", false.into())));
        settings.extend(choice.set.iter().map(|(key, value)| (key.as_str(), json_or_word(value))));
        Ok(Recipe::named(&self.recipe, &settings)?)
    }

    fn config(&self, choice: &Choice, lm: &lm::LmConfig) -> anyhow::Result<TrainConfig> {
        let d_in = self.hook.d_in(lm);
        let target = self.target.map(|hook| Target { d_out: hook.d_in(lm), skip: self.skip });
        let sae = SaeConfig { target, ..SaeConfig::new(d_in, choice.d_sae.unwrap_or(8 * d_in), self.recipe(choice)?) };
        let preset = if self.paper { TrainConfig::paper } else { TrainConfig::short };
        let mut config = preset(sae, self.n_rows(), self.batch, choice.seed);
        config.lr = self.lr.unwrap_or(config.lr);
        config.dead_window_rows = self.dead_window.unwrap_or(config.dead_window_rows);
        config.snapshots = self.snapshots;
        config.target_l0 = choice.target_l0;
        config.decoder = match self.decoder {
            HeldDecoder::Free => Decoder::Free,
            HeldDecoder::Frozen => Decoder::Frozen,
            HeldDecoder::SoftFrozen => Decoder::SoftFrozen,
        };
        if self.no_resample {
            config.resample = None;
        }
        if self.resample || self.reinit {
            config.resample.get_or_insert_with(|| Resample::over(self.n_rows())).random = self.reinit;
        }
        for set in &self.train {
            let (key, value) = key_and_value("--train", set)?;
            if !SETTINGS.contains(&key) {
                bail!("--train {set}: there is no {key}; there are {}\n  others have a flag of their own", SETTINGS.join(", "));
            }
            if key.starts_with("l1_") && config.sae.recipe.sparsity(config.sae.d_out()).is_none() {
                bail!("--train {set}: {} has no penalty, so this would do nothing\n  leave it out", config.sae.recipe.in_words());
            }
            let mut all = serde_json::to_value(&config)?;
            all[key] = json_or_word(value);
            config = serde_json::from_value(all).with_context(|| format!("--train {set}"))?;
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

/// Settings of a training without a flag of their own.
const SETTINGS: [&str; 12] =
    ["lr_warmup", "lr_decay", "l1_warmup", "l1_decay", "clip", "beta1", "beta2", "eps", "init_rows", "log_every", "checkpoint_every", "resample"];

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

pub(super) fn run(args: &Train, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let _lock = run.lock()?;
    let stream = open_stream(run)?;
    let lm = open_lm(run, &stream)?;
    for hook in std::iter::once(args.hook).chain(args.target) {
        activations::check(&lm.config, hook, &stream)?;
    }
    let lm_manifest = lm_manifest(run)?;
    let choices = args.choices()?;
    let configs = choices.iter().map(|choice| args.config(choice, &lm.config)).collect::<anyhow::Result<Vec<_>>>()?;
    let shuffle = ShuffleConfig { seed: args.seed[0], buffer_mib: args.buffer_mib, visits: None, max_rows: Some(args.n_rows()) };
    let to = args.target.map_or(String::new(), |target| format!(" to {target}"));
    // Rows in bf16 are not those of the model, so a checkpoint on one must not go on with the other.
    let rows = format!("{}{to}{}", shuffle.rows(args.hook), if args.cached { ", cached" } else { "" });
    let mut inputs = BTreeMap::from([("lm".into(), lm_manifest.hash()), ("tokens".into(), stream.manifest().hash()), ("rows".into(), rows)]);
    let place = |choice: &Choice, inputs: &BTreeMap<String, String>| {
        let name = format!("{}{}", args.name, choice.suffix);
        let origin = Origin {
            model_name: run.name(),
            hook_name: args.hook.to_string(),
            hook_name_out: args.target.map(|hook| hook.to_string()),
            context_size: lm.config.n_ctx,
            dataset: run.name(),
        };
        let start = Start::from_flags(args.resume, args.yes);
        Place { out: run.sae(&name), checkpoints: run.checkpoints(&format!("sae-{name}")), start, origin, inputs: inputs.clone() }
    };
    if args.cached {
        let mut places = vec![];
        let mut open = |hook: HookPoint, input: &str| -> anyhow::Result<CachedRows> {
            let dir = run.activations(&hook.to_string());
            let rows = CachedRows::open(&dir, hook, &lm_manifest, &stream, &format!("monosem harvest --hook {hook} {}", run.flags()))?;
            inputs.insert(input.into(), read_json::<Manifest>(&dir.join("manifest.json"))?.hash());
            places.push(format!("{} ({}, {} rows)", dir.display(), rows.dtype(), grouped(rows.n_rows())));
            Ok(rows)
        };
        let rows = open(args.hook, "activations")?;
        let target = args.target.map(|hook| open(hook, "target_activations")).transpose()?;
        let rows_are = format!("cached in {}", places.join(" and "));
        let jobs: Vec<(TrainConfig, Place)> = configs.into_iter().zip(choices.iter().map(|choice| place(choice, &inputs))).collect();
        match target {
            None => train_on(Cached::open(rows, &stream, shuffle)?, &rows_are, None, &jobs, args, global, run),
            Some(target) => train_on(Paired::open(rows, target, &stream, shuffle)?, &rows_are, None, &jobs, args, global, run),
        }
    } else {
        let jobs: Vec<(TrainConfig, Place)> = configs.into_iter().zip(choices.iter().map(|choice| place(choice, &inputs))).collect();
        let model =
            Model { bytes: 4 * lm.config.n_params() as u64, seconds_per_token: seconds_per_token(&lm, &stream, args.target.unwrap_or(args.hook)) };
        let mut engine = lm::CpuEngine::new(lm);
        let source = Streamed::open_both(&mut engine, &stream, args.hook, args.target, shuffle)?;
        train_on(source, "computed while they are read", Some(model), &jobs, args, global, run)
    }
}

/// What the model costs beside the SAEs, where it computes the rows.
struct Model {
    bytes: u64,
    seconds_per_token: f64,
}

/// Windows that are run to see how fast the model is.
const TRIED_WINDOWS: usize = 16;

/// Of the model up to `hook`, measured now.
fn seconds_per_token(lm: &lm::Lm, stream: &TokenStream, hook: HookPoint) -> f64 {
    let n_ctx = lm.config.n_ctx;
    let windows = stream.spread_windows(Split::Train, n_ctx, TRIED_WINDOWS as u64);
    let mut ids = vec![0; windows.len() * n_ctx];
    windows.iter().zip(ids.chunks_mut(n_ctx)).for_each(|(w, ids)| stream.read(w * n_ctx as u64, ids));
    let mut engine = lm::CpuEngine::new(lm.clone());
    let mut rows = vec![0.0; ids.len() * hook.d_in(&lm.config)];
    let mut time = || {
        let start = Instant::now();
        lm::Engine::forward_to(&mut engine, &ids, n_ctx, hook, &mut rows);
        start.elapsed().as_secs_f64()
    };
    time();
    time().min(time()) / ids.len().max(1) as f64
}

/// Says what will happen, trains on the rows of `source`, says what came out.
fn train_on<S: WindowRows>(
    mut source: Shuffled<S>,
    rows_are: &str,
    model: Option<Model>,
    jobs: &[(TrainConfig, Place)],
    args: &Train,
    global: &Global,
    run: &RunDir,
) -> anyhow::Result<()> {
    let to = args.target.map(|hook| format!(" with {hook}")).unwrap_or_default();
    tell!("rows are {rows_are}: {} of {}{to}, batch {}", grouped(args.n_rows()), args.hook, args.batch);
    tell!("  {}", source.describe());
    let epochs = args.n_rows() as f64 / source.plan().rows_per_epoch() as f64;
    if epochs > 1.5 {
        tell!("  note: every row is read {epochs:.1} times, for the text has {} of them", grouped(source.plan().rows_per_epoch()));
    }
    if source.plan().adjacency_ratio() > 2.0 {
        tell!("  note: this buffer is too small for its promise of a ratio below 2; give more with --buffer-mib");
    }
    if differ_in_what_is_steered(args) {
        tell!("  note: with --target-l0 a coefficient is only where the search begins: SAEs of several coefficients will hardly differ");
    }
    let (mut least, mut most, mut bytes) = (0.0, 0.0, 0);
    let speed = sae::Speed::measure();
    for (config, place) in jobs {
        let forecast = sae::Forecast::of(config);
        let seconds = forecast.seconds(speed);
        (least, most) = (least + seconds.0, most + seconds.1);
        bytes += forecast.ram_bytes;
        let kind = match config.sae.target {
            None => "",
            Some(Target { skip: false, .. }) => " as a transcoder",
            Some(Target { skip: true, .. }) => " as a skip transcoder",
        };
        tell!("training {}{kind}: {} latents of {} numbers, seed {}", config.sae.recipe.in_words(), config.sae.d_sae, config.sae.d_in, config.seed);
        let auxk = if config.sae.recipe.auxk() { "; reviving dead latents (AuxK) takes more on top" } else { "" };
        tell!("  {}{auxk}", forecast.in_words());
        let checkpoints = size(forecast.checkpoint_bytes);
        tell!(
            "  writes {} ({}, of which snapshots {}) and checkpoints of {checkpoints}",
            place.out.display(),
            size(forecast.disk_bytes),
            size(forecast.snapshot_bytes)
        );
    }
    let reading = model.as_ref().map_or(String::new(), |model| {
        let tokens = source.plan().tokens_for(args.n_rows());
        format!(" and {} for the model, which runs {} tokens", time(tokens as f64 * model.seconds_per_token), grouped(tokens))
    });
    let bytes = bytes + source.memory_bytes() + model.as_ref().map_or(0, |model| model.bytes);
    let steps = between((least, most));
    tell!(
        "in all some {steps} for the steps{reading}, by what was measured just now (encoding {:.0} GFLOP/s, other products {:.0}), and {} of memory",
        speed.encode / 1e9,
        speed.product / 1e9,
        size(bytes)
    );
    let borrowed: Vec<(&TrainConfig, &Place)> = jobs.iter().map(|(config, place)| (config, place)).collect();
    let trained = match sae::train_all(&mut source, &borrowed, &mut Terminal::new()) {
        Err(sae::Error::Interrupted { .. }) => return Err(Interrupted { resume: again("--resume") }.into()),
        done => done?,
    };
    for ((config, place), done) in jobs.iter().zip(&trained) {
        if let Some(target) = config.target_l0.filter(|target| (done.l0 / target - 1.0).abs() > 0.15) {
            tell!(
                "note: {} has an L0 of {:.1}, not the {target} that was asked for: {}",
                place.out.display(),
                done.l0,
                towards_a_missed_target(config, done.l0, done.sparsity_factor)
            );
        }
        if done.fvu > 1.0 {
            tell!("note: {} reconstructs worse than the mean of all rows does (fvu {:.2}): train on more rows", place.out.display(), done.fvu);
        }
    }
    let mut lines = Vec::new();
    for ((config, place), sae::TrainedSae { steps, rows, fvu, l0, dead_frac, sparsity_factor, .. }) in jobs.iter().zip(&trained) {
        if global.json {
            lines.push(serde_json::json!({"sae": place.out, "steps": steps, "rows": rows, "fvu": fvu, "l0": l0, "dead_frac": dead_frac, "dead_window_rows": config.dead_window_rows, "sparsity_factor": sparsity_factor}));
        } else {
            let dead = match grouped(config.dead_window_rows) {
                window if config.dead_window_rows >= *rows => format!("too few rows to call a latent dead (window {window})"),
                window => format!("dead {:.1} % in the last {window} rows", 100.0 * dead_frac),
            };
            let steered = config.target_l0.map_or(String::new(), |target| format!("; {}", steered(target, *sparsity_factor)));
            say!("{}: fvu {fvu:.4} and l0 {l0:.1} of the last batch, {dead}{steered}", place.out.display());
        }
    }
    match &lines[..] {
        [] => {}
        [one] => say!("{one}"),
        _ => say!("{}", serde_json::json!({ "saes": lines })),
    }
    let first = shell_word(&jobs[0].1.out.file_name().unwrap_or_default().to_string_lossy());
    tell!("next: monosem sae eval --name {first} {}", run.flags());
    Ok(())
}

/// What to try where L0 did not come to its target.
fn towards_a_missed_target(config: &TrainConfig, l0: f64, factor: f64) -> String {
    if factor < 0.1 && config.target_l0.is_some_and(|target| l0 < target) {
        return format!(
            "the coefficient is down to {factor:.3} times the recipe's, so it is not the penalty that keeps L0 low; topk and batch-topk keep an L0 by themselves"
        );
    }
    if factor >= sae::Control::MOST {
        return format!(
            "the coefficient is as high as it goes, {factor} times the recipe's, and what is missing is steps: more --rows, a smaller --batch or a higher --lr"
        );
    }
    let settings = config.sae.recipe.settings();
    let (name, value) =
        settings.iter().find(|(name, _)| ["l1", "l0", "coefficient"].contains(&&name[..])).expect("what is steered has a coefficient");
    format!("train on more --rows, or begin with another coefficient than {value} (--set {name}=X)")
}

/// SAEs that differ in the coefficient alone, which is steered to one target, will hardly differ.
fn differ_in_what_is_steered(args: &Train) -> bool {
    let steered = !args.target_l0.is_empty();
    let several = |set: &String| matches!(set.split_once('='), Some(("l1" | "l0" | "coefficient", values)) if parts(values).len() > 1);
    steered && (args.l1.len() > 1 || args.set.iter().any(several))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        train: Train,
    }

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
        for twice in [&["--k", "8,8"][..], &["--seed", "1,2,1"], &["--target-l0", "8,8.0"]] {
            let error = Line::parse_from([&["monosem"], twice].concat()).train.choices().unwrap_err().to_string();
            assert!(error.contains("twice"), "{twice:?}: {error}");
        }
    }

    #[test]
    fn a_missed_target_names_what_can_be_changed() {
        for recipe in Recipe::all() {
            let config = TrainConfig::short(SaeConfig::new(8, 16, recipe.clone()), 640, 64, 0);
            if recipe.sparsity(8).is_some() {
                let said = towards_a_missed_target(&config, 30.0, 3.0);
                let name = said.split("--set ").nth(1).and_then(|rest| rest.split('=').next()).unwrap_or_default();
                assert!(recipe.settings().iter().any(|(key, _)| key == name), "{said}");
                assert!(towards_a_missed_target(&config, 30.0, sae::Control::MOST).contains("--lr"));
                let low = towards_a_missed_target(&TrainConfig { target_l0: Some(16.0), ..config }, 8.0, 0.001);
                assert!(low.contains("not the penalty"), "{low}");
            }
        }
        let differ = |line: &[&str]| differ_in_what_is_steered(&Line::parse_from([&["monosem", "--recipe", "gated"], line].concat()).train);
        assert!(differ(&["--l1", "1,2", "--target-l0", "8"]) && differ(&["--set", "l1=1,2", "--target-l0", "8"]));
        assert!(
            !differ(&["--l1", "1,2"]) && !differ(&["--l1", "1", "--target-l0", "8,16"]) && !differ(&["--set", "bandwidth=1,2", "--target-l0", "8"])
        );
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
            ("lr_warmup=fast", "lr_warmup=fast"),
            ("lr_warmup=2", "lr_warmup is 2"),
            ("l1_warmup=0.1", "no penalty"),
        ] {
            let error = format!("{:#}", config(&["--train", line]).unwrap_err());
            assert!(error.contains(named), "{line}: {error}");
        }
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
