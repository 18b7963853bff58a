//! Sparse synthetic inputs: a feature is 0, or with its probability p uniform on [0, 1) (or [-1, 1)). Features are independent, or come in sets.
//!
//! n = features, R = samples of a block. Blocks are stored feature by feature, (n, R), so that every loop runs along samples.

use crate::artifact::seed;
use crate::kernels::simd::dispatch;
use rand::Rng;

/// Samples drawn side by side.
pub const LANES: usize = 16;

/// How features go together. Source: Elhage et al. 2022, "Demonstrating superposition" and "Correlated features".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// Each on its own.
    Independent,
    /// Sets of so many that are on and off together; values are independent. A set has the probability of its first member.
    Correlated(usize),
    /// A set of so many is on with probability p (that of its first member), and then exactly one of them is, each equally often.
    Anticorrelated(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inputs {
    pub together: Together,
    /// Values in [-1, 1) instead of [0, 1).
    pub signed: bool,
}

impl Inputs {
    pub const INDEPENDENT: Inputs = Inputs { together: Together::Independent, signed: false };

    /// Draws a block. Shapes: p (n,), x (n, R) with R a multiple of [`LANES`].
    pub fn fill(self, draws: &mut Draws, p: &[f32], x: &mut [f32]) {
        let r = x.len() / p.len();
        assert!(x.len() == r * p.len() && r.is_multiple_of(LANES), "{} numbers for {} features in blocks of {LANES} samples", x.len(), p.len());
        match self.together {
            Together::Independent => {
                for (row, &p) in x.chunks_exact_mut(r).zip(p) {
                    fill_sparse(&mut draws.0, p, row);
                }
            }
            Together::Correlated(size) => {
                for (rows, p) in x.chunks_mut(size * r).zip(p.chunks(size)) {
                    draws.gates(p[0], r);
                    for row in rows.chunks_exact_mut(r) {
                        fill_sparse(&mut draws.0, 1.0, row);
                        row.iter_mut().zip(&draws.1).for_each(|(x, &gate)| *x = if gate > 0.0 { *x } else { 0.0 });
                    }
                }
            }
            Together::Anticorrelated(size) => {
                for (rows, p) in x.chunks_mut(size * r).zip(p.chunks(size)) {
                    draws.gates(p[0], r);
                    let members = p.len() as f32;
                    for (member, row) in rows.chunks_exact_mut(r).enumerate() {
                        fill_sparse(&mut draws.0, 1.0, row);
                        // A gate that is on is uniform on (0, 1): it also says who of the set is on.
                        let chosen = |gate: f32| gate > 0.0 && ((gate * members) as usize).min(p.len() - 1) == member;
                        row.iter_mut().zip(&draws.1).for_each(|(x, &gate)| *x = if chosen(gate) { *x } else { 0.0 });
                    }
                }
            }
        }
        if self.signed {
            // (0, 1) to (-1, 1); what is off stays off.
            x.iter_mut().for_each(|x| *x = if *x > 0.0 { 2.0 * *x - 1.0 } else { 0.0 });
        }
    }
}

/// A stream of uniform numbers (xoshiro128++, Blackman and Vigna 2019), [`LANES`] side by side, each with its own state; and room for the gates of a set.
#[derive(Debug, Clone)]
pub struct Draws([[u32; LANES]; 4], Vec<f32>);

impl Draws {
    /// The stream of one purpose and instance: the states are drawn from the program's generator of that name.
    pub fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let mut rng = seed::rng(seed, purpose, index);
        let mut state = [[0; LANES]; 4];
        state.iter_mut().flatten().for_each(|word| *word = rng.next_u32());
        Draws(state, Vec::new())
    }

    fn gates(&mut self, p: f32, r: usize) {
        self.1.resize(r, 0.0);
        fill_sparse(&mut self.0, p, &mut self.1);
    }
}

