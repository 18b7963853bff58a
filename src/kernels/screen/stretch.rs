//! Rows and weights as the screen rounds them where rows are long in few directions: activations are, weights of an encoder are not.
//!
//! The bound of a low-precision product grows with |x| |w|, so a direction in which all rows are long costs every latent precision, also those that have nothing of it. Along such
//! directions rows are made c times shorter and weights c times longer, which leaves their products as they are:
//!
//! X = M x, V = N w,   M = 1 + sum_i a_i p_i p_i^T,   N = 1 + sum_i b_i p_i p_i^T,   1 + a_i = 1 / c_i,   1 + b_i = c_i
//!
//! with nearly orthonormal p_i. |X| |V| is least where c_i^2 is the ratio of spreads of rows and weights along p_i to that ratio elsewhere. What p_i and c_i are is no matter of
//! correctness: whatever they are, X.V is x.w but for what is measured or bounded here.
//!
//! **The bound.** u = 2^-24; G = p p^T, measured, and |G - 1| < 0.001, so that |P v|^2 <= 1.001 |v|^2; E_ik = a_i b_k G_ik + (i = k) (a_i + b_i) is what M N has beside 1 along p_i and p_k.
//! Computed as v + sum_i a_i dot(p_i, v) p_i in f32, X errs from M x by at most h(1) |x|, and V from N w by at most h(max b) |w|,
//!
//! h(A) = 2 (r + 4) u (1 + sqrt(r) A) + 2 sqrt(r) A (D / 32 + 80) u
//!
//! (the sum rounds r times; a dot has 64 sums of D / 64 and a rest of up to 63 numbers, and the errors of r dots add up as squares). As b_i >= 0, |N w| >= |w|, so |V| >= (1 - h) |w|, and
//!
//! |X.V - x.w| <= (2 |E| |x| + 2 h(1) |x| + 2 h(max b) (|X| + |x|)) |V|
//!
//! where the twos are more than enough for 1.001 and 1 - h. Norms are kept to ordinary sizes ([`Stretch::fits`]), where what is lost to denormals is nothing beside h.

use super::{U, norm};
use crate::kernels::gemm::{matmul_nt, matmul_tn};
use crate::kernels::sparse::{dot, gather_axpy};

/// Directions at most: at D = 512 half of a first-level cache. Twice as many cost more time than they saved on real text (LOG.md).
const MOST: usize = 8;

/// Rows that are looked at for each direction, at least, and rows and latents that are looked at in all.
const ROWS_EACH: usize = 8;
const LOOKED_AT: usize = 1024;

/// Directions that would be stretched by less are left alone, in multiples of what a sample of n rows that are alike in all D directions has: its largest variance is (1 + sqrt(D / n))^2 times their
/// mean (Marchenko and Pastur 1967).
const LEAST: f64 = 1.15;
const LONGEST: f64 = 64.0;

/// What rounding rows and weights of Gaussian numbers to 8 bits errs by, in multiples of |X| |V|; and how much of the bound must be saved by stretching, which is work.
const ROUNDED: f64 = 0.015;
const SAVED: f64 = 0.05;

/// Times that directions are turned towards those of the rows.
const TURNS: usize = 4;

/// Norms of rows and weights that it is used for.
const ORDINARY: std::ops::Range<f64> = 1e-12..1e12;

/// Few directions with how much rows and weights are stretched along each.
#[derive(Debug, Default)]
pub struct Stretch {
    /// (r, D)
    directions: Vec<f32>,
    /// (r,) each: a, b
    of_input: Vec<f32>,
    of_weights: Vec<f32>,
    /// 0, 1, ..., r - 1
    all: Vec<u32>,
    /// 2 |E|, 2 h(1) and 2 h(max b)
    off: [f64; 3],
}

impl Stretch {
    /// Rows that something can be learned from.
    pub const FEWEST: usize = ROWS_EACH;

