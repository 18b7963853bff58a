//! `monosem sae`: activations -> sparse autoencoder.

mod compare;
mod controls;
mod curves;
mod figures;
mod train;

use super::lm::lm_manifest;
use super::{Global, Interrupted, Terminal, again, one_or_more};
use crate::artifact::{Manifest, RunDir, grouped, read_json, shell_word};
use crate::corpus::TokenStream;
use crate::lm::{self, HookPoint, Lm};
use crate::pipeline::{self, EvalConfig, Evaluated, saes_in_words, shuffled_control_of, train_command, train_it};
use crate::sae::{self, Eval, Recipe, Sae, Select, TrainConfig};
use anyhow::{Context, bail};
use figures::{OF_LATENTS, OF_PREDICTIONS, OF_ROWS, formula};
use std::collections::BTreeMap;
use std::path::Path;

/// Train, evaluate and inspect sparse autoencoders
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

impl Args {
    /// Whether it speaks of no run.
    pub fn needs_no_run(&self) -> bool {
        matches!(self.command, Command::Recipes)
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train on activations of the run's model, write DIR/RUN/sae/NAME
    ///
    /// Activations are computed while they are read; --cached reads those that `monosem harvest` left on disk. From a cache in f32 of all
    /// the text the SAE is the same, bit for bit.
    ///
    /// Ctrl-C saves; --resume goes on, bit for bit as if it had never stopped.
    #[command(after_help = train::EXAMPLES)]
    Train(Box<train::Train>),
    /// Measure on held-out text, write eval.json and controls.json (of a transcoder eval.json alone)
    Eval(Evaluate),
    /// Print what is in DIR/RUN/sae/NAME
    Info(Info),
    /// Put an SAE beside what learned less: decoder frozen, model shuffled, random directions, principal components, neurons
    ///
    /// Trains the controls that need training on as many rows and with the settings of the SAE, into DIR/RUN/sae/NAME-frozen,
    /// NAME-soft-frozen and NAME-shuffled; what is there is not trained again. Ctrl-C saves, the same command goes on.
    Controls(controls::Args),
    /// Put the figures of several SAEs beside each other, and how much of their directions is the same
    ///
    /// Reads eval.json of each (make it with monosem sae eval) and the decoders. Two SAEs that differ in nothing but --seed tell how
    /// much of a dictionary is found again.
    Compare(compare::Args),
    /// Draw how trainings went: variance left, active and dead latents, loss over rows, several SAEs in one plot
    ///
    /// Reads train.jsonl, of a training that goes on too; writes an SVG. There loss, mse and penalty are in the units that rows were brought to
    /// for the training; fvu, l0 and dead_frac have none. What `sae eval` says is in the units of the activations.
    Curves(curves::Args),
    /// List the recipes with their settings, defaults and what each means
    Recipes,
}

#[derive(Debug, clap::Args)]
struct Evaluate {
    /// Name of the SAE
    #[arg(long, visible_alias = "sae", default_value = "main", value_name = "NAME")]
    name: String,
    /// Held-out tokens to measure reconstruction on
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = one_or_more::<u64>)]
    tokens: u64,
    /// Held-out tokens to measure cross-entropies on, rounded up to whole windows
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = one_or_more::<u64>)]
    ce_tokens: u64,
    /// Neurons that the control of largest neurons keeps [default: as many as latents are active, at least 40 or half of them]
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
        Command::Train(args) => train::run(&args, global, &run),
        Command::Eval(args) => evaluate(&args, global, &run),
        Command::Info(args) => info(&args, global, &run),
        Command::Controls(args) => controls::run(&args, global, &run),
        Command::Compare(args) => compare::run(&args, global, &run),
        Command::Curves(args) => curves::run(&args, global, &run),
        Command::Recipes => recipes(global),
    }
}

fn recipes(global: &Global) -> anyhow::Result<()> {
    let all = Recipe::all();
    if global.json {
        let meaning = |recipe: &Recipe, key: String| recipe.meaning(&key).map(|meaning| (key, meaning));
        let of = |recipe: &Recipe| recipe.settings().into_iter().filter_map(|(key, _)| meaning(recipe, key)).collect();
        let meanings: BTreeMap<&str, BTreeMap<String, String>> = all.iter().map(|recipe| (recipe.name(), of(recipe))).collect();
        say!("{}", serde_json::json!({ "recipes": all, "meanings": meanings }));
        return Ok(());
    }
    for recipe in &all {
        say!("{}\n  {}", recipe.name(), recipe.about());
        for (key, value) in recipe.settings() {
            let meaning = recipe.meaning(&key).unwrap_or_default();
            say!("    {:<26}{meaning}", format!("{key} = {value}"));
        }
    }
    Ok(())
}

