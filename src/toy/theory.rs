//! Closed forms: what the paper defines of a trained W, and what its models must reach.
//!
//! W has a row W_i (m,) for each of n features; p is a feature's probability (1 - S in the paper), I_i its importance.

/// Norm above which a feature counts as learned.
pub const LEARNED: f64 = 0.5;

/// Share of a neuron's squared weights above which one feature holds it alone. The motif of asymmetric superposition, 2 beside -1/2, has 16/17 and is shared.
pub const MONOSEMANTIC: f64 = 0.95;

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum()
}

/// |W_i| of every feature. Shapes: w (n, m), the result (n,).
pub fn norms(w: &[f32], m: usize) -> Vec<f64> {
    w.chunks_exact(m).map(|row| dot(row, row).sqrt()).collect()
}

/// How many features have a norm above [`LEARNED`].
pub fn learned(w: &[f32], m: usize) -> usize {
    norms(w, m).iter().filter(|&&norm| norm > LEARNED).count()
}

/// W^T W in the paper's letters: cell (i, j) is W_i . W_j. Shapes: w (n, m), the result (n, n).
pub fn gram(w: &[f32], m: usize) -> Vec<f64> {
    w.chunks_exact(m).flat_map(|a| w.chunks_exact(m).map(move |b| dot(a, b))).collect()
}

/// Dimensionality of every feature: D_i = |W_i|^2 / sum over j of (What_i . W_j)^2, where j may be i; 0 for a feature without a direction.
///
/// Their sum is at most the rank of W (Cauchy-Schwarz), and n unit vectors of a tight frame have m / n each. Source: "The geometry of superposition".
pub fn dimensionality(w: &[f32], m: usize) -> Vec<f64> {
    let of = |a: &[f32]| {
        let square = dot(a, a);
        let shared: f64 = w.chunks_exact(m).map(|b| dot(a, b).powi(2)).sum();
        if square > 1e-12 { square * square / shared } else { 0.0 }
    };
    w.chunks_exact(m).map(of).collect()
}

/// D* = m / |W|_F^2: hidden dimensions for each feature that is represented.
pub fn dimensions_per_feature(w: &[f32], m: usize) -> f64 {
    m as f64 / dot(w, w)
}

/// Interference that feature i meets: sum over j != i of (What_i . W_j)^2; from 1 on it is drowned. Source: "Basic results".
pub fn interference(w: &[f32], m: usize) -> Vec<f64> {
    let of = |(i, a): (usize, &[f32])| {
        let square = dot(a, a).max(1e-12);
        w.chunks_exact(m).enumerate().filter(|(j, _)| *j != i).map(|(_, b)| dot(a, b).powi(2) / square).sum()
    };
    w.chunks_exact(m).enumerate().map(of).collect()
}

/// Variance of a feature: E x^2 - (E x)^2 = p/3 - p^2/4.
pub fn variance(p: f64) -> f64 {
    p / 3.0 - p * p / 4.0
}

/// Loss of the linear model's optimum: it keeps the m most important features and answers the mean for the others (weighted Eckart-Young for a diagonal
/// covariance). `importance` falls.
pub fn linear_optimum(importance: &[f32], m: usize, p: f64) -> f64 {
    variance(p) * importance[m..].iter().map(|&i| i as f64).sum::<f64>()
}

/// Cosine of two rows.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

/// Of each neuron (column of w) the feature with the largest weight, and the share that it has of the neuron's squared weights: 1 for a neuron of one
/// feature alone. Shapes: w (n, m), the result (m,).
pub fn held(w: &[f32], m: usize) -> Vec<(usize, f64)> {
    let of = |k: usize| {
        let squares: Vec<f64> = w.iter().skip(k).step_by(m).map(|&w| (w as f64).powi(2)).collect();
        let (feature, most) = squares.iter().enumerate().fold((0, 0.0), |best, (i, &s)| if s > best.1 { (i, s) } else { best });
        (feature, most / squares.iter().sum::<f64>().max(1e-12))
    };
    (0..m).map(of).collect()
}

