//! What the low-precision products read and fill: the packed encoder, and the candidates of a block of rows.
//!
//! A packed row is P words of 32 bits: four 8-bit or two 16-bit numbers each, the first input in the lowest bits. How many latents a panel has and how many rows a group is a
//! matter of the product.
//!
//! **Candidates are rescored while the lists fill.** A row's limit is the k-th largest of numbers that are surely not above their z. Lower bounds are such numbers, but a whole width of the bound
//! below the middle that they stand for; so, from time to time, the candidates whose bounds have the highest middles, half as many again as k, are rescored, and their exact values raise the limit. What that costs is
//! not lost: those that stay would be rescored in the end. A candidate that is rescored has both bounds at its value. No other has: e_j is at least 8u |z'_j| and never 0.
//!
//! A whole block is rescored at once, in the order of the latents: their weights, which no cache may hold, are then read once for all rows of the block. The more rows the better: in a loop by
//! itself, 50 candidates of 16,384 latents for a row of width 512 take 113 ns each in blocks of 512 rows, 59 in blocks of 1,024 and 44 in blocks of 2,048. The tiles want fewer rows at a time, so that
//! packed inputs stay in a level-2 cache: [`Lists::strips`].

use crate::kernels::sparse::dot;
use std::ops::Range;

/// Candidates of a row before the first compaction. Fewer raise the limit too early to drop much, more too late.
pub const ROOM: usize = 256;

/// Words of packed inputs that tiles go over with one panel after the other: 256 KiB, a quarter of a level-2 cache.
const STRIP_WORDS: usize = 1 << 16;

/// The encoder as the tiles read it. F' = F rounded up to whole panels; what is behind F has a bias of -infinity and is never a candidate.
#[derive(Debug, Default)]
pub struct Panels {
    /// (F' / panel, P, panel)
    pub packed: Vec<u32>,
    /// (F, panel, P) of `packed`.
    shape: (usize, usize, usize),
    /// (F',) each: see the bound in the parent module.
    pub norm: Vec<f32>,
    pub change: Vec<f32>,
    pub slack: Vec<f32>,
    pub bias: Vec<f32>,
    /// (F',): what a packed number of the latent is multiplied by; 1 where numbers are packed as they are.
    pub scale: Vec<f32>,
    /// (F',): what the sums of products start from, where they are integers.
    pub start: Vec<i32>,
}

/// The exact pre-activations of a block: w (F, D), bias (F,), x (rows, D).
#[derive(Debug, Clone, Copy)]
pub struct Exact<'a> {
    pub w: &'a [f32],
    pub bias: &'a [f32],
    pub x: &'a [f32],
}

impl Panels {
    /// Empty panels for `latents` latents, whose numbers the caller fills.
    pub fn reset(&mut self, latents: usize, (panel, words): (usize, usize)) {
        let padded = latents.next_multiple_of(panel);
        // What is behind F stays zero once it is: it is never filled.
        if self.shape != (latents, panel, words) {
            self.shape = (latents, panel, words);
            self.packed.clear();
            self.packed.resize(padded * words, 0);
        }
        self.start.clear();
        self.start.resize(padded, 0);
        let Panels { norm, change, slack, bias, scale, .. } = self;
        for (buffer, value) in [(norm, 0.0), (change, 0.0), (slack, 0.0), (bias, f32::NEG_INFINITY), (scale, 1.0)] {
            buffer.clear();
            buffer.resize(padded, value);
        }
    }
}

/// Candidates of a block of rows. Row r has `len[r]` entries from `r * stride`; a row holds at most `stride` less a panel of them between tiles.
#[derive(Debug, Default)]
pub struct Lists {
    pub stride: usize,
    pub len: Vec<usize>,
    /// Length from which a row is compacted: at first [`ROOM`] or as asked, then twice what the last compaction left, as far as the list reaches.
    pub compact_at: Vec<usize>,
    pub latent: Vec<u32>,
    pub upper: Vec<f32>,
    pub lower: Vec<f32>,
    /// What a candidate's upper bound must reach in each row, above zero; NaN bounds pass. At least k latents seen so far have this value or a larger one, unless it is `guessed`.
    pub least: Vec<f32>,
    /// |x|
    pub norm: Vec<f32>,
    /// The last guess that `least` was set to, else the smallest number above zero.
    pub guessed: Vec<f32>,
    /// (F',): what it must reach whatever the row. Filled by the caller.
    pub limit: Vec<f32>,
    /// Factors of the error bound of each row.
    pub by_norm: Vec<f32>,
    pub by_change: Vec<f32>,
    /// What a packed number of the row is multiplied by; 1 where numbers are packed as they are.
    pub scale: Vec<f32>,
    /// Rows that the screen leaves to exact arithmetic.
    pub undecided: Vec<bool>,
    /// Of rows that were given up: what at least k of its latents reach; 0 where that is not known.
    pub reached: Vec<f32>,
    /// (groups, P, group)
    pub packed: Vec<u32>,
    /// Room for a row before it is packed.
    pub stretched: Vec<f32>,
    keys: Vec<u32>,
    /// Candidates to rescore: latent, and place in the lists.
    open: Vec<(u32, u32)>,
    /// The same, latents ascending, the rows of each ascending.
    ordered: Vec<(u32, u32)>,
    ends: Vec<u32>,
}

