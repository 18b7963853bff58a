//! What the dictionary answers, as plain data. Token text is bytes, with a lossy `text` beside it for convenience.

use serde::{Deserialize, Serialize};

/// What the units of a dictionary are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Latent,
    Neuron,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Latent => "latent",
            Kind::Neuron => "neuron",
        }
    }
}

/// How the dictionary was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    pub kind: Kind,
    /// Name of the SAE, or `neurons`.
    pub name: String,
    /// Printed hook point, e.g. `blocks.0.mlp.hook_post`.
    pub hook: String,
    /// Latents, or sides of neurons: a hook that can be negative has 2 d_in of them (first all positive sides, then all negative ones).
    pub n_units: u32,
    pub d_in: usize,
    pub n_ctx: usize,
    /// Tokens that statistics are over (`<|endoftext|>` and first positions of windows left out): the denominator of every density.
    pub n_tokens: u64,
    /// Where they come from: `train`, `held_out_a`, `held_out_b`, joined by `+`.
    pub tokens_from: String,
    pub seed: u64,
    /// Windows around an example hold this many tokens before and after the firing token.
    pub n_before: usize,
    pub n_after: usize,
    /// Manifest hashes of what it was made from.
    pub tokens_hash: String,
    pub lm_hash: String,
    pub sae_hash: Option<String>,
    /// blake3 of the SAE's weights, which labels are keyed by (of the model's manifest for neurons).
    pub weights_hash: String,
    pub n_dead: u64,
    pub n_ultra_rare: u64,
    pub n_dense: u64,
    pub n_single_token: u64,
    pub n_junk: u64,
    pub wall_seconds: f64,
    pub program_version: String,
}

/// Properties worth a warning beside a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Never fired on the tokens of the dictionary.
    Dead,
    /// Fired, but on fewer than 1 token in a million.
    UltraRare,
    /// Fires on more than 10 % of tokens.
    Dense,
    /// At least 90 % of its firings are on one token.
    SingleToken,
    /// Cosine of encoder row and decoder direction below `sae::JUNK_COSINE`.
    Junk,
}

impl Flag {
    pub const ALL: [Flag; 5] = [Flag::Dead, Flag::UltraRare, Flag::Dense, Flag::SingleToken, Flag::Junk];

    /// The flag's bit in the `flags` column.
    pub fn bit(self) -> i64 {
        1 << self as i64
    }

    pub fn name(self) -> &'static str {
        ["dead", "ultra-rare", "dense", "single-token", "junk"][self as usize]
    }
}

/// A token and its bytes (perhaps part of a character).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenText {
    pub id: u32,
    pub bytes: Vec<u8>,
    /// The bytes decoded on their own, with U+FFFD for what is not UTF-8. Join bytes of neighbours first where text is shown.
    pub text: String,
}

impl TokenText {
    pub fn new(id: u32, bytes: &[u8]) -> Self {
        TokenText { id, bytes: bytes.to_vec(), text: String::from_utf8_lossy(bytes).into_owned() }
    }
}

/// A token that a feature fires on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FiringToken {
    pub token: TokenText,
    /// Firings on it.
    pub n: u64,
    /// Its share of the feature's summed activation.
    pub mass: f64,
}

/// One row of a list of features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSummary {
    /// Number of the latent, or of the neuron's side (see [`Meta::n_units`]).
    pub id: u32,
    /// For neurons: its number, and whether this is the positive side.
    pub neuron: Option<u32>,
    pub positive: bool,
    /// Share of tokens with an activation above 0.
    pub density: f64,
    pub n_active: u64,
    pub max_act: f32,
    /// Mean over the tokens on which it fires.
    pub mean_act: f32,
    pub flags: Vec<Flag>,
    /// Tokens with most activation, at most ten.
    pub top_tokens: Vec<FiringToken>,
    /// exp(entropy) of the summed activation over tokens: 1 = one token, large = many. A lower bound where `tokens_exact` is false.
    pub effective_tokens: f64,
    pub tokens_exact: bool,
    /// How many unrelated things its strongest contexts are about; see `features::collect`.
    pub polysemantic: f64,
    /// cosine(encoder row, decoder direction); absent for neurons.
    pub enc_dec_cosine: Option<f32>,
    /// The concept that the exam found it best for, if one was run and F1 is [`MIN_CONCEPT_F1`] or more.
    pub concept: Option<BestConcept>,
}

