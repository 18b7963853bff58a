//! The screen's product: bf16 weights by bf16 rows, each tile of sums compared with its rows' limits while it is in registers.
//!
//! P = ceil(D / 2) pairs of inputs. Weights are packed in panels of 32 latents, [panel][pair][latent], rows in groups of 12, [group][pair][row]; a packed
//! element is a pair of bf16, the first input in its low half. A tile of 32 latents by 12 rows is 24 registers of sums; no (B, F) matrix exists.

use super::lists::{Lists, Panels};
use std::arch::x86_64::*;

/// Latents of a panel: two registers.
pub const PANEL: usize = 32;

/// Rows of a group: with two registers of latents 24 sums, which leaves room for two weights and an input.
pub const GROUP: usize = 12;

/// Whether the CPU has the instructions of this file.
pub fn available() -> bool {
    crate::kernels::simd::level() == crate::kernels::simd::Level::Avx512 && is_x86_feature_detected!("avx512bf16")
}

/// As [`Lists::drop_below_limit`], 16 entries at a time.
///
/// # Safety
/// The CPU must have AVX-512 F; `len[row]` is at most `stride`, a multiple of 16.
#[target_feature(enable = "avx512f")]
unsafe fn drop_below_limit(lists: &mut Lists, row: usize) {
    let (start, n) = (row * lists.stride, lists.len[row]);
    let mut kept = 0;
    // SAFETY: reads and writes are of 16 entries and stay inside the row's `stride`, a multiple of 16; what is read behind n is compared and then
    // masked out. kept <= i, so a store ends at or before what has been read, rounded up to 16.
    unsafe {
        let (latent, upper, lower) = (lists.latent.as_mut_ptr().add(start), lists.upper.as_mut_ptr().add(start), lists.lower.as_mut_ptr().add(start));
        let least = _mm512_set1_ps(lists.least[row]);
        for i in (0..n).step_by(16) {
            let inside = ((1u32 << (n - i).min(16)) - 1) as __mmask16;
            let high = _mm512_loadu_ps(upper.add(i));
            let low = _mm512_loadu_ps(lower.add(i));
            let number = _mm512_loadu_si512(latent.add(i).cast());
            let stay = _mm512_mask_cmp_ps_mask::<_CMP_NLT_UQ>(inside, high, least);
            _mm512_storeu_ps(upper.add(kept), _mm512_maskz_compress_ps(stay, high));
            _mm512_storeu_ps(lower.add(kept), _mm512_maskz_compress_ps(stay, low));
            _mm512_storeu_si512(latent.add(kept).cast(), _mm512_maskz_compress_epi32(stay, number));
            kept += stay.count_ones() as usize;
        }
    }
    lists.len[row] = kept;
}

/// Packs one row x (D,) as bf16 pairs `stride` elements apart, an odd last input with zero; returns the norms |x - x16| and |x16|.
///
/// Rounding is to nearest even, and numbers that bf16 has no normal number for become zero: `out` holds what the product reads.
///
/// # Safety
/// The CPU must have AVX-512 F, BW and BF16; `out` must have `(ceil(D / 2) - 1) * stride + 1` elements.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn pack(x: &[f32], out: *mut u32, stride: usize) -> [f64; 2] {
    let d = x.len();
    let [mut change, mut rounded] = [_mm512_setzero_pd(); 2];
    let mut pairs = [0u32; 16];
    for start in (0..d).step_by(32) {
        let width = (d - start).min(32);
        let inside = ((1u64 << width) - 1) as u32;
        // SAFETY: loads are masked to the D inputs; the stores are those of the pairs that exist.
        unsafe {
            let low = _mm512_maskz_loadu_ps(inside as __mmask16, x.as_ptr().add(start));
            let high = match width > 16 {
                true => _mm512_maskz_loadu_ps((inside >> 16) as __mmask16, x.as_ptr().add(start + 16)),
                false => _mm512_setzero_ps(),
            };
            let half: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            for (exact, half) in [(low, _mm512_castsi512_si256(half)), (high, _mm512_extracti64x4_epi64::<1>(half))] {
                let back = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
                let parts = |v: __m512| {
                    (_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_castps512_ps256(_mm512_shuffle_f32x4::<0b1110>(v, v))))
                };
                let ((e0, e1), (b0, b1)) = (parts(exact), parts(back));
                for (e, b) in [(e0, b0), (e1, b1)] {
                    let off = _mm512_sub_pd(e, b);
                    change = _mm512_fmadd_pd(off, off, change);
                    rounded = _mm512_fmadd_pd(b, b, rounded);
                }
            }
            _mm512_storeu_si512(pairs.as_mut_ptr().cast(), half);
            for (i, &pair) in pairs[..width.div_ceil(2)].iter().enumerate() {
                *out.add((start / 2 + i) * stride) = pair;
            }
        }
    }
    [change, rounded].map(|sum| _mm512_reduce_add_pd(sum).sqrt())
}

