//! From examples to an edit: which features make the model write like these texts? Chosen on the fit documents and on pilot texts, counted on new texts by a
//! classifier that was trained on other documents, beside a prompt and beside fine-tuning on the same documents.

use super::{Error, Result};
use crate::artifact::Progress;
use crate::corpus::counts;
use crate::intervene::classify::Classifier;
use crate::intervene::fit::{Evidence, Fitted, Order};
use crate::intervene::quality::{distinct_2, perplexity};
use crate::intervene::strength::{Bounds, Trial, shares_may_be_luck};
use crate::intervene::write::{Change, Rig, Writing, texts};
use crate::intervene::{LatentEdit, Rule, Steering};
use crate::lm::{CpuEngine, Engine, Lm, Sampling, TrainConfig};
use crate::sae::SparseRows;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq)]
pub struct FitConfig {
    /// Most features in the edit.
    pub most_features: usize,
    /// Texts that count, and their length in tokens.
    pub texts: usize,
    pub tokens: usize,
    pub sampling: Sampling,
    pub max_perplexity_ratio: f64,
    /// Of the features, for the report and for the sets that are tried beside those by attribution.
    pub order: Order,
    /// Also fine-tune the model on the positive documents.
    pub fine_tune: bool,
}

impl Default for FitConfig {
    fn default() -> Self {
        let sampling = Sampling { temperature: 1.0, top_k: None, top_p: None, seed: 0 };
        FitConfig { most_features: 16, texts: 200, tokens: 60, sampling, max_perplexity_ratio: 2.0, order: Order::Both, fine_tune: false }
    }
}

/// Documents as tokens.
pub struct Documents {
    pub positive: Vec<Vec<u32>>,
    pub negative: Vec<Vec<u32>>,
}

/// One way to make the model write like the examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Way {
    pub name: String,
    /// Share of its texts that the classifier takes for positive.
    pub hit_rate: f64,
    /// Under the unedited model, over that of the unedited texts.
    pub perplexity_ratio: f64,
    pub distinct_2_ratio: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FitReport {
    /// The best twenty features on the fit documents in the order that was asked for, then those of the edit that are not among them; and how the same features do on
    /// the other documents.
    pub ranked: Vec<Fitted>,
    pub held_out: Vec<Option<Fitted>>,
    /// The edit: latents and what they are held at, in activations.
    pub edit: Vec<(u32, f32)>,
    /// Whether the edit left pilot texts whole; otherwise it is, of sets that did not, the one with most hits.
    pub whole: bool,
    /// Share of other documents that the classifier takes for what they are, on a fifth that it was not trained on.
    pub classifier_accuracy: f64,
    /// Unedited first, then the edit, the prompt and, where it was asked for, fine-tuning.
    pub ways: Vec<Way>,
    pub n_texts: usize,
    /// The first of the texts that count.
    pub sample: Sample,
    /// What speaks against the edit or against the table, one sentence or two each.
    pub cautions: Vec<String>,
}

/// One text with the edit and the one without it, drawn with the same luck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// That [`Sampling`] draws the text with again, after an empty prompt.
    pub seed: u64,
    pub unedited: String,
    pub edited: String,
}

const SIZES: [usize; 5] = [1, 2, 4, 8, 16];
/// In multiples of a feature's mean over positive positions where it is active.
const STRENGTHS: [f32; 6] = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0];
const PILOT_TEXTS: usize = 40;
const PROMPT_TOKENS: usize = 24;
const RANKED: usize = 20;
/// Passes over the documents that fine-tuning tries.
const EPOCHS: [u64; 3] = [1, 3, 10];

