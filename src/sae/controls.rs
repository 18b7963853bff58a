//! Controls: SAEs that learned nothing, or nothing but the variance, to be shown beside the trained one.

use super::cpu::normalise;
use super::init::{gaussian, mean_row};
use super::{Sae, Select, SparseRows};
use crate::artifact::seed;
use crate::kernels::gemm::{matmul_nn, matmul_tn};
use crate::kernels::sparse::{axpy, dot};
use rayon::prelude::*;

/// An SAE of random unit directions with as many active latents as `sae` has: TopK of k = round(l0), encoder = decoder transposed, b_dec at the
/// mean of `sample`, and activations scaled by the one factor that reconstructs `sample` best.
///
/// Shapes: sample (n, D), raw model activations.
pub fn random_decoder(sae: &Sae, l0: f64, sample: &[f32], run_seed: u64) -> Sae {
    let (d, f) = (sae.d_in, sae.d_sae);
    let mut w_dec = vec![0.0; f * d];
    w_dec.par_chunks_mut(d).enumerate().for_each(|(j, row)| {
        let mut rng = seed::rng(run_seed, "sae/controls/random", j as u64);
        row.iter_mut().for_each(|v| *v = gaussian(&mut rng));
        normalise(row);
    });
    let mean = mean_row(sample, d);
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
        transcoder: None,
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

/// The k principal components of `sample` with the largest variance, as an SAE: latents 2 i and 2 i + 1 are the i-th component and its opposite, of which
/// never more than one is active, so that L0 is k and x_hat the mean plus the projection of x - mean onto the k components.
///
/// Shapes: sample (n, D). The components are found by subspace iteration on the covariance (D, D), which is stopped when none turns any more.
pub fn pca(sample: &[f32], d: usize, k: usize) -> Sae {
    let k = k.clamp(1, d);
    let mean = mean_row(sample, d);
    let centred: Vec<f32> = sample.chunks_exact(d).flat_map(|x| x.iter().zip(&mean).map(|(x, m)| x - m)).collect();
    let mut covariance = vec![0.0; d * d];
    matmul_tn(d, d, centred.len() / d, &centred, &centred, &mut covariance, false);
    let mut rng = seed::rng(0, "sae/controls/pca", 0);
    let mut basis: Vec<f32> = (0..k * d).map(|_| gaussian(&mut rng)).collect();
    orthonormalise(&mut basis, d);
    let mut next = vec![0.0; k * d];
    for _ in 0..MOST_ITERATIONS {
        matmul_nn(k, d, d, &basis, &covariance, &mut next, false);
        orthonormalise(&mut next, d);
        let turned = basis.chunks_exact(d).zip(next.chunks_exact(d)).map(|(a, b)| 1.0 - dot(a, b).abs()).fold(0.0, f32::max);
        std::mem::swap(&mut basis, &mut next);
        if turned < 1e-6 {
            break;
        }
    }
    let w_dec: Vec<f32> = basis.chunks_exact(d).flat_map(|v| v.iter().copied().chain(v.iter().map(|x| -x))).collect();
    let zeros = vec![0.0; 2 * k];
    Sae {
        d_in: d,
        d_sae: 2 * k,
        select: Select::Relu,
        w_enc: w_dec.clone(),
        b_enc: zeros,
        w_dec,
        b_dec: mean,
        apply_b_dec_to_input: true,
        transcoder: None,
    }
}

/// Steps of the subspace iteration at most.
const MOST_ITERATIONS: usize = 200;

/// Gram and Schmidt, twice, so that rounding leaves no trace; a row in the span of those before it becomes zero.
fn orthonormalise(rows: &mut [f32], d: usize) {
    for i in 0..rows.len() / d {
        let (before, from) = rows.split_at_mut(i * d);
        let row = &mut from[..d];
        normalise(row);
        for _ in 0..2 {
            before.chunks_exact(d).for_each(|other| axpy(-dot(other, row), other, row));
        }
        if dot(row, row) < 1e-8 { row.fill(0.0) } else { normalise(row) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_components_are_those_that_rows_were_made_of_and_projections_are_exact() {
        // Three orthogonal directions with deviations 3, 2 and 1 around a mean; nothing else but 0.01 of noise.
        let (d, n) = (12, 4000);
        let mut rng = seed::rng(0, "test/pca", 0);
        let mut axes: Vec<f32> = (0..3 * d).map(|_| gaussian(&mut rng)).collect();
        orthonormalise(&mut axes, d);
        let mut sample = vec![];
        for _ in 0..n {
            let parts = [3.0, 2.0, 1.0].map(|deviation| deviation * gaussian(&mut rng));
            sample.extend((0..d).map(|i| 5.0 + (0..3).map(|c| parts[c] * axes[c * d + i]).sum::<f32>() + 0.01 * gaussian(&mut rng)));
        }
        let sae = pca(&sample, d, 2);
        for c in 0..2 {
            // The angle between sampled and true component: deviations of 1 / sqrt(n) times the ratio of the variances.
            assert!(dot(sae.direction(2 * c), &axes[c as usize * d..][..d]).abs() > 0.995, "component {c}");
            assert_eq!(sae.direction(2 * c + 1)[0], -sae.direction(2 * c)[0]);
        }
        let (mut rows, mut x_hat) = (SparseRows::default(), vec![0.0; sample.len()]);
        sae.encode(&sample, &mut rows);
        sae.decode(&rows, &mut x_hat);
        assert_eq!(rows.n_active(), 2 * n);
        // What is left is the third component, of variance 1.
        let left = sample.iter().zip(&x_hat).map(|(a, b)| ((a - b) as f64).powi(2)).sum::<f64>() / n as f64;
        assert!((left - 1.0).abs() < 0.1, "{left}");
        let whole = pca(&sample, d, 99);
        assert_eq!(whole.d_sae, 2 * d);
    }

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
            transcoder: None,
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
