//! The histogram of a unit's activations: exact counts and sums per bin.

use serde::{Deserialize, Serialize};

/// Bins: 16 per doubling, linear inside a doubling, from 2^-16 to 2^16; what lies outside is counted in the end bins.
pub const N_BINS: usize = 32 * 16;
const LOWEST: u32 = (127 - 16) << 23;
const HIGHEST: u32 = ((127 + 16) << 23) - 1;
/// Bins to one bar of the histogram that is stored, which has four to a doubling, and to one bin of the samples, which are eight to a doubling.
pub const PER_BAR: usize = 4;
pub const PER_SAMPLE: usize = 2;

/// The bin of an activation above 0: the leading bits of the float, so its edges are exact.
pub fn bin_of(act: f32) -> usize {
    ((act.to_bits().clamp(LOWEST, HIGHEST) - LOWEST) >> 19) as usize
}

/// Lower edge of bin `bin` (of `N_BINS` for the upper edge of the last one).
pub fn bin_edge(bin: usize) -> f32 {
    f32::from_bits(LOWEST + ((bin as u32) << 19))
}

/// What fell into a bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    pub n: u32,
    pub sum: f64,
}

/// The bins from the first to the last that was ever needed; a unit uses a quarter of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    first: usize,
    used: Vec<Bin>,
}

impl Bins {
    pub fn add(&mut self, bin: usize, act: f32) {
        if self.used.is_empty() {
            self.first = bin;
        }
        if bin < self.first {
            let more = self.first - bin;
            self.used.splice(0..0, std::iter::repeat_n(Bin::default(), more));
            self.first = bin;
        }
        if bin - self.first >= self.used.len() {
            self.used.resize(bin - self.first + 1, Bin::default());
        }
        let slot = &mut self.used[bin - self.first];
        slot.n += 1;
        slot.sum += act as f64;
    }

    /// The bins that may hold something.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.used.len()
    }

    pub fn get(&self, bin: usize) -> Bin {
        bin.checked_sub(self.first).and_then(|i| self.used.get(i)).copied().unwrap_or_default()
    }

    /// (firings, summed activation) of the bins `low..high`.
    pub fn total(&self, low: usize, high: usize) -> (u64, f64) {
        let inside = low.max(self.first)..high.min(self.first + self.used.len());
        inside.map(|bin| self.get(bin)).fold((0, 0.0), |(n, sum), bin| (n + bin.n as u64, sum + bin.sum))
    }
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

    #[test]
    fn bins_grow_to_both_sides_and_keep_what_was_counted() {
        let mut bins = Bins::default();
        for act in [1.0f32, 4.0, 0.25, 1.0, 8.0] {
            bins.add(bin_of(act), act);
        }
        assert_eq!(bins.range(), bin_of(0.25)..bin_of(8.0) + 1);
        assert_eq!(bins.get(bin_of(1.0)), Bin { n: 2, sum: 2.0 });
        assert_eq!((bins.total(0, N_BINS), bins.total(bin_of(1.0), bin_of(8.0))), ((5, 14.25), (3, 6.0)));
        assert_eq!(bins.get(0), Bin::default());
    }
}