fn evaluate(args: &Evaluate, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let _lock = run.lock()?;
    let dir = run.sae(&args.name);
    let Subject { sae, hook, target, stream, mut engine } = Subject::open(run, &args.name)?;
    let config = EvalConfig { hook, tokens: args.tokens, ce_tokens: args.ce_tokens, neurons: args.neurons, seed: args.seed };
    if let Some(n) = args.neurons.filter(|n| *n > sae.d_in) {
        bail!("--neurons is {n}, and there are {} at {hook}\n  keep fewer", sae.d_in);
    }
    let record = config.record(run, &args.name, &stream)?;
    tell!(
        "reads   {} held-out tokens, fewer where there are no more; of half B {} in whole windows for the cross-entropies of the model with the SAE{}",
        grouped(args.tokens),
        grouped(args.ce_tokens),
        if target.is_none() { " and with its controls" } else { "" }
    );
    if let Some(said) = read_json(&dir.join("eval.json")).ok().and_then(|there| replaces_more(&there, &config)) {
        tell!("note: {said}");
    }
    let mut progress = Terminal::new();
    if let Some(target) = target {
        if args.neurons.is_some() {
            bail!("--neurons is of a control of SAEs, and {} is a transcoder\n  leave it out", args.name);
        }
        let eval = match pipeline::evaluate_transcoder(&mut engine, &stream, &sae, target, &config, &mut progress) {
            Err(pipeline::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
            done => done?,
        };
        pipeline::write_eval(&dir, &eval, record)?;
        say_transcoder(&dir, &eval, global)?;
        if !global.json {
            say_next(&args.name, run);
        }
        return Ok(());
    }
    let evaluated = match pipeline::evaluate(&mut engine, &stream, &sae, &config, &mut progress) {
        Err(pipeline::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    pipeline::write_evaluated(&dir, &evaluated, record)?;
    let Evaluated { eval, controls } = evaluated;
    let said = [of_another_model(&dir)?, cautions(&eval), beaten_by(&controls, eval.l0, sae.d_in)].concat();
    if global.json {
        say!("{}", serde_json::json!({"eval": eval, "controls": controls, "cautions": said}));
        return Ok(());
    }
    say_figures(&dir, &eval)?;
    let (ours, random, neurons) = (&controls.sae, &controls.random_decoder, &controls.largest_neurons);
    say!(
        "cross-entropy of the next token on {} held-out tokens, nats: {:.4} unchanged, {:.4} with zeros, {:.4} with their mean; KL with the SAE {:.4} nats on {}",
        grouped(ours.n_tokens),
        ours.ce_clean,
        ours.ce_zero,
        ours.ce_mean,
        ours.kl,
        grouped(ours.n_kl_tokens)
    );
    // Against zeros everything looks good; against the mean it must earn it.
    say!("  {:38} {:>8} {:>8} {:>17} {:>17}", "in place of the activations", "ce", "gap", "recovered (zeros)", "recovered (mean)");
    for (what, ce, gap, zeros, mean) in [
        ("the SAE's reconstruction".to_string(), ours.ce_spliced, ours.gap_nats, ours.ce_recovered_zero, ours.ce_recovered_mean),
        (
            format!("a random decoder's, {:.0} active", random.l0),
            random.ce_spliced,
            random.gap_nats,
            random.ce_recovered_zero,
            random.ce_recovered_mean,
        ),
        (
            format!("the {} largest neurons, {}", neurons.k, neurons.rest.in_words()),
            neurons.ce,
            neurons.gap_nats,
            neurons.ce_recovered_zero,
            neurons.ce_recovered_mean,
        ),
    ] {
        let share = |r: Option<f64>| r.map_or("-".into(), |r| format!("{r:.4}"));
        say!("  {what:38} {ce:8.4} {gap:8.4} {:>17} {:>17}", share(zeros), share(mean));
    }
    said.iter().for_each(|caution| tell!("note: {caution}"));
    say_next(&args.name, run);
    Ok(())
}

fn say_next(name: &str, run: &RunDir) {
    let word = shell_word(name);
    match shuffled_control_of(run, name) {
        Some(of) => tell!("next: monosem sae controls --name {} {}", shell_word(&of), run.flags()),
        None if run.features(name).exists() => tell!("next: monosem explore --sae {word} {}", run.flags()),
        None => tell!("next: monosem features build --sae {word} {}", run.flags()),
    }
}

/// The figures that need no model, with their formulas.
fn say_figures(dir: &Path, eval: &Eval) -> anyhow::Result<()> {
    say!("{} on {} held-out tokens", dir.display(), grouped(eval.n_eval_tokens));
    for (name, of) in OF_ROWS.iter().chain(&OF_LATENTS) {
        if let Some(figure) = of(eval) {
            say!("  {name:28} {figure:9.4}   {}", formula(eval, name));
        }
    }
    Ok(())
}

/// Tokens below which cross-entropies are called rough: fewer than a hundred windows.
const FEW_CE_TOKENS: u64 = 10_000;

/// Share of latents with a near duplicate above which that is said.
const MANY_ALIKE: f64 = 0.25;

/// What must be known to read the figures.
fn cautions(eval: &Eval) -> Vec<String> {
    let flatters = eval.ce_mean > eval.ce_zero;
    let said = "the mean is a worse stand-in than zeros here, so ce_recovered_mean flatters: read ce_recovered_zero";
    let alike = eval.near_duplicate_frac.filter(|share| *share > MANY_ALIKE);
    let alike = alike.map(|share| format!("{:.0} % of the latents have a near duplicate: many numbers for few features", 100.0 * share));
    let few = eval.n_ce_tokens.filter(|&n| n < FEW_CE_TOKENS);
    let few =
        few.map(|n| format!("cross-entropies on {} tokens are rough: what is recovered varies with the text, and may come out above 1", grouped(n)));
    flatters.then(|| said.to_string()).into_iter().chain(alike).chain(few).collect()
}

/// Said where figures of more tokens than are asked for are there; none where there are no more.
fn replaces_more(there: &Eval, config: &EvalConfig) -> Option<String> {
    let ce = there.n_ce_tokens.unwrap_or(0);
    let more = there.n_eval_tokens > config.tokens || ce > config.ce_tokens;
    let said = || {
        let (tokens, ce) = (grouped(there.n_eval_tokens), grouped(ce));
        format!("replaces figures on {tokens} tokens, cross-entropies on {ce}; --tokens and --ce-tokens say on how many")
    };
    more.then(said)
}

/// Said of a control that was trained on the model with its weights shuffled.
fn of_another_model(dir: &Path) -> anyhow::Result<Vec<String>> {
    let shuffled = pipeline::shuffled_by(&Manifest::read(dir, "sae", sae::SAE_FORMAT_VERSION)?).is_some();
    let said = "this is a control, trained on the model with its weights shuffled, and measured here on the model itself; monosem sae controls measures it on its own";
    Ok(shuffled.then(|| said.to_string()).into_iter().collect())
}

/// Said of an SAE whose model is not the run's any more; `name` may be that of a snapshot. Nothing is known of one from elsewhere, which has no manifest.
fn of_a_model_of_before(run: &RunDir, name: &str) -> anyhow::Result<Option<String>> {
    let name = name.split('@').next().unwrap_or(name);
    let dir = run.sae(name);
    if !dir.join("manifest.json").exists() {
        return Ok(None);
    }
    let rerun = train_command(run, name);
    let now = if run.lm().exists() { lm_manifest(run)? } else { return Ok(Some("its model is not there any more".into())) };
    let changed = Manifest::read(&dir, "sae", sae::SAE_FORMAT_VERSION)?.check_input(&dir, "lm", &now, &rerun).is_err();
    Ok(changed.then(|| format!("the model has changed since it was trained, and its figures are of the one before; train it anew with: {rerun}")))
}

/// The controls that lose less cross-entropy than the SAE does, and the one that is the model itself.
fn beaten_by(controls: &pipeline::Controls, l0: f64, d_in: usize) -> Vec<String> {
    let pipeline::Controls { sae, largest_neurons, random_decoder, .. } = controls;
    let is_the_model = largest_neurons.k >= d_in;
    let names = [
        (random_decoder.ce_spliced, format!("a random decoder with {:.1} latents active", random_decoder.l0)),
        (largest_neurons.ce, format!("keeping the {} largest neurons, {},", largest_neurons.k, largest_neurons.rest.in_words())),
    ];
    let numbers = [random_decoder.l0, largest_neurons.k as f64];
    let better = names.into_iter().zip(numbers).take(if is_the_model { 1 } else { 2 }).filter(|((ce, _), _)| *ce < sae.ce_spliced);
    let said = better.map(|((_, name), numbers)| match numbers / l0.max(1.0) {
        times if times > 1.5 => format!(
            "{name} loses less cross-entropy than this SAE, with {times:.1} times as many numbers as it has active latents ({l0:.1}); compare with --neurons {:.0}",
            l0.max(1.0)
        ),
        _ => format!("{name} loses less cross-entropy than this SAE with {l0:.1} active: by this figure alone it is no gain"),
    });
    let nothing = format!(
        "keeping the {} largest of {d_in} neurons is the model as it is, a control that says nothing; --neurons N keeps fewer",
        largest_neurons.k
    );
    said.chain(is_the_model.then_some(nothing)).collect()
}

fn say_transcoder(dir: &Path, eval: &Eval, global: &Global) -> anyhow::Result<()> {
    if global.json {
        say!("{}", serde_json::json!({ "eval": eval, "cautions": cautions(eval) }));
        return Ok(());
    }
    say_figures(dir, eval)?;
    let count = |n: Option<u64>| grouped(n.unwrap_or(0));
    say!("cross-entropies on {} held-out tokens, KL on {}", count(eval.n_ce_tokens), count(eval.n_kl_tokens));
    for (name, of) in &OF_PREDICTIONS {
        say!("  {name:28} {:>9}   {}", of(eval).map_or("-".into(), |figure| format!("{figure:.4}")), formula(eval, name));
    }
    cautions(eval).iter().for_each(|caution| tell!("note: {caution}"));
    Ok(())
}

/// What an SAE is measured on.
struct Subject {
    sae: Sae,
    hook: HookPoint,
    /// What a transcoder reconstructs.
    target: Option<HookPoint>,
    stream: TokenStream,
    engine: lm::CpuEngine,
}

impl Subject {
    /// Refuses an SAE of another model than the run's.
    fn open(run: &RunDir, name: &str) -> anyhow::Result<Self> {
        if name.contains('@') {
            bail!(
                "{name} is a snapshot, which is not measured\n  put it beside others with: monosem sae compare {} {name} {}",
                name.split('@').next().unwrap_or_default(),
                run.flags()
            );
        }
        let dir = run.sae(name);
        let (sae, origin) = (load(run, name)?, sae::read_origin(&dir)?);
        let parse = |name: &str| name.parse::<HookPoint>().map_err(|e| anyhow::anyhow!("{}: {e}", dir.join("cfg.json").display()));
        let hook = parse(&origin.hook_name)?;
        let target = sae.transcoder.is_some().then(|| parse(origin.hook_name_out.as_deref().unwrap_or_default())).transpose()?;
        let stream = open_stream(run)?;
        let rerun = train_command(run, name);
        let trained = Manifest::read(&dir, "sae", sae::SAE_FORMAT_VERSION)?;
        trained.check_input(&dir, "lm", &lm_manifest(run)?, &rerun)?;
        let engine = lm::CpuEngine::new(open_lm(run, &stream)?);
        crate::intervene::check_widths(lm::Engine::config(&engine), (hook, target.unwrap_or(hook)), &sae)
            .with_context(|| format!("rerun: {rerun}"))?;
        Ok(Subject { sae, hook, target, stream, engine })
    }
}

fn info(args: &Info, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dir = run.sae(&args.name);
    let sae = load(run, &args.name)?;
    let origin = sae::read_origin(&dir)?;
    let manifest = Manifest::read(&dir, "sae", sae::SAE_FORMAT_VERSION)?;
    let eval: Option<Eval> = dir.join("eval.json").exists().then(|| read_json(&dir.join("eval.json"))).transpose()?;
    if global.json {
        let (d_out, hook_out) = (sae.d_out(), origin.hook_name_out.as_ref());
        say!(
            "{}",
            serde_json::json!({
                "d_in": sae.d_in, "d_out": d_out, "d_sae": sae.d_sae, "hook": origin.hook_name, "hook_out": hook_out, "manifest": manifest, "eval": eval,
            })
        );
        return Ok(());
    }
    let select = match &sae.select {
        Select::Relu => "ReLU".to_string(),
        Select::TopK { k } => format!("the {k} largest"),
        Select::JumpRelu { .. } => "JumpReLU".to_string(),
        Select::Refined { step, .. } => format!("JumpReLU, refined by a step of {step}"),
        Select::Gated { .. } => "gated".to_string(),
        Select::Pursuit { k, .. } => format!("matching pursuit of {k}"),
    };
    say!("{}: {} latents ({select}) of {} numbers at {} of {}", dir.display(), sae.d_sae, sae.d_in, origin.hook_name, origin.model_name);
    if let Some(transcoder) = &sae.transcoder {
        let linear = if transcoder.w_skip.is_empty() { "" } else { ", with a linear path" };
        say!("  a transcoder: reconstructs the {} numbers at {}{linear}", transcoder.d_out, origin.hook_name_out.unwrap_or_default());
    }
    if pipeline::shuffled_by(&manifest).is_some() {
        say!("  a control: trained on the model with its weights shuffled");
    }
    let config = serde_json::from_value::<TrainConfig>(manifest.config.clone());
    let target = config.as_ref().ok().and_then(|config| config.target_l0);
    if let Ok(config) = config {
        let recipe = &config.sae.recipe;
        let settings = recipe.settings();
        let told = settings.iter().filter(|(key, value)| !value.is_null() && !recipe.unused().contains(&&key[..]));
        say!("  recipe {}: {}", recipe.name(), told.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", "));
        let factor = manifest.details["sparsity_factor"].as_f64();
        let steered = config.target_l0.map_or(String::new(), |target| format!(", {}", steered(target, factor)));
        let units = config.units.map_or(String::new(), |units| format!(", rows {}", units.in_words()));
        say!("  learning rate {}, batch {}, dead after {} rows{steered}{units}", config.lr as f32, config.batch, grouped(config.dead_window_rows));
    }
    let count = |of: &str| manifest.counts.get(of).map_or("an unknown number of".into(), |&n| grouped(n));
    say!("  trained on {} rows in {} steps, seed {}, {:.0} s", count("rows"), count("steps"), manifest.seed, manifest.wall_seconds);
    say!("  self-test replayed: agrees");
    match eval {
        Some(eval) => say!(
            "  l0 {:.1}{}, explained variance {:.4}, {:.1} % of the latents dead on {} held-out tokens",
            eval.l0,
            target.filter(|target| is_missed(*target, eval.l0)).map_or(String::new(), |target| format!(" (not the {target} that was asked for)")),
            eval.explained_variance,
            100.0 * eval.dead_frac,
            grouped(eval.n_eval_tokens)
        ),
        None => say!("  not evaluated yet: monosem sae eval --name {} {}", shell_word(&args.name), run.flags()),
    }
    if let Some(said) = of_a_model_of_before(run, &args.name)? {
        tell!("note: {said}");
    }
    Ok(())
}

/// What a coefficient was steered towards, and what it came to; older programs did not keep the latter.
fn steered(target: f64, factor: Option<f64>) -> String {
    let decimals = if factor.is_none_or(|factor| factor.abs() < 100.0) { 3 } else { 0 };
    let times = match factor {
        None => String::new(),
        Some(reward) if reward < 0.0 => format!(", in the end by a reward of {:.decimals$} times the recipe's coefficient", -reward),
        Some(factor) => format!(", the recipe's coefficient {factor:.decimals$} times as high in the end"),
    };
    format!("steered towards an L0 of {target}{times}")
}

/// Whether an L0 is too far from what was asked for to pass for it.
fn is_missed(target: f64, l0: f64) -> bool {
    (l0 / target - 1.0).abs() > 0.15
}

fn load(run: &RunDir, name: &str) -> anyhow::Result<Sae> {
    let dir = run.sae(name);
    Sae::load_any(&dir).with_context(|| {
        format!("cannot read the SAE {name} of {}\n  those that are there: {}; {}", run.root.display(), saes_in_words(run, None), train_it(run, name))
    })
}

fn open_stream(run: &RunDir) -> anyhow::Result<TokenStream> {
    TokenStream::open(&run.tokens())
        .with_context(|| format!("cannot read the tokens of {}\n  make them with: monosem corpus build {}", run.root.display(), run.flags()))
}

fn open_lm(run: &RunDir, stream: &TokenStream) -> anyhow::Result<Lm> {
    let manifest = lm_manifest(run)?;
    manifest.check_input(&run.lm(), "tokens", stream.manifest(), &format!("monosem lm train {}", run.flags()))?;
    super::lm::open_lm(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervene::{CeReport, NeuronsReport, Rest};
    use std::fs;

    #[test]
    fn an_sae_of_a_model_that_was_replaced_is_said_to_be_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "r");
        fs::create_dir_all(run.sae("elsewhere")).unwrap();
        assert_eq!(of_a_model_of_before(&run, "elsewhere").unwrap(), None, "nothing is known of its model");
        let model = |seed: u64| Manifest::new("lm", lm::FORMAT_VERSION, serde_json::json!({ "lm": lm::LmConfig::tiny() }), seed);
        let mut of_one = Manifest::new("sae", sae::SAE_FORMAT_VERSION, serde_json::Value::Null, 0);
        of_one.inputs.insert("lm".into(), model(1).hash());
        fs::create_dir_all(run.sae("main")).unwrap();
        of_one.write(&run.sae("main")).unwrap();
        assert_eq!(of_a_model_of_before(&run, "main").unwrap().unwrap(), "its model is not there any more");
        fs::create_dir_all(run.lm()).unwrap();
        model(1).write(&run.lm()).unwrap();
        assert_eq!(of_a_model_of_before(&run, "main").unwrap(), None);
        model(2).write(&run.lm()).unwrap();
        for name in ["main", "main@100"] {
            let said = of_a_model_of_before(&run, name).unwrap().unwrap();
            assert!(said.contains("figures are of the one before") && said.contains("monosem sae train --name main "), "{said}");
        }
    }

    #[test]
    fn a_snapshot_is_not_measured_and_what_shows_it_is_said() {
        let run = RunDir::new(Path::new("runs"), "r");
        let said = Subject::open(&run, "main@100").err().unwrap().to_string();
        assert!(said.contains("snapshot") && said.contains("monosem sae compare main main@100 --run r"), "{said}");
    }

    #[test]
    fn what_a_smaller_measurement_replaces_is_told() {
        let config = EvalConfig { hook: HookPoint::mlp_post(0), tokens: 1000, ce_tokens: 100, neurons: None, seed: 0 };
        let there = |n_eval_tokens: u64, n_ce_tokens: u64| Eval { n_eval_tokens, n_ce_tokens: Some(n_ce_tokens), ..Eval::default() };
        assert_eq!(replaces_more(&there(1000, 100), &config), None);
        for more in [there(192_226, 100), there(1000, 200_000)] {
            let said = replaces_more(&more, &config).unwrap();
            assert!(said.contains(&grouped(more.n_eval_tokens)) && said.contains("--ce-tokens"), "{said}");
        }
        assert_eq!(cautions(&Eval { n_ce_tokens: Some(9_999), ..Eval::default() }).len(), 1);
    }

    #[test]
    fn controls_that_beat_the_sae_are_named() {
        let at = |ce: f64| CeReport {
            ce_clean: 1.0,
            ce_spliced: ce,
            ce_zero: 3.0,
            ce_mean: 2.0,
            ce_recovered_zero: None,
            ce_recovered_mean: None,
            gap_nats: ce - 1.0,
            kl: 0.0,
            l0: 12.0,
            n_tokens: 1,
            n_kl_tokens: 1,
        };
        let controls = |sae: f64, random: f64, neurons: f64| pipeline::Controls {
            sae: at(sae),
            largest_neurons: NeuronsReport { k: 40, rest: Rest::Zero, ce: neurons, gap_nats: 0.0, ce_recovered_zero: None, ce_recovered_mean: None },
            random_decoder: at(random),
            random_decoder_explained_variance: 0.0,
            random_decoder_eval_tokens: None,
            formulas: BTreeMap::new(),
        };
        assert!(beaten_by(&controls(1.1, 2.0, 1.2), 12.0, 512).is_empty());
        let said = beaten_by(&controls(1.5, 2.0, 1.2), 12.0, 512);
        assert!(said.len() == 1 && said[0].contains("with 3.3 times as many numbers") && said[0].ends_with("--neurons 12"), "{said:?}");
        assert!(beaten_by(&controls(1.5, 2.0, 1.2), 40.0, 512)[0].ends_with("it is no gain"));
        assert_eq!(beaten_by(&controls(1.5, 1.4, 1.2), 12.0, 512).len(), 2);
        assert!(beaten_by(&controls(1.5, 2.0, 1.0), 40.0, 40)[0].starts_with("keeping the 40 largest of 40 neurons is the model as it is"));
    }
}
