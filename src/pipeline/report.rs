//! The report of a run: what was trained, how good it is, beside what; ten features and the most polysemantic neuron. As data; `text` and
//! `html` draw it.

use super::exam::{ExamSummary, summarise};
use super::report_text;
use super::stages::{Took, lm_manifest};
use super::{ConceptGap, Evaluated, Recipe, Result};
use crate::artifact::{Manifest, RunDir, TrainLog};
use crate::corpus::{Split, TokenStream, Tokenizer};
use crate::features::Dictionary;
use crate::features::exam::ExamReport;
use crate::features::store::{CategoryCount, FeatureDetail, FeatureSummary, Flag, ListQuery, LogitEffect, Meta, Sort};
use crate::sae::SAE_FORMAT_VERSION;
use serde::{Serialize, Serializer};
use std::collections::HashSet;

/// Features shown.
const N_FEATURES: usize = 10;

/// Everything that the report says.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub run: String,
    pub seed: u64,
    pub program_version: &'static str,
    pub took: Vec<Took>,
    pub corpus: CorpusFigures,
    pub lm: LmFigures,
    pub sae: SaeFigures,
    pub evaluated: Evaluated,
    pub dictionary: Meta,
    /// How many neurons are of each category; of the latents the dictionary says it.
    pub neuron_census: Vec<CategoryCount>,
    #[serde(serialize_with = "without_best_of_latent")]
    pub exam: ExamReport,
    /// How much worse than the generator the model predicts what follows each concept; empty on text that was not planted.
    pub gaps: Vec<ConceptGap>,
    pub summary: ExamSummary,
    #[serde(serialize_with = "briefly")]
    pub features: Vec<FeatureDetail>,
    /// The model's own neuron whose contexts are about the most unrelated things.
    #[serde(serialize_with = "brief")]
    pub neuron: Option<FeatureDetail>,
    #[serde(skip)]
    pub curves: Curves,
}

/// In JSON: the exam without a line for every latent; the dictionary has those.
fn without_best_of_latent<S: Serializer>(exam: &ExamReport, to: S) -> std::result::Result<S::Ok, S::Error> {
    ExamReport { best_of_latent: vec![], ..exam.clone() }.serialize(to)
}

/// In JSON: what the other forms of the report show of a feature. Whole contexts, token by token, are the explorer's `/api/features/N`.
fn briefly<'a, S: Serializer>(features: impl IntoIterator<Item = &'a FeatureDetail>, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_seq(features.into_iter().map(Brief::new))
}

fn brief<S: Serializer>(feature: &Option<FeatureDetail>, to: S) -> std::result::Result<S::Ok, S::Error> {
    feature.as_ref().map(Brief::new).serialize(to)
}

/// A feature with the contexts that the report shows, as text.
#[derive(Serialize)]
struct Brief<'a> {
    summary: &'a FeatureSummary,
    contexts: Vec<BriefContext>,
    logits_up: &'a [LogitEffect],
    logits_down: &'a [LogitEffect],
}

#[derive(Serialize)]
struct BriefContext {
    /// Index of the firing token in the stream.
    t: u64,
    act: f32,
    before: String,
    token: String,
    after: String,
}

