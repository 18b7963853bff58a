//! Matrix products that leave out the zeros of one factor: for matrices that are zero to a third or more, but not nearly all, which is what `sparse` is for.
//!
//! A block of the other factor is packed so that it stays in the first-level cache. Two rows of the result are summed in registers: the zeros of their factor are found as
//! bit masks, and each row of the block that is named by a bit is added, first to both what both name, then to each what it alone does. Alone, a row of the result costs a load
//! from the cache for each multiply-add, which a core does in the same time; the two share a quarter of these where half is not zero. A dense product does with few loads, but for every element. The blocks and
//! the order of every sum are fixed, so results do not depend on the number of threads.
//!
//! m, n = rows and columns of the result, k = summed dimension, as in `gemm`.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
use super::simd::level;
use super::simd::{Level, dispatch, widest};
use rayon::prelude::*;

/// Rows of a block that is added: the bits of a mask that are used.
const DEPTH: usize = 48;
/// Its columns, whose sums are in registers at once. 24 KiB, of 32 or 48 that a first-level cache has.
const STRIP: usize = 128;
/// Rows and columns of a block for inner products, a row of whose other factor is in registers: 24 KiB too. Two to a mask.
const FEW: usize = 24;
const WIDE: usize = 256;
/// Rows of the result that one task does at most; fewer than [`TILE_LEAST`] would have it pack the other factor too often.
const TILE: usize = 256;
const TILE_LEAST: usize = 64;
/// Masks to a row of a tile: what is read at once of a large matrix should be more than a few lines of the cache.
const MASKS: usize = 4;
const SPAN: usize = MASKS * DEPTH;

/// Share of elements that are not zero below which these products are faster than dense ones (LOG.md): 0 on a machine without AVX-512, for which they are written.
/// Of the machine, not of what `MONOSEM_SIMD` holds it to, as with `gemm`: the loops for less give the same bits.
pub fn pays_below() -> f64 {
    if widest() == Level::Avx512 { 0.7 } else { 0.0 }
}

/// Rows of the result in a task of those that have few. No sum depends on it, as it is even: rows 2 i and 2 i + 1 are always added together.
fn tile_rows(m: usize) -> usize {
    m.div_ceil(rayon::current_num_threads()).next_multiple_of(2).clamp(TILE_LEAST, TILE)
}

/// c = a b, or c += a b, without the zeros of a. Shapes: a (m, k), b (k, n), c (m, n).
pub fn matmul_nn((m, n, k): (usize, usize, usize), a: &[f32], b: &[f32], c: &mut [f32], accumulate: bool) {
    assert_shapes((m, n, k), [a.len(), b.len(), c.len()]);
    if m == 0 || n == 0 || k == 0 {
        if !accumulate {
            c.fill(0.0);
        }
        return;
    }
    let tile = tile_rows(m);
    (c.par_chunks_mut(tile * n), a.par_chunks(tile * k)).into_par_iter().for_each_init(Work::default, |work, (c, a)| {
        if !accumulate {
            c.fill(0.0);
        }
        for first in (0..k).step_by(SPAN) {
            let depth = SPAN.min(k - first);
            work.tile.read(&a[first..], k, (c.len() / n, depth));
            work.add(&b[first * n..][..depth * n], c, n);
        }
    });
}

