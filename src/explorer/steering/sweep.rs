//! Texts at several multiples of an edit: what is gained and what it costs.

use super::super::app::{App, Page, Problem};
use super::super::view::significant;
use super::{Ask, link, with_a_strength, with_edit};
use crate::intervene::Steering;
use crate::intervene::concept::Concept;
use crate::intervene::strength::{Bounds, MOVED_IN, Swept, Trial, choose, may_be_luck, sweep as sweep_edit};
use crate::intervene::write::{Change, Writing};
use crate::pipeline::plot;

/// What the page shows of a sweep.
pub struct SweptView {
    pub says: String,
    pub plot: String,
    /// Name of what is counted; empty where nothing is.
    pub counted: String,
    pub rows: Vec<Row>,
}

pub struct Row {
    pub strength: String,
    pub link: String,
    pub perplexity: String,
    pub distinct_2: String,
    pub kl: String,
    /// Other features per token that are moved.
    pub others: String,
    pub rate: String,
    pub verdict: &'static str,
    pub text: String,
}

/// Multiples of what is set.
const MULTIPLES: [f32; 6] = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0];
const TEXTS: usize = 16;
const MOST_TOKENS: usize = 40;
const MOST_PATTERN: usize = 200;

/// Writes texts after the prompt at each multiple of the edit's values.
pub fn sweep(app: &App, asked: &Ask) -> Page<SweptView> {
    let ask = with_a_strength(asked);
    let edit = ask.edits(&app.run)?;
    if !edit.has_strength() {
        return Err(Problem::bad("None of these rules has a strength to try: a removed feature, or one at its mean, has none."));
    }
    let concept = pattern(&ask.count)?;
    let (swept, unedited) = with_edit(app, &ask, |rig, edit, resolve| {
        let steerings: Vec<(f32, Steering)> = MULTIPLES.iter().map(|&m| Ok((m, resolve(&edit.times(m))?))).collect::<Result<_, _>>()?;
        let prompts = vec![rig.prompt(&ask.prompt); TEXTS];
        let writing = Writing { n_tokens: ask.tokens.min(MOST_TOKENS), ..ask.writing() };
        let trial = Trial { rig, prompts: &prompts, writing: &writing, concept: concept.as_ref() };
        let unedited = trial.write(Change::default())?;
        let steering = |m: f32| steerings.iter().find(|s| s.0 == m).expect("every multiple was resolved").1.clone();
        Ok((sweep_edit(trial, &unedited.measures, Bounds::default(), &MULTIPLES, &steering, MOVED_IN)?, unedited.measures))
    })?;
    let chosen = choose(&swept, concept.is_some().then_some(unedited.concept_rate));
    let gain = |s: &Swept| if concept.is_some() { 100.0 * s.measures.concept_rate } else { s.measures.kl };
    let gained = if concept.is_some() { format!("/{}/, % of tokens", ask.count) } else { "KL from the unedited model, nats".into() };
    let points: Vec<(f64, f64, String)> = swept.iter().map(|s| (s.perplexity_ratio, gain(s), format!("{}", s.strength))).collect();
    let row = |(i, s): (usize, &Swept)| Row {
        strength: format!("{} ×", s.strength),
        link: link(&Ask { edit: Some(edit.times(s.strength).to_json()), ..ask.clone() }),
        perplexity: format!("{:.2} ×", s.perplexity_ratio),
        distinct_2: format!("{:.2} ×", s.distinct_2_ratio),
        kl: significant(s.measures.kl),
        others: s.others_moved.map_or(String::new(), |n| format!("{n:.1}")),
        rate: format!("{:.2} %", 100.0 * s.measures.concept_rate),
        verdict: match (Some(i) == chosen, s.whole) {
            (true, _) if concept.is_some() && may_be_luck(&s.measures, &unedited) => "the one to take, but it may be luck",
            (true, _) => "the one to take",
            (false, true) if s.measures.kl == 0.0 => "changes nothing",
            (false, true) if concept.is_some() && s.measures.concept_rate <= unedited.concept_rate => "whole, and no more of it than unedited",
            (false, true) => "whole",
            (false, false) => "comes apart",
        },
        text: s.text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let base = if concept.is_some() { format!("; the unedited texts have {:.2} %", 100.0 * unedited.concept_rate) } else { String::new() };
    Ok(SweptView {
        says: format!(
            "{TEXTS} texts of at most {} tokens at each; perplexity (under the unedited model) and distinct-2 as multiples of the unedited texts'; whole is at most {} and at least {} times{base}",
            ask.tokens.min(MOST_TOKENS),
            Bounds::default().max_perplexity_ratio,
            Bounds::default().min_distinct_2_ratio
        ),
        plot: plot::pareto(
            "multiples of what is set",
            "perplexity under the unedited model, times",
            &gained,
            &points,
            Bounds::default().max_perplexity_ratio,
        ),
        counted: if concept.is_some() { format!("/{}/", ask.count) } else { String::new() },
        rows: swept.iter().enumerate().map(row).collect(),
    })
}

fn pattern(text: &str) -> Page<Option<Concept>> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.chars().count() > MOST_PATTERN {
        return Err(Problem::bad(&format!("The regular expression's length must be at most {MOST_PATTERN}.")));
    }
    // What a hostile pattern may take: the library's own limit is ten times as much.
    let regex = regex::bytes::RegexBuilder::new(text).size_limit(1 << 20).build();
    regex.map(|regex| Some(Concept::Regex(regex))).map_err(|e| Problem::new(400, "The regular expression cannot be read", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_are_wrong_or_huge_are_refused() {
        assert!(pattern("").unwrap().is_none() && pattern("[0-9]+").unwrap().is_some());
        assert_eq!(pattern("[").err().unwrap().status, 400);
        assert!(pattern(&"a".repeat(201)).err().unwrap().message.contains("200"));
        assert!(pattern("(\\w{500}){500}").is_err());
    }
}
