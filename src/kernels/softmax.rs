//! Distributions over a vocabulary from logits: single rows, in f32 with sums in f64 at the ends. For losses over many rows see [`super::cross_entropy`].

use super::simd::{self, dispatch};

dispatch! {
    /// weights (V,) <- e^(scale (z - max z)); returns their sum. `weights` holds a copy of the logits z.
    pub fn weights_in_place(scale: f32, weights: &mut [f32]) -> f32 {
        let largest = simd::max(weights);
        simd::exp_in_place(weights, scale, scale * largest)
    }
}

dispatch! {
    fn largest(z: &[f32]) -> f32 {
        simd::max(z)
    }
}

/// ln sum e^z.
pub fn log_sum_exp(z: &[f32]) -> f64 {
    log_sum_with(z, &mut Vec::new())
}

fn log_sum_with(z: &[f32], scratch: &mut Vec<f32>) -> f64 {
    scratch.clear();
    scratch.extend_from_slice(z);
    f64::from(largest(z)) + f64::from(weights_in_place(1.0, scratch)).ln()
}

/// ln softmax(z)\[token\].
pub fn log_prob(z: &[f32], token: u32) -> f64 {
    f64::from(z[token as usize]) - log_sum_exp(z)
}

/// KL(softmax(p) || softmax(q)) in nats; exactly 0 for equal logits.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> f64 {
    let mut scratch = Vec::new();
    let zq = log_sum_with(q, &mut scratch);
    let zp = log_sum_with(p, &mut scratch);
    // `scratch` holds e^(p - max p).
    let total = (zp - f64::from(largest(p))).exp();
    let sum: f64 = scratch.iter().zip(p.iter().zip(q)).map(|(&w, (&p, &q))| f64::from(w) * f64::from(p - q)).sum();
    sum / total - (zp - zq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::random;

    #[test]
    fn sums_and_divergences_are_those_of_plain_formulas() {
        for n in [1, 2, 63, 64, 1000] {
            let p: Vec<f32> = random(n, 1).iter().map(|x| 5.0 * x).collect();
            let q: Vec<f32> = random(n, 2).iter().map(|x| 5.0 * x + 3.0).collect();
            let log_sum = |z: &[f32]| z.iter().map(|&z| f64::from(z).exp()).sum::<f64>().ln();
            let (zp, zq) = (log_sum(&p), log_sum(&q));
            assert!((log_sum_exp(&p) - zp).abs() < 1e-6 && (log_prob(&q, n as u32 - 1) - (f64::from(q[n - 1]) - zq)).abs() < 1e-6);
            let kl: f64 = p.iter().zip(&q).map(|(&p, &q)| (f64::from(p) - zp).exp() * ((f64::from(p) - zp) - (f64::from(q) - zq))).sum();
            assert!((kl_divergence(&p, &q) - kl).abs() < 2e-6 * (1.0 + kl), "{n}: {} and {kl}", kl_divergence(&p, &q));
            assert_eq!(kl_divergence(&p, &p), 0.0);
        }
    }

    #[test]
    fn the_divergence_of_two_coins_is_worked_out_by_hand() {
        // p = (1/2, 1/2), q = (3/4, 1/4): KL = 1/2 ln(2/3) + 1/2 ln 2.
        let expected = 0.5 * (2.0f64 / 3.0).ln() + 0.5 * 2.0f64.ln();
        assert!((kl_divergence(&[1.0, 1.0], &[3.0f32.ln(), 0.0]) - expected).abs() < 1e-6);
    }
}
