//! Search as you type: units by number, label, known concept, token and context, a few of each, at the cost of one keystroke. Of each kind those come
//! first that have what is typed as a whole word.

use super::app::{App, Page, Part};
use super::list::{MAX_QUERY, url_text};
use super::summaries::Summaries;
use super::text;
use super::view::{UnitView, Units, percent};
use crate::features::Dictionary;
use crate::features::store::{FeatureSummary, ON_WORD_FROM, has_word};
use crate::features::text::StreamText;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

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

/// What is known of the units of one kind.
struct Known<'a> {
    app: &'a App,
    units: Units,
    all: Arc<Summaries>,
    /// Every label in force, of every author.
    labelled: Vec<(u32, String)>,
    /// The newest of each unit.
    labels: HashMap<u32, String>,
}

impl<'a> Known<'a> {
    fn new(app: &'a App, units: Units, dictionary: &Dictionary) -> Page<Self> {
        let labelled = app.all_labels(units, dictionary.meta());
        let labels = labelled.iter().cloned().collect();
        Ok(Known { app, units, all: app.summaries(units, dictionary)?, labelled, labels })
    }

    fn hit(&self, id: u32, text: String, note: String) -> Option<FoundUnit> {
        let summary = self.all.get(id as usize)?;
        Some(FoundUnit { unit: self.app.unit_view(self.units, summary, &self.labels), text, note })
    }

    /// Those of which any author says what is looked for, not only the newest label.
    fn labelled(&self, wanted: &str) -> Vec<FoundUnit> {
        let mut labelled: Vec<(u32, &str, String)> =
            self.labelled.iter().map(|(id, text)| (*id, text.as_str(), text.to_lowercase())).filter(|(_, _, lower)| lower.contains(wanted)).collect();
        labelled.sort_by_key(|(id, text, lower)| (!has_word(lower, wanted), !lower.starts_with(wanted), text.len(), *id));
        let mut seen = HashSet::new();
        labelled.retain(|(id, ..)| seen.insert(*id));
        labelled.into_iter().take(N_SHOWN).filter_map(|(id, text, _)| self.hit(id, text.into(), String::new())).collect()
    }

    /// Those whose best known concept has what is looked for in its name, the surest first.
    fn of_concept(&self, wanted: &str) -> Vec<FoundUnit> {
        let concept = |s: &FeatureSummary| s.concept.as_ref().map(|c| (c.name.clone(), format!("F1 {:.2}", c.f1)));
        let found = self.all.of_concept(wanted).into_iter().take(N_SHOWN);
        found.filter_map(|s| concept(s).and_then(|(name, f1)| self.hit(s.id, name, f1))).collect()
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
        let known = Known::new(self, Units::Features, &dictionary)?;
        let mut parts = vec![];
        let by_number = wanted.parse::<u32>().ok().and_then(|id| known.hit(id, String::new(), String::new()));
        parts.push(FoundPart { title: "Number", hits: by_number.into_iter().collect() });
        parts.push(FoundPart { title: "Labels", hits: known.labelled(&wanted) });
        parts.push(FoundPart { title: "Known concepts", hits: known.of_concept(&wanted) });

        // The text as typed, with a space in front where it has one: " the" is another token than "the".
        let mut firing: BTreeMap<u32, OnTokens> = BTreeMap::new();
        for token in known.all.tokens_with(query.trim_end()) {
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
        let firing = firing.filter_map(|(id, on)| known.hit(id, text::plain(on.token.as_bytes()), format!("{} of it", percent(on.all))));
        parts.push(FoundPart { title: "Tokens", hits: firing.collect() });

        if wanted.len() >= MIN_WORDS {
            let (seen, complete) = dictionary.seen(&wanted, N_SHOWN * 3)?;
            let stream = StreamText { stream: &self.stream, tokenizer: &self.tokenizer };
            let seen = seen.into_iter().filter(|s| !in_tokens.contains(&s.feature)).take(N_SHOWN);
            let hits = seen.filter_map(|s| {
                let words = text::plain(dictionary.around(s.t, &wanted, &stream).as_bytes());
                known.hit(s.feature, words, format!("in {} contexts", s.n))
            });
            parts.push(FoundPart { title: if complete { "Contexts" } else { "Contexts of the first features" }, hits: hits.collect() });
        }
        // The model's own neurons, by what somebody or an exam says of them.
        if let Ok(neurons) = self.dictionary(Units::Neurons) {
            let known = Known::new(self, Units::Neurons, &neurons)?;
            let mut hits = known.labelled(&wanted);
            let labelled: HashSet<u32> = hits.iter().map(|h| h.unit.summary.id).collect();
            hits.extend(known.of_concept(&wanted).into_iter().filter(|h| !labelled.contains(&h.unit.summary.id)));
            hits.truncate(N_SHOWN);
            parts.push(FoundPart { title: "Neurons", hits });
        }
        parts.retain(|p| !p.hits.is_empty());
        Ok(Ok(Found { query, parts, all }))
    }
}