    /// For rows like x (n, D) and weights w (F, D): the directions of the largest spread, as far as they are worth it.
    pub fn learned(x: &[f32], w: &[f32], d: usize) -> Self {
        let [x, w] = [sample(x, d), sample(w, d)];
        let (n, most) = (x.len() / d, MOST.min(d / 2).min(x.len() / d / ROWS_EACH));
        if most == 0 || x.iter().chain(&w).any(|v| v.is_nan() || v.abs() >= ORDINARY.end as f32) {
            return Stretch::default();
        }
        // Block power iteration on x^T x, from the rows themselves.
        let mut p: Vec<f32> = x.chunks_exact(d).step_by(n / most).take(most).flatten().copied().collect();
        for _ in 0..TURNS {
            orthonormalise(&mut p, d);
            let r = p.len() / d;
            let mut along = vec![0.0; n * r];
            matmul_nt(n, r, d, &x, &p, &mut along, false);
            matmul_tn(r, d, n, &along, &x, &mut p, false);
        }
        orthonormalise(&mut p, d);
        let r = p.len() / d;
        let spread = |rows: &[f32]| {
            let n = rows.len() / d;
            let mut along = vec![0.0; n * r];
            matmul_nt(n, r, d, rows, &p, &mut along, false);
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| (v as f64).powi(2)).sum::<f64>() / n as f64;
            let of: Vec<f64> = (0..r).map(|i| square(&mut along.iter().skip(i).step_by(r).copied())).collect();
            let elsewhere = (square(&mut rows.iter().copied()) - of.iter().sum::<f64>()).max(0.0) / (d - r) as f64;
            (of, elsewhere)
        };
        let ((of_x, x_elsewhere), (of_w, w_elsewhere)) = (spread(&x), spread(&w));
        // The fourth root of a ratio of squares.
        let by = |i: usize| (of_x[i] * w_elsewhere / (of_w[i] * x_elsewhere)).powf(0.25).min(LONGEST);
        let least = LEAST * (1.0 + (d as f64 / n as f64).sqrt()).sqrt();
        let chosen: Vec<(usize, f64)> = (0..r).map(|i| (i, by(i))).filter(|(_, by)| *by >= least).collect();
        let directions = chosen.iter().flat_map(|&(i, _)| &p[i * d..][..d]).copied().collect();
        let stretch = Stretch::of(directions, d, &chosen.iter().map(|&(_, by)| by as f32).collect::<Vec<f32>>());
        if stretch.saves(&x, &w, d) { stretch } else { Stretch::default() }
    }

    /// Whether the bound of 8-bit products of these rows is smaller for it, with what stretching itself errs by, which is much where few directions are very long or D is large.
    fn saves(&self, x: &[f32], w: &[f32], d: usize) -> bool {
        let mut room = vec![];
        let mean = |rows: &[f32], of: &mut dyn FnMut(&[f32]) -> f64| rows.chunks_exact(d).map(of).sum::<f64>() / (rows.len() / d) as f64;
        let before = ROUNDED * mean(x, &mut norm) * mean(w, &mut norm);
        let of_weights = mean(w, &mut |w| norm(self.weights(w, &mut room)));
        let of_row = |x: &[f32]| {
            let stretched = norm(self.input(x, &mut room));
            ROUNDED * stretched + self.error(norm(x), stretched)
        };
        mean(x, &mut { of_row }) * of_weights < (1.0 - SAVED) * before
    }

    /// Along these directions (r, D), by these factors (r,), each 1 or more; none where the directions are far from orthonormal.
    fn of(directions: Vec<f32>, d: usize, by: &[f32]) -> Self {
        let r = by.len();
        let (of_input, of_weights): (Vec<f32>, Vec<f32>) = by.iter().map(|c| (c.recip() - 1.0, c - 1.0)).unzip();
        let (mut lacks, mut skew) = (0.0, 0.0);
        for (i, (p, &a)) in directions.chunks_exact(d).zip(&of_input).enumerate() {
            for (k, (q, &b)) in directions.chunks_exact(d).zip(&of_weights).enumerate() {
                let g: f64 = p.iter().zip(q).map(|(&p, &q)| p as f64 * q as f64).sum();
                let (a, b) = (a as f64, b as f64);
                let (own, one) = if i == k { (a + b, 1.0) } else { (0.0, 0.0) };
                lacks += (a * b * g + own).powi(2);
                skew += (g - one).powi(2);
            }
        }
        if skew.is_nan() || skew.sqrt() >= 1e-3 {
            return Stretch::default();
        }
        let largest = of_weights.iter().fold(0.0f32, |m, &b| m.max(b)) as f64;
        let root = (r as f64).sqrt();
        let h = |a: f64| 2.0 * (r + 4) as f64 * U * (1.0 + root * a) + 2.0 * root * a * (d as f64 / 32.0 + 80.0) * U;
        Stretch { directions, of_input, of_weights, all: (0..r as u32).collect(), off: [2.0 * lacks.sqrt(), 2.0 * h(1.0), 2.0 * h(largest)] }
    }

    /// Whether rows and weights stay as they are.
    pub fn is_none(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a row or weights of this norm can be stretched, and the bound holds.
    pub fn fits(&self, norm: f64) -> bool {
        self.is_none() || norm == 0.0 || ORDINARY.contains(&norm)
    }

    /// |v|, or where v can be stretched a number that is at most a thousandth above it.
    pub fn norm(&self, v: &[f32]) -> f64 {
        let quick = if self.is_none() { 0.0 } else { 1.0005 * (dot(v, v) as f64).sqrt() };
        if ORDINARY.contains(&quick) { quick } else { norm(v) }
    }

    /// X of a row x (D,).
    pub fn input<'a>(&self, x: &'a [f32], out: &'a mut Vec<f32>) -> &'a [f32] {
        self.stretched(x, &self.of_input, out)
    }

    /// V of weights w (D,).
    pub fn weights<'a>(&self, w: &'a [f32], out: &'a mut Vec<f32>) -> &'a [f32] {
        self.stretched(w, &self.of_weights, out)
    }

    fn stretched<'a>(&self, v: &'a [f32], by: &[f32], out: &'a mut Vec<f32>) -> &'a [f32] {
        if self.is_none() {
            return v;
        }
        let mut along = [0.0; MOST];
        let along = &mut along[..by.len()];
        for ((along, p), by) in along.iter_mut().zip(self.directions.chunks_exact(v.len())).zip(by) {
            *along = by * dot(p, v);
        }
        out.clear();
        out.extend_from_slice(v);
        gather_axpy(&self.all, along, &self.directions, out);
        out
    }

    /// What |X.V - x.w| is at most, in multiples of |V|, for a row of norm |x| that became one of norm |X|.
    pub fn error(&self, x: f64, stretched: f64) -> f64 {
        let [lacks, of_input, of_weights] = self.off;
        if self.is_none() { 0.0 } else { (lacks + of_input) * x + of_weights * (x + stretched) }
    }
}

