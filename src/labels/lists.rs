//! Named lists of units: bookmarks and what somebody collects. A unit is in a list once, with who put it there and when.
//!
//! Table `list_changes`: a row for every time a unit was put in or taken out; it is in the list while its last row says so. Nothing is deleted.

use super::{Error, Labels, Result, now, sql_error};
use rusqlite::params;
use serde::{Deserialize, Serialize};

/// The list that the star of a page puts a unit in.
pub const BOOKMARKS: &str = "bookmarks";
/// The longest name, in characters.
pub const MAX_NAME: usize = 60;

pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS list_changes (
  id INTEGER PRIMARY KEY AUTOINCREMENT, list TEXT NOT NULL, weights_hash TEXT NOT NULL, latent INTEGER NOT NULL,
  member INTEGER NOT NULL, author TEXT NOT NULL, time TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS list_changes_of ON list_changes (weights_hash, list, latent, id);
";

/// A unit in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub list: String,
    pub latent: u32,
    pub author: String,
    /// RFC 3339, UTC.
    pub time: String,
}

impl Labels {
    /// Puts a unit into a list, or takes it out. A list is there while it has a member.
    ///
    /// # Errors
    /// A name or an author that is empty or too long.
    pub fn put(&mut self, weights_hash: &str, list: &str, latent: u32, member: bool, author: &str) -> Result<()> {
        let (list, author) = (list.trim(), author.trim());
        if list.is_empty() || list.chars().count() > MAX_NAME || list.chars().any(char::is_control) || author.is_empty() {
            return Err(Error::Invalid(format!("a list {list:?} by {author:?}: it needs an author and a name of 1 to {MAX_NAME} plain characters")));
        }
        let sql = "INSERT INTO list_changes (list, weights_hash, latent, member, author, time) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let done = self.sql.execute(sql, params![list, weights_hash, latent, member, author, now()]);
        done.map(|_| ()).map_err(|source| sql_error(&self.path, source))
    }

    /// Every member of every list, by list, then in the order in which they came; of one unit with `latent`.
    pub fn members(&self, weights_hash: &str, latent: Option<u32>) -> Result<Vec<Member>> {
        if self.version < 2 {
            return Ok(vec![]);
        }
        let sql = "SELECT list, latent, author, time FROM list_changes c
            WHERE weights_hash = ?1 AND (?2 IS NULL OR latent = ?2) AND member
              AND id = (SELECT max(id) FROM list_changes o WHERE o.weights_hash = c.weights_hash AND o.list = c.list AND o.latent = c.latent)
            ORDER BY list, id";
        let run = || -> rusqlite::Result<Vec<Member>> {
            let mut statement = self.sql.prepare_cached(sql)?;
            let rows = statement.query_map(params![weights_hash, latent], |r| {
                Ok(Member { list: r.get(0)?, latent: r.get(1)?, author: r.get(2)?, time: r.get(3)? })
            })?;
            rows.collect()
        };
        run().map_err(|source| sql_error(&self.path, source))
    }
}
