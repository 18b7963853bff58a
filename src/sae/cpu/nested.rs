//! Nested reconstructions of a row, one for each level: decoded one on top of the other, their errors, and what of these reaches the latents of each level.

use super::step::{StepContext, Sums};
use crate::kernels::sparse::{axpy, error_row, gather_axpy, gather_dot};
use crate::sae::architectures::{Entries, Levels, Nesting};

/// Buffers of a row.
#[derive(Default)]
pub(super) struct LevelScratch {
    latent: Vec<u32>,
    act: Vec<f32>,
    d_act: Vec<f32>,
    order: Vec<u32>,
    /// (E,)
    x_hat: Vec<f32>,
}

/// As the plain case of [`super::step::Chunk::decode_backward`] for nested reconstructions: g (L, E) becomes, level by level, the gradient with respect to what a latent of
/// that level adds: that of its own loss and those of all later levels, or, detached, of the last one.
#[allow(clippy::too_many_arguments)]
pub(super) fn nested(
    levels: &Levels,
    context: StepContext,
    entries: &mut Entries,
    target: &[f32],
    g: &mut [f32],
    level: &mut [u8],
    scratch: &mut LevelScratch,
    sums: &mut Sums,
) {
    let w_dec = &context.params.w_dec;
    let d = target.len();
    let n_levels = levels.ends.len();
    let LevelScratch { latent, act, d_act, order, x_hat } = scratch;
    match levels.nesting {
        Nesting::Latent => {
            for (level, &j) in level.iter_mut().zip(entries.latent) {
                *level = levels.ends.partition_point(|&end| end <= j as usize) as u8;
            }
        }
        Nesting::Rank => {
            order.clear();
            order.extend(0..entries.act.len() as u32);
            // Of equal activations the lower latent comes first, as in the selection.
            order.sort_by(|&a, &b| entries.act[b as usize].total_cmp(&entries.act[a as usize]).then(a.cmp(&b)));
            for (rank, &i) in order.iter().enumerate() {
                level[i as usize] = levels.ends.partition_point(|&end| end <= rank) as u8;
            }
        }
    }
    let level = &*level;
    let of_level = |l: usize| (0..level.len()).filter(move |&i| level[i] as usize == l);
    x_hat.clear();
    x_hat.extend_from_slice(if context.params.w_skip.is_empty() { &context.params.b_dec } else { &g[..d] });
    for l in 0..n_levels {
        latent.clear();
        act.clear();
        for i in of_level(l) {
            latent.push(entries.latent[i]);
            act.push(entries.act[i]);
        }
        gather_axpy(latent, act, w_dec, x_hat);
        let g = &mut g[l * d..][..d];
        g.copy_from_slice(x_hat);
        let squared = error_row(target, context.scale * levels.weights[l] as f32, g);
        if l == levels.main() {
            sums.squared_error += squared;
            sums.nested -= squared;
        }
        sums.nested += levels.weights[l] * squared;
    }
    if levels.detached {
        let (inner, last) = g.split_at_mut((n_levels - 1) * d);
        inner.chunks_exact_mut(d).for_each(|g| axpy(1.0, last, g));
    } else {
        for l in (0..n_levels - 1).rev() {
            let (to, from) = g[l * d..].split_at_mut(d);
            axpy(1.0, &from[..d], to);
        }
    }
    for l in 0..n_levels {
        latent.clear();
        latent.extend(of_level(l).map(|i| entries.latent[i]));
        d_act.clear();
        d_act.resize(latent.len(), 0.0);
        gather_dot(latent, w_dec, &g[l * d..][..d], d_act);
        for (i, &d) in of_level(l).zip(&*d_act) {
            entries.d_pre[i] = d;
        }
    }
}

/// Of g (B, L, E) as [`nested`] leaves it, the gradient of one level's own loss, (B, E), in `out`: without what has been added of later levels.
pub(super) fn own_gradient<'a>(levels: &Levels, level: usize, g: &[f32], e: usize, out: &'a mut [f32]) -> &'a [f32] {
    let last = levels.ends.len() - 1;
    let added = if levels.detached { last } else { level + 1 };
    for (to, g) in out.chunks_exact_mut(e).zip(g.chunks_exact((last + 1) * e)) {
        to.copy_from_slice(&g[level * e..][..e]);
        if level < last {
            axpy(-1.0, &g[added * e..][..e], to);
        }
    }
    out
}
