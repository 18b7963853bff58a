//! `monosem label`

use super::Global;

/// Label features by hand
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
