//! One file per subcommand: flags -> config -> library call -> report. Nobody uses this module but `main`.

/// `println!` for results: a closed pipe or a full disk is an error to pass on, not a panic.
macro_rules! say {
    ($($arg:tt)*) => { std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($arg)*)))? };
}

/// `eprintln!` for the story: when nobody reads it any more, the work goes on.
macro_rules! tell {
    ($($arg:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($arg)*)));
    }};
}

mod corpus;
mod explore;
mod features;
mod figures;
mod harvest;
mod info;
mod label;
mod lm;
mod path;
mod quickstart;
mod run;
mod sae;
mod steer;
mod synth;
mod terminal;
mod toy;

pub use terminal::Terminal;

use crate::artifact::{RERUN, RunDir, shell_word};
use crate::corpus::Tokenizer;
use anyhow::bail;
use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::num::{IntErrorKind, NonZeroUsize, ParseFloatError, ParseIntError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Takes a language model apart into features that a person can read, search, label and turn up or down.
#[derive(Debug, Parser)]
#[command(name = "monosem", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  monosem quickstart                         a model, its features, a report, a web page
  monosem quickstart --text notes/ --run n   the same on your own text
  monosem info --run n                       what is there, what is stale, what to run next
  monosem features search king --run n       features that fire on a token or near it
  monosem label set 17 'royalty' --run n     say what feature 17 means
  monosem steer run --latent 17 --run n      text with feature 17 turned up";

/// Flags of every subcommand.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Folder that holds the runs
    #[arg(long, global = true, default_value = "runs", value_name = "DIR", help_heading = "Run")]
    pub dir: PathBuf,
    /// Name of the run: every file of it is under DIR/RUN
    #[arg(long, global = true, default_value = "quickstart", value_name = "RUN", help_heading = "Run", value_parser = run_name)]
    pub run: String,
    /// Print one JSON object on stdout
    #[arg(long, global = true, help_heading = "Run")]
    pub json: bool,
    /// Threads to work with; the result does not depend on it [default: all cores]
    #[arg(long, global = true, value_name = "N", help_heading = "Run")]
    pub threads: Option<NonZeroUsize>,
    /// Where to compute: cpu is all that this version can
    #[arg(long, global = true, default_value = "cpu", value_name = "DEVICE", help_heading = "Run", value_parser = device)]
    pub device: String,
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
    Synth(synth::Args),
    Toy(toy::Args),
    Info(info::Args),
}

/// Parses the command line and runs it. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted after saving.
pub fn main() -> ExitCode {
    let Cli { mut global, command } = Cli::try_parse().unwrap_or_else(|error| in_our_words(error).exit());
    if let Command::Info(info::Args { name: Some(name), .. }) = &command {
        global.run.clone_from(name);
    }
    if let Some(n) = global.threads {
        rayon::ThreadPoolBuilder::new().num_threads(n.get()).build_global().expect("the thread pool is built once, here");
    }
    let done = prepare(&command, &global).and_then(|()| match command {
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
        Command::Synth(args) => synth::run(args, &global),
        Command::Toy(args) => toy::run(args, &global),
        Command::Info(args) => info::run(args, &global),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// The same error, where a value is no number with what is expected in place of how the standard library puts it.
fn in_our_words(error: clap::Error) -> clap::Error {
    let source = std::error::Error::source(&error);
    let expected = match (source.and_then(|s| s.downcast_ref::<ParseIntError>()).map(ParseIntError::kind), source) {
        (Some(IntErrorKind::PosOverflow | IntErrorKind::NegOverflow), _) => "the number is too large",
        (Some(IntErrorKind::Zero), _) => "a whole number above 0 is expected",
        (Some(_), _) => "a whole number is expected",
        (None, Some(source)) if source.is::<ParseFloatError>() => "a number is expected, such as 12, 0.05 or 3e-4",
        _ => return error,
    };
    let (Some(argument), Some(value)) = (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue)) else { return error };
    let what = format!("invalid value '{value}' for '{argument}': {expected}");
    Cli::command().error(ErrorKind::ValueValidation, what)
}

/// Refuses a run that is not there, unless the command makes it or needs none.
fn prepare(command: &Command, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    let makes = match command {
        Command::Quickstart(_) | Command::Run(_) | Command::Synth(_) | Command::Toy(_) => true,
        Command::Corpus(args) => args.builds(),
        Command::Features(args) => args.imports(),
        Command::Sae(args) => args.needs_no_run(),
        _ => false,
    };
    if makes { Ok(()) } else { refuse_missing(&run, &global.dir) }
}

/// Refuses a run that is not there, with those of `dir` that are.
fn refuse_missing(run: &RunDir, dir: &Path) -> anyhow::Result<()> {
    if run.root.is_dir() {
        return Ok(());
    }
    let others = runs_in(dir);
    let others = if others.is_empty() { String::new() } else { format!("\n  runs that are there: {}", others.join(", ")) };
    bail!("there is no run {}{others}\n  make it: monosem quickstart {}", run.root.display(), run.flags())
}

/// Names of the folders in `dir` that look like runs, at most twenty.
fn runs_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let runs = entries.filter(|e| e.path().join("run.toml").exists() || e.path().join("tokens").is_dir());
    let mut names: Vec<String> = runs.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.truncate(20);
    names
}

/// A number of things of which none would say nothing.
fn one_or_more<T: std::str::FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let number = in_digits(text).and_then(|digits| digits.parse().ok()).filter(|n| *n >= T::from(1));
    number.ok_or("a whole number of at least 1 is expected, such as 400000, 400k or 1.5M".into())
}

