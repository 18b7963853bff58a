//! What a unit's page says beside its contexts: what kind of unit it is, when and where in a window it fires, its neighbours, and the hook's
//! coordinates that go along with it.

use super::app::{App, Page};
use super::view::{Bar, UnitView, Units, percent};
use crate::artifact::grouped;
use crate::features::Dictionary;
use crate::features::store::{CorrelatedFeature, FeatureDetail, ListQuery, LossEffects, Meta, Neighbor};
use serde::Serialize;
use std::collections::HashMap;

#[derive(Debug, Serialize)]
pub struct EvidenceView {
    /// Empty in a dictionary of version 1.
    pub category: &'static str,
    /// Its rule.
    #[serde(skip)]
    pub rule: &'static str,
    /// Share of tokens on which it fires in each part of the pass, and at each bin of the position in the window.
    pub over_time: Vec<f32>,
    pub over_position: Vec<f32>,
    #[serde(skip)]
    pub time_bars: Vec<Bar>,
    #[serde(skip)]
    pub position_bars: Vec<Bar>,
    pub coactive: Vec<NearView>,
    /// What the estimates are worth.
    #[serde(skip)]
    pub coactive_note: String,
    pub similar: Vec<NearView>,
    /// Units by correlation of their activations, with its standard deviation.
    pub along: Vec<NearView>,
    /// By correlation; by entry of the decoder direction.
    pub correlated: Vec<NeuronView>,
    /// They would have taken too much memory.
    #[serde(skip)]
    pub uncorrelated: bool,
    pub aligned: Vec<NeuronView>,
    /// What underlines mean, or why there are none.
    pub loss_note: String,
    /// Whether there are any.
    #[serde(skip)]
    pub has_loss: bool,
    /// Whether the hook's coordinates are neurons, which have pages of their own.
    pub of_neurons: bool,
}

/// Another unit, as `UnitView` has it.
#[derive(Debug, Serialize)]
pub struct NearView {
    pub index: u32,
    pub href: String,
    /// Its label, or its strongest tokens.
    pub title: String,
    pub value: String,
}

#[derive(Debug, Serialize)]
pub struct NeuronView {
    pub neuron: u32,
    pub value: String,
    pub note: String,
}

impl App {
    pub fn evidence(&self, units: Units, dictionary: &Dictionary, detail: &FeatureDetail) -> Page<EvidenceView> {
        let meta = dictionary.meta();
        let ids: Vec<u32> = detail.coactive.iter().chain(&detail.similar).map(|n| n.id).chain(detail.correlated.iter().map(|c| c.id)).collect();
        let n_ids = ids.len() as u64;
        let near = dictionary.list(&ListQuery { ids: Some(ids), limit: n_ids, ..Default::default() })?.features;
        let labels = self.label_texts(units, meta);
        let near: HashMap<u32, UnitView> = near.iter().map(|s| (s.id, UnitView::new(units, s, labels.get(&s.id).cloned()))).collect();
        let views =
            |neighbors: &[Neighbor]| neighbors.iter().filter_map(|n| Some(near_view(n.id, format!("{:.2}", n.value), near.get(&n.id)?))).collect();
        let along = |c: &CorrelatedFeature| {
            let value = match c.sd {
                Some(sd) if sd >= 0.005 => format!("{:.2} ± {sd:.2}", c.pearson),
                _ => format!("{:.2}", c.pearson),
            };
            Some(near_view(c.id, value, near.get(&c.id)?))
        };
        let neuron = |neuron: u32, value: f32, note: String| NeuronView { neuron, value: format!("{value:+.2}"), note };
        let category = detail.summary.category;
        let positions = meta
            .position_edges
            .windows(2)
            .map(|e| if e[1] == e[0] + 1 { format!("position {}", e[0]) } else { format!("positions {} to {}", e[0], e[1] - 1) });
        let parts = (1..=detail.over_time.len()).map(|i| format!("part {i} of {} of the text", detail.over_time.len()));
        Ok(EvidenceView {
            category: category.map_or("", |c| c.name()),
            rule: category.map_or("", |c| c.rule()),
            time_bars: bars(&detail.over_time, parts),
            position_bars: bars(&detail.over_position, positions),
            over_time: detail.over_time.clone(),
            over_position: detail.over_position.clone(),
            coactive: views(&detail.coactive),
            coactive_note: format!("tokens on which both fire over tokens on which either does, ± {:.2}", meta.coactive_sd),
            similar: views(&detail.similar),
            along: detail.correlated.iter().filter_map(along).collect(),
            correlated: detail.neurons.iter().map(|n| neuron(n.neuron, n.pearson, String::new())).collect(),
            uncorrelated: units == Units::Features && meta.has_no_room_for_correlations(),
            aligned: detail.alignment.iter().map(|a| neuron(a.neuron, a.value, percent(a.share as f64))).collect(),
            loss_note: loss_note(meta),
            of_neurons: meta.reads_neurons(),
            has_loss: meta.loss_effects == LossEffects::Exact,
        })
    }
}

