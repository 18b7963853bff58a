//! What the rest of the program asks of a language model. The CPU engine is the reference; a GPU engine comes as a second implementation.

use super::{HookPoint, LmConfig};

/// Changes activations at a hook while a forward pass runs.
pub struct Edit<'a> {
    pub hook: HookPoint,
    /// Called once with all rows, shape (n_tokens, d_in of the hook), row i belonging to `ids[i]`.
    pub apply: &'a mut dyn FnMut(&mut [f32]),
}

/// A language model that can be run. `ids` holds whole windows of `window` tokens each, one after another; attention stays inside a window.
pub trait Engine {
    fn config(&self) -> &LmConfig;

    /// Activations at `hook`, shape rows (ids.len(), d_in). Does no work above the hook.
    fn forward_to(&mut self, ids: &[u32], window: usize, hook: HookPoint, rows: &mut [f32]);

    /// Cross-entropy in nats of `targets[i]` after `ids[i]`, shape nll (ids.len(),), optionally with an edit at a hook.
    /// Tokens x vocabulary logits never exist at once.
    fn nll(&mut self, ids: &[u32], targets: &[u32], window: usize, edit: Option<Edit>, nll: &mut [f32]);

    /// Logits after the given positions of `ids`, shape (positions.len(), d_vocab), optionally with an edit.
    fn logits(&mut self, ids: &[u32], window: usize, positions: &[usize], edit: Option<Edit>, logits: &mut [f32]);
}
