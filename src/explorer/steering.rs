//! Generation with one feature clamped, beside the unedited text drawn with the same luck.

use super::app::{App, Model, Page, Part, Problem};
use super::list::url_text;
use super::text;
use super::view::{UnitView, Units};
use crate::intervene::edit::{LatentEdit, Steering};
use crate::intervene::quality::{distinct_2, perplexity};
use crate::intervene::steer;
use crate::intervene::strength::{MAX_PERPLEXITY_RATIO, MIN_DISTINCT_RATIO, SafeStrength, caution, safe_strength};
use crate::intervene::write::{Rig, Writing};
use crate::lm::{Engine, Sampling};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

pub const MAX_PROMPT: usize = 1000;
pub const MAX_TOKENS: usize = 200;
/// Strengths are within these multiples of the feature's maximum.
const STRENGTHS: std::ops::RangeInclusive<f32> = -20.0..=20.0;

/// What the address of a steering page says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// Steering asks for one; the form starts with the first of the tour.
    pub feature: Option<u32>,
    /// In multiples of the feature's largest activation in the dictionary; 0 removes the feature. Found like `auto` where it is not given.
    pub strength: Option<f32>,
    /// Finds the largest strength that leaves this prompt's text whole, instead of taking `strength`.
    pub auto: bool,
    pub prompt: String,
    pub tokens: usize,
    pub temperature: f32,
    pub seed: u64,
}

impl Default for Ask {
    fn default() -> Self {
        Ask { feature: None, strength: None, auto: false, prompt: String::new(), tokens: 60, temperature: 0.8, seed: 0 }
    }
}

impl Ask {
    /// Where the form's slider starts.
    pub fn slider(&self) -> f32 {
        self.strength.unwrap_or(2.0)
    }

