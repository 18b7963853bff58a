//! The inner loops with their sums, or a row of one factor, in registers.

use super::{DEPTH, FEW, SPAN, STRIP, Tile, WIDE};
use std::arch::x86_64::*;

const LANES: usize = 16;

/// Bit t: element t of up to 64 is not zero, or not a number.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline]
#[target_feature(enable = "avx512f")]
pub unsafe fn not_zero(a: &[f32]) -> u64 {
    a.chunks(LANES).enumerate().fold(0, |mask, (i, a)| {
        // SAFETY: as many elements are read as there are.
        let x = unsafe { _mm512_maskz_loadu_ps(first_columns(a.len(), 0), a.as_ptr()) };
        mask | u64::from(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(x, _mm512_setzero_ps())) << (LANES * i)
    })
}

/// As [`super::add`].
///
/// # Safety
/// The CPU has AVX-512 F; `width` is at most STRIP, and each row of c (rows, stride) has so many elements.
#[target_feature(enable = "avx512f")]
pub unsafe fn add(tile: &Tile, part: usize, block: &[f32], c: &mut [f32], stride: usize, width: usize) {
    // SAFETY: as promised; N registers hold `width` columns.
    unsafe {
        match width.div_ceil(LANES) {
            0..=4 => add_columns::<4>(tile, part, block, c, stride, width),
            _ => add_columns::<{ STRIP / LANES }>(tile, part, block, c, stride, width),
        }
    }
}

/// The rows of the block that `left` names, bits below DEPTH, are added to each sum times its coefficient. A macro: as a function it is not always inlined, and sums
/// that are in memory cost three times as much.
macro_rules! add_rows {
    ($left:expr, $block:expr, $($coef:expr => $sums:expr),+) => {
        let mut left: u64 = $left;
        while left != 0 {
            let t = left.trailing_zeros() as usize;
            left &= left - 1;
            let row = $block.as_ptr().add(t * STRIP);
            for i in 0..N {
                let row = _mm512_loadu_ps(row.add(LANES * i));
                $($sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(*$coef.add(t)), row, $sums[i]);)+
            }
        }
    };
}

/// # Safety
/// As [`add`], and `width` is at most 16 N, N at most STRIP / 16.
#[target_feature(enable = "avx512f")]
unsafe fn add_columns<const N: usize>(tile: &Tile, part: usize, block: &[f32], c: &mut [f32], stride: usize, width: usize) {
    let rows = tile.rows();
    assert!(rows == 0 || c.len() >= (rows - 1) * stride + width);
    assert!(block.len() >= DEPTH * STRIP && tile.coef.len() >= rows * SPAN);
    for (pair, masks) in tile.masks.chunks(2).enumerate() {
        let one = masks[0][part];
        let two = masks.get(1).map_or(0, |masks| masks[part]);
        if one | two == 0 {
            continue;
        }
        // SAFETY: bits are below DEPTH, so they name rows of the block and coefficients of the tile; row r of c has `width` elements (asserted above).
        unsafe {
            let coef = [2 * pair, 2 * pair + 1].map(|r| tile.coef.as_ptr().wrapping_add(r * SPAN + part * DEPTH));
            let [mut first, mut second] = [[_mm512_setzero_ps(); N]; 2];
            add_rows!(one & two, block, coef[0] => first, coef[1] => second);
            add_rows!(one & !two, block, coef[0] => first);
            add_rows!(two & !one, block, coef[1] => second);
            for (r, sums) in [first, second].iter().take(masks.len()).enumerate() {
                let to = c.as_mut_ptr().add((2 * pair + r) * stride);
                for (i, &sum) in sums.iter().enumerate() {
                    // Behind the last column nothing is read or written.
                    let to = to.wrapping_add(LANES * i);
                    if width == LANES * N {
                        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sum));
                    } else {
                        let columns = first_columns(width, i);
                        _mm512_mask_storeu_ps(to, columns, _mm512_add_ps(_mm512_maskz_loadu_ps(columns, to), sum));
                    }
                }
            }
        }
    }
}

/// As [`super::dot`].
///
/// # Safety
/// The CPU has AVX-512 F; `width` is at most WIDE, and each row of a (rows, stride) has so many elements.
#[target_feature(enable = "avx512f")]
pub unsafe fn dot(tile: &Tile, part: usize, block: &[f32], a: &[f32], stride: usize, width: usize, sums: &mut [f32]) {
    // SAFETY: as promised; N registers hold `width` columns.
    unsafe {
        match width.div_ceil(LANES) {
            0..=4 => dot_columns::<4>(tile, part, block, a, stride, width, sums),
            5..=8 => dot_columns::<8>(tile, part, block, a, stride, width, sums),
            _ => dot_columns::<{ WIDE / LANES }>(tile, part, block, a, stride, width, sums),
        }
    }
}

