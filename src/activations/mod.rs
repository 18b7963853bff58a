//! Language model + tokens -> activation rows. Reads an engine and a token stream; writes `activations/<hook>/` where caching is asked
//! for. Does not know the SAE: of `sae` it uses only [`RowSource`](crate::sae::RowSource), which its sources are.
//!
//! - [`Streamed`]: rows straight from the model through a shuffle buffer in RAM; what training normally reads.
//! - [`Cached`]: the same rows, in the same order, from a cache on disk.
//! - [`Paired`]: two caches side by side, what a transcoder learns from.
//! - [`Sequential`]: windows in their order with token ids, for statistics and the feature dictionary.
//!
//! A row *counts* when its token is not `<|endoftext|>` and it is not the first position of its window ([`counts`]); the shuffled
//! sources serve only rows that count.

mod cached;
mod paired;
mod plan;
mod sequential;
mod shuffled;
mod streamed;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use cached::{CacheConfig, CacheDtype, CacheSummary, Cached, CachedRows, cache, cache_bytes};
pub use paired::{Paired, PairedRows};
pub use plan::{Plan, ReadRows, ShuffleConfig};
pub use sequential::{Batch, Sequential};
pub use shuffled::{Shuffled, WindowRows};
pub use streamed::{ModelRows, Streamed};

pub use crate::corpus::counts;

use crate::artifact;

pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong on the way from tokens to activation rows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error("{n_windows} windows of {n_ctx} tokens hold no row that counts\n  build a larger corpus, or use a model with a smaller n_ctx")]
    NoRows { n_windows: u64, n_ctx: usize },
    #[error("hook {hook} is not in a model of {}\n  choose {}", crate::lm::layers(*n_layers), blocks(*n_layers))]
    NoSuchLayer { hook: crate::lm::HookPoint, n_layers: usize },
    #[error(
        "{target} is not computed after {hook}\n  a transcoder reads what comes first: e.g. blocks.0.ln2.hook_normalized and the target blocks.0.hook_mlp_out"
    )]
    Order { hook: crate::lm::HookPoint, target: crate::lm::HookPoint },
    #[error(
        "the cache would take {}, more than the {max_gb} GB allowed\n  raise --max-gb, cache fewer --tokens, or stream instead: monosem sae train needs no cache",
        artifact::size(*bytes)
    )]
    TooLarge { bytes: u64, max_gb: f64 },
    #[error("there is no finished cache in {}\n  make it: {rerun}", dir.display())]
    NoCache { dir: std::path::PathBuf, rerun: String },
    #[error("{} holds rows of {found}, not of {expected}\n  rerun: {rerun}", dir.display())]
    OtherHook { dir: std::path::PathBuf, found: crate::lm::HookPoint, expected: crate::lm::HookPoint, rerun: String },
    #[error("the cache of {hook} is in windows of {n_ctx} tokens, that of {target} in windows of {target_n_ctx}\n  harvest both with the same model")]
    OtherWindows { hook: crate::lm::HookPoint, n_ctx: usize, target: crate::lm::HookPoint, target_n_ctx: usize },
    #[error("the model reads tokens below {d_vocab}, the stream has tokens up to {stream}\n  use the run's own model and tokens")]
    Vocabulary { d_vocab: usize, stream: usize },
    #[error("interrupted")]
    Interrupted,
}

/// The blocks that there are: `blocks.0 to blocks.2`.
fn blocks(n_layers: usize) -> String {
    if n_layers == 1 { "blocks.0".into() } else { format!("blocks.0 to blocks.{}", n_layers - 1) }
}

pub(crate) fn check(config: &crate::lm::LmConfig, hook: crate::lm::HookPoint, stream: &crate::corpus::TokenStream) -> Result<()> {
    if hook.layer >= config.n_layers {
        return Err(Error::NoSuchLayer { hook, n_layers: config.n_layers });
    }
    if stream.d_vocab() > config.d_vocab {
        return Err(Error::Vocabulary { d_vocab: config.d_vocab, stream: stream.d_vocab() });
    }
    Ok(())
}
