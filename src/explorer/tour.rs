//! The first page: a few striking features, the most polysemantic neuron beside them, the figures of the run.

use super::app::{App, Page, Part, part};
use super::evidence::{self, CensusRow};
use super::view::{ContextView, Fact, UnitView, Units, percent, significant, text_of};
use crate::artifact::grouped;
use crate::features::Dictionary;
use crate::features::exam::{ExamReport, Spread};
use crate::features::shares;
use crate::features::store::{FeatureDetail, FeatureSummary, Flag, GroupKind, ListQuery, Sort};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

const N_FEATURES: usize = 6;
const N_CONTEXTS: usize = 6;
/// F1 from which a concept counts as found here.
const MIN_F1: f64 = 0.8;
/// The same for a regular expression, which is only a stand-in for what somebody meant.
const MIN_F1_OF_REGEX: f64 = 0.6;

pub const RULE: &str = "Chosen by rule: first features that somebody labelled; then the best one for each known regular expression (F1 0.6 or \
                        more); then, from each other kind of known concept in turn, the feature that is best for one (F1 0.8 or more) and leads \
                        both the best neuron and random directions by most; then the least polysemantic that fire on three or more different tokens \
                        (effectively) and share none of their strongest with another. Dead, ultra-rare, dense, single-token and junk ones are left out. Each \
                        shows two random firings, two from the middle of its range and two of its strongest. F1 is that of held-out text that chose nothing; \
                        beside it the best neuron, the best guess from the token alone, and the best of as many random directions as there are features \
                        (mean and standard deviation over draws).";
pub const NEURON_RULE: &str = "Of the model's own neurons, the one whose strongest contexts are about the most unrelated things by the measure of the \
                               dictionary, its contexts chosen as above.";

#[derive(Debug, Serialize)]
pub struct TourPage {
    pub figures: Vec<Fact>,
    /// How many features, and neurons, are of each category; empty for dictionaries of version 1.
    pub census: Vec<CensusRow>,
    pub neuron_census: Vec<CensusRow>,
    pub rule: &'static str,
    pub neuron_rule: &'static str,
    pub n_features: String,
    #[serde(serialize_with = "part")]
    pub features: Part<Vec<Card>>,
    #[serde(serialize_with = "part")]
    pub neurons: Part<Vec<Card>>,
}

/// A unit with a few of its contexts.
#[derive(Debug, Serialize)]
pub struct Card {
    pub unit: UnitView,
    /// What is known of it beside its contexts, or nothing.
    pub note: String,
    pub contexts: Vec<ContextView>,
}

/// A known concept and the feature that is best for it, with what it must be better than; all F1 on held-out B.
#[derive(Debug, Clone)]
struct FoundConcept {
    latent: u32,
    concept: String,
    f1: f64,
    neuron: f64,
    /// Of the best guess from the token alone.
    token_only: f64,
    /// Of as many random directions, over draws.
    random: Spread,
}

impl FoundConcept {
    fn note(&self) -> String {
        let FoundConcept { concept, f1, neuron, token_only, random, .. } = self;
        format!("{concept}, F1 {f1:.2}; best neuron {neuron:.2}, token alone {token_only:.2}, random {random}")
    }
}

impl App {
    pub fn tour(&self) -> Page<TourPage> {
        let features = self.dictionary(Units::Features);
        let neurons = self.dictionary(Units::Neurons);
        let n_features = features.as_ref().map(|d| grouped(u64::from(d.meta().n_units))).unwrap_or_default();
        Ok(TourPage {
            figures: self.figures(features.as_deref().ok()),
            census: features.as_ref().map(|d| evidence::census(d.meta())).unwrap_or_default(),
            neuron_census: neurons.as_ref().map(|d| evidence::census(d.meta())).unwrap_or_default(),
            rule: RULE,
            neuron_rule: NEURON_RULE,
            n_features,
            features: match features {
                Ok(dictionary) => Ok(self.striking(&dictionary)?),
                Err(missing) => Err(missing),
            },
            neurons: match neurons {
                Ok(dictionary) => Ok(self.most_mixed(&dictionary)?),
                Err(missing) => Err(missing),
            },
        })
    }

