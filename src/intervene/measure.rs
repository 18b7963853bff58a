//! What is measured at a hook before anything is changed there: the mean activation, the largest activation of latents.

use super::{Error, Result, check_width};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream, counts};
use crate::lm::{Engine, HookPoint};
use crate::sae::{Sae, SparseRows};
use rand::RngExt;

/// Tokens that are run at once, about; whole windows.
const BATCH_TOKENS: usize = 4096;

/// Some windows with their tokens, the tokens that follow, and which rows count.
pub(crate) struct WindowBatch {
    pub ids: Vec<u32>,
    pub targets: Vec<u32>,
    pub counted: Vec<bool>,
}

/// Reads windows in batches of about 4,096 tokens.
pub(crate) fn batches<'a>(stream: &'a TokenStream, windows: &'a [u64], n_ctx: usize) -> impl Iterator<Item = WindowBatch> + 'a {
    let end_of_text = stream.end_of_text();
    windows.chunks((BATCH_TOKENS / n_ctx).max(1)).map(move |windows| {
        let mut batch = WindowBatch { ids: Vec::new(), targets: Vec::new(), counted: Vec::new() };
        let mut tokens = vec![0; n_ctx + 1];
        for &w in windows {
            stream.read(w * n_ctx as u64, &mut tokens);
            batch.ids.extend_from_slice(&tokens[..n_ctx]);
            batch.targets.extend_from_slice(&tokens[1..]);
            batch.counted.extend(tokens[..n_ctx].iter().enumerate().map(|(p, &t)| counts(t, p, end_of_text)));
        }
        batch
    })
}

/// Mean activation at `hook` over rows that count in about `n_tokens` tokens of the training documents, spread evenly. Shape (d_in,).
pub fn mean_activation(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    hook: HookPoint,
    n_tokens: u64,
    progress: &mut dyn Progress,
) -> Result<Vec<f32>> {
    let n_ctx = engine.config().n_ctx;
    let d_in = hook.d_in(engine.config());
    let windows = stream.spread_windows(Split::Train, n_ctx, n_tokens.div_ceil(n_ctx as u64));
    let (mut sums, mut n, mut rows) = (vec![0.0f64; d_in], 0u64, Vec::new());
    progress.begin("mean activation", (windows.len() * n_ctx) as u64, "tokens");
    for batch in batches(stream, &windows, n_ctx) {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        rows.resize(batch.ids.len() * d_in, 0.0);
        engine.forward_to(&batch.ids, n_ctx, hook, &mut rows);
        for (row, _) in rows.chunks_exact(d_in).zip(&batch.counted).filter(|&(_, &counted)| counted) {
            sums.iter_mut().zip(row).for_each(|(s, &x)| *s += x as f64);
            n += 1;
        }
        progress.advance(batch.ids.len() as u64);
    }
    progress.end();
    if n == 0 {
        return Err(Error::NoTokens { n_ctx });
    }
    Ok(sums.iter().map(|s| (s / n as f64) as f32).collect())
}

/// Held-out tokens that a hook's usual length, and maxima where no dictionary tells them, are measured on.
pub const NORM_TOKENS: u64 = 50_000;

/// Mean of |x| at `hook` over rows that count in about `n_tokens` tokens of `split`, spread evenly.
pub fn mean_length(engine: &mut dyn Engine, stream: &TokenStream, split: Split, hook: HookPoint, n_tokens: u64) -> Result<f32> {
    let n_ctx = engine.config().n_ctx;
    let d_in = hook.d_in(engine.config());
    let windows = stream.spread_windows(split, n_ctx, n_tokens.div_ceil(n_ctx as u64));
    let (mut sum, mut n, mut rows) = (0.0f64, 0u64, Vec::new());
    for batch in batches(stream, &windows, n_ctx) {
        rows.resize(batch.ids.len() * d_in, 0.0);
        engine.forward_to(&batch.ids, n_ctx, hook, &mut rows);
        for (row, _) in rows.chunks_exact(d_in).zip(&batch.counted).filter(|&(_, &counted)| counted) {
            sum += row.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
            n += 1;
        }
    }
    if n == 0 {
        return Err(Error::NoTokens { n_ctx });
    }
    Ok((sum / n as f64) as f32)
}

