//! What the training loop asks of the device that does the numbers. Schedules, data, resampling decisions, logging and checkpoints are outside.
//!
//! B = rows in the batch, D = d_in, E = d_out (= D but for transcoders), F = d_sae. All matrices are row-major.

use super::{Recipe, SparseRows};
use std::borrow::Cow;

/// Weights as they are trained, in the units of the (normalised) rows that the engine is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params {
    /// (F, D): one latent per row.
    pub w_enc: Vec<f32>,
    /// (F,)
    pub b_enc: Vec<f32>,
    /// (F, E)
    pub w_dec: Vec<f32>,
    /// (E,)
    pub b_dec: Vec<f32>,
    /// (E, D): the linear path of a skip transcoder; empty where there is none.
    pub w_skip: Vec<f32>,
    /// What else the architecture trains ([`super::architectures::Architecture::vectors`]), (F,) each.
    pub vectors: Vec<Vec<f32>>,
}

impl Params {
    /// The name of a weight that is no number any more.
    pub fn not_finite(&self) -> Option<&'static str> {
        let Params { w_enc, b_enc, w_dec, b_dec, w_skip, vectors } = self;
        let named = [("W_enc", w_enc), ("b_enc", b_enc), ("W_dec", w_dec), ("b_dec", b_dec), ("W_skip", w_skip)];
        let all = named.into_iter().chain(vectors.iter().map(|vector| ("a trained vector of the latents", vector)));
        all.into_iter().find(|(_, values)| values.iter().any(|v| !v.is_finite())).map(|(name, _)| name)
    }
}

/// Everything an engine holds between steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub params: Params,
    /// Adam's first moments, laid out like the weights.
    pub first: Params,
    /// Adam's second moments.
    pub second: Params,
    /// Steps taken: the exponent of Adam's bias correction.
    pub steps: u64,
    /// Running mean of the least activation that a selection over the batch kept; 0 where there is none.
    pub kept: f64,
    /// The same of the selection before a refining step.
    pub kept_first: f64,
    /// The step at which the selection was last changed: what was kept before says nothing of it.
    pub kept_since: u64,
}

/// What one step needs beside the rows.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings<'a> {
    pub lr: f64,
    /// Coefficient of the sparsity penalty beside the squared error summed over d_out; below 0 a reward ([`super::Control`]); unused where there is no penalty.
    pub sparsity: f64,
    /// Dead latents, ascending, for AuxK; empty: no auxiliary loss.
    pub dead: &'a [u32],
}

/// What one step did. Means over the rows of the batch, before the update.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepReport {
    /// mse + sparsity coefficient * penalty + aux + other.
    pub loss: f64,
    /// Squared error summed over d_out.
    pub mse: f64,
    /// What the sparsity coefficient weighs, e.g. the sum of activations; weighted by decoder norms where these are free. 0 where there is no penalty.
    pub penalty: f64,
    /// Active latents.
    pub l0: f64,
    /// The auxiliary loss with its coefficient and scale.
    pub aux: f64,
    /// Further terms: nested reconstructions, an architecture's own.
    pub other: f64,
    /// Norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// Mean squared distance of what is reconstructed from its mean over the batch.
    pub variance: f64,
}

/// New weights of one latent.
#[derive(Debug, Clone, PartialEq)]
pub struct Replacement {
    pub latent: u32,
    /// (D,)
    pub w_enc: Vec<f32>,
    pub b_enc: f32,
    /// (E,)
    pub w_dec: Vec<f32>,
}

/// One device that trains one SAE.
pub trait Engine {
    fn d_in(&self) -> usize;
    fn d_sae(&self) -> usize;

    /// The architecture as its schedule has it from now on.
    fn set_recipe(&mut self, recipe: &Recipe);

    /// One step on rows (B, D); of a transcoder (B, D + E), the target behind the input.
    fn step(&mut self, rows: &[f32], settings: &StepSettings) -> StepReport;

    /// How many rows of the last step each latent fired on, (F,).
    fn fires(&self) -> &[u32];

    /// Active latents of rows x (B, D), as the saved SAE would select them.
    fn encode(&mut self, x: &[f32], out: &mut SparseRows);

    /// x_hat (B, E) of rows x (B, D) that were encoded.
    fn decode(&mut self, x: &[f32], rows: &SparseRows, x_hat: &mut [f32]);

    /// Borrowed where the engine holds it so, else a copy.
    fn read(&self) -> Cow<'_, State>;

    /// Replaces everything. Panics on other shapes.
    fn write(&mut self, state: State);

    /// Puts new weights in place of these latents' and resets every Adam moment of theirs.
    fn replace_latents(&mut self, replacements: &[Replacement]);

    /// Puts latent `order[i]`, with its moments, at place i.
    fn permute_latents(&mut self, order: &[u32]);
}