/// As [`matmul_nn`], with a (k, m) read as its transpose. What its columns sum to, and how many elements of them are not zero, is added to `tally`, (m,) each.
pub fn matmul_tn((m, n, k): (usize, usize, usize), a: &[f32], b: &[f32], c: &mut [f32], accumulate: bool, tally: Option<(&mut [f32], &mut [u32])>) {
    assert_shapes((m, n, k), [a.len(), b.len(), c.len()]);
    if let Some((sums, counts)) = &tally {
        assert!(sums.len() == m && counts.len() == m, "{} sums and {} counts of {m} columns", sums.len(), counts.len());
    }
    if m == 0 || n == 0 || k == 0 {
        if !accumulate {
            c.fill(0.0);
        }
        return;
    }
    let mut tally = tally.map(|(sums, counts)| sums.chunks_mut(TILE).zip(counts.chunks_mut(TILE)));
    let tasks: Vec<_> = c.chunks_mut(TILE * n).map(|c| (c, tally.as_mut().and_then(Iterator::next))).collect();
    tasks.into_par_iter().enumerate().for_each_init(Work::default, |work, (task, (c, mut tally))| {
        if !accumulate {
            c.fill(0.0);
        }
        for first in (0..k).step_by(SPAN) {
            let depth = SPAN.min(k - first);
            work.tile.read_transposed(&a[first * m + task * TILE..], m, (c.len() / n, depth));
            if let Some((sums, counts)) = &mut tally {
                work.tile.count(depth, sums, counts);
            }
            work.add(&b[first * n..][..depth * n], c, n);
        }
    });
}

/// c = a b^T + shift where `on` is not zero, and 0 where it is. Shapes: a (m, k), b (n, k), on and c (m, n), shift (n,).
pub fn matmul_nt_where((m, n, k): (usize, usize, usize), a: &[f32], b: &[f32], on: &[f32], shift: &[f32], c: &mut [f32]) {
    assert_shapes((m, n, k), [a.len(), b.len(), c.len()]);
    assert!(on.len() == c.len() && shift.len() == n, "{} elements of a mask and {} of a row for ({m}, {n})", on.len(), shift.len());
    assert!(k > 0, "inner products of no elements");
    if m == 0 || n == 0 {
        return;
    }
    let tile = tile_rows(m);
    (c.par_chunks_mut(tile * n), a.par_chunks(tile * k), on.par_chunks(tile * n)).into_par_iter().for_each_init(Work::default, |work, (c, a, on)| {
        for first in (0..n).step_by(SPAN) {
            let some = SPAN.min(n - first);
            work.tile.look(&on[first..], n, (c.len() / n, some));
            work.dot(&b[first * k..][..some * k], a, k);
            for ((c, on), sums) in c.chunks_exact_mut(n).zip(on.chunks_exact(n)).zip(work.sums.chunks_exact(SPAN)) {
                shifted(&mut c[first..first + some], &on[first..], sums, &shift[first..]);
            }
        }
    });
}

fn assert_shapes((m, n, k): (usize, usize, usize), got: [usize; 3]) {
    let [a, b, c] = got;
    assert!(got == [m * k, k * n, m * n], "product of ({m}, {k}) and ({k}, {n}): got {a}, {b} and {c} elements");
}

/// What a task works in; a thread keeps it for its next one.
#[derive(Default)]
struct Work {
    tile: Tile,
    /// (DEPTH, STRIP), or (FEW, WIDE): rows of the factor that is read whole, zeros behind its last column.
    block: Vec<f32>,
    /// (rows of the tile, SPAN)
    sums: Vec<f32>,
}

impl Work {
    /// c (rows of the tile, n) += tile b, with b (depth, n), depth up to SPAN.
    fn add(&mut self, b: &[f32], c: &mut [f32], n: usize) {
        for (part, b) in b.chunks(DEPTH * n).enumerate() {
            for column in (0..n).step_by(STRIP) {
                pack::<STRIP>(&mut self.block, b, n, column);
                let width = STRIP.min(n - column);
                #[cfg(target_arch = "x86_64")]
                if level() == Level::Avx512 {
                    // SAFETY: the CPU has AVX-512; columns column..column + width are inside of each row of c.
                    unsafe { avx512::add(&self.tile, part, &self.block, &mut c[column..], n, width) };
                    continue;
                }
                add(&self.tile, part, &self.block, &mut c[column..], n, width);
            }
        }
    }

