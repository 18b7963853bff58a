//! Steering held to account on the planted corpus: for each concept a feature is chosen on half A and a strength on pilot texts; then, on texts and prompts
//! that nothing was chosen on, how much more of the concept the edited model writes, what the text loses, and what else would have done the same; and
//! what is left of the concept when the feature that drives it is held at zero.

use super::{Error, Result};
use crate::artifact::Progress;
use crate::artifact::seed;
use crate::corpus::planted::{ConceptKind, Planted};
use crate::corpus::{Split, TokenStream, counts};
use crate::intervene::concept::Concept;
use crate::intervene::exact::ExactEffect;
use crate::intervene::fit::{Evidence, Fitted};
use crate::intervene::measure::batches;
use crate::intervene::strength::{Bounds, Measures, Trial, Written, sweep};
use crate::intervene::write::{Change, Rig, Writing};
use crate::intervene::{Editor, Rule, Steering};
use crate::kernels::softmax::{kl_divergence, log_sum_exp};
use crate::lm::{CpuEngine, Edit, Engine, HookPoint, Sampling, Site};
use crate::sae::SparseRows;
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is tried and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialConfig {
    /// Names of concepts; empty: all classes and contexts that can be recognised in text.
    pub concepts: Vec<String>,
    /// Also so many of the commonest single words, each on at most a hundredth of the tokens of half A.
    pub lexemes: usize,
    /// Largest perplexity ratio at which pilot texts count as whole; what is reported is of other texts.
    pub max_perplexity_ratio: f64,
    /// Tokens of half A that features are chosen on, and of half B for the loss.
    pub n_tokens: u64,
    /// Features that pilot texts are written with.
    pub candidates: usize,
    /// Texts that count, and their length.
    pub texts: usize,
    pub tokens: usize,
    /// Prompts that call for the concept.
    pub prompts: usize,
    pub temperature: f32,
    pub seed: u64,
}

impl Default for TrialConfig {
    fn default() -> Self {
        TrialConfig {
            concepts: vec![],
            lexemes: 0,
            max_perplexity_ratio: 1.9,
            n_tokens: 200_000,
            candidates: 4,
            texts: 200,
            tokens: 100,
            prompts: 200,
            temperature: 1.0,
            seed: 0,
        }
    }
}

/// Strengths that exact distributions are looked at with, in maxima, and what pilot texts are written at, times the best of these.
const STRENGTHS: [f32; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
const AROUND: [f32; 5] = [0.5, 0.7, 1.0, 1.4, 2.0];
const PILOT_TEXTS: usize = 64;
const PILOT_TOKENS: usize = 60;
/// Positions of half A whose exact distributions are looked at, and features that they are looked at with.
const POSITIONS: usize = 256;
const LOOKED_AT: usize = 150;
/// Tokens written after a prompt that calls for the concept.
const CALLED: usize = 8;
/// Fewer concept tokens than this in the unedited texts say nothing about a rate.
pub const MIN_BASELINE: u64 = 20;

/// What one way of changing the model did to a concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    pub rate: f64,
    /// Rate over that of the unedited texts.
    pub times: f64,
    pub perplexity_ratio: f64,
    pub distinct_2_ratio: f64,
    pub kl: f64,
}

/// A feature held at zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Zeroed {
    pub latents: Vec<u32>,
    /// Share of the tokens after prompts that call for the concept that have it.
    pub rate_unedited: f64,
    pub rate_zeroed: f64,
    pub n_prompts: usize,
    /// Mean cross-entropy, nats, where the next token does not have the concept, on half B.
    pub other_loss_unedited: f64,
    pub other_loss_zeroed: f64,
}

impl Zeroed {
    /// Share of the concept that is gone.
    pub fn lowered(&self) -> f64 {
        1.0 - self.rate_zeroed / self.rate_unedited
    }

    /// Relative change of the loss elsewhere.
    pub fn cost(&self) -> f64 {
        self.other_loss_zeroed / self.other_loss_unedited - 1.0
    }
}

