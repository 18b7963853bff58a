//! Transcoders: sparse autoencoders that read one place of a model and reconstruct another, e.g. the output of an MLP from its input, so that latents stand
//! for what the MLP does rather than for what it holds (Dunefsky et al. 2024). A skip transcoder adds a linear map from input to output, trained along,
//! which takes over what needs no latent (Paulo et al. 2025).
//!
//! D = d_in, E = d_out. For a row x (D,) with its target y (E,), each in the units of training:
//!
//! z = w_enc x + b_enc, a = act(z), y_hat = sum a_j w_dec[j] + b_dec (+ w_skip x), loss = |y_hat - y|^2 + what the recipe adds
//! d_w_skip = sum over rows of g x^T with g = 2 (y_hat - y) / B
//!
//! Everything else is as in an autoencoder ([`super::architectures`]), but that b_dec is never taken from the input: it lives elsewhere. Encoder and decoder begin
//! with directions of their own, w_skip with zeros.
//!
//! A source serves rows of D + E numbers, target behind input, so that what shuffles and caches them need not know.

use super::Recipe;
use super::encode::CHUNK;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What is reconstructed in place of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Width of what is reconstructed.
    pub d_out: usize,
    /// Whether a linear map of the input is part of the reconstruction.
    #[serde(default)]
    pub skip: bool,
}

impl Target {
    /// Why a recipe has no transcoder, if it has none.
    pub(super) fn check(&self, recipe: &Recipe) -> Result<(), String> {
        if self.d_out == 0 {
            return Err("d_out is 0; it is the width of what is reconstructed".into());
        }
        if recipe.refine().is_some() {
            return Err("refine reads what is left of the input, of which a transcoder reconstructs nothing; leave refine out".into());
        }
        if !recipe.transcodes() {
            let all = Recipe::all();
            let others: Vec<&str> = all.iter().filter(|other| other.transcodes()).map(Recipe::name).collect();
            return Err(format!("{} has no transcoder: its equations know one place alone; use {}", recipe.name(), others.join(", ")));
        }
        Ok(())
    }
}

/// What makes a finished SAE a transcoder. Shapes: E = d_out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transcoder {
    pub d_out: usize,
    /// (E, D), in raw units; empty where there is no linear path.
    pub w_skip: Vec<f32>,
}

/// Splits rows (n, D + E) into inputs (n, D) and targets (n, E).
pub(super) fn split(rows: &[f32], d: usize, x: &mut Vec<f32>, target: &mut Vec<f32>, d_out: usize) {
    let n = rows.len() / (d + d_out);
    x.resize(n * d, 0.0);
    target.resize(n * d_out, 0.0);
    (rows.par_chunks(CHUNK * (d + d_out)), x.par_chunks_mut(CHUNK * d), target.par_chunks_mut(CHUNK * d_out)).into_par_iter().for_each(
        |(rows, x, target)| {
            for ((row, x), target) in rows.chunks_exact(d + d_out).zip(x.chunks_exact_mut(d)).zip(target.chunks_exact_mut(d_out)) {
                x.copy_from_slice(&row[..d]);
                target.copy_from_slice(&row[d..]);
            }
        },
    );
}

#[cfg(test)]
#[path = "transcoder_tests.rs"]
mod tests;
