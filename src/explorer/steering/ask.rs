//! What the address of a steering page says, within which bounds, and the address that says it again.

use super::super::app::{Page, Problem};
use super::super::list::url_text;
use crate::artifact::RunDir;
use crate::intervene::Scope;
use crate::intervene::saved::{RuleName, SavedEdit, SavedLatent, Unit};
use crate::intervene::write::Writing;
use crate::lm::Sampling;
use serde::{Deserialize, Serialize};

pub const MAX_PROMPT: usize = 1000;
pub const MAX_TOKENS: usize = 200;
const MAX_STOP: usize = 100;
/// Strengths are within these multiples of the feature's maximum.
const STRENGTHS: std::ops::RangeInclusive<f32> = -20.0..=20.0;

/// Features that one edit may have.
const MAX_EDITS: usize = 16;

/// What the address of a steering page says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// Steering asks for one, or for `edit`; the form starts with the first of the tour. `latent`, as the command line says, is the same.
    #[serde(alias = "latent")]
    pub feature: Option<u32>,
    /// In multiples of the feature's largest activation in the dictionary; 0 removes the feature. Found like `auto` where it is not given.
    pub strength: Option<f32>,
    /// Finds the largest strength that leaves eight texts after this prompt whole, instead of taking `strength`.
    pub auto: bool,
    /// Instead of `feature` and `strength`: the name of a saved edit, names of several joined by ` + `, or an edit as JSON, see [`SavedEdit`].
    pub edit: Option<String>,
    /// The edit rests after the tokens that it promotes.
    pub rests: bool,
    pub prompt: String,
    pub tokens: usize,
    pub temperature: f32,
    pub seed: u64,
    /// Draw from so many of the likeliest tokens only; from the likeliest that together have this probability.
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    /// A text ends before this; nowhere where it is empty.
    pub stop: String,
    /// What a link writes down beside `feature` and `strength`, so that it gives the same text beside another dictionary or is refused: the maximum that the strength
    /// multiplies, and the SAE by the hash of its weights.
    pub max_act: Option<f32>,
    pub weights_hash: Option<String>,
    /// A regular expression that a sweep counts; nothing is counted where it is empty.
    pub count: String,
}

impl Default for Ask {
    fn default() -> Self {
        Ask {
            feature: None,
            strength: None,
            auto: false,
            edit: None,
            rests: false,
            prompt: String::new(),
            tokens: 60,
            temperature: 0.8,
            seed: 0,
            top_k: None,
            top_p: None,
            stop: String::new(),
            max_act: None,
            weights_hash: None,
            count: String::new(),
        }
    }
}

/// Between the names of saved edits that are asked for together.
const AND: &str = " + ";

impl Ask {
    fn one(&self) -> SavedEdit {
        let one = SavedLatent::new(self.feature.unwrap_or(0), RuleName::Set, Some(self.strength.unwrap_or(2.0)));
        SavedEdit { weights_hash: self.weights_hash.clone(), ..SavedEdit::of(vec![SavedLatent { max_act: self.max_act, ..one }]) }
    }

    /// What the form shows: the edit, or one feature at where its slider starts.
    pub fn form(&self, run: &RunDir) -> Page<SavedEdit> {
        if self.edit.is_some() { self.edits(run) } else { Ok(self.one()) }
    }