dispatch! {
    /// One draw u a sample: on where u < p, and then u / p is uniform on (0, 1). 23 bits: at p = 0.001 there are 8,388 values.
    fn fill_sparse(state: &mut [[u32; LANES]; 4], p: f32, out: &mut [f32]) {
        let [mut a, mut b, mut c, mut d] = *state;
        let scale = 1.0 / p;
        for out in out.as_chunks_mut::<LANES>().0 {
            for l in 0..LANES {
                let word = a[l].wrapping_add(d[l]).rotate_left(7).wrapping_add(a[l]);
                let t = b[l] << 9;
                c[l] ^= a[l];
                d[l] ^= b[l];
                b[l] ^= c[l];
                a[l] ^= d[l];
                c[l] ^= t;
                d[l] = d[l].rotate_left(11);
                // Never 0, and below 1 also after rounding; signed before the conversion, which vector units have for signed words alone.
                let u = ((word >> 9) as i32 as f32 + 0.5) * (1.0 / 8_388_608.0);
                out[l] = if u < p { (u * scale).min(1.0 - f32::EPSILON / 2.0) } else { 0.0 };
            }
        }
        *state = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: usize = 1 << 16;

    fn block(inputs: Inputs, p: &[f32]) -> Vec<Vec<f32>> {
        let mut x = vec![0.0; p.len() * R];
        inputs.fill(&mut Draws::new(7, "test/toy", 0), p, &mut x);
        x.chunks_exact(R).map(<[f32]>::to_vec).collect()
    }

    fn rate(row: &[f32]) -> f64 {
        row.iter().filter(|&&x| x != 0.0).count() as f64 / R as f64
    }

    fn mean(values: impl Iterator<Item = f32>) -> f64 {
        let (mut n, mut sum) = (0, 0.0);
        values.for_each(|x| (n, sum) = (n + 1, sum + x as f64));
        sum / n as f64
    }

    #[test]
    fn independent_features_fire_at_their_rate_with_uniform_values() {
        let p = [1.0, 0.3, 0.01];
        let x = block(Inputs::INDEPENDENT, &p);
        for (row, p) in x.iter().zip(p) {
            let p = p as f64;
            // Five standard deviations of a mean of R draws.
            assert!((rate(row) - p).abs() <= 5.0 * (p * (1.0 - p) / R as f64).sqrt(), "{} {p}", rate(row));
            let on: Vec<f32> = row.iter().copied().filter(|&x| x != 0.0).collect();
            let bound = 5.0 * (1.0 / 12.0 / on.len() as f64).sqrt();
            assert!((mean(on.iter().copied()) - 0.5).abs() < bound && on.iter().all(|x| (0.0..1.0).contains(x)));
        }
        let both = x[0].iter().zip(&x[1]).filter(|(a, b)| **a > 0.5 && **b > 0.0).count() as f64 / R as f64;
        assert!((both - 0.15).abs() < 0.01, "{both}");
    }

    #[test]
    fn correlated_sets_are_on_together_with_independent_values() {
        let x = block(Inputs { together: Together::Correlated(2), signed: false }, &[0.2; 4]);
        assert!(x[0].iter().zip(&x[1]).all(|(a, b)| (*a == 0.0) == (*b == 0.0)));
        assert!((rate(&x[0]) - 0.2).abs() < 0.01 && (rate(&x[2]) - 0.2).abs() < 0.01);
        let apart = x[0].iter().zip(&x[2]).filter(|(a, b)| **a > 0.0 && **b > 0.0).count() as f64 / R as f64;
        assert!((apart - 0.04).abs() < 0.005, "{apart}");
        let product = mean(x[0].iter().zip(&x[1]).filter(|(a, _)| **a > 0.0).map(|(a, b)| a * b));
        assert!((product - 0.25).abs() < 0.01, "independent values have a mean product of 1/4, not {product}");
    }

    #[test]
    fn of_an_anticorrelated_set_at_most_one_is_on_each_equally_often() {
        let x = block(Inputs { together: Together::Anticorrelated(2), signed: false }, &[0.4; 4]);
        assert!(x[0].iter().zip(&x[1]).all(|(a, b)| *a == 0.0 || *b == 0.0));
        for row in &x {
            assert!((rate(row) - 0.2).abs() < 0.01, "{}", rate(row));
        }
    }

    #[test]
    fn signed_values_are_symmetric() {
        let x = block(Inputs { signed: true, ..Inputs::INDEPENDENT }, &[0.5]);
        assert!((rate(&x[0]) - 0.5).abs() < 0.01 && mean(x[0].iter().copied()).abs() < 0.01);
        assert!(x[0].iter().any(|&x| x < -0.9) && x[0].iter().any(|&x| x > 0.9));
    }
}
