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
    /// token, since the generator pays for some choices before the text shows them. The generator also knows which half it writes for, which is
    /// worth ln 2 at a template and at a name's last syllable.
    pub generator: f64,
}

/// Bytes.
const SHORTEST_DOCUMENT: u64 = 400;

impl ConceptGap {
    /// model - generator, nats per token.
    pub fn nats(&self) -> f64 {
        self.model - self.generator
    }
}

/// Gaps on about `n_tokens` of half B, in the windows that the exam reads: of each concept that the stream has labels of and that occurs, in the
/// order of their numbers. `planted` is the generator and the bytes that it was asked for.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn gaps(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    tokenizer: &Tokenizer,
    planted: (&Planted, u64),
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
fn generator_costs(stream: &TokenStream, tokenizer: &Tokenizer, (planted, n_bytes): (&Planted, u64)) -> Vec<Option<f64>> {
    let range = stream.range(Split::HeldOutB);
    let mut wanted: HashMap<Vec<u8>, usize> = HashMap::new();
    for doc in stream.docs(Split::HeldOutB) {
        let mut ids = vec![0; (stream.doc_end(doc) - stream.doc_start(doc)) as usize - 1];
        stream.read(stream.doc_start(doc), &mut ids);
        wanted.insert(tokenizer.decode_bytes(&ids), doc);
    }
    let mut costs = vec![None; (range.end - range.start) as usize];
    // The stream may be a part of what the generator wrote; no document is shorter than this.
    let indices = (0..n_bytes / SHORTEST_DOCUMENT + 1).filter(|&i| planted.split(i) == Split::HeldOutB);
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
    use crate::lm::{Activation, CpuEngine, Lm, LmConfig};

    #[test]
    fn the_costs_of_the_tokens_of_half_b_add_up_to_what_the_manifest_says() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "run");
        let config = CorpusConfig { sources: vec![Source::Planted { generator_seed: 3, bytes: 400_000 }], d_vocab: 400, ..Default::default() };
        build(&config, &run, &mut Silent).unwrap();
        let stream = TokenStream::open(&run.tokens()).unwrap();
        let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).unwrap();
        let costs = generator_costs(&stream, &tokenizer, (&Planted::new(3), 400_000));
        let n_docs = stream.docs(Split::HeldOutB).len();
        assert!(n_docs > 1);
        // One token of each document has no cost: the one that ends it.
        assert_eq!(costs.iter().filter(|c| c.is_none()).count(), n_docs);
        let sum: f64 = costs.iter().flatten().sum();
        let told = stream.manifest().details["bayes_nats"]["held_out_b"].as_f64().unwrap();
        assert!((sum - told).abs() < 1e-6 * told, "{sum} and {told}");
        // Another generator wrote none of them.
        assert!(generator_costs(&stream, &tokenizer, (&Planted::new(4), 400_000)).iter().all(Option::is_none));
    }

    /// -ln p(target | the window up to `position`), from the logits of this position alone.
    fn cost(engine: &mut dyn Engine, ids: &[u32], target: u32) -> f64 {
        let mut logits = vec![0.0; engine.config().d_vocab];
        engine.logits(ids, ids.len(), &[ids.len() - 1], None, &mut logits);
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        sum.ln() - f64::from(logits[target as usize])
    }

    #[test]
    fn a_gap_is_over_the_tokens_that_come_directly_after_those_with_the_concept() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "run");
        let (seed, bytes) = (3, 120_000);
        let config = CorpusConfig { sources: vec![Source::Planted { generator_seed: seed, bytes }], d_vocab: 400, ..Default::default() };
        build(&config, &run, &mut Silent).unwrap();
        let stream = TokenStream::open(&run.tokens()).unwrap();
        let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).unwrap();
        let lm = LmConfig {
            d_vocab: stream.d_vocab(),
            n_ctx: 16,
            d_model: 8,
            n_layers: 1,
            n_heads: 2,
            d_mlp: 12,
            activation: Activation::Relu,
            tied: false,
        };
        let mut engine = CpuEngine::new(Lm::init(&lm, 1));
        let found = gaps(&mut engine, &stream, &tokenizer, (&Planted::new(seed), bytes), 1 << 20, &mut Silent).unwrap();

        let costs = generator_costs(&stream, &tokenizer, (&Planted::new(seed), bytes));
        let begin = stream.range(Split::HeldOutB).start;
        let labels = stream.concepts().unwrap();
        assert!(found.len() > 20);
        for gap in found.iter().step_by(7) {
            let concept = labels.names.iter().position(|name| *name == gap.concept).unwrap();
            let (mut n, mut model, mut generator) = (0, 0.0, 0.0);
            let mut window = vec![0; lm.n_ctx + 1];
            for w in stream.windows(Split::HeldOutB, lm.n_ctx) {
                let t0 = w * lm.n_ctx as u64;
                stream.read(t0, &mut window);
                for pair in labels.within(t0..t0 + lm.n_ctx as u64).filter(|&pair| labels.concept[pair] as usize == concept) {
                    let position = (labels.token[pair] - t0) as usize;
                    let target = window[position + 1];
                    let Some(paid) = costs[(labels.token[pair] + 1 - begin) as usize] else { continue };
                    if position == 0 || window[position] == stream.end_of_text() || target == stream.end_of_text() {
                        continue;
                    }
                    n += 1;
                    generator += paid;
                    model += cost(&mut engine, &window[..=position], target);
                }
            }
            assert_eq!(gap.n_tokens, n, "{}", gap.concept);
            assert!((gap.model - model / n as f64).abs() < 1e-4, "{}: {} and {}", gap.concept, gap.model, model / n as f64);
            assert!((gap.generator - generator / n as f64).abs() < 1e-9 * generator.max(1.0), "{}", gap.concept);
        }
    }
}
