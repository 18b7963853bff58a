//! `monosem run`

use super::Global;

/// The whole path as a recipe file says, stage by stage, resumable
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
