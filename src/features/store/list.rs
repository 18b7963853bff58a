//! Lists: filtered, sorted, cut into pages. The numbers that this goes by are read once and kept, 80 bytes to a unit; a page is then found without
//! SQL, and read whole.

use super::read::category_of;
use super::{Category, Dictionary, FeatureSummary, ListPage, ListQuery, Sort};
use crate::features::Result;
use std::cmp::Ordering;
use std::sync::Arc;

/// What lists go by, in the order of the units' numbers.
pub(super) struct Columns {
    /// SQLite's count of other connections' changes when this was read: concepts are written into a dictionary that is open.
    version: i64,
    units: Vec<Numbers>,
}

struct Numbers {
    id: u32,
    flags: i64,
    density: f64,
    max_act: f64,
    mean_act: f64,
    effective_tokens: f64,
    polysemantic: f64,
    f1: Option<f64>,
    cosine: Option<f64>,
    category: Option<Category>,
}

impl Numbers {
    fn key(&self, sort: Sort) -> Option<f64> {
        match sort {
            Sort::Id => Some(f64::from(self.id)),
            Sort::Density => Some(self.density),
            Sort::Max => Some(self.max_act),
            Sort::Mean => Some(self.mean_act),
            Sort::Tokens => Some(self.effective_tokens),
            Sort::Polysemantic => Some(self.polysemantic),
            Sort::F1 => self.f1,
            Sort::Cosine => self.cosine,
        }
    }
}

impl Dictionary {
    pub fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let (total, ids) = self.list_ids(query)?;
        let features = ids.into_iter().map(|id| self.summary(id)).collect::<Result<Vec<FeatureSummary>>>()?;
        Ok(ListPage { total, features })
    }

    /// How many units there are, and the numbers of those on the page: for whoever has the summaries in memory.
    pub fn list_ids(&self, query: &ListQuery) -> Result<(u64, Vec<u32>)> {
        let columns = self.numbers()?;
        let mut only = query.ids.as_ref().map(|ids| self.marked(ids));
        if let Some(text) = query.text.as_deref().filter(|t| !t.trim().is_empty()) {
            let found = self.marked(&self.with_text(text, query.firing.as_deref())?);
            only = Some(match only {
                Some(ids) => ids.iter().zip(&found).map(|(a, b)| *a && *b).collect(),
                None => found,
            });
        }
        let bits = |flags: &[super::Flag]| flags.iter().fold(0, |bits, f| bits | f.bit());
        let (with, without) = (bits(&query.with), bits(&query.without));
        let passes = |u: &&Numbers| {
            u.flags & with == with
                && u.flags & without == 0
                && query.min_density.is_none_or(|least| u.density >= least)
                && query.max_density.is_none_or(|most| u.density <= most)
                && query.category.is_none_or(|category| u.category == Some(category))
                && only.as_ref().is_none_or(|only| only.get(u.id as usize).copied().unwrap_or_default())
        };
        let mut listed: Vec<&Numbers> = columns.units.iter().filter(passes).collect();
        let total = listed.len();
        // What has no such number comes last either way, and equals by number.
        let order = |a: &&Numbers, b: &&Numbers| {
            let by_key = match (a.key(query.sort), b.key(query.sort)) {
                (Some(a), Some(b)) if query.descending => b.total_cmp(&a),
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            if by_key == Ordering::Equal { a.id.cmp(&b.id) } else { by_key }
        };
        let start = usize::try_from(query.offset).unwrap_or(usize::MAX).min(total);
        let end = start.saturating_add(usize::try_from(query.limit).unwrap_or(usize::MAX)).min(total);
        if end < total {
            listed.select_nth_unstable_by(end, order);
            listed.truncate(end);
        }
        listed.sort_unstable_by(order);
        Ok((total as u64, listed[start..].iter().map(|u| u.id).collect()))
    }

    /// For each unit whether it is among `ids`; numbers that are no unit's are passed over.
    fn marked(&self, ids: &[u32]) -> Vec<bool> {
        let mut marked = vec![false; self.meta().n_units as usize];
        ids.iter().for_each(|&id| marked.get_mut(id as usize).into_iter().for_each(|m| *m = true));
        marked
    }

    fn numbers(&self) -> Result<Arc<Columns>> {
        let version = self.sql.query_row("PRAGMA data_version", [], |r| r.get(0)).map_err(|e| self.sql_error(e))?;
        if let Some(known) = self.columns.borrow().as_ref().filter(|known| known.version == version) {
            return Ok(known.clone());
        }
        let all = "SELECT id, flags, density, max_act, mean_act, effective_tokens, polysemantic, f1, cosine, category FROM features ORDER BY id";
        let units = self.rows(all, [], |r| {
            Ok(Numbers {
                id: r.get(0)?,
                flags: r.get(1)?,
                density: r.get(2)?,
                max_act: r.get(3)?,
                mean_act: r.get(4)?,
                effective_tokens: r.get(5)?,
                polysemantic: r.get(6)?,
                f1: r.get(7)?,
                cosine: r.get(8)?,
                category: r.get::<_, Option<String>>(9)?.as_deref().and_then(category_of),
            })
        })?;
        let columns = Arc::new(Columns { version, units });
        *self.columns.borrow_mut() = Some(columns.clone());
        Ok(columns)
    }
}
