//! The k largest pre-activations of a row, or those above a limit, without computing all of them in f32: candidates from a low-precision product with a
//! proven error bound, then exact sums of the candidates alone.
//!
//! B = rows, D = width of a row, F = latents. u = 2^-24, the rounding error of f32; g(n) = n u / (1 - n u); | | is the Euclidean norm.
//!
//! **What a pre-activation is.** z_j = fl(S_j + b_j), where S_j is [`dot`] of w_j and x: f32 in 64 interleaved sums, whose order is the same on every CPU.
//! [`by_definition`] computes all of them and selects. Every other path computes some approximation z'_j with |z'_j - z_j| <= e_j, drops the latents
//! that cannot be wanted, and rescores the others with the same dot. So the selected latents and their values are those of the definition,
//! bit for bit, whichever path a CPU takes.
//!
//! **Which latents stay.** Of the k largest: let t be the k-th largest of numbers that are not above their z_j, which are lower bounds z'_j - e_j and, of latents that were rescored already, the z_j
//! themselves (`lists`), or a guess that k rescored latents are found to reach in the end (`guess`). At least k latents have z_j >= t, so one with z'_j + e_j < t is not among the k largest, ties included; nor is one with z'_j + e_j <= 0. Of those above a limit l_j >= 0: all
//! but where z'_j + e_j < l_j. The bound that is not a number (an infinite weight) keeps its latent.
//!
//! **The bound of a low-precision product.** X and V are a row x and weights w as they are, or before 8-bit products as `stretch` makes them, where X.V is x.w to within t |V| and |w| <= 1.1 |V|. x~ and v~ are X and V rounded: to bf16 on
//! CPUs that multiply those, else to integers times a scale of the row; 8-bit integers are of rows R X and R V with one orthogonal R (`int8`), which |X| and X.V do not notice. By the triangle inequality and Cauchy-Schwarz
//!
//! |X.V - x~.v~| <= |R X - x~| |V| + |x~| |R V - v~|
//!
//! where the norms of the differences are measured, not estimated (what the rotation itself errs by is added). The product in bf16 adds D exact products, in an order that the CPU chooses; an
//! addition that errs by at most 2u of its result gives g(2D + 16) |x~| |v~|, and |v~| <= |V| + |R V - v~|. The instruction flushes denormal
//! results: D 2^-124. The product of integers is exact; bringing it to f32 and scaling it, three roundings, costs 4u |x~| |v~|, which is less. The definition itself errs from x.w by g(2D + 16) |x| |w|.
//! Adding the bias and computing z' +- e costs at most 8u (|x| |w| + |x~| |v~| + |b|). All norms are sums in f64, enlarged by 1e-6 and rounded up, which also covers computing e in f32. Together
//!
//! e_j = n_x |V_j| + c_x |R V_j - v~_j| + s_j,   n_x = |R X - x~| + (g + 8u)(1.1 |x| + |x~|) + t,   c_x = (1 + g + 8u) |x~|,   s_j = 8u |b_j| + D 2^-124
//!
//! **The bound of the f32 product** (CPUs without low-precision products, few rows, and rows that the screen could not decide): summing in another order gives
//! 2 g(2D + 16) |x| max |w| + D 2^-147, and (1 +- 4u) for the bias. Whether z'_j is above a limit l_j is asked with a margin of this and 16u (max l + this).
//!
//! **When neither holds.** Norms above 10^18 (whose products could overflow on the way), with `stretch` those above 10^12 and below 10^-12 too, and rows with more candidates than a list holds, of the k largest than a second, longer list holds (ties in
//! great number, a few huge inputs, more than [`MOST_ABOVE`] latents near their limits), go to the next path: f32, then the definition. Nothing is
//! lost, only time.
//!
//! **Which product.** The coarser is faster but leaves more to rescore. The screen counts what it leaves, and where that costs more than the coarser product saves, the next [`Screen::update`]
//! takes the finer one, for a while.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(target_arch = "x86_64")]
mod guess;
#[cfg(target_arch = "x86_64")]
mod int16;
#[cfg(target_arch = "x86_64")]
mod int8;
#[cfg(target_arch = "x86_64")]
mod lists;
mod product;
#[cfg(target_arch = "x86_64")]
mod stretch;
#[cfg(target_arch = "x86_64")]
use lists::{Exact, Lists, Panels, ROOM};
pub use product::Product;
#[cfg(target_arch = "x86_64")]
use product::Side;
#[cfg(target_arch = "x86_64")]
use stretch::Stretch;

