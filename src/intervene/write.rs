//! Text from a model with an edit in it, token by token; and many texts at once.

use super::{Editor, Result, Steering, check_width};
use crate::corpus::Tokenizer;
use crate::kernels::softmax::log_prob;
use crate::lm::{GenerateEdit, Generator, HookPoint, Lm, Sampling, uniform};
use crate::sae::Sae;
use rayon::prelude::*;
use serde::Serialize;

/// One generated token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Position {
    pub token: u32,
    /// Its bytes as text; parts of a character are shown as U+FFFD.
    pub text: String,
    /// Natural logarithm of its probability at temperature 1, under the model it was drawn from (edited on the edited side).
    pub log_prob: f64,
}

/// What was written after a prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Continuation {
    pub tokens: Vec<u32>,
    pub text: String,
    pub positions: Vec<Position>,
}

/// How long and with what luck a text goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Writing {
    /// At most.
    pub n_tokens: usize,
    pub sampling: Sampling,
    /// A text ends before the first of these, as it does at `<|endoftext|>`.
    pub stop: Vec<String>,
}

impl Writing {
    pub fn new(n_tokens: usize, sampling: &Sampling) -> Self {
        Writing { n_tokens, sampling: sampling.clone(), stop: Vec::new() }
    }

    /// The same with the luck of text number `i` of several.
    #[must_use]
    pub fn of_text(&self, i: usize) -> Self {
        let sampling = Sampling { seed: self.sampling.seed.wrapping_add(i as u64), ..self.sampling.clone() };
        Writing { sampling, ..self.clone() }
    }
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

    pub fn text(&self, tokens: &[u32]) -> String {
        String::from_utf8_lossy(&self.tokenizer.decode_bytes(tokens)).into_owned()
    }
}

/// What is done to the model while it writes; nothing by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    pub steering: Option<&'a Steering>,
    /// (d_vocab,): added to the logits of every new token.
    pub bias: Option<&'a [f32]>,
}

impl Change<'_> {
    pub fn does_nothing(&self) -> bool {
        self.steering.is_none() && self.bias.is_none()
    }
}

impl<'a> From<&'a Steering> for Change<'a> {
    fn from(steering: &'a Steering) -> Self {
        Change { steering: Some(steering), bias: None }
    }
}

/// What the texts that follow `prompts` are, (tokens each): text i is written with the luck of [`Writing::of_text`]`(i)`. On all threads; the texts do not
/// depend on their number.
pub fn texts(rig: Rig, change: Change, prompts: &[Vec<u32>], writing: &Writing) -> Result<Vec<Vec<u32>>> {
    let one = |(i, prompt): (usize, &Vec<u32>)| {
        let mut writer = Writer::new(rig, change, prompt)?;
        let writing = writing.of_text(i);
        for step in 0..writing.n_tokens {
            if writer.write(step, &writing).is_none() {
                break;
            }
        }
        Ok(writer.finish().tokens)
    };
    prompts.par_iter().enumerate().map(one).collect()
}

/// A text that is being written.
pub(super) struct Writer<'a> {
    rig: Rig<'a>,
    generator: Generator<'a>,
    editor: Option<Editor<'a>>,
    bias: Option<&'a [f32]>,
    prompt_len: usize,
    /// Prompt and what was written.
    ids: Vec<u32>,
    /// (d_vocab,) after the last of `ids` that was read.
    logits: Vec<f32>,
    /// The hook's row at the last of `ids`, (d_in,), before and after the edit; empty unless they are asked for.
    rows: [Vec<f32>; 2],
    keeps_rows: bool,
    positions: Vec<Position>,
    stopped: bool,
}

impl<'a> Writer<'a> {
    pub fn new(rig: Rig<'a>, change: Change<'a>, prompt: &[u32]) -> Result<Self> {
        Writer::start(rig, change, prompt, prompt.len(), false)
    }

    /// Reads the first `prompt_len` of `ids`; [`Writer::force`] then takes the others one by one, and [`Writer::rows`] tells the rows at the hook.
    pub fn reading(rig: Rig<'a>, change: Change<'a>, ids: &[u32], prompt_len: usize) -> Result<Self> {
        Writer::start(rig, change, ids, prompt_len, true)
    }

