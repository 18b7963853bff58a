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
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Texts of each feature, and their length.
const TEXTS: usize = 8;
const TOKENS: usize = 96;
/// So many features of each concept write more texts, so that chance does not choose.
const AGAIN: usize = 10;
const MORE_TEXTS: usize = 48;
/// Features between two looks at Ctrl-C.
const PART: usize = 32;

/// A latent held at an activation, resting after the tokens that it promotes.
pub(super) fn clamp(rig: Rig, latent: u32, act: f32) -> Result<Steering> {
    let rest_after = promoted(rig.lm, rig.hook, rig.sae, &[latent])?;
    Ok(Steering { rest_after, ..Steering::one(latent, Rule::Set(act)) })
}

/// A latent, its strength in maxima, and how many tokens of each concept were written with it.
type Entry = (u32, f32, Vec<u64>);

/// What was written with each of the most promising features, ascending by latent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Screen {
    entries: Vec<Entry>,
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
        let mut entries = write_with(rig, features, 0..TEXTS, max_act, concepts, sampling, "every feature, tried", progress)?;
        let mut again: Vec<(u32, f32)> = (0..concepts.len()).flat_map(|c| most(&entries, c, AGAIN)).collect();
        again.sort_by_key(|a| a.0);
        again.dedup_by_key(|a| a.0);
        let more = TEXTS..TEXTS + MORE_TEXTS;
        let more = write_with(rig, &again, more, max_act, concepts, sampling, "the most promising, again", progress)?;
        for (latent, _, counts) in more {
            // Ascending by latent, as `features` are.
            let at = entries.partition_point(|e| e.0 < latent);
            entries[at].2.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let tried = again.iter().map(|a| a.0).collect::<Vec<u32>>();
        entries.retain(|e| tried.binary_search(&e.0).is_ok());
        Ok(Screen { entries })
    }

    /// The `n` features that wrote most of the concept, each with its strength.
    pub fn promising(&self, concept: usize, n: usize) -> Vec<(u32, f32)> {
        most(&self.entries, concept, n)
    }
}

fn most(entries: &[Entry], concept: usize, n: usize) -> Vec<(u32, f32)> {
    let mut by: Vec<&Entry> = entries.iter().filter(|e| e.2[concept] > 0).collect();
    by.sort_by(|a, b| b.2[concept].cmp(&a.2[concept]).then(a.0.cmp(&b.0)));
    by.iter().take(n).map(|e| (e.0, e.1)).collect()
}

/// Texts `which` of each of `features`, searched for every concept.
#[allow(clippy::too_many_arguments)]
fn write_with(
    rig: Rig,
    features: &[(u32, f32)],
    which: Range<usize>,
    max_act: &(dyn Fn(u32) -> f32 + Sync),
    concepts: &[Concept],
    sampling: &Sampling,
    stage: &str,
    progress: &mut dyn Progress,
) -> Result<Vec<Entry>> {
    let prompts = vec![rig.prompt(""); which.len()];
    let writing = Writing::new(TOKENS, &Sampling { seed: sampling.seed + which.start as u64, ..sampling.clone() });
    let one = |&(latent, strength): &(u32, f32)| -> Result<Entry> {
        let steering = clamp(rig, latent, strength * max_act(latent))?;
        let written = texts(rig, (&steering).into(), &prompts, &writing)?;
        let count = |concept: &Concept| prompts.iter().zip(&written).map(|(prompt, text)| concept.count(rig.tokenizer, prompt, text)).sum();
        Ok((latent, strength, concepts.iter().map(count).collect()))
    };
    progress.begin(stage, features.len() as u64, "features");
    let mut entries = Vec::new();
    for part in features.chunks(PART) {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        entries.extend(part.par_iter().map(one).collect::<Result<Vec<_>>>()?);
        progress.advance(part.len() as u64);
    }
    progress.end();
    Ok(entries)
}
