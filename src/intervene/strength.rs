//! How strong an edit may be: texts written at several strengths, what they have of a concept and what they cost, and the strength that is
//! taken where none is given.
//!
//! The effect of a strength is not monotone: what is promoted rises and then falls apart with the text. So strengths are tried, not computed.

use super::concept::Concept;
use super::effect::others_moved;
use super::quality::{distinct_2, longest_repeat};
use super::write::{Change, Rig, Writer, Writing};
use super::{LatentEdit, Result, Rule, Steering};
use crate::kernels::softmax::{kl_divergence, log_prob};
use crate::lm::{Reader, Sampling};
use rayon::prelude::*;
use serde::Serialize;

/// Texts that are written again and again with one change or another, always with the same luck.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    pub rig: Rig<'a>,
    /// One text after each; text i has its own luck ([`Writing::of_text`]).
    pub prompts: &'a [Vec<u32>],
    pub writing: &'a Writing,
    pub concept: Option<&'a Concept>,
}

/// What texts are like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    pub n_tokens: u64,
    /// Under the unedited model: exp of the mean of -ln p over all tokens.
    pub perplexity: f64,
    /// Mean over texts.
    pub distinct_2: f64,
    /// Mean over texts, tokens.
    pub longest_repeat: f64,
    /// Mean KL(changed || unedited) of next-token distributions along the texts, nats.
    pub kl: f64,
    /// Tokens that match the concept, where there is one.
    pub concept_tokens: u64,
    pub concept_rate: f64,
}

/// Texts and what they are like.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub texts: Vec<Vec<u32>>,
    pub measures: Measures,
}

/// One text while it is written: its tokens, the sum of -ln p under the unedited model, the sum of KL.
#[derive(Default)]
struct One {
    tokens: Vec<u32>,
    surprise: f64,
    kl: f64,
}

impl Trial<'_> {
    /// Writes all texts with `change`, on all threads; they do not depend on the number of these. The unedited model reads along.
    pub fn write(&self, change: Change) -> Result<Written> {
        let all: Vec<One> = self.prompts.par_iter().enumerate().map(|(i, prompt)| self.write_one(change, i, prompt)).collect::<Result<_>>()?;
        let n_tokens: u64 = all.iter().map(|t| t.tokens.len() as u64).sum();
        let per_token = |sum: f64| sum / n_tokens.max(1) as f64;
        let per_text = |value: &dyn Fn(&One) -> f64| all.iter().map(value).sum::<f64>() / all.len().max(1) as f64;
        let hits = |(prompt, one): (&Vec<u32>, &One)| self.concept.map_or(0, |c| c.count(self.rig.tokenizer, prompt, &one.tokens));
        let concept_tokens: u64 = self.prompts.par_iter().zip(&all).map(hits).sum();
        let measures = Measures {
            n_tokens,
            perplexity: per_token(all.iter().map(|t| t.surprise).sum()).exp(),
            kl: per_token(all.iter().map(|t| t.kl).sum()),
            distinct_2: per_text(&|t| distinct_2(&t.tokens)),
            longest_repeat: per_text(&|t| longest_repeat(&t.tokens) as f64),
            concept_tokens,
            concept_rate: per_token(concept_tokens as f64),
        };
        Ok(Written { texts: all.into_iter().map(|t| t.tokens).collect(), measures })
    }

    fn write_one(&self, change: Change, i: usize, prompt: &[u32]) -> Result<One> {
        let writing = self.writing.of_text(i);
        let mut writer = Writer::new(self.rig, change, prompt)?;
        let mut reader = if change.does_nothing() { None } else { Some(Writer::new(self.rig, Change::default(), prompt)?) };
        // (-ln p, KL) of each token: a stop string takes some back.
        let mut costs = Vec::new();
        for step in 0..writing.n_tokens {
            let Some(token) = writer.write(step, &writing).map(|p| p.token) else { break };
            let unedited = reader.as_ref().map_or(writer.logits(), Writer::logits);
            costs.push((-log_prob(unedited, token), if reader.is_some() { kl_divergence(writer.logits(), unedited) } else { 0.0 }));
            if let Some(reader) = reader.as_mut().filter(|_| step + 1 < writing.n_tokens) {
                reader.force(token);
            }
        }
        let tokens = writer.finish().tokens;
        costs.truncate(tokens.len());
        Ok(One { tokens, surprise: costs.iter().map(|c| c.0).sum(), kl: costs.iter().map(|c| c.1).sum() })
    }
}

