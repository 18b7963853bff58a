//! What half A says of every concept at once: which latents fire before it, what follows, and a few positions whose next-token distributions are known exactly
//! under any change.

use super::super::{Error, Result};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream};
use crate::intervene::exact::ExactEffect;
use crate::intervene::fit::Evidence;
use crate::intervene::measure::batches;
use crate::intervene::write::Rig;
use crate::kernels::softmax::kl_divergence;
use crate::lm::{CpuEngine, Engine, HookPoint};
use crate::sae::SparseRows;
use rayon::prelude::*;

/// Positions of half A whose exact distributions are looked at.
const POSITIONS: usize = 192;

/// What half A says of every concept at once.
pub(super) struct Seen {
    /// Per concept: what is active before it.
    pub evidence: Vec<Evidence>,
    /// Per concept (d_in,): sums of rows before it, and their number; of all rows.
    pub sums: Vec<Vec<f64>>,
    pub n: Vec<u64>,
    pub sum: Vec<f64>,
    pub n_all: u64,
    /// Per concept: how often each token has it, and in all, (d_vocab,).
    pub with: Vec<Vec<u64>>,
    pub tokens: Vec<u64>,
    pub density: Vec<f64>,
    /// At [`POSITIONS`] rows: the residual stream after the last block (n, d_model), and what is active.
    pub resid: Vec<f32>,
    pub acts: SparseRows,
}

/// One pass over half A.
pub(super) fn look(rig: Rig, stream: &TokenStream, numbers: &[usize], n_tokens: u64, progress: &mut dyn Progress) -> Result<Seen> {
    let mut engine = CpuEngine::new(rig.lm.clone());
    let (n_ctx, d_in, d_vocab) = (rig.lm.config.n_ctx, rig.sae.d_in, rig.lm.config.d_vocab);
    let windows = stream.spread_windows(Split::HeldOutA, n_ctx, n_tokens.div_ceil(n_ctx as u64));
    let per = |n: usize| vec![vec![0u64; n]; numbers.len()];
    let mut seen = Seen {
        evidence: vec![Evidence::new(rig.sae.d_sae, d_vocab); numbers.len()],
        sums: vec![vec![0.0; d_in]; numbers.len()],
        n: vec![0; numbers.len()],
        sum: vec![0.0; d_in],
        n_all: 0,
        with: per(d_vocab),
        tokens: vec![0; d_vocab],
        density: vec![0.0; rig.sae.d_sae],
        resid: Vec::new(),
        acts: SparseRows::default(),
    };
    let mut encoder = rig.sae.encoder();
    let (mut rows, mut acts, mut resid) = (Vec::new(), SparseRows::default(), Vec::new());
    let (d_model, last) = (rig.lm.config.d_model, HookPoint::last(&rig.lm.config));
    let every = (n_tokens / POSITIONS as u64).max(1);
    progress.begin("half A", (windows.len() * n_ctx) as u64, "tokens");
    let mut at = windows.iter();
    for batch in batches(stream, &windows, n_ctx) {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        rows.resize(batch.ids.len() * d_in, 0.0);
        engine.forward_to(&batch.ids, n_ctx, rig.hook, &mut rows);
        encoder.encode(&rows, &mut acts);
        let first: Vec<u64> = at.by_ref().take(batch.ids.len() / n_ctx).map(|w| w * n_ctx as u64).collect();
        for (c, &number) in numbers.iter().enumerate() {
            let follows: Vec<bool> = first.iter().flat_map(|&t| labelled(stream, t + 1, n_ctx, number)).collect();
            let positive = |i: usize| (batch.counted[i] && batch.targets[i] != stream.end_of_text()).then_some(follows[i]);
            seen.evidence[c].add(&acts, (0..batch.ids.len()).map(|i| (positive(i), batch.targets[i])));
            for (i, row) in rows.chunks_exact(d_in).enumerate().filter(|(i, _)| positive(*i) == Some(true)) {
                add(&mut seen.sums[c], row);
                seen.n[c] += 1;
                seen.with[c][batch.targets[i] as usize] += 1;
            }
        }
        resid.resize(batch.ids.len() * d_model, 0.0);
        engine.forward_to(&batch.ids, n_ctx, last, &mut resid);
        for (i, row) in rows.chunks_exact(d_in).enumerate().filter(|(i, _)| batch.counted[*i]) {
            if seen.n_all.is_multiple_of(every) && seen.acts.n_rows() < POSITIONS {
                seen.resid.extend_from_slice(&resid[i * d_model..][..d_model]);
                let (latents, acts) = acts.row(i);
                seen.acts.push_row(latents, acts);
            }
            add(&mut seen.sum, row);
            seen.n_all += 1;
            seen.tokens[batch.targets[i] as usize] += 1;
            acts.row(i).0.iter().for_each(|&l| seen.density[l as usize] += 1.0);
        }
        progress.advance(batch.ids.len() as u64);
    }
    progress.end();
    let n = seen.n_all.max(1) as f64;
    seen.density.iter_mut().for_each(|d| *d /= n);
    Ok(seen)
}

