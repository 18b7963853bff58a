//! One feature as SAEDashboard writes it, which Neuronpedia's files are made of too. Reads the dictionary's answer; does not know files.
//!
//! Ours -> theirs: the strongest contexts are the group `bin_min` -1, `bin_contains` -1; an interval of activation is a bin whose
//! `bin_contains` is its share of all tokens. Random examples, rank quantiles and silent examples have no place in the format and are left
//! out. A window is cut as our pages cut it; theirs are whole rows. Histograms are recounted into 50 bins of equal width: a bin of ours that
//! lies across an edge is divided in proportion, so heights are exact in sum and approximate one by one.
//!
//! Correlated neurons and features are as theirs: the largest Pearson's r of activations over all tokens, with the cosine of the same two
//! columns, sum(a b) / sqrt(sum(a^2) sum(b^2)), in the fields that end in `l1`. Those of neurons are exact, the largest by size. Those of features
//! are estimates, all above 0; `features::collect::coactive` states their formula and their error, and the dictionary keeps the error of
//! each. A dictionary of version 3 or before has neither cosines of neurons nor correlated features: these lists are empty then.

use super::Source;
use crate::features::Result;
use crate::features::store::{Example, ExampleGroup, FeatureDetail, GroupKind, Histogram, Kind, LogitEffect, TokenText};
use serde::{Deserialize, Serialize};

/// Bins of both histograms.
const N_BARS: usize = 50;
/// Neurons and features named beside a feature.
const N_RELATED: usize = 3;

/// `features[i]` of a batch file. Source: SAEDashboard (May 2026), `neuronpedia/neuronpedia_runner` and its acceptance files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    pub feature_index: u32,
    /// Largest decoder entries, and their shares of the row's L1 norm.
    #[serde(default)]
    pub neuron_alignment_indices: Vec<u32>,
    #[serde(default)]
    pub neuron_alignment_values: Vec<f32>,
    #[serde(default)]
    pub neuron_alignment_l1: Vec<f32>,
    #[serde(default)]
    pub correlated_neurons_indices: Vec<u32>,
    /// Holds cosines, in spite of its name.
    #[serde(default)]
    pub correlated_neurons_l1: Vec<f32>,
    #[serde(default)]
    pub correlated_neurons_pearson: Vec<f32>,
    #[serde(default)]
    pub correlated_features_indices: Vec<u32>,
    /// Holds cosines, in spite of its name.
    #[serde(default)]
    pub correlated_features_l1: Vec<f32>,
    #[serde(default)]
    pub correlated_features_pearson: Vec<f32>,
    /// Most suppressed tokens, most negative first.
    #[serde(default)]
    pub neg_str: Vec<String>,
    #[serde(default)]
    pub neg_values: Vec<f32>,
    #[serde(default)]
    pub pos_str: Vec<String>,
    #[serde(default)]
    pub pos_values: Vec<f32>,
    /// Share of tokens with an activation above 0.
    #[serde(default)]
    pub frac_nonzero: f64,
    /// Centres of the bins of activations above 0.
    #[serde(default)]
    pub freq_hist_data_bar_values: Vec<f32>,
    #[serde(default)]
    pub freq_hist_data_bar_heights: Vec<u64>,
    #[serde(default)]
    pub logits_hist_data_bar_heights: Vec<u64>,
    /// Centres of the bins of the effects on every token's logit.
    #[serde(default)]
    pub logits_hist_data_bar_values: Vec<f32>,
    #[serde(default)]
    pub n_prompts_total: u64,
    #[serde(default)]
    pub n_tokens_in_prompt: u64,
    #[serde(default)]
    pub dataset: String,
    /// Of attention heads; an MLP has none.
    #[serde(default)]
    pub decoder_weights_dist: Vec<f32>,
    #[serde(default)]
    pub activations: Vec<Activation>,
}

