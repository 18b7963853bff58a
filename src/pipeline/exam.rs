//! Which concepts a run is examined on, and what of the outcome counts: the planted ones by the rules of the exam, or, on real text, the
//! three that *Interpretable Neurons in Toy Models* names and the kinds of the documents.

use super::Result;
use crate::corpus::planted::{ConceptKind, Planted};
use crate::corpus::{CorpusConfig, Source, TokenStream};
use crate::features::exam::{ConceptScore, ExamConcept, ExamReport, Found, Truth};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

/// A latent, or a union, counts as having found a concept from this F1 on.
pub const FOUND: f64 = 0.8;
/// The best neuron is clearly worse from this difference on.
pub const WORSE: f64 = 0.2;
/// Better than chance by more than this, a negative was "found".
const CHANCE_MARGIN: f64 = 0.1;

/// Forms of the three features of the post, as text.
const OF_THE_POST: [(&str, &str); 3] = [
    ("indefinite pronouns", r"(?i)\b(?:some|any|every|no)(?:one|body|thing)\b(?:['’]s)?"),
    ("forms of do", r"(?i)\b(?:do|does|did|done|doing|don['’]t|doesn['’]t|didn['’]t)\b"),
    (
        "lengths of time",
        r"(?i)\b(?:(?:two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty|forty|fifty|hundred|several|few|many|past|last|next|following|previous|\d+)\s+){1,3}(?:seconds?|minutes?|hours?|days?|nights?|weeks?|months?|years?|decades?|centur(?:y|ies))\b(?:['’]s?)?",
    ),
];

/// Seed and bytes of the planted corpus, where it is read.
pub(super) fn generator(corpus: &CorpusConfig) -> Option<(u64, u64)> {
    corpus.sources.iter().find_map(|s| match s {
        Source::Planted { generator_seed, bytes } => Some((*generator_seed, *bytes)),
        _ => None,
    })
}

/// The planted world of a text, where it is one.
pub fn planted(corpus: &CorpusConfig) -> Option<Planted> {
    generator(corpus).map(|(seed, _)| Planted::new(seed))
}

/// The concepts that features of a text are scored on.
pub fn concepts(corpus: &CorpusConfig, stream: &TokenStream) -> Result<Vec<ExamConcept>> {
    let planted = generator(corpus);
    let concept = |name: &str, kind: &str, truth| ExamConcept { name: name.into(), kind: kind.into(), truth };
    if let Some((seed, _)) = planted {
        let world = Planted::new(seed);
        let scored = world.concepts().iter().enumerate().filter(|(_, c)| c.scored || matches!(c.kind, ConceptKind::Negative | ConceptKind::TwoHop));
        return Ok(scored.map(|(i, c)| concept(&c.name, kind_name(c.kind), Truth::Label(i as u16))).collect());
    }
    let mut all: Vec<ExamConcept> = OF_THE_POST
        .iter()
        .map(|(name, pattern)| concept(name, "regex", Truth::Regex(Regex::new(pattern).expect("the patterns are tested"))))
        .collect();
    let kinds = stream.kinds();
    if kinds.len() > 1 {
        all.extend(kinds.iter().enumerate().map(|(i, kind)| concept(kind, "kind", Truth::Kind(i as u16))));
    }
    Ok(all)
}

pub(super) fn kind_name(kind: ConceptKind) -> &'static str {
    match kind {
        ConceptKind::Lexeme => "lexeme",
        ConceptKind::Class => "class",
        ConceptKind::Context => "context",
        ConceptKind::Sense => "sense",
        ConceptKind::TwoHop => "two-hop",
        ConceptKind::Negative => "negative",
    }
}

/// The exam in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExamSummary {
    /// Concepts that count: all but the negatives, the two-hop control and what is too rare.
    pub n_scored: usize,
    /// Concepts listed and not counted, for they have fewer than [`crate::features::exam::MIN_POSITIVES`] tokens in one of the halves.
    pub n_too_rare: usize,
    /// A single latent has F1 of at least 0.8 on B (for a class: on at least three forms).
    pub by_one_latent: usize,
    /// A union of latents has ([`crate::features::exam::MAX_UNION`]).
    pub by_union: usize,
    /// Of these, decided by context: the token alone reaches F1 of 0.5 at most.
    pub by_union_from_context: usize,
    /// Found by one latent, and the best neuron is lower by 0.2 or more.
    pub neuron_clearly_worse: usize,
    /// Negatives whose best latent is no better than chance, to within 0.1: than the best latent of the shuffled model's SAE where there is
    /// one, else than the best of as many random directions, on average over draws.
    pub negatives_at_chance: usize,
    pub n_negatives: usize,
    /// Where words with two senses were planted.
    pub senses: Option<SenseSummary>,
}

/// Senses told apart at the same surface token: medians of the AUC over the senses, chosen on A, scored on B; chance is 0.5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SenseSummary {
    pub n: usize,
    pub latent: f64,
    pub neuron: f64,
    pub random: f64,
}

/// Whether one latent found the concept; a union of single-token latents is not a class.
pub fn is_found(score: &ConceptScore) -> bool {
    score.latents.f1() >= FOUND && (score.kind != "class" || score.is_class_found())
}

fn is_found_by_union(score: &ConceptScore) -> bool {
    is_found(score) || (score.latents.union.f1_b >= FOUND && (score.kind != "class" || score.is_class_found()))
}

