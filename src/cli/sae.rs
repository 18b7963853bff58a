//! `monosem sae`: activations -> sparse autoencoder.

use super::{Global, Interrupted, Terminal, again};
use crate::activations::{Cached, ShuffleConfig, Shuffled, Streamed, WindowRows};
use crate::artifact::{Manifest, RunDir, Start, grouped, read_json, size};
use crate::corpus::TokenStream;
use crate::lm::{self, HookPoint, Lm};
use crate::pipeline::{self, EvalConfig, Evaluated};
use crate::sae::{self, Eval, Origin, Place, Recipe, Sae, SaeConfig, Select, TrainConfig};
use anyhow::{Context, bail};
use std::collections::BTreeMap;

/// Train, evaluate and inspect sparse autoencoders
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train on activations of the run's model, write DIR/RUN/sae/NAME
    ///
    /// Activations are computed while they are read; --cached reads those that `monosem harvest` left on disk. From a cache in f32 of all
    /// the text the SAE is the same, bit for bit.
    ///
    /// Ctrl-C saves; --resume goes on, bit for bit as if it had never stopped.
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(Train),
    /// Measure on held-out text, write eval.json and controls.json
    Eval(Evaluate),
    /// Print what is in DIR/RUN/sae/NAME
    Info(Info),
    /// List the recipes with their settings and defaults
    Recipes,
}

const TRAIN_EXAMPLES: &str = "\
Examples:
  monosem sae train --run mine                            TopK, 8 times the width
  monosem sae train --run mine --name wide --d-sae 16384 --rows 20000000
  monosem sae train --run mine --name relu --recipe relu-2023 --l1 0.002
  monosem harvest --run mine                              once, then several SAEs on the same rows:
  monosem sae train --run mine --cached --name k16 --k 16
  monosem sae train --run mine --cached --name k64 --k 64";

#[derive(Debug, clap::Args)]
struct Train {
    /// Name of the SAE: its files are in DIR/RUN/sae/NAME
    #[arg(long, visible_alias = "sae", default_value = "main", value_name = "NAME")]
    name: String,
    /// Where activations are read
    #[arg(long, default_value = "blocks.0.mlp.hook_post", value_name = "HOOK")]
    hook: HookPoint,
    /// Read the rows that `monosem harvest` cached instead of running the model
    #[arg(long)]
    cached: bool,
    /// How the SAE is made sparse, and by whose recipe; `monosem sae recipes` lists their settings
    #[arg(long, value_name = "NAME", default_value = "topk", value_parser = recipe_names())]
    recipe: String,
    /// Latents [default: 8 times the width of the activations]
    #[arg(long, value_name = "N")]
    d_sae: Option<usize>,
    /// Latents kept per token, of recipes with a k [default: 32]
    #[arg(long, value_name = "N")]
    k: Option<f64>,
    /// Leave dead latents dead, in recipes with AuxK
    #[arg(long)]
    no_auxk: bool,
    /// L1 coefficient in the recipe's own units [default: the recipe's]
    #[arg(long, value_name = "X")]
    l1: Option<f64>,
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
    /// Do not resample dead latents (relu-2023)
    #[arg(long)]
    no_resample: bool,
    /// The paper's schedule instead of the short one
    #[arg(long)]
    paper: bool,
    /// SAEs to keep on the way, at 1/2, 1/4, 1/8 ... of the run, each half as large as the result; the explorer's /training has a slider
    /// over them. 0: none
    #[arg(long, value_name = "N", default_value_t = 6)]
    snapshots: usize,
    /// Seed of weights, shuffle and resampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
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

#[derive(Debug, clap::Args)]
struct Evaluate {
    /// Name of the SAE
    #[arg(long, visible_alias = "sae", default_value = "main", value_name = "NAME")]
    name: String,
    /// Held-out tokens to measure reconstruction on
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    tokens: u64,
    /// Held-out tokens to measure cross-entropies on
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    ce_tokens: u64,
    /// Neurons that the control of largest neurons keeps [default: k of a topk SAE, at least 40]
    #[arg(long, value_name = "N")]
    neurons: Option<usize>,
    /// Seed of the random control
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, clap::Args)]
struct Info {
    /// Name of the SAE
    #[arg(long, visible_alias = "sae", default_value = "main", value_name = "NAME")]
    name: String,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    match args.command {
        Command::Train(args) => train(&args, global, &run),
        Command::Eval(args) => evaluate(&args, global, &run),
        Command::Info(args) => info(&args, global, &run),
        Command::Recipes => recipes(global),
    }
}

