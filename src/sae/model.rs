//! A finished SAE: folded weights in raw model units, encode and decode.

use super::Origin;
use crate::artifact::Result;
use std::path::Path;

/// How pre-activations become activations.
#[derive(Debug, Clone, PartialEq)]
pub enum Select {
    Relu,
    /// The k largest pre-activations of a row, those above zero.
    TopK {
        k: usize,
    },
    /// `z` where `z > threshold[latent]`.
    JumpRelu {
        threshold: Vec<f32>,
    },
}

/// F = d_sae, D = d_in. Unit decoder rows, no input scaling left: what SAELens calls `normalize_activations: none`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sae {
    pub d_in: usize,
    pub d_sae: usize,
    pub select: Select,
    /// (F, D): one latent per row (transposed on disk).
    pub w_enc: Vec<f32>,
    /// (F,)
    pub b_enc: Vec<f32>,
    /// (F, D): decoder direction of each latent.
    pub w_dec: Vec<f32>,
    /// (D,)
    pub b_dec: Vec<f32>,
    /// Whether b_dec is subtracted from the input before encoding.
    pub apply_b_dec_to_input: bool,
}

/// Active latents of a batch of rows: row r has entries `row_start[r]..row_start[r + 1]`, latents ascending, acts > 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SparseRows {
    pub row_start: Vec<usize>,
    pub latent: Vec<u32>,
    pub act: Vec<f32>,
}

impl SparseRows {
    pub fn n_rows(&self) -> usize {
        self.row_start.len().saturating_sub(1)
    }
    /// (latents, acts) of one row.
    pub fn row(&self, r: usize) -> (&[u32], &[f32]) {
        let range = self.row_start[r]..self.row_start[r + 1];
        (&self.latent[range.clone()], &self.act[range])
    }
}

impl Sae {
    /// Reads `sae/<name>/` and replays its self-test.
    pub fn load(_dir: &Path) -> Result<Self> {
        todo!()
    }
    /// Writes `cfg.json`, `sae_weights.safetensors` and `selftest.safetensors` in SAELens' layout; `sample` (n, D) are raw model activations of
    /// which up to 64 become the self-test.
    pub fn save(&self, _dir: &Path, _origin: &Origin, _sample: &[f32]) -> Result<()> {
        todo!()
    }
    /// Encodes rows x (B, D) into `out` (reused between calls).
    pub fn encode(&self, _x: &[f32], _out: &mut SparseRows) {
        todo!()
    }
    /// x_hat (B, D) = b_dec + sum of act * decoder direction.
    pub fn decode(&self, _rows: &SparseRows, _x_hat: &mut [f32]) {
        todo!()
    }
    /// Decoder direction of a latent, (D,).
    pub fn direction(&self, latent: u32) -> &[f32] {
        &self.w_dec[latent as usize * self.d_in..][..self.d_in]
    }
}