use super::select::{SelectScratch, keep_largest, nearly_above, nearly_largest, topk};
use super::simd::dispatch;
use super::sparse::{dot, gather_dot};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Rounding error of f32.
const U: f64 = 1.0 / (1 << 24) as f64;

/// Norms up to here cannot overflow in a product.
const LARGEST: f64 = 1e18;

/// Candidates above their limits that a row of the screen has room for.
pub const MOST_ABOVE: usize = 1024;

/// The coarsest product costs more than it saves from this share of all latents on, rescored in vain for a row. Measured: rows of the planted corpus, with 3 to 4 % of 4,096 latents in vain, take as
/// long in 8 bits as in bf16; random rows, with 0.3 % (32 of 16,384 wanted) and 0.9 % (96 of them), take a fifth less for the whole step.
const IN_VAIN: f64 = 0.02;

/// Candidates for the k largest that a row has room for, and how many times as many where that did not do.
#[cfg(target_arch = "x86_64")]
fn room(k: usize) -> usize {
    (24 * k).max(3 * ROOM)
}
#[cfg(target_arch = "x86_64")]
const LONGER: usize = 3;

/// Candidates that the longer lists of a block have room for, of 12 bytes each: what is behind is left undecided.
#[cfg(target_arch = "x86_64")]
const MOST_LISTED: usize = 1 << 22;

/// Updates between two looks at rows for directions in which they are long (`stretch`).
#[cfg(target_arch = "x86_64")]
const STRETCHED_FOR: u32 = 63;

/// Updates with the next product after one in which the coarsest was of no use.
const PAUSE: u32 = 256;

/// An encoder prepared for screening: made anew when the weights change.
#[derive(Debug)]
pub struct Screen {
    d: usize,
    f: usize,
    /// Largest |w_j|; infinite where a weight or bias is out of range.
    largest_norm: f64,
    /// Those to choose from, the coarsest first.
    products: Vec<Product>,
    /// The one that the weights are packed for.
    product: Product,
    /// Updates for which the coarsest is not taken.
    pause: u32,
    /// What the coarsest did since the last update.
    tally: Tally,
    #[cfg(target_arch = "x86_64")]
    panels: Panels,
    #[cfg(target_arch = "x86_64")]
    guess: guess::Guess,
    #[cfg(target_arch = "x86_64")]
    stretch: Stretch,
    /// Updates until rows are looked at again for it.
    #[cfg(target_arch = "x86_64")]
    stretched_for: u32,
}

/// Counts that threads add to.
#[derive(Debug, Default)]
struct Tally {
    rows: AtomicUsize,
    undecided: AtomicUsize,
    /// Latents rescored that were not wanted.
    in_vain: AtomicUsize,
}

/// Buffers of one thread, kept between blocks.
#[derive(Debug, Default)]
pub struct ScreenScratch {
    #[cfg(target_arch = "x86_64")]
    lists: Lists,
    /// Rows whose guess was too high or whose list was too short, these rows, and their candidates without the guess in longer lists.
    #[cfg(target_arch = "x86_64")]
    again: (Vec<usize>, Vec<f32>, Lists),
    #[cfg(target_arch = "x86_64")]
    seen: guess::Seen,
    select: SelectScratch,
    row: RowScratch,
    #[cfg(target_arch = "x86_64")]
    latent: Vec<u32>,
    #[cfg(target_arch = "x86_64")]
    act: Vec<f32>,
}

/// Candidates of a row with their values.
#[derive(Debug, Default)]
pub struct RowScratch {
    candidates: Vec<u32>,
    values: Vec<f32>,
    keys: Vec<u64>,
}

/// The encoder's weights and which latents are wanted of a row. Shapes: w (F, D), bias (F,).
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub w: &'a [f32],
    pub bias: &'a [f32],
    pub keep: Keep<'a>,
}

