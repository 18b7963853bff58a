//! The list of features or neurons: search, filters, order, pages.

use super::app::{App, Missing, Page, Part, Problem};
use super::view::{UnitView, Units, text_of};
use crate::artifact::grouped;
use crate::features::store::{FeatureSummary, Flag, ListQuery, Meta, Sort};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

const PER_PAGE: u64 = 50;
/// Longest search text, in characters.
pub const MAX_QUERY: usize = 200;
/// Features found by label or number that are put above those found by text.
const MAX_NAMED: usize = 50;

/// What the address of a list says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// Text of a token, a context or a label, or a number.
    pub q: String,
    /// A name of [`SORTS`].
    pub sort: String,
    /// A flag, `labelled`, `alive`, or nothing for all.
    pub flag: String,
    /// From 1.
    pub page: u64,
}

/// Name in the address, name on the page, column, whether it falls.
const SORTS: [(&str, &str, Sort, bool); 10] = [
    ("number", "by number", Sort::Id, false),
    ("dense", "most frequent first", Sort::Density, true),
    ("rare", "rarest first", Sort::Density, false),
    ("max", "largest maximum first", Sort::Max, true),
    ("mean", "largest mean first", Sort::Mean, true),
    ("narrow", "fewest different tokens first", Sort::Tokens, false),
    ("wide", "most different tokens first", Sort::Tokens, true),
    ("mixed", "most polysemantic first", Sort::Polysemantic, true),
    ("pure", "least polysemantic first", Sort::Polysemantic, false),
    ("f1", "best F1 for a known concept first", Sort::F1, true),
];

#[derive(Debug, Serialize)]
pub struct ListView {
    pub query: Ask,
    pub summary: String,
    pub total: u64,
    pub page: u64,
    pub n_pages: u64,
    pub units: Vec<UnitView>,
    pub previous: Option<String>,
    pub next: Option<String>,
    #[serde(skip)]
    pub filters: Vec<Filter>,
    #[serde(skip)]
    pub headers: Vec<Header>,
}

#[derive(Debug)]
pub struct Filter {
    pub name: String,
    pub href: String,
    pub here: bool,
}

#[derive(Debug)]
pub struct Header {
    pub name: &'static str,
    /// Empty where the column cannot be sorted.
    pub href: String,
    /// As `aria-sort` says it; empty where the list is not sorted by it.
    pub sorted: &'static str,
    pub right: bool,
}

impl ListView {
    pub fn sorts(&self) -> Vec<(&'static str, &'static str)> {
        SORTS.iter().map(|s| (s.0, s.1)).collect()
    }
}

impl App {
    pub fn list(&self, units: Units, mut ask: Ask) -> Page<Part<ListView>> {
        let dictionary = match self.dictionary(units) {
            Ok(dictionary) => dictionary,
            Err(missing) => return Ok(Err(missing)),
        };
        let meta = dictionary.meta().clone();
        ask.q = ask.q.trim().chars().take(MAX_QUERY).collect();
        ask.page = ask.page.clamp(1, 1 << 32);
        let (sort, descending) = check(&mut ask)?;
        let labels = self.label_texts(units, &meta);

        let mut query = ListQuery { sort, descending, limit: PER_PAGE, ..Default::default() };
        match ask.flag.as_str() {
            "labelled" => query.ids = Some(sorted(labels.keys().copied())),
            "alive" => query.without = vec![Flag::Dead],
            name => query.with = Flag::ALL.into_iter().filter(|f| f.name() == name).collect(),
        }
        let mut named: Vec<FeatureSummary> = vec![];
        if !ask.q.is_empty() {
            let wanted = ask.q.to_lowercase();
            let by_label = labels.iter().filter(|(_, text)| text.to_lowercase().contains(&wanted)).map(|(&id, _)| id);
            let by_number = ask.q.parse::<u32>().ok().filter(|&n| n < meta.n_units);
            let ids: Vec<u32> = sorted(by_label.chain(by_number));
            let allowed = |id: &u32| query.ids.as_ref().is_none_or(|only| only.contains(id));
            let ids: Vec<u32> = ids.into_iter().filter(allowed).take(MAX_NAMED).collect();
            if !ids.is_empty() {
                named = dictionary.list(&ListQuery { ids: Some(ids), limit: MAX_NAMED as u64, ..query.clone() })?.features;
            }
            query.text = Some(ask.q.clone());
        }
        query.offset = (ask.page - 1) * PER_PAGE;
        let found = dictionary.list(&query)?;
        let named_ids: HashSet<u32> = named.iter().map(|s| s.id).collect();
        let first = if ask.page == 1 { named.as_slice() } else { &[] };
        let shown = first.iter().chain(found.features.iter().filter(|s| !named_ids.contains(&s.id)));
        let rows: Vec<UnitView> = shown.map(|s| self.unit_view(units, s, &labels)).collect();

        let n_pages = found.total.div_ceil(PER_PAGE).max(1);
        let turn = |page: u64| address(units, &Ask { page, ..ask.clone() });
        Ok(Ok(ListView {
            summary: summary(&ask, found.total, named.len(), &meta),
            total: found.total,
            page: ask.page,
            n_pages,
            previous: (ask.page > 1).then(|| turn((ask.page - 1).min(n_pages))),
            next: (ask.page < n_pages).then(|| turn(ask.page + 1)),
            filters: filters(units, &ask, &meta, labels.len()),
            headers: headers(units, &ask),
            units: rows,
            query: ask,
        }))
    }
}

