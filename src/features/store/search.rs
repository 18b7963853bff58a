//! Looking for text: in the tokens that units fire on, and in the words of their contexts.

use super::{Dictionary, Hit, INDEXED, MIN_CONCEPT_F1, Why};
use crate::corpus::{TokenStream, Tokenizer};
use crate::features::Result;
use crate::features::text::{StreamText, Text};
use rusqlite::params;
use std::collections::{BTreeMap, BTreeSet};

/// Shortest text, in bytes, that contexts are searched for: one or two letters begin a word in nearly all of them.
const MIN_WORDS: usize = 3;
/// Contexts that are looked at for one answer while somebody types.
const MAX_TYPED: usize = 40_000;

/// From this share of its activation on a unit fires on a word itself, and comes before those that fire on longer words which hold it.
pub const ON_WORD_FROM: f64 = 0.1;

/// A unit with the words in some of its contexts.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub feature: u32,
    /// Of its searchable contexts, how many have the words: whole ones, or where there are few of these also longer ones that begin so.
    pub n: u32,
    /// The first of them: where its firing token stands.
    pub t: u64,
}

/// Where a unit's examples begin, and how many of them the index of words holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Indexed {
    first: i64,
    feature: u32,
    n: u32,
}

/// A unit and its contexts that were found.
struct Counted {
    unit: Indexed,
    n: u32,
    /// `examples.id` of the first.
    first: i64,
}

impl Dictionary {
    /// Features that fire on a token holding `text`, or with these words in a context where `text` is long enough to be looked for there; in no
    /// order, some more than once. `firing`: the first of these, where they are known.
    pub(super) fn with_text(&self, text: &str, firing: Option<&[u32]>) -> Result<Vec<u32>> {
        let mut found = firing.map_or_else(|| self.firing_on(text), |known| Ok(known.to_vec()))?;
        if text.trim().len() >= MIN_WORDS {
            match self.with_word(text) {
                Some(units) => found.extend(units),
                None => found.extend(self.counted(&begun(text), usize::MAX)?.0.iter().map(|c| c.unit.feature)),
            }
        }
        Ok(found)
    }

    /// Features that fire on a token holding `text`, once for each such token.
    fn firing_on(&self, text: &str) -> Result<Vec<u32>> {
        let features = "SELECT feature FROM firing_tokens WHERE token IN (SELECT token FROM firing_texts WHERE instr(text, ?1) > 0)";
        self.rows(features, [text.to_lowercase()], |r| r.get(0))
    }

    /// Units with a word that begins so, at a fraction of the cost of going through their contexts; `None` where the index of units does not know:
    /// it has no places, so phrases are not in it, and a file that was of an older version does not have it.
    fn with_word(&self, text: &str) -> Option<Vec<u32>> {
        self.rows("SELECT rowid FROM unit_words WHERE unit_words MATCH ?1", [begun(text)], |r| r.get(0)).ok()
    }

    /// Units with a context that `asked` of the index of words finds, by number, and whether all contexts were looked at: at most `max` are.
    fn counted(&self, asked: &str, max: usize) -> Result<(Vec<Counted>, bool)> {
        let units = self.indexed()?;
        let mut found: Vec<Counted> = vec![];
        let mut next = 0;
        let mut read = || -> rusqlite::Result<bool> {
            let mut contexts = self.sql.prepare_cached("SELECT rowid FROM contexts WHERE contexts MATCH ?1 ORDER BY rowid")?;
            let mut rows = contexts.query([asked])?;
            let mut n_rows = 0;
            while let Some(row) = rows.next()? {
                n_rows += 1;
                if n_rows > max {
                    return Ok(false);
                }
                let id: i64 = row.get(0)?;
                let before = next;
                next += units[next..].partition_point(|unit| unit.first <= id);
                match found.last_mut() {
                    Some(last) if next == before => last.n += 1,
                    _ if next > 0 => found.push(Counted { unit: units[next - 1], n: 1, first: id }),
                    _ => {}
                }
            }
            Ok(true)
        };
        let all = read().map_err(|e| self.sql_error(e))?;
        Ok((found, all))
    }

