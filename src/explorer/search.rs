//! Search as you type: units by number, label, known concept, token and context, a few of each, at the cost of one keystroke. Of each kind those come
//! first that have what is typed as a whole word.

use super::app::{App, Page, Part};
use super::list::{MAX_QUERY, url_text};
use super::text;
use super::view::{UnitView, Units, percent};
use crate::features::store::{ON_WORD_FROM, has_word};
use crate::features::text::StreamText;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Of each kind.
const N_SHOWN: usize = 6;
/// Shortest text that contexts are searched for, in bytes.
const MIN_WORDS: usize = 3;

#[derive(Debug, Serialize)]
pub struct Found {
    pub query: String,
    pub parts: Vec<FoundPart>,
    /// The list with all that there is.
    pub all: String,
}

/// Units that were found in one way.
#[derive(Debug, Serialize)]
pub struct FoundPart {
    pub title: &'static str,
    pub hits: Vec<FoundUnit>,
}

#[derive(Debug, Serialize)]
pub struct FoundUnit {
    pub unit: UnitView,
    /// What matched, and how much of the unit it is.
    pub text: String,
    pub note: String,
}

/// How much of a unit's activation is on the tokens that hold what is looked for.
#[derive(Debug, Clone, Copy, Default)]
struct OnTokens<'a> {
    all: f64,
    /// Of it on those that are the word itself.
    word: f64,
    /// On the one with most of it, and its text.
    most: f64,
    token: &'a str,
}

impl OnTokens<'_> {
    /// The larger comes first.
    fn key(&self) -> (f64, f64) {
        (if self.word >= ON_WORD_FROM { self.word } else { 0.0 }, self.all)
    }
}

impl App {
    pub fn search(&self, asked: &str) -> Page<Part<Found>> {
        let dictionary = match self.dictionary(Units::Features) {
            Ok(dictionary) => dictionary,
            Err(missing) => return Ok(Err(missing)),
        };
        let query: String = asked.trim_start().chars().take(MAX_QUERY).collect();
        let wanted = query.trim().to_lowercase();
        let all = format!("{}?q={}", Units::Features.path(), url_text(query.trim()));
        if wanted.is_empty() {
            return Ok(Ok(Found { query, parts: vec![], all }));
        }
        let known = self.summaries(Units::Features, &dictionary)?;
        let mut labelled = self.all_labels(Units::Features, dictionary.meta());
        let labels: HashMap<u32, String> = labelled.iter().cloned().collect();
        let view = |id: u32| known.get(id as usize).map(|s| self.unit_view(Units::Features, s, &labels));
        let hit = |id: u32, text: String, note: String| view(id).map(|unit| FoundUnit { unit, text, note });
        let mut parts = vec![];

        let by_number: Vec<FoundUnit> = wanted.parse::<u32>().ok().and_then(|id| hit(id, String::new(), String::new())).into_iter().collect();
        parts.push(FoundPart { title: "Number", hits: by_number });

        // What any author says of it, not only the newest.
        labelled.retain(|(_, text)| text.to_lowercase().contains(&wanted));
        labelled.sort_by_key(|(id, text)| {
            let text = text.to_lowercase();
            (!has_word(&text, &wanted), !text.starts_with(&wanted), text.len(), *id)
        });
        let mut seen = HashSet::new();
        labelled.retain(|(id, _)| seen.insert(*id));
        let labelled = labelled.into_iter().take(N_SHOWN).filter_map(|(id, text)| hit(id, text, String::new())).collect();
        parts.push(FoundPart { title: "Labels", hits: labelled });

        let mut concepts: Vec<(f64, u32, &str)> = known
            .iter()
            .filter_map(|s| s.concept.as_ref().filter(|c| c.name.to_lowercase().contains(&wanted)).map(|c| (c.f1, s.id, c.name.as_str())))
            .collect();
        let is_part = |name: &str| !has_word(&name.to_lowercase(), &wanted);
        concepts.sort_by(|a, b| is_part(a.2).cmp(&is_part(b.2)).then(b.0.total_cmp(&a.0)).then(a.1.cmp(&b.1)));
        let concepts = concepts.into_iter().take(N_SHOWN).filter_map(|(f1, id, name)| hit(id, name.into(), format!("F1 {f1:.2}"))).collect();
        parts.push(FoundPart { title: "Known concepts", hits: concepts });

        // The text as typed, with a space in front where it has one: " the" is another token than "the".
        let mut firing: BTreeMap<u32, OnTokens> = BTreeMap::new();
        for token in known.tokens_with(query.trim_end()) {
            let is_word = token.lower.trim() == wanted;
            for &(id, mass) in &token.units {
                let on = firing.entry(id).or_default();
                on.all += mass;
                on.word += if is_word { mass } else { 0.0 };
                if mass > on.most {
                    (on.most, on.token) = (mass, &token.text);
                }
            }
        }
        let mut firing: Vec<(u32, OnTokens)> = firing.into_iter().collect();
        firing.sort_by(|a, b| b.1.key().partial_cmp(&a.1.key()).expect("shares are numbers").then(a.0.cmp(&b.0)));
        let in_tokens: HashSet<u32> = firing.iter().take(N_SHOWN).map(|f| f.0).collect();
        let firing = firing.into_iter().take(N_SHOWN);
        let firing = firing.filter_map(|(id, on)| hit(id, text::plain(on.token.as_bytes()), format!("{} of it", percent(on.all))));
        parts.push(FoundPart { title: "Tokens", hits: firing.collect() });

        if wanted.len() >= MIN_WORDS {
            let (seen, complete) = dictionary.seen(&wanted, N_SHOWN * 3)?;
            let stream = StreamText { stream: &self.stream, tokenizer: &self.tokenizer };
            let seen = seen.into_iter().filter(|s| !in_tokens.contains(&s.feature)).take(N_SHOWN);
            let hits = seen.filter_map(|s| {
                let words = text::plain(dictionary.around(s.t, &wanted, &stream).as_bytes());
                hit(s.feature, words, format!("in {} contexts", s.n))
            });
            parts.push(FoundPart { title: if complete { "Contexts" } else { "Contexts of the first features" }, hits: hits.collect() });
        }
        parts.retain(|p| !p.hits.is_empty());
        Ok(Ok(Found { query, parts, all }))
    }
}
