//! Scores of latents against known concepts, by the exam's rules. Reads the held-out halves of the stream; writes nothing.
//!
//! Whole windows are read at even distances over each half. F1 over tokens (`<|endoftext|>` and first positions of windows left out). For every concept and unit the threshold is the one of 32
//! values of the unit's activation ([`units::grid`]) with the best F1 on half A; the unit with the best F1 on A is scored once on half B. Neurons
//! get the same grid, both signs, and the same size of union. A union is chosen greedily on A among the 64 best units: at most three, or five for a
//! kind of document, which is a script or a format of many words rather than one concept.
//! For a regular expression the positive is the token that holds the match's last byte; other tokens that overlap a match are left out.
//! A class is found when one latent fires on at least three of its surface forms, each at recall 0.3 or more on B (forms with five
//! positives or more); the number of effective forms is exp(entropy) of its true positives over forms.
//! Chance is measured by [`N_DRAWS`] draws of as many random directions as there are latents: of each draw the best on A, scored on B.
//! A concept with fewer than [`MIN_POSITIVES`] positives in either half is too rare to be judged: it is listed and does not count.
//! AUC: among tokens whose id occurs at least five times with and five times without the concept on A, the probability that a token with
//! it has the higher activation; the unit is chosen on A among the 64 best.

mod floors;
mod text;
pub mod units;

#[cfg(test)]
mod tests;

pub use floors::N_DRAWS;
pub use text::{ExamConcept, Half, Halves, Truth};

use super::text::StreamText;
use super::{Error, Result, can_be_negative};
use crate::artifact::Progress;
use crate::corpus::{TokenStream, Tokenizer, counts};
use crate::lm::{Engine, HookPoint};
use crate::sae::{Sae, SparseRows};
use floors::Directions;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::{Acts, Cell, Dense, GRID, auc, candidates, fire, greedy_union, score_all};

/// Of `exam.json`: raised when a score changes its meaning or the concepts of a text change.
pub const FORMAT_VERSION: u32 = 3;

/// How the exam is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExamConfig {
    /// Tokens read of each half, in whole windows at even distances over it. Memory: 8 d_in bytes each for the neurons of both halves, some 32 per active latent.
    pub n_tokens: u64,
    /// Latents listed per concept.
    pub n_ranked: usize,
    /// Also the linear probe.
    pub probe: bool,
    pub seed: u64,
}

impl Default for ExamConfig {
    fn default() -> Self {
        ExamConfig { n_tokens: 200_000, n_ranked: 10, probe: false, seed: 0 }
    }
}

/// With fewer positives than this on A or on B a concept is too rare to be judged: there is nothing to choose by, or one hit moves F1 by a twentieth.
pub const MIN_POSITIVES: u64 = 20;
/// Units that a union for a concept may have.
pub const MAX_UNION: usize = 3;
/// Units that a union for a kind of document may have.
pub const MAX_UNION_OF_KIND: usize = 5;

/// One unit's score for a concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitScore {
    /// Latent, or neuron.
    pub id: u32,
    /// For neurons: which side; true for latents.
    pub positive: bool,
    /// Fires at or above this activation; chosen on A.
    pub threshold: f32,
    pub f1_a: f64,
    pub f1_b: f64,
    /// On B.
    pub precision: f64,
    pub recall: f64,
}

/// A union's score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnionScore {
    /// (unit as in [`UnitScore::id`], positive side) in the order they were chosen.
    pub ids: Vec<(u32, bool)>,
    pub f1_a: f64,
    pub f1_b: f64,
}

/// How a population of units does on a concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Best first by F1 on A; the first is the one that counts.
    pub ranked: Vec<UnitScore>,
    pub union: UnionScore,
    /// Absent where no token is both with and without the concept.
    pub auc: Option<f64>,
}

impl Found {
    /// F1 on B of the single best unit; 0 where none ever fires on the concept.
    pub fn f1(&self) -> f64 {
        self.ranked.first().map_or(0.0, |u| u.f1_b)
    }
}

/// What the best latent fires on, on B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormScore {
    pub form: String,
    pub n_pos: u64,
    pub recall: f64,
}

