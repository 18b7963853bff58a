//! What a sample of the planted corpus holds: counts, shares and costs of its concepts.

use super::{ConceptKind, Planted};
use serde::Serialize;

/// Counts of one concept.
#[derive(Debug, Clone, Serialize)]
pub struct ConceptStatistics {
    pub name: String,
    pub kind: ConceptKind,
    pub scored: bool,
    pub from_context: bool,
    /// Stretches of text that carry it.
    pub spans: u64,
    /// Bytes that carry it, as a share of all bytes.
    pub byte_share: f64,
}

/// A sample of the planted corpus.
#[derive(Debug, Clone, Serialize)]
pub struct Statistics {
    pub seed: u64,
    pub documents: u64,
    pub bytes: u64,
    pub words: u64,
    /// Concepts on an average byte.
    pub concepts_per_byte: f64,
    /// Cost of the generator's choices, in nats per byte; times bytes per token it bounds the best possible loss from above.
    pub bayes_nats_per_byte: f64,
    pub concepts: Vec<ConceptStatistics>,
}

/// Statistics of the first documents of `seed` that together have at least `n_bytes` bytes.
pub fn statistics(seed: u64, n_bytes: u64) -> Statistics {
    let planted = Planted::new(seed);
    let (mut documents, mut bytes, mut words, mut nats) = (0, 0u64, 0, 0.0);
    let mut counts = vec![(0u64, 0u64); planted.concepts().len()];
    for planted_document in planted.documents() {
        let document = &planted_document.document;
        documents += 1;
        bytes += document.text.len() as u64;
        words += document.text.split_whitespace().count() as u64;
        nats += planted_document.bayes_nats;
        for span in &document.spans {
            let count = &mut counts[span.concept as usize];
            count.0 += 1;
            count.1 += u64::from(span.end - span.start);
        }
        if bytes >= n_bytes {
            break;
        }
    }
    let concepts = planted
        .concepts()
        .iter()
        .zip(&counts)
        .map(|(c, &(spans, covered))| ConceptStatistics {
            name: c.name.clone(),
            kind: c.kind,
            scored: c.scored,
            from_context: c.from_context,
            spans,
            byte_share: covered as f64 / bytes as f64,
        })
        .collect();
    let covered: u64 = counts.iter().map(|c| c.1).sum();
    Statistics { seed, documents, bytes, words, concepts_per_byte: covered as f64 / bytes as f64, bayes_nats_per_byte: nats / bytes as f64, concepts }
}
