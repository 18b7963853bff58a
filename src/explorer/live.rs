//! Which features fire on a text that somebody types. Runs the model to the hook and the SAE's encoder, nothing above.
//!
//! Of a text that is typed on only what is new is computed. It is read as a document is in the stream: after `<|endoftext|>`, in windows of n_ctx whose first position does not count.

use super::app::{App, Model, Page, Part, Problem};
use super::list::url_text;
use super::text;
use super::view::{self, TokenView, UnitView, Units, percent};
use crate::corpus::counts;
use crate::features::store::{FeatureSummary, Meta};
use crate::lm::{Engine, HookPoint, LmConfig, Reader};
use crate::sae::SparseRows;
use serde::Serialize;
use std::collections::BTreeMap;

/// Longest text, in characters.
pub const MAX_CHARS: usize = 2000;
/// Features that a table shows.
const N_SHOWN: usize = 40;

#[derive(Debug, Serialize)]
pub struct LiveResult {
    /// Something the reader should know about the text, or nothing.
    pub warning: String,
    pub caption: String,
    pub tokens: Vec<LiveToken>,
    pub firing: Vec<Firing>,
    #[serde(skip)]
    pub rtl: bool,
}

/// A token of the text; `token.act` is the largest share of a feature's maximum among those that fire on it.
#[derive(Debug, Serialize)]
pub struct LiveToken {
    pub token: TokenView,
    /// How many features fire on it.
    pub n_features: usize,
    /// Whether the table beneath is about this token.
    pub here: bool,
}

/// A feature that fires on the text.
#[derive(Debug, Serialize)]
pub struct Firing {
    pub unit: UnitView,
    /// The token on which it is strongest (or the chosen one).
    pub token: String,
    pub act: f32,
    /// act over the feature's maximum in the dictionary.
    pub share: f32,
    /// (token, act) wherever it fires.
    pub at: Vec<(usize, f32)>,
    /// Where the activation on that token is taken apart.
    #[serde(skip)]
    pub why: String,
}

impl Firing {
    pub fn share_text(&self) -> String {
        format!("{:.0} %", 100.0 * self.share)
    }

    /// `token:shade` pairs for the script, which shades the text by one feature.
    pub fn shades(&self) -> String {
        let max = self.unit.max_act;
        self.at.iter().map(|&(i, act)| format!("{i}:{}", view::shade(act, max))).collect::<Vec<_>>().join(" ")
    }
}

impl App {
    /// `at`: rank by what fires on this token alone.
    pub fn live(&self, typed: &str, at: Option<usize>) -> Page<Part<LiveResult>> {
        if typed.chars().count() > MAX_CHARS {
            return Err(Problem::bad(&format!("A text has at most {MAX_CHARS} characters here.")));
        }
        let dictionary = match self.dictionary(Units::Features) {
            Ok(dictionary) => dictionary,
            Err(missing) => return Ok(Err(missing)),
        };
        if typed.is_empty() {
            let caption = "Nothing typed yet.".to_string();
            return Ok(Ok(LiveResult { warning: String::new(), caption, tokens: vec![], firing: vec![], rtl: false }));
        }
        let meta = dictionary.meta().clone();
        let summaries = self.summaries(Units::Features, &dictionary)?;
        let mut ids = vec![self.tokenizer.end_of_text()];
        ids.extend(self.tokenizer.encode(typed));
        let (fires, n_ctx) = self.with_model(&meta, |model| {
            let n_ctx = model.engine.config().n_ctx;
            Ok((Fires::new(&ids, encode(model, &ids), n_ctx, self.tokenizer.end_of_text(), &summaries), n_ctx))
        })?;
        let bytes: Vec<(u32, &[u8])> = ids[1..].iter().map(|&id| (id, self.tokenizer.bytes(id))).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(|(_, b)| *b).collect();
        let views = view::tokens(&bytes, &fires.strongest, 1.0);
        let at = at.filter(|&i| i < views.len());
        let labels = self.label_texts(Units::Features, &meta);
        let ranked = fires.ranked(at, &summaries, &meta);
        let n_firing = ranked.len();
        let firing = ranked.into_iter().take(N_SHOWN).filter_map(|Ranked { latent, place, act, share }| {
            let unit = self.unit_view(Units::Features, summaries.get(latent as usize)?, &labels);
            let why = format!("{}/why?text={}&at={place}", unit.href(), url_text(typed));
            Some(Firing { unit, token: text::plain(slices[place]), act, share, at: fires.places[&latent].clone(), why })
        });
        let firing: Vec<Firing> = firing.collect();
        let over = match at {
            Some(i) => format!("on “{}”", text::plain(slices[i])),
            None => format!("on these {} tokens", views.len()),
        };
        let warning = match ids.len() > n_ctx {
            true => format!("The model reads {n_ctx} tokens at a time: what comes after is read without what stands before."),
            false => String::new(),
        };
        let caption = match views.is_empty() {
            true => "Nothing typed yet.".into(),
            false => format!(
                "{n_firing} features fire {over}; the {} that are strongest for themselves and rarest come first. A token is as orange as its strongest feature that fires on less than {} of tokens; click one to see only its features.",
                firing.len(),
                percent(DENSE)
            ),
        };
        let token = |(i, (token, n_features))| LiveToken { token, n_features, here: at == Some(i) };
        let tokens = views.into_iter().zip(fires.n_features).enumerate().map(token).collect();
        Ok(Ok(LiveResult { warning, caption, tokens, firing, rtl: text::is_right_to_left(&slices) }))
    }
}

