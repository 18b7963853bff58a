//! A dictionary that another program made, in a run of its own. Reads Neuronpedia's bulk tree or SAEDashboard's batches; writes `tokens/` and
//! `features/<name>.sqlite`, so that every page works on it but those that need the model.
//!
//! The files hold contexts, not a corpus: each different context becomes a document, in the order of the files, and the vocabulary is the
//! tokens that they show. What the files do not say is left empty; firing tokens and their shares are counted over the contexts alone, a
//! lower bound that is marked as such.

use super::collect::{Collected, Correlated, Firing, Group, TokenMass, effective_tokens};
use super::export::dashboard::{Activation, Feature, token_bytes};
use super::export::neuronpedia::{self, Columns, Tree};
use super::export::{LabelText, saedashboard};
use super::store::{Flag, GroupKind, Histogram, Kind, Meta, Row, write};
use super::text::StreamText;
use super::{DENSE_ABOVE, Error, Result, ULTRA_RARE_BELOW};
use crate::artifact::{Manifest, RunDir};
use crate::corpus::{END_OF_TEXT, EncodedDocument, ShardWriter, Split, TokenStream, Tokenizer};
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;

/// Features that are read, at most; a file that names a higher number is refused before anything is sized by it.
const MAX_FEATURES: u32 = 1 << 22;
/// Tokens before and after a firing that are kept: the stored distance is one signed byte.
const REACH: usize = 127;
/// Firing tokens kept of a feature.
const N_TOP_TOKENS: usize = 20;
/// Tokens that densities are over where the files do not say.
const UNKNOWN_TOKENS: u64 = 1_000_000;

/// What was taken from files, before it has a place in a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreign {
    pub model: String,
    /// Name of the source; of the dictionary too.
    pub name: String,
    pub hook: String,
    pub dataset: String,
    /// 0 where the files do not say.
    pub n_tokens: u64,
    pub features: Vec<Feature>,
    /// Largest activation that the files name, by feature; the contexts' own where they name none.
    pub max_acts: HashMap<u32, f32>,
    /// (feature, cosine) of the nearest decoder directions, by feature.
    pub similar: HashMap<u32, Vec<(u32, f32)>>,
    pub labels: Vec<LabelText>,
}

/// Reads a folder: Neuronpedia's tree, or SAEDashboard's batches.
///
/// # Errors
/// The folder is neither, or a file is damaged; said with file and line.
pub fn read(folder: &Path) -> Result<Foreign> {
    let mut foreign =
        if folder.join("batch-0.json").is_file() { of_batches(saedashboard::read(folder)?) } else { of_tree(neuronpedia::read(folder)?)? };
    foreign.name = file_name(&foreign.name);
    Ok(foreign)
}

/// A name from a file as the name of a file: it stays in its folder, whatever it says.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.chars().take(80).map(plain).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() || name == super::NEURONS { "imported".into() } else { name.into() }
}

fn of_batches(batches: Vec<saedashboard::Batch>) -> Foreign {
    let first = batches.first();
    let (model, set, layer) = first.map(|b| (b.model_id.clone(), b.sae_set.clone(), b.layer)).unwrap_or_default();
    let features: Vec<Feature> = batches.into_iter().flat_map(|b| b.features).collect();
    let (prompts, length, dataset) = features.first().map(|f| (f.n_prompts_total, f.n_tokens_in_prompt, f.dataset.clone())).unwrap_or_default();
    let n_tokens = prompts.saturating_mul(length);
    Foreign { model, name: format!("{layer}-{set}"), hook: format!("layer {layer}"), dataset, n_tokens, features, ..Default::default() }
}