/// One concept's scores; every `f1` is on B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConceptScore {
    pub concept: String,
    pub kind: String,
    /// Positives on A and on B.
    pub n_pos: (u64, u64),
    /// Either is below [`MIN_POSITIVES`]: the scores say nothing and are not counted.
    pub too_rare: bool,
    /// F1 of the predictor that sees only the token.
    pub token_only: f64,
    /// `token_only` is at most 0.5, and the concept is not too rare to tell.
    pub from_context: bool,
    pub latents: Found,
    pub neurons: Found,
    /// Of the first draw.
    pub random: Found,
    /// F1 of the best of each draw of random directions, the first draw first; empty in an exam of an older version.
    #[serde(default)]
    pub random_draws: Vec<f64>,
    /// The SAE of the untrained or shuffled-weights model, where one was given.
    pub untrained: Option<Found>,
    /// Linear probe on the activations, in the full exam.
    pub probe: Option<f64>,
    /// Forms with at least five positives on B, commonest first, at most 20.
    pub forms: Vec<FormScore>,
    /// Forms on which the best latent has recall 0.3 or more.
    pub n_forms_found: usize,
    pub effective_forms: f64,
}

/// A mean with its standard deviation over draws (that of the draws themselves, n - 1 in its denominator).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub mean: f64,
    /// 0 for one draw.
    pub sd: f64,
    pub n: usize,
}

impl Spread {
    pub fn of(draws: &[f64]) -> Self {
        let n = draws.len();
        let mean = draws.iter().sum::<f64>() / n.max(1) as f64;
        let squares: f64 = draws.iter().map(|x| (x - mean).powi(2)).sum();
        Spread { mean, sd: if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 }, n }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Spread { mean, sd, .. } = self;
        if self.n > 1 { write!(f, "{mean:.2} \u{b1} {sd:.2}") } else { write!(f, "{mean:.2}") }
    }
}

impl ConceptScore {
    /// What the best of as many random directions as latents reaches by chance.
    pub fn chance(&self) -> Spread {
        if self.random_draws.is_empty() { Spread::of(&[self.random.f1()]) } else { Spread::of(&self.random_draws) }
    }

    /// The rule for classes: one latent fires on at least three forms, each at recall 0.3 or more.
    pub fn is_class_found(&self) -> bool {
        self.n_forms_found >= 3
    }

    /// Whether a good score is worth showing to people: not of what is too rare to judge, of a control, or of a class known by one or two words.
    pub fn is_a_finding(&self) -> bool {
        let control = self.kind == "negative" || self.kind == "two-hop";
        !self.too_rare && !control && (self.kind != "class" || self.is_class_found())
    }
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExamReport {
    /// Tokens that count on A and on B.
    pub n_tokens: (u64, u64),
    pub n_latents: usize,
    pub concepts: Vec<ConceptScore>,
    /// Per latent that fires on one that is not too rare: (latent, concept with the best F1 on A, its F1 on B). For `store::set_concepts`.
    pub best_of_latent: Vec<(u32, String, f64)>,
}

/// Model, SAE and text of an exam.
pub struct Subject<'a> {
    pub engine: &'a mut dyn Engine,
    pub sae: &'a Sae,
}

/// Holds the exam. `untrained` is the control: another model (weights shuffled or untrained) with the SAE trained on it, same hook.
#[allow(clippy::too_many_arguments)]
pub fn exam(
    subject: Subject,
    untrained: Option<Subject>,
    stream: &TokenStream,
    tokenizer: &Tokenizer,
    hook: HookPoint,
    concepts: &[ExamConcept],
    config: &ExamConfig,
    progress: &mut dyn Progress,
) -> Result<ExamReport> {
    exam_in(subject, untrained, stream, &StreamText { stream, tokenizer }, hook, concepts, config, progress)
}

