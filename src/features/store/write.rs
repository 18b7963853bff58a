//! Writing the dictionary: to a sibling, renamed when complete.

use super::{Flag, GroupKind, INDEXED, Meta, VERSION};
use crate::features::collect::{Collected, Firing};
use crate::features::text::Text;
use crate::features::{Error, Result};
use rusqlite::{Connection, params};
use std::path::Path;

/// All that is stored of one unit; its id is its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub collected: Collected,
    pub flags: Vec<Flag>,
    pub polysemantic: f64,
    pub enc_dec_cosine: Option<f32>,
    /// (token, effect), strongest first.
    pub logits_up: Vec<(u32, f32)>,
    pub logits_down: Vec<(u32, f32)>,
}

const SCHEMA: &str = "
CREATE TABLE meta (json TEXT NOT NULL);
CREATE TABLE features (
  id INTEGER PRIMARY KEY, density REAL NOT NULL, n_active INTEGER NOT NULL, max_act REAL NOT NULL, mean_act REAL NOT NULL,
  flags INTEGER NOT NULL, effective_tokens REAL NOT NULL, tokens_exact INTEGER NOT NULL, polysemantic REAL NOT NULL, cosine REAL,
  histogram TEXT NOT NULL, concept TEXT, f1 REAL);
CREATE TABLE firing_tokens (
  feature INTEGER NOT NULL, rank INTEGER NOT NULL, token INTEGER NOT NULL, bytes BLOB NOT NULL, text TEXT NOT NULL,
  n INTEGER NOT NULL, mass REAL NOT NULL, PRIMARY KEY (feature, rank)) WITHOUT ROWID;
CREATE TABLE groups (
  feature INTEGER NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
  n_firings INTEGER NOT NULL, PRIMARY KEY (feature, place)) WITHOUT ROWID;
CREATE TABLE examples (
  id INTEGER PRIMARY KEY, feature INTEGER NOT NULL, place INTEGER NOT NULL, t INTEGER NOT NULL, act REAL NOT NULL, around BLOB NOT NULL);
CREATE TABLE logits (
  feature INTEGER NOT NULL, up INTEGER NOT NULL, rank INTEGER NOT NULL, token INTEGER NOT NULL, bytes BLOB NOT NULL,
  effect REAL NOT NULL, PRIMARY KEY (feature, up, rank)) WITHOUT ROWID;
CREATE VIRTUAL TABLE contexts USING fts5 (words, content='', tokenize = 'unicode61 remove_diacritics 2');
";

/// Writes the dictionary of `rows` to `path`; whoever has the old file open keeps reading the old one.
pub fn write(path: &Path, meta: &Meta, rows: &[Row], text: &dyn Text) -> Result<()> {
    let io = |action| move |e| Error::Artifact(crate::artifact::Error::io(action, path, e));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io("make the folder of"))?;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("features.sqlite");
    let sibling = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let _ = std::fs::remove_file(&sibling);
    let written = fill(&sibling, meta, rows, text)
        .map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => io("write")(std::io::ErrorKind::StorageFull.into()),
            _ => Error::Sql { path: path.into(), source },
        })
        .and_then(|()| std::fs::File::open(&sibling).and_then(|f| f.sync_all()).map_err(io("write")))
        .and_then(|()| std::fs::rename(&sibling, path).map_err(io("write")));
    if written.is_err() {
        let _ = std::fs::remove_file(&sibling);
    }
    written
}

fn fill(path: &Path, meta: &Meta, rows: &[Row], text: &dyn Text) -> rusqlite::Result<()> {
    let mut sql = Connection::open(path)?;
    // The file has another name until it is complete: a journal would protect nothing.
    sql.pragma_update(None, "journal_mode", "OFF")?;
    sql.pragma_update(None, "synchronous", "OFF")?;
    sql.pragma_update(None, "user_version", VERSION)?;
    sql.execute_batch(SCHEMA)?;
    let all = sql.transaction()?;
    all.execute("INSERT INTO meta VALUES (?1)", [serde_json::to_string(meta).expect("meta is plain data")])?;
    let mut n_examples = 0;
    for (id, row) in rows.iter().enumerate() {
        write_row(&all, id as i64, row, meta.n_tokens, text, &mut n_examples)?;
    }
    all.execute_batch(
        "CREATE INDEX examples_of ON examples (feature, place);
         INSERT INTO contexts (contexts) VALUES ('optimize');",
    )?;
    all.commit()?;
    sql.close().map_err(|(_, e)| e)
}

