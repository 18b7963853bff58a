//! What holding features at zero does to held-out text: the loss where they are active and elsewhere, the tokens hurt most; and to a concept, where one is named: its
//! loss, the cost elsewhere, how much of it is still written, and through what it survives. Never a bare claim: the residue and the leak are part of the answer.

mod leak;

use super::{Error, Result};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream, Tokenizer};
use crate::intervene::concept::Concept;
use crate::intervene::measure::batches;
use crate::intervene::strength::Trial;
use crate::intervene::write::{Change, Rig, Writing};
use crate::intervene::{Editor, LatentEdit, Rule, Steering};
use crate::lm::{CpuEngine, Edit, Engine, HookPoint, Sampling};
pub use leak::Leak;
use leak::{Followers, Positions};
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

/// What an edit does to held-out text, and to a concept where one was named.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardReport {
    /// Positions of half B that were read and count, and those at which the edit changes the activations.
    pub n_tokens: u64,
    pub n_changed: u64,
    /// Mean cross-entropy, nats, where it does and where it does not; none where there are no such positions.
    pub loss_changed: Option<BeforeAfter>,
    pub loss_unchanged: Option<BeforeAfter>,
    /// The tokens whose loss rises most, the most first.
    pub hurt: Vec<Hurt>,
    #[serde(flatten)]
    pub concept: Option<OfConcept>,
}

/// One token that is predicted worse.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hurt {
    /// Text before it.
    pub context: String,
    pub token: String,
    /// Its cross-entropy, nats.
    pub loss: BeforeAfter,
}

/// What the edit does to a concept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfConcept {
    /// Positions of half B whose next token has the concept, and all others.
    pub n_concept: u64,
    pub n_other: u64,
    /// Mean cross-entropy, nats, at them.
    pub loss_concept: BeforeAfter,
    pub loss_other: BeforeAfter,
    /// Mean probability of the tokens that have the concept at half or more of their places, where the concept follows. Absent where `mass_absent` says why.
    pub mass: Option<BeforeAfter>,
    pub mass_absent: Option<String>,
    /// Tokens with the concept after prompts that call for it, and in texts from the beginning of a document.
    /// None where nothing was written.
    pub called: Option<Rates>,
    pub free: Option<Rates>,
    pub n_prompts: usize,
    /// What still pushes towards the concept where it follows; absent where the effect is not exact, or nothing at the hook pushes towards it.
    pub leak: Option<Leak>,
}

/// How much of a concept is written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    pub before: Hits,
    pub after: Hits,
    /// With every latent at zero and what the SAE does not explain dropped: its bias alone, which two SAEs of one hook do not share.
    pub hook_at_zero: Hits,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hits {
    pub concept_tokens: u64,
    pub tokens: u64,
}

impl Hits {
    pub fn rate(&self) -> f64 {
        self.concept_tokens as f64 / self.tokens.max(1) as f64
    }
}

/// Tokens named in [`GuardReport::hurt`], and how much of the text before each is shown.
const HURT: usize = 10;
const CONTEXT: usize = 8;

/// Below this share of the places where a concept follows, its own tokens do not stand for it: it is written with tokens that others use too.
const OWN_SHARE: f64 = 0.2;

/// A sum of losses before and after the edit.
#[derive(Debug, Clone, Copy, Default)]
struct Losses {
    n: u64,
    sums: [f64; 2],
}

impl Losses {
    fn add(&mut self, before: f32, after: f32) {
        self.n += 1;
        self.sums[0] += f64::from(before);
        self.sums[1] += f64::from(after);
    }

    fn mean(&self) -> BeforeAfter {
        let [before, after] = self.sums.map(|sum| sum / self.n.max(1) as f64);
        BeforeAfter { before, after }
    }

    fn mean_if_any(&self) -> Option<BeforeAfter> {
        (self.n > 0).then(|| self.mean())
    }
}

