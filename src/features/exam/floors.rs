//! What a score is compared with: the token-only predictor and random directions (floors), a linear probe (ceiling).
//!
//! n = rows, D = d_in, F = units, C = concepts.

use super::text::{Half, Halves};
use super::units::{Acts, BLOCK_ROWS, Dense, candidates, f1, fire, score_all};
use crate::artifact::seed;
use crate::kernels::gemm::{matmul_nn, matmul_tn};
use crate::kernels::select::{SelectScratch, nearly_above};
use crate::sae::SparseRows;
use rand::RngExt;
use rayon::prelude::*;
use std::collections::BTreeSet;

/// F1 on B of the best predictor that sees only the token itself: its score is the share of positives of the token on A (0 for tokens
/// not seen there), cut where F1 on A is best. A concept for which this is at most 0.5 is decided by context.
pub fn token_only(halves: &Halves, concept: usize) -> f64 {
    let (truth_a, truth_b) = (halves.a.truth(concept), halves.b.truth(concept));
    let mut by_token = vec![(0u32, 0u32); halves.n_ids()];
    for (&id, truth) in halves.a.ids.iter().zip(&truth_a).filter(|(_, t)| **t != 2) {
        let slot = &mut by_token[id as usize];
        *slot = (slot.0 + (*truth == 1) as u32, slot.1 + 1);
    }
    let score = |&id: &u32| by_token[id as usize].0 as f32 / by_token[id as usize].1.max(1) as f32;
    let scores = |half: &Half| half.ids.iter().map(score).collect::<Vec<f32>>();
    cut(&scores(&halves.a), &truth_a, &scores(&halves.b), &truth_b)
}

/// Best cut of scores on A over all its values, and F1 at that cut on B.
pub fn cut(scores_a: &[f32], truth_a: &[u8], scores_b: &[f32], truth_b: &[u8]) -> f64 {
    let n_pos = truth_a.iter().filter(|&&t| t == 1).count() as u64;
    let mut order: Vec<(f32, bool)> = scores_a.iter().zip(truth_a).filter(|(_, t)| **t != 2).map(|(s, t)| (*s, *t == 1)).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut hits, mut fired, mut best) = (0, 0, (0.0, f32::INFINITY));
    for ties in order.chunk_by(|a, b| a.0 == b.0) {
        hits += ties.iter().filter(|x| x.1).count() as u64;
        fired += ties.len() as u64;
        let f1 = f1(hits, fired, n_pos);
        if f1 > best.0 {
            best = (f1, ties[0].0);
        }
    }
    let fires = || scores_b.iter().zip(truth_b).filter(|(s, t)| **t != 2 && **s >= best.1);
    f1(fires().filter(|x| *x.1 == 1).count() as u64, fires().count() as u64, truth_b.iter().filter(|&&t| t == 1).count() as u64)
}

/// Draws of random directions: the best of one draw says little of what the best of another is. Each costs as much as the search over the latents, so there are no
/// more than a spread needs.
pub const N_DRAWS: usize = 2;

/// Random directions, uniform on the sphere, each firing where direction . x is above its threshold; act = direction . x - threshold.
pub struct Directions {
    d_in: usize,
    /// (D, F), so that a block of rows (D, m) gives scores (m, F).
    w: Vec<f32>,
    /// (F,)
    thresholds: Vec<f32>,
}

impl Directions {
    /// As many as latents, each firing as often on A as its latent: the threshold is that quantile over [`BLOCK_ROWS`] rows of A at even
    /// distances. Different for each `draw`.
    pub fn new(a: &Dense, latents: &Acts, run_seed: u64, draw: u64) -> Self {
        let (d_in, n_units) = (a.d_in, latents.n_units());
        let mut rng = seed::rng(run_seed, "features/random-directions", draw);
        let mut directions: Vec<f32> = (0..n_units * d_in).map(|_| normal(&mut rng)).collect();
        for direction in directions.chunks_mut(d_in) {
            let norm = direction.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            direction.iter_mut().for_each(|x| *x /= norm);
        }
        let mut w = vec![0.0; n_units * d_in];
        for (f, direction) in directions.chunks(d_in).enumerate() {
            direction.iter().enumerate().for_each(|(i, &x)| w[i * n_units + f] = x);
        }
        let mut drawn = Directions { d_in, w, thresholds: vec![f32::INFINITY; n_units] };
        let sample = a.sample(BLOCK_ROWS);
        let m = sample.len() / d_in;
        if m > 0 {
            let sample = drawn.scores(&sample);
            let mut firings = Vec::new();
            for f in 0..n_units {
                latents.firings(f, &mut firings);
                let kept = (firings.len() as f64 / a.n as f64 * m as f64).round() as usize;
                if !firings.is_empty() {
                    let mut column: Vec<f32> = (0..m).map(|r| sample[r * n_units + f]).collect();
                    column.sort_unstable_by(|a, b| b.total_cmp(a));
                    drawn.thresholds[f] = column[kept.min(m - 1)];
                }
            }
        }
        drawn
    }

