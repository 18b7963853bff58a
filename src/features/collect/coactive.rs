//! Which units fire on the same tokens, and how their activations go together, from a bounded sketch of each unit's tokens.
//!
//! Each unit keeps the k tokens with the smallest hashes among those it fires on, with its activations there; the hash is of t alone, so the
//! sketches of all units are samples of the same tokens.
//!
//! **Jaccard index.** Of two units, the k smallest hashes of the union of their sketches are a uniform sample of the union of their sets, and
//! the share of these that are in both sketches estimates J = |A and B| / |A or B|. Its standard deviation is sqrt(J (1 - J) / k) <=
//! 1 / (2 sqrt(k)); it is exact where the union has at most k tokens.
//!
//! **Pearson's r.** Of every token whose hash is below the k-th smallest of both units, both sketches know whether and how strongly the unit
//! fires on it. Over these tokens c = sum(a b) / sqrt(sum(a^2) sum(b^2)) estimates the cosine of the two units' activations over all n tokens.
//! With the sums over all tokens, which are exact, r = (n c sqrt(sum(a^2) sum(b^2)) - sum(a) sum(b)) / sqrt((n sum(a^2) - sum(a)^2) (n sum(b^2) -
//! sum(b)^2)). The standard deviation of c is that of a ratio, to first order: sqrt((1 - p) sum(u^2)) over the sampled tokens, u = a b /
//! sqrt(sum(a^2) sum(b^2)) - c / 2 (a^2 / sum(a^2) + b^2 / sum(b^2)), p the share of hashes below the limit. It is multiplied by the
//! largest of 1 and what the sample lacks of either sum of squares, p sum(a^2) over all tokens / sum(a^2) over the sample: what it lacks are the
//! few largest activations (against exact values, with exponential ones, the root mean square of error over stated error is 1.1, without the
//! factor 1.6). Added to its square is what the m = (1 - p) n tokens outside the sample may hold beyond that: their sums of squares are known, and if they fall
//! together by chance alone, sum(a b) over them has a variance of at most the product of both over m. That of r follows by its own factor.
//! Both are exact, up to the 2^-17 to which activations are kept, where each unit fires on at most k tokens. Negative correlations are not
//! looked for: units that seldom fire have none to speak of.
//!
//! Sources: Broder 1997, "On the resemblance and containment of documents", section 4; Cohen 1997, "Size-estimation framework"; Cohen and Kaplan
//! 2007, "Summarizing data using bottom-k sketches"; Cochran 1977, "Sampling techniques", section 6.3 (ratios).
//!
//! Memory: at most 1.5 k entries of 8 bytes per unit, and never a table of units by units.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A token of a sketch in eight bytes: the upper 40 bits of its hash, then the activation on it without its sign and its last seven bits. Two of
/// 10 million tokens share such a hash some 45 times, which no estimate sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry(u64);

/// Bits of the activation.
const ACT_BITS: u32 = 24;

impl Entry {
    fn new(hash: u64, act: f32) -> Self {
        Entry(hash >> ACT_BITS << ACT_BITS | u64::from((act.to_bits() << 1) >> 8))
    }

    fn hash(self) -> u64 {
        self.0 >> ACT_BITS
    }

    /// The middle of the activations that are kept as this one.
    fn act(self) -> f64 {
        f64::from(f32::from_bits(((self.0 as u32) << 8 >> 1) | 1 << 6))
    }
}

/// The k tokens with the smallest hashes offered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// The k smallest so far are among these.
    entries: Vec<Entry>,
    /// None with a hash above it is needed, once there are k; 0 before.
    bound: u64,
}

impl Sketch {
    pub fn offer(&mut self, k: usize, hash: u64, act: f32) {
        let entry = Entry::new(hash, act);
        if k == 0 || (self.bound != 0 && entry.0 > self.bound) {
            return;
        }
        self.entries.push(entry);
        // Half as many again may wait, so that selecting is seldom.
        if self.entries.len() >= k + k.div_ceil(2) {
            self.shrink(k);
        }
    }

    fn shrink(&mut self, k: usize) {
        if self.entries.len() > k {
            self.entries.select_nth_unstable(k - 1);
            self.entries.truncate(k);
            self.bound = self.entries.iter().max().expect("k is above 0").0;
        }
    }

    /// The k smallest, rising. A token is offered to a unit once, so none is there twice.
    pub fn sorted(mut self, k: usize) -> Vec<Entry> {
        self.shrink(k);
        self.entries.sort_unstable();
        self.entries
    }
}

