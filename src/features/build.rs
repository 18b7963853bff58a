//! Building a dictionary: the pass over the text, then what follows from it and from the weights - logit effects, neighbours, groups
//! of contexts, flags, categories - and the file.

use super::census::{self, Census};
use super::checkpoint::Checkpoint;
use super::collect::CollectSettings;
use super::geometry::{self, Geometry};
use super::pass::{pass, split};
use super::polysemantic::Measured;
use super::store::{Flag, Kind, Meta, Row, write};
use super::text::StreamText;
use super::{Result, logits, loss, near, polysemantic};
use crate::artifact::{Progress, settings};
use crate::corpus::{TokenStream, Tokenizer};
use crate::lm::{Engine, HookPoint};
use crate::sae::Sae;
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
    /// Tokens that go through the model together; nothing depends on it but speed.
    pub batch_tokens: usize,
    pub collect: CollectSettings,
}

impl Default for BuildConfig {
    fn default() -> Self {
        BuildConfig { n_tokens: 1_000_000, held_out: false, n_logits: 10, batch_tokens: 4096, collect: CollectSettings::default() }
    }
}

/// Whose units.
#[derive(Clone, Copy)]
pub enum Units<'a> {
    /// Of an SAE: its name and the hash of its manifest. A transcoder's latents write at `target`: there their directions and effects are.
    Latents { sae: &'a Sae, name: &'a str, manifest_hash: &'a str, target: Option<HookPoint> },
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
    /// Where the pass over the text is saved; `None` for a pass that begins anew whenever it is interrupted.
    pub checkpoint: Option<Checkpoint>,
}