/// Which pre-activations of a row are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Keep<'a> {
    /// The k largest above zero; of equal values the lower latent.
    Largest(usize),
    /// All above `floor`, which is not negative, and above the latent's own threshold (F,) where there are such.
    Above { floor: f32, threshold: Option<&'a [f32]> },
}

impl Keep<'_> {
    /// What latent j must exceed; without its own threshold, or where that is not a number, the floor. 0 where the largest are wanted.
    fn limit(&self, j: usize) -> f32 {
        match self {
            Keep::Largest(_) => 0.0,
            Keep::Above { floor, threshold } => threshold.map_or(*floor, |t| t[j].max(*floor)),
        }
    }
}

/// What the screen did with rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScreenCount {
    pub rows: usize,
    /// Latents that were left in the lists at the end, all of them rescored, of the rows that the screen decided.
    pub candidates: usize,
    /// Rows left to the next path.
    pub undecided: usize,
}

impl std::ops::AddAssign for ScreenCount {
    fn add_assign(&mut self, other: ScreenCount) {
        self.rows += other.rows;
        self.candidates += other.candidates;
        self.undecided += other.undecided;
    }
}

/// The definition: every pre-activation by [`dot`], those that are wanted appended, latents ascending. Shapes: x (D,).
pub fn by_definition(wanted: Wanted, x: &[f32], scratch: &mut SelectScratch, latent: &mut Vec<u32>, act: &mut Vec<f32>) {
    let products = wanted.w.chunks_exact(x.len()).map(|w| dot(w, x));
    match wanted.keep {
        Keep::Largest(k) => topk(&products.collect::<Vec<f32>>(), wanted.bias, k, scratch, latent, act),
        Keep::Above { .. } => {
            let above = products.zip(wanted.bias).enumerate().map(|(j, (dot, bias))| (j, dot + bias)).filter(|&(j, z)| z > wanted.keep.limit(j));
            above.for_each(|(j, z)| {
                latent.push(j as u32);
                act.push(z);
            });
        }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Screen::of(Product::available())
    }
}

impl Screen {
    /// A screen with this product alone, which the CPU must have.
    pub fn with(product: Product) -> Self {
        assert!(Product::available().contains(&product), "this CPU has no products of {product:?}");
        Screen::of(vec![product])
    }

    fn of(products: Vec<Product>) -> Self {
        Screen {
            d: 0,
            f: 0,
            largest_norm: 0.0,
            product: products[0],
            products,
            pause: 0,
            tally: Tally::default(),
            #[cfg(target_arch = "x86_64")]
            panels: Panels::default(),
            #[cfg(target_arch = "x86_64")]
            guess: guess::Guess::default(),
            #[cfg(target_arch = "x86_64")]
            stretch: Stretch::default(),
            #[cfg(target_arch = "x86_64")]
            stretched_for: 0,
        }
    }

    /// Whether [`Screen::rows`] can decide rows; otherwise [`Screen::of_products`] is the way.
    pub fn fast(&self) -> bool {
        self.product != Product::F32
    }

    /// Whether the coarsest product costs more than it saves and a finer one is as good as at hand, so that another [`Screen::update`] would help.
    pub fn is_too_coarse(&self) -> bool {
        let finer = self.product == self.products[0] && self.products.get(1).is_some_and(|&p| p != Product::F32);
        let [rows, undecided, in_vain] = [&self.tally.rows, &self.tally.undecided, &self.tally.in_vain].map(|n| n.load(Relaxed));
        finer && (10 * undecided > rows || in_vain as f64 > IN_VAIN * (self.f * (rows - undecided)) as f64)
    }

