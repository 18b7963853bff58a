//! Finds concepts in text that has no labels.

use super::tables::{DETERMINERS, QUESTION_OPENERS};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// How one concept is found in plain text.
pub(super) enum Recogniser {
    /// No recogniser: parts of speech and roles are known to the generator only; the exam does not score them.
    None,
    /// One of these words, in any case; not directly after one of the second list; where the third is not empty, only after one of it.
    Words { words: HashSet<String>, not_after: HashSet<String>, only_after: HashSet<String> },
    /// What stands between one of the opening strings and the closing one.
    /// With `from_second_word` the opening string's own words after the first belong to the stretch.
    Between { opens: Vec<String>, close: String, from_second_word: bool },
    /// `word` where the nearest cue before it is of its own sense.
    Sense { word: String, own: Vec<String>, other: Vec<String> },
    /// "yields" where the rules before it lead from the word before it to a marked end in two steps.
    Chain { marked: HashSet<String> },
    /// The whole document after its first line, where that line begins and ends so.
    Document { begins: String, ends: Vec<String> },
    /// The negative that depends on a hash of the bytes.
    Idle,
}

impl Recogniser {
    pub fn words(members: &[String], not_after: &[&str]) -> Self {
        Self::Words {
            words: members.iter().cloned().collect(),
            not_after: not_after.iter().map(|s| s.to_string()).collect(),
            only_after: HashSet::new(),
        }
    }
    pub fn words_after(members: &[String], only_after: &[String]) -> Self {
        Self::Words { words: members.iter().cloned().collect(), not_after: HashSet::new(), only_after: only_after.iter().cloned().collect() }
    }
    pub fn between(opens: &[&str], close: &str) -> Self {
        Self::Between { opens: opens.iter().map(|s| s.to_string()).collect(), close: close.to_string(), from_second_word: false }
    }
    /// "Will this" ... "?", in small letters or shouted.
    pub fn question() -> Self {
        let small = QUESTION_OPENERS.iter().flat_map(|q| DETERMINERS.iter().map(move |d| format!("{q} {d} ")));
        Self::Between { opens: small.flat_map(|s| [s.to_uppercase(), s]).collect(), close: "?".to_string(), from_second_word: true }
    }
    pub fn sense(word: &str, own: Vec<String>, other: Vec<String>) -> Self {
        Self::Sense { word: word.to_string(), own, other }
    }

    /// Where each occurrence begins, rising, in bytes: at its word, or at the string that opens the stretch, which does not carry the concept itself. A stretch that
    /// opens where another closes is of the same occurrence, as the items of a list are.
    pub fn begins(&self, text: &str) -> Vec<usize> {
        match self {
            Self::Between { .. } => {
                let mut closed = None;
                self.stretches(text).into_iter().filter_map(|(at, stretch)| (closed.replace(stretch.end) != Some(at)).then_some(at)).collect()
            }
            _ => self.find(text).into_iter().map(|range| range.start).collect(),
        }
    }

    /// Of [`Recogniser::Between`]: where each opening string begins, and what it opens.
    fn stretches(&self, text: &str) -> Vec<(usize, Range<usize>)> {
        let Self::Between { opens, close, from_second_word } = self else { return vec![] };
        let mut found = Vec::new();
        let mut from = 0;
        while let Some((at, open)) = opens.iter().filter_map(|o| Some((from + text[from..].find(o.as_str())?, o))).min() {
            let cue = if *from_second_word { open.find(' ').expect("an opener of two words") } else { open.len() };
            let start = at + cue;
            let end = text[start..].find(close.as_str()).map_or(text.len(), |e| start + e);
            found.push((at, start..end));
            // The closing line break of a list item opens the next item.
            from = end;
        }
        found
    }

    /// Byte ranges of `text` that carry the concept, in order.
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        match self {
            Self::None => Vec::new(),
            Self::Words { words, not_after, only_after } => {
                let mut previous = String::new();
                let mut found = Vec::new();
                let pairs = words.iter().any(|w| w.contains(' '));
                for range in word_ranges(text) {
                    let word = text[range.clone()].to_lowercase();
                    let listed = words.contains(&word) || pairs && words.contains(&format!("{previous} {word}"));
                    if listed && !not_after.contains(&previous) && (only_after.is_empty() || only_after.contains(&previous)) {
                        found.push(range);
                    }
                    previous = word;
                }
                found
            }
            Self::Between { .. } => self.stretches(text).into_iter().map(|(_, stretch)| stretch).collect(),
            Self::Sense { word, own, other } => {
                let mut sense = None;
                let mut found = Vec::new();
                for range in word_ranges(text) {
                    let here = text[range.clone()].to_lowercase();
                    if own.contains(&here) {
                        sense = Some(true);
                    } else if other.contains(&here) {
                        sense = Some(false);
                    } else if here == *word && sense == Some(true) {
                        found.push(range);
                    }
                }
                found
            }
            Self::Chain { marked } => {
                let mut leads_to: HashMap<String, String> = HashMap::new();
                let (mut before, mut previous) = (String::new(), String::new());
                let mut found = Vec::new();
                for range in word_ranges(text) {
                    let word = text[range.clone()].to_lowercase();
                    match (previous.as_str(), word.as_str()) {
                        (_, "rules" | "laws") => leads_to.clear(),
                        ("gives", _) => drop(leads_to.insert(before, word.clone())),
                        (asked, "yields") => {
                            let end = leads_to.get(asked).and_then(|middle| leads_to.get(middle));
                            found.extend(end.filter(|e| marked.contains(*e)).map(|_| range));
                        }
                        _ => {}
                    }
                    before = std::mem::replace(&mut previous, word);
                }
                found
            }
            Self::Document { begins, ends } => {
                let line = text.find('\n').unwrap_or(text.len());
                let found = text.starts_with(begins.as_str()) && ends.iter().any(|e| text[..line].ends_with(e.as_str()));
                let end = text.rfind("\nEntry ").unwrap_or(text.len());
                if found { std::iter::once(line + 1..end).collect() } else { vec![] }
            }
            Self::Idle => word_ranges(text).filter(|r| is_idle(text, r.end)).collect(),
        }
    }
}

/// Words are runs of ASCII letters, with an apostrophe inside.
pub(super) fn word_ranges(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && !bytes[at].is_ascii_alphabetic() {
            at += 1;
        }
        if at == bytes.len() {
            return None;
        }
        let start = at;
        while at < bytes.len() && (bytes[at].is_ascii_alphabetic() || (bytes[at] == b'\'' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)))
        {
            at += 1;
        }
        Some(start..at)
    })
}

/// Whether the word that ends at byte `end` carries the label without consequence: one of 128 values of a hash of its last 24 bytes.
pub(super) fn is_idle(text: &str, end: usize) -> bool {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &b in &text.as_bytes()[end.saturating_sub(24)..end] {
        hash = (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash >> 40).is_multiple_of(128)
}
