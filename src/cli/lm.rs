//! `monosem lm`

use super::Global;

/// Train, evaluate or generate with a language model
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
