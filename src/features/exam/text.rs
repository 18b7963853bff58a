//! The text of the exam: the two held-out halves, and which of their tokens have which concept.

use super::{Error, Result};
use crate::corpus::{Split, TokenStream, counts};
use crate::features::pass::docs;
use crate::features::text::Text;
use regex::bytes::Regex;
use std::collections::HashMap;

/// What makes a token a positive.
#[derive(Debug, Clone)]
pub enum Truth {
    /// It carries this planted concept.
    Label(u16),
    /// It holds the last byte of a match; other tokens that overlap a match are left out. Documents are searched one by one.
    Regex(Regex),
    /// It is one of these tokens.
    Tokens(Vec<u32>),
    /// It is in a document of this kind.
    Kind(u16),
}

/// A concept to be found among latents.
#[derive(Debug, Clone)]
pub struct ExamConcept {
    pub name: String,
    /// For the report: `class`, `context`, `sense`, `regex`, `tokens`, `kind`, ...
    pub kind: String,
    pub truth: Truth,
}

/// What a token is to a concept it is listed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Positive,
    /// Neither positive nor negative.
    LeftOut,
}

/// One half: windows of it were read one after the other, and their tokens that count are rows 0..n.
pub struct Half {
    /// First token of each window that was read, rising.
    pub t0: Vec<u64>,
    pub n_ctx: usize,
    /// (n,)
    pub ids: Vec<u32>,
    /// Row of the i-th token that was read, which is token `t0[i / n_ctx] + i % n_ctx`; `NO_ROW` where it does not count.
    pub row_of: Vec<u32>,
    /// (concept, mark) of row r: `marks[mark_start[r]..mark_start[r + 1]]`.
    pub mark_start: Vec<u32>,
    pub marks: Vec<(u16, Mark)>,
    /// Per concept: (row, form) of its positives, rows rising; forms index `Halves::forms`.
    pub positives: Vec<Vec<(u32, u32)>>,
    /// Per concept: rows left out.
    pub left_out: Vec<Vec<u32>>,
}

/// Row of a token that does not count.
pub const NO_ROW: u32 = u32::MAX;

impl Half {
    pub fn n(&self) -> usize {
        self.ids.len()
    }

    /// Tokens that were read, those that do not count among them.
    pub fn n_read(&self) -> u64 {
        (self.t0.len() * self.n_ctx) as u64
    }

    pub fn marks_of(&self, row: u32) -> &[(u16, Mark)] {
        &self.marks[self.mark_start[row as usize] as usize..self.mark_start[row as usize + 1] as usize]
    }

    /// 0 = negative, 1 = positive, 2 = left out, for each row, shape (n,).
    pub fn truth(&self, concept: usize) -> Vec<u8> {
        let mut truth = vec![0; self.n()];
        self.left_out[concept].iter().for_each(|&r| truth[r as usize] = 2);
        self.positives[concept].iter().for_each(|&(r, _)| truth[r as usize] = 1);
        truth
    }
}

/// Both halves. Everything is chosen on A and scored once on B.
pub struct Halves {
    pub a: Half,
    pub b: Half,
    /// Surface forms of positives, lower case.
    pub forms: Vec<String>,
}

impl Halves {
    /// One more than the largest token id.
    pub fn n_ids(&self) -> usize {
        self.a.ids.iter().chain(&self.b.ids).max().map_or(0, |&id| id as usize + 1)
    }

    /// Reads `n_tokens` of each half, rounded up to whole windows, at even distances over it: a half begins with one source and ends with
    /// another. All of a half that has fewer.
    pub fn read(stream: &TokenStream, text: &dyn Text, n_ctx: usize, n_tokens: u64, concepts: &[ExamConcept]) -> Result<Self> {
        if concepts.len() > u16::MAX as usize {
            return Err(Error::Invalid(format!("{} concepts, at most 65535", concepts.len())));
        }
        let mut forms = Forms::default();
        let mut half = |split: Split| {
            let windows = stream.spread_windows(split, n_ctx, n_tokens.div_ceil(n_ctx as u64));
            if windows.is_empty() {
                return Err(Error::Invalid(format!("no window of {n_ctx} tokens in {}\n  build a larger corpus", split.name())));
            }
            let t0 = windows.iter().map(|w| w * n_ctx as u64).collect();
            Ok(read_half(stream, text, n_ctx, t0, concepts, &mut forms))
        };
        let (a, b) = (half(Split::HeldOutA)?, half(Split::HeldOutB)?);
        Ok(Halves { a, b, forms: forms.names })
    }
}

