//! Activations of many units over the rows of a half, the grid of thresholds, and F1 of every unit for every concept by counting.
//!
//! n = rows, U = units, C = concepts, G = 32 grid values.

use super::text::{Half, Mark};
use crate::sae::SparseRows;
use rayon::prelude::*;

/// Thresholds per unit.
pub const GRID: usize = 32;
/// Units looked at for unions and AUC: the best single ones on A.
pub const N_CANDIDATES: usize = 64;

/// Rows per block of [`Dense`].
pub const BLOCK_ROWS: usize = 4096;

/// Rows x (n, d_in), turned over in blocks of rows: block b is (d_in, rows of the block), so that a column and a product are both contiguous.
#[derive(Debug, Clone, Default)]
pub struct Dense {
    pub d_in: usize,
    pub n: usize,
    pub blocks: Vec<Vec<f32>>,
    pending: Vec<f32>,
}

impl Dense {
    pub fn new(d_in: usize) -> Self {
        Dense { d_in, ..Default::default() }
    }

    pub fn push(&mut self, row: &[f32]) {
        self.pending.extend_from_slice(row);
        self.n += 1;
        if self.pending.len() == BLOCK_ROWS * self.d_in {
            self.finish();
        }
    }

    /// Turns over the rows that do not fill a block; call once, at the end.
    pub fn finish(&mut self) {
        let rows = self.pending.len() / self.d_in;
        if rows == 0 {
            return;
        }
        let mut block = vec![0.0; self.pending.len()];
        for (r, row) in self.pending.chunks(self.d_in).enumerate() {
            row.iter().enumerate().for_each(|(i, &x)| block[i * rows + r] = x);
        }
        self.blocks.push(block);
        self.pending.clear();
    }

    /// `n` rows at even distances, or all where there are fewer, turned over like a block: (d_in, rows).
    pub fn sample(&self, n: usize) -> Vec<f32> {
        let n = n.min(self.n);
        let rows: Vec<usize> = (0..n).map(|i| i * self.n / n).collect();
        let at = |i: usize, r: usize| {
            let block = &self.blocks[r / BLOCK_ROWS];
            block[i * (block.len() / self.d_in) + r % BLOCK_ROWS]
        };
        (0..self.d_in).flat_map(|i| rows.iter().map(move |&r| at(i, r))).collect()
    }
}

/// The firings of each unit over the rows of a half.
pub enum Acts {
    /// Entries of unit u: `start[u]..start[u + 1]`, rows rising.
    Sparse { start: Vec<usize>, entries: Vec<(u32, f32)> },
    /// Neurons: unit i is max(x_i, 0), unit d_in + i is max(-x_i, 0) where both sides are asked for.
    Neurons { rows: Dense, both: bool },
}

impl Acts {
    /// Turns rows over by unit.
    pub fn from_rows(n_units: usize, rows: &SparseRows) -> Self {
        let mut start = vec![0; n_units + 2];
        rows.latent.iter().for_each(|&u| start[u as usize + 2] += 1);
        (0..n_units).for_each(|u| start[u + 2] += start[u + 1]);
        let mut entries = vec![(0, 0.0); rows.latent.len()];
        for r in 0..rows.n_rows() {
            let (units, acts) = rows.row(r);
            for (&u, &act) in units.iter().zip(acts) {
                entries[start[u as usize + 1]] = (r as u32, act);
                start[u as usize + 1] += 1;
            }
        }
        start.pop();
        Acts::Sparse { start, entries }
    }

    pub fn n_units(&self) -> usize {
        match self {
            Acts::Sparse { start, .. } => start.len() - 1,
            Acts::Neurons { rows, both } => rows.d_in * (1 + *both as usize),
        }
    }

    /// (row, act) of the firings of `unit`, rows rising, into `out`.
    pub fn firings(&self, unit: usize, out: &mut Vec<(u32, f32)>) {
        out.clear();
        match self {
            Acts::Sparse { start, entries } => out.extend_from_slice(&entries[start[unit]..start[unit + 1]]),
            Acts::Neurons { rows, .. } => {
                let (i, sign) = (unit % rows.d_in, if unit < rows.d_in { 1.0 } else { -1.0 });
                for (b, block) in rows.blocks.iter().enumerate() {
                    let n = block.len() / rows.d_in;
                    let column = block[i * n..(i + 1) * n].iter().enumerate();
                    out.extend(column.map(|(r, x)| ((b * BLOCK_ROWS + r) as u32, sign * x)).filter(|f| f.1 > 0.0));
                }
            }
        }
    }
}

