//! Writing the dictionary: to a sibling, renamed when complete.

use super::schema::{CORRELATED, FIRING, NEAR, TABLES, UNIT_WORDS};
use super::{Category, Flag, GroupKind, INDEXED, Meta, VERSION};
use crate::features::collect::{Collected, TokenUnits};
use crate::features::text::Text;
use crate::features::{Error, Result};
use rusqlite::{Connection, params};
use std::path::Path;

/// All that is stored of one unit; its id is its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub collected: Collected,
    pub flags: Vec<Flag>,
    pub polysemantic: f64,
    pub enc_dec_cosine: Option<f32>,
    /// (token, effect), strongest first.
    pub logits_up: Vec<(u32, f32)>,
    pub logits_down: Vec<(u32, f32)>,
    pub category: Option<Category>,
    /// (unit, cosine of decoder directions), largest first.
    pub similar: Vec<(u32, f32)>,
    /// (coordinate of the hook, entry of the decoder direction, its share of the L1 norm), largest size first.
    pub alignment: Vec<(u32, f32, f32)>,
}

/// Writes the dictionary of `rows`, with the units of each of `tokens`, to `path`; whoever has the old file open keeps reading the old one.
pub fn write(path: &Path, meta: &Meta, rows: &[Row], tokens: &[TokenUnits], text: &dyn Text) -> Result<()> {
    let io = |action| move |e| Error::Artifact(crate::artifact::Error::io(action, path, e));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io("make the folder of"))?;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("features.sqlite");
    let sibling = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let _ = std::fs::remove_file(&sibling);
    let written = fill(&sibling, meta, rows, tokens, text)
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

fn fill(path: &Path, meta: &Meta, rows: &[Row], tokens: &[TokenUnits], text: &dyn Text) -> rusqlite::Result<()> {
    let mut sql = Connection::open(path)?;
    // The file has another name until it is complete: a journal would protect nothing.
    sql.pragma_update(None, "journal_mode", "OFF")?;
    sql.pragma_update(None, "synchronous", "OFF")?;
    sql.pragma_update(None, "user_version", VERSION)?;
    sql.execute_batch(TABLES)?;
    sql.execute_batch(NEAR)?;
    sql.execute_batch(CORRELATED)?;
    sql.execute_batch(UNIT_WORDS)?;
    let all = sql.transaction()?;
    all.execute("INSERT INTO meta VALUES (?1)", [serde_json::to_string(meta).expect("meta is plain data")])?;
    let mut n_examples = 0;
    for (id, row) in rows.iter().enumerate() {
        write_row(&all, id as i64, row, meta.n_tokens, text, &mut n_examples)?;
    }
    write_tokens(&all, rows, tokens, meta.n_tokens, text)?;
    all.execute_batch(
        "CREATE INDEX token_of ON token_features (feature);
         CREATE INDEX examples_of ON examples (feature, place);
         INSERT INTO contexts (contexts) VALUES ('optimize');
         INSERT INTO unit_words (unit_words) VALUES ('optimize');",
    )?;
    all.execute_batch(FIRING)?;
    all.commit()?;
    sql.close().map_err(|(_, e)| e)
}