    /// Takes over new weights. Shapes: w (F, D), bias (F,). `like` (n, D) are rows of the kind that will come, if some are at hand; what they are changes no result.
    pub fn update(&mut self, w: &[f32], bias: &[f32], like: &[f32]) {
        let f = bias.len();
        let d = w.len() / f.max(1);
        assert!(f > 0 && w.len() == f * d, "{} weights for {f} latents", w.len());
        assert!(d < 1 << 20, "rows of width {d}: the error bound of a sum needs less than 2^20 terms");
        self.pause = if self.is_too_coarse() { PAUSE } else { self.pause.saturating_sub(1) };
        self.tally = Tally::default();
        let coarsest = usize::from(self.pause > 0).min(self.products.len() - 1);
        let fits = |p: &&Product| d <= p.most_inputs();
        self.product = *self.products[coarsest..].iter().find(fits).unwrap_or(&Product::F32);
        #[cfg(target_arch = "x86_64")]
        if self.d != d {
            (self.stretch, self.stretched_for) = (Stretch::default(), 0);
        }
        (self.d, self.f) = (d, f);
        #[cfg(target_arch = "x86_64")]
        if self.fast() {
            self.learn_stretch(w, like);
            self.largest_norm = self.pack(w, bias);
            return;
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = like;
        let norm = |(w, b): (&[f32], &f32)| bounded(norm(w), *b);
        self.largest_norm = w.par_chunks_exact(d).zip(bias).with_min_len(64).map(norm).reduce(|| 0.0, f64::max);
    }

    /// Looks at rows from time to time for directions in which they are long; for 8-bit products alone, which are the ones that it helps.
    #[cfg(target_arch = "x86_64")]
    fn learn_stretch(&mut self, w: &[f32], like: &[f32]) {
        match self.product {
            Product::Int8 if self.stretched_for > 0 => self.stretched_for -= 1,
            Product::Int8 if like.len() < Stretch::FEWEST * self.d => {}
            Product::Int8 => (self.stretch, self.stretched_for) = (Stretch::learned(like, w, self.d), STRETCHED_FOR),
            _ => (self.stretch, self.stretched_for) = (Stretch::default(), 0),
        }
    }

    /// Fills the panels; returns the largest norm.
    #[cfg(target_arch = "x86_64")]
    fn pack(&mut self, w: &[f32], bias: &[f32]) -> f64 {
        let (d, words, product) = (self.d, self.product.words(self.d), self.product);
        let width = product.tile().0;
        self.panels.reset(self.f, (width, words));
        let stretch = &self.stretch;
        let Panels { packed, norm: norms, change, slack, bias: panel_bias, scale, start, .. } = &mut self.panels;
        let panel = |(((w, bias), (packed, start)), (norms, change, slack, panel_bias, scale)): (Latents, Stats)| {
            let mut largest = 0.0f64;
            let mut room = vec![];
            for (j, (w, &b)) in w.chunks_exact(d).zip(bias).enumerate() {
                let own = bounded(stretch.norm(w), b);
                largest = largest.max(own);
                let holds = own.is_finite() && stretch.fits(own);
                let w = if holds { stretch.weights(w, &mut room) } else { w };
                let whole = if stretch.is_none() { own } else { norm(w) };
                // SAFETY: the product is one that the CPU has; latent j of the panel has its words from j on, a panel's width apart.
                let of_latent = unsafe { product.pack(w, whole, Side::Weights, packed[j..].as_mut_ptr(), width) };
                (panel_bias[j], scale[j], start[j]) = (b, of_latent.scale, of_latent.start);
                (norms[j], change[j], slack[j]) = match holds {
                    true => (up(whole), up(of_latent.change), up(8.0 * U * b.abs() as f64 + d as f64 * (-124f64).exp2())),
                    // No bound: always a candidate.
                    false => (f32::INFINITY, 0.0, f32::INFINITY),
                };
            }
            largest
        };
        let stats = [norms, change, slack, panel_bias, scale].map(|values| values.par_chunks_mut(width));
        let [norms, change, slack, panel_bias, scale] = stats;
        w.par_chunks(width * d)
            .zip(bias.par_chunks(width))
            .zip(packed.par_chunks_exact_mut(words * width).zip(start.par_chunks_mut(width)))
            .zip((norms, change, slack, panel_bias, scale).into_par_iter())
            .map(panel)
            .reduce(|| 0.0, f64::max)
    }

    /// What is wanted of each row of x (n, D): `emit` gets the rows in order, `None` for one that the screen cannot decide.
    ///
    /// `wanted` must hold the weights of the last [`Screen::update`], and [`Screen::fast`] be true.
    #[cfg(target_arch = "x86_64")]
    pub fn rows(&self, wanted: Wanted, x: &[f32], scratch: &mut ScreenScratch, mut emit: impl FnMut(Option<(&[u32], &[f32])>)) -> ScreenCount {
        self.check(wanted, x.len());
        assert!(self.fast(), "a screen of {:?} decides no rows", self.product);
        let ScreenScratch { lists, again: (again, again_x, again_lists), seen, row: work, latent, act, .. } = scratch;
        let n = x.len() / self.d;
        let largest = if let Keep::Largest(k) = wanted.keep { Some(k) } else { None };
        let guess = largest.map_or(0.0, |k| self.guess.of(k));
        let ranks = largest.map_or([0; 2], |k| self.guess.ranks(k));
        self.list(wanted, x, largest.map_or(MOST_ABOVE, room), (|_, norm| guess * norm, ranks), lists);
        again.clear();
        if let Some(k) = largest {
            let longer = LONGER * room(k);
            // Norms that are out of range have not been kept. Where a list has room for all latents a longer one helps none.
            let helps = |row: usize| lists.norm[row] > 0.0 && room(k) < self.f;
            let is_open = |&row: &usize| if lists.undecided[row] { helps(row) } else { !lists.guessed_well(row, k) };
            again.extend((0..n).filter(is_open));
            again.drain((MOST_LISTED / longer.min(self.f)).min(again.len())..).for_each(|row| lists.undecided[row] = true);
            again_x.clear();
            again.iter().for_each(|&row| again_x.extend_from_slice(&x[row * self.d..][..self.d]));
            if !again.is_empty() {
                self.list(wanted, again_x, longer, (|at, _| lists.reached[again[at]], [0; 2]), again_lists);
            }
        }
        let mut late = again.iter().enumerate().peekable();
        seen.clear();
        let mut count = ScreenCount { rows: n, ..ScreenCount::default() };
        let mut kept = 0;
        for row in 0..n {
            let (lists, row) = late.next_if(|late| *late.1 == row).map_or((&*lists, row), |(at, _)| (&*again_lists, at));
            if lists.undecided[row] {
                count.undecided += 1;
                emit(None);
                continue;
            }
            let listed = lists.entries(row);
            count.candidates += listed.len();
            latent.clear();
            act.clear();
            let found = lists.latent[listed.clone()].iter().copied().zip(lists.upper[listed].iter().copied());
            keep(wanted, found, &mut work.keys, latent, act);
            kept += latent.len();
            if let Some(k) = largest {
                let all = latent.len() == k;
                let least = if all { act.iter().fold(f32::INFINITY, |least, &a| least.min(a)) } else { 0.0 };
                seen.of_norm.push(if lists.norm[row] > 0.0 { least / lists.norm[row] } else { 0.0 });
                for (within, end) in seen.within.iter_mut().zip(self.ends()) {
                    within.push(if all { latent.partition_point(|&j| (j as usize) < end).min(u16::MAX as usize) as u16 } else { u16::MAX });
                }
            }
            emit(Some((latent, act)));
        }
        if let Some(k) = largest {
            self.guess.learn(k, seen);
        }
        if self.product == self.products[0] {
            let Tally { rows, undecided, in_vain } = &self.tally;
            let counts = [(rows, n), (undecided, count.undecided), (in_vain, count.candidates - kept)];
            counts.into_iter().for_each(|(tally, count)| _ = tally.fetch_add(count, Relaxed));
        }
        count
    }

    /// Fills the lists with the candidates of x (n, D), those that are surely not wanted dropped, and rescores them. A list has `room` for so many. Limits for the k largest begin at
    /// what `guess` has for a row and its norm, and are raised to the candidates of its ranks in parts of the encoder; whether that was right can be asked then.
    #[cfg(target_arch = "x86_64")]
    fn list(&self, wanted: Wanted, x: &[f32], room: usize, guess: (impl Fn(usize, f32) -> f32, [usize; 2]), lists: &mut Lists) {
        self.candidates(wanted, x, room, guess, lists);
        lists.rescore(x.len() / self.d, None, &Exact { w: wanted.w, bias: wanted.bias, x });
    }

    /// As [`Screen::list`], with the candidates as they were listed.
    #[cfg(target_arch = "x86_64")]
    fn candidates(&self, wanted: Wanted, x: &[f32], room: usize, (start, ranks): (impl Fn(usize, f32) -> f32, [usize; 2]), lists: &mut Lists) {
        let (d, words, n, product) = (self.d, self.product.words(self.d), x.len() / self.d, self.product);
        let room = room.min(self.f).next_multiple_of(16);
        let (k, first_look) = match wanted.keep {
            Keep::Largest(k) => (Some(k), ROOM),
            // No limit is raised: a list is looked at when it is full, and its row given up.
            Keep::Above { .. } => (None, room),
        };
        let (_, group) = product.tile();
        lists.reset(n, words, (room, first_look), product.tile());
        lists.limit.extend((0..self.f).map(|j| wanted.keep.limit(j)));
        lists.limit.resize(self.panels.bias.len(), 0.0);
        let g = gamma(d);
        for row in 0..lists.len.len() {
            if row < n {
                let packed = &mut lists.packed[row / group * group * words + row % group..];
                let x = &x[row * d..][..d];
                let own = self.stretch.norm(x);
                if own <= LARGEST && self.stretch.fits(own) {
                    let x = self.stretch.input(x, &mut lists.stretched);
                    let whole = if self.stretch.is_none() { own } else { norm(x) };
                    // SAFETY: the product is one that the CPU has; the row has its words from here on, a group's rows apart.
                    let of_row = unsafe { product.pack(x, whole, Side::Input, packed.as_mut_ptr(), group) };
                    lists.by_norm[row] = up(of_row.change + (g + 8.0 * U) * (1.1 * own + of_row.norm) + self.stretch.error(own, whole));
                    lists.by_change[row] = up((1.0 + g + 8.0 * U) * of_row.norm);
                    lists.scale[row] = of_row.scale;
                    lists.norm[row] = own as f32;
                    lists.guessed[row] = start(row, lists.norm[row]).max(lists.least[row]);
                    lists.least[row] = lists.guessed[row];
                    continue;
                }
            }
            lists.undecided[row] = true;
            lists.least[row] = f32::INFINITY;
        }
        let exact = Exact { w: wanted.w, bias: wanted.bias, x };
        // Limits that are near the final ones after few latents keep the lists short.
        let ends = self.ends().map(|end| end / product.tile().0);
        let last = ends.len() - 1;
        let mut done = 0;
        for (part, &end) in ends.iter().enumerate().skip(if k.is_some() { 0 } else { last }) {
            for strip in lists.strips((words, group)) {
                // SAFETY: the product is one that the CPU has; panels and lists were made for it and for this D.
                unsafe { product.screen(&self.panels, (done..end, strip), lists, words, k.map(|k| (k, &exact))) };
            }
            done = end;
            let Some(k) = k else { continue };
            match ranks.get(part).filter(|&&rank| rank > 0) {
                Some(&rank) => (0..n).for_each(|row| lists.guess(row, rank)),
                // Lists that a good guess has kept short need no better limit on the way.
                None if part == last || lists.are_longer_than(2 * k) => {
                    lists.rescore(n, Some(k), &exact);
                    (0..n).for_each(|row| lists.drop_below_limit(row));
                }
                None => {}
            }
        }
    }

    /// The latents before which each part of the encoder ends: whole panels.
    #[cfg(target_arch = "x86_64")]
    fn ends(&self) -> [usize; 3] {
        let width = self.product.tile().0;
        guess::PARTS.map(|part| self.panels.bias.len() / width / part * width)
    }

    /// As on x86-64, where `fast` can be true.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn rows(&self, _: Wanted, _: &[f32], _: &mut ScreenScratch, _: impl FnMut(Option<(&[u32], &[f32])>)) -> ScreenCount {
        panic!("this CPU has no low-precision products")
    }