/// Of each of `a` the one of `b` with the largest cosine, and that cosine. Shapes: a (n, m), b (k, m) with k > 0, the result (n,). The mean of the cosines
/// is the MMCS of Sharkey et al. 2022.
pub fn nearest(a: &[f32], b: &[f32], m: usize) -> Vec<(usize, f64)> {
    let of = |a: &[f32]| b.chunks_exact(m).map(|b| cosine(a, b)).enumerate().fold((0, -1.0), |best, now| if now.1 > best.1 { now } else { best });
    a.chunks_exact(m).map(of).collect()
}

/// Phases of the smallest models: an extra feature of importance I beside m = n - 1 of importance 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The extra feature has no direction.
    Ignored,
    /// It has a direction of its own, and another feature has none.
    Dedicated,
    /// It shares one with another, in opposite directions.
    Superposed,
    /// It has a direction of its own, and two others share one. Not with n = 2, where there is only one other.
    OthersSuperposed,
}

pub const PHASES: [Phase; 4] = [Phase::Ignored, Phase::Dedicated, Phase::Superposed, Phase::OthersSuperposed];

/// Losses of the phases, in the order of [`PHASES`], superposition with biases 0: I v, v, p^2 (1 + I) / 6, p^2 / 3, for E min(x1, x2)^2 = 1/6 of
/// two active features. Shapes: n = 2 or 3 features.
pub fn phase_losses(n: usize, importance: f64, p: f64) -> [f64; 4] {
    let v = variance(p);
    [importance * v, v, p * p * (1.0 + importance) / 6.0, if n > 2 { p * p / 3.0 } else { f64::INFINITY }]
}

/// Probability below which some superposition beats both phases without: 4 a / (2 (1 + b) + 3 a), where a = min(1, I) is what not representing costs
/// and a and b are the importances of the two that share: b is the larger of 1 and I with n = 2, and 1 with n = 3, where two others share if I > 1.
pub fn phase_boundary(n: usize, importance: f64) -> f64 {
    let least = importance.min(1.0);
    let most = if n > 2 { 1.0 } else { importance.max(1.0) };
    4.0 * least / (2.0 * (least + most) + 3.0 * least)
}

/// Measurements that recover an n-dimensional vector with features of probability p: -n p ln p, up to a constant. Source: "Compressed sensing".
pub fn compressed_sensing_bound(n: usize, p: f64) -> f64 {
    -(n as f64) * p * p.ln()
}

