//! Steering held to account on the planted corpus: for each concept a feature is chosen on half A and a strength on pilot texts; then, on texts and prompts
//! that nothing was chosen on, how much more of the concept the edited model writes, what the text loses, and what else would have done the same; and
//! what is left of the concept when that feature, or the one that drives it most where it is called for, is held at zero.

mod choose;
mod kept;
mod pilot;
mod result;
mod screen;
mod seen;
mod zero;

pub use kept::Kept;
pub use result::{Arm, ConceptTrial, MIN_BASELINE, Raising};
pub use zero::Zeroed;

use super::{Error, Result};
use crate::artifact::Progress;
use crate::corpus::planted::{ConceptKind, Planted};
use crate::corpus::{Split, TokenStream};
use crate::intervene::Steering;
use crate::intervene::concept::Concept;
use crate::intervene::exact::ExactEffect;
use crate::intervene::fit::Fitted;
use crate::intervene::strength::{Bounds, Measures, Trial, Written};
use crate::intervene::write::{Change, Rig, Writing};
use crate::lm::Sampling;
use choose::{Table, like};
use pilot::{Chosen, Round, pilot};
use rayon::prelude::*;
use screen::{Screen, clamp};
use seen::{Seen, Way, look};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zero::{Driven, Elsewhere};

/// What is tried and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialConfig {
    /// Names of concepts; empty: all classes, contexts and senses.
    pub concepts: Vec<String>,
    /// Those of them whose features are only held at zero, e.g. because another SAE has raised them already.
    #[serde(default)]
    pub zero_only: Vec<String>,
    /// Largest perplexity ratio at which pilot texts count as whole; what is reported is of other texts.
    pub max_perplexity_ratio: f64,
    /// Tokens of half A that features are chosen on, and of half B for the loss.
    pub n_tokens: u64,
    /// Features that pilot texts are written with: so many by what was written with each, and as many by next-token distributions.
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
            zero_only: vec![],
            max_perplexity_ratio: 1.9,
            n_tokens: 200_000,
            candidates: 3,
            texts: 120,
            tokens: 80,
            prompts: 200,
            temperature: 1.0,
            seed: 0,
        }
    }
}

/// Unedited texts for each edited one: they are written once for all concepts, and a rate needs many.
const BASELINE: usize = 10;
/// Runs the trial of `planted`'s concepts on the model and SAE of `rig`, those that `kept` has already left as they are. `keep` gets what is done after every
/// concept.
///
/// # Errors
/// Those of `keep`; [`Error::Interrupted`]; a concept that there is not; a hook that later layers read, whose effect is not exact.
pub fn trial(
    rig: Rig,
    stream: &TokenStream,
    planted: &Arc<Planted>,
    kept: &mut Kept,
    keep: &mut dyn FnMut(&Kept) -> Result<()>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let numbers = chosen_concepts(planted, kept.config())?;
    // What is not exact is refused before anything is read.
    ExactEffect::new(rig.lm, rig.hook, rig.sae, &[])?;
    let ground = Ground::of(rig, stream, planted, &numbers, kept, keep, progress)?;
    progress.begin("steering trial", numbers.len() as u64, "concepts");
    for (i, &number) in numbers.iter().enumerate() {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        let name = &planted.concepts()[number].name;
        if !kept.done.iter().any(|done| done.concept == *name) {
            match ground.concept(i, number)? {
                Outcome::LeftOut(why) => progress.note(&format!("{name}: left out, {why}")),
                Outcome::Tried(done) => {
                    progress.note(&done.told());
                    kept.done.push(*done);
                    keep(kept)?;
                }
            }
        }
        progress.advance(1);
    }
    progress.end();
    Ok(())
}

/// What the trials of all concepts share, read and written once.
struct Ground<'a> {
    rig: Rig<'a>,
    stream: &'a TokenStream,
    planted: &'a Arc<Planted>,
    config: TrialConfig,
    sae: String,
    /// In the order in which they are tried.
    concepts: Vec<Concept>,
    seen: Seen,
    /// As many as any part writes.
    free: Vec<Vec<u32>>,
    /// None where every concept is only held at zero.
    choosing: Option<Choosing>,
    real: Writing,
    unedited_real: Written,
    elsewhere: Elsewhere,
}

/// What a feature and its strength are chosen by.
struct Choosing {
    table: Table,
    screen: Screen,
    pilots: [(usize, Writing); 2],
    unedited_pilots: [Written; 2],
}

enum Outcome {
    Tried(Box<ConceptTrial>),
    LeftOut(String),
}

