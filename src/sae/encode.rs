//! Rows -> active latents -> rows again: what training, evaluation and every later stage share.
//!
//! B = rows, D = d_in, E = d_out (= D but for transcoders), F = d_sae. z_j = w_enc[j] . (x - b_dec) + b_enc[j] (b_dec only where the architecture has it), acts = select(z),
//! x_hat = acts w_dec + b_dec. A screen drops most latents by bounds, be it the k largest of a row that are wanted or those above a threshold, and computes the
//! others exactly (`kernels::screen`). After it everything is sparse.

use super::{Select, SparseRows, pursuit};
use crate::kernels::gemm::{matmul_nn, matmul_nt};
use crate::kernels::screen::{Keep, Screen, ScreenCount, ScreenScratch, Wanted, by_definition};
use crate::kernels::select::{self, SelectScratch};
use crate::kernels::sparse::{dot, gather_axpy};
use rayon::prelude::*;
use std::sync::Mutex;

/// Rows that one thread selects and decodes at a time. Fixed, so that sums do not depend on the number of threads.
pub(super) const CHUNK: usize = 64;

/// Chunks that one thread screens at a time, 1,024 rows: what is rescored reads the encoder's weights once for all of them.
const SCREEN_CHUNKS: usize = 16;

/// Pre-activations held at once: 16M, 64 MiB. Smaller blocks would have the product repack the encoder more often; those of unit tests are small, so that there are several.
const BLOCK_ELEMENTS: usize = if cfg!(test) { 1 << 14 } else { 1 << 24 };

/// Rows whose pre-activations are held at once.
pub(super) fn block_rows(d_sae: usize) -> usize {
    (BLOCK_ELEMENTS / d_sae.max(1) / CHUNK * CHUNK).max(CHUNK)
}

/// The encoder's weights, borrowed. Shapes: w_enc (F, D), b_enc (F,), w_dec (F, E), pre_bias (D,).
#[derive(Clone, Copy)]
pub(super) struct EncoderView<'a> {
    pub w_enc: &'a [f32],
    pub b_enc: &'a [f32],
    /// Read by a refining step alone.
    pub w_dec: &'a [f32],
    /// What is subtracted from the input first.
    pub pre_bias: Option<&'a [f32]>,
    pub select: &'a Select,
}

/// Buffers of [`encode`], kept between calls.
#[derive(Debug, Default)]
pub(super) struct EncodeScratch {
    centred: Vec<f32>,
    pre: Vec<f32>,
    parts: Vec<SparseRows>,
    screens: Pool,
    /// Calls that go without the screen, because it could decide few rows of the last one: more is active than it has room for.
    without_screen: u32,
}

/// Calls of [`encode`] without a screen, after one in which it was of no use.
const WITHOUT_SCREEN: u32 = 16;

/// Screening buffers that no thread uses at the moment.
pub(super) type Pool = Mutex<Vec<ScreenScratch>>;

fn with_scratch<R>(pool: &Pool, work: impl FnOnce(&mut ScreenScratch) -> R) -> R {
    let free = || pool.lock().expect("nothing panics while it holds the pool");
    let mut scratch = free().pop().unwrap_or_default();
    let result = work(&mut scratch);
    free().push(scratch);
    result
}