/// Ranks of values, ties at their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |v: &f64| {
        let below = values.iter().filter(|o| *o < v).count() as f64;
        let same = values.iter().filter(|o| *o == v).count() as f64;
        below + (same - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

/// Spearman's correlation of ranks; NaN where one side does not vary.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(&a), mean(&b));
    let product: f64 = a.iter().zip(&b).map(|(x, y)| (x - ma) * (y - mb)).sum();
    let square = |v: &[f64], m: f64| v.iter().map(|x| (x - m).powi(2)).sum::<f64>();
    product / (square(&a, ma) * square(&b, mb)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::random;

    #[test]
    fn tight_frames_have_the_papers_fractions() {
        // n unit vectors at equal angles in the plane: 2/n each.
        for n in [2usize, 3, 5, 7] {
            let angle = |i: usize| std::f64::consts::TAU * i as f64 / n as f64;
            let w: Vec<f32> = (0..n).flat_map(|i| [angle(i).cos() as f32, angle(i).sin() as f32]).collect();
            let want = if n == 2 { 0.5 } else { 2.0 / n as f64 };
            assert!(dimensionality(&w, 2).iter().all(|d| (d - want).abs() < 1e-6));
        }
        // A tetrahedron: 3/4; a triangle above and below whose plane stand two opposite vectors: 2/3 and 1/2.
        let tetrahedron = [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 1.0, -1.0, -1.0, -1.0, 1.0];
        assert!(dimensionality(&tetrahedron, 3).iter().all(|d| (d - 0.75).abs() < 1e-6));
        let r = 3f32.sqrt() / 2.0;
        let bipyramid = [1.0, 0.0, 0.0, -0.5, r, 0.0, -0.5, -r, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, -1.0];
        let d = dimensionality(&bipyramid, 3);
        assert!(d[..3].iter().all(|d| (d - 2.0 / 3.0).abs() < 1e-6) && d[3..].iter().all(|d| (d - 0.5).abs() < 1e-6));
    }

    #[test]
    fn dimensionalities_of_any_matrix_sum_to_at_most_its_rank_and_do_not_turn_with_it() {
        for index in 0..20 {
            let w = random(11 * 4, index);
            assert!(dimensionality(&w, 4).iter().sum::<f64>() <= 4.0 + 1e-6);
            let (s, c) = 0.7f32.sin_cos();
            let turned: Vec<f32> = w.chunks_exact(4).flat_map(|v| [c * v[0] - s * v[1], s * v[0] + c * v[1], v[2], v[3]]).collect();
            for (a, b) in dimensionality(&w, 4).iter().zip(dimensionality(&turned, 4)) {
                assert!((a - b).abs() < 1e-5);
            }
        }
        assert_eq!(dimensionality(&[0.0, 0.0, 1.0, 0.0], 2), [0.0, 1.0]);
    }

    #[test]
    fn linear_optima_are_the_published_ones() {
        let falling = |n: i32, base: f64| (0..n).map(|i| base.powi(i) as f32).collect::<Vec<_>>();
        for (p, want) in [(1.0, 0.0464645), (0.3, 0.0432120), (0.1, 0.0171919), (0.03, 0.00545028), (0.01, 0.00184464)] {
            assert!((linear_optimum(&falling(20, 0.7), 5, p) - want).abs() < 1e-7, "{p}: published to seven digits");
        }
        assert!((linear_optimum(&falling(80, 0.9), 20, 1.0) - 0.101132).abs() < 1e-6);
    }

    #[test]
    fn superposition_wins_exactly_below_the_boundary() {
        for (importance, want) in [(1.0, 0.571), (0.3, 0.343), (0.1, 0.160), (10.0, 0.160)] {
            assert!((phase_boundary(2, importance) - want).abs() < 1e-3, "{importance}");
        }
        for (n, importance) in [(2, 1.0), (2, 0.3), (2, 10.0), (3, 0.1), (3, 0.7), (3, 4.0)] {
            let p = phase_boundary(n, importance);
            let margin = |p: f64| {
                let [ignored, dedicated, superposed, others] = phase_losses(n, importance, p);
                superposed.min(others) - ignored.min(dedicated)
            };
            assert!(margin(0.99 * p) < 0.0 && margin(1.01 * p) > 0.0 && margin(p).abs() < 1e-12, "{n} {importance}");
        }
    }

    #[test]
    fn a_neuron_is_held_by_its_largest_weight() {
        // Neuron 0: weights 0, -2, 0; neuron 1: 1, 1, -4; neuron 2 is dead.
        let w = [0.0, 1.0, 0.0, -2.0, 1.0, 0.0, 0.0, -4.0, 0.0];
        assert_eq!(held(&w, 3), [(1, 1.0), (2, 16.0 / 18.0), (0, 0.0)]);
    }

    #[test]
    fn the_nearest_direction_is_nearest_in_angle_and_opposites_are_far() {
        let b = [0.0, 2.0, -3.0, 0.0, 0.1, 0.1];
        let found = nearest(&[5.0, 0.0, 0.0, 0.2, -1.0, 0.0], &b, 2);
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [2, 0, 1]);
        assert!((found[0].1 - 0.5f64.sqrt()).abs() < 1e-6 && (found[1].1 - 1.0).abs() < 1e-6 && (found[2].1 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn spearman_sees_order_alone() {
        assert!((spearman(&[1.0, 2.0, 3.0, 9.0], &[0.1, 0.5, 0.6, 0.7]) - 1.0).abs() < 1e-12);
        assert!((spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0]).is_nan());
    }
}
