//! `monosem synth`: SAE training against known features.

use super::{Global, Interrupted, Stopped, Terminal, again, figures, one_or_more};
use crate::artifact::{self, RunDir, Start, grouped};
use crate::synth::experiments::{Architecture, Ask, EXPERIMENTS, Experiment, find};
use anyhow::bail;

/// Train SAEs on data whose features are known, and compare with published scores
///
/// An SAE goes to DIR/RUN/synth/NAME/, in the layout of every other SAE, with its scores. Ctrl-C saves; --resume goes on, bit for bit as if it had
/// never stopped; an SAE that is there already is not trained again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The experiment, or `list` for the names of all
    #[arg(value_name = "NAME")]
    name: String,
    /// Seed of rows and weights; the features are the same for all seeds
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Train so many SAEs of each kind, with the seeds from --seed on, and print mean and deviation
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Rows to train each SAE on [default: the experiment's]
    #[arg(long, value_name = "N", value_parser = one_or_more::<u64>)]
    rows: Option<u64>,
    /// Instead of the experiment's own SAEs, one of this recipe with these settings, such as topk:k=20; target_l0, lr, lr_warmup,
    /// lr_decay, dead_window_rows and units (raw, root-norm, centred) are those of the training; may be given more than once
    #[arg(long, value_name = "RECIPE[:KEY=VALUE,...]", value_parser = Architecture::parse)]
    recipe: Vec<Architecture>,
    /// Exit with 1 unless every figure lies in its band, and where none has one
    #[arg(long)]
    check: bool,
    /// Go on from the last checkpoint
    #[arg(long)]
    resume: bool,
    /// Replace finished SAEs of other settings, and checkpoints
    #[arg(long, conflicts_with = "resume")]
    yes: bool,
}

const EXAMPLES: &str = "\
Examples:
  monosem synth list                              what there is, and how long it takes
  monosem synth generator --check                 the benchmark's data against its published figures
  monosem synth bench-small --seeds 5             mean and deviation of five SAEs in some minutes
  monosem synth bench-16k --recipe topk:k=20 --rows 20000000";

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    if args.name == "list" {
        return list(global);
    }
    let experiment = find(&args.name)?;
    if experiment.rows == 0 {
        let given = [("--recipe", !args.recipe.is_empty()), ("--seeds", args.seeds > 1), ("--resume", args.resume), ("--yes", args.yes)];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            bail!("{flag} is for experiments that train, and {} trains nothing\n  leave it out", experiment.name);
        }
    }
    let run = RunDir::new(&global.dir, &global.run);
    let _lock = run.lock()?;
    let ask = Ask {
        folder: run.root.join("synth").join(experiment.name),
        seeds: (0..args.seeds).map(|i| args.seed + i).collect(),
        rows: args.rows,
        recipes: args.recipe.clone(),
        start: Start::from_flags(args.resume, args.yes),
    };
    tell!("{}: {}", experiment.name, experiment.about);
    tell!("  {}; some {} on two cores", experiment.source, experiment.takes);
    let seeds = if args.seeds == 1 { format!("seed {}", args.seed) } else { format!("seeds {} to {}", args.seed, args.seed + args.seeds - 1) };
    match (experiment.rows, ask.rows(experiment)) {
        (0, _) => tell!("  {seeds}; nothing is trained"),
        (_, rows) => tell!("  writes {}; {} rows for each SAE, {seeds}", ask.folder.display(), grouped(rows)),
    }
    if ask.rows(experiment) < experiment.rows {
        tell!("  note: what is accepted is meant for {} rows", grouped(experiment.rows));
    }
    let outcome = match (experiment.run)(&ask, &mut Terminal::new()) {
        Err(e) if e.is_interruption() && experiment.rows == 0 => {
            return Err(Stopped { left: format!("nothing of {} is kept", experiment.name) }.into());
        }
        Err(e) if e.is_interruption() => return Err(Interrupted { resume: again("--resume") }.into()),
        done => done?,
    };
    let json = outcome.with_formulas();
    if experiment.rows > 0 {
        artifact::write_json(&ask.folder.join("outcome.json"), &json)?;
    }
    if global.json {
        say!("{json}");
    } else {
        figures::table(&outcome.figures)?;
        say!("{}", outcome.says);
    }
    if args.check { figures::check(&outcome.figures) } else { Ok(()) }
}

fn list(global: &Global) -> anyhow::Result<()> {
    if global.json {
        let entry = |e: &&Experiment| serde_json::json!({"name": e.name, "about": e.about, "source": e.source, "rows": e.rows, "takes": e.takes});
        say!("{}", serde_json::json!({ "experiments": EXPERIMENTS.iter().map(entry).collect::<Vec<_>>() }));
        return Ok(());
    }
    for e in EXPERIMENTS {
        say!("{:12} {}\n{:12} {}; {} on two cores", e.name, e.about, "", e.source, e.takes);
    }
    Ok(())
}