/// Encodes x (B, D) into `out`, latents ascending in each row. `screen` holds the weights of `view`; without one every pre-activation is computed by
/// itself, which is the cheaper way for so few rows that preparing a screen costs more. The same bits either way, and however rows are cut into batches.
pub(super) fn encode(view: EncoderView, screen: Option<&Screen>, x: &[f32], scratch: &mut EncodeScratch, out: &mut SparseRows) {
    let f = view.b_enc.len();
    let d = view.w_enc.len() / f;
    assert_eq!(x.len() % d, 0, "{} elements are not rows of width {d}", x.len());
    out.clear();
    let keep = match view.select {
        Select::TopK { k } => Keep::Largest(*k),
        Select::Relu | Select::Gated { .. } => Keep::Above { floor: 0.0, threshold: None },
        Select::JumpRelu { threshold } => Keep::Above { floor: 0.0, threshold: Some(threshold) },
        Select::Pursuit { k, least } => {
            let x = centre(x, view.pre_bias, &mut scratch.centred);
            return pursuit::encode(view.w_enc, x, d, (*k, *least), &mut scratch.pre, out);
        }
        Select::Refined { step, first, threshold } => {
            let u = {
                let select = &Select::JumpRelu { threshold: first.clone() };
                encode(EncoderView { select, ..view }, screen, x, scratch, out);
                refined(*step, centre(x, view.pre_bias, &mut scratch.centred), out, view.w_dec)
            };
            let select = &Select::JumpRelu { threshold: threshold.clone() };
            return encode(EncoderView { select, pre_bias: None, ..view }, screen, &u, scratch, out);
        }
    };
    let EncodeScratch { centred, pre, parts, screens, without_screen } = scratch;
    let x = centre(x, view.pre_bias, centred);
    let parts = grow_parts(parts, x.len() / d);
    let wanted = Wanted { w: view.w_enc, bias: view.b_enc, keep };
    match screen {
        None => parts.iter_mut().zip(x.chunks(CHUNK * d)).for_each(|(part, x)| {
            part.clear();
            let mut scratch = SelectScratch::default();
            for x in x.chunks_exact(d) {
                by_definition(wanted, x, &mut scratch, &mut part.latent, &mut part.act);
                part.row_start.push(part.latent.len());
            }
        }),
        Some(screen) => {
            let try_screen = *without_screen == 0;
            let count = encode_wanted(wanted, screen, try_screen, x, pre, screens, &mut parts.iter_mut().collect::<Vec<_>>());
            *without_screen = if 2 * count.undecided > count.rows { WITHOUT_SCREEN } else { without_screen.saturating_sub(1) };
        }
    }
    if let Select::Gated { b_mag, r_mag } = view.select {
        parts.par_iter_mut().for_each(|part| magnitudes(part, view.b_enc, b_mag, r_mag));
    }
    parts.iter().for_each(|part| out.append(part));
}

/// u (n, D) = xc + step (xc - acts w_dec): the rows xc (n, D) with what their activations leave of them added.
pub(super) fn refined(step: f32, centred: &[f32], rows: &SparseRows, w_dec: &[f32]) -> Vec<f32> {
    let mut u = vec![0.0; centred.len()];
    debug_assert!(rows.n_rows() == 0 || w_dec.len().is_multiple_of(centred.len() / rows.n_rows()));
    if !centred.is_empty() {
        let d = centred.len() / rows.n_rows();
        (u.par_chunks_mut(CHUNK * d), centred.par_chunks(CHUNK * d)).into_par_iter().enumerate().for_each(|(chunk, (u, xc))| {
            for (r, (u, xc)) in u.chunks_exact_mut(d).zip(xc.chunks_exact(d)).enumerate() {
                let (latent, act) = rows.row(chunk * CHUNK + r);
                gather_axpy(latent, act, w_dec, u);
                u.iter_mut().zip(xc).for_each(|(u, x)| *u = x + step * (x - *u));
            }
        });
    }
    u
}

/// The activations of open gates in place of the gates; latents without a magnitude drop out.
fn magnitudes(rows: &mut SparseRows, b_enc: &[f32], b_mag: &[f32], r_mag: &[f32]) {
    let gates = std::mem::take(rows);
    rows.clear();
    for r in 0..gates.n_rows() {
        let (latent, gate) = gates.row(r);
        for (&j, &gate) in latent.iter().zip(gate) {
            let act = magnitude(gate, j as usize, b_enc, b_mag, r_mag);
            if act > 0.0 {
                rows.latent.push(j);
                rows.act.push(act);
            }
        }
        rows.row_start.push(rows.latent.len());
    }
}

fn magnitude(gate: f32, j: usize, b_enc: &[f32], b_mag: &[f32], r_mag: &[f32]) -> f32 {
    r_mag[j].exp() * (gate - b_enc[j]) + b_mag[j]
}

/// Activations of `latents` alone for one row x (D,), where no latent's activation depends on another's.
pub(super) fn acts_alone(view: EncoderView, latents: &[u32], x: &[f32], acts: &mut Vec<f32>) {
    let d = view.w_enc.len() / view.b_enc.len();
    assert_eq!(x.len(), d, "one row of width {d}");
    let mut centred = Vec::new();
    let x = centre(x, view.pre_bias, &mut centred);
    acts.clear();
    acts.extend(latents.iter().map(|&j| {
        let j = j as usize;
        let z = dot(x, &view.w_enc[j * d..][..d]) + view.b_enc[j];
        match view.select {
            Select::Relu => z.max(0.0),
            Select::JumpRelu { threshold } if z > threshold[j].max(0.0) => z,
            Select::Gated { b_mag, r_mag } if z > 0.0 => magnitude(z, j, view.b_enc, b_mag, r_mag).max(0.0),
            Select::JumpRelu { .. } | Select::Gated { .. } => 0.0,
            Select::TopK { .. } | Select::Refined { .. } | Select::Pursuit { .. } => panic!("latents of this SAE compete"),
        }
    }));
}