/// Fits an edit to `fit`; `others` train and test the classifier.
///
/// # Errors
/// Fewer than two documents on any side; [`Error::Interrupted`].
pub fn fit(rig: Rig, fit: &Documents, others: &Documents, config: &FitConfig, progress: &mut dyn Progress) -> Result<FitReport> {
    for (what, side) in [
        ("positive documents to fit on", &fit.positive),
        ("negative documents to fit on", &fit.negative),
        ("other positive documents for the classifier", &others.positive),
        ("other negative documents for the classifier", &others.negative),
    ] {
        if side.len() < 2 {
            return Err(Error::Trial(format!("there are {} {what}, at least 2 are needed\n  give more files, or lower --docs", side.len())));
        }
    }
    let mut ranked = evidence(rig, fit)?.rank(rig.lm, rig.hook, rig.sae)?;
    config.order.sort(&mut ranked);
    if ranked.is_empty() {
        return Err(Error::Trial("no feature fires on the positive documents, so there is nothing to fit\n  choose another SAE with --sae".into()));
    }
    let on_others = evidence(rig, others)?.rank(rig.lm, rig.hook, rig.sae)?;
    let (classifier, accuracy) = classifier(rig, others);
    let sampling = |offset: u64| Sampling { seed: config.sampling.seed.wrapping_add(offset << 20), ..config.sampling.clone() };
    let (pilot, real) = (Writing::new(config.tokens, &sampling(1)), Writing::new(config.tokens, &sampling(2)));
    let free = vec![rig.prompt(""); config.texts.max(PILOT_TEXTS)];
    let bounds = Bounds { max_perplexity_ratio: config.max_perplexity_ratio, ..Bounds::default() };

    // Pilot texts: sets of the best features by two orders, at several strengths.
    let trial = Trial { rig, prompts: &free[..PILOT_TEXTS], writing: &pilot, concept: None };
    let unedited = trial.write(Change::default())?;
    let hits = |texts: &[Vec<u32>]| classifier.hit_rate(texts.iter().map(Vec::as_slice));
    let mut by_attribution = ranked.clone();
    Order::Attribution.sort(&mut by_attribution);
    let sizes: Vec<usize> = SIZES.into_iter().filter(|&n| n <= config.most_features.min(ranked.len())).collect();
    progress.begin("pilot texts", (2 * sizes.len()) as u64, "sets of features");
    // Whether the edit left the text whole, and its hit rate.
    let mut best = ((false, -1.0), Vec::new());
    for order in [&ranked, &by_attribution] {
        for &n in &sizes {
            for strength in STRENGTHS {
                if progress.interrupted() {
                    return Err(Error::Interrupted);
                }
                let edit: Vec<(u32, f32)> = order[..n].iter().map(|f| (f.latent, strength * f.mean_positive)).collect();
                let written = trial.write((&steering(&edit)).into())?;
                let (perplexity, _, whole) = bounds.hold(&written.measures, &unedited.measures);
                let rate = hits(&written.texts);
                if (whole, rate) > best.0 {
                    best = ((whole, rate), edit);
                }
                if perplexity > 2.0 * config.max_perplexity_ratio {
                    break;
                }
            }
            progress.advance(1);
        }
    }
    progress.end();
    let ((whole, _), edit) = best;

    // What counts: new texts.
    let trial = Trial { rig, prompts: &free[..config.texts], writing: &real, concept: None };
    let unedited = trial.write(Change::default())?;
    let base = &unedited.measures;
    let way = |name: &str, written: &[Vec<u32>], perplexity: f64, distinct: f64| Way {
        name: name.into(),
        hit_rate: hits(written),
        perplexity_ratio: perplexity / base.perplexity,
        distinct_2_ratio: distinct / base.distinct_2,
    };
    let mut ways = vec![way("unedited", &unedited.texts, base.perplexity, base.distinct_2)];
    let edited = trial.write((&steering(&edit)).into())?;
    ways.push(way("edit", &edited.texts, edited.measures.perplexity, edited.measures.distinct_2));
    let first = |texts: &[Vec<u32>]| texts.first().map_or(String::new(), |ids| rig.text(ids));
    let sample = Sample { seed: sampling(2).seed, unedited: first(&unedited.texts), edited: first(&edited.texts) };
    let prompts: Vec<Vec<u32>> = (0..config.texts)
        .map(|i| {
            let document = &fit.positive[i % fit.positive.len()];
            std::iter::once(rig.tokenizer.end_of_text()).chain(document.iter().copied().take(PROMPT_TOKENS)).collect()
        })
        .collect();
    let prompted = Trial { prompts: &prompts, ..trial }.write(Change::default())?;
    ways.push(way("prompt", &prompted.texts, prompted.measures.perplexity, prompted.measures.distinct_2));
    if config.fine_tune {
        let mut best: Option<(f64, Lm)> = None;
        for epochs in EPOCHS {
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
            let lm = fine_tuned(rig, &fit.positive, epochs, config.sampling.seed);
            let rate = hits(&texts(Rig { lm: &lm, ..rig }, Change::default(), &free[..PILOT_TEXTS], &pilot)?);
            if best.as_ref().is_none_or(|b| rate > b.0) {
                best = Some((rate, lm));
            }
        }
        let (_, lm) = best.expect("epochs were tried");
        let written = texts(Rig { lm: &lm, ..rig }, Change::default(), &free[..config.texts], &real)?;
        let nats = |(prompt, text): (&Vec<u32>, &Vec<u32>)| perplexity(rig.lm, prompt, text).map_or(0.0, |p| p.ln() * text.len() as f64);
        let n: usize = written.iter().map(Vec::len).sum();
        let total: f64 = free.par_iter().zip(&written).map(nats).collect::<Vec<f64>>().iter().sum();
        let distinct = written.iter().map(|t| distinct_2(t)).sum::<f64>() / written.len().max(1) as f64;
        ways.push(way("fine-tuned", &written, (total / n.max(1) as f64).exp(), distinct));
    }
    let in_edit = |f: &Fitted| edit.iter().any(|e| e.0 == f.latent);
    let ranked: Vec<Fitted> = ranked.into_iter().enumerate().filter(|(i, f)| *i < RANKED || in_edit(f)).map(|(_, f)| f).collect();
    let held_out = ranked.iter().map(|f| on_others.iter().find(|o| o.latent == f.latent).cloned()).collect();
    let cautions = cautions(whole, accuracy, &ways, config.texts);
    Ok(FitReport { ranked, held_out, edit, whole, classifier_accuracy: accuracy, ways, n_texts: config.texts, sample, cautions })
}