/// So many rows of (n, D) as are looked at, evenly spread.
fn sample(rows: &[f32], d: usize) -> Vec<f32> {
    rows.chunks_exact(d).step_by((rows.len() / d).div_ceil(LOOKED_AT).max(1)).flatten().copied().collect()
}

/// The rows of p (r, D) made orthonormal, one after the other in f64; those that lie among the ones before are dropped.
fn orthonormalise(p: &mut Vec<f32>, d: usize) {
    let mut done: Vec<Vec<f64>> = Vec::new();
    for p in p.chunks_exact(d) {
        let mut v: Vec<f64> = p.iter().map(|&v| v as f64).collect();
        let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let before = length(&v);
        // Twice, for what rounding leaves the first time.
        for q in done.iter().chain(&done) {
            let along: f64 = q.iter().zip(&v).map(|(q, v)| q * v).sum();
            v.iter_mut().zip(q).for_each(|(v, q)| *v -= along * q);
        }
        let after = length(&v);
        if after > 1e-4 * before {
            v.iter_mut().for_each(|v| *v /= after);
            done.push(v);
        }
    }
    p.clear();
    p.extend(done.iter().flatten().map(|&v| v as f32));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::random;

    /// Rows (n, D) that are long in the first few of D directions that are all of one sign or another.
    fn long_in_few(n: usize, d: usize, by: f32, index: u64) -> Vec<f32> {
        let mut rows = random(n * d, index);
        let (few, along) = (random(3 * d, index + 1), random(3 * n, index + 2));
        for (row, along) in rows.chunks_exact_mut(d).zip(along.chunks_exact(3)) {
            for (few, along) in few.chunks_exact(d).zip(along) {
                row.iter_mut().zip(few).for_each(|(v, f)| *v += by * along * f);
            }
        }
        rows
    }

    #[test]
    fn products_stay_within_the_bound_and_rows_become_shorter() {
        let (n, f) = (200, 90);
        for (d, by) in [(7, 10.0), (64, 3.0), (100, 20.0), (513, 30.0)] {
            let (x, w) = (long_in_few(n, d, by, 1), random(f * d, 9));
            let stretch = Stretch::learned(&x, &w, d);
            assert!((1..=3).contains(&stretch.all.len()), "{} directions at {d}", stretch.all.len());
            let (mut of_x, mut of_w) = (vec![], vec![]);
            let (mut before, mut after, mut worst) = (0.0, 0.0, 0.0f64);
            for x in x.chunks_exact(d) {
                for w in w.chunks_exact(d) {
                    let (long, wide) = (stretch.input(x, &mut of_x), stretch.weights(w, &mut of_w));
                    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum::<f64>();
                    let off = (product(long, wide) - product(x, w)).abs();
                    let bound = stretch.error(norm(x), norm(long)) * norm(wide);
                    assert!(off <= bound, "{off} is more than {bound} at {d}");
                    worst = worst.max(off / (norm(long) * norm(wide)));
                    before += norm(x) * norm(w);
                    after += norm(long) * norm(wide);
                }
            }
            println!("{d}: {} of {} directions, {:.3} of the length, off by {worst:.1e}", stretch.all.len(), d, after / before);
            assert!(after < 0.95 * before && worst > 0.0, "{after} of {before} at {d}");
        }
    }

    #[test]
    fn what_is_alike_in_all_directions_or_no_number_stays_as_it_is() {
        let (d, w) = (64, random(100 * 64, 3));
        let broken = |v| {
            let mut x = long_in_few(100, d, 10.0, 5);
            x[70] = v;
            x
        };
        // So long that stretching as far as it goes errs by more than rounding what is left of it.
        let far = long_in_few(1000, d, 1e6, 5);
        for x in [random(1000 * d, 1), vec![], random(3 * d, 1), vec![0.0; 100 * d], broken(f32::NAN), broken(f32::INFINITY), broken(1e30), far] {
            let stretch = Stretch::learned(&x, &w, d);
            assert!(stretch.is_none() && stretch.fits(1e30) && stretch.error(1.0, 1.0) == 0.0);
            assert_eq!(stretch.input(&w[..d], &mut vec![]), &w[..d]);
        }
        // Directions that are not orthonormal enough for the bound.
        assert!(Stretch::of([1.0, 0.0, 0.0, 0.1, 1.0, 0.0].to_vec(), 3, &[2.0, 2.0]).is_none());
        let whole = Stretch::of([1.0, 0.0, 0.0, 0.0, 1.0, 0.0].to_vec(), 3, &[2.0, 3.0]);
        let near = |a: &[f32], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6 * b);
        assert!(near(whole.input(&[4.0, 9.0, 5.0], &mut vec![]), [2.0, 3.0, 5.0]));
        assert!(near(whole.weights(&[4.0, 9.0, 5.0], &mut vec![]), [8.0, 27.0, 5.0]));
        assert!(whole.fits(0.0) && whole.fits(1.0) && !whole.fits(1e-30) && !whole.fits(1e13));
    }
}