/// A context. `tokens` and `values` have the same length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// -1 in the group of the strongest, whose `bin_max` is the maximum and whose `bin_contains` is -1.
    #[serde(default)]
    pub bin_min: f32,
    #[serde(default)]
    pub bin_max: f32,
    /// Share of all tokens.
    #[serde(default)]
    pub bin_contains: f64,
    pub tokens: Vec<String>,
    pub values: Vec<f32>,
    /// The token that put the context here; -1 where the file does not know.
    #[serde(default = "nowhere")]
    pub qualifying_token_index: i64,
    #[serde(default)]
    pub dfa_values: Vec<f32>,
    #[serde(default, rename = "dfa_maxValue")]
    pub dfa_max_value: f32,
    #[serde(default = "nowhere", rename = "dfa_targetIndex")]
    pub dfa_target_index: i64,
}

fn nowhere() -> i64 {
    -1
}

impl Feature {
    /// The feature and what the dictionary says of it.
    pub fn read(source: &Source, id: u32) -> Result<(Self, FeatureDetail)> {
        let detail = source.dictionary.feature_in(id, source.text)?;
        Ok((Self::new(source, &detail), detail))
    }

    fn new(source: &Source, detail: &FeatureDetail) -> Self {
        let (meta, summary) = (source.dictionary.meta(), &detail.summary);
        let (alignment, neurons) = (first(&detail.alignment), first(&detail.neurons));
        let correlated = first(&detail.correlated);
        let (freq_values, freq_heights) = equal_bars(&detail.histogram, summary.max_act);
        let (logit_values, logit_heights) = source.logit_bars(summary.id, N_BARS);
        let groups = detail.groups.iter().filter(|g| matches!(g.kind, GroupKind::Interval | GroupKind::Top));
        let texts = |effects: &[LogitEffect]| effects.iter().map(|e| token_text(&e.token)).collect();
        let values = |effects: &[LogitEffect]| effects.iter().map(|e| e.effect).collect();
        Feature {
            feature_index: summary.id,
            neuron_alignment_indices: alignment.iter().map(|a| a.neuron).collect(),
            neuron_alignment_values: alignment.iter().map(|a| a.value).collect(),
            neuron_alignment_l1: alignment.iter().map(|a| a.share).collect(),
            correlated_neurons_indices: neurons.iter().map(|n| n.neuron).collect(),
            correlated_neurons_l1: neurons.iter().map(|n| n.cosine).collect::<Option<_>>().unwrap_or_default(),
            correlated_neurons_pearson: neurons.iter().map(|n| n.pearson).collect(),
            correlated_features_indices: correlated.iter().map(|c| c.id).collect(),
            correlated_features_l1: correlated.iter().map(|c| c.cosine).collect::<Option<_>>().unwrap_or_default(),
            correlated_features_pearson: correlated.iter().map(|c| c.pearson).collect(),
            neg_str: texts(&detail.logits_down),
            neg_values: values(&detail.logits_down),
            pos_str: texts(&detail.logits_up),
            pos_values: values(&detail.logits_up),
            frac_nonzero: summary.density,
            freq_hist_data_bar_values: freq_values,
            freq_hist_data_bar_heights: freq_heights,
            logits_hist_data_bar_heights: logit_heights,
            logits_hist_data_bar_values: logit_values,
            // The first token of a window is not counted.
            n_prompts_total: meta.n_tokens / (meta.n_ctx as u64 - 1).max(1),
            n_tokens_in_prompt: meta.n_ctx as u64,
            dataset: source.dataset.clone(),
            activations: groups.flat_map(|g| g.examples.iter().map(|e| activation(g, e, summary.max_act, meta.n_tokens))).collect(),
            ..Default::default()
        }
    }
}

fn activation(group: &ExampleGroup, example: &Example, max: f32, n_tokens: u64) -> Activation {
    let top = group.kind == GroupKind::Top;
    let share = group.n_firings as f64 / n_tokens.max(1) as f64;
    Activation {
        bin_min: if top { -1.0 } else { group.low },
        bin_max: if top { max } else { group.high },
        bin_contains: if top { -1.0 } else { share },
        tokens: example.tokens.iter().map(token_text).collect(),
        values: example.acts.clone(),
        qualifying_token_index: example.focus as i64,
        dfa_values: vec![],
        dfa_max_value: 0.0,
        dfa_target_index: nowhere(),
    }
}

