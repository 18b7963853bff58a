//! From one row of pre-activations to its active latents: the k largest, or those that can be above a threshold. F = number of latents.

use super::simd::dispatch;

/// Latents per group whose maximum is taken first.
const GROUP: usize = 32;

/// Buffers of one thread, kept between rows.
#[derive(Debug, Default)]
pub struct SelectScratch {
    maxima: Vec<f32>,
    bits: Vec<u32>,
    keys: Vec<u64>,
    latent: Vec<u32>,
}

/// Appends the k largest of z = pre + bias that are above zero, latents ascending; of equal values the lower latent is kept.
///
/// Shapes: pre (F,), bias (F,). The k-th largest of the maxima of groups of 32 is a lower bound of the k-th largest value, so only groups that
/// reach it are looked at again. `topk_naive` is the oracle.
pub fn topk(pre: &[f32], bias: &[f32], k: usize, scratch: &mut SelectScratch, latent: &mut Vec<u32>, act: &mut Vec<f32>) {
    assert_eq!(pre.len(), bias.len(), "{} pre-activations, {} biases", pre.len(), bias.len());
    let SelectScratch { maxima, bits, keys, latent: found, .. } = scratch;
    let bound = bound_of_kth(pre, bias, k, maxima, bits);
    found.clear();
    candidates(pre, bias, maxima, bound, found);
    keep_largest(found.iter().map(|&j| (j, pre[j as usize] + bias[j as usize])), k, keys, latent, act);
}

/// Appends the k largest of (latent, z) that are above zero, latents ascending; of equal values the lower latent is kept.
pub fn keep_largest(values: impl Iterator<Item = (u32, f32)>, k: usize, keys: &mut Vec<u64>, latent: &mut Vec<u32>, act: &mut Vec<f32>) {
    // The value's bits above the complement of the latent: descending keys are descending values with the lower latent first.
    keys.clear();
    keys.extend(values.filter(|v| v.1 > 0.0).map(|(j, z)| (z.to_bits() as u64) << 32 | !j as u64));
    if keys.len() > k {
        keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
        keys.truncate(k);
    }
    keys.sort_unstable_by_key(|&key| !(key as u32));
    latent.extend(keys.iter().map(|&key| !(key as u32)));
    act.extend(keys.iter().map(|&key| f32::from_bits((key >> 32) as u32)));
}

/// All latents, ascending, that can be among the k largest and above zero if every true value is within `error` of pre + bias before the bias was added;
/// false where there are more than `most` of them. The factor (1 +- 4 * 2^-24) stands for the rounding of that addition.
#[allow(clippy::too_many_arguments)]
pub fn nearly_largest(
    pre: &[f32],
    bias: &[f32],
    k: usize,
    error: f64,
    most: usize,
    scratch: &mut SelectScratch,
    latent: &mut Vec<u32>,
    values: &mut Vec<f32>,
) -> bool {
    const ROUND: f64 = 4.0 / (1 << 24) as f64;
    let reach = |kth: f32| {
        let least = ((kth as f64 - error) * (1.0 - ROUND)).max(0.0);
        ((least / (1.0 + ROUND) - error) as f32).next_down()
    };
    let SelectScratch { maxima, bits, .. } = scratch;
    let bound = reach(bound_of_kth(pre, bias, k, maxima, bits));
    latent.clear();
    candidates(pre, bias, maxima, bound, latent);
    if latent.len() > k {
        // The k-th of the values themselves is at least the bound that the groups gave.
        let value = |&j: &u32| pre[j as usize] + bias[j as usize];
        values.clear();
        values.extend(latent.iter().map(value));
        let at = values.len() - k;
        let bound = reach(*values.select_nth_unstable_by(at, f32::total_cmp).1);
        latent.retain(|j| value(j) >= bound);
    }
    latent.len() <= most
}

/// A lower bound of the k-th largest value, and the maxima of the groups; the smallest positive number where fewer than k groups are above zero.
fn bound_of_kth(pre: &[f32], bias: &[f32], k: usize, maxima: &mut Vec<f32>, bits: &mut Vec<u32>) -> f32 {
    maxima.resize(pre.len().div_ceil(GROUP), 0.0);
    group_maxima(pre, bias, maxima);
    let least = f32::from_bits(1);
    if maxima.len() <= k {
        return least;
    }
    // The bits of floats that are not negative have the order of the floats.
    bits.clear();
    bits.extend(maxima.iter().map(|&m| if m > 0.0 { m.to_bits() } else { 0 }));
    let at = bits.len() - k;
    f32::from_bits(*bits.select_nth_unstable(at).1).max(least)
}

