//! What a recipe will cost in disk and time, roughly, before anything is done. Reads sizes of files, nothing else.
//!
//! The rates are those of LOG.md: the quickstart timed alone on two cores of some 200 GFLOP/s in products of f32.

use super::Recipe;
use crate::corpus::{self, Source};
use crate::sae;

/// Bytes of tokens and their documents' labels for each byte of text; more for each byte of the planted corpus, which labels concepts.
const TOKENS_PER_TEXT: f64 = 0.6;
const LABELS_PER_PLANTED: f64 = 0.95;
/// Bytes of a dictionary for each latent, and for each neuron, which has more around each firing.
const LATENT_BYTES: u64 = 13_000;
const NEURON_BYTES: u64 = 23_000;
/// FLOP a second of two cores in training the language model, its products being 6 a parameter and token.
const LM_FLOPS: f64 = 160e9;
/// FLOP a second of two cores in the TopK SAE's step and its harvest, counted as the encoder's product alone.
const SAE_FLOPS: f64 = 113e9;

/// Rough costs of all stages, none of them fresh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// What stays in the run's folder. Text of the hub is not counted: its size is not known.
    pub disk_bytes: u64,
    /// On so many threads as were asked for, two of which are the machine of LOG.md.
    pub seconds: f64,
}

impl Recipe {
    /// Costs of this recipe on `n_threads` threads.
    pub fn estimate(&self, n_threads: usize) -> Estimate {
        let (model, sae_config) = (&self.lm.model, &self.sae.train.sae);
        let text = corpus::local_bytes(&self.corpus) as f64;
        let n_latents = sae_config.d_sae as u64;
        let weights = (sae_config.d_in * sae_config.d_sae) as f64;
        let planted = |source: &Source| if let Source::Planted { bytes, .. } = source { *bytes } else { 0 };
        let planted = self.corpus.sources.iter().map(planted).sum::<u64>() as f64;
        let tokens = TOKENS_PER_TEXT * text + LABELS_PER_PLANTED * planted;
        let dictionaries = LATENT_BYTES * n_latents + NEURON_BYTES * sae_config.d_in as u64;
        let snapshots = self.sae.train.snapshot_steps().len() as u64 * sae::history::bytes(sae_config);
        let disk_bytes = tokens as u64 + 4 * model.n_params() as u64 + 8 * weights as u64 + snapshots + dictionaries;

        // The embedding is looked up, not multiplied; a tied one is multiplied once as unembedding.
        let looked_up = model.d_model * (model.n_ctx + if model.tied { 0 } else { model.d_vocab });
        let lm = 6.0 * (model.n_params() - looked_up) as f64 * self.lm.train.tokens as f64 / LM_FLOPS;
        // Without the k largest, forward and backward of both matrices are dense at first.
        // A dense penalty begins with half of the latents active.
        let passes = if sae_config.recipe.sparsity(1).is_some() { 3.0 } else { 1.0 };
        let sae = passes * 2.0 * weights * self.sae.train.rows as f64 / SAE_FLOPS;
        let wide = n_latents as f64 / 4096.0;
        let read = wide * (33.0 * self.sae.reconstruction_tokens as f64 + 57.0 * self.dictionary.tokens as f64) / 1e6;
        let exam = 35.0 * wide * self.exam.tokens as f64 / 2e5;
        // The full exam trains the SAE once more and fits probes.
        let full = if self.exam.full { sae + exam } else { 0.0 };
        let seconds = text / 5.5e6 + lm + sae + read + exam + full;
        Estimate { disk_bytes, seconds: seconds * 2.0 / n_threads.max(1) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LOG.md of 2026-11-23, the quickstart as it was, timed alone: 5M tokens, 2M rows, 356 s; 217 MB in its folder, and now six snapshots of 8.4 MB.
    #[test]
    fn the_estimate_of_the_quickstart_is_near_what_the_log_measured() {
        let mut recipe = Recipe::quickstart(202);
        (recipe.lm.train.tokens, recipe.sae.train.rows, recipe.dictionary.tokens, recipe.exam.tokens) = (5_000_000, 2_000_000, 1_000_000, 200_000);
        let two = recipe.estimate(2);
        assert!((two.seconds / 356.0 - 1.0).abs() < 0.2, "{two:?}");
        assert!((two.disk_bytes as f64 / 267e6 - 1.0).abs() < 0.1, "{two:?}");
        assert_eq!(recipe.estimate(4).seconds, two.seconds / 2.0);
        recipe.exam.full = true;
        assert!(recipe.estimate(2).seconds > two.seconds + 60.0);
    }
}