/// A token's text; bytes that are not UTF-8 as `<0xE2><0x82>`, the byte tokens of SentencePiece.
pub fn token_text(token: &TokenText) -> String {
    match std::str::from_utf8(&token.bytes) {
        Ok(text) => text.into(),
        Err(_) => token.bytes.iter().map(|b| format!("<0x{b:02X}>")).collect(),
    }
}

/// The bytes behind [`token_text`].
pub fn token_bytes(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok());
    let byte_token = |part: &[u8]| match part {
        [b'<', b'0', b'x', high, low, b'>'] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => byte(&[*high, *low]),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(6).map(byte_token).collect();
    bytes.filter(|b| !b.is_empty()).unwrap_or_else(|| text.as_bytes().to_vec())
}

fn first<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(N_RELATED)]
}

/// Our histogram in [`N_BARS`] bins of equal width from 0 to the maximum: centres and counts.
fn equal_bars(histogram: &Histogram, max: f32) -> (Vec<f32>, Vec<u64>) {
    let width = f64::from(max) / N_BARS as f64;
    let centres = (0..N_BARS).map(|i| ((i as f64 + 0.5) * width) as f32).collect();
    let mut bars = [0.0f64; N_BARS];
    for (i, &count) in histogram.counts.iter().enumerate() {
        let [low, high] = [histogram.edges[i], histogram.edges[i + 1]].map(|e| f64::from(e.min(max)));
        let at = |x: f64| ((x / width.max(f64::MIN_POSITIVE)) as usize).min(N_BARS - 1);
        for (bar, total) in bars.iter_mut().enumerate().take(at(high) + 1).skip(at(low)) {
            let (from, to) = (low.max(bar as f64 * width), high.min((bar + 1) as f64 * width));
            *total += if high > low { count as f64 * ((to - from).max(0.0) / (high - low)) } else { count as f64 };
        }
    }
    // Rounded so that the running sum is right at every edge.
    let (mut sum, mut given) = (0.0, 0u64);
    let rounded = |share: &f64| {
        sum += share;
        let upto = sum.round() as u64;
        let n = upto.saturating_sub(given);
        given += n;
        n
    };
    let heights = bars.iter().map(rounded).collect();
    (centres, heights)
}

/// The noun of the set: features of an SAE, or neurons.
pub fn is_neurons(source: &Source) -> bool {
    source.dictionary.meta().kind == Kind::Neuron
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bars_of_equal_width_keep_every_firing() {
        let histogram = Histogram { edges: vec![0.25, 0.5, 1.0, 2.0], counts: vec![7, 5, 3] };
        let (centres, heights) = equal_bars(&histogram, 1.5);
        assert_eq!((centres.len(), heights.iter().sum::<u64>()), (50, 15));
        // Bins of 0.03: those from 0.27 to 0.48 hold parts of the first seven only.
        assert_eq!(heights[..8].iter().sum::<u64>(), 0);
        assert_eq!(heights[33..].iter().sum::<u64>(), 3, "from 0.99 on: the last three and a fiftieth of the five");
        assert_eq!(equal_bars(&Histogram::default(), 0.0).1.iter().sum::<u64>(), 0);
    }

    proptest! {
        #[test]
        fn bytes_of_every_token_survive_their_text(bytes in prop::collection::vec(any::<u8>(), 0..6)) {
            let text = token_text(&TokenText::new(0, &bytes));
            // A token that spells a byte token in letters is read as that byte; the format has no other sign.
            prop_assume!(!String::from_utf8_lossy(&bytes).starts_with("<0x"));
            prop_assert_eq!(token_bytes(&text), bytes);
        }
    }
}
