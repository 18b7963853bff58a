//! The screen with AVX-512: each tile of sums is compared with its rows' limits as soon as it is made; no (B, F) matrix exists.
//!
//! Weights are packed in panels of 32 latents, [panel][word][latent], rows in groups of 12, [group][word][row]. A tile of 32 latents by 12 rows is 24 registers of sums,
//! which leaves room for two registers of weights and one input. `int8` and `bf16` make the tiles.

use super::lists::{Exact, Lists, Panels};
use std::arch::x86_64::*;
use std::ops::Range;

/// Latents of a panel: two registers.
pub const PANEL: usize = 32;

/// Rows of a group.
pub const GROUP: usize = 12;

/// Sums of products of a tile: 32 latents for each of 12 rows.
pub type Sums = [[__m512; 2]; GROUP];

/// Makes a tile from a panel, a group, their words and what the panel's sums start from.
pub type Tile = unsafe fn(*const u32, *const u32, usize, *const i32) -> Sums;

/// See [`Product::screen`](super::Product::screen).
///
/// # Safety
/// As there; `tile` is the product's.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub unsafe fn screen(
    panels: &Panels,
    (part, strip): (Range<usize>, Range<usize>),
    lists: &mut Lists,
    words: usize,
    largest: Option<(usize, &Exact)>,
    tile: Tile,
) {
    let full = lists.stride - PANEL;
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let nothing = _mm512_set1_ps(f32::NEG_INFINITY);
    for (panel, weights) in panels.packed.chunks_exact(words * PANEL).enumerate().skip(part.start).take(part.len()) {
        let column = panel * PANEL;
        for group in strip.clone() {
            // SAFETY: a panel has words * 32 elements and a group words * 12; the panel's statistics have 32 entries from `column`; a row has room for
            // 32 more entries before each tile.
            unsafe {
                let sums = tile(weights.as_ptr(), lists.packed.as_ptr().add(group * words * GROUP), words, panels.start.as_ptr().add(column));
                let pick = |values: &[f32]| [_mm512_loadu_ps(values.as_ptr().add(column)), _mm512_loadu_ps(values.as_ptr().add(column + 16))];
                let (norm, change, slack, bias) = (pick(&panels.norm), pick(&panels.change), pick(&panels.slack), pick(&panels.bias));
                let (limit, scale) = (pick(&lists.limit), pick(&panels.scale));
                for (r, sums) in sums.iter().enumerate() {
                    let row = group * GROUP + r;
                    let of_row = |values: &[f32]| _mm512_set1_ps(*values.get_unchecked(row));
                    let (by_norm, by_change, least, by_scale) =
                        (of_row(&lists.by_norm), of_row(&lists.by_change), of_row(&lists.least), of_row(&lists.scale));
                    let bounds = |half: usize| {
                        let z = _mm512_fmadd_ps(_mm512_mul_ps(sums[half], by_scale), scale[half], bias[half]);
                        let error = _mm512_fmadd_ps(by_norm, norm[half], _mm512_fmadd_ps(by_change, change[half], slack[half]));
                        let upper = _mm512_add_ps(z, error);
                        (z, error, upper, _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(upper, _mm512_max_ps(limit[half], least)))
                    };
                    let both = [bounds(0), bounds(1)];
                    if both[0].3 == 0 && both[1].3 == 0 {
                        continue;
                    }
                    let mut len = *lists.len.get_unchecked(row);
                    for (half, (z, error, upper, found)) in both.into_iter().enumerate() {
                        let n = found.count_ones() as usize;
                        if n == 0 {
                            continue;
                        }
                        let at = row * lists.stride + len;
                        // The second operand is the result where the first is NaN.
                        let lower = _mm512_max_ps(_mm512_sub_ps(z, error), nothing);
                        let number = _mm512_add_epi32(lanes, _mm512_set1_epi32((column + 16 * half) as i32));
                        let (upper, lower) = (_mm512_maskz_compress_ps(found, upper), _mm512_maskz_compress_ps(found, lower));
                        let number = _mm512_maskz_compress_epi32(found, number);
                        let to = (lists.upper.as_mut_ptr().add(at), lists.lower.as_mut_ptr().add(at), lists.latent.as_mut_ptr().add(at));
                        // Mostly there are one or two: a short store touches one line of the cache, not two.
                        if n <= 4 {
                            _mm_storeu_ps(to.0, _mm512_castps512_ps128(upper));
                            _mm_storeu_ps(to.1, _mm512_castps512_ps128(lower));
                            _mm_storeu_si128(to.2.cast(), _mm512_castsi512_si128(number));
                        } else {
                            _mm512_storeu_ps(to.0, upper);
                            _mm512_storeu_ps(to.1, lower);
                            _mm512_storeu_si512(to.2.cast(), number);
                        }
                        len += n;
                    }
                    *lists.len.get_unchecked_mut(row) = len;
                    if len > *lists.compact_at.get_unchecked(row) {
                        lists.compact(row, full, largest, |lists, row| drop_below_limit(lists, row));
                    }
                }
            }
        }
    }
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
