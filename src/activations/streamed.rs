//! Rows straight from the model.

use super::{Error, Result, ShuffleConfig, Shuffled, WindowRows, check};
use crate::corpus::{Split, TokenStream};
use crate::lm::{Engine, HookPoint};
use std::io;

/// The rows of windows as the model computes them; no work is done above the last hook.
pub struct ModelRows<'a> {
    engine: &'a mut dyn Engine,
    hook: HookPoint,
    /// What a transcoder reconstructs: behind `hook` in each row.
    target: Option<HookPoint>,
}

impl<'a> ModelRows<'a> {
    /// Rows at `hook`, which must be in the engine's model.
    pub fn new(engine: &'a mut dyn Engine, hook: HookPoint) -> Self {
        ModelRows { engine, hook, target: None }
    }
}

impl WindowRows for ModelRows<'_> {
    fn d_in(&self) -> usize {
        [Some(self.hook), self.target].into_iter().flatten().map(|hook| hook.d_in(self.engine.config())).sum()
    }

    fn fill(&mut self, windows: &[u64], ids: &[u32], rows: &mut [f32]) -> io::Result<()> {
        let window = ids.len() / windows.len();
        match self.target {
            None => self.engine.forward_to(ids, window, self.hook, rows),
            Some(target) => self.engine.forward_to_both(ids, window, (self.hook, target), rows),
        }
        Ok(())
    }
}

/// Activation rows of the training documents, harvested while they are consumed. See [`Shuffled`] for what is promised.
pub type Streamed<'a> = Shuffled<'a, ModelRows<'a>>;

impl<'a> Streamed<'a> {
    /// Rows of [`Split::Train`] at `hook`, windows of the model's n_ctx.
    pub fn open(engine: &'a mut dyn Engine, stream: &'a TokenStream, hook: HookPoint, config: ShuffleConfig) -> Result<Self> {
        Self::open_both(engine, stream, hook, None, config)
    }

    /// The same with those at `target`, which comes after `hook`, behind them in each row: what a transcoder learns from.
    pub fn open_both(
        engine: &'a mut dyn Engine,
        stream: &'a TokenStream,
        hook: HookPoint,
        target: Option<HookPoint>,
        config: ShuffleConfig,
    ) -> Result<Self> {
        check(engine.config(), hook, stream)?;
        if let Some(target) = target {
            check(engine.config(), target, stream)?;
            if !hook.is_before(&target) {
                return Err(Error::Order { hook, target });
            }
        }
        let n_ctx = engine.config().n_ctx;
        let windows = stream.windows(Split::Train, n_ctx);
        Shuffled::over(ModelRows { engine, hook, target }, stream, windows, n_ctx, config)
    }
}