    fn striking(&self, dictionary: &Dictionary) -> Page<Vec<Card>> {
        let labels = self.label_texts(Units::Features, dictionary.meta());
        let found = self.found_concepts();
        let notes: HashMap<(u32, String), String> = found.iter().map(|c| ((c.latent, c.concept.clone()), c.note())).collect();
        self.chosen(dictionary, &labels, &found)?
            .iter()
            .map(|s| {
                let note = s.concept.as_ref().and_then(|c| notes.get(&(s.id, c.name.clone())).cloned()).unwrap_or_default();
                Ok(self.card(dictionary, Units::Features, s, labels.get(&s.id).cloned(), note)?)
            })
            .collect()
    }

    /// The feature that a steering page starts with: the first of the tour.
    pub fn first_choice(&self, dictionary: &Dictionary) -> Page<u32> {
        let labels = self.label_texts(Units::Features, dictionary.meta());
        Ok(self.chosen(dictionary, &labels, &self.found_concepts())?.first().map_or(0, |s| s.id))
    }

    fn chosen(&self, dictionary: &Dictionary, labels: &HashMap<u32, String>, found: &[FoundConcept]) -> Page<Vec<FeatureSummary>> {
        let all = self.summaries(Units::Features, dictionary)?;
        let left_out = [Flag::Dead, Flag::UltraRare, Flag::Dense, Flag::SingleToken, Flag::Junk];
        let fit = |s: &&FeatureSummary| !s.flags.iter().any(|f| left_out.contains(f));
        let mut labelled: Vec<&FeatureSummary> = all.iter().filter(|s| labels.contains_key(&s.id)).filter(fit).collect();
        labelled.sort_by(|a, b| b.max_act.total_cmp(&a.max_act).then(a.id.cmp(&b.id)));
        // A dictionary that was built anew after the exam does not know the concept, and then the exam is about other features.
        let agrees = |c: &FoundConcept, s: &FeatureSummary| s.concept.as_ref().is_some_and(|known| known.name == c.concept);
        let known = found.iter().filter_map(|c| all.get(c.latent as usize).filter(|s| agrees(c, s))).filter(fit);
        let mut pure: Vec<&FeatureSummary> = all.iter().filter(fit).filter(|s| s.density >= 1e-4 && s.effective_tokens >= 3.0).collect();
        pure.sort_by(|a, b| a.polysemantic.total_cmp(&b.polysemantic).then(a.id.cmp(&b.id)));

        let mut chosen: Vec<FeatureSummary> = vec![];
        let mut seen = HashSet::new();
        chosen.extend(labelled.into_iter().chain(known).filter(|s| seen.insert(s.id)).take(N_FEATURES).cloned());
        let tokens = |s: &FeatureSummary| s.top_tokens.iter().take(6).map(|t| t.token.id).collect::<Vec<_>>();
        let mut taken: HashSet<u32> = chosen.iter().flat_map(tokens).collect();
        for s in pure {
            if chosen.len() < N_FEATURES && !seen.contains(&s.id) && tokens(s).iter().all(|t| !taken.contains(t)) {
                taken.extend(tokens(s));
                chosen.push(s.clone());
            }
        }
        Ok(chosen)
    }

    /// What the exam found. Empty without an exam.
    fn found_concepts(&self) -> Vec<FoundConcept> {
        let path = self.run.sae(&self.sae).join("exam.json");
        let Ok(exam) = crate::artifact::read_json::<ExamReport>(&path) else { return vec![] };
        in_turn(exam)
    }

    fn most_mixed(&self, dictionary: &Dictionary) -> Page<Vec<Card>> {
        let labels = self.label_texts(Units::Neurons, dictionary.meta());
        let query =
            ListQuery { sort: Sort::Polysemantic, descending: true, without: vec![Flag::Dead, Flag::UltraRare], limit: 1, ..Default::default() };
        let found = dictionary.list(&query)?.features;
        found.iter().map(|s| Ok(self.card(dictionary, Units::Neurons, s, labels.get(&s.id).cloned(), String::new())?)).collect()
    }

    fn card(
        &self,
        dictionary: &Dictionary,
        units: Units,
        summary: &FeatureSummary,
        label: Option<String>,
        note: String,
    ) -> crate::features::Result<Card> {
        let detail = dictionary.feature(summary.id, &self.stream, &self.tokenizer)?;
        let unit = UnitView::new(units, summary, label);
        let note = match (note.is_empty(), units) {
            (true, Units::Neurons) => shares::card(&detail, &self.stream).line(),
            (true, Units::Features) => unit.concept(),
            (false, _) => note,
        };
        let mut contexts = contexts(&detail, &unit.href());
        let has_why = !self.is_imported();
        contexts.iter_mut().for_each(|c| c.has_why = has_why);
        Ok(Card { unit, note, contexts })
    }