/// A whole number as it may be written, `400_000`, `400k`, `1.5M`, `2G`, with all its digits.
fn in_digits(text: &str) -> Option<String> {
    let text = text.replace('_', "");
    let zeros = match text.chars().last()? {
        'k' => 3,
        'M' => 6,
        'G' => 9,
        _ => return Some(text),
    };
    let (whole, part) = text[..text.len() - 1].split_once('.').unwrap_or((&text[..text.len() - 1], ""));
    (!whole.is_empty() && part.len() <= zeros).then(|| format!("{whole}{part}{}", "0".repeat(zeros - part.len())))
}

/// A run's name is the name of one folder.
fn run_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text == "." || text == ".." || text.contains(['/', '\\']) {
        return Err("a run's name is one folder's name; --dir says where it is".into());
    }
    Ok(text.into())
}

/// An SAE's name is the name of one folder; `NAME@STEP` is a snapshot of its training, `neurons` the dictionary of the model's own neurons.
fn sae_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('.') || text.contains(['/', '\\', '@']) || text == crate::features::NEURONS {
        return Err(format!("an SAE's name is one folder's name, without @, not beginning with a dot, and not {:?}", crate::features::NEURONS));
    }
    Ok(text.into())
}

/// The device that is there; others are refused before anything is done.
fn device(text: &str) -> Result<String, String> {
    match text {
        "cpu" => Ok(text.into()),
        _ => Err("this version computes on the CPU only; leave --device out, or say --device cpu".into()),
    }
}

/// The command as it was typed, with `extra` once at its end, to be pasted into a shell. What goes on with `--resume` needs no `--yes` any more.
fn again(extra: &str) -> String {
    let typed =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).filter(|word| word != extra && !(extra == "--resume" && word == "--yes"));
    let words: Vec<String> = typed.map(|word| shell_word(&word)).chain((!extra.is_empty()).then(|| extra.to_string())).collect();
    words.join(" ")
}

/// Prints an error and says which exit code it is: what happened, its causes, then what to do.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Interrupted { resume }) = error.downcast_ref() {
        tell!("interrupted; everything so far is saved\n  resume: {resume}");
        return ExitCode::from(130);
    }
    if let Some(Stopped { left }) = error.downcast_ref() {
        tell!("interrupted; {left}\n  again: {}", again(""));
        return ExitCode::from(130);
    }
    if error.chain().filter_map(|e| e.downcast_ref::<std::io::Error>()).any(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let (mut causes, mut steps): (Vec<String>, Vec<String>) = (vec![], vec![]);
    for message in error.chain().map(|e| e.to_string()) {
        let mut lines = message.lines().map(str::trim_end).filter(|l| !l.is_empty());
        let cause = lines.next().unwrap_or_default();
        // A library's message often holds that of its source already.
        if !causes.iter().any(|c| c.contains(cause)) {
            causes.push(cause.into());
        }
        for step in lines.map(|l| l.strip_prefix("  ").unwrap_or(l).to_string()) {
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
    }
    // Where a command is given, it is the remedy: the general advice would be a second one.
    if steps.iter().any(|step| step.contains("monosem ")) {
        steps.retain(|step| !step.ends_with(RERUN));
    }
    tell!("error: {}", causes.into_iter().chain(steps).collect::<Vec<_>>().join("\n  "));
    ExitCode::FAILURE
}

/// Ctrl-C was pressed and the stage has saved; `resume` is the command that goes on.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted {
    pub resume: String,
}

