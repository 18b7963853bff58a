//! Resampling of dead latents in six steps (Bricken et al. 2023, "Neuron Resampling").
//!
//! 1. Find the latents that fired on nothing in the last window.
//! 2. Evaluate the loss on many rows.
//! 3. Draw rows with probability proportional to loss squared.
//! 4. The decoder row becomes the drawn input (of a transcoder: its target) at unit norm.
//! 5. The encoder row becomes the direction of the input at 0.2 times the mean encoder norm of the live latents, its bias 0.
//! 6. Every Adam moment of what was touched becomes 0.

use super::{Engine, Replacement, SparseRows};
use rand::RngExt;

/// Encoder norm of a new latent, as a share of the mean over live ones.
const ENCODER_SHARE: f64 = 0.2;

/// Draws rows with replacement, each with probability weight / total weight, in one pass over a stream of unknown total: every one of the n
/// drawn places is taken over by the current row with probability weight / weight so far, so that memory is n rows.
pub(super) struct Draw<R> {
    rng: R,
    total: f64,
    d: usize,
    /// (n, D)
    drawn: Vec<f32>,
    n: usize,
}

impl<R: rand::Rng> Draw<R> {
    pub fn new(rng: R, n: usize, d: usize) -> Self {
        Draw { rng, total: 0.0, d, drawn: vec![0.0; n * d], n }
    }

    pub fn offer(&mut self, row: &[f32], weight: f64) {
        if !(weight > 0.0 && weight.is_finite()) {
            return;
        }
        self.total += weight;
        let p = weight / self.total;
        let mut place = 0;
        loop {
            // Places that are left alone before the next one is taken: a geometric draw, so that most rows cost one random number.
            if p < 1.0 {
                let u: f64 = 1.0 - self.rng.random_range(0.0..1.0);
                let skip = (u.ln() / (1.0 - p).ln()).floor();
                if skip >= (self.n - place) as f64 {
                    return;
                }
                place += skip as usize;
            }
            if place >= self.n {
                return;
            }
            self.drawn[place * self.d..][..self.d].copy_from_slice(row);
            place += 1;
            if place >= self.n {
                return;
            }
        }
    }

    /// The drawn rows (n, D); none when no row had a weight.
    pub fn finish(self) -> Option<Vec<f32>> {
        (self.total > 0.0).then_some(self.drawn)
    }
}

/// Squared error plus the sparsity coefficient times the sum of activations, per row. Shapes: x (B, D), target (B, E); unit decoder norms.
pub(super) fn row_losses(engine: &mut dyn Engine, x: &[f32], target: &[f32], sparsity: f64, rows: &mut SparseRows, x_hat: &mut Vec<f32>) -> Vec<f64> {
    engine.encode(x, rows);
    x_hat.resize(target.len(), 0.0);
    engine.decode(x, rows, x_hat);
    let e = target.len() / rows.n_rows().max(1);
    (target.chunks_exact(e).zip(x_hat.chunks_exact(e)).enumerate())
        .map(|(r, (x, x_hat))| {
            let squared: f64 = x.iter().zip(x_hat).map(|(x, y)| ((x - y) as f64).powi(2)).sum();
            squared + sparsity * rows.row(r).1.iter().map(|&a| a as f64).sum::<f64>()
        })
        .collect()
}

/// New weights for the dead latents from as many drawn rows of `width` numbers, D or D + E, already centred where that was chosen.
pub(super) fn replacements(engine: &dyn Engine, dead: &[u32], drawn: &[f32], width: usize) -> Vec<Replacement> {
    let (d, f) = (engine.d_in(), engine.d_sae());
    let mut alive = vec![true; f];
    dead.iter().for_each(|&j| alive[j as usize] = false);
    let norm = (ENCODER_SHARE * engine.mean_encoder_norm(&alive)) as f32;
    (dead.iter().zip(drawn.chunks_exact(width)))
        .filter_map(|(&latent, row)| {
            let input = direction(&row[..d])?;
            let w_dec = if width > d { direction(&row[d..])? } else { input.clone() };
            Some(Replacement { latent, w_enc: input.iter().map(|v| v * norm).collect(), b_enc: 0.0, w_dec })
        })
        .collect()
}

