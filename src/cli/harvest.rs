//! `monosem harvest`: activation rows on disk.

use super::{Global, Interrupted, Terminal, again};
use crate::activations::{CacheConfig, CacheDtype, Error, cache, cache_bytes};
use crate::artifact::{Manifest, RunDir, read_json};
use crate::corpus::TokenStream;
use crate::lm::{CpuEngine, HookPoint, Lm};
use anyhow::Context;

/// Cache activations on disk (otherwise they are streamed)
///
/// Runs the training documents through the model and writes the rows at the hook to DIR/RUN/activations/HOOK. `monosem sae train` needs
/// no cache; it saves time where several SAEs are trained on the same rows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the activations are read, with TransformerLens' names
    #[arg(long, default_value = "blocks.0.mlp.hook_post", value_name = "HOOK")]
    hook: HookPoint,
    /// Cache the first N training tokens, rounded up to whole windows [default: all]
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// Number format of the rows
    #[arg(long, value_enum, default_value = "bf16")]
    dtype: CacheDtype,
    /// Refuse to write more than this, GB of 10^9 bytes
    #[arg(long, default_value_t = 20.0, value_name = "GB")]
    max_gb: f64,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    let stream = TokenStream::open(&run.tokens())
        .with_context(|| format!("cannot read {}\n  build it with: monosem corpus build {}", run.tokens().display(), run.flags()))?;
    let manifest: Manifest = read_json(&run.lm().join("manifest.json"))
        .with_context(|| format!("cannot read {}\n  train it with: monosem lm train {}", run.lm().display(), run.flags()))?;
    manifest.check_input(&run.lm(), "tokens", stream.manifest(), &format!("monosem lm train {}", run.flags()))?;
    let mut engine = CpuEngine::new(Lm::load(&run.lm())?);
    let config = CacheConfig { hook: args.hook, n_tokens: args.tokens, dtype: args.dtype, max_gb: args.max_gb };
    let (n_rows, n_bytes) = cache_bytes(&engine, &stream, config)?;
    let dir = run.activations(&args.hook.to_string());
    tell!("reads {} and {}; {n_rows} rows, {:.2} GB", run.lm().display(), run.tokens().display(), n_bytes as f64 / 1e9);
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
    tell!("{n_rows} rows in {:.1} s; next: monosem sae train {}", done.wall_seconds, run.flags());
    Ok(())
}
