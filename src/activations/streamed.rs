//! Rows straight from the model.

use super::{Result, ShuffleConfig, Shuffled, WindowRows, check};
use crate::corpus::{Split, TokenStream};
use crate::lm::{Engine, HookPoint};
use std::io;

/// The rows of windows as the model computes them; no work is done above the hook.
pub struct ModelRows<'a> {
    engine: &'a mut dyn Engine,
    hook: HookPoint,
    d_in: usize,
}

impl<'a> ModelRows<'a> {
    /// Rows at `hook`, which must be in the engine's model.
    pub fn new(engine: &'a mut dyn Engine, hook: HookPoint) -> Self {
        let d_in = hook.d_in(engine.config());
        ModelRows { engine, hook, d_in }
    }
}

impl WindowRows for ModelRows<'_> {
    fn d_in(&self) -> usize {
        self.d_in
    }

    fn fill(&mut self, windows: &[u64], ids: &[u32], rows: &mut [f32]) -> io::Result<()> {
        self.engine.forward_to(ids, ids.len() / windows.len(), self.hook, rows);
        Ok(())
    }
}

/// Activation rows of the training documents, harvested while they are consumed. See [`Shuffled`] for what is promised.
pub type Streamed<'a> = Shuffled<'a, ModelRows<'a>>;

impl<'a> Streamed<'a> {
    /// Rows of [`Split::Train`] at `hook`, windows of the model's n_ctx.
    pub fn open(engine: &'a mut dyn Engine, stream: &'a TokenStream, hook: HookPoint, config: ShuffleConfig) -> Result<Self> {
        check(engine.config(), hook, stream)?;
        let n_ctx = engine.config().n_ctx;
        let windows = config.windows(stream.windows(Split::Train, n_ctx), n_ctx);
        Shuffled::over(ModelRows::new(engine, hook), stream, windows, n_ctx, config)
    }
}