    /// As `eval.json` has them, on held-out text; without it the dead as the dictionary counts them, on the text that it was made from.
    fn figures(&self, dictionary: Option<&Dictionary>) -> Vec<Fact> {
        let mut figures = vec![];
        let path = self.run.sae(&self.sae).join("eval.json");
        if let Ok(eval) = crate::artifact::read_json::<crate::sae::Eval>(&path) {
            figures.push(Fact::new("L0", significant(eval.l0), "latents per token"));
            if let Some((spliced, clean)) = eval.ce_spliced.zip(eval.ce_clean) {
                let share = |share: Option<f64>| share.map_or("-".into(), percent_of_one);
                let beside = format!("against zeroing; {} against the mean; gap {:+.3} nat", share(eval.ce_recovered_mean), spliced - clean);
                figures.push(Fact::new("CE recovered", share(eval.ce_recovered_zero), &beside));
            }
            figures.push(Fact::new("explained variance", percent_of_one(eval.explained_variance), ""));
            let of = format!("of {} on {} held-out tokens", grouped(eval.n_latents), grouped(eval.n_eval_tokens));
            figures.push(Fact::new("dead", percent(eval.dead_frac), &of));
            figures.push(rare_and_junk(&eval));
        } else if let Some(meta) = dictionary.map(Dictionary::meta) {
            let dead = meta.n_dead as f64 / f64::from(meta.n_units.max(1));
            let of = format!("of {} on {} tokens of {}", grouped(u64::from(meta.n_units)), grouped(meta.n_tokens), text_of(meta));
            figures.push(Fact::new("dead", percent(dead), &of));
            figures.push(Fact::new("ultra-rare, junk", format!("{}, {}", grouped(meta.n_ultra_rare), grouped(meta.n_junk)), "features"));
        }
        if let Some(meta) = dictionary.map(Dictionary::meta) {
            let target = crate::sae::read_origin(&self.run.sae(&self.sae)).ok().and_then(|origin| origin.hook_name_out);
            let place = target.map_or(meta.hook.clone(), |target| format!("{}, a transcoder: reconstructs {target}", meta.hook));
            figures.push(Fact::new("hook", format!("{} wide", grouped(meta.d_in as u64)), &place));
        }
        figures
    }
}

/// Ultra-rare and junk features. On so few tokens that one firing is not rare it says so in place of the share.
fn rare_and_junk(eval: &crate::sae::Eval) -> Fact {
    let note = match eval.ultra_rare_frac {
        Some(_) => "of features",
        None => "of features; ultra-rare is told on more than a million held-out tokens, if the text has as many (sae eval --tokens 2000000)",
    };
    let rare = eval.ultra_rare_frac.map_or("not told".into(), percent);
    Fact::new("ultra-rare, junk", format!("{rare}, {}", eval.junk_frac.map_or("-".into(), percent)), note)
}

/// Every regular expression that was found, then a concept of each other kind in turn; within a kind by the lead over the best neuron or over
/// random directions, whichever is less.
fn in_turn(exam: ExamReport) -> Vec<FoundConcept> {
    let mut by_kind: Vec<(String, Vec<FoundConcept>)> = vec![];
    for score in exam.concepts.into_iter().filter(|c| c.is_a_finding()) {
        let least = if score.kind == "regex" { MIN_F1_OF_REGEX } else { MIN_F1 };
        let Some(latent) = score.latents.ranked.first().filter(|u| u.f1_b >= least) else { continue };
        let (neuron, random, token_only) = (score.neurons.f1(), score.chance(), score.token_only);
        let found = FoundConcept { latent: latent.id, f1: latent.f1_b, neuron, token_only, random, concept: score.concept };
        match by_kind.iter_mut().find(|(kind, _)| *kind == score.kind) {
            Some((_, list)) => list.push(found),
            None => by_kind.push((score.kind, vec![found])),
        }
    }
    let lead = |c: &FoundConcept| c.f1 - c.neuron.max(c.random.mean);
    for (_, list) in &mut by_kind {
        list.sort_by(|a, b| lead(b).total_cmp(&lead(a)));
    }
    let (regex, mut others): (Vec<_>, Vec<_>) = by_kind.into_iter().partition(|(kind, _)| kind == "regex");
    others.sort_by_key(|(_, list)| std::cmp::Reverse(list.len()));
    let longest = others.first().map_or(0, |(_, list)| list.len());
    let others = (0..longest).flat_map(|i| others.iter().filter_map(move |(_, list)| list.get(i).cloned()));
    regex.into_iter().flat_map(|(_, list)| list).chain(others).collect()
}

