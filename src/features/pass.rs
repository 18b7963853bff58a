//! The pass over the text: windows of the stream through the model (and the SAE) into the collector.

use super::build::{BuildConfig, Units};
use super::checkpoint::Checkpoint;
use super::collect::{Collector, Findings, Shape, Windows};
use super::{Error, Result};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream, counts};
use crate::lm::{Activation, Engine, HookPoint, LmConfig, Site};
use crate::sae::SparseRows;
use std::time::Instant;

/// Correlations of neurons with each other are over every so-many-th window: half of them fire on every token.
const NEURONS_CORRELATE_EVERY: u64 = 8;

/// Runs the text through the model and the collector. With a checkpoint and the identity of what is made, it goes on from there, and is saved from
/// time to time and where it is interrupted; the caller deletes it when what it was for is done.
///
/// # Errors
/// [`Error::Interrupted`]; [`Error::Invalid`] when the SAE does not fit the hook or there is no text; what is wrong with the checkpoint.
pub fn pass(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    hook: HookPoint,
    units: Units,
    config: &BuildConfig,
    checkpoint: Option<(&Checkpoint, &str)>,
    progress: &mut dyn Progress,
) -> Result<Findings> {
    let lm = engine.config().clone();
    let (d_in, n_ctx) = (hook.d_in(&lm), lm.n_ctx);
    let n_units = match units {
        Units::Latents { sae, name, .. } if sae.d_in != d_in => {
            return Err(Error::Invalid(format!(
                "SAE {name} reads {} numbers, but {hook} has {d_in}\n  name the hook that it was trained on",
                sae.d_in
            )));
        }
        Units::Latents { sae, .. } => sae.d_sae,
        Units::Neurons => d_in * if can_be_negative(hook, &lm) { 2 } else { 1 },
    };
    let mut encoder = match units {
        Units::Latents { sae, .. } => Some(sae.encoder()),
        Units::Neurons => None,
    };
    let windows = choose_windows(stream, split(config), n_ctx, config.n_tokens)?;
    let mut settings = config.collect.clone();
    if matches!(units, Units::Neurons) {
        settings.correlate_every *= NEURONS_CORRELATE_EVERY;
    }
    let saved = match checkpoint {
        Some((checkpoint, identity)) => checkpoint.load(identity)?,
        None => None,
    };
    let shape = Shape { n_units, d_in, n_ctx, n_windows: windows.len() as u64 };
    let mut collector = saved.unwrap_or_else(|| Collector::new(shape, settings));
    let done = (collector.n_windows() as usize).min(windows.len());
    let (mut ids, mut rows, mut sparse) = (Vec::new(), Vec::new(), SparseRows::default());
    let per_batch = (config.batch_tokens / n_ctx).max(1);
    progress.begin("features", config.n_tokens.min(windows.len() as u64 * (n_ctx as u64 - 1)), "tokens");
    progress.advance(collector.n_tokens());
    let save = |collector: &Collector| checkpoint.map_or(Ok(()), |(checkpoint, identity)| checkpoint.save(identity, collector));
    let (began, mut saved) = (Instant::now(), Instant::now());
    for batch in windows[done..].chunks(per_batch) {
        if progress.interrupted() {
            save(&collector)?;
            return Err(Error::Interrupted);
        }
        if checkpoint.is_some_and(|(checkpoint, _)| saved.elapsed() >= checkpoint.every) {
            save(&collector)?;
            saved = Instant::now();
        }
        let t0: Vec<u64> = batch.iter().map(|w| w * n_ctx as u64).collect();
        ids.resize(batch.len() * n_ctx, 0);
        ids.chunks_mut(n_ctx).zip(&t0).for_each(|(ids, &t)| stream.read(t, ids));
        rows.resize(ids.len() * d_in, 0.0);
        engine.forward_to(&ids, n_ctx, hook, &mut rows);
        match &mut encoder {
            Some(encoder) => encoder.encode(&rows, &mut sparse),
            None => sides(&rows, d_in, n_units > d_in, &mut sparse),
        }
        let before = collector.n_tokens();
        let mut left = config.n_tokens - before;
        let is_counted = |(i, &id): (usize, &u32)| counts(id, i % n_ctx, stream.end_of_text());
        let counted: Vec<bool> = ids
            .iter()
            .enumerate()
            .map(|row| {
                let counted = left > 0 && is_counted(row);
                left -= counted as u64;
                counted
            })
            .collect();
        collector.add(Windows { n_ctx, t0: &t0, ids: &ids, docs: &docs(stream, &t0, n_ctx), counted: &counted, x: &rows }, &sparse);
        progress.advance(collector.n_tokens() - before);
    }
    progress.end();
    // What comes after can be interrupted too: a long pass is not made twice.
    if checkpoint.is_some_and(|(checkpoint, _)| began.elapsed() >= checkpoint.every) {
        save(&collector)?;
    }
    Ok(collector.finish())
}

