//! `monosem quickstart`

use super::Global;

/// The whole path on the planted corpus (or --text PATH), then the explorer
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
