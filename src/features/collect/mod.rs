//! One streaming pass over windows of text -> statistics and examples of every unit. Sees token ids, document numbers and sparse
//! activations; does not know where they come from.
//!
//! U = units, B = rows of a batch. Memory, bounded whatever the length of the text: per unit at most
//! `n_top + n_random + 128 n_per_bin` firings of at most `24 + 8 (n_before + 1 + n_after)` bytes (in practice some 12 of the 128 bins
//! are used and a few neighbours are active), 2 KiB of histogram, and 48 bytes for each of at most
//! `max_token_slots / U` firing tokens.

mod finish;
mod tokens;
mod unit;

#[cfg(test)]
mod tests;

pub use finish::{Collected, Group};
pub use tokens::{TokenMass, effective_tokens};
pub use unit::Firing;

use crate::artifact::seed;
use crate::sae::SparseRows;
use rand::Rng;
use rayon::prelude::*;
use unit::{Unit, mix};

/// How much is kept.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CollectSettings {
    /// Tokens shown before and after a firing; at most 127.
    pub n_before: usize,
    pub n_after: usize,
    /// Strongest examples, one per document.
    pub n_top: usize,
    /// Examples drawn uniformly from all firings.
    pub n_random: usize,
    /// Firings sampled in each of the four bins per doubling, from which intervals draw.
    pub n_per_bin: usize,
    /// Intervals of equal width between 0 and the maximum, and examples in each.
    pub n_intervals: usize,
    pub n_per_interval: usize,
    /// Firing tokens that all units together may keep apart.
    pub max_token_slots: usize,
    pub seed: u64,
}

impl Default for CollectSettings {
    fn default() -> Self {
        CollectSettings {
            n_before: 64,
            n_after: 16,
            n_top: 20,
            n_random: 10,
            n_per_bin: 4,
            n_intervals: 5,
            n_per_interval: 5,
            max_token_slots: 16 << 20,
            seed: 0,
        }
    }
}

/// Whole windows of text, one after another, of `n_ctx` tokens each.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    pub n_ctx: usize,
    /// First token of each window in the stream, rising.
    pub t0: &'a [u64],
    /// Shape (B,).
    pub ids: &'a [u32],
    /// Document of each token, shape (B,).
    pub docs: &'a [u32],
    /// Whether a token counts (`<|endoftext|>` and first positions do not), shape (B,).
    pub counted: &'a [bool],
}

impl Windows<'_> {
    fn t(&self, row: u32) -> u64 {
        self.t0[row as usize / self.n_ctx] + (row as usize % self.n_ctx) as u64
    }
}

/// Units of one block of the parallel loops; fixed, so that nothing depends on the number of threads.
const BLOCK: usize = 32;

/// The state of the pass.
pub struct Collector {
    settings: CollectSettings,
    units: Vec<Unit>,
    key: u64,
    n_tokens: u64,
    columns: Columns,
}

impl Collector {
    pub fn new(n_units: usize, settings: CollectSettings) -> Self {
        assert!(settings.n_before < 128 && settings.n_after < 128, "{} and {} tokens of context, at most 127", settings.n_before, settings.n_after);
        let key = seed::rng(settings.seed, "features/sample", 0).next_u64();
        Collector { units: vec![Unit::default(); n_units], key, settings, n_tokens: 0, columns: Columns::default() }
    }

    /// Tokens counted so far.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Takes the activations of the next windows. Batches must come in order of t; how the text is cut into batches does not matter.
    pub fn add(&mut self, batch: Windows, rows: &SparseRows) {
        let n_rows = batch.ids.len();
        assert!(
            rows.n_rows() == n_rows && batch.docs.len() == n_rows && batch.counted.len() == n_rows && batch.t0.len() * batch.n_ctx == n_rows,
            "{n_rows} tokens in {} windows, activations of {}, {} documents, {} counted",
            batch.t0.len(),
            rows.n_rows(),
            batch.docs.len(),
            batch.counted.len()
        );
        self.n_tokens += batch.counted.iter().filter(|&&c| c).count() as u64;
        let Collector { settings, units, key, columns, .. } = self;
        columns.fill(units.len(), batch.counted, rows);
        let cap = (settings.max_token_slots / units.len().max(1)).max(16);
        units.par_chunks_mut(BLOCK).enumerate().for_each(|(block, units)| {
            for (i, unit) in units.iter_mut().enumerate() {
                let u = block * BLOCK + i;
                let keys = [mix(*key ^ (2 * u as u64)), mix(*key ^ (2 * u as u64 + 1))];
                unit.take(settings, cap, keys, &batch, columns.of(u));
            }
        });
    }

    /// What the dictionary keeps of each unit.
    pub fn finish(self) -> Vec<Collected> {
        let Collector { settings, units, .. } = self;
        units.into_par_iter().map(|unit| finish::finish(&settings, unit)).collect()
    }
}

/// The batch turned over: the firings of each unit, rows rising. Counting sort; buffers are kept between batches.
#[derive(Default)]
struct Columns {
    start: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl Columns {
    fn fill(&mut self, n_units: usize, counted: &[bool], rows: &SparseRows) {
        self.start.clear();
        self.start.resize(n_units + 2, 0);
        let counted_rows = || (0..rows.n_rows()).filter(|&r| counted[r]);
        for r in counted_rows() {
            for &unit in rows.row(r).0 {
                self.start[unit as usize + 2] += 1;
            }
        }
        for u in 0..n_units {
            self.start[u + 2] += self.start[u + 1];
        }
        self.entries.resize(self.start[n_units + 1], (0, 0.0));
        // start[u + 1] is where unit u's next entry goes; at the end it is where unit u + 1 begins.
        for r in counted_rows() {
            let (units, acts) = rows.row(r);
            for (&unit, &act) in units.iter().zip(acts) {
                let at = &mut self.start[unit as usize + 1];
                self.entries[*at] = (r as u32, act);
                *at += 1;
            }
        }
    }

    fn of(&self, unit: usize) -> &[(u32, f32)] {
        &self.entries[self.start[unit]..self.start[unit + 1]]
    }
}