/// Texts of a sweep's strength in which side effects are counted, where somebody will read them.
pub const MOVED_IN: usize = 4;

/// One strength of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Swept {
    /// In whatever the sweep's edits are multiples of: the latent's maximum, as a rule.
    pub strength: f32,
    pub measures: Measures,
    /// Perplexity of the edited texts under the unedited model over that of the unedited texts.
    pub perplexity_ratio: f64,
    /// Distinct-2 of the edited texts over that of the unedited ones.
    pub distinct_2_ratio: f64,
    /// Whether the texts count as whole: both ratios within [`Bounds`].
    pub whole: bool,
    /// Side effects: other latents per token that the edit moves, [`Effect::others_moved`](super::Effect) over the first texts; absent where it was not asked for.
    pub others_moved: Option<f64>,
    /// The first of the texts.
    pub text: String,
}

/// Between which a text counts as whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    pub max_perplexity_ratio: f64,
    pub min_distinct_2_ratio: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { max_perplexity_ratio: MAX_PERPLEXITY_RATIO, min_distinct_2_ratio: MIN_DISTINCT_RATIO }
    }
}

impl Bounds {
    /// (perplexity ratio, distinct-2 ratio, within); texts of less than half as many tokens are not within.
    pub fn hold(&self, edited: &Measures, unedited: &Measures) -> (f64, f64, bool) {
        let perplexity = edited.perplexity / unedited.perplexity;
        let distinct = edited.distinct_2 / unedited.distinct_2;
        // Texts that end at once are not whole, however little they surprise.
        let written = edited.n_tokens > 0 && 2 * edited.n_tokens >= unedited.n_tokens;
        (perplexity, distinct, written && perplexity <= self.max_perplexity_ratio && distinct >= self.min_distinct_2_ratio)
    }
}

/// Texts at each of `strengths`, where `edit` says what a strength means, beside the unedited ones. Side effects are counted in the first `moved_in` texts of each.
pub fn sweep(
    trial: Trial,
    unedited: &Measures,
    bounds: Bounds,
    strengths: &[f32],
    edit: &dyn Fn(f32) -> Steering,
    moved_in: usize,
) -> Result<Vec<Swept>> {
    strengths.iter().map(|&strength| sweep_one(trial, unedited, bounds, strength, &edit(strength), moved_in)).collect()
}

fn sweep_one(trial: Trial, unedited: &Measures, bounds: Bounds, strength: f32, steering: &Steering, moved_in: usize) -> Result<Swept> {
    let Written { texts, measures } = trial.write(steering.into())?;
    let (perplexity_ratio, distinct_2_ratio, whole) = bounds.hold(&measures, unedited);
    let text = texts.first().map_or(String::new(), |t| trial.rig.text(t));
    let read: Vec<(&[u32], &[u32])> = trial.prompts.iter().zip(&texts).take(moved_in).map(|(p, t)| (&p[..], &t[..])).collect();
    let others_moved = if read.is_empty() { None } else { Some(others_moved(trial.rig, steering, &read)?) };
    Ok(Swept { strength, measures, perplexity_ratio, distinct_2_ratio, whole, others_moved, text })
}

/// Whether as many more or fewer concept tokens could well be luck: see [`counts_may_be_luck`].
pub fn may_be_luck(edited: &Measures, unedited: &Measures) -> bool {
    counts_may_be_luck((edited.concept_tokens, edited.n_tokens), (unedited.concept_tokens, unedited.n_tokens))
}

