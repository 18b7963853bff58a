//! Text from a model: one token at a time with cached keys and values, sampled so that two runs can share their draws.

use super::{HookPoint, Lm};
use crate::artifact::seed;
use rand::RngExt;

/// How the next token is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only the k likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together hold this much probability.
    pub top_p: Option<f32>,
    pub seed: u64,
}

/// An edit that is applied at a hook in every step. `apply` gets the rows of the tokens that are new in this step, (n_new, d_in).
pub struct GenerateEdit<'a> {
    pub hook: HookPoint,
    pub apply: &'a mut dyn FnMut(&mut [f32]),
}

/// The uniform draw in [0, 1) of step `step`: a pure function of its arguments, so that an edited and an unedited run share their luck.
pub fn uniform(seed: u64, step: u64) -> f64 {
    seed::rng(seed, "lm/generate", step).random()
}

/// A model in the middle of a text.
pub struct Generator<'a> {
    lm: &'a Lm,
}

impl<'a> Generator<'a> {
    pub fn new(lm: &'a Lm) -> Self {
        Generator { lm }
    }

    /// Forgets everything, reads `ids` (at least one; the last n_ctx are used) and returns the logits after the last, (d_vocab,).
    pub fn prefill(&mut self, _ids: &[u32], _edit: Option<&mut GenerateEdit>) -> &[f32] {
        let _ = self.lm;
        todo!()
    }

    /// Reads one more token and returns the logits after it, (d_vocab,).
    pub fn step(&mut self, _id: u32, _edit: Option<&mut GenerateEdit>) -> &[f32] {
        todo!()
    }
}

/// `n` tokens after `prompt`; stops early after the token `stop`, which is not returned.
pub fn generate(_lm: &Lm, _prompt: &[u32], _n: usize, _sampling: &Sampling, _stop: Option<u32>, _edit: Option<GenerateEdit>) -> Vec<u32> {
    todo!()
}
