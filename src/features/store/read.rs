//! Questions to the dictionary.

use super::*;
use crate::artifact::{Manifest, RunDir, read_json};
use crate::corpus::{TokenStream, Tokenizer};
use crate::features::text::{StreamText, Text};
use crate::features::{Error, Result};
use rusqlite::{Connection, OpenFlags, params};
use std::cell::{OnceCell, RefCell};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An opened dictionary. One thread at a time (it holds one SQLite connection); open it again for another thread, that is cheap.
pub struct Dictionary {
    path: PathBuf,
    pub(super) sql: Connection,
    meta: Meta,
    /// What [`search`](super::search) reads once.
    pub(super) indexed: OnceCell<Vec<search::Indexed>>,
    /// What [`list`](super::list) goes by.
    pub(super) columns: RefCell<Option<Arc<list::Columns>>>,
}

impl Dictionary {
    /// Opens `features/<name>.sqlite` for reading.
    ///
    /// # Errors
    /// The file is missing, of an unknown version, of an older one and not writable, or not SQLite.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::Missing { path: path.into() });
        }
        let sql_error = |source| Error::Sql { path: path.into(), source };
        let sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(sql_error)?;
        let found: i64 = sql.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(sql_error)?;
        if found != VERSION {
            schema::migrate(path, found)?;
        }
        let json: String = sql.query_row("SELECT json FROM meta", [], |r| r.get(0)).map_err(sql_error)?;
        let meta = serde_json::from_str(&json).map_err(|e| Error::Corrupt { path: path.into(), what: format!("meta: {e}") })?;
        Ok(Dictionary { path: path.into(), sql, meta, indexed: OnceCell::new(), columns: RefCell::new(None) })
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// SQLite's count of changes to the file, which grows with every transaction; with [`Self::meta`], which names the build, it tells whether
    /// what was read before is still what is there. It is the big-endian number at byte 24 of the file (sqlite.org/fileformat, section 1.3.6).
    pub fn changes(&self) -> Result<u32> {
        let mut header = [0; 28];
        let read = File::open(&self.path).and_then(|mut file| file.read_exact(&mut header));
        read.map_err(|e| crate::artifact::Error::io("read", &self.path, e))?;
        Ok(u32::from_be_bytes([header[24], header[25], header[26], header[27]]))
    }

    /// Refuses when the dictionary was made from another token stream.
    pub fn check(&self, stream: &TokenStream) -> Result<()> {
        let expected = stream.manifest().hash();
        if self.meta.tokens_hash == expected {
            return Ok(());
        }
        Err(Error::Stale { path: self.path.clone(), input: "tokens", found: self.meta.tokens_hash.clone(), expected })
    }

    /// Refuses when the tokens, the model or the SAE that are in the run now are not those that the dictionary was made from. What is not there
    /// is not compared.
    pub fn check_run(&self, run: &RunDir) -> Result<()> {
        let meta = &self.meta;
        let inputs = [
            ("tokens", run.tokens(), Some(&meta.tokens_hash)),
            ("lm", run.lm(), Some(&meta.lm_hash)),
            ("sae", run.sae(&meta.name), meta.sae_hash.as_ref()),
        ];
        for (input, dir, found) in inputs {
            let Ok(now) = read_json::<Manifest>(&dir.join("manifest.json")) else { continue };
            if let Some(found) = found.filter(|found| **found != now.hash()) {
                return Err(Error::Stale { path: self.path.clone(), input, found: found.clone(), expected: now.hash() });
            }
        }
        Ok(())
    }

    /// Whether each unit fired at all on the dictionary's tokens.
    pub fn alive(&self) -> Result<Vec<bool>> {
        self.rows("SELECT n_active > 0 FROM features ORDER BY id", [], |r| r.get(0))
    }

    pub fn summary(&self, id: u32) -> Result<FeatureSummary> {
        let found = self.summaries(&format!("SELECT {COLUMNS} FROM features WHERE id = ?1"), [id])?;
        let last = self.meta.n_units.saturating_sub(1);
        found.into_iter().next().ok_or(Error::NoFeature { kind: self.meta.kind.name(), id, last })
    }

    /// Everything about one feature; contexts are cut from `stream`.
    pub fn feature(&self, id: u32, stream: &TokenStream, tokenizer: &Tokenizer) -> Result<FeatureDetail> {
        self.feature_in(id, &StreamText { stream, tokenizer })
    }

    /// As [`Dictionary::feature`], from any text.
    pub fn feature_in(&self, id: u32, text: &dyn Text) -> Result<FeatureDetail> {
        let summary = self.summary(id)?;
        let of_unit = "SELECT histogram, over_time, over_position FROM shapes WHERE feature = ?1";
        type OfUnit = (String, Option<Vec<u8>>, Option<Vec<u8>>);
        let (json, over_time, over_position): OfUnit =
            self.sql.query_row(of_unit, [id], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).map_err(|e| self.sql_error(e))?;
        let histogram = serde_json::from_str(&json).map_err(|e| self.corrupt(format!("histogram of {id}: {e}")))?;
        let groups = self.groups(id, summary.n_active, text)?;
        Ok(FeatureDetail {
            summary,
            histogram,
            groups,
            over_time: self.densities(id, over_time, &self.meta.time_tokens)?,
            over_position: self.densities(id, over_position, &self.meta.position_tokens)?,
            coactive: self.neighbors(id, "coactive")?,
            similar: self.neighbors(id, "similar")?,
            correlated: self.rows("SELECT other, pearson, cosine, sd FROM correlated WHERE feature = ?1 ORDER BY rank", [id], |r| {
                Ok(CorrelatedFeature { id: r.get(0)?, pearson: r.get(1)?, cosine: r.get(2)?, sd: r.get(3)? })
            })?,
            neurons: self.rows("SELECT neuron, value, cosine FROM neurons WHERE feature = ?1 AND kind = 'correlated' ORDER BY rank", [id], |r| {
                Ok(CorrelatedNeuron { neuron: r.get(0)?, pearson: r.get(1)?, cosine: r.get(2)? })
            })?,
            alignment: self.rows("SELECT neuron, value, share FROM neurons WHERE feature = ?1 AND kind = 'aligned' ORDER BY rank", [id], |r| {
                Ok(Alignment { neuron: r.get(0)?, value: r.get(1)?, share: r.get(2)? })
            })?,
            logits_up: self.logits(id, true)?,
            logits_down: self.logits(id, false)?,
        })
    }

    fn groups(&self, id: u32, n_active: u64, text: &dyn Text) -> Result<Vec<ExampleGroup>> {
        let groups = "SELECT place, kind, low, high, n_firings, share_mass FROM groups WHERE feature = ?1 ORDER BY place";
        let groups = self.rows(groups, [id], |r| {
            let interval = (r.get::<_, f32>(2)?, r.get::<_, f32>(3)?);
            Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, interval, r.get::<_, i64>(4)? as u64, r.get::<_, Option<f64>>(5)?))
        })?;
        // Tenths come from the strongest down.
        let mut ranked = 0;
        let groups = groups.into_iter().map(|(place, kind, (low, high), n_firings, share_mass)| {
            let kind = serde_json::from_value(kind.clone().into()).map_err(|_| self.corrupt(format!("a group of kind {kind}")))?;
            let rank = |n: u64| 100.0 * (1.0 - n as f64 / n_active.max(1) as f64);
            let name = match kind {
                GroupKind::Top => "strongest, one per document".to_string(),
                GroupKind::Random => "random firings".to_string(),
                GroupKind::Interval => format!("activation {low:.3} to {high:.3}"),
                GroupKind::Quantile => {
                    ranked += n_firings;
                    format!("ranks {:.0} to {:.0} %, activation {low:.3} to {high:.3}", rank(ranked), rank(ranked - n_firings))
                }
                GroupKind::Zero => "silent on its own tokens".to_string(),
            };
            let share_firings = n_firings as f64 / n_active.max(1) as f64;
            Ok(ExampleGroup { kind, name, low, high, n_firings, share_firings, share_mass, examples: self.examples(id, place, text)? })
        });
        groups.collect()
    }

    /// Counts of a blob over the tokens of each bin; empty where there are none.
    fn densities(&self, id: u32, counts: Option<Vec<u8>>, tokens: &[u64]) -> Result<Vec<f32>> {
        let counts = counts.unwrap_or_default();
        if !counts.is_empty() && counts.len() != 4 * tokens.len() {
            return Err(self.corrupt(format!("{} bytes of counts of {id}, expected {}", counts.len(), 4 * tokens.len())));
        }
        let count = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        Ok(counts.chunks_exact(4).zip(tokens).map(|(bytes, &n)| (count(bytes) as f64 / n.max(1) as f64) as f32).collect())
    }

    fn neighbors(&self, id: u32, kind: &str) -> Result<Vec<Neighbor>> {
        self.rows("SELECT other, value FROM neighbors WHERE feature = ?1 AND kind = ?2 ORDER BY rank", params![id, kind], |r| {
            Ok(Neighbor { id: r.get(0)?, value: r.get(1)? })
        })
    }

    /// A token of the text that was read, and the units with most activation on it. `None` where it did not occur, or in a dictionary of version 1.
    pub fn token(&self, token: u32) -> Result<Option<TokenDetail>> {
        Ok(self.tokens("WHERE token = ?1", [token])?.into_iter().next())
    }

    /// Tokens holding `text`, commonest first, each with its units.
    pub fn tokens_with(&self, text: &str, limit: usize) -> Result<Vec<TokenDetail>> {
        self.tokens("WHERE instr(text, ?1) > 0 ORDER BY n DESC, token LIMIT ?2", params![text.to_lowercase(), limit as i64])
    }

    fn tokens(&self, which: &str, values: impl rusqlite::Params) -> Result<Vec<TokenDetail>> {
        let mut found = self.rows(&format!("SELECT token, bytes, n FROM tokens {which}"), values, |r| {
            let token = TokenText::new(r.get(0)?, &r.get::<_, Vec<u8>>(1)?);
            Ok(TokenDetail { token, n: r.get::<_, i64>(2)? as u64, features: vec![] })
        })?;
        for of in &mut found {
            of.features = self.rows("SELECT feature, n, mass, lift FROM token_features WHERE token = ?1 ORDER BY rank", [of.token.id], |r| {
                Ok(TokenFeature { feature: r.get(0)?, n: r.get::<_, i64>(1)? as u64, mass: r.get(2)?, lift: r.get(3)? })
            })?;
        }
        Ok(found)
    }

    fn examples(&self, id: u32, place: i64, text: &dyn Text) -> Result<Vec<Example>> {
        let rows = "SELECT t, act, around, loss, similar FROM examples WHERE feature = ?1 AND place = ?2 ORDER BY id";
        let rows = self.rows(rows, params![id, place], |r| {
            Ok((Example { t: r.get::<_, i64>(0)? as u64, act: r.get(1)?, similar: r.get(4)?, ..Default::default() }, r.get(2)?, r.get(3)?))
        })?;
        rows.into_iter().map(|(example, around, loss)| self.example(id, example, around, loss, text)).collect()
    }

    /// Cuts the context of a firing from the text and lays the stored activations and effects over it.
    fn example(&self, id: u32, example: Example, around: Vec<u8>, loss: Option<Vec<u8>>, text: &dyn Text) -> Result<Example> {
        let t = example.t;
        if t >= text.n_tokens() {
            return Err(self.corrupt(format!("an example of {id} at token {t} of {}", text.n_tokens())));
        }
        let (mut start, mut end) = (t.saturating_sub(self.meta.n_before as u64), t + self.meta.n_after as u64 + 1);
        if self.meta.whole_documents {
            let doc = text.doc_of(t);
            (start, end) = (start.max(text.doc_start(doc)), end.min(text.doc_end(doc)));
        }
        let ids = text.ids(start, end);
        let (mut acts, mut losses) = (vec![0.0; ids.len()], vec![None; ids.len()]);
        for (place, act) in self.pairs(id, t, &around)? {
            let slot = usize::try_from((t - start) as i64 + place).ok().and_then(|p| acts.get_mut(p));
            *slot.ok_or_else(|| self.corrupt(format!("activations around token {t} of {id}")))? = act;
        }
        for (place, nats) in self.pairs(id, t, &loss.unwrap_or_default())? {
            // What is measured at a token is the loss of the next, which may lie outside the context.
            let slot = usize::try_from((t - start) as i64 + place + 1).ok().and_then(|p| losses.get_mut(p));
            if let Some(slot) = slot {
                *slot = Some(nats);
            }
        }
        let window = t - t % self.meta.n_ctx as u64;
        let inside = |at: u64| at.clamp(start, start + ids.len() as u64) - start;
        let doc = text.doc_of(t);
        Ok(Example {
            start,
            focus: (t - start) as usize,
            tokens: ids.iter().map(|&id| TokenText::new(id, text.bytes(id))).collect(),
            acts,
            loss: losses,
            window: (inside(window) as usize, inside(window + self.meta.n_ctx as u64) as usize),
            doc,
            doc_offset: t - text.doc_start(doc),
            ..example
        })
    }

    /// (distance, number) pairs of a blob.
    fn pairs(&self, id: u32, t: u64, blob: &[u8]) -> Result<Vec<(i64, f32)>> {
        if !blob.len().is_multiple_of(5) {
            return Err(self.corrupt(format!("activations around token {t} of {id}")));
        }
        Ok(blob.chunks_exact(5).map(|b| (b[0] as i8 as i64, f32::from_le_bytes(b[1..].try_into().expect("an entry has five bytes")))).collect())
    }

    fn logits(&self, id: u32, up: bool) -> Result<Vec<LogitEffect>> {
        self.rows("SELECT token, bytes, effect FROM logits WHERE feature = ?1 AND up = ?2 ORDER BY rank", params![id, up], |r| {
            Ok(LogitEffect { token: TokenText::new(r.get(0)?, &r.get::<_, Vec<u8>>(1)?), effect: r.get(2)? })
        })
    }

    fn summaries(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<FeatureSummary>> {
        let d_in = self.meta.d_in as u32;
        let mut found = self.rows(sql, values, |r| {
            let (id, bits): (u32, i64) = (r.get(0)?, r.get(5)?);
            let (concept, category): (Option<String>, Option<String>) = (r.get(10)?, r.get(12)?);
            Ok(FeatureSummary {
                id,
                neuron: (self.meta.kind == Kind::Neuron).then(|| id % d_in.max(1)),
                positive: self.meta.kind == Kind::Latent || id < d_in,
                density: r.get(1)?,
                n_active: r.get::<_, i64>(2)? as u64,
                max_act: r.get(3)?,
                mean_act: r.get(4)?,
                flags: Flag::ALL.into_iter().filter(|f| bits & f.bit() != 0).collect(),
                top_tokens: vec![],
                effective_tokens: r.get(6)?,
                tokens_exact: r.get(7)?,
                polysemantic: r.get(8)?,
                category: category.as_deref().and_then(category_of),
                enc_dec_cosine: r.get(9)?,
                concept: concept.zip(r.get(11)?).map(|(name, f1)| BestConcept { name, f1 }).filter(|c| c.f1 >= MIN_CONCEPT_F1),
            })
        })?;
        for summary in &mut found {
            summary.top_tokens =
                self.rows("SELECT token, bytes, n, mass FROM firing_tokens WHERE feature = ?1 ORDER BY rank", [summary.id], |r| {
                    let token = TokenText::new(r.get(0)?, &r.get::<_, Vec<u8>>(1)?);
                    Ok(FiringToken { token, n: r.get::<_, i64>(2)? as u64, mass: r.get(3)? })
                })?;
        }
        Ok(found)
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let run = || -> rusqlite::Result<Vec<T>> { self.sql.prepare_cached(sql)?.query_map(values, read)?.collect() };
        run().map_err(|e| self.sql_error(e))
    }

    pub(super) fn sql_error(&self, source: rusqlite::Error) -> Error {
        Error::Sql { path: self.path.clone(), source }
    }

    fn corrupt(&self, what: String) -> Error {
        Error::Corrupt { path: self.path.clone(), what }
    }
}

const COLUMNS: &str = "id, density, n_active, max_act, mean_act, flags, effective_tokens, tokens_exact, polysemantic, cosine, concept, f1, category";

/// A category by its name in the file.
pub(super) fn category_of(key: &str) -> Option<Category> {
    serde_json::from_value(key.into()).ok()
}
