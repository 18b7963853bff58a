//! From what was kept of a unit to what the dictionary stores.

use super::CollectSettings;
use super::bins::{Bins, N_BINS, PER_BAR, PER_SAMPLE, bin_edge, bin_of};
use super::coactive::Correlated;
use super::silent::Index;
use super::tokens::{TokenMass, effective_tokens};
use super::unit::{Firing, Sample, Unit, mix};
use crate::features::store::{GroupKind, Histogram};

/// Examples chosen in one way.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub kind: GroupKind,
    /// Activations lie in `low..high`.
    pub low: f32,
    pub high: f32,
    /// The firings that the group stands for, and their share of the summed activation.
    pub n_firings: u64,
    pub share_mass: f64,
    pub firings: Vec<Firing>,
}

/// What the pass found out about one unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    pub n_active: u64,
    pub max_act: f32,
    /// Over the tokens on which it fires; 0 for a dead unit.
    pub mean_act: f32,
    pub histogram: Histogram,
    pub groups: Vec<Group>,
    /// Tokens with most summed activation first, at most [`N_TOP_TOKENS`].
    pub top_tokens: Vec<TokenMass>,
    /// Summed activation over all tokens.
    pub mass: f64,
    /// Largest share of the firings that fall on one token.
    pub top_share: f64,
    pub effective_tokens: f64,
    pub tokens_exact: bool,
    /// Windows in which it fires.
    pub n_windows: u64,
    /// Firings in each part of the pass and in each bin of the position; empty for a dead unit.
    pub over_time: Vec<u32>,
    pub over_position: Vec<u32>,
    /// (unit, estimated Jaccard index), largest first.
    pub coactive: Vec<(u32, f32)>,
    /// Units whose activations go along with it, largest r first.
    pub correlated: Vec<Correlated>,
    /// (coordinate of the hook, Pearson's correlation, cosine), largest size of the correlation first.
    pub neurons: Vec<(u32, f32, f32)>,
}

/// Top tokens that are kept of a unit.
pub const N_TOP_TOKENS: usize = 20;

pub(super) fn finish(settings: &CollectSettings, unit: Unit, number: u32, silent: &Index) -> Collected {
    let mut tokens = unit.tokens.sorted();
    let effective = effective_tokens(tokens.iter().map(|s| s.mass).chain([unit.tokens.rest.mass]));
    let top_share = tokens.iter().map(|s| s.n).max().unwrap_or(0) as f64 / unit.n.max(1) as f64;
    tokens.sort_by(|a, b| b.mass.total_cmp(&a.mass).then(a.token.cmp(&b.token)));
    tokens.truncate(N_TOP_TOKENS);
    let mut collected = Collected {
        n_active: unit.n,
        max_act: unit.max,
        mean_act: (unit.sum / unit.n.max(1) as f64) as f32,
        histogram: histogram(&unit.bins),
        top_tokens: tokens,
        mass: unit.sum,
        top_share,
        effective_tokens: effective,
        tokens_exact: unit.tokens.rest.n == 0,
        n_windows: unit.n_windows,
        over_time: unit.over_time.clone(),
        over_position: unit.over_position.clone(),
        ..Default::default()
    };
    if unit.n > 0 {
        let silent = silent.silent(settings, number, collected.top_tokens.iter().map(|t| t.token));
        collected.groups = groups(settings, unit, silent);
    }
    collected
}

/// Four bins per doubling, from the first to the last that is not empty.
fn histogram(bins: &Bins) -> Histogram {
    let range = bins.range();
    if range.is_empty() {
        return Histogram::default();
    }
    let (first, last) = (range.start / PER_BAR, (range.end - 1) / PER_BAR);
    Histogram {
        edges: (first..=last + 1).map(|b| bin_edge(PER_BAR * b)).collect(),
        counts: (first..=last).map(|b| bins.total(PER_BAR * b, PER_BAR * (b + 1)).0).collect(),
    }
}