impl<'a> Ground<'a> {
    fn of(
        rig: Rig<'a>,
        stream: &'a TokenStream,
        planted: &'a Arc<Planted>,
        numbers: &[usize],
        kept: &mut Kept,
        keep: &mut dyn FnMut(&Kept) -> Result<()>,
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        let config = kept.config().clone();
        let seen = look(rig, stream, numbers, config.n_tokens, progress)?;
        let free = vec![rig.prompt(""); (BASELINE * config.texts).max(pilot::FIRST).max(pilot::SECOND)];
        let sampling = |offset| sampling(&config, offset);
        let real = Writing::new(config.tokens, &sampling(3));
        let concepts: Vec<Concept> = numbers.iter().map(|&number| Concept::Planted(planted.clone(), number)).collect();
        // Written once: only what is counted in them differs.
        let unedited = |n: usize, writing: &Writing| Trial { rig, prompts: &free[..n], writing, concept: None }.write(Change::default());
        let only_zeroed = numbers.iter().all(|&number| config.zero_only.contains(&planted.concepts()[number].name));
        let choosing = if only_zeroed {
            None
        } else {
            let pilots = [(pilot::FIRST, Writing::new(pilot::TOKENS, &sampling(1))), (pilot::SECOND, Writing::new(pilot::TOKENS, &sampling(5)))];
            let table = Table::of(rig, &seen, config.max_perplexity_ratio.ln(), progress)?;
            let screen = match kept.screen.clone() {
                Some(screen) => screen,
                None => Screen::of(rig, &table.strongest(), &|latent| seen.max_act(latent), &concepts, &sampling(2), progress)?,
            };
            kept.screen = Some(screen.clone());
            keep(kept)?;
            let unedited_pilots = [unedited(pilots[0].0, &pilots[0].1)?, unedited(pilots[1].0, &pilots[1].1)?];
            Some(Choosing { table, screen, pilots, unedited_pilots })
        };
        let unedited_real = unedited(BASELINE * config.texts, &real)?;
        let elsewhere = Elsewhere::of(rig, stream, config.n_tokens / 4, progress);
        let sae = kept.sae().to_string();
        Ok(Ground { rig, stream, planted, config, sae, concepts, seen, free, choosing, real, unedited_real, elsewhere })
    }

    /// The trial of the i-th concept, the world's `number`.
    fn concept(&self, i: usize, number: usize) -> Result<Outcome> {
        let Ground { rig, stream, config, seen, .. } = self;
        let (world, concept) = (&self.planted.concepts()[number], &self.concepts[i]);
        let unedited = counted(*rig, &self.unedited_real, &self.free, concept);
        if unedited.concept_tokens < MIN_BASELINE {
            return Ok(Outcome::LeftOut(format!("{} tokens of it in the unedited texts say nothing about a rate", unedited.concept_tokens)));
        }
        let ranked = match seen.evidence[i].rank(rig.lm, rig.hook, rig.sae) {
            Ok(ranked) => ranked,
            Err(e) => return Ok(Outcome::LeftOut(e.to_string())),
        };
        let mut raising = match &self.choosing {
            Some(choosing) if !config.zero_only.contains(&world.name) => {
                let Some(chosen) = self.chosen(choosing, i)? else {
                    return Ok(Outcome::LeftOut("no feature fires before it".into()));
                };
                Some(self.raising(i, number, chosen, &ranked, &unedited)?)
            }
            _ => None,
        };
        let driven = Driven { rig: *rig, stream, number, concept, lasts: world.kind == ConceptKind::Context };
        let Some(left) = driven.left(&self.elsewhere, config, raising.as_ref().map(|r| r.latent), &sampling(config, 4))? else {
            return Ok(Outcome::LeftOut("nothing of it in held-out half A to choose a feature by".into()));
        };
        if let Some(raising) = &mut raising {
            raising.zeroed = left.raised;
        }
        Ok(Outcome::Tried(Box::new(ConceptTrial {
            concept: world.name.clone(),
            kind: super::exam::kind_name(world.kind).into(),
            from_context: world.from_context,
            sae: self.sae.clone(),
            baseline_tokens: unedited.concept_tokens,
            baseline_rate: unedited.concept_rate,
            raising,
            zeroed: left.one,
            zeroed_four: left.four,
            zeroed_hook: left.hook,
        })))
    }

