//! Leave-one-out pruning: of the latents that fire in a row only those stay whose removal would make the reconstruction worse by enough.
//!
//! With e = x - x_hat, the squared error grows by 2 a_j (e . w_j) + a_j^2 |w_j|^2 when latent j is taken away, that is by 2 a_j g_j - a_j^2 |w_j|^2 with
//! the gain g_j = e . w_j + a_j |w_j|^2: what j would be worth if it were chosen last. Latents with g_j <= tau are dropped, all of a row at once. Source: a comment on
//! SynthSAEBench (2026), 0.989 F1 for a LISTA-Matryoshka with it.
//!
//! tau is the one number that is chosen by the true features: on rows of their own, out of quantiles of the gains; the scores are of the rows of all other scores.

use super::Result;
use super::scores::{Detector, Encoded, Geometry, each_batch};
use super::source::Generator;
use crate::artifact::Progress;
use crate::kernels::sparse::dot;
use crate::sae::Sae;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Rows that tau is chosen on, at most.
const CHOSEN_ON: u64 = 50_000;

/// Values that are tried for tau: quantiles of the gains in steps of a hundredth, up to this one.
const QUANTILES: usize = 70;

/// The scores of an SAE with its latents pruned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    /// None where leaving nothing out is best.
    pub tau: Option<f64>,
    pub f1: f64,
    pub precision: f64,
    pub recall: f64,
    pub l0: f64,
}

/// A latent that fired.
struct Firing {
    latent: u32,
    gain: f32,
    /// Its feature was there.
    right: bool,
}

/// Chooses tau and scores `sae` with it on `rows` rows of the stream "eval" of `seed`.
///
/// # Errors
/// [`Error::Interrupted`](super::Error::Interrupted).
pub fn pruned(sae: &Sae, generator: &dyn Generator, seed: u64, rows: u64, geometry: &Geometry, progress: &mut dyn Progress) -> Result<Pruned> {
    progress.begin("leave-one-out", rows + CHOSEN_ON.min(rows), "rows");
    let mut firings = Vec::new();
    let features = each_firing(sae, generator, (seed, "prune"), CHOSEN_ON.min(rows), geometry, progress, |firing| firings.push(firing))?;
    let tau = best_tau(&firings, &features, sae.d_sae, geometry);
    drop(firings);
    let mut kept = Counts::new(sae.d_sae);
    let features = each_firing(sae, generator, (seed, "eval"), rows, geometry, progress, |firing| kept.add(&firing, tau))?;
    progress.end();
    let detectors = kept.detectors(&features, geometry);
    let mean = |of: fn(&Detector) -> f64| detectors.iter().map(of).sum::<f64>() / sae.d_sae as f64;
    Ok(Pruned {
        tau: tau.map(f64::from),
        f1: mean(|d| d.f1),
        precision: mean(|d| d.precision),
        recall: mean(|d| d.recall),
        l0: kept.fires.iter().sum::<u64>() as f64 / rows.max(1) as f64,
    })
}

/// The tau of the largest mean F1; none where it is largest with nothing left out.
fn best_tau(firings: &[Firing], features: &[u64], d_sae: usize, geometry: &Geometry) -> Option<f32> {
    let mut gains: Vec<f32> = firings.iter().map(|firing| firing.gain).collect();
    gains.sort_unstable_by(f32::total_cmp);
    let tried = (0..QUANTILES).filter_map(|percent| gains.get(gains.len() * percent / 100).copied());
    let f1 = |tau: Option<f32>| {
        let mut kept = Counts::new(d_sae);
        firings.iter().for_each(|firing| kept.add(firing, tau));
        kept.detectors(features, geometry).iter().map(|d| d.f1).sum::<f64>()
    };
    let all = std::iter::once(None).chain(tried.map(Some)).map(|tau| (tau, f1(tau)));
    all.fold((None, -1.0), |best, at| if at.1 > best.1 { at } else { best }).0
}