    /// sums (rows of the tile, SPAN) = a b^T where the tile has a bit, else 0. Shapes: a (rows, k), b (_, k), up to SPAN.
    fn dot(&mut self, b: &[f32], a: &[f32], k: usize) {
        self.sums.clear();
        self.sums.resize(self.tile.rows() * SPAN, 0.0);
        for (part, b) in b.chunks(FEW * k).enumerate() {
            for column in (0..k).step_by(WIDE) {
                pack::<WIDE>(&mut self.block, b, k, column);
                let width = WIDE.min(k - column);
                #[cfg(target_arch = "x86_64")]
                if level() == Level::Avx512 {
                    // SAFETY: as above.
                    unsafe { avx512::dot(&self.tile, part, &self.block, &a[column..], k, width, &mut self.sums) };
                    continue;
                }
                dot(&self.tile, part, &self.block, &a[column..], k, width, &mut self.sums);
            }
        }
    }
}

/// Columns column..column + W of b (_, n), one row after the other; zeros where there are fewer.
fn pack<const W: usize>(block: &mut Vec<f32>, b: &[f32], n: usize, column: usize) {
    block.resize(DEPTH * STRIP, 0.0);
    let width = W.min(n - column);
    for (to, from) in block.chunks_exact_mut(W).zip(b.chunks_exact(n)) {
        to[..width].copy_from_slice(&from[column..][..width]);
        to[width..].fill(0.0);
    }
}

/// Part of the factor with zeros in it: of some rows of the result up to [`SPAN`] coefficients.
#[derive(Default)]
struct Tile {
    /// (TILE, SPAN); what is behind the last row or column is not read.
    coef: Vec<f32>,
    /// (rows, MASKS): bit t of mask p says that coefficient p DEPTH + t is not zero.
    masks: Vec<[u64; MASKS]>,
}

impl Tile {
    fn rows(&self) -> usize {
        self.masks.len()
    }

    /// Of the FEW coefficients from part FEW on in row r: which are not zero.
    #[inline]
    fn few(&self, r: usize, part: usize) -> u64 {
        self.masks[r][part / 2] >> (part % 2 * FEW) & ((1 << FEW) - 1)
    }

    /// The first `width` elements of each row of a (rows, stride).
    fn read(&mut self, a: &[f32], stride: usize, (rows, width): (usize, usize)) {
        self.coef.resize(TILE * SPAN, 0.0);
        for (to, from) in self.coef.chunks_exact_mut(SPAN).zip(a.chunks(stride)).take(rows) {
            to[..width].copy_from_slice(&from[..width]);
        }
        let coef = std::mem::take(&mut self.coef);
        self.look(&coef, SPAN, (rows, width));
        self.coef = coef;
    }

    /// The first `rows` elements of each of `width` rows of a (width, stride): column r of them becomes row r.
    fn read_transposed(&mut self, a: &[f32], stride: usize, (rows, width): (usize, usize)) {
        self.coef.resize(TILE * SPAN, 0.0);
        let squares = (0, 0);
        #[cfg(target_arch = "x86_64")]
        let squares = match level() {
            Level::Avx512 => {
                let squares = (rows / 16 * 16, width / 16 * 16);
                // SAFETY: the CPU has AVX-512; rows of `a` have `rows` elements at least, and there are `width` of them.
                unsafe { avx512::transpose(a, stride, squares, &mut self.coef) };
                squares
            }
            _ => squares,
        };
        for t in 0..width {
            let from = &a[t * stride..][..rows];
            let done = if t < squares.1 { squares.0 } else { 0 };
            for (r, &x) in from.iter().enumerate().skip(done) {
                self.coef[r * SPAN + t] = x;
            }
        }
        let coef = std::mem::take(&mut self.coef);
        self.look(&coef, SPAN, (rows, width));
        self.coef = coef;
    }

    /// Adds the sum of each row's `width` coefficients to `sums`, and how many of them are not zero to `counts`.
    fn count(&self, width: usize, sums: &mut [f32], counts: &mut [u32]) {
        for ((coef, masks), (sum, count)) in self.coef.chunks_exact(SPAN).zip(&self.masks).zip(sums.iter_mut().zip(counts)) {
            *sum += total(&coef[..width]);
            *count += masks.iter().map(|mask| mask.count_ones()).sum::<u32>();
        }
    }

