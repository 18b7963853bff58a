//! One streaming pass over windows of text -> statistics and examples of every unit. Sees token ids, document numbers, sparse activations and
//! the rows they were made from; does not know where they come from.
//!
//! - `unit`: what is kept of one unit; `bins`, `tokens`: its histogram and its tokens;
//! - `coactive`: who fires on the same tokens, and who goes along with whom; `correlate`: correlation with the hook's own coordinates;
//! - `silent`: windows kept whole, for examples where a unit is silent on its own token;
//! - `place`: parts of the pass and bins of the position in a window; `finish`: from all this to what is stored.
//!
//! U = units, B = rows of a batch, D = d_in. Memory, bounded whatever the length of the text: per unit at most
//! `n_top_kept + n_random + 256 n_per_bin` firings of at most `64 + 8 (n_before + 1 + n_after)` bytes (in practice some 24 of the 256 bins
//! are used and a few neighbours are active), 16 bytes for each of the 16 bins per doubling that it uses, 32 bytes for each of at most
//! `max_token_slots / U` firing tokens, 12 `n_sketch` bytes of sketch; 8 D bytes of correlations; and `max_kept` activations of 8 bytes in all.

mod bins;
mod coactive;
mod correlate;
mod finish;
mod place;
mod silent;
mod tokens;
mod unit;

#[cfg(test)]
mod tests;

pub use coactive::Correlated;
pub use finish::{Collected, Group};
pub use tokens::{TokenMass, TokenUnits, effective_tokens};
pub use unit::Firing;

use crate::artifact::seed;
use crate::kernels::wide::add_rows_wide;
use crate::sae::SparseRows;
use coactive::{Near, Sketched};
use correlate::Moments;
use place::Places;
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use silent::Kept;
use unit::{Shared, Unit, mix};

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectSettings {
    /// Tokens shown before and after a firing; at most 127.
    pub n_before: usize,
    pub n_after: usize,
    /// Strongest examples, one per document.
    pub n_top: usize,
    /// Examples drawn uniformly from all firings.
    pub n_random: usize,
    /// Firings sampled in each of the eight bins per doubling, from which intervals and quantiles draw.
    pub n_per_bin: usize,
    /// Intervals of equal width between 0 and the maximum, and examples in each.
    pub n_intervals: usize,
    pub n_per_interval: usize,
    /// Equal shares of the firings by rank of activation, and examples in each.
    pub n_quantiles: usize,
    pub n_per_quantile: usize,
    /// Examples where a unit is silent on one of its top tokens, and the activations kept to find them, all units together.
    pub n_zero: usize,
    pub max_kept: usize,
    /// Equal parts of the pass for which densities are kept.
    pub n_parts: usize,
    /// Size of a unit's sketch; estimates of co-activation have a standard deviation of at most 1 / (2 sqrt(n_sketch)). Units listed by it.
    pub n_sketch: usize,
    pub n_coactive: usize,
    /// Coordinates of the hook, and units, listed by correlation.
    pub n_correlated: usize,
    /// Correlations with the hook are over every so-many-th window. 1 = all.
    pub correlate_every: u64,
    /// Memory that correlations may take, in bytes; above it there are none.
    pub max_correlation_bytes: usize,
    /// Firing tokens that all units together may keep apart.
    pub max_token_slots: usize,
    /// Units listed for each token.
    pub n_units_of_token: usize,
    pub seed: u64,
}

impl Default for CollectSettings {
    fn default() -> Self {
        CollectSettings {
            n_before: 64,
            n_after: 16,
            n_top: 15,
            n_random: 10,
            n_per_bin: 3,
            n_intervals: 5,
            n_per_interval: 3,
            n_quantiles: 10,
            n_per_quantile: 2,
            n_zero: 4,
            max_kept: 8 << 20,
            n_parts: 32,
            n_sketch: 256,
            n_coactive: 10,
            n_correlated: 5,
            correlate_every: 1,
            max_correlation_bytes: 1 << 30,
            max_token_slots: 16 << 20,
            n_units_of_token: 20,
            seed: 0,
        }
    }
}

