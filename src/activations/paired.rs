//! Rows of two caches side by side, as a transcoder learns from them: what it reads, then what it reconstructs.

use super::cached::CachedRows;
use super::{Error, Result, ShuffleConfig, Shuffled, WindowRows};
use crate::corpus::TokenStream;
use std::io;

/// The rows of the same windows in two caches.
pub struct PairedRows {
    input: CachedRows,
    target: CachedRows,
    /// Of each cache in turn, one window.
    window: Vec<f32>,
}

impl WindowRows for PairedRows {
    fn d_in(&self) -> usize {
        self.input.d_in() + self.target.d_in()
    }

    fn fill(&mut self, windows: &[u64], ids: &[u32], rows: &mut [f32]) -> io::Result<()> {
        let (n_ctx, d) = (self.input.n_ctx(), self.d_in());
        for (window, rows) in windows.iter().zip(rows.chunks_exact_mut(n_ctx * d)) {
            let mut from = 0;
            for part in [&mut self.input, &mut self.target] {
                let width = part.d_in();
                self.window.resize(n_ctx * width, 0.0);
                part.fill(std::slice::from_ref(window), ids, &mut self.window)?;
                rows.chunks_exact_mut(d).zip(self.window.chunks_exact(width)).for_each(|(row, x)| row[from..from + width].copy_from_slice(x));
                from += width;
            }
        }
        Ok(())
    }
}

/// The same rows in the same order as [`Streamed::open_both`](super::Streamed::open_both), bit for bit where both caches are f32 and hold the windows that it would read.
pub type Paired<'a> = Shuffled<'a, PairedRows>;

impl<'a> Paired<'a> {
    /// The windows that both caches hold.
    ///
    /// # Errors
    /// [`Error::Order`] where the second is not of a later hook, [`Error::OtherWindows`] where they were cut into different windows.
    pub fn open(input: CachedRows, target: CachedRows, stream: &'a TokenStream, config: ShuffleConfig) -> Result<Self> {
        if !input.hook().is_before(&target.hook()) {
            return Err(Error::Order { hook: input.hook(), target: target.hook() });
        }
        let n_ctx = input.n_ctx();
        if n_ctx != target.n_ctx() {
            return Err(Error::OtherWindows { hook: input.hook(), n_ctx, target: target.hook(), target_n_ctx: target.n_ctx() });
        }
        let (a, b) = (input.windows(), target.windows());
        let both = a.start.max(b.start)..a.end.min(b.end);
        Shuffled::over(PairedRows { input, target, window: vec![] }, stream, both, n_ctx, config)
    }
}
