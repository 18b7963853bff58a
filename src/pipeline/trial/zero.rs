//! What is left of a concept when the features that drive it are held at zero.

use super::super::Result;
use super::TrialConfig;
use super::result::MIN_BASELINE;
use super::seen::labelled;
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream, Tokenizer, counts};
use crate::intervene::concept::Concept;
use crate::intervene::exact::ExactEffect;
use crate::intervene::measure::{WindowBatch, batches};
use crate::intervene::write::{Change, Rig, Writing, texts};
use crate::intervene::{Editor, LatentEdit, Rule, Steering};
use crate::kernels::softmax::weights_in_place;
use crate::lm::{CpuEngine, Edit, Engine, HookPoint, Sampling};
use crate::sae::SparseRows;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Tokens written after a prompt: enough for a word, or for a context to open and be seen.
const WORD: usize = 8;
const STRETCH: usize = 40;
/// Prompts of half A that the features to hold at zero are chosen with.
const CHOOSING: usize = 400;
/// Texts of a context for each of a class: it opens at few of the places where it could. So many at first, and twice as many again and again until the unedited
/// ones have so many tokens of it (stretches of some 30), or so many times the texts were written.
const OPENINGS: usize = 2;
const ENOUGH: u64 = 1000;
const MOST_OPENINGS: usize = 16;
/// Features that the four are chosen from.
const REMOVABLE: usize = 48;

/// Features held at zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Zeroed {
    pub latents: Vec<u32>,
    /// Tokens with the concept after prompts that call for it, none of which holds the beginning of its word or what opens it.
    pub unedited: u64,
    pub zeroed: u64,
    /// Texts written, each with luck of its own, and the places of half B that their prompts end at.
    pub n_texts: usize,
    pub n_places: usize,
    /// Mean cross-entropy, nats, where the next token neither has the concept nor begins it, on half B.
    pub other_loss_unedited: f64,
    pub other_loss_zeroed: f64,
}

