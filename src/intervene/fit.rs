//! From examples to features: which latents tell positive positions from negative ones (contrast), and which push the model towards what
//! follows there (output score).
//!
//! A latent that detects a concept and one that makes the model write it are often two: choosing by output score steers two to three times better
//! (Arad et al. 2025, "SAEs are good for steering - if you select the right features").
//!
//! F = d_sae, M = d_model, V = d_vocab.

use super::exact::{residual_directions, toward};
use super::{Error, Result};
use crate::kernels::gemm::matmul_nt;
use crate::lm::{HookPoint, Lm};
use crate::sae::{Sae, SparseRows};
use serde::Serialize;

/// What was seen at positive (index 1) and negative (index 0) positions.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Positions.
    n: [u64; 2],
    /// (F,) positions at which the latent is active.
    fires: [Vec<u64>; 2],
    /// (F,) summed activation.
    sums: [Vec<f64>; 2],
    /// (F,) largest activation anywhere.
    max_act: Vec<f32>,
    /// (V,) how often each token follows.
    next: [Vec<u64>; 2],
}

/// A latent's scores as the feature of the positive positions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fitted {
    pub latent: u32,
    /// Of "it fires" as a detector of positive positions.
    pub f1: f64,
    /// ln odds of firing at positive positions less that at negative ones, with half a position added to every count.
    pub log_odds: f64,
    /// Mean activation at positive positions less that at negative ones, in multiples of its largest.
    pub mean_difference: f64,
    /// What its largest activation adds to the logits of what follows positive positions, less that of what follows negative ones, up to the scale of the
    /// final norm; absent where the hook's effect on logits is not linear.
    pub output: Option<f64>,
    /// What it adds on average, over all positive positions, to the logits of what follows there less those of what follows negative ones: its mean activation
    /// times its output per unit. What is lost to first order when it is held at zero. Absent with `output`.
    pub attribution: Option<f64>,
    /// Geometric mean of its ranks by mean difference and by output, 1 the best.
    pub rank: f64,
    pub max_act: f32,
    /// Mean activation over positive positions where it is active.
    pub mean_positive: f32,
}

/// What features are ranked by, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// [`Fitted::rank`]: by mean difference and by output together.
    Both,
    F1,
    LogOdds,
    Difference,
    /// By mean difference where the hook's effect on logits is not linear, as [`Order::Attribution`].
    Output,
    Attribution,
}

impl Order {
    pub fn sort(self, all: &mut [Fitted]) {
        let key = |f: &Fitted| match self {
            Order::Both => -f.rank,
            Order::F1 => f.f1,
            Order::LogOdds => f.log_odds,
            Order::Difference => f.mean_difference,
            Order::Output => f.output.unwrap_or(f.mean_difference),
            Order::Attribution => f.attribution.unwrap_or(f.mean_difference),
        };
        all.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.latent.cmp(&b.latent)));
    }
}

impl Evidence {
    pub fn new(d_sae: usize, d_vocab: usize) -> Self {
        Evidence {
            n: [0; 2],
            fires: [vec![0; d_sae], vec![0; d_sae]],
            sums: [vec![0.0; d_sae], vec![0.0; d_sae]],
            max_act: vec![0.0; d_sae],
            next: [vec![0; d_vocab], vec![0; d_vocab]],
        }
    }

    /// Adds rows of activations, each with whether it is positive (none: it does not count) and the token that follows it.
    pub fn add(&mut self, acts: &SparseRows, rows: impl IntoIterator<Item = (Option<bool>, u32)>) {
        for (r, (positive, next)) in rows.into_iter().enumerate() {
            let Some(positive) = positive else { continue };
            let side = usize::from(positive);
            self.n[side] += 1;
            self.next[side][next as usize] += 1;
            let (latents, acts) = acts.row(r);
            for (&latent, &act) in latents.iter().zip(acts) {
                let latent = latent as usize;
                self.fires[side][latent] += 1;
                self.sums[side][latent] += f64::from(act);
                self.max_act[latent] = self.max_act[latent].max(act);
            }
        }
    }

    /// The largest activation of a latent at any position.
    pub fn max_act(&self, latent: u32) -> f32 {
        self.max_act[latent as usize]
    }

    /// Positions seen, (positive, negative).
    pub fn n(&self) -> (u64, u64) {
        (self.n[1], self.n[0])
    }