fn of_tree(tree: Tree) -> Result<Foreign> {
    let Tree { source, features: lines, activations, explanations } = tree;
    let first = lines.first().ok_or_else(|| Error::Invalid("the tree has no features\n  is features/batch-0.jsonl.gz whole?".into()))?;
    let text = |key: &str| source[key].as_str().unwrap_or_default().to_string();
    let number = |key: &str| source[key].as_u64().unwrap_or(0);
    let mut foreign = Foreign {
        model: first.model_id.clone(),
        name: first.layer.clone(),
        hook: first.hook_name.clone().unwrap_or_else(|| first.layer.clone()),
        dataset: text("dataset"),
        n_tokens: number("num_prompts").saturating_mul(number("num_tokens_in_prompt")),
        labels: explanations.iter().map(|e| e.label()).collect(),
        max_acts: lines.iter().filter_map(|l| Some((l.index, l.max_act_approx?))).collect(),
        similar: lines.iter().filter_map(|l| Some((l.index, pairs(l.topk_cos_sim_indices.as_ref()?, l.topk_cos_sim_values.as_ref()?)))).collect(),
        ..Default::default()
    };
    let mut places: HashMap<u32, usize> = HashMap::new();
    for line in lines {
        places.insert(line.index, foreign.features.len());
        foreign.features.push(feature(line.index, line.dashboard));
    }
    for a in activations {
        let Some(&place) = places.get(&a.index) else {
            return Err(Error::Invalid(format!("an activation is of feature {}, which the tree does not have\n  import the whole tree", a.index)));
        };
        let focus = a.qualifying_token_index.filter(|&i| i >= 0).or(a.max_value_token_index.map(|i| i as i64)).unwrap_or(-1);
        foreign.features[place].activations.push(Activation {
            // Without an interval it stands for itself: one of the strongest.
            bin_min: a.bin_min.unwrap_or(-1.0),
            bin_max: a.bin_max.unwrap_or(-1.0),
            bin_contains: a.bin_contains.unwrap_or(-1.0),
            tokens: a.tokens,
            values: a.values,
            qualifying_token_index: focus,
            ..Default::default()
        });
    }
    Ok(foreign)
}

fn feature(index: u32, c: Columns) -> Feature {
    Feature {
        feature_index: index,
        neuron_alignment_indices: c.neuron_alignment_indices.unwrap_or_default(),
        neuron_alignment_values: c.neuron_alignment_values.unwrap_or_default(),
        neuron_alignment_l1: c.neuron_alignment_l1.unwrap_or_default(),
        correlated_neurons_indices: c.correlated_neurons_indices.unwrap_or_default(),
        correlated_neurons_pearson: c.correlated_neurons_pearson.unwrap_or_default(),
        correlated_neurons_l1: c.correlated_neurons_l1.unwrap_or_default(),
        correlated_features_indices: c.correlated_features_indices.unwrap_or_default(),
        correlated_features_pearson: c.correlated_features_pearson.unwrap_or_default(),
        correlated_features_l1: c.correlated_features_l1.unwrap_or_default(),
        neg_str: c.neg_str.unwrap_or_default(),
        neg_values: c.neg_values.unwrap_or_default(),
        pos_str: c.pos_str.unwrap_or_default(),
        pos_values: c.pos_values.unwrap_or_default(),
        frac_nonzero: c.frac_nonzero.unwrap_or(0.0),
        freq_hist_data_bar_values: c.freq_hist_data_bar_values.unwrap_or_default(),
        freq_hist_data_bar_heights: c.freq_hist_data_bar_heights.unwrap_or_default().into_iter().map(|h| h.max(0.0) as u64).collect(),
        ..Default::default()
    }
}

/// What came of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub n_features: usize,
    pub n_contexts: usize,
    /// Contexts in which the feature does not fire, which the dictionary has no place for.
    pub n_silent: usize,
    /// Contexts whose tokens and values are not of one length, or that are empty.
    pub n_bad: usize,
    pub n_labels: usize,
}

