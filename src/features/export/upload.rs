//! Bodies for Neuronpedia's upload API: `source-set.json` for `POST /api/source-set/new`, `upload-N.json` of at most 128 features each for
//! `POST /api/feature/upload-batch`. Nothing is sent: that needs an API key, which this program does not ask for.

use super::dashboard::{Activation, Feature};
use super::{Folder, LabelText, Source, check};
use crate::artifact::Progress;
use crate::features::Result;
use serde::{Deserialize, Serialize};

/// Limits of the server. Source: Neuronpedia (August 2026), `api/feature/upload-batch`.
const PER_BODY: usize = 128;
const MAX_LOGITS: usize = 20;
const MAX_TOKENS: usize = 1024;
const MAX_TEXT: usize = 512;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    pub model_id: String,
    pub source: String,
    pub features: Vec<UploadFeature>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadFeature {
    pub index: u32,
    pub density: f64,
    pub top_logits: Vec<Logit>,
    pub bottom_logits: Vec<Logit>,
    pub explanations: Vec<Explanation>,
    pub activations: Vec<UploadActivation>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logit {
    pub token: String,
    pub value: f32,
}

/// `methodName` and `modelName` must be known to the server, so labels of people go without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadActivation {
    pub tokens: Vec<String>,
    pub values: Vec<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile_min: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile_max: Option<f32>,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile_fraction: Option<f64>,
}

pub(super) fn write(source: &Source, to: &mut Folder, progress: &mut dyn Progress) -> Result<()> {
    let meta = source.dictionary.meta();
    let description: String = format!("{} of {} over {} tokens, by monosem", meta.name, meta.hook, meta.n_tokens).chars().take(128).collect();
    to.json("source-set.json", &serde_json::json!({ "name": source.set, "modelId": source.model_id, "description": description, "url": "" }))?;
    let (mut features, mut n_bodies) = (vec![], 0);
    for id in 0..meta.n_units {
        check(progress)?;
        let (feature, _) = Feature::read(source, id)?;
        // The server wants an activation of every feature: dead ones stay at home.
        if !feature.activations.is_empty() {
            features.push(upload(feature, source.labels_of(id)));
        }
        if features.len() == PER_BODY || (id + 1 == meta.n_units && !features.is_empty()) {
            let body =
                Body { model_id: source.model_id.clone(), source: super::neuronpedia::source_id(source), features: std::mem::take(&mut features) };
            to.json(format!("upload-{n_bodies:04}.json"), &body)?;
            n_bodies += 1;
        }
        progress.advance(1);
    }
    Ok(())
}

fn upload(feature: Feature, labels: &[LabelText]) -> UploadFeature {
    let logits = |tokens: Vec<String>, values: Vec<f32>| {
        tokens.into_iter().zip(values).take(MAX_LOGITS).map(|(token, value)| Logit { token, value }).collect::<Vec<_>>()
    };
    let cut = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
    UploadFeature {
        index: feature.feature_index,
        density: feature.frac_nonzero,
        top_logits: logits(feature.pos_str, feature.pos_values),
        bottom_logits: logits(feature.neg_str, feature.neg_values),
        explanations: labels.iter().map(|l| Explanation { text: cut(&l.text) }).collect(),
        activations: feature.activations.into_iter().map(activation).collect(),
    }
}

/// The strongest have no interval.
fn activation(a: Activation) -> UploadActivation {
    let interval = (a.bin_contains >= 0.0).then_some((a.bin_min, a.bin_max, a.bin_contains));
    let n = a.tokens.len();
    let kept = n.min(MAX_TOKENS);
    // Cut so that the token that fires stays.
    let from = usize::try_from(a.qualifying_token_index).unwrap_or(0).saturating_sub(kept / 2).min(n - kept);
    UploadActivation {
        tokens: a.tokens[from..from + kept].to_vec(),
        values: a.values[from..from + kept].to_vec(),
        quantile_min: interval.map(|i| i.0),
        quantile_max: interval.map(|i| i.1),
        quantile_fraction: interval.map(|i| i.2.clamp(0.0, 1.0)),
    }
}