/// Whether the pre-activations of all `latents` for one row x (D,) are not above zero.
pub(super) fn surely_silent(view: EncoderView, latents: &[u32], x: &[f32]) -> bool {
    let d = view.w_enc.len() / view.b_enc.len();
    assert_eq!(x.len(), d, "one row of width {d}");
    let mut centred = Vec::new();
    let x = centre(x, view.pre_bias, &mut centred);
    latents.iter().all(|&j| dot(&view.w_enc[j as usize * d..][..d], x) + view.b_enc[j as usize] <= 0.0)
}

/// What is wanted of centred rows x (n, D), [`CHUNK`] rows to a part. The same bits whatever product the CPU screens with, and without trying it.
pub(super) fn encode_wanted(
    wanted: Wanted,
    screen: &Screen,
    try_screen: bool,
    x: &[f32],
    pre: &mut Vec<f32>,
    pool: &Pool,
    parts: &mut [&mut SparseRows],
) -> ScreenCount {
    let d = wanted.w.len() / wanted.bias.len();
    assert_eq!(parts.len(), (x.len() / d).div_ceil(CHUNK), "parts for {} rows", x.len() / d);
    if !(screen.fast() && try_screen) {
        encode_products(wanted, screen, x, pre, pool, parts);
        return ScreenCount::default();
    }
    // Few rows are spread over all threads.
    let chunks = parts.len().div_ceil(rayon::current_num_threads()).clamp(1, SCREEN_CHUNKS);
    let block = |(parts, x): (&mut [&mut SparseRows], &[f32])| {
        parts.iter_mut().for_each(|part| part.clear());
        let (mut row, mut undecided) = (0, vec![]);
        let emit = |found: Option<(&[u32], &[f32])>| {
            let (latent, act) = found.unwrap_or_default();
            parts[row / CHUNK].push_row(latent, act);
            if found.is_none() {
                undecided.push(row);
            }
            row += 1;
        };
        let count = with_scratch(pool, |scratch| screen.rows(wanted, x, scratch, emit));
        (count, undecided)
    };
    let blocks: Vec<(ScreenCount, Vec<usize>)> = parts.par_chunks_mut(chunks).zip(x.par_chunks(chunks * CHUNK * d)).map(block).collect();
    let mut count = ScreenCount::default();
    blocks.iter().for_each(|block| count += block.0);
    if count.undecided > 0 {
        let undecided: Vec<usize> =
            blocks.iter().enumerate().flat_map(|(b, block)| block.1.iter().map(move |row| b * chunks * CHUNK + row)).collect();
        let rows: Vec<f32> = undecided.iter().flat_map(|&row| &x[row * d..][..d]).copied().collect();
        let mut decided = vec![SparseRows::default(); undecided.len().div_ceil(CHUNK)];
        encode_products(wanted, screen, &rows, pre, pool, &mut decided.iter_mut().collect::<Vec<_>>());
        for (p, part) in parts.iter_mut().enumerate() {
            let late = |r: usize| undecided.binary_search(&(p * CHUNK + r)).ok();
            if (0..part.n_rows()).any(|r| late(r).is_some()) {
                let early = std::mem::take(*part);
                for r in 0..early.n_rows() {
                    let (latent, act) = late(r).map_or(early.row(r), |i| decided[i / CHUNK].row(i % CHUNK));
                    part.push_row(latent, act);
                }
            }
        }
    }
    count
}

/// As [`encode_wanted`], from products in f32.
fn encode_products(wanted: Wanted, screen: &Screen, x: &[f32], pre: &mut Vec<f32>, pool: &Pool, parts: &mut [&mut SparseRows]) {
    let f = wanted.bias.len();
    let d = wanted.w.len() / f;
    for (x, parts) in x.chunks(block_rows(f) * d).zip(parts.chunks_mut(block_rows(f) / CHUNK)) {
        let n = x.len() / d;
        let pre = grow(pre, n * f);
        matmul_nt(n, f, d, x, wanted.w, pre, false);
        (pre.par_chunks(CHUNK * f), x.par_chunks(CHUNK * d), parts).into_par_iter().for_each(|(pre, x, part)| {
            with_scratch(pool, |scratch| {
                part.clear();
                for (pre, x) in pre.chunks_exact(f).zip(x.chunks_exact(d)) {
                    let SparseRows { latent, act, row_start } = &mut **part;
                    screen.of_products(wanted, x, pre, scratch, latent, act);
                    row_start.push(latent.len());
                }
            })
        });
    }
}

