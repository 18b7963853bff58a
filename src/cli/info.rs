//! `monosem info`

use super::Global;

/// What is in a run, what is stale, what to run next
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
