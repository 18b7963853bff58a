//! Neuronpedia's bulk tree, written and read: `MODEL/SOURCE/{release,model,sourceset,source}.jsonl` and, gzipped, one JSON object to a line,
//! `features/`, `activations/` and `explanations/batch-N.jsonl.gz` with 1,024 features to a number.
//!
//! Its importer takes the columns of a table from the keys of the first line, so all lines of a file have the same keys. A label of ours
//! travels as an explanation whose `notes` hold its author and time as JSON. Every identifier is a hash of what it names and every time is
//! that of the dictionary, so the same dictionary gives the same bytes.

use super::dashboard::{Activation, Feature, is_neurons};
use super::{Folder, LabelText, Source, check};
use crate::artifact::{self, Progress};
use crate::features::store::FeatureDetail;
use crate::features::{Error, Result};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Features to a batch number.
const PER_BATCH: u32 = 1024;
/// Who made the rows; the importer of a server names its own account.
const CREATOR: &str = "monosem";
/// Longest line that is read, bytes: 1,024 tokens of text with their values are some 20 KB.
const MAX_LINE: u64 = 16 << 20;
/// Lines of one table that are read.
const MAX_LINES: usize = 20_000_000;

/// A line of `features/`. Keys that only the database has (map coordinates) are not written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeatureLine {
    pub model_id: String,
    /// The source, in spite of its name.
    pub layer: String,
    #[serde(deserialize_with = "number")]
    pub index: u32,
    #[serde(default)]
    pub creator_id: Option<String>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub max_act_approx: Option<f32>,
    #[serde(default)]
    pub has_vector: Option<bool>,
    #[serde(default)]
    pub vector: Option<Vec<f32>>,
    #[serde(default)]
    pub vector_label: Option<String>,
    #[serde(default)]
    pub vector_default_steer_strength: Option<f32>,
    #[serde(default)]
    pub hook_name: Option<String>,
    /// Features with the nearest decoder directions, and their cosines.
    #[serde(default)]
    pub topk_cos_sim_indices: Option<Vec<u32>>,
    #[serde(default)]
    pub topk_cos_sim_values: Option<Vec<f32>>,
    #[serde(default)]
    pub source_set_name: Option<String>,
    #[serde(flatten)]
    pub dashboard: Columns,
}

/// The columns that have SAEDashboard's names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    #[serde(default)]
    pub neuron_alignment_indices: Option<Vec<u32>>,
    #[serde(default)]
    pub neuron_alignment_values: Option<Vec<f32>>,
    #[serde(default)]
    pub neuron_alignment_l1: Option<Vec<f32>>,
    #[serde(default)]
    pub correlated_neurons_indices: Option<Vec<u32>>,
    #[serde(default)]
    pub correlated_neurons_pearson: Option<Vec<f32>>,
    #[serde(default)]
    pub correlated_neurons_l1: Option<Vec<f32>>,
    #[serde(default)]
    pub correlated_features_indices: Option<Vec<u32>>,
    #[serde(default)]
    pub correlated_features_pearson: Option<Vec<f32>>,
    #[serde(default)]
    pub correlated_features_l1: Option<Vec<f32>>,
    #[serde(default)]
    pub neg_str: Option<Vec<String>>,
    #[serde(default)]
    pub neg_values: Option<Vec<f32>>,
    #[serde(default)]
    pub pos_str: Option<Vec<String>>,
    #[serde(default)]
    pub pos_values: Option<Vec<f32>>,
    #[serde(default)]
    pub frac_nonzero: Option<f64>,
    #[serde(default)]
    pub freq_hist_data_bar_heights: Option<Vec<f64>>,
    #[serde(default)]
    pub freq_hist_data_bar_values: Option<Vec<f32>>,
    #[serde(default)]
    pub logits_hist_data_bar_heights: Option<Vec<f64>>,
    #[serde(default)]
    pub logits_hist_data_bar_values: Option<Vec<f32>>,
    #[serde(default)]
    pub decoder_weights_dist: Option<Vec<f32>>,
}

