//! What is measured at a hook before anything is changed there: the mean activation, the largest activation of latents.

use super::{Error, Result, check_width};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream, counts};
use crate::lm::{Engine, HookPoint};
use crate::sae::{Sae, SparseRows};

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

/// Held-out tokens that a hook's usual length is measured on.
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