/// Makes the dictionary at `path`. The old file stays until the new one is complete.
///
/// # Errors
/// [`Error::Interrupted`](super::Error::Interrupted) with nothing written but the checkpoint; those of [`pass`].
pub fn build(path: &Path, inputs: Inputs, units: Units, config: &BuildConfig, progress: &mut dyn Progress) -> Result<Meta> {
    let began = Instant::now();
    let Inputs { engine, lm_hash, stream, tokenizer, hook, checkpoint } = inputs;
    let (kind, name, sae_hash, weights_hash) = match units {
        Units::Latents { sae, name, manifest_hash, .. } => (Kind::Latent, name, Some(manifest_hash.to_string()), weights_hash(sae)),
        Units::Neurons => (Kind::Neuron, super::NEURONS, None, format!("{lm_hash}/{hook}")),
    };
    let inputs = [("tokens", stream.manifest().hash()), ("lm", lm_hash.to_string()), ("units", weights_hash.clone()), ("hook", hook.to_string())];
    let identity = settings::identity(
        &serde_json::to_value(config).expect("a config is plain data"),
        &inputs.map(|(input, hash)| (input.to_string(), hash)).into(),
    );
    let saved = checkpoint.as_ref().map(|checkpoint| (checkpoint, identity.as_str()));
    let mut findings = pass(engine, stream, hook, units, config, saved, progress)?;
    let lm = engine.lm();
    let d_in = hook.d_in(&lm.config);
    let text = StreamText { stream, tokenizer };
    let n_units = findings.units.len();
    progress.begin("neighbours and logit effects", n_units as u64, "units");
    let is_live: Vec<bool> = findings.units.iter().map(|u| u.n_active > 0).collect();
    let (cosines, directions) = match units {
        Units::Latents { sae, target: Some(_), .. } => (vec![None; n_units], sae.w_dec.clone()),
        Units::Latents { sae, .. } => (sae.encoder_decoder_cosines().into_iter().map(Some).collect(), sae.w_dec.clone()),
        Units::Neurons => (vec![None; n_units], axes(d_in, n_units)),
    };
    let geometry = match units {
        Units::Latents { sae, .. } => geometry::of(&directions, sae.d_out(), &is_live),
        // Axes are at right angles to each other, and each is aligned with itself.
        Units::Neurons => vec![Geometry::default(); n_units],
    };
    let writes = match units {
        Units::Latents { target: Some(target), .. } => target,
        _ => hook,
    };
    let effects = logits::extremes(&lm, writes, &directions, config.n_logits, tokenizer.d_vocab());
    let range = stream.range(split(config));
    let Measured { scores: polysemantic, alike_from, chance: polysemantic_chance } =
        polysemantic::measure(&findings, &text, range, &lm, config.collect.seed);
    let mut units_found = std::mem::take(&mut findings.units);
    if matches!(units, Units::Neurons) {
        // That a neuron goes along with itself is no news.
        for (id, unit) in units_found.iter_mut().enumerate() {
            unit.neurons.retain(|(neuron, ..)| *neuron as usize != id % d_in);
        }
    }
    let census = Census::new(&findings, &text);
    let parts = units_found.into_iter().zip(effects).zip(geometry).zip(polysemantic.into_iter().zip(cosines));
    let mut rows: Vec<Row> = parts
        .map(|(((unit, (logits_up, logits_down)), geometry), (polysemantic, enc_dec_cosine))| {
            let flags = census.flags(&unit, polysemantic, enc_dec_cosine, &geometry);
            let category = Some(census.category(&unit, &flags, polysemantic));
            let collected = near::merged(unit, config.collect.n_top, &text);
            let Geometry { similar, alignment } = geometry;
            Row { collected, flags, polysemantic, enc_dec_cosine, logits_up, logits_down, category, similar, alignment }
        })
        .collect();
    let n_ctx = lm.config.n_ctx;
    drop(lm);
    progress.advance(n_units as u64);
    progress.end();
    let mut shown: Vec<_> = rows.iter_mut().map(|row| &mut row.collected).collect();
    let loss_effects = loss::measure(engine, stream, writes, &directions, &mut shown, progress)?;
    let n_with = |flag| rows.iter().filter(|r| r.flags.contains(&flag)).count() as u64;
    let meta = Meta {
        kind,
        name: name.into(),
        hook: hook.to_string(),
        n_units: rows.len() as u32,
        d_in,
        n_ctx,
        n_tokens: findings.n_tokens,
        tokens_from: split(config).name().into(),
        seed: config.collect.seed,
        n_before: config.collect.n_before,
        n_after: config.collect.n_after,
        whole_documents: false,
        tokens_hash: stream.manifest().hash(),
        lm_hash: lm_hash.into(),
        sae_hash,
        weights_hash,
        n_dead: n_with(Flag::Dead),
        n_ultra_rare: n_with(Flag::UltraRare),
        n_dense: n_with(Flag::Dense),
        n_single_token: n_with(Flag::SingleToken),
        n_junk: n_with(Flag::Junk),
        n_position_locked: n_with(Flag::PositionLocked),
        n_duplicated: n_with(Flag::Duplicated),
        n_polysemantic: n_with(Flag::Polysemantic),
        alike_from,
        polysemantic_chance,
        census: census::count(&rows),
        n_windows: findings.n_windows,
        time_tokens: findings.time_tokens,
        position_edges: findings.position_edges,
        position_tokens: findings.position_tokens,
        correlated_over: findings.correlated_over,
        coactive_sd: 0.5 / (config.collect.n_sketch as f64).sqrt(),
        loss_effects,
        wall_seconds: began.elapsed().as_secs_f64(),
        program_version: env!("CARGO_PKG_VERSION").into(),
    };
    progress.begin("search index", n_units as u64, "units");
    write(path, &meta, &rows, &findings.tokens, &text)?;
    if let Some(checkpoint) = checkpoint {
        checkpoint.clear()?;
    }
    progress.advance(n_units as u64);
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
        crate::sae::Select::Gated { b_mag, r_mag } => hasher.update(bytemuck::cast_slice(b_mag)).update(bytemuck::cast_slice(r_mag)),
        other => hasher.update(format!("{other:?}").as_bytes()),
    };
    if let Some(transcoder) = &sae.transcoder {
        hasher.update(format!("to {}", transcoder.d_out).as_bytes()).update(bytemuck::cast_slice(&transcoder.w_skip));
    }
    hasher.finalize().to_hex()[..16].to_string()
}

/// Directions of the sides of neurons, (n, d_in).
pub fn axes(d_in: usize, n: usize) -> Vec<f32> {
    let mut directions = vec![0.0; n * d_in];
    for (i, row) in directions.chunks_mut(d_in).enumerate() {
        row[i % d_in] = if i < d_in { 1.0 } else { -1.0 };
    }
    directions
}

#[cfg(test)]
mod tests;
