//! In which order rows are served: everything here is a pure function of (token stream, seed, buffer size), found without the model.
//!
//! An epoch serves every row that counts once. It is cut into V *passes* (V = `visits`): in each pass every window is visited once, in an
//! order drawn for (seed, epoch, pass), and 1/V of its rows is taken. A pass is cut into equal *refills* that fit the buffer; the rows of
//! a refill are permuted together, by a permutation drawn for (seed, refill), and all served before the next refill begins.
//!
//! **How often neighbours share a document.** Let N be the rows of an epoch in R refills of N / R rows, S_w the ordered pairs of rows of
//! one document in one window, S_v those of them that are taken in one visit, S_x the pairs in different windows. Under a perfect
//! permutation of all N rows the expected number of adjacent pairs from one document is (S_w + S_x) / N. Here a pair of one visit is
//! always in one refill, a pair of one window in different visits never, and a pair of different windows, whose order is random, meets in a
//! refill with probability about 1 / R; within a refill a pair is adjacent with probability 1 / (N / R) for each order. So the expected
//! number is (S_v R + S_x) / N, and the ratio
//!
//! > (S_v R + S_x) / (S_w + S_x)
//!
//! is [`Plan::adjacency_ratio`]. With one visit it exceeds 2 where documents are short and the stream is many buffers long; a window's
//! rows are then taken in several visits. Each visit costs a forward pass of the window, so V is the smallest that keeps the ratio below
//! the promise of 2; it is 1 when the epoch fits two buffers or when documents are long.

use super::{Error, Result, counts};
use crate::artifact::seed;
use crate::corpus::TokenStream;
use rand::seq::SliceRandom;
use std::ops::Range;

/// The promise is 2; the margin is for the rounding of refill sizes.
const MAX_RATIO: f64 = 1.9;
/// More visits than this are not chosen by themselves.
const MAX_VISITS: usize = 16;

/// How rows are shuffled.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShuffleConfig {
    /// Seed of the order of windows and of each refill's permutation.
    pub seed: u64,
    /// Size of the buffer in RAM, MiB; default 1024. At least one window's rows are always held.
    pub buffer_mib: usize,
    /// Forward passes of each window per epoch; by itself the fewest that keep neighbours from one document below twice as frequent as
    /// under a perfect permutation (at most 16).
    pub visits: Option<usize>,
    /// An epoch is only the first windows that hold about so many rows (documents stand in random order already); by itself all training
    /// windows. A training that needs fewer rows than there are has a shorter epoch to shuffle, so fewer visits.
    pub max_rows: Option<u64>,
}

impl Default for ShuffleConfig {
    fn default() -> Self {
        ShuffleConfig { seed: 0, buffer_mib: 1024, visits: None, max_rows: None }
    }
}

impl ShuffleConfig {
    /// Which rows are served and in which order, in words that differ when they do (but for `max_rows`).
    pub fn rows(&self, hook: crate::lm::HookPoint) -> String {
        let visits = self.visits.map(|n| format!(", {n} visits")).unwrap_or_default();
        format!("{hook} through {} MiB, seed {}{visits}", self.buffer_mib, self.seed)
    }

    /// What [`ShuffleConfig::rows`] wrote, but for `max_rows`; rows of a cache are those of the model. None for anything else.
    pub fn of_rows(rows: &str) -> Option<(crate::lm::HookPoint, ShuffleConfig)> {
        let (hook, rest) = rows.strip_suffix(", cached").unwrap_or(rows).split_once(" through ")?;
        let (buffer, rest) = rest.split_once(" MiB, seed ")?;
        let (seed, visits) = match rest.split_once(", ") {
            Some((seed, visits)) => (seed, Some(visits.strip_suffix(" visits")?.parse().ok()?)),
            None => (rest, None),
        };
        Some((hook.parse().ok()?, ShuffleConfig { seed: seed.parse().ok()?, buffer_mib: buffer.parse().ok()?, visits, max_rows: None }))
    }

    /// The windows of an epoch, out of `all`. Some rows of a window do not count, so a tenth more windows are taken than would hold `max_rows`.
    pub(super) fn windows(&self, all: Range<u64>, n_ctx: usize) -> Range<u64> {
        let wanted = self.max_rows.map_or(u64::MAX, |rows| (rows.saturating_add(rows / 10)).div_ceil(n_ctx as u64).max(1));
        all.start..all.start.saturating_add(wanted).min(all.end)
    }
}

/// What an SAE's record says of its rows: those of [`ShuffleConfig::rows`], of a transcoder with where they are to come to behind them (`... to HOOK`), of a cache with `, cached`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadRows {
    pub hook: crate::lm::HookPoint,
    pub target: Option<crate::lm::HookPoint>,
    pub cached: bool,
    pub shuffle: ShuffleConfig,
}

