//! What every feature makes the model write, tried: a few short texts with each, searched for all concepts at once.
//!
//! Next-token distributions do not tell what a context needs, which is opened by one token and then goes on by itself, nor whether a word of several pieces is
//! finished. Texts do, and one set of them serves every concept.

use super::super::{Error, Result};
use crate::artifact::Progress;
use crate::intervene::concept::Concept;
use crate::intervene::exact::promoted;
use crate::intervene::write::{Rig, Writing, texts};
use crate::intervene::{Rule, Steering};
use crate::lm::Sampling;
use rayon::prelude::*;

/// Texts of each feature, and their length.
const TEXTS: usize = 8;
const TOKENS: usize = 96;
/// Features between two looks at Ctrl-C.
const PART: usize = 32;

/// A latent held at an activation, resting after the tokens that it promotes.
pub(super) fn clamp(rig: Rig, latent: u32, act: f32) -> Result<Steering> {
    let rest_after = promoted(rig.lm, rig.hook, rig.sae, &[latent])?;
    Ok(Steering { rest_after, ..Steering::one(latent, Rule::Set(act)) })
}

/// What was written with each feature.
pub(super) struct Screen {
    /// Latent, strength in maxima, and how many tokens of each concept.
    entries: Vec<(u32, f32, Vec<u64>)>,
}

impl Screen {
    /// Writes with each of `features` (latent, strength in maxima); `max_act` tells a latent's maximum.
    pub fn of(
        rig: Rig,
        features: &[(u32, f32)],
        max_act: &(dyn Fn(u32) -> f32 + Sync),
        concepts: &[Concept],
        sampling: &Sampling,
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        let prompts = vec![rig.prompt(""); TEXTS];
        let writing = Writing::new(TOKENS, sampling);
        let one = |&(latent, strength): &(u32, f32)| -> Result<(u32, f32, Vec<u64>)> {
            let steering = clamp(rig, latent, strength * max_act(latent))?;
            let written = texts(rig, (&steering).into(), &prompts, &writing)?;
            let count = |concept: &Concept| prompts.iter().zip(&written).map(|(prompt, text)| concept.count(rig.tokenizer, prompt, text)).sum();
            Ok((latent, strength, concepts.iter().map(count).collect()))
        };
        progress.begin("every feature, tried", features.len() as u64, "features");
        let mut entries = Vec::new();
        for part in features.chunks(PART) {
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
            entries.extend(part.par_iter().map(one).collect::<Result<Vec<_>>>()?);
            progress.advance(part.len() as u64);
        }
        progress.end();
        Ok(Screen { entries })
    }

    /// The `n` features that wrote most of the concept, each with its strength.
    pub fn promising(&self, concept: usize, n: usize) -> Vec<(u32, f32)> {
        let mut by: Vec<&(u32, f32, Vec<u64>)> = self.entries.iter().filter(|e| e.2[concept] > 0).collect();
        by.sort_by(|a, b| b.2[concept].cmp(&a.2[concept]).then(a.0.cmp(&b.0)));
        by.iter().take(n).map(|e| (e.0, e.1)).collect()
    }
}