    /// Share of what follows positive positions less that of what follows negative ones, (V,).
    pub fn next_difference(&self) -> Vec<f64> {
        let share = |side: usize, token: usize| self.next[side][token] as f64 / self.n[side].max(1) as f64;
        (0..self.next[0].len()).map(|t| share(1, t) - share(0, t)).collect()
    }

    /// All latents that fired at a positive position, the best first by [`Fitted::rank`].
    ///
    /// # Errors
    /// No positive or no negative position.
    pub fn rank(&self, lm: &Lm, hook: HookPoint, sae: &Sae) -> Result<Vec<Fitted>> {
        if self.n[0] == 0 || self.n[1] == 0 {
            return Err(Error::Edit { what: format!("there are {} positive and {} negative positions; both are needed", self.n[1], self.n[0]) });
        }
        let output = output_scores(lm, hook, sae, &self.next_difference())?;
        let mut all: Vec<Fitted> = (0..sae.d_sae).filter(|&j| self.fires[1][j] > 0).map(|j| self.fitted(j, output.as_deref())).collect();
        let ranks = |key: &dyn Fn(&Fitted) -> f64| {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by(|&a, &b| key(&all[b]).total_cmp(&key(&all[a])).then(a.cmp(&b)));
            let mut rank = vec![0.0; all.len()];
            order.iter().enumerate().for_each(|(place, &i)| rank[i] = (place + 1) as f64);
            rank
        };
        let contrast = ranks(&|f| f.mean_difference);
        let pushed = ranks(&|f| f.output.unwrap_or(f.mean_difference));
        all.iter_mut().zip(contrast.iter().zip(&pushed)).for_each(|(f, (a, b))| f.rank = (a * b).sqrt());
        Order::Both.sort(&mut all);
        Ok(all)
    }

    fn fitted(&self, j: usize, output: Option<&[f64]>) -> Fitted {
        let [negative, positive] = [0, 1].map(|side| self.fires[side][j] as f64);
        let [n_negative, n_positive] = self.n.map(|n| n as f64);
        let odds = |fires: f64, n: f64| ((fires + 0.5) / (n - fires + 0.5)).ln();
        let max_act = self.max_act[j];
        let mean = |side: usize| self.sums[side][j] / self.n[side] as f64;
        Fitted {
            latent: j as u32,
            f1: 2.0 * positive / (positive + n_positive + negative),
            log_odds: odds(positive, n_positive) - odds(negative, n_negative),
            mean_difference: (mean(1) - mean(0)) / f64::from(max_act.max(f32::MIN_POSITIVE)),
            output: output.map(|o| o[j] * f64::from(max_act)),
            attribution: output.map(|o| o[j] * mean(1)),
            rank: 0.0,
            max_act,
            mean_positive: (self.sums[1][j] / positive.max(1.0)) as f32,
        }
    }
}

