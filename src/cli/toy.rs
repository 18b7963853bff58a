//! `monosem toy`: Toy Models of Superposition.

use super::{Global, Stopped, Terminal, figures};
use crate::artifact::{self, RunDir};
use crate::toy::experiments::{Ask, EXPERIMENTS, Experiment, Outcome, find};
use crate::toy::{Error, page};
use anyhow::Context;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Reproduce the experiments of Toy Models of Superposition, with their pictures
///
/// Each trains its small models, measures them beside closed forms or published outcomes, and draws them. An experiment goes to OUT/NAME/ (outcome.json,
/// an SVG and a PNG of each picture); `all` also writes OUT/index.html, one page that needs nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The experiment, `all`, or `list` for the names of all
    #[arg(value_name = "NAME")]
    name: String,
    /// Seed of weights and samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder to write to [default: DIR/RUN/toy]
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Fewer points, restarts and steps: a minute for all
    #[arg(long)]
    quick: bool,
    /// Exit with 1 unless every figure lies in its band, and where none has one
    #[arg(long)]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  monosem toy list                     what there is
  monosem toy basic                    superposition, in some seconds
  monosem toy all --check --out toy    everything, on one page: toy/index.html";

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    if args.name == "list" {
        return list(global);
    }
    let all = args.name == "all";
    let asked = if all { EXPERIMENTS.to_vec() } else { vec![find(&args.name)?] };
    let out = args.out.clone().unwrap_or_else(|| RunDir::new(&global.dir, &global.run).root.join("toy"));
    let ask = Ask { seed: args.seed, quick: args.quick };
    std::fs::create_dir_all(&out).with_context(|| format!("cannot write to {}\n  give a folder: --out OUT", out.display()))?;
    tell!("writes {}; seed {}", out.display(), args.seed);
    Terminal::keeps_nothing();
    let (started, index, mut done) = (Instant::now(), out.join("index.html"), Vec::new());
    for experiment in asked {
        tell!("{}: {} ({})", experiment.name, experiment.about, experiment.source);
        let began = Instant::now();
        let outcome = match (experiment.run)(&ask, &mut Terminal::new()) {
            Err(Error::Interrupted) => return Err(Stopped { left: left(experiment, &done, &out) }.into()),
            done => done?,
        };
        page::write_outcome(&out.join(experiment.name), experiment, &outcome, &ask)?;
        if !global.json {
            say!("{}", experiment.name);
            figures::table(&outcome.figures)?;
            say!("{}\n", outcome.says);
        }
        tell!("  {:.0} s; pictures in {}", began.elapsed().as_secs_f64(), out.join(experiment.name).display());
        done.push((experiment, outcome));
        if all {
            artifact::write_atomic(&index, |file| file.write_all(page::html(&done, &ask).as_bytes()))?;
        }
    }
    if global.json {
        let entry =
            |(e, outcome): &(&Experiment, Outcome)| serde_json::json!({ "experiment": e.name, "says": outcome.says, "figures": outcome.figures });
        say!(
            "{}",
            serde_json::json!({ "seed": args.seed, "quick": args.quick, "out": out, "experiments": done.iter().map(entry).collect::<Vec<_>>() })
        );
    }
    if all {
        tell!("all of it in {:.0} s; open {}", started.elapsed().as_secs_f64(), index.display());
    } else if index.exists() {
        tell!("{} is of an earlier run; it is written anew by: monosem toy all", index.display());
    }
    let every: Vec<_> = done.into_iter().flat_map(|(_, outcome)| outcome.figures).collect();
    if args.check { figures::check(&every) } else { Ok(()) }
}

/// What is left of a run that was stopped in the middle of `experiment`.
fn left(experiment: &Experiment, done: &[(&Experiment, Outcome)], out: &Path) -> String {
    let done: Vec<&str> = done.iter().map(|(e, _)| e.name).collect();
    let finished = if done.is_empty() { String::new() } else { format!("; in {} is what was finished: {}", out.display(), done.join(", ")) };
    format!("nothing of {} is kept{finished}", experiment.name)
}

fn list(global: &Global) -> anyhow::Result<()> {
    if global.json {
        let entry = |e: &&Experiment| serde_json::json!({ "name": e.name, "about": e.about, "source": e.source });
        say!("{}", serde_json::json!({ "experiments": EXPERIMENTS.iter().map(entry).collect::<Vec<_>>() }));
        return Ok(());
    }
    for e in EXPERIMENTS {
        say!("{:20} {}\n{:20} {}", e.name, e.about, "", e.source);
    }
    Ok(())
}
