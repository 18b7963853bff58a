//! The page of one feature or neuron: its contexts, histogram, logit effects, and its label with who wrote it when.

use super::app::{App, Page, Part, Problem, part};
use super::evidence::EvidenceView;
use super::lists::InLists;
use super::view::{self, EffectView, Fact, GroupView, HistogramView, UnitView, Units};
use crate::artifact::grouped;
use crate::features::shares::{self, Card};
use crate::features::store::{Flag, Histogram, ListQuery, Meta};
use crate::labels::Label;
use serde::Serialize;

/// Longest label and author, in characters.
pub const MAX_LABEL: usize = 500;
pub const MAX_AUTHOR: usize = 80;

#[derive(Debug, Serialize)]
pub struct UnitPage {
    pub unit: UnitView,
    pub n_tokens: String,
    pub facts: Vec<Fact>,
    /// What one of them is.
    #[serde(skip)]
    pub groups_note: String,
    /// Addresses of the neighbours that are not dead.
    pub previous: Option<String>,
    pub next: Option<String>,
    pub groups: Vec<GroupView>,
    pub raised: Vec<EffectView>,
    pub lowered: Vec<EffectView>,
    #[serde(serialize_with = "part")]
    pub labels: Part<LabelsView>,
    #[serde(rename = "histogram")]
    pub counts: Histogram,
    #[serde(skip)]
    pub histogram: HistogramView,
    /// What it answers to, as shares of its activation.
    pub card: Card,
    pub lists: InLists,
    pub evidence: EvidenceView,
    /// Address of the steering page for this feature.
    pub steer: Option<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct LabelsView {
    /// What the form starts with: the newest label in force and its author.
    pub current: String,
    pub author: String,
    /// Every label in force, the newest first: one of each author.
    pub in_force: Vec<Change>,
    /// Newest first.
    pub history: Vec<Change>,
    /// The newest change came with an import of so many labels, which can be taken back whole.
    pub import: Option<usize>,
}

#[derive(Debug, Serialize)]
pub struct Change {
    /// Empty where a label was removed.
    pub text: String,
    pub author: String,
    pub when: String,
}

impl App {
    pub fn unit(&self, units: Units, id: u32) -> Page<UnitPage> {
        let dictionary = self.dictionary(units)?;
        let meta = dictionary.meta().clone();
        let detail = dictionary.feature(id, &self.stream, &self.tokenizer)?;
        let labels = self.labels_of(units, &meta, id);
        let label = labels.as_ref().ok().map(|l| l.current.clone()).filter(|text| !text.is_empty());
        let beside = |descending: bool| -> Page<Option<String>> {
            // The list cannot start at a number, so the nearest living neighbours are looked for in steps.
            for reach in [16u32, 256, 4096] {
                let ids: Vec<u32> = if descending {
                    (id.saturating_sub(reach)..id).collect()
                } else {
                    (id + 1..(id + reach).saturating_add(1).min(meta.n_units)).collect()
                };
                if ids.is_empty() {
                    return Ok(None);
                }
                let query = ListQuery { ids: Some(ids), without: vec![Flag::Dead], descending, limit: 1, ..Default::default() };
                if let Some(found) = dictionary.list(&query)?.features.first() {
                    return Ok(Some(format!("{}/{}", units.path(), found.id)));
                }
            }
            Ok(None)
        };
        let card = shares::card(&detail, &self.stream);
        Ok(UnitPage {
            card,
            previous: beside(true)?,
            next: beside(false)?,
            unit: UnitView::new(units, &detail.summary, label),
            n_tokens: grouped(meta.n_tokens),
            facts: view::facts(&detail.summary, &meta),
            groups_note: view::groups_note(&meta),
            groups: {
                let mut groups = view::groups(&detail, &format!("{}/{id}", units.path()));
                // Without a model no firing can be taken apart.
                let has_why = !self.is_imported();
                groups.iter_mut().flat_map(|g| &mut g.parts).flat_map(|p| &mut p.contexts).for_each(|c| c.has_why = has_why);
                groups
            },
            raised: view::effects(&detail.logits_up),
            lowered: view::effects(&detail.logits_down),
            labels,
            histogram: view::histogram(&detail.histogram),
            evidence: self.evidence(units, &dictionary, &detail)?,
            counts: detail.histogram,
            lists: self.in_lists(units, &meta.weights_hash, id),
            steer: (units == Units::Features && detail.summary.n_active > 0).then(|| format!("/steer?feature={id}")),
        })
    }

    fn labels_of(&self, units: Units, meta: &Meta, id: u32) -> Part<LabelsView> {
        let missing = |p: Problem| super::app::Missing { what: format!("Labels cannot be shown: {}", p.message), next: p.next };
        let Some(store) = self.labels(units).map_err(missing)? else { return Ok(LabelsView::default()) };
        let read = || -> Page<LabelsView> {
            let in_force = store.list(&meta.weights_hash, Some(id))?;
            let mut history = store.history(&meta.weights_hash, id)?;
            history.reverse();
            let newest = in_force.last();
            let change = |l: Label| Change { text: l.text, author: l.author, when: l.time };
            let last = store.steps(&meta.weights_hash, Some(id), 1)?.pop();
            Ok(LabelsView {
                import: last.filter(|step| step.n > 1).map(|step| step.n),
                current: newest.map(|l| l.text.clone()).unwrap_or_default(),
                author: newest.map(|l| l.author.clone()).unwrap_or_default(),
                history: history.into_iter().map(change).collect(),
                in_force: in_force.into_iter().rev().map(change).collect(),
            })
        };
        read().map_err(missing)
    }

    pub fn set_label(&self, units: Units, id: u32, text: &str, author: &str) -> Page<()> {
        let dictionary = self.dictionary(units)?;
        dictionary.summary(id)?;
        let (text, author) = (text.trim(), author.trim());
        if author.is_empty() || author.chars().count() > MAX_AUTHOR || text.chars().count() > MAX_LABEL {
            return Err(Problem::bad(&format!("A label has an author of 1 to {MAX_AUTHOR} characters and at most {MAX_LABEL} characters of text.")));
        }
        if text.chars().chain(author.chars()).any(|c| c.is_control() && c != '\n') {
            return Err(Problem::bad("A label is plain text without control characters."));
        }
        Ok(self.labels_to_write(units)?.set(&dictionary.meta().weights_hash, id, text, author)?)
    }

    /// Takes back the last change to a unit's labels, or the whole import with which it came.
    pub fn undo_label(&self, units: Units, id: u32, import: bool) -> Page<()> {
        let dictionary = self.dictionary(units)?;
        dictionary.summary(id)?;
        let (mut labels, weights) = (self.labels_to_write(units)?, &dictionary.meta().weights_hash);
        if import {
            labels.undo_import_of(weights, id)?
        } else {
            labels.undo_of(weights, id)?
        };
        Ok(())
    }

    /// Takes back the last step that was made to labels of these units: a change, or a whole import.
    pub fn undo_step(&self, units: Units) -> Page<()> {
        let dictionary = self.dictionary(units)?;
        self.labels_to_write(units)?.undo(&dictionary.meta().weights_hash)?;
        Ok(())
    }
}
