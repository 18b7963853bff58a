//! `monosem steer`

use super::Global;

/// Generate with features edited, beside the unedited text
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _global: &Global) -> anyhow::Result<()> {
    todo!()
}
