//! The screen's product on CPUs with AVX2: 16-bit integers, summed without any error, each tile of sums compared with its rows' limits while it is in registers.
//!
//! Weights are packed in panels of 16 latents, [panel][pair][latent], rows in groups of 6, [group][pair][row]. A tile of 16 latents by 6 rows is 12
//! registers of sums; no (B, F) matrix exists. One instruction multiplies and adds 16 pairs where f32 has 8 products, so a tile takes half the time.
//!
//! **Nothing overflows.** A row x is packed as q = round(x / s) with s so large that |q| <= [`LARGEST_NORM`] and no |q_i| is above [`LARGEST`]. Any part of a sum of
//! products of two such rows is, by Cauchy-Schwarz, at most `LARGEST_NORM`^2 < 2^31.

use super::lists::{Exact, Lists, Panels};
use super::product::Packed;
use std::arch::x86_64::*;
use std::ops::Range;

/// Latents of a panel: two registers.
pub const PANEL: usize = 16;

/// Rows of a group: with two registers of latents 12 sums, which leaves room for two weights, an input and a product.
pub const GROUP: usize = 6;

/// Its square is below 2^31.
const LARGEST_NORM: f64 = 46_340.0;

const LARGEST: f64 = 32_766.0;

/// Rows of a smaller norm are packed as zeros: their scale would lose its precision.
const SMALLEST: f64 = 1e-30;

/// Whether the CPU has the instructions of this file.
pub fn available() -> bool {
    crate::kernels::simd::level() != crate::kernels::simd::Level::Baseline
}

/// Packs one row x (D,) of this norm as pairs of integers `stride` elements apart, an odd last input with zero.
///
/// # Safety
/// The CPU must have AVX2 and FMA; `out` must have `(ceil(D / 2) - 1) * stride + 1` elements.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn pack(x: &[f32], norm: f64, out: *mut u32, stride: usize) -> Packed {
    // Each rounding moves an entry by at most half a unit.
    let room = LARGEST_NORM - 0.5 * (x.len() as f64).sqrt() - 1.0;
    let largest = x.iter().fold(0.0f32, |m, v| m.max(v.abs())) as f64;
    // Rounded up, so that it is nowhere too small.
    let scale = ((norm / room).max(largest / LARGEST) as f32).next_up();
    let (scale, inverse) = if norm < SMALLEST { (1.0, 0.0) } else { (scale, scale.recip()) };
    let (by_inverse, by_scale) = (_mm256_set1_ps(inverse), _mm256_set1_ps(scale));
    let mut change = [_mm256_setzero_pd(); 2];
    let mut square = _mm_setzero_si128();
    let (blocks, rest) = x.as_chunks::<8>();
    let mut last = [0.0f32; 8];
    last[..rest.len()].copy_from_slice(rest);
    for (i, block) in blocks.iter().chain(std::iter::once(&last)).enumerate() {
        // SAFETY: a block has eight floats.
        let exact = unsafe { _mm256_loadu_ps(block.as_ptr()) };
        // |q| <= LARGEST + 1 by the choice of the scale.
        let q = _mm256_cvtps_epi32(_mm256_mul_ps(exact, by_inverse));
        // Rounded once, to within u of itself.
        let off = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(q), by_scale, exact);
        for (sum, off) in change.iter_mut().zip([_mm256_castps256_ps128(off), _mm256_extractf128_ps::<1>(off)]) {
            let off = _mm256_cvtps_pd(off);
            *sum = _mm256_fmadd_pd(off, off, *sum);
        }
        let q = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256::<1>(q));
        square = _mm_add_epi32(square, _mm_madd_epi16(q, q));
        // SAFETY: a plain copy of 16 bytes.
        let pairs: [u32; 4] = unsafe { std::mem::transmute(q) };
        let n_pairs = if i < blocks.len() { 4 } else { rest.len().div_ceil(2) };
        for (p, &pair) in pairs[..n_pairs].iter().enumerate() {
            // SAFETY: the pair is one of the row's.
            unsafe { *out.add((4 * i + p) * stride) = pair };
        }
    }
    // SAFETY: plain copies of registers.
    let (change, square) = unsafe { (std::mem::transmute::<[__m256d; 2], [[f64; 4]; 2]>(change), std::mem::transmute::<__m128i, [i32; 4]>(square)) };
    let change: f64 = change.iter().flatten().sum();
    let square: f64 = square.iter().map(|&s| s as f64).sum();
    Packed { change: change.sqrt(), norm: square.sqrt() * scale as f64, scale, start: 0 }
}