/// Whether two counts, each out of so many tokens, differ by less than three deviations of their difference, each taken as a Poisson count. Three, for tokens of one text
/// hang together, and a strength that is taken is the best of several.
pub fn counts_may_be_luck((own, of): (u64, u64), (base, of_base): (u64, u64)) -> bool {
    let per_token = of as f64 / of_base.max(1) as f64;
    let (own, base) = (own as f64, base as f64);
    let deviation = (own + base * per_token * per_token).sqrt();
    (own - base * per_token).abs() < 3.0 * deviation.max(1.0)
}

/// Whether two numbers of texts, each out of so many, differ by less than three deviations of their difference, both taken as draws from one rate.
pub fn shares_may_be_luck((own, of): (u64, u64), (base, of_base): (u64, u64)) -> bool {
    let (n, m) = (of.max(1) as f64, of_base.max(1) as f64);
    let rate = (own + base) as f64 / (n + m);
    let deviation = (rate * (1.0 - rate) * (1.0 / n + 1.0 / m)).sqrt();
    (own as f64 / n - base as f64 / m).abs() <= 3.0 * deviation
}

/// The strength of a sweep to take, among those that leave the text whole and change it: with a concept, of which the unedited texts have the rate `base`, the one
/// whose texts have most of it and more than that; without one the one that moves the model furthest (KL). That is not always the largest: an upper bound
/// does less the higher it is, and a factor of 1 does nothing.
pub fn choose(swept: &[Swept], base: Option<f64>) -> Option<usize> {
    let key = |s: &Swept| if base.is_some() { s.measures.concept_rate } else { s.measures.kl };
    let may = |s: &Swept| s.whole && s.measures.kl > 0.0 && base.is_none_or(|base| s.measures.concept_rate > base);
    (0..swept.len()).filter(|&i| may(&swept[i])).max_by(|&a, &b| key(&swept[a]).total_cmp(&key(&swept[b])).then(b.cmp(&a)))
}

/// Multiples of the feature's maximum that [`safe_strength`] tries, from above.
const MULTIPLES: [f32; 6] = [8.0, 5.0, 3.0, 2.0, 1.0, 0.5];
/// Beyond so many times its maximum an edit is not tried by [`safe_strength`], and a reader is warned.
pub const WARN_ABOVE: f32 = MULTIPLES[0];
/// Largest ratio of perplexities, edited to unedited, at which a text counts as whole.
const MAX_PERPLEXITY_RATIO: f64 = 1.5;
/// Smallest ratio of distinct-2, edited to unedited, at which a text counts as whole.
const MIN_DISTINCT_RATIO: f64 = 0.8;
/// What is wrong with edited text by these two bounds, in words; `None` where it is whole. `perplexity` is the ratio, edited to unedited; `distinct_2` of the unedited
/// and of the edited text.
pub fn comes_apart(perplexity: Option<f64>, (unedited, edited): (f64, f64)) -> Option<String> {
    let perplexing = perplexity.filter(|&ratio| ratio > MAX_PERPLEXITY_RATIO);
    let perplexing = perplexing.map(|ratio| format!("the unedited model finds it {ratio:.1} times as perplexing as its own"));
    let repeats = (edited < MIN_DISTINCT_RATIO * unedited).then(|| format!("{:.0} % of its pairs of tokens are repetitions", 100.0 * (1.0 - edited)));
    let said: Vec<String> = [perplexing, repeats].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(", and "))
}

/// Texts that [`safe_strength`] writes at each multiple, and their tokens: one text alone says more of its luck than of the strength.
const SAFE_TEXTS: usize = 8;
const SAFE_TOKENS: usize = 32;

/// One strength of the sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// The latents are clamped to this many times their maxima.
    pub multiple: f32,
    /// Perplexity of the edited texts under the unedited model over that of the unedited texts.
    pub perplexity_ratio: f64,
    /// Distinct-2 of the edited texts over that of the unedited ones.
    pub distinct_2_ratio: f64,
}

