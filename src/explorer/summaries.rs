//! What the pages keep in memory of a dictionary: every unit's summary, and which units fire on a token. Pure data.

use crate::features::store::{FeatureSummary, has_word};
use std::collections::BTreeMap;
use std::ops::Deref;

/// Summaries by number of the unit.
#[derive(Debug, Default)]
pub struct Summaries {
    all: Vec<FeatureSummary>,
    tokens: Vec<FiredOn>,
}

/// A token and the units of which it is a top token.
#[derive(Debug)]
pub struct FiredOn {
    /// Decoded on its own, with U+FFFD for what is not UTF-8.
    pub text: String,
    /// In lower case.
    pub lower: String,
    /// (unit, the token's share of its activation), by unit.
    pub units: Vec<(u32, f64)>,
}

impl Deref for Summaries {
    type Target = [FeatureSummary];

    fn deref(&self) -> &[FeatureSummary] {
        &self.all
    }
}

impl Summaries {
    pub fn new(all: Vec<FeatureSummary>) -> Self {
        let mut tokens: BTreeMap<u32, FiredOn> = BTreeMap::new();
        for summary in &all {
            for top in &summary.top_tokens {
                let text = &top.token.text;
                let entry = tokens.entry(top.token.id).or_insert_with(|| FiredOn { text: text.clone(), lower: text.to_lowercase(), units: vec![] });
                entry.units.push((summary.id, top.mass));
            }
        }
        Summaries { all, tokens: tokens.into_values().collect() }
    }

    /// Units whose best known concept has `wanted` (in lower case) in its name: as a word of its own first, then by F1.
    pub fn of_concept(&self, wanted: &str) -> Vec<&FeatureSummary> {
        let mut found: Vec<(bool, f64, &FeatureSummary)> = self
            .all
            .iter()
            .filter_map(|s| {
                let concept = s.concept.as_ref()?;
                let name = concept.name.to_lowercase();
                name.contains(wanted).then(|| (!has_word(&name, wanted), concept.f1, s))
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.id.cmp(&b.2.id)));
        found.into_iter().map(|(_, _, s)| s).collect()
    }

    /// Tokens that hold `text`, whatever the case.
    pub fn tokens_with(&self, text: &str) -> impl Iterator<Item = &FiredOn> {
        let wanted = text.to_lowercase();
        self.tokens.iter().filter(move |t| t.lower.contains(&wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::store::{FiringToken, TokenText};

    pub fn summary(id: u32, tokens: &[(u32, &str, f64)]) -> FeatureSummary {
        let top = |&(id, text, mass): &(u32, &str, f64)| FiringToken { token: TokenText::new(id, text.as_bytes()), n: 1, mass };
        let json = serde_json::json!({
            "id": id, "neuron": null, "positive": true, "density": 0.1, "n_active": 5, "max_act": 2.0, "mean_act": 1.0, "flags": [],
            "top_tokens": tokens.iter().map(top).collect::<Vec<_>>(), "effective_tokens": 1.0, "tokens_exact": true, "polysemantic": 1.0,
            "enc_dec_cosine": null, "concept": null, "category": null,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_token_leads_to_the_units_that_fire_on_it_whatever_its_case() {
        let all =
            Summaries::new(vec![summary(0, &[(7, " The", 0.9), (3, "x", 0.1)]), summary(1, &[(7, " The", 0.25)]), summary(2, &[(9, "tthe", 1.0)])]);
        let found: Vec<_> = all.tokens_with("the").map(|t| (t.text.as_str(), t.units.clone())).collect();
        assert_eq!(found, [(" The", vec![(0, 0.9), (1, 0.25)]), ("tthe", vec![(2, 1.0)])]);
        assert_eq!((all.len(), all.tokens_with("zebra").count()), (3, 0));
    }
}