/// Ctrl-C was pressed where nothing is saved on the way; `left` says what there is.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Stopped {
    pub left: String,
}

/// A token by its text or its number.
fn one_token(tokenizer: &Tokenizer, text: &str) -> anyhow::Result<u32> {
    match (text.parse::<u32>(), tokenizer.encode(text)[..].to_vec()) {
        (Ok(id), _) if (id as usize) < tokenizer.d_vocab() => Ok(id),
        (_, ids) if ids.len() == 1 => Ok(ids[0]),
        (_, ids) => anyhow::bail!("{text:?} is {} tokens ({ids:?}), not one\n  use --regex for longer texts where there is one", ids.len()),
    }
}

/// What --regex says.
fn pattern(regex: &str) -> anyhow::Result<regex::bytes::Regex> {
    if regex.is_empty() {
        bail!("--regex is empty and would match between any two letters\n  give a pattern, such as --regex '[0-9]'");
    }
    regex::bytes::Regex::new(regex).map_err(|e| {
        // Its last line says what is wrong; those before show the pattern again.
        let said = e.to_string();
        let why = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
        anyhow::anyhow!("--regex {regex:?}: {why}\n  a bracket that is meant as such is written \\[ or [[]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Calls `check` on the program and every subcommand.
    fn each(command: &clap::Command, check: &mut dyn FnMut(&clap::Command)) {
        check(command);
        command.get_subcommands().for_each(|c| each(c, check));
    }

    #[test]
    fn numbers_may_be_written_short() {
        let read = |text: &str| one_or_more::<u64>(text).ok();
        for (text, number) in
            [("400000", 400_000), ("400_000", 400_000), ("400k", 400_000), ("1.5M", 1_500_000), ("2G", 2_000_000_000), ("0.001k", 1)]
        {
            assert_eq!(read(text), Some(number), "{text}");
        }
        for text in ["", "0", "0k", "-3", "k", ".5M", "1.5", "1.2345k", "1.5MM", "1e6", "99999999999G", "+", "µ"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused_in_our_words_and_everything_else_as_it_was() {
        let refused = |line: &str| {
            let error = Cli::try_parse_from(line.split(' ')).err().unwrap();
            let before = error.to_string();
            (in_our_words(error).to_string(), before)
        };
        for (line, what) in [
            ("monosem sae train --lr x", "invalid value 'x' for '--lr <X>': a number is expected, such as 12"),
            ("monosem sae train --k 16,y", "invalid value 'y' for '--k <N,...>': a number is expected"),
            ("monosem features find --kind prose --n-tokens 1.5", "invalid value '1.5' for '--n-tokens <N>': a whole number is expected"),
            ("monosem features find --kind prose --n-tokens 99999999999999999999", "the number is too large"),
            ("monosem info --threads 0", "invalid value '0' for '--threads <N>': a whole number above 0 is expected"),
            ("monosem info --threads two", "invalid value 'two' for '--threads <N>': a whole number is expected"),
        ] {
            assert!(refused(line).0.contains(what), "{}", refused(line).0);
        }
        for line in ["monosem sae train --rows x", "monosem sae train --recipe none", "monosem sae tain"] {
            let (now, before) = refused(line);
            assert_eq!(now, before);
        }
    }

    #[test]
    fn no_two_flags_of_a_command_have_the_same_name() {
        each(&Cli::command(), &mut |command| {
            let mut seen = BTreeSet::new();
            for arg in command.get_arguments() {
                assert!(seen.insert(arg.get_id().to_string()), "{}: {}", command.get_name(), arg.get_id());
            }
        });
    }

    #[test]
    fn every_flag_and_command_says_what_it_is_without_full_stop() {
        each(&Cli::command(), &mut |command| {
            let about = command.get_about().map(|a| a.to_string()).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about:?}", command.get_name());
            for arg in command.get_arguments() {
                let help = arg.get_help().map(|a| a.to_string()).unwrap_or_default();
                assert!(!help.is_empty() && !help.ends_with('.'), "{} {}: {help:?}", command.get_name(), arg.get_id());
            }
        });
    }

    #[test]
    fn a_run_name_is_one_folder() {
        assert!(run_name("tiny").is_ok());
        for bad in ["", ".", "..", "a/b", "../x"] {
            assert!(run_name(bad).is_err(), "{bad}");
        }
    }
}