    fn start(rig: Rig<'a>, change: Change<'a>, ids: &[u32], prompt_len: usize, keeps_rows: bool) -> Result<Self> {
        assert!(prompt_len > 0, "a prompt needs at least one token");
        check_width(&rig.lm.config, rig.hook, rig.sae)?;
        let end_of_text = rig.tokenizer.end_of_text();
        let editor = change.steering.map(|s| Editor::new(rig.sae, s, prompt_len, end_of_text)).transpose()?;
        let mut writer = Writer {
            rig,
            generator: Generator::new(rig.lm),
            editor,
            bias: change.bias,
            prompt_len,
            ids: ids[..prompt_len].to_vec(),
            logits: Vec::new(),
            rows: Default::default(),
            keeps_rows,
            positions: Vec::new(),
            stopped: false,
        };
        writer.advance(true);
        Ok(writer)
    }

    /// Draws the next token with the luck of `step`; `None` once the text has ended.
    pub fn write(&mut self, step: usize, writing: &Writing) -> Option<&Position> {
        if self.stopped {
            return None;
        }
        if step > 0 {
            self.advance(false);
        }
        let token = writing.sampling.pick(&self.logits, uniform(writing.sampling.seed, step as u64));
        if token == self.rig.tokenizer.end_of_text() {
            self.stopped = true;
            return None;
        }
        self.ids.push(token);
        let text = String::from_utf8_lossy(self.rig.tokenizer.bytes(token)).into_owned();
        self.positions.push(Position { token, text, log_prob: log_prob(&self.logits, token) });
        if !writing.stop.is_empty() && self.end_at_stop(&writing.stop) {
            self.stopped = true;
            return None;
        }
        self.positions.last()
    }

    /// Takes back the tokens from the first that holds a part of a stop string on; whether there was one.
    fn end_at_stop(&mut self, stop: &[String]) -> bool {
        let tokens = &self.ids[self.prompt_len..];
        let bytes = self.rig.tokenizer.decode_bytes(tokens);
        let at = stop.iter().filter(|s| !s.is_empty()).filter_map(|s| bytes.windows(s.len()).position(|w| w == s.as_bytes())).min();
        let Some(at) = at else { return false };
        let kept = (0..=tokens.len()).rev().find(|&n| self.rig.tokenizer.decode_bytes(&tokens[..n]).len() <= at).unwrap_or(0);
        self.ids.truncate(self.prompt_len + kept);
        self.positions.truncate(kept);
        true
    }

    /// Reads `token` as the next one.
    pub fn force(&mut self, token: u32) {
        self.ids.push(token);
        self.advance(false);
    }

    /// (d_vocab,) after the last token that was read.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The hook's row at the last token that was read, before and after the edit.
    pub fn rows(&self) -> (&[f32], &[f32]) {
        (&self.rows[0], &self.rows[1])
    }

    /// Runs the model over the prompt, or over the last token.
    fn advance(&mut self, prefill: bool) {
        let (ids, d_in) = (&self.ids, self.rig.sae.d_in);
        let (editor, kept) = (&mut self.editor, self.keeps_rows.then_some(&mut self.rows));
        let mut kept = kept;
        // The rows belong to the last tokens of the text: one, or more where the generator reads a context (again). The first of those is
        // the first of a window and does not count.
        let mut apply = |rows: &mut [f32]| {
            let n_new = rows.len() / d_in;
            let skip = usize::from(n_new > 1);
            let first = ids.len() - n_new + skip;
            let last = |rows: &[f32]| rows[(n_new - 1) * d_in..].to_vec();
            if let Some(kept) = &mut kept {
                kept[0] = last(rows);
            }
            if let Some(editor) = editor {
                editor.apply(first, &ids[first..], &mut rows[skip * d_in..]);
            }
            if let Some(kept) = &mut kept {
                kept[1] = last(rows);
            }
        };
        let mut edit = GenerateEdit { hook: self.rig.hook, apply: &mut apply };
        let last = *ids.last().expect("a prompt has a token");
        let logits = if prefill { self.generator.prefill(ids, Some(&mut edit)) } else { self.generator.step(last, Some(&mut edit)) };
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        if let Some(bias) = self.bias {
            self.logits.iter_mut().zip(bias).for_each(|(z, b)| *z += b);
        }
    }

    pub fn finish(self) -> Continuation {
        let tokens = self.ids[self.prompt_len..].to_vec();
        Continuation { text: self.rig.text(&tokens), tokens, positions: self.positions }
    }
}