impl<'a> Brief<'a> {
    fn new(feature: &'a FeatureDetail) -> Self {
        let contexts = report_text::examples(feature).into_iter().map(|(_, example)| {
            let (before, token, after) = report_text::around(example, 24, 12);
            BriefContext { t: example.t, act: example.act, before, token, after }
        });
        Brief { summary: &feature.summary, contexts: contexts.collect(), logits_up: &feature.logits_up, logits_down: &feature.logits_down }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct CorpusFigures {
    pub documents: u64,
    pub tokens: u64,
    pub held_out_tokens: u64,
    pub d_vocab: usize,
    /// Nats per token that the generator itself needs (planted text only): no model can do better than the text's entropy, which is at most this.
    pub bayes_nats_per_token: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct LmFigures {
    pub n_params: u64,
    pub tokens: u64,
    pub train_loss: f64,
    pub held_out_loss: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct SaeFigures {
    pub name: String,
    pub hook: String,
    pub d_in: usize,
    pub d_sae: usize,
    /// Trained on: whole batches.
    pub rows: u64,
}

impl Report {
    /// Seconds that everything took when it was made, stages that were fresh this time included.
    pub fn seconds(&self) -> f64 {
        // Not sum(): that of nothing is -0.
        self.took.iter().filter_map(|t| t.made_in).fold(0.0, |all, one| all + one)
    }
}

/// Points for the plots, from the logs.
#[derive(Debug, Clone, Default)]
pub struct Curves {
    /// (tokens, loss)
    pub lm: Vec<(f64, f64)>,
    pub lm_held_out: Vec<(f64, f64)>,
    /// (rows, fvu), (rows, dead share)
    pub fvu: Vec<(f64, f64)>,
    pub dead: Vec<(f64, f64)>,
}

/// What the report is drawn from.
pub struct Sources<'a> {
    pub recipe: &'a Recipe,
    pub run: &'a RunDir,
    pub took: Vec<Took>,
    pub stream: &'a TokenStream,
    pub latents: &'a Dictionary,
    pub neurons: &'a Dictionary,
    pub evaluated: Evaluated,
    pub exam: ExamReport,
    pub gaps: Vec<ConceptGap>,
}

impl Report {
    pub fn gather(sources: Sources) -> Result<Self> {
        let Sources { recipe, run, took, stream, latents, neurons, evaluated, exam, gaps } = sources;
        let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json"))?;
        let detail = |dictionary: &Dictionary, id: u32| dictionary.feature(id, stream, &tokenizer);
        let features = striking(latents, &exam)?.iter().map(|s| detail(latents, s.id)).collect::<crate::features::Result<_>>()?;
        let mixed =
            ListQuery { sort: Sort::Polysemantic, descending: true, without: vec![Flag::Dead, Flag::UltraRare], limit: 1, ..Default::default() };
        let neuron = neurons.list(&mixed)?.features.first().map(|s| detail(neurons, s.id)).transpose()?;
        let sae = Manifest::read(&run.sae(&recipe.sae.name), "sae", SAE_FORMAT_VERSION)?;
        Ok(Report {
            run: run.name(),
            seed: recipe.seed,
            program_version: env!("CARGO_PKG_VERSION"),
            took,
            corpus: CorpusFigures::new(stream),
            lm: LmFigures::new(&lm_manifest(run)?),
            sae: SaeFigures {
                name: recipe.sae.name.clone(),
                hook: recipe.sae.hook.to_string(),
                d_in: recipe.sae.train.sae.d_in,
                d_sae: recipe.sae.train.sae.d_sae,
                rows: sae.counts.get("rows").copied().unwrap_or(recipe.sae.train.rows),
            },
            evaluated,
            dictionary: latents.meta().clone(),
            neuron_census: neurons.meta().census.clone(),
            summary: summarise(&exam),
            exam,
            gaps,
            features,
            neuron,
            curves: Curves::read(run, &recipe.sae.name),
        })
    }
}

/// Features worth showing: the best latent of each concept with F1 from 0.6 on, best first, then the least polysemantic that fire on several tokens.
fn striking(latents: &Dictionary, exam: &ExamReport) -> Result<Vec<FeatureSummary>> {
    let mut best: Vec<(f64, u32)> = exam
        .concepts
        .iter()
        .filter(|c| c.is_a_finding())
        .filter_map(|c| c.latents.ranked.first())
        .map(|u| (u.f1_b, u.id))
        .filter(|x| x.0 >= 0.6)
        .collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut seen = HashSet::new();
    let mut chosen = Vec::new();
    for (_, id) in best.into_iter().filter(|(_, id)| seen.insert(*id)).take(N_FEATURES) {
        chosen.push(latents.summary(id)?);
    }
    let without = vec![Flag::Dead, Flag::UltraRare, Flag::Dense, Flag::SingleToken, Flag::Junk];
    let pure = ListQuery { without, sort: Sort::Polysemantic, min_density: Some(1e-4), limit: 400, ..Default::default() };
    let more = latents.list(&pure)?.features.into_iter().filter(|s| s.effective_tokens >= 5.0 && !seen.contains(&s.id));
    chosen.extend(more.take(N_FEATURES.saturating_sub(chosen.len())));
    Ok(chosen)
}

impl CorpusFigures {
    fn new(stream: &TokenStream) -> Self {
        let manifest = stream.manifest();
        let length = |split| {
            let range = stream.range(split);
            range.end - range.start
        };
        let nats = manifest.details.get("bayes_nats").and_then(|n| n.as_object());
        CorpusFigures {
            documents: stream.n_docs() as u64,
            tokens: stream.len(),
            held_out_tokens: length(Split::HeldOutA) + length(Split::HeldOutB),
            d_vocab: stream.d_vocab(),
            bayes_nats_per_token: nats.map(|n| n.values().filter_map(|v| v.as_f64()).sum::<f64>() / stream.len() as f64),
        }
    }
}

impl LmFigures {
    fn new(manifest: &Manifest) -> Self {
        let count = |name: &str| manifest.counts.get(name).copied().unwrap_or(0);
        let figure = |name: &str| manifest.details[name].as_f64().unwrap_or(f64::NAN);
        LmFigures { n_params: count("n_params"), tokens: count("tokens"), train_loss: figure("train_loss"), held_out_loss: figure("held_out_loss") }
    }
}

impl Curves {
    /// Reads the logs; a log that is missing or damaged gives an empty curve, the figures do not depend on it.
    fn read(run: &RunDir, sae: &str) -> Self {
        let log = |path: std::path::PathBuf| TrainLog::read(&path).unwrap_or_default();
        let (lm, sae) = (log(run.lm().join("train.jsonl")), log(run.sae(sae).join("train.jsonl")));
        Curves {
            lm: lm.curve("tokens", "loss"),
            lm_held_out: lm.curve("tokens", "held_out_loss"),
            fvu: sae.curve("rows", "fvu"),
            dead: sae.curve("rows", "dead_frac"),
        }
    }
}
