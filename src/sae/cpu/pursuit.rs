//! The step of matching pursuit. The equations are in `architectures/pursuit`.
//!
//! A latent's gradient is a sum over rows of vectors that are no multiples of the row or its error, so they are written down, a block of rows at a time, and gathered
//! latent by latent in the order of the rows.

use super::step::sum_rows;
use super::{LATENTS, Params};
use crate::kernels::sparse::{axpy, dot, gather_axpy};
use crate::sae::encode::grow;
use crate::sae::pursuit::{BACK, Picks, pursue, repeated, rows_at_once};
use rayon::prelude::*;

/// What a step of matching pursuit found.
pub(super) struct Pursued {
    pub squared_error: f64,
    pub active: u64,
    /// Of the gradient over everything but b_dec.
    pub squared_norm: f64,
}

/// Fills `gradient`; counts firings in `fires`. A decoder that does not move has no part in the norm. Shapes: centred (B, D).
pub(super) fn backward(
    params: &Params,
    rule: (usize, f32),
    centred: &[f32],
    pre: &mut Vec<f32>,
    (project, decoder_moves): (bool, bool),
    gradient: &mut Params,
    fires: &mut [u32],
) -> Pursued {
    let d = params.b_dec.len();
    let f = params.b_enc.len();
    let scale = 2.0 / (centred.len() / d) as f32;
    for zero in [&mut gradient.w_enc, &mut gradient.b_enc, &mut gradient.w_dec, &mut gradient.b_dec] {
        zero.fill(0.0);
    }
    let (mut residual, mut pulls) = (Vec::new(), Vec::new());
    let (mut squared_error, mut active) = (0.0, 0);
    let mut part = vec![0.0; d];
    for x in centred.chunks(rows_at_once(f) * d) {
        let residual = grow(&mut residual, x.len());
        residual.copy_from_slice(x);
        let picks = pursue(&params.w_dec, residual, d, rule, pre);
        squared_error += residual.chunks_exact(d).map(|r| dot(r, r) as f64).sum::<f64>();
        let mut first: Vec<usize> = vec![0];
        picks.iter().for_each(|picks| first.push(first[first.len() - 1] + picks.len()));
        let n_picks = first[picks.len()];
        let n_repeated = picks.iter().filter_map(repeated).count();
        active += (n_picks - n_repeated) as u64;
        let pulls = grow(&mut pulls, n_picks * d);
        back(params, &picks, residual, scale, pulls);
        sum_rows(residual, d, d, &mut part);
        axpy(-1.0, &part, &mut gradient.b_dec);
        gather(&picks, &first, pulls, d, &mut gradient.w_dec, fires);
    }
    let squares: Vec<f64> = (gradient.w_dec.par_chunks_mut(LATENTS * d), params.w_dec.par_chunks(LATENTS * d))
        .into_par_iter()
        .map(|(g, w)| {
            let mut squared = 0.0;
            for (g, w) in g.chunks_exact_mut(d).zip(w.chunks_exact(d)) {
                if project {
                    axpy(-dot(g, w) / dot(w, w).max(f32::MIN_POSITIVE), w, g);
                }
                squared += if decoder_moves { dot(g, g) as f64 } else { 0.0 };
            }
            squared
        })
        .collect();
    Pursued { squared_error, active, squared_norm: squares.iter().sum() }
}

/// Goes back through the picks of each row: `residual` (n, D) becomes the gradient of the row, `pulls` (picks, D) those of the directions taken.
fn back(params: &Params, picks: &[Picks], residual: &mut [f32], scale: f32, pulls: &mut [f32]) {
    let d = params.b_dec.len();
    // Every row's part of `pulls`, so that rows can be worked on side by side.
    let mut rest = pulls;
    let mut parts: Vec<&mut [f32]> = Vec::with_capacity(picks.len());
    for picks in picks {
        let (part, others) = rest.split_at_mut(picks.len() * d);
        parts.push(part);
        rest = others;
    }
    (residual.par_chunks_mut(BACK * d), picks.par_chunks(BACK), parts.par_chunks_mut(BACK)).into_par_iter().for_each(|(residual, picks, parts)| {
        let mut g = vec![0.0; d];
        for ((r, picks), pulls) in residual.chunks_exact_mut(d).zip(picks).zip(parts) {
            g.iter_mut().zip(&*r).for_each(|(g, r)| *g = scale * r);
            for (&(j, a), pull) in picks.iter().zip(pulls.chunks_exact_mut(d)).rev() {
                let w = &params.w_dec[j as usize * d..][..d];
                let s = dot(&g, w);
                axpy(a, w, r);
                pull.iter_mut().zip(&g).zip(&*r).for_each(|((pull, g), r)| *pull = -(a * g + s * r));
                axpy(-s, w, &mut g);
            }
            r.copy_from_slice(&g);
        }
    });
}

/// Adds the pulls (picks, D) to the gradients of their latents, rows in order.
fn gather(picks: &[Picks], first: &[usize], pulls: &[f32], d: usize, d_w_dec: &mut [f32], fires: &mut [u32]) {
    let mut start = vec![0; fires.len() + 1];
    picks.iter().flatten().for_each(|&(j, _)| start[j as usize + 1] += 1);
    for j in 0..fires.len() {
        fires[j] += start[j + 1] as u32;
        start[j + 1] += start[j];
    }
    // Active once, however often it was taken.
    picks.iter().filter_map(repeated).for_each(|j| fires[j as usize] -= 1);
    let mut entry = vec![0u32; start[fires.len()]];
    let mut at = start.clone();
    for (row, picks) in picks.iter().enumerate() {
        for (i, &(j, _)) in picks.iter().enumerate() {
            entry[at[j as usize]] = (first[row] + i) as u32;
            at[j as usize] += 1;
        }
    }
    let ones = vec![1.0; entry.len()];
    d_w_dec.par_chunks_mut(d).enumerate().for_each(|(j, g)| {
        let range = start[j]..start[j + 1];
        gather_axpy(&entry[range.clone()], &ones[range], pulls, g);
    });
}
