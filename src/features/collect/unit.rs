//! What is kept of one unit (latent or neuron side) while text streams by.

use super::tokens::TokenTable;
use super::{CollectSettings, Windows};

/// A firing that may become an example.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    pub t: u64,
    pub act: f32,
    pub doc: u32,
    /// (token distance from t, activation) of this and the unit's other firings nearby, inside the same window, rising.
    pub around: Vec<(i8, f32)>,
}

/// A uniform sample without replacement: the `n` firings with the smallest hashes.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    kept: Vec<(u64, Firing)>,
    /// The largest hash kept, once there are `n`: almost every firing is turned away by this one comparison.
    largest: u64,
}

impl Sample {
    fn offer(&mut self, n: usize, hash: u64, firing: impl FnOnce() -> Firing) {
        if self.kept.len() < n {
            self.kept.push((hash, firing()));
        } else if hash < self.largest {
            *self.kept.iter_mut().max_by_key(|(h, _)| *h).expect("a sample with a largest hash is not empty") = (hash, firing());
        } else {
            return;
        }
        self.largest = self.kept.iter().map(|(h, _)| *h).max().unwrap_or(0);
    }

    /// By hash: a prefix is again a uniform sample.
    pub fn sorted(mut self) -> Vec<(u64, Firing)> {
        self.kept.sort_unstable_by_key(|(h, _)| *h);
        self.kept
    }
}

/// Bins of the histogram: 16 per doubling, linear inside a doubling, from 2^-16 to 2^16; what lies outside is counted in the end bins.
pub const N_BINS: usize = 32 * 16;
const LOWEST: u32 = (127 - 16) << 23;
const HIGHEST: u32 = ((127 + 16) << 23) - 1;
/// Log2 of the histogram's bins per bin of the samples: these are four to a doubling.
const SAMPLE_SHIFT: usize = 2;

/// The bin of an activation above 0: the leading bits of the float, so its edges are exact.
pub fn bin_of(act: f32) -> usize {
    ((act.to_bits().clamp(LOWEST, HIGHEST) - LOWEST) >> 19) as usize
}

/// Lower edge of bin `bin` (of `N_BINS` for the upper edge of the last one).
pub fn bin_edge(bin: usize) -> f32 {
    f32::from_bits(LOWEST + ((bin as u32) << 19))
}

/// Statistics and candidates of one unit. Every field is a function of the unit's firings in order of t.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    pub n: u64,
    pub sum: f64,
    pub max: f32,
    /// Empty until the first firing, then `N_BINS` counts.
    pub bins: Vec<u32>,
    /// The best firing of each of the best documents, unordered.
    pub top: Vec<Firing>,
    /// The weakest of them once there are `n_top`, 0 before.
    top_floor: f32,
    pub random: Sample,
    /// (coarse bin, sample of its firings).
    pub quantiles: Vec<(u16, Sample)>,
    pub tokens: TokenTable,
}

impl Unit {
    /// Takes the unit's firings `(row, act)` of one batch, rows rising. `keys` make the two samples independent of each other.
    pub fn take(&mut self, settings: &CollectSettings, cap: usize, keys: [u64; 2], batch: &Windows, firings: &[(u32, f32)]) {
        if self.bins.is_empty() && !firings.is_empty() {
            self.bins = vec![0; N_BINS];
        }
        for (i, &(row, act)) in firings.iter().enumerate() {
            let t = batch.t(row);
            self.n += 1;
            self.sum += act as f64;
            self.max = self.max.max(act);
            let bin = bin_of(act);
            self.bins[bin] += 1;
            self.tokens.add(batch.ids[row as usize], act, cap);
            let firing = || Firing { t, act, doc: batch.docs[row as usize], around: around(settings, batch.n_ctx, firings, i) };
            self.offer_top(settings.n_top, act, batch.docs[row as usize], firing);
            self.random.offer(settings.n_random, mix(keys[0] ^ mix(t)), firing);
            let coarse = (bin >> SAMPLE_SHIFT) as u16;
            let at = self.quantiles.iter().position(|(b, _)| *b == coarse).unwrap_or_else(|| {
                self.quantiles.push((coarse, Sample::default()));
                self.quantiles.len() - 1
            });
            self.quantiles[at].1.offer(settings.n_per_bin, mix(keys[1] ^ mix(t)), firing);
        }
    }

    /// Exact: a document that was pushed out had a maximum below all those kept, so it only returns with a larger one. Ties: the first.
    fn offer_top(&mut self, n: usize, act: f32, doc: u32, firing: impl FnOnce() -> Firing) {
        if n == 0 || act <= self.top_floor {
            return;
        }
        let weakest = |top: &[Firing]| (0..top.len()).min_by(|&a, &b| top[a].act.total_cmp(&top[b].act).then(top[b].t.cmp(&top[a].t)));
        match self.top.iter().position(|f| f.doc == doc) {
            Some(same) if act > self.top[same].act => self.top[same] = firing(),
            Some(_) => return,
            None if self.top.len() < n => self.top.push(firing()),
            None => {
                let weakest = weakest(&self.top).expect("the list is full");
                self.top[weakest] = firing();
            }
        }
        if self.top.len() == n {
            self.top_floor = weakest(&self.top).map_or(0.0, |i| self.top[i].act);
        }
    }
}

/// The unit's firings from `n_before` tokens before firing `i` to `n_after` after it, in the same window.
fn around(settings: &CollectSettings, n_ctx: usize, firings: &[(u32, f32)], i: usize) -> Vec<(i8, f32)> {
    let (row, _) = firings[i];
    let window = row / n_ctx as u32;
    let low = row.saturating_sub(settings.n_before as u32).max(window * n_ctx as u32);
    let high = (row + settings.n_after as u32).min((window + 1) * n_ctx as u32 - 1);
    let first = firings[..i].iter().rposition(|f| f.0 < low).map_or(0, |p| p + 1);
    firings[first..].iter().take_while(|f| f.0 <= high).map(|&(r, a)| ((r as i64 - row as i64) as i8, a)).collect()
}

/// The finaliser of SplitMix64: a bijection whose output bits are well mixed.
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_activation_lies_between_the_edges_of_its_bin() {
        for act in [1e-4f32, 0.03, 0.5, 1.0, 1.0625, 1.99, 2.0, 17.3, 40_000.0] {
            let bin = bin_of(act);
            assert!(bin_edge(bin) <= act && act < bin_edge(bin + 1), "{act} in bin {bin}");
        }
        assert_eq!((bin_of(1e-9), bin_of(1e9)), (0, N_BINS - 1));
    }
}