#[allow(clippy::too_many_arguments)]
fn exam_in(
    subject: Subject,
    untrained: Option<Subject>,
    stream: &TokenStream,
    text: &dyn super::text::Text,
    hook: HookPoint,
    concepts: &[ExamConcept],
    config: &ExamConfig,
    progress: &mut dyn Progress,
) -> Result<ExamReport> {
    let n_ctx = subject.engine.config().n_ctx;
    let both = can_be_negative(hook, subject.engine.config());
    let halves = Halves::read(stream, text, n_ctx, config.n_tokens, concepts)?;
    let Subject { engine, sae } = subject;
    let (a, dense_a) = activations(engine, sae, &halves.a, stream, hook, progress)?;
    let (b, dense_b) = activations(engine, sae, &halves.b, stream, hook, progress)?;
    let untrained = match untrained {
        None => None,
        Some(Subject { engine, sae }) => {
            let (a, _) = activations(engine, sae, &halves.a, stream, hook, progress)?;
            let (b, _) = activations(engine, sae, &halves.b, stream, hook, progress)?;
            Some([a, b])
        }
    };
    progress.begin("scores against concepts", 4 + N_DRAWS as u64, "steps");
    let draw = |draw: usize| {
        let drawn = Directions::new(&dense_a, &a, config.seed, draw as u64);
        let on_a = drawn.fire(&dense_a);
        (drawn, on_a)
    };
    let (drawn, on_a) = draw(0);
    let random = [on_a, drawn.fire(&dense_b)];
    progress.advance(1);
    let mut more_draws = vec![];
    for i in 1..N_DRAWS {
        let (drawn, on_a) = draw(i);
        more_draws.push(floors::best_of(&halves, &drawn, &dense_b, &on_a));
        progress.advance(1);
    }
    let probe = config.probe.then(|| floors::probe(&dense_a, &dense_b, &halves));
    let neurons = [dense_a, dense_b].map(|rows| Acts::Neurons { rows, both });
    let d_in = hook.d_in(engine.config());

    let max_union: Vec<usize> = concepts.iter().map(|c| if matches!(c.truth, Truth::Kind(_)) { MAX_UNION_OF_KIND } else { MAX_UNION }).collect();
    let latent_scores = Scored::new(&halves, &max_union, [&a, &b], None);
    progress.advance(1);
    let found_neurons = Scored::new(&halves, &max_union, [&neurons[0], &neurons[1]], Some(d_in)).all(config.n_ranked);
    progress.advance(1);
    let found_random = Scored::new(&halves, &max_union, [&random[0], &random[1]], None).all(config.n_ranked);
    progress.advance(1);
    let found_untrained = untrained.as_ref().map(|[a, b]| Scored::new(&halves, &max_union, [a, b], None).all(config.n_ranked));
    let found_latents = latent_scores.all(config.n_ranked);
    let forms: Vec<Forms> = (0..concepts.len()).map(|c| forms(&halves, &b, c, found_latents[c].ranked.first())).collect();
    let best_of_latent = latent_scores.best_concepts(concepts);
    progress.advance(1);
    progress.end();

    let parts = found_latents.into_iter().zip(found_neurons).zip(found_random).zip(forms).zip(concepts).enumerate();
    let scores = parts.map(|(c, ((((latents, neurons), random), forms), concept))| {
        let token_only = floors::token_only(&halves, c);
        let too_rare = is_too_rare(&halves, c);
        ConceptScore {
            concept: concept.name.clone(),
            kind: concept.kind.clone(),
            n_pos: (halves.a.positives[c].len() as u64, halves.b.positives[c].len() as u64),
            too_rare,
            token_only,
            from_context: token_only <= 0.5 && !too_rare,
            latents,
            neurons,
            random_draws: std::iter::once(random.f1()).chain(more_draws.iter().map(|draw| draw[c])).collect(),
            random,
            untrained: found_untrained.as_ref().map(|f| f[c].clone()),
            probe: probe.as_ref().map(|p| p[c]),
            forms: forms.listed,
            n_forms_found: forms.n_found,
            effective_forms: forms.effective,
        }
    });
    Ok(ExamReport { n_tokens: (halves.a.n() as u64, halves.b.n() as u64), n_latents: sae.d_sae, concepts: scores.collect(), best_of_latent })
}

fn is_too_rare(halves: &Halves, concept: usize) -> bool {
    [&halves.a, &halves.b].iter().any(|half| (half.positives[concept].len() as u64) < MIN_POSITIVES)
}

