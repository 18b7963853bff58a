//! Generation with features edited, beside the unedited text drawn with the same luck.

mod ask;
pub mod next;
pub mod sweep;

use super::app::{App, Model, Page, Part, Problem};
use super::text;
use super::view::{UnitView, Units};
use crate::corpus::{Split, TokenStream};
use crate::features::store::FeatureSummary;
use crate::intervene::effect::{Effect, Moved, TokenEffect, effect};
use crate::intervene::exact::promoted;
use crate::intervene::measure::{NORM_TOKENS, mean_length};
use crate::intervene::quality::{distinct_2, perplexity};
use crate::intervene::saved::{RuleName, SavedEdit, SavedLatent, Scale, Unit};
use crate::intervene::strength::{SafeStrength, caution, comes_apart, safe_strength};
use crate::intervene::write::Rig;
use crate::intervene::{LatentEdit, Rule, Scope, Side, Steering, steer};
use crate::lm::Engine;
use serde::Serialize;
use std::ops::ControlFlow;

pub use ask::{Ask, Limits, MAX_TOKENS, check_sampling, scope_name};
use ask::{MAX_PROMPT, check, link, with_a_strength};

#[derive(Debug, Serialize)]
pub struct SteerResult {
    pub warning: String,
    pub caption: String,
    pub edits: Vec<Edited>,
    /// How the strength was found, where that was asked.
    pub found: Option<SafeStrength>,
    pub quality: Quality,
    pub prompt: String,
    /// What both sides wrote before they part.
    pub same: String,
    pub unedited: String,
    pub edited: String,
    /// Index of the first token that differs.
    pub first_difference: Option<usize>,
    /// What the edit did to the prediction of each token of the edited text.
    pub effect: Effect,
    /// Address that gives this result again, and the edit as it can be saved.
    pub link: String,
    pub edit: SavedEdit,
}

/// One feature and what became of it.
#[derive(Debug, Serialize)]
pub struct Edited {
    pub feature: u32,
    pub title: String,
    /// "at 2 × max", "removed" ...
    pub how: String,
}

impl SteerResult {
    /// Per token: its text, KL, its probability before and after, what rose and what fell.
    pub fn effects(&self) -> Vec<[String; 5]> {
        let named =
            |moved: &[Moved]| moved.iter().map(|m| format!("{} {:.2}→{:.2}", shown(&m.text), m.unedited, m.edited)).collect::<Vec<_>>().join(", ");
        let p = |t: &TokenEffect| format!("{:.3} → {:.3}", t.log_prob_unedited.exp(), t.log_prob_edited.exp());
        self.effect.tokens.iter().map(|t| [shown(&t.text), format!("{:.3}", t.kl), p(t), named(&t.promoted), named(&t.suppressed)]).collect()
    }

    /// Other features that the edit moved, as one line.
    pub fn others(&self) -> String {
        let most: Vec<String> = self.effect.most_moved.iter().take(5).map(|m| format!("{} by {:+.3}", m.latent, m.mean_change)).collect();
        format!(
            "Mean KL {:.3} nats. {:.1} other features per position move by a tenth of the edit or more{}{}.",
            self.effect.mean_kl,
            self.effect.others_moved,
            if most.is_empty() { "" } else { "; most: " },
            most.join(", ")
        )
    }
}

/// A token's text with its spaces to be seen.
fn shown(text: &str) -> String {
    text.replace(' ', "·").replace('\n', "↵")
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
        comes_apart(ratio, self.distinct_2)
            .map_or(String::new(), |said| format!("The edited text comes apart: {said}. A lower strength may keep it whole."))
    }
}

impl App {
    /// What steering needs: the dictionary, for the feature's maximum.
    pub fn steer_limits(&self) -> Part<Limits> {
        let dictionary = self.dictionary(Units::Features)?;
        Ok(Limits { prompt: MAX_PROMPT, tokens: MAX_TOKENS, last_feature: dictionary.meta().n_units.saturating_sub(1), saved: self.run.edit_names() })
    }