/// x_hat (B, E) = b_dec + sum over active latents of act * w_dec[latent].
///
/// Same result as the dense product `acts @ w_dec + b_dec`; [`decode_dense`] is the oracle.
pub(super) fn decode(rows: &SparseRows, w_dec: &[f32], b_dec: &[f32], x_hat: &mut [f32]) {
    let e = b_dec.len();
    assert_eq!(x_hat.len(), rows.n_rows() * e, "x_hat has {} elements for {} rows of width {e}", x_hat.len(), rows.n_rows());
    x_hat.par_chunks_mut(CHUNK * e).enumerate().for_each(|(chunk, x_hat)| {
        for (r, x_hat) in x_hat.chunks_exact_mut(e).enumerate() {
            let (latent, act) = rows.row(chunk * CHUNK + r);
            x_hat.copy_from_slice(b_dec);
            gather_axpy(latent, act, w_dec, x_hat);
        }
    });
}

/// The oracle of [`encode`]: all activations (B, F), zero where a latent is not active.
pub(super) fn encode_dense(view: EncoderView, x: &[f32]) -> Vec<f32> {
    let f = view.b_enc.len();
    let d = view.w_enc.len() / f;
    let mut acts = vec![0.0; x.len() / d * f];
    for (x, acts) in x.chunks_exact(d).zip(acts.chunks_exact_mut(f)) {
        if let Select::Refined { step, first, threshold } = view.select {
            let mut row: Vec<f32> = (0..d).map(|i| x[i] - view.pre_bias.map_or(0.0, |b| b[i])).collect();
            let once = |row: &[f32], threshold: &[f32]| {
                let select = &Select::JumpRelu { threshold: threshold.to_vec() };
                encode_dense(EncoderView { select, pre_bias: None, ..view }, row)
            };
            let before = once(&row, first);
            let left: Vec<f64> =
                (0..d).map(|i| row[i] as f64 - (0..f).map(|j| before[j] as f64 * view.w_dec[j * d + i] as f64).sum::<f64>()).collect();
            row.iter_mut().zip(left).for_each(|(x, left)| *x = (*x as f64 + *step as f64 * left) as f32);
            acts.copy_from_slice(&once(&row, threshold));
            continue;
        }
        if let Some(rule) = view.select.pursuit() {
            let centred: Vec<f64> = (0..d).map(|i| (x[i] - view.pre_bias.map_or(0.0, |b| b[i])) as f64).collect();
            acts.copy_from_slice(&pursuit::encode_naive(view.w_enc, &centred, rule));
            continue;
        }
        let z: Vec<f32> = (0..f)
            .map(|j| {
                let product: f64 = (0..d).map(|i| (x[i] - view.pre_bias.map_or(0.0, |b| b[i])) as f64 * view.w_enc[j * d + i] as f64).sum();
                product as f32
            })
            .collect();
        match view.select {
            Select::TopK { k } => {
                let (latent, act) = select::topk_naive(&z, view.b_enc, *k);
                for (j, a) in latent.into_iter().zip(act) {
                    acts[j as usize] = a;
                }
            }
            Select::Pursuit { .. } | Select::Refined { .. } => unreachable!("it is encoded above"),
            Select::Relu => (0..f).for_each(|j| acts[j] = (z[j] + view.b_enc[j]).max(0.0)),
            Select::JumpRelu { threshold } => (0..f).for_each(|j| {
                let z = z[j] + view.b_enc[j];
                acts[j] = if z > threshold[j].max(0.0) { z } else { 0.0 };
            }),
            Select::Gated { b_mag, r_mag } => (0..f).for_each(|j| {
                let gate = z[j] + view.b_enc[j];
                acts[j] = if gate > 0.0 { magnitude(gate, j, view.b_enc, b_mag, r_mag).max(0.0) } else { 0.0 };
            }),
        }
    }
    acts
}

/// The oracle of [`decode`]: x_hat (B, E) of acts (B, F), as a dense product.
pub(super) fn decode_dense(acts: &[f32], w_dec: &[f32], b_dec: &[f32]) -> Vec<f32> {
    let d = b_dec.len();
    let f = w_dec.len() / d;
    let n = acts.len() / f;
    let mut x_hat: Vec<f32> = b_dec.iter().copied().cycle().take(n * d).collect();
    matmul_nn(n, d, f, acts, w_dec, &mut x_hat, true);
    x_hat
}