/// Writes the run. Labels are left to the caller: they are kept by the hash in the meta data that comes back.
pub fn write_run(foreign: &Foreign, run: &RunDir) -> Result<(Meta, Report)> {
    let n_units = foreign.features.iter().map(|f| f.feature_index).max().map_or(0, |last| last.saturating_add(1));
    if n_units == 0 || n_units > MAX_FEATURES {
        return Err(Error::Invalid(format!("the files number their features up to {n_units}; 1 to {MAX_FEATURES} can be imported")));
    }
    let mut stream = Contexts::default();
    let mut report = Report { n_features: foreign.features.len(), n_contexts: 0, n_silent: 0, n_bad: 0, n_labels: foreign.labels.len() };
    let mut placed: Vec<Vec<(GroupKey, Firing)>> = vec![vec![]; foreign.features.len()];
    for (feature, placed) in foreign.features.iter().zip(&mut placed) {
        for a in &feature.activations {
            match stream.place(a) {
                Ok(Some(firing)) => placed.push((GroupKey::of(a), firing)),
                Ok(None) => report.n_silent += 1,
                Err(()) => report.n_bad += 1,
            }
        }
        feature.pos_str.iter().chain(&feature.neg_str).for_each(|t| {
            stream.token(t);
        });
    }
    report.n_contexts = stream.documents.len();
    if stream.documents.is_empty() {
        return Err(Error::Invalid("the files hold no context in which a feature fires\n  import a dump with its activations".into()));
    }
    let tokenizer = Tokenizer::of_tokens(&stream.vocabulary).map_err(Error::Invalid)?;
    let tokens = run.tokens();
    let mut shards = ShardWriter::create(&tokens, tokenizer.d_vocab(), tokenizer.end_of_text(), &[], crate::corpus::SHARD_TOKENS)?;
    for ids in &stream.documents {
        shards.push(Split::Train, EncodedDocument { ids: ids.clone(), ..Default::default() })?;
    }
    tokenizer.save(&tokens.join("tokenizer.json"))?;
    let config = json!({ "imported": { "model": foreign.model, "source": foreign.name, "dataset": foreign.dataset } });
    shards.finish(Manifest::new("tokens", 1, config, 0))?.write(&tokens)?;
    let opened = TokenStream::open(&tokens)?;

    let n_tokens = if foreign.n_tokens > 0 { foreign.n_tokens } else { UNKNOWN_TOKENS };
    let mut rows: Vec<Row> = (0..n_units).map(|_| Row { flags: vec![Flag::Dead], ..Default::default() }).collect();
    for (feature, placed) in foreign.features.iter().zip(placed) {
        let max = foreign.max_acts.get(&feature.feature_index).copied();
        let is_unit = |other: u32| other < n_units && other != feature.feature_index;
        let mut collected = collected(feature, placed, n_tokens, max, &stream);
        collected.correlated.retain(|c| is_unit(c.unit));
        let density = collected.n_active as f64 / n_tokens as f64;
        let is = |flag: &Flag| match flag {
            Flag::Dead => collected.n_active == 0,
            Flag::UltraRare => collected.n_active > 0 && density < ULTRA_RARE_BELOW,
            Flag::Dense => density > DENSE_ABOVE,
            _ => false,
        };
        let flags: Vec<Flag> = Flag::ALL.into_iter().filter(is).collect();
        let effects = |texts: &[String], values: &[f32]| texts.iter().zip(values).map(|(t, &v)| (stream.known[&bytes_of(t)], v)).collect::<Vec<_>>();
        let similar = foreign.similar.get(&feature.feature_index).into_iter().flatten().filter(|(other, _)| is_unit(*other)).copied();
        rows[feature.feature_index as usize] = Row {
            collected,
            flags,
            logits_up: effects(&feature.pos_str, &feature.pos_values),
            logits_down: effects(&feature.neg_str, &feature.neg_values),
            similar: similar.collect(),
            alignment: triples(&feature.neuron_alignment_indices, &feature.neuron_alignment_values, &feature.neuron_alignment_l1),
            ..Default::default()
        };
    }
    let n_with = |flag| rows.iter().filter(|r| r.flags.contains(&flag)).count() as u64;
    let identity = format!("{}/{}", foreign.model, foreign.name);
    let unknown = if foreign.n_tokens == 0 { ", their number unknown: densities are read as if of 1,000,000" } else { "" };
    let meta = Meta {
        kind: Kind::Latent,
        name: foreign.name.clone(),
        hook: foreign.hook.clone(),
        n_units,
        d_in: 0,
        // No context is cut by a window: each is a document, and is shown as one.
        n_ctx: opened.len().max(2) as usize,
        whole_documents: true,
        n_tokens,
        tokens_from: format!("{}{unknown}", if foreign.dataset.is_empty() { "imported contexts" } else { &foreign.dataset }),
        n_before: REACH,
        n_after: REACH,
        tokens_hash: opened.manifest().hash(),
        lm_hash: format!("imported {}", foreign.model),
        weights_hash: blake3::hash(identity.as_bytes()).to_hex()[..16].to_string(),
        n_dead: n_with(Flag::Dead),
        n_ultra_rare: n_with(Flag::UltraRare),
        n_dense: n_with(Flag::Dense),
        program_version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    write(&run.features(&foreign.name), &meta, &rows, &[], &StreamText { stream: &opened, tokenizer: &tokenizer })?;
    Ok((meta, report))
}

/// Two lists as pairs; nothing where they do not belong together.
fn pairs(indices: &[u32], values: &[f32]) -> Vec<(u32, f32)> {
    let sound = indices.len() == values.len() && values.iter().all(|v| v.is_finite());
    if sound { indices.iter().copied().zip(values.iter().copied()).collect() } else { vec![] }
}

fn triples(indices: &[u32], first: &[f32], second: &[f32]) -> Vec<(u32, f32, f32)> {
    pairs(indices, first).into_iter().zip(pairs(indices, second)).map(|((i, a), (_, b))| (i, a, b)).collect()
}

/// The documents that the contexts become.
#[derive(Default)]
struct Contexts {
    /// Bytes of token 1, 2, ...; 0 is `<|endoftext|>`.
    vocabulary: Vec<Vec<u8>>,
    known: HashMap<Vec<u8>, u32>,
    documents: Vec<Vec<u32>>,
    starts: Vec<u64>,
    n_tokens: u64,
    places: HashMap<Vec<u32>, usize>,
}

impl Contexts {
    fn token(&mut self, text: &str) -> u32 {
        let bytes = bytes_of(text);
        if let Some(&id) = self.known.get(&bytes) {
            return id;
        }
        let id = if bytes == END_OF_TEXT.as_bytes() {
            0
        } else {
            self.vocabulary.push(bytes.clone());
            self.vocabulary.len() as u32
        };
        self.known.insert(bytes, id);
        id
    }

    /// The firing that a context shows; none where the feature is silent in it.
    fn place(&mut self, a: &Activation) -> std::result::Result<Option<Firing>, ()> {
        if a.tokens.is_empty() || a.tokens.len() != a.values.len() || a.values.iter().any(|v| !v.is_finite()) {
            return Err(());
        }
        let strongest = (0..a.values.len()).max_by(|&x, &y| a.values[x].total_cmp(&a.values[y]).then(y.cmp(&x))).ok_or(())?;
        let named = usize::try_from(a.qualifying_token_index).ok();
        let focus = named.filter(|&i| a.values.get(i).is_some_and(|v| *v > 0.0)).unwrap_or(strongest);
        if a.values[focus] <= 0.0 {
            return Ok(None);
        }
        let ids: Vec<u32> = a.tokens.iter().map(|t| self.token(t)).collect();
        let doc = match self.places.get(&ids) {
            Some(&doc) => doc,
            None => {
                self.starts.push(self.n_tokens);
                // Its closing <|endoftext|> is a token of the stream.
                self.n_tokens += ids.len() as u64 + 1;
                self.places.insert(ids.clone(), self.documents.len());
                self.documents.push(ids);
                self.documents.len() - 1
            }
        };
        let near = |(i, v): (usize, &f32)| (*v > 0.0 && i.abs_diff(focus) <= REACH).then(|| ((i as i64 - focus as i64) as i8, *v));
        let around = a.values.iter().enumerate().filter_map(near).collect();
        Ok(Some(Firing { t: self.starts[doc] + focus as u64, act: a.values[focus], doc: doc as u32, around, ..Default::default() }))
    }
}

/// An empty token would be no token: it is shown as the replacement character.
fn bytes_of(text: &str) -> Vec<u8> {
    if text.is_empty() { "\u{fffd}".into() } else { token_bytes(text) }
}

/// Contexts of one interval belong together; the strongest have none.
#[derive(Debug, Clone, Copy, PartialEq)]
enum GroupKey {
    Top,
    Interval { low: f32, high: f32, share: f64 },
}

impl GroupKey {
    fn of(a: &Activation) -> Self {
        if a.bin_contains < 0.0 || a.bin_min < 0.0 {
            GroupKey::Top
        } else {
            GroupKey::Interval { low: a.bin_min, high: a.bin_max, share: a.bin_contains }
        }
    }
}

fn collected(feature: &Feature, placed: Vec<(GroupKey, Firing)>, n_tokens: u64, max: Option<f32>, stream: &Contexts) -> Collected {
    let n_active = (feature.frac_nonzero.clamp(0.0, 1.0) * n_tokens as f64).round() as u64;
    // A feature with a context that it fires in has fired, whatever its rounded density says.
    let n_active = n_active.max(u64::from(!placed.is_empty()));
    let shown_max = placed.iter().map(|(_, f)| f.act).fold(0.0, f32::max);
    let mut masses: HashMap<u32, TokenMass> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for (_, firing) in placed.iter().filter(|(_, f)| seen.insert(f.t)) {
        let place = firing.t - stream.starts[firing.doc as usize];
        let token = stream.documents[firing.doc as usize][place as usize];
        let mass = masses.entry(token).or_insert(TokenMass { token, n: 0, mass: 0.0 });
        mass.n += 1;
        mass.mass += f64::from(firing.act);
    }
    let mut top_tokens: Vec<TokenMass> = masses.into_values().collect();
    top_tokens.sort_by(|a, b| b.mass.total_cmp(&a.mass).then(a.token.cmp(&b.token)));
    let mass: f64 = top_tokens.iter().map(|t| t.mass).sum();
    let effective = effective_tokens(top_tokens.iter().map(|t| t.mass));
    top_tokens.truncate(N_TOP_TOKENS);
    let (values, heights) = (&feature.freq_hist_data_bar_values, &feature.freq_hist_data_bar_heights);
    let (n, sum) = values.iter().zip(heights).fold((0u64, 0.0), |(n, sum), (v, h)| (n.saturating_add(*h), sum + f64::from(*v) * *h as f64));
    Collected {
        n_active,
        max_act: max.filter(|m| m.is_finite() && *m > 0.0).unwrap_or(shown_max),
        mean_act: if n > 0 { (sum / n as f64) as f32 } else { 0.0 },
        histogram: histogram(values, heights),
        groups: groups(placed, n_active, n_tokens),
        top_tokens,
        mass,
        effective_tokens: effective,
        tokens_exact: false,
        correlated: triples(&feature.correlated_features_indices, &feature.correlated_features_pearson, &feature.correlated_features_l1)
            .into_iter()
            .map(|(unit, pearson, cosine)| Correlated { unit, pearson, cosine, sd: None })
            .collect(),
        neurons: triples(&feature.correlated_neurons_indices, &feature.correlated_neurons_pearson, &feature.correlated_neurons_l1),
        ..Default::default()
    }
}

/// Intervals from the strongest down, then the strongest contexts, as in a dictionary of ours.
fn groups(placed: Vec<(GroupKey, Firing)>, n_active: u64, n_tokens: u64) -> Vec<Group> {
    let mut keys: Vec<GroupKey> = vec![];
    placed.iter().for_each(|(key, _)| {
        if !keys.contains(key) {
            keys.push(*key)
        }
    });
    let low = |key: &GroupKey| if let GroupKey::Interval { low, .. } = key { *low } else { -1.0 };
    keys.sort_by(|a, b| low(b).total_cmp(&low(a)));
    let group = |key: GroupKey| {
        let firings: Vec<Firing> = placed.iter().filter(|(k, _)| *k == key).map(|(_, f)| f.clone()).collect();
        let most = firings.iter().map(|f| f.act).fold(0.0, f32::max);
        match key {
            GroupKey::Top => Group { kind: GroupKind::Top, low: 0.0, high: most, n_firings: n_active, share_mass: 0.0, firings },
            GroupKey::Interval { low, high, share } => {
                let n = (share.clamp(0.0, 1.0) * n_tokens as f64).round() as u64;
                // The lowest interval of SAEDashboard holds the tokens where the feature is silent too.
                Group { kind: GroupKind::Interval, low, high, n_firings: n.min(n_active), share_mass: 0.0, firings }
            }
        }
    };
    keys.into_iter().map(group).collect()
}

/// Centres of bins of equal width -> edges. The first edge is above 0, for a logarithmic axis.
fn histogram(centres: &[f32], counts: &[u64]) -> Histogram {
    let n = centres.len().min(counts.len());
    let rises = centres.windows(2).all(|w| w[0] < w[1]) && centres.iter().all(|c| c.is_finite());
    if n < 2 || !rises || centres[0] <= 0.0 {
        return Histogram::default();
    }
    let half = (centres[1] - centres[0]) / 2.0;
    let first = (centres[0] - half).max(centres[0] / 16.0);
    let edges = std::iter::once(first).chain(centres[..n].windows(2).map(|w| (w[0] + w[1]) / 2.0)).chain([centres[n - 1] + half]).collect();
    Histogram { edges, counts: counts[..n].to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_of_centres_has_their_edges() {
        let h = histogram(&[0.5, 1.5, 2.5], &[4, 0, 1]);
        // 0.5 - 0.5 would be 0, which a logarithmic axis has not.
        assert_eq!((h.edges, h.counts), (vec![0.03125, 1.0, 2.0, 3.0], vec![4, 0, 1]));
        for bad in [&[][..], &[1.0], &[2.0, 1.0], &[0.0, 1.0], &[f32::NAN, 1.0]] {
            assert_eq!(histogram(bad, &[1, 1]), Histogram::default());
        }
    }

    #[test]
    fn a_name_stays_in_its_folder() {
        for (name, want) in [("6-res-jb", "6-res-jb"), ("../../etc/x", "-..-etc-x"), ("..", "imported"), ("", "imported"), ("a/b\\c\0", "a-b-c-")] {
            assert_eq!(file_name(name), want);
        }
    }

    #[test]
    fn one_context_of_two_features_is_one_document() {
        let context = |tokens: [&str; 3], values: [f32; 3]| Activation {
            tokens: tokens.map(String::from).to_vec(),
            values: values.to_vec(),
            ..Default::default()
        };
        let mut stream = Contexts::default();
        let a = stream.place(&context(["a", " b", "a"], [0.0, 2.0, 1.0])).unwrap().unwrap();
        let b = stream.place(&context(["c", "a", ""], [0.0, 0.0, 3.0])).unwrap().unwrap();
        let c = stream.place(&context(["a", " b", "a"], [0.5, 0.0, 0.0])).unwrap().unwrap();
        assert_eq!((a.t, a.act, a.around), (1, 2.0, vec![(0, 2.0), (1, 1.0)]));
        // The first document is three tokens and its <|endoftext|>.
        assert_eq!((b.t, b.doc, c.t, c.doc), (6, 1, 0, 0));
        assert_eq!(stream.documents, [vec![1, 2, 1], vec![3, 1, 4]]);
        assert!(stream.place(&context(["a", "b", "c"], [0.0; 3])).unwrap().is_none(), "silent");
        assert!(stream.place(&context(["a", "b", "c"], [f32::NAN, 0.0, 1.0])).is_err());
        assert!(stream.place(&Activation { tokens: vec!["a".into()], ..Default::default() }).is_err());
    }
}
