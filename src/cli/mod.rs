//! One file per subcommand: flags -> config -> library call -> report. Nobody uses this module but `main`.

mod corpus;
mod explore;
mod features;
mod harvest;
mod info;
mod label;
mod lm;
mod path;
mod quickstart;
mod run;
mod sae;
mod steer;
mod terminal;

pub use terminal::Terminal;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Takes a language model apart into features that a person can read, search, label and turn up or down.
#[derive(Debug, Parser)]
#[command(name = "monosem", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Folder that holds the runs
    #[arg(long, global = true, default_value = "runs", value_name = "DIR")]
    pub dir: PathBuf,
    /// Name of the run: every file of it is under DIR/RUN
    #[arg(long, global = true, default_value = "quickstart", value_name = "RUN")]
    pub run: String,
    /// Print one JSON object on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Threads to work with; the result does not depend on it [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::Args),
    Run(run::Args),
    Corpus(corpus::Args),
    Lm(lm::Args),
    Harvest(harvest::Args),
    Sae(sae::Args),
    Features(features::Args),
    Label(label::Args),
    Steer(steer::Args),
    Explore(explore::Args),
    Info(info::Args),
}

/// Parses the command line and runs it. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted after saving.
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    if let Some(n) = global.threads {
        rayon::ThreadPoolBuilder::new().num_threads(n).build_global().expect("the thread pool is built once, here");
    }
    let done = match command {
        Command::Quickstart(args) => quickstart::run(args, &global),
        Command::Run(args) => run::run(args, &global),
        Command::Corpus(args) => corpus::run(args, &global),
        Command::Lm(args) => lm::run(args, &global),
        Command::Harvest(args) => harvest::run(args, &global),
        Command::Sae(args) => sae::run(args, &global),
        Command::Features(args) => features::run(args, &global),
        Command::Label(args) => label::run(args, &global),
        Command::Steer(args) => steer::run(args, &global),
        Command::Explore(args) => explore::run(args, &global),
        Command::Info(args) => info::run(args, &global),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Prints an error as a short chain and says which exit code it is.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Interrupted { resume }) = error.downcast_ref() {
        eprintln!("interrupted; everything so far is saved\n  resume: {resume}");
        return ExitCode::from(130);
    }
    if error.chain().filter_map(|e| e.downcast_ref::<std::io::Error>()).any(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let mut lines = error.chain().map(|e| e.to_string());
    eprintln!("error: {}", lines.next().unwrap_or_default());
    for line in lines {
        eprintln!("  {line}");
    }
    ExitCode::FAILURE
}

/// Ctrl-C was pressed and the stage has saved; `resume` is the command that goes on.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted {
    pub resume: String,
}