/// See [`Product::screen`](super::Product::screen); a word is a pair.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn screen(
    panels: &Panels,
    (part, strip): (Range<usize>, Range<usize>),
    lists: &mut Lists,
    pairs: usize,
    largest: Option<(usize, &Exact)>,
) {
    let full = lists.stride - PANEL;
    let nothing = _mm256_set1_ps(f32::NEG_INFINITY);
    for (panel, weights) in panels.packed.chunks_exact(pairs * PANEL).enumerate().skip(part.start).take(part.len()) {
        let column = panel * PANEL;
        for group in strip.clone() {
            // SAFETY: a panel has pairs * 16 elements and a group pairs * 6; the panel's statistics have 16 entries from `column`, the rows' factors one for each
            // row; a row has room for 16 more entries before each tile.
            unsafe {
                let sums = tile(weights.as_ptr(), lists.packed.as_ptr().add(group * pairs * GROUP), pairs);
                for (r, sums) in sums.iter().enumerate() {
                    let row = group * GROUP + r;
                    let of_row = |values: &[f32]| _mm256_broadcast_ss(values.get_unchecked(row));
                    let (by_norm, by_change, scale, least) =
                        (of_row(&lists.by_norm), of_row(&lists.by_change), of_row(&lists.scale), of_row(&lists.least));
                    let bounds = |half: usize| {
                        let pick = |values: &[f32]| _mm256_loadu_ps(values.as_ptr().add(column + 8 * half));
                        let z = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums[half]), scale), pick(&panels.scale), pick(&panels.bias));
                        let by_change = _mm256_fmadd_ps(by_change, pick(&panels.change), pick(&panels.slack));
                        (z, _mm256_fmadd_ps(by_norm, pick(&panels.norm), by_change))
                    };
                    let reach = |half: usize, (z, error)| {
                        let least = _mm256_max_ps(_mm256_loadu_ps(lists.limit.as_ptr().add(column + 8 * half)), least);
                        _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(_mm256_add_ps(z, error), least)) as u32
                    };
                    let (first, second) = (bounds(0), bounds(1));
                    let mut found = reach(0, first) | reach(1, second) << 8;
                    if found == 0 {
                        continue;
                    }
                    let (mut uppers, mut lowers) = ([0.0f32; PANEL], [0.0f32; PANEL]);
                    for (half, (z, error)) in [first, second].into_iter().enumerate() {
                        _mm256_storeu_ps(uppers.as_mut_ptr().add(8 * half), _mm256_add_ps(z, error));
                        // The second operand is the result where the first is NaN.
                        _mm256_storeu_ps(lowers.as_mut_ptr().add(8 * half), _mm256_max_ps(_mm256_sub_ps(z, error), nothing));
                    }
                    let mut at = row * lists.stride + *lists.len.get_unchecked(row);
                    *lists.len.get_unchecked_mut(row) += found.count_ones() as usize;
                    while found != 0 {
                        let lane = found.trailing_zeros() as usize;
                        *lists.latent.get_unchecked_mut(at) = (column + lane) as u32;
                        *lists.upper.get_unchecked_mut(at) = uppers[lane % PANEL];
                        *lists.lower.get_unchecked_mut(at) = lowers[lane % PANEL];
                        (at, found) = (at + 1, found & (found - 1));
                    }
                    if *lists.len.get_unchecked(row) > *lists.compact_at.get_unchecked(row) {
                        lists.compact(row, full, largest, Lists::drop_below_limit);
                    }
                }
            }
        }
    }
}

/// Sums of 16 latents by 6 rows over all pairs.
///
/// # Safety
/// As [`screen`]; `weights` has pairs * 16 elements and `rows` pairs * 6.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile(weights: *const u32, rows: *const u32, pairs: usize) -> [[__m256i; 2]; GROUP] {
    let mut sums = [[_mm256_setzero_si256(); 2]; GROUP];
    for pair in 0..pairs {
        // SAFETY: pair < pairs.
        unsafe {
            let first = _mm256_loadu_si256(weights.add(pair * PANEL).cast());
            let second = _mm256_loadu_si256(weights.add(pair * PANEL + 8).cast());
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(*rows.add(pair * GROUP + r) as i32);
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(first, x));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(second, x));
            }
        }
    }
    sums
}