    /// Writes both texts; `on_text` hears what is written, the two sides in turn, and may stop both.
    pub fn steer(&self, ask: &Ask, on_text: &mut dyn FnMut(Side, &str) -> ControlFlow<()>) -> Page<SteerResult> {
        check(ask)?;
        let asked = ask.edits(&self.run)?;
        let dictionary = self.dictionary(Units::Features)?;
        let meta = dictionary.meta().clone();
        let summaries = asked.edits.iter().map(|e| Ok(dictionary.summary(e.latent)?)).collect::<Page<Vec<FeatureSummary>>>()?;
        let labels = self.label_texts(Units::Features, &meta);
        let title = |s: &FeatureSummary| UnitView::new(Units::Features, s, labels.get(&s.id).cloned()).title();
        let sampling = ask.sampling();
        let (seeks, alone) = (ask.seeks(), ask.edit.is_none());
        let written = self.with_model(&meta, |model| {
            let failed = |e| Problem::new(400, "The text cannot be written with this edit", &e);
            let norm = norm_of(&asked, model, &self.stream).map_err(failed)?;
            let Model { engine, sae, hook, .. } = model;
            let mut edit = asked.clone();
            let mut found = None;
            let lm = engine.lm();
            let rig = Rig { lm: &lm, tokenizer: &self.tokenizer, sae, hook: *hook };
            let prompt = rig.prompt(&ask.prompt);
            if ask.rests {
                edit = resting(edit, rig).map_err(failed)?;
            }
            if seeks {
                let max_act = summaries[0].max_act;
                let held = Steering { rest_after: edit.rest_after.clone(), ..Steering::one(edit.edits[0].latent, Rule::Set(max_act)) };
                let safe = safe_strength(rig, &held, &[max_act], &prompt, &sampling).map_err(failed)?;
                edit.edits[0].value = Some(safe.multiple);
                found = Some(safe);
            }
            let mut scale_at = |latent: u32| {
                let summary = summaries.iter().find(|s| s.id == latent).expect("every latent of the edit was looked up");
                Ok(summary.scale())
            };
            // A single feature that never fired has no maximum: its multiples are nothing, which the page says.
            let dead = alone && summaries[0].n_active == 0;
            let steering =
                if dead { Steering::default() } else { edit.resolve(&meta.weights_hash, &mut scale_at, &mut || Ok(norm)).map_err(failed)? };
            steering.check(sae).map_err(failed)?;
            let n_ctx = rig.lm.config.n_ctx;
            let long = format!("The prompt has {} tokens and the model reads {n_ctx}: its beginning is not read.", prompt.len());
            let cautions: Vec<String> = (prompt.len() > n_ctx)
                .then_some(long)
                .into_iter()
                .chain(steering.edits.iter().zip(&summaries).filter_map(|(edit, s)| caution(rig, edit, s.max_act, &prompt)))
                .collect();
            let both = steer(rig, &steering, &prompt, &ask.writing(), on_text).map_err(failed)?;
            let (unedited, edited) = (&both.unedited.tokens, &both.edited.tokens);
            let quality = Quality {
                perplexity: (perplexity(rig.lm, &prompt, unedited), perplexity(rig.lm, &prompt, edited)),
                distinct_2: (distinct_2(unedited), distinct_2(edited)),
            };
            let effect = effect(rig, &steering, &prompt, edited, N_MOVED).map_err(failed)?;
            let max_act = |latent: u32| summaries.iter().find(|s| s.id == latent).map_or(0.0, |s| s.max_act);
            let edit = SavedEdit { weights_hash: Some(meta.weights_hash.clone()), ..edit.with_maxima(max_act) };
            Ok((both, quality, found, edit, cautions, effect, steering))
        })?;
        let (both, quality, found, edit, cautions, effect, steering) = written;
        let (unedited, edited) = (&both.unedited.tokens, &both.edited.tokens);
        let parting = both.first_difference.unwrap_or(unedited.len());
        let show = |tokens: &[u32]| text::flowing(&self.tokenizer.decode_bytes(tokens));
        let what = what(&steering, &edit);
        let again = ask.again(&edit);
        Ok(SteerResult {
            warning: if alone && summaries[0].n_active == 0 {
                "This feature never fired on the dictionary's tokens, so it has no maximum to be a multiple of.".into()
            } else {
                cautions.iter().cloned().chain([quality.verdict()]).filter(|said| !said.is_empty()).collect::<Vec<_>>().join(" ")
            },
            caption: match both.first_difference {
                None => format!("{what}{}; both sides wrote the same {}.", how(found.as_ref()), n_tokens(unedited.len())),
                Some(n) => format!(
                    "{what}{}. The texts part after {}; what follows is marked. Seed {}, temperature {}.",
                    how(found.as_ref()),
                    n_tokens(n),
                    ask.seed,
                    ask.temperature
                ),
            },
            edits: edit.edits.iter().zip(&summaries).map(|(e, s)| Edited { feature: e.latent, title: title(s), how: told(e) }).collect(),
            quality,
            prompt: text::flowing(ask.prompt.as_bytes()),
            same: show(&unedited[..parting]),
            unedited: show(&unedited[parting..]),
            edited: show(&edited[parting..]),
            first_difference: both.first_difference,
            effect,
            link: link(&again),
            edit,
            found,
        })
    }
}

