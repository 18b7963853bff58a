//! Which features fire on a text that somebody types. Runs the model to the hook and the SAE's encoder, nothing above.
//!
//! Of a text that is typed on only what is new is computed. It is read as a document is in the stream: after `<|endoftext|>`, in windows of n_ctx whose first position does not count.

use super::app::{App, Model, Page, Part, Problem};
use super::fires::{DENSE, Fires, Ranked, Scale};
use super::list::url_text;
use super::text;
use super::view::{self, TokenView, UnitView, Units, percent};
use crate::lm::{Engine, HookPoint, LmConfig, Reader};
use crate::sae::SparseRows;
use serde::Serialize;

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

    pub fn shades(&self) -> String {
        view::shades(&self.at, self.unit.max_act)
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
        let scale = |latent: u32| summaries.get(latent as usize).map(|s| Scale { max: s.max_act, density: s.density });
        let (fires, n_ctx) = self.with_model(&meta, |model| {
            let n_ctx = model.engine.config().n_ctx;
            Ok((Fires::new(&ids, encode(model, &ids), n_ctx, self.tokenizer.end_of_text(), &scale), n_ctx))
        })?;
        let bytes: Vec<(u32, &[u8])> = ids[1..].iter().map(|&id| (id, self.tokenizer.bytes(id))).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(|(_, b)| *b).collect();
        let views = view::tokens(&bytes, &fires.strongest, 1.0);
        let at = at.filter(|&i| i < views.len());
        let labels = self.label_texts(Units::Features, &meta);
        let ranked = fires.ranked(at, &scale, meta.n_tokens);
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
        let warning = warning(ids.len(), n_ctx);
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

/// What is said of a text that is longer than what the model reads at once; else nothing.
pub fn warning(n_tokens: usize, n_ctx: usize) -> String {
    match n_tokens > n_ctx {
        true => format!("The model reads {n_ctx} tokens at a time: what comes after is read without what stands before."),
        false => String::new(),
    }
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
