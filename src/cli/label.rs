//! `monosem label`

use super::Global;
use super::features::{Which, print};
use crate::artifact::RunDir;
use crate::features::store::Meta;
use crate::labels::Format;
use anyhow::Context;
use std::io::Write;
use std::path::PathBuf;

/// Label features by hand
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write (or replace) your label of a feature; an empty text removes it
    Set {
        /// Number of the feature
        id: u32,
        /// What the feature means
        text: String,
        /// Whose label it is [default: the user's name]
        #[arg(long, value_name = "NAME", env = "USER", default_value = "unknown", hide_env = true, hide_default_value = true)]
        author: String,
    },
    /// Print labels
    List {
        /// Only those of this feature, with everything they replaced
        #[arg(long, value_name = "ID")]
        history: Option<u32>,
    },
    /// Take back the last change
    Undo {
        /// Only changes to this feature
        id: Option<u32>,
    },
    /// Write the labels to a file (.csv, otherwise JSONL) or to stdout as JSONL
    Export {
        /// File to write
        path: Option<PathBuf>,
    },
    /// Take in labels from a file made by export
    Import {
        /// File to read, .csv or JSONL
        path: PathBuf,
    },
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    let dictionary = args.which.dictionary(&run)?;
    let meta: &Meta = dictionary.meta();
    let weights = meta.weights_hash.as_str();
    let mut labels = args.which.labels(&run)?;
    match args.command {
        Command::Set { id, text, author } => {
            dictionary.summary(id)?;
            labels.set(weights, id, &text, &author)?;
            let now = labels.list(weights, Some(id))?;
            print(global, &now, |out| now.iter().try_for_each(|l| writeln!(out, "{} {:?}  {}, {}", l.latent, l.text, l.author, l.time)))
        }
        Command::List { history } => {
            let listed = match history {
                Some(id) => labels.history(weights, id)?,
                None => labels.list(weights, None)?,
            };
            print(global, &listed, |out| listed.iter().try_for_each(|l| writeln!(out, "{:>7} {:?}  {}, {}", l.latent, l.text, l.author, l.time)))
        }
        Command::Undo { id } => {
            let undone = labels.undo(weights, id)?;
            print(global, &serde_json::json!({ "undone": undone }), |out| match &undone {
                Some(l) => writeln!(out, "took back: {} {:?} by {} of {}", l.latent, l.text, l.author, l.time),
                None => writeln!(out, "nothing to take back"),
            })
        }
        Command::Export { path: None } if global.json => print(global, &labels.list(weights, None)?, |_| Ok(())),
        Command::Export { path: None } => {
            let mut out = std::io::stdout().lock();
            labels.export(weights, Format::Jsonl, &mut out)?;
            Ok(())
        }
        Command::Export { path: Some(path) } => {
            let mut text = Vec::new();
            let n = labels.export(weights, Format::of(&path), &mut text)?;
            crate::artifact::write_atomic(&path, |out| out.write_all(&text))?;
            print(global, &serde_json::json!({ "path": path, "labels": n }), |out| writeln!(out, "{}: {n} labels", path.display()))
        }
        Command::Import { path } => {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let n = labels.import(Format::of(&path), &text)?;
            print(global, &serde_json::json!({ "path": path, "new": n }), |out| writeln!(out, "{n} new labels from {}", path.display()))
        }
    }
}
