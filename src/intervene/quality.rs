//! Whether a text is still text, by three cheap measures that track what a reader says (Eiffel Tower Llama 2025): how much it surprises the
//! unedited model, how many of its bigrams are repetitions, how long a stretch it repeats.

use crate::kernels::softmax::log_prob;
use crate::lm::{Generator, Lm};
use std::collections::BTreeSet;

/// Perplexity of `continuation` after `prompt` under the unedited model: exp of the mean negative log-probability. `None` when empty.
pub fn perplexity(lm: &Lm, prompt: &[u32], continuation: &[u32]) -> Option<f64> {
    let (&last, before) = continuation.split_last()?;
    let mut generator = Generator::new(lm);
    let mut logits = generator.prefill(prompt, None);
    let mut sum = 0.0;
    for &token in before {
        sum += log_prob(logits, token);
        logits = generator.step(token, None);
    }
    sum += log_prob(logits, last);
    Some((-sum / continuation.len() as f64).exp())
}

/// Distinct bigrams over bigrams; 1 for fewer than two tokens.
pub fn distinct_2(tokens: &[u32]) -> f64 {
    let distinct: BTreeSet<_> = tokens.windows(2).collect();
    if tokens.len() < 2 { 1.0 } else { distinct.len() as f64 / (tokens.len() - 1) as f64 }
}

/// Tokens of the longest stretch that occurs twice, the second time not before the first has ended.
pub fn longest_repeat(tokens: &[u32]) -> usize {
    let n = tokens.len();
    let mut longest = 0;
    // length[j]: tokens in which the stretches that end with i and with j are the same.
    let mut length = vec![0usize; n];
    for i in 0..n {
        for j in (i + 1..n).rev() {
            length[j] = if tokens[i] == tokens[j] { (length[j - 1] + 1).min(j - i) } else { 0 };
            longest = longest.max(length[j]);
        }
        // A stretch cannot reach back over where this one begins.
        length[i] = 0;
    }
    longest
}