fn write_row(sql: &Connection, id: i64, row: &Row, n_tokens: u64, text: &dyn Text, n_examples: &mut i64) -> rusqlite::Result<()> {
    let c = &row.collected;
    let flags: i64 = row.flags.iter().map(|f| f.bit()).sum();
    let density = c.n_active as f64 / n_tokens.max(1) as f64;
    let histogram = serde_json::to_string(&c.histogram).expect("a histogram is plain data");
    let n_indexed: usize = c.groups.iter().filter(|g| is_indexed(g.kind)).map(|g| g.firings.len()).sum();
    sql.prepare_cached("INSERT INTO features VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,NULL,NULL,?11,?12,?13)")?.execute(params![
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
        row.category.map(category_key),
        c.groups.iter().any(|g| !g.firings.is_empty()).then_some(*n_examples + 1),
        n_indexed as i64
    ])?;
    sql.prepare_cached("INSERT INTO shapes VALUES (?1,?2,?3,?4)")?.execute(params![
        id,
        histogram,
        counts_blob(&c.over_time),
        counts_blob(&c.over_position)
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
    let mut unit_words = String::new();
    for (place, group) in c.groups.iter().enumerate() {
        sql.prepare_cached("INSERT INTO groups VALUES (?1,?2,?3,?4,?5,?6,?7)")?.execute(params![
            id,
            place as i64,
            group.kind.name(),
            group.low,
            group.high,
            group.n_firings as i64,
            group.share_mass
        ])?;
        for firing in &group.firings {
            *n_examples += 1;
            sql.prepare_cached("INSERT INTO examples VALUES (?1,?2,?3,?4,?5,?6,?7,?8)")?.execute(params![
                *n_examples,
                id,
                place as i64,
                firing.t as i64,
                firing.act,
                pairs_blob(&firing.around),
                (!firing.loss.is_empty()).then(|| pairs_blob(&firing.loss)),
                firing.similar
            ])?;
            if is_indexed(group.kind) {
                let words = text.lossy(&text.ids(firing.t.saturating_sub(INDEXED.0), firing.t + INDEXED.1 + 1));
                sql.prepare_cached("INSERT INTO contexts (rowid, words) VALUES (?1,?2)")?.execute(params![*n_examples, words])?;
                unit_words += &words;
                unit_words.push('\n');
            }
        }
    }
    if !unit_words.is_empty() {
        sql.prepare_cached("INSERT INTO unit_words (rowid, words) VALUES (?1,?2)")?.execute(params![id, unit_words])?;
    }
    write_near(sql, id, row)?;
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

fn is_indexed(kind: GroupKind) -> bool {
    matches!(kind, GroupKind::Top | GroupKind::Random)
}

fn write_near(sql: &Connection, id: i64, row: &Row) -> rusqlite::Result<()> {
    for (kind, near) in [("coactive", &row.collected.coactive), ("similar", &row.similar)] {
        for (rank, (other, value)) in near.iter().enumerate() {
            sql.prepare_cached("INSERT INTO neighbors VALUES (?1,?2,?3,?4,?5)")?.execute(params![id, kind, rank as i64, other, value])?;
        }
    }
    for (rank, c) in row.collected.correlated.iter().enumerate() {
        let correlated = sql.prepare_cached("INSERT INTO correlated VALUES (?1,?2,?3,?4,?5,?6)");
        correlated?.execute(params![id, rank as i64, c.unit, c.pearson, c.cosine, c.sd])?;
    }
    let along = row.collected.neurons.iter().map(|&(neuron, r, cosine)| ("correlated", neuron, r, None, Some(cosine)));
    let aligned = row.alignment.iter().map(|&(neuron, value, share)| ("aligned", neuron, value, Some(share), None));
    let mut rank = (0, "");
    for (kind, neuron, value, share, cosine) in along.chain(aligned) {
        rank = if rank.1 == kind { (rank.0 + 1, kind) } else { (0, kind) };
        let neurons = sql.prepare_cached("INSERT INTO neurons VALUES (?1,?2,?3,?4,?5,?6,?7)");
        neurons?.execute(params![id, kind, rank.0, neuron, value, share, cosine])?;
    }
    Ok(())
}

fn write_tokens(sql: &Connection, rows: &[Row], tokens: &[TokenUnits], n_tokens: u64, text: &dyn Text) -> rusqlite::Result<()> {
    for of in tokens {
        let bytes = text.bytes(of.token);
        let lower = String::from_utf8_lossy(bytes).to_lowercase();
        sql.prepare_cached("INSERT INTO tokens VALUES (?1,?2,?3,?4)")?.execute(params![of.token, bytes, lower, of.n as i64])?;
        for (rank, &(unit, n, mass)) in of.units.iter().enumerate() {
            // P(fires | token) / P(fires)
            let lift = n as f64 / of.n as f64 * n_tokens as f64 / rows[unit as usize].collected.n_active as f64;
            sql.prepare_cached("INSERT INTO token_features VALUES (?1,?2,?3,?4,?5,?6)")?.execute(params![
                of.token,
                rank as i64,
                unit,
                n,
                mass,
                lift
            ])?;
        }
    }
    Ok(())
}

/// (distance, number) pairs, five bytes each.
fn pairs_blob(pairs: &[(i8, f32)]) -> Vec<u8> {
    pairs.iter().flat_map(|(distance, x)| [&distance.to_le_bytes()[..], &x.to_le_bytes()].concat()).collect()
}

fn counts_blob(counts: &[u32]) -> Vec<u8> {
    counts.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// A category as it stands in the file.
pub(super) fn category_key(category: Category) -> String {
    serde_json::to_value(category).ok().and_then(|v| v.as_str().map(String::from)).expect("a category is a word")
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