fn recipe_names() -> clap::builder::PossibleValuesParser {
    Recipe::all().iter().map(|recipe| clap::builder::PossibleValue::new(recipe.name()).help(recipe.about())).collect::<Vec<_>>().into()
}

fn recipes(global: &Global) -> anyhow::Result<()> {
    let all = Recipe::all();
    if global.json {
        say!("{}", serde_json::to_string(&all)?);
        return Ok(());
    }
    for recipe in &all {
        say!("{}\n  {}", recipe.name(), recipe.about());
        for (key, value) in recipe.settings() {
            say!("    {key} = {value}");
        }
    }
    Ok(())
}

impl Train {
    /// The named recipe with its settings.
    fn recipe(&self) -> anyhow::Result<Recipe> {
        let mut settings: Vec<(&str, serde_json::Value)> = Vec::new();
        if let Some(k) = self.k {
            // Some recipes keep a whole number, others a mean.
            settings.push(("k", if k.fract() == 0.0 { (k as u64).into() } else { k.into() }));
        }
        settings.extend(self.l1.map(|l1| ("l1", l1.into())));
        settings.extend(self.no_auxk.then(|| ("auxk", false.into())));
        for set in &self.set {
            let (key, value) = set.split_once('=').with_context(|| format!("--set {set}: expected KEY=VALUE"))?;
            // What is no JSON is a word.
            settings.push((key, serde_json::from_str(value).unwrap_or_else(|_| value.into())));
        }
        Ok(Recipe::named(&self.recipe, &settings)?)
    }

    fn config(&self, d_in: usize) -> anyhow::Result<TrainConfig> {
        let sae = SaeConfig { d_in, d_sae: self.d_sae.unwrap_or(8 * d_in), recipe: self.recipe()? };
        let preset = if self.paper { TrainConfig::paper } else { TrainConfig::short };
        let mut config = preset(sae, self.rows, self.batch, self.seed);
        config.lr = self.lr.unwrap_or(config.lr);
        config.dead_window_rows = self.dead_window.unwrap_or(config.dead_window_rows);
        config.snapshots = self.snapshots;
        config.target_l0 = self.target_l0;
        if self.no_resample {
            config.resample = None;
        }
        Ok(config)
    }
}

fn train(args: &Train, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let _lock = run.lock()?;
    let stream = open_stream(run)?;
    let lm = open_lm(run, &stream)?;
    let lm_manifest = Manifest::read(&run.lm(), "lm", lm::FORMAT_VERSION)?;
    let d_in = args.hook.d_in(&lm.config);
    let config = args.config(d_in)?;
    config.check()?;
    let n_ctx = lm.config.n_ctx;
    let shuffle = ShuffleConfig { seed: args.seed, buffer_mib: args.buffer_mib, visits: None, max_rows: Some(config.rows) };
    let rows = shuffle.rows(args.hook);
    let mut place = Place {
        out: run.sae(&args.name),
        checkpoints: run.checkpoints(&format!("sae-{}", args.name)),
        start: Start::from_flags(args.resume, args.yes),
        origin: Origin { model_name: run.name(), hook_name: args.hook.to_string(), context_size: n_ctx, dataset: run.name() },
        inputs: BTreeMap::from([("lm".into(), lm_manifest.hash()), ("tokens".into(), stream.manifest().hash()), ("rows".into(), rows)]),
    };
    if args.cached {
        let cache = run.activations(&args.hook.to_string());
        let harvest = format!("monosem harvest --hook {} {}", args.hook, run.flags());
        let source = Cached::open(&cache, args.hook, &lm_manifest, &stream, shuffle, &harvest)?;
        // Rows in bf16 are not those of the model, so a checkpoint on one must not go on with the other.
        place.inputs.insert("rows".into(), format!("{}, cached", shuffle.rows(args.hook)));
        place.inputs.insert("activations".into(), read_json::<Manifest>(&cache.join("manifest.json"))?.hash());
        train_on(source, &format!("cached in {}", cache.display()), &config, &place, args, global, run)
    } else {
        let mut engine = lm::CpuEngine::new(lm);
        let source = Streamed::open(&mut engine, &stream, args.hook, shuffle)?;
        train_on(source, "computed while they are read", &config, &place, args, global, run)
    }
}

