//! Labels of people and programs. Reads and writes `labels/<name>.sqlite`, keyed by (hash of the SAE's weights, latent): they outlive
//! every rebuild of the dictionary. Does not know what a feature fires on.
//!
//! Nothing is ever deleted: table `changes` has a row for every change, and a label is in force while it is the last change, not undone, of
//! its (weights, latent, author) and its text is not empty. Columns: `id`, `weights_hash`, `latent`, `author`, `time` (RFC 3339, UTC),
//! `text`, `undone`, `batch`. Version 2 added [`lists`] of units and blind [`ratings`], version 3 the column `batch`, which makes an import one
//! step to take back; an older file gets them when it is first written to.

mod exchange;
pub mod lists;
pub mod ratings;
mod steps;

pub use exchange::{Format, Import, Imported};
pub use steps::Step;

use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub type Result<T> = std::result::Result<T, Error>;

/// `PRAGMA user_version` of the file.
const VERSION: i64 = 3;
/// The longest label, in bytes.
const MAX_TEXT: usize = 10_000;

/// What can go wrong with labels.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the labels {path}: {source}\n  move the file away if it is damaged; nothing else holds its labels")]
    Sql { path: PathBuf, source: rusqlite::Error },
    #[error("{path} holds labels of version {found}, this program reads version {VERSION}\n  use the program that wrote it to export them")]
    Version { path: PathBuf, found: i64 },
    #[error("{0}")]
    Invalid(String),
    #[error("line {line} of the labels: {what}\n  nothing was imported")]
    Import { line: usize, what: String },
    #[error("cannot write the labels {path}: {source}\n  make the folder writable, or copy the run to one that is and label there")]
    ReadOnly { path: PathBuf, source: rusqlite::Error },
    #[error("cannot {action} {path}: {source}\n  make the folder writable, or copy the run to one that is and label there")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
}

/// One label. A feature may have several; a replaced one stays in the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub id: i64,
    /// blake3 of the SAE's weights (`Meta::weights_hash`).
    pub weights_hash: String,
    pub latent: u32,
    pub text: String,
    pub author: String,
    /// RFC 3339, UTC, to the second.
    pub time: String,
}

/// An opened `labels/<name>.sqlite`.
pub struct Labels {
    path: PathBuf,
    sql: Connection,
    /// Of the file, which is that of an older program where it is only read.
    version: i64,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS changes (
  id INTEGER PRIMARY KEY AUTOINCREMENT, weights_hash TEXT NOT NULL, latent INTEGER NOT NULL, author TEXT NOT NULL,
  time TEXT NOT NULL, text TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS changes_of ON changes (weights_hash, latent, author, id);
";

const COLUMNS: &str = "id, weights_hash, latent, text, author, time";

impl Labels {
    /// Opens the file, and makes it where there is none.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::Io { action: "make", path: folder.into(), source })?;
        }
        let sql_error = |source| sql_error(path, source);
        let sql = Connection::open(path).map_err(sql_error)?;
        let found = version(&sql).map_err(sql_error)?;
        if !(0..=VERSION).contains(&found) {
            return Err(Error::Version { path: path.into(), found });
        }
        if found != VERSION {
            migrate(&sql).map_err(sql_error)?;
        }
        Ok(Labels { path: path.into(), sql, version: VERSION })
    }