/// Runs a half through model and SAE: latents by unit, and the rows themselves. Rows that do not count are dropped.
fn activations(
    engine: &mut dyn Engine,
    sae: &Sae,
    half: &Half,
    stream: &TokenStream,
    hook: HookPoint,
    progress: &mut dyn Progress,
) -> Result<(Acts, Dense)> {
    let (n_ctx, d_in) = (engine.config().n_ctx, hook.d_in(engine.config()));
    if sae.d_in != d_in {
        return Err(Error::Invalid(format!("the SAE reads {} numbers, but {hook} has {d_in}\n  name the hook that it was trained on", sae.d_in)));
    }
    let mut dense = Dense::new(d_in);
    let mut encoder = sae.encoder();
    let mut latents = SparseRows::default();
    latents.clear();
    let (mut ids, mut rows, mut sparse) = (Vec::new(), Vec::new(), SparseRows::default());
    let per_batch = (4096 / n_ctx).max(1);
    progress.begin("activations of held-out text", half.n_read(), "tokens");
    for batch in half.t0.chunks(per_batch) {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        let n = batch.len() * n_ctx;
        ids.resize(n, 0);
        rows.resize(n * d_in, 0.0);
        ids.chunks_mut(n_ctx).zip(batch).for_each(|(ids, &t)| stream.read(t, ids));
        engine.forward_to(&ids, n_ctx, hook, &mut rows);
        encoder.encode(&rows, &mut sparse);
        for i in (0..n).filter(|&i| counts(ids[i], i % n_ctx, stream.end_of_text())) {
            let (units, acts) = sparse.row(i);
            latents.push_row(units, acts);
            dense.push(&rows[i * d_in..][..d_in]);
        }
        progress.advance(n as u64);
    }
    dense.finish();
    progress.end();
    Ok((Acts::from_rows(sae.d_sae, &latents), dense))
}

/// A population of units with its F1 on A for every concept.
struct Scored<'a> {
    halves: &'a Halves,
    /// Per concept.
    max_union: &'a [usize],
    a: &'a Acts,
    b: &'a Acts,
    /// For neurons: units from here on are negative sides.
    d_in: Option<usize>,
    cells: Vec<Cell>,
    grids: Vec<[f32; GRID]>,
}

