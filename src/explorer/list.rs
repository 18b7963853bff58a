//! The list of features or neurons: search, filters, order, pages.

use super::app::{App, Missing, Page, Part, Problem};
use super::view::{UnitView, Units, text_of};
use crate::artifact::grouped;
use crate::features::Dictionary;
use crate::features::store::{Flag, ListQuery, Meta, Sort};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};

const PER_PAGE: u64 = 50;
/// Longest search text, in characters.
pub const MAX_QUERY: usize = 200;
/// Features found by label or number that are put above those found by text.
const MAX_NAMED: usize = 50;
/// Filters that are no flag of the dictionary.
const OTHER_FLAGS: [&str; 3] = ["alive", "labelled", "unlabelled"];

/// What the address of a list says: a view that can be kept as a link. Numbers are texts, because a form sends empty fields.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// Text of a token, a context or a label, or a number.
    pub q: String,
    /// A name of [`SORTS`].
    pub sort: String,
    /// Flags, `labelled`, `unlabelled` or `alive`, separated by commas: all must hold.
    pub flag: String,
    /// Density at least and at most, in per cent of tokens.
    pub from: String,
    pub to: String,
    /// F1 for a known concept at least.
    pub f1: String,
    /// Fires on a token that holds this.
    pub token: String,
    /// Has a label by this author.
    pub author: String,
    /// Is in this list.
    pub list: String,
    /// From 1.
    pub page: u64,
}

impl Ask {
    fn flags(&self) -> impl Iterator<Item = &str> {
        self.flag.split(',').filter(|f| !f.is_empty())
    }

    /// Whether a filter beside search and flags is set: then the page shows them open.
    pub fn is_narrow(&self) -> bool {
        [&self.from, &self.to, &self.f1, &self.token, &self.author, &self.list].iter().any(|field| !field.is_empty())
    }
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
    /// Who has written labels, and which lists there are: choices of the form.
    #[serde(skip)]
    pub authors: Vec<String>,
    #[serde(skip)]
    pub lists: Vec<String>,
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

/// What people have written about units.
struct Said {
    /// The newest label in force.
    labels: HashMap<u32, String>,
    /// Every label in force, one of each author.
    all: Vec<(u32, String)>,
    by_author: Vec<(String, u32)>,
    in_list: Vec<(String, u32)>,
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
        let said = self.said(units, &meta);

        let (with, without) = flags(&ask);
        let (min_density, max_density) = (number(&ask.from)?.map(|p| p / 100.0), number(&ask.to)?.map(|p| p / 100.0));
        let only = self.only(units, &dictionary, &ask, &said)?;
        let ids = only.map(|ids| ids.into_iter().collect());
        let mut query = ListQuery { sort, descending, with, without, min_density, max_density, ids, limit: PER_PAGE, ..Default::default() };
        let known = self.summaries(units, &dictionary)?;
        let mut named: Vec<u32> = vec![];
        if !ask.q.is_empty() {
            let wanted = ask.q.to_lowercase();
            let by_label = said.all.iter().filter(|(_, text)| text.to_lowercase().contains(&wanted)).map(|&(id, _)| id);
            let by_number = ask.q.parse::<u32>().ok().filter(|&n| n < meta.n_units);
            let allowed: Option<HashSet<u32>> = query.ids.as_ref().map(|ids| ids.iter().copied().collect());
            let by_concept = known.of_concept(&wanted).into_iter().take(MAX_NAMED).map(|s| s.id);
            let ids: BTreeSet<u32> =
                by_label.chain(by_number).chain(by_concept).filter(|id| allowed.as_ref().is_none_or(|a| a.contains(id))).collect();
            let ids: Vec<u32> = ids.into_iter().take(MAX_NAMED).collect();
            if !ids.is_empty() {
                named = dictionary.list_ids(&ListQuery { ids: Some(ids), limit: MAX_NAMED as u64, ..query.clone() })?.1;
            }
            query.firing = Some(known.tokens_with(&ask.q).flat_map(|t| t.units.iter().map(|u| u.0)).collect());
            query.text = Some(ask.q.clone());
        }
        query.offset = (ask.page - 1) * PER_PAGE;
        let (mut total, mut found) = dictionary.list_ids(&query)?;
        let last = total.div_ceil(PER_PAGE).max(1);
        if ask.page > last {
            ask.page = last;
            (total, found) = dictionary.list_ids(&ListQuery { offset: (last - 1) * PER_PAGE, ..query })?;
        }
        let first = if ask.page == 1 { named.as_slice() } else { &[] };
        let shown = first.iter().chain(found.iter().filter(|id| !named.contains(id)));
        let rows: Vec<UnitView> = shown.filter_map(|&id| known.get(id as usize)).map(|s| self.unit_view(units, s, &said.labels)).collect();