impl ReadRows {
    /// None for words that this program does not write.
    pub fn parse(rows: &str) -> Option<Self> {
        let (rows, cached) = rows.strip_suffix(", cached").map_or((rows, false), |rows| (rows, true));
        let (rows, target) = rows.rsplit_once(" to ").map_or((rows, None), |(rows, target)| (rows, Some(target)));
        let (hook, shuffle) = ShuffleConfig::of_rows(rows)?;
        Some(ReadRows { hook, target: target.map(str::parse).transpose().ok()?, cached, shuffle })
    }
}

/// The order of an epoch. n_windows windows of n_ctx tokens, V visits.
#[derive(Debug, Clone)]
pub struct Plan {
    seed: u64,
    first_window: u64,
    n_ctx: usize,
    /// Rows that count in each window.
    kept: Vec<u32>,
    rows_per_epoch: u64,
    visits: usize,
    refills_per_pass: usize,
    /// Of a document's counted rows in one window, how many runs have how many rows: `runs[n]` runs of n rows.
    runs: Vec<u64>,
    /// Ordered pairs of counted rows of one document in different windows.
    pairs_apart: f64,
}

/// One refill of the buffer, found by [`Plan::locate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refill {
    pub epoch: u64,
    pub pass: usize,
    pub refill: usize,
}

impl Plan {
    /// Counts the rows of `windows` of `n_ctx` tokens (reads every token of them once) and chooses visits and refills for a buffer of
    /// `buffer_rows` rows.
    pub fn new(stream: &TokenStream, windows: Range<u64>, n_ctx: usize, buffer_rows: usize, seed: u64, visits: Option<usize>) -> Result<Self> {
        let (kept, runs, pairs_apart) = count(stream, windows.clone(), n_ctx);
        let rows_per_epoch = kept.iter().map(|&k| u64::from(k)).sum();
        if rows_per_epoch == 0 {
            return Err(Error::NoRows { n_windows: windows.end - windows.start, n_ctx });
        }
        let mut plan = Plan { seed, first_window: windows.start, n_ctx, kept, rows_per_epoch, visits: 1, refills_per_pass: 1, runs, pairs_apart };
        let candidates = visits.map_or(1..=MAX_VISITS, |v| v.max(1)..=v.max(1));
        for visits in candidates {
            plan.visits = visits;
            let most_rows_of_a_visit = (n_ctx - 1).div_ceil(visits).max(1);
            plan.refills_per_pass = plan.n_windows().div_ceil((buffer_rows / most_rows_of_a_visit).max(1));
            if plan.adjacency_ratio() <= MAX_RATIO {
                break;
            }
        }
        Ok(plan)
    }

    pub fn n_windows(&self) -> usize {
        self.kept.len()
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Rows that an epoch serves, each once.
    pub fn rows_per_epoch(&self) -> u64 {
        self.rows_per_epoch
    }

    /// Forward passes of each window per epoch.
    /// Tokens that are run, or read, for so many rows: every window is visited as often as the plan says.
    pub fn tokens_for(&self, rows: u64) -> u64 {
        let epochs = rows as f64 / self.rows_per_epoch as f64;
        (epochs * (self.visits * self.n_windows() * self.n_ctx) as f64) as u64
    }

    pub fn visits(&self) -> usize {
        self.visits
    }

    /// Expected adjacent pairs from one document over those under a perfect permutation of the epoch; see the module's derivation.
    pub fn adjacency_ratio(&self) -> f64 {
        let pairs_in = |visits: usize| -> f64 { self.runs.iter().enumerate().map(|(n, &runs)| runs as f64 * pairs_of_a_visit(n, visits)).sum() };
        let all = pairs_in(1) + self.pairs_apart;
        let refills = (self.visits * self.refills_per_pass) as f64;
        if all == 0.0 { 1.0 } else { (pairs_in(self.visits) * refills + self.pairs_apart) / all }
    }

    /// The most rows that any refill of a pass may hold.
    pub fn max_refill_rows(&self) -> usize {
        let windows = self.n_windows().div_ceil(self.refills_per_pass);
        windows * (self.n_ctx - 1).div_ceil(self.visits).max(1)
    }

    pub(crate) fn refill_index(&self, at: Refill) -> u64 {
        (at.epoch * self.visits as u64 + at.pass as u64) * self.refills_per_pass as u64 + at.refill as u64
    }

    pub(crate) fn next(&self, at: Refill) -> Refill {
        match (at.refill + 1 < self.refills_per_pass, at.pass + 1 < self.visits) {
            (true, _) => Refill { refill: at.refill + 1, ..at },
            (false, true) => Refill { pass: at.pass + 1, refill: 0, ..at },
            (false, false) => Refill { epoch: at.epoch + 1, pass: 0, refill: 0 },
        }
    }

    /// The order in which a pass visits the windows, numbered from 0.
    pub(crate) fn order(&self, epoch: u64, pass: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.n_windows() as u32).collect();
        order.shuffle(&mut seed::rng(self.seed, "activations/windows", epoch * self.visits as u64 + pass as u64));
        order
    }

