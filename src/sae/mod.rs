//! Activations -> sparse autoencoder. Reads rows of numbers from a [`RowSource`]; writes `sae/<name>/` in SAELens layout.
//! Does not know the language model, text or tokens.

mod model;
mod rows;

pub use model::{Sae, Select, SparseRows};
pub use rows::RowSource;

use serde::{Deserialize, Serialize};

/// A latent's number. Bulk arrays of latent numbers are plain `u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LatentId(pub u32);