#[derive(Default)]
struct Forms {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Forms {
    fn number(&mut self, bytes: &[u8]) -> u32 {
        let name = String::from_utf8_lossy(bytes).trim().to_lowercase();
        *self.numbers.entry(name.clone()).or_insert_with(|| {
            self.names.push(name);
            self.names.len() as u32 - 1
        })
    }
}

/// Forms of positives in runs longer than this many tokens are their own tokens.
pub const LONGEST_FORM: usize = 8;

fn read_half(stream: &TokenStream, text: &dyn Text, n_ctx: usize, t0: Vec<u64>, concepts: &[ExamConcept], forms: &mut Forms) -> Half {
    let mut all = vec![0; t0.len() * n_ctx];
    all.chunks_mut(n_ctx).zip(&t0).for_each(|(ids, &t)| text.read(t, ids));
    let end_of_text = text.end_of_text();
    let (mut ids, mut row_of) = (Vec::new(), Vec::with_capacity(all.len()));
    for (i, &id) in all.iter().enumerate() {
        let counts = counts(id, i % n_ctx, end_of_text);
        row_of.push(if counts { ids.len() as u32 } else { NO_ROW });
        if counts {
            ids.push(id);
        }
    }
    let mut finder = Finder { stream, t0: &t0, n_ctx, all: &all, text, forms };
    let found: Vec<Found> = concepts
        .iter()
        .map(|concept| match &concept.truth {
            Truth::Label(number) => (finder.labelled(*number), vec![]),
            Truth::Regex(regex) => finder.matches(regex),
            Truth::Tokens(tokens) => (finder.tokens(tokens), vec![]),
            Truth::Kind(kind) => (finder.kind(*kind), vec![]),
        })
        .collect();
    let row = |i: usize| Some(row_of[i]).filter(|&r| r != NO_ROW);
    let positives: Vec<Vec<(u32, u32)>> =
        found.iter().map(|(positive, _)| positive.iter().filter_map(|&(i, form)| Some((row(i)?, form))).collect()).collect();
    let left_out: Vec<Vec<u32>> = found.iter().map(|(_, out)| out.iter().filter_map(|&i| row(i)).collect()).collect();

    let mut mark_start = vec![0u32; ids.len() + 1];
    let listed = || {
        let positive = positives.iter().enumerate().flat_map(|(c, p)| p.iter().map(move |&(r, _)| (r, c as u16, Mark::Positive)));
        positive.chain(left_out.iter().enumerate().flat_map(|(c, out)| out.iter().map(move |&r| (r, c as u16, Mark::LeftOut))))
    };
    listed().for_each(|(r, _, _)| mark_start[r as usize + 1] += 1);
    (0..ids.len()).for_each(|r| mark_start[r + 1] += mark_start[r]);
    let mut next = mark_start.clone();
    let mut marks = vec![(0, Mark::Positive); mark_start[ids.len()] as usize];
    for (r, c, mark) in listed() {
        marks[next[r as usize] as usize] = (c, mark);
        next[r as usize] += 1;
    }
    Half { t0, n_ctx, ids, row_of, mark_start, marks, positives, left_out }
}

/// Positive tokens with their forms and tokens left out, as places among the tokens that were read.
type Found = (Vec<(usize, u32)>, Vec<usize>);

struct Finder<'a> {
    stream: &'a TokenStream,
    t0: &'a [u64],
    n_ctx: usize,
    /// The tokens that were read.
    all: &'a [u32],
    text: &'a dyn Text,
    forms: &'a mut Forms,
}