/// One concept's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConceptTrial {
    pub concept: String,
    pub kind: String,
    pub from_context: bool,
    /// Chosen on half A and pilot texts; the strength is in maxima.
    pub latent: u32,
    pub strength: f32,
    /// Whether the strength left the pilot texts whole.
    pub whole: bool,
    /// Concept tokens in the unedited texts, and their rate.
    pub baseline_tokens: u64,
    pub baseline_rate: f64,
    pub feature: Arm,
    /// The logits of the concept's tokens raised so that the KL is the feature's.
    pub logit_bias: Arm,
    /// The mean activation before the concept less that elsewhere added, at the feature's KL.
    pub mean_difference: Arm,
    /// A stretch of held-out text with the concept before the text; its KL is what it is.
    pub prompt: Arm,
    /// Features of like density, clamped to the same multiple of their maxima.
    pub random: Vec<Arm>,
    /// The one feature that drives it most held at zero, and the four that do.
    pub zeroed: Zeroed,
    pub zeroed_four: Zeroed,
}

impl ConceptTrial {
    /// At least 5 times the rate, from a baseline that says something, with the text whole by the wider bounds (perplexity at most 2, distinct-2 at least 0.8 times).
    pub fn raised(&self) -> bool {
        let f = &self.feature;
        self.baseline_tokens >= MIN_BASELINE && f.times >= 5.0 && f.perplexity_ratio <= 2.0 && f.distinct_2_ratio >= 0.8
    }

    /// At least 60 % less where it is called for, at less than 1 % elsewhere.
    pub fn removed(zeroed: &Zeroed) -> bool {
        zeroed.lowered() >= 0.6 && zeroed.cost().abs() < 0.01
    }
}

/// What half A says of every concept at once.
struct Seen {
    evidence: Vec<Evidence>,
    /// Per concept (d_in,): sums of rows before it, and their number; of all rows.
    sums: Vec<Vec<f64>>,
    n: Vec<u64>,
    sum: Vec<f64>,
    n_all: u64,
    /// Per concept: how often each token has it, and in all, (d_vocab,).
    with: Vec<Vec<u64>>,
    tokens: Vec<u64>,
    density: Vec<f64>,
    /// At [`POSITIONS`] rows: the residual stream after the last block (n, d_model), and what is active.
    resid: Vec<f32>,
    acts: SparseRows,
}

