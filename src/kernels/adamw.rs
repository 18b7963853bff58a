//! AdamW in one pass over weights, gradients and moments, and the global norm of a gradient.

use super::simd::dispatch;
use rayon::prelude::*;

/// Elements in one task.
const CHUNK: usize = 1 << 15;

/// Numbers of one step, the same for every element.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Decoupled: w shrinks by lr * weight_decay before the step.
    pub weight_decay: f32,
    /// Which step this is, from 1: the moments' bias is divided out.
    pub step: u64,
    /// The gradient is multiplied by this first (clipping).
    pub gradient_scale: f32,
}

/// m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = w (1 - lr decay) - lr m_hat / (sqrt(v_hat) + eps).
///
/// Source: Loshchilov and Hutter 2019, algorithm 2 (the decay multiplied by the rate, as PyTorch does).
pub fn adamw_step(step: AdamWStep, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert!(
        g.len() == w.len() && m.len() == w.len() && v.len() == w.len(),
        "AdamW: {} weights, {} gradients, {} and {} moments",
        w.len(),
        g.len(),
        m.len(),
        v.len()
    );
    assert!(step.step > 0, "AdamW steps are counted from 1");
    w.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .for_each(|(((w, g), m), v)| adamw_step_here(step, w, g, m, v));
}

dispatch! {
    /// The same on the calling thread, for few weights.
    pub fn adamw_step_here(step: AdamWStep, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let correct1 = 1.0 - (step.beta1 as f64).powf(step.step as f64);
        let correct2 = 1.0 - (step.beta2 as f64).powf(step.step as f64);
        let rate = (step.lr as f64 / correct1) as f32;
        let inverse_root = (1.0 / correct2.sqrt()) as f32;
        let keep = 1.0 - step.lr * step.weight_decay;
        let (new1, new2) = (1.0 - step.beta1, 1.0 - step.beta2);
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
            let g = g * step.gradient_scale;
            *m = new1.mul_add(g, step.beta1 * *m);
            *v = (new2 * g).mul_add(g, step.beta2 * *v);
            *w = *w * keep - rate * *m / v.sqrt().mul_add(inverse_root, step.eps);
        }
    }
}

/// Sum of squares in f64, in blocks of fixed size.
pub fn sum_of_squares(g: &[f32]) -> f64 {
    let blocks: Vec<f64> = g.par_chunks(CHUNK).map(squares_chunk).collect();
    blocks.iter().sum()
}

dispatch! {
    fn squares_chunk(g: &[f32]) -> f64 {
        const LANES: usize = 16;
        let mut lanes = [0.0f64; LANES];
        let (blocks, rest) = g.as_chunks::<LANES>();
        for block in blocks {
            for l in 0..LANES {
                let x = block[l] as f64;
                lanes[l] = x.mul_add(x, lanes[l]);
            }
        }
        lanes.iter().sum::<f64>() + rest.iter().map(|&x| (x as f64).powi(2)).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{at_threads, bits, random};

    const STEP: AdamWStep = AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step: 1, gradient_scale: 0.5 };

    #[test]
    fn two_steps_equal_the_formula_in_f64() {
        let (w0, g1, g2) = (random(11, 60), random(11, 61), random(11, 62));
        let (mut w, mut m, mut v) = (w0.clone(), vec![0.0; 11], vec![0.0; 11]);
        adamw_step(STEP, &mut w, &g1, &mut m, &mut v);
        adamw_step(AdamWStep { step: 2, ..STEP }, &mut w, &g2, &mut m, &mut v);
        for i in 0..11 {
            let (mut w64, mut m64, mut v64) = (w0[i] as f64, 0.0, 0.0);
            for (t, g) in [(1, g1[i]), (2, g2[i])] {
                let g = g as f64 * 0.5;
                m64 = 0.9 * m64 + 0.1 * g;
                v64 = 0.95 * v64 + 0.05 * g * g;
                let (m_hat, v_hat) = (m64 / (1.0 - 0.9f64.powi(t)), v64 / (1.0 - 0.95f64.powi(t)));
                w64 = w64 * (1.0 - 0.01 * 0.1) - 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
            }
            assert!((w[i] as f64 - w64).abs() < 1e-6, "{} {w64}", w[i]);
        }
    }

    #[test]
    fn adamw_reaches_the_minimum_of_a_parabola() {
        let (mut w, mut m, mut v) = (vec![5.0], vec![0.0], vec![0.0]);
        for step in 1..=2000 {
            let g = [w[0] - 2.0];
            adamw_step(AdamWStep { lr: 0.02, weight_decay: 0.0, gradient_scale: 1.0, step, ..STEP }, &mut w, &g, &mut m, &mut v);
        }
        assert!((w[0] - 2.0).abs() < 1e-2, "{}", w[0]);
    }

    #[test]
    fn step_and_norm_are_bitwise_repeatable_at_any_thread_count() {
        let n = 3 * CHUNK + 5;
        let (w, g) = (random(n, 63), random(n, 64));
        let run = |threads| {
            at_threads(threads, || {
                let (mut w, mut m, mut v) = (w.clone(), vec![0.0; n], vec![0.0; n]);
                adamw_step(STEP, &mut w, &g, &mut m, &mut v);
                (bits(&[w, m, v]), sum_of_squares(&g).to_bits())
            })
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(3));
        let want: f64 = g.iter().map(|&x| (x as f64).powi(2)).sum();
        assert!((sum_of_squares(&g) - want).abs() < 1e-9 * want);
    }
}
