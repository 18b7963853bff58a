//! What the low-precision products read and fill: the packed encoder, and the candidates of a block of rows.
//!
//! P = ceil(D / 2) pairs of inputs. A packed element is a pair of 16-bit numbers, the first input in its low half. How many latents a panel has and how many rows
//! a group is a matter of the product.

/// Candidates of a row before the first compaction. Fewer raise the limit too early to drop much, more too late.
pub const ROOM: usize = 256;

/// The encoder as the tiles read it. F' = F rounded up to whole panels; what is behind F has a bias of -infinity and is never a candidate.
#[derive(Debug, Default)]
pub struct Panels {
    /// (F' / panel, P, panel)
    pub packed: Vec<u32>,
    /// (F',) each: see the bound in the parent module.
    pub norm: Vec<f32>,
    pub change: Vec<f32>,
    pub slack: Vec<f32>,
    pub bias: Vec<f32>,
    /// (F',): what a packed number of the latent is multiplied by; 1 where numbers are packed as they are.
    pub scale: Vec<f32>,
}

impl Panels {
    /// Empty panels for `latents` latents, whose numbers the caller fills.
    pub fn reset(&mut self, latents: usize, panel: usize, pairs: usize) {
        let padded = latents.next_multiple_of(panel);
        self.packed.clear();
        self.packed.resize(padded * pairs, 0);
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
    /// What a candidate's upper bound must reach in each row; NaN bounds pass. The k-th largest lower bound seen so far, above zero.
    pub least: Vec<f32>,
    /// (F',): what it must reach whatever the row. Filled by the caller.
    pub limit: Vec<f32>,
    /// Factors of the error bound of each row.
    pub by_norm: Vec<f32>,
    pub by_change: Vec<f32>,
    /// What a packed number of the row is multiplied by; 1 where numbers are packed as they are.
    pub scale: Vec<f32>,
    /// Rows that the screen leaves to exact arithmetic.
    pub undecided: Vec<bool>,
    /// (groups, P, group)
    pub packed: Vec<u32>,
    keys: Vec<u32>,
}

impl Lists {
    /// Empty lists for `rows` rows, `panel` entries longer than `room`, compacted first at `first_look`; the caller fills factors, packed inputs and `limit`.
    pub fn reset(&mut self, rows: usize, pairs: usize, (room, first_look): (usize, usize), (panel, group): (usize, usize)) {
        let (padded, stride) = (rows.next_multiple_of(group), room + panel);
        self.stride = stride;
        let Lists { least, by_norm, by_change, scale, .. } = self;
        for (buffer, start) in [(least, f32::from_bits(1)), (by_norm, 0.0), (by_change, 0.0), (scale, 1.0)] {
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
        if self.latent.len() < padded * stride {
            self.latent.resize(padded * stride, 0);
            self.upper.resize(padded * stride, 0.0);
            self.lower.resize(padded * stride, 0.0);
        }
        self.packed.clear();
        self.packed.resize(padded * pairs, 0);
    }

    /// Raises the limit of a row to its k-th largest lower bound.
    pub fn raise(&mut self, row: usize, k: usize) {
        let (start, n) = (row * self.stride, self.len[row]);
        if n > k {
            // The bits of floats that are not negative have the order of the floats; a limit is never below zero.
            self.keys.clear();
            self.keys.extend(self.lower[start..start + n].iter().map(|v| v.max(0.0).to_bits()));
            let kth = f32::from_bits(*self.keys.select_nth_unstable(n - k).1);
            self.least[row] = self.least[row].max(kth);
        }
    }

    /// Drops what is below the row's limit.
    pub fn drop_below_limit(&mut self, row: usize) {
        let (entries, least) = (row * self.stride..row * self.stride + self.len[row], self.least[row]);
        let mut kept = entries.start;
        for i in entries {
            // A bound that is not a number keeps its latent.
            if self.upper[i] >= least || self.upper[i].is_nan() {
                (self.latent[kept], self.upper[kept], self.lower[kept]) = (self.latent[i], self.upper[i], self.lower[i]);
                kept += 1;
            }
        }
        self.len[row] = kept - row * self.stride;
    }

    /// After a compaction: when to compact again, and whether the row is given up, because it would be sorted out again after every tile.
    pub fn settle(&mut self, row: usize, full: usize) {
        self.compact_at[row] = (2 * self.len[row]).clamp(ROOM.min(full), full);
        if self.len[row] > full / 4 * 3 {
            self.undecided[row] = true;
        }
        if self.undecided[row] {
            self.len[row] = 0;
            self.least[row] = f32::INFINITY;
        }
    }
}
