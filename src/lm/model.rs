//! The model's weights, in memory and in Hugging Face layout.

use super::LmConfig;
use crate::artifact::Result;
use std::path::Path;

/// A decoder with its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Lm {
    pub config: LmConfig,
    // ... the lm author lays the weights out here
}

impl Lm {
    /// Reads a Hugging Face GPT-2 folder.
    pub fn load(_dir: &Path) -> Result<Self> {
        todo!()
    }
    /// The direction in logit space of adding a vector at a hook: `direction` (d_in) through the rest of the block's linear maps and
    /// the unembedding, with the final LayerNorm's gain applied and its centring, its scale left out. Shape (d_vocab,).
    pub fn logit_effects(&self, _hook: super::HookPoint, _direction: &[f32]) -> Vec<f32> {
        todo!()
    }
}
