//! `monosem quickstart`: the whole path with nothing to decide.

use super::{Global, path};
use crate::corpus::{OnError, Source};
use crate::pipeline::Recipe;
use std::path::{Path, PathBuf};

/// Go the whole path on the built-in planted corpus (or --text PATH), then the explorer
///
/// Text, tokenizer, language model, SAE, feature dictionary, scores against known concepts, report. Offline; some minutes on two cores. What
/// is already there and still fresh is not made again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file, a folder or a quoted glob of your own text, instead of the planted corpus; may be given more than once
    #[arg(long, value_name = "PATH")]
    text: Vec<String>,
    /// A data set of the Hugging Face Hub instead of the planted corpus
    #[arg(long, value_name = "NAME", conflicts_with = "text")]
    dataset: Option<String>,
    /// JSONL field or Parquet column that holds the text
    #[arg(long, value_name = "FIELD", default_value = "text")]
    field: String,
    /// What a record of your own text does that cannot be used: be left out and counted, or stop with its place
    #[arg(long, value_enum, default_value_t = OnError::Skip)]
    on_error: OnError,
    /// Sizes: laptop, or tiny for a test drive in seconds
    #[arg(long, value_name = "PRESET", default_value = "laptop", value_parser = ["tiny", "laptop"], hide_possible_values = true)]
    preset: String,
    /// Seed of everything, the planted corpus included
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How much is scored: normal, or full with an SAE of the shuffled model and linear probes beside it
    #[arg(long, value_name = "EXAM", default_value = "normal", value_parser = ["normal", "full"], hide_possible_values = true)]
    exam: String,
    /// Stop after the report instead of serving the explorer
    #[arg(long)]
    no_serve: bool,
    /// Replace finished work of this run that was made with other settings
    #[arg(long)]
    yes: bool,
    /// Write the recipe to this file and do nothing else
    #[arg(long, value_name = "FILE")]
    write_recipe: Option<PathBuf>,
}

impl Args {
    fn recipe(&self) -> Recipe {
        let own = match &self.dataset {
            Some(name) => vec![Source::Dataset { name: name.clone(), revision: "main".into(), files: "*".into() }],
            None => self.text.iter().map(|path| Source::Path(plain(path))).collect(),
        };
        let mut recipe = match self.preset.as_str() {
            "tiny" => Recipe::tiny(self.seed),
            _ if own.is_empty() => Recipe::quickstart(self.seed),
            _ => Recipe::text(self.seed, vec![]),
        };
        if !own.is_empty() {
            (recipe.corpus.sources, recipe.corpus.field, recipe.corpus.on_error) = (own, self.field.clone(), self.on_error);
        }
        recipe.exam.full = self.exam == "full";
        recipe
    }
}

/// A path without what does not change where it leads, so that `texts/` is the `texts` of before.
fn plain(path: &str) -> String {
    let parts: PathBuf = Path::new(path).components().filter(|part| *part != std::path::Component::CurDir).collect();
    if parts.as_os_str().is_empty() { path.into() } else { parts.to_string_lossy().into_owned() }
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let recipe = args.recipe();
    if let Some(file) = &args.write_recipe {
        if file.exists() && !args.yes {
            anyhow::bail!("{} is there already\n  name another file, or replace it with --yes", file.display());
        }
        crate::artifact::write_atomic(file, |out| std::io::Write::write_all(out, recipe.to_toml().as_bytes()))?;
        if global.json {
            say!("{}", serde_json::json!({ "recipe": file }));
        } else {
            say!("{}", file.display());
        }
        tell!("  run it: monosem run {} --run NAME", file.display());
        return Ok(());
    }
    path::travel(&recipe, global, args.yes, !args.no_serve)
}