/// x - bias where there is one. Shapes: x (n, D), bias (D,).
fn centre<'a>(x: &'a [f32], bias: Option<&[f32]>, out: &'a mut Vec<f32>) -> &'a [f32] {
    match bias {
        Some(bias) => subtract(x, bias, out),
        None => x,
    }
}

/// x - bias in a kept buffer. Shapes: x (n, D), bias (D,).
pub(super) fn subtract<'a>(x: &[f32], bias: &[f32], out: &'a mut Vec<f32>) -> &'a mut [f32] {
    let d = bias.len();
    let out = grow(out, x.len());
    (out.par_chunks_mut(CHUNK * d), x.par_chunks(CHUNK * d)).into_par_iter().for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            for ((out, x), bias) in out.iter_mut().zip(x).zip(bias) {
                *out = x - bias;
            }
        }
    });
    out
}

/// The first `n` elements of a kept buffer, which is made that long.
pub(super) fn grow(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    &mut buffer[..n]
}

/// A part for each [`CHUNK`] of `n` rows.
fn grow_parts(parts: &mut Vec<SparseRows>, n: usize) -> &mut [SparseRows] {
    let n = n.div_ceil(CHUNK);
    if parts.len() < n {
        parts.resize(n, SparseRows::default());
    }
    &mut parts[..n]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use crate::kernels::screen::Product;
    use crate::sae::Sae;
    use rand::RngExt;

    const D: usize = 11;
    const F: usize = 900;
    const K: usize = 6;

    fn random(n: usize, index: u64) -> Vec<f32> {
        let mut rng = seed::rng(0, "test/encode", index);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn topk_sae() -> Sae {
        let (w_enc, w_dec) = (random(F * D, 1), random(F * D, 2));
        Sae {
            d_in: D,
            d_sae: F,
            select: Select::TopK { k: K },
            w_enc,
            b_enc: random(F, 3),
            w_dec,
            b_dec: random(D, 4),
            apply_b_dec_to_input: true,
            transcoder: None,
        }
    }

    /// More rows than one block of the screen, some of which it cannot decide.
    fn rows() -> Vec<f32> {
        let mut x = random(1500 * D, 5);
        for row in [0, 63, 64, 700, 701, 1499] {
            x[row * D..][..D].iter_mut().for_each(|v| *v *= 1e25);
        }
        x
    }

    fn bits(rows: &SparseRows) -> (Vec<usize>, Vec<u32>, Vec<u32>) {
        (rows.row_start.clone(), rows.latent.clone(), rows.act.iter().map(|a| a.to_bits()).collect())
    }

    #[test]
    fn topk_rows_are_the_same_bits_with_and_without_the_screen_at_any_thread_count_and_in_any_batches() {
        let (sae, x) = (topk_sae(), rows());
        let view = EncoderView { w_enc: &sae.w_enc, b_enc: &sae.b_enc, w_dec: &sae.w_dec, pre_bias: Some(&sae.b_dec), select: &sae.select };
        let mut want = SparseRows::default();
        encode(view, None, &x, &mut EncodeScratch::default(), &mut want);
        assert_eq!((want.n_rows(), want.n_active()), (1500, 1500 * K));
        for product in Product::available() {
            let mut screen = Screen::with(product);
            screen.update(&sae.w_enc, &sae.b_enc, &x);
            for threads in 1..=3 {
                let mut got = SparseRows::default();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| encode(view, Some(&screen), &x, &mut EncodeScratch::default(), &mut got));
                assert_eq!(bits(&got), bits(&want), "{threads} threads, {product:?}");
            }
        }
        let (mut encoder, mut part) = (sae.encoder(), SparseRows::default());
        for batch in [1, 7, 300, 1500] {
            let (mut by_encoder, mut by_sae) = (SparseRows::default(), SparseRows::default());
            for x in x.chunks(batch * D).take(9) {
                encoder.encode(x, &mut part);
                by_encoder.append(&part);
                sae.encode(x, &mut part);
                by_sae.append(&part);
            }
            let n = by_sae.n_rows();
            assert_eq!(bits(&by_sae), bits(&by_encoder));
            assert_eq!((&by_sae.latent[..], &by_sae.row_start[..]), (&want.latent[..n * K], &want.row_start[..=n]));
        }
    }

    #[test]
    fn topk_rows_equal_the_dense_oracle() {
        let (sae, x) = (topk_sae(), random(70 * D, 6));
        let mut rows = SparseRows::default();
        sae.encode(&x, &mut rows);
        // Sums of eleven products of size 1, in f32 and in f64.
        assert!(rows.to_dense(F).iter().zip(&sae.encode_dense(&x)).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