/// Below this share of documents told apart, half of them by chance, a classifier counts for little.
const LEAST_ACCURACY: f64 = 0.75;

/// `ways`: unedited, then the edit, of `n_texts` each.
fn cautions(whole: bool, accuracy: f64, ways: &[Way], n_texts: usize) -> Vec<String> {
    let mut said = Vec::new();
    if !whole {
        said.push("no set of features left the pilot texts whole; this is the one with most hits. Try --max-perplexity 3, or --features 1".into());
    }
    if accuracy < LEAST_ACCURACY {
        said.push(format!(
            "the classifier is right on only {:.0} % of other documents, so what it says of the texts means little: give more documents, or sides that differ more",
            100.0 * accuracy
        ));
    }
    let hits = |way: &Way| ((way.hit_rate * n_texts as f64).round() as u64, n_texts as u64);
    match ways {
        [unedited, edit, ..] if edit.hit_rate <= unedited.hit_rate => said.push(
            "the edit's texts are taken for positive no more often than unedited ones: it does not do what was asked; more documents, --features or another --sort may \
             find one that does"
                .into(),
        ),
        [unedited, edit, ..] if shares_may_be_luck(hits(edit), hits(unedited)) => said.push(format!(
            "{} of {n_texts} texts with the edit are taken for positive and {} of {n_texts} without it: less than three deviations apart, so it may be luck; more --texts would tell",
            hits(edit).0,
            hits(unedited).0
        )),
        _ => {}
    }
    said
}

fn steering(edit: &[(u32, f32)]) -> Steering {
    Steering::of(edit.iter().map(|&(latent, act)| LatentEdit::new(latent, Rule::Set(act))).collect())
}

/// Windows of a document as the model reads them: `<|endoftext|>`, then its tokens; only whole predictions count.
fn windows(rig: Rig, document: &[u32]) -> Vec<Vec<u32>> {
    let n_ctx = rig.lm.config.n_ctx;
    let ids: Vec<u32> = std::iter::once(rig.tokenizer.end_of_text()).chain(document.iter().copied()).collect();
    // Neighbours share one token: the last of a window is only predicted there.
    (0..ids.len().saturating_sub(1)).step_by(n_ctx).map(|from| ids[from..(from + n_ctx + 1).min(ids.len())].to_vec()).collect()
}