/// (F,): how often each latent fired and is kept, and how often its feature was there then.
struct Counts {
    fires: Vec<u64>,
    both: Vec<u64>,
}

impl Counts {
    fn new(d_sae: usize) -> Self {
        Counts { fires: vec![0; d_sae], both: vec![0; d_sae] }
    }

    /// Counts a firing, unless tau leaves it out.
    fn add(&mut self, firing: &Firing, tau: Option<f32>) {
        if tau.is_none_or(|tau| firing.gain > tau) {
            self.fires[firing.latent as usize] += 1;
            self.both[firing.latent as usize] += u64::from(firing.right);
        }
    }

    /// (F,): each latent as a detector of the feature nearest to it. `features` (N,): how often each was there.
    fn detectors(&self, features: &[u64], geometry: &Geometry) -> Vec<Detector> {
        let one = |((&both, &fires), &near): ((&u64, &u64), &u32)| Detector::new(both, fires, features[near as usize]);
        self.both.iter().zip(&self.fires).zip(&geometry.near).map(one).collect()
    }
}

/// Calls `work` with every firing in so many rows of a stream, in their order; returns how often each feature was there, (N,). Holds those of one batch at a time.
fn each_firing(
    sae: &Sae,
    generator: &dyn Generator,
    stream: (u64, &'static str),
    rows: u64,
    geometry: &Geometry,
    progress: &mut dyn Progress,
    mut work: impl FnMut(Firing),
) -> Result<Vec<u64>> {
    let d = sae.d_in;
    let mut fires = vec![0u64; generator.dictionary().n_features()];
    let norms: Vec<f32> = sae.w_dec.chunks_exact(d).map(|w| dot(w, w)).collect();
    each_batch(sae, generator, stream, rows, progress, |Encoded { x, x_hat, features, latents }| {
        features.latent.iter().for_each(|&i| fires[i as usize] += 1);
        let one = |(r, (x, x_hat)): (usize, (&[f32], &mut [f32]))| {
            x_hat.iter_mut().zip(x).for_each(|(y, x)| *y = x - *y);
            let (on, (latent, act)) = (features.row(r).0, latents.row(r));
            let firing = |(&j, &a): (&u32, &f32)| Firing {
                latent: j,
                gain: dot(x_hat, &sae.w_dec[j as usize * d..][..d]) + a * norms[j as usize],
                right: on.binary_search(&geometry.near[j as usize]).is_ok(),
            };
            latent.iter().zip(act).map(firing).collect::<Vec<_>>()
        };
        let of_rows: Vec<Vec<Firing>> = x.par_chunks_exact(d).zip(x_hat.par_chunks_exact_mut(d)).enumerate().map(one).collect();
        of_rows.into_iter().flatten().for_each(&mut work);
    })?;
    Ok(fires)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Silent;
    use crate::sae::{Select, SparseRows};
    use crate::synth::data::Dictionary;
    use crate::synth::scores::score;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    /// One of two features at right angles in each row, of magnitude 1.
    struct Either(Dictionary);

    impl Generator for Either {
        fn dictionary(&self) -> &Dictionary {
            &self.0
        }
        fn draw(&self, rng: &mut ChaCha8Rng, n: usize, rows: &mut SparseRows) {
            (0..n).for_each(|_| rows.push_row(&[rng.random_range(0..2)], &[1.0]));
        }
    }

    #[test]
    fn a_firing_counts_where_its_gain_is_above_tau() {
        let firing = |latent, gain, right| Firing { latent, gain, right };
        let firings = [firing(0, 0.5, true), firing(0, 0.1, false), firing(1, 0.3, true), firing(1, 0.3, false)];
        let counted = |tau| {
            let mut counts = Counts::new(2);
            firings.iter().for_each(|firing| counts.add(firing, tau));
            (counts.fires, counts.both)
        };
        assert_eq!(counted(None), (vec![2, 2], vec![1, 1]));
        assert_eq!(counted(Some(0.1)), (vec![1, 2], vec![1, 1]));
        assert_eq!(counted(Some(0.3)), (vec![1, 0], vec![1, 0]));
    }

    #[test]
    fn every_firing_of_all_batches_is_offered_once() {
        let dictionary = Dictionary { d_in: 2, directions: vec![1.0, 0.0, 0.0, 1.0], bias: vec![0.0; 2] };
        let generator = Either(dictionary);
        let sae = Sae {
            d_in: 2,
            d_sae: 2,
            select: Select::Relu,
            w_enc: generator.0.directions.clone(),
            b_enc: vec![0.0; 2],
            w_dec: generator.0.directions.clone(),
            b_dec: vec![0.0; 2],
            apply_b_dec_to_input: false,
            transcoder: None,
        };
        let geometry = Geometry::new(&sae.w_dec, &generator.0.directions, 2);
        let mut counts = Counts::new(2);
        // Two batches and a part of one: in each row one feature is there, and its latent fires with a gain of 1.
        let features = each_firing(&sae, &generator, (3, "eval"), 5000, &geometry, &mut Silent, |firing| {
            assert!(firing.right && (firing.gain - 1.0).abs() < 1e-6);
            counts.add(&firing, None);
        })
        .unwrap();
        assert!(counts.fires == features && counts.both == features && features.iter().sum::<u64>() == 5000, "{features:?} {:?}", counts.fires);
    }

    #[test]
    fn a_latent_that_fires_along_with_another_and_adds_nothing_is_left_out() {
        let dictionary = Dictionary { d_in: 2, directions: vec![1.0, 0.0, 0.0, 1.0], bias: vec![0.0; 2] };
        let generator = Either(dictionary);
        // Latent 1 leans towards feature 0: it fires on both, at 0.28 where feature 0 alone is there, which latent 0 has explained.
        let w = vec![1.0, 0.0, 0.28, 0.96];
        let sae = Sae {
            d_in: 2,
            d_sae: 2,
            select: Select::Relu,
            w_enc: w.clone(),
            b_enc: vec![0.0; 2],
            w_dec: w,
            b_dec: vec![0.0; 2],
            apply_b_dec_to_input: false,
            transcoder: None,
        };
        let scored = score(&sae, &generator, 3, 4000, &mut Silent).unwrap();
        let pruned = pruned(&sae, &generator, 3, 4000, &scored.geometry, &mut Silent).unwrap();
        // By hand, in rows of feature 0: e = -0.28 w_1, the gain of latent 1 is -0.28 + 0.28 = 0, that of latent 0 is 1 - 0.28^2 = 0.92. In rows of
        // feature 1 latent 0 is silent, and e stands at a right angle to w_1, whose gain is its activation, 0.96.
        assert!((scored.scores.f1 - (1.0 + 2.0 / 3.0) / 2.0).abs() < 0.02 && (scored.scores.l0 - 1.5).abs() < 0.05, "{:?}", scored.scores);
        assert!(
            pruned.tau.is_some_and(|tau| (0.0..0.9).contains(&tau.abs()))
                && pruned.f1 == 1.0
                && pruned.precision == 1.0
                && pruned.recall == 1.0
                && pruned.l0 == 1.0,
            "{pruned:?}"
        );
        // The true directions have nothing to leave out, and that can be written and read.
        let exact = Sae { w_enc: generator.0.directions.clone(), w_dec: generator.0.directions.clone(), ..sae };
        let scored = score(&exact, &generator, 3, 4000, &mut Silent).unwrap();
        let pruned = super::pruned(&exact, &generator, 3, 4000, &scored.geometry, &mut Silent).unwrap();
        assert!(pruned.tau.is_none() && pruned.f1 == 1.0, "{pruned:?}");
        assert_eq!(serde_json::from_str::<Pruned>(&serde_json::to_string(&pruned).unwrap()).unwrap(), pruned);
    }
}
