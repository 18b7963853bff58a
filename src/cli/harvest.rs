//! `monosem harvest`: activation rows on disk.

use super::{Global, Interrupted, Terminal, again, one_or_more};
use crate::activations::{CacheConfig, CacheDtype, Error, cache, cache_bytes};
use crate::artifact::{RunDir, grouped, size};
use crate::corpus::TokenStream;
use crate::lm::{CpuEngine, HookPoint};
use anyhow::Context;
use clap::ValueEnum;

/// Cache activations on disk (otherwise they are streamed)
///
/// Runs the training documents through the model and writes the rows at the hook to DIR/RUN/activations/HOOK. `monosem sae train` needs
/// no cache; with --cached it reads this one, which saves the model's work where several SAEs are trained on the same rows. bf16 rounds
/// the rows to 8 bits; from f32 the SAE is the same bit for bit. What was harvested before is kept where it is of the same rows: after Ctrl-C
/// the same command goes on, and more --tokens go on from fewer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the activations are read, with TransformerLens' names
    #[arg(long, default_value = "blocks.0.mlp.hook_post", value_name = "HOOK")]
    hook: HookPoint,
    /// Cache the first N training tokens, rounded up to whole windows [default: all]
    #[arg(long, value_name = "N", value_parser = one_or_more::<u64>)]
    tokens: Option<u64>,
    /// Number format of the rows
    #[arg(long, value_enum, default_value = "bf16")]
    dtype: CacheDtype,
    /// Refuse to write more than this, GB of 10^9 bytes
    #[arg(long, default_value_t = 20.0, value_name = "GB")]
    max_gb: f64,
    /// Delete rows at this hook that were cached with other settings
    #[arg(long)]
    yes: bool,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    let stream = TokenStream::open(&run.tokens())
        .with_context(|| format!("cannot read {}\n  build it with: monosem corpus build {}", run.tokens().display(), run.flags()))?;
    let manifest = super::lm::lm_manifest(&run)?;
    manifest.check_input(&run.lm(), "tokens", stream.manifest(), &format!("monosem lm train {}", run.flags()))?;
    let mut engine = CpuEngine::new(super::lm::open_lm(&run)?);
    let config = CacheConfig { hook: args.hook, n_tokens: args.tokens, dtype: args.dtype, max_gb: args.max_gb, replace: args.yes };
    let (n_rows, n_bytes) = cache_bytes(&engine, &stream, config)?;
    let dir = run.activations(&args.hook.to_string());
    let format = args.dtype.to_possible_value().expect("no format is hidden");
    tell!("reads   {} and {}", run.lm().display(), run.tokens().display());
    tell!("writes  {}: {} rows in {}, {}", dir.display(), grouped(n_rows), format.get_name(), size(n_bytes));
    let _lock = run.lock()?;
    let done = match cache(&mut engine, &manifest, &stream, &dir, config, &mut Terminal::new()) {
        Err(Error::Interrupted) => {
            return Err(Interrupted { resume: again("") }.into());
        }
        other => other?,
    };
    if global.json {
        say!("{}", serde_json::json!({ "dir": dir, "rows": n_rows, "bytes": n_bytes, "seconds": done.wall_seconds, "manifest": done.hash() }));
    } else {
        say!("{}", dir.display());
    }
    let hook = if args.hook == HookPoint::mlp_post(0) { String::new() } else { format!("--hook {} ", args.hook) };
    // One that is there is of other settings.
    let name = if run.sae("main").exists() { "--name cached " } else { "" };
    tell!("{} rows in {:.1} s\n  next: monosem sae train --cached {name}{hook}{}", grouped(n_rows), done.wall_seconds, run.flags());
    Ok(())
}
