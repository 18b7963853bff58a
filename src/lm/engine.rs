//! What the rest of the program asks of the device that runs and trains a language model. The CPU engine is the reference; a GPU engine comes
//! as a second implementation. Schedules, data, logging and checkpoints are outside.

use super::{HookPoint, Lm, LmConfig, Weights};
use std::borrow::Cow;

/// Changes activations at a hook while a forward pass runs.
pub struct Edit<'a> {
    pub hook: HookPoint,
    /// Called once with all rows, shape (n_tokens, d_in of the hook), row i belonging to `ids[i]`.
    pub apply: &'a mut dyn FnMut(&mut [f32]),
}

/// What AdamW holds beside the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// First moments, laid out like the weights.
    pub first: Weights,
    pub second: Weights,
    /// Steps taken: the exponent of the bias correction.
    pub steps: u64,
}

impl Moments {
    /// Before the first step.
    pub fn zeros(config: &LmConfig) -> Self {
        Moments { first: Weights::zeros(config), second: Weights::zeros(config), steps: 0 }
    }
}

/// What one step needs beside the tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSettings {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Decoupled weight decay of matrices; vectors have none.
    pub weight_decay: f32,
    /// Largest global L2 norm of the gradient; larger ones are scaled down to it.
    pub clip: f32,
    /// Tokens in one pass of forward and backward, whole windows; the gradients of all passes are summed.
    pub pass_tokens: usize,
}

/// What one step did, before the update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean cross-entropy in nats over the tokens of the step.
    pub loss: f64,
    /// L2 norm of the whole gradient before clipping.
    pub grad_norm: f64,
}

/// One language model on one device. `ids` holds whole windows of `window` tokens each, one after another; attention stays inside a window.
pub trait Engine: Send {
    fn config(&self) -> &LmConfig;

    /// Activations at `hook`, shape rows (ids.len(), d_in). Does no work above the hook.
    fn forward_to(&mut self, ids: &[u32], window: usize, hook: HookPoint, rows: &mut [f32]);

    /// Activations at two hooks of one pass, the one behind the other in each row: shape rows (ids.len(), d_in + d_in). The first hook comes before the second.
    fn forward_to_both(&mut self, ids: &[u32], window: usize, (first, last): (HookPoint, HookPoint), rows: &mut [f32]) {
        let (d, e) = (first.d_in(self.config()), last.d_in(self.config()));
        let (mut x, mut y) = (vec![0.0; ids.len() * d], vec![0.0; ids.len() * e]);
        self.forward_to(ids, window, first, &mut x);
        self.forward_to(ids, window, last, &mut y);
        for ((row, x), y) in rows.chunks_exact_mut(d + e).zip(x.chunks_exact(d)).zip(y.chunks_exact(e)) {
            row[..d].copy_from_slice(x);
            row[d..].copy_from_slice(y);
        }
    }

    /// Cross-entropy in nats of `targets[i]` after `ids[i]`, shape nll (ids.len(),), optionally with an edit at a hook.
    /// Tokens x vocabulary logits never exist at once.
    fn nll(&mut self, ids: &[u32], targets: &[u32], window: usize, edit: Option<Edit>, nll: &mut [f32]);

    /// Logits after the given positions of `ids`, shape (positions.len(), d_vocab), optionally with an edit.
    fn logits(&mut self, ids: &[u32], window: usize, positions: &[usize], edit: Option<Edit>, logits: &mut [f32]);

    /// One AdamW step on the mean cross-entropy of `targets[i]` after `ids[i]`.
    fn step(&mut self, ids: &[u32], targets: &[u32], window: usize, settings: &StepSettings) -> StepReport;

    /// The model with its weights as they are now.
    fn lm(&self) -> Cow<'_, Lm>;

    /// All zero before the first step.
    fn moments(&self) -> Cow<'_, Moments>;

    /// Goes on with this model, of the same shape, from these moments.
    fn write(&mut self, lm: Lm, moments: Moments);
}
