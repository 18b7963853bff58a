//! Which tokens a unit fires on: exact counts and summed activations of the first `cap` distinct tokens, the rest in one bucket.

use serde::{Deserialize, Serialize};

/// One token's firings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenMass {
    pub token: u32,
    pub n: u32,
    /// Summed activation.
    pub mass: f64,
}

/// A hash table with open addressing (a unit sees millions of firings; the standard map's hash would dominate the pass).
/// A slot is empty where `n` is 0; the number of slots is a power of two, at most half full.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenTable {
    slots: Vec<TokenMass>,
    n_used: usize,
    /// Firings on tokens that came after the table was full.
    pub rest: TokenMass,
}

impl TokenTable {
    pub fn add(&mut self, token: u32, act: f32, cap: usize) {
        if 2 * (self.n_used + 1) > self.slots.len() {
            self.grow();
        }
        let at = self.find(token);
        let slot = &mut self.slots[at];
        if slot.n == 0 {
            if self.n_used == cap {
                self.rest.n += 1;
                self.rest.mass += act as f64;
                return;
            }
            self.n_used += 1;
            slot.token = token;
        }
        slot.n += 1;
        slot.mass += act as f64;
    }

    /// Every kept token, by token id.
    pub fn sorted(&self) -> Vec<TokenMass> {
        let mut kept: Vec<_> = self.slots.iter().copied().filter(|s| s.n > 0).collect();
        kept.sort_unstable_by_key(|s| s.token);
        kept
    }

    /// The slot of `token`, or the empty one where it belongs.
    fn find(&self, token: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (token.wrapping_mul(0x9E37_79B1) >> 7) as usize & mask;
        while self.slots[at].n > 0 && self.slots[at].token != token {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![TokenMass::default(); (2 * old.len()).max(8)];
        for slot in old.into_iter().filter(|s| s.n > 0) {
            let at = self.find(slot.token);
            self.slots[at] = slot;
        }
    }
}

/// A token that counted at least once, and the units with most activation on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenUnits {
    pub token: u32,
    /// Occurrences.
    pub n: u64,
    /// (unit, its firings on the token, their summed activation), most activation first, then by number.
    pub units: Vec<(u32, u32, f64)>,
}

/// Turns the units' tables over: of each token with `occurrences[token]` above 0 the `n_best` units. Only tokens that a unit kept apart count.
pub fn units_of_tokens<'a>(occurrences: &[u64], n_best: usize, tables: impl Iterator<Item = &'a TokenTable>) -> Vec<TokenUnits> {
    let mut best: Vec<Vec<(u32, u32, f64)>> = vec![vec![]; occurrences.len()];
    let more = |a: &(u32, u32, f64), b: &(u32, u32, f64)| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0));
    for (unit, table) in tables.enumerate() {
        for slot in table.slots.iter().filter(|s| s.n > 0) {
            let best = &mut best[slot.token as usize];
            let new = (unit as u32, slot.n, slot.mass);
            if best.len() == n_best && best.last().is_some_and(|worst| more(worst, &new).is_lt()) {
                continue;
            }
            let at = best.partition_point(|old| more(old, &new).is_lt());
            best.insert(at, new);
            best.truncate(n_best);
        }
    }
    let there = occurrences.iter().zip(best).enumerate().filter(|(_, (n, _))| **n > 0);
    there.map(|(token, (&n, units))| TokenUnits { token: token as u32, n, units }).collect()
}

/// exp(entropy) of the summed activation over tokens. The bucket counts as one token, so it is a lower bound where the bucket is not empty.
pub fn effective_tokens(masses: impl Iterator<Item = f64> + Clone) -> f64 {
    let total: f64 = masses.clone().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let entropy: f64 = masses.filter(|&m| m > 0.0).map(|m| m / total).map(|p| -p * p.ln()).sum();
    entropy.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_like_a_map_until_it_is_full() {
        let (mut table, mut map) = (TokenTable::default(), std::collections::BTreeMap::new());
        for i in 0..1000u32 {
            let token = i * i % 61;
            table.add(token, 0.5, 100);
            *map.entry(token).or_insert(0) += 1;
        }
        assert_eq!(table.sorted().iter().map(|s| (s.token, s.n)).collect::<Vec<_>>(), map.into_iter().collect::<Vec<_>>());
        let mut small = TokenTable::default();
        (0..10).for_each(|token| small.add(token, 1.0, 3));
        assert_eq!(small.sorted().iter().map(|s| s.token).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((small.rest.n, small.rest.mass), (7, 7.0));
    }

    #[test]
    fn a_token_lists_its_units_by_activation() {
        let mut tables = vec![TokenTable::default(); 3];
        for (unit, token, act) in [(0, 4, 1.0), (1, 4, 3.0), (2, 4, 2.0), (2, 4, 0.5), (1, 7, 1.0), (0, 7, 1.0)] {
            tables[unit].add(token, act, 9);
        }
        let mut occurrences = vec![0; 9];
        (occurrences[4], occurrences[7], occurrences[8]) = (5, 2, 1);
        let found = units_of_tokens(&occurrences, 2, tables.iter());
        let want = |token, n, units: &[(u32, u32, f64)]| TokenUnits { token, n, units: units.to_vec() };
        assert_eq!(found, [want(4, 5, &[(1, 1, 3.0), (2, 2, 2.5)]), want(7, 2, &[(0, 1, 1.0), (1, 1, 1.0)]), want(8, 1, &[])]);
    }

    #[test]
    fn effective_tokens_of_equal_masses_is_their_number() {
        assert!((effective_tokens([2.0, 2.0, 2.0].into_iter()) - 3.0).abs() < 1e-12);
        assert_eq!(effective_tokens([5.0].into_iter()), 1.0);
        assert_eq!(effective_tokens(std::iter::empty()), 0.0);
    }
}
