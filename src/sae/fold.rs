//! From the units of training to raw model units: the scaling of both ends and decoder norms are folded into the weights.
//!
//! With x' = s (x - m), decoder norms n_j and beta = 1 where b_dec is subtracted from the input:
//! z' = w_enc (x' - beta b_dec) + b_enc, x_hat' = acts' w_dec + b_dec. In raw units acts = acts' n_j / s, so
//! w_dec <- w_dec / n_j, b_dec <- b_dec / s + m, w_enc <- n_j w_enc, b_enc <- n_j b_enc / s, less n_j w_enc m where beta = 0
//! (where beta = 1 the new b_dec holds m already).
//!
//! A transcoder's target is y' = t (y - q) beside x' = s (x - m), and beta = 0: acts = acts' n_j / t, so w_enc <- n_j w_enc s / t,
//! b_enc <- n_j b_enc / t, less the new w_enc m, w_skip <- w_skip s / t, b_dec <- b_dec / t + q, less the new w_skip m.

use super::architectures::Trained;
use super::init::Scales;
use super::transcoder::Transcoder;
use super::{Params, Sae, SaeConfig, Select, State};
use rayon::prelude::*;

/// The SAE as it is saved: same x_hat in raw units, activations scaled by n_j / s.
pub(super) fn fold(config: &SaeConfig, state: &State, scales: &Scales) -> Sae {
    let (d, e, f) = (config.d_in, config.d_out(), config.d_sae);
    let (input, output) = (&scales.input, scales.output());
    let t = output.scale as f64;
    // Of an autoencoder 1, whatever its scale.
    let s_over_t = input.scale as f64 / t;
    let pre_bias = config.pre_bias();
    let Params { mut w_enc, mut b_enc, mut w_dec, b_dec, mut w_skip, vectors } = state.params.clone();
    if config.recipe.ties_encoder() {
        let read = |(e, w): (&mut [f32], &[f32])| {
            let trained = e.to_vec();
            config.recipe.encoder_row(&trained, w, e);
        };
        (w_enc.par_chunks_exact_mut(d), w_dec.par_chunks_exact(d)).into_par_iter().for_each(read);
    }
    let mut factors = vec![0.0; f];
    let rows = (w_enc.par_chunks_exact_mut(d), w_dec.par_chunks_exact_mut(e), b_enc.par_iter_mut(), factors.par_iter_mut());
    rows.into_par_iter().for_each(|(e, w, b, scale)| {
        let norm = w.iter().map(|&v| (v as f64).powi(2)).sum::<f64>().sqrt();
        // TopK compares latents with each other: norms that are 1 but for rounding must not reorder them.
        let factor = if config.recipe.unit_decoder() { 1.0 } else { norm };
        if norm > 0.0 {
            w.iter_mut().for_each(|v| *v = (*v as f64 / norm) as f32);
        }
        let through_mean: f64 = if pre_bias { 0.0 } else { e.iter().zip(&input.mean).map(|(e, m)| *e as f64 * *m as f64).sum() };
        *b = (factor * (*b as f64 / t - s_over_t * through_mean)) as f32;
        *scale = (factor / t) as f32;
        e.iter_mut().for_each(|v| *v = (*v as f64 * factor * s_over_t) as f32);
    });
    w_skip.iter_mut().for_each(|v| *v = (*v as f64 * s_over_t) as f32);
    let through_skip =
        |i: usize| -> f64 { w_skip.get(i * d..(i + 1) * d).map_or(0.0, |row| row.iter().zip(&input.mean).map(|(w, m)| *w as f64 * *m as f64).sum()) };
    let b_dec = b_dec.iter().zip(&output.mean).enumerate().map(|(i, (b, q))| (*b as f64 / t + *q as f64 - through_skip(i)) as f32).collect();
    let select =
        config.recipe.select(&Trained { b_enc: &b_enc, vectors: &vectors, kept: state.kept, kept_first: state.kept_first, factors: &factors });
    // A pursuit has one matrix, to the last bit.
    if matches!(select, Select::Pursuit { .. }) {
        w_enc.clone_from(&w_dec);
    }
    let transcoder = config.target.map(|target| Transcoder { d_out: target.d_out, w_skip });
    Sae { d_in: d, d_sae: f, select, w_enc, b_enc, w_dec, b_dec, apply_b_dec_to_input: pre_bias, transcoder }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use crate::sae::cpu::check::params;
    use crate::sae::init::Normaliser;
    use crate::sae::{CpuEngine, Engine, Recipe, SparseRows, TrainConfig};
    use rand::RngExt;

    #[test]
    fn the_folded_sae_gives_the_reconstruction_of_training_in_raw_units() {
        let (d, f, n) = (5, 9, 6);
        let mut rng = seed::rng(0, "test/fold", 0);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        let of_k = |recipe: Recipe| match recipe.settings().iter().any(|(name, _)| name == "k") {
            true => Recipe::named(recipe.name(), &[("k", 3.into())]).unwrap(),
            false => recipe,
        };
        let refined = ["batch-topk", "matryoshka"].map(|name| Recipe::named(name, &[("k", 3.into()), ("refine", 0.3.into())]).unwrap());
        let stopping = Recipe::named("matching-pursuit", &[("k", 3.into()), ("residual_threshold", 1.5.into())]).unwrap();
        // Thresholds and free norms at once; of the published threshold of 0.1 no activation would be between the right value and a wrong one.
        let tanh = Recipe::named("jump-relu", &[("loss", "tanh".into()), ("threshold", 1.0.into())]).unwrap();
        for recipe in Recipe::all().into_iter().map(of_k).chain(refined).chain([stopping, tanh]) {
            let config = SaeConfig::new(d, f, recipe.clone());
            let first = params(&recipe, d, f, recipe.unit_decoder() || recipe.ties_encoder());
            let normaliser = Normaliser { mean: random(d), scale: 1.7 };
            let mut engine = CpuEngine::new(&TrainConfig::short(config.clone(), 1000, 10, 0), first);
            let mut state = engine.read().into_owned();
            // Of a selection over a batch: its thresholds.
            (state.kept, state.kept_first) = (0.3, 0.2);
            engine.write(state.clone());
            let sae = fold(&config, &state, &Scales { input: normaliser.clone(), target: None });
            let params = state.params;
            let x = random(n * d);
            let mut scaled = x.clone();
            normaliser.apply(&mut scaled);
            let norms: Vec<f32> = params.w_dec.chunks_exact(d).map(|w| w.iter().map(|v| v * v).sum::<f32>().sqrt()).collect();
            let (mut rows, mut raw_rows) = (SparseRows::default(), SparseRows::default());
            let (mut x_hat, mut raw_hat) = (vec![0.0; n * d], vec![0.0; n * d]);
            engine.encode(&scaled, &mut rows);
            engine.decode(&scaled, &rows, &mut x_hat);
            sae.encode(&x, &mut raw_rows);
            sae.decode(&raw_rows, &mut raw_hat);
            for (i, (raw, trained)) in raw_hat.iter().zip(&x_hat).enumerate() {
                let want = trained / 1.7 + normaliser.mean[i % d];
                assert!((raw - want).abs() < 1e-5, "{recipe:?}: {raw} {want}");
            }
            assert_eq!(rows.latent, raw_rows.latent, "{recipe:?}");
            assert!(rows.n_active() > 0);
            for ((a, raw), &j) in rows.act.iter().zip(&raw_rows.act).zip(&rows.latent) {
                assert!((raw - a * norms[j as usize] / 1.7).abs() < 1e-5);
            }
            assert!(sae.w_dec.chunks_exact(d).all(|w| (w.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5));
            if let (Recipe::MatchingPursuit(pursuit), Select::Pursuit { k, .. }) = (&recipe, &sae.select)
                && pursuit.residual_threshold > 0.0
            {
                let picks = |least: f32| {
                    let mut rows = SparseRows::default();
                    Sae { select: Select::Pursuit { k: *k, least }, ..sae.clone() }.encode(&x, &mut rows);
                    rows.n_active()
                };
                // It stops rows that would go on; left in the units of training it would stop more of them.
                assert!((0..n).any(|r| rows.row(r).0.len() < *k) && picks(0.0) > rows.n_active());
                assert!(picks(pursuit.residual_threshold) < rows.n_active());
            }
        }
    }
}