/// The default strength of an edit and how it was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SafeStrength {
    pub multiple: f32,
    /// Whether `multiple` is within both bounds; where none was, it is the smallest tried.
    pub within_bounds: bool,
    /// From the largest down to the one that was taken.
    pub tried: Vec<Tried>,
}

/// What must be said of an edit that is beyond [`WARN_ABOVE`] times the latent's maximum; `None` of others, and of a latent without a maximum.
///
/// The edit's size is |target| (or what is added, or the factor times the maximum). It is compared with the mean length of the activations
/// at the hook over `prompt`, `<|endoftext|>` left out where there is more: both are in the same units, for decoder rows are of length 1.
pub fn caution(rig: Rig, edit: &LatentEdit, max_act: f32, prompt: &[u32]) -> Option<String> {
    let multiple = match edit.rule {
        Rule::Set(act) | Rule::Add(act) | Rule::AtLeast(act) => act.abs() / max_act,
        Rule::Scale(factor) | Rule::Project(factor) => factor.abs(),
        Rule::Zero | Rule::AtMost(_) | Rule::Cap(_) => 0.0,
    };
    // What was multiplied and is divided again is off by the last bits.
    let multiple = (multiple * 1e3).round() / 1e3;
    if max_act <= 0.0 || multiple <= WARN_ABOVE {
        return None;
    }
    let own = mean_length(rig, prompt);
    let edit = f64::from(multiple * max_act);
    Some(format!(
        "{multiple} times its maximum is more than the {WARN_ABOVE} that are tried at most when the strength is found: the edit is {edit:.1} long, the \
         activations that it is added to are {own:.1} long on average ({:.1} times as long). The model has never read anything like it, so what it \
         writes shows how it breaks more than what the feature does.",
        edit / own.max(f64::MIN_POSITIVE)
    ))
}

/// Mean of |x| at the hook over the tokens of a prompt.
fn mean_length(rig: Rig, prompt: &[u32]) -> f64 {
    let mut reader = Reader::new(&rig.lm.config, rig.hook);
    reader.read(rig.lm, prompt);
    let d_in = rig.sae.d_in;
    let lengths = reader.rows().chunks_exact(d_in).map(|row| row.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt());
    let lengths: Vec<f64> = lengths.skip(usize::from(prompt.len() > 1)).collect();
    lengths.iter().sum::<f64>() / lengths.len().max(1) as f64
}

/// The largest of 8, 5, 3, 2, 1, 0.5 times their maxima (`max_acts`, one of each) at which the edits of `held` can stand together, where and as `held` says, with the
/// perplexity of texts under the unedited model at most 1.5 times, and their distinct bigrams at least 0.8 times, those of unedited texts. 8 texts of 32 tokens after
/// the prompt at `sampling`.
pub fn safe_strength(rig: Rig, held: &Steering, max_acts: &[f32], prompt: &[u32], sampling: &Sampling) -> Result<SafeStrength> {
    assert_eq!(held.edits.len(), max_acts.len(), "every edit has a maximum");
    let writing = Writing::new(SAFE_TOKENS, sampling);
    let prompts = vec![prompt.to_vec(); SAFE_TEXTS];
    let trial = Trial { rig, prompts: &prompts, writing: &writing, concept: None };
    let unedited = trial.write(Change::default())?;
    let mut tried: Vec<Tried> = Vec::new();
    for multiple in MULTIPLES {
        let edits = held.edits.iter().zip(max_acts).map(|(edit, max_act)| LatentEdit { rule: Rule::Set(multiple * max_act), ..*edit }).collect();
        let one = sweep_one(trial, &unedited.measures, Bounds::default(), multiple, &Steering { edits, ..held.clone() }, 0)?;
        if unedited.measures.n_tokens == 0 {
            break;
        }
        tried.push(Tried { multiple, perplexity_ratio: one.perplexity_ratio, distinct_2_ratio: one.distinct_2_ratio });
        if one.whole {
            return Ok(SafeStrength { multiple, within_bounds: true, tried });
        }
    }
    Ok(SafeStrength { multiple: MULTIPLES[MULTIPLES.len() - 1], within_bounds: false, tried })
}
