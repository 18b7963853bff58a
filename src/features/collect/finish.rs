//! From what was kept of a unit to what the dictionary stores.

use super::CollectSettings;
use super::tokens::{TokenMass, effective_tokens};
use super::unit::{Firing, Unit, bin_edge, bin_of, mix};
use crate::features::store::{GroupKind, Histogram};

/// Examples chosen in one way.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub kind: GroupKind,
    /// Activations lie in `low..high`.
    pub low: f32,
    pub high: f32,
    pub n_firings: u64,
    pub firings: Vec<Firing>,
}

/// What the pass found out about one unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    pub n_active: u64,
    pub max_act: f32,
    /// Over the tokens on which it fires; 0 for a dead unit.
    pub mean_act: f32,
    pub histogram: Histogram,
    pub groups: Vec<Group>,
    /// Tokens with most summed activation first, at most ten.
    pub top_tokens: Vec<TokenMass>,
    /// Summed activation over all tokens.
    pub mass: f64,
    /// Largest share of the firings that fall on one token.
    pub top_share: f64,
    pub effective_tokens: f64,
    pub tokens_exact: bool,
}

pub(super) fn finish(settings: &CollectSettings, unit: Unit) -> Collected {
    let mut tokens = unit.tokens.sorted();
    let effective = effective_tokens(tokens.iter().map(|s| s.mass).chain([unit.tokens.rest.mass]));
    let top_share = tokens.iter().map(|s| s.n).max().unwrap_or(0) as f64 / unit.n.max(1) as f64;
    tokens.sort_by(|a, b| b.mass.total_cmp(&a.mass).then(a.token.cmp(&b.token)));
    tokens.truncate(10);
    let mut collected = Collected {
        n_active: unit.n,
        max_act: unit.max,
        mean_act: (unit.sum / unit.n.max(1) as f64) as f32,
        histogram: histogram(&unit.bins),
        groups: vec![],
        top_tokens: tokens,
        mass: unit.sum,
        top_share,
        effective_tokens: effective,
        tokens_exact: unit.tokens.rest.n == 0,
    };
    if unit.n > 0 {
        collected.groups = groups(settings, unit);
    }
    collected
}

/// Four bins per doubling, from the first to the last that is not empty.
fn histogram(bins: &[u32]) -> Histogram {
    let coarse: Vec<u64> = bins.chunks(4).map(|c| c.iter().map(|&n| n as u64).sum()).collect();
    let Some(first) = coarse.iter().position(|&n| n > 0) else { return Histogram::default() };
    let last = coarse.iter().rposition(|&n| n > 0).expect("one bin is not empty");
    Histogram { edges: (first..=last + 1).map(|b| bin_edge(4 * b)).collect(), counts: coarse[first..=last].to_vec() }
}

/// Random first, then intervals from the strongest down, then the top.
fn groups(settings: &CollectSettings, unit: Unit) -> Vec<Group> {
    let Unit { n, max, bins, mut top, random, quantiles, .. } = unit;
    let above = next_up(max);
    let random = random.sorted().into_iter().map(|(_, f)| f).collect();
    let mut groups = vec![Group { kind: GroupKind::Random, low: 0.0, high: above, n_firings: n, firings: random }];
    // Edges are rounded down to edges of the histogram, so that the counts are exact.
    let edge = |i: usize| if i == 0 { 0 } else { bin_of(max * i as f32 / settings.n_intervals as f32) };
    let sampled = weighted(&bins, quantiles);
    for i in (0..settings.n_intervals).rev() {
        let (low_bin, high_bin) = (edge(i), if i + 1 == settings.n_intervals { bins.len() } else { edge(i + 1) });
        let n_firings: u64 = bins[low_bin..high_bin].iter().map(|&n| n as u64).sum();
        let low = if i == 0 { 0.0 } else { bin_edge(low_bin) };
        let high = if i + 1 == settings.n_intervals { above } else { bin_edge(high_bin) };
        if n_firings == 0 {
            continue;
        }
        let inside = sampled.iter().filter(|(_, f)| (low_bin..high_bin).contains(&bin_of(f.act)));
        let mut firings: Vec<Firing> = inside.take(settings.n_per_interval).map(|(_, f)| f.clone()).collect();
        firings.sort_by(|a, b| b.act.total_cmp(&a.act).then(a.t.cmp(&b.t)));
        groups.push(Group { kind: GroupKind::Quantile, low, high, n_firings, firings });
    }
    top.sort_by(|a, b| b.act.total_cmp(&a.act).then(a.t.cmp(&b.t)));
    let low = top.last().map_or(max, |f| f.act);
    groups.push(Group { kind: GroupKind::Top, low, high: above, n_firings: top.len() as u64, firings: top });
    groups
}

/// Sampled firings of all bins in an order whose prefixes are samples in proportion to the bins' counts:
/// each firing stands for count / sampled others and has priority -ln(u) / that weight (Efraimidis and Spirakis 2006), smallest first.
fn weighted(bins: &[u32], quantiles: Vec<(u16, super::unit::Sample)>) -> Vec<(f64, Firing)> {
    let mut all = Vec::new();
    for (bin, sample) in quantiles {
        let count: u64 = bins[4 * bin as usize..][..4].iter().map(|&n| n as u64).sum();
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