    /// Appends what is wanted of one row, given its products with all weights in f32, summed in any order. Shapes: x (D,), products (F,).
    pub fn of_products(&self, wanted: Wanted, x: &[f32], products: &[f32], scratch: &mut ScreenScratch, latent: &mut Vec<u32>, act: &mut Vec<f32>) {
        self.check(wanted, x.len());
        let (d, f) = (self.d, self.f);
        assert!(x.len() == d && products.len() == f, "{} inputs and {} products, expected ({d},) and ({f},)", x.len(), products.len());
        let x_norm = norm(x);
        let RowScratch { candidates, values, keys } = &mut scratch.row;
        let error = 1.000001 * (2.0 * gamma(self.d) * x_norm * self.largest_norm + self.d as f64 * (-147f64).exp2());
        let found = x_norm <= LARGEST
            && self.largest_norm <= LARGEST
            && match wanted.keep {
                // Their products are exact.
                Keep::Largest(k) if x_norm == 0.0 => return topk(products, wanted.bias, k, &mut scratch.select, latent, act),
                Keep::Largest(k) => nearly_largest(products, wanted.bias, k, error, (8 * k).max(256), &mut scratch.select, candidates, values),
                Keep::Above { floor, threshold } => {
                    nearly_above(products, wanted.bias, (floor, threshold), error, &mut scratch.select, candidates);
                    true
                }
            };
        match found {
            true => {
                values.resize(candidates.len(), 0.0);
                gather_dot(candidates, wanted.w, x, values);
                let exact = candidates.iter().zip(&*values).map(|(&j, dot)| (j, dot + wanted.bias[j as usize]));
                keep(wanted, exact, keys, latent, act);
            }
            false => by_definition(wanted, x, &mut scratch.select, latent, act),
        }
    }

