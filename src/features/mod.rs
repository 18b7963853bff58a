//! The feature dictionary. Reads windows of the token stream, the language model and an SAE (or the model's own neurons); writes
//! `features/<name>.sqlite`: statistics, examples, logit effects, search. Does not know labels, pages or recipes.
//!
//! [`build`] makes it; [`collect`] is the one pass over the text ([`mod@pass`] drives it); `logits`, `loss`, `geometry`, `near`, `polysemantic` and `census` say
//! what follows from it and from the weights; [`store`] is what others read: [`Dictionary`] and its plain structs.

mod build;
mod census;
mod checkpoint;
pub mod collect;
pub mod compare;
pub mod exam;
pub mod export;
#[cfg(test)]
mod fake;
mod geometry;
pub mod import;
mod logits;
mod loss;
pub mod map;
mod near;
mod pass;
mod polysemantic;
pub mod render;
pub mod shares;
pub mod store;
pub mod text;

use census::{DENSE_ABOVE, ULTRA_RARE_BELOW};

pub use build::{BuildConfig, Inputs, Units, axes, build, weights_hash};
pub use census::POLYSEMANTIC_FROM;
pub use checkpoint::Checkpoint;
pub use pass::{can_be_negative, pass};
pub use polysemantic::ALIKE_FROM;
pub use store::Dictionary;

use std::path::PathBuf;

/// Name of the dictionary of the model's own neurons: `features/neurons.sqlite`.
pub const NEURONS: &str = "neurons";

pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a dictionary.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no dictionary at {path}\n  build it: monosem features build")]
    Missing { path: PathBuf },
    #[error("{path} is dictionary version {found}, this program reads version {expected}\n  rebuild it: monosem features build")]
    Version { path: PathBuf, found: i64, expected: i64 },
    #[error("cannot use the dictionary {path}: {source}\n  if it is damaged, delete it and run: monosem features build")]
    Sql { path: PathBuf, source: rusqlite::Error },
    #[error("{path} is damaged: {what}\n  rebuild it: monosem features build")]
    Corrupt { path: PathBuf, what: String },
    #[error("there is no {kind} {id}: the dictionary holds 0 to {last}")]
    NoFeature { kind: &'static str, id: u32, last: u32 },
    #[error("{path} was made from {input} {found}, but {input} is now {expected}\n  rebuild it: monosem features build")]
    Stale { path: PathBuf, input: &'static str, found: String, expected: String },
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Artifact(#[from] crate::artifact::Error),
    #[error("interrupted: the old dictionary is untouched, the pass over the text is saved")]
    Interrupted,
}