/// A unit's sketch, rising, with its sums over all tokens.
#[derive(Debug, Clone, Default)]
pub struct Sketched {
    pub entries: Vec<Entry>,
    /// Firings, their summed activation and its squares.
    pub n: u64,
    pub sum: f64,
    pub squares: f64,
}

impl Sketched {
    /// Every firing with a hash below this is in the sketch; `None` where every firing is.
    fn limit(&self) -> Option<u64> {
        if self.n as usize > self.entries.len() { Some(self.entries.last().map_or(0, |e| e.hash())) } else { None }
    }
}

/// Another unit whose activation goes along with a unit's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlated {
    pub unit: u32,
    /// Over all tokens that count, those where either is silent included.
    pub pearson: f32,
    /// Of the two columns of activations, not centred.
    pub cosine: f32,
    /// Standard deviation of `pearson`; 0 where it is exact, none where an imported file does not say.
    pub sd: Option<f32>,
}

/// Tokens that must have been sampled before an estimate is given: below that its error is not known either.
const MIN_SAMPLED: u64 = 16;

/// `None` where either never changes or too few tokens were sampled. `unit` is the number of `b`; it is over `n` tokens.
fn correlation(n: u64, a: &Sketched, unit: u32, b: &Sketched) -> Option<Correlated> {
    let limit = [a.limit(), b.limit()].into_iter().flatten().min();
    let (mut i, mut j, mut n_sampled) = (0, 0, 0u64);
    // Sums of a^x b^y over the sampled tokens.
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    let (mut a4, mut b4, mut a3b, mut ab3, mut aabb) = (0.0, 0.0, 0.0, 0.0, 0.0);
    loop {
        let next = [a.entries.get(i), b.entries.get(j)].map(|e| e.map_or(u64::MAX, |e| e.hash()));
        let hash = next[0].min(next[1]);
        if hash == u64::MAX || limit.is_some_and(|limit| hash >= limit) {
            break;
        }
        let x = if next[0] == hash { a.entries[i].act() } else { 0.0 };
        let y = if next[1] == hash { b.entries[j].act() } else { 0.0 };
        i += usize::from(next[0] == hash);
        j += usize::from(next[1] == hash);
        n_sampled += 1;
        (aa, bb, ab) = (aa + x * x, bb + y * y, ab + x * y);
        (a4, b4, aabb) = (a4 + x.powi(4), b4 + y.powi(4), aabb + x * x * y * y);
        (a3b, ab3) = (a3b + x * x * x * y, ab3 + x * y * y * y);
    }
    let n = n as f64;
    let variances = (n * a.squares - a.sum * a.sum) * (n * b.squares - b.sum * b.sum);
    if aa <= 0.0 || bb <= 0.0 || variances <= 0.0 || (limit.is_some() && n_sampled < MIN_SAMPLED) {
        return None;
    }
    let scale = 1.0 / (aa * bb).sqrt();
    let c = ab * scale;
    // u = scale a b - of_a a^2 - of_b b^2, squared and summed.
    let (of_a, of_b) = (0.5 * c / aa, 0.5 * c / bb);
    let u2 = (scale * scale + 2.0 * of_a * of_b) * aabb + of_a * of_a * a4 + of_b * of_b * b4 - 2.0 * scale * (of_a * a3b + of_b * ab3);
    let share = limit.map_or(1.0, |limit| limit as f64 / (1u64 << (64 - ACT_BITS)) as f64);
    let factor = n * (a.squares * b.squares).sqrt() / variances.sqrt();
    // The sums are exact, c is not: together they may pass 1.
    let pearson = (factor * c - a.sum * b.sum / variances.sqrt()).clamp(-1.0, 1.0);
    let lacking = (share * a.squares / aa).max(share * b.squares / bb).max(1.0);
    let outside = (1.0 - aa / a.squares).max(0.0) * (1.0 - bb / b.squares).max(0.0) / ((1.0 - share) * n).max(1.0);
    let sd = factor * (lacking * lacking * (1.0 - share) * u2.max(0.0) + if limit.is_some() { outside } else { 0.0 }).sqrt();
    Some(Correlated { unit, pearson: pearson as f32, cosine: c as f32, sd: Some(sd as f32) })
}