fn evidence(rig: Rig, documents: &Documents) -> Result<Evidence> {
    let mut engine = CpuEngine::new(rig.lm.clone());
    let mut encoder = rig.sae.encoder();
    let mut evidence = Evidence::new(rig.sae.d_sae, rig.lm.config.d_vocab);
    let (mut rows, mut acts) = (Vec::new(), SparseRows::default());
    for (positive, side) in [(true, &documents.positive), (false, &documents.negative)] {
        for window in side.iter().flat_map(|d| windows(rig, d)) {
            let (ids, next) = (&window[..window.len() - 1], &window[1..]);
            rows.resize(ids.len() * rig.sae.d_in, 0.0);
            engine.forward_to(ids, ids.len(), rig.hook, &mut rows);
            encoder.encode(&rows, &mut acts);
            let counted = ids.iter().enumerate().map(|(p, &t)| counts(t, p, rig.tokenizer.end_of_text()).then_some(positive));
            evidence.add(&acts, counted.zip(next.iter().copied()));
        }
    }
    Ok(evidence)
}

/// Trained on four fifths of the other documents; its accuracy on the rest, in pieces at most as long as the texts that it will judge.
fn classifier(rig: Rig, others: &Documents) -> (Classifier, f64) {
    const PIECE: usize = 60;
    const SHORTEST: usize = 5;
    let fifth = |side: &[Vec<u32>]| (side.len() / 5).max(1);
    let train = |side: &[Vec<u32>]| side[fifth(side)..].to_vec();
    let (positive, negative) = (train(&others.positive), train(&others.negative));
    let classifier = Classifier::train(rig.lm.config.d_vocab, positive.iter().map(Vec::as_slice), negative.iter().map(Vec::as_slice));
    let pieces = |side: &[Vec<u32>]| -> Vec<Vec<u32>> {
        side[..fifth(side)].iter().flat_map(|d| d.chunks(PIECE).map(<[u32]>::to_vec)).filter(|p| p.len() >= SHORTEST).collect()
    };
    let (positive, negative) = (pieces(&others.positive), pieces(&others.negative));
    let right = classifier.hit_rate(positive.iter().map(Vec::as_slice)) + 1.0 - classifier.hit_rate(negative.iter().map(Vec::as_slice));
    (classifier, right / 2.0)
}

/// The model after `epochs` passes over the documents, at a tenth of the usual rate.
fn fine_tuned(rig: Rig, documents: &[Vec<u32>], epochs: u64, seed: u64) -> Lm {
    let n_ctx = rig.lm.config.n_ctx;
    // The documents as one stream, each after <|endoftext|>, in whole windows.
    let stream: Vec<u32> = documents.iter().flat_map(|d| std::iter::once(rig.tokenizer.end_of_text()).chain(d.iter().copied())).collect();
    let n_windows = stream.len().saturating_sub(1) / n_ctx;
    let mut engine = CpuEngine::new(rig.lm.clone());
    let settings = TrainConfig { lr: TrainConfig::default().lr / 10.0, batch: 8, seed, ..TrainConfig::default() };
    let steps = epochs * n_windows.div_ceil(settings.batch) as u64;
    for step in 0..steps {
        let of = |i: u64| ((step * settings.batch as u64 + i) % n_windows.max(1) as u64) as usize;
        let windows: Vec<usize> = (0..settings.batch.min(n_windows) as u64).map(of).collect();
        let ids: Vec<u32> = windows.iter().flat_map(|w| stream[w * n_ctx..(w + 1) * n_ctx].iter().copied()).collect();
        let targets: Vec<u32> = windows.iter().flat_map(|w| stream[w * n_ctx + 1..(w + 1) * n_ctx + 1].iter().copied()).collect();
        if ids.is_empty() {
            break;
        }
        let lr = settings.lr_at(step, steps);
        let settings = TrainConfig { batch: windows.len(), ..settings.clone() };
        engine.step(&ids, &targets, n_ctx, &settings.step_settings(lr, n_ctx));
    }
    engine.lm().into_owned()
}
