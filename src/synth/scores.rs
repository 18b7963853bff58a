//! How well an SAE found the features that were put in: its decoder against the true directions, its firing against the true firing.
//!
//! F = latents, N = features, D = d_in. w_j = decoder direction of latent j, v_i = direction of feature i; near(j) = argmax_i |cos(w_j, v_i)|.
//! Formulas are those of SynthSAEBench (arXiv 2602.14687, and SAELens) unless a field says otherwise.

use super::prune::Pruned;
use super::source::{Generator, Rows};
use super::{Error, Result};
use crate::artifact::Progress;
use crate::kernels::assignment::assign;
use crate::kernels::gemm::matmul_nt;
use crate::kernels::sparse::dot;
use crate::sae::{Metrics, Sae, SparseRows};
use documented::DocumentedFields;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A feature is recovered where a latent's direction has a larger cosine with its own than this (Sanity checks, 2026).
pub const RECOVERED: f32 = 0.8;

/// Rows that are encoded at once.
const BATCH: usize = 2048;

/// The figures of one SAE on one generator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, DocumentedFields)]
pub struct Scores {
    /// Mean |cos(w_j, v_i)| over the pairs (j, i) of the one-to-one matching with the largest sum; min(F, N) pairs.
    pub mcc: f64,
    /// Different features among near(j), over F.
    pub uniqueness: f64,
    /// Mean over j of TP / (TP + FP), latent j read as a detector of feature near(j); 0 for a latent that never fires.
    pub precision: f64,
    /// Mean over j of TP / (TP + FN); 0 where the feature never fires.
    pub recall: f64,
    /// Mean over j of 2 precision_j recall_j / (precision_j + recall_j); 0 where both are 0.
    pub f1: f64,
    /// Mean over features i of max_j cos(w_j, v_i) (Sharkey et al. 2022).
    pub mmcs: f64,
    /// Features i with max_j cos(w_j, v_i) > 0.8.
    pub recovered: u64,
    /// 1 - sum |x - x_hat|^2 / sum |x - mean(x)|^2.
    pub explained_variance: f64,
    /// Mean number of latents that fire in a row.
    pub l0: f64,
    /// Mean number of features that fire in a row.
    pub true_l0: f64,
    /// Latents that fired in none of `rows`.
    pub dead: u64,
    /// Mean |x_hat| / |x| over rows with x != 0.
    pub shrinkage: f64,
    /// Mean |x - x_hat|^2, summed over d_in.
    pub mse: f64,
    /// F.
    pub n_latents: u64,
    /// N.
    pub n_features: u64,
    /// Rows that everything but the cosines was measured on.
    pub rows: u64,
    /// With latents left out that a row can do without ([`super::prune`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
}

impl Scores {
    /// The formula of a score, as its field has it.
    pub fn formula(name: &str) -> Option<&'static str> {
        Self::get_field_docs(name).ok()
    }

    /// The scores with their formulas.
    pub fn with_formulas(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).expect("plain data");
        let formulas: BTreeMap<String, &str> =
            json.as_object().expect("a struct").keys().filter_map(|name| Some((name.clone(), Self::formula(name)?))).collect();
        json["formulas"] = serde_json::json!(formulas);
        json
    }
}

