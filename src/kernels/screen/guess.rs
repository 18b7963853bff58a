//! Where a row's k-th largest pre-activation may lie, before any of them is known: so many times the norm of the row, as it was in the rows before.
//!
//! A screen that begins with that limit lists few latents from the first panel on and sorts nothing out on the way. Nothing rests on the guess: where k latents of a row are found to
//! reach it, it was a lower bound of the k-th largest, as a limit must be; the other rows are screened again without it. What is found is therefore the same.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One row in so many may lie below what is learned from a block, before the margin. Blocks of fewer rows teach nothing.
const ONE_IN: usize = 64;

/// Rows of the next block lie a little elsewhere; what the k-th largest of Gaussian rows varies by is 1 to 2 %.
const MARGIN: f32 = 0.97;

/// k in the upper half, the multiple of the norm in the lower; 0: none.
#[derive(Debug, Default)]
pub struct Guess(AtomicU64);

impl Guess {
    /// Where the k-th largest may begin, in multiples of a row's norm; 0 where nothing is known.
    pub fn of(&self, k: usize) -> f32 {
        let learned = self.0.load(Relaxed);
        if learned >> 32 == k as u64 { f32::from_bits(learned as u32) } else { 0.0 }
    }

    /// Takes over what a block's rows had, each its k-th largest (0 where fewer are above zero) divided by its norm. Reorders them.
    pub fn learn(&self, k: usize, of_rows: &mut [f32]) {
        if of_rows.len() >= ONE_IN && u32::try_from(k).is_ok() {
            let low = *of_rows.select_nth_unstable_by(of_rows.len() / ONE_IN, f32::total_cmp).1;
            let low = if low.is_finite() { (low * MARGIN).max(0.0) } else { 0.0 };
            self.0.store((k as u64) << 32 | low.to_bits() as u64, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_for_its_k_and_below_nearly_all_rows() {
        let guess = Guess::default();
        assert_eq!(guess.of(8), 0.0);
        let mut rows: Vec<f32> = (0..640).map(|r| 1.0 + (r * 7 % 640) as f32 / 640.0).collect();
        guess.learn(8, &mut rows);
        // The tenth of 640 is 1 + 10 / 640.
        assert_eq!((guess.of(8), guess.of(9)), ((1.0 + 10.0 / 640.0) * MARGIN, 0.0));
        guess.learn(8, &mut [5.0; ONE_IN - 1]);
        assert!(guess.of(8) < 1.0, "few rows teach nothing");
        for nothing in [0.0, f32::INFINITY, f32::NAN, -1.0] {
            guess.learn(8, &mut [nothing; ONE_IN]);
            assert_eq!(guess.of(8), 0.0, "{nothing}");
        }
    }
}