    pub fn number(&self) -> u32 {
        self.feature.unwrap_or(0)
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
    /// How `strength` was found, where that was asked.
    pub found: Option<SafeStrength>,
    pub quality: Quality,
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

/// Whether the texts are still text, (unedited, edited).
#[derive(Debug, Serialize)]
pub struct Quality {
    /// Perplexity under the unedited model; absent where nothing was written.
    pub perplexity: (Option<f64>, Option<f64>),
    /// Distinct bigrams over bigrams.
    pub distinct_2: (f64, f64),
}

impl Quality {
    fn line(perplexity: Option<f64>, distinct_2: f64) -> String {
        let perplexity = perplexity.map_or("-".into(), super::view::significant);
        format!("perplexity {perplexity}, distinct-2 {distinct_2:.2}")
    }

    pub fn unedited(&self) -> String {
        Quality::line(self.perplexity.0, self.distinct_2.0)
    }

    pub fn edited(&self) -> String {
        Quality::line(self.perplexity.1, self.distinct_2.1)
    }

    /// What has become of the edited text, by the bounds of the automatic strength; empty where it is whole.
    fn verdict(&self) -> String {
        let ratio = self.perplexity.1.zip(self.perplexity.0).map(|(edited, unedited)| edited / unedited);
        let mut said = vec![];
        if let Some(ratio) = ratio.filter(|&r| r > MAX_PERPLEXITY_RATIO) {
            said.push(format!("the unedited model finds it {ratio:.1} times as perplexing as its own"));
        }
        if self.distinct_2.1 < MIN_DISTINCT_RATIO * self.distinct_2.0 {
            said.push(format!("{:.0} % of its pairs of tokens are repetitions", 100.0 * (1.0 - self.distinct_2.1)));
        }
        if said.is_empty() {
            String::new()
        } else {
            format!("The edited text comes apart: {}. A lower strength may keep it whole.", said.join(", and "))
        }
    }
}

impl App {
    /// What steering needs: the dictionary, for the feature's maximum.
    pub fn steer_limits(&self) -> Part<Limits> {
        let dictionary = self.dictionary(Units::Features)?;
        Ok(Limits { prompt: MAX_PROMPT, tokens: MAX_TOKENS, last_feature: dictionary.meta().n_units.saturating_sub(1) })
    }

    pub fn steer(&self, ask: &Ask) -> Page<SteerResult> {
        check(ask)?;
        let feature = ask.feature.ok_or_else(|| Problem::bad("Say which feature: feature=N."))?;
        let dictionary = self.dictionary(Units::Features)?;
        let meta = dictionary.meta().clone();
        let summary = dictionary.summary(feature)?;
        let labels = self.label_texts(Units::Features, &meta);
        let title = UnitView::new(Units::Features, &summary, labels.get(&feature).cloned()).title();
        let sampling = Sampling { temperature: ask.temperature, top_k: None, top_p: None, seed: ask.seed };
        let (both, quality, found, strength, caution) = self.with_model(&meta, |model| {
            let Model { engine, sae, hook, .. } = model;
            let lm = engine.lm();
            let rig = Rig { lm: &lm, tokenizer: &self.tokenizer, sae, hook: *hook };
            let failed = |e| Problem::new(400, "The text cannot be written with this edit", &e);
            let prompt = rig.prompt(&ask.prompt);
            let search = || safe_strength(rig, feature, summary.max_act, std::slice::from_ref(&prompt), &sampling);
            let given = ask.strength.filter(|_| !ask.auto);
            let found = given.is_none().then(search).transpose().map_err(failed)?;
            let strength = found.as_ref().map(|f| f.multiple).or(given).unwrap_or_default();
            let edits = vec![LatentEdit::set_to_multiple(feature, strength, summary.max_act)];
            let caution = caution(rig, &edits[0], summary.max_act, &prompt).unwrap_or_default();
            let steering = Steering::of(edits);
            let go_on = &mut |_, _: &_| ControlFlow::Continue(());
            let both = steer(rig, &steering, &prompt, &Writing::new(ask.tokens, &sampling), go_on).map_err(failed)?;
            let (unedited, edited) = (&both.unedited.tokens, &both.edited.tokens);
            let quality = Quality {
                perplexity: (perplexity(rig.lm, &prompt, unedited), perplexity(rig.lm, &prompt, edited)),
                distinct_2: (distinct_2(unedited), distinct_2(edited)),
            };
            Ok((both, quality, found, strength, caution))
        })?;
        let (unedited, edited) = (&both.unedited.tokens, &both.edited.tokens);
        let parting = both.first_difference.unwrap_or(unedited.len());
        let show = |tokens: &[u32]| text::flowing(&self.tokenizer.decode_bytes(tokens));
        let clamped = super::view::significant(f64::from(strength * summary.max_act));
        Ok(SteerResult {
            warning: if summary.n_active == 0 {
                "This feature never fired on the dictionary's tokens, so it has no maximum to be a multiple of.".into()
            } else {
                [caution, quality.verdict()].iter().filter(|said| !said.is_empty()).cloned().collect::<Vec<_>>().join(" ")
            },
            caption: match both.first_difference {
                None => {
                    format!("Clamped to {clamped} at every position{}; both sides wrote the same {}.", how(found.as_ref()), n_tokens(unedited.len()))
                }
                Some(n) => format!(
                    "Clamped to {clamped} at every position{}. The texts part after {}; what follows is marked. Seed {}, temperature {}.",
                    how(found.as_ref()),
                    n_tokens(n),
                    ask.seed,
                    ask.temperature
                ),
            },
            feature,
            title,
            strength,
            quality,
            prompt: text::flowing(ask.prompt.as_bytes()),
            same: show(&unedited[..parting]),
            unedited: show(&unedited[parting..]),
            edited: show(&edited[parting..]),
            first_difference: both.first_difference,
            link: link(&Ask { strength: Some(strength), ..ask.clone() }),
            found,
        })
    }
}

/// How an automatic strength was found, as part of a sentence.
fn how(found: Option<&SafeStrength>) -> String {
    match found {
        None => String::new(),
        Some(found) if found.within_bounds => format!(", {} × its maximum, the largest tried that leaves the text whole", found.multiple),
        Some(found) => format!(", {} × its maximum, the smallest tried, though even that does not leave the text whole", found.multiple),
    }
}

fn n_tokens(n: usize) -> String {
    if n == 1 { "token".into() } else { format!("{n} tokens") }
}

fn check(ask: &Ask) -> Page<()> {
    if ask.strength.is_some_and(|s| !STRENGTHS.contains(&s)) {
        return Err(range("The strength", STRENGTHS.start(), STRENGTHS.end()));
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

fn link(ask: &Ask) -> String {
    format!(
        "/steer?feature={}&strength={}&prompt={}&tokens={}&temperature={}&seed={}",
        ask.number(),
        ask.slider(),
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
        assert!(refused(Ask { strength: Some(f32::NAN), ..Ask::default() }).contains("-20 to 20"));
        assert!(refused(Ask { tokens: 0, ..Ask::default() }).contains("1 to 200"));
        assert!(refused(Ask { tokens: 10_000, ..Ask::default() }).contains("1 to 200"));
        assert!(refused(Ask { temperature: -1.0, ..Ask::default() }).contains("0 to 5"));
        assert!(refused(Ask { prompt: "x".repeat(MAX_PROMPT + 1), ..Ask::default() }).contains("prompt"));
    }

    #[test]
    fn a_text_is_said_to_come_apart_where_it_is_perplexing_or_repeats_itself() {
        let verdict = |perplexity, distinct_2| Quality { perplexity, distinct_2 }.verdict();
        assert_eq!(verdict((Some(10.0), Some(14.9)), (1.0, 0.81)), "");
        assert_eq!(verdict((None, None), (1.0, 1.0)), "", "nothing was written");
        assert!(verdict((Some(10.0), Some(42.0)), (1.0, 1.0)).contains("4.2 times"));
        assert!(verdict((Some(10.0), Some(2.0)), (1.0, 0.25)).contains("75 % of its pairs"));
    }

    #[test]
    fn the_link_carries_any_prompt() {
        let ask = Ask { prompt: "a&b=c \"שלום\"\n".into(), ..Ask::default() };
        assert!(link(&ask).contains("&prompt=a%26b%3Dc%20%22%D7%A9%D7%9C%D7%95%D7%9D%22%0A&tokens=60&"));
    }
}