/// Runs the trial of `planted`'s concepts on the model and SAE of `rig`.
///
/// # Errors
/// [`Error::Interrupted`]; a concept that there is not.
pub fn trial(rig: Rig, stream: &TokenStream, planted: &Arc<Planted>, config: &TrialConfig, progress: &mut dyn Progress) -> Result<Vec<ConceptTrial>> {
    let numbers = chosen_concepts(planted, stream, config)?;
    let bounds = Bounds { max_perplexity_ratio: config.max_perplexity_ratio, ..Bounds::default() };
    let seen = look(rig, stream, &numbers, config.n_tokens, progress)?;
    let sampling = |offset: u64| Sampling { temperature: config.temperature, top_k: None, top_p: None, seed: config.seed.wrapping_add(offset << 20) };
    let free = vec![rig.prompt(""); config.texts.max(PILOT_TEXTS)];
    let (pilot, real) = (Writing::new(PILOT_TOKENS, &sampling(1)), Writing::new(config.tokens, &sampling(3)));
    // Written once: only what is counted in them differs.
    let unedited_pilot = Trial { rig, prompts: &free[..PILOT_TEXTS], writing: &pilot, concept: None }.write(Change::default())?;
    let unedited_real = Trial { rig, prompts: &free[..config.texts], writing: &real, concept: None }.write(Change::default())?;
    let mut all = Vec::new();
    progress.begin("steering trial", numbers.len() as u64, "concepts");
    for (i, &number) in numbers.iter().enumerate() {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        let world = &planted.concepts()[number];
        let concept = Concept::Planted(planted.clone(), number);
        let ranked = match seen.evidence[i].rank(rig.lm, rig.hook, rig.sae) {
            Ok(ranked) => ranked,
            Err(e) => {
                progress.note(&format!("{}: left out, {e}", world.name));
                continue;
            }
        };
        // The feature and its strength: first by exact next-token distributions on half A, then on pilot texts.
        let promising = promising(rig, &seen, i, &ranked, config)?;
        let trial = Trial { rig, prompts: &free[..PILOT_TEXTS], writing: &pilot, concept: Some(&concept) };
        let unedited = counted(rig, &unedited_pilot, &free, &concept);
        // ((whole, rate), feature, strength)
        let mut best: Option<((bool, f64), &Fitted, f32)> = None;
        for &(fitted, strength) in &promising {
            let at = |strength: f32| Steering::one(fitted.latent, Rule::Set(strength * fitted.max_act));
            let strengths: Vec<f32> = AROUND.iter().map(|a| a * strength).collect();
            for swept in sweep(trial, &unedited, bounds, &strengths, &at)? {
                let key = (swept.whole, swept.measures.concept_rate);
                if best.as_ref().is_none_or(|b| key.partial_cmp(&b.0).is_some_and(|o| o.is_gt())) {
                    best = Some((key, fitted, swept.strength));
                }
            }
        }
        let Some(((whole, _), fitted, strength)) = best else {
            progress.note(&format!("{}: left out, no feature fires before it", world.name));
            continue;
        };
        let at = |strength: f32| Steering::one(fitted.latent, Rule::Set(strength * fitted.max_act));
        // What counts.
        let trial = Trial { rig, prompts: &free[..config.texts], writing: &real, concept: Some(&concept) };
        let unedited = counted(rig, &unedited_real, &free, &concept).measures;
        let arm = |measures: &Measures| arm(measures, &unedited);
        let steering = at(strength);
        let feature = arm(&trial.write((&steering).into())?.measures);
        // At the feature's own mean KL on half A, exactly; other ways cannot be matched on texts that are drawn.
        let bias = |strength: f32| -> Vec<f32> { seen.bias(i, strength) };
        let kl = seen.mean_kl(rig, &Way::Feature(fitted.latent, strength * fitted.max_act))?;
        let found = at_kl(kl, 12.0, &mut |s| seen.mean_kl(rig, &Way::Bias(&bias(s))))?;
        let logit_bias = arm(&trial.write(Change { steering: None, bias: Some(&bias(found)) })?.measures);
        let direction = seen.mean_difference(i);
        let found = at_kl(kl, 50.0, &mut |s| seen.mean_kl(rig, &Way::Push(&direction, s)))?;
        let mean_difference = arm(&trial.write((&Steering::push(&direction, found)).into())?.measures);
        let prompt = prompted(rig, stream, number, config, &real, &concept, &unedited)?;
        let mut random = Vec::new();
        for other in like(&seen, fitted.latent, &ranked, config.seed) {
            let max_act = seen.evidence[i].max_act(other);
            random.push(arm(&trial.write((&Steering::one(other, Rule::Set(strength * max_act))).into())?.measures));
        }
        let driving = driving(&ranked);
        let calls = calls(rig, stream, number, config.prompts);
        let zeroed = |n: usize| zeroed(rig, stream, &driving[..n.min(driving.len())], number, &concept, &calls, config, &sampling(4));
        all.push(ConceptTrial {
            concept: world.name.clone(),
            kind: super::exam::kind_name(world.kind).into(),
            from_context: world.from_context,
            latent: fitted.latent,
            strength,
            whole,
            baseline_tokens: unedited.concept_tokens,
            baseline_rate: unedited.concept_rate,
            feature,
            logit_bias,
            mean_difference,
            prompt,
            random,
            zeroed: zeroed(1)?,
            zeroed_four: zeroed(4)?,
        });
        let done = all.last().expect("pushed above");
        progress.note(&format!(
            "{}: latent {} at {} x max, {:.1} times as often (perplexity x{:.2}); zeroed: {:.0} % less",
            done.concept,
            done.latent,
            done.strength,
            done.feature.times,
            done.feature.perplexity_ratio,
            100.0 * done.zeroed.lowered()
        ));
        progress.advance(1);
    }
    progress.end();
    Ok(all)
}

