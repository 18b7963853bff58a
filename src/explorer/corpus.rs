//! The text itself around a place of the token stream, document by document, with the activations of one unit where one is named. Runs the
//! model for these; reads nothing else.

use super::app::{App, Model, Page, Problem};
use super::text;
use super::view::{self, TokenView, UnitView, Units};
use crate::artifact::grouped;
use crate::corpus::{Split, counts};
use crate::lm::{Engine, HookPoint};
use crate::sae::SparseRows;
use serde::{Deserialize, Serialize};

/// Tokens before and after the place.
const REACH: u64 = 300;

/// What the address says: a place, and at most one unit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub t: u64,
    /// Numbers as texts: a form sends an empty field where there is none.
    pub feature: String,
    pub neuron: String,
}

impl Ask {
    fn unit(&self) -> Option<(Units, u32)> {
        let id = |text: &str| text.trim().parse().ok();
        id(&self.feature).map(|id| (Units::Features, id)).or(id(&self.neuron).map(|id| (Units::Neurons, id)))
    }

    fn at(&self, t: u64) -> String {
        let unit = match self.unit() {
            Some((Units::Features, id)) => format!("&feature={id}"),
            Some((Units::Neurons, id)) => format!("&neuron={id}"),
            None => String::new(),
        };
        format!("/corpus?t={t}{unit}")
    }
}

#[derive(Debug, Serialize)]
pub struct CorpusPage {
    pub ask: Ask,
    pub unit: Option<UnitView>,
    pub title: String,
    pub note: String,
    /// Set where the unit's activations cannot be shown.
    pub warning: String,
    pub tokens: Vec<TokenView>,
    /// Index in the stream of the first of `tokens`.
    pub start: u64,
    #[serde(skip)]
    pub rtl: bool,
    /// The unit's firings on the page.
    pub n_firings: usize,
    pub earlier: Option<String>,
    pub later: Option<String>,
    pub previous_document: Option<String>,
    pub next_document: Option<String>,
    pub last_t: u64,
}

/// A window as one long line.
pub struct WindowView {
    pub tokens: Vec<TokenView>,
    pub rtl: bool,
}

impl App {
    pub fn corpus(&self, ask: Ask) -> Page<CorpusPage> {
        let stream = &self.stream;
        let n = stream.len();
        if ask.t >= n {
            return Err(Problem::not_found(&format!("The stream has {} tokens.", grouped(n))));
        }
        let doc = stream.doc_of(ask.t);
        let (first, end) = (stream.doc_start(doc), stream.doc_end(doc).min(n));
        let (start, stop) = (ask.t.saturating_sub(REACH).max(first), (ask.t + REACH + 1).min(end));
        let mut ids = vec![0; (stop - start) as usize];
        stream.read(start, &mut ids);
        let bytes: Vec<(u32, &[u8])> = ids.iter().map(|&id| (id, self.tokenizer.bytes(id))).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(|(_, b)| *b).collect();

        let (mut acts, mut max, mut unit, mut warning) = (vec![0.0; ids.len()], 1.0, None, String::new());
        if let Some((units, id)) = ask.unit() {
            let dictionary = self.dictionary(units)?;
            let meta = dictionary.meta().clone();
            let summary = dictionary.summary(id)?;
            let labels = self.label_texts(units, &meta);
            max = summary.max_act;
            unit = Some(self.unit_view(units, &summary, &labels));
            let hook: HookPoint = meta.hook.parse().map_err(|e: String| Problem::bad(&e))?;
            match self.with_model(&meta, |model| Ok(self.activations(model, hook, units, id, start, stop))) {
                Ok(found) => acts = found,
                Err(problem) => warning = format!("Its activations cannot be shown: {}", problem.message),
            }
        }
        let mut tokens = view::tokens(&bytes, &acts, max);
        if let Some(here) = tokens.get_mut((ask.t - start) as usize) {
            here.fires = true;
        }
        let split = Split::ALL.into_iter().find(|&s| stream.range(s).contains(&ask.t)).map_or("", Split::name).replace('_', " ");
        let kind = stream.doc_kind(doc).and_then(|k| stream.kinds().get(usize::from(k)).cloned());
        Ok(CorpusPage {
            title: format!("Document {}", grouped(doc as u64)),
            note: format!(
                "token {} of {}, {} tokens into a document of {}; {split}{}",
                grouped(ask.t),
                grouped(n),
                grouped(ask.t - first),
                grouped(end - first),
                kind.map(|k| format!("; kind: {k}")).unwrap_or_default()
            ),
            warning,
            rtl: text::is_right_to_left(&slices),
            n_firings: acts.iter().filter(|a| **a > 0.0).count(),
            earlier: (start > first).then(|| ask.at(start)),
            later: (stop < end).then(|| ask.at(stop)),
            previous_document: (doc > 0).then(|| ask.at(stream.doc_start(doc - 1))),
            next_document: (end < n).then(|| ask.at(end)),
            last_t: n - 1,
            start,
            tokens,
            unit,
            ask,
        })
    }