impl Lists {
    /// Empty lists for `rows` rows, `panel` entries longer than `room`, compacted first at `first_look`; the caller fills factors, packed inputs and `limit`.
    pub fn reset(&mut self, rows: usize, words: usize, (room, first_look): (usize, usize), (panel, group): (usize, usize)) {
        let (padded, stride) = (rows.next_multiple_of(group), room + panel);
        assert!(
            u32::try_from(padded * stride).is_ok(),
            "{rows} rows of {stride} candidates: their places do not fit in 32 bits; screen fewer rows at a time"
        );
        self.stride = stride;
        let Lists { least, guessed, norm, by_norm, by_change, scale, .. } = self;
        for (buffer, start) in [(least, f32::from_bits(1)), (guessed, f32::from_bits(1)), (norm, 0.0), (by_norm, 0.0), (by_change, 0.0), (scale, 1.0)]
        {
            buffer.clear();
            buffer.resize(padded, start);
        }
        self.len.clear();
        self.len.resize(padded, 0);
        self.compact_at.clear();
        self.compact_at.resize(padded, first_look.min(room));
        self.limit.clear();
        self.undecided.clear();
        self.undecided.resize(padded, false);
        self.reached.clear();
        self.reached.resize(padded, 0.0);
        if self.latent.len() < padded * stride {
            self.latent.resize(padded * stride, 0);
            self.upper.resize(padded * stride, 0.0);
            self.lower.resize(padded * stride, 0.0);
        }
        self.packed.clear();
        self.packed.resize(padded * words, 0);
    }

    /// The groups of rows in strips, for the tiles to go over one after the other; given P and the rows of a group.
    pub fn strips(&self, (words, group): (usize, usize)) -> impl Iterator<Item = Range<usize>> + use<> {
        let (groups, at_once) = (self.len.len() / group, (STRIP_WORDS / (words * group).max(1)).max(1));
        (0..groups).step_by(at_once).map(move |start| start..(start + at_once).min(groups))
    }

    /// Makes room in a row that is full: raises its limit, drops what is below, and where that leaves it nearly full, rescores those of it that are likely to be the largest, which raises it further.
    /// Gives the row up where even that leaves it nearly full, because it would be sorted out again after every tile. `sort_out` is [`Lists::drop_below_limit`] or as good.
    ///
    /// Where all above their limits are wanted no limit is raised and nothing rescored.
    pub fn compact(&mut self, row: usize, full: usize, largest: Option<(usize, &Exact)>, sort_out: impl Fn(&mut Lists, usize)) {
        // Latents without a bound go on being listed in a row that was given up, and in those that only fill a group, of which there is no input.
        if self.undecided[row] {
            self.len[row] = 0;
            return;
        }
        let is_nearly_full = |lists: &Lists| lists.len[row] > full / 4 * 3;
        self.raise(row, largest.map(|(k, _)| k));
        sort_out(self, row);
        if let Some((k, exact)) = largest.filter(|_| is_nearly_full(self)) {
            self.open.clear();
            self.choose(row, Some(k + k / 2));
            (0..self.open.len()).for_each(|i| self.rescore_one(self.open[i], exact));
            self.raise(row, Some(k));
            sort_out(self, row);
        }
        self.compact_at[row] = (2 * self.len[row]).clamp(ROOM.min(full), full);
        if is_nearly_full(self) {
            self.undecided[row] = true;
            self.reached[row] = if self.least[row] > self.guessed[row] { self.least[row] } else { 0.0 };
            self.len[row] = 0;
            self.least[row] = f32::INFINITY;
        }
    }

    /// Raises the limit of a row to its k-th largest lower bound. Without a k limits stay.
    pub fn raise(&mut self, row: usize, k: Option<usize>) {
        let entries = self.entries(row);
        let n = entries.len();
        let Some(k) = k.filter(|&k| n > k) else { return };
        // The bits of floats that are not negative have the order of the floats; a limit is never below zero.
        self.keys.clear();
        self.keys.extend(self.lower[entries].iter().map(|v| v.max(0.0).to_bits()));
        let kth = f32::from_bits(*self.keys.select_nth_unstable(n - k).1);
        self.least[row] = self.least[row].max(kth);
    }

    /// Where the candidates of a row are.
    pub fn entries(&self, row: usize) -> Range<usize> {
        row * self.stride..row * self.stride + self.len[row]
    }