impl CollectSettings {
    /// Strongest firings kept during the pass: some will turn out to be nearly the same text and be shown as one.
    pub fn n_top_kept(&self) -> usize {
        2 * self.n_top
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
    /// Activations at the hook, shape (B, D); empty where D = 0 was said to [`Collector::new`].
    pub x: &'a [f32],
}

/// Units of one block of the parallel loops; fixed, so that nothing depends on the number of threads.
const BLOCK: usize = 32;

/// What a pass will be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub n_units: usize,
    /// Width of the hook, for correlations with its coordinates; 0 for none.
    pub d_in: usize,
    pub n_ctx: usize,
    /// Windows that will be added in all: the parts of the pass are equal shares of them.
    pub n_windows: u64,
}

/// The state of the pass. Saved and read back it goes on with the same bits.
#[derive(Serialize, Deserialize)]
pub struct Collector {
    settings: CollectSettings,
    shape: Shape,
    units: Vec<Unit>,
    moments: Moments,
    kept: Kept,
    places: Places,
    /// Occurrences of each token that counted.
    occurrences: Vec<u64>,
    n_tokens: u64,
    n_windows: u64,
    keys: [u64; 3],
    #[serde(skip)]
    columns: Columns,
}

/// What a pass found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    pub units: Vec<Collected>,
    pub tokens: Vec<TokenUnits>,
    pub n_tokens: u64,
    pub n_windows: u64,
    /// Tokens counted in each part of the pass, and in each bin of the position with the bins' edges.
    pub time_tokens: Vec<u64>,
    pub position_edges: Vec<u32>,
    pub position_tokens: Vec<u64>,
    /// Tokens that correlations are over.
    pub correlated_over: u64,
}

impl Collector {
    pub fn new(shape: Shape, settings: CollectSettings) -> Self {
        assert!(settings.n_before < 128 && settings.n_after < 128, "{} and {} tokens of context, at most 127", settings.n_before, settings.n_after);
        assert!(settings.n_parts > 0 && settings.correlate_every > 0, "{} parts, every {} windows", settings.n_parts, settings.correlate_every);
        let mut keys = seed::rng(settings.seed, "features/sample", 0);
        let correlate = shape.n_units * shape.d_in * size_of::<f64>() <= settings.max_correlation_bytes;
        Collector {
            units: vec![Unit::default(); shape.n_units],
            moments: Moments::new(shape.n_units, if correlate { shape.d_in } else { 0 }),
            kept: Kept::default(),
            places: Places::new(settings.n_parts, shape.n_ctx),
            occurrences: vec![],
            n_tokens: 0,
            n_windows: 0,
            keys: std::array::from_fn(|_| keys.next_u64()),
            columns: Columns::default(),
            settings,
            shape,
        }
    }

    /// Tokens counted so far.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Windows added so far.
    pub fn n_windows(&self) -> u64 {
        self.n_windows
    }