    /// Opens the file for reading, so that a folder which cannot be written does; `None` where nobody has labelled anything. Makes no file.
    pub fn open_to_read(path: &Path) -> Result<Option<Self>> {
        if !path.is_file() {
            return Ok(None);
        }
        let sql_error = |source| sql_error(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sql = Connection::open_with_flags(path, flags).map_err(sql_error)?;
        match version(&sql).map_err(sql_error)? {
            // An empty file: somebody began to write a first label.
            0 => Ok(None),
            version @ 1..=VERSION => Ok(Some(Labels { path: path.into(), sql, version })),
            found => Err(Error::Version { path: path.into(), found }),
        }
    }

    /// Replaces the author's label of this feature; labels of others stay. An empty text removes it.
    pub fn set(&mut self, weights_hash: &str, latent: u32, text: &str, author: &str) -> Result<()> {
        self.add(weights_hash, latent, text, author, &now())
    }

    /// Labels in force for one SAE, by latent, then time; one latent's with `latent`.
    pub fn list(&self, weights_hash: &str, latent: Option<u32>) -> Result<Vec<Label>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM changes c WHERE weights_hash = ?1 AND (?2 IS NULL OR latent = ?2) AND NOT undone AND text != ''
             AND id = (SELECT max(id) FROM changes o
                       WHERE o.weights_hash = c.weights_hash AND o.latent = c.latent AND o.author = c.author AND NOT o.undone)
             ORDER BY latent, id"
        );
        self.labels(&sql, params![weights_hash, latent])
    }

    /// Every change ever made to one feature and not undone, oldest first; removals have an empty text.
    pub fn history(&self, weights_hash: &str, latent: u32) -> Result<Vec<Label>> {
        let sql = format!("SELECT {COLUMNS} FROM changes WHERE weights_hash = ?1 AND latent = ?2 AND NOT undone ORDER BY id");
        self.labels(&sql, params![weights_hash, latent])
    }

    /// As [`Labels::set`], with the time given: for labels that were made elsewhere. RFC 3339, UTC.
    pub fn add(&mut self, weights_hash: &str, latent: u32, text: &str, author: &str, time: &str) -> Result<()> {
        let (text, author) = (text.trim(), author.trim());
        if author.is_empty() || text.len() > MAX_TEXT {
            return Err(Error::Invalid(format!("a label of {} bytes by {author:?}: it needs an author and at most {MAX_TEXT} bytes", text.len())));
        }
        if text.is_empty() && !self.list(weights_hash, Some(latent))?.iter().any(|l| l.author == author) {
            // Nothing to take away: no step of the history.
            return Ok(());
        }
        let sql = "INSERT INTO changes (weights_hash, latent, text, author, time) VALUES (?1, ?2, ?3, ?4, ?5)";
        let done = self.sql.execute(sql, params![weights_hash, latent, text, author, time]);
        done.map(|_| ()).map_err(|source| sql_error(&self.path, source))
    }

    fn labels(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Label>> {
        let run = || -> rusqlite::Result<Vec<Label>> {
            let mut statement = self.sql.prepare_cached(sql)?;
            let rows = statement.query_map(values, |r| {
                Ok(Label { id: r.get(0)?, weights_hash: r.get(1)?, latent: r.get(2)?, text: r.get(3)?, author: r.get(4)?, time: r.get(5)? })
            })?;
            rows.collect()
        };
        run().map_err(|source| sql_error(&self.path, source))
    }
}

/// What newer versions add are tables and a column, so an older file keeps all it has.
fn migrate(sql: &Connection) -> rusqlite::Result<()> {
    sql.execute_batch("BEGIN IMMEDIATE")?;
    let add = || {
        // Another process may have been faster.
        if version(sql)? < 3 {
            sql.execute_batch(&[SCHEMA, lists::SCHEMA, ratings::SCHEMA, steps::COLUMN].concat())?;
            sql.pragma_update(None, "user_version", VERSION)?;
        }
        sql.execute_batch("COMMIT")
    };
    let added = add();
    if added.is_err() {
        let _ = sql.execute_batch("ROLLBACK");
    }
    added
}

fn version(sql: &Connection) -> rusqlite::Result<i64> {
    sql.busy_timeout(Duration::from_secs(5))?;
    sql.query_row("PRAGMA user_version", [], |r| r.get(0))
}

fn sql_error(path: &Path, source: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{CannotOpen, ReadOnly};
    match source.sqlite_error_code() {
        Some(CannotOpen | ReadOnly) => Error::ReadOnly { path: path.into(), source },
        _ => Error::Sql { path: path.into(), source },
    }
}

/// This second as RFC 3339 in UTC.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs())
}

/// A time as RFC 3339 in UTC, to the second.
///
/// Days to a civil date by eras of 400 years (Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
pub fn rfc3339(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + (month <= 2) as u64;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests;