/// Runs `work` with the model, the edit that is asked for and what turns such an edit into activations.
fn with_edit<T>(
    app: &App,
    ask: &Ask,
    work: impl FnOnce(Rig, &SavedEdit, &mut dyn FnMut(&SavedEdit) -> crate::intervene::Result<Steering>) -> crate::intervene::Result<T>,
) -> Page<T> {
    check(ask)?;
    let edit = ask.edits(&app.run)?;
    let dictionary = app.dictionary(Units::Features)?;
    let meta = dictionary.meta().clone();
    let scales = edit.edits.iter().map(|e| Ok((e.latent, dictionary.summary(e.latent)?.scale()))).collect::<Page<Vec<(u32, Scale)>>>()?;
    app.with_model(&meta, |model| {
        let failed = |e| Problem::new(400, "The model cannot be run with this edit", &e);
        let norm = norm_of(&edit, model, &app.stream).map_err(failed)?;
        let Model { engine, sae, hook, .. } = model;
        let lm = engine.lm();
        let rig = Rig { lm: &lm, tokenizer: &app.tokenizer, sae, hook: *hook };
        let edit = if ask.rests { resting(edit, rig).map_err(failed)? } else { edit };
        let mut scale = |latent: u32| Ok(scales.iter().find(|s| s.0 == latent).expect("every latent of the edit was looked up").1);
        let mut resolve = |edit: &SavedEdit| edit.resolve(&meta.weights_hash, &mut scale, &mut || Ok(norm));
        work(rig, &edit, &mut resolve).map_err(failed)
    })
}

/// The edit, resting after the tokens that its features promote.
fn resting(edit: SavedEdit, rig: Rig) -> crate::intervene::Result<SavedEdit> {
    let latents: Vec<u32> = edit.edits.iter().map(|e| e.latent).collect();
    Ok(SavedEdit { rest_after: promoted(rig.lm, rig.hook, rig.sae, &latents)?, ..edit })
}

/// The usual length of activations, where a number of the edit is a multiple of it.
fn norm_of(edit: &SavedEdit, model: &mut Model, stream: &TokenStream) -> crate::intervene::Result<f32> {
    if edit.edits.iter().any(|e| e.unit == Some(Unit::Norm)) {
        mean_length(&mut model.engine, stream, Split::HeldOutA, model.hook, NORM_TOKENS)
    } else {
        Ok(0.0)
    }
}

/// Tokens named as risen and as fallen.
const N_MOVED: usize = 3;

/// What is done where, as the beginning of a sentence.
fn what(steering: &Steering, edit: &SavedEdit) -> String {
    let place = match edit.scope {
        Scope::All => "at every position".to_string(),
        Scope::Generated => "from the prompt's last position on".into(),
        Scope::Continuation => "at every new position".into(),
        Scope::Prompt => "in the prompt alone".into(),
        Scope::From(n) => format!("from position {n} on"),
    };
    let place = match edit.rest_after.len() {
        0 => place,
        n => format!("{place}, resting after {n} tokens"),
    };
    let dropped = if edit.keep_error { "" } else { ", what the SAE does not explain dropped" };
    match steering.edits.as_slice() {
        [LatentEdit { rule: Rule::Set(act), only_active: false, .. }] => {
            format!("Clamped to {} {place}{dropped}", super::view::significant(f64::from(*act)))
        }
        [] => format!("Nothing edited{dropped}"),
        [_] => format!("Edited {place}{dropped}"),
        several => format!("{} features edited {place}{dropped}", several.len()),
    }
}

/// An edit of one feature in a few words, as what follows its name.
fn told(e: &SavedLatent) -> String {
    let value = e.value.unwrap_or_default();
    let amount = match e.unit.unwrap_or_default() {
        Unit::Max => format!("{value} × max"),
        Unit::Act => format!("{value}"),
        Unit::Norm => format!("{value} × the usual length"),
    };
    let said = match e.rule {
        RuleName::Set => format!("at {amount}"),
        RuleName::Add => format!("with {amount} added"),
        RuleName::Scale => format!("times {value}"),
        RuleName::Zero => "removed".into(),
        RuleName::Mean => "at its mean".into(),
        RuleName::AtLeast => format!("at {amount} or more"),
        RuleName::AtMost => format!("at {amount} or less"),
        RuleName::Project => format!("with its direction times {value}"),
        RuleName::Cap => format!("with its direction at {amount} or less"),
    };
    if e.only_active { said + " where it is active" } else { said }
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
    if n == 1 { "one token".into() } else { format!("{n} tokens") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_said_to_come_apart_where_it_is_perplexing_or_repeats_itself() {
        let verdict = |perplexity, distinct_2| Quality { perplexity, distinct_2 }.verdict();
        assert_eq!(verdict((Some(10.0), Some(14.9)), (1.0, 0.81)), "");
        assert_eq!(verdict((None, None), (1.0, 1.0)), "", "nothing was written");
        assert!(verdict((Some(10.0), Some(42.0)), (1.0, 1.0)).contains("4.2 times"));
        assert!(verdict((Some(10.0), Some(2.0)), (1.0, 0.25)).contains("75 % of its pairs"));
    }
}
