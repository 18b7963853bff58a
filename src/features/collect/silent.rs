//! Where a unit is silent though the token is one of its own: from a uniform sample of whole windows, kept with all their activations.
//!
//! A window is kept where its hash is below a bound, and the bound falls to the largest kept hash whenever too much is kept. So memory is
//! bounded by `max_kept` activations (8 bytes each), and the sample depends on nothing but the text and the seed.

use super::unit::{Firing, mix};
use super::{CollectSettings, Windows};
use crate::sae::SparseRows;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    windows: Vec<Window>,
    n_entries: usize,
    /// Hashes from here on are turned away; 0 before the first was.
    bound: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    hash: u64,
    t0: u64,
    ids: Vec<u32>,
    docs: Vec<u32>,
    counted: Vec<bool>,
    row_start: Vec<u32>,
    units: Vec<u32>,
    acts: Vec<f32>,
}

impl Kept {
    /// Offers the windows of a batch.
    pub fn offer(&mut self, max_kept: usize, key: u64, batch: &Windows, rows: &SparseRows) {
        for (w, &t0) in batch.t0.iter().enumerate() {
            let (first, end) = (w * batch.n_ctx, (w + 1) * batch.n_ctx);
            let hash = mix(key ^ mix(t0));
            if max_kept == 0 || (self.bound != 0 && hash >= self.bound) {
                continue;
            }
            let (from, to) = (rows.row_start[first], rows.row_start[end]);
            self.windows.push(Window {
                hash,
                t0,
                ids: batch.ids[first..end].to_vec(),
                docs: batch.docs[first..end].to_vec(),
                counted: batch.counted[first..end].to_vec(),
                row_start: rows.row_start[first..=end].iter().map(|s| (s - from) as u32).collect(),
                units: rows.latent[from..to].to_vec(),
                acts: rows.act[from..to].to_vec(),
            });
            self.n_entries += to - from;
            while self.n_entries > max_kept && self.windows.len() > 1 {
                let largest = (0..self.windows.len()).max_by_key(|&i| self.windows[i].hash).expect("it is not empty");
                self.bound = self.windows[largest].hash;
                self.n_entries -= self.windows.swap_remove(largest).units.len();
            }
        }
    }

    /// Activations kept now.
    #[cfg(test)]
    pub fn n_entries(&self) -> usize {
        self.n_entries
    }

    /// Every place of each token in the kept windows, in an order that does not depend on the text's.
    pub fn index(mut self) -> Index {
        self.windows.sort_unstable_by_key(|w| w.hash);
        let mut places: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
        for (w, window) in self.windows.iter().enumerate() {
            for (row, &id) in window.ids.iter().enumerate().filter(|(row, _)| window.counted[*row]) {
                places.entry(id).or_default().push((w as u32, row as u32));
            }
        }
        Index { windows: self.windows, places }
    }
}

pub struct Index {
    windows: Vec<Window>,
    /// token -> (window, row)
    places: HashMap<u32, Vec<(u32, u32)>>,
}

/// Places of one token that are looked at, and silent ones of it that are shown.
const LOOKED_AT: usize = 64;
const PER_TOKEN: usize = 2;

impl Index {
    /// Up to `n_zero` places where `unit` is silent on one of `tokens` (the first ones first), as firings of activation 0.
    pub fn silent(&self, settings: &CollectSettings, unit: u32, tokens: impl Iterator<Item = u32>) -> Vec<Firing> {
        let mut found = vec![];
        for token in tokens {
            let places = self.places.get(&token).map_or(&[][..], Vec::as_slice).iter().take(LOOKED_AT);
            let silent = places.filter(|(w, row)| self.windows[*w as usize].act(*row as usize, unit).is_none()).take(PER_TOKEN);
            let room = settings.n_zero - found.len();
            found.extend(silent.take(room).map(|&(w, row)| self.windows[w as usize].firing(settings, row as usize, unit)));
            if found.len() == settings.n_zero {
                break;
            }
        }
        found
    }
}

impl Window {
    fn act(&self, row: usize, unit: u32) -> Option<f32> {
        let (from, to) = (self.row_start[row] as usize, self.row_start[row + 1] as usize);
        self.units[from..to].binary_search(&unit).ok().map(|i| self.acts[from + i])
    }

    fn firing(&self, settings: &CollectSettings, row: usize, unit: u32) -> Firing {
        let (low, high) = (row.saturating_sub(settings.n_before), (row + settings.n_after + 1).min(self.ids.len()));
        let around = (low..high).filter(|&r| self.counted[r]).filter_map(|r| Some(((r as i64 - row as i64) as i8, self.act(r, unit)?)));
        Firing { t: self.t0 + row as u64, act: 0.0, doc: self.docs[row], around: around.collect(), ..Default::default() }
    }
}
