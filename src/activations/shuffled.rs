//! The shuffle buffer: rows of windows, from wherever they come, in the order of a [`Plan`].

use super::plan::Refill;
use super::{Plan, Result, ShuffleConfig, counts};
use crate::artifact::{grouped, seed, size};
use crate::corpus::TokenStream;
use crate::sae::RowSource;
use rand::seq::SliceRandom;
use std::io;
use std::ops::Range;

/// Where the rows of windows come from: a model, or a cache on disk.
pub trait WindowRows: Send {
    fn d_in(&self) -> usize;

    /// Rows of the given windows of the stream, one after another: `ids` (windows.len() n_ctx,) are their tokens, `rows`
    /// (windows.len() n_ctx, d_in) is filled.
    fn fill(&mut self, windows: &[u64], ids: &[u32], rows: &mut [f32]) -> io::Result<()>;
}

/// Tokens that are run through the model at once, about; whole windows.
const BATCH_TOKENS: usize = 4096;

/// Rows of windows that count, shuffled, epoch after epoch without end. Each row is served once per epoch.
///
/// The rows served are a pure function of (stream, model, seed, buffer size, visits) and the position, so a resumed run reads the same
/// rows; [`RowSource::seek`] recomputes only the refill it lands in.
pub struct Shuffled<'a, S> {
    source: S,
    stream: &'a TokenStream,
    plan: Plan,
    at: Refill,
    /// Position of the first row of the refill `at`.
    base: u64,
    /// Rows of the refill that have been served.
    served: usize,
    /// Order of windows of the pass in `order_of`.
    order: Vec<u32>,
    order_of: Option<(u64, usize)>,
    filled: bool,
    /// (rows of the refill, d_in), in serving order.
    rows: Vec<f32>,
    /// Token index of each row of the buffer.
    t: Vec<u64>,
}

impl<'a, S: WindowRows> Shuffled<'a, S> {
    /// Plans an epoch over the given windows of the stream, the first so many that hold the rows that are asked for (reads their tokens once); the buffer is filled when
    /// the first row is asked for.
    pub fn over(source: S, stream: &'a TokenStream, windows: Range<u64>, n_ctx: usize, config: ShuffleConfig) -> Result<Self> {
        let buffer_rows = (config.buffer_mib << 20) / (4 * source.d_in());
        let mut taken = config.windows(windows.clone(), n_ctx);
        let mut plan = Plan::new(stream, taken.clone(), n_ctx, buffer_rows, config.seed, config.visits)?;
        // Where few tokens of a window count, its share of the rows is small.
        while config.max_rows.is_some_and(|rows| plan.rows_per_epoch() < rows) && taken.end < windows.end {
            taken.end = taken.end.saturating_add((taken.end - taken.start).div_ceil(8)).min(windows.end);
            plan = Plan::new(stream, taken.clone(), n_ctx, buffer_rows, config.seed, config.visits)?;
        }
        Ok(Self::with_plan(source, stream, plan))
    }