    /// These of them alone, in this order.
    pub fn only(&self, chosen: &[u32]) -> Self {
        let n_units = self.thresholds.len();
        let column = |i: usize| chosen.iter().map(move |&f| self.w[i * n_units + f as usize]);
        let w = (0..self.d_in).flat_map(column).collect();
        Directions { d_in: self.d_in, w, thresholds: chosen.iter().map(|&f| self.thresholds[f as usize]).collect() }
    }

    /// (m, F) of rows (D, m).
    fn scores(&self, rows: &[f32]) -> Vec<f32> {
        let (m, n_units) = (rows.len() / self.d_in, self.thresholds.len());
        let mut out = vec![0.0; m * n_units];
        matmul_tn(m, n_units, self.d_in, rows, &self.w, &mut out, false);
        out
    }

    /// Their firings on a half.
    pub fn fire(&self, rows: &Dense) -> Acts {
        let n_units = self.thresholds.len();
        let below: Vec<f32> = self.thresholds.iter().map(|t| -t).collect();
        let mut sparse = SparseRows::default();
        sparse.clear();
        for block in rows.blocks.iter().filter(|_| n_units > 0) {
            let scores = self.scores(block);
            let of_chunk = |chunk: &[f32]| {
                let (mut fired, mut scratch, mut near) = (SparseRows::default(), SelectScratch::default(), Vec::new());
                fired.clear();
                for row in chunk.chunks(n_units) {
                    nearly_above(row, &below, (0.0, None), 0.0, &mut scratch, &mut near);
                    let SparseRows { latent, act, row_start } = &mut fired;
                    for (&unit, over) in near.iter().map(|unit| (unit, row[*unit as usize] + below[*unit as usize])).filter(|(_, over)| *over > 0.0) {
                        latent.push(unit);
                        act.push(over);
                    }
                    row_start.push(latent.len());
                }
                fired
            };
            scores.par_chunks(ROWS_PER_TASK * n_units).map(of_chunk).collect::<Vec<_>>().iter().for_each(|fired| sparse.append(fired));
        }
        Acts::from_rows(n_units, &sparse)
    }
}

/// Rows that one thread looks through before it takes the next.
const ROWS_PER_TASK: usize = 128;

/// For each concept F1 on B of the direction that is best on A.
pub fn best_of(halves: &Halves, drawn: &Directions, b: &Dense, on_a: &Acts) -> Vec<f64> {
    let n_concepts = halves.a.positives.len();
    let (cells, grids) = score_all(&halves.a, on_a);
    let best: Vec<Option<(u32, f32)>> = (0..n_concepts)
        .map(|c| candidates(&cells, n_concepts, c).first().map(|&(unit, cell)| (unit, grids[unit as usize][cell.bin as usize])))
        .collect();
    // On B only those that were chosen are looked at.
    let chosen: Vec<u32> = best.iter().flatten().map(|b| b.0).collect::<BTreeSet<u32>>().into_iter().collect();
    let on_b = drawn.only(&chosen).fire(b);
    let f1 = |(c, best): (usize, &Option<(u32, f32)>)| {
        let Some((unit, threshold)) = best else { return 0.0 };
        let place = chosen.binary_search(unit).expect("it was chosen") as u32;
        fire(&on_b, &halves.b.truth(c), &[(place, *threshold)]).1.f1()
    };
    best.iter().enumerate().map(f1).collect()
}