        let n_pages = total.div_ceil(PER_PAGE).max(1);
        let turn = |page: u64| address(units, &Ask { page, ..ask.clone() });
        let names = |pairs: &[(String, u32)]| pairs.iter().map(|p| p.0.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        Ok(Ok(ListView {
            summary: summary(&ask, total, named.len(), &meta),
            total,
            page: ask.page,
            n_pages,
            previous: (ask.page > 1).then(|| turn((ask.page - 1).min(n_pages))),
            next: (ask.page < n_pages).then(|| turn(ask.page + 1)),
            filters: filters(units, &ask, &meta, said.labels.len()),
            headers: headers(units, &ask),
            authors: names(&said.by_author),
            lists: names(&said.in_list),
            units: rows,
            query: ask,
        }))
    }

    /// Labels and lists that cannot be read are as good as none here; the unit's page says why.
    fn said(&self, units: Units, meta: &Meta) -> Said {
        let store = self.labels(units).ok().flatten();
        let listed = store.as_ref().and_then(|l| l.list(&meta.weights_hash, None).ok()).unwrap_or_default();
        let members = store.and_then(|l| l.members(&meta.weights_hash, None).ok()).unwrap_or_default();
        Said {
            by_author: listed.iter().map(|l| (l.author.clone(), l.latent)).collect(),
            in_list: members.into_iter().map(|m| (m.list, m.latent)).collect(),
            // Listed by latent, then time: the newest comes last and stays.
            labels: listed.iter().map(|l| (l.latent, l.text.clone())).collect(),
            all: listed.into_iter().map(|l| (l.latent, l.text)).collect(),
        }
    }

