//! What is kept of one unit (latent or neuron side) while text streams by.

use super::bins::{Bins, PER_SAMPLE, bin_of};
use super::coactive::Sketch;
use super::tokens::TokenTable;
use super::{CollectSettings, Windows};
use serde::{Deserialize, Serialize};

/// A firing that may become an example.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    pub t: u64,
    pub act: f32,
    pub doc: u32,
    /// (token distance from t, activation) of this and the unit's other firings nearby, inside the same window, rising.
    pub around: Vec<(i8, f32)>,
    /// (token distance from t, nats): what removing the unit at that token does to the loss of the next one; empty where not measured.
    pub loss: Vec<(i8, f32)>,
    /// Firings nearly the same that are left out for this one.
    pub similar: u32,
}

/// A uniform sample without replacement: the `n` firings with the smallest hashes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// Statistics and candidates of one unit. Every field is a function of the unit's firings in order of t.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    pub n: u64,
    pub sum: f64,
    pub squares: f64,
    /// Sum of the activations in the windows that correlations with the hook are over, and of their squares.
    pub correlated: (f64, f64),
    pub max: f32,
    pub bins: Bins,
    /// The best firing of each of the best documents, unordered.
    pub top: Vec<Firing>,
    /// The weakest of them once there are enough, 0 before.
    top_floor: f32,
    pub random: Sample,
    /// (bin of [`PER_SAMPLE`] bins, sample of its firings), by bin.
    pub by_bin: Vec<(u16, Sample)>,
    pub tokens: TokenTable,
    /// Windows in which it fires, and the last of them, from 1.
    pub n_windows: u64,
    last_window: u64,
    /// Firings in each part of the pass and in each bin of the position; empty until the first firing.
    pub over_time: Vec<u32>,
    pub over_position: Vec<u32>,
    pub sketch: Sketch,
}

/// What the units of one batch share.
pub struct Shared<'a> {
    pub settings: &'a CollectSettings,
    /// Tokens that a unit may keep apart.
    pub cap: usize,
    pub batch: Windows<'a>,
    /// Windows before this batch.
    pub first_window: u64,
    /// Hash of each token's t, (B,), and the same under the key of the co-activation sketch.
    pub hashes: &'a [u64],
    pub sketch_hashes: &'a [u64],
    /// Part of the pass of each window; bin of each position of a window.
    pub part_of: &'a [u32],
    pub bin_of_position: &'a [u32],
    pub n_parts: usize,
    pub n_positions: usize,
}

impl Unit {
    /// Takes the unit's firings `(row, act)` of one batch, rows rising. `keys` make the two samples independent of each other.
    pub fn take(&mut self, shared: &Shared, keys: [u64; 2], firings: &[(u32, f32)]) {
        let Shared { settings, batch, .. } = shared;
        if self.over_time.is_empty() && !firings.is_empty() {
            self.over_time = vec![0; shared.n_parts];
            self.over_position = vec![0; shared.n_positions];
        }
        for (i, &(row, act)) in firings.iter().enumerate() {
            let (window, position) = (row as usize / batch.n_ctx, row as usize % batch.n_ctx);
            let (t, doc, hash) = (batch.t0[window] + position as u64, batch.docs[row as usize], shared.hashes[row as usize]);
            self.n += 1;
            self.sum += act as f64;
            self.squares += act as f64 * act as f64;
            self.max = self.max.max(act);
            let bin = bin_of(act);
            self.bins.add(bin, act);
            self.tokens.add(batch.ids[row as usize], act, shared.cap);
            let window_number = shared.first_window + window as u64 + 1;
            self.n_windows += (window_number != self.last_window) as u64;
            self.last_window = window_number;
            self.over_time[shared.part_of[window] as usize] += 1;
            self.over_position[shared.bin_of_position[position] as usize] += 1;
            self.sketch.offer(settings.n_sketch, shared.sketch_hashes[row as usize], act);
            let firing = || Firing { t, act, doc, around: around(settings, batch.n_ctx, firings, i), ..Default::default() };
            self.offer_top(settings.n_top_kept(), act, doc, firing);
            self.random.offer(settings.n_random, mix(keys[0] ^ hash), firing);
            let coarse = (bin / PER_SAMPLE) as u16;
            let at = self.by_bin.binary_search_by_key(&coarse, |(b, _)| *b).unwrap_or_else(|at| {
                self.by_bin.insert(at, (coarse, Sample::default()));
                at
            });
            self.by_bin[at].1.offer(settings.n_per_bin, mix(keys[1] ^ hash), firing);
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