/// A line of `activations/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivationLine {
    #[serde(default)]
    pub id: String,
    pub tokens: Vec<String>,
    #[serde(deserialize_with = "number")]
    pub index: u32,
    pub layer: String,
    pub model_id: String,
    #[serde(default)]
    pub max_value: Option<f32>,
    #[serde(default)]
    pub max_value_token_index: Option<usize>,
    #[serde(default)]
    pub min_value: Option<f32>,
    pub values: Vec<f32>,
    #[serde(default)]
    pub creator_id: Option<String>,
    #[serde(default)]
    pub data_source: Option<String>,
    #[serde(default)]
    pub data_index: Option<String>,
    #[serde(default)]
    pub dfa_values: Option<Vec<f32>>,
    #[serde(default)]
    pub dfa_target_index: Option<i64>,
    #[serde(default)]
    pub dfa_max_value: Option<f32>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub loss_values: Option<Vec<f32>>,
    #[serde(default)]
    pub logit_contributions: Option<String>,
    #[serde(default)]
    pub bin_min: Option<f32>,
    #[serde(default)]
    pub bin_max: Option<f32>,
    #[serde(default)]
    pub bin_contains: Option<f64>,
    #[serde(default)]
    pub qualifying_token_index: Option<i64>,
    #[serde(default)]
    pub z_indices: Option<Value>,
    #[serde(default)]
    pub z_values: Option<Vec<f32>>,
}

/// A line of `explanations/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplanationLine {
    #[serde(default)]
    pub id: String,
    pub model_id: String,
    pub layer: String,
    #[serde(deserialize_with = "number")]
    pub index: u32,
    pub description: String,
    #[serde(default)]
    pub author_id: Option<String>,
    #[serde(default)]
    pub embedding: Option<Value>,
    #[serde(default)]
    pub triggered_by_id: Option<String>,
    #[serde(default)]
    pub type_name: Option<String>,
    #[serde(default)]
    pub explanation_model_name: Option<String>,
    #[serde(default)]
    pub notes: Option<String>,
    #[serde(default)]
    pub created_at: Option<String>,
}

/// `index` is a text column; the converter writes a number.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u32),
        Text(String),
    }
    match Either::deserialize(from)? {
        Either::Number(n) => Ok(n),
        Either::Text(text) => text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not the number of a feature"))),
    }
}

/// `0-main`: the layer and the set; of an imported dictionary the name that it had.
pub fn source_id(source: &Source) -> String {
    let meta = source.dictionary.meta();
    if meta.whole_documents {
        return meta.name.clone();
    }
    format!("{}-{}", source.layer(), source.set)
}

pub(super) fn write(source: &Source, to: &mut Folder, progress: &mut dyn Progress) -> Result<()> {
    let root = PathBuf::from(&source.model_id).join(source_id(source));
    heads(source, to, &root)?;
    let n_units = source.dictionary.meta().n_units;
    for (number, first) in (0..n_units).step_by(PER_BATCH as usize).enumerate() {
        let [mut features, mut activations, mut explanations] = [Zipped::new(), Zipped::new(), Zipped::new()];
        for id in first..(first + PER_BATCH).min(n_units) {
            check(progress)?;
            let (feature, detail) = Feature::read(source, id)?;
            for (i, activation) in feature.activations.iter().enumerate() {
                activations.line(&activation_line(source, id, i, activation));
            }
            self::explanations(source, id).iter().for_each(|line| explanations.line(line));
            features.line(&feature_line(source, feature, &detail));
            progress.advance(1);
        }
        for (table, lines) in [("features", features), ("activations", activations), ("explanations", explanations)] {
            let bytes = lines.finish();
            to.file(root.join(table).join(format!("batch-{number}.jsonl.gz")), |out| out.write_all(&bytes))?;
        }
    }
    Ok(())
}