/// Random first, then intervals and then tenths from the strongest down, then the top, then where it is silent.
fn groups(settings: &CollectSettings, unit: Unit, silent: Vec<Firing>) -> Vec<Group> {
    let Unit { n, sum, max, bins, mut top, random, by_bin, .. } = unit;
    let above = next_up(max);
    let random = random.sorted().into_iter().map(|(_, f)| f).collect();
    let mut groups = vec![Group { kind: GroupKind::Random, low: 0.0, high: above, n_firings: n, share_mass: 1.0, firings: random }];
    let sampled = weighted(&bins, by_bin);
    let mut within = |kind: GroupKind, edges: &[usize], n_examples: usize| {
        for (i, edge) in edges.windows(2).enumerate().rev() {
            let (low_bin, high_bin) = (edge[0], edge[1]);
            let (n_firings, mass) = bins.total(low_bin, high_bin);
            if n_firings == 0 {
                continue;
            }
            let low = if i == 0 { 0.0 } else { bin_edge(low_bin) };
            let high = if i + 2 == edges.len() { above } else { bin_edge(high_bin) };
            let inside = sampled.iter().filter(|(_, f)| (low_bin..high_bin).contains(&bin_of(f.act)));
            let mut firings: Vec<Firing> = inside.take(n_examples).map(|(_, f)| f.clone()).collect();
            firings.sort_by(|a, b| b.act.total_cmp(&a.act).then(a.t.cmp(&b.t)));
            groups.push(Group { kind, low, high, n_firings, share_mass: mass / sum, firings });
        }
    };
    within(GroupKind::Interval, &interval_edges(settings.n_intervals, max), settings.n_per_interval);
    within(GroupKind::Quantile, &quantile_edges(settings.n_quantiles, &bins, n), settings.n_per_quantile);
    top.sort_by(|a, b| b.act.total_cmp(&a.act).then(a.t.cmp(&b.t)));
    let low = top.last().map_or(max, |f| f.act);
    let share_mass = top.iter().map(|f| f.act as f64).sum::<f64>() / sum;
    groups.push(Group { kind: GroupKind::Top, low, high: above, n_firings: top.len() as u64, share_mass, firings: top });
    if !silent.is_empty() {
        groups.push(Group { kind: GroupKind::Zero, low: 0.0, high: 0.0, n_firings: 0, share_mass: 0.0, firings: silent });
    }
    groups
}

/// Bins at which intervals of equal width between 0 and the maximum begin, and the end. Rounded down to bins, so that counts are exact.
fn interval_edges(n: usize, max: f32) -> Vec<usize> {
    (0..=n)
        .map(|i| {
            if i == 0 {
                0
            } else if i == n {
                N_BINS
            } else {
                bin_of(max * i as f32 / n as f32)
            }
        })
        .collect()
}

/// Bins at which the `n` equal shares of the firings by rank begin, and the end: each edge is where the count below is nearest to its share. A bin
/// is 4 to 6 % wide, so shares are equal up to what falls into one bin, and counts are exact. Where one bin holds several edges there are fewer groups.
fn quantile_edges(n: usize, bins: &Bins, n_firings: u64) -> Vec<usize> {
    let mut edges = vec![0];
    let (mut below, mut bin) = (0u64, bins.range().start);
    for i in 1..n as u64 {
        let wanted = i as f64 * n_firings as f64 / n as f64;
        while bin < bins.range().end {
            let next = below + bins.get(bin).n as u64;
            if (next as f64 - wanted).abs() > (below as f64 - wanted).abs() {
                break;
            }
            (below, bin) = (next, bin + 1);
        }
        if below > 0 && below < n_firings && edges.last() != Some(&bin) {
            edges.push(bin);
        }
    }
    edges.push(N_BINS);
    edges
}

/// Sampled firings of all bins in an order whose prefixes are samples in proportion to the bins' counts:
/// each firing stands for count / sampled others and has priority -ln(u) / that weight (Efraimidis and Spirakis 2006), smallest first.
fn weighted(bins: &Bins, by_bin: Vec<(u16, Sample)>) -> Vec<(f64, Firing)> {
    let mut all = Vec::new();
    for (bin, sample) in by_bin {
        let (count, _) = bins.total(PER_SAMPLE * bin as usize, PER_SAMPLE * (bin as usize + 1));
        let sample = sample.sorted();
        let weight = count as f64 / sample.len() as f64;
        all.extend(sample.into_iter().map(|(hash, f)| {
            let u = ((mix(hash) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            (-u.ln() / weight, f)
        }));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.t.cmp(&b.1.t)));
    all
}

/// The next float above a finite one at or above 0, so that `low..high` holds the maximum.
fn next_up(x: f32) -> f32 {
    f32::from_bits(x.to_bits() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_quantiles_hold_equal_shares_up_to_a_bin() {
        // 1,000 activations 0.01, 0.02, ... 10: each tenth holds 100 up to what lies in a bin, at most 1/16 of a doubling.
        let mut bins = Bins::default();
        (1..=1000).map(|i| i as f32 / 100.0).for_each(|act| bins.add(bin_of(act), act));
        let edges = quantile_edges(10, &bins, 1000);
        assert_eq!(edges.len(), 11);
        for (i, edge) in edges.windows(2).enumerate() {
            let n = bins.total(edge[0], edge[1]).0 as i64;
            let in_a_bin = bins.get(edge[0]).n.max(bins.get(edge[1].min(N_BINS - 1)).n) as i64;
            assert!((n - 100).abs() <= in_a_bin.max(1), "tenth {i} holds {n}, a bin {in_a_bin}");
        }
    }

    #[test]
    fn firings_of_one_bin_are_one_quantile() {
        let mut bins = Bins::default();
        (0..50).for_each(|_| bins.add(bin_of(2.0), 2.0));
        assert_eq!(quantile_edges(10, &bins, 50), [0, N_BINS]);
        bins.add(bin_of(3.0), 3.0);
        bins.add(bin_of(3.0), 3.0);
        let edges = quantile_edges(10, &bins, 52);
        assert_eq!(edges.windows(2).map(|e| bins.total(e[0], e[1]).0).sum::<u64>(), 52);
    }
}