impl Finder<'_> {
    /// Where token `t` is among those that were read.
    fn place(&self, t: u64) -> Option<usize> {
        let window = self.t0.partition_point(|&t0| t0 <= t).checked_sub(1)?;
        let offset = (t - self.t0[window]) as usize;
        (offset < self.n_ctx).then_some(window * self.n_ctx + offset)
    }

    /// A word that a window's edge cuts is still one form, so the labels next to a window are looked at too.
    fn labelled(&mut self, number: u16) -> Vec<(usize, u32)> {
        let Some(labels) = self.stream.concepts() else { return vec![] };
        let around = LONGEST_FORM as u64;
        let mut found = Vec::new();
        for (window, &t0) in self.t0.iter().enumerate() {
            let end = t0 + self.n_ctx as u64;
            let pairs = labels.within(t0.saturating_sub(around)..end + around);
            let with: Vec<u64> = pairs.filter(|&p| labels.concept[p] == number).map(|p| labels.token[p]).collect();
            for run in with.chunk_by(|a, b| a + 1 == *b) {
                let whole = (run.len() <= LONGEST_FORM).then(|| self.form(&self.text.ids(run[0], run[run.len() - 1] + 1)));
                for &t in run.iter().filter(|t| (t0..end).contains(t)) {
                    let place = window * self.n_ctx + (t - t0) as usize;
                    let form = whole.unwrap_or_else(|| self.form(&self.all[place..place + 1]));
                    found.push((place, form));
                }
            }
        }
        found
    }

    /// Every document of which a part was read is searched whole, so that a window's edge neither hides a match nor makes one.
    fn matches(&mut self, regex: &Regex) -> Found {
        let (mut positives, mut left_out) = (Vec::new(), Vec::new());
        let mut next_doc = 0;
        for &t0 in self.t0 {
            let mut doc = next_doc.max(self.stream.doc_of(t0));
            while doc < self.stream.n_docs() && self.stream.doc_start(doc) < t0 + self.n_ctx as u64 {
                self.matches_in(doc, regex, &mut positives, &mut left_out);
                doc += 1;
            }
            next_doc = doc;
        }
        positives.dedup_by_key(|p| p.0);
        // A token that ends one match and begins the next is a positive.
        left_out.dedup();
        left_out.retain(|i| positives.binary_search_by_key(i, |p| p.0).is_err());
        (positives, left_out)
    }

    fn matches_in(&mut self, doc: usize, regex: &Regex, positives: &mut Vec<(usize, u32)>, left_out: &mut Vec<usize>) {
        let begin = self.stream.doc_start(doc);
        // starts[i] = first byte of token begin + i; one more for the end. The closing `<|endoftext|>` is no text.
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for id in self.text.ids(begin, self.stream.doc_end(doc) - 1) {
            bytes.extend_from_slice(self.text.bytes(id));
            starts.push(bytes.len());
        }
        for found in regex.find_iter(&bytes).filter(|m| !m.is_empty()) {
            let token_of = |byte: usize| begin + starts.partition_point(|&s| s <= byte) as u64 - 1;
            let (first, last) = (token_of(found.start()), token_of(found.end() - 1));
            if let Some(place) = self.place(last) {
                positives.push((place, self.forms.number(found.as_bytes())));
            }
            left_out.extend((first..last).filter_map(|t| self.place(t)));
        }
    }

    fn tokens(&mut self, tokens: &[u32]) -> Vec<(usize, u32)> {
        let with: Vec<usize> = (0..self.all.len()).filter(|&i| tokens.contains(&self.all[i])).collect();
        with.into_iter().map(|i| (i, self.form(&self.all[i..i + 1]))).collect()
    }

    fn kind(&mut self, kind: u16) -> Vec<(usize, u32)> {
        let docs = docs(self.stream, self.t0, self.n_ctx);
        let with = (0..self.all.len()).filter(|&i| self.stream.doc_kind(docs[i] as usize) == Some(kind));
        with.collect::<Vec<_>>().into_iter().map(|i| (i, self.form(&self.all[i..i + 1]))).collect()
    }

    fn form(&mut self, tokens: &[u32]) -> u32 {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&id| self.text.bytes(id)).copied().collect();
        self.forms.number(&bytes)
    }
}
