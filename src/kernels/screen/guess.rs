//! Where a row's k-th largest pre-activation may lie, before it is known: from the norm of the row and from the part of its latents that has been seen, as it was in the rows before.
//!
//! A screen that begins with that limit, and raises it on the way, lists few latents and sorts little out. Nothing rests on the guess: where k latents of a row are found to
//! reach it, it was a lower bound of the k-th largest, as a limit must be; the other rows are screened again without it. What is found is therefore the same.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One row in so many may lie outside of what is learned from a block, before the margin. Blocks of fewer rows teach nothing.
const ONE_IN: usize = 128;

/// Rows of the next block lie a little elsewhere; what the k-th largest of Gaussian rows varies by is 1 to 2 %.
const MARGIN: f32 = 0.97;

/// The parts of the encoder, one in so many, after which limits are raised; the last is the whole.
pub const PARTS: [usize; 3] = [8, 2, 1];

/// What is known of the k largest of rows.
#[derive(Debug, Default)]
pub struct Guess {
    /// k in the upper half, the multiple of the norm in the lower; 0: none.
    by_norm: AtomicU64,
    /// k in the upper half, ranks in 16 bits each.
    ranks: AtomicU64,
}

/// Of the rows of a block: the k-th largest (0 where fewer are above zero) divided by the norm, and how many of the k largest lie in each part of the encoder but the whole (all where
/// fewer are above zero).
#[derive(Debug, Default)]
pub struct Seen {
    pub of_norm: Vec<f32>,
    pub within: [Vec<u16>; 2],
}

impl Seen {
    pub fn clear(&mut self) {
        self.of_norm.clear();
        self.within.iter_mut().for_each(Vec::clear);
    }
}

impl Guess {
    /// Where the k-th largest may begin, in multiples of a row's norm; 0 where nothing is known.
    pub fn of(&self, k: usize) -> f32 {
        let learned = self.by_norm.load(Relaxed);
        if learned >> 32 == k as u64 { f32::from_bits(learned as u32) } else { 0.0 }
    }

    /// The rank in each part that the k-th largest of all may be expected to be below; 0 where nothing is known.
    pub fn ranks(&self, k: usize) -> [usize; 2] {
        let learned = self.ranks.load(Relaxed);
        if learned >> 32 == k as u64 { [16, 0].map(|shift| (learned >> shift) as u16 as usize) } else { [0; 2] }
    }

    /// Takes over what a block's rows had. Reorders it.
    pub fn learn(&self, k: usize, seen: &mut Seen) {
        let n = seen.of_norm.len();
        if n < ONE_IN || u32::try_from(k).is_err() {
            return;
        }
        let low = *seen.of_norm.select_nth_unstable_by(n / ONE_IN, f32::total_cmp).1;
        let low = if low.is_finite() { (low * MARGIN).max(0.0) } else { 0.0 };
        self.by_norm.store((k as u64) << 32 | low.to_bits() as u64, Relaxed);
        // One more than nearly all rows have in the part: the latent of that rank is not one of the k.
        let [first, second] = seen.within.each_mut().map(|within| within.select_nth_unstable(n - 1 - n / ONE_IN).1.saturating_add(1) as u64);
        self.ranks.store((k as u64) << 32 | first << 16 | second, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(of_norm: Vec<f32>, within: fn(usize) -> u16) -> Seen {
        let within = [1, 2].map(|by| (0..of_norm.len()).map(|r| within(r).saturating_mul(by)).collect());
        Seen { of_norm, within }
    }

    #[test]
    fn a_guess_is_for_its_k_and_within_nearly_all_rows() {
        let guess = Guess::default();
        assert_eq!((guess.of(8), guess.ranks(8)), (0.0, [0, 0]));
        let n = 10 * ONE_IN;
        guess.learn(8, &mut seen((0..n).map(|r| 1.0 + (r * 7 % n) as f32 / n as f32).collect(), |r| (r % 100) as u16));
        // The eleventh of the smallest; of 1,280 rows twelve or thirteen have each of 0 to 99.
        assert_eq!((guess.of(8), guess.of(9)), ((1.0 + 10.0 / n as f32) * MARGIN, 0.0));
        assert_eq!((guess.ranks(8), guess.ranks(9)), ([100, 199], [0, 0]));
        guess.learn(8, &mut seen(vec![5.0; ONE_IN - 1], |_| 1));
        assert!(guess.of(8) < 1.0 && guess.ranks(8) == [100, 199], "few rows teach nothing");
        guess.learn(8, &mut seen(vec![5.0; n], |r| if r < 20 { u16::MAX } else { 1 }));
        assert_eq!(guess.ranks(8)[0], u16::MAX as usize, "where rows have fewer than k the rank is out of reach");
        for nothing in [0.0, f32::INFINITY, f32::NAN, -1.0] {
            guess.learn(8, &mut seen(vec![nothing; ONE_IN], |_| 1));
            assert_eq!(guess.of(8), 0.0, "{nothing}");
        }
    }
}