/// The row at unit norm. One that is exactly b_dec has no direction; the latent waits for the next resampling.
fn direction(row: &[f32]) -> Option<Vec<f32>> {
    let length = row.iter().map(|&v| (v as f64).powi(2)).sum::<f64>().sqrt() as f32;
    (length > 0.0).then(|| row.iter().map(|v| v / length).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use crate::sae::{CpuEngine, Params, Relu2023, SaeConfig, StepSettings, TrainConfig};

    #[test]
    fn rows_are_drawn_in_proportion_to_their_weight() {
        // Chi-square with 4 degrees of freedom: 18.47 is exceeded once in a thousand seeds; this seed is fixed.
        let losses = [1.0f64, 2.0, 3.0, 0.5, 4.0];
        let total: f64 = losses.iter().map(|l| l * l).sum();
        let n = 20_000;
        let mut draw = Draw::new(seed::rng(3, "test/draw", 0), n, 1);
        for (i, loss) in losses.iter().enumerate() {
            draw.offer(&[i as f32], loss * loss);
        }
        let drawn = draw.finish().unwrap();
        let chi_square: f64 = (0..5)
            .map(|i| {
                let expected = n as f64 * losses[i] * losses[i] / total;
                let found = drawn.iter().filter(|&&v| v == i as f32).count() as f64;
                (found - expected).powi(2) / expected
            })
            .sum();
        assert!(chi_square < 18.47, "{chi_square}");
        // The same counts are far from proportional to the loss itself.
        let sum: f64 = losses.iter().sum();
        let against: f64 = (0..5)
            .map(|i| {
                let expected = n as f64 * losses[i] / sum;
                (drawn.iter().filter(|&&v| v == i as f32).count() as f64 - expected).powi(2) / expected
            })
            .sum();
        assert!(against > 1000.0, "{against}");
    }

    #[test]
    fn a_stream_without_loss_draws_nothing() {
        let mut draw = Draw::new(seed::rng(0, "test/draw", 0), 3, 1);
        draw.offer(&[1.0], 0.0);
        draw.offer(&[1.0], f64::NAN);
        assert!(draw.finish().is_none());
    }

    #[test]
    fn new_latents_have_exact_norms_and_no_history_and_the_others_are_untouched() {
        let (d, f) = (5, 7);
        let mut rng = seed::rng(0, "test/resample", 0);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        let sae = SaeConfig::new(d, f, Relu2023 { l1: 1e-3 }.into());
        let params = Params { w_enc: random(f * d), b_enc: random(f), w_dec: random(f * d), b_dec: random(d), ..Params::default() };
        let mut engine = CpuEngine::new(&TrainConfig::short(sae, 1000, 10, 0), params);
        let x = random(9 * d);
        for _ in 0..3 {
            engine.step(&x, &StepSettings { lr: 1e-2, sparsity: 0.1, dead: &[] });
        }
        let before = engine.read();
        let dead = [1u32, 4];
        let new = replacements(&engine, &dead, &random(2 * d), d);
        engine.replace_latents(&new);
        let after = engine.read();
        let norm = |w: &[f32]| w.iter().map(|v| (*v as f64).powi(2)).sum::<f64>().sqrt();
        let row = |j: usize| j * d..(j + 1) * d;
        let alive = (0..f).filter(|j| !dead.contains(&(*j as u32)));
        let mean = alive.clone().map(|j| norm(&before.params.w_enc[row(j)])).sum::<f64>() / 5.0;
        for j in dead.map(|j| j as usize) {
            assert!((norm(&after.params.w_dec[row(j)]) - 1.0).abs() < 1e-6);
            assert!((norm(&after.params.w_enc[row(j)]) - 0.2 * mean).abs() < 1e-6);
            assert_eq!(after.params.b_enc[j], 0.0);
            for moments in [&after.first, &after.second] {
                assert!(moments.w_enc[row(j)].iter().chain(&moments.w_dec[row(j)]).chain([&moments.b_enc[j]]).all(|&v| v == 0.0));
            }
        }
        for (before, after) in [(&before.params, &after.params), (&before.first, &after.first), (&before.second, &after.second)] {
            for j in alive.clone() {
                assert_eq!(before.w_enc[row(j)], after.w_enc[row(j)]);
                assert_eq!(before.w_dec[row(j)], after.w_dec[row(j)]);
                assert_eq!(before.b_enc[j], after.b_enc[j]);
            }
            assert_eq!(before.b_dec, after.b_dec);
        }
        engine.replace_latents(&replacements(&engine, &[], &[], d));
        assert_eq!(engine.read(), after);
    }
}