/// Box-Muller.
fn normal(rng: &mut impl rand::Rng) -> f32 {
    let (u, v): (f32, f32) = (rng.random_range(f32::MIN_POSITIVE..1.0), rng.random_range(0.0..1.0));
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// Passes over A in the probe's training, and its L2 penalty per weight of a standardised input.
const EPOCHS: usize = 15;
const L2: f32 = 1e-5;

/// F1 on B of a logistic regression on the activations, one per concept, all trained at once on A: standardised inputs, minibatches of one
/// block, Adam with a rate falling linearly from 0.02, cut where F1 on A is best (over all values, more than latents get: it is a ceiling).
/// Left-out rows have no gradient. Small wherever training stopped early or A is small: a ceiling of linear readers, not of all.
pub fn probe(a: &Dense, b: &Dense, halves: &Halves) -> Vec<f64> {
    let (d_in, n_concepts) = (a.d_in, halves.a.positives.len());
    let (shift, scale) = moments(a);
    let standardised = |block: &[f32]| {
        let m = block.len() / d_in;
        let rows = block.chunks(m).zip(shift.iter().zip(&scale));
        rows.flat_map(|(row, (s, k))| row.iter().map(move |x| (x - s) * k)).collect::<Vec<f32>>()
    };
    let truths_a: Vec<Vec<u8>> = (0..n_concepts).map(|c| halves.a.truth(c)).collect();
    // The last row of w is the bias, which starts at the log odds of the concept.
    let mut w = vec![0.0f32; (d_in + 1) * n_concepts];
    for (c, bias) in w[d_in * n_concepts..].iter_mut().enumerate() {
        let share = (halves.a.positives[c].len() as f32 + 0.5) / (a.n as f32 + 1.0);
        *bias = (share / (1.0 - share)).ln();
    }
    let (mut m1, mut m2) = (vec![0.0f32; w.len()], vec![0.0f32; w.len()]);
    let (n_steps, mut step) = (EPOCHS * a.blocks.len(), 0);
    for _ in 0..EPOCHS {
        for (i, block) in a.blocks.iter().enumerate() {
            let x = standardised(block);
            let m = x.len() / d_in;
            let mut error = logits(&x, m, &w, d_in, n_concepts);
            for (r, row) in error.chunks_mut(n_concepts).enumerate() {
                for (c, z) in row.iter_mut().enumerate() {
                    let truth = truths_a[c][i * BLOCK_ROWS + r];
                    *z = if truth == 2 { 0.0 } else { (1.0 / (1.0 + (-*z).exp()) - truth as f32) / m as f32 };
                }
            }
            let mut gradient = vec![0.0; w.len()];
            matmul_nn(d_in, n_concepts, m, &x, &error, &mut gradient[..d_in * n_concepts], false);
            for row in error.chunks(n_concepts) {
                row.iter().zip(&mut gradient[d_in * n_concepts..]).for_each(|(e, g)| *g += e);
            }
            step += 1;
            let rate = 0.02 * (1.0 - (step - 1) as f32 / n_steps as f32);
            let (c1, c2) = (1.0 - 0.9f32.powi(step), 1.0 - 0.999f32.powi(step));
            for (k, weight) in w.iter_mut().enumerate() {
                let g = gradient[k] + if k < d_in * n_concepts { L2 * *weight } else { 0.0 };
                m1[k] = 0.9 * m1[k] + 0.1 * g;
                m2[k] = 0.999 * m2[k] + 0.001 * g * g;
                *weight -= rate * (m1[k] / c1) / ((m2[k] / c2).sqrt() + 1e-8);
            }
        }
    }
    let scores = |rows: &Dense| {
        let mut columns = vec![Vec::with_capacity(rows.n); n_concepts];
        for block in &rows.blocks {
            let x = standardised(block);
            for row in logits(&x, x.len() / d_in, &w, d_in, n_concepts).chunks(n_concepts) {
                columns.iter_mut().zip(row).for_each(|(column, z)| column.push(*z));
            }
        }
        columns
    };
    let (scores_a, scores_b) = (scores(a), scores(b));
    (0..n_concepts).map(|c| cut(&scores_a[c], &truths_a[c], &scores_b[c], &halves.b.truth(c))).collect()
}

/// x (D, m) turned over, w (D + 1, C) -> (m, C).
fn logits(x: &[f32], m: usize, w: &[f32], d_in: usize, n_concepts: usize) -> Vec<f32> {
    let mut out: Vec<f32> = w[d_in * n_concepts..].repeat(m);
    matmul_tn(m, n_concepts, d_in, x, &w[..d_in * n_concepts], &mut out, true);
    out
}

/// Mean and 1 / standard deviation of each input over A; 0 for an input that is constant.
fn moments(a: &Dense) -> (Vec<f32>, Vec<f32>) {
    let (mut sum, mut squares) = (vec![0.0f64; a.d_in], vec![0.0f64; a.d_in]);
    for block in &a.blocks {
        for (i, row) in block.chunks(block.len() / a.d_in).enumerate() {
            sum[i] += row.iter().map(|&x| x as f64).sum::<f64>();
            squares[i] += row.iter().map(|&x| x as f64 * x as f64).sum::<f64>();
        }
    }
    let n = a.n as f64;
    let scale = sum.iter().zip(&squares).map(|(s, q)| {
        let variance = q / n - (s / n).powi(2);
        if variance > 1e-12 { (1.0 / variance.sqrt()) as f32 } else { 0.0 }
    });
    let scale = scale.collect();
    (sum.into_iter().map(|s| (s / n) as f32).collect(), scale)
}
