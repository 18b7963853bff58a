//! How many unrelated things a unit's strongest contexts are about.
//!
//! score = effective firing tokens among the strongest examples (one per document, weighted by activation)
//!         x (1 - mean similarity of their contexts).
//! Similarity of two contexts is the weighted Jaccard index of the sets of tokens from 16 before the firing to the firing itself, a token
//! weighing -ln of its share of contexts. A unit for one word has 1 effective token; one for a script or a register has many tokens in
//! similar contexts; a polysemantic one has several tokens in unrelated contexts. The scale is our own: use it to sort, not to compare models.

use super::collect::{Collected, effective_tokens};
use super::store::GroupKind;
use super::text::Text;
use rayon::prelude::*;
use std::collections::HashMap;

/// Tokens before a firing that count as its context.
const BEFORE: u64 = 16;

/// One score per unit; 0 where it has no examples.
pub fn scores(units: &[Collected], text: &dyn Text) -> Vec<f64> {
    let contexts: Vec<Vec<(u32, f32, Vec<u32>)>> = units.par_iter().map(|unit| contexts(unit, text)).collect();
    let mut n_with: HashMap<u32, u32> = HashMap::new();
    contexts.iter().flatten().flat_map(|(_, _, set)| set).for_each(|&token| *n_with.entry(token).or_default() += 1);
    let n_contexts: usize = contexts.iter().map(Vec::len).sum();
    let weight = |token: &u32| (n_contexts as f64 / n_with[token] as f64).ln();
    contexts.par_iter().map(|examples| score(examples, &weight)).collect()
}

/// (firing token, activation, sorted set of context tokens) of the strongest examples.
fn contexts(unit: &Collected, text: &dyn Text) -> Vec<(u32, f32, Vec<u32>)> {
    let top = unit.groups.iter().filter(|g| g.kind == GroupKind::Top).flat_map(|g| &g.firings);
    top.map(|f| {
        let mut ids = text.ids(f.t.saturating_sub(BEFORE), f.t + 1);
        let token = *ids.last().expect("a firing is inside the stream");
        ids.sort_unstable();
        ids.dedup();
        (token, f.act, ids)
    })
    .collect()
}

fn score(examples: &[(u32, f32, Vec<u32>)], weight: &impl Fn(&u32) -> f64) -> f64 {
    let mut masses: Vec<(u32, f64)> = examples.iter().map(|e| (e.0, e.1 as f64)).collect();
    masses.sort_by_key(|m| m.0);
    let masses: Vec<f64> = masses.chunk_by(|a, b| a.0 == b.0).map(|same| same.iter().map(|m| m.1).sum()).collect();
    let (mut similarity, mut n_pairs) = (0.0, 0);
    for (i, a) in examples.iter().enumerate() {
        for b in &examples[..i] {
            let shared: f64 = a.2.iter().filter(|token| b.2.binary_search(token).is_ok()).map(weight).sum();
            let all = a.2.iter().map(weight).sum::<f64>() + b.2.iter().map(weight).sum::<f64>() - shared;
            similarity += if all > 0.0 { shared / all } else { 1.0 };
            n_pairs += 1;
        }
    }
    effective_tokens(masses.into_iter()) * (1.0 - similarity / n_pairs.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unrelated_contexts_score_above_one_register_and_one_word() {
        // Contexts of three tokens each; every token weighs 1.
        let unit = |tokens: [u32; 3], sets: [[u32; 3]; 3]| {
            let examples: Vec<_> = tokens.into_iter().zip(sets).map(|(t, set)| (t, 1.0, set.to_vec())).collect();
            score(&examples, &|_| 1.0)
        };
        let unrelated = unit([1, 2, 3], [[1, 11, 12], [2, 21, 22], [3, 31, 32]]);
        let register = unit([1, 2, 3], [[1, 2, 3], [1, 2, 3], [1, 2, 3]]);
        let word = unit([1, 1, 1], [[1, 11, 12], [1, 21, 22], [1, 31, 32]]);
        // One word: 1 effective token; each pair shares 1 of 5 tokens.
        assert!((unrelated - 3.0).abs() < 1e-12 && register.abs() < 1e-12 && (word - 0.8).abs() < 1e-12, "{unrelated} {register} {word}");
    }
}