/// The four files of one line.
fn heads(source: &Source, to: &mut Folder, root: &Path) -> Result<()> {
    let meta = source.dictionary.meta();
    let (model, set, id, at) = (&source.model_id, &source.set, source_id(source), &source.created_at);
    let what = if is_neurons(source) { "MLP neurons" } else { "features of a sparse autoencoder" };
    let about = format!("{} {what} at {} of {model}, over {} tokens", meta.n_units, meta.hook, meta.n_tokens);
    let (d_model, n_layers) = source.lm.map_or((0, source.layer() + 1), |lm| (lm.config.d_model, lm.config.n_layers));
    let d_mlp = source.lm.map_or(meta.d_in, |lm| lm.config.d_mlp);
    let mut line = |name: &str, value: Value| to.file(root.join(name), |out| writeln!(out, "{value}"));
    line(
        "release.jsonl",
        json!({ "name": set, "description": about, "creatorName": CREATOR, "creatorId": CREATOR, "visibility": "UNLISTED", "isNewUi": true,
            "featured": false, "descriptionShort": what, "urls": [], "creatorEmail": null, "creatorNameShort": CREATOR,
            "defaultSourceSetName": set, "defaultSourceId": id, "defaultUmapSourceIds": [], "createdAt": at }),
    )?;
    line(
        "model.jsonl",
        json!({ "id": model, "instruct": false, "creatorId": CREATOR, "displayNameShort": model, "displayName": model, "tlensId": null,
            "dimension": d_model, "visibility": "UNLISTED", "defaultSourceSetName": set, "defaultSourceId": id, "inferenceEnabled": false,
            "layers": n_layers, "neuronsPerLayer": d_mlp, "createdAt": at, "owner": CREATOR, "updatedAt": at, "website": null }),
    )?;
    line(
        "sourceset.jsonl",
        json!({ "modelId": model, "name": set, "creatorId": CREATOR, "hasDashboards": true, "visibility": "UNLISTED", "description": about,
            "type": what, "creatorName": CREATOR, "urls": [], "creatorEmail": null, "releaseName": set, "defaultOfModelId": null,
            "defaultRange": 1, "defaultShowBreaks": true, "showDfa": false, "showCorrelated": false, "showHeadAttribution": false,
            "showUmap": false, "createdAt": at }),
    )?;
    line(
        "source.jsonl",
        json!({ "id": id, "modelId": model, "setName": set, "creatorId": CREATOR, "hasDashboards": true, "inferenceEnabled": false,
            "inferenceHosts": [], "saelensConfig": null, "saelensRelease": null, "saelensSaeId": null, "hfRepoId": null, "hfFolderId": null,
            "visibility": "UNLISTED", "defaultOfModelId": null, "hasUmap": false, "hasUmapLogSparsity": false, "hasUmapClusters": false,
            "num_prompts": meta.n_tokens / (meta.n_ctx as u64 - 1).max(1), "num_tokens_in_prompt": meta.n_ctx, "dataset": source.dataset,
            "notes": json!({ "monosem": meta }).to_string(), "createdAt": at }),
    )
}

fn feature_line(source: &Source, f: Feature, detail: &FeatureDetail) -> FeatureLine {
    let heights = |counts: Vec<u64>| Some(counts.into_iter().map(|n| n as f64).collect());
    FeatureLine {
        model_id: source.model_id.clone(),
        layer: source_id(source),
        index: f.feature_index,
        creator_id: Some(CREATOR.into()),
        created_at: Some(source.created_at.clone()),
        max_act_approx: Some(detail.summary.max_act),
        has_vector: Some(false),
        vector: Some(vec![]),
        vector_label: None,
        vector_default_steer_strength: None,
        hook_name: Some(source.dictionary.meta().hook.clone()),
        topk_cos_sim_indices: Some(detail.similar.iter().map(|n| n.id).collect()),
        topk_cos_sim_values: Some(detail.similar.iter().map(|n| n.value).collect()),
        source_set_name: Some(source.set.clone()),
        dashboard: Columns {
            neuron_alignment_indices: Some(f.neuron_alignment_indices),
            neuron_alignment_values: Some(f.neuron_alignment_values),
            neuron_alignment_l1: Some(f.neuron_alignment_l1),
            correlated_neurons_indices: Some(f.correlated_neurons_indices),
            correlated_neurons_pearson: Some(f.correlated_neurons_pearson),
            correlated_neurons_l1: Some(f.correlated_neurons_l1),
            correlated_features_indices: Some(f.correlated_features_indices),
            correlated_features_pearson: Some(f.correlated_features_pearson),
            correlated_features_l1: Some(f.correlated_features_l1),
            neg_str: Some(f.neg_str),
            neg_values: Some(f.neg_values),
            pos_str: Some(f.pos_str),
            pos_values: Some(f.pos_values),
            frac_nonzero: Some(f.frac_nonzero),
            freq_hist_data_bar_heights: heights(f.freq_hist_data_bar_heights),
            freq_hist_data_bar_values: Some(f.freq_hist_data_bar_values),
            logits_hist_data_bar_heights: heights(f.logits_hist_data_bar_heights),
            logits_hist_data_bar_values: Some(f.logits_hist_data_bar_values),
            decoder_weights_dist: Some(f.decoder_weights_dist),
        },
    }
}

