//! The tables of the file, and how a file of an older version becomes one of this version.

use super::VERSION;
use crate::features::{Error, Result};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Tables of the present version, empty.
pub const TABLES: &str = "
CREATE TABLE meta (json TEXT NOT NULL);
CREATE TABLE features (
  id INTEGER PRIMARY KEY, density REAL NOT NULL, n_active INTEGER NOT NULL, max_act REAL NOT NULL, mean_act REAL NOT NULL,
  flags INTEGER NOT NULL, effective_tokens REAL NOT NULL, tokens_exact INTEGER NOT NULL, polysemantic REAL NOT NULL, cosine REAL,
  concept TEXT, f1 REAL, category TEXT, first_example INTEGER, n_indexed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE shapes (feature INTEGER PRIMARY KEY, histogram TEXT NOT NULL, over_time BLOB, over_position BLOB);
CREATE TABLE firing_tokens (
  feature INTEGER NOT NULL, rank INTEGER NOT NULL, token INTEGER NOT NULL, bytes BLOB NOT NULL, text TEXT NOT NULL,
  n INTEGER NOT NULL, mass REAL NOT NULL, PRIMARY KEY (feature, rank)) WITHOUT ROWID;
CREATE TABLE groups (
  feature INTEGER NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
  n_firings INTEGER NOT NULL, share_mass REAL, PRIMARY KEY (feature, place)) WITHOUT ROWID;
CREATE TABLE examples (
  id INTEGER PRIMARY KEY, feature INTEGER NOT NULL, place INTEGER NOT NULL, t INTEGER NOT NULL, act REAL NOT NULL, around BLOB NOT NULL,
  loss BLOB, similar INTEGER NOT NULL DEFAULT 0);
CREATE TABLE logits (
  feature INTEGER NOT NULL, up INTEGER NOT NULL, rank INTEGER NOT NULL, token INTEGER NOT NULL, bytes BLOB NOT NULL,
  effect REAL NOT NULL, PRIMARY KEY (feature, up, rank)) WITHOUT ROWID;
CREATE VIRTUAL TABLE contexts USING fts5 (words, content='', tokenize = 'unicode61 remove_diacritics 2');
";

/// An index of words by unit; a file that was of an older version has none, because the words themselves are not kept.
pub const UNIT_WORDS: &str = "
CREATE VIRTUAL TABLE unit_words USING fts5 (words, content='', detail = 'none', tokenize = 'unicode61 remove_diacritics 2');
";

/// Texts of firing tokens, each once: looking through them takes a hundredth of looking through the rows of all units.
pub const FIRING: &str = "
CREATE TABLE firing_texts (token INTEGER PRIMARY KEY, text TEXT NOT NULL);
INSERT OR IGNORE INTO firing_texts SELECT token, text FROM firing_tokens;
CREATE INDEX firing_of ON firing_tokens (token, feature, mass);
";

/// Units that go along with a unit; what version 4 added.
pub const CORRELATED: &str = "
CREATE TABLE correlated (
  feature INTEGER NOT NULL, rank INTEGER NOT NULL, other INTEGER NOT NULL, pearson REAL NOT NULL, cosine REAL, sd REAL,
  PRIMARY KEY (feature, rank)) WITHOUT ROWID;
ALTER TABLE neurons ADD COLUMN cosine REAL;
";

/// Tables that version 2 added.
pub const NEAR: &str = "
CREATE TABLE neighbors (
  feature INTEGER NOT NULL, kind TEXT NOT NULL, rank INTEGER NOT NULL, other INTEGER NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (feature, kind, rank)) WITHOUT ROWID;
CREATE TABLE neurons (
  feature INTEGER NOT NULL, kind TEXT NOT NULL, rank INTEGER NOT NULL, neuron INTEGER NOT NULL, value REAL NOT NULL, share REAL,
  PRIMARY KEY (feature, kind, rank)) WITHOUT ROWID;
CREATE TABLE tokens (token INTEGER PRIMARY KEY, bytes BLOB NOT NULL, text TEXT NOT NULL, n INTEGER NOT NULL);
CREATE TABLE token_features (
  token INTEGER NOT NULL, rank INTEGER NOT NULL, feature INTEGER NOT NULL, n INTEGER NOT NULL, mass REAL NOT NULL, lift REAL NOT NULL,
  PRIMARY KEY (token, rank)) WITHOUT ROWID;
";

/// Version 1 called intervals of activation quantiles. What it did not collect stays empty.
const FROM_1: &str = "
ALTER TABLE features ADD COLUMN category TEXT;
ALTER TABLE features ADD COLUMN over_time BLOB;
ALTER TABLE features ADD COLUMN over_position BLOB;
ALTER TABLE groups ADD COLUMN share_mass REAL;
UPDATE groups SET kind = 'interval' WHERE kind = 'quantile';
ALTER TABLE examples ADD COLUMN loss BLOB;
ALTER TABLE examples ADD COLUMN similar INTEGER NOT NULL DEFAULT 0;
";

/// Version 2 kept histograms among the numbers that lists are sorted and filtered by, and did not say where a unit's examples begin.
const FROM_2: &str = "
CREATE TABLE shapes (feature INTEGER PRIMARY KEY, histogram TEXT NOT NULL, over_time BLOB, over_position BLOB);
INSERT INTO shapes SELECT id, histogram, over_time, over_position FROM features;
ALTER TABLE features DROP COLUMN histogram;
ALTER TABLE features DROP COLUMN over_time;
ALTER TABLE features DROP COLUMN over_position;
ALTER TABLE features ADD COLUMN first_example INTEGER;
ALTER TABLE features ADD COLUMN n_indexed INTEGER NOT NULL DEFAULT 0;
UPDATE features SET
  first_example = (SELECT min(e.id) FROM examples e WHERE e.feature = features.id),
  n_indexed = (SELECT count(*) FROM examples e JOIN groups g USING (feature, place) WHERE e.feature = features.id AND g.kind IN ('top', 'random'));
";

/// Makes an older file one of this version, in one transaction: it is the old or the new one, never between.
///
/// # Errors
/// [`Error::Version`] for a version that there never was, or where the file cannot be written to.
pub fn migrate(path: &Path, found: i64) -> Result<()> {
    if !(1..VERSION).contains(&found) {
        return Err(Error::Version { path: path.into(), found, expected: VERSION });
    }
    let run = || -> rusqlite::Result<()> {
        let mut sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        sql.busy_timeout(std::time::Duration::from_secs(10))?;
        let all = sql.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Another process may have been faster.
        let now: i64 = all.query_row("PRAGMA user_version", [], |r| r.get(0))?;
        if now == 1 {
            all.execute_batch(FROM_1)?;
            all.execute_batch(NEAR)?;
        }
        if now <= 2 {
            all.execute_batch(FROM_2)?;
            all.execute_batch(FIRING)?;
        }
        if now < VERSION {
            all.execute_batch(CORRELATED)?;
            all.pragma_update(None, "user_version", VERSION)?;
        }
        all.commit()
    };
    run().map_err(|source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen) => Error::Version { path: path.into(), found, expected: VERSION },
        _ => Error::Sql { path: path.into(), source },
    })
}
