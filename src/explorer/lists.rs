//! Named lists of features and neurons, bookmarks among them; and what was labelled last.

use super::app::{App, Page, Problem};
use super::list::url_text;
use super::view::{UnitView, Units};
use crate::artifact::grouped;
use crate::labels::Step;
use crate::labels::lists::{BOOKMARKS, MAX_NAME};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a page's form sends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PutForm {
    pub list: String,
    /// `in` or `out`.
    pub to: String,
    pub author: String,
}

/// Steps that are shown of each kind of unit.
const N_STEPS: usize = 12;

#[derive(Debug, Serialize)]
pub struct ListsPage {
    pub lists: Vec<NamedList>,
    /// For each kind of unit that somebody labelled.
    pub labelled: Vec<Labelled>,
}

/// What was labelled last, the newest first.
#[derive(Debug, Serialize)]
pub struct Labelled {
    pub kind: &'static str,
    pub path: &'static str,
    pub steps: Vec<StepView>,
}

#[derive(Debug, Serialize)]
pub struct StepView {
    /// The unit; none where it is an import of several labels.
    pub index: Option<u32>,
    pub text: String,
    pub author: String,
    pub when: String,
}

#[derive(Debug, Serialize)]
pub struct NamedList {
    pub name: String,
    /// Addresses of the same as a list that can be sorted and filtered, one for each kind of unit in it.
    pub hrefs: Vec<(&'static str, String)>,
    pub units: Vec<UnitView>,
}

/// The lists that a unit may be in, for its page.
#[derive(Debug, Default, Serialize)]
pub struct InLists {
    pub bookmarked: bool,
    /// Those that it is in, bookmarks left out.
    pub of: Vec<String>,
    /// Every other name there is.
    pub others: Vec<String>,
}

fn step(step: Step) -> StepView {
    let Step { label, n, .. } = step;
    let text = match (n, label.text.is_empty()) {
        (1, true) => "taken away".into(),
        (1, false) => label.text,
        (n, _) => format!("an import of {} labels", grouped(n as u64)),
    };
    StepView { index: (n == 1).then_some(label.latent), text, author: if n == 1 { label.author } else { String::new() }, when: label.time }
}

impl App {
    pub fn lists(&self) -> Page<ListsPage> {
        let mut lists: BTreeMap<String, NamedList> = BTreeMap::new();
        let mut labelled = vec![];
        for units in [Units::Features, Units::Neurons] {
            let Ok(dictionary) = self.dictionary(units) else { continue };
            let meta = dictionary.meta().clone();
            let Some(store) = self.labels(units)? else { continue };
            let steps: Vec<StepView> = store.steps(&meta.weights_hash, None, N_STEPS)?.into_iter().map(step).collect();
            if !steps.is_empty() {
                labelled.push(Labelled { kind: units.title(), path: units.path(), steps });
            }
            let members = store.members(&meta.weights_hash, None)?;
            let labels = self.label_texts(units, &meta);
            for member in members {
                let summary = dictionary.summary(member.latent)?;
                let new = || NamedList { name: member.list.clone(), hrefs: vec![], units: vec![] };
                let list = lists.entry(member.list.clone()).or_insert_with(new);
                list.units.push(self.unit_view(units, &summary, &labels));
                if list.hrefs.iter().all(|h| h.0 != units.title()) {
                    list.hrefs.push((units.title(), format!("{}?list={}", units.path(), url_text(&member.list))));
                }
            }
        }
        Ok(ListsPage { lists: lists.into_values().collect(), labelled })
    }

    /// Puts a unit into a list or takes it out.
    pub fn put_in_list(&self, units: Units, id: u32, form: &PutForm) -> Page<()> {
        let dictionary = self.dictionary(units)?;
        dictionary.summary(id)?;
        let member = match form.to.as_str() {
            "in" => true,
            "out" => false,
            other => return Err(Problem::bad(&format!("Say to=in or to=out, not {other:?}."))),
        };
        let author = if form.author.trim().is_empty() { "somebody" } else { form.author.trim() };
        if form.list.trim().is_empty() || form.list.chars().count() > MAX_NAME || author.chars().count() > super::unit::MAX_AUTHOR {
            return Err(Problem::bad(&format!("A list has a name of 1 to {MAX_NAME} characters.")));
        }
        Ok(self.labels_to_write(units)?.put(&dictionary.meta().weights_hash, &form.list, id, member, author)?)
    }

    /// Lists that cannot be read are as good as none; the form for labels says why.
    pub fn in_lists(&self, units: Units, weights_hash: &str, id: u32) -> InLists {
        let store = self.labels(units).ok().flatten();
        let members = store.and_then(|l| l.members(weights_hash, None).ok()).unwrap_or_default();
        let mut lists = InLists::default();
        for member in members {
            let own = member.latent == id;
            match own {
                true if member.list == BOOKMARKS => lists.bookmarked = true,
                true => lists.of.push(member.list),
                false => lists.others.push(member.list),
            }
        }
        lists.others.retain(|name| name != BOOKMARKS && !lists.of.contains(name));
        lists.others.dedup();
        lists
    }
}
