//! Resampling of dead latents in six steps (Bricken et al. 2023, "Neuron Resampling").
//!
//! 1. Find the latents that fired on nothing in the last window.
//! 2. Evaluate the loss on many rows.
//! 3. Draw rows with probability proportional to loss squared.
//! 4. The decoder row becomes the drawn input (of a transcoder: its target) at unit norm; where norms are trained, at the mean one of the live latents.
//! 5. The encoder row becomes the direction of the input at 0.2 times the mean encoder norm of the live latents, its bias 0.
//! 6. Every Adam moment of what was touched becomes 0.
//!
//! D = d_in, E = d_out (= D but for transcoders), F = d_sae.

use super::{Architecture, Engine, Replacement, SparseRows};
use rand::RngExt;

/// Encoder norm of a new latent, as a share of the mean over live ones.
const ENCODER_SHARE: f64 = 0.2;

/// Draws rows with replacement, each with probability weight / total weight, in one pass over a stream of unknown total: every one of the n
/// drawn places is taken over by the current row with probability weight / weight so far, so that memory is n rows.
pub(super) struct Draw<R> {
    rng: R,
    total: f64,
    /// Numbers to a row: D, or D + E of a transcoder.
    d: usize,
    /// (n, d)
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
                // Of 1 - p nothing would be left of a small p, and every place would be taken.
                let skip = (u.ln() / (-p).ln_1p()).floor();
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

/// The loss of a row: squared error plus the coefficient of the penalty times it.
pub(super) struct RowLoss<'a> {
    pub recipe: &'a dyn Architecture,
    pub sparsity: f64,
    /// (F,): decoder norms, where they are free; else empty.
    pub norms: &'a [f32],
    pub acts: SparseRows,
    pub x_hat: Vec<f32>,
}

impl RowLoss<'_> {
    /// Of every row. Shapes: x (B, D), target (B, E).
    pub fn of(&mut self, engine: &mut dyn Engine, x: &[f32], target: &[f32]) -> Vec<f64> {
        let RowLoss { recipe, sparsity, norms, acts, x_hat } = self;
        engine.encode(x, acts);
        x_hat.resize(target.len(), 0.0);
        engine.decode(x, acts, x_hat);
        let e = target.len() / acts.n_rows().max(1);
        let mut u = Vec::new();
        let of_row = |(r, (x, x_hat)): (usize, (&[f32], &[f32]))| {
            let squared: f64 = x.iter().zip(x_hat).map(|(x, y)| ((x - y) as f64).powi(2)).sum();
            if *sparsity == 0.0 {
                return squared;
            }
            let (latents, acts) = acts.row(r);
            u.clear();
            u.extend(latents.iter().zip(acts).map(|(&j, a)| a * norms.get(j as usize).unwrap_or(&1.0)));
            squared + *sparsity * recipe.row_penalty(&mut u).expect("refused before the training began")
        };
        target.chunks_exact(e).zip(x_hat.chunks_exact(e)).enumerate().map(of_row).collect()
    }
}

/// New weights for the dead latents from as many drawn rows of `width` numbers, D or D + E, already centred where that was chosen.
pub(super) fn replacements(engine: &dyn Engine, recipe: &dyn Architecture, dead: &[u32], drawn: &[f32], width: usize) -> Vec<Replacement> {
    let (d, f) = (engine.d_in(), engine.d_sae());
    let mut alive = vec![true; f];
    dead.iter().for_each(|&j| alive[j as usize] = false);
    let state = engine.read();
    let to_read = (ENCODER_SHARE * mean_norm(&state.params.w_enc, &alive)) as f32;
    let to_write = if recipe.unit_decoder() { 1.0 } else { mean_norm(&state.params.w_dec, &alive) as f32 };
    let times = |direction: &[f32], norm: f32| direction.iter().map(|v| v * norm).collect::<Vec<f32>>();
    (dead.iter().zip(drawn.chunks_exact(width)))
        .filter_map(|(&latent, row)| {
            let input = direction(&row[..d])?;
            let written = if width > d { direction(&row[d..])? } else { input.clone() };
            Some(Replacement { latent, w_enc: times(&input, to_read), b_enc: 0.0, w_dec: times(&written, to_write) })
        })
        .collect()
}

