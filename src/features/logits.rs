//! Tokens that directions make likelier and less likely, many directions at a time.
//!
//! n = directions, V = d_vocab, D = d_model.

use crate::kernels::gemm::{matmul_nn, matmul_nt};
use crate::lm::{HookPoint, Lm, Site};
use rayon::prelude::*;

/// Directions of one product: 64 rows of logits of a large vocabulary are 13 MB.
const BATCH: usize = 64;

/// The strongest tokens up and down of one direction, (token, effect) each, strongest first.
pub type Extremes = (Vec<(u32, f32)>, Vec<(u32, f32)>);

/// The `n` most raised and most lowered tokens of each direction (n_directions, d_in): what [`Lm::logit_effects`] gives, by matrix products.
/// Ties go to the lower token id; ids from `n_tokens` on are padding of the vocabulary and left out.
pub fn extremes(lm: &Lm, hook: HookPoint, directions: &[f32], n: usize, n_tokens: usize) -> Vec<Extremes> {
    let (d_in, d, v) = (hook.d_in(&lm.config), lm.config.d_model, lm.config.d_vocab);
    assert!(directions.len().is_multiple_of(d_in), "{} numbers are no directions of {d_in}", directions.len());
    let mut found = Vec::with_capacity(directions.len() / d_in);
    for batch in directions.chunks(BATCH * d_in) {
        let rows = batch.len() / d_in;
        let block = &lm.weights.blocks[hook.layer];
        let through_mlp = |neurons: &[f32]| {
            let mut out = vec![0.0; rows * d];
            matmul_nn(rows, d, lm.config.d_mlp, neurons, &block.mlp_proj_w, &mut out, false);
            out
        };
        let mut residual = match hook.site {
            Site::MlpIn => {
                let mut neurons = vec![0.0; rows * lm.config.d_mlp];
                matmul_nn(rows, lm.config.d_mlp, d, batch, &block.c_fc_w, &mut neurons, false);
                through_mlp(&neurons)
            }
            Site::MlpPre | Site::MlpPost => through_mlp(batch),
            _ => batch.to_vec(),
        };
        for row in residual.chunks_mut(d) {
            let mean = (row.iter().map(|&x| x as f64).sum::<f64>() / d as f64) as f32;
            row.iter_mut().zip(&lm.weights.ln_f_w).for_each(|(x, gain)| *x = (*x - mean) * gain);
        }
        let mut effects = vec![0.0; rows * v];
        matmul_nt(rows, v, d, &residual, lm.weights.unembedding(), &mut effects, false);
        found.par_extend(effects.par_chunks(v).map(|row| (top(&row[..n_tokens.min(v)], n, 1.0), top(&row[..n_tokens.min(v)], n, -1.0))));
    }
    found
}

/// `n` bins of equal width from the smallest effect to the largest: their centres and how many effects lie in each.
pub fn bars(effects: &[f32], n: usize) -> (Vec<f32>, Vec<u64>) {
    let (low, high) = effects.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
    if n == 0 || !low.is_finite() || !high.is_finite() {
        return (vec![], vec![]);
    }
    let width = (f64::from(high) - f64::from(low)) / n as f64;
    let mut counts = vec![0; n];
    for &x in effects {
        let bin = if width > 0.0 { ((f64::from(x) - f64::from(low)) / width) as usize } else { 0 };
        counts[bin.min(n - 1)] += 1;
    }
    ((0..n).map(|i| (f64::from(low) + (i as f64 + 0.5) * width) as f32).collect(), counts)
}

/// The `n` largest of `sign * effects`.
fn top(effects: &[f32], n: usize, sign: f32) -> Vec<(u32, f32)> {
    let mut order: Vec<u32> = (0..effects.len() as u32).collect();
    let better = |a: &u32, b: &u32| (sign * effects[*b as usize]).total_cmp(&(sign * effects[*a as usize])).then(a.cmp(b));
    let n = n.min(order.len());
    if n < order.len() {
        order.select_nth_unstable_by(n, better);
        order.truncate(n);
    }
    order.sort_unstable_by(better);
    order.into_iter().map(|token| (token, effects[token as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use crate::lm::LmConfig;
    use rand::RngExt;

    #[test]
    fn bars_hold_every_effect() {
        let (centres, counts) = bars(&[-1.0, -0.9, 0.0, 0.4, 1.0], 4);
        assert_eq!((centres, counts), (vec![-0.75, -0.25, 0.25, 0.75], vec![2, 0, 2, 1]));
        assert_eq!(bars(&[2.0, 2.0], 3).1, [2, 0, 0]);
        assert_eq!(bars(&[], 3).1, [0; 0]);
    }

    #[test]
    fn batched_logit_effects_equal_one_direction_at_a_time() {
        let lm = Lm::init(&LmConfig { n_layers: 2, ..LmConfig::tiny() }, 0);
        for hook in ["blocks.1.mlp.hook_post", "blocks.0.hook_mlp_out"].map(|h| h.parse::<HookPoint>().unwrap()) {
            let d_in = hook.d_in(&lm.config);
            let mut rng = seed::rng(0, "test/logits", 0);
            let directions: Vec<f32> = (0..67 * d_in).map(|_| rng.random_range(-1.0..1.0)).collect();
            let found = extremes(&lm, hook, &directions, 7, usize::MAX);
            assert_eq!(found.len(), 67);
            for ((up, down), direction) in found.iter().zip(directions.chunks(d_in)) {
                let mut want: Vec<(usize, f32)> = lm.logit_effects(hook, direction).into_iter().enumerate().collect();
                want.sort_by(|a, b| b.1.total_cmp(&a.1));
                // The products sum in another order, so values agree to rounding only.
                let close =
                    |got: &[(u32, f32)], want: &mut dyn Iterator<Item = &(usize, f32)>| got.iter().zip(want).all(|(g, w)| (g.1 - w.1).abs() < 1e-5);
                assert!(up.len() == 7 && close(up, &mut want.iter()) && close(down, &mut want.iter().rev()));
            }
        }
    }
}
