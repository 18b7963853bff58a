//! What holding features at zero does to a concept, and what it does not: its loss where the concept follows, the cost elsewhere, how much of it is still
//! written, and through what it survives. Never a bare claim: the residue and the leak are part of the answer.

use super::{Error, Result};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream};
use crate::intervene::concept::Concept;
use crate::intervene::exact::{ExactEffect, norm_of, residual_directions, toward};
use crate::intervene::measure::batches;
use crate::intervene::strength::Trial;
use crate::intervene::write::{Change, Rig, Writing};
use crate::intervene::{Editor, Steering};
use crate::kernels::softmax::log_sum_exp;
use crate::lm::{CpuEngine, Edit, Engine, HookPoint, Sampling};
use crate::sae::SparseRows;
use serde::Serialize;

/// How much is read and written.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardConfig {
    /// Tokens of half B.
    pub n_tokens: u64,
    /// Prompts of half B that call for the concept, and tokens written after each.
    pub prompts: usize,
    pub called: usize,
    /// Texts from the beginning of a document, and their length.
    pub texts: usize,
    pub tokens: usize,
    pub sampling: Sampling,
}

/// A number before and after the edit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BeforeAfter {
    pub before: f64,
    pub after: f64,
}

impl BeforeAfter {
    /// after / before - 1; none where there was nothing before.
    pub fn change(&self) -> Option<f64> {
        (self.before != 0.0).then(|| self.after / self.before - 1.0)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardReport {
    /// Positions of half B whose next token has the concept, and all others.
    pub n_concept: u64,
    pub n_other: u64,
    /// Mean cross-entropy, nats, at them.
    pub loss_concept: BeforeAfter,
    pub loss_other: BeforeAfter,
    /// Mean probability of tokens that have the concept at half or more of their places, where the concept follows; absent where the effect is not exact.
    pub mass: Option<BeforeAfter>,
    /// Share of tokens with the concept after prompts that call for it, and in texts from the beginning of a document.
    /// None where nothing was written.
    pub rate_called: Option<BeforeAfter>,
    pub rate_free: Option<BeforeAfter>,
    pub n_prompts: usize,
    /// What still pushes towards the concept where it follows, as shares of the unedited push of all active latents and the SAE's error (to first order); absent
    /// where the effect is not exact.
    pub leak: Option<Leak>,
}

/// Through what a concept survives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leak {
    /// Share of the push that was the edited latents'.
    pub edited: f64,
    /// Other latents, and the largest of them by share.
    pub others: f64,
    pub largest: Vec<(u32, f64)>,
    /// What the SAE does not explain.
    pub error: f64,
}

/// Latents named in [`Leak::largest`].
const NAMED: usize = 5;

/// Reads half B and writes texts with and without `steering`, whose scope is all: text that is read has no prompt and no continuation.
///
/// # Errors
/// The concept does not follow any position that was read; [`Error::Interrupted`].
pub fn guard(
    rig: Rig,
    stream: &TokenStream,
    steering: &Steering,
    concept: &Concept,
    config: &GuardConfig,
    progress: &mut dyn Progress,
) -> Result<GuardReport> {
    let mut engine = CpuEngine::new(rig.lm.clone());
    let (n_ctx, d_in, m, v) = (rig.lm.config.n_ctx, rig.sae.d_in, rig.lm.config.d_model, rig.lm.config.d_vocab);
    let windows = stream.spread_windows(Split::HeldOutB, n_ctx, config.n_tokens.div_ceil(n_ctx as u64));
    let mut sums = [[0.0f64; 2]; 2];
    let mut counts = [0u64; 2];
    // Tokens that follow with the concept, and all, (d_vocab,).
    let (mut with, mut all) = (vec![0u64; v], vec![0u64; v]);
    let mut calls: Vec<Vec<u32>> = Vec::new();
    let (mut nll, mut nll_edited, mut rows, mut resid) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // Where the concept follows: residual stream, hook row and edited hook row.
    let (mut kept_resid, mut kept_rows) = (Vec::<f32>::new(), Vec::<f32>::new());
    progress.begin("half B", (windows.len() * n_ctx) as u64, "tokens");
    for batch in batches(stream, &windows, n_ctx) {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        let n = batch.ids.len();
        nll.resize(n, 0.0);
        nll_edited.resize(n, 0.0);
        rows.resize(n * d_in, 0.0);
        resid.resize(n * m, 0.0);
        engine.nll(&batch.ids, &batch.targets, n_ctx, None, &mut nll);
        let mut editor = Editor::new(rig.sae, steering, n_ctx, stream.end_of_text())?;
        let mut apply = |rows: &mut [f32]| editor.apply_to_windows(n_ctx, &batch.ids, rows);
        engine.nll(&batch.ids, &batch.targets, n_ctx, Some(Edit { hook: rig.hook, apply: &mut apply }), &mut nll_edited);
        engine.forward_to(&batch.ids, n_ctx, rig.hook, &mut rows);
        engine.forward_to(&batch.ids, n_ctx, HookPoint::last(&rig.lm.config), &mut resid);
        for (w, ids) in batch.ids.chunks(n_ctx).enumerate() {
            let follows = following(rig, concept, ids, batch.targets[(w + 1) * n_ctx - 1]);
            for (p, follows) in follows.into_iter().enumerate() {
                let i = w * n_ctx + p;
                if !batch.counted[i] || batch.targets[i] == stream.end_of_text() {
                    continue;
                }
                let side = usize::from(follows);
                counts[side] += 1;
                sums[side][0] += f64::from(nll[i]);
                sums[side][1] += f64::from(nll_edited[i]);
                all[batch.targets[i] as usize] += 1;
                if follows {
                    with[batch.targets[i] as usize] += 1;
                    kept_resid.extend_from_slice(&resid[i * m..][..m]);
                    kept_rows.extend_from_slice(&rows[i * d_in..][..d_in]);
                    // A prompt begins with its document, or where it still leaves room for what is written.
                    let begin = ids[..=p].iter().rposition(|&id| id == stream.end_of_text()).unwrap_or(0);
                    let begin = begin.max((p + config.called + 1).saturating_sub(n_ctx));
                    if begin < p {
                        calls.push(ids[begin..=p].to_vec());
                    }
                }
            }
        }
        progress.advance(n as u64);
    }
    progress.end();
    if counts[1] == 0 {
        return Err(Error::Trial(format!(
            "the concept does not occur in {} tokens of held-out half B\n  read more with --n-tokens, or look for another",
            config.n_tokens
        )));
    }
    let mean = |side: usize| BeforeAfter { before: sums[side][0] / counts[side].max(1) as f64, after: sums[side][1] / counts[side].max(1) as f64 };
    let own: Vec<bool> = with.iter().zip(&all).map(|(&with, &all)| with > 0 && 2 * with >= all).collect();
    let (mass, leak) = match mass_and_leak(rig, steering, &kept_rows, &kept_resid, &own) {
        Ok(both) => both,
        Err(crate::intervene::Error::NotExact { .. }) => (None, None),
        Err(other) => return Err(other.into()),
    };
    // Evenly over all that call.
    let n_prompts = config.prompts.min(calls.len());
    let prompts: Vec<Vec<u32>> = (0..n_prompts).map(|i| calls[i * calls.len() / n_prompts].clone()).collect();
    let rate = |prompts: &[Vec<u32>], n_tokens: usize| -> Result<Option<BeforeAfter>> {
        let writing = Writing::new(n_tokens, &config.sampling);
        let trial = Trial { rig, prompts, writing: &writing, concept: Some(concept) };
        let (before, after) = (trial.write(Change::default())?.measures, trial.write(steering.into())?.measures);
        Ok((before.n_tokens > 0).then_some(BeforeAfter { before: before.concept_rate, after: after.concept_rate }))
    };
    Ok(GuardReport {
        n_concept: counts[1],
        n_other: counts[0],
        loss_concept: mean(1),
        loss_other: mean(0),
        mass,
        rate_called: rate(&prompts, config.called)?,
        rate_free: rate(&vec![rig.prompt(""); config.texts], config.tokens)?,
        n_prompts,
        leak,
    })
}

/// For each token of a window: whether the token after it has the concept. The window's own documents are its context.
fn following(rig: Rig, concept: &Concept, ids: &[u32], next: u32) -> Vec<bool> {
    let end = rig.tokenizer.end_of_text();
    let tokens: Vec<u32> = ids[1..].iter().copied().chain([next]).collect();
    let mut follows = Vec::with_capacity(tokens.len());
    // Document by document, for a concept does not reach over an end of text.
    let mut first = vec![ids[0]];
    for part in tokens.split_inclusive(|&id| id == end) {
        let (text, ends) = match part.split_last() {
            Some((&last, text)) if last == end => (text, true),
            _ => (part, false),
        };
        follows.extend(concept.matches(rig.tokenizer, &first, text));
        if ends {
            follows.push(false);
        }
        first = vec![end];
    }
    follows
}

/// What the concept's own tokens (`own`, (d_vocab,)) have of the probability at the kept positions, and what pushes towards them.
fn mass_and_leak(
    rig: Rig,
    steering: &Steering,
    rows: &[f32],
    resid: &[f32],
    own: &[bool],
) -> crate::intervene::Result<(Option<BeforeAfter>, Option<Leak>)> {
    let (d_in, m) = (rig.sae.d_in, rig.lm.config.d_model);
    let n = rows.len() / d_in;
    let probability = |logits: &[f32]| {
        let sum = log_sum_exp(logits);
        logits.iter().zip(own).filter(|(_, own)| **own).map(|(&z, _)| (f64::from(z) - sum).exp()).sum::<f64>()
    };
    let nothing = ExactEffect::new(rig.lm, rig.hook, rig.sae, &[])?;
    let mut edited = rows.to_vec();
    // Every row is somewhere within a document, so none is the first of a window.
    Editor::new(rig.sae, steering, usize::MAX, rig.tokenizer.end_of_text())?.apply(
        1,
        &vec![rig.tokenizer.end_of_text().wrapping_add(1); n],
        &mut edited,
    );
    let (mut before, mut after) = (0.0, 0.0);
    for ((x, edited), r) in rows.chunks_exact(d_in).zip(edited.chunks_exact(d_in)).zip(resid.chunks_exact(m)) {
        before += probability(&nothing.logits(r, &[]));
        let change: Vec<f32> = edited.iter().zip(x).map(|(e, x)| e - x).collect();
        after += probability(&ExactEffect::along(rig.lm, rig.hook, &change)?.logits(r, &[1.0]));
    }
    let mass = BeforeAfter { before: before / n.max(1) as f64, after: after / n.max(1) as f64 };
    // Towards the mean logit of the concept's own tokens, less the mean of all: linear in r but for the final norm's scale, which all parts share at a position.
    let (k, v) = (own.iter().filter(|o| **o).count().max(1) as f64, own.len() as f64);
    let weights: Vec<f64> = own.iter().map(|&own| if own { 1.0 / k } else { 0.0 } - 1.0 / v).collect();
    let toward = toward(rig.lm, &weights);
    let directions = residual_directions(rig.lm, rig.hook, &rig.sae.w_dec)?;
    let push: Vec<f64> = directions.chunks_exact(m).map(|u| u.iter().zip(&toward).map(|(&u, t)| f64::from(u) * t).sum()).collect();
    let mut acts = SparseRows::default();
    rig.sae.encoder().encode(rows, &mut acts);
    let mut x_hat = vec![0.0; rows.len()];
    rig.sae.decode(&acts, &mut x_hat);
    let errors: Vec<f32> = rows.iter().zip(&x_hat).map(|(x, hat)| x - hat).collect();
    let errors = residual_directions(rig.lm, rig.hook, &errors)?;
    let mut by_latent = vec![0.0f64; rig.sae.d_sae];
    let mut error = 0.0;
    for (i, (r, e)) in resid.chunks_exact(m).zip(errors.chunks_exact(m)).enumerate() {
        let (_, scale) = norm_of(r);
        let (active, values) = acts.row(i);
        active.iter().zip(values).for_each(|(&l, &a)| by_latent[l as usize] += scale * f64::from(a) * push[l as usize]);
        error += scale * e.iter().zip(&toward).map(|(&e, t)| f64::from(e) * t).sum::<f64>();
    }
    let edited_latents: Vec<u32> = steering.edits.iter().map(|e| e.latent).collect();
    // Shares of what pushes towards the concept; what pushes away is not a leak.
    let pushes = |l: u32| by_latent[l as usize].max(0.0);
    let total: f64 = by_latent.iter().map(|b| b.max(0.0)).sum::<f64>() + error.max(0.0);
    let edited: f64 = edited_latents.iter().map(|&l| pushes(l)).sum();
    let mut others: Vec<(u32, f64)> =
        (0..rig.sae.d_sae as u32).filter(|l| !edited_latents.contains(l) && pushes(*l) > 0.0).map(|l| (l, pushes(l) / total)).collect();
    others.sort_by(|a, b| b.1.total_cmp(&a.1));
    let sum = others.iter().map(|o| o.1).sum();
    others.truncate(NAMED);
    let leak = Leak { edited: edited / total, others: sum, largest: others, error: error.max(0.0) / total };
    Ok((Some(mass), (total > 0.0).then_some(leak)))
}