/// The token alone is no measure of chance: a list of unrelated words is decided by it.
fn is_at_chance(score: &ConceptScore) -> bool {
    let chance = score.untrained.as_ref().map_or(score.chance().mean, Found::f1);
    score.latents.f1() <= chance + CHANCE_MARGIN
}

/// Counts what the exam is judged by.
pub fn summarise(report: &ExamReport) -> ExamSummary {
    let (too_rare, judged): (Vec<&ConceptScore>, Vec<&ConceptScore>) = report.concepts.iter().partition(|s| s.too_rare);
    let (negatives, rest): (Vec<&ConceptScore>, Vec<&ConceptScore>) = judged.into_iter().partition(|s| s.kind == "negative");
    let scored: Vec<&ConceptScore> = rest.into_iter().filter(|s| s.kind != "two-hop").collect();
    let count = |test: &dyn Fn(&ConceptScore) -> bool| scored.iter().filter(|s| test(s)).count();
    ExamSummary {
        n_scored: scored.len(),
        n_too_rare: too_rare.len(),
        by_one_latent: count(&is_found),
        by_union: count(&is_found_by_union),
        by_union_from_context: count(&|s| is_found_by_union(s) && s.from_context),
        neuron_clearly_worse: count(&|s| is_found(s) && s.neurons.f1() <= s.latents.f1() - WORSE),
        negatives_at_chance: negatives.iter().filter(|s| is_at_chance(s)).count(),
        n_negatives: negatives.len(),
        senses: senses(&scored),
    }
}

fn senses(scored: &[&ConceptScore]) -> Option<SenseSummary> {
    let senses: Vec<&&ConceptScore> = scored.iter().filter(|s| s.kind == "sense").collect();
    let median = |auc: fn(&ConceptScore) -> &Found| {
        let mut aucs: Vec<f64> = senses.iter().filter_map(|s| auc(s).auc).collect();
        aucs.sort_by(f64::total_cmp);
        // The mean of the two in the middle where there are two.
        let middle = |i: usize| aucs.get(i).copied();
        Some((middle(aucs.len() / 2)? + middle(aucs.len().checked_sub(1)? / 2)?) / 2.0)
    };
    let n = senses.iter().filter(|s| s.latents.auc.is_some()).count();
    Some(SenseSummary { n, latent: median(|s| &s.latents)?, neuron: median(|s| &s.neurons)?, random: median(|s| &s.random)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::exam::{UnionScore, UnitScore};

    fn found(f1: f64) -> Found {
        let best = UnitScore { id: 3, positive: true, threshold: 0.5, f1_a: f1, f1_b: f1, precision: f1, recall: f1 };
        Found { ranked: vec![best], union: UnionScore { ids: vec![(3, true)], f1_a: f1, f1_b: f1 }, auc: None }
    }

    /// A concept whose latent and union have this F1; the neurons 0.3, random directions 0.05, the token 0.7.
    fn score(kind: &str, f1: f64) -> ConceptScore {
        ConceptScore {
            concept: kind.into(),
            kind: kind.into(),
            n_pos: (500, 500),
            too_rare: false,
            token_only: 0.7,
            from_context: false,
            latents: found(f1),
            neurons: found(0.3),
            random: found(0.05),
            random_draws: vec![0.05, 0.01, 0.09],
            untrained: None,
            probe: None,
            forms: vec![],
            n_forms_found: 0,
            effective_forms: 0.0,
        }
    }

    fn summary(concepts: Vec<ConceptScore>) -> ExamSummary {
        summarise(&ExamReport { n_tokens: (1000, 1000), n_latents: 7, concepts, best_of_latent: vec![] })
    }

    #[test]
    fn what_is_too_rare_counts_neither_as_found_nor_as_missed() {
        let rare = |kind: &str, f1: f64| ConceptScore { n_pos: (500, 3), too_rare: true, ..score(kind, f1) };
        let concepts = vec![score("lexeme", 0.9), score("lexeme", 0.1), rare("lexeme", 0.9), rare("kind", 0.0), rare("negative", 0.0)];
        let summary = summary(concepts);
        assert_eq!((summary.n_scored, summary.n_too_rare, summary.by_one_latent, summary.by_union), (2, 3, 1, 1));
        assert_eq!((summary.neuron_clearly_worse, summary.n_negatives), (1, 0));
    }

    #[test]
    fn a_negative_is_at_chance_beside_random_directions_however_well_the_token_tells_it() {
        let n_at_chance = |score: ConceptScore| summary(vec![score]).negatives_at_chance;
        assert_eq!(n_at_chance(score("negative", 0.14)), 1);
        // Below the token's 0.7 and far above what random directions do.
        assert_eq!(n_at_chance(score("negative", 0.6)), 0);
        let beside = |f1| ConceptScore { untrained: Some(found(f1)), ..score("negative", 0.3) };
        assert_eq!((n_at_chance(beside(0.25)), n_at_chance(beside(0.1))), (1, 0));
    }

    #[test]
    fn the_patterns_of_the_post_match_what_it_shows() {
        let found = |i: usize, text: &str| {
            Regex::new(OF_THE_POST[i].1)
                .unwrap()
                .find_iter(text.as_bytes())
                .map(|m| String::from_utf8_lossy(m.as_bytes()).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(found(0, "Nobody knew anyone's something, some made one"), ["Nobody", "anyone's", "something"]);
        assert_eq!(found(1, "She does; they didn't. Undone doing"), ["does", "didn't", "doing"]);
        assert_eq!(
            found(2, "the past two centuries, next week's, 40 years, light years, a second look"),
            ["past two centuries", "next week's", "40 years"]
        );
    }
}