fn write_row(sql: &Connection, id: i64, row: &Row, n_tokens: u64, text: &dyn Text, n_examples: &mut i64) -> rusqlite::Result<()> {
    let c = &row.collected;
    let flags: i64 = row.flags.iter().map(|f| f.bit()).sum();
    let density = c.n_active as f64 / n_tokens.max(1) as f64;
    let histogram = serde_json::to_string(&c.histogram).expect("a histogram is plain data");
    sql.prepare_cached("INSERT INTO features VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,NULL,NULL)")?.execute(params![
        id,
        density,
        c.n_active as i64,
        c.max_act,
        c.mean_act,
        flags,
        c.effective_tokens,
        c.tokens_exact,
        row.polysemantic,
        row.enc_dec_cosine,
        histogram
    ])?;
    for (rank, m) in c.top_tokens.iter().enumerate() {
        let bytes = text.bytes(m.token);
        let lower = String::from_utf8_lossy(bytes).to_lowercase();
        sql.prepare_cached("INSERT INTO firing_tokens VALUES (?1,?2,?3,?4,?5,?6,?7)")?.execute(params![
            id,
            rank as i64,
            m.token,
            bytes,
            lower,
            m.n,
            m.mass / c.mass
        ])?;
    }
    for (place, group) in c.groups.iter().enumerate() {
        let kind = serde_json::to_value(group.kind).expect("a kind is plain data");
        sql.prepare_cached("INSERT INTO groups VALUES (?1,?2,?3,?4,?5,?6)")?.execute(params![
            id,
            place as i64,
            kind.as_str(),
            group.low,
            group.high,
            group.n_firings as i64
        ])?;
        for firing in &group.firings {
            *n_examples += 1;
            sql.prepare_cached("INSERT INTO examples VALUES (?1,?2,?3,?4,?5,?6)")?.execute(params![
                *n_examples,
                id,
                place as i64,
                firing.t as i64,
                firing.act,
                around_blob(firing)
            ])?;
            if group.kind != GroupKind::Quantile {
                let words = text.lossy(&text.ids(firing.t.saturating_sub(INDEXED.0), firing.t + INDEXED.1 + 1));
                sql.prepare_cached("INSERT INTO contexts (rowid, words) VALUES (?1,?2)")?.execute(params![*n_examples, words])?;
            }
        }
    }
    for (up, effects) in [(true, &row.logits_up), (false, &row.logits_down)] {
        for (rank, &(token, effect)) in effects.iter().enumerate() {
            sql.prepare_cached("INSERT INTO logits VALUES (?1,?2,?3,?4,?5,?6)")?.execute(params![
                id,
                up,
                rank as i64,
                token,
                text.bytes(token),
                effect
            ])?;
        }
    }
    Ok(())
}

fn around_blob(firing: &Firing) -> Vec<u8> {
    firing.around.iter().flat_map(|(distance, act)| [&distance.to_le_bytes()[..], &act.to_le_bytes()].concat()).collect()
}

/// Stores each feature's best concept `(feature, concept, F1 on B)`; those of an earlier exam are forgotten.
pub fn set_concepts(path: &Path, best: &[(u32, String, f64)]) -> Result<()> {
    let set = || -> rusqlite::Result<()> {
        let mut sql = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let all = sql.transaction()?;
        all.execute("UPDATE features SET concept = NULL, f1 = NULL", [])?;
        for (feature, concept, f1) in best {
            all.prepare_cached("UPDATE features SET concept = ?2, f1 = ?3 WHERE id = ?1")?.execute(params![feature, concept, f1])?;
        }
        all.commit()
    };
    set().map_err(|source| Error::Sql { path: path.into(), source })
}
