//! `monosem sae`

use super::Global;

/// Train, evaluate and inspect sparse autoencoders
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
