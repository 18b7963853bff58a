//! Which units fire on the same tokens, from a bounded sketch of each unit's set of tokens.
//!
//! Each unit keeps the k tokens with the smallest hashes among those it fires on; the hash is of t alone, so the sketches of all units are
//! samples of the same tokens. Of two units, the k smallest hashes of the union of their sketches are a uniform sample of the union of
//! their sets, and the share of these that are in both sketches estimates the Jaccard index J = |A and B| / |A or B|. Its standard
//! deviation is sqrt(J (1 - J) / k) <= 1 / (2 sqrt(k)); it is exact where the union has at most k tokens.
//! Sources: Broder 1997, "On the resemblance and containment of documents", section 4; Cohen 1997, "Size-estimation framework".
//!
//! Memory: at most 1.5 k hashes of 8 bytes per unit, and never a table of units by units.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The k smallest hashes offered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// The k smallest so far are among these.
    hashes: Vec<u64>,
    /// None above it is needed, once there are k; 0 before.
    bound: u64,
}

impl Sketch {
    pub fn offer(&mut self, k: usize, hash: u64) {
        if k == 0 || (self.bound != 0 && hash > self.bound) {
            return;
        }
        self.hashes.push(hash);
        // Half as many again may wait, so that selecting is seldom.
        if self.hashes.len() >= k + k.div_ceil(2) {
            self.shrink(k);
        }
    }

    fn shrink(&mut self, k: usize) {
        if self.hashes.len() > k {
            self.hashes.select_nth_unstable(k - 1);
            self.hashes.truncate(k);
            self.bound = *self.hashes.iter().max().expect("k is above 0");
        }
    }

    /// The k smallest, rising. A token is offered to a unit once, so none is there twice.
    pub fn sorted(mut self, k: usize) -> Vec<u64> {
        self.shrink(k);
        self.hashes.sort_unstable();
        self.hashes
    }
}

/// The estimate for two sketches, each rising.
pub fn jaccard(k: usize, a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut n, mut both) = (0, 0, 0, 0);
    while n < k && (i < a.len() || j < b.len()) {
        let (x, y) = (a.get(i), b.get(j));
        let in_both = x.is_some() && x == y;
        // The smaller one; a missing one is larger than any.
        let take_a = in_both || y.is_none() || x.is_some_and(|x| Some(x) < y);
        let take_b = in_both || !take_a;
        i += take_a as usize;
        j += take_b as usize;
        n += 1;
        both += in_both as usize;
    }
    if n == 0 { 0.0 } else { both as f64 / n as f64 }
}

/// Units whose estimate is computed for one unit: those that share most of its sketch.
const CANDIDATES: usize = 48;

/// The `n` largest estimates of each unit above 0, largest first, ties by number.
pub fn neighbors(k: usize, n: usize, sketches: &[Vec<u64>]) -> Vec<Vec<(u32, f32)>> {
    // Inverted: (hash, unit), by hash.
    let mut places: Vec<(u64, u32)> = Vec::with_capacity(sketches.iter().map(Vec::len).sum());
    sketches.iter().enumerate().for_each(|(unit, sketch)| places.extend(sketch.iter().map(|&hash| (hash, unit as u32))));
    places.par_sort_unstable();
    // Where the units of each of a sketch's tokens begin.
    let units_of = |hash: u64| {
        let first = places.partition_point(|p| p.0 < hash);
        places[first..].iter().take_while(move |p| p.0 == hash).map(|p| p.1)
    };
    let of_unit = |counts: &mut Vec<u32>, (unit, sketch): (usize, &Vec<u64>)| {
        counts.resize(sketches.len(), 0);
        let mut seen: Vec<u32> = vec![];
        for &hash in sketch {
            for other in units_of(hash).filter(|&other| other as usize != unit) {
                if counts[other as usize] == 0 {
                    seen.push(other);
                }
                counts[other as usize] += 1;
            }
        }
        let more = |a: &u32, b: &u32| counts[*b as usize].cmp(&counts[*a as usize]).then(a.cmp(b));
        let mut candidates = seen.clone();
        if candidates.len() > CANDIDATES {
            candidates.select_nth_unstable_by(CANDIDATES, more);
            candidates.truncate(CANDIDATES);
        }
        seen.iter().for_each(|&other| counts[other as usize] = 0);
        let mut found: Vec<(u32, f32)> = candidates.iter().map(|&other| (other, jaccard(k, sketch, &sketches[other as usize]) as f32)).collect();
        found.retain(|f| f.1 > 0.0);
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(n);
        found
    };
    sketches.par_iter().enumerate().map_init(Vec::new, of_unit).collect()
}

#[cfg(test)]
mod tests {
    use super::super::unit::mix;
    use super::*;
    use std::collections::BTreeSet;

    fn sketch(k: usize, tokens: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut sketch = Sketch::default();
        tokens.for_each(|t| sketch.offer(k, mix(t)));
        sketch.sorted(k)
    }

    #[test]
    fn a_sketch_holds_the_smallest_hashes_whatever_their_order() {
        let mut all: Vec<u64> = (0..1000).map(mix).collect();
        let (rising, falling) = (sketch(37, 0..1000), sketch(37, (0..1000).rev()));
        all.sort_unstable();
        assert_eq!((&rising[..], &falling[..]), (&all[..37], &all[..37]));
        assert_eq!(sketch(37, 0..5).len(), 5);
        assert!(sketch(0, 0..5).is_empty());
    }

    #[test]
    fn the_estimate_is_exact_for_small_sets_and_within_the_stated_error_for_large_ones() {
        let set = |from: u64, to: u64| sketch(256, from..to);
        assert_eq!(jaccard(256, &set(0, 30), &set(20, 50)), 10.0 / 50.0);
        assert_eq!(jaccard(256, &set(0, 30), &set(30, 50)), 0.0);
        assert_eq!(jaccard(256, &[], &[]), 0.0);
        // 40 pairs with J from 0 to 1: the root mean square error is at most 1 / (2 sqrt(256)) = 0.031, here with a fifth of slack.
        let mut squares = 0.0;
        for i in 0..40u64 {
            let (base, shift) = (1_000_000 * i, 200 * i);
            let want = (8000 - shift) as f64 / (8000 + shift) as f64;
            squares += (jaccard(256, &set(base, base + 8000), &set(base + shift, base + shift + 8000)) - want).powi(2);
        }
        assert!((squares / 40.0f64).sqrt() < 0.0375, "{}", (squares / 40.0f64).sqrt());
    }

    #[test]
    fn neighbours_are_those_of_all_pairs() {
        // Unit u fires on multiples of u + 2 below 600: complete sketches, so the estimate is the true index.
        let sketches: Vec<Vec<u64>> = (0..13).map(|u| sketch(512, (0..600).filter(|t| t % (u + 2) == 0))).collect();
        let found = neighbors(512, 3, &sketches);
        for (u, found) in found.iter().enumerate() {
            let of = |u: usize| -> BTreeSet<u64> { (0..600).filter(|t| t % (u as u64 + 2) == 0).collect() };
            let index = |v: usize| of(u).intersection(&of(v)).count() as f32 / of(u).union(&of(v)).count() as f32;
            let mut want: Vec<(u32, f32)> = (0..13).filter(|v| *v != u).map(|v| (v as u32, index(v))).collect();
            want.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            assert_eq!(found[..], want[..3]);
        }
        assert_eq!(neighbors(512, 3, &[vec![], vec![7]]), [vec![], vec![]]);
    }
}