/// Reads half B with and without `steering`, whose scope is all (text that is read has no prompt and no continuation), and writes texts, where there is a concept to
/// count in them.
///
/// # Errors
/// The concept does not follow any position that was read; [`Error::Interrupted`].
pub fn guard(
    rig: Rig,
    stream: &TokenStream,
    steering: &Steering,
    concept: Option<&Concept>,
    config: &GuardConfig,
    progress: &mut dyn Progress,
) -> Result<GuardReport> {
    let mut engine = CpuEngine::new(rig.lm.clone());
    let (n_ctx, d_in, m, v) = (rig.lm.config.n_ctx, rig.sae.d_in, rig.lm.config.d_model, rig.lm.config.d_vocab);
    let windows = stream.spread_windows(Split::HeldOutB, n_ctx, config.n_tokens.div_ceil(n_ctx as u64));
    // By whether the concept follows; by whether the edit changes the row.
    let (mut by_concept, mut by_change) = ([Losses::default(); 2], [Losses::default(); 2]);
    let mut hurt: Vec<(f32, Hurt)> = Vec::new();
    // Tokens that follow with the concept, and all, (d_vocab,).
    let (mut with, mut all) = (vec![0u64; v], vec![0u64; v]);
    let mut calls: Vec<Vec<u32>> = Vec::new();
    let (mut nll, mut nll_edited, mut rows, mut resid, mut changed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // Where the concept follows: residual stream, hook row.
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
        engine.nll(&batch.ids, &batch.targets, n_ctx, None, &mut nll);
        let mut editor = Editor::new(rig.sae, steering, n_ctx, stream.end_of_text())?;
        let mut apply = |edited: &mut [f32]| {
            rows.copy_from_slice(edited);
            editor.apply_to_windows(n_ctx, &batch.ids, edited);
            changed.clear();
            changed.extend(edited.chunks_exact(d_in).zip(rows.chunks_exact(d_in)).map(|(edited, x)| edited != x));
        };
        engine.nll(&batch.ids, &batch.targets, n_ctx, Some(Edit { hook: rig.hook, apply: &mut apply }), &mut nll_edited);
        if concept.is_some() {
            resid.resize(n * m, 0.0);
            engine.forward_to(&batch.ids, n_ctx, HookPoint::last(&rig.lm.config), &mut resid);
        }
        for (w, ids) in batch.ids.chunks(n_ctx).enumerate() {
            let next = match concept {
                Some(concept) => following(rig.tokenizer, concept, ids, batch.targets[(w + 1) * n_ctx - 1]),
                None => vec![Next::default(); ids.len()],
            };
            for (p, Next { follows, begins }) in next.into_iter().enumerate() {
                let i = w * n_ctx + p;
                if !batch.counted[i] || batch.targets[i] == stream.end_of_text() {
                    continue;
                }
                by_concept[usize::from(follows)].add(nll[i], nll_edited[i]);
                by_change[usize::from(changed[i])].add(nll[i], nll_edited[i]);
                let rise = nll_edited[i] - nll[i];
                if rise > 0.0 && (hurt.len() < HURT || rise > hurt[HURT - 1].0) {
                    let loss = BeforeAfter { before: f64::from(nll[i]), after: f64::from(nll_edited[i]) };
                    let begin = ids[..=p].iter().rposition(|&id| id == stream.end_of_text()).map_or(0, |at| at + 1);
                    let context = rig.text(&ids[begin.max((p + 1).saturating_sub(CONTEXT))..=p]);
                    let at = hurt.partition_point(|h| h.0 >= rise);
                    hurt.insert(at, (rise, Hurt { context, token: rig.text(&[batch.targets[i]]), loss }));
                    hurt.truncate(HURT);
                }
                all[batch.targets[i] as usize] += 1;
                if follows {
                    with[batch.targets[i] as usize] += 1;
                    kept_resid.extend_from_slice(&resid[i * m..][..m]);
                    kept_rows.extend_from_slice(&rows[i * d_in..][..d_in]);
                }
                if begins {
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
    let [unchanged, changed] = by_change;
    let mut report = GuardReport {
        n_tokens: unchanged.n + changed.n,
        n_changed: changed.n,
        loss_changed: changed.mean_if_any(),
        loss_unchanged: unchanged.mean_if_any(),
        hurt: hurt.into_iter().map(|h| h.1).collect(),
        concept: None,
    };
    let Some(concept) = concept else { return Ok(report) };
    let [elsewhere, where_it_follows] = by_concept;
    if where_it_follows.n == 0 {
        let n_read = (windows.len() * n_ctx) as u64;
        let more = if n_read < config.n_tokens { "that is all there is: a larger corpus has more" } else { "read more with --n-tokens" };
        return Err(Error::Trial(format!("the concept does not occur in {n_read} tokens of held-out half B\n  {more}, or look for another")));
    }
    let followers = Followers { with, all };
    let own = followers.own();
    let positions = Positions { rig, rows: &kept_rows, resid: &kept_resid };
    let (mass, mass_absent, leak) = match positions.mass_and_leak(steering, &own, &followers.weights()) {
        Ok((mass, leak)) => match followers.own_share(&own) {
            share if share >= OWN_SHARE => (Some(mass), None, leak),
            share => {
                let why = format!("tokens of its own are only {:.0} % of it; the rest are tokens that others use too", 100.0 * share);
                (None, Some(why), leak)
            }
        },
        Err(crate::intervene::Error::NotExact { .. }) => {
            (None, Some("later layers read this hook, so what its features push towards is not a matter of one step".into()), None)
        }
        Err(other) => return Err(other.into()),
    };
    // Evenly over all that call.
    let n_prompts = config.prompts.min(calls.len());
    let prompts: Vec<Vec<u32>> = (0..n_prompts).map(|i| calls[i * calls.len() / n_prompts].clone()).collect();
    let nothing =
        Steering { keep_error: false, ..Steering::of((0..rig.sae.d_sae as u32).map(|latent| LatentEdit::new(latent, Rule::Zero)).collect()) };
    let rates = |prompts: &[Vec<u32>], n_tokens: usize| -> Result<Option<Rates>> {
        let writing = Writing::new(n_tokens, &config.sampling);
        let trial = Trial { rig, prompts, writing: &writing, concept: Some(concept) };
        let hits = |change: Change| -> Result<Hits> {
            let measures = trial.write(change)?.measures;
            Ok(Hits { concept_tokens: measures.concept_tokens, tokens: measures.n_tokens })
        };
        let rates = Rates { before: hits(Change::default())?, after: hits(steering.into())?, hook_at_zero: hits((&nothing).into())? };
        Ok((rates.before.tokens > 0).then_some(rates))
    };
    report.concept = Some(OfConcept {
        n_concept: where_it_follows.n,
        n_other: elsewhere.n,
        loss_concept: where_it_follows.mean(),
        loss_other: elsewhere.mean(),
        mass,
        mass_absent,
        called: rates(&prompts, config.called)?,
        free: rates(&vec![rig.prompt(""); config.texts], config.tokens)?,
        n_prompts,
        leak,
    });
    Ok(report)
}

/// What the token after a position is.
#[derive(Debug, Clone, Copy, Default)]
struct Next {
    /// It has the concept.
    follows: bool,
    /// An occurrence of the concept begins with it: nothing of the word or of what opens the context stands before it.
    begins: bool,
}

/// For each token of a window what comes after it. The window's own documents are its context.
fn following(tokenizer: &Tokenizer, concept: &Concept, ids: &[u32], next: u32) -> Vec<Next> {
    let end = tokenizer.end_of_text();
    let tokens: Vec<u32> = ids[1..].iter().copied().chain([next]).collect();
    let mut all = Vec::with_capacity(tokens.len());
    // Document by document, for a concept does not reach over an end of text.
    let mut first = vec![ids[0]];
    for part in tokens.split_inclusive(|&id| id == end) {
        let (text, ends) = match part.split_last() {
            Some((&last, text)) if last == end => (text, true),
            _ => (part, false),
        };
        let from = all.len();
        all.extend(concept.matches(tokenizer, &first, text).into_iter().map(|follows| Next { follows, begins: false }));
        let before = first.iter().filter(|&&t| t != end).count();
        let document: Vec<u32> = first.iter().copied().filter(|&t| t != end).chain(text.iter().copied()).collect();
        for at in concept.begins(tokenizer, &document).into_iter().filter(|&at| at >= before) {
            all[from + at - before].begins = true;
        }
        if ends {
            all.push(Next::default());
        }
        first = vec![end];
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::bytes::Regex;

    #[test]
    fn a_place_calls_for_a_concept_only_before_the_first_token_of_it() {
        let tokenizer = Tokenizer::train(["the king and the queen "].into_iter().cycle().take(20), 300).unwrap();
        let end = tokenizer.end_of_text();
        // "queen" is one token and "did" three; the first document's end belongs to neither.
        let text = [tokenizer.encode("did the king"), vec![end], tokenizer.encode(" the queen did")].concat();
        let (next, ids) = text.split_last().unwrap();
        let concept = Concept::Regex(Regex::new("queen|did").unwrap());
        let found = following(&tokenizer, &concept, ids, *next);
        let after = |which: fn(&Next) -> bool| -> Vec<String> {
            let tokens = found.iter().zip(&text[1..]).filter(|(n, _)| which(n)).map(|(_, &t)| tokenizer.bytes(t));
            tokens.map(|bytes| String::from_utf8_lossy(bytes).trim().to_string()).collect()
        };
        assert_eq!(after(|n| n.follows), ["d", "queen", "d"], "the token of the last byte has the concept");
        assert_eq!(after(|n| n.begins), ["queen", "d"], "a word that the window begins with is not called for");
        assert_eq!(found.iter().rposition(|n| n.begins), Some(found.len() - 3), "the first of the word's three tokens");
    }
}
