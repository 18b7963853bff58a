//! The shape of a model.

use serde::{Deserialize, Serialize};

/// Non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    Relu,
    /// tanh approximation of GELU, `gelu_new` in Hugging Face files.
    Gelu,
}

/// GPT-2 architecture: learned positions, pre-LayerNorm, biases in linears, final LayerNorm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LmConfig {
    pub d_vocab: usize,
    pub n_ctx: usize,
    pub d_model: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub d_mlp: usize,
    pub activation: Activation,
    /// Unembedding shares the embedding's weights.
    pub tied: bool,
}

impl LmConfig {
    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }
}
