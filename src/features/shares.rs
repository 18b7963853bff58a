//! What a unit answers to, as shares of its activation: "31 % Hebrew, 22 % numbers above 20, 9 % colons in URLs". Reads one unit's sampled
//! contexts and, where the corpus knows them, the planted concepts of tokens and kinds of documents. Knows no pages.
//!
//! > share(c) = sum over intervals i of m_i s_i(c) / sum over i of m_i,   m_i = n_i mean_i,
//! > s_i(c) = sum of the activations of i's sampled firings in class c / sum of those of all of i's sampled firings
//!
//! n_i counts all firings of the interval, mean_i is the mean of the sampled ones: each interval stands for the activation that it holds, so
//! weak and strong firings weigh what they give. Every firing is in exactly one class: the first that fits of the planted concepts of its
//! token, a script, a number, punctuation and other marks (in an address or not), names and capitals, then what kind of word it is.

use super::store::{Example, ExampleGroup, FeatureDetail, GroupKind};
use crate::corpus::TokenStream;
use serde::Serialize;
use std::collections::BTreeMap;

/// Smaller shares are summed as others.
pub const LEAST: f64 = 0.04;

/// A class and its share of the unit's activation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    pub class: String,
    pub share: f64,
}

impl Share {
    pub fn percent(&self) -> String {
        format!("{:.0} %", 100.0 * self.share)
    }
}

/// What the shares are by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Card {
    /// By what fires, the largest first; those below [`LEAST`] are left out.
    pub classes: Vec<Share>,
    /// By the kind of document, where the corpus says it.
    pub kinds: Vec<Share>,
    /// Sampled firings that this is read from.
    pub n: usize,
}

impl Card {
    /// `31 % Hebrew, 22 % numbers above 20`, of the classes.
    pub fn line(&self) -> String {
        self.classes.iter().take(5).map(|s| format!("{} {}", s.percent(), s.class)).collect::<Vec<_>>().join(", ")
    }
}

/// The card of one unit. Without intervals its random firings stand for all.
pub fn card(detail: &FeatureDetail, stream: &TokenStream) -> Card {
    let kind_of = |e: &Example| stream.doc_kind(e.doc).and_then(|k| stream.kinds().get(usize::from(k)).cloned());
    Card {
        classes: shares(&detail.groups, |e| Some(planted(e, stream).unwrap_or_else(|| class(e).to_string()))),
        kinds: shares(&detail.groups, kind_of),
        n: sampled(&detail.groups).map(|g| g.examples.len()).sum(),
    }
}

/// The groups that stand for all firings.
fn sampled(groups: &[ExampleGroup]) -> impl Iterator<Item = &ExampleGroup> {
    let of = |kind: GroupKind| groups.iter().any(move |g| g.kind == kind && !g.examples.is_empty());
    let kind = if of(INTERVAL) { INTERVAL } else { GroupKind::Random };
    groups.iter().filter(move |g| g.kind == kind && !g.examples.is_empty())
}

const INTERVAL: GroupKind = GroupKind::Interval;

fn shares(groups: &[ExampleGroup], class: impl Fn(&Example) -> Option<String>) -> Vec<Share> {
    let (mut by_class, mut all): (BTreeMap<String, f64>, f64) = (BTreeMap::new(), 0.0);
    for group in sampled(groups) {
        let sum: f64 = group.examples.iter().map(|e| f64::from(e.act)).sum();
        // Exact where the dictionary has it (from version 2 on), in units of the whole.
        let mass = group.share_mass.unwrap_or(group.n_firings.max(1) as f64 * sum / group.examples.len() as f64);
        all += mass;
        for e in &group.examples {
            if let Some(class) = class(e) {
                *by_class.entry(class).or_default() += mass * f64::from(e.act) / sum;
            }
        }
    }
    let shares = by_class.into_iter().map(|(class, mass)| Share { class, share: mass / all }).filter(|s| s.share >= LEAST);
    let mut shares: Vec<Share> = shares.collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.class.cmp(&b.class)));
    shares
}

/// The planted concept of the firing token; of several the first.
fn planted(e: &Example, stream: &TokenStream) -> Option<String> {
    let labels = stream.concepts()?;
    let at = labels.within(e.t..e.t + 1);
    let concept = *labels.concept.get(at.start).filter(|_| !at.is_empty())?;
    labels.names.get(usize::from(concept)).cloned()
}