    /// Finds what is not zero among the first `width` elements of each row of a (rows, stride); coefficients stay as they are.
    fn look(&mut self, a: &[f32], stride: usize, (rows, width): (usize, usize)) {
        self.masks.clear();
        self.masks.extend(a.chunks(stride).take(rows).map(|a| {
            let mut masks = [0; MASKS];
            for (mask, a) in masks.iter_mut().zip(a[..width].chunks(DEPTH)) {
                #[cfg(target_arch = "x86_64")]
                if level() == Level::Avx512 {
                    // SAFETY: the CPU has AVX-512.
                    *mask = unsafe { avx512::not_zero(a) };
                    continue;
                }
                *mask = a.iter().enumerate().fold(0, |mask, (t, &c)| mask | u64::from(c != 0.0) << t);
            }
            masks
        }));
    }
}

dispatch! {
    /// c = sums + shift where `on` is not zero, and 0 where it is, for as many elements as c has.
    fn shifted(c: &mut [f32], on: &[f32], sums: &[f32], shift: &[f32]) {
        let n = c.len();
        let (on, sums, shift) = (&on[..n], &sums[..n], &shift[..n]);
        for i in 0..n {
            c[i] = if on[i] != 0.0 { sums[i] + shift[i] } else { 0.0 };
        }
    }
}

dispatch! {
    /// Sum of all elements.
    fn total(x: &[f32]) -> f32 {
        super::simd::sum(x)
    }
}

dispatch! {
    /// The first `width` columns of c (rows, stride) += the part of the tile that has that mask, times the block.
    fn add(tile: &Tile, part: usize, block: &[f32], c: &mut [f32], stride: usize, width: usize) {
        for (r, masks) in tile.masks.iter().enumerate() {
            let mut sums = [0.0f32; STRIP];
            let other = tile.masks.get(r ^ 1).map_or(0, |other| other[part]);
            for mut left in [masks[part] & other, masks[part] & !other] {
                while left != 0 {
                    let t = left.trailing_zeros() as usize;
                    left &= left - 1;
                    let (x, row) = (tile.coef[r * SPAN + part * DEPTH + t], &block[t * STRIP..][..STRIP]);
                    for i in 0..STRIP {
                        sums[i] = x.mul_add(row[i], sums[i]);
                    }
                }
            }
            c[r * stride..][..width].iter_mut().zip(&sums).for_each(|(c, sum)| *c += sum);
        }
    }
}

dispatch! {
    /// FEW columns of sums (rows, SPAN) += the first `width` columns of a (rows, stride) times rows of the block, where the tile is not zero.
    fn dot(tile: &Tile, part: usize, block: &[f32], a: &[f32], stride: usize, width: usize, sums: &mut [f32]) {
        let mut x = [0.0f32; WIDE];
        for r in 0..tile.rows() {
            x[..width].copy_from_slice(&a[r * stride..][..width]);
            let mut left = tile.few(r, part);
            while left != 0 {
                let t = left.trailing_zeros() as usize;
                left &= left - 1;
                let row = &block[t * WIDE..][..WIDE];
                // In the order of the registers of AVX-512: the same bits.
                let mut chains = [[0.0f32; 16]; 4];
                for i in 0..WIDE / 16 {
                    for l in 0..16 {
                        chains[i % 4][l] = x[16 * i + l].mul_add(row[16 * i + l], chains[i % 4][l]);
                    }
                }
                let lanes: [f32; 16] = std::array::from_fn(|l| (chains[0][l] + chains[1][l]) + (chains[2][l] + chains[3][l]));
                let quarter = |q: usize| (lanes[4 * q] + lanes[4 * q + 2]) + (lanes[4 * q + 1] + lanes[4 * q + 3]);
                sums[r * SPAN + part * FEW + t] += (quarter(0) + quarter(1)) + (quarter(2) + quarter(3));
            }
        }
    }
}