    fn check(&self, wanted: Wanted, elements: usize) {
        let (d, f) = (self.d, self.f);
        let Wanted { w, bias, keep } = wanted;
        assert!(w.len() == f * d && bias.len() == f, "{} weights and {} biases for a screen of ({f}, {d})", w.len(), bias.len());
        assert!(d > 0 && elements.is_multiple_of(d), "{elements} elements are not rows of width {d}");
        match keep {
            Keep::Largest(k) => assert!(k > 0, "the 0 largest pre-activations were asked for"),
            Keep::Above { floor, threshold } => {
                assert!(floor >= 0.0, "a floor of {floor}: activations are above zero");
                assert!(threshold.is_none_or(|t| t.len() == f), "{} thresholds for {f} latents", threshold.map_or(0, <[f32]>::len));
            }
        }
    }
}

/// What a panel is made from, weights and biases, and where its weights go, with what their sums start from.
#[cfg(target_arch = "x86_64")]
type Latents<'a> = ((&'a [f32], &'a [f32]), (&'a mut [u32], &'a mut [i32]));

/// Statistics of a panel: |w|, |R w - w~|, slack, bias, scale.
#[cfg(target_arch = "x86_64")]
type Stats<'a> = (&'a mut [f32], &'a mut [f32], &'a mut [f32], &'a mut [f32], &'a mut [f32]);