/// The column to sort by and whether it falls; an order or a filter that there is not is refused, not passed over.
fn check(ask: &mut Ask) -> Page<(Sort, bool)> {
    if ask.sort.is_empty() {
        ask.sort = SORTS[0].0.into();
    }
    let unknown = |what: &str, name: &str, known: Vec<&str>| Problem::bad(&format!("There is no {what} {name:?}; known are {}.", known.join(", ")));
    let filters: Vec<&str> = ["labelled", "alive"].into_iter().chain(Flag::ALL.map(Flag::name)).collect();
    if !ask.flag.is_empty() && !filters.contains(&ask.flag.as_str()) {
        return Err(unknown("filter", &ask.flag, filters));
    }
    let order = SORTS.iter().find(|s| s.0 == ask.sort).map(|s| (s.2, s.3));
    order.ok_or_else(|| unknown("order", &ask.sort, SORTS.iter().map(|s| s.0).collect()))
}

fn sorted(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn summary(ask: &Ask, total: u64, n_named: usize, meta: &Meta) -> String {
    let over = format!("densities over {} tokens of {}", grouped(meta.n_tokens), text_of(meta));
    match (ask.q.is_empty(), n_named) {
        (true, _) => format!("{} of {}; {over}", grouped(total), grouped(u64::from(meta.n_units))),
        (false, n) if ask.q.len() < 3 => format!(
            "{}{} with this text in a top token; three letters or more are looked for in contexts too; {over}",
            if n > 0 { format!("{n} by label or number, ") } else { String::new() },
            grouped(total)
        ),
        (false, 0) => format!("{} with this text in a top token or a context; {over}", grouped(total)),
        (false, n) => format!("{n} by label or number, {} with this text in a top token or a context; {over}", grouped(total)),
    }
}

fn filters(units: Units, ask: &Ask, meta: &Meta, n_labelled: usize) -> Vec<Filter> {
    let count = |flag: Flag| match flag {
        Flag::Dead => meta.n_dead,
        Flag::UltraRare => meta.n_ultra_rare,
        Flag::Dense => meta.n_dense,
        Flag::SingleToken => meta.n_single_token,
        Flag::Junk => meta.n_junk,
        Flag::PositionLocked => meta.n_position_locked,
        Flag::Duplicated => meta.n_duplicated,
        Flag::Polysemantic => meta.n_polysemantic,
    };
    let all = u64::from(meta.n_units);
    let fixed = [("", "all", all), ("alive", "alive", all.saturating_sub(meta.n_dead)), ("labelled", "labelled", n_labelled as u64)];
    let flags = Flag::ALL.map(|f| (f.name(), f.name(), count(f)));
    let filter = |(flag, name, n): (&'static str, &'static str, u64)| Filter {
        name: format!("{name} {}", grouped(n)),
        href: address(units, &Ask { flag: flag.into(), page: 1, ..ask.clone() }),
        here: ask.flag == flag,
    };
    fixed.into_iter().chain(flags).map(filter).collect()
}

fn headers(units: Units, ask: &Ask) -> Vec<Header> {
    let header = |name, right, orders: &[&'static str]| {
        let at = orders.iter().position(|o| *o == ask.sort);
        let falls = at.map(|i| SORTS.iter().any(|s| s.0 == orders[i] && s.3));
        let next = orders.get(at.map_or(0, |i| (i + 1) % orders.len().max(1)));
        Header {
            name,
            right,
            href: next.map(|sort| address(units, &Ask { sort: (*sort).into(), page: 1, ..ask.clone() })).unwrap_or_default(),
            sorted: match falls {
                Some(true) => "descending",
                Some(false) => "ascending",
                None => "",
            },
        }
    };
    vec![
        header("number", true, &["number"]),
        header("label or best concept", false, &["f1"]),
        header("top tokens", false, &["narrow", "wide"]),
        header("density", true, &["dense", "rare"]),
        header("max", true, &["max"]),
        header("flags", false, &[]),
    ]
}

fn address(units: Units, ask: &Ask) -> String {
    let mut pairs = vec![];
    for (name, value) in [("q", ask.q.as_str()), ("sort", ask.sort.as_str()), ("flag", ask.flag.as_str())] {
        if !value.is_empty() {
            pairs.push(format!("{name}={}", url_text(value)));
        }
    }
    if ask.page > 1 {
        pairs.push(format!("page={}", ask.page));
    }
    format!("{}?{}", units.path(), pairs.join("&"))
}

/// Percent-encodes what is not unreserved in a URL (RFC 3986, section 2.3).
pub fn url_text(text: &str) -> String {
    let one = |b: u8| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(one).collect()
}

/// The part is there, or the page says how to make it.
pub fn there<T>(page: Page<Part<T>>) -> Page<T> {
    page?.map_err(|m: Missing| m.into())
}
