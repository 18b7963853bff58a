//! How much worse than the generator itself the model predicts what follows each planted concept: "the model never learned it" told from
//! "the SAE missed it". Reads the model, the stream and the generator's own costs; writes nothing.

use super::{Error, Result};
use crate::artifact::Progress;
use crate::corpus::planted::Planted;
use crate::corpus::{Split, TokenStream, Tokenizer};
use crate::intervene::measure::batches;
use crate::lm::Engine;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Mean costs, in nats, of the tokens that come directly after tokens with one concept, on held-out half B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConceptGap {
    pub concept: String,
    pub n_tokens: u64,
    /// Cross-entropy of the model.
    pub model: f64,
    /// Cost of the generator's choices that fall on these tokens: an upper bound of the least possible loss over a whole document, not on each
    /// token, since the generator pays for some choices before the text shows them.
    pub generator: f64,
}

impl ConceptGap {
    /// model - generator, nats per token.
    pub fn nats(&self) -> f64 {
        self.model - self.generator
    }
}

/// Gaps on about `n_tokens` of half B, in the windows that the exam reads: of each concept that the stream has labels of and that occurs, in the order of their numbers.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn gaps(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    tokenizer: &Tokenizer,
    planted: &Planted,
    n_tokens: u64,
    progress: &mut dyn Progress,
) -> Result<Vec<ConceptGap>> {
    let Some(labels) = stream.concepts() else { return Ok(vec![]) };
    let n_ctx = engine.config().n_ctx;
    let windows = stream.spread_windows(Split::HeldOutB, n_ctx, n_tokens.div_ceil(n_ctx as u64));
    let begin = stream.range(Split::HeldOutB).start;
    let costs = generator_costs(stream, tokenizer, planted);
    let mut sums = vec![(0u64, 0.0f64, 0.0f64); labels.names.len()];
    let mut nll = Vec::new();
    let mut left = windows.iter();
    progress.begin("what follows each concept", (windows.len() * n_ctx) as u64, "tokens");
    for batch in batches(stream, &windows, n_ctx) {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        nll.resize(batch.ids.len(), 0.0);
        engine.nll(&batch.ids, &batch.targets, n_ctx, None, &mut nll);
        for (row, window) in (0..batch.ids.len()).step_by(n_ctx).zip(&mut left) {
            let t = window * n_ctx as u64;
            for pair in labels.within(t..t + n_ctx as u64) {
                let position = (labels.token[pair] - t) as usize;
                let i = row + position;
                let Some(cost) = costs[(t - begin) as usize + position + 1].filter(|_| batch.counted[i]) else { continue };
                let sum = &mut sums[labels.concept[pair] as usize];
                *sum = (sum.0 + 1, sum.1 + f64::from(nll[i]), sum.2 + cost);
            }
        }
        progress.advance(batch.ids.len() as u64);
    }
    progress.end();
    let found = labels.names.iter().zip(sums).filter(|(_, sum)| sum.0 > 0);
    let mean = |(name, (n, model, generator)): (&String, (u64, f64, f64))| ConceptGap {
        concept: name.clone(),
        n_tokens: n,
        model: model / n as f64,
        generator: generator / n as f64,
    };
    Ok(found.map(mean).collect())
}

/// What the generator paid for each token of half B; `None` for `<|endoftext|>` and for documents that the generator
/// did not write. The documents are found by writing those of half B again, which is one in forty of all.
fn generator_costs(stream: &TokenStream, tokenizer: &Tokenizer, planted: &Planted) -> Vec<Option<f64>> {
    let range = stream.range(Split::HeldOutB);
    let mut wanted: HashMap<Vec<u8>, usize> = HashMap::new();
    for doc in stream.docs(Split::HeldOutB) {
        let mut ids = vec![0; (stream.doc_end(doc) - stream.doc_start(doc)) as usize - 1];
        stream.read(stream.doc_start(doc), &mut ids);
        wanted.insert(tokenizer.decode_bytes(&ids), doc);
    }
    let mut costs = vec![None; (range.end - range.start) as usize];
    // The stream may lack documents of the generator, where it was cut, but not most of them.
    let indices = (0..4 * stream.n_docs() as u64 + 1000).filter(|&i| planted.split(i) == Split::HeldOutB);
    for index in indices {
        if wanted.is_empty() {
            break;
        }
        let made = planted.document(index);
        let Some(doc) = wanted.remove(made.document.text.as_bytes()) else { continue };
        let start = stream.doc_start(doc);
        let mut ids = vec![0; (stream.doc_end(doc) - start) as usize - 1];
        stream.read(start, &mut ids);
        let (mut byte, mut charges) = (0, made.costs.iter().peekable());
        for (t, &id) in (start..).zip(&ids) {
            byte += tokenizer.bytes(id).len() as u32;
            let mut cost = 0.0;
            while let Some(charge) = charges.next_if(|c| c.0 < byte) {
                cost += f64::from(charge.1);
            }
            costs[(t - range.start) as usize] = Some(cost);
        }
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{RunDir, Silent};
    use crate::corpus::{CorpusConfig, Source, build};

    #[test]
    fn the_costs_of_the_tokens_of_half_b_add_up_to_what_the_manifest_says() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "run");
        let config = CorpusConfig { sources: vec![Source::Planted { generator_seed: 3, bytes: 400_000 }], d_vocab: 400, ..Default::default() };
        build(&config, &run, &mut Silent).unwrap();
        let stream = TokenStream::open(&run.tokens()).unwrap();
        let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).unwrap();
        let costs = generator_costs(&stream, &tokenizer, &Planted::new(3));
        let n_docs = stream.docs(Split::HeldOutB).len();
        assert!(n_docs > 1);
        // One token of each document has no cost: the one that ends it.
        assert_eq!(costs.iter().filter(|c| c.is_none()).count(), n_docs);
        let sum: f64 = costs.iter().flatten().sum();
        let told = stream.manifest().details["bayes_nats"]["held_out_b"].as_f64().unwrap();
        assert!((sum - told).abs() < 1e-6 * told, "{sum} and {told}");
        // Another generator wrote none of them.
        assert!(generator_costs(&stream, &tokenizer, &Planted::new(4)).iter().all(Option::is_none));
    }
}
