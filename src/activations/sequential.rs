//! Windows in their order, with token ids: what statistics, the dictionary and evaluation read.

use super::{Result, check, counts};
use crate::corpus::{Split, TokenStream};
use crate::lm::{Engine, HookPoint};
use std::ops::Range;

/// Whole windows that follow one another in the stream. n = windows x n_ctx tokens.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'b> {
    /// Index in the stream of the first token; token i of the batch is `t0 + i`.
    pub t0: u64,
    /// (n,)
    pub ids: &'b [u32],
    /// (n, d_in)
    pub rows: &'b [f32],
    pub n_ctx: usize,
    pub end_of_text: u32,
}

impl Batch<'_> {
    /// Whether row `i` is used for statistics: not `<|endoftext|>`, not the first position of its window.
    pub fn counts(&self, i: usize) -> bool {
        counts(self.ids[i], i % self.n_ctx, self.end_of_text)
    }
}

/// Iterates over windows of a split in order; lends one batch at a time.
pub struct Sequential<'a> {
    engine: &'a mut dyn Engine,
    stream: &'a TokenStream,
    hook: HookPoint,
    windows: Range<u64>,
    per_batch: u64,
    ids: Vec<u32>,
    rows: Vec<f32>,
}

impl<'a> Sequential<'a> {
    /// All windows of `split`, or the first that hold `n_tokens` (rounded up to whole windows).
    pub fn open(engine: &'a mut dyn Engine, stream: &'a TokenStream, hook: HookPoint, split: Split, n_tokens: Option<u64>) -> Result<Self> {
        let n_ctx = engine.config().n_ctx;
        let mut windows = stream.windows(split, n_ctx);
        if let Some(n_tokens) = n_tokens {
            windows.end = windows.end.min(windows.start + n_tokens.div_ceil(n_ctx as u64));
        }
        Self::over(engine, stream, hook, windows)
    }

    /// The given windows of the stream.
    pub fn over(engine: &'a mut dyn Engine, stream: &'a TokenStream, hook: HookPoint, windows: Range<u64>) -> Result<Self> {
        check(engine.config(), hook, stream)?;
        let per_batch = (4096 / engine.config().n_ctx).max(1) as u64;
        Ok(Sequential { engine, stream, hook, windows, per_batch, ids: Vec::new(), rows: Vec::new() })
    }

    /// Tokens still to come.
    pub fn n_tokens(&self) -> u64 {
        (self.windows.end - self.windows.start) * self.engine.config().n_ctx as u64
    }

    /// The next batch of windows, `None` at the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Batch<'_>> {
        if self.windows.is_empty() {
            return None;
        }
        let n_ctx = self.engine.config().n_ctx;
        let d_in = self.hook.d_in(self.engine.config());
        let end = self.windows.end.min(self.windows.start + self.per_batch);
        let n = (end - self.windows.start) as usize * n_ctx;
        let t0 = self.windows.start * n_ctx as u64;
        self.ids.resize(n, 0);
        self.rows.resize(n * d_in, 0.0);
        self.stream.read(t0, &mut self.ids);
        self.engine.forward_to(&self.ids, n_ctx, self.hook, &mut self.rows);
        self.windows.start = end;
        Some(Batch { t0, ids: &self.ids, rows: &self.rows, n_ctx, end_of_text: self.stream.end_of_text() })
    }
}