    pub(crate) fn with_plan(source: S, stream: &'a TokenStream, plan: Plan) -> Self {
        let at = Refill { epoch: 0, pass: 0, refill: 0 };
        Shuffled { source, stream, plan, at, base: 0, served: 0, order: Vec::new(), order_of: None, filled: false, rows: Vec::new(), t: Vec::new() }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Rows in the buffer now, served or not.
    pub fn buffered(&self) -> usize {
        self.t.len()
    }

    /// RAM that the buffer, its token indices and the plan take, bytes.
    pub fn memory_bytes(&self) -> u64 {
        let buffer = self.plan.max_refill_rows() as u64 * (4 * self.source.d_in() as u64 + 8 + 4);
        let batch = (BATCH_TOKENS.max(self.plan.n_ctx()) * (4 * self.source.d_in() + 4)) as u64;
        buffer + batch + 8 * self.plan.n_windows() as u64
    }

    /// One line for the story: buffer, memory, visits and how well it shuffles.
    pub fn describe(&self) -> String {
        format!(
            "shuffle buffer of {} rows, {}; {} rows per epoch, which first positions of windows and <|endoftext|> are not, in {} visit{} of each window; neighbours from one document {:.2} times as frequent as under a perfect permutation",
            grouped(self.plan.max_refill_rows() as u64),
            size(self.memory_bytes()),
            grouped(self.plan.rows_per_epoch()),
            self.plan.visits(),
            if self.plan.visits() == 1 { "" } else { "s" },
            self.plan.adjacency_ratio()
        )
    }

    /// Like [`RowSource::next_rows`], and fills `t` with the token index of each row.
    pub fn next_rows_with_t(&mut self, out: &mut [f32], t: &mut Vec<u64>) -> io::Result<usize> {
        t.clear();
        self.serve(out, Some(t))
    }

    fn serve(&mut self, out: &mut [f32], mut t: Option<&mut Vec<u64>>) -> io::Result<usize> {
        let d_in = self.source.d_in();
        assert_eq!(out.len() % d_in, 0, "rows of {d_in} do not fit a slice of {}", out.len());
        let n_asked = out.len() / d_in;
        let mut rest = out;
        while !rest.is_empty() {
            if !self.filled {
                self.fill()?;
            }
            let n = (self.t.len() - self.served).min(rest.len() / d_in);
            let (now, later) = rest.split_at_mut(n * d_in);
            now.copy_from_slice(&self.rows[self.served * d_in..][..n * d_in]);
            if let Some(t) = t.as_deref_mut() {
                t.extend_from_slice(&self.t[self.served..][..n]);
            }
            self.served += n;
            rest = later;
            if self.served == self.t.len() {
                self.base += self.served as u64;
                self.served = 0;
                self.at = self.plan.next(self.at);
                self.filled = false;
            }
        }
        Ok(n_asked)
    }

    /// Fills the buffer with the rows of refill `at`, each straight into its place in the permutation.
    fn fill(&mut self) -> io::Result<()> {
        if self.order_of != Some((self.at.epoch, self.at.pass)) {
            self.order = self.plan.order(self.at.epoch, self.at.pass);
            self.order_of = Some((self.at.epoch, self.at.pass));
        }
        let (d_in, n_ctx) = (self.source.d_in(), self.plan.n_ctx());
        let n_rows = self.plan.n_rows(self.at, &self.order) as usize;
        let mut places: Vec<u32> = (0..n_rows as u32).collect();
        places.shuffle(&mut seed::rng(self.plan.seed(), "activations/refill", self.plan.refill_index(self.at)));
        self.rows.resize(n_rows * d_in, 0.0);
        self.t.resize(n_rows, 0);

        let per_batch = (BATCH_TOKENS / n_ctx).max(1);
        let mut places = places.into_iter();
        let mut ids = vec![0; per_batch * n_ctx];
        let mut batch = vec![0.0; per_batch * n_ctx * d_in];
        let end_of_text = self.stream.end_of_text();
        for windows in self.order[self.plan.refill_range(self.at.refill)].chunks(per_batch) {
            let numbers: Vec<u64> = windows.iter().map(|&w| self.plan.stream_window(w)).collect();
            for (&w, ids) in numbers.iter().zip(ids.chunks_exact_mut(n_ctx)) {
                self.stream.read(w * n_ctx as u64, ids);
            }
            let (ids, batch) = (&ids[..windows.len() * n_ctx], &mut batch[..windows.len() * n_ctx * d_in]);
            self.source.fill(&numbers, ids, batch)?;
            for (i, &window) in windows.iter().enumerate() {
                let mut rank = 0;
                for position in 0..n_ctx {
                    if !counts(ids[i * n_ctx + position], position, end_of_text) {
                        continue;
                    }
                    if self.plan.takes(rank, window, self.at) {
                        let place = places.next().expect("the plan counted these rows") as usize;
                        self.rows[place * d_in..][..d_in].copy_from_slice(&batch[(i * n_ctx + position) * d_in..][..d_in]);
                        self.t[place] = numbers[i] * n_ctx as u64 + position as u64;
                    }
                    rank += 1;
                }
            }
        }
        assert_eq!(places.next(), None, "the plan counted more rows than the windows have");
        self.filled = true;
        Ok(())
    }
}

impl<S: WindowRows> RowSource for Shuffled<'_, S> {
    fn width(&self) -> usize {
        self.source.d_in()
    }

    /// Always fills all of `out`: epochs follow one another without end.
    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        self.serve(out, None)
    }

    fn position(&self) -> u64 {
        self.base + self.served as u64
    }

    fn seek(&mut self, position: u64) -> io::Result<()> {
        let (at, offset) = self.plan.locate(position);
        self.filled &= at == self.at;
        (self.at, self.base, self.served) = (at, position - offset, offset as usize);
        Ok(())
    }
}
