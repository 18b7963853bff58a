//! A seeded, endless generator of English-like text whose features are known byte by byte. Reads nothing but a seed; writes nothing.
//! Does not know tokenizers or models.
//!
//! What the exam relies on, each with a test (`tests`, `consequence_tests`, `two_hop_tests`, `token_tests`):
//! - Frequency: a scored concept is on 2e-4 to 1e-2 of all tokens; a context begins that often, since it lasts many tokens.
//! - Consequence: each changes what follows, by 0.3 nat or more where it is scored. Members of a class have the same successors. What follows
//!   a word of two senses is decided by cue and word together, neither by one of them nor by their sum.
//! - Relations: topics with their nouns are correlated; tongues, series, coded blocks, topics, registers and senses exclude each other within
//!   their family; capitals, tongue, series, block, narration and speech are parents of what lies inside them.
//! - Split: the half of a document is decided before it is written. Names and worded templates (the words before a class member, the verbs of
//!   saying, the titles of lines, tongues, series, blocks, programs, chains and sense sentences) of half A and half B are disjoint; the training text has
//!   all. Marks (quotation marks, brackets, dashes) are the same everywhere. The number in the last line is drawn until the hash agrees.
//! - Recognisers: each scored concept has one, and topics, themes and registers too, which the first line of a document tells. Parts of speech,
//!   roles and single lexemes in context have none; they are not scored.
//! - Two hops: four chains of two rules in random order, of which one has a marked end; only following both rules tells which.

mod items;
mod recognise;
mod sentences;
mod statistics;
mod tables;
mod text;
mod tuning;
mod world;

pub use statistics::{ConceptStatistics, Statistics, statistics};

use super::{Document, Split};
use crate::artifact::seed::rng;
use rand::RngExt;
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
    /// The same by place: (byte that a choice comes before, its nats), bytes rising. What is known only later is charged where it is drawn.
    pub costs: Vec<(u32, f32)>,
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
        let (document, costs) = text::write(&self.world, rng(self.seed, "corpus/planted/document", index), self.split(index));
        PlantedDocument { document, bayes_nats: costs.iter().map(|c| f64::from(c.1)).sum(), costs }
    }

    /// The split of document `index`, which its text is made for; known without writing it.
    pub fn split(&self, index: u64) -> Split {
        Split::of_digest(&rng(self.seed, "corpus/planted/split", index).random())
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

    /// Bytes of unlabelled `text` at which an occurrence of concept number `concept` begins, rising: a word's own, or that of what opens a context, e.g. "(", which
    /// does not carry it itself.
    pub fn begins(&self, concept: usize, text: &str) -> Vec<usize> {
        self.world.recognisers[concept].begins(text)
    }
}

#[cfg(test)]
mod consequence_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
#[cfg(test)]
mod two_hop_tests;
