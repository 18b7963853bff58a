//! How interpretable somebody found a unit without knowing what it was. The rubric is that of Bricken et al. 2023 (appendix, "feature
//! interpretability rubric"): four questions whose points add up to 14 at most.
//!
//! Table `ratings`: one row for each time that a unit was rated; the newest of (rater, session, unit) counts. Nothing is deleted.

use super::{Error, Labels, Result, now, sql_error};
use rusqlite::params;
use serde::{Deserialize, Serialize};

/// A question of the rubric.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Question {
    pub key: &'static str,
    pub title: &'static str,
    pub help: &'static str,
    pub max: u8,
}

/// In the order in which they are asked. 3 + 5 + 3 + 3 = 14.
pub const RUBRIC: [Question; 4] = [
    Question { key: "confidence", title: "Confidence", help: "how sure you are of what you wrote that it answers to", max: 3 },
    Question { key: "activations", title: "Activations", help: "how consistently the contexts fit it, weak ones too", max: 5 },
    Question { key: "logits", title: "Next tokens", help: "how well the tokens that it raises fit it", max: 3 },
    Question { key: "specificity", title: "Specificity", help: "how narrow it is: 0 anything, 3 one thing alone", max: 3 },
];

pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS ratings (
  id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, weights_hash TEXT NOT NULL, latent INTEGER NOT NULL, author TEXT NOT NULL,
  time TEXT NOT NULL, said TEXT NOT NULL, confidence INTEGER NOT NULL, activations INTEGER NOT NULL, logits INTEGER NOT NULL,
  specificity INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS ratings_of ON ratings (weights_hash, session, author, latent, id);
";

/// One unit, rated once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// Seed of the order in which units were shown.
    pub session: u32,
    pub latent: u32,
    pub author: String,
    /// What the rater thought that it answers to; may be empty.
    pub said: String,
    /// In the order of [`RUBRIC`].
    pub points: [u8; 4],
    /// RFC 3339, UTC.
    pub time: String,
}

impl Rating {
    /// 0 to 14.
    pub fn total(&self) -> u8 {
        self.points.iter().sum()
    }
}

impl Labels {
    /// Keeps a rating; its time is now.
    ///
    /// # Errors
    /// More points than a question has, or no author.
    pub fn rate(&mut self, weights_hash: &str, rating: &Rating) -> Result<()> {
        let fits = rating.points.iter().zip(RUBRIC).all(|(&p, q)| p <= q.max);
        let author = rating.author.trim();
        if !fits || author.is_empty() || rating.said.len() > 1000 {
            let most = RUBRIC.map(|q| q.max);
            return Err(Error::Invalid(format!("a rating {:?} by {author:?}: it needs an author and points of at most {most:?}", rating.points)));
        }
        let sql = "INSERT INTO ratings (session, weights_hash, latent, author, time, said, confidence, activations, logits, specificity)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let [a, b, c, d] = rating.points;
        let values = params![rating.session, weights_hash, rating.latent, author, now(), rating.said.trim(), a, b, c, d];
        self.sql.execute(sql, values).map(|_| ()).map_err(|source| sql_error(&self.path, source))
    }

    /// The ratings that count, oldest first.
    pub fn ratings(&self, weights_hash: &str) -> Result<Vec<Rating>> {
        if self.version < 2 {
            return Ok(vec![]);
        }
        let sql = "SELECT session, latent, author, said, confidence, activations, logits, specificity, time FROM ratings r
            WHERE weights_hash = ?1 AND id = (SELECT max(id) FROM ratings o
              WHERE o.weights_hash = r.weights_hash AND o.session = r.session AND o.author = r.author AND o.latent = r.latent)
            ORDER BY id";
        let run = || -> rusqlite::Result<Vec<Rating>> {
            let mut statement = self.sql.prepare_cached(sql)?;
            let rows = statement.query_map([weights_hash], |r| {
                let points = [r.get(4)?, r.get(5)?, r.get(6)?, r.get(7)?];
                Ok(Rating { session: r.get(0)?, latent: r.get(1)?, author: r.get(2)?, said: r.get(3)?, points, time: r.get(8)? })
            })?;
            rows.collect()
        };
        run().map_err(|source| sql_error(&self.path, source))
    }
}

/// The middle value, or the mean of the two middle ones; of none, none.
pub fn median(mut values: Vec<u8>) -> Option<f64> {
    values.sort_unstable();
    let n = values.len();
    let at = |i: usize| f64::from(values[i]);
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(at(n / 2)),
        _ => Some((at(n / 2 - 1) + at(n / 2)) / 2.0),
    }
}