/// All latents, ascending, whose z can be above `floor` and their threshold (none: the floor) if every true value is within `error` of pre before the bias was added.
///
/// Shapes: pre (F,), bias (F,), threshold (F,). 16 * 2^-24 of the largest limit stands for the rounding of the two additions.
pub fn nearly_above(
    pre: &[f32],
    bias: &[f32],
    (floor, threshold): (f32, Option<&[f32]>),
    error: f64,
    scratch: &mut SelectScratch,
    latent: &mut Vec<u32>,
) {
    const ROUND: f64 = 16.0 / (1 << 24) as f64;
    let f = pre.len();
    assert_eq!(f, bias.len(), "{f} pre-activations, {} biases", bias.len());
    assert!(threshold.is_none_or(|t| t.len() == f), "{f} pre-activations, {} thresholds", threshold.map_or(0, <[f32]>::len));
    let finite = |most: f32, t: &f32| if t.is_finite() { most.max(*t) } else { most };
    let largest = threshold.map_or(floor, |t| t.iter().fold(floor, finite)) as f64;
    let margin = ((error + ROUND * (largest + error)) as f32).next_up();
    // A vector store may write 16 entries where fewer are kept.
    scratch.latent.resize(f + 16, 0);
    let n = above_into(pre, bias, Limits { margin, floor, threshold }, &mut scratch.latent);
    latent.clear();
    latent.extend_from_slice(&scratch.latent[..n]);
}

/// A latent is taken where pre + bias + margin > max(threshold, floor).
#[derive(Clone, Copy)]
struct Limits<'a> {
    margin: f32,
    floor: f32,
    threshold: Option<&'a [f32]>,
}

/// The oracle of [`topk`]: sorts everything.
pub fn topk_naive(pre: &[f32], bias: &[f32], k: usize) -> (Vec<u32>, Vec<f32>) {
    let z: Vec<f32> = pre.iter().zip(bias).map(|(p, b)| p + b).collect();
    let mut order: Vec<usize> = (0..z.len()).filter(|&j| z[j] > 0.0).collect();
    order.sort_by(|&a, &b| z[b].total_cmp(&z[a]).then(a.cmp(&b)));
    order.truncate(k);
    order.sort_unstable();
    (order.iter().map(|&j| j as u32).collect(), order.iter().map(|&j| z[j]).collect())
}

dispatch! {
    /// Largest pre + bias of each group of 32.
    pub fn group_maxima(pre: &[f32], bias: &[f32], maxima: &mut [f32]) {
        for ((pre, bias), out) in pre.chunks(GROUP).zip(bias.chunks(GROUP)).zip(maxima) {
            let mut most = [f32::NEG_INFINITY; GROUP];
            if pre.len() == GROUP {
                for i in 0..GROUP {
                    let z = pre[i] + bias[i];
                    // False for NaN, which must not hide the other values of its group.
                    most[i] = if z > most[i] { z } else { most[i] };
                }
            } else {
                for i in 0..pre.len() {
                    let z = pre[i] + bias[i];
                    most[i] = if z > most[i] { z } else { most[i] };
                }
            }
            let mut width = GROUP / 2;
            while width > 0 {
                for i in 0..width {
                    most[i] = if most[i] > most[i + width] { most[i] } else { most[i + width] };
                }
                width /= 2;
            }
            *out = most[0];
        }
    }
}

/// Latents whose values reach `bound`, ascending.
fn candidates(pre: &[f32], bias: &[f32], maxima: &[f32], bound: f32, latent: &mut Vec<u32>) {
    for (group, _) in maxima.iter().enumerate().filter(|(_, m)| **m >= bound) {
        let start = group * GROUP;
        let end = (start + GROUP).min(pre.len());
        let mut mask = reaching(&pre[start..end], &bias[start..end], bound);
        while mask != 0 {
            latent.push(start as u32 + mask.trailing_zeros());
            mask &= mask - 1;
        }
    }
}

dispatch! {
    /// Bit i says whether pre[i] + bias[i] reaches the bound; at most 32 values.
    pub fn reaching(pre: &[f32], bias: &[f32], bound: f32) -> u32 {
        let mut mask = 0;
        for (i, (p, b)) in pre.iter().zip(bias).enumerate() {
            mask |= ((p + b >= bound) as u32) << i;
        }
        mask
    }
}

