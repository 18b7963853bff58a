//! `monosem sae train`: one SAE, or several on one pass over the activations.

use super::{open_lm, open_stream};
use crate::activations::{Cached, ShuffleConfig, Shuffled, Streamed, WindowRows};
use crate::artifact::{Manifest, RunDir, Start, grouped, read_json, shell_word, size, time};
use crate::cli::{Global, Interrupted, Terminal, again, sae_name};
use crate::lm::{self, HookPoint};
use crate::sae::{self, Decoder, Origin, Place, Recipe, Resample, SaeConfig, Target, TrainConfig};
use anyhow::Context;
use std::collections::BTreeMap;

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
    #[arg(long, value_name = "HOOK", conflicts_with = "cached")]
    target: Option<HookPoint>,
    /// Give the transcoder a linear path beside its latents
    #[arg(long, requires = "target")]
    skip: bool,
    /// Read the rows that `monosem harvest` cached instead of running the model
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
    /// Any other setting of the recipe, as in a recipe file: --set detached=true --set prefixes=[128,512]
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Active latents per token that the penalty is steered to, in recipes with a penalty; then its coefficient is only where the search begins
    #[arg(long, value_name = "N")]
    target_l0: Option<f64>,
    /// Rows (tokens) to train on
    #[arg(long, value_name = "N", default_value_t = 4_000_000)]
    rows: u64,
    /// Rows per step
    #[arg(long, value_name = "N", default_value_t = 2048)]
    batch: usize,
    /// Highest learning rate [default: the recipe's]
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// Rows without firing after which a latent is dead [default: 200,000, at most a fifth of the rows]
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
#[derive(Debug, Clone, PartialEq)]
struct Choice {
    d_sae: Option<usize>,
    k: Option<f64>,
    l1: Option<f64>,
    seed: u64,
    /// Behind the name: `-k16`; empty where there is only one.
    suffix: String,
}

impl Train {
    /// Every combination of the values given, the last one changing fastest.
    fn choices(&self) -> Vec<Choice> {
        fn each<T: Copy>(values: &[T]) -> Vec<Option<T>> {
            if values.is_empty() { vec![None] } else { values.iter().map(|&v| Some(v)).collect() }
        }
        let mut choices = Vec::new();
        for d_sae in each(&self.d_sae) {
            for k in each(&self.k) {
                for l1 in each(&self.l1) {
                    for &seed in &self.seed {
                        let parts = [
                            (self.d_sae.len(), "f", d_sae.map(|v| v.to_string())),
                            (self.k.len(), "k", k.map(|v| v.to_string())),
                            (self.l1.len(), "l", l1.map(|v| v.to_string())),
                            (self.seed.len(), "s", Some(seed.to_string())),
                        ];
                        let named =
                            parts.into_iter().filter(|(n, ..)| *n > 1).map(|(_, word, value)| format!("-{word}{}", value.unwrap_or_default()));
                        choices.push(Choice { d_sae, k, l1, seed, suffix: named.collect() });
                    }
                }
            }
        }
        choices
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
        for set in &self.set {
            let (key, value) = set.split_once('=').with_context(|| format!("--set {set}: expected KEY=VALUE"))?;
            // What is no JSON is a word.
            settings.push((key, serde_json::from_str(value).unwrap_or_else(|_| value.into())));
        }
        Ok(Recipe::named(&self.recipe, &settings)?)
    }

    fn config(&self, choice: &Choice, lm: &lm::LmConfig) -> anyhow::Result<TrainConfig> {
        let d_in = self.hook.d_in(lm);
        let target = self.target.map(|hook| Target { d_out: hook.d_in(lm), skip: self.skip });
        let sae = SaeConfig { target, ..SaeConfig::new(d_in, choice.d_sae.unwrap_or(8 * d_in), self.recipe(choice)?) };
        let preset = if self.paper { TrainConfig::paper } else { TrainConfig::short };
        let mut config = preset(sae, self.rows, self.batch, choice.seed);
        config.lr = self.lr.unwrap_or(config.lr);
        config.dead_window_rows = self.dead_window.unwrap_or(config.dead_window_rows);
        config.snapshots = self.snapshots;
        config.target_l0 = self.target_l0;
        config.decoder = match self.decoder {
            HeldDecoder::Free => Decoder::Free,
            HeldDecoder::Frozen => Decoder::Frozen,
            HeldDecoder::SoftFrozen => Decoder::SoftFrozen,
        };
        if self.no_resample {
            config.resample = None;
        }
        if self.resample || self.reinit {
            config.resample.get_or_insert_with(|| Resample::over(self.rows)).random = self.reinit;
        }
        config.check()?;
        Ok(config)
    }
}