/// The unit's grid of thresholds, rising; it fires where `act >= threshold`. The lowest is "above 0"; half of the rest are the
/// activations at even steps through all of its firings, the other half at geometric steps through the strongest sixteenth, so that both a
/// unit that is right whenever it fires and one that is right only when it fires most have a fitting threshold.
pub fn grid(firings: &[(u32, f32)]) -> [f32; GRID] {
    let mut grid = [f32::MIN_POSITIVE; GRID];
    let n = firings.len();
    if n == 0 {
        return grid;
    }
    let mut acts: Vec<f32> = firings.iter().map(|f| f.1).collect();
    acts.sort_unstable_by(|a, b| b.total_cmp(a));
    let half = GRID / 2;
    let top = (n as f64 / half as f64).max(1.0);
    let last = 8f64.min(top);
    for (i, threshold) in grid.iter_mut().enumerate().skip(1) {
        let kept = if i < half { n as f64 * (half - i) as f64 / half as f64 } else { top * (last / top).powf((i - half + 1) as f64 / half as f64) };
        *threshold = acts[(kept.round() as usize).clamp(1, n) - 1];
    }
    grid
}

/// How many of the grid's thresholds are at or below `act`, minus one.
pub fn bin(grid: &[f32; GRID], act: f32) -> usize {
    grid.partition_point(|&t| t <= act).saturating_sub(1)
}

pub fn f1(true_positives: u64, fired: u64, n_pos: u64) -> f64 {
    if true_positives == 0 { 0.0 } else { 2.0 * true_positives as f64 / (fired + n_pos) as f64 }
}

/// Best F1 on A of one unit for one concept, and the grid place of its threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cell {
    pub f1: f32,
    pub bin: u8,
}

/// F1 of all units for all concepts on a half, cells (U, C), and the grids (U,). One pass over the firings: for each unit, firings
/// are counted by (concept, bin), then suffix sums give every threshold's true positives at once.
pub fn score_all(half: &Half, acts: &Acts) -> (Vec<Cell>, Vec<[f32; GRID]>) {
    let n_concepts = half.positives.len();
    // The firings of one unit; hits and left-out marks per concept and bin.
    type Buffers = (Vec<(u32, f32)>, Vec<[u32; GRID]>, Vec<[u32; GRID]>);
    let per_unit = |buffers: &mut Buffers, unit: usize| {
        let (firings, hits, out) = buffers;
        acts.firings(unit, firings);
        let grid = grid(firings);
        hits.clear();
        hits.resize(n_concepts, [0; GRID]);
        out.clear();
        out.resize(n_concepts, [0; GRID]);
        let mut all = [0u32; GRID];
        for &(row, act) in firings.iter() {
            let bin = bin(&grid, act);
            all[bin] += 1;
            for &(concept, mark) in half.marks_of(row) {
                match mark {
                    Mark::Positive => hits[concept as usize][bin] += 1,
                    Mark::LeftOut => out[concept as usize][bin] += 1,
                }
            }
        }
        let cells: Vec<Cell> = (0..n_concepts).map(|c| best_threshold(&all, &hits[c], &out[c], half.positives[c].len() as u64)).collect();
        (cells, grid)
    };
    let scored: Vec<(Vec<Cell>, [f32; GRID])> = (0..acts.n_units()).into_par_iter().map_init(Default::default, per_unit).collect();
    let mut cells = Vec::with_capacity(scored.len() * n_concepts);
    let mut grids = Vec::with_capacity(scored.len());
    for (unit_cells, grid) in scored {
        cells.extend(unit_cells);
        grids.push(grid);
    }
    (cells, grids)
}

/// From counts per bin to the threshold with the best F1; the highest of equals.
fn best_threshold(all: &[u32; GRID], hits: &[u32; GRID], left_out: &[u32; GRID], n_pos: u64) -> Cell {
    let (mut fired, mut true_positives, mut best) = (0u64, 0u64, Cell::default());
    for b in (0..GRID).rev() {
        fired += (all[b] - left_out[b]) as u64;
        true_positives += hits[b] as u64;
        let f1 = f1(true_positives, fired, n_pos) as f32;
        if f1 > best.f1 {
            best = Cell { f1, bin: b as u8 };
        }
    }
    best
}