/// Of candidates (ascending) with their exact pre-activations those that are wanted.
fn keep(wanted: Wanted, exact: impl Iterator<Item = (u32, f32)>, keys: &mut Vec<u64>, latent: &mut Vec<u32>, act: &mut Vec<f32>) {
    match wanted.keep {
        Keep::Largest(k) => keep_largest(exact, k, keys, latent, act),
        Keep::Above { .. } => exact.filter(|&(j, z)| z > wanted.keep.limit(j as usize)).for_each(|(j, z)| {
            latent.push(j);
            act.push(z);
        }),
    }
}

/// The norm of a latent's weights; infinite where it or the bias is out of range.
fn bounded(norm: f64, bias: f32) -> f64 {
    if norm <= LARGEST && bias.abs() as f64 <= LARGEST { norm } else { f64::INFINITY }
}

dispatch! {
    /// |x|, summed in f64.
    pub fn norm(x: &[f32]) -> f64 {
        let mut sums = [0.0f64; 16];
        let (blocks, rest) = x.as_chunks::<16>();
        for x in blocks {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += (x as f64).powi(2);
            }
        }
        rest.iter().zip(&mut sums).for_each(|(&x, sum)| *sum += (x as f64).powi(2));
        sums.iter().sum::<f64>().sqrt()
    }
}

/// g(2D + 16).
pub fn gamma(d: usize) -> f64 {
    let n = (2 * d + 16) as f64 * U;
    n / (1.0 - n)
}

/// An f32 safely above a number that is not negative.
#[cfg(target_arch = "x86_64")]
fn up(v: f64) -> f32 {
    ((v * 1.000001) as f32).next_up()
}

#[cfg(test)]
mod tests;
