//! What the dictionary answers, as plain data. Token text is bytes, with a lossy `text` beside it for convenience.

use crate::features::collect::CollectSettings;
use crate::intervene::saved::Scale;
use serde::{Deserialize, Serialize};

/// What the units of a dictionary are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
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

/// How the dictionary was made. What a file of version 1, or of another tool, does not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Whether a context ends where its document does: of an imported dictionary contexts are all that there is.
    #[serde(default)]
    pub whole_documents: bool,
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
    #[serde(default)]
    pub n_position_locked: u64,
    #[serde(default)]
    pub n_duplicated: u64,
    #[serde(default)]
    pub n_polysemantic: u64,
    /// Likeness from which two contexts are alike, and the score of contexts drawn at random: see `features::polysemantic`. 0 in a file that an
    /// older program wrote, whose scores are of an older measure.
    #[serde(default)]
    pub alike_from: f64,
    #[serde(default)]
    pub polysemantic_chance: f64,
    /// How many units are of each category, in the order of [`Category::ALL`]; every unit is counted once.
    #[serde(default)]
    pub census: Vec<CategoryCount>,
    /// Windows read.
    #[serde(default)]
    pub n_windows: u64,
    /// Tokens counted in each of the equal parts of the pass: denominators of [`FeatureDetail::over_time`].
    #[serde(default)]
    pub time_tokens: Vec<u64>,
    /// Bin i of [`FeatureDetail::over_position`] holds positions `position_edges[i]..position_edges[i + 1]` of the window.
    #[serde(default)]
    pub position_edges: Vec<u32>,
    /// Tokens counted in each of these bins.
    #[serde(default)]
    pub position_tokens: Vec<u64>,
    /// Tokens that correlations with neurons are over; 0 where there are none.
    #[serde(default)]
    pub correlated_over: u64,
    /// Largest standard deviation of a co-activation estimate; 0 where there are none.
    #[serde(default)]
    pub coactive_sd: f64,
    #[serde(default)]
    pub loss_effects: LossEffects,
    pub wall_seconds: f64,
    pub program_version: String,
}

impl Meta {
    /// Whether the coordinates of the hook are the MLP's neurons.
    pub fn reads_neurons(&self) -> bool {
        self.hook.ends_with(".mlp.hook_pre") || self.hook.ends_with(".mlp.hook_post")
    }

    /// Correlations of latents with the hook's coordinates are missing because they would have taken more memory than
    /// [`CollectSettings::max_correlation_bytes`].
    pub fn has_no_room_for_correlations(&self) -> bool {
        let bytes = self.n_units as usize * self.d_in * size_of::<f64>();
        self.kind == Kind::Latent && self.correlated_over == 0 && bytes > CollectSettings::default().max_correlation_bytes
    }
}

/// How [`Example::loss`] came about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum LossEffects {
    /// The dictionary was made without them.
    #[default]
    NotMeasured,
    /// Nothing after the hook mixes positions: exact up to rounding, the SAE's error kept.
    Exact,
    /// They would not be exact.
    NotExact { why: String },
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
    /// At least 90 % of its firings lie in bins of the position in the window that hold at most 10 % of the tokens together, and it fires in
    /// 20 windows or more.
    PositionLocked,
    /// The cosine of its decoder direction with that of another unit that fires is above 0.9.
    Duplicated,
    /// Its contexts fall into three groups of alike ones or more, effectively: see [`FeatureSummary::polysemantic`].
    Polysemantic,
}

impl Flag {
    pub const ALL: [Flag; 8] =
        [Flag::Dead, Flag::UltraRare, Flag::Dense, Flag::SingleToken, Flag::Junk, Flag::PositionLocked, Flag::Duplicated, Flag::Polysemantic];

    /// The flag's bit in the `flags` column.
    pub fn bit(self) -> i64 {
        1 << self as i64
    }

    pub fn name(self) -> &'static str {
        ["dead", "ultra-rare", "dense", "single-token", "junk", "position-locked", "duplicated", "polysemantic"][self as usize]
    }
}

