//! Building a dictionary: windows of the stream through the model (and the SAE) into the collector, then logit effects, flags and the file.

use super::collect::{CollectSettings, Collected, Collector, Windows};
use super::store::{Flag, Kind, Meta, Row, write};
use super::text::StreamText;
use super::{Error, Result, logits, polysemantic};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream, Tokenizer, counts};
use crate::lm::{Activation, Engine, HookPoint, LmConfig, Site};
use crate::sae::{JUNK_COSINE, Sae, SparseRows};
use std::path::Path;
use std::time::Instant;

/// What a dictionary is made of.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BuildConfig {
    /// Tokens that statistics are over. The default is the number that "dead" is defined on.
    pub n_tokens: u64,
    /// Read the held-out half A instead of training text. Half B is never read: labels are scored there.
    pub held_out: bool,
    /// Logit effects kept in each direction.
    pub n_logits: usize,
    pub collect: CollectSettings,
}

impl Default for BuildConfig {
    fn default() -> Self {
        BuildConfig { n_tokens: 1_000_000, held_out: false, n_logits: 10, collect: CollectSettings::default() }
    }
}

/// Whose units.
#[derive(Clone, Copy)]
pub enum Units<'a> {
    /// Of an SAE: its name and the hash of its manifest.
    Latents { sae: &'a Sae, name: &'a str, manifest_hash: &'a str },
    /// The model's own neurons: positive sides, then negative sides where the hook can be negative.
    Neurons,
}

/// What it is made from.
pub struct Inputs<'a> {
    pub engine: &'a mut dyn Engine,
    pub lm_hash: &'a str,
    pub stream: &'a TokenStream,
    pub tokenizer: &'a Tokenizer,
    pub hook: HookPoint,
}

/// Fires on more than this share of tokens: [`Flag::Dense`].
pub const DENSE_ABOVE: f64 = 0.1;
/// Fires, but on a smaller share of tokens: [`Flag::UltraRare`].
pub const ULTRA_RARE_BELOW: f64 = 1e-6;
/// At least this share of firings on one token: [`Flag::SingleToken`].
pub const SINGLE_TOKEN_FROM: f64 = 0.9;

/// Makes the dictionary at `path`. The old file stays until the new one is complete.
///
/// # Errors
/// [`Error::Interrupted`] with nothing written; [`Error::Invalid`] when the SAE does not fit the hook or there is no text.
pub fn build(path: &Path, inputs: Inputs, units: Units, config: &BuildConfig, progress: &mut dyn Progress) -> Result<Meta> {
    let began = Instant::now();
    let Inputs { engine, lm_hash, stream, tokenizer, hook } = inputs;
    let (collected, n_tokens) = pass(engine, stream, hook, units, config, progress)?;
    let lm = engine.lm();
    let d_in = hook.d_in(&lm.config);
    let text = StreamText { stream, tokenizer };
    progress.begin("logit effects and search index", collected.len() as u64, "units");
    let (cosines, directions) = match units {
        Units::Latents { sae, .. } => (sae.encoder_decoder_cosines().into_iter().map(Some).collect(), sae.w_dec.clone()),
        Units::Neurons => (vec![None; collected.len()], axes(d_in, collected.len())),
    };
    let effects = logits::extremes(&lm, hook, &directions, config.n_logits, tokenizer.d_vocab());
    let polysemantic = polysemantic::scores(&collected, &text);
    let parts = collected.into_iter().zip(effects).zip(polysemantic).zip(cosines);
    let rows: Vec<Row> = parts
        .map(|(((collected, (logits_up, logits_down)), polysemantic), enc_dec_cosine)| {
            let flags = flags(&collected, n_tokens, enc_dec_cosine);
            Row { collected, flags, polysemantic, enc_dec_cosine, logits_up, logits_down }
        })
        .collect();
    let n_with = |flag| rows.iter().filter(|r| r.flags.contains(&flag)).count() as u64;
    let (kind, name, sae_hash, weights_hash) = match units {
        Units::Latents { sae, name, manifest_hash } => (Kind::Latent, name, Some(manifest_hash.to_string()), weights_hash(sae)),
        Units::Neurons => (Kind::Neuron, super::NEURONS, None, format!("{lm_hash}/{hook}")),
    };
    let meta = Meta {
        kind,
        name: name.into(),
        hook: hook.to_string(),
        n_units: rows.len() as u32,
        d_in,
        n_ctx: lm.config.n_ctx,
        n_tokens,
        tokens_from: split(config).name().into(),
        seed: config.collect.seed,
        n_before: config.collect.n_before,
        n_after: config.collect.n_after,
        tokens_hash: stream.manifest().hash(),
        lm_hash: lm_hash.into(),
        sae_hash,
        weights_hash,
        n_dead: n_with(Flag::Dead),
        n_ultra_rare: n_with(Flag::UltraRare),
        n_dense: n_with(Flag::Dense),
        n_single_token: n_with(Flag::SingleToken),
        n_junk: n_with(Flag::Junk),
        wall_seconds: began.elapsed().as_secs_f64(),
        program_version: env!("CARGO_PKG_VERSION").into(),
    };
    write(path, &meta, &rows, &text)?;
    progress.advance(rows.len() as u64);
    progress.end();
    Ok(meta)
}