fn activation_line(source: &Source, index: u32, place: usize, a: &Activation) -> ActivationLine {
    let most = a.values.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1).then(y.0.cmp(&x.0)));
    ActivationLine {
        id: identifier(&[&source.model_id, &source_id(source), &index.to_string(), "activation", &place.to_string()]),
        tokens: a.tokens.clone(),
        index,
        layer: source_id(source),
        model_id: source.model_id.clone(),
        max_value: Some(most.map_or(0.0, |m| *m.1)),
        max_value_token_index: Some(most.map_or(0, |m| m.0)),
        min_value: Some(a.values.iter().copied().fold(f32::INFINITY, f32::min).min(most.map_or(0.0, |m| *m.1))),
        values: a.values.clone(),
        creator_id: Some(CREATOR.into()),
        data_source: Some(source.dataset.clone()),
        data_index: None,
        dfa_values: Some(a.dfa_values.clone()),
        dfa_target_index: None,
        dfa_max_value: None,
        created_at: Some(source.created_at.clone()),
        loss_values: Some(vec![]),
        logit_contributions: None,
        bin_min: Some(a.bin_min),
        bin_max: Some(a.bin_max),
        bin_contains: Some(a.bin_contains),
        qualifying_token_index: Some(a.qualifying_token_index),
        z_indices: None,
        z_values: None,
    }
}

/// One feature as `GET /api/feature/MODEL/SOURCE/INDEX` answers: its line, with `activations` and `explanations` inside.
pub fn whole(source: &Source, id: u32) -> Result<Value> {
    let (feature, detail) = Feature::read(source, id)?;
    let activations: Vec<ActivationLine> = feature.activations.iter().enumerate().map(|(i, a)| activation_line(source, id, i, a)).collect();
    let mut line = json!(feature_line(source, feature, &detail));
    // The server's own answer has the text of its column.
    line["index"] = id.to_string().into();
    line["activations"] = json!(activations);
    line["explanations"] = json!(explanations(source, id));
    Ok(line)
}

/// Labels of one feature as explanations.
pub fn explanations(source: &Source, id: u32) -> Vec<ExplanationLine> {
    source.labels_of(id).iter().enumerate().map(|(i, label)| explanation_line(source, i, label)).collect()
}

/// What `notes` hold of a label.
#[derive(Serialize, Deserialize)]
struct Notes {
    author: String,
    time: String,
}

fn explanation_line(source: &Source, place: usize, label: &LabelText) -> ExplanationLine {
    let notes = Notes { author: label.author.clone(), time: label.time.clone() };
    ExplanationLine {
        id: identifier(&[&source.model_id, &source_id(source), &label.latent.to_string(), "explanation", &place.to_string(), &label.text]),
        model_id: source.model_id.clone(),
        layer: source_id(source),
        index: label.latent,
        description: label.text.clone(),
        author_id: Some(CREATOR.into()),
        embedding: None,
        triggered_by_id: None,
        type_name: None,
        explanation_model_name: None,
        notes: Some(serde_json::to_string(&notes).expect("notes are plain data")),
        created_at: Some(label.time.clone()),
    }
}

impl ExplanationLine {
    /// The label that it is: by the author in our notes, or by the method and the model that made it.
    pub fn label(&self) -> LabelText {
        let notes: Option<Notes> = self.notes.as_deref().and_then(|n| serde_json::from_str(n).ok());
        let (author, time) = match notes {
            Some(Notes { author, time }) => (author, time),
            None => {
                let made_by = [&self.explanation_model_name, &self.type_name].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
                let author = if made_by.is_empty() { self.author_id.clone().unwrap_or_else(|| "neuronpedia".into()) } else { made_by };
                (author, self.created_at.clone().unwrap_or_default())
            }
        };
        LabelText { latent: self.index, text: self.description.clone(), author, time }
    }
}

/// 25 characters like a cuid2, a letter first, that depend on `parts` alone.
fn identifier(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let hash = hasher.finalize();
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let pick = |(i, byte): (usize, &u8)| letters[*byte as usize % if i == 0 { 26 } else { 36 }] as char;
    hash.as_bytes().iter().take(25).enumerate().map(pick).collect()
}

/// JSON lines in gzip, level 5 as Neuronpedia's own exporter writes.
struct Zipped(GzEncoder<Vec<u8>>);

impl Zipped {
    fn new() -> Self {
        Zipped(GzEncoder::new(vec![], Compression::new(5)))
    }