impl<'a> Scored<'a> {
    fn new(halves: &'a Halves, max_union: &'a [usize], [a, b]: [&'a Acts; 2], d_in: Option<usize>) -> Self {
        let (cells, grids) = score_all(&halves.a, a);
        Scored { halves, max_union, a, b, d_in, cells, grids }
    }

    fn n_concepts(&self) -> usize {
        self.halves.a.positives.len()
    }

    /// The outcome for every concept.
    fn all(&self, n_ranked: usize) -> Vec<Found> {
        (0..self.n_concepts()).into_par_iter().map(|concept| self.found(concept, n_ranked)).collect()
    }

    fn found(&self, concept: usize, n_ranked: usize) -> Found {
        let (truth_a, truth_b) = (self.halves.a.truth(concept), self.halves.b.truth(concept));
        let candidates = candidates(&self.cells, self.n_concepts(), concept);
        let ranked = candidates.iter().take(n_ranked).map(|&(unit, cell)| {
            let threshold = self.grids[unit as usize][cell.bin as usize];
            let (_, on_b) = fire(self.b, &truth_b, &[(unit, threshold)]);
            let (id, positive) = self.name(unit);
            UnitScore { id, positive, threshold, f1_a: cell.f1 as f64, f1_b: on_b.f1(), precision: on_b.precision(), recall: on_b.recall() }
        });
        let ranked = ranked.collect();
        let (chosen, f1_a) = greedy_union(self.a, &self.grids, &truth_a, &candidates, self.max_union[concept]);
        let f1_b = fire(self.b, &truth_b, &chosen).1.f1();
        let union = UnionScore { ids: chosen.iter().map(|c| self.name(c.0)).collect(), f1_a, f1_b };
        Found { ranked, union, auc: self.auc(&truth_a, &truth_b, &candidates) }
    }

    /// See the module's header; the tokens are those of A in both halves.
    fn auc(&self, truth_a: &[u8], truth_b: &[u8], candidates: &[(u32, Cell)]) -> Option<f64> {
        let mut by_token = vec![[0u32; 3]; self.halves.n_ids()];
        self.halves.a.ids.iter().zip(truth_a).for_each(|(&id, &t)| by_token[id as usize][t as usize] += 1);
        let shared = |half: &Half, truth: &[u8]| -> Vec<(u32, bool)> {
            let rows = half.ids.iter().zip(truth).enumerate();
            let with_both = rows.filter(|&(_, (&id, &t))| t < 2 && by_token[id as usize][..2].iter().all(|&n| n >= 5));
            with_both.map(|(row, (_, &t))| (row as u32, t == 1)).collect()
        };
        let rows = shared(&self.halves.a, truth_a);
        let scored = candidates.iter().filter_map(|c| Some((auc_on(&rows, self.a, c.0)?, c.0)));
        let best = scored.fold(None, |best: Option<(f64, u32)>, next| if best.is_none_or(|b| next.0 > b.0) { Some(next) } else { best })?;
        auc_on(&shared(&self.halves.b, truth_b), self.b, best.1)
    }

    /// For every unit the concept with its best F1 on A, and that F1 on B; concepts that are too rare and units that fire on none are left out.
    fn best_concepts(&self, concepts: &[ExamConcept]) -> Vec<(u32, String, f64)> {
        let judged: Vec<usize> = (0..self.n_concepts()).filter(|&c| !is_too_rare(self.halves, c)).collect();
        let mut units_of: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (unit, cells) in self.cells.chunks(self.n_concepts().max(1)).enumerate() {
            let best = judged.iter().copied().rev().max_by(|&a, &b| cells[a].f1.total_cmp(&cells[b].f1));
            if let Some(best) = best.filter(|&c| cells[c].f1 > 0.0) {
                units_of.entry(best).or_default().push(unit as u32);
            }
        }
        let mut found = Vec::new();
        for (c, units) in units_of {
            let truth = self.halves.b.truth(c);
            found.par_extend(units.par_iter().map(|&unit| {
                let cell = self.cells[unit as usize * self.n_concepts() + c];
                let threshold = self.grids[unit as usize][cell.bin as usize];
                (unit, concepts[c].name.clone(), fire(self.b, &truth, &[(unit, threshold)]).1.f1())
            }));
        }
        found.sort_by_key(|f| f.0);
        found
    }

    fn name(&self, unit: u32) -> (u32, bool) {
        match self.d_in {
            Some(d_in) => (unit % d_in as u32, (unit as usize) < d_in),
            None => (unit, true),
        }
    }
}

/// Of a unit over rows that are with the concept or without it; `None` where either are fewer than five.
fn auc_on(rows: &[(u32, bool)], acts: &Acts, unit: u32) -> Option<f64> {
    let mut firings = Vec::new();
    acts.firings(unit as usize, &mut firings);
    let mut firings = firings.into_iter().peekable();
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for &(row, with) in rows {
        while firings.next_if(|f| f.0 < row).is_some() {}
        let act = firings.next_if(|f| f.0 == row).map_or(0.0, |f| f.1);
        if with { positive.push(act) } else { negative.push(act) }
    }
    (positive.len() >= 5 && negative.len() >= 5).then(|| auc(&positive, &negative))
}

struct Forms {
    listed: Vec<FormScore>,
    n_found: usize,
    effective: f64,
}

/// Forms with fewer positives on B than this say nothing about recall.
const MIN_FORM: u64 = 5;
/// Recall from which a form counts as found.
const FORM_RECALL: f64 = 0.3;

/// Recall of the best latent on each surface form, on B.
fn forms(halves: &Halves, b: &Acts, concept: usize, best: Option<&UnitScore>) -> Forms {
    let chosen: Vec<(u32, f32)> = best.iter().map(|u| (u.id, u.threshold)).collect();
    let (fires, _) = fire(b, &halves.b.truth(concept), &chosen);
    let mut by_form: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for &(row, form) in &halves.b.positives[concept] {
        let slot = by_form.entry(form).or_default();
        *slot = (slot.0 + fires[row as usize] as u64, slot.1 + 1);
    }
    let hits = by_form.values().map(|&(hits, _)| hits as f64).filter(|&h| h > 0.0);
    let effective = super::collect::effective_tokens(hits);
    let mut listed: Vec<FormScore> = by_form
        .iter()
        .filter(|(_, (_, n))| *n >= MIN_FORM)
        .map(|(form, (hits, n))| FormScore { form: halves.forms[*form as usize].clone(), n_pos: *n, recall: *hits as f64 / *n as f64 })
        .collect();
    let n_found = listed.iter().filter(|f| f.recall >= FORM_RECALL).count();
    listed.sort_by(|a, b| b.n_pos.cmp(&a.n_pos).then(a.form.cmp(&b.form)));
    listed.truncate(20);
    Forms { listed, n_found, effective }
}
