//! `monosem sae train`: one SAE, or several on one pass over the activations.

mod flags;

use super::{is_missed, open_lm, open_stream, steered};
use crate::activations::{self, Cached, CachedRows, Paired, Shuffled, Streamed, WindowRows};
use crate::artifact::{self, Manifest, RunDir, Start, grouped, read_json, shell_word, size, time};
use crate::cli::lm::lm_manifest;
use crate::cli::{Global, Interrupted, Terminal, again};
use crate::corpus::{Split, TokenStream};
use crate::lm::{self, HookPoint};
use crate::pipeline::{is_unfinished, members, saes_in_words, train_command};
use crate::sae::{self, Begun, Origin, Place, Target, TrainConfig};
use anyhow::bail;
use flags::{Asked, Choice, differ_in_what_is_steered};
use std::collections::BTreeMap;
use std::time::Instant;

pub(super) use flags::{EXAMPLES, Train};

pub(super) fn run(args: &Train, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    if args.resume && args.yes && !args.only_resumes() {
        bail!(
            "--resume goes on and --yes begins anew: say one of them\n  both go with --name alone: it goes on, or begins anew with its settings where its model or text has changed"
        );
    }
    let _lock = run.lock()?;
    let stream = open_stream(run)?;
    let lm = open_lm(run, &stream)?;
    let begun = if args.only_resumes() { begun_as(run, &args.name, args.yes)? } else { vec![] };
    if args.only_resumes() && begun.is_empty() {
        bail!("{}", nothing_to_go_on_with(run, &args.name));
    }
    if begun.iter().any(|(_, begun)| begun.inputs.contains_key(sae::WEIGHTS)) {
        bail!(
            "{} is of a model whose weights were shuffled, which is trained as a control\n  go on with: {}",
            args.name,
            train_command(run, &args.name)
        );
    }
    let together = begun.len();
    let (args, asked) = match (!begun.is_empty()).then(|| args.as_begun(begun)) {
        Some(Some((args, asked))) => {
            let names: Vec<String> = asked.choices.iter().map(|choice| format!("{}{}", args.name, choice.suffix)).collect();
            tell!("{} as begun: with the settings and the rows that were saved", names.join(", "));
            (args, asked)
        }
        // Settings of its own would be those of another SAE.
        Some(None) if together > 1 => bail!(
            "the {together} unfinished SAEs of {}- were not begun together: rows, model or text differ, or an older program recorded them\n  each goes on by its own name: {}",
            args.name,
            unfinished_members(run, &args.name).join(", ")
        ),
        Some(None) => bail!(
            "which rows {} reads is not recorded in a way that this program knows: an older one began it\n  go on by the flags it was begun with and --resume, or begin anew by the flags it is to have and --yes",
            args.name
        ),
        None => (args.clone(), args.asked(&lm.config)?),
    };
    let args = &args;
    let Asked { choices, configs, shuffle } = asked;
    for hook in std::iter::once(args.hook).chain(args.target) {
        activations::check(&lm.config, hook, &stream)?;
    }
    let lm_manifest = lm_manifest(run)?;
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
        Place { out: run.sae(&name), checkpoints: run.sae_checkpoints(&name), start, origin, inputs: inputs.clone() }
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

/// What was begun by that name, each with what stands behind the name: one SAE, or the unfinished ones of a sweep. Where the one of that name is finished it is those that are meant, unless
/// it may begin `anew`.
fn begun_as(run: &RunDir, name: &str, anew: bool) -> anyhow::Result<Vec<(String, Begun)>> {
    let read = |name: &str| Begun::read(&run.sae_checkpoints(name), &run.sae(name));
    let own = read(name)?;
    if own.as_ref().is_some_and(|own| anew || own.step < own.config.steps()) {
        return Ok(own.map(|own| (String::new(), own)).into_iter().collect());
    }
    let mut begun = vec![];
    for member in unfinished_members(run, name) {
        let Some(one) = read(&member)? else {
            bail!(
                "{member} was begun and has no checkpoint yet, so that nothing tells its settings\n  go on by the flags that all were begun with and --resume, or with each of the others by its own name"
            );
        };
        begun.push((member[name.len()..].to_string(), one));
    }
    if begun.is_empty() {
        begun.extend(own.map(|own| (String::new(), own)));
    }
    Ok(begun)
}

fn unfinished_members(run: &RunDir, name: &str) -> Vec<String> {
    members(run, name).into_iter().filter(|member| is_unfinished(run, member)).collect()
}

/// Said where a name alone says what to train, and nothing was begun by that name.
fn nothing_to_go_on_with(run: &RunDir, name: &str) -> String {
    let next = match members(run, name) {
        members if members.is_empty() => {
            format!(
                "SAEs that are there: {}; to begin one: the same without --resume, and with the flags that it is to have",
                saes_in_words(run, None)
            )
        }
        members => format!("there are those of a sweep of that name: {}; each goes on by its own name", members.join(", ")),
    };
    format!("there is no training of {name} in {} to go on with\n  {next}", run.root.display())
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
    let goes_on_or_begins_anew = args.resume && args.yes;
    for (config, place) in jobs.iter().filter(|_| !goes_on_or_begins_anew) {
        place.refuse(config)?;
    }
    let left: Vec<f64> = jobs.iter().map(|(config, place)| place.left(config)).collect();
    if left.iter().any(|&left| left > 0.0) {
        tell_plan(&source, rows_are, model.as_ref(), jobs, &left, args);
    }
    let borrowed: Vec<(&TrainConfig, &Place)> = jobs.iter().map(|(config, place)| (config, place)).collect();
    let mut trained = sae::train_all(&mut source, &borrowed, &mut Terminal::new());
    // What cannot be gone on with is made anew where that was said too.
    if goes_on_or_begins_anew && matches!(trained, Err(sae::Error::OtherRun { .. } | sae::Error::Artifact(artifact::Error::Finished { .. }))) {
        tell!("what was saved is of another model or text: begins anew, with the same settings");
        let anew: Vec<(TrainConfig, Place)> =
            jobs.iter().map(|(config, place)| (config.clone(), Place { start: Start::Replace, ..place.clone() })).collect();
        let borrowed: Vec<(&TrainConfig, &Place)> = anew.iter().map(|(config, place)| (config, place)).collect();
        trained = sae::train_all(&mut source, &borrowed, &mut Terminal::new());
    }
    let trained = match trained {
        Err(sae::Error::Interrupted { .. }) => return Err(Interrupted { resume: again("--resume") }.into()),
        done => done?,
    };
    for ((config, place), done) in jobs.iter().zip(&trained) {
        if let Some(target) = config.target_l0.filter(|target| is_missed(*target, done.l0)) {
            tell!(
                "note: {} has an L0 of {:.1}, not the {target} that was asked for: {}",
                place.out.display(),
                done.l0,
                towards_a_missed_target(config, (done.l0, done.dead_frac), done.sparsity_factor)
            );
        }
        if done.fvu > POOR {
            let next = towards_a_better_reconstruction(config, done.l0);
            let how = if done.fvu > 1.0 { "reconstructs worse than the mean of all rows does" } else { "leaves most of the variance" };
            tell!("note: {} {how} (fvu {:.2}): {next}", place.out.display(), done.fvu);
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
    let names: Vec<String> = jobs.iter().map(|(_, place)| shell_word(&place.out.file_name().unwrap_or_default().to_string_lossy())).collect();
    let compare =
        if names.len() > 1 { format!(" and so each of them, then: monosem sae compare {} {}", names.join(" "), run.flags()) } else { String::new() };
    tell!("next: monosem sae eval --name {} {}{compare}", names[0], run.flags());
    Ok(())
}

/// Which rows there are, what is trained on them, and what that takes; `left` is the share of its steps that each still has to make.
fn tell_plan<S: WindowRows>(source: &Shuffled<S>, rows_are: &str, model: Option<&Model>, jobs: &[(TrainConfig, Place)], left: &[f64], args: &Train) {
    let to = args.target.map(|hook| format!(" with {hook}")).unwrap_or_default();
    tell!("rows are {rows_are}: {} of {}{to}, batch {}", grouped(args.n_rows()), args.hook, args.batch);
    tell!("  {}", source.describe());
    let epochs = args.n_rows() as f64 / source.plan().rows_per_epoch() as f64;
    if epochs > 1.5 {
        let (holder, more) = if args.cached { ("the cache", "; monosem harvest --tokens says how many it holds") } else { ("the text", "") };
        tell!("  note: every row is read {epochs:.1} times, for {holder} has {} of them{more}", grouped(source.plan().rows_per_epoch()));
    }
    if source.plan().adjacency_ratio() > 2.0 {
        tell!("  note: this buffer is too small for its promise of a ratio below 2; give more with --buffer-mib");
    }
    if differ_in_what_is_steered(args) {
        tell!("  note: with --target-l0 a coefficient is only where the search begins: SAEs of several coefficients will hardly differ");
    }
    let (mut least, mut most, mut bytes, mut longest_left) = (0.0, 0.0, 0, 0.0f64);
    let speed = sae::Speed::measure();
    for ((config, place), &left) in jobs.iter().zip(left) {
        let forecast = sae::Forecast::of(config);
        let seconds = forecast.seconds(speed);
        (least, most, longest_left) = (least + left * seconds.0, most + left * seconds.1, longest_left.max(left));
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
            "  writes {} ({}, of which snapshots {}) and two checkpoints of {checkpoints} each",
            place.out.display(),
            size(forecast.disk_bytes),
            size(forecast.snapshot_bytes)
        );
    }
    let reading = model.map_or(String::new(), |model| {
        let tokens = (longest_left * source.plan().tokens_for(args.n_rows()) as f64) as u64;
        format!(" and {} for the model, which runs {} tokens", time(tokens as f64 * model.seconds_per_token), grouped(tokens))
    });
    let bytes = bytes + source.memory_bytes() + model.map_or(0, |model| model.bytes);
    let steps = sae::seconds_in_words((least, most));
    tell!(
        "in all some {steps} for the steps{reading}, by what was measured just now (encoding {:.0} GFLOP/s, other products {:.0}), and {} of memory",
        speed.encode / 1e9,
        speed.product / 1e9,
        size(bytes)
    );
}

/// Fraction of variance unexplained above which that is said at the end, with what to try.
const POOR: f64 = 0.5;

/// Share of dead latents that explains why L0 is low.
const MANY_DEAD: f64 = 0.25;

/// What to try where L0 did not come to its target.
fn towards_a_missed_target(config: &TrainConfig, (l0, dead_frac): (f64, f64), factor: Option<f64>) -> String {
    let recipe = &config.sae.recipe;
    let factor = factor.unwrap_or(1.0);
    let most = config.factor_limit().unwrap_or(sae::Control::MOST);
    if factor.abs() >= 0.999 * most {
        let far = match (factor < 0.0, config.factor_limit()) {
            (true, _) => "a reward for active latents is as high as it goes",
            (false, None) => "the coefficient is as high as it goes",
            // There it rises slowly on.
            (false, Some(_)) => "the coefficient is where thresholds hardly follow it",
        };
        return format!(
            "{far}, {:.3} times the recipe's, and what is missing is steps: more --rows, a smaller --batch or a higher --lr",
            factor.abs()
        );
    }
    let below = config.target_l0.is_some_and(|target| l0 < target);
    if config.factor_limit().is_some() {
        return "train on more --rows, in a smaller --batch or at a higher --lr".into();
    }
    if factor < 0.1 && below && dead_frac > MANY_DEAD {
        return format!("{:.0} % of its latents died on the way down: train on more --rows", 100.0 * dead_frac);
    }
    if factor < 0.1 && below {
        return format!(
            "the coefficient is down to {factor:.3} times the recipe's, so it is not the penalty that keeps L0 low; topk and batch-topk keep an L0 by themselves"
        );
    }
    let name = recipe.coefficient();
    let now = recipe.settings().into_iter().find(|(key, _)| key == name).map_or(String::new(), |(_, value)| format!(" than {value}"));
    format!("train on more --rows, or begin with another coefficient{now} (--set {name}=X)")
}

/// What to try where the mean of all rows is nearer to them than reconstructions are.
fn towards_a_better_reconstruction(config: &TrainConfig, l0: f64) -> String {
    let recipe = &config.sae.recipe;
    match recipe.sparsity(config.sae.d_out()) {
        Some(_) if l0 < 1.0 => {
            format!("its penalty leaves an L0 of {l0:.1}; lower the coefficient (--set {}=X), or steer it with --target-l0", recipe.coefficient())
        }
        Some(_) => {
            format!("train on more rows, or lower what keeps its L0 at {l0:.1}: --target-l0, or the coefficient (--set {}=X)", recipe.coefficient())
        }
        None => format!("train on more rows, or with more than {l0:.1} latents active (--k)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::{Recipe, SaeConfig};
    use std::fs;

    #[test]
    fn a_name_that_was_never_begun_is_told_from_that_of_a_sweep() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "r");
        let said = nothing_to_go_on_with(&run, "sweep");
        assert!(said.contains("SAEs that are there: none") && said.contains("without --resume"), "{said}");
        for name in ["sweep-k16", "sweep-k32", "sweep-k16-frozen", "other"] {
            fs::create_dir_all(run.sae(name)).unwrap();
        }
        fs::create_dir_all(run.sae_checkpoints("sweep-k64")).unwrap();
        fs::write(run.sae_checkpoints("sweep-k64").join("step"), "").unwrap();
        let said = nothing_to_go_on_with(&run, "sweep");
        assert!(said.contains("of a sweep of that name: sweep-k16, sweep-k32, sweep-k64; each"), "{said}");
        let error = begun_as(&run, "sweep", false).unwrap_err().to_string();
        assert!(error.starts_with("sweep-k64 was begun and has no checkpoint yet"), "{error}");
    }

    #[test]
    fn where_a_penalty_leaves_nothing_its_coefficient_is_named_not_more_rows() {
        for recipe in Recipe::all() {
            let config = TrainConfig::short(SaeConfig::new(8, 16, recipe.clone()), 640, 64, 0);
            let (silent, active) = (towards_a_better_reconstruction(&config, 0.1), towards_a_better_reconstruction(&config, 8.0));
            let more = if recipe.sparsity(8).is_some() { format!("--set {}=", recipe.coefficient()) } else { "--k".into() };
            assert!(active.starts_with("train on more rows, or") && active.contains("8.0") && active.contains(&more), "{active}");
            match recipe.sparsity(8) {
                None => assert_eq!(silent, active.replace("8.0", "0.1"), "{}", recipe.name()),
                Some(_) => assert!(silent.contains("L0 of 0.1") && silent.contains(&format!("--set {}=", recipe.coefficient())), "{silent}"),
            }
        }
    }

    #[test]
    fn a_missed_target_names_what_can_be_changed() {
        for recipe in Recipe::all() {
            let config = TrainConfig::short(SaeConfig::new(8, 16, recipe.clone()), 640, 64, 0);
            if let Some(most) = config.factor_limit() {
                assert!(!towards_a_missed_target(&config, (30.0, 0.0), Some(0.1 * most)).contains("--set"));
                let far = [most, -most].map(|factor| towards_a_missed_target(&config, (30.0, 0.0), Some(factor)));
                assert!(far[0].contains("coefficient is where thresholds") && far[1].contains("a reward"), "{far:?}");
            } else if recipe.sparsity(8).is_some() {
                let said = towards_a_missed_target(&config, (30.0, 0.0), Some(3.0));
                let name = said.split("--set ").nth(1).and_then(|rest| rest.split('=').next()).unwrap_or_default();
                assert!(recipe.settings().iter().any(|(key, _)| key == name), "{said}");
                assert!(towards_a_missed_target(&config, (30.0, 0.0), Some(sae::Control::MOST)).contains("--lr"));
                let low = TrainConfig { target_l0: Some(16.0), ..config };
                let said = [0.0, 0.5].map(|dead| towards_a_missed_target(&low, (8.0, dead), Some(0.001)));
                assert!(said[0].contains("not the penalty") && said[1].starts_with("50 % of its latents died"), "{said:?}");
            }
        }
    }
}