fn chosen_concepts(planted: &Planted, stream: &TokenStream, config: &TrialConfig) -> Result<Vec<usize>> {
    let known = planted.concepts();
    let can = |i: &usize| planted.has_recogniser(*i);
    let find = |name: &String| (0..known.len()).filter(can).find(|&i| known[i].name == *name);
    let wanted = |name: &String| find(name).ok_or_else(|| Error::Trial(format!("there is no concept {name:?} that can be recognised in text")));
    let mut numbers: Vec<usize> = if config.concepts.is_empty() {
        let kinds = |i: &usize| known[*i].scored && matches!(known[*i].kind, ConceptKind::Class | ConceptKind::Context);
        (0..known.len()).filter(can).filter(kinds).collect()
    } else {
        config.concepts.iter().map(wanted).collect::<Result<_>>()?
    };
    if let Some(labels) = stream.concepts().filter(|_| config.lexemes > 0) {
        let range = stream.range(Split::HeldOutA);
        let mut counts = vec![0u64; known.len()];
        labels.concept[labels.within(range.clone())].iter().for_each(|&c| counts[c as usize] += 1);
        let most = (range.end - range.start) / 100;
        let mut lexemes: Vec<usize> = (0..known.len()).filter(can).filter(|&i| known[i].kind == ConceptKind::Lexeme && counts[i] <= most).collect();
        lexemes.sort_by_key(|&i| (std::cmp::Reverse(counts[i]), i));
        numbers.extend(lexemes.into_iter().take(config.lexemes).filter(|&i| counts[i] > 0));
    }
    Ok(numbers)
}

/// One pass over half A.
fn look(rig: Rig, stream: &TokenStream, numbers: &[usize], n_tokens: u64, progress: &mut dyn Progress) -> Result<Seen> {
    let mut engine = CpuEngine::new(rig.lm.clone());
    let (n_ctx, d_in, d_vocab) = (rig.lm.config.n_ctx, rig.sae.d_in, rig.lm.config.d_vocab);
    let windows = stream.spread_windows(Split::HeldOutA, n_ctx, n_tokens.div_ceil(n_ctx as u64));
    let per = |n: usize| vec![vec![0u64; n]; numbers.len()];
    let mut seen = Seen {
        evidence: vec![Evidence::new(rig.sae.d_sae, d_vocab); numbers.len()],
        sums: vec![vec![0.0; d_in]; numbers.len()],
        n: vec![0; numbers.len()],
        sum: vec![0.0; d_in],
        n_all: 0,
        with: per(d_vocab),
        tokens: vec![0; d_vocab],
        density: vec![0.0; rig.sae.d_sae],
        resid: Vec::new(),
        acts: SparseRows::default(),
    };
    let mut encoder = rig.sae.encoder();
    let (mut rows, mut acts, mut resid) = (Vec::new(), SparseRows::default(), Vec::new());
    let (d_model, last) = (rig.lm.config.d_model, HookPoint { layer: rig.lm.config.n_layers - 1, site: Site::ResidPost });
    let every = (n_tokens / POSITIONS as u64).max(1);
    progress.begin("half A", (windows.len() * n_ctx) as u64, "tokens");
    let mut at = windows.iter();
    for batch in batches(stream, &windows, n_ctx) {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        rows.resize(batch.ids.len() * d_in, 0.0);
        engine.forward_to(&batch.ids, n_ctx, rig.hook, &mut rows);
        encoder.encode(&rows, &mut acts);
        let first: Vec<u64> = at.by_ref().take(batch.ids.len() / n_ctx).map(|w| w * n_ctx as u64).collect();
        // For each token that follows a row: which of the concepts it has.
        let follows: Vec<Vec<bool>> =
            numbers.iter().map(|&number| first.iter().flat_map(|&t| labelled(stream, t + 1, n_ctx, number)).collect()).collect();
        for (c, follows) in follows.iter().enumerate() {
            let positive = |i: usize| (batch.counted[i] && batch.targets[i] != stream.end_of_text()).then_some(follows[i]);
            seen.evidence[c].add(&acts, (0..batch.ids.len()).map(|i| (positive(i), batch.targets[i])));
            for (i, row) in rows.chunks_exact(d_in).enumerate().filter(|(i, _)| positive(*i) == Some(true)) {
                add(&mut seen.sums[c], row);
                seen.n[c] += 1;
                seen.with[c][batch.targets[i] as usize] += 1;
            }
        }
        resid.resize(batch.ids.len() * d_model, 0.0);
        engine.forward_to(&batch.ids, n_ctx, last, &mut resid);
        for (i, row) in rows.chunks_exact(d_in).enumerate().filter(|(i, _)| batch.counted[*i]) {
            if seen.n_all.is_multiple_of(every) && seen.acts.n_rows() < POSITIONS {
                seen.resid.extend_from_slice(&resid[i * d_model..][..d_model]);
                let (latents, acts) = acts.row(i);
                seen.acts.push_row(latents, acts);
            }
            add(&mut seen.sum, row);
            seen.n_all += 1;
            seen.tokens[batch.targets[i] as usize] += 1;
            acts.row(i).0.iter().for_each(|&l| seen.density[l as usize] += 1.0);
        }
        progress.advance(batch.ids.len() as u64);
    }
    progress.end();
    let n = seen.n_all.max(1) as f64;
    seen.density.iter_mut().for_each(|d| *d /= n);
    Ok(seen)
}