fn above_into(pre: &[f32], bias: &[f32], limits: Limits, latent: &mut [u32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if super::simd::level() == super::simd::Level::Avx512 {
        // SAFETY: the CPU has AVX-512; inputs have equal length and the output 16 more (the caller's duty, checked in `nearly_above`).
        return unsafe { above_avx512(pre, bias, limits, latent) };
    }
    #[cfg(target_arch = "x86_64")]
    if super::simd::level() == super::simd::Level::Avx2 {
        // SAFETY: the CPU has AVX2; lengths as above.
        return unsafe { above_avx2(pre, bias, limits, latent) };
    }
    above_portable(pre, bias, limits, latent)
}

/// Branch-free: every entry is written, only those kept move the end.
fn above_portable(pre: &[f32], bias: &[f32], Limits { margin, floor, threshold }: Limits, latent: &mut [u32]) -> usize {
    let mut n = 0;
    for (j, (p, b)) in pre.iter().zip(bias).enumerate() {
        let least = threshold.map_or(floor, |t| t[j].max(floor));
        latent[n] = j as u32;
        n += (p + b + margin > least) as usize;
    }
    n
}

/// # Safety
/// The CPU must have AVX2; pre, bias and threshold have F elements, latent at least F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn above_avx2(pre: &[f32], bias: &[f32], limits: Limits, latent: &mut [u32]) -> usize {
    use std::arch::x86_64::*;
    let whole = pre.len() / 8 * 8;
    let (floor, margin) = (_mm256_set1_ps(limits.floor), _mm256_set1_ps(limits.margin));
    let mut n = 0;
    for start in (0..whole).step_by(8) {
        // SAFETY: eight elements from `start` exist in each of the inputs.
        let mut kept = unsafe {
            let z = _mm256_add_ps(_mm256_loadu_ps(pre.as_ptr().add(start)), _mm256_loadu_ps(bias.as_ptr().add(start)));
            let least = match limits.threshold {
                // The second operand is the result where the first is NaN, as in the portable form.
                Some(t) => _mm256_max_ps(_mm256_loadu_ps(t.as_ptr().add(start)), floor),
                None => floor,
            };
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(_mm256_add_ps(z, margin), least)) as u32
        };
        while kept != 0 {
            latent[n] = start as u32 + kept.trailing_zeros();
            (n, kept) = (n + 1, kept & (kept - 1));
        }
    }
    let late = Limits { threshold: limits.threshold.map(|t| &t[whole..]), ..limits };
    let late = above_portable(&pre[whole..], &bias[whole..], late, &mut latent[n..]);
    latent[n..n + late].iter_mut().for_each(|j| *j += whole as u32);
    n + late
}

/// # Safety
/// The CPU must have AVX-512 F; pre, bias and threshold have F elements, latent at least F + 16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn above_avx512(pre: &[f32], bias: &[f32], limits: Limits, latent: &mut [u32]) -> usize {
    use std::arch::x86_64::*;
    let f = pre.len();
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let (floor, margin) = (_mm512_set1_ps(limits.floor), _mm512_set1_ps(limits.margin));
    let mut n = 0;
    for start in (0..f).step_by(16) {
        let width = 16.min(f - start);
        let inside = (((1u32 << width) - 1) & 0xffff) as __mmask16;
        // SAFETY: loads are masked to the F elements; n <= start, so a store of 16 ends at or before F + 16.
        unsafe {
            let z = _mm512_add_ps(_mm512_maskz_loadu_ps(inside, pre.as_ptr().add(start)), _mm512_maskz_loadu_ps(inside, bias.as_ptr().add(start)));
            let least = match limits.threshold {
                Some(t) => _mm512_max_ps(_mm512_maskz_loadu_ps(inside, t.as_ptr().add(start)), floor),
                None => floor,
            };
            let kept = _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(inside, _mm512_add_ps(z, margin), least);
            if kept != 0 {
                let number = _mm512_add_epi32(lanes, _mm512_set1_epi32(start as i32));
                _mm512_storeu_si512(latent.as_mut_ptr().add(n).cast(), _mm512_maskz_compress_epi32(kept, number));
                n += kept.count_ones() as usize;
            }
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_k_largest_equal_the_sorted_oracle_with_ties_to_the_lower_latent(
            // Few distinct values, so that ties are common.
            values in prop::collection::vec(-3i8..12, 1..700), k in 1usize..40
        ) {
            let pre: Vec<f32> = values.iter().map(|&v| v as f32 * 0.5).collect();
            let bias: Vec<f32> = (0..pre.len()).map(|j| if j % 3 == 0 { 0.5 } else { 0.0 }).collect();
            let (mut latent, mut act) = (vec![], vec![]);
            topk(&pre, &bias, k, &mut SelectScratch::default(), &mut latent, &mut act);
            prop_assert_eq!((latent, act), topk_naive(&pre, &bias, k));
        }

        #[test]
        fn the_latents_near_or_above_their_threshold_equal_a_plain_filter(values in prop::collection::vec(-3i8..6, 1..100), error in 0usize..3) {
            let pre: Vec<f32> = values.iter().map(|&v| v as f32 * 0.5).collect();
            let bias = vec![0.25; pre.len()];
            // Between the values, so that the margin for rounding decides nothing.
            let error = error as f64 * 0.4;
            let threshold: Vec<f32> = (0..pre.len()).map(|j| j as f32 % 4.0 - 0.9).collect();
            for (floor, threshold) in [(0.1, None), (0.1, Some(&threshold[..])), (1.1, Some(&threshold[..]))] {
                let limit = |j: usize| threshold.map_or(floor, |t| t[j].max(floor));
                let keep = |j: &usize| pre[*j] as f64 + 0.25 + error > limit(*j) as f64;
                let want: Vec<u32> = (0..pre.len()).filter(keep).map(|j| j as u32).collect();
                let mut latent = vec![9];
                nearly_above(&pre, &bias, (floor, threshold), error, &mut SelectScratch::default(), &mut latent);
                prop_assert_eq!(&latent, &want);
                let limits = Limits { margin: error as f32 + 1e-5, floor, threshold };
                let mut slow = vec![0; pre.len() + 16];
                let n = above_portable(&pre, &bias, limits, &mut slow);
                prop_assert_eq!(&slow[..n], &want[..]);
            }
        }
    }
}