    /// Takes the activations of the next windows. Batches must come in order of t; how the text is cut into batches does not matter.
    pub fn add(&mut self, batch: Windows, rows: &SparseRows) {
        let (n_rows, n_ctx) = (batch.ids.len(), self.shape.n_ctx);
        assert!(
            rows.n_rows() == n_rows
                && batch.docs.len() == n_rows
                && batch.counted.len() == n_rows
                && batch.n_ctx == n_ctx
                && batch.t0.len() * n_ctx == n_rows
                && batch.x.len() == n_rows * self.shape.d_in,
            "{n_rows} tokens in {} windows, activations of {}, {} documents, {} counted, {} numbers of {}",
            batch.t0.len(),
            rows.n_rows(),
            batch.docs.len(),
            batch.counted.len(),
            batch.x.len(),
            self.shape.d_in
        );
        let part_of: Vec<u32> = (0..batch.t0.len() as u64).map(|w| self.part(self.n_windows + w)).collect();
        self.count(&batch, &part_of);
        let d = self.moments.sum.len();
        let correlated: Vec<bool> =
            (0..batch.t0.len() as u64).map(|w| d > 0 && (self.n_windows + w).is_multiple_of(self.settings.correlate_every)).collect();
        for row in (0..n_rows).filter(|row| correlated[row / n_ctx] && batch.counted[*row]) {
            self.moments.row(&batch.x[row * d..(row + 1) * d]);
        }
        self.kept.offer(self.settings.max_kept, self.keys[2], &batch, rows);
        let Collector { settings, units, moments, keys, columns, places, .. } = self;
        let hashes: Vec<u64> = (0..n_rows).map(|row| mix(batch.t0[row / n_ctx] + (row % n_ctx) as u64)).collect();
        let sketch_hashes: Vec<u64> = hashes.iter().map(|hash| mix(keys[1] ^ hash)).collect();
        columns.fill(units.len(), batch.counted, rows);
        let shared = Shared {
            settings,
            cap: (settings.max_token_slots / units.len().max(1)).max(16),
            batch,
            first_window: self.n_windows,
            hashes: &hashes,
            sketch_hashes: &sketch_hashes,
            part_of: &part_of,
            bin_of_position: &places.bin_of_position,
            n_parts: settings.n_parts,
            n_positions: places.position_tokens.len(),
        };
        let block = |(block, units, products): (usize, &mut [Unit], &mut [f64])| {
            for (i, unit) in units.iter_mut().enumerate() {
                let u = block * BLOCK + i;
                let firings = columns.of(u);
                unit.take(&shared, [mix(keys[0] ^ (2 * u as u64)), mix(keys[0] ^ (2 * u as u64 + 1))], firings);
                if d == 0 {
                    continue;
                }
                let all = settings.correlate_every == 1;
                let some: Vec<(u32, f32)> =
                    if all { vec![] } else { firings.iter().copied().filter(|(row, _)| correlated[*row as usize / n_ctx]).collect() };
                let firings = if all { firings } else { &some };
                for &(_, act) in firings {
                    unit.correlated.0 += act as f64;
                    unit.correlated.1 += act as f64 * act as f64;
                }
                add_rows_wide(firings, batch.x, &mut products[i * d..(i + 1) * d]);
            }
        };
        if d == 0 {
            units.par_chunks_mut(BLOCK).enumerate().for_each(|(b, units)| block((b, units, &mut [])));
        } else {
            let products = moments.products.par_chunks_mut(BLOCK * d);
            units.par_chunks_mut(BLOCK).zip(products).enumerate().for_each(|(b, (units, products))| block((b, units, products)));
        }
        self.n_windows += batch.t0.len() as u64;
    }

    /// The part of the pass that a window is in.
    fn part(&self, window: u64) -> u32 {
        (window * self.settings.n_parts as u64 / self.shape.n_windows.max(1)).min(self.settings.n_parts as u64 - 1) as u32
    }

    /// Counts the tokens themselves.
    fn count(&mut self, batch: &Windows, part_of: &[u32]) {
        for (row, &id) in batch.ids.iter().enumerate().filter(|(row, _)| batch.counted[*row]) {
            let (window, position) = (row / batch.n_ctx, row % batch.n_ctx);
            self.n_tokens += 1;
            self.places.time_tokens[part_of[window] as usize] += 1;
            self.places.position_tokens[self.places.bin_of_position[position] as usize] += 1;
            if self.occurrences.len() <= id as usize {
                self.occurrences.resize(id as usize + 1, 0);
            }
            self.occurrences[id as usize] += 1;
        }
    }

    /// What the dictionary keeps.
    pub fn finish(self) -> Findings {
        let Collector { settings, mut units, moments, kept, places, occurrences, n_tokens, n_windows, .. } = self;
        let tokens = tokens::units_of_tokens(&occurrences, settings.n_units_of_token, units.iter().map(|u| &u.tokens));
        let k = settings.n_sketch;
        let sketched =
            |unit: &mut Unit| Sketched { entries: std::mem::take(&mut unit.sketch).sorted(k), n: unit.n, sum: unit.sum, squares: unit.squares };
        let sketches: Vec<Sketched> = units.par_iter_mut().map(sketched).collect();
        let near = coactive::neighbors(k, [settings.n_coactive, settings.n_correlated], n_tokens, &sketches);
        drop(sketches);
        let silent = kept.index();
        let finished = units.into_par_iter().zip(near).enumerate().map(|(u, (unit, Near { coactive, correlated }))| {
            let neurons = moments.strongest(u, unit.correlated, settings.n_correlated);
            Collected { coactive, correlated, neurons, ..finish::finish(&settings, unit, u as u32, &silent) }
        });
        Findings {
            units: finished.collect(),
            tokens,
            n_tokens,
            n_windows,
            time_tokens: places.time_tokens,
            position_edges: places.position_edges,
            position_tokens: places.position_tokens,
            correlated_over: moments.n,
        }
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