/// Says what will happen, trains on the rows of `source`, says what came out.
fn train_on<S: WindowRows>(
    mut source: Shuffled<S>,
    rows_are: &str,
    config: &TrainConfig,
    place: &Place,
    args: &Train,
    global: &Global,
    run: &RunDir,
) -> anyhow::Result<()> {
    let d_in = config.sae.d_in;
    let weights = (2 * config.sae.d_sae * d_in * 4) as u64;
    tell!(
        "training {}: {} latents on {} rows of {} ({d_in} wide), batch {}, seed {}",
        config.sae.recipe.in_words(),
        config.sae.d_sae,
        config.rows,
        args.hook,
        config.batch,
        config.seed
    );
    tell!("  rows are {rows_are}");
    tell!("  {}", source.describe());
    let snapshots = config.snapshot_steps().len() as u64 * sae::history::bytes(&config.sae);
    tell!("  writes {} ({}, and {} of snapshots) and checkpoints of {}", place.out.display(), size(weights), size(snapshots), size(3 * weights));
    let trained = match sae::train(&mut source, config, place, &mut Terminal::new()) {
        Err(sae::Error::Interrupted { .. }) => return Err(Interrupted { resume: again("--resume") }.into()),
        done => done?,
    };
    if global.json {
        let sae::TrainedSae { steps, rows, fvu, l0, dead_frac, .. } = trained;
        say!("{}", serde_json::json!({"sae": place.out, "steps": steps, "rows": rows, "fvu": fvu, "l0": l0, "dead_frac": dead_frac}));
    } else {
        say!(
            "{}: fvu {:.4}, l0 {:.1}, dead {:.1} % (of the last batch and window)",
            place.out.display(),
            trained.fvu,
            trained.l0,
            100.0 * trained.dead_frac
        );
    }
    tell!("next: monosem sae eval --name {} {}", args.name, run.flags());
    Ok(())
}