    /// Rescores candidates of the first rows: all, or of each row 1.5 k that are likely to be the largest, of which the k-th may then raise its limit.
    pub fn rescore(&mut self, rows: usize, k: Option<usize>, exact: &Exact) {
        self.open.clear();
        for row in 0..rows {
            self.choose(row, k.map(|k| k + k / 2));
        }
        self.order(exact.bias.len());
        (0..self.ordered.len()).for_each(|i| self.rescore_one(self.ordered[i], exact));
        (0..rows).for_each(|row| self.raise(row, k));
    }

    /// Puts both bounds of a candidate, its latent and place, at its value.
    #[inline(always)]
    fn rescore_one(&mut self, (j, at): (u32, u32), exact: &Exact) {
        let (j, at, d) = (j as usize, at as usize, exact.w.len() / exact.bias.len());
        let z = dot(&exact.w[j * d..][..d], &exact.x[at / self.stride * d..][..d]) + exact.bias[j];
        (self.lower[at], self.upper[at]) = (z, z);
    }

    /// Takes the candidate of this rank, by the middle of its bounds, for one that is below the k-th largest of all, where the limit of its row is lower. Whether it is can be asked in the end.
    /// Rows with few more candidates are left as they are: it would save them little.
    pub fn guess(&mut self, row: usize, rank: usize) {
        let entries = self.entries(row);
        let n = entries.len();
        if n < 2 * rank {
            return;
        }
        self.keys.clear();
        self.keys.extend(self.lower[entries.clone()].iter().zip(&self.upper[entries]).map(middle));
        let guess = f32::from_bits(*self.keys.select_nth_unstable(n - rank).1) * 0.5;
        if guess > self.least[row] {
            (self.least[row], self.guessed[row]) = (guess, guess);
        }
    }

    /// Appends to `open` what is to be rescored of a row: all, or so many that are likely to be the largest.
    fn choose(&mut self, row: usize, most: Option<usize>) {
        let entries = self.entries(row);
        let Lists { latent, upper, lower, keys, open, .. } = self;
        let (low, high) = (&lower[entries.clone()], &upper[entries.clone()]);
        let mut least = 0;
        if let Some(most) = most.filter(|&most| most < entries.len()) {
            keys.clear();
            keys.extend(low.iter().zip(high).map(middle));
            let at = entries.len() - most;
            least = *keys.select_nth_unstable(at).1;
            // Not so many of them are known to be above zero.
            if least == 0 {
                return;
            }
        }
        let bounds = low.iter().zip(high).zip(entries);
        open.extend(bounds.filter(|&((low, high), _)| low != high && middle((low, high)) >= least).map(|(_, at)| (latent[at], at as u32)));
    }

    /// `open`, ordered by latent, into `ordered`.
    fn order(&mut self, latents: usize) {
        let Lists { open, ordered, ends, .. } = self;
        ends.clear();
        ends.resize(latents + 1, 0);
        open.iter().for_each(|&(j, _)| ends[j as usize + 1] += 1);
        for j in 1..ends.len() {
            ends[j] += ends[j - 1];
        }
        ordered.clear();
        ordered.resize(open.len(), (0, 0));
        for &entry in &*open {
            let end = &mut ends[entry.0 as usize];
            ordered[*end as usize] = entry;
            *end += 1;
        }
    }

    /// Drops what is below the row's limit.
    pub fn drop_below_limit(&mut self, row: usize) {
        let (entries, least) = (self.entries(row), self.least[row]);
        let (latent, upper, lower) = (&mut self.latent[entries.clone()], &mut self.upper[entries.clone()], &mut self.lower[entries]);
        let mut kept = 0;
        for i in 0..latent.len() {
            (latent[kept], upper[kept], lower[kept]) = (latent[i], upper[i], lower[i]);
            // A bound that is not a number keeps its latent.
            kept += usize::from(upper[kept] >= least || upper[kept].is_nan());
        }
        self.len[row] = kept;
    }

    /// Whether rows have more than so many candidates each, on average.
    pub fn are_longer_than(&self, mean: usize) -> bool {
        self.len.iter().sum::<usize>() > mean * self.len.len()
    }

    /// Of a row whose candidates are all rescored: whether the last guess of its limit was a lower bound of the k-th largest.
    pub fn guessed_well(&self, row: usize, k: usize) -> bool {
        self.guessed[row] == f32::from_bits(1) || self.upper[self.entries(row)].iter().filter(|&&z| z >= self.guessed[row]).count() >= k
    }
}

/// The sum of a candidate's bounds as a number that has the order of floats that are not negative: as their bits have. A bound that is not a number tells nothing of its latent.
fn middle((low, high): (&f32, &f32)) -> u32 {
    let sum = low + high;
    if sum.is_finite() { sum.max(0.0).to_bits() } else { 0 }
}
