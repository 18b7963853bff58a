//! Text with an edit beside the text without it. Both sides draw step n with the same uniform number, so whatever differs is the edit's
//! doing; with an edit that changes nothing they are equal token for token.

use super::{Editor, LatentEdit, Result, Rule, Steering, check_width};
use crate::corpus::Tokenizer;
use crate::lm::{GenerateEdit, Generator, HookPoint, Lm, Reader, Sampling, uniform};
use crate::sae::Sae;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Which of the two texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Unedited,
    Edited,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Position {
    pub token: u32,
    /// Its bytes as text; parts of a character are shown as U+FFFD.
    pub text: String,
    /// Natural logarithm of its probability at temperature 1, under the model it was drawn from (edited on the edited side).
    pub log_prob: f64,
}

/// What one side wrote after the prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Continuation {
    pub tokens: Vec<u32>,
    pub text: String,
    pub positions: Vec<Position>,
}

/// Both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steered {
    pub unedited: Continuation,
    pub edited: Continuation,
    /// Index of the first generated token that differs (also where one side stopped earlier).
    pub first_difference: Option<usize>,
}

/// A model, its tokenizer, and an SAE at one of its hooks: what steering needs.
#[derive(Clone, Copy)]
pub struct Rig<'a> {
    pub lm: &'a Lm,
    pub tokenizer: &'a Tokenizer,
    pub sae: &'a Sae,
    pub hook: HookPoint,
}

impl Rig<'_> {
    /// Tokens of a prompt as a document begins in the stream: after `<|endoftext|>`.
    pub fn prompt(&self, text: &str) -> Vec<u32> {
        let mut ids = vec![self.tokenizer.end_of_text()];
        ids.extend(self.tokenizer.encode(text));
        ids
    }
}

/// Generates up to `n_tokens` after `prompt` (not empty), without and with the edits; each side stops at `<|endoftext|>`. `on_token`
/// hears of each token as it is drawn, the two sides in turn, and may stop both.
pub fn steer(
    rig: Rig,
    steering: &Steering,
    prompt: &[u32],
    n_tokens: usize,
    sampling: &Sampling,
    on_token: &mut dyn FnMut(Side, &Position) -> ControlFlow<()>,
) -> Result<Steered> {
    let mut unedited = Writer::new(rig, None, prompt)?;
    let mut edited = Writer::new(rig, Some(steering), prompt)?;
    'all: for step in 0..n_tokens {
        for (side, writer) in [(Side::Unedited, &mut unedited), (Side::Edited, &mut edited)] {
            let Some(position) = writer.write(step, sampling) else { continue };
            if on_token(side, position).is_break() {
                break 'all;
            }
        }
    }
    let (unedited, edited) = (unedited.finish(), edited.finish());
    let shorter = unedited.tokens.len().min(edited.tokens.len());
    let first_difference =
        (0..shorter).find(|&i| unedited.tokens[i] != edited.tokens[i]).or_else(|| (unedited.tokens.len() != edited.tokens.len()).then_some(shorter));
    Ok(Steered { unedited, edited, first_difference })
}

/// One side in the middle of its text.
struct Writer<'a> {
    rig: Rig<'a>,
    generator: Generator<'a>,
    editor: Option<Editor<'a>>,
    prompt_len: usize,
    /// Prompt and what was written.
    ids: Vec<u32>,
    /// Logits after the last of `ids`.
    logits: Vec<f32>,
    positions: Vec<Position>,
    stopped: bool,
}

impl<'a> Writer<'a> {
    fn new(rig: Rig<'a>, steering: Option<&Steering>, prompt: &[u32]) -> Result<Self> {
        assert!(!prompt.is_empty(), "a prompt needs at least one token");
        check_width(&rig.lm.config, rig.hook, rig.sae)?;
        let end_of_text = rig.tokenizer.end_of_text();
        let editor = steering.map(|s| Editor::new(rig.sae, s, prompt.len(), end_of_text)).transpose()?;
        let generator = Generator::new(rig.lm);
        let mut writer = Writer {
            rig,
            generator,
            editor,
            prompt_len: prompt.len(),
            ids: prompt.to_vec(),
            logits: Vec::new(),
            positions: Vec::new(),
            stopped: false,
        };
        writer.advance(true);
        Ok(writer)
    }

    /// Draws the next token with the luck of `step`; `None` once the text has ended.
    fn write(&mut self, step: usize, sampling: &Sampling) -> Option<&Position> {
        if self.stopped {
            return None;
        }
        if step > 0 {
            self.advance(false);
        }
        let token = sampling.pick(&self.logits, uniform(sampling.seed, step as u64));
        if token == self.rig.tokenizer.end_of_text() {
            self.stopped = true;
            return None;
        }
        self.ids.push(token);
        let text = String::from_utf8_lossy(self.rig.tokenizer.bytes(token)).into_owned();
        self.positions.push(Position { token, text, log_prob: log_prob(&self.logits, token) });
        self.positions.last()
    }

