//! `monosem synth`: SAE training against known features.

use super::{Global, Interrupted, Terminal, again};
use crate::artifact::{self, RunDir, Start, grouped};
use crate::synth::experiments::{Architecture, Ask, EXPERIMENTS, Experiment, Figure, find};
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
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Instead of the experiment's own SAEs, one of this recipe with these settings, such as topk:k=20; lr, lr_warmup and lr_decay are
    /// those of the training; may be given more than once
    #[arg(long, value_name = "RECIPE[:KEY=VALUE,...]", value_parser = Architecture::parse)]
    recipe: Vec<Architecture>,
    /// Exit with 1 unless every figure lies in its band
    #[arg(long)]
    check: bool,
    /// Go on from the last checkpoint
    #[arg(long)]
    resume: bool,
    /// Replace finished SAEs of other settings, and checkpoints
    #[arg(long)]
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
    match ask.rows(experiment) {
        0 => tell!("  {seeds}; nothing is trained"),
        rows => tell!("  writes {}; {} rows for each SAE, {seeds}", ask.folder.display(), grouped(rows)),
    }
    let outcome = match (experiment.run)(&ask, &mut Terminal::new()) {
        Err(e) if e.is_interruption() => return Err(Interrupted { resume: again("--resume") }.into()),
        done => done?,
    };
    if experiment.rows > 0 {
        artifact::write_json(&ask.folder.join("outcome.json"), &outcome)?;
    }
    let missed: Vec<&Figure> = outcome.figures.iter().filter(|f| f.holds() == Some(false)).collect();
    if global.json {
        say!("{}", serde_json::to_string(&outcome)?);
    } else {
        table(&outcome.figures)?;
        say!("{}", outcome.says);
    }
    if args.check && !missed.is_empty() {
        let words = |f: &&Figure| {
            let (low, high) = f.band.expect("what misses its band has one");
            format!("{} of {} is {}, expected {} to {}", f.what, f.of, number(f.ours), number(low), number(high))
        };
        bail!(
            "{} of {} figures are outside of their bands\n  {}",
            missed.len(),
            outcome.figures.len(),
            missed.iter().map(words).collect::<Vec<_>>().join("\n  ")
        );
    }
    Ok(())
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

fn table(figures: &[Figure]) -> anyhow::Result<()> {
    let wide = |text: fn(&Figure) -> usize, least: usize| figures.iter().map(text).max().unwrap_or(0).max(least);
    let (of, what) = (wide(|f| f.of.len(), 2), wide(|f| f.what.len(), 4));
    say!("{:of$}  {:what$}  {:>20}  {:>10}  {:>20}", "", "", "ours", "published", "accepted");
    for f in figures {
        let ours = f.sd.map_or(number(f.ours), |sd| format!("{} +- {}", number(f.ours), number(sd)));
        let band = f.band.map_or(String::new(), |(low, high)| {
            let bound = |x: f64| if x.is_finite() { number(x) } else { "...".into() };
            format!("{} to {}{}", bound(low), bound(high), if f.holds() == Some(true) { "  holds" } else { "  MISSED" })
        });
        say!("{:of$}  {:what$}  {ours:>20}  {:>10}  {band:>20}", f.of, f.what, f.published.map_or(String::new(), number));
    }
    Ok(())
}

/// Four significant digits, whole numbers as they are.
fn number(x: f64) -> String {
    match x.abs() {
        a if (1e4..1e15).contains(&a) => grouped(a.round() as u64),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 1e-3 || a == 0.0 => format!("{x:.4}"),
        _ => format!("{x:.1e}"),
    }
}
