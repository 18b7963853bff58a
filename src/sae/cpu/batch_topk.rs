//! The B k largest pre-activations of a whole batch (Bussmann et al. 2024), without holding the batch's pre-activations.
//!
//! Block after block, only what can still be among the B k largest is kept: the (B k)-th largest of what was found so far is a lower bound of the end result.
//! The search begins at a guess, somewhat below the end of the last batch's selection, so that a screen has little to rescore; where it proves too high, it begins
//! again lower, at last at zero. The result does not depend on the guess.

use super::step::Chunk;
use crate::kernels::screen::{Keep, Screen, ScreenCount, Wanted};
use crate::sae::encode::{CHUNK, Pool, block_rows, encode_wanted};

/// How much of the last selection's end is taken as the guess, one after the other.
const GUESSES: [f32; 3] = [0.8, 0.3, 0.0];

/// What a selection reads, w_enc (F, D), b_enc (F,) and their screen, and its buffers.
pub(super) struct Encoder<'a> {
    pub w_enc: &'a [f32],
    pub b_enc: &'a [f32],
    pub screen: &'a Screen,
    pub pre: &'a mut Vec<f32>,
    pub pool: &'a Pool,
    /// What the screen did, all searches together.
    pub count: &'a mut ScreenCount,
}

/// Least share of a new batch in the running mean of the least activation kept, and the one in a short run: after n batches the mean is over the last n / 8 or so, so
/// that a run of 20 steps is not left with the threshold of its beginning.
const SHARE: f64 = 0.01;
const WINDOWS: f64 = 8.0;

/// Puts the `wanted` largest z above zero of rows `centred` (B, D) into the chunks, of equal values those of earlier rows and lower latents, and returns
/// the least of them; none where nothing is above zero.
pub(super) fn select(encoder: &mut Encoder, wanted: usize, centred: &[f32], floor: &mut f32, chunks: &mut [Chunk]) -> Option<f32> {
    let mut found = Vec::new();
    for guess in GUESSES.map(|guess| *floor * guess) {
        found = above(encoder, centred, guess, wanted, chunks);
        if found.len() >= wanted || guess == 0.0 {
            break;
        }
    }
    if found.is_empty() {
        *floor = 0.0;
        return None;
    }
    let least = f32::from_bits(if found.len() > wanted { nth_largest(&mut found, wanted) } else { *found.iter().min().expect("not empty") });
    let above_least = found.iter().filter(|&&bits| bits > least.to_bits()).count();
    let mut equals_left = wanted - above_least.min(wanted);
    for chunk in chunks {
        keep(&mut chunk.rows, |act| {
            let keep = act > least || (act == least && equals_left > 0);
            equals_left -= usize::from(keep && act == least);
            keep
        });
    }
    *floor = least;
    Some(least)
}

/// The running mean of the least activation kept, which becomes the threshold of the saved SAE; `since` steps ago the selection was last changed.
pub(super) fn running_mean(before: f64, least: f32, since: u64) -> f64 {
    let share = SHARE.max(WINDOWS / (WINDOWS + since as f64));
    if before == 0.0 { least as f64 } else { (1.0 - share) * before + share * least as f64 }
}

/// Fills the chunks with all z from `floor` on, or from a higher value that at least `wanted` reach; returns the bits of those values.
fn above(encoder: &mut Encoder, centred: &[f32], floor: f32, wanted: usize, chunks: &mut [Chunk]) -> Vec<u32> {
    let Encoder { w_enc, b_enc, screen, pre, pool, count } = encoder;
    let f = b_enc.len();
    let d = w_enc.len() / f;
    let mut floor = floor;
    let mut found: Vec<u32> = Vec::new();
    for (x, chunks) in centred.chunks(block_rows(f) * d).zip(chunks.chunks_mut(block_rows(f) / CHUNK)) {
        let keep = Keep::Above { floor: if floor > 0.0 { floor.next_down() } else { 0.0 }, threshold: None };
        let mut parts: Vec<_> = chunks.iter_mut().map(|chunk| &mut chunk.rows).collect();
        // Half of all latents may be above zero, for which a screen has no room.
        **count += encode_wanted(Wanted { w: w_enc, bias: b_enc, keep }, screen, floor > 0.0, x, pre, pool, &mut parts);
        found.extend(chunks.iter().flat_map(|chunk| &chunk.rows.act).map(|a| a.to_bits()));
        if found.len() > wanted {
            floor = f32::from_bits(nth_largest(&mut found, wanted)).max(floor);
            let least = floor.to_bits();
            found.retain(|&bits| bits >= least);
        }
    }
    found
}

/// The n-th largest, n from 1. Bits of floats above zero have the order of the floats.
fn nth_largest(bits: &mut [u32], n: usize) -> u32 {
    let at = bits.len() - n;
    *bits.select_nth_unstable(at).1
}

fn keep(rows: &mut crate::sae::SparseRows, mut keep: impl FnMut(f32) -> bool) {
    let (mut to, mut from) = (0, 0);
    for end in rows.row_start.iter_mut().skip(1) {
        while from < *end {
            if keep(rows.act[from]) {
                rows.act[to] = rows.act[from];
                rows.latent[to] = rows.latent[from];
                to += 1;
            }
            from += 1;
        }
        *end = to;
    }
    rows.latent.truncate(to);
    rows.act.truncate(to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use rand::RngExt;

    #[test]
    fn the_largest_of_a_batch_are_those_of_a_full_sort_whatever_the_guess() {
        let (d, f, b, k) = (3, 700, 150, 5);
        let mut rng = seed::rng(0, "test/batch_topk", 0);
        // Few different numbers, so that many values are equal.
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-2i32..3) as f32).collect::<Vec<_>>();
        let (x, w, bias) = (random(b * d), random(f * d), random(f));
        let z = |r: usize, j: usize| (0..d).map(|i| x[r * d + i] * w[j * d + i]).sum::<f32>() + bias[j];
        let mut all: Vec<(f32, usize, usize)> = (0..b).flat_map(|r| (0..f).map(move |j| (r, j))).map(|(r, j)| (z(r, j), r, j)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        all.truncate(b * k);
        all.sort_by_key(|&(_, r, j)| (r, j));
        let want: Vec<(usize, u32, f32)> = all.iter().map(|&(z, r, j)| (r, j as u32, z)).collect();
        let mut screen = Screen::default();
        screen.update(&w, &bias, &x);
        for guess in [0.0, 1.0, 5.5, 1e9] {
            let mut chunks: Vec<Chunk> = (0..b.div_ceil(CHUNK)).map(|_| Chunk::default()).collect();
            let mut floor = guess;
            let encoder = &mut Encoder {
                w_enc: &w,
                b_enc: &bias,
                screen: &screen,
                pre: &mut vec![],
                pool: &Pool::default(),
                count: &mut ScreenCount::default(),
            };
            let least = select(encoder, b * k, &x, &mut floor, &mut chunks).unwrap();
            let mut got = Vec::new();
            for (c, chunk) in chunks.iter().enumerate() {
                for r in 0..chunk.rows.n_rows() {
                    let (latent, act) = chunk.rows.row(r);
                    got.extend(latent.iter().zip(act).map(|(&j, &a)| (c * CHUNK + r, j, a)));
                }
            }
            assert_eq!(got, want, "guess {guess}");
            assert_eq!(least, want.iter().map(|v| v.2).fold(f32::INFINITY, f32::min));
            assert_eq!(floor, least);
        }
    }
}