/// Fills the lists with every latent whose upper bound reaches its own limit and its row's. Rows with too many become undecided.
///
/// # Safety
/// The CPU must have what [`available`] asks for; panels and lists are of these pairs, lists reset, packed and with a limit for each latent of the panels.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub unsafe fn screen(panels: &Panels, lists: &mut Lists, pairs: usize, k: usize) {
    let groups = lists.len.len() / GROUP;
    let full = lists.stride - PANEL;
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let nothing = _mm512_set1_ps(f32::NEG_INFINITY);
    for (panel, weights) in panels.packed.chunks_exact(pairs * PANEL).enumerate() {
        let column = panel * PANEL;
        for group in 0..groups {
            // SAFETY: a panel has pairs * 32 elements and a group pairs * 12; the panel's statistics have 32 entries from `column`; a row has room for
            // 32 more entries before each tile.
            unsafe {
                let sums = tile(weights.as_ptr(), lists.packed.as_ptr().add(group * pairs * GROUP), pairs);
                let pick = |values: &[f32]| [_mm512_loadu_ps(values.as_ptr().add(column)), _mm512_loadu_ps(values.as_ptr().add(column + 16))];
                let (norm, change, slack, bias) = (pick(&panels.norm), pick(&panels.change), pick(&panels.slack), pick(&panels.bias));
                let limit = pick(&lists.limit);
                for (r, sums) in sums.iter().enumerate() {
                    let row = group * GROUP + r;
                    let by_norm = _mm512_set1_ps(*lists.by_norm.get_unchecked(row));
                    let by_change = _mm512_set1_ps(*lists.by_change.get_unchecked(row));
                    let least = _mm512_set1_ps(*lists.least.get_unchecked(row));
                    for half in 0..2 {
                        let z = _mm512_add_ps(sums[half], bias[half]);
                        let error = _mm512_fmadd_ps(by_norm, norm[half], _mm512_fmadd_ps(by_change, change[half], slack[half]));
                        let upper = _mm512_add_ps(z, error);
                        let found = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(upper, _mm512_max_ps(limit[half], least));
                        if found != 0 {
                            let at = row * lists.stride + *lists.len.get_unchecked(row);
                            // The second operand is the result where the first is NaN.
                            let lower = _mm512_max_ps(_mm512_sub_ps(z, error), nothing);
                            let number = _mm512_add_epi32(lanes, _mm512_set1_epi32((column + 16 * half) as i32));
                            _mm512_storeu_ps(lists.upper.as_mut_ptr().add(at), _mm512_maskz_compress_ps(found, upper));
                            _mm512_storeu_ps(lists.lower.as_mut_ptr().add(at), _mm512_maskz_compress_ps(found, lower));
                            _mm512_storeu_si512(lists.latent.as_mut_ptr().add(at).cast(), _mm512_maskz_compress_epi32(found, number));
                            *lists.len.get_unchecked_mut(row) += found.count_ones() as usize;
                        }
                    }
                    if *lists.len.get_unchecked(row) > *lists.compact_at.get_unchecked(row) {
                        lists.raise(row, k);
                        drop_below_limit(lists, row);
                        lists.settle(row, full);
                    }
                }
            }
        }
    }
    for row in 0..lists.len.len() {
        lists.raise(row, k);
        // SAFETY: as promised by the caller.
        unsafe { drop_below_limit(lists, row) };
    }
}

/// Sums of 32 latents by 12 rows over all pairs.
///
/// # Safety
/// As [`screen`]; `weights` has pairs * 32 elements and `rows` pairs * 12.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn tile(weights: *const u32, rows: *const u32, pairs: usize) -> [[__m512; 2]; GROUP] {
    let mut sums = [[_mm512_setzero_ps(); 2]; GROUP];
    for pair in 0..pairs {
        // SAFETY: pair < pairs.
        unsafe {
            let first: __m512bh = std::mem::transmute(_mm512_loadu_si512(weights.add(pair * PANEL).cast()));
            let second: __m512bh = std::mem::transmute(_mm512_loadu_si512(weights.add(pair * PANEL + 16).cast()));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*rows.add(pair * GROUP + r) as i32));
                sums[0] = _mm512_dpbf16_ps(sums[0], first, x);
                sums[1] = _mm512_dpbf16_ps(sums[1], second, x);
            }
        }
    }
    sums
}
