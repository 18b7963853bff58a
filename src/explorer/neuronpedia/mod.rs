//! The most used questions of Neuronpedia's HTTP API, with its bodies, so that a notebook written for it works against this server. Knows one
//! model (the run) and its sources: the SAE and the neurons.
//!
//! Of its conventions: the model's id is the run's name, a source's `LAYER-NAME`; a text is read after `<|endoftext|>`, which is token 0 of
//! every answer; positions that the dictionary does not count (token 0, first positions of windows) have the value 0. Densities are those of
//! the dictionary. Source of the bodies: neuronpedia.org/api-doc and `apps/webapp` (August 2026).

pub mod handlers;

use super::app::{App, Model, Page, Problem};
use super::live;
use super::steering::MAX_TOKENS;
use super::view::Units;
use crate::corpus::counts;
use crate::features::export::dashboard::token_text;
use crate::features::export::neuronpedia::{explanations, source_id, whole};
use crate::features::export::{LabelText, Source, slug};
use crate::features::store::{FeatureSummary, TokenText};
use crate::features::text::StreamText;
use crate::features::{Dictionary, NEURONS};
use crate::intervene::write::{Rig, Writing};
use crate::intervene::{LatentEdit, Rule, Steering, steer};
use crate::lm::{Engine, Sampling};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Results of one question, at most.
const MAX_RESULTS: usize = 100;
/// Features of one token, at most.
const MAX_PER_TOKEN: usize = 20;
/// Labels on a page of a search for them.
const PER_PAGE: usize = 20;

/// A number, or a text of one: clients send both.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Index {
    Number(u32),
    Text(String),
}

