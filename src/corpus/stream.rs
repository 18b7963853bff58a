//! The token stream on disk: shards of token ids with document starts, read by index.

use crate::artifact::{Manifest, Result};
use std::ops::Range;
use std::path::Path;

/// Which part of the stream. A document is held out when the first byte of sha256(text) is below 13; its half is the parity of the second byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    Train,
    /// Everything that is chosen (latent, threshold, union, strength) is chosen here.
    HeldOutA,
    /// Everything that is scored is scored here, once.
    HeldOutB,
}

/// An opened `tokens/` folder.
pub struct TokenStream {
    _private: (),
}

impl TokenStream {
    /// Opens and checks `dir` (the run's `tokens/`).
    pub fn open(_dir: &Path) -> Result<Self> {
        todo!()
    }
    pub fn manifest(&self) -> &Manifest {
        todo!()
    }
    /// Tokens in the whole stream.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        todo!()
    }
    pub fn d_vocab(&self) -> usize {
        todo!()
    }
    /// Copies tokens `t..t + out.len()` into `out`. Panics outside the stream.
    pub fn read(&self, _t: u64, _out: &mut [u32]) {
        todo!()
    }
    /// The tokens of one split.
    pub fn range(&self, _split: Split) -> Range<u64> {
        todo!()
    }
    /// Windows w (tokens `w n_ctx .. (w + 1) n_ctx`) that lie wholly inside one split and whose next token exists.
    pub fn windows(&self, _split: Split, _n_ctx: usize) -> Range<u64> {
        todo!()
    }
    pub fn n_docs(&self) -> usize {
        todo!()
    }
    /// The document that token `t` belongs to (its closing `<|endoftext|>` included).
    pub fn doc_of(&self, _t: u64) -> usize {
        todo!()
    }
    pub fn doc_start(&self, _doc: usize) -> u64 {
        todo!()
    }
    /// Ground-truth kind of a document as an index into [`TokenStream::kinds`].
    pub fn doc_kind(&self, _doc: usize) -> Option<u16> {
        todo!()
    }
    pub fn kinds(&self) -> &[String] {
        todo!()
    }
    /// Planted concept labels, where the corpus has them.
    pub fn concepts(&self) -> Option<&ConceptLabels> {
        todo!()
    }
    /// Token id of `<|endoftext|>`.
    pub fn end_of_text(&self) -> u32 {
        todo!()
    }
}

/// Which tokens carry which planted concept: pairs (token index, concept), sorted by token then concept.
pub struct ConceptLabels {
    /// Concept number -> name.
    pub names: Vec<String>,
    pub token: Vec<u64>,
    pub concept: Vec<u16>,
}

impl ConceptLabels {
    /// Index range into `token`/`concept` for tokens `range`.
    pub fn within(&self, range: Range<u64>) -> Range<usize> {
        self.token.partition_point(|&t| t < range.start)..self.token.partition_point(|&t| t < range.end)
    }
}
