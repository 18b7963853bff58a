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
  histogram TEXT NOT NULL, concept TEXT, f1 REAL, category TEXT, over_time BLOB, over_position BLOB);
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

/// Makes an older file one of this version, in one transaction: it is the old or the new one, never between.
///
/// # Errors
/// [`Error::Version`] for a version that there never was, or where the file cannot be written to.
pub fn migrate(path: &Path, found: i64) -> Result<()> {
    if found != 1 {
        return Err(Error::Version { path: path.into(), found, expected: VERSION });
    }
    let run = || -> rusqlite::Result<()> {
        let mut sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        sql.busy_timeout(std::time::Duration::from_secs(10))?;
        let all = sql.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Another process may have been faster.
        let now: i64 = all.query_row("PRAGMA user_version", [], |r| r.get(0))?;
        if now == found {
            all.execute_batch(FROM_1)?;
            all.execute_batch(NEAR)?;
            all.pragma_update(None, "user_version", VERSION)?;
        }
        all.commit()
    };
    run().map_err(|source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen) => Error::Version { path: path.into(), found, expected: VERSION },
        _ => Error::Sql { path: path.into(), source },
    })
}