    pub(super) fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed }
    }

    pub(super) fn writing(&self) -> Writing {
        let stop = Some(self.stop.clone()).filter(|s| !s.is_empty()).into_iter().collect();
        Writing { stop, ..Writing::new(self.tokens, &self.sampling()) }
    }

    /// Whether the strength is to be found.
    pub(super) fn seeks(&self) -> bool {
        self.edit.is_none() && (self.auto || self.strength.is_none())
    }

    /// The edit that is asked for.
    pub(super) fn edits(&self, run: &RunDir) -> Page<SavedEdit> {
        let Some(edit) = &self.edit else {
            self.feature.ok_or_else(|| Problem::bad("Say which feature: feature=N, or edit=JSON."))?;
            return Ok(self.one());
        };
        let read = |text: &str| SavedEdit::parse(text).map_err(|e| Problem::new(400, "The edit cannot be read", &e));
        let edit = match self.names() {
            None => read(edit)?,
            Some(names) => {
                let all = names.into_iter().map(|name| read(&saved(run, name)?)).collect::<Page<Vec<SavedEdit>>>()?;
                let both = |one: SavedEdit, two| one.and(two).map_err(|e| Problem::new(400, "These edits cannot be combined", &e));
                let mut all = all.into_iter();
                let first = all.next().expect("a list of names has one");
                let edit = all.try_fold(first, both)?;
                let twice = (1..edit.edits.len()).find(|&i| edit.edits[..i].iter().any(|e| e.latent == edit.edits[i].latent));
                if let Some(i) = twice {
                    let latent = edit.edits[i].latent;
                    return Err(Problem::bad(&format!(
                        "Feature {latent} is in more than one of these edits; an edit has one rule for each feature."
                    )));
                }
                edit
            }
        };
        if edit.edits.is_empty() || edit.edits.len() > MAX_EDITS {
            return Err(Problem::bad(&format!("An edit must have 1 to {MAX_EDITS} features, not {}.", edit.edits.len())));
        }
        Ok(edit)
    }

    /// The saved edits that are asked for, in place of one written out.
    fn names(&self) -> Option<Vec<&str>> {
        self.edit.as_deref().filter(|edit| !edit.trim_start().starts_with('{')).map(|edit| edit.split(AND).collect())
    }

    /// Whether the saved edit `name` is asked for.
    pub fn has(&self, name: &str) -> bool {
        self.names().is_some_and(|names| names.contains(&name))
    }

    /// What asks for the saved edit `name` beside those that are asked for; none where no saved one is, or it is among them.
    pub fn with(&self, name: &str) -> Option<String> {
        let names = self.names().filter(|names| !names.contains(&name))?;
        Some(format!("{}{AND}{name}", names.join(AND)))
    }

    /// What asks for the same texts again, `edit` being what was found.
    pub(super) fn again(&self, edit: &SavedEdit) -> Ask {
        match (&self.edit, edit.edits.as_slice()) {
            (None, [one]) => Ask { strength: one.value, auto: false, max_act: one.max_act, weights_hash: edit.weights_hash.clone(), ..self.clone() },
            // The edit says itself where it rests, what it multiplies and for what it was made.
            _ => Ask { edit: Some(edit.to_json()), rests: false, max_act: None, weights_hash: None, ..self.clone() },
        }
    }
}

/// The text of a saved edit.
fn saved(run: &RunDir, name: &str) -> Page<String> {
    let file = run.edit(name).ok_or_else(|| Problem::bad("An edit is the name of a saved one, or JSON in braces."))?;
    std::fs::read_to_string(file).map_err(|_| {
        let names = run.edit_names();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        Problem::not_found(&format!("There is no saved edit {name:?}; those that are there: {names}."))
    })
}

/// What the form may ask for.
#[derive(Debug, Serialize)]
pub struct Limits {
    pub prompt: usize,
    pub tokens: usize,
    pub last_feature: u32,
    /// Names of the saved edits.
    pub saved: Vec<String>,
}

impl Limits {
    /// Rules by name, in words.
    pub fn rules(&self) -> [(&'static str, &'static str); 9] {
        RuleName::ALL.map(|rule| {
            let words = match rule {
                RuleName::Set => "held at",
                RuleName::Add => "plus",
                RuleName::Scale => "times a factor",
                RuleName::Zero => "removed",
                RuleName::Mean => "held at its mean",
                RuleName::AtLeast => "at least",
                RuleName::AtMost => "at most",
                RuleName::Project => "direction times a factor",
                RuleName::Cap => "direction at most",
            };
            (rule.name(), words)
        })
    }

    /// Units by name, in words.
    pub fn units(&self) -> [(&'static str, &'static str); 3] {
        [Unit::Max, Unit::Norm, Unit::Act].map(|unit| {
            let words = match unit {
                Unit::Max => "its maximum",
                Unit::Norm => "the usual length",
                Unit::Act => "1 (the activation)",
            };
            (unit.name(), words)
        })
    }

    pub fn scopes(&self) -> [(&'static str, &'static str); 4] {
        [("all", "everywhere"), ("generated", "from the prompt's end on"), ("continuation", "new tokens alone"), ("prompt", "the prompt alone")]
    }
}