fn near_view(index: u32, value: String, unit: &UnitView) -> NearView {
    let tokens = || unit.tokens.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(" ");
    NearView { index, href: unit.href(), title: unit.label.clone().unwrap_or_else(tokens), value }
}

/// Bars over a width of 300 and a height of 36, the tallest the highest density.
fn bars(densities: &[f32], names: impl Iterator<Item = String>) -> Vec<Bar> {
    let most = densities.iter().copied().fold(0.0, f32::max);
    if most <= 0.0 {
        return vec![];
    }
    let width = 300.0 / densities.len() as f64;
    let bar = |(i, (&density, name)): (usize, (&f32, String))| {
        let height = 36.0 * (density / most) as f64;
        Bar {
            x: format!("{:.1}", i as f64 * width),
            y: format!("{:.1}", 36.0 - height),
            width: format!("{:.1}", (width - 1.0).max(0.5)),
            height: format!("{height:.1}"),
            title: format!("{name}: {} of tokens", percent(density as f64)),
        }
    };
    densities.iter().zip(names).enumerate().map(bar).collect()
}

fn loss_note(meta: &Meta) -> String {
    match &meta.loss_effects {
        LossEffects::Exact => "Underlined: the loss of that token when the feature is removed from the token before it. Blue: it rises, the feature \
                               helps; red and dotted: it falls. Thin from 0.01 nat, thicker from 0.1 and 0.5. Exact, the SAE's error kept; measured at up to eight \
                               firings of each context."
            .into(),
        LossEffects::NotMeasured => "Effects on the loss were not measured when this dictionary was built.".into(),
        LossEffects::NotExact { why } => format!("Effects on the loss are not shown: {why}."),
    }
}

/// The census of a dictionary: categories that are not empty, each with its rule.
#[derive(Debug, Serialize)]
pub struct CensusRow {
    pub name: &'static str,
    pub rule: &'static str,
    pub n: String,
    pub share: String,
}

pub fn census(meta: &Meta) -> Vec<CensusRow> {
    let all = meta.census.iter().map(|c| c.n).sum::<u64>().max(1) as f64;
    let row = |c: &crate::features::store::CategoryCount| CensusRow {
        name: c.category.name(),
        rule: c.category.rule(),
        n: grouped(c.n),
        share: percent(c.n as f64 / all),
    };
    meta.census.iter().filter(|c| c.n > 0).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_tall_as_their_densities_and_nothing_is_drawn_of_nothing() {
        let drawn = bars(&[0.1, 0.0, 0.2], ["a", "b", "c"].map(String::from).into_iter());
        assert_eq!(drawn.iter().map(|b| b.height.as_str()).collect::<Vec<_>>(), ["18.0", "0.0", "36.0"]);
        assert_eq!((drawn[2].x.as_str(), drawn[2].title.as_str()), ("200.0", "c: 20 % of tokens"));
        assert!(bars(&[0.0, 0.0], ["a", "b"].map(String::from).into_iter()).is_empty());
    }
}
