//! The feature and its strength, found by writing pilot texts: as strong as leaves these whole, of several features the one with which most of the concept
//! is written.

use super::super::Result;
use super::screen::clamp;
use crate::intervene::strength::{Bounds, Measures, Swept, Trial, sweep};
use crate::intervene::write::Rig;
use crate::intervene::{LatentEdit, Rule, Steering};

/// Pilot texts of the first round, which narrows features and strengths down.
pub(super) const FIRST: usize = 96;
/// Pilot texts of the second round, others than the first's.
pub(super) const SECOND: usize = 240;
pub(super) const TOKENS: usize = 80;
/// Strengths of a feature in the first round.
const HALVINGS: usize = 4;
/// The first round looks for the largest strength that leaves the text whole between these multiples of the strength that a feature was promising at.
const BETWEEN: [f32; 2] = [0.5, 2.8];
/// Features of the second round, and the multiples of the first round's strength that they are tried at.
const FINALISTS: usize = 2;
const AGAIN: [f32; 4] = [0.93, 1.0, 1.07, 1.14];

/// A feature, its strength in maxima, and whether the texts of the second round were whole with it.
pub(super) struct Chosen {
    pub latent: u32,
    pub strength: f32,
    pub whole: bool,
}

/// Texts of a round and what they are like unedited.
pub(super) struct Round<'a> {
    pub trial: Trial<'a>,
    pub unedited: Measures,
}

/// None where no feature is promising.
pub(super) fn pilot(rig: Rig, rounds: &[Round; 2], bounds: Bounds, promising: &[(u32, f32)], max_act: &dyn Fn(u32) -> f32) -> Result<Option<Chosen>> {
    let write = |round: &Round, latent: u32, strengths: &[f32]| -> Result<Vec<Swept>> {
        let held = clamp(rig, latent, 0.0)?;
        let at = |strength: f32| Steering { edits: vec![LatentEdit::new(latent, Rule::Set(strength * max_act(latent)))], ..held.clone() };
        Ok(sweep(round.trial, &round.unedited, bounds, strengths, &at, 0)?)
    };
    let mut tried = Vec::new();
    for &(latent, strength) in promising {
        let [mut low, mut high] = BETWEEN.map(|times| times * strength);
        let mut next = strength;
        for _ in 0..HALVINGS {
            let swept = write(&rounds[0], latent, &[next])?;
            if swept[0].whole {
                low = next
            } else {
                high = next
            }
            next = (low * high).sqrt();
            tried.extend(swept.into_iter().map(|s| (latent, s)));
        }
    }
    let mut finalists: Vec<(u32, f32)> = Vec::new();
    for (latent, swept) in by_rate(tried) {
        if finalists.len() < FINALISTS && finalists.iter().all(|f| f.0 != latent) {
            finalists.push((latent, swept.strength));
        }
    }
    let mut again = Vec::new();
    for (latent, strength) in finalists {
        let swept = write(&rounds[1], latent, &AGAIN.map(|times| times * strength))?;
        again.extend(swept.into_iter().map(|s| (latent, s)));
    }
    Ok(by_rate(again).first().map(|(latent, best)| Chosen { latent: *latent, strength: best.strength, whole: best.whole }))
}

/// Whole texts first, and of them those with most of the concept.
fn by_rate(mut tried: Vec<(u32, Swept)>) -> Vec<(u32, Swept)> {
    let key = |s: &Swept| (s.whole, s.measures.concept_rate);
    tried.sort_by(|a, b| key(&b.1).partial_cmp(&key(&a.1)).unwrap_or(std::cmp::Ordering::Equal));
    tried
}
