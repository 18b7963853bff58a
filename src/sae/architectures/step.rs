//! What a training step and an architecture tell each other.

use std::ops::Range;

/// Which latents of a row take part in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// Those with z > 0.
    Positive,
    /// The k largest z of a row, those above zero.
    TopK { k: usize },
    /// The B k largest z of the batch, those above zero; B k is rounded.
    BatchTopK { k: f64 },
    /// Those with z > 0 and z > the first vector - margin: what is on, and what a pseudo-derivative reaches.
    Above { margin: f32 },
    /// One after the other, out of what is left of the row (`sae::pursuit`), k at most, until a norm of `least`. A step of its own.
    Pursuit { k: usize, least: f32 },
}

/// Nested reconstructions: level l sees the entries before `ends[l]` and adds `weights[l]` times its squared error to the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels {
    /// Ascending; the last one is all.
    pub ends: Vec<usize>,
    pub weights: Vec<f64>,
    pub nesting: Nesting,
    /// Whether what earlier levels reconstruct is held fixed in the losses of all levels but the last.
    pub detached: bool,
}

impl Levels {
    /// The level that is the SAE's own reconstruction; ranks behind it are seen in training alone.
    pub fn main(&self) -> usize {
        match self.nesting {
            Nesting::Latent => self.ends.len() - 1,
            Nesting::Rank => 0,
        }
    }
}

/// What is counted in [`Levels::ends`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// The number of a latent.
    Latent,
    /// The rank of an activation among those of its row, largest first.
    Rank,
}

/// The active latents of one row in the middle of a step. All slices are (K,), one element to an active latent.
#[derive(Debug)]
pub struct Entries<'a> {
    pub latent: &'a [u32],
    /// Pre-activations.
    pub z: &'a [f32],
    pub act: &'a mut [f32],
    /// On entry to `backward` the gradient of act, on return that of z.
    pub d_pre: &'a mut [f32],
    /// Gradients of the vectors, each of them (all entries of the chunk,); those of this row are in `range`.
    pub d_vectors: &'a mut [Vec<f32>],
    pub range: Range<usize>,
    /// Coefficient of the sparsity penalty divided by the rows of the batch.
    pub sparsity: f32,
    /// 2 / B: what an error is multiplied by to be a gradient.
    pub scale: f32,
    /// What is reconstructed, (E,).
    pub target: &'a [f32],
    /// (F,): decoder norms where these are free, else 1.
    pub norms: &'a [f32],
    /// (F,), (F, E) and (E,)
    pub b_enc: &'a [f32],
    pub w_dec: &'a [f32],
    pub b_dec: &'a [f32],
    /// The architecture's own terms of this row's loss: those weighed by the sparsity coefficient without it, and the others.
    pub penalty: f64,
    pub other: f64,
}

/// The gradients of one latent before they are projected, clipped and used.
#[derive(Debug)]
pub struct LatentStep<'a> {
    pub latent: usize,
    /// The trained rows, (D,) and (E,).
    pub w_enc: &'a [f32],
    pub w_dec: &'a [f32],
    pub b_enc: f32,
    pub vectors: &'a [Vec<f32>],
    /// Gradient with respect to the encoder row that the latent is read with.
    pub d_w_enc: &'a mut [f32],
    pub d_w_dec: &'a mut [f32],
    pub d_b_enc: &'a mut f32,
    /// One for each vector.
    pub d_vectors: &'a mut [f32],
    /// Its decoder norm where that is free, else 1.
    pub norm: f32,
    /// Sum of d_z over the rows: what reaches b_dec through the encoder is this times the encoder row.
    pub sum_d_pre: &'a mut f32,
    /// The architecture's own terms of the loss of the whole batch.
    pub loss: &'a mut f64,
    /// Sum of xc over the rows of the batch, (D,), and the number of rows.
    pub sum_centred: &'a [f32],
    pub batch: usize,
}

/// What a selection rule is made of.
#[derive(Debug, Clone, Copy)]
pub struct Trained<'a> {
    /// (F,)
    pub b_enc: &'a [f32],
    pub vectors: &'a [Vec<f32>],
    /// Running mean of the least activation that was kept (BatchTopK); 0 before the first step.
    pub kept: f64,
    /// The same of the selection before the refining step.
    pub kept_first: f64,
    /// (F,): activations in the units asked for over those of training; empty: all 1.
    pub factors: &'a [f32],
}

impl Trained<'_> {
    pub fn factor(&self, latent: usize) -> f32 {
        self.factors.get(latent).copied().unwrap_or(1.0)
    }
}
