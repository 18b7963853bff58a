//! `monosem corpus`

use super::Global;

/// Text -> tokenizer and token shards
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
