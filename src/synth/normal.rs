//! The standard normal distribution: draws, its distribution function Phi, and draws of the event v < Phi(z) that rarely compute Phi.

use rand::{Rng, RngExt};
use std::f32::consts::TAU;
use std::f64::consts::SQRT_2;
use std::sync::LazyLock;

/// Phi(z), the probability that a standard normal draw is below z; accurate in its tails too.
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// The z with Phi(z) = p, for p strictly between 0 and 1. By halving, for it is only called while a generator is made.
pub fn quantile(p: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0, "no normal quantile at probability {p}");
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        *(if cdf(middle) < p { &mut low } else { &mut high }) = middle;
    }
    0.5 * (low + high)
}

/// Two independent standard normal draws (Box and Muller). The uniform draw under the logarithm has 53 bits, and as f32 its full precision near 0:
/// tails are not cut short.
#[inline]
pub fn pair(rng: &mut impl Rng) -> (f32, f32) {
    let radius = (-2.0 * ((1.0 - rng.random::<f64>()) as f32).ln()).sqrt();
    let (sin, cos) = (TAU * rng.random::<f32>()).sin_cos();
    (radius * cos, radius * sin)
}

/// One standard normal draw.
#[inline]
pub fn draw(rng: &mut impl Rng) -> f32 {
    pair(rng).0
}

/// Fills `out` with standard normal draws.
pub fn fill(rng: &mut impl Rng, out: &mut [f32]) {
    for two in out.chunks_mut(2) {
        let (a, b) = pair(rng);
        two[0] = a;
        if let Some(second) = two.get_mut(1) {
            *second = b;
        }
    }
}

/// The table ends here on both sides; Phi(-9) is 1e-19.
const END: f32 = 9.0;
/// Entries per unit of z.
const STEPS: f32 = 64.0;

/// Phi at -END + i / STEPS for i = 0, 1 ..., with 0 before and 1 behind.
static TABLE: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let inner = (0..=(2.0 * END * STEPS) as usize).map(|i| cdf((i as f32 / STEPS - END) as f64));
    std::iter::once(0.0).chain(inner).chain(std::iter::once(1.0)).collect()
});

/// The place in the table whose entry is at most Phi(z), and the next one at least.
#[inline]
fn place(z: f32) -> usize {
    ((z + END) * STEPS + 1.0).clamp(0.0, 2.0 * END * STEPS + 1.0) as usize
}

/// A bound Q >= Phi(z), less than 0.007 above it, and the rate -ln(1 - Q) of the exponential clock that rings in a unit of time with probability Q.
#[inline]
pub fn bound(z: f32) -> (f64, f64) {
    CLOCK[place(z)]
}

/// (Q, -ln(1 - Q)) by place.
static CLOCK: LazyLock<Vec<(f64, f64)>> = LazyLock::new(|| TABLE[1..].iter().map(|&q| (q, -(-q).ln_1p())).collect());

/// Whether v < Phi(z): with v uniform on [0, 1), an event of probability Phi(z). Mostly the table decides.
#[inline]
pub fn is_below(v: f64, z: f32) -> bool {
    let place = place(z);
    v < TABLE[place] || (v < TABLE[place + 1] && v < cdf(z as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;

    #[test]
    fn the_distribution_function_and_its_inverse_have_the_values_of_tables() {
        // Abramowitz and Stegun, table 26.1, and its tail in table 26.2 (-log10 of 1 - Phi(5) is 6.54265).
        for (z, p) in [(0.0, 0.5), (1.0, 0.841_344_746_068_543), (1.96, 0.975_002_104_851_780), (3.0, 0.998_650_101_968_370)] {
            assert!((cdf(z) - p).abs() < 1e-14 && (cdf(-z) - (1.0 - p)).abs() < 1e-14, "{z}");
            assert!((quantile(p) - z).abs() < 1e-10, "{z}");
        }
        assert!((-cdf(-5.0).log10() - 6.542_65).abs() < 1e-5);
    }

    #[test]
    fn the_table_bounds_the_distribution_function_and_decides_as_it_does() {
        let mut rng = seed::rng(0, "test/normal", 0);
        for _ in 0..20_000 {
            let (z, v) = (rng.random_range(-11.0..11.0f32), rng.random::<f64>());
            let (high, clock) = bound(z);
            let exact = cdf(z as f64);
            assert!(TABLE[place(z)] <= exact && exact <= high && high - exact < 0.007, "{z}: {exact} {high}");
            assert!((1.0 - (-clock).exp() - high).abs() < 1e-12);
            assert_eq!(is_below(v, z), v < exact);
            let close = exact * (1.0 + 0.02 * (v - 0.5));
            assert_eq!(is_below(close, z), close < exact);
        }
        assert!(!is_below(0.5, f32::NEG_INFINITY) && is_below(0.5, f32::INFINITY));
    }

    #[test]
    fn draws_have_the_moments_of_a_standard_normal() {
        let mut draws = vec![0.0; 100_001];
        fill(&mut seed::rng(0, "test/normal", 1), &mut draws);
        let moment = |power| draws.iter().map(|&x| (x as f64).powi(power)).sum::<f64>() / draws.len() as f64;
        // Standard errors of these means: sqrt(1, 2, 15, 96 / n), here 0.003 to 0.03; four of them are allowed.
        for (power, want, allowed) in [(1, 0.0, 0.013), (2, 1.0, 0.018), (3, 0.0, 0.05), (4, 3.0, 0.13)] {
            assert!((moment(power) - want).abs() < allowed, "moment {power}: {}", moment(power));
        }
    }
}
