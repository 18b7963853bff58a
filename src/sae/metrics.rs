//! Metrics of an SAE over held-out rows, as global sums in f64; each formula is named in `formulas` of eval.json.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `eval.json` holds. The cross-entropies need the language model and are added by the stage that has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    pub l0: f64,
    pub l1: f64,
    pub mse: f64,
    pub nmse: f64,
    pub fvu: f64,
    pub explained_variance: f64,
    pub cosine: f64,
    pub l2_ratio: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_clean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_spliced: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_zero: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_mean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_recovered_zero: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_recovered_mean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Share of latents that fired on none of `n_eval_tokens`.
    pub dead_frac: f64,
    /// Share of latents that fired, but on fewer than one in a million tokens.
    pub ultra_rare_frac: f64,
    /// Share of latents whose encoder and decoder directions have a cosine below `junk_cosine`.
    pub junk_frac: f64,
    /// The threshold of `junk_frac`.
    pub junk_cosine: f64,
    pub mean_encoder_decoder_cosine: f64,
    pub n_latents: u64,
    pub n_eval_tokens: u64,
    /// Latents by floor(log10(density)): entry 0 is dead, then [1e-8, 1e-7) ... [1e-1, 1].
    pub density_histogram: Vec<u64>,
    /// Name of a number -> its formula.
    pub formulas: BTreeMap<String, String>,
}
