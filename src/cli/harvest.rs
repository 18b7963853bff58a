//! `monosem harvest`

use super::Global;

/// Cache activations on disk (otherwise they are streamed)
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
