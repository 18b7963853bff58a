//! Matching pursuit (Mallat and Zhang 1993; as an SAE: Costa et al. 2025): the latent whose direction agrees most with what is left of the row is taken out of it,
//! again and again. Encoder and decoder are one.
//!
//! r_0 = x - b_dec, j_i = the latent with the largest w[j] . r_(i-1), a_i = that product, r_i = r_(i-1) - a_i w[j_i]. It stops after k picks, where no product is above
//! zero, behind a latent that came a second time, whose two products are added, and behind a pick that leaves |r| below `least`: as SAELens does with
//! `stop_on_duplicate_support`.
//!
//! n = rows, D = d_in, F = d_sae. Every pick costs a product of all rows with all directions: some k times the encoder of the others. That product, whose order of summation
//! depends on how many rows there are and on the machine, only says which latents may be the one; what is taken is decided, and measured, by sums in one order.

use super::encode::{CHUNK, block_rows, grow};
use super::{Select, SparseRows};
use crate::kernels::gemm::matmul_nt;
use crate::kernels::screen::{gamma, norm};
use crate::kernels::sparse::{axpy, dot};
use rayon::prelude::*;

/// What one row has taken, in order: (latent, product). Only the last may be of a latent that is there before.
pub(super) type Picks = Vec<(u32, f32)>;

/// The latent that came a second time, if one did.
pub(super) fn repeated(picks: &Picks) -> Option<u32> {
    let ((last, _), before) = picks.split_last()?;
    before.iter().any(|(latent, _)| latent == last).then_some(*last)
}

/// Rows that are pursued at a time.
pub(super) fn rows_at_once(d_sae: usize) -> usize {
    block_rows(d_sae).min(512)
}

/// Takes up to k picks out of each row of `residual` (n, D), n at most [`rows_at_once`]; `w` (F, D) has unit rows.
pub(super) fn pursue(w: &[f32], residual: &mut [f32], d: usize, (k, least): (usize, f32), pre: &mut Vec<f32>) -> Vec<Picks> {
    let (n, f) = (residual.len() / d, w.len() / d);
    let mut picks: Vec<Picks> = vec![Vec::new(); n];
    let mut done = vec![false; n];
    for _ in 0..k {
        let pre = grow(pre, n * f);
        matmul_nt(n, f, d, residual, w, pre, false);
        (residual.par_chunks_mut(d), pre.par_chunks(f), &mut picks, &mut done)
            .into_par_iter()
            .filter(|(.., done)| !**done)
            .for_each(|(residual, pre, picks, done)| *done = !pick(w, residual, pre, picks, least));
        if done.iter().all(|&done| done) {
            break;
        }
    }
    picks
}

/// Directions of norm 1 are this long at most.
const MOST_NORM: f64 = 1.001;

/// One pick of one row; whether it goes on.
fn pick(w: &[f32], residual: &mut [f32], products: &[f32], picks: &mut Picks, least: f32) -> bool {
    let d = residual.len();
    let most = products.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Two sums of the same products are at most g(D) |w| |r| off the exact one each, and so is each of the two latents that are compared.
    let room = (4.0 * gamma(d) * MOST_NORM * norm(residual)) as f32 + f32::MIN_POSITIVE;
    let near = (0..products.len()).filter(|&j| products[j] >= most - room).map(|j| (j, dot(&w[j * d..][..d], residual)));
    // Of equal products the lower latent.
    let best = near.fold((0, f32::NEG_INFINITY), |best, (j, z)| if z > best.1 { (j, z) } else { best });
    if best.1 <= 0.0 {
        return false;
    }
    axpy(-best.1, &w[best.0 * d..][..d], residual);
    picks.push((best.0 as u32, best.1));
    repeated(picks).is_none() && (least <= 0.0 || dot(residual, residual).sqrt() >= least)
}

/// Encodes rows x (n, D), b_dec already subtracted, behind those of `out`.
pub(super) fn encode(w: &[f32], x: &[f32], d: usize, rule: (usize, f32), pre: &mut Vec<f32>, out: &mut SparseRows) {
    for x in x.chunks(rows_at_once(w.len() / d) * d) {
        let mut residual = x.to_vec();
        for mut picks in pursue(w, &mut residual, d, rule, pre) {
            picks.sort_by_key(|pick| pick.0);
            picks.dedup_by(|second, first| {
                let same = second.0 == first.0;
                first.1 += if same { second.1 } else { 0.0 };
                same
            });
            let (latent, act): (Vec<u32>, Vec<f32>) = picks.into_iter().unzip();
            out.push_row(&latent, &act);
        }
    }
}