fn add(sum: &mut [f64], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
}

/// Whether each of the `n` tokens from `t` on has concept number `number`.
fn labelled(stream: &TokenStream, t: u64, n: usize, number: usize) -> Vec<bool> {
    let mut has = vec![false; n];
    if let Some(labels) = stream.concepts() {
        let within = labels.within(t..t + n as u64);
        let both = labels.token[within.clone()].iter().zip(&labels.concept[within]);
        both.filter(|(_, c)| **c as usize == number).for_each(|(token, _)| has[(token - t) as usize] = true);
    }
    has
}

impl Seen {
    /// Raises the logits of tokens that have the concept in more than half of their places by `strength`.
    fn bias(&self, concept: usize, strength: f32) -> Vec<f32> {
        let own = self.with[concept].iter().zip(&self.tokens).map(|(&with, &all)| all > 0 && 2 * with > all);
        let bias: Vec<f32> = own.map(|own| if own { strength } else { 0.0 }).collect();
        if bias.iter().any(|&b| b != 0.0) || strength == 0.0 {
            return bias;
        }
        // No token is the concept's own: each is raised by its share of the concept.
        self.with[concept].iter().zip(&self.tokens).map(|(&with, &all)| strength * with as f32 / all.max(1) as f32).collect()
    }

    /// Mean row before the concept less the mean of all rows, (d_in,).
    fn mean_difference(&self, concept: usize) -> Vec<f32> {
        let n = self.n[concept].max(1) as f64;
        self.sums[concept].iter().zip(&self.sum).map(|(own, all)| (own / n - all / self.n_all.max(1) as f64) as f32).collect()
    }
}