/// The name of a scope in an edit.
pub fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::All => "all",
        Scope::From(_) => "from",
        Scope::Generated => "generated",
        Scope::Continuation => "continuation",
        Scope::Prompt => "prompt",
    }
}

/// The edit that is asked for as one of a strength: one that is not there is one time the maximum.
pub(super) fn with_a_strength(asked: &Ask) -> Ask {
    Ask { strength: asked.strength.filter(|_| !asked.auto).or(Some(1.0)), auto: false, ..asked.clone() }
}

pub(super) fn check(ask: &Ask) -> Page<()> {
    if ask.strength.is_some_and(|s| !STRENGTHS.contains(&s)) {
        return Err(range("The strength", STRENGTHS.start(), STRENGTHS.end()));
    }
    if ask.top_k == Some(0) {
        return Err(Problem::bad("top_k must be 1 or more."));
    }
    if ask.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
        return Err(Problem::bad("top_p must be above 0 and at most 1."));
    }
    if ask.stop.len() > MAX_STOP {
        return Err(range("The length of the text to stop before, in bytes,", &0, &MAX_STOP));
    }
    check_sampling(&ask.prompt, ask.tokens, ask.temperature)
}

/// Refuses what takes too long or cannot be drawn from.
pub fn check_sampling(prompt: &str, tokens: usize, temperature: f32) -> Page<()> {
    if !(0.0..=5.0).contains(&temperature) {
        return Err(range("The temperature", &0, &5));
    }
    if !(1..=MAX_TOKENS).contains(&tokens) {
        return Err(range("The number of tokens", &1, &MAX_TOKENS));
    }
    if prompt.chars().count() > MAX_PROMPT {
        return Err(range("The prompt's length in characters", &0, &MAX_PROMPT));
    }
    Ok(())
}

fn range(what: &str, low: &dyn std::fmt::Display, high: &dyn std::fmt::Display) -> Problem {
    Problem::bad(&format!("{what} must be {low} to {high}."))
}

pub(super) fn link(ask: &Ask) -> String {
    let mut said = match &ask.edit {
        Some(edit) => format!("edit={}", url_text(edit)),
        None => format!("feature={}&strength={}", ask.feature.unwrap_or(0), ask.strength.unwrap_or(2.0)),
    };
    let mut add = |name: &str, value: Option<String>| said += &value.map_or(String::new(), |value| format!("&{name}={}", url_text(&value)));
    add("max_act", ask.max_act.map(|m| m.to_string()));
    add("weights_hash", ask.weights_hash.clone());
    add("rests", ask.rests.then(|| "true".into()));
    add("prompt", Some(ask.prompt.clone()));
    add("tokens", Some(ask.tokens.to_string()));
    add("temperature", Some(ask.temperature.to_string()));
    add("seed", Some(ask.seed.to_string()));
    add("top_k", ask.top_k.map(|k| k.to_string()));
    add("top_p", ask.top_p.map(|p| p.to_string()));
    add("stop", Some(ask.stop.clone()).filter(|s| !s.is_empty()));
    format!("/steer?{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        assert!(check(&Ask::default()).is_ok());
        let refused = |ask: Ask| check(&ask).unwrap_err().message;
        assert!(refused(Ask { strength: Some(f32::NAN), ..Ask::default() }).contains("-20 to 20"));
        assert!(refused(Ask { tokens: 0, ..Ask::default() }).contains("1 to 200"));
        assert!(refused(Ask { tokens: 10_000, ..Ask::default() }).contains("1 to 200"));
        assert!(refused(Ask { temperature: -1.0, ..Ask::default() }).contains("0 to 5"));
        assert!(refused(Ask { prompt: "x".repeat(MAX_PROMPT + 1), ..Ask::default() }).contains("prompt"));
    }

    #[test]
    fn the_link_carries_any_prompt() {
        let ask = Ask { prompt: "a&b=c \"שלום\"\n".into(), ..Ask::default() };
        assert!(link(&ask).contains("&prompt=a%26b%3Dc%20%22%D7%A9%D7%9C%D7%95%D7%9D%22%0A&tokens=60&"));
    }
}
