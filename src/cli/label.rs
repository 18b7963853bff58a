//! `monosem label`

use super::Global;
use super::features::{Which, print};
use crate::artifact::RunDir;
use crate::features::store::Meta;
use crate::labels::{Format, Import, Step};
use anyhow::{Context, bail};
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
        #[arg(long, value_name = "NAME", env = "USER", hide_env = true)]
        author: Option<String>,
    },
    /// Print labels
    List {
        /// Only those of this feature, with everything they replaced
        #[arg(long, value_name = "ID")]
        history: Option<u32>,
    },
    /// Take back the last step: a change, or a whole import
    Undo {
        /// Take back the last change to this feature instead, alone
        id: Option<u32>,
    },
    /// Write the labels to a file (.csv, otherwise JSONL) or to stdout as JSONL
    Export {
        /// File to write
        path: Option<PathBuf>,
    },
    /// Take in labels from a file: one made by export, or any with columns (fields) latent and text
    Import {
        /// File to read, .csv or JSONL; what it does not say is you, now, and this SAE
        path: PathBuf,
    },
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    // Labels are read even where the dictionary is out of date: they are somebody's work.
    let dictionary = match &args.command {
        Command::List { .. } | Command::Export { .. } => args.which.dictionary_of_any_age(&run)?,
        _ => args.which.dictionary(&run)?,
    };
    if let Err(error) = dictionary.check_run(&run) {
        tell!("the dictionary is out of date: {}", error.to_string().lines().next().unwrap_or_default());
    }
    let meta: &Meta = dictionary.meta();
    let weights = meta.weights_hash.as_str();
    let to_read = || args.which.labels_to_read(&run);
    let to_write = || args.which.labels(&run);
    match args.command {
        Command::Set { id, text, author } => {
            dictionary.summary(id)?;
            if text.contains(|c: char| c.is_control()) {
                bail!("a label is one line without control characters, not {text:?}");
            }
            let author = author.filter(|name| !name.trim().is_empty()).unwrap_or_else(user_name);
            let mut labels = to_write()?;
            labels.set(weights, id, &text, &author)?;
            let now = labels.list(weights, Some(id))?;
            print(global, &now, |out| {
                if now.is_empty() {
                    writeln!(out, "{id} has no label")?;
                }
                now.iter().try_for_each(|l| writeln!(out, "{} {:?}  {}, {}", l.latent, l.text, l.author, l.time))
            })
        }
        Command::List { history } => {
            let listed = match (to_read()?, history) {
                (None, _) => vec![],
                (Some(labels), Some(id)) => labels.history(weights, id)?,
                (Some(labels), None) => labels.list(weights, None)?,
            };
            print(global, &listed, |out| {
                if listed.is_empty() {
                    writeln!(out, "no labels")?;
                }
                listed.iter().try_for_each(|l| writeln!(out, "{:>7} {:?}  {}, {}", l.latent, l.text, l.author, l.time))
            })
        }
        Command::Undo { id } => {
            let mut labels = to_write()?;
            let undone = match id {
                Some(id) => labels.undo_of(weights, id)?,
                None => labels.undo(weights)?,
            };
            print(global, &serde_json::json!({ "undone": undone }), |out| match &undone {
                Some(step) if step.batch.is_some() => writeln!(out, "took back: an import of {} labels, {}", step.n, step.label.time),
                Some(Step { label: l, .. }) => writeln!(out, "took back: {} {:?} by {} of {}", l.latent, l.text, l.author, l.time),
                None => writeln!(out, "nothing to take back"),
            })
        }
        Command::Export { path: None } if global.json => {
            let listed = to_read()?.map_or(Ok(vec![]), |labels| labels.list(weights, None))?;
            print(global, &listed, |_| Ok(()))
        }
        Command::Export { path: None } => {
            let mut out = std::io::stdout().lock();
            if let Some(labels) = to_read()? {
                labels.export(weights, Format::Jsonl, &mut out)?;
            }
            Ok(())
        }
        Command::Export { path: Some(path) } => {
            let mut text = Vec::new();
            let n = to_read()?.map_or(Ok(0), |labels| labels.export(weights, Format::of(&path), &mut text))?;
            crate::artifact::write_atomic(&path, |out| out.write_all(&text))?;
            print(global, &serde_json::json!({ "path": path, "labels": n }), |out| writeln!(out, "{}: {n} labels", path.display()))
        }
        Command::Import { path } => {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let author = user_name();
            let defaults = Import { weights_hash: weights, n_units: meta.n_units, author: &author };
            let done = to_write()?.import(Format::of(&path), &text, defaults)?;
            print(
                global,
                &serde_json::json!({ "path": path, "new": done.new, "replaced": done.replaced, "known": done.known, "elsewhere": done.elsewhere }),
                |out| {
                    let some = |n: usize, what: &str| if n > 0 { format!(", {n} {what}") } else { String::new() };
                    let (replaced, elsewhere) = (some(done.replaced, "in place of others"), some(done.elsewhere, "of them for another SAE"));
                    let labels = if done.new == 1 { "label" } else { "labels" };
                    writeln!(out, "{} new {labels} from {}{replaced}{elsewhere}; {} were there already", done.new, path.display(), done.known)
                },
            )?;
            if done.new + done.replaced > 0 {
                tell!("to take all of it back: monosem label undo {} {}", args.which.flags(), run.flags());
            }
            Ok(())
        }
    }
}

/// Who runs the program where $USER does not say: the name of its user id in /etc/passwd.
fn user_name() -> String {
    passwd_name().unwrap_or_else(|| "unknown".into())
}

#[cfg(unix)]
fn passwd_name() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    // A process's folder belongs to its user.
    let uid = std::fs::metadata("/proc/self").ok()?.uid();
    name_of(uid, &std::fs::read_to_string("/etc/passwd").ok()?)
}

#[cfg(not(unix))]
fn passwd_name() -> Option<String> {
    std::env::var("USERNAME").ok()
}

/// The name in the line `name:password:uid:...`.
#[cfg(unix)]
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2).is_some_and(|f| *f == uid.to_string())).map(|fields| fields[0].to_string())
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn a_user_id_has_the_name_that_passwd_gives_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(super::name_of(1000, passwd).as_deref(), Some("ann"));
        assert_eq!(super::name_of(100, passwd), None);
    }
}
