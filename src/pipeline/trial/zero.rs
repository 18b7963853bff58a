//! What is left of a concept when the features that drive it are held at zero.

use super::super::Result;
use super::TrialConfig;
use super::seen::labelled;
use crate::corpus::{Split, TokenStream, counts};
use crate::intervene::concept::Concept;
use crate::intervene::measure::batches;
use crate::intervene::strength::Trial;
use crate::intervene::write::{Change, Rig, Writing};
use crate::intervene::{Editor, LatentEdit, Rule, Steering};
use crate::lm::{CpuEngine, Edit, Engine, Sampling};
use serde::{Deserialize, Serialize};

/// Tokens written after a prompt that calls for the concept.
const CALLED: usize = 8;

/// A feature held at zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Zeroed {
    pub latents: Vec<u32>,
    /// Share of the tokens after prompts that call for the concept that have it.
    pub rate_unedited: f64,
    pub rate_zeroed: f64,
    pub n_prompts: usize,
    /// Mean cross-entropy, nats, where the next token does not have the concept, on half B.
    pub other_loss_unedited: f64,
    pub other_loss_zeroed: f64,
}

impl Zeroed {
    /// Share of the concept that is gone; none where there was nothing of it.
    pub fn lowered(&self) -> Option<f64> {
        (self.rate_unedited > 0.0).then(|| 1.0 - self.rate_zeroed / self.rate_unedited)
    }

    /// Relative change of the loss elsewhere.
    pub fn cost(&self) -> f64 {
        self.other_loss_zeroed / self.other_loss_unedited - 1.0
    }
}

/// Prompts of half B that call for the concept: each ends just before a token that has it, and begins with its document.
pub(super) fn calls(rig: Rig, stream: &TokenStream, number: usize, n: usize) -> Vec<Vec<u32>> {
    let Some(labels) = stream.concepts() else { return vec![] };
    let within = labels.within(stream.range(Split::HeldOutB));
    let longest = rig.lm.config.n_ctx.saturating_sub(CALLED + 1) as u64;
    let starts: Vec<(u64, u64)> = labels.token[within.clone()]
        .iter()
        .zip(&labels.concept[within])
        .filter(|(_, c)| **c as usize == number)
        .map(|(&t, _)| (stream.doc_start(stream.doc_of(t)), t))
        .filter(|(begin, t)| *t > *begin && t - begin < longest)
        .collect();
    let n = n.min(starts.len());
    (0..n)
        .map(|i| {
            let (begin, t) = starts[i * starts.len() / n];
            let mut ids = vec![0; (t - begin) as usize];
            stream.read(begin, &mut ids);
            std::iter::once(stream.end_of_text()).chain(ids).collect()
        })
        .collect()
}

#[allow(clippy::too_many_arguments)]
pub(super) fn zeroed(
    rig: Rig,
    stream: &TokenStream,
    latents: &[u32],
    number: usize,
    concept: &Concept,
    calls: &[Vec<u32>],
    config: &TrialConfig,
    sampling: &Sampling,
) -> Result<Zeroed> {
    let steering = Steering::of(latents.iter().map(|&l| LatentEdit::new(l, Rule::Zero)).collect());
    let writing = Writing::new(CALLED, sampling);
    let trial = Trial { rig, prompts: calls, writing: &writing, concept: Some(concept) };
    let rate_unedited = trial.write(Change::default())?.measures.concept_rate;
    let rate_zeroed = trial.write((&steering).into())?.measures.concept_rate;
    let mut engine = CpuEngine::new(rig.lm.clone());
    let n_ctx = rig.lm.config.n_ctx;
    let windows = stream.spread_windows(Split::HeldOutB, n_ctx, (config.n_tokens / 4).div_ceil(n_ctx as u64));
    let (mut clean, mut edited, mut n) = (0.0, 0.0, 0u64);
    let (mut nll, mut nll_edited) = (Vec::new(), Vec::new());
    let mut at = windows.iter();
    for batch in batches(stream, &windows, n_ctx) {
        nll.resize(batch.ids.len(), 0.0);
        nll_edited.resize(batch.ids.len(), 0.0);
        engine.nll(&batch.ids, &batch.targets, n_ctx, None, &mut nll);
        let mut editor = Editor::new(rig.sae, &steering, n_ctx, stream.end_of_text())?;
        let mut apply = |rows: &mut [f32]| editor.apply_to_windows(n_ctx, &batch.ids, rows);
        engine.nll(&batch.ids, &batch.targets, n_ctx, Some(Edit { hook: rig.hook, apply: &mut apply }), &mut nll_edited);
        let follows: Vec<bool> =
            at.by_ref().take(batch.ids.len() / n_ctx).flat_map(|w| labelled(stream, w * n_ctx as u64 + 1, n_ctx, number)).collect();
        for i in (0..batch.ids.len()).filter(|&i| !follows[i] && counts(batch.ids[i], i % n_ctx, stream.end_of_text())) {
            clean += f64::from(nll[i]);
            edited += f64::from(nll_edited[i]);
            n += 1;
        }
    }
    let n = n.max(1) as f64;
    Ok(Zeroed {
        latents: latents.to_vec(),
        rate_unedited,
        rate_zeroed,
        n_prompts: calls.len(),
        other_loss_unedited: clean / n,
        other_loss_zeroed: edited / n,
    })
}