/// [`Scores`], and what they are means of.
pub struct Scored {
    pub scores: Scores,
    pub geometry: Geometry,
    /// (F,): of each latent as a detector of feature near(j).
    pub detectors: Vec<Detector>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Detector {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl Detector {
    /// From the rows where both fire, where the latent does, where the feature does. What is undefined is 0.
    pub fn new(both: u64, latent: u64, feature: u64) -> Self {
        let share = |of: u64| if of > 0 { both as f64 / of as f64 } else { 0.0 };
        let (precision, recall) = (share(latent), share(feature));
        let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        Detector { precision, recall, f1 }
    }
}

/// Latents' directions against features'.
pub struct Geometry {
    /// (F, N): cos(w_j, v_i); 0 where w_j is 0.
    pub cosines: Vec<f32>,
    /// (F,): near(j)
    pub near: Vec<u32>,
    /// (latent, feature) of the matching, by feature.
    pub matched: Vec<(u32, u32)>,
    pub mcc: f64,
    pub uniqueness: f64,
    pub mmcs: f64,
    pub recovered: u64,
}

impl Geometry {
    /// Shapes: decoder (F, D), directions (N, D) of norm 1.
    pub fn new(decoder: &[f32], directions: &[f32], d_in: usize) -> Self {
        let (f, n) = (decoder.len() / d_in, directions.len() / d_in);
        let mut unit = decoder.to_vec();
        unit.par_chunks_mut(d_in).for_each(|w| {
            let norm = dot(w, w).sqrt();
            w.iter_mut().for_each(|x| *x = if norm > 0.0 { *x / norm } else { 0.0 });
        });
        let mut cosines = vec![0.0; f * n];
        matmul_nt(f, n, d_in, &unit, directions, &mut cosines, false);
        let nearest =
            |row: &[f32]| row.iter().enumerate().fold((0, -1.0), |best, (i, c)| if c.abs() > best.1 { (i as u32, c.abs()) } else { best }).0;
        let near: Vec<u32> = cosines.par_chunks(n).map(nearest).collect();
        let mut distinct = near.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let mut best = vec![f32::NEG_INFINITY; n];
        for row in cosines.chunks_exact(n) {
            best.iter_mut().zip(row).for_each(|(best, &c)| *best = best.max(c));
        }
        let mut matched = matching(&cosines, f, n);
        matched.sort_unstable_by_key(|&(_, feature)| feature);
        let sum: f64 = matched.iter().map(|&(j, i)| cosines[j as usize * n + i as usize].abs() as f64).sum();
        Geometry {
            mcc: sum / matched.len().max(1) as f64,
            uniqueness: distinct.len() as f64 / f as f64,
            mmcs: best.iter().map(|&c| c as f64).sum::<f64>() / n as f64,
            recovered: best.iter().filter(|&&c| c > RECOVERED).count() as u64,
            cosines,
            near,
            matched,
        }
    }

    /// The latent that the matching gives to a feature.
    pub fn latent_of(&self, feature: u32) -> Option<u32> {
        self.matched.binary_search_by_key(&feature, |&(_, i)| i).ok().map(|place| self.matched[place].0)
    }

    pub fn cosine(&self, latent: u32, feature: u32) -> f32 {
        self.cosines[latent as usize * (self.cosines.len() / self.near.len()) + feature as usize]
    }
}

/// Pairs (latent, feature) with the largest sum of |cos|, each latent and each feature once at most.
fn matching(cosines: &[f32], f: usize, n: usize) -> Vec<(u32, u32)> {
    if f <= n {
        let score: Vec<f32> = cosines.iter().map(|c| c.abs()).collect();
        return assign(&score, f, n).into_iter().enumerate().map(|(j, i)| (j as u32, i as u32)).collect();
    }
    let score: Vec<f32> = (0..f * n).map(|place| cosines[place % f * n + place / f].abs()).collect();
    assign(&score, n, f).into_iter().enumerate().map(|(i, j)| (j as u32, i as u32)).collect()
}

/// What an SAE makes of a batch of rows. n = rows.
pub(super) struct Encoded<'a> {
    /// (n, D)
    pub x: &'a [f32],
    pub x_hat: &'a mut [f32],
    pub features: &'a SparseRows,
    pub latents: &'a SparseRows,
}

/// Calls `work` with batch after batch of the first `rows` rows of a stream of `seed`.
pub(super) fn each_batch(
    sae: &Sae,
    generator: &dyn Generator,
    (seed, stream): (u64, &'static str),
    rows: u64,
    progress: &mut dyn Progress,
    mut work: impl FnMut(Encoded),
) -> Result<()> {
    let d = sae.d_in;
    let (mut source, mut encoder) = (Rows::new(generator, seed, stream), sae.encoder());
    let (mut x, mut x_hat) = (vec![0.0; BATCH * d], vec![0.0; BATCH * d]);
    let (mut features, mut latents) = (SparseRows::default(), SparseRows::default());
    let mut left = rows as usize;
    while left > 0 {
        let batch = BATCH.min(left);
        let (x, x_hat) = (&mut x[..batch * d], &mut x_hat[..batch * d]);
        source.next_with_features(x, &mut features);
        encoder.encode(x, &mut latents);
        sae.decode(&latents, x_hat);
        work(Encoded { x, x_hat, features: &features, latents: &latents });
        left -= batch;
        progress.advance(batch as u64);
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    Ok(())
}

/// Scores `sae` on `rows` rows of the stream "eval" of `seed`.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn score(sae: &Sae, generator: &dyn Generator, seed: u64, rows: u64, progress: &mut dyn Progress) -> Result<Scored> {
    let dictionary = generator.dictionary();
    let (d, n) = (dictionary.d_in, dictionary.n_features());
    let geometry = Geometry::new(&sae.w_dec, &dictionary.directions, d);
    let (mut both, mut latent_fires, mut feature_fires) = (vec![0u64; sae.d_sae], vec![0u64; sae.d_sae], vec![0u64; n]);
    let mut is_on = vec![false; n];
    let mut metrics = Metrics::new(sae);
    progress.begin("scores", rows, "rows");
    each_batch(sae, generator, (seed, "eval"), rows, progress, |Encoded { x, x_hat, features, latents }| {
        metrics.add(x, x_hat, latents);
        for r in 0..latents.n_rows() {
            let on = features.row(r).0;
            on.iter().for_each(|&i| (is_on[i as usize], feature_fires[i as usize]) = (true, feature_fires[i as usize] + 1));
            for &j in latents.row(r).0 {
                latent_fires[j as usize] += 1;
                both[j as usize] += u64::from(is_on[geometry.near[j as usize] as usize]);
            }
            on.iter().for_each(|&i| is_on[i as usize] = false);
        }
    })?;
    progress.end();
    let detectors: Vec<Detector> =
        (0..sae.d_sae).map(|j| Detector::new(both[j], latent_fires[j], feature_fires[geometry.near[j] as usize])).collect();
    let mean = |of: fn(&Detector) -> f64| detectors.iter().map(of).sum::<f64>() / sae.d_sae as f64;
    let eval = metrics.finish(sae);
    let scores = Scores {
        mcc: geometry.mcc,
        uniqueness: geometry.uniqueness,
        precision: mean(|d| d.precision),
        recall: mean(|d| d.recall),
        f1: mean(|d| d.f1),
        mmcs: geometry.mmcs,
        recovered: geometry.recovered,
        explained_variance: eval.explained_variance,
        l0: eval.l0,
        true_l0: feature_fires.iter().sum::<u64>() as f64 / rows.max(1) as f64,
        dead: latent_fires.iter().filter(|&&n| n == 0).count() as u64,
        shrinkage: eval.l2_ratio,
        mse: eval.mse,
        n_latents: sae.d_sae as u64,
        n_features: n as u64,
        rows,
        pruned: None,
    };
    Ok(Scored { scores, geometry, detectors })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ctrl-C at the first question.
    struct Stopped;

    impl Progress for Stopped {
        fn begin(&mut self, _: &str, _: u64, _: &str) {}
        fn advance(&mut self, _: u64) {}
        fn figure(&mut self, _: &str) {}
        fn end(&mut self) {}
        fn note(&mut self, _: &str) {}
        fn interrupted(&self) -> bool {
            true
        }
    }
    use crate::artifact::Silent;
    use crate::sae::Select;
    use crate::synth::data::Dictionary;
    use crate::synth::data::forest::{Forest, ForestConfig};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    /// Each feature alone in a third of the rows, in pairs in the others; magnitudes from 1 to 2.
    struct Few(Dictionary);

    impl Generator for Few {
        fn dictionary(&self) -> &Dictionary {
            &self.0
        }
        fn draw(&self, rng: &mut ChaCha8Rng, n: usize, rows: &mut SparseRows) {
            let m = self.0.n_features() as u32;
            for _ in 0..n {
                let (a, b) = (rng.random_range(0..m), rng.random_range(0..m));
                let ids = if a == b || rng.random_bool(1.0 / 3.0) { vec![a] } else { vec![a.min(b), a.max(b)] };
                let magnitudes: Vec<f32> = ids.iter().map(|_| rng.random_range(1.0..2.0)).collect();
                rows.push_row(&ids, &magnitudes);
            }
        }
    }

    /// The SAE whose decoder is `decoder` and whose latents fire where x - bias has a product above 0.5 with their direction.
    fn detector(decoder: Vec<f32>, bias: &[f32]) -> Sae {
        let (d, f) = (bias.len(), decoder.len() / bias.len());
        Sae {
            d_in: d,
            d_sae: f,
            select: Select::JumpRelu { threshold: vec![0.5; f] },
            w_enc: decoder.clone(),
            b_enc: vec![0.0; f],
            w_dec: decoder,
            b_dec: bias.to_vec(),
            apply_b_dec_to_input: true,
            transcoder: None,
        }
    }

    #[test]
    fn every_score_is_written_with_its_formula() {
        let json = Scores { f1: 0.5, ..Scores::default() }.with_formulas();
        let (scores, formulas) = (json.as_object().unwrap(), json["formulas"].as_object().unwrap());
        assert_eq!(formulas.len(), scores.len() - 1, "{json}");
        assert!(formulas["f1"].as_str().unwrap().contains("2 precision_j recall_j") && json["f1"] == 0.5, "{json}");
        assert_eq!(serde_json::from_value::<Scores>(json).unwrap().f1, 0.5);
    }

    #[test]
    fn the_true_dictionary_scores_1_in_everything() {
        let few = Few(Dictionary::orthogonal(6, 9, 1).with_bias(2.0, 1));
        let Scored { scores, geometry, detectors } = score(&detector(few.0.directions.clone(), &few.0.bias), &few, 3, 5000, &mut Silent).unwrap();
        let Scores { mcc, uniqueness, precision, recall, f1, mmcs, explained_variance, .. } = scores;
        for one in [mcc, uniqueness, precision, recall, f1, mmcs, explained_variance] {
            assert!((one - 1.0).abs() < 1e-5, "{scores:?}");
        }
        assert!((scores.shrinkage - 1.0).abs() < 1e-5 && scores.mse < 1e-9);
        assert_eq!((scores.recovered, scores.dead, scores.n_features, scores.rows), (6, 0, 6, 5000));
        assert_eq!(scores.l0, scores.true_l0);
        assert!((scores.l0 - (1.0 + 2.0 / 3.0 * 5.0 / 6.0)).abs() < 0.03, "{}", scores.l0);
        assert!(geometry.near == [0, 1, 2, 3, 4, 5] && geometry.latent_of(4) == Some(4) && detectors.iter().all(|d| d.f1 == 1.0));
    }

    #[test]
    fn a_dead_a_doubled_and_a_mixed_latent_cost_what_the_formulas_say() {
        let few = Few(Dictionary::orthogonal(4, 8, 1));
        let v = |i: usize| few.0.direction(i).to_vec();
        let mixed: Vec<f32> = v(2).iter().zip(v(3)).map(|(a, b)| 0.8 * a + 0.6 * b).collect();
        let dead: Vec<f32> = vec![0.0; 8];
        let sae = detector([v(0), v(0), v(1).iter().map(|x| -x).collect(), mixed, dead].concat(), &[0.0; 8]);
        let Scored { scores, geometry, detectors } = score(&sae, &few, 3, 20_000, &mut Silent).unwrap();
        assert!(matches!(score(&sae, &few, 3, 20_000, &mut Stopped), Err(Error::Interrupted)));
        // Latents: v0, v0 again, -v1 (never fires), 0.8 v2 + 0.6 v3, nothing. Five latents and four features: the matching leaves one latent out
        // and pairs 1, 1, and 0.8 with features 0, 1, 2; feature 3 gets a latent with cosine 0.
        assert!((scores.mcc - (1.0 + 1.0 + 0.8 + 0.0) / 4.0).abs() < 1e-6, "{}", scores.mcc);
        // near: 0, 0, 1, 2 and, for the latent without direction, the first.
        assert_eq!(geometry.near, [0, 0, 1, 2, 0]);
        assert!((scores.uniqueness - 3.0 / 5.0).abs() < 1e-12);
        // Signed: -v1 is no direction of feature 1; its best is a cosine of 0. 0.8 > 0.8 does not hold after rounding or holds barely: left out below.
        assert!((scores.mmcs - (1.0 + 0.0 + 0.8 + 0.6) / 4.0).abs() < 1e-6, "{}", scores.mmcs);
        assert_eq!((detectors[2].f1, detectors[4].f1, scores.dead), (0.0, 0.0, 2));
        // The mixed latent fires with feature 2, and with feature 3 alone too (0.6 * magnitude > 0.5): recall 1, precision its share.
        assert!(detectors[0].f1 == 1.0 && detectors[3].recall == 1.0);
        let p = detectors[3].precision;
        // P(feature 2 fires) = P(3 fires) = 1/4 + 3/4 * 2/3 * 1/4 = 0.375 (the second of a pair is another one in 3 of 4 cases); both: 2/3 * 2/16 = 1/12.
        assert!((p - 0.375 / (0.75 - 1.0 / 12.0)).abs() < 0.02, "{p}");
        assert!((scores.f1 - (1.0 + 1.0 + 2.0 * p / (1.0 + p)) / 5.0).abs() < 1e-12);
        assert!((scores.recall - 3.0 / 5.0).abs() < 1e-12 && (scores.precision - (2.0 + p) / 5.0).abs() < 1e-12);
    }

    #[test]
    fn random_decoders_match_random_directions_as_well_as_published() {
        // 4,096 random directions against 16,384 in 768 dimensions: MCC 0.148 (SynthSAEBench's random baseline).
        let (decoder, truth) = (Dictionary::random(4096, 768, 1), Dictionary::random(16_384, 768, 2));
        let geometry = Geometry::new(&decoder.directions, &truth.directions, 768);
        assert!((geometry.mcc - 0.148).abs() < 0.001, "{}", geometry.mcc);
        assert_eq!(geometry.recovered, 0);
        let mut features: Vec<u32> = geometry.matched.iter().map(|&(_, i)| i).collect();
        features.dedup();
        assert_eq!(features.len(), 4096);
    }

    #[test]
    fn scores_do_not_depend_on_scale_order_or_threads() {
        let forest = Forest::new(&ForestConfig::tiny(), 1);
        let bias = &forest.dictionary().bias;
        let decoder: Vec<f32> = forest.dictionary().directions[..40 * 17].iter().enumerate().map(|(i, v)| v + 0.1 * (i as f32).sin()).collect();
        let on = |threads: usize, sae: &Sae| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| score(sae, &forest, 1, 3000, &mut Silent).unwrap().scores)
        };
        let plain = detector(decoder.clone(), bias);
        assert_eq!(on(1, &plain), on(3, &plain));
        let mut turned = plain.clone();
        for w in [&mut turned.w_enc, &mut turned.w_dec] {
            *w = w.chunks_exact(17).rev().flatten().copied().collect();
        }
        turned.w_dec.iter_mut().for_each(|v| *v *= 2.0);
        turned.w_enc.iter_mut().for_each(|v| *v *= 0.5);
        let Select::JumpRelu { threshold } = &mut turned.select else { unreachable!() };
        threshold.fill(0.25);
        let (a, b) = (on(1, &plain), on(1, &turned));
        for (a, b) in [(a.mcc, b.mcc), (a.f1, b.f1), (a.uniqueness, b.uniqueness), (a.mmcs, b.mmcs), (a.explained_variance, b.explained_variance)] {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        assert!(a.f1 > 0.1 && a.f1 < 1.0);
    }
}
