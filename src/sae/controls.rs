//! Controls: SAEs that learned nothing, to be shown beside the trained one.

use super::cpu::normalise;
use super::init::gaussian;
use super::{Sae, Select, SparseRows};
use crate::artifact::seed;
use rayon::prelude::*;

/// An SAE of random unit directions with as many active latents as `sae` has: TopK of k = round(l0), encoder = decoder transposed, b_dec at the
/// mean of `sample`, and activations scaled by the one factor that reconstructs `sample` best.
///
/// Shapes: sample (n, D), raw model activations.
pub fn random_decoder(sae: &Sae, l0: f64, sample: &[f32], run_seed: u64) -> Sae {
    let (d, f) = (sae.d_in, sae.d_sae);
    let n = sample.len() / d;
    let mut w_dec = vec![0.0; f * d];
    w_dec.par_chunks_mut(d).enumerate().for_each(|(j, row)| {
        let mut rng = seed::rng(run_seed, "sae/controls/random", j as u64);
        row.iter_mut().for_each(|v| *v = gaussian(&mut rng));
        normalise(row);
    });
    let mean = (0..d).map(|i| (sample.iter().skip(i).step_by(d).map(|&v| v as f64).sum::<f64>() / n.max(1) as f64) as f32).collect();
    let k = (l0.round() as usize).clamp(1, f);
    let mut control = Sae {
        d_in: d,
        d_sae: f,
        select: Select::TopK { k },
        w_enc: w_dec.clone(),
        b_enc: vec![0.0; f],
        w_dec,
        b_dec: mean,
        apply_b_dec_to_input: true,
    };
    let mut rows = SparseRows::default();
    let mut x_hat = vec![0.0; sample.len()];
    control.encode(sample, &mut rows);
    control.decode(&rows, &mut x_hat);
    // With y = x_hat - b_dec the error |x - b_dec - s y|^2 is least at s = <x - b_dec, y> / <y, y>.
    let (mut product, mut square) = (0.0, 0.0);
    for (i, (x, x_hat)) in sample.iter().zip(&x_hat).enumerate() {
        let bias = control.b_dec[i % d];
        product += ((x - bias) * (x_hat - bias)) as f64;
        square += ((x_hat - bias) as f64).powi(2);
    }
    let scale = if square > 0.0 { (product / square) as f32 } else { 1.0 };
    control.w_enc.iter_mut().for_each(|v| *v *= scale);
    control
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_random_control_has_the_l0_asked_for_and_the_best_scale() {
        let (d, f, n) = (6, 30, 50);
        let mut rng = seed::rng(0, "test/controls", 0);
        let sample: Vec<f32> = (0..n * d).map(|_| gaussian(&mut rng) + 2.0).collect();
        let like = Sae {
            d_in: d,
            d_sae: f,
            select: Select::Relu,
            w_enc: vec![0.0; f * d],
            b_enc: vec![0.0; f],
            w_dec: vec![0.0; f * d],
            b_dec: vec![0.0; d],
            apply_b_dec_to_input: true,
        };
        let control = random_decoder(&like, 2.7, &sample, 1);
        let error = |sae: &Sae| {
            let (mut rows, mut x_hat) = (SparseRows::default(), vec![0.0; n * d]);
            sae.encode(&sample, &mut rows);
            sae.decode(&rows, &mut x_hat);
            assert_eq!(rows.n_active(), 3 * n);
            sample.iter().zip(&x_hat).map(|(a, b)| ((a - b) as f64).powi(2)).sum::<f64>()
        };
        let best = error(&control);
        for by in [0.9f32, 1.1] {
            let mut other = control.clone();
            other.w_enc.iter_mut().for_each(|v| *v *= by);
            assert!(error(&other) > best);
        }
        assert!(control.w_dec.chunks_exact(d).all(|w| (w.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5));
    }
}
