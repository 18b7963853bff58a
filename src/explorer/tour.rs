//! The first page: a few striking features, the most polysemantic neuron beside them, the figures of the run.

use super::app::{App, Page, Part, part};
use super::view::{ContextView, Fact, UnitView, Units, percent, significant, thousands};
use crate::features::Dictionary;
use crate::features::store::{FeatureDetail, FeatureSummary, Flag, GroupKind, ListQuery, Sort};
use serde::Serialize;
use std::collections::HashSet;

const N_FEATURES: usize = 6;
const N_CONTEXTS: usize = 6;

pub const RULE: &str = "Chosen by rule: first features that somebody labelled, then those with the best F1 for a known concept, then the least \
                        polysemantic that fire on three or more different tokens (effectively); dead, ultra-rare, dense, single-token and junk ones are left out. \
                        Each shows two random firings, two from the middle of its range and two of its strongest.";
pub const NEURON_RULE: &str = "Of the model's own neurons, the one whose strongest contexts are about the most unrelated things by the measure of the \
                               dictionary, its contexts chosen as above.";

#[derive(Debug, Serialize)]
pub struct TourPage {
    pub figures: Vec<Fact>,
    pub rule: &'static str,
    pub neuron_rule: &'static str,
    pub n_features: String,
    #[serde(serialize_with = "part")]
    pub features: Part<Vec<Card>>,
    #[serde(serialize_with = "part")]
    pub neurons: Part<Vec<Card>>,
}

/// A unit with a few of its contexts.
#[derive(Debug, Serialize)]
pub struct Card {
    pub unit: UnitView,
    pub contexts: Vec<ContextView>,
}

impl App {
    pub fn tour(&self) -> Page<TourPage> {
        let features = self.dictionary(Units::Features);
        let neurons = self.dictionary(Units::Neurons);
        let n_features = features.as_ref().map(|d| thousands(u64::from(d.meta().n_units))).unwrap_or_default();
        Ok(TourPage {
            figures: self.figures(features.as_ref().ok()),
            rule: RULE,
            neuron_rule: NEURON_RULE,
            n_features,
            features: match features {
                Ok(dictionary) => Ok(self.striking(&dictionary)?),
                Err(missing) => Err(missing),
            },
            neurons: match neurons {
                Ok(dictionary) => Ok(self.most_mixed(&dictionary)?),
                Err(missing) => Err(missing),
            },
        })
    }

    fn striking(&self, dictionary: &Dictionary) -> Page<Vec<Card>> {
        let labels = self.label_texts(Units::Features, dictionary.meta());
        let mut labelled: Vec<u32> = labels.keys().copied().collect();
        labelled.sort_unstable();
        let without = vec![Flag::Dead, Flag::UltraRare, Flag::Dense, Flag::SingleToken, Flag::Junk];
        let plain = ListQuery { without, limit: 40, ..Default::default() };
        let mut chosen: Vec<FeatureSummary> = vec![];
        if !labelled.is_empty() {
            chosen.extend(dictionary.list(&ListQuery { ids: Some(labelled), sort: Sort::Max, descending: true, ..plain.clone() })?.features);
        }
        let by_f1 = dictionary.list(&ListQuery { sort: Sort::F1, descending: true, ..plain.clone() })?.features;
        chosen.extend(by_f1.into_iter().filter(|s| s.concept.as_ref().is_some_and(|c| c.f1 >= 0.6)));
        let pure = dictionary.list(&ListQuery { sort: Sort::Polysemantic, min_density: Some(1e-4), limit: 400, ..plain })?.features;
        chosen.extend(pure.into_iter().filter(|s| s.effective_tokens >= 3.0));
        let (mut seen, mut concepts) = (HashSet::new(), HashSet::new());
        chosen.retain(|s| seen.insert(s.id) && s.concept.as_ref().is_none_or(|c| concepts.insert(c.name.clone())));
        chosen.truncate(N_FEATURES);
        chosen.iter().map(|s| Ok(self.card(dictionary, Units::Features, s, labels.get(&s.id).cloned())?)).collect()
    }

