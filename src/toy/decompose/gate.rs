//! Gates of components, masks and the gradients of both, as loops over samples.
//!
//! C = components, G = neurons of a gate, R = samples of a block, a multiple of 32.

use crate::kernels::simd::{self, LANES, dispatch, sum_lanes};

/// G.
pub const GATE: usize = 16;

/// Slope of the hard sigmoids where they leak.
const LEAK: f32 = 0.01;

/// Weights of one component's gate, (G,) each.
pub struct Gate<'a> {
    pub w_in: &'a [f32],
    pub b_in: &'a [f32],
    pub w_out: &'a [f32],
    pub b_out: f32,
}

impl<'a> Gate<'a> {
    pub fn of(k: usize, w_in: &'a [f32], b_in: &'a [f32], w_out: &'a [f32], b_out: f32) -> Self {
        let at = k * GATE..(k + 1) * GATE;
        Gate { w_in: &w_in[at.clone()], b_in: &b_in[at.clone()], w_out: &w_out[at], b_out }
    }
}

pub struct GateGradient<'a> {
    pub w_in: &'a mut [f32],
    pub b_in: &'a mut [f32],
    pub w_out: &'a mut [f32],
}

/// Factor in the sigmoid of [`gelu`].
const STEEP: f32 = 1.702;

/// z sigmoid(1.702 z), the cheaper of the two approximations to GELU (Hendrycks and Gimpel 2016, section 2), and its slope.
#[inline(always)]
fn gelu(z: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + simd::exp(-STEEP * z));
    (z * s, (STEEP * z * s).mul_add(1.0 - s, s))
}

dispatch! {
    /// q (R,) of inner activations a (R,).
    pub fn gate_forward(gate: &Gate, a: &[f32], q: &mut [f32]) {
        q.fill(gate.b_out);
        for ((w_in, b_in), w_out) in gate.w_in.iter().zip(gate.b_in).zip(gate.w_out) {
            for (a, q) in a.as_chunks::<LANES>().0.iter().zip(q.as_chunks_mut::<LANES>().0) {
                for l in 0..LANES {
                    q[l] = gelu(a[l].mul_add(*w_in, *b_in)).0.mul_add(*w_out, q[l]);
                }
            }
        }
    }
}

dispatch! {
    /// From d_q (R,) to the gate's gradients and, added, d_a (R,); returns the gradient by b_out.
    pub fn gate_backward(gate: &Gate, a: &[f32], d_q: &[f32], d: GateGradient, d_a: &mut [f32]) -> f32 {
        for k in 0..GATE {
            let (w_in, b_in, w_out) = (gate.w_in[k], gate.b_in[k], gate.w_out[k]);
            let (mut by_w_in, mut by_b_in, mut by_w_out) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
            let blocks = a.as_chunks::<LANES>().0.iter().zip(d_q.as_chunks::<LANES>().0).zip(d_a.as_chunks_mut::<LANES>().0);
            for ((a, d_q), d_a) in blocks {
                for l in 0..LANES {
                    let (act, slope) = gelu(a[l].mul_add(w_in, b_in));
                    let d_z = d_q[l] * w_out * slope;
                    by_w_out[l] = d_q[l].mul_add(act, by_w_out[l]);
                    by_w_in[l] = d_z.mul_add(a[l], by_w_in[l]);
                    by_b_in[l] += d_z;
                    d_a[l] = d_z.mul_add(w_in, d_a[l]);
                }
            }
            d.w_in[k] += sum_lanes(&by_w_in);
            d.b_in[k] += sum_lanes(&by_b_in);
            d.w_out[k] += sum_lanes(&by_w_out);
        }
        simd::sum(d_q)
    }
}

/// The hard sigmoid that leaks below 0: what masks take.
#[inline(always)]
fn lower(q: f32) -> f32 {
    if q < 0.0 { LEAK * q } else { q.min(1.0) }
}

dispatch! {
    /// out = mask * a with mask = g + (1 - g) noise. Shapes: all (C, R).
    pub fn mask(q: &[f32], noise: &[f32], a: &[f32], out: &mut [f32]) {
        for ((q, noise), (a, out)) in q.iter().zip(noise).zip(a.iter().zip(out)) {
            let g = lower(*q);
            *out = (1.0 - g).mul_add(*noise, g) * a;
        }
    }
}

dispatch! {
    /// The way back through [`mask`]: `a` becomes its gradient, that of g is added. Shapes: all (C, R).
    pub fn unmask(q: &[f32], noise: &[f32], d_out: &[f32], a: &mut [f32], d_g: &mut [f32]) {
        for (((q, noise), d_out), (a, d_g)) in q.iter().zip(noise).zip(d_out).zip(a.iter_mut().zip(d_g)) {
            let g = lower(*q);
            *d_g = (d_out * *a).mul_add(1.0 - noise, *d_g);
            *a = d_out * (1.0 - g).mul_add(*noise, g);
        }
    }
}

dispatch! {
    /// Of one output: `share` times the sum of (ReLU(out + b) - y)^2; `out` (R,) becomes its gradient.
    pub fn output_gradient(b: f32, share: f32, y: &[f32], out: &mut [f32]) -> f32 {
        let mut sums = [0.0f32; LANES];
        for (y, out) in y.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
            for l in 0..LANES {
                let pre = out[l] + b;
                let error = pre.max(0.0) - y[l];
                sums[l] = error.mul_add(error, sums[l]);
                out[l] = if pre > 0.0 { 2.0 * share * error } else { 0.0 };
            }
        }
        share * sum_lanes(&sums)
    }
}

dispatch! {
    /// Of one component: `share` times the weighted sum of g^power, with the g that leaks above 1; `q` (R,) becomes the gradient by it of that and, where
    /// `d_g` is the gradient by the g that leaks below 0, of everything else.
    pub fn importance_gradient(square: bool, share: f32, weight: &[f32], d_g: &[f32], q: &mut [f32]) -> f32 {
        let mut sums = [0.0f32; LANES];
        let blocks = weight.as_chunks::<LANES>().0.iter().zip(d_g.as_chunks::<LANES>().0).zip(q.as_chunks_mut::<LANES>().0);
        for ((weight, d_g), q) in blocks {
            for l in 0..LANES {
                let (value, slope) = if q[l] <= 0.0 { (0.0, 0.0) } else if q[l] < 1.0 { (q[l], 1.0) } else { (LEAK.mul_add(q[l] - 1.0, 1.0), LEAK) };
                let by_mask = if q[l] < 0.0 { LEAK } else if q[l] < 1.0 { 1.0 } else { 0.0 };
                let (term, d_term) = if square { (value * value, 2.0 * value) } else { (value, 1.0) };
                sums[l] = term.mul_add(weight[l], sums[l]);
                q[l] = d_g[l].mul_add(by_mask, share * weight[l] * d_term * slope);
            }
        }
        share * sum_lanes(&sums)
    }
}