fn evaluate(args: &Evaluate, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let _lock = run.lock()?;
    let dir = run.sae(&args.name);
    let (sae, origin) = (load(run, &args.name)?, sae::read_origin(&dir)?);
    let hook: HookPoint = origin.hook_name.parse().map_err(|e| anyhow::anyhow!("{}: {e}", dir.join("cfg.json").display()))?;
    let stream = open_stream(run)?;
    let rerun = format!("monosem sae train --name {} {}", args.name, run.flags());
    let trained = Manifest::read(&dir, "sae", sae::SAE_FORMAT_VERSION)?;
    trained.check_input(&dir, "lm", &Manifest::read(&run.lm(), "lm", lm::FORMAT_VERSION)?, &rerun)?;
    let mut engine = lm::CpuEngine::new(open_lm(run, &stream)?);
    if hook.d_in(lm::Engine::config(&engine)) != sae.d_in {
        bail!("the SAE reads rows of {} numbers, {hook} of this model has {}\n  rerun: {rerun}", sae.d_in, hook.d_in(lm::Engine::config(&engine)));
    }
    let config = EvalConfig {
        hook,
        tokens: args.tokens,
        ce_tokens: args.ce_tokens,
        neurons: args.neurons.unwrap_or_else(|| EvalConfig::neurons_for(&sae.select)),
        seed: args.seed,
    };
    let record = config.record(run, &args.name, &stream)?;
    tell!(
        "reads   at most {} held-out tokens; of half B at most {} for the cross-entropies of the model with the SAE and with its controls",
        grouped(args.tokens),
        grouped(args.ce_tokens)
    );
    let mut progress = Terminal::new();
    let evaluated = match pipeline::evaluate(&mut engine, &stream, &sae, &config, &mut progress) {
        Err(pipeline::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    pipeline::write_evaluated(&dir, &evaluated, record)?;
    let Evaluated { eval, controls } = evaluated;
    if global.json {
        say!("{}", serde_json::json!({"eval": eval, "controls": controls}));
        return Ok(());
    }
    say!("{} on {} held-out tokens", dir.display(), grouped(eval.n_eval_tokens));
    for (name, figure) in [
        ("l0", eval.l0),
        ("explained_variance", eval.explained_variance),
        ("nmse", eval.nmse),
        ("cosine", eval.cosine),
        ("l2_ratio", eval.l2_ratio),
        ("dead_frac", eval.dead_frac),
        ("ultra_rare_frac", eval.ultra_rare_frac),
        ("junk_frac", eval.junk_frac),
    ] {
        say!("  {name:20} {figure:9.4}   {}", eval.formulas[name]);
    }
    let (ours, random, neurons) = (&controls.sae, &controls.random_decoder, &controls.largest_neurons);
    say!(
        "cross-entropy of the next token on {} held-out tokens, nats: {:.4} unchanged, {:.4} with zeros",
        grouped(ours.n_tokens),
        ours.ce_clean,
        ours.ce_zero
    );
    say!("  {:38} {:>8} {:>8} {:>10}", "in place of the activations", "ce", "gap", "recovered");
    for (what, ce, gap, recovered) in [
        ("the SAE's reconstruction".to_string(), ours.ce_spliced, ours.gap_nats, ours.ce_recovered_zero),
        (format!("a random decoder's, {:.0} active", random.l0), random.ce_spliced, random.gap_nats, random.ce_recovered_zero),
        (format!("the {} largest neurons, the rest's mean", neurons.k), neurons.ce, neurons.gap_nats, neurons.ce_recovered_zero),
    ] {
        say!("  {what:38} {ce:8.4} {gap:8.4} {:>10}", recovered.map_or("-".into(), |r| format!("{r:.4}")));
    }
    match run.features(&args.name).exists() {
        true => tell!("next: monosem explore --sae {} {}", args.name, run.flags()),
        false => tell!("next: monosem features build --sae {} {}", args.name, run.flags()),
    }
    Ok(())
}

fn info(args: &Info, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dir = run.sae(&args.name);
    let sae = load(run, &args.name)?;
    let origin = sae::read_origin(&dir)?;
    let manifest = Manifest::read(&dir, "sae", sae::SAE_FORMAT_VERSION)?;
    let eval: Option<Eval> = dir.join("eval.json").exists().then(|| read_json(&dir.join("eval.json"))).transpose()?;
    if global.json {
        say!("{}", serde_json::json!({"d_in": sae.d_in, "d_sae": sae.d_sae, "hook": origin.hook_name, "manifest": manifest, "eval": eval}));
        return Ok(());
    }
    let select = match &sae.select {
        Select::Relu => "ReLU".to_string(),
        Select::TopK { k } => format!("the {k} largest"),
        Select::JumpRelu { .. } => "JumpReLU".to_string(),
        Select::Gated { .. } => "gated".to_string(),
    };
    say!("{}: {} latents ({select}) of {} numbers at {} of {}", dir.display(), sae.d_sae, sae.d_in, origin.hook_name, origin.model_name);
    say!(
        "  trained on {} rows in {} steps, seed {}, {:.0} s",
        manifest.counts["rows"],
        manifest.counts["steps"],
        manifest.seed,
        manifest.wall_seconds
    );
    say!("  self-test replayed: agrees");
    match eval {
        Some(eval) => say!(
            "  l0 {:.1}, explained variance {:.4}, dead {:.1} % of {} tokens",
            eval.l0,
            eval.explained_variance,
            100.0 * eval.dead_frac,
            eval.n_eval_tokens
        ),
        None => say!("  not evaluated yet: monosem sae eval --name {} {}", args.name, run.flags()),
    }
    Ok(())
}

fn load(run: &RunDir, name: &str) -> anyhow::Result<Sae> {
    let dir = run.sae(name);
    Sae::load(&dir).with_context(|| {
        format!("cannot read the SAE {name} of {}\n  train it with: monosem sae train --name {name} {}", run.root.display(), run.flags())
    })
}

fn open_stream(run: &RunDir) -> anyhow::Result<TokenStream> {
    TokenStream::open(&run.tokens())
        .with_context(|| format!("cannot read the tokens of {}\n  make them with: monosem corpus build {}", run.root.display(), run.flags()))
}

fn open_lm(run: &RunDir, stream: &TokenStream) -> anyhow::Result<Lm> {
    let manifest = Manifest::read(&run.lm(), "lm", lm::FORMAT_VERSION)
        .with_context(|| format!("cannot read the model of {}\n  make it with: monosem lm train {}", run.root.display(), run.flags()))?;
    manifest.check_input(&run.lm(), "tokens", stream.manifest(), &format!("monosem lm train {}", run.flags()))?;
    Ok(Lm::load(&run.lm())?)
}