/// For every latent what one unit of it adds to sum over tokens of weights (V,) * logit, weights that sum to 0, up to the scale of the final norm. (F,); none where
/// later layers read the hook.
fn output_scores(lm: &Lm, hook: HookPoint, sae: &Sae, weights: &[f64]) -> Result<Option<Vec<f64>>> {
    let directions = match residual_directions(lm, hook, &sae.w_dec) {
        Ok(directions) => directions,
        Err(Error::NotExact { .. }) => return Ok(None),
        Err(other) => return Err(other),
    };
    let m = lm.config.d_model;
    let toward: Vec<f32> = toward(lm, weights).into_iter().map(|t| t as f32).collect();
    let mut scores = vec![0.0; sae.d_sae];
    matmul_nt(sae.d_sae, 1, m, &directions, &toward, &mut scores, false);
    Ok(Some(scores.into_iter().map(f64::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{model, sae};
    use super::*;
    use crate::sae::Select;

    fn rows(of: &[&[(u32, f32)]]) -> SparseRows {
        let mut all = SparseRows::default();
        for row in of {
            let (latents, acts): (Vec<u32>, Vec<f32>) = row.iter().copied().unzip();
            all.push_row(&latents, &acts);
        }
        all
    }

    #[test]
    fn scores_are_worked_out_by_hand() {
        let (lm, sae) = (model(1, 17), sae(10, 4, Select::Relu));
        let mut evidence = Evidence::new(4, 17);
        // Latent 0 fires on both positives and one of three negatives, latent 1 on negatives alone; the last row does not count.
        let acts = rows(&[&[(0, 2.0)], &[(0, 4.0)], &[(0, 1.0), (1, 3.0)], &[(1, 1.0)], &[], &[(0, 9.0), (2, 1.0)]]);
        let marks = [(Some(true), 5), (Some(true), 6), (Some(false), 7), (Some(false), 7), (Some(false), 5), (None, 8)];
        evidence.add(&acts, marks);
        assert_eq!((evidence.n(), evidence.max_act(0)), ((2, 3), 4.0));
        let difference = evidence.next_difference();
        assert!(
            (difference[5] - (0.5 - 1.0 / 3.0)).abs() < 1e-12
                && (difference[7] + 2.0 / 3.0).abs() < 1e-12
                && difference.iter().sum::<f64>().abs() < 1e-12
        );
        let ranked = evidence.rank(&lm, HookPoint::mlp_post(0), &sae).unwrap();
        assert_eq!(ranked.iter().map(|f| f.latent).collect::<Vec<_>>(), [0], "only what fires at a positive position");
        let f = &ranked[0];
        assert!((f.f1 - 2.0 * 2.0 / (2.0 + 2.0 + 1.0)).abs() < 1e-12, "{}", f.f1);
        assert!((f.log_odds - ((2.5f64 / 0.5).ln() - (1.5f64 / 2.5).ln())).abs() < 1e-12);
        assert!((f.mean_difference - (3.0 - 1.0 / 3.0) / 4.0).abs() < 1e-12 && f.mean_positive == 3.0);
        // Its direction through the MLP's second matrix, centred and weighted by the final norm, onto the unembedding.
        let u = residual_directions(&lm, HookPoint::mlp_post(0), sae.direction(0)).unwrap();
        let m = lm.config.d_model;
        let mean = u.iter().sum::<f32>() / m as f32;
        let logit = |t: usize| (0..m).map(|i| f64::from((u[i] - mean) * lm.weights.ln_f_w[i] * lm.weights.unembedding()[t * m + i])).sum::<f64>();
        let output: f64 = difference.iter().enumerate().map(|(t, w)| w * logit(t)).sum();
        assert!((f.output.unwrap() - 4.0 * output).abs() < 1e-4 * (1.0 + output.abs()), "{} and {}", f.output.unwrap(), 4.0 * output);
        assert!((f.attribution.unwrap() - 3.0 * output).abs() < 1e-4 * (1.0 + output.abs()));
    }

    #[test]
    fn each_order_puts_its_own_best_first() {
        let one = |latent: u32, numbers: [f64; 6]| {
            let [f1, log_odds, mean_difference, output, attribution, rank] = numbers;
            let (output, attribution) = (Some(output), Some(attribution));
            Fitted { latent, f1, log_odds, mean_difference, output, attribution, rank, max_act: 1.0, mean_positive: 1.0 }
        };
        // Feature i is the best by order i and by no other.
        let orders = [Order::F1, Order::LogOdds, Order::Difference, Order::Output, Order::Attribution, Order::Both];
        let all: Vec<Fitted> = (0..6).map(|i| one(i, std::array::from_fn(|o| if (o == i as usize) != (o == 5) { 2.0 } else { 1.0 }))).collect();
        for (i, order) in orders.into_iter().enumerate() {
            let mut sorted = all.clone();
            order.sort(&mut sorted);
            assert_eq!(sorted[0].latent, i as u32, "{order:?}");
        }
    }

    #[test]
    fn one_side_alone_is_refused_and_an_early_hook_has_no_output() {
        let (lm, sae) = (model(2, 17), sae(10, 4, Select::Relu));
        let mut evidence = Evidence::new(4, 17);
        evidence.add(&rows(&[&[(1, 1.0)]]), [(Some(true), 3)]);
        assert!(evidence.rank(&lm, HookPoint::mlp_post(1), &sae).unwrap_err().to_string().contains("1 positive and 0 negative"));
        evidence.add(&rows(&[&[(2, 1.0)]]), [(Some(false), 4)]);
        let early = evidence.rank(&lm, HookPoint::mlp_post(0), &sae).unwrap();
        assert_eq!((early.len(), early[0].latent, early[0].output, early[0].attribution), (1, 1, None, None));
        assert!(evidence.rank(&lm, HookPoint::mlp_post(1), &sae).unwrap()[0].output.is_some());
    }
}