/// Below this F1 on B a feature has no concept: the best of bad ones says nothing about it.
pub const MIN_CONCEPT_F1: f64 = 0.5;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestConcept {
    pub name: String,
    /// On held-out B.
    pub f1: f64,
}

/// Counts of activations: `counts[i]` of them lie in `edges[i]..edges[i + 1]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Rising, in four steps per doubling: draw it on a logarithmic axis. One longer than `counts`; empty for a dead feature.
    pub edges: Vec<f32>,
    pub counts: Vec<u64>,
}

/// How the examples of a group were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// The strongest, at most one per document.
    Top,
    /// A uniform sample of all firings.
    Random,
    /// A sample of the firings within one interval of activation.
    Quantile,
}

/// Examples that were chosen in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExampleGroup {
    pub kind: GroupKind,
    /// What the page says above it, e.g. `activation 2.1 to 3.4`.
    pub name: String,
    /// Activations in this group are in `low..high`.
    pub low: f32,
    pub high: f32,
    /// How many firings the group stands for, shown examples included.
    pub n_firings: u64,
    pub examples: Vec<Example>,
}

/// A firing in its context. `tokens`, `acts` have the same length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The firing token's index in the token stream.
    pub t: u64,
    /// Index in the stream of `tokens[0]`.
    pub start: u64,
    /// `tokens[focus]` is the firing token.
    pub focus: usize,
    pub act: f32,
    pub tokens: Vec<TokenText>,
    pub acts: Vec<f32>,
    /// `tokens[window.0..window.1]` lie in the model's window; the others were not seen by it and are greyed, their `acts` are 0.
    pub window: (usize, usize),
    pub doc: usize,
    /// Tokens from the start of the document to `t`.
    pub doc_offset: u64,
}

/// A token that the feature makes likelier or less likely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogitEffect {
    pub token: TokenText,
    /// Change of the logit per unit of activation, up to the final norm's scale (`Lm::logit_effects`).
    pub effect: f32,
}

/// Everything about one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDetail {
    pub summary: FeatureSummary,
    pub histogram: Histogram,
    /// Random first, then intervals from the strongest down, then the top.
    pub groups: Vec<ExampleGroup>,
    /// Strongest first; empty where the hook has no path to the logits.
    pub logits_up: Vec<LogitEffect>,
    /// Most negative first.
    pub logits_down: Vec<LogitEffect>,
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    #[default]
    Id,
    Density,
    Max,
    Mean,
    /// exp(entropy) over firing tokens.
    Tokens,
    Polysemantic,
    /// F1 for its best concept.
    F1,
    Cosine,
}

/// Which features to list, and in which order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    pub sort: Sort,
    pub descending: bool,
    /// Features that have all of these.
    pub with: Vec<Flag>,
    /// Features that have none of these.
    pub without: Vec<Flag>,
    /// Features that fire on a token holding this text, or in a context with these words.
    pub text: Option<String>,
    pub min_density: Option<f64>,
    pub max_density: Option<f64>,
    /// Only these (for instance the labelled ones).
    pub ids: Option<Vec<u32>>,
    pub offset: u64,
    pub limit: u64,
}

impl Default for ListQuery {
    fn default() -> Self {
        ListQuery {
            sort: Sort::Id,
            descending: false,
            with: vec![],
            without: vec![],
            text: None,
            min_density: None,
            max_density: None,
            ids: None,
            offset: 0,
            limit: 50,
        }
    }
}

/// A page of a list, and how many features match in all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListPage {
    pub total: u64,
    pub features: Vec<FeatureSummary>,
}

/// Where a search found the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Somebody labelled it so.
    Label,
    /// It fires on this token.
    Token,
    /// The text stands in one of its contexts.
    Context,
}

/// A feature that a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    pub feature: u32,
    pub why: Why,
    /// The token, or the words around the match.
    pub snippet: String,
    /// Share of the feature's activation on matching tokens, or share of its contexts that match; 1 for a label.
    pub share: f64,
}