const ARTICLES: [&str; 3] = ["a", "an", "the"];
const PREPOSITIONS: [&str; 24] = [
    "of", "in", "to", "for", "with", "on", "at", "by", "from", "into", "over", "under", "after", "before", "between", "through", "about", "against",
    "during", "without", "within", "upon", "near", "than",
];
const PRONOUNS: [&str; 24] = [
    "i", "you", "he", "she", "it", "we", "they", "me", "him", "her", "us", "them", "my", "your", "his", "its", "our", "their", "this", "that",
    "these", "those", "who", "which",
];
const AUXILIARIES: [&str; 22] = [
    "is", "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "has", "have", "had", "will", "would", "can", "could", "shall",
    "should", "may", "must",
];
const CONJUNCTIONS: [&str; 12] = ["and", "or", "but", "nor", "if", "because", "while", "when", "as", "so", "though", "then"];

/// What kind of thing fires, from the token's text and its neighbours.
fn class(e: &Example) -> &'static str {
    let text = |i: usize| e.tokens.get(i).map(|t| String::from_utf8_lossy(&t.bytes).into_owned()).unwrap_or_default();
    let own = text(e.focus);
    let word = own.trim();
    let before = (e.focus.saturating_sub(12)..e.focus).map(text).collect::<String>();
    // The unbroken run of characters that the token belongs to: an address has no spaces.
    let run = before.rsplit(char::is_whitespace).next().filter(|_| !own.starts_with(char::is_whitespace)).unwrap_or_default().to_string();
    let in_address = ["http", "https"].contains(&run.as_str()) || run.starts_with("www.") || (run + word).contains("://");
    if let Some(script) = word.chars().find_map(script) {
        return script;
    }
    if own.is_empty() || e.tokens[e.focus].bytes.iter().any(|b| *b >= 0x80) && word.chars().all(|c| c == char::REPLACEMENT_CHARACTER) {
        return "parts of characters";
    }
    if word.is_empty() {
        return if own.contains('\n') { "line breaks" } else { "spaces" };
    }
    let digits = word.chars().all(|c| c.is_ascii_digit());
    if digits {
        return match (word.len(), word.parse::<u32>()) {
            (4, Ok(1000..=2100)) => "years",
            (_, Ok(0..=20)) => "numbers to 20",
            _ => "numbers above 20",
        };
    }
    if word.chars().any(|c| c.is_ascii_digit()) {
        return if in_address { "codes in URLs" } else { "codes with digits" };
    }
    if !word.chars().any(char::is_alphabetic) {
        return match (word.chars().next().unwrap_or(' '), in_address) {
            (':', true) => "colons in URLs",
            ('/', true) => "slashes in URLs",
            (_, true) => "marks in URLs",
            ('.', _) => "full stops",
            (',', _) => "commas",
            (':' | ';', _) => "colons and semicolons",
            ('?' | '!', _) => "question and exclamation marks",
            ('"' | '\'' | '“' | '”' | '‘' | '’' | '«' | '»', _) => "quotation marks",
            ('(' | ')' | '[' | ']' | '{' | '}' | '<' | '>', _) => "brackets",
            ('-' | '–' | '—', _) => "dashes",
            ('$' | '€' | '£' | '¥' | '%', _) => "currency and per cent",
            ('=' | '+' | '*' | '/' | '\\' | '|' | '&' | '^' | '~' | '_' | '#' | '@', _) => "signs of code and mathematics",
            _ => "other marks",
        };
    }
    if in_address {
        return "words in URLs";
    }
    let lower = word.to_lowercase();
    let is = |list: &[&str]| list.contains(&lower.as_str());
    let begins_word = own.starts_with(char::is_whitespace) || e.focus == 0 || !text(e.focus - 1).ends_with(char::is_alphanumeric);
    let capital = word.chars().next().is_some_and(char::is_uppercase);
    match () {
        () if !begins_word => "parts within words",
        () if is(&ARTICLES) => "articles",
        () if is(&AUXILIARIES) => "forms of be, do, have and modal verbs",
        () if is(&PRONOUNS) => "pronouns",
        () if is(&PREPOSITIONS) => "prepositions",
        () if is(&CONJUNCTIONS) => "conjunctions",
        () if word.chars().count() > 1 && word.chars().all(|c| !c.is_lowercase()) => "words in capitals",
        () if capital => "capitalised words",
        () => "other words",
    }
}