pub(super) fn split(config: &BuildConfig) -> Split {
    if config.held_out { Split::HeldOutA } else { Split::Train }
}

/// Enough windows for `n_tokens` that count, at even distances over the split, so that every source and kind is seen; all of them where
/// the split is smaller.
fn choose_windows(stream: &TokenStream, split: Split, n_ctx: usize, n_tokens: u64) -> Result<Vec<u64>> {
    let all = stream.windows(split, n_ctx);
    let n_all = all.end.saturating_sub(all.start);
    if n_all == 0 || n_ctx < 2 || n_tokens == 0 {
        return Err(Error::Invalid(format!(
            "no window of {n_ctx} tokens in {} ({n_tokens} tokens asked for)\n  build a larger corpus, or use a model with a smaller n_ctx",
            split.name()
        )));
    }
    let mut n = n_tokens.div_ceil(n_ctx as u64 - 1).min(n_all);
    loop {
        let windows = stream.spread_windows(split, n_ctx, n);
        let mut ids = vec![0; n_ctx];
        let n_counted: u64 = windows
            .iter()
            .map(|w| {
                stream.read(w * n_ctx as u64, &mut ids);
                ids.iter().enumerate().filter(|(i, id)| counts(**id, *i, stream.end_of_text())).count() as u64
            })
            .sum();
        if n_counted >= n_tokens || n == n_all {
            return Ok(windows);
        }
        // Some tokens do not count: a little more than proportionally as many windows, and look again.
        n = (n * n_tokens).div_ceil(n_counted.max(1)).clamp(n + 1, n_all.max(n + 1)).min(n_all);
    }
}

/// The document of each token of windows that begin at `t0`.
pub(super) fn docs(stream: &TokenStream, t0: &[u64], n_ctx: usize) -> Vec<u32> {
    let mut docs = Vec::with_capacity(t0.len() * n_ctx);
    for &t in t0 {
        let mut doc = stream.doc_of(t);
        for t in t..t + n_ctx as u64 {
            while t >= stream.doc_end(doc) {
                doc += 1;
            }
            docs.push(doc as u32);
        }
    }
    docs
}

/// Whether activations at `hook` can be below zero.
pub fn can_be_negative(hook: HookPoint, lm: &LmConfig) -> bool {
    !(hook.site == Site::MlpPost && lm.activation == Activation::Relu)
}

/// Neurons as sparse rows: unit i is max(x_i, 0), unit d_in + i is max(-x_i, 0) where both sides are asked for.
pub(super) fn sides(rows: &[f32], d_in: usize, both: bool, out: &mut SparseRows) {
    out.clear();
    let (mut units, mut acts) = (Vec::new(), Vec::new());
    for row in rows.chunks(d_in) {
        units.clear();
        acts.clear();
        for (sign, first) in [(1.0, 0), (-1.0, d_in)].into_iter().take(1 + both as usize) {
            for (i, x) in row.iter().map(|x| sign * x).enumerate().filter(|(_, x)| *x > 0.0) {
                units.push((first + i) as u32);
                acts.push(x);
            }
        }
        out.push_row(&units, &acts);
    }
}
