//! The screen's product where AVX-512 has VNNI: 8-bit integers, twice as many to an instruction as bf16, summed without any error.
//!
//! **Rotation.** The largest entry of a row decides the step of all its integers, so rows and weights are rotated by one orthogonal matrix first, which leaves their products as they are
//! and makes their entries alike in size: signs drawn once, then Walsh-Hadamard transforms of 16 to 1,024 entries, in f32. A row of width D is cut into such blocks greedily; its
//! last D mod 16 entries stay as they are. A level of a transform, one addition for each entry, errs by at most u of the norm of its result, and so do signs with scale: eleven of them and what
//! the scale itself is off by are less than 16u |v|.
//!
//! **Nothing overflows.** Integers of weights are -127 ..= 127; those of inputs too, with 128 added because one factor of the instruction is unsigned. Sums begin at -128 times the sum of the
//! weights, so that what they end at is the product of the signed numbers, at most 127^2 [`MOST_INPUTS`] < 2^31; on the way they may wrap.

use super::U;
use super::avx512::{GROUP, PANEL, Sums};
use super::product::{Packed, Side};
use crate::kernels::simd::{Level, level};
use std::arch::x86_64::*;

/// Wider rows could overflow a sum.
pub const MOST_INPUTS: usize = 1 << 16;

/// Rows of a smaller norm are packed as zeros: their scale would lose its precision.
const SMALLEST: f64 = 1e-30;

const LARGEST: f32 = 127.0;

/// Registers of the largest block that is rotated as one: 1,024 entries.
const LARGEST_BLOCK: usize = 64;

/// The signs of the rotation, the same for each 1,024 entries: bits of a Weyl sequence, mixed.
const SIGNS: [u16; LARGEST_BLOCK] = {
    let mut signs = [0; LARGEST_BLOCK];
    let mut i = 0;
    while i < LARGEST_BLOCK {
        let x = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ x >> 31).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        signs[i] = (x >> 40) as u16;
        i += 1;
    }
    signs
};

/// Whether the CPU has the instructions of this file.
pub fn available() -> bool {
    level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni")
}

/// Packs one row v (D,) of this norm, rotated, as words of four integers `stride` elements apart, the last one filled up with zeros.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, DQ and VL; `out` must have `(ceil(D / 4) - 1) * stride + 1` elements.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub unsafe fn pack(v: &[f32], norm: f64, side: Side, out: *mut u32, stride: usize) -> Packed {
    let d = v.len();
    let mut room = [0.0f32; 2048];
    let mut large = Vec::new();
    let padded = d.next_multiple_of(16);
    let rotated = if padded <= room.len() {
        &mut room[..padded]
    } else {
        large.resize(padded, 0.0);
        &mut large[..]
    };
    // SAFETY: `rotated` has whole registers for D entries.
    let largest = unsafe { rotate(v, rotated) };
    // Rounded up, so that it is nowhere too small.
    let (scale, inverse) = match norm < SMALLEST {
        true => (1.0, 0.0),
        false => {
            let scale = (largest / LARGEST).next_up();
            (scale, scale.recip())
        }
    };
    let (by_inverse, by_scale) = (_mm512_set1_ps(inverse), _mm512_set1_ps(scale));
    let flip = if side == Side::Input { u32::MAX / 255 * 128 } else { 0 };
    let mut change = [_mm512_setzero_pd(); 2];
    let (mut square, mut sum) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (i, entries) in rotated.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: a chunk has sixteen floats, and a word is stored where it is one of the row's.
        unsafe {
            let exact = _mm512_loadu_ps(entries.as_ptr());
            // Saturated only where rounding took a product past 127.5, which its own difference shows.
            let q = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(exact, by_inverse)));
            let wide = _mm512_cvtepi8_epi32(q);
            // Rounded once, to within u of itself.
            let off = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(wide), by_scale, exact);
            for (sum, half) in change.iter_mut().zip([_mm512_castps512_ps256(off), _mm512_extractf32x8_ps::<1>(off)]) {
                let off = _mm512_cvtps_pd(half);
                *sum = _mm512_fmadd_pd(off, off, *sum);
            }
            square = _mm512_add_epi32(square, _mm512_mullo_epi32(wide, wide));
            sum = _mm512_add_epi32(sum, wide);
            let words: [u32; 4] = std::mem::transmute(q);
            for (w, word) in words.into_iter().enumerate().take((d - 16 * i).div_ceil(4)) {
                *out.add((4 * i + w) * stride) = word ^ flip;
            }
        }
    }
    // What is packed as zeros is off by all of it, which scaling may have rounded away.
    let change = if norm < SMALLEST { norm } else { _mm512_reduce_add_pd(_mm512_add_pd(change[0], change[1])).sqrt() + 16.0 * U * norm };
    // Squares add up to at most 127^2 D, which an i32 holds.
    let rounded = (_mm512_reduce_add_epi32(square) as f64).sqrt() * scale as f64;
    Packed { change, norm: rounded, scale, start: _mm512_reduce_add_epi32(sum).wrapping_mul(-128) }
}

