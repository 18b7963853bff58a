//! `monosem features`

use super::Global;

/// Build, list, show, search and score features
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