impl Index {
    fn number(&self) -> Page<u32> {
        match self {
            Index::Number(n) => Ok(*n),
            Index::Text(text) => super::server::id_of(text),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchAll {
    pub model_id: String,
    #[serde(default)]
    pub source_set: Option<String>,
    pub text: String,
    #[serde(default)]
    pub selected_layers: Vec<String>,
    /// Tokens whose activations are summed to rank by; none: the largest of all.
    #[serde(default)]
    pub sort_indexes: Vec<usize>,
    /// Below 0: no limit.
    #[serde(default = "no_limit")]
    pub density_threshold: f64,
    #[serde(default)]
    pub num_results: Option<usize>,
}

fn no_limit() -> f64 {
    -1.0
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopByToken {
    pub model_id: String,
    #[serde(alias = "layer")]
    pub source: String,
    pub text: String,
    #[serde(default)]
    pub num_results: Option<usize>,
    #[serde(default = "one_percent")]
    pub density_threshold: f64,
}

fn one_percent() -> f64 {
    0.01
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewActivation {
    pub feature: NamedFeature,
    pub custom_text: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedFeature {
    pub model_id: String,
    #[serde(alias = "layer")]
    pub source: String,
    pub index: Index,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceActivation {
    pub model_id: String,
    pub source: String,
    pub custom_text: String,
}

#[derive(Debug, Deserialize)]
pub struct Steer {
    pub prompt: String,
    #[serde(rename = "modelId")]
    pub model_id: String,
    pub features: Vec<SteerFeature>,
    #[serde(default = "temperature")]
    pub temperature: f32,
    #[serde(default = "n_tokens")]
    pub n_tokens: usize,
    #[serde(default)]
    pub seed: u64,
    #[serde(default = "multiplier")]
    pub strength_multiplier: f32,
    #[serde(default)]
    pub steer_method: Option<String>,
    #[serde(default)]
    pub stream: bool,
}

#[derive(Debug, Deserialize)]
pub struct SteerFeature {
    #[serde(flatten)]
    pub feature: NamedFeature,
    pub strength: f32,
}

fn temperature() -> f32 {
    0.5
}
fn n_tokens() -> usize {
    48
}
fn multiplier() -> f32 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchExplanations {
    pub model_id: String,
    #[serde(default)]
    pub layers: Vec<String>,
    pub query: String,
    #[serde(default)]
    pub offset: usize,
}

/// What fires where on a text: `values[latent]` are (token, act), token 0 being `<|endoftext|>`.
struct Read {
    tokens: Vec<String>,
    values: BTreeMap<u32, Vec<(usize, f32)>>,
}

impl Read {
    fn dense(&self, latent: u32) -> Vec<f32> {
        let mut dense = vec![0.0; self.tokens.len()];
        self.values.get(&latent).into_iter().flatten().for_each(|&(i, act)| dense[i] = act);
        dense
    }
}

impl App {
    pub fn np_feature(&self, model: &str, source: &str, index: &str) -> Page<Value> {
        let units = self.source_units(model, source)?;
        let id = super::server::id_of(index)?;
        self.with_source(units, Some(id), |source, _| Ok(whole(source, id)?))
    }

    pub fn np_search_all(&self, ask: &SearchAll) -> Page<Value> {
        self.check_model(&ask.model_id)?;
        let read = self.read(&ask.text)?;
        let n = ask.num_results.unwrap_or(50).min(MAX_RESULTS);
        self.with_source(Units::Features, None, |source, dictionary| {
            let (id, summaries) = (source_id(source), self.summaries(Units::Features, dictionary)?);
            let asked_for = |name: &str| name == id || name == self.sae;
            let ours = ask.selected_layers.is_empty() || ask.selected_layers.iter().any(|layer| asked_for(layer));
            let set_is_ours = ask.source_set.as_deref().is_none_or(|set| set.is_empty() || set == source.set || asked_for(set));
            let score = |places: &[(usize, f32)]| match ask.sort_indexes.is_empty() {
                true => places.iter().map(|p| p.1).fold(0.0, f32::max),
                false => places.iter().filter(|p| ask.sort_indexes.contains(&p.0)).map(|p| p.1).sum(),
            };
            let mut ranked: Vec<(f32, u32)> = read
                .values
                .iter()
                .filter(|(latent, _)| ours && set_is_ours && within(**latent, ask.density_threshold, &summaries))
                .map(|(&latent, places)| (score(places), latent))
                .filter(|r| r.0 > 0.0)
                .collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            ranked.truncate(n);
            let result = |&(_, latent): &(f32, u32)| {
                let values = read.dense(latent);
                let most = strongest(&values);
                json!({ "modelId": source.model_id, "layer": id, "index": latent.to_string(), "values": values,
                    "maxValue": values[most], "maxValueIndex": most, "dfaValues": [], "neuron": self.np_brief(source, latent, &summaries) })
            };
            Ok(json!({ "tokens": read.tokens, "result": ranked.iter().map(result).collect::<Vec<_>>(), "sortIndexes": ask.sort_indexes }))
        })
    }

    pub fn np_top_by_token(&self, ask: &TopByToken) -> Page<Value> {
        self.needs_features(&ask.model_id, &ask.source)?;
        let read = self.read(&ask.text)?;
        let n = ask.num_results.unwrap_or(10).min(MAX_PER_TOKEN);
        self.with_source(Units::Features, None, |source, dictionary| {
            let summaries = self.summaries(Units::Features, dictionary)?;
            let mut of_token: Vec<Vec<(f32, u32)>> = vec![vec![]; read.tokens.len()];
            for (&latent, places) in read.values.iter().filter(|(latent, _)| within(**latent, ask.density_threshold, &summaries)) {
                places.iter().for_each(|&(i, act)| of_token[i].push((act, latent)));
            }
            let results = of_token.into_iter().zip(&read.tokens).enumerate().map(|(position, (mut top, token))| {
                top.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                let feature = |(act, latent): (f32, u32)| {
                    json!({ "activationValue": act, "featureIndex": latent, "feature": self.np_brief(source, latent, &summaries) })
                };
                json!({ "position": position, "token": token, "topFeatures": top.into_iter().take(n).map(feature).collect::<Vec<_>>() })
            });
            Ok(json!({ "results": results.collect::<Vec<_>>() }))
        })
    }

    pub fn np_activation(&self, ask: &NewActivation) -> Page<Value> {
        self.needs_features(&ask.feature.model_id, &ask.feature.source)?;
        let id = ask.feature.index.number()?;
        let read = self.read(&ask.custom_text)?;
        self.with_source(Units::Features, Some(id), |source, dictionary| {
            dictionary.summary(id)?;
            let values = read.dense(id);
            let most = strongest(&values);
            Ok(json!({ "modelId": source.model_id, "layer": source_id(source), "index": id.to_string(), "tokens": read.tokens,
                "maxValue": values[most], "maxValueTokenIndex": most, "minValue": values.iter().copied().fold(f32::INFINITY, f32::min),
                "values": values, "dfaValues": [], "dfaTargetIndex": null, "dfaMaxValue": null, "lossValues": [] }))
        })
    }

    pub fn np_source_activation(&self, ask: &SourceActivation) -> Page<Value> {
        self.needs_features(&ask.model_id, &ask.source)?;
        let read = self.read(&ask.custom_text)?;
        let active: serde_json::Map<String, Value> = read.values.iter().map(|(latent, places)| (latent.to_string(), json!(places))).collect();
        Ok(json!({ "results": [{ "tokens": read.tokens, "activeFeatures": active }] }))
    }

    /// Both texts begin with the prompt. A strength is added to the activation, which for decoder directions of length 1 is what Neuronpedia
    /// adds to the hook.
    pub fn np_steer(&self, ask: &Steer) -> Page<Value> {
        self.check_model(&ask.model_id)?;
        if ask.stream {
            return Err(Problem::bad("This server sends whole texts: stream must be false."));
        }
        if ask.steer_method.as_deref().is_some_and(|m| m != "SIMPLE_ADDITIVE") {
            return Err(Problem::bad("This server steers by SIMPLE_ADDITIVE only."));
        }
        super::steering::check_sampling(&ask.prompt, ask.n_tokens, ask.temperature)?;
        if ask.features.is_empty() || ask.features.len() > MAX_RESULTS {
            return Err(Problem::bad(&format!("features must name 1 to {MAX_RESULTS}.")));
        }
        let dictionary = self.dictionary(Units::Features)?;
        let mut edits = vec![];
        for asked in &ask.features {
            self.needs_features(&asked.feature.model_id, &asked.feature.source)?;
            let latent = asked.feature.index.number()?;
            dictionary.summary(latent)?;
            edits.push(LatentEdit::new(latent, Rule::Add(asked.strength * ask.strength_multiplier)));
        }
        let steering = Steering::of(edits);
        let sampling = Sampling { temperature: ask.temperature, top_k: None, top_p: None, seed: ask.seed };
        let n = ask.n_tokens.min(MAX_TOKENS);
        let both = self.with_model(dictionary.meta(), |model| {
            let Model { engine, sae, hook, .. } = model;
            let lm = engine.lm();
            let rig = Rig { lm: &lm, tokenizer: &self.tokenizer, sae, hook: *hook };
            let failed = |e| Problem::new(400, "The text cannot be written with this edit", &e);
            steer(rig, &steering, &rig.prompt(&ask.prompt), &Writing::new(n, &sampling), &mut |_, _: &_| ControlFlow::Continue(())).map_err(failed)
        })?;
        let text = |tokens: &[u32]| format!("{}{}", ask.prompt, String::from_utf8_lossy(&self.tokenizer.decode_bytes(tokens)));
        Ok(json!({ "DEFAULT": text(&both.unedited.tokens), "STEERED": text(&both.edited.tokens) }))
    }

    /// Labels that hold every word of the query, those that hold it whole first. Neuronpedia ranks by an embedding; there is none here.
    pub fn np_explanations(&self, ask: &SearchExplanations) -> Page<Value> {
        self.check_model(&ask.model_id)?;
        let query = ask.query.trim().to_lowercase();
        if query.chars().count() < 3 || query.chars().count() > super::list::MAX_QUERY {
            return Err(Problem::bad(&format!("query must have 3 to {} characters.", super::list::MAX_QUERY)));
        }
        self.with_source(Units::Features, None, |source, dictionary| {
            let (id, summaries) = (source_id(source), self.summaries(Units::Features, dictionary)?);
            let ours = ask.layers.is_empty() || ask.layers.iter().any(|l| *l == id || *l == self.sae);
            let mut found: Vec<(bool, &LabelText)> = vec![];
            for label in source.labels.iter().filter(|_| ours) {
                let text = label.text.to_lowercase();
                if query.split_whitespace().all(|word| text.contains(word)) {
                    found.push((!text.contains(&query), label));
                }
            }
            found.sort_by_key(|f| (f.0, f.1.latent));
            let next = ask.offset.saturating_add(PER_PAGE);
            let has_more = found.len() > next;
            let result = |label: &LabelText| {
                json!({ "modelId": source.model_id, "layer": id, "index": label.latent.to_string(), "description": label.text,
                    "explanationModelName": null, "typeName": null, "authorName": label.author,
                    "neuron": self.np_brief(source, label.latent, &summaries) })
            };
            let results: Vec<Value> = found.iter().skip(ask.offset).take(PER_PAGE).map(|f| result(f.1)).collect();
            Ok(json!({
                "request": { "modelId": ask.model_id, "layers": ask.layers, "query": ask.query, "offset": ask.offset },
                "resultsCount": results.len(), "results": results, "hasMore": has_more, "nextOffset": if has_more { json!(next) } else { Value::Null },
            }))
        })
    }

    /// A feature in a list: enough to name it.
    fn np_brief(&self, source: &Source, id: u32, summaries: &[FeatureSummary]) -> Value {
        let summary = summaries.get(id as usize);
        json!({ "modelId": source.model_id, "layer": source_id(source), "index": id.to_string(), "sourceSetName": source.set,
            "maxActApprox": summary.map(|s| s.max_act), "frac_nonzero": summary.map(|s| s.density),
            "hookName": source.dictionary.meta().hook, "explanations": explanations(source, id) })
    }

    fn model_id(&self) -> String {
        slug(&self.run.name())
    }

    fn check_model(&self, model: &str) -> Page<()> {
        if model == self.model_id() || model == self.run.name() {
            return Ok(());
        }
        Err(Problem::not_found(&format!("There is no model {:?} here; modelId is {:?}.", short(model), self.model_id())))
    }

    /// Which dictionary a source is.
    fn source_units(&self, model: &str, source: &str) -> Page<Units> {
        self.check_model(model)?;
        for (units, name) in [(Units::Features, self.sae.as_str()), (Units::Neurons, NEURONS)] {
            let Ok(dictionary) = self.dictionary(units) else { continue };
            let layer = dictionary.meta().hook.parse::<crate::lm::HookPoint>().map_or(0, |h| h.layer);
            if source == name || source == format!("{layer}-{}", slug(name)) {
                return Ok(units);
            }
        }
        let features = self.with_source(Units::Features, Some(0), |source, _| Ok(source_id(source)))?;
        Err(Problem::not_found(&format!("There is no source {:?} here; the source of the features is {features:?}.", short(source))))
    }

    fn needs_features(&self, model: &str, source: &str) -> Page<()> {
        match self.source_units(model, source)? {
            Units::Features => Ok(()),
            Units::Neurons => Err(Problem::bad("Texts are read by the SAE here, not by neurons.")),
        }
    }

    /// Runs `work` with a dictionary as Neuronpedia names it; with the labels of one feature, or of all.
    fn with_source<T>(&self, units: Units, id: Option<u32>, work: impl FnOnce(&Source, &Dictionary) -> Page<T>) -> Page<T> {
        let dictionary = self.dictionary(units)?;
        let meta = dictionary.meta();
        let listed = self.labels(units)?.map_or(Ok(vec![]), |labels| labels.list(&meta.weights_hash, id))?;
        let labels: Vec<LabelText> =
            listed.into_iter().map(|l| LabelText { latent: l.latent, text: l.text, author: l.author, time: l.time }).collect();
        let source = Source {
            dictionary: &dictionary,
            text: &StreamText { stream: &self.stream, tokenizer: &self.tokenizer },
            labels: &labels,
            directions: None,
            lm: None,
            model_id: self.model_id(),
            set: slug(if units == Units::Neurons { NEURONS } else { &self.sae }),
            dataset: format!("{} ({})", self.run.name(), meta.tokens_from),
            created_at: String::new(),
        };
        work(&source, &dictionary)
    }

    fn read(&self, text: &str) -> Page<Read> {
        if text.is_empty() || text.chars().count() > live::MAX_CHARS {
            return Err(Problem::bad(&format!("A text has 1 to {} characters here.", live::MAX_CHARS)));
        }
        let dictionary = self.dictionary(Units::Features)?;
        let end = self.tokenizer.end_of_text();
        let mut ids = vec![end];
        ids.extend(self.tokenizer.encode(text));
        let (acts, n_ctx) = self.with_model(dictionary.meta(), |model| {
            let n_ctx = model.engine.config().n_ctx;
            Ok((live::encode(model, &ids).clone(), n_ctx))
        })?;
        let mut values: BTreeMap<u32, Vec<(usize, f32)>> = BTreeMap::new();
        for (i, _) in ids.iter().enumerate().filter(|(i, id)| counts(**id, i % n_ctx, end)) {
            let (latents, found) = acts.row(i);
            latents.iter().zip(found).for_each(|(&latent, &act)| values.entry(latent).or_default().push((i, act)));
        }
        let tokens = ids.iter().map(|&id| token_text(&TokenText::new(id, self.tokenizer.bytes(id)))).collect();
        Ok(Read { tokens, values })
    }
}

fn short(name: &str) -> String {
    name.chars().take(60).collect()
}

fn strongest(values: &[f32]) -> usize {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a))).unwrap_or(0)
}

/// Whether a feature is no denser than `threshold`, where there is one.
fn within(latent: u32, threshold: f64, summaries: &[FeatureSummary]) -> bool {
    threshold < 0.0 || summaries.get(latent as usize).is_some_and(|s| s.density <= threshold)
}