/// What a unit is, in one word. Each unit has the first of these whose rule holds; `features::census` applies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Never fires.
    Dead,
    /// Fires on fewer than one token in a million.
    UltraRare,
    /// Fires on more than 10 % of tokens.
    Dense,
    /// At least 90 % of its firings are on one token.
    SingleToken,
    /// At least 80 % of its activation is on forms of one word: among its top tokens, letters only and compared without case and blanks, those
    /// whose common beginning with the first is at least 3 letters and at least half of the longer of the two.
    WordFamily,
    /// Its contexts fall into three groups of alike ones or more, effectively.
    Polysemantic,
    /// Its token decides: its top tokens have at least 80 % of its activation, and it fires on at least half of their occurrences
    /// (mean over top tokens, weighted by activation).
    Class,
    /// What comes before decides: its contexts fall into fewer than two groups of alike ones, effectively.
    Context,
    /// None of these.
    Unexplained,
}

impl Category {
    pub const ALL: [Category; 9] = [
        Category::Dead,
        Category::UltraRare,
        Category::Dense,
        Category::SingleToken,
        Category::WordFamily,
        Category::Polysemantic,
        Category::Class,
        Category::Context,
        Category::Unexplained,
    ];

    pub fn name(self) -> &'static str {
        ["dead", "ultra-rare", "dense", "single-token", "word family", "polysemantic", "class", "context", "unexplained"][self as usize]
    }

    /// Its rule, for a page.
    pub fn rule(self) -> &'static str {
        [
            "never fires",
            "fires on fewer than one token in a million",
            "fires on more than 10 % of tokens",
            "at least 90 % of its firings are on one token",
            "at least 80 % of its activation is on forms of one word",
            "its contexts fall into three groups of alike ones or more, effectively",
            "its top tokens have 80 % of its activation, and it fires on half of their occurrences",
            "its contexts fall into fewer than two groups of alike ones, effectively",
            "none of these",
        ][self as usize]
    }
}

/// One line of a census.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryCount {
    pub category: Category,
    pub n: u64,
}

/// A token and its bytes (perhaps part of a character). JSON has the bytes, as hexadecimal digits, only where `text` does not say them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TokenJson", into = "TokenJson")]
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

/// [`TokenText`] in JSON.
#[derive(Serialize, Deserialize)]
struct TokenJson {
    id: u32,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

impl From<TokenText> for TokenJson {
    fn from(token: TokenText) -> Self {
        let hex = || token.bytes.iter().map(|b| format!("{b:02x}")).collect();
        TokenJson { id: token.id, bytes: (token.text.as_bytes() != token.bytes).then(hex), text: token.text }
    }
}

impl TryFrom<TokenJson> for TokenText {
    type Error = String;

    fn try_from(json: TokenJson) -> Result<Self, String> {
        let Some(hex) = json.bytes else { return Ok(TokenText { id: json.id, bytes: json.text.clone().into_bytes(), text: json.text }) };
        let pairs =
            hex.as_bytes().chunks(2).map(|p| std::str::from_utf8(p).ok().filter(|p| p.len() == 2).and_then(|p| u8::from_str_radix(p, 16).ok()));
        let bytes: Option<Vec<u8>> = pairs.collect();
        Ok(TokenText { id: json.id, bytes: bytes.ok_or_else(|| format!("{hex:?} is not hexadecimal"))?, text: json.text })
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
    /// The effective number of groups of alike contexts, from firings of all ranks: exp(-sum p_i ln(sum z_ij p_j)), where p_i is the share of the
    /// activation that context i stands for and z_ij is 1 for contexts that are alike; see `features::polysemantic`. 1 = one thing, 0 where it
    /// never fires.
    pub polysemantic: f64,
    /// Absent in a dictionary of version 1.
    pub category: Option<Category>,
    /// cosine(encoder row, decoder direction); absent for neurons.
    pub enc_dec_cosine: Option<f32>,
    /// The concept that the exam found it best for, if one was run and F1 is [`MIN_CONCEPT_F1`] or more.
    pub concept: Option<BestConcept>,
}

impl FeatureSummary {
    /// What an edit's numbers are multiples of.
    pub fn scale(&self) -> Scale {
        Scale { max_act: self.max_act, mean_act: (self.density * f64::from(self.mean_act)) as f32 }
    }
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
    /// A sample of the firings within one interval of activation, intervals of equal width.
    Interval,
    /// A sample of the firings within one tenth of them by rank of activation, up to the width of a bin.
    Quantile,
    /// One of its top tokens, where it is silent.
    Zero,
}

impl GroupKind {
    pub fn name(self) -> &'static str {
        ["top", "random", "interval", "quantile", "zero"][self as usize]
    }
}

/// Examples that were chosen in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExampleGroup {
    pub kind: GroupKind,
    /// What the page says above it, e.g. `activation 2.1 to 3.4`.
    pub name: String,
    /// Activations in this group are in `low..high`; both 0 for [`GroupKind::Zero`].
    pub low: f32,
    pub high: f32,
    /// How many firings the group stands for, shown examples included.
    pub n_firings: u64,
    /// Importance of the group: the share of all firings that it stands for, and their share of the summed activation. The second is absent
    /// in a dictionary of version 1.
    pub share_firings: f64,
    pub share_mass: Option<f64>,
    pub examples: Vec<Example>,
}

