//! Generation with one feature clamped, beside the unedited text drawn with the same luck.

use super::app::{App, Model, Page, Part, Problem};
use super::list::url_text;
use super::text;
use super::view::{UnitView, Units};
use crate::intervene::edit::{LatentEdit, Scope, Steering};
use crate::intervene::steer::{Rig, steer};
use crate::lm::Sampling;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

pub const MAX_PROMPT: usize = 1000;
pub const MAX_TOKENS: usize = 200;
/// Strengths are within these multiples of the feature's maximum.
const STRENGTHS: std::ops::RangeInclusive<f32> = -20.0..=20.0;

/// What the address of a steering page says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ask {
    pub feature: u32,
    /// In multiples of the feature's largest activation in the dictionary.
    pub strength: f32,
    pub prompt: String,
    pub tokens: usize,
    pub temperature: f32,
    pub seed: u64,
}

impl Default for Ask {
    fn default() -> Self {
        Ask { feature: 0, strength: 2.0, prompt: String::new(), tokens: 60, temperature: 0.8, seed: 0 }
    }
}

/// What the form may ask for.
#[derive(Debug, Serialize)]
pub struct Limits {
    pub prompt: usize,
    pub tokens: usize,
    pub last_feature: u32,
}

#[derive(Debug, Serialize)]
pub struct SteerResult {
    pub warning: String,
    pub caption: String,
    pub feature: u32,
    pub title: String,
    pub strength: f32,
    pub prompt: String,
    /// What both sides wrote before they part.
    pub same: String,
    pub unedited: String,
    pub edited: String,
    /// Index of the first token that differs.
    pub first_difference: Option<usize>,
    /// Address that gives this result again.
    pub link: String,
}

impl App {
    /// What steering needs: the dictionary, for the feature's maximum.
    pub fn steer_limits(&self) -> Part<Limits> {
        let dictionary = self.dictionary(Units::Features)?;
        Ok(Limits { prompt: MAX_PROMPT, tokens: MAX_TOKENS, last_feature: dictionary.meta().n_units.saturating_sub(1) })
    }

    pub fn steer(&self, ask: &Ask) -> Page<SteerResult> {
        check(ask)?;
        let dictionary = self.dictionary(Units::Features)?;
        let meta = dictionary.meta().clone();
        let summary = dictionary.summary(ask.feature)?;
        let labels = self.label_texts(Units::Features, &meta);
        let title = UnitView::new(Units::Features, &summary, labels.get(&ask.feature).cloned()).title();
        let sampling = Sampling { temperature: ask.temperature, top_k: None, top_p: None, seed: ask.seed };
        let edits = vec![LatentEdit::set_to_multiple(ask.feature, ask.strength, summary.max_act)];
        let steering = Steering { edits, scope: Scope::All };
        let both = self.with_model(&meta, |model| {
            let Model { engine, sae, hook } = model;
            let rig = Rig { lm: engine.lm(), tokenizer: &self.tokenizer, sae, hook: *hook };
            let go_on = &mut |_, _: &_| ControlFlow::Continue(());
            steer(rig, &steering, &rig.prompt(&ask.prompt), ask.tokens, &sampling, go_on)
                .map_err(|e| Problem::new(400, "The text cannot be written with this edit", &e))
        })?;
        let (unedited, edited) = (&both.unedited.tokens, &both.edited.tokens);
        let parting = both.first_difference.unwrap_or(unedited.len());
        let show = |tokens: &[u32]| text::flowing(&self.tokenizer.decode_bytes(tokens));
        let clamped = super::view::significant(f64::from(ask.strength * summary.max_act));
        Ok(SteerResult {
            warning: if summary.n_active == 0 {
                "This feature never fired on the dictionary's tokens, so it has no maximum to be a multiple of.".into()
            } else {
                String::new()
            },
            caption: match both.first_difference {
                None => format!("Clamped to {clamped}; both sides wrote the same {} tokens.", unedited.len()),
                Some(n) => format!(
                    "Clamped to {clamped} at every position. The texts part after {n} tokens; what follows is marked. Seed {}, temperature {}.",
                    ask.seed, ask.temperature
                ),
            },
            feature: ask.feature,
            title,
            strength: ask.strength,
            prompt: text::flowing(ask.prompt.as_bytes()),
            same: show(&unedited[..parting]),
            unedited: show(&unedited[parting..]),
            edited: show(&edited[parting..]),
            first_difference: both.first_difference,
            link: link(ask),
        })
    }
}

fn check(ask: &Ask) -> Page<()> {
    let range = |what: &str, low: &dyn std::fmt::Display, high: &dyn std::fmt::Display| Problem::bad(&format!("{what} must be {low} to {high}."));
    if !STRENGTHS.contains(&ask.strength) {
        return Err(range("The strength", STRENGTHS.start(), STRENGTHS.end()));
    }
    if !(0.0..=5.0).contains(&ask.temperature) {
        return Err(range("The temperature", &0, &5));
    }
    if !(1..=MAX_TOKENS).contains(&ask.tokens) {
        return Err(range("The number of tokens", &1, &MAX_TOKENS));
    }
    if ask.prompt.chars().count() > MAX_PROMPT {
        return Err(range("The prompt's length in characters", &0, &MAX_PROMPT));
    }
    Ok(())
}

fn link(ask: &Ask) -> String {
    format!(
        "/steer?feature={}&strength={}&prompt={}&tokens={}&temperature={}&seed={}",
        ask.feature,
        ask.strength,
        url_text(&ask.prompt),
        ask.tokens,
        ask.temperature,
        ask.seed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        assert!(check(&Ask::default()).is_ok());
        let refused = |ask: Ask| check(&ask).unwrap_err().message;
        assert!(refused(Ask { strength: f32::NAN, ..Ask::default() }).contains("-20 to 20"));
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
