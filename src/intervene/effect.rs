//! What an edit does to each next token, and to the other latents: the edited and the unedited model read the same text.
//!
//! KL is KL(edited || unedited), nats: how much worse than the edited model the unedited one predicts what the edited one writes.

use super::exact::ExactEffect;
use super::write::{Change, Rig, Writer};
use super::{Editor, Result, Steering};
use crate::kernels::softmax::{kl_divergence, log_sum_exp};
use crate::lm::{HookPoint, Reader};
use crate::sae::{Encoder, Sae, SparseRows};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// A token whose probability the edit changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    pub token: u32,
    pub text: String,
    pub unedited: f64,
    pub edited: f64,
}

/// What the edit did to the prediction of one token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenEffect {
    pub token: u32,
    pub text: String,
    pub kl: f64,
    /// ln p of the token itself.
    pub log_prob_unedited: f64,
    pub log_prob_edited: f64,
    /// Tokens whose probability rose most, and fell most.
    pub promoted: Vec<Moved>,
    pub suppressed: Vec<Moved>,
}

/// Another latent that the edit moved: the SAE reads the edited row differently, for directions overlap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SideEffect {
    pub latent: u32,
    /// Mean change of its activation over the positions read.
    pub mean_change: f64,
}

/// What an edit does along a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// For each token of the text after the prompt.
    pub tokens: Vec<TokenEffect>,
    pub mean_kl: f64,
    /// Other latents per position whose activation moves by more than [`MOVED_FROM`] of the edit's length.
    pub others_moved: f64,
    /// Those that move most, at most ten.
    pub most_moved: Vec<SideEffect>,
}

/// A latent counts as moved when its activation changes by more than this share of |x' - x|; decoder directions are of length 1.
pub const MOVED_FROM: f64 = 0.1;
/// Latents that are named.
const N_MOVED: usize = 10;

/// The model before and after an edit at the prediction of one token.
pub(super) struct Both<'a> {
    /// (d_vocab,)
    pub unedited: &'a [f32],
    pub edited: &'a [f32],
    /// The hook's row that the prediction comes from, before and after the edit, (d_in,).
    pub rows: (&'a [f32], &'a [f32]),
}

/// Reads `tokens` after `prompt` with and without the edit and tells `each` of the predictions of token i, i = 0, 1, ...
pub(super) fn read_both(rig: Rig, change: Change, prompt: &[u32], tokens: &[u32], each: &mut dyn FnMut(usize, Both)) -> Result<()> {
    if tokens.is_empty() {
        return Ok(());
    }
    let mut unedited = Writer::reading(rig, Change::default(), prompt, prompt.len())?;
    let mut edited = Writer::reading(rig, change, prompt, prompt.len())?;
    for (i, _) in tokens.iter().enumerate() {
        if i > 0 {
            unedited.force(tokens[i - 1]);
            edited.force(tokens[i - 1]);
        }
        each(i, Both { unedited: unedited.logits(), edited: edited.logits(), rows: edited.rows() });
    }
    Ok(())
}

/// What `steering` does along `tokens` after `prompt`; `n_moved` tokens are named as promoted and as suppressed at each.
pub fn effect(rig: Rig, steering: &Steering, prompt: &[u32], tokens: &[u32], n_moved: usize) -> Result<Effect> {
    let mut all = Vec::with_capacity(tokens.len());
    let mut others = Others::new(rig.sae, steering);
    read_both(rig, steering.into(), prompt, tokens, &mut |i, both| {
        all.push(token_effect(rig, tokens[i], &both, n_moved));
        others.see(both.rows);
    })?;
    let n = tokens.len().max(1) as f64;
    let mut most: Vec<SideEffect> = others.changes.into_iter().map(|(latent, sum)| SideEffect { latent, mean_change: sum / n }).collect();
    most.sort_by(|a, b| b.mean_change.abs().total_cmp(&a.mean_change.abs()).then(a.latent.cmp(&b.latent)));
    most.truncate(N_MOVED);
    let mean_kl = all.iter().map(|t| t.kl).sum::<f64>() / n;
    Ok(Effect { tokens: all, mean_kl, others_moved: others.moved as f64 / n, most_moved: most })
}

/// [`Effect::others_moved`] alone, over several texts of (prompt, tokens).
pub(super) fn others_moved(rig: Rig, steering: &Steering, texts: &[(&[u32], &[u32])]) -> Result<f64> {
    let of_text = |(prompt, tokens): &(&[u32], &[u32])| -> Result<u64> {
        let mut others = Others::new(rig.sae, steering);
        read_both(rig, steering.into(), prompt, tokens, &mut |_, both| others.see(both.rows))?;
        Ok(others.moved)
    };
    let moved: Vec<u64> = texts.par_iter().map(of_text).collect::<Result<_>>()?;
    let n = texts.iter().map(|(_, tokens)| tokens.len()).sum::<usize>();
    Ok(moved.iter().sum::<u64>() as f64 / n.max(1) as f64)
}

/// What an edit does to latents that it does not name, counted position by position.
struct Others<'a> {
    steering: &'a Steering,
    encoder: Encoder<'a>,
    before: SparseRows,
    after: SparseRows,
    /// Sum of the changes of each latent that moved at all.
    changes: BTreeMap<u32, f64>,
    /// Changes above [`MOVED_FROM`] of the edit's length.
    moved: u64,
}

