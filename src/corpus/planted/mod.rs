//! A seeded, endless generator of English-like text whose features are known byte by byte. Reads nothing but a seed; writes nothing.
//! Does not know tokenizers or models.

mod recognise;
mod statistics;
mod tables;
mod text;
mod world;

pub use statistics::{ConceptStatistics, Statistics, statistics};

use super::Document;
use crate::artifact::seed::rng;
use std::ops::Range;

/// What a planted concept is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum ConceptKind {
    /// One word with successors of its own.
    Lexeme,
    /// Words that share one successor distribution.
    Class,
    /// A stretch of text decided by an earlier cue.
    Context,
    /// One of two senses of a word, decided by a cue 2-40 tokens earlier.
    Sense,
    /// Needs two attention hops: a control that one block should fail.
    TwoHop,
    /// Shares nothing or changes nothing: must stay at chance.
    Negative,
}

/// One planted concept; its number is its place in [`Planted::concepts`].
#[derive(Debug, Clone)]
pub struct Concept {
    pub name: String,
    pub kind: ConceptKind,
    /// Whether the exam scores it.
    pub scored: bool,
    /// Whether the token alone cannot decide it.
    pub from_context: bool,
    /// Surface forms, lower case, where the concept is a set of words.
    pub members: Vec<String>,
}

/// A generated document and its true cost.
#[derive(Debug, Clone)]
pub struct PlantedDocument {
    pub document: Document,
    /// -ln of the joint probability of the text and the generator's choices, in nats; an upper bound of -ln p(text).
    pub bayes_nats: f64,
}

/// The generator of one seed.
pub struct Planted {
    seed: u64,
    world: world::World,
}

impl Planted {
    /// The world of `seed`: its words, their successors and its concepts.
    pub fn new(seed: u64) -> Self {
        Self { seed, world: world::World::new(seed) }
    }

    /// Document `index`: a pure function of (seed, index).
    pub fn document(&self, index: u64) -> PlantedDocument {
        let (document, bayes_nats) = text::write(&self.world, rng(self.seed, "corpus/planted/document", index));
        PlantedDocument { document, bayes_nats }
    }

    /// Documents 0, 1, 2, ... without end.
    pub fn documents(&self) -> impl Iterator<Item = PlantedDocument> + '_ {
        (0..).map(|index| self.document(index))
    }

    /// All concepts; [`super::ConceptSpan::concept`] indexes this.
    pub fn concepts(&self) -> &[Concept] {
        &self.world.concepts
    }

    /// Whether concept number `concept` can be found in text without labels.
    pub fn has_recogniser(&self, concept: usize) -> bool {
        !matches!(self.world.recognisers[concept], recognise::Recogniser::None)
    }

    /// Byte ranges of unlabelled `text` that carry concept number `concept`, in order; none where it has no recogniser.
    pub fn recognise(&self, concept: usize, text: &str) -> Vec<Range<usize>> {
        self.world.recognisers[concept].find(text)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