    fn line<T: Serialize>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.0, value)
            .and_then(|()| self.0.write_all(b"\n").map_err(serde_json::Error::io))
            .expect("memory takes every line");
    }

    fn finish(self) -> Vec<u8> {
        self.0.finish().expect("memory takes every byte")
    }
}

/// A tree that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    /// The one line of `source.jsonl`; null where the file is missing.
    pub source: Value,
    pub features: Vec<FeatureLine>,
    pub activations: Vec<ActivationLine>,
    pub explanations: Vec<ExplanationLine>,
}

/// Reads the folder of one source, or a folder above it that holds only one.
///
/// # Errors
/// No or more than one source; a line that is too long or not what its table holds, with file and line.
pub fn read(folder: &Path) -> Result<Tree> {
    let folder = source_folder(folder)?;
    let head = folder.join("source.jsonl");
    let source = if head.is_file() {
        lines::<Value>(&head, File::open(&head).map_err(|e| artifact::Error::io("read", &head, e))?)?.into_iter().next().unwrap_or_default()
    } else {
        Value::Null
    };
    Ok(Tree {
        source,
        features: table(&folder, "features")?,
        activations: table(&folder, "activations")?,
        explanations: table(&folder, "explanations")?,
    })
}

fn table<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Vec<T>> {
    let folder = folder.join(name);
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    let mut all = vec![];
    for (_, path) in batches(&folder, ".jsonl.gz")? {
        let file = File::open(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        all.extend(lines::<T>(&path, MultiGzDecoder::new(BufReader::new(file)))?);
        if all.len() > MAX_LINES {
            return Err(Error::Invalid(format!("{} holds more than {MAX_LINES} lines\n  import a part of it", folder.display())));
        }
    }
    Ok(all)
}

/// Lines of JSON, of at most [`MAX_LINE`] bytes each, so that a small file cannot unpack into all memory at once.
pub fn lines<T: DeserializeOwned>(path: &Path, from: impl Read) -> Result<Vec<T>> {
    let mut from = BufReader::new(from);
    let (mut found, mut line) = (vec![], vec![]);
    for number in 1.. {
        line.clear();
        let n = (&mut from).take(MAX_LINE + 1).read_until(b'\n', &mut line).map_err(|e| artifact::Error::io("read", path, e))?;
        if n == 0 {
            break;
        }
        let bad =
            |what: String| Error::Invalid(format!("{}, line {number}: {what}\n  nothing was imported; mend or remove the line", path.display()));
        if n as u64 > MAX_LINE {
            return Err(bad(format!("it is longer than {MAX_LINE} bytes")));
        }
        if found.len() >= MAX_LINES {
            return Err(bad(format!("there are more than {MAX_LINES} lines")));
        }
        if !line.trim_ascii().is_empty() {
            found.push(serde_json::from_slice(&line).map_err(|e| bad(e.to_string()))?);
        }
    }
    Ok(found)
}

/// `batch-N` files of a folder with this ending, by number.
pub(super) fn batches(folder: &Path, ending: &str) -> Result<Vec<(u64, PathBuf)>> {
    let entries = std::fs::read_dir(folder).map_err(|e| artifact::Error::io("list", folder, e))?;
    let number = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let n = name.strip_prefix("batch-")?.strip_suffix(ending)?.parse().ok()?;
        Some((n, path))
    };
    let mut found: Vec<(u64, PathBuf)> = entries.flatten().filter_map(|e| number(e.path())).collect();
    found.sort();
    Ok(found)
}

/// The folder with `features/` in it: `folder`, or the only one at most three levels below.
fn source_folder(folder: &Path) -> Result<PathBuf> {
    let mut level = vec![folder.to_path_buf()];
    for _ in 0..4 {
        let found: Vec<&PathBuf> = level.iter().filter(|f| f.join("features").is_dir()).collect();
        match found[..] {
            [one] => return Ok(one.clone()),
            [] => {}
            [a, b, ..] => {
                return Err(Error::Invalid(format!(
                    "{} holds several sources\n  name one, such as {} or {}",
                    folder.display(),
                    a.display(),
                    b.display()
                )));
            }
        }
        let below = |f: &PathBuf| std::fs::read_dir(f).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect::<Vec<_>>();
        level = level.iter().flat_map(below).take(10_000).collect();
        level.sort();
    }
    Err(Error::Invalid(format!("{} holds no source of Neuronpedia\n  name a folder with features/batch-0.jsonl.gz in it", folder.display())))
}