    /// Runs the model over the prompt, or over the last token.
    fn advance(&mut self, prefill: bool) {
        let (ids, d_in) = (&self.ids, self.rig.sae.d_in);
        let editor = &mut self.editor;
        // The rows belong to the last tokens of the text: one, or more where the generator reads a context (again). The first of those is
        // the first of a window and does not count.
        let mut apply = |rows: &mut [f32]| {
            let n_new = rows.len() / d_in;
            let skip = usize::from(n_new > 1);
            let first = ids.len() - n_new + skip;
            if let Some(editor) = editor {
                editor.apply(first, &ids[first..], &mut rows[skip * d_in..]);
            }
        };
        let mut edit = GenerateEdit { hook: self.rig.hook, apply: &mut apply };
        let last = *ids.last().expect("a prompt has a token");
        let logits = if prefill { self.generator.prefill(ids, Some(&mut edit)) } else { self.generator.step(last, Some(&mut edit)) };
        self.logits.clear();
        self.logits.extend_from_slice(logits);
    }

    fn finish(self) -> Continuation {
        let tokens = self.ids[self.prompt_len..].to_vec();
        let text = String::from_utf8_lossy(&self.rig.tokenizer.decode_bytes(&tokens)).into_owned();
        Continuation { tokens, text, positions: self.positions }
    }
}

/// ln softmax(logits)\[token\].
fn log_prob(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x)) as f64;
    let sum: f64 = logits.iter().map(|&x| (x as f64 - largest).exp()).sum();
    logits[token as usize] as f64 - largest - sum.ln()
}

/// Perplexity of `continuation` after `prompt` under the unedited model: exp of the mean negative log-probability. `None` when empty.
pub fn perplexity(lm: &Lm, prompt: &[u32], continuation: &[u32]) -> Option<f64> {
    let (&last, before) = continuation.split_last()?;
    let mut generator = Generator::new(lm);
    let mut logits = generator.prefill(prompt, None);
    let mut sum = 0.0;
    for &token in before {
        sum += log_prob(logits, token);
        logits = generator.step(token, None);
    }
    sum += log_prob(logits, last);
    Some((-sum / continuation.len() as f64).exp())
}

/// Distinct bigrams over bigrams; 1 for fewer than two tokens.
pub fn distinct_2(tokens: &[u32]) -> f64 {
    let distinct: BTreeSet<_> = tokens.windows(2).collect();
    if tokens.len() < 2 { 1.0 } else { distinct.len() as f64 / (tokens.len() - 1) as f64 }
}

/// Multiples of the feature's maximum that [`safe_strength`] tries, from above.
const MULTIPLES: [f32; 6] = [8.0, 5.0, 3.0, 2.0, 1.0, 0.5];
/// Beyond so many times its maximum an edit is not tried by [`safe_strength`], and a reader is warned.
pub const WARN_ABOVE: f32 = MULTIPLES[0];
/// Largest ratio of perplexities, edited to unedited, at which a text counts as whole.
pub const MAX_PERPLEXITY_RATIO: f64 = 1.5;
/// Smallest ratio of distinct-2, edited to unedited, at which a text counts as whole.
pub const MIN_DISTINCT_RATIO: f64 = 0.8;
/// Tokens generated per prompt and strength.
const SAFE_TOKENS: usize = 32;

/// One strength of the sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// The latent is clamped to this many times its maximum.
    pub multiple: f32,
    /// Perplexity of the edited texts under the unedited model over that of the unedited texts.
    pub perplexity_ratio: f64,
    /// Distinct-2 of the edited texts over that of the unedited ones.
    pub distinct_2_ratio: f64,
}

/// The default strength of a latent and how it was found.
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
        Rule::Set(act) | Rule::Add(act) => act.abs() / max_act,
        Rule::Scale(factor) => factor.abs(),
        Rule::Zero => 0.0,
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

/// The largest of 8, 5, 3, 2, 1, 0.5 times `max_act` to which `latent` can be clamped with the text's perplexity under the unedited model
/// at most 1.5 times, and its distinct bigrams at least 0.8 times, those of unedited text. 32 tokens after each prompt at `sampling`.
pub fn safe_strength(rig: Rig, latent: u32, max_act: f32, prompts: &[Vec<u32>], sampling: &Sampling) -> Result<SafeStrength> {
    let mut tried: Vec<Tried> = Vec::new();
    for multiple in MULTIPLES {
        let steering = Steering { edits: vec![LatentEdit { latent, rule: Rule::Set(multiple * max_act) }], scope: Default::default() };
        let (mut log_ratio, mut edited_2, mut unedited_2, mut n) = (0.0, 0.0, 0.0, 0);
        for prompt in prompts {
            let both = steer(rig, &steering, prompt, SAFE_TOKENS, sampling, &mut |_, _| ControlFlow::Continue(()))?;
            let edited = perplexity(rig.lm, prompt, &both.edited.tokens);
            let unedited = perplexity(rig.lm, prompt, &both.unedited.tokens);
            if let (Some(edited), Some(unedited)) = (edited, unedited) {
                log_ratio += edited.ln() - unedited.ln();
                edited_2 += distinct_2(&both.edited.tokens);
                unedited_2 += distinct_2(&both.unedited.tokens);
                n += 1;
            }
        }
        if n == 0 {
            break;
        }
        let one = Tried { multiple, perplexity_ratio: (log_ratio / n as f64).exp(), distinct_2_ratio: edited_2 / unedited_2 };
        let within_bounds = one.perplexity_ratio <= MAX_PERPLEXITY_RATIO && one.distinct_2_ratio >= MIN_DISTINCT_RATIO;
        tried.push(one);
        if within_bounds {
            return Ok(SafeStrength { multiple, within_bounds, tried });
        }
    }
    Ok(SafeStrength { multiple: MULTIPLES[MULTIPLES.len() - 1], within_bounds: false, tried })
}
