//! What is left of a concept when the features that drive it are held at zero.

use super::super::Result;
use super::TrialConfig;
use super::choose::{bearing, driving};
use super::seen::{Seen, labelled};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream, counts};
use crate::intervene::concept::Concept;
use crate::intervene::fit::Fitted;
use crate::intervene::measure::{WindowBatch, batches};
use crate::intervene::write::{Change, Rig, Writing, texts};
use crate::intervene::{Editor, LatentEdit, Rule, Steering};
use crate::lm::{CpuEngine, Edit, Engine, Sampling};
use serde::{Deserialize, Serialize};

/// Tokens written after a prompt that calls for the concept.
const CALLED: usize = 8;
/// Prompts of half A that the feature to hold at zero is chosen with.
const CHOOSING: usize = 60;

/// Features held at zero.
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

/// Losses of the unedited model on half B: read once for all concepts.
pub(super) struct Elsewhere {
    windows: Vec<u64>,
    /// (windows, n_ctx), nats.
    unedited: Vec<f32>,
}

impl Elsewhere {
    pub fn of(rig: Rig, stream: &TokenStream, n_tokens: u64, progress: &mut dyn Progress) -> Self {
        let n_ctx = rig.lm.config.n_ctx;
        let windows = stream.spread_windows(Split::HeldOutB, n_ctx, n_tokens.div_ceil(n_ctx as u64));
        let mut engine = CpuEngine::new(rig.lm.clone());
        let mut unedited = Vec::new();
        progress.begin("half B", (windows.len() * n_ctx) as u64, "tokens");
        for batch in batches(stream, &windows, n_ctx) {
            let from = unedited.len();
            unedited.resize(from + batch.ids.len(), 0.0);
            engine.nll(&batch.ids, &batch.targets, n_ctx, None, &mut unedited[from..]);
            progress.advance(batch.ids.len() as u64);
        }
        progress.end();
        Elsewhere { windows, unedited }
    }

    /// Mean losses (unedited, edited) where the next token does not have concept `number`.
    fn losses(&self, rig: Rig, stream: &TokenStream, number: usize, steering: &Steering) -> Result<(f64, f64)> {
        let n_ctx = rig.lm.config.n_ctx;
        let mut engine = CpuEngine::new(rig.lm.clone());
        let (mut unedited, mut edited, mut n) = (0.0, 0.0, 0u64);
        let mut nll = Vec::new();
        let (mut at, mut from) = (self.windows.iter(), 0);
        for WindowBatch { ids, targets, .. } in batches(stream, &self.windows, n_ctx) {
            nll.resize(ids.len(), 0.0);
            let mut editor = Editor::new(rig.sae, steering, n_ctx, stream.end_of_text())?;
            let mut apply = |rows: &mut [f32]| editor.apply_to_windows(n_ctx, &ids, rows);
            engine.nll(&ids, &targets, n_ctx, Some(Edit { hook: rig.hook, apply: &mut apply }), &mut nll);
            let follows: Vec<bool> =
                at.by_ref().take(ids.len() / n_ctx).flat_map(|w| labelled(stream, w * n_ctx as u64 + 1, n_ctx, number)).collect();
            for i in (0..ids.len()).filter(|&i| !follows[i] && counts(ids[i], i % n_ctx, stream.end_of_text())) {
                unedited += f64::from(self.unedited[from + i]);
                edited += f64::from(nll[i]);
                n += 1;
            }
            from += ids.len();
        }
        let n = n.max(1) as f64;
        Ok((unedited / n, edited / n))
    }
}

/// Prompts that call for a concept: each ends just before a token that has it, and begins with its document.
fn calls(rig: Rig, stream: &TokenStream, split: Split, number: usize, n: usize) -> Vec<Vec<u32>> {
    let Some(labels) = stream.concepts() else { return vec![] };
    let within = labels.within(stream.range(split));
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

/// What is left of one concept, by how much is held at zero.
pub(super) struct Left {
    /// The feature without which least of it is written.
    pub one: Zeroed,
    /// The four without which it is least likely.
    pub four: Zeroed,
    /// Everything at the hook: as much as any feature of it could take.
    pub hook: Zeroed,
}

/// A concept that features are held at zero for.
pub(super) struct Driven<'a> {
    pub rig: Rig<'a>,
    pub stream: &'a TokenStream,
    pub number: usize,
    /// Its place in `seen`.
    pub index: usize,
    pub concept: &'a Concept,
    pub ranked: &'a [Fitted],
}

impl Driven<'_> {
    /// What is left, on prompts of half B, with features that are chosen on half A.
    pub fn left(&self, seen: &Seen, elsewhere: &Elsewhere, config: &TrialConfig, sampling: &Sampling) -> Result<Left> {
        let zero = |latents: &[u32]| Steering::of(latents.iter().map(|&l| LatentEdit::new(l, Rule::Zero)).collect());
        let writing = Writing::new(CALLED, sampling);
        let rate = |prompts: &[Vec<u32>], change: Change| -> Result<f64> {
            let written = texts(self.rig, change, prompts, &writing)?;
            let hits: u64 = prompts.iter().zip(&written).map(|(prompt, text)| self.concept.count(self.rig.tokenizer, prompt, text)).sum();
            Ok(hits as f64 / written.iter().map(Vec::len).sum::<usize>().max(1) as f64)
        };
        // What makes a concept likely is not always what keeps it up: both kinds are tried, by what is written without each.
        let four = driving(self.rig, seen, self.index, self.ranked, 4)?;
        let choosing = calls(self.rig, self.stream, Split::HeldOutA, self.number, CHOOSING);
        let mut best: Option<(f64, u32)> = None;
        for latent in four.iter().copied().chain(bearing(self.rig, seen, self.index, &four)) {
            let left = rate(&choosing, (&zero(&[latent])).into())?;
            if best.is_none_or(|b| left < b.0) {
                best = Some((left, latent));
            }
        }
        let prompts = calls(self.rig, self.stream, Split::HeldOutB, self.number, config.prompts);
        let rate_unedited = rate(&prompts, Change::default())?;
        let zeroed = |latents: Vec<u32>, steering: &Steering| -> Result<Zeroed> {
            let (other_loss_unedited, other_loss_zeroed) = elsewhere.losses(self.rig, self.stream, self.number, steering)?;
            let rate_zeroed = rate(&prompts, steering.into())?;
            Ok(Zeroed { latents, rate_unedited, rate_zeroed, n_prompts: prompts.len(), other_loss_unedited, other_loss_zeroed })
        };
        let one: Vec<u32> = best.map(|b| b.1).into_iter().collect();
        let everything: Vec<u32> = (0..self.rig.sae.d_sae as u32).collect();
        Ok(Left {
            one: zeroed(one.clone(), &zero(&one))?,
            four: zeroed(four.clone(), &zero(&four))?,
            hook: zeroed(vec![], &Steering { keep_error: false, ..zero(&everything) })?,
        })
    }
}