/// The script of a letter that is not Latin, by Unicode block.
fn script(c: char) -> Option<&'static str> {
    Some(match c as u32 {
        0x370..=0x3ff => "Greek",
        0x400..=0x52f => "Cyrillic",
        0x590..=0x5ff | 0xfb1d..=0xfb4f => "Hebrew",
        0x600..=0x6ff | 0x750..=0x77f | 0xfb50..=0xfdff | 0xfe70..=0xfefe => "Arabic",
        0x900..=0x97f => "Devanagari",
        0xe00..=0xe7f => "Thai",
        0x3040..=0x30ff => "Japanese kana",
        0x4e00..=0x9fff | 0x3400..=0x4dbf => "Chinese characters",
        0xac00..=0xd7af | 0x1100..=0x11ff => "Korean",
        0x1f300..=0x1faff | 0x2600..=0x27bf => "emoji and pictures",
        0xc0..=0x24f => "accented Latin letters",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::store::TokenText;

    /// A firing on the last of some tokens.
    fn firing(tokens: &[&str], act: f32) -> Example {
        let tokens: Vec<TokenText> = tokens.iter().map(|t| TokenText::new(0, t.as_bytes())).collect();
        Example { t: 5, focus: tokens.len() - 1, act, acts: vec![0.0; tokens.len()], window: (0, tokens.len()), tokens, ..Default::default() }
    }

    fn group(n_firings: u64, examples: Vec<Example>) -> ExampleGroup {
        let json = serde_json::json!({ "kind": INTERVAL, "name": "", "low": 0.0, "high": 1.0, "n_firings": n_firings, "share_firings": 0.5, "share_mass": null, "examples": [] });
        ExampleGroup { examples, ..serde_json::from_value(json).unwrap() }
    }

    #[test]
    fn every_firing_is_in_the_class_that_a_reader_would_say() {
        let of = |tokens: &[&str]| class(&firing(tokens, 1.0));
        for (tokens, want) in [
            (&["see", " http", ":"][..], "colons in URLs"),
            (&["http", "://", "www", ".", "site"], "words in URLs"),
            (&["note", ":"], "colons and semicolons"),
            (&[" 17"], "numbers to 20"),
            (&[" 42"], "numbers above 20"),
            (&["in", " 1984"], "years"),
            (&["x", "שלום"], "Hebrew"),
            (&[" the"], "articles"),
            (&[" did"], "forms of be, do, have and modal verbs"),
            (&[" Mos", "cow"], "parts within words"),
            (&[" Anna"], "capitalised words"),
            (&[" NATO"], "words in capitals"),
            (&["end", "\n\n"], "line breaks"),
            (&[" river"], "other words"),
            (&["日本"], "Chinese characters"),
        ] {
            assert_eq!(of(tokens), want, "{tokens:?}");
        }
        let mut half = firing(&["x"], 1.0);
        half.tokens[0].bytes = vec![0xd7];
        assert_eq!(class(&half), "parts of characters");
    }

    #[test]
    fn an_interval_weighs_what_its_firings_give_however_many_were_sampled() {
        // 90 weak firings of mean 1, half of them numbers by activation; 10 strong ones of mean 9, all commas: 45, 45 and 90 of 180.
        let weak = vec![firing(&[" 99"], 1.0), firing(&[" the"], 1.0)];
        let strong = vec![firing(&["a", ","], 8.0), firing(&["b", ","], 10.0)];
        let found = shares(&[group(90, weak), group(10, strong)], |e| Some(class(e).into()));
        let want = [("commas", 0.5), ("articles", 0.25), ("numbers above 20", 0.25)];
        assert!(found.iter().zip(want).all(|(s, w)| s.class == w.0 && (s.share - w.1).abs() < 1e-12) && found.len() == 3, "{found:?}");
        let card = Card { classes: found, kinds: vec![], n: 4 };
        assert_eq!(card.line(), "50 % commas, 25 % articles, 25 % numbers above 20");
        assert!(shares(&[], |_| None).is_empty());
    }
}
