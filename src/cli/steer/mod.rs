//! `monosem steer`: text with features edited, beside the unedited text.

mod attribute;
mod columns;
mod concept;
mod edits;
mod export;
mod fit;
mod guard;
mod rig;
mod run;
mod sweep;
mod trial;

use super::Global;
use crate::artifact::RunDir;
use crate::lm::Sampling;
use anyhow::bail;

/// Generate with features edited, beside the unedited text
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Fit(Box<fit::FitArgs>),
    Sweep(Box<sweep::Sweep>),
    Guard(Box<guard::GuardArgs>),
    Attribute(Box<attribute::AttributeArgs>),
    Export(Box<export::ExportArgs>),
    Trial(Box<trial::TrialArgs>),
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let dir = RunDir::new(&global.dir, &global.run);
    match args.command {
        Command::Run(args) => run::run(&args, global, &dir),
        Command::Fit(args) => fit::run(&args, global, &dir),
        Command::Sweep(args) => sweep::run(&args, global, &dir),
        Command::Guard(args) => guard::run(&args, global, &dir),
        Command::Export(args) => export::run(&args, global, &dir),
        Command::Attribute(args) => attribute::run(&args, global, &dir),
        Command::Trial(args) => trial::run(&args, global, &dir),
    }
}

/// How tokens are drawn.
#[derive(Debug, Clone, clap::Args)]
struct Drawing {
    /// Seed of the draws, shared by all sides; of several texts, text i has this seed + i
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Logits are divided by this; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.8, value_name = "T", allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from the N likeliest tokens only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that together hold this much probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
}

impl Drawing {
    fn sampling(&self) -> anyhow::Result<Sampling> {
        let &Drawing { seed, temperature, top_k, top_p } = self;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            bail!("--temperature {temperature} must be 0 or more");
        }
        if top_k == Some(0) {
            bail!("--top-k must be 1 or more; leave it out to draw from all tokens");
        }
        if let Some(p) = top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            bail!("--top-p {p} must be above 0 and at most 1");
        }
        Ok(Sampling { temperature, top_k, top_p, seed })
    }
}