pub(super) fn run(args: &Train, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let _lock = run.lock()?;
    let stream = open_stream(run)?;
    let lm = open_lm(run, &stream)?;
    let lm_manifest = Manifest::read(&run.lm(), "lm", lm::FORMAT_VERSION)?;
    let choices = args.choices();
    let configs = choices.iter().map(|choice| args.config(choice, &lm.config)).collect::<anyhow::Result<Vec<_>>>()?;
    let shuffle = ShuffleConfig { seed: args.seed[0], buffer_mib: args.buffer_mib, visits: None, max_rows: Some(args.rows) };
    let rows = args.target.map_or(shuffle.rows(args.hook), |target| format!("{} to {target}", shuffle.rows(args.hook)));
    let mut inputs = BTreeMap::from([("lm".into(), lm_manifest.hash()), ("tokens".into(), stream.manifest().hash()), ("rows".into(), rows)]);
    let cache = run.activations(&args.hook.to_string());
    if args.cached {
        // Rows in bf16 are not those of the model, so a checkpoint on one must not go on with the other.
        inputs.insert("rows".into(), format!("{}, cached", shuffle.rows(args.hook)));
    }
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
        let harvest = format!("monosem harvest --hook {} {}", args.hook, run.flags());
        let source = Cached::open(&cache, args.hook, &lm_manifest, &stream, shuffle, &harvest)?;
        inputs.insert("activations".into(), read_json::<Manifest>(&cache.join("manifest.json"))?.hash());
        let jobs: Vec<(TrainConfig, Place)> = configs.into_iter().zip(choices.iter().map(|choice| place(choice, &inputs))).collect();
        train_on(source, &format!("cached in {}", cache.display()), &jobs, args, global, run)
    } else {
        let jobs: Vec<(TrainConfig, Place)> = configs.into_iter().zip(choices.iter().map(|choice| place(choice, &inputs))).collect();
        let mut engine = lm::CpuEngine::new(lm);
        let source = Streamed::open_both(&mut engine, &stream, args.hook, args.target, shuffle)?;
        train_on(source, "computed while they are read", &jobs, args, global, run)
    }
}

/// Says what will happen, trains on the rows of `source`, says what came out.
fn train_on<S: WindowRows>(
    mut source: Shuffled<S>,
    rows_are: &str,
    jobs: &[(TrainConfig, Place)],
    args: &Train,
    global: &Global,
    run: &RunDir,
) -> anyhow::Result<()> {
    let to = args.target.map(|hook| format!(" with {hook}")).unwrap_or_default();
    tell!("rows are {rows_are}: {} of {}{to}, batch {}", grouped(args.rows), args.hook, args.batch);
    tell!("  {}", source.describe());
    let mut seconds = 0.0;
    let speed = sae::Forecast::product_speed();
    for (config, place) in jobs {
        let forecast = sae::Forecast::of(config);
        seconds += forecast.seconds(speed);
        let kind = match config.sae.target {
            None => "",
            Some(Target { skip: false, .. }) => " as a transcoder",
            Some(Target { skip: true, .. }) => " as a skip transcoder",
        };
        tell!("training {}{kind}: {} latents of {} numbers, seed {}", config.sae.recipe.in_words(), config.sae.d_sae, config.sae.d_in, config.seed);
        tell!("  {}", forecast.in_words());
        let checkpoints = size(forecast.checkpoint_bytes);
        tell!(
            "  writes {} ({}, of which snapshots {}) and checkpoints of {checkpoints}",
            place.out.display(),
            size(forecast.disk_bytes),
            size(forecast.snapshot_bytes)
        );
    }
    tell!("  some {} for the steps, by a product measured just now ({:.0} GFLOP/s)", time(seconds), speed / 1e9);
    let borrowed: Vec<(&TrainConfig, &Place)> = jobs.iter().map(|(config, place)| (config, place)).collect();
    let trained = match sae::train_all(&mut source, &borrowed, &mut Terminal::new()) {
        Err(sae::Error::Interrupted { .. }) => return Err(Interrupted { resume: again("--resume") }.into()),
        done => done?,
    };
    for ((config, place), done) in jobs.iter().zip(&trained) {
        if let Some(target) = config.target_l0.filter(|target| (done.l0 / target - 1.0).abs() > 0.15) {
            tell!("note: {} has an L0 of {:.1}, not the {target} that was asked for: train on more rows", place.out.display(), done.l0);
        }
        if done.fvu > 1.0 {
            tell!("note: {} reconstructs worse than the mean of all rows does (fvu {:.2}): train on more rows", place.out.display(), done.fvu);
        }
    }
    let mut lines = Vec::new();
    for ((_, place), sae::TrainedSae { steps, rows, fvu, l0, dead_frac, .. }) in jobs.iter().zip(&trained) {
        if global.json {
            lines.push(serde_json::json!({"sae": place.out, "steps": steps, "rows": rows, "fvu": fvu, "l0": l0, "dead_frac": dead_frac}));
        } else {
            say!("{}: fvu {fvu:.4}, l0 {l0:.1}, dead {:.1} % (of the last batch and window)", place.out.display(), 100.0 * dead_frac);
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
            train.choices().into_iter().map(|choice| format!("{}{}", train.name, choice.suffix)).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["main"]);
        assert_eq!(names(&["--k", "8"]), ["main"]);
        assert_eq!(names(&["--name", "a", "--k", "8,16", "--seed", "1,2"]), ["a-k8-s1", "a-k8-s2", "a-k16-s1", "a-k16-s2"]);
    }
}