/// The candidates for one concept, best F1 on A first.
pub fn candidates(cells: &[Cell], n_concepts: usize, concept: usize) -> Vec<(u32, Cell)> {
    let column = cells.iter().skip(concept).step_by(n_concepts.max(1)).enumerate();
    let mut units: Vec<(u32, Cell)> = column.filter(|(_, c)| c.f1 > 0.0).map(|(u, c)| (u as u32, *c)).collect();
    units.sort_by(|a, b| b.1.f1.total_cmp(&a.1.f1).then(a.0.cmp(&b.0)));
    units.truncate(N_CANDIDATES);
    units
}

/// Counts of a set of (unit, threshold) on a half.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    pub true_positives: u64,
    pub fired: u64,
    pub n_pos: u64,
}

impl Counts {
    pub fn f1(&self) -> f64 {
        f1(self.true_positives, self.fired, self.n_pos)
    }
    pub fn precision(&self) -> f64 {
        self.true_positives as f64 / self.fired.max(1) as f64
    }
    pub fn recall(&self) -> f64 {
        self.true_positives as f64 / self.n_pos.max(1) as f64
    }
}

/// Which rows any of the units fires on, and the counts; left-out rows are neither.
pub fn fire(acts: &Acts, truth: &[u8], units: &[(u32, f32)]) -> (Vec<bool>, Counts) {
    let mut fires = vec![false; truth.len()];
    let mut firings = Vec::new();
    let mut counts = Counts { true_positives: 0, fired: 0, n_pos: truth.iter().filter(|&&t| t == 1).count() as u64 };
    for &(unit, threshold) in units {
        acts.firings(unit as usize, &mut firings);
        for &(row, _) in firings.iter().filter(|f| f.1 >= threshold) {
            let row = row as usize;
            if !std::mem::replace(&mut fires[row], true) {
                counts.fired += (truth[row] != 2) as u64;
                counts.true_positives += (truth[row] == 1) as u64;
            }
        }
    }
    (fires, counts)
}

/// Greedy union of at most `most` units on A: each step adds the candidate and threshold that raise F1 most; ends when none does.
pub fn greedy_union(acts: &Acts, grids: &[[f32; GRID]], truth: &[u8], candidates: &[(u32, Cell)], most: usize) -> (Vec<(u32, f32)>, f64) {
    let n_pos = truth.iter().filter(|&&t| t == 1).count() as u64;
    let (mut chosen, mut best_f1) = (Vec::new(), 0.0);
    let mut covered = vec![false; truth.len()];
    let (mut covered_hits, mut covered_fired) = (0, 0);
    while chosen.len() < most {
        let tried = candidates.par_iter().map_init(Vec::new, |firings, &(unit, _)| {
            acts.firings(unit as usize, firings);
            let grid = &grids[unit as usize];
            let (mut fired, mut hits) = ([0u64; GRID], [0u64; GRID]);
            for &(row, act) in firings.iter().filter(|f| !covered[f.0 as usize] && truth[f.0 as usize] != 2) {
                let bin = bin(grid, act);
                fired[bin] += 1;
                hits[bin] += (truth[row as usize] == 1) as u64;
            }
            let (mut sum_fired, mut sum_hits, mut best) = (covered_fired, covered_hits, (0.0, 0));
            for b in (0..GRID).rev() {
                sum_fired += fired[b];
                sum_hits += hits[b];
                let f1 = f1(sum_hits, sum_fired, n_pos);
                if f1 > best.0 {
                    best = (f1, b);
                }
            }
            (best.0, unit, grid[best.1])
        });
        let tried: Vec<(f64, u32, f32)> = tried.collect();
        let Some(best) = tried.into_iter().rev().max_by(|a, b| a.0.total_cmp(&b.0)).filter(|b| b.0 > best_f1) else { break };
        best_f1 = best.0;
        chosen.push((best.1, best.2));
        let (fires, counts) = fire(acts, truth, &chosen);
        (covered, covered_hits, covered_fired) = (fires, counts.true_positives, counts.fired);
    }
    (chosen, best_f1)
}

/// Probability that a positive has a higher value than a negative, ties counting half (the Mann-Whitney statistic).
pub fn auc(positive: &[f32], negative: &[f32]) -> f64 {
    let mut all: Vec<(f32, bool)> = positive.iter().map(|&x| (x, true)).chain(negative.iter().map(|&x| (x, false))).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut won) = (0.0, 0.0);
    for ties in all.chunk_by(|a, b| a.0 == b.0) {
        let n_pos = ties.iter().filter(|x| x.1).count() as f64;
        let n_neg = ties.len() as f64 - n_pos;
        won += n_pos * (below + n_neg / 2.0);
        below += n_neg;
    }
    won / (positive.len() as f64 * negative.len() as f64)
}
