//! Which features to try for a concept, which to hold at zero, and which to compare with.

use super::super::{Error, Result};
use super::seen::Seen;
use crate::artifact::{Progress, seed};
use crate::intervene::exact::ExactEffect;
use crate::intervene::fit::Fitted;
use crate::intervene::write::Rig;
use crate::kernels::gemm::matmul_nt;
use crate::kernels::softmax::{kl_divergence, weights_in_place};
use rand::RngExt;
use rayon::prelude::*;

/// Strengths that exact distributions are looked at with, in maxima.
const STRENGTHS: [f32; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];

/// What each feature, held at several strengths, gives each concept: exactly, at the looked-at positions of half A.
pub(super) struct Table {
    entries: Vec<Entry>,
}

struct Entry {
    latent: u32,
    strength: f32,
    /// Per concept: mean probability of what has it, each token weighed by the share of its places that do.
    mass: Vec<f32>,
}

impl Table {
    /// Looks at every feature that fires, up to the strength at which the mean KL is above `max_kl`.
    pub fn of(rig: Rig, seen: &Seen, max_kl: f64, progress: &mut dyn Progress) -> Result<Self> {
        let nothing = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[])?;
        let unedited = nothing.logits(&seen.resid, &[]);
        let weights = seen.weights();
        let (v, n, c) = (rig.lm.config.d_vocab, seen.acts.n_rows(), seen.evidence.len());
        let one = |latent: u32| -> Result<Vec<Entry>> {
            let effect = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[latent])?;
            let (acts, max_act) = (seen.acts_of(latent), seen.max_act(latent));
            let mut entries = Vec::new();
            for strength in STRENGTHS {
                let changes: Vec<f32> = acts.iter().map(|act| strength * max_act - act).collect();
                let mut logits = effect.logits(&seen.resid, &changes);
                let kl: f64 = logits.chunks_exact(v).zip(unedited.chunks_exact(v)).map(|(edited, unedited)| kl_divergence(edited, unedited)).sum();
                if kl / n.max(1) as f64 > max_kl {
                    break;
                }
                for row in logits.chunks_exact_mut(v) {
                    let total = weights_in_place(1.0, row);
                    row.iter_mut().for_each(|p| *p /= total);
                }
                let mut mass = vec![0.0; n * c];
                matmul_nt(n, c, v, &logits, &weights, &mut mass, false);
                let mean = |concept: usize| mass.iter().skip(concept).step_by(c).sum::<f32>() / n.max(1) as f32;
                entries.push(Entry { latent, strength, mass: (0..c).map(mean).collect() });
            }
            Ok(entries)
        };
        let latents: Vec<u32> = (0..rig.sae.d_sae as u32).filter(|&l| seen.max_act(l) > 0.0).collect();
        progress.begin("every feature, exactly", latents.len() as u64, "features");
        let mut entries = Vec::new();
        for part in latents.chunks(64) {
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
            let found: Vec<Vec<Entry>> = part.par_iter().map(|&l| one(l)).collect::<Result<_>>()?;
            entries.extend(found.into_iter().flatten());
            progress.advance(part.len() as u64);
        }
        progress.end();
        Ok(Table { entries })
    }

    /// Every feature at the greatest strength that was looked at.
    pub fn strongest(&self) -> Vec<(u32, f32)> {
        let mut all: Vec<(u32, f32)> = Vec::new();
        for entry in &self.entries {
            match all.last_mut().filter(|last| last.0 == entry.latent) {
                Some(last) => last.1 = entry.strength,
                None => all.push((entry.latent, entry.strength)),
            }
        }
        all
    }

    /// The `n` features that give the concept most, each at its best strength.
    pub fn promising(&self, concept: usize, n: usize) -> Vec<(u32, f32)> {
        let mut by: Vec<&Entry> = self.entries.iter().collect();
        by.sort_by(|a, b| b.mass[concept].total_cmp(&a.mass[concept]).then(a.latent.cmp(&b.latent)));
        let mut all: Vec<(u32, f32)> = Vec::new();
        for entry in by {
            if all.len() < n && all.iter().all(|a| a.0 != entry.latent) {
                all.push((entry.latent, entry.strength));
            }
        }
        all
    }
}

/// Three latents whose density is like that of `latent`, not among the hundred best for the concept.
pub(super) fn like(seen: &Seen, latent: u32, ranked: &[Fitted], seed_of_run: u64) -> Vec<u32> {
    let own = seen.density[latent as usize];
    let best: Vec<u32> = ranked.iter().take(100).map(|f| f.latent).collect();
    let mut near: Vec<u32> =
        (0..seen.density.len() as u32).filter(|l| seen.density[*l as usize] > 0.0 && !best.contains(l) && *l != latent).collect();
    near.sort_by(|a, b| {
        let far = |l: u32| (seen.density[l as usize] / own.max(1e-9)).ln().abs();
        far(*a).total_cmp(&far(*b)).then(a.cmp(b))
    });
    near.truncate(30);
    let mut rng = seed::rng(seed_of_run, "trial/random", u64::from(latent));
    (0..near.len().min(3)).map(|_| near.swap_remove(rng.random_range(0..near.len()))).collect()
}