/// The estimate for two sketches, each rising.
pub fn jaccard(k: usize, a: &[Entry], b: &[Entry]) -> f64 {
    let (mut i, mut j, mut n, mut both) = (0, 0, 0, 0);
    while n < k && (i < a.len() || j < b.len()) {
        let (x, y) = (a.get(i).map(|e| e.hash()), b.get(j).map(|e| e.hash()));
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

/// Units near one unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Near {
    /// By the Jaccard index, largest first, ties by number; above 0.
    pub coactive: Vec<(u32, f32)>,
    /// By Pearson's r, largest first, ties by number; above 0.
    pub correlated: Vec<Correlated>,
}

/// Units near each unit: the `n_coactive` and `n_correlated` best of those that share most of its sketch. `k` is the size of a sketch; the
/// pass was over `n_tokens`.
pub fn neighbors(k: usize, [n_coactive, n_correlated]: [usize; 2], n_tokens: u64, units: &[Sketched]) -> Vec<Near> {
    // Inverted: (hash, unit), by hash.
    let mut places: Vec<(u64, u32)> = Vec::with_capacity(units.iter().map(|u| u.entries.len()).sum());
    units.iter().enumerate().for_each(|(unit, of)| places.extend(of.entries.iter().map(|entry| (entry.hash(), unit as u32))));
    places.par_sort_unstable();
    // Where the units of each of a sketch's tokens begin.
    let units_of = |hash: u64| {
        let first = places.partition_point(|p| p.0 < hash);
        places[first..].iter().take_while(move |p| p.0 == hash).map(|p| p.1)
    };
    let of_unit = |counts: &mut Vec<u32>, (unit, own): (usize, &Sketched)| {
        counts.resize(units.len(), 0);
        let mut seen: Vec<u32> = vec![];
        for entry in &own.entries {
            for other in units_of(entry.hash()).filter(|&other| other as usize != unit) {
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
        let index = |&other: &u32| (other, jaccard(k, &own.entries, &units[other as usize].entries) as f32);
        let mut coactive: Vec<(u32, f32)> = candidates.iter().map(index).filter(|f| f.1 > 0.0).collect();
        coactive.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        coactive.truncate(n_coactive);
        let along = |&other: &u32| correlation(n_tokens, own, other, &units[other as usize]).filter(|c| c.pearson > 0.0);
        let mut correlated: Vec<Correlated> = candidates.iter().filter_map(along).collect();
        correlated.sort_unstable_by(|a, b| b.pearson.total_cmp(&a.pearson).then(a.unit.cmp(&b.unit)));
        correlated.truncate(n_correlated);
        Near { coactive, correlated }
    };
    units.par_iter().enumerate().map_init(Vec::new, of_unit).collect()
}

#[cfg(test)]
mod tests {
    use super::super::unit::mix;
    use super::*;
    use std::collections::BTreeSet;

    fn sketch(k: usize, tokens: impl Iterator<Item = u64>) -> Vec<Entry> {
        sketched(k, tokens.map(|t| (t, 1.0))).entries
    }

    fn sketched(k: usize, firings: impl Iterator<Item = (u64, f32)>) -> Sketched {
        let (mut sketch, mut of) = (Sketch::default(), Sketched::default());
        for (t, act) in firings {
            sketch.offer(k, mix(t), act);
            of = Sketched { n: of.n + 1, sum: of.sum + f64::from(act), squares: of.squares + f64::from(act).powi(2), ..of };
        }
        Sketched { entries: sketch.sorted(k), ..of }
    }

    #[test]
    fn a_sketch_holds_the_smallest_hashes_whatever_their_order() {
        let mut all: Vec<Entry> = (0..1000).map(|t| Entry::new(mix(t), 1.0)).collect();
        let (rising, falling) = (sketch(37, 0..1000), sketch(37, (0..1000).rev()));
        all.sort_unstable();
        assert_eq!((&rising[..], &falling[..]), (&all[..37], &all[..37]));
        assert_eq!(sketch(37, 0..5).len(), 5);
        assert!(sketch(0, 0..5).is_empty());
    }

    #[test]
    fn an_entry_keeps_its_hash_to_40_bits_and_its_activation_to_a_part_in_130_000() {
        for act in [1e-30f32, 0.001, 1.0, 1.99999, 3.0, 7.7e8] {
            let entry = Entry::new(0xFEDC_BA98_7654_3210, act);
            assert_eq!(entry.hash(), 0xFE_DCBA_9876);
            assert!((entry.act() / f64::from(act) - 1.0).abs() <= 2f64.powi(-17), "{act} is kept as {}", entry.act());
        }
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

    /// Pearson's r and the cosine of two columns by their definitions.
    fn exactly(a: &[f64], b: &[f64]) -> (f64, f64) {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let centred = |v: &[f64]| v.iter().map(|x| x - v.iter().sum::<f64>() / v.len() as f64).collect::<Vec<f64>>();
        let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        (cosine(&centred(a), &centred(b)), cosine(a, b))
    }

    /// Two units over `n` tokens: the second fires on `share` of the first's tokens with a multiple of its activation and noise, and on others.
    fn pair(n: u64, seed: u64, share: f64) -> [Vec<f64>; 2] {
        let draw = |t: u64, what: u64| (mix(mix(t ^ seed << 40) ^ what) >> 11) as f64 / (1u64 << 53) as f64;
        let a = |t: u64| if draw(t, 1) < 0.05 { -draw(t, 2).max(1e-9).ln() } else { 0.0 };
        let b = |t: u64| {
            let along = if a(t) > 0.0 && draw(t, 3) < share { 2.0 * a(t) * (0.5 + draw(t, 4)) } else { 0.0 };
            if along > 0.0 || draw(t, 5) < 0.03 * (1.0 - share) { (along + draw(t, 6)) as f32 as f64 } else { 0.0 }
        };
        [(0..n).map(|t| a(t) as f32 as f64).collect(), (0..n).map(b).collect()]
    }

    #[test]
    fn correlations_of_units_are_exact_where_all_their_tokens_are_kept() {
        let n = 3000;
        for share in [0.0, 0.3, 0.9] {
            let [a, b] = pair(n, 1, share);
            let of = |v: &[f64]| sketched(512, (0..n).zip(v).filter(|(_, x)| **x > 0.0).map(|(t, x)| (t, *x as f32)));
            let got = correlation(n, &of(&a), 7, &of(&b)).unwrap();
            let (pearson, cosine) = exactly(&a, &b);
            assert!((f64::from(got.pearson) - pearson).abs() < 2e-5 && (f64::from(got.cosine) - cosine).abs() < 2e-5, "{got:?} for {pearson}");
            assert_eq!((got.unit, got.sd), (7, Some(0.0)));
        }
        assert!(correlation(n, &sketched(9, [(1, 1.0)].into_iter()), 0, &Sketched::default()).is_none(), "one never fires");
    }

    #[test]
    fn correlations_of_units_lie_within_their_stated_error() {
        // Of 30 pairs that fire on some 1,000 of 20,000 tokens, with sketches of 128: the error over the stated one has a root mean square near 1
        // (within a half, for activations have long tails), and no pair is off by five.
        let (n, mut squares) = (20_000, 0.0);
        for seed in 0..30 {
            let [a, b] = pair(n, seed, seed as f64 / 30.0);
            let of = |v: &[f64]| sketched(128, (0..n).zip(v).filter(|(_, x)| **x > 0.0).map(|(t, x)| (t ^ seed << 40, *x as f32)));
            let got = correlation(n, &of(&a), 0, &of(&b)).unwrap();
            let sd = f64::from(got.sd.unwrap());
            let off = (f64::from(got.pearson) - exactly(&a, &b).0) / sd;
            assert!(off.abs() < 5.0 && sd < 0.3, "{got:?}, {} exactly", exactly(&a, &b).0);
            squares += off * off;
        }
        let rms = (squares / 30.0f64).sqrt();
        assert!((0.5..1.5).contains(&rms), "{rms}");
    }

    #[test]
    fn neighbours_are_those_of_all_pairs() {
        // Unit u fires on multiples of u + 2 below 600, everywhere alike: complete sketches, so the estimate is the true index, and r is that of
        // two sets.
        let units: Vec<Sketched> = (0..13).map(|u| sketched(512, (0..600).filter(|t| t % (u + 2) == 0).map(|t| (t, 1.5)))).collect();
        let found = neighbors(512, [3, 2], 600, &units);
        for (u, found) in found.iter().enumerate() {
            let of = |u: usize| -> BTreeSet<u64> { (0..600).filter(|t| t % (u as u64 + 2) == 0).collect() };
            let index = |v: usize| of(u).intersection(&of(v)).count() as f32 / of(u).union(&of(v)).count() as f32;
            let mut want: Vec<(u32, f32)> = (0..13).filter(|v| *v != u).map(|v| (v as u32, index(v))).collect();
            want.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            assert_eq!(found.coactive[..], want[..3]);
            let column = |u: usize| (0..600).map(|t| if of(u).contains(&t) { 1.5 } else { 0.0 }).collect::<Vec<f64>>();
            let mut want: Vec<(u32, f64)> = (0..13).filter(|v| *v != u).map(|v| (v as u32, exactly(&column(u), &column(v)).0)).collect();
            want.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            for (got, want) in found.correlated.iter().zip(want.iter().filter(|w| w.1 > 0.0)) {
                assert!((f64::from(got.pearson) - want.1).abs() < 2e-5, "unit {u}: {got:?}, {want:?}");
            }
            assert_eq!(found.correlated.len(), 2);
        }
        let nothing = neighbors(512, [3, 2], 600, &[Sketched::default(), sketched(512, [(7, 1.0)].into_iter())]);
        assert_eq!(nothing, [Near::default(), Near::default()]);
    }
}