/// The features, each with a strength, that give what has the concept most probability at [`POSITIONS`] of half A, at a mean KL of at most the logarithm of the largest perplexity ratio.
/// Where the effect is not exact, the best by rank at their maximum.
fn promising<'a>(rig: Rig, seen: &Seen, concept: usize, ranked: &'a [Fitted], config: &TrialConfig) -> Result<Vec<(&'a Fitted, f32)>> {
    let (n, largest_kl) = (config.candidates, config.max_perplexity_ratio.ln());
    let looked_at = in_turn(ranked, LOOKED_AT);
    // What share of its places each token has the concept.
    let weight: Vec<f64> = seen.with[concept].iter().zip(&seen.tokens).map(|(&with, &all)| with as f64 / all.max(1) as f64).collect();
    let v = rig.lm.config.d_vocab;
    let mass = |logits: &[f32]| -> f64 {
        let sum = log_sum_exp(logits);
        logits.iter().zip(&weight).filter(|(_, w)| **w > 0.0).map(|(&z, w)| w * (f64::from(z) - sum).exp()).sum()
    };
    let nothing = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[]);
    let Ok(nothing) = nothing else { return Ok(looked_at.into_iter().take(n).map(|f| (f, 1.0)).collect()) };
    let unedited = nothing.logits(&seen.resid, &[]);
    let one = |fitted: &'a Fitted| -> Result<(f64, &'a Fitted, f32)> {
        let effect = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[fitted.latent])?;
        let acts = seen.acts_of(fitted.latent);
        let mut best = (0.0, fitted, STRENGTHS[0]);
        for strength in STRENGTHS {
            let changes: Vec<f32> = acts.iter().map(|act| strength * fitted.max_act - act).collect();
            let logits = effect.logits(&seen.resid, &changes);
            let rows = logits.chunks_exact(v).zip(unedited.chunks_exact(v));
            let n = acts.len().max(1) as f64;
            if rows.clone().map(|(edited, unedited)| kl_divergence(edited, unedited)).sum::<f64>() / n > largest_kl {
                break;
            }
            let mean = rows.map(|(edited, _)| mass(edited)).sum::<f64>() / n;
            if mean > best.0 {
                best = (mean, fitted, strength);
            }
        }
        Ok(best)
    };
    let mut all: Vec<(f64, &Fitted, f32)> = looked_at.into_par_iter().map(one).collect::<Result<_>>()?;
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(all.into_iter().take(n).map(|(_, fitted, strength)| (fitted, strength)).collect())
}

/// Texts with another concept counted in them.
fn counted(rig: Rig, written: &Written, prompts: &[Vec<u32>], concept: &Concept) -> Written {
    let hits: u64 = prompts.par_iter().zip(&written.texts).map(|(prompt, text)| concept.count(rig.tokenizer, prompt, text)).sum();
    let mut counted = written.clone();
    counted.measures.concept_tokens = hits;
    counted.measures.concept_rate = hits as f64 / written.measures.n_tokens.max(1) as f64;
    counted
}

/// What is done to the model at every position.
enum Way<'a> {
    /// A latent held at an activation.
    Feature(u32, f32),
    /// Logits raised by (d_vocab,).
    Bias(&'a [f32]),
    /// A multiple of a direction (d_in,) added.
    Push(&'a [f32], f32),
}

impl Seen {
    /// Activations of a latent at the looked-at positions.
    fn acts_of(&self, latent: u32) -> Vec<f32> {
        let act = |r: usize| {
            let (latents, acts) = self.acts.row(r);
            latents.binary_search(&latent).map_or(0.0, |at| acts[at])
        };
        (0..self.acts.n_rows()).map(act).collect()
    }

    /// Mean KL(changed || unedited) of next-token distributions at the looked-at positions, exactly.
    fn mean_kl(&self, rig: Rig, way: &Way) -> Result<f64> {
        let v = rig.lm.config.d_vocab;
        let unedited = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[])?.logits(&self.resid, &[]);
        let changed = match way {
            Way::Feature(latent, act) => {
                let changes: Vec<f32> = self.acts_of(*latent).iter().map(|a| act - a).collect();
                ExactEffect::new(rig.lm, rig.hook, rig.sae, &[*latent])?.logits(&self.resid, &changes)
            }
            Way::Bias(bias) => unedited.chunks_exact(v).flat_map(|row| row.iter().zip(*bias).map(|(z, b)| z + b)).collect(),
            Way::Push(direction, strength) => {
                ExactEffect::along(rig.lm, rig.hook, direction)?.logits(&self.resid, &vec![*strength; self.acts.n_rows()])
            }
        };
        let pairs: Vec<(&[f32], &[f32])> = changed.chunks_exact(v).zip(unedited.chunks_exact(v)).collect();
        Ok(pairs.par_iter().map(|(c, u)| kl_divergence(c, u)).sum::<f64>() / self.acts.n_rows().max(1) as f64)
    }
}