    /// The whole window that the model read at a place, shaded by the unit.
    pub fn window(&self, ask: &Ask) -> Page<WindowView> {
        let (units, id) = ask.unit().ok_or_else(|| Problem::bad("Say which feature or neuron."))?;
        if ask.t >= self.stream.len() {
            return Err(Problem::not_found(&format!("The stream has {} tokens.", grouped(self.stream.len()))));
        }
        let dictionary = self.dictionary(units)?;
        let meta = dictionary.meta().clone();
        let summary = dictionary.summary(id)?;
        let hook: HookPoint = meta.hook.parse().map_err(|e: String| Problem::bad(&e))?;
        let start = ask.t - ask.t % meta.n_ctx as u64;
        let stop = (start + meta.n_ctx as u64).min(self.stream.len());
        let mut ids = vec![0; (stop - start) as usize];
        self.stream.read(start, &mut ids);
        let acts = self.with_model(&meta, |model| Ok(self.activations(model, hook, units, id, start, stop)))?;
        let bytes: Vec<(u32, &[u8])> = ids.iter().map(|&id| (id, self.tokenizer.bytes(id))).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(|(_, b)| *b).collect();
        let mut tokens = view::tokens(&bytes, &acts, summary.max_act);
        tokens[(ask.t - start) as usize].fires = true;
        Ok(WindowView { rtl: text::is_right_to_left(&slices), tokens })
    }

    /// The unit's activations on tokens `start..stop` of the stream, in the windows that every stage uses.
    fn activations(&self, model: &mut Model, hook: HookPoint, units: Units, id: u32, start: u64, stop: u64) -> Vec<f32> {
        let Model { engine, sae, .. } = model;
        let n_ctx = engine.config().n_ctx as u64;
        let first = start / n_ctx * n_ctx;
        let mut ids = vec![0; (stop.next_multiple_of(n_ctx).min(self.stream.len()) - first) as usize];
        self.stream.read(first, &mut ids);
        let d_in = hook.d_in(engine.config());
        let mut rows = vec![0.0; ids.len() * d_in];
        let whole = ids.len() / n_ctx as usize * n_ctx as usize;
        let (head, tail) = rows.split_at_mut(whole * d_in);
        if whole > 0 {
            engine.forward_to(&ids[..whole], n_ctx as usize, hook, head);
        }
        if whole < ids.len() {
            engine.forward_to(&ids[whole..], ids.len() - whole, hook, tail);
        }
        // Only what is shown is encoded.
        let skip = (start - first) as usize;
        let rows = &rows[skip * d_in..][..(stop - start) as usize * d_in];
        let mut acts = vec![0.0; (stop - start) as usize];
        match units {
            Units::Features => {
                let mut encoded = SparseRows::default();
                sae.encode(rows, &mut encoded);
                for (r, act) in acts.iter_mut().enumerate() {
                    let (latents, values) = encoded.row(r);
                    *act = latents.binary_search(&id).map_or(0.0, |i| values[i]);
                }
            }
            Units::Neurons => {
                let (neuron, sign) = (id as usize % d_in, if (id as usize) < d_in { 1.0 } else { -1.0 });
                acts.iter_mut().zip(rows.chunks_exact(d_in)).for_each(|(act, row)| *act = (sign * row[neuron]).max(0.0));
            }
        }
        let end_of_text = self.tokenizer.end_of_text();
        for (r, act) in acts.iter_mut().enumerate() {
            if !counts(ids[skip + r], (skip + r) % n_ctx as usize, end_of_text) {
                *act = 0.0;
            }
        }
        acts
    }
}
