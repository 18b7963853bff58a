//! The screen's product where AVX-512 has BF16: weights and rows rounded to bf16, two to a word, the first input in its low half.

use super::avx512::{GROUP, PANEL, Sums};
use super::product::Packed;
use crate::kernels::simd::{Level, level};
use std::arch::x86_64::*;

/// Whether the CPU has the instructions of this file.
pub fn available() -> bool {
    level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")
}

/// Packs one row x (D,) as bf16 pairs `stride` elements apart, an odd last input with zero.
///
/// Rounding is to nearest even, and numbers that bf16 has no normal number for become zero: `out` holds what the product reads.
///
/// # Safety
/// The CPU must have AVX-512 F, BW and BF16; `out` must have `(ceil(D / 2) - 1) * stride + 1` elements.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn pack(x: &[f32], out: *mut u32, stride: usize) -> Packed {
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
    let [change, norm] = [change, rounded].map(|sum| _mm512_reduce_add_pd(sum).sqrt());
    Packed { change, norm, scale: 1.0, start: 0 }
}

/// Sums of 32 latents by 12 rows over all words.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, DQ, VL and BF16; `weights` has words * 32 elements and `rows` words * 12.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub unsafe fn tile(weights: *const u32, rows: *const u32, words: usize, _: *const i32) -> Sums {
    let mut sums = [[_mm512_setzero_ps(); 2]; GROUP];
    for word in 0..words {
        // SAFETY: word < words.
        unsafe {
            let first: __m512bh = std::mem::transmute(_mm512_loadu_si512(weights.add(word * PANEL).cast()));
            let second: __m512bh = std::mem::transmute(_mm512_loadu_si512(weights.add(word * PANEL + 16).cast()));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*rows.add(word * GROUP + r) as i32));
                sums[0] = _mm512_dpbf16_ps(sums[0], first, x);
                sums[1] = _mm512_dpbf16_ps(sums[1], second, x);
            }
        }
    }
    sums
}