fn add(sum: &mut [f64], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
}

/// Whether each of the `n` tokens from `t` on has concept number `number`.
pub(super) fn labelled(stream: &TokenStream, t: u64, n: usize, number: usize) -> Vec<bool> {
    let mut has = vec![false; n];
    if let Some(labels) = stream.concepts() {
        let within = labels.within(t..t + n as u64);
        let both = labels.token[within.clone()].iter().zip(&labels.concept[within]);
        both.filter(|(_, c)| **c as usize == number).for_each(|(token, _)| has[(token - t) as usize] = true);
    }
    has
}

impl Seen {
    /// The largest activation of a latent at any position of half A that counts.
    pub fn max_act(&self, latent: u32) -> f32 {
        self.evidence.first().map_or(0.0, |e| e.max_act(latent))
    }

    /// For each concept the share of each token's places that have it, (concepts, d_vocab).
    pub fn weights(&self) -> Vec<f32> {
        let share = |(&with, &all): (&u64, &u64)| with as f32 / all.max(1) as f32;
        self.with.iter().flat_map(|with| with.iter().zip(&self.tokens).map(share).collect::<Vec<f32>>()).collect()
    }

    /// Raises the logits of tokens that have the concept in more than half of their places by `strength`.
    pub fn bias(&self, concept: usize, strength: f32) -> Vec<f32> {
        let own = self.with[concept].iter().zip(&self.tokens).map(|(&with, &all)| all > 0 && 2 * with > all);
        let bias: Vec<f32> = own.map(|own| if own { strength } else { 0.0 }).collect();
        if bias.iter().any(|&b| b != 0.0) || strength == 0.0 {
            return bias;
        }
        // No token is the concept's own: each is raised by its share of the concept.
        self.with[concept].iter().zip(&self.tokens).map(|(&with, &all)| strength * with as f32 / all.max(1) as f32).collect()
    }

    /// Mean row before the concept less the mean of all rows, (d_in,).
    pub fn mean_difference(&self, concept: usize) -> Vec<f32> {
        let n = self.n[concept].max(1) as f64;
        self.sums[concept].iter().zip(&self.sum).map(|(own, all)| (own / n - all / self.n_all.max(1) as f64) as f32).collect()
    }
}

/// What is done to the model at every position.
pub(super) enum Way<'a> {
    /// A latent held at an activation.
    Feature(u32, f32),
    /// Logits raised by (d_vocab,).
    Bias(&'a [f32]),
    /// A multiple of a direction (d_in,) added.
    Push(&'a [f32], f32),
}

impl Seen {
    /// Activations of a latent at the looked-at positions.
    pub fn acts_of(&self, latent: u32) -> Vec<f32> {
        let act = |r: usize| {
            let (latents, acts) = self.acts.row(r);
            latents.binary_search(&latent).map_or(0.0, |at| acts[at])
        };
        (0..self.acts.n_rows()).map(act).collect()
    }

    /// Mean KL(changed || unedited) of next-token distributions at the looked-at positions, exactly.
    pub fn mean_kl(&self, rig: Rig, way: &Way) -> Result<f64> {
        let v = rig.lm.config.d_vocab;
        let unedited = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[])?.logits(&self.resid, &[]);
        let changed = match way {
            Way::Feature(latent, act) => {
                let changes: Vec<f32> = self.acts_of(*latent).iter().map(|a| act - a).collect();
                ExactEffect::new(rig.lm, rig.hook, rig.sae, &[*latent])?.logits(&self.resid, &changes)
            }
            Way::Bias(bias) => unedited.chunks_exact(v).flat_map(|row| row.iter().zip(*bias).map(|(z, b)| z + b)).collect(),
            Way::Push(direction, strength) => {
                ExactEffect::along(rig.lm, rig.hook, direction)?.logits(&self.resid, &vec![*strength; self.acts.n_rows()])
            }
        };
        let pairs: Vec<(&[f32], &[f32])> = changed.chunks_exact(v).zip(unedited.chunks_exact(v)).collect();
        Ok(pairs.par_iter().map(|(c, u)| kl_divergence(c, u)).sum::<f64>() / self.acts.n_rows().max(1) as f64)
    }
}