/// The best by rank, by output and by contrast in turn, each once.
fn in_turn(ranked: &[Fitted], n: usize) -> Vec<&Fitted> {
    let sorted = |key: &dyn Fn(&Fitted) -> f64| {
        let mut by: Vec<&Fitted> = ranked.iter().collect();
        by.sort_by(|a, b| key(b).total_cmp(&key(a)));
        by
    };
    let (by_output, by_f1) = (sorted(&|f| f.output.unwrap_or(0.0)), sorted(&|f| f.f1));
    let mut all: Vec<&Fitted> = Vec::new();
    for i in 0..ranked.len() {
        for fitted in [&ranked[i], by_output[i], by_f1[i]] {
            if all.len() < n && !all.iter().any(|f| f.latent == fitted.latent) {
                all.push(fitted);
            }
        }
    }
    all
}

/// Latents by what is lost without them, the most first.
fn driving(ranked: &[Fitted]) -> Vec<u32> {
    let mut by: Vec<&Fitted> = ranked.iter().collect();
    by.sort_by(|a, b| b.attribution.unwrap_or(b.mean_difference).total_cmp(&a.attribution.unwrap_or(a.mean_difference)));
    by.iter().map(|f| f.latent).collect()
}

fn arm(measures: &Measures, unedited: &Measures) -> Arm {
    Arm {
        rate: measures.concept_rate,
        times: measures.concept_rate / unedited.concept_rate,
        perplexity_ratio: measures.perplexity / unedited.perplexity,
        distinct_2_ratio: measures.distinct_2 / unedited.distinct_2,
        kl: measures.kl,
    }
}

/// The strength in 0..most at which `kl` is `wanted`, by halving.
fn at_kl(wanted: f64, most: f32, kl: &mut dyn FnMut(f32) -> Result<f64>) -> Result<f32> {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..8 {
        let middle = 0.5 * (low + high);
        if kl(middle)? < wanted { low = middle } else { high = middle }
    }
    Ok(0.5 * (low + high))
}

/// Texts after stretches of half A that have the concept.
#[allow(clippy::too_many_arguments)]
fn prompted(
    rig: Rig,
    stream: &TokenStream,
    number: usize,
    config: &TrialConfig,
    writing: &Writing,
    concept: &Concept,
    unedited: &Measures,
) -> Result<Arm> {
    const PROMPT: u64 = 24;
    let labels = stream.concepts().map(|l| {
        let within = l.within(stream.range(Split::HeldOutA));
        l.token[within.clone()].iter().zip(&l.concept[within]).filter(|(_, c)| **c as usize == number).map(|(&t, _)| t).collect::<Vec<u64>>()
    });
    let places = labels.unwrap_or_default();
    let prompts: Vec<Vec<u32>> = (0..config.texts)
        .filter_map(|i| {
            let &t = places.get(i * places.len() / config.texts.max(1))?;
            let begin = stream.doc_start(stream.doc_of(t)).max((t + 1).saturating_sub(PROMPT));
            let mut ids = vec![0; (t + 1 - begin) as usize];
            stream.read(begin, &mut ids);
            Some(std::iter::once(stream.end_of_text()).chain(ids).collect())
        })
        .collect();
    let trial = Trial { rig, prompts: &prompts, writing, concept: Some(concept) };
    Ok(arm(&trial.write(Change::default())?.measures, unedited))
}

/// Three latents whose density is like that of `latent`, not among the hundred best for the concept.
fn like(seen: &Seen, latent: u32, ranked: &[Fitted], seed_of_run: u64) -> Vec<u32> {
    let own = seen.density[latent as usize];
    let best: Vec<u32> = ranked.iter().take(100).map(|f| f.latent).collect();
    let mut near: Vec<u32> = (0..seen.density.len() as u32).filter(|l| seen.density[*l as usize] > 0.0 && !best.contains(l)).collect();
    near.sort_by(|a, b| {
        let far = |l: u32| (seen.density[l as usize] / own.max(1e-9)).ln().abs();
        far(*a).total_cmp(&far(*b)).then(a.cmp(b))
    });
    near.truncate(30);
    let mut rng = seed::rng(seed_of_run, "trial/random", u64::from(latent));
    (0..3).filter_map(|_| (!near.is_empty()).then(|| near.swap_remove(rng.random_range(0..near.len())))).collect()
}