/// A firing in its context. `tokens`, `acts` and `loss` have the same length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// `loss[i]`: by how many nats the loss of predicting `tokens[i]` changes when the feature is removed from the token before it, where that was
    /// measured ([`Meta::loss_effects`]). Above 0: removing it hurts.
    pub loss: Vec<Option<f32>>,
    /// Other strong firings, in other documents, whose text is nearly the same and which are not shown for that.
    pub similar: u32,
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

/// Another unit of the same dictionary, and how near it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Neighbor {
    pub id: u32,
    /// What it is near by: [`FeatureDetail::coactive`], [`FeatureDetail::similar`].
    pub value: f32,
}

/// Another unit whose activations go along with the feature's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CorrelatedFeature {
    pub id: u32,
    /// Pearson's correlation of the two activations over all tokens that were counted, zeros included; an estimate from the sketches of
    /// `features::collect::coactive`, where its formula stands.
    pub pearson: f32,
    /// sum(a b) / sqrt(sum(a^2) sum(b^2)) over the same tokens, estimated alike. Absent where an imported file does not say.
    pub cosine: Option<f32>,
    /// Standard deviation of `pearson`: 0 = exact; absent where an imported file does not say.
    pub sd: Option<f32>,
}

/// A coordinate of the hook that goes along with the feature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CorrelatedNeuron {
    pub neuron: u32,
    /// Pearson's correlation of the activation with the coordinate over [`Meta::correlated_over`] tokens, zeros included.
    pub pearson: f32,
    /// sum(a x) / sqrt(sum(a^2) sum(x^2)) over the same tokens; absent in a dictionary of version 3.
    #[serde(default)]
    pub cosine: Option<f32>,
}

/// A coordinate of the hook that the feature writes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Alignment {
    pub neuron: u32,
    /// The entry of the decoder direction.
    pub value: f32,
    /// Its size as a share of the direction's L1 norm.
    pub share: f32,
}

/// A token and the units that fire on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenDetail {
    pub token: TokenText,
    /// Occurrences among the tokens that were counted.
    pub n: u64,
    /// Most summed activation first, at most 20.
    pub features: Vec<TokenFeature>,
}

/// A unit that fires on a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenFeature {
    pub feature: u32,
    /// Firings on the token.
    pub n: u64,
    /// Summed activation on it.
    pub mass: f64,
    /// Share of the token's occurrences on which it fires, over its density: 1 = the token does not matter.
    pub lift: f64,
}

/// Everything about one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDetail {
    pub summary: FeatureSummary,
    pub histogram: Histogram,
    /// Random first, then intervals and then tenths from the strongest down, then the top, then where it is silent.
    pub groups: Vec<ExampleGroup>,
    /// Share of tokens that it fires on in each of the equal parts of the pass ([`Meta::time_tokens`]); empty in a dictionary of version 1.
    pub over_time: Vec<f32>,
    /// The same by position in the window ([`Meta::position_edges`]).
    pub over_position: Vec<f32>,
    /// Units that fire on the same tokens, by the Jaccard index of the two sets of tokens, estimated ([`Meta::coactive_sd`]).
    pub coactive: Vec<Neighbor>,
    /// Units that fire and have the nearest decoder directions, by cosine.
    pub similar: Vec<Neighbor>,
    /// Units whose activations correlate most with it, largest first; empty in a dictionary of version 3.
    #[serde(default)]
    pub correlated: Vec<CorrelatedFeature>,
    /// The hook's coordinates whose values correlate most with it, by size.
    pub neurons: Vec<CorrelatedNeuron>,
    /// The largest entries of its decoder direction.
    pub alignment: Vec<Alignment>,
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
    pub category: Option<Category>,
    /// Features that fire on a token holding this text, or in a context with these words.
    pub text: Option<String>,
    /// Units that fire on a token holding it, where the caller knows them; else they are looked up.
    pub firing: Option<Vec<u32>>,
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
            category: None,
            text: None,
            firing: None,
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
    /// It is good for a known concept of this name.
    Concept,
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