/// Mean norm of those rows (F, width) of latents where `alive` is true.
fn mean_norm(rows: &[f32], alive: &[bool]) -> f64 {
    let width = rows.len() / alive.len();
    let norm = |row: &[f32]| row.iter().map(|&v| (v as f64).powi(2)).sum::<f64>().sqrt();
    let norms: Vec<f64> = rows.chunks_exact(width).zip(alive).filter(|(_, alive)| **alive).map(|(row, _)| norm(row)).collect();
    norms.iter().sum::<f64>() / norms.len().max(1) as f64
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
    use crate::sae::config::Resample;
    use crate::sae::{CpuEngine, Gated, JumpRelu, Params, Recipe, Relu2023, ReluApril2024, SaeConfig, StepSettings, Tanh, TrainConfig};

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
    fn a_row_of_next_to_no_weight_takes_no_place() {
        let mut draw = Draw::new(seed::rng(0, "test/draw", 0), 100, 1);
        draw.offer(&[1.0], 1.0);
        (0..1000).for_each(|_| draw.offer(&[2.0], 1e-20));
        assert_eq!(draw.finish().unwrap(), [1.0; 100]);
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
        // Without vectors of its own, with one, with two.
        for recipe in [Relu2023 { l1: 1e-3 }.into(), JumpRelu::default().into(), Gated::default().into()] {
            reset_by(&recipe);
        }
    }

    fn reset_by(recipe: &Recipe) {
        let (d, f) = (5, 7);
        let mut rng = seed::rng(0, "test/resample", 0);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        let sae = SaeConfig::new(d, f, recipe.clone());
        let vectors = recipe.vectors().iter().map(|_| random(f)).collect();
        let params = Params { w_enc: random(f * d), b_enc: random(f), w_dec: random(f * d), b_dec: random(d), vectors, ..Params::default() };
        let mut engine = CpuEngine::new(&TrainConfig::short(sae, 1000, 10, 0), params);
        let x = random(9 * d);
        for _ in 0..3 {
            engine.step(&x, &StepSettings { lr: 1e-2, sparsity: 0.1, dead: &[] });
        }
        let before = engine.read().into_owned();
        let dead = [1u32, 4];
        let new = replacements(&engine, &**recipe, &dead, &random(2 * d), d);
        engine.replace_latents(&new);
        let after = engine.read().into_owned();
        let norm = |w: &[f32]| w.iter().map(|v| (*v as f64).powi(2)).sum::<f64>().sqrt();
        let row = |j: usize| j * d..(j + 1) * d;
        let alive = (0..f).filter(|j| !dead.contains(&(*j as u32)));
        let mean = alive.clone().map(|j| norm(&before.params.w_enc[row(j)])).sum::<f64>() / 5.0;
        for j in dead.map(|j| j as usize) {
            assert!((norm(&after.params.w_dec[row(j)]) - 1.0).abs() < 1e-6);
            assert!((norm(&after.params.w_enc[row(j)]) - 0.2 * mean).abs() < 1e-6);
            assert_eq!(after.params.b_enc[j], 0.0);
            assert!(after.params.vectors.iter().zip(recipe.vectors()).all(|(vector, (_, first))| vector[j] == first));
            for moments in [&after.first, &after.second] {
                assert!(moments.w_enc[row(j)].iter().chain(&moments.w_dec[row(j)]).chain([&moments.b_enc[j]]).all(|&v| v == 0.0));
                assert!(moments.vectors.iter().all(|vector| vector[j] == 0.0));
            }
        }
        for (before, after) in [(&before.params, &after.params), (&before.first, &after.first), (&before.second, &after.second)] {
            for j in alive.clone() {
                assert_eq!(before.w_enc[row(j)], after.w_enc[row(j)]);
                assert_eq!(before.w_dec[row(j)], after.w_dec[row(j)]);
                assert_eq!(before.b_enc[j], after.b_enc[j]);
                assert!(before.vectors.iter().zip(&after.vectors).all(|(before, after)| before[j] == after[j]));
            }
            assert_eq!(before.b_dec, after.b_dec);
        }
        engine.replace_latents(&replacements(&engine, &**recipe, &[], &[], d));
        assert_eq!(*engine.read(), after);
    }

    #[test]
    fn rows_are_drawn_by_the_loss_of_the_recipe_with_its_decoder_norms() {
        let (d, f, n) = (5, 7, 9);
        let mut rng = seed::rng(1, "test/resample", 0);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        let (w_enc, w_dec, x) = (random(f * d), random(f * d), random(n * d));
        let norms: Vec<f32> = w_dec.chunks_exact(d).map(|w| w.iter().map(|v| v * v).sum::<f32>().sqrt()).collect();
        type Penalty = fn(f64) -> f64;
        let recipes: [(Recipe, Penalty); 4] = [
            (ReluApril2024 { l1: 5.0 }.into(), |u| u),
            (Tanh { coefficient: 1.0, scale: 4.0 }.into(), |u| (4.0 * u).tanh()),
            (JumpRelu { threshold: 0.5, ..JumpRelu::default() }.into(), |_| 1.0),
            (Relu2023 { l1: 1e-3 }.into(), |u| u),
        ];
        for (recipe, penalty) in recipes {
            let config = TrainConfig::short(SaeConfig::new(d, f, recipe.clone()), 1000, 10, 0);
            let vectors = recipe.vectors().iter().map(|(_, value)| vec![*value; f]).collect();
            let params =
                Params { w_enc: w_enc.clone(), b_enc: vec![0.1; f], w_dec: w_dec.clone(), b_dec: vec![0.2; d], vectors, ..Params::default() };
            let mut engine = CpuEngine::new(&config, params);
            let free = if recipe.unit_decoder() { &[][..] } else { &norms };
            let mut loss = RowLoss { recipe: &*recipe, sparsity: 0.7, norms: free, acts: SparseRows::default(), x_hat: vec![] };
            let losses = loss.of(&mut engine, &x, &x);
            for (r, (x, x_hat)) in x.chunks_exact(d).zip(loss.x_hat.chunks_exact(d)).enumerate() {
                let squared: f64 = x.iter().zip(x_hat).map(|(x, y)| ((x - y) as f64).powi(2)).sum();
                let (latents, acts) = loss.acts.row(r);
                let n_j = |j: u32| f64::from(*free.get(j as usize).unwrap_or(&1.0));
                let want = squared + 0.7 * latents.iter().zip(acts).map(|(&j, &a)| penalty(f64::from(a) * n_j(j))).sum::<f64>();
                assert!((losses[r] - want).abs() < 1e-5, "{recipe:?}, row {r}: {} {want}", losses[r]);
            }
            let new = replacements(&engine, &*recipe, &[2], &random(d), d);
            let norm = new[0].w_dec.iter().map(|v| v * v).sum::<f32>().sqrt();
            let mean = norms.iter().enumerate().filter(|(j, _)| *j != 2).map(|(_, n)| n).sum::<f32>() / 6.0;
            assert!((norm - if recipe.unit_decoder() { 1.0 } else { mean }).abs() < 1e-5, "{recipe:?}: {norm} {mean}");
        }
    }

    #[test]
    fn recipes_whose_loss_or_reading_row_is_not_known_are_refused() {
        let asked = |name: &str, random: bool| {
            let mut config = TrainConfig::short(SaeConfig::new(5, 7, Recipe::named(name, &[]).unwrap()), 100_000, 10, 0);
            if config.sae.recipe.settings().iter().any(|(key, _)| key == "k") {
                config.sae.recipe = Recipe::named(name, &[("k", 2.into())]).unwrap();
            }
            config.resample = Some(Resample { random, ..Resample::over(100_000) });
            config.check().map_err(|error| error.to_string())
        };
        assert!(asked("gated", false).unwrap_err().contains("--reinit") && asked("gated", true).is_ok());
        for name in ["aligned", "matching-pursuit"] {
            assert!(asked(name, true).unwrap_err().contains("leave resampling out"), "{name}");
        }
        for name in ["topk", "batch-topk", "jump-relu", "tanh", "p-anneal", "relu-april-2024", "relu-2023"] {
            asked(name, false).unwrap();
        }
    }
}