/// Directions (d_in,) of length 1 that an edit is compared with: what does a push of its length do when it means nothing?
#[derive(Debug, Clone, PartialEq)]
pub struct Controls {
    /// The same in every coordinate but for its sign.
    pub random: Vec<f32>,
    /// Drawn with the activations' own covariance: a sum of centred rows with random signs, so that it lies where activations do.
    pub covariance: Vec<f32>,
}

/// Rows that [`controls`] draws its second direction from, about.
const CONTROL_TOKENS: u64 = 4096;

/// Draws both; the rows are of held-out half A.
pub fn controls(engine: &mut dyn Engine, stream: &TokenStream, hook: HookPoint, seed: u64) -> Result<Controls> {
    let n_ctx = engine.config().n_ctx;
    let d_in = hook.d_in(engine.config());
    let windows = stream.spread_windows(Split::HeldOutA, n_ctx, CONTROL_TOKENS.div_ceil(n_ctx as u64));
    let mut rng = crate::artifact::seed::rng(seed, "intervene/controls", 0);
    let mut sign = || if rng.random::<bool>() { 1.0 } else { -1.0 };
    let random: Vec<f64> = (0..d_in).map(|_| sign()).collect();
    // sum of signs * (x - mean) = sum of signs * x - (sum of signs) * mean
    let (mut signed, mut sum, mut signs, mut n, mut rows) = (vec![0.0f64; d_in], vec![0.0f64; d_in], 0.0, 0u64, Vec::new());
    for batch in batches(stream, &windows, n_ctx) {
        rows.resize(batch.ids.len() * d_in, 0.0);
        engine.forward_to(&batch.ids, n_ctx, hook, &mut rows);
        for (row, _) in rows.chunks_exact(d_in).zip(&batch.counted).filter(|&(_, &counted)| counted) {
            let s = sign();
            for ((signed, sum), &x) in signed.iter_mut().zip(&mut sum).zip(row) {
                *signed += s * f64::from(x);
                *sum += f64::from(x);
            }
            signs += s;
            n += 1;
        }
    }
    if n == 0 {
        return Err(Error::NoTokens { n_ctx });
    }
    let covariance: Vec<f64> = signed.iter().zip(&sum).map(|(signed, sum)| signed - signs * sum / n as f64).collect();
    let unit = |v: &[f64]| {
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        v.iter().map(|x| (x / length) as f32).collect()
    };
    Ok(Controls { random: unit(&random), covariance: unit(&covariance) })
}

/// The largest activation of every latent over rows that count in about `n_tokens` tokens of `split`, spread evenly. Shape (d_sae,); 0 for
/// a latent that did not fire.
pub fn max_activations(engine: &mut dyn Engine, stream: &TokenStream, split: Split, hook: HookPoint, sae: &Sae, n_tokens: u64) -> Result<Vec<f32>> {
    check_width(engine.config(), hook, sae)?;
    let n_ctx = engine.config().n_ctx;
    let windows = stream.spread_windows(split, n_ctx, n_tokens.div_ceil(n_ctx as u64));
    let mut encoder = sae.encoder();
    let (mut largest, mut rows, mut acts) = (vec![0.0f32; sae.d_sae], Vec::new(), SparseRows::default());
    for batch in batches(stream, &windows, n_ctx) {
        rows.resize(batch.ids.len() * sae.d_in, 0.0);
        engine.forward_to(&batch.ids, n_ctx, hook, &mut rows);
        encoder.encode(&rows, &mut acts);
        for (r, _) in batch.counted.iter().enumerate().filter(|&(_, &counted)| counted) {
            let (latents, acts) = acts.row(r);
            latents.iter().zip(acts).for_each(|(&l, &a)| largest[l as usize] = largest[l as usize].max(a));
        }
    }
    Ok(largest)
}