    /// Which of a pass's windows, in its order, fill refill number `refill`.
    pub(crate) fn refill_range(&self, refill: usize) -> Range<usize> {
        let cut = |r: usize| (r as u128 * self.n_windows() as u128 / self.refills_per_pass as u128) as usize;
        cut(refill)..cut(refill + 1)
    }

    /// Whether the row with this rank among the counted rows of a window is taken in a pass.
    pub(crate) fn takes(&self, rank: usize, window: u32, at: Refill) -> bool {
        (rank as u64 + u64::from(window) + at.epoch) % self.visits as u64 == at.pass as u64
    }

    /// How many rows of a window a pass takes.
    fn n_taken(&self, window: u32, at: Refill) -> u64 {
        let visits = self.visits as u64;
        let first = (at.pass as u64 + visits - (u64::from(window) + at.epoch) % visits) % visits;
        u64::from(self.kept[window as usize]).saturating_sub(first).div_ceil(visits)
    }

    /// Rows of a refill, given the order of its pass.
    pub(crate) fn n_rows(&self, at: Refill, order: &[u32]) -> u64 {
        order[self.refill_range(at.refill)].iter().map(|&w| self.n_taken(w, at)).sum()
    }

    /// The refill that holds row `position` of all rows ever served, and the row's place in it.
    pub(crate) fn locate(&self, position: u64) -> (Refill, u64) {
        let mut rest = position % self.rows_per_epoch;
        let mut at = Refill { epoch: position / self.rows_per_epoch, pass: 0, refill: 0 };
        loop {
            let in_pass: u64 = (0..self.n_windows() as u32).map(|w| self.n_taken(w, at)).sum();
            if rest < in_pass {
                break;
            }
            rest -= in_pass;
            at.pass += 1;
        }
        let order = self.order(at.epoch, at.pass);
        loop {
            let in_refill = self.n_rows(at, &order);
            if rest < in_refill {
                return (at, rest);
            }
            rest -= in_refill;
            at.refill += 1;
        }
    }

    /// The window's number in the stream: its tokens are `w n_ctx .. (w + 1) n_ctx`.
    pub(crate) fn stream_window(&self, window: u32) -> u64 {
        self.first_window + u64::from(window)
    }
}

/// Ordered pairs among n rows with ranks in sequence that are taken in the same visit: ranks that differ by a multiple of V.
fn pairs_of_a_visit(n: usize, visits: usize) -> f64 {
    let (least, more) = (n / visits, n % visits);
    (more * (least + 1) * least + (visits - more) * least * least.saturating_sub(1)) as f64
}

/// Counted rows of each window; runs by length of counted rows of one document in one window; ordered pairs of counted rows of one
/// document in different windows.
fn count(stream: &TokenStream, windows: Range<u64>, n_ctx: usize) -> (Vec<u32>, Vec<u64>, f64) {
    let mut runs = vec![0u64; n_ctx + 1];
    if windows.is_empty() {
        return (Vec::new(), runs, 0.0);
    }
    let end_of_text = stream.end_of_text();
    let mut ids = vec![0; n_ctx];
    let mut kept = Vec::with_capacity((windows.end - windows.start) as usize);
    let mut doc = stream.doc_of(windows.start * n_ctx as u64);
    let (mut end, mut of_doc, mut together, mut all) = (stream.doc_end(doc), 0u64, 0.0f64, 0.0f64);
    let pairs = |n: u64| (n * n.saturating_sub(1)) as f64;
    for w in windows {
        let t0 = w * n_ctx as u64;
        stream.read(t0, &mut ids);
        let (mut of_window, mut run) = (0u32, 0u64);
        for (position, &token) in ids.iter().enumerate() {
            while t0 + position as u64 >= end {
                all += pairs(of_doc);
                together += pairs(run);
                runs[run as usize] += 1;
                (of_doc, run) = (0, 0);
                doc += 1;
                end = stream.doc_end(doc);
            }
            if counts(token, position, end_of_text) {
                of_window += 1;
                run += 1;
                of_doc += 1;
            }
        }
        together += pairs(run);
        runs[run as usize] += 1;
        kept.push(of_window);
    }
    all += pairs(of_doc);
    (kept, runs, all - together)
}
