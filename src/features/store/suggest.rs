//! A first look at contexts while somebody types: bounded work for any word, however common.

use super::{Dictionary, INDEXED};
use crate::features::Result;
use crate::features::text::Text;

/// Rows of the index that are looked at, and units that are told apart, for one answer.
const MAX_ROWS: usize = 40_000;
const MAX_UNITS: usize = 1_500;

/// A unit with the words in some of its contexts.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub feature: u32,
    /// Of its searchable contexts, how many have the words.
    pub n: u32,
    /// The first of them: where its firing token stands.
    pub t: u64,
}

impl Dictionary {
    /// Units with these words in a context, those with most such contexts first; and whether all were looked at. A very common word is in
    /// nearly every context: then only the units of the lowest numbers are compared.
    pub fn seen(&self, words: &str, limit: usize) -> Result<(Vec<Seen>, bool)> {
        let read = || -> rusqlite::Result<(Vec<Seen>, bool)> {
            let mut contexts = self.sql.prepare_cached("SELECT rowid FROM contexts WHERE contexts MATCH ?1 ORDER BY rowid")?;
            let mut of = self.sql.prepare_cached("SELECT feature, t FROM examples WHERE id = ?1")?;
            let mut last = self.sql.prepare_cached("SELECT max(id) FROM examples WHERE feature = ?1")?;
            let mut rows = contexts.query([super::read::phrase(words)])?;
            // Numbers of a unit's examples are consecutive.
            let (mut found, mut known, mut n_rows): (Vec<Seen>, i64, usize) = (vec![], -1, 0);
            while let Some(row) = rows.next()? {
                n_rows += 1;
                let id: i64 = row.get(0)?;
                if id > known {
                    if found.len() == MAX_UNITS || n_rows > MAX_ROWS {
                        return Ok((found, false));
                    }
                    let (feature, t): (u32, i64) = of.query_row([id], |r| Ok((r.get(0)?, r.get(1)?)))?;
                    known = last.query_row([feature], |r| r.get(0))?;
                    found.push(Seen { feature, n: 0, t: t as u64 });
                }
                if let Some(unit) = found.last_mut() {
                    unit.n += 1;
                }
            }
            Ok((found, true))
        };
        let (mut found, all) = read().map_err(|e| self.sql_error(e))?;
        found.sort_by(|a, b| b.n.cmp(&a.n).then(a.feature.cmp(&b.feature)));
        found.truncate(limit);
        Ok((found, all))
    }

    /// The words around a place, cut to some 30 characters on each side of `wanted`.
    pub fn around(&self, t: u64, wanted: &str, text: &dyn Text) -> String {
        let context = text.lossy(&text.ids(t.saturating_sub(INDEXED.0), t.saturating_add(INDEXED.1 + 1)));
        super::read::snippet(&context, wanted)
    }
}