    /// Units that have examples, in the order of these.
    fn indexed(&self) -> Result<&[Indexed]> {
        if let Some(known) = self.indexed.get() {
            return Ok(known);
        }
        let all = "SELECT first_example, id, n_indexed FROM features WHERE first_example IS NOT NULL ORDER BY id";
        let units = self.rows(all, [], |r| Ok(Indexed { first: r.get(0)?, feature: r.get(1)?, n: r.get(2)? }))?;
        Ok(self.indexed.get_or_init(|| units))
    }

    /// Where the firing token of an example stands.
    fn place(&self, example: i64) -> Result<u64> {
        let t = self.sql.prepare_cached("SELECT t FROM examples WHERE id = ?1").and_then(|mut s| s.query_row([example], |r| r.get::<_, i64>(0)));
        t.map(|t| t as u64).map_err(|e| self.sql_error(e))
    }

    /// Features whose best known concept has `text` in its name: as a word of its own first, then by F1.
    pub fn with_concept(&self, text: &str, limit: usize) -> Result<Vec<Hit>> {
        let wanted = text.trim().to_lowercase();
        let named = "SELECT id, concept, f1 FROM features WHERE f1 >= ?2 AND instr(lower(concept), ?1) > 0 ORDER BY f1 DESC, id";
        let mut hits = self.rows(named, params![wanted, MIN_CONCEPT_F1], |r| {
            Ok(Hit { feature: r.get(0)?, why: Why::Concept, snippet: r.get(1)?, share: r.get(2)? })
        })?;
        hits.sort_by_key(|hit| !has_word(&hit.snippet.to_lowercase(), &wanted));
        hits.truncate(limit);
        Ok(hits)
    }

    /// Features that fire on a token holding `text`, then features with `text` in a context; of each those first that have it as a whole word,
    /// then by share.
    pub fn search(&self, text: &str, limit: usize, stream: &TokenStream, tokenizer: &Tokenizer) -> Result<Vec<Hit>> {
        self.search_in(text, limit, &StreamText { stream, tokenizer })
    }

    /// As [`Dictionary::search`], in any text.
    pub fn search_in(&self, wanted: &str, limit: usize, text: &dyn Text) -> Result<Vec<Hit>> {
        let lower = wanted.to_lowercase();
        if lower.trim().is_empty() {
            return Ok(vec![]);
        }
        let tokens = "SELECT f.feature, f.bytes, sum(f.mass), max(f.mass), sum(CASE WHEN trim(t.text) = trim(?1) THEN f.mass ELSE 0 END) AS whole
                      FROM firing_texts t JOIN firing_tokens f USING (token) WHERE instr(t.text, ?1) > 0
                      GROUP BY f.feature ORDER BY CASE WHEN whole >= ?3 THEN whole ELSE 0 END DESC, 3 DESC, 1 LIMIT ?2";
        let mut hits = self.rows(tokens, params![lower, limit as i64, ON_WORD_FROM], |r| {
            let bytes: Vec<u8> = r.get(1)?;
            Ok(Hit { feature: r.get(0)?, why: Why::Token, snippet: crate::features::render::plain(&bytes), share: r.get(2)? })
        })?;
        if hits.len() >= limit {
            return Ok(hits);
        }
        let on_tokens: BTreeSet<u32> = self.firing_on(wanted)?.into_iter().collect();
        let share = |c: &Counted| f64::from(c.n) / f64::from(c.unit.n.max(1));
        let whole: BTreeMap<u32, f64> = self.counted(&phrase(wanted), usize::MAX)?.0.iter().map(|c| (c.unit.feature, share(c))).collect();
        let mut contexts = self.counted(&begun(wanted), usize::MAX)?.0;
        contexts.retain(|c| !on_tokens.contains(&c.unit.feature));
        let key = |c: &Counted| (whole.get(&c.unit.feature).copied().unwrap_or_default(), share(c));
        contexts.sort_by(|a, b| key(b).partial_cmp(&key(a)).expect("shares are numbers").then(a.unit.feature.cmp(&b.unit.feature)));
        for found in contexts.iter().take(limit - hits.len()) {
            let snippet = self.around(self.place(found.first)?, wanted, text);
            hits.push(Hit { feature: found.unit.feature, why: Why::Context, snippet, share: share(found) });
        }
        Ok(hits)
    }