/// The oracle of [`encode`] on one row, in f64: dense activations (F,).
pub(super) fn encode_naive(w: &[f32], x: &[f64], (k, least): (usize, f32)) -> Vec<f32> {
    let d = x.len();
    let mut acts = vec![0.0; w.len() / d];
    let mut residual = x.to_vec();
    for _ in 0..k {
        let product = |w: &[f32]| w.iter().zip(&residual).map(|(w, r)| *w as f64 * r).sum::<f64>();
        let products: Vec<f64> = w.chunks_exact(d).map(product).collect();
        let best = (0..products.len()).rev().max_by(|&a, &b| products[a].total_cmp(&products[b])).expect("there are latents");
        if products[best] <= 0.0 {
            break;
        }
        residual.iter_mut().zip(&w[best * d..]).for_each(|(r, w)| *r -= products[best] * *w as f64);
        let came_before = acts[best] != 0.0;
        acts[best] += products[best] as f32;
        let left = residual.iter().map(|r| r * r).sum::<f64>().sqrt();
        if came_before || (least > 0.0 && left < least as f64) {
            break;
        }
    }
    acts
}

impl Select {
    /// The settings of a pursuit, if it is one.
    pub(super) fn pursuit(&self) -> Option<(usize, f32)> {
        match self {
            Select::Pursuit { k, least } => Some((*k, *least)),
            _ => None,
        }
    }
}

/// Rows that one thread takes back at a time.
pub(super) const BACK: usize = CHUNK;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::random;
    use crate::sae::model::unit_rows;

    #[test]
    fn a_latent_that_comes_a_second_time_is_taken_once_more_and_ends_the_row() {
        // w0 and w1 lie 120 degrees apart: what one takes gives some of the other back.
        let half = 3.0f32.sqrt() / 2.0;
        let (w, x) = ([1.0, 0.0, -0.5, half], [1.0, 2.0]);
        let mut residual = x.to_vec();
        let picks = pursue(&w, &mut residual, 2, (8, 0.0), &mut Vec::new()).remove(0);
        assert_eq!(picks.iter().map(|pick| pick.0).collect::<Vec<_>>(), [1, 0, 1]);
        assert_eq!((repeated(&picks), repeated(&picks[..2].to_vec())), (Some(1), None));
        let mut out = SparseRows::default();
        encode(&w, &x, 2, (8, 0.0), &mut Vec::new(), &mut out);
        assert_eq!(out.row(0), (&[0, 1][..], &[picks[1].1, picks[0].1 + picks[2].1][..]));
        let naive = encode_naive(&w, &[1.0, 2.0], (8, 0.0));
        assert!(naive.iter().zip(out.row(0).1).all(|(a, b)| (a - b).abs() < 1e-6), "{naive:?}");
        // What is left is 1.87 long behind the first pick and 0.93 behind the second.
        for (rule, n) in [((2, 0.0), 2), ((8, 1.0), 2), ((8, 2.0), 1)] {
            assert_eq!(pursue(&w, &mut x.to_vec(), 2, rule, &mut Vec::new())[0].len(), n, "{rule:?}");
        }
    }

    #[test]
    fn a_row_is_pursued_to_the_same_bits_alone_and_among_others() {
        // One row of so many products, two, and many: three ways in which a product of matrices is summed.
        let (d, f, n) = (64, 512, 40);
        let (w, x) = (unit_rows(&random(f * d, 1), d), random(n * d, 2));
        let encoded = |x: &[f32]| {
            let mut out = SparseRows::default();
            encode(&w, x, d, (8, 0.0), &mut Vec::new(), &mut out);
            (out.latent, out.act.iter().map(|a| a.to_bits()).collect::<Vec<u32>>())
        };
        let (latent, act) = encoded(&x);
        for rows in [1, 2, 7] {
            let apart: Vec<_> = x.chunks(rows * d).map(encoded).collect();
            assert_eq!(apart.iter().flat_map(|(latent, _)| latent).copied().collect::<Vec<u32>>(), latent, "{rows}");
            assert_eq!(apart.iter().flat_map(|(_, act)| act).copied().collect::<Vec<u32>>(), act, "{rows}");
        }
    }
}
