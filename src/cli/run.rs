//! `monosem run`: the whole path as a recipe file says.

use super::{Global, path};
use crate::pipeline::Recipe;
use std::path::PathBuf;

/// Go the whole path as a recipe file says, stage by stage, resumable
///
/// Stages that are already there, made from the same inputs with the same settings, are skipped; an interrupted one goes on where it stopped.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipe: `base = "quickstart"` and what differs from it, or everything (see recipes/ and any run's run.toml)
    #[arg(value_name = "FILE")]
    recipe: PathBuf,
    /// Replace finished work of this run that was made with other settings
    #[arg(long)]
    yes: bool,
    /// Serve the explorer afterwards
    #[arg(long)]
    serve: bool,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    path::travel(&Recipe::read(&args.recipe)?, global, args.yes, args.serve)
}