    /// The units that pass the filters which the dictionary itself does not have; none: it has them all.
    fn only(&self, units: Units, dictionary: &Dictionary, ask: &Ask, said: &Said) -> Page<Option<BTreeSet<u32>>> {
        let mut sets: Vec<BTreeSet<u32>> = vec![];
        let named = |pairs: &[(String, u32)], name: &str| pairs.iter().filter(|p| p.0 == name).map(|p| p.1).collect();
        if ask.flags().any(|f| f == "labelled") {
            sets.push(said.labels.keys().copied().collect());
        }
        if ask.flags().any(|f| f == "unlabelled") {
            sets.push((0..dictionary.meta().n_units).filter(|id| !said.labels.contains_key(id)).collect());
        }
        if !ask.author.is_empty() {
            sets.push(named(&said.by_author, &ask.author));
        }
        if !ask.list.is_empty() {
            sets.push(named(&said.in_list, &ask.list));
        }
        if !ask.token.is_empty() {
            let all = self.summaries(units, dictionary)?;
            sets.push(all.tokens_with(&ask.token).flat_map(|t| t.units.iter().map(|u| u.0)).collect());
        }
        if let Some(f1) = number(&ask.f1)? {
            let all = self.summaries(units, dictionary)?;
            sets.push(all.iter().filter(|s| s.concept.as_ref().is_some_and(|c| c.f1 >= f1)).map(|s| s.id).collect());
        }
        Ok(sets.into_iter().reduce(|a, b| &a & &b))
    }
}

/// The flags that a unit must and must not have.
fn flags(ask: &Ask) -> (Vec<Flag>, Vec<Flag>) {
    let with = Flag::ALL.into_iter().filter(|f| ask.flags().any(|name| name == f.name())).collect();
    let without = if ask.flags().any(|f| f == "alive") { vec![Flag::Dead] } else { vec![] };
    (with, without)
}

/// The column to sort by and whether it falls; an order or a filter that there is not is refused, not passed over.
fn check(ask: &mut Ask) -> Page<(Sort, bool)> {
    if ask.sort.is_empty() {
        ask.sort = SORTS[0].0.into();
    }
    let unknown = |what: &str, name: &str, known: Vec<&str>| Problem::bad(&format!("There is no {what} {name:?}; known are {}.", known.join(", ")));
    let known: Vec<&str> = OTHER_FLAGS.into_iter().chain(Flag::ALL.map(Flag::name)).collect();
    if let Some(name) = ask.flags().find(|name| !known.contains(name)) {
        return Err(unknown("filter", name, known));
    }
    if [&ask.token, &ask.author, &ask.list].iter().any(|field| field.chars().count() > MAX_QUERY) {
        return Err(Problem::bad(&format!("A filter has at most {MAX_QUERY} characters.")));
    }
    let order = SORTS.iter().find(|s| s.0 == ask.sort).map(|s| (s.2, s.3));
    order.ok_or_else(|| unknown("order", &ask.sort, SORTS.iter().map(|s| s.0).collect()))
}

/// A number of the form; an empty field is none.
fn number(text: &str) -> Page<Option<f64>> {
    let text = text.trim();
    let parsed = text.parse::<f64>().ok().filter(|x| x.is_finite());
    if text.is_empty() { Ok(None) } else { parsed.map(Some).ok_or_else(|| Problem::bad(&format!("{text:?} is not a number."))) }
}

fn summary(ask: &Ask, total: u64, n_named: usize, meta: &Meta) -> String {
    let over = format!("densities over {} tokens of {}", grouped(meta.n_tokens), text_of(meta));
    match (ask.q.is_empty(), n_named) {
        (true, _) => format!("{} of {}; {over}", grouped(total), grouped(u64::from(meta.n_units))),
        (false, n) if ask.q.len() < 3 => format!(
            "{}{} with this text in a top token; three letters or more are looked for in contexts too; {over}",
            if n > 0 { format!("{n} by label, known concept or number, ") } else { String::new() },
            grouped(total)
        ),
        (false, 0) => format!("{} with this text in a top token or a context; {over}", grouped(total)),
        (false, n) => format!("{n} by label, known concept or number, {} with this text in a top token or a context; {over}", grouped(total)),
    }
}

/// A chip sets or takes away its flag; the first takes all away.
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
    let (all, labelled) = (u64::from(meta.n_units), n_labelled as u64);
    let fixed = [
        ("", "all", all),
        ("alive", "alive", all.saturating_sub(meta.n_dead)),
        ("labelled", "labelled", labelled),
        ("unlabelled", "unlabelled", all.saturating_sub(labelled)),
    ];
    let flags = Flag::ALL.map(|f| (f.name(), f.name(), count(f)));
    let toggled = |flag: &str| {
        let mut set: Vec<&str> = ask.flags().filter(|f| *f != flag).collect();
        if !ask.flags().any(|f| f == flag) {
            set.push(flag);
        }
        if flag.is_empty() { String::new() } else { set.join(",") }
    };
    let filter = |(flag, name, n): (&'static str, &'static str, u64)| Filter {
        name: format!("{name} {}", grouped(n)),
        href: address(units, &Ask { flag: toggled(flag), page: 1, ..ask.clone() }),
        here: if flag.is_empty() { ask.flag.is_empty() } else { ask.flags().any(|f| f == flag) },
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
        header("mixed", true, &["mixed", "pure"]),
        header("flags", false, &[]),
    ]
}

fn address(units: Units, ask: &Ask) -> String {
    let mut pairs = vec![];
    let fields = [
        ("q", &ask.q),
        ("sort", &ask.sort),
        ("flag", &ask.flag),
        ("from", &ask.from),
        ("to", &ask.to),
        ("f1", &ask.f1),
        ("token", &ask.token),
        ("author", &ask.author),
        ("list", &ask.list),
    ];
    for (name, value) in fields {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_view_keeps_every_filter_and_drops_what_is_empty() {
        let ask = Ask {
            q: "a&b".into(),
            flag: "alive,dense".into(),
            from: "0.1".into(),
            token: " the".into(),
            list: "ש".into(),
            page: 3,
            ..Ask::default()
        };
        assert_eq!(address(Units::Features, &ask), "/features?q=a%26b&flag=alive%2Cdense&from=0.1&token=%20the&list=%D7%A9&page=3");
    }

    #[test]
    fn numbers_and_names_that_are_none_are_refused_with_what_was_said() {
        assert_eq!(number("  ").unwrap(), None);
        assert_eq!(number(" 0.5 ").unwrap(), Some(0.5));
        assert!(number("NaN").is_err() && number("ten").unwrap_err().message.contains("ten"));
        let refused = |flag: &str| check(&mut Ask { flag: flag.into(), ..Ask::default() }).is_err();
        assert!(refused("alive,blue") && !refused("alive,dense,unlabelled,") && check(&mut Ask { sort: "colour".into(), ..Ask::default() }).is_err());
    }
}