fn percent_of_one(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Two random firings, two from the middle of the range, two of the strongest; then what is needed to fill up.
fn contexts(detail: &FeatureDetail, href: &str) -> Vec<ContextView> {
    let of = |kind: GroupKind| detail.groups.iter().filter(move |g| g.kind == kind).collect::<Vec<_>>();
    let quantiles = of(GroupKind::Interval);
    let middle = quantiles.get(quantiles.len() / 2).into_iter().flat_map(|g| g.examples.iter());
    let random = of(GroupKind::Random).into_iter().flat_map(|g| g.examples.iter());
    let top = of(GroupKind::Top).into_iter().flat_map(|g| g.examples.iter());
    let rest = detail.groups.iter().flat_map(|g| g.examples.iter());
    let mut seen = HashSet::new();
    let mut chosen = vec![];
    let sources: [(Box<dyn Iterator<Item = _>>, usize); 4] =
        [(Box::new(random), 2), (Box::new(middle), 2), (Box::new(top), 2), (Box::new(rest), N_CONTEXTS)];
    for (source, n) in sources {
        let fresh: Vec<_> = source.filter(|e| seen.insert(e.t)).take(n).collect();
        chosen.extend(fresh);
    }
    chosen.truncate(N_CONTEXTS);
    chosen.sort_by(|a, b| b.act.total_cmp(&a.act));
    chosen.into_iter().map(|e| ContextView::new(e, detail.summary.max_act, href)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::exam::{ConceptScore, Found, UnionScore, UnitScore};

    fn found(id: u32, f1: f64) -> Found {
        let best = UnitScore { id, positive: true, threshold: 0.5, f1_a: f1, f1_b: f1, precision: f1, recall: f1 };
        Found { ranked: vec![best], union: UnionScore { ids: vec![], f1_a: f1, f1_b: f1 }, auc: None }
    }

    fn score(id: u32, kind: &str, f1: f64, neuron: f64) -> ConceptScore {
        ConceptScore {
            concept: format!("{kind} {id}"),
            kind: kind.into(),
            n_pos: (500, 500),
            too_rare: false,
            token_only: 0.5,
            from_context: true,
            latents: found(id, f1),
            neurons: found(0, neuron),
            random: found(0, 0.1),
            random_draws: vec![0.1, 0.3],
            untrained: None,
            probe: None,
            forms: vec![],
            n_forms_found: 3,
            effective_forms: 3.0,
        }
    }

    #[test]
    fn on_few_tokens_it_is_said_why_no_feature_is_ultra_rare() {
        let few = crate::sae::Eval { junk_frac: Some(0.0), ..Default::default() };
        let fact = rare_and_junk(&few);
        assert!(fact.value == "not told, 0 %" && fact.note.contains("more than a million"), "{fact:?}");
        let fact = rare_and_junk(&crate::sae::Eval { ultra_rare_frac: Some(0.25), ..few });
        assert_eq!((fact.value.as_str(), fact.note.as_str()), ("25 %, 0 %", "of features"));
    }

    #[test]
    fn every_regular_expression_of_some_worth_comes_first_then_the_kinds_in_turn() {
        let concepts = vec![
            score(1, "regex", 0.63, 0.4),
            score(2, "kind", 0.85, 0.8),
            score(3, "kind", 0.95, 0.2),
            score(4, "regex", 0.66, 0.2),
            score(5, "class", 0.79, 0.1),
            score(6, "class", 0.81, 0.1),
            score(7, "regex", 0.59, 0.1),
            ConceptScore { too_rare: true, ..score(8, "class", 0.99, 0.0) },
            // What random directions find as well is not striking.
            ConceptScore { random_draws: vec![0.9], ..score(9, "kind", 0.96, 0.1) },
        ];
        let chosen = in_turn(ExamReport { n_tokens: (1000, 1000), n_latents: 10, concepts, best_of_latent: vec![] });
        assert_eq!(chosen.iter().map(|c| c.latent).collect::<Vec<_>>(), [4, 1, 3, 6, 9, 2]);
        // Draws of 0.1 and 0.3: their mean, and sqrt(2 x 0.1^2 / 1).
        assert_eq!(chosen[0].note(), "regex 4, F1 0.66; best neuron 0.20, token alone 0.50, random 0.20 \u{b1} 0.14");
    }
}