impl Zeroed {
    /// Share of the concept that is gone; none where there was too little of it to say.
    pub fn lowered(&self) -> Option<f64> {
        (self.unedited >= MIN_BASELINE).then(|| 1.0 - self.zeroed as f64 / self.unedited as f64)
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

    /// By positions of the windows: whether the next token is another's than concept `number`, and none that opens it.
    fn other(&self, stream: &TokenStream, tokenizer: &Tokenizer, number: usize, concept: &Concept, n_ctx: usize) -> Vec<bool> {
        let mut other = Vec::new();
        let mut ids = vec![0; n_ctx + 1];
        for &window in &self.windows {
            let first = window * n_ctx as u64;
            stream.read(first, &mut ids);
            let from = other.len();
            other.extend(labelled(stream, first + 1, n_ctx, number).into_iter().map(|has| !has));
            let mut begin = 0;
            for document in ids.split_inclusive(|&id| id == stream.end_of_text()) {
                let own = document.strip_suffix(&[stream.end_of_text()]).unwrap_or(document);
                for at in concept.begins(tokenizer, own).into_iter().map(|at| begin + at).filter(|at| *at > 0) {
                    other[from + at - 1] = false;
                }
                begin += document.len();
            }
        }
        other
    }

    /// Mean losses (unedited, edited) at the `other` positions of the windows.
    fn losses(&self, rig: Rig, stream: &TokenStream, other: &[bool], steering: &Steering) -> Result<(f64, f64)> {
        let n_ctx = rig.lm.config.n_ctx;
        let mut engine = CpuEngine::new(rig.lm.clone());
        let (mut unedited, mut edited, mut n) = (0.0, 0.0, 0u64);
        let mut nll = Vec::new();
        let mut from = 0;
        for WindowBatch { ids, targets, .. } in batches(stream, &self.windows, n_ctx) {
            nll.resize(ids.len(), 0.0);
            let mut editor = Editor::new(rig.sae, steering, n_ctx, stream.end_of_text())?;
            let mut apply = |rows: &mut [f32]| editor.apply_to_windows(n_ctx, &ids, rows);
            engine.nll(&ids, &targets, n_ctx, Some(Edit { hook: rig.hook, apply: &mut apply }), &mut nll);
            for i in (0..ids.len()).filter(|&i| other[from + i] && counts(ids[i], i % n_ctx, stream.end_of_text())) {
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

/// Prompts that call for a concept, and the token that follows each in the text, with which an occurrence begins: the first of a word, or of what opens a context.
struct Calls {
    prompts: Vec<Vec<u32>>,
    next: Vec<u32>,
}

/// What is left of one concept, by how much is held at zero.
pub(super) struct Left {
    /// The feature that was held up.
    pub raised: Option<Zeroed>,
    /// The feature without which it is least likely.
    pub one: Zeroed,
    /// The four, likewise.
    pub four: Zeroed,
    /// Everything at the hook: as much as any feature of it could take.
    pub hook: Zeroed,
}

/// A concept that features are held at zero for.
pub(super) struct Driven<'a> {
    pub rig: Rig<'a>,
    pub stream: &'a TokenStream,
    pub number: usize,
    pub concept: &'a Concept,
    /// Whether it lasts, as contexts do, in place of being a word.
    pub lasts: bool,
}

impl Driven<'_> {
    /// What is left, on prompts of half B, without `raised` and without features that are chosen on half A; none where half A has nothing to choose them by.
    pub fn left(&self, elsewhere: &Elsewhere, config: &TrialConfig, raised: Option<u32>, sampling: &Sampling) -> Result<Option<Left>> {
        let zero = |latents: &[u32]| Steering::of(latents.iter().map(|&l| LatentEdit::new(l, Rule::Zero)).collect());
        let writing = Writing::new(self.written(), sampling);
        let hits = |prompts: &[Vec<u32>], change: Change| -> Result<u64> {
            let written = texts(self.rig, change, prompts, &writing)?;
            Ok(prompts.iter().zip(&written).map(|(prompt, text)| self.concept.count(self.rig.tokenizer, prompt, text)).sum())
        };
        let four = self.driving(&self.calls(Split::HeldOutA, CHOOSING), 4)?;
        let Some(&one) = four.first() else { return Ok(None) };
        let places = self.calls(Split::HeldOutB, config.prompts).prompts;
        // Fewer places than texts are taken again and again, each time with another luck.
        let of_texts = |n: usize| -> Result<(Vec<Vec<u32>>, u64)> {
            let prompts: Vec<Vec<u32>> = places.iter().cycle().take(n).cloned().collect();
            let unedited = hits(&prompts, Change::default())?;
            Ok((prompts, unedited))
        };
        let (first, most) = if self.lasts { (OPENINGS, MOST_OPENINGS) } else { (1, 1) };
        let mut openings = first;
        let (mut prompts, mut unedited) = of_texts(openings * config.prompts)?;
        while unedited < ENOUGH && openings < most {
            openings *= 2;
            (prompts, unedited) = of_texts(openings * config.prompts)?;
        }
        let other = elsewhere.other(self.stream, self.rig.tokenizer, self.number, self.concept, self.rig.lm.config.n_ctx);
        let zeroed = |latents: Vec<u32>, steering: &Steering| -> Result<Zeroed> {
            let (other_loss_unedited, other_loss_zeroed) = elsewhere.losses(self.rig, self.stream, &other, steering)?;
            let zeroed = hits(&prompts, steering.into())?;
            Ok(Zeroed { latents, unedited, zeroed, n_texts: prompts.len(), n_places: places.len(), other_loss_unedited, other_loss_zeroed })
        };
        let everything: Vec<u32> = (0..self.rig.sae.d_sae as u32).collect();
        Ok(Some(Left {
            raised: raised.map(|latent| zeroed(vec![latent], &zero(&[latent]))).transpose()?,
            one: zeroed(vec![one], &zero(&[one]))?,
            four: zeroed(four.clone(), &zero(&four))?,
            hook: zeroed(vec![], &Steering { keep_error: false, ..zero(&everything) })?,
        }))
    }

    fn written(&self) -> usize {
        if self.lasts { STRETCH } else { WORD }
    }

    /// Up to `n` prompts from all over `split`. Each begins with its document, or where it still leaves room for what is written.
    fn calls(&self, split: Split, n: usize) -> Calls {
        let mut calls = Calls { prompts: Vec::new(), next: Vec::new() };
        let Some(labels) = self.stream.concepts() else { return calls };
        let within = labels.within(self.stream.range(split));
        let tokens = labels.token[within.clone()].iter().zip(&labels.concept[within]).filter(|(_, c)| **c as usize == self.number).map(|(&t, _)| t);
        // Tokens one after the other are of one occurrence.
        let mut last = None;
        let first: Vec<u64> = tokens.filter(|&t| last.replace(t) != t.checked_sub(1)).collect();
        let longest = self.rig.lm.config.n_ctx.saturating_sub(self.written());
        let n = n.min(first.len());
        for t in (0..n).map(|i| first[i * first.len() / n]) {
            let begin = self.stream.doc_start(self.stream.doc_of(t));
            let mut ids = vec![0; (t + 1 - begin) as usize];
            self.stream.read(begin, &mut ids);
            // What opens a context is not labelled: the recogniser says where it begins.
            let at = if self.lasts { self.concept.begins(self.rig.tokenizer, &ids).pop() } else { ids.len().checked_sub(1) };
            let Some(at) = at.filter(|at| *at > 0) else { continue };
            let prompt: Vec<u32> = std::iter::once(self.stream.end_of_text()).chain(ids[..at].iter().copied()).collect();
            let prompt = &prompt[prompt.len().saturating_sub(longest)..];
            // Parts of one stretch, e.g. the items of a list, have one beginning.
            if calls.prompts.last().is_none_or(|last| last != prompt) {
                calls.next.push(ids[at]);
                calls.prompts.push(prompt.to_vec());
            }
        }
        calls
    }

    /// Up to `n` latents without which what follows the prompts is least likely, one after the other, the most telling first: exactly, by what is active at the last token of
    /// each.
    fn driving(&self, calls: &Calls, n: usize) -> Result<Vec<u32>> {
        let (rig, config) = (self.rig, &self.rig.lm.config);
        let mut engine = CpuEngine::new(rig.lm.clone());
        let (mut resid, mut acts) = (Vec::new(), SparseRows::default());
        let mut encoder = rig.sae.encoder();
        for prompt in &calls.prompts {
            let last_row = |engine: &mut CpuEngine, hook: HookPoint, width: usize| {
                let mut rows = vec![0.0; prompt.len() * width];
                engine.forward_to(prompt, prompt.len(), hook, &mut rows);
                rows.split_off(rows.len() - width)
            };
            let mut row = SparseRows::default();
            encoder.encode(&last_row(&mut engine, rig.hook, rig.sae.d_in), &mut row);
            let (latents, values) = row.row(0);
            acts.push_row(latents, values);
            resid.extend(last_row(&mut engine, HookPoint::last(config), config.d_model));
        }
        // Mean probability of what follows with `latents` held at zero.
        let likely = |latents: &[u32]| -> Result<f64> {
            let less = |r: usize| {
                let (active, acts) = acts.row(r);
                latents.iter().map(move |l| active.binary_search(l).map_or(0.0, |at| -acts[at]))
            };
            let changes: Vec<f32> = (0..calls.next.len()).flat_map(less).collect();
            let mut logits = ExactEffect::new(rig.lm, rig.hook, rig.sae, latents)?.logits(&resid, &changes);
            let of_row = |(row, &next): (&mut [f32], &u32)| {
                let total = weights_in_place(1.0, row);
                f64::from(row[next as usize] / total)
            };
            Ok(logits.chunks_exact_mut(config.d_vocab).zip(&calls.next).map(of_row).sum())
        };
        let by_likely = |sets: Vec<Vec<u32>>| -> Result<Vec<Vec<u32>>> {
            let mut all: Vec<(f64, Vec<u32>)> = sets.into_par_iter().map(|set| Ok((likely(&set)?, set))).collect::<Result<_>>()?;
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            Ok(all.into_iter().map(|(_, set)| set).collect())
        };
        let active: BTreeSet<u32> = acts.latent.iter().copied().collect();
        let singles: Vec<u32> = by_likely(active.into_iter().map(|l| vec![l]).collect())?.into_iter().flatten().take(REMOVABLE).collect();
        let mut chosen: Vec<u32> = Vec::new();
        while chosen.len() < n.min(singles.len()) {
            let sets = singles.iter().filter(|l| !chosen.contains(l)).map(|l| [chosen.clone(), vec![*l]].concat()).collect();
            chosen = by_likely(sets)?.swap_remove(0);
        }
        Ok(chosen)
    }
}