impl<'a> Others<'a> {
    fn new(sae: &'a Sae, steering: &'a Steering) -> Self {
        let (before, after) = (SparseRows::default(), SparseRows::default());
        Others { steering, encoder: sae.encoder(), before, after, changes: BTreeMap::new(), moved: 0 }
    }

    /// One position's row at the hook, (d_in,), before and after the edit.
    fn see(&mut self, (x, edited): (&[f32], &[f32])) {
        let length = x.iter().zip(edited).map(|(x, e)| f64::from(e - x).powi(2)).sum::<f64>().sqrt();
        if length == 0.0 {
            return;
        }
        self.encoder.encode(x, &mut self.before);
        self.encoder.encode(edited, &mut self.after);
        let mut change = BTreeMap::<u32, f64>::new();
        self.before.latent.iter().zip(&self.before.act).for_each(|(&l, &a)| *change.entry(l).or_default() -= f64::from(a));
        self.after.latent.iter().zip(&self.after.act).for_each(|(&l, &a)| *change.entry(l).or_default() += f64::from(a));
        change.retain(|latent, _| !self.steering.edits.iter().any(|e| e.latent == *latent));
        self.moved += change.values().filter(|c| c.abs() > MOVED_FROM * length).count() as u64;
        change.into_iter().for_each(|(latent, c)| *self.changes.entry(latent).or_default() += c);
    }
}

/// What `steering` does to the prediction of the token that follows `prompt`; the token itself is the one that was likeliest.
///
/// At the last layer's hooks only the prompt's last position matters, and what happens there is exact without another pass ([`ExactEffect`]); elsewhere the edited model
/// reads the prompt too.
pub fn next_effect(rig: Rig, steering: &Steering, prompt: &[u32], n_moved: usize) -> Result<TokenEffect> {
    let unedited = Writer::reading(rig, Change::default(), prompt, prompt.len())?;
    let before = unedited.logits().to_vec();
    let likeliest = (0..before.len() as u32).max_by(|&a, &b| before[a as usize].total_cmp(&before[b as usize])).unwrap_or(0);
    let x = unedited.rows().0.to_vec();
    let exact = match ExactEffect::new(rig.lm, rig.hook, rig.sae, &[]) {
        Err(super::Error::NotExact { .. }) => None,
        Err(other) => return Err(other),
        Ok(_) => {
            let at = prompt.len() - 1;
            let mut edited = x.clone();
            Editor::new(rig.sae, steering, prompt.len(), rig.tokenizer.end_of_text())?.apply(at, &prompt[at..], &mut edited);
            if edited == x {
                // What is computed another way would differ in its last digits.
                return Ok(token_effect(rig, likeliest, &Both { unedited: &before, edited: &before, rows: (&x, &x) }, n_moved));
            }
            let change: Vec<f32> = edited.iter().zip(&x).map(|(e, x)| e - x).collect();
            let mut reader = Reader::new(&rig.lm.config, HookPoint::last(&rig.lm.config));
            reader.read(rig.lm, &prompt[prompt.len().saturating_sub(rig.lm.config.n_ctx)..]);
            let rows = reader.rows();
            let resid = &rows[rows.len() - rig.lm.config.d_model..];
            let after = ExactEffect::along(rig.lm, rig.hook, &change)?.logits(resid, &[1.0]);
            Some((after, edited))
        }
    };
    let (after, edited) = match exact {
        Some(found) => found,
        None => {
            let writer = Writer::reading(rig, steering.into(), prompt, prompt.len())?;
            (writer.logits().to_vec(), writer.rows().1.to_vec())
        }
    };
    Ok(token_effect(rig, likeliest, &Both { unedited: &before, edited: &after, rows: (&x, &edited) }, n_moved))
}

fn token_effect(rig: Rig, token: u32, both: &Both, n_moved: usize) -> TokenEffect {
    let probabilities = |logits: &[f32]| {
        let sum = log_sum_exp(logits);
        logits.iter().map(|&z| f64::from(z) - sum).collect::<Vec<f64>>()
    };
    let (unedited, edited) = (probabilities(both.unedited), probabilities(both.edited));
    let text = |token: u32| String::from_utf8_lossy(rig.tokenizer.bytes(token)).into_owned();
    let mut order: Vec<(f64, u32)> = unedited.iter().zip(&edited).enumerate().map(|(id, (u, e))| (e.exp() - u.exp(), id as u32)).collect();
    let n = n_moved.min(order.len());
    let mut most = |sign: f64| -> Vec<Moved> {
        if n == 0 {
            return Vec::new();
        }
        let by = |a: &(f64, u32), b: &(f64, u32)| (sign * b.0).total_cmp(&(sign * a.0)).then(a.1.cmp(&b.1));
        order.select_nth_unstable_by(n - 1, by);
        let mut first = order[..n].to_vec();
        first.sort_by(by);
        let moved =
            |&(_, id): &(f64, u32)| Moved { token: id, text: text(id), unedited: unedited[id as usize].exp(), edited: edited[id as usize].exp() };
        first.iter().filter(|(change, _)| sign * change > 0.0).map(moved).collect()
    };
    TokenEffect {
        token,
        text: text(token),
        kl: kl_divergence(both.edited, both.unedited),
        log_prob_unedited: unedited[token as usize],
        log_prob_edited: edited[token as usize],
        promoted: most(1.0),
        suppressed: most(-1.0),
    }
}