    /// What counts: texts with the chosen feature, and with what else would have done the same.
    fn raising(&self, i: usize, number: usize, chosen: Chosen, ranked: &[Fitted], unedited: &Measures) -> Result<Raising> {
        let Ground { rig, stream, config, seen, free, real, .. } = self;
        let (rig, concept, Chosen { latent, strength, whole }) = (*rig, &self.concepts[i], chosen);
        let trial = Trial { rig, prompts: &free[..config.texts], writing: real, concept: Some(concept) };
        let arm = |measures: &Measures| arm(measures, unedited);
        let steering = clamp(rig, latent, strength * seen.max_act(latent))?;
        let feature = arm(&trial.write((&steering).into())?.measures);
        // At the feature's own mean KL on half A, exactly; other ways cannot be matched on texts that are drawn.
        let bias = |strength: f32| -> Vec<f32> { seen.bias(i, strength) };
        let kl = seen.mean_kl(rig, &Way::Feature(latent, strength * seen.max_act(latent)))?;
        let found = at_kl(kl, 12.0, &mut |s| seen.mean_kl(rig, &Way::Bias(&bias(s))))?;
        let logit_bias = arm(&trial.write(Change { steering: None, bias: Some(&bias(found)) })?.measures);
        let direction = seen.mean_difference(i);
        let found = at_kl(kl, 50.0, &mut |s| seen.mean_kl(rig, &Way::Push(&direction, s)))?;
        let mean_difference = arm(&trial.write((&Steering::push(&direction, found)).into())?.measures);
        let prompt = prompted(rig, stream, number, config, real, concept, unedited)?;
        let mut random = Vec::new();
        for other in like(seen, latent, ranked, config.seed) {
            let max_act = seen.max_act(other);
            random.push(arm(&trial.write((&clamp(rig, other, strength * max_act)?).into())?.measures));
        }
        Ok(Raising { latent, strength, whole, feature, logit_bias, mean_difference, prompt, random, zeroed: None })
    }

    /// The feature and its strength: of those that give most of the i-th concept by exact next-token distributions on half A and those with which most of it was
    /// written, the one that pilot texts have most of, as strong as leaves these whole.
    fn chosen(&self, choosing: &Choosing, i: usize) -> Result<Option<Chosen>> {
        let Ground { rig, config, .. } = self;
        let Choosing { table, screen, pilots, unedited_pilots } = choosing;
        let mut promising = screen.promising(i, config.candidates);
        promising.extend(table.promising(i, config.candidates).into_iter().filter(|t| promising.iter().all(|p| p.0 != t.0)).collect::<Vec<_>>());
        let rounds = [0, 1].map(|r| {
            let (n, writing) = &pilots[r];
            let trial = Trial { rig: *rig, prompts: &self.free[..*n], writing, concept: Some(&self.concepts[i]) };
            Round { trial, unedited: counted(*rig, &unedited_pilots[r], &self.free, &self.concepts[i]) }
        });
        let bounds = Bounds { max_perplexity_ratio: config.max_perplexity_ratio, ..Bounds::default() };
        pilot(*rig, &rounds, bounds, &promising, &|latent| self.seen.max_act(latent))
    }
}

fn sampling(config: &TrialConfig, offset: u64) -> Sampling {
    Sampling { temperature: config.temperature, top_k: None, top_p: None, seed: config.seed.wrapping_add(offset << 20) }
}

/// Names of the concepts that a trial of this configuration is about.
///
/// # Errors
/// A concept that there is not.
pub fn concepts(planted: &Planted, config: &TrialConfig) -> Result<Vec<String>> {
    Ok(chosen_concepts(planted, config)?.into_iter().map(|i| planted.concepts()[i].name.clone()).collect())
}

fn chosen_concepts(planted: &Planted, config: &TrialConfig) -> Result<Vec<usize>> {
    let known = planted.concepts();
    let can = |i: &usize| planted.has_recogniser(*i);
    let find = |name: &String| (0..known.len()).filter(can).find(|&i| known[i].name == *name);
    let wanted = |name: &String| find(name).ok_or_else(|| Error::Trial(format!("there is no concept {name:?} that can be recognised in text")));
    if !config.concepts.is_empty() {
        return config.concepts.iter().map(wanted).collect();
    }
    let kinds = |i: &usize| known[*i].scored && matches!(known[*i].kind, ConceptKind::Class | ConceptKind::Context | ConceptKind::Sense);
    Ok((0..known.len()).filter(can).filter(kinds).collect())
}

/// What texts are like with another concept counted in them.
fn counted(rig: Rig, written: &Written, prompts: &[Vec<u32>], concept: &Concept) -> Measures {
    let hits: u64 = prompts.par_iter().zip(&written.texts).map(|(prompt, text)| concept.count(rig.tokenizer, prompt, text)).sum();
    Measures { concept_tokens: hits, concept_rate: hits as f64 / written.measures.n_tokens.max(1) as f64, ..written.measures.clone() }
}

fn arm(measures: &Measures, unedited: &Measures) -> Arm {
    Arm {
        rate: measures.concept_rate,
        times: (unedited.concept_rate > 0.0).then(|| measures.concept_rate / unedited.concept_rate),
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