/// Prompts of half B that call for the concept: each ends just before a token that has it, and begins with its document.
fn calls(rig: Rig, stream: &TokenStream, number: usize, n: usize) -> Vec<Vec<u32>> {
    let Some(labels) = stream.concepts() else { return vec![] };
    let within = labels.within(stream.range(Split::HeldOutB));
    let longest = (rig.lm.config.n_ctx - CALLED - 1) as u64;
    let starts: Vec<(u64, u64)> = labels.token[within.clone()]
        .iter()
        .zip(&labels.concept[within])
        .filter(|(_, c)| **c as usize == number)
        .map(|(&t, _)| (stream.doc_start(stream.doc_of(t)), t))
        .filter(|(begin, t)| *t > *begin && t - begin < longest)
        .collect();
    let n = n.min(starts.len());
    (0..n)
        .map(|i| {
            let (begin, t) = starts[i * starts.len() / n];
            let mut ids = vec![0; (t - begin) as usize];
            stream.read(begin, &mut ids);
            std::iter::once(stream.end_of_text()).chain(ids).collect()
        })
        .collect()
}

#[allow(clippy::too_many_arguments)]
fn zeroed(
    rig: Rig,
    stream: &TokenStream,
    latents: &[u32],
    number: usize,
    concept: &Concept,
    calls: &[Vec<u32>],
    config: &TrialConfig,
    sampling: &Sampling,
) -> Result<Zeroed> {
    let steering = Steering::of(latents.iter().map(|&l| crate::intervene::LatentEdit::new(l, Rule::Zero)).collect());
    let writing = Writing::new(CALLED, sampling);
    let trial = Trial { rig, prompts: calls, writing: &writing, concept: Some(concept) };
    let rate_unedited = trial.write(Change::default())?.measures.concept_rate;
    let rate_zeroed = trial.write((&steering).into())?.measures.concept_rate;
    let mut engine = CpuEngine::new(rig.lm.clone());
    let n_ctx = rig.lm.config.n_ctx;
    let windows = stream.spread_windows(Split::HeldOutB, n_ctx, (config.n_tokens / 4).div_ceil(n_ctx as u64));
    let (mut clean, mut edited, mut n) = (0.0, 0.0, 0u64);
    let (mut nll, mut nll_edited) = (Vec::new(), Vec::new());
    let mut at = windows.iter();
    for batch in batches(stream, &windows, n_ctx) {
        nll.resize(batch.ids.len(), 0.0);
        nll_edited.resize(batch.ids.len(), 0.0);
        engine.nll(&batch.ids, &batch.targets, n_ctx, None, &mut nll);
        let mut editor = Editor::new(rig.sae, &steering, n_ctx, stream.end_of_text())?;
        let mut apply = |rows: &mut [f32]| editor.apply_to_windows(n_ctx, &batch.ids, rows);
        engine.nll(&batch.ids, &batch.targets, n_ctx, Some(Edit { hook: rig.hook, apply: &mut apply }), &mut nll_edited);
        let follows: Vec<bool> =
            at.by_ref().take(batch.ids.len() / n_ctx).flat_map(|w| labelled(stream, w * n_ctx as u64 + 1, n_ctx, number)).collect();
        for i in (0..batch.ids.len()).filter(|&i| !follows[i] && counts(batch.ids[i], i % n_ctx, stream.end_of_text())) {
            clean += f64::from(nll[i]);
            edited += f64::from(nll_edited[i]);
            n += 1;
        }
    }
    let n = n.max(1) as f64;
    Ok(Zeroed {
        latents: latents.to_vec(),
        rate_unedited,
        rate_zeroed,
        n_prompts: calls.len(),
        other_loss_unedited: clean / n,
        other_loss_zeroed: edited / n,
    })
}