    /// A first look at contexts while somebody types: units with these words in a context, those with most such contexts first; and whether all
    /// were looked at. A very common word is in nearly every context: then only the units of the lowest numbers are compared. Words that go on
    /// are looked for where whole ones are in too few units.
    pub fn seen(&self, words: &str, limit: usize) -> Result<(Vec<Seen>, bool)> {
        let (mut found, mut all) = self.counted(&phrase(words), MAX_TYPED)?;
        if found.len() < limit {
            let (longer, complete) = self.counted(&begun(words), MAX_TYPED)?;
            let known: BTreeSet<u32> = found.iter().map(|c| c.unit.feature).collect();
            let mut longer: Vec<Counted> = longer.into_iter().filter(|c| !known.contains(&c.unit.feature)).collect();
            by_count(&mut found);
            by_count(&mut longer);
            found.extend(longer);
            all &= complete;
        } else {
            by_count(&mut found);
        }
        found.truncate(limit);
        let seen = found.iter().map(|c| Ok(Seen { feature: c.unit.feature, n: c.n, t: self.place(c.first)? }));
        Ok((seen.collect::<Result<_>>()?, all))
    }

    /// The words around a place, cut to some 30 characters on each side of `wanted`.
    pub fn around(&self, t: u64, wanted: &str, text: &dyn Text) -> String {
        let context = text.lossy(&text.ids(t.saturating_sub(INDEXED.0), t.saturating_add(INDEXED.1 + 1)));
        snippet(&context, wanted)
    }
}

fn by_count(found: &mut [Counted]) {
    found.sort_by(|a, b| b.n.cmp(&a.n).then(a.unit.feature.cmp(&b.unit.feature)));
}

/// What a person typed as one FTS5 phrase of whole words; nothing in it is an operator.
fn phrase(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// The same, whose last word may go on.
fn begun(text: &str) -> String {
    phrase(text) + " *"
}

/// Whether a text holds words as they are, with no letter or digit before or after that would make them parts of longer ones. Case counts.
pub fn has_word(text: &str, words: &str) -> bool {
    let inside = |edge: Option<char>, own: Option<char>| edge.is_some_and(char::is_alphanumeric) && own.is_some_and(char::is_alphanumeric);
    let is_whole = |(at, found): (usize, &str)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + found.len()..].chars().next());
        !inside(before, found.chars().next()) && !inside(after, found.chars().next_back())
    };
    !words.is_empty() && text.match_indices(words).any(is_whole)
}

/// Some 30 characters on each side of the match, or the middle of the context where the index matched more loosely than we do.
fn snippet(context: &str, wanted: &str) -> String {
    let chars: Vec<char> = context.chars().collect();
    let fold = |s: &[char]| s.iter().flat_map(|c| c.to_lowercase()).collect::<String>();
    let wanted: Vec<char> = wanted.trim().chars().collect();
    let found = chars.windows(wanted.len().max(1)).position(|w| fold(w) == fold(&wanted));
    let middle = found.unwrap_or(chars.len() / 2);
    let (low, high) = (middle.saturating_sub(30), (middle + wanted.len() + 30).min(chars.len()));
    let dots = |cut: bool| if cut { "..." } else { "" };
    format!("{}{}{}", dots(low > 0), chars[low..high].iter().collect::<String>(), dots(high < chars.len()))
}
