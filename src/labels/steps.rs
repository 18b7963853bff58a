//! What was done, one step after the other, and taking it back. A change is a step of its own; an import is one, however many labels it brought.
//!
//! Column `batch` of `changes` (version 3): `id` of the first change of the import that a change belongs to; NULL for a change alone.

use super::{Error, Label, Labels, Result, sql_error};
use rusqlite::params;
use serde::Serialize;

/// Version 3 of the file.
pub(super) const COLUMN: &str = "ALTER TABLE changes ADD COLUMN batch INTEGER;";

/// A change, or an import.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// The change; of an import the last.
    pub label: Label,
    /// How many changes it is: more than one only where it is an import.
    pub n: usize,
    /// Names the import.
    pub batch: Option<i64>,
}

impl Labels {
    /// Steps of one SAE (or one of its latents) that are not undone, the newest first.
    pub fn steps(&self, weights_hash: &str, latent: Option<u32>, limit: usize) -> Result<Vec<Step>> {
        let batch = if self.version < 3 { "NULL" } else { "batch" };
        // The newest change of each batch stands for it; a change alone is its own.
        let sql = format!(
            "SELECT max(id), weights_hash, latent, text, author, time, b FROM
               (SELECT id, weights_hash, latent, text, author, time, {batch} AS b FROM changes
                WHERE weights_hash = ?1 AND (?2 IS NULL OR latent = ?2) AND NOT undone)
             GROUP BY coalesce(b, id) ORDER BY 1 DESC LIMIT ?3"
        );
        let run = || -> rusqlite::Result<Vec<Step>> {
            let mut statement = self.sql.prepare_cached(&sql)?;
            let rows = statement.query_map(params![weights_hash, latent, limit as i64], |r| {
                let label = Label { id: r.get(0)?, weights_hash: r.get(1)?, latent: r.get(2)?, text: r.get(3)?, author: r.get(4)?, time: r.get(5)? };
                Ok(Step { label, n: 1, batch: r.get(6)? })
            })?;
            let mut steps = rows.collect::<rusqlite::Result<Vec<Step>>>()?;
            for step in steps.iter_mut().filter(|step| step.batch.is_some()) {
                // Of all SAEs: an import is one step, whosever labels it brought.
                let count = "SELECT count(*) FROM changes WHERE batch = ?1 AND NOT undone";
                step.n = self.sql.query_row(count, [step.batch], |r| r.get::<_, i64>(0))? as usize;
            }
            Ok(steps)
        };
        run().map_err(|source| sql_error(&self.path, source))
    }

    /// Takes back the last step made to this SAE's labels; says which. Once more takes back the one before it.
    pub fn undo(&mut self, weights_hash: &str) -> Result<Option<Step>> {
        let last = self.steps(weights_hash, None, 1)?.pop();
        self.take_back(last)
    }

    /// Takes back the last change made to one latent's labels, and nothing else where that came with an import.
    pub fn undo_of(&mut self, weights_hash: &str, latent: u32) -> Result<Option<Step>> {
        let last = self.steps(weights_hash, Some(latent), 1)?.pop();
        self.take_back(last.map(|step| Step { n: 1, batch: None, ..step }))
    }

    /// Takes back the import with which this latent's last change came, whole; nothing where it came alone.
    pub fn undo_import_of(&mut self, weights_hash: &str, latent: u32) -> Result<Option<Step>> {
        let last = self.steps(weights_hash, Some(latent), 1)?.pop().filter(|step| step.batch.is_some());
        self.take_back(last)
    }

    fn take_back(&mut self, step: Option<Step>) -> Result<Option<Step>> {
        let Some(step) = step else { return Ok(None) };
        let done = match step.batch {
            Some(batch) => self.sql.execute("UPDATE changes SET undone = 1 WHERE batch = ?1", [batch]),
            None => self.sql.execute("UPDATE changes SET undone = 1 WHERE id = ?1", [step.label.id]),
        };
        done.map_err(|source| sql_error(&self.path, source))?;
        Ok(Some(step))
    }

    /// Makes every change from `first` on (an `id`) one import.
    pub(super) fn one_step_from(&mut self, first: i64) -> Result<()> {
        let done = self.sql.execute("UPDATE changes SET batch = ?1 WHERE id >= ?1", [first]);
        done.map(|_| ()).map_err(|source| Error::Sql { path: self.path.clone(), source })
    }
}