/// What fires where on the typed tokens, which are `ids` without the `<|endoftext|>` in front.
struct Fires {
    /// Latent -> (token, act).
    places: BTreeMap<u32, Vec<(usize, f32)>>,
    /// Per token: the largest share of its maximum that a feature reaches which is not dense.
    strongest: Vec<f32>,
    n_features: Vec<usize>,
}

/// A feature's place in the table: the token it is ranked by, its activation there and the share of its maximum.
struct Ranked {
    latent: u32,
    place: usize,
    act: f32,
    share: f32,
}

impl Fires {
    fn new(ids: &[u32], acts: &SparseRows, n_ctx: usize, end_of_text: u32, summaries: &[FeatureSummary]) -> Self {
        let n = ids.len() - 1;
        let mut fires = Fires { places: BTreeMap::new(), strongest: vec![0.0; n], n_features: vec![0; n] };
        for (i, &token) in ids.iter().enumerate().skip(1) {
            if !counts(token, i % n_ctx, end_of_text) {
                continue;
            }
            let (latents, values) = acts.row(i);
            for (&latent, &act) in latents.iter().zip(values) {
                fires.places.entry(latent).or_default().push((i - 1, act));
                fires.n_features[i - 1] += 1;
                if density(latent, summaries) <= DENSE {
                    fires.strongest[i - 1] = fires.strongest[i - 1].max(act / maximum(latent, act, summaries));
                }
            }
        }
        fires
    }

    /// By the share of its maximum that a feature reaches (on token `at`, or anywhere) times the surprise that it fires at all.
    fn ranked(&self, at: Option<usize>, summaries: &[FeatureSummary], meta: &Meta) -> Vec<Ranked> {
        let mut ranked: Vec<(f64, Ranked)> = self
            .places
            .iter()
            .filter_map(|(&latent, places)| {
                let here = places.iter().filter(|p| at.is_none_or(|i| p.0 == i));
                let &(place, act) = here.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
                let share = (act / maximum(latent, act, summaries)).min(1.0);
                Some((f64::from(share) * surprise(density(latent, summaries), meta), Ranked { latent, place, act, share }))
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.latent.cmp(&b.1.latent)));
        ranked.into_iter().map(|(_, ranked)| ranked).collect()
    }
}

fn density(latent: u32, summaries: &[FeatureSummary]) -> f64 {
    summaries.get(latent as usize).map_or(0.0, |s| s.density)
}

/// The feature's maximum in the dictionary; of one that is not in it, `act` itself.
fn maximum(latent: u32, act: f32, summaries: &[FeatureSummary]) -> f32 {
    summaries.get(latent as usize).map_or(act, |s| s.max_act.max(f32::MIN_POSITIVE))
}

/// Features above this density do not darken a token: they fire on anything.
const DENSE: f64 = 0.1;

/// Nats of surprise that a feature of this density fires at a token; a dead one counts as one firing.
fn surprise(density: f64, meta: &Meta) -> f64 {
    -density.max(1.0 / (meta.n_tokens.max(1) as f64)).ln()
}

/// The text that was typed last and what fires on it.
pub struct Typed {
    reader: Reader,
    acts: SparseRows,
}

impl Typed {
    pub fn new(config: &LmConfig, hook: HookPoint) -> Self {
        Typed { reader: Reader::new(config, hook), acts: SparseRows::default() }
    }
}

/// What fires on every position of `ids`, in windows of n_ctx. Only what comes after the first change since the last text is read.
pub(super) fn encode<'a>(model: &'a mut Model, ids: &[u32]) -> &'a SparseRows {
    let Model { engine, sae, typed, .. } = model;
    let known = typed.reader.read(&engine.lm(), ids);
    typed.acts.truncate(known);
    let mut new = SparseRows::default();
    sae.encode(&typed.reader.rows()[known * sae.d_in..], &mut new);
    typed.acts.append(&new);
    &typed.acts
}