/// blake3 of an SAE's shape and weights, 16 hex digits: what labels are keyed by. Renaming or re-saving an SAE does not change it.
pub fn weights_hash(sae: &Sae) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{} {} {}", sae.d_in, sae.d_sae, sae.apply_b_dec_to_input).as_bytes());
    for weights in [&sae.w_enc, &sae.b_enc, &sae.w_dec, &sae.b_dec] {
        hasher.update(bytemuck::cast_slice(weights));
    }
    match &sae.select {
        crate::sae::Select::JumpRelu { threshold } => hasher.update(bytemuck::cast_slice(threshold)),
        other => hasher.update(format!("{other:?}").as_bytes()),
    };
    hasher.finalize().to_hex()[..16].to_string()
}

/// Runs the text through the model and the collector. Returns what was kept of each unit, and the tokens counted.
pub fn pass(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    hook: HookPoint,
    units: Units,
    config: &BuildConfig,
    progress: &mut dyn Progress,
) -> Result<(Vec<Collected>, u64)> {
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
    let mut collector = Collector::new(n_units, config.collect.clone());
    let (mut ids, mut rows, mut sparse) = (Vec::new(), Vec::new(), SparseRows::default());
    let per_batch = (4096 / n_ctx).max(1);
    progress.begin("features", config.n_tokens.min(windows.len() as u64 * (n_ctx as u64 - 1)), "tokens");
    for batch in windows.chunks(per_batch) {
        if progress.interrupted() {
            return Err(Error::Interrupted);
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
        collector.add(Windows { n_ctx, t0: &t0, ids: &ids, docs: &docs(stream, &t0, n_ctx), counted: &counted }, &sparse);
        progress.advance(collector.n_tokens() - before);
    }
    progress.end();
    let n_tokens = collector.n_tokens();
    Ok((collector.finish(), n_tokens))
}

fn split(config: &BuildConfig) -> Split {
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

/// Directions of the sides of neurons, (n, d_in).
fn axes(d_in: usize, n: usize) -> Vec<f32> {
    let mut directions = vec![0.0; n * d_in];
    for (i, row) in directions.chunks_mut(d_in).enumerate() {
        row[i % d_in] = if i < d_in { 1.0 } else { -1.0 };
    }
    directions
}

fn flags(unit: &Collected, n_tokens: u64, cosine: Option<f32>) -> Vec<Flag> {
    let density = unit.n_active as f64 / n_tokens.max(1) as f64;
    let fires = unit.n_active > 0;
    let is = |flag: &Flag| match flag {
        Flag::Dead => !fires,
        Flag::UltraRare => fires && density < ULTRA_RARE_BELOW,
        Flag::Dense => density > DENSE_ABOVE,
        Flag::SingleToken => fires && unit.top_share >= SINGLE_TOKEN_FROM,
        Flag::Junk => cosine.is_some_and(|c| (c as f64) < JUNK_COSINE),
    };
    Flag::ALL.into_iter().filter(is).collect()
}

#[cfg(test)]
mod tests;