    fn most_mixed(&self, dictionary: &Dictionary) -> Page<Vec<Card>> {
        let labels = self.label_texts(Units::Neurons, dictionary.meta());
        let query =
            ListQuery { sort: Sort::Polysemantic, descending: true, without: vec![Flag::Dead, Flag::UltraRare], limit: 1, ..Default::default() };
        let found = dictionary.list(&query)?.features;
        found.iter().map(|s| Ok(self.card(dictionary, Units::Neurons, s, labels.get(&s.id).cloned())?)).collect()
    }

    fn card(&self, dictionary: &Dictionary, units: Units, summary: &FeatureSummary, label: Option<String>) -> crate::features::Result<Card> {
        let detail = dictionary.feature(summary.id, &self.stream, &self.tokenizer)?;
        Ok(Card { unit: UnitView::new(units, summary, label), contexts: contexts(&detail) })
    }

    /// L0, CE recovered and the rest as `eval.json` has them, the dead as the dictionary counts them.
    fn figures(&self, dictionary: Option<&Dictionary>) -> Vec<Fact> {
        let mut figures = vec![];
        let path = self.run.sae(&self.sae).join("eval.json");
        if let Ok(eval) = crate::artifact::read_json::<crate::sae::Eval>(&path) {
            figures.push(Fact::new("L0", significant(eval.l0), "latents per token"));
            if let Some(ce) = eval.ce_recovered_zero {
                let gap = eval.ce_spliced.zip(eval.ce_clean).map(|(s, c)| format!("against zeroing; {:+.3} nat", s - c)).unwrap_or_default();
                figures.push(Fact::new("CE recovered", percent_of_one(ce), &gap));
            }
            figures.push(Fact::new("explained variance", percent_of_one(eval.explained_variance), ""));
        }
        if let Some(meta) = dictionary.map(Dictionary::meta) {
            let dead = meta.n_dead as f64 / f64::from(meta.n_units.max(1));
            figures.push(Fact::new(
                "dead",
                percent(dead),
                &format!("of {} on {} tokens", thousands(u64::from(meta.n_units)), thousands(meta.n_tokens)),
            ));
            figures.push(Fact::new("ultra-rare, junk", format!("{}, {}", thousands(meta.n_ultra_rare), thousands(meta.n_junk)), "features"));
            figures.push(Fact::new("hook", format!("{} wide", thousands(meta.d_in as u64)), &meta.hook));
        }
        figures
    }
}

fn percent_of_one(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Two random firings, two from the middle of the range, two of the strongest; then what is needed to fill up.
fn contexts(detail: &FeatureDetail) -> Vec<ContextView> {
    let of = |kind: GroupKind| detail.groups.iter().filter(move |g| g.kind == kind).collect::<Vec<_>>();
    let quantiles = of(GroupKind::Quantile);
    let middle = quantiles.get(quantiles.len() / 2).into_iter().flat_map(|g| g.examples.iter());
    let random = of(GroupKind::Random).into_iter().flat_map(|g| g.examples.iter());
    let top = of(GroupKind::Top).into_iter().flat_map(|g| g.examples.iter());
    let rest = detail.groups.iter().flat_map(|g| g.examples.iter());
    let mut seen = HashSet::new();
    let mut chosen = vec![];
    let sources: [(Box<dyn Iterator<Item = _>>, usize); 4] =
        [(Box::new(random), 2), (Box::new(middle), 2), (Box::new(top), 2), (Box::new(rest), N_CONTEXTS)];
    for (source, n) in sources {
        let fresh: Vec<_> = source.filter(|e| seen.insert(e.t)).take(n).collect();
        chosen.extend(fresh);
    }
    chosen.truncate(N_CONTEXTS);
    chosen.sort_by(|a, b| b.act.total_cmp(&a.act));
    chosen.into_iter().map(|e| ContextView::new(e, detail.summary.max_act)).collect()
}