/// # Safety
/// As [`dot`], and `width` is at most 16 N, N at most WIDE / 16.
#[target_feature(enable = "avx512f")]
unsafe fn dot_columns<const N: usize>(tile: &Tile, part: usize, block: &[f32], a: &[f32], stride: usize, width: usize, sums: &mut [f32]) {
    let rows = tile.rows();
    assert!(rows == 0 || a.len() >= (rows - 1) * stride + width);
    assert!(block.len() >= FEW * WIDE && sums.len() >= rows * SPAN);
    // Inner products that are not yet summed over their lanes, and where they go: what a row has left over waits for the next.
    let mut waiting = [_mm512_setzero_ps(); LANES + FEW];
    let mut to = [0; LANES + FEW];
    let mut n = 0;
    for r in 0..rows {
        let mut left = tile.few(r, part);
        if left == 0 {
            continue;
        }
        // SAFETY: bits are below FEW, so t is a row of the block; row r of a has `width` elements (asserted above).
        unsafe {
            let from = a.as_ptr().add(r * stride);
            let mut x = [_mm512_setzero_ps(); N];
            for (i, x) in x.iter_mut().enumerate() {
                // Behind the last column nothing is read.
                let from = from.wrapping_add(LANES * i);
                *x = if width == LANES * N { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps(first_columns(width, i), from) };
            }
            while left != 0 {
                let t = left.trailing_zeros() as usize;
                left &= left - 1;
                let row = block.as_ptr().add(t * WIDE);
                let mut chains = [_mm512_setzero_ps(); 4];
                for (i, &x) in x.iter().enumerate() {
                    chains[i % 4] = _mm512_fmadd_ps(x, _mm512_loadu_ps(row.add(LANES * i)), chains[i % 4]);
                }
                waiting[n] = _mm512_add_ps(_mm512_add_ps(chains[0], chains[1]), _mm512_add_ps(chains[2], chains[3]));
                to[n] = r * SPAN + part * FEW + t;
                n += 1;
            }
        }
        while n >= LANES {
            n -= LANES;
            add_lane_sums(waiting[n..][..LANES].first_chunk().expect("sixteen"), &to[n..][..LANES], sums);
        }
    }
    add_lane_sums(waiting.first_chunk().expect("sixteen"), &to[..n], sums);
}

/// sums[to[i]] += the lanes of x[i].
#[inline]
#[target_feature(enable = "avx512f")]
fn add_lane_sums(x: &[__m512; LANES], to: &[usize], sums: &mut [f32]) {
    let mut totals = [0.0f32; LANES];
    // SAFETY: sixteen elements are written to sixteen.
    unsafe { _mm512_storeu_ps(totals.as_mut_ptr(), lane_sums(x)) };
    for (&to, total) in to.iter().zip(totals) {
        sums[to] += total;
    }
}

/// Element i is the sum over the lanes of x[i].
#[inline]
#[target_feature(enable = "avx512f")]
fn lane_sums(x: &[__m512; LANES]) -> __m512 {
    let halves = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let quarters = |a, b| {
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
    };
    let across = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
    // Of four vectors: lane 4 q + i has a quarter q of the sum of the i-th.
    let four = |i: usize| quarters(halves(x[i], x[i + 1]), halves(x[i + 2], x[i + 3]));
    across(across(four(0), four(4)), across(four(8), four(12)))
}

/// coef[r, t] = a[t, r], in squares of 16. Shapes: a (depth, stride), coef (_, SPAN); rows and depth are multiples of 16.
///
/// # Safety
/// The CPU has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub unsafe fn transpose(a: &[f32], stride: usize, (rows, depth): (usize, usize), coef: &mut [f32]) {
    assert!(rows.is_multiple_of(LANES) && depth.is_multiple_of(LANES) && depth <= SPAN);
    assert!(rows == 0 || depth == 0 || (a.len() >= (depth - 1) * stride + rows && coef.len() >= rows * SPAN));
    // Along the rows of a, which is what the memory is asked for in.
    for t in (0..depth).step_by(LANES) {
        for first in (0..rows).step_by(LANES) {
            let mut square = [_mm512_setzero_ps(); LANES];
            for (i, x) in square.iter_mut().enumerate() {
                // SAFETY: row t + i of a has `rows` elements (asserted above).
                *x = unsafe { _mm512_loadu_ps(a.as_ptr().add((t + i) * stride + first)) };
            }
            for (i, x) in transposed(square).into_iter().enumerate() {
                // SAFETY: row first + i of coef has SPAN elements, t + 16 of which exist.
                unsafe { _mm512_storeu_ps(coef.as_mut_ptr().add((first + i) * SPAN + t), x) };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(x: [__m512; LANES]) -> [__m512; LANES] {
    let pair = |a, b| {
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        [_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b))]
    };
    // columns[g][q]: lane 4 l + i has element 4 l + q of row 4 g + i.
    let columns: [[__m512; 4]; 4] = std::array::from_fn(|g| {
        let [a, b, c, d] = [x[4 * g], x[4 * g + 1], x[4 * g + 2], x[4 * g + 3]];
        let [even, odd] = [pair(_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)), pair(_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d))];
        [even[0], even[1], odd[0], odd[1]]
    });
    let mut out = x;
    for q in 0..4 {
        let [a, b, c, d] = [columns[0][q], columns[1][q], columns[2][q], columns[3][q]];
        let (low, high) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
        out[q] = _mm512_shuffle_f32x4::<0x88>(low, high);
        out[8 + q] = _mm512_shuffle_f32x4::<0xdd>(low, high);
        let (low, high) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
        out[4 + q] = _mm512_shuffle_f32x4::<0x88>(low, high);
        out[12 + q] = _mm512_shuffle_f32x4::<0xdd>(low, high);
    }
    out
}

/// Which of columns 16 i..16 i + 16 are among the first `width`.
#[inline]
fn first_columns(width: usize, i: usize) -> __mmask16 {
    let n = width.saturating_sub(LANES * i).min(LANES);
    ((1u32 << n) - 1) as __mmask16
}