/// The rotated row, zeros behind it; returns its largest absolute entry.
///
/// # Safety
/// The CPU must have AVX-512 F and DQ; `out` must have D rounded up to 16 entries.
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn rotate(v: &[f32], out: &mut [f32]) -> f32 {
    let whole = v.len() / 16;
    let (plus, minus) = (_mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
    // Lanes whose number has bit 0, 1, 2, 3 take the difference, the others the sum.
    let (one, two) = (_mm512_mask_blend_ps(0xAAAA, plus, minus), _mm512_mask_blend_ps(0xCCCC, plus, minus));
    let (four, eight) = (_mm512_mask_blend_ps(0xF0F0, plus, minus), _mm512_mask_blend_ps(0xFF00, plus, minus));
    let mut start = 0;
    while start < whole {
        let block = LARGEST_BLOCK.min(1 << (whole - start).ilog2());
        let scale = 1.0 / ((16 * block) as f32).sqrt();
        for (i, &negative) in SIGNS[..block].iter().enumerate() {
            // SAFETY: register start + i is a whole one of v and of `out`.
            unsafe {
                let x = _mm512_loadu_ps(v.as_ptr().add(16 * (start + i)));
                let x = _mm512_mul_ps(x, _mm512_mask_blend_ps(negative, _mm512_set1_ps(scale), _mm512_set1_ps(-scale)));
                let x = _mm512_fmadd_ps(x, one, _mm512_permute_ps::<0b10_11_00_01>(x));
                let x = _mm512_fmadd_ps(x, two, _mm512_permute_ps::<0b01_00_11_10>(x));
                let x = _mm512_fmadd_ps(x, four, _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x));
                let x = _mm512_fmadd_ps(x, eight, _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x));
                _mm512_storeu_ps(out.as_mut_ptr().add(16 * (start + i)), x);
            }
        }
        let mut half = 1;
        while half < block {
            for pair in out[16 * start..16 * (start + block)].chunks_exact_mut(32 * half) {
                let (a, b) = pair.split_at_mut(16 * half);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        start += block;
    }
    out[16 * whole..].fill(0.0);
    out[16 * whole..][..v.len() - 16 * whole].copy_from_slice(&v[16 * whole..]);
    let mut largest = _mm512_setzero_ps();
    for entries in out.as_chunks::<16>().0 {
        // SAFETY: a chunk has sixteen floats.
        largest = _mm512_max_ps(largest, _mm512_abs_ps(unsafe { _mm512_loadu_ps(entries.as_ptr()) }));
    }
    _mm512_reduce_max_ps(largest)
}

/// Sums of 32 latents by 12 rows over all words, as f32.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, DQ, VL and VNNI; `weights` has words * 32 elements, `rows` words * 12 and `start` 32.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub unsafe fn tile(weights: *const u32, rows: *const u32, words: usize, start: *const i32) -> Sums {
    // SAFETY: promised by the caller; word < words.
    unsafe {
        let start = [_mm512_loadu_si512(start.cast()), _mm512_loadu_si512(start.add(16).cast())];
        let mut sums = [start; GROUP];
        for word in 0..words {
            let first = _mm512_loadu_si512(weights.add(word * PANEL).cast());
            let second = _mm512_loadu_si512(weights.add(word * PANEL + 16).cast());
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(*rows.add(word * GROUP + r) as i32);
                sums[0] = _mm512_dpbusd_epi32(sums[0], x, first);
                sums[1] = _mm512_dpbusd_epi32(sums[1], x, second);
            }
        }
        let mut products = [[_mm512_setzero_ps(); 2]; GROUP];
        for (products, sums) in products.iter_mut().zip(&sums) {
            *products = [_mm512_cvtepi32_ps(sums[0]), _mm512_cvtepi32_ps(sums[1])];
        }
        products
    }
}
