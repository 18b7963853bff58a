//! Text -> tokens. Reads files, folders, data sets and the built-in planted corpus; writes `tokens/` (tokenizer and token shards).
//! Does not know models.
//!
//! One stream: the training documents, then held-out half A, then held-out half B, each document followed by one `<|endoftext|>`.
//! The index `t` of a token in that stream is the key that every later stage uses.

mod build;
mod config;
mod formats;
mod labels;
mod mix;
mod parquet_pages;
pub mod planted;
mod shards;
mod skipped;
mod source;
mod sources_record;
mod spill;
mod stream;
mod tokenizer;

pub use build::build;
pub use config::{CorpusConfig, OnError, Source};
pub use formats::{Fields, is_text, read_file};
pub use shards::{EncodedDocument, SHARD_TOKENS, ShardWriter};
pub use source::local_bytes;
pub use sources_record::{check_sources, sources_changed};
pub use stream::{ConceptLabels, FORMAT_VERSION, Split, TokenStream};
pub use tokenizer::Tokenizer;

use crate::artifact;

/// The text that ends every document in the stream.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// What can go wrong between text and tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error("a vocabulary of {d_vocab} tokens cannot hold the 256 bytes and {END_OF_TEXT}\n  give a d_vocab of 257 or more")]
    Vocabulary { d_vocab: usize },
    #[error("the tokenizer cannot be trained: {what}")]
    Training { what: String },
    #[error("the corpus cannot be made as asked: {what}")]
    Config { what: String },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("data set {name}: {what}\n  check its name and HF_ENDPOINT; a private one needs HF_TOKEN")]
    Dataset { name: String, what: String },
    #[error("interrupted")]
    Interrupted,
}

/// A record, or the rest of a file, that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{file}, {place}: {what}\n  mend it, or leave such records out with --on-error skip")]
pub struct RecordError {
    pub file: String,
    /// `line 7`, `row 7` or `whole file`.
    pub place: String,
    pub reason: Reason,
    pub what: String,
}

impl RecordError {
    fn new(file: &str, place: impl Into<String>, reason: Reason, what: impl Into<String>) -> Self {
        RecordError { file: file.into(), place: place.into(), reason, what: what.into() }
    }
}

/// Why a record cannot be used, in few words, so that records can be counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    NotJson,
    NoText,
    Empty,
    NotUtf8,
    Unreadable,
    TooLong,
    UnknownFormat,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Reason::NotJson => "not a JSON object",
            Reason::NoText => "no text in the field",
            Reason::Empty => "empty",
            Reason::NotUtf8 => "not UTF-8",
            Reason::Unreadable => "unreadable",
            Reason::TooLong => "too long",
            Reason::UnknownFormat => "of an unknown format",
        })
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// One document as a source yields it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    pub text: String,
    /// A ground-truth label of the whole document (`kind` of a JSONL record, register of a planted one).
    pub kind: Option<String>,
    /// Bytes `start..end` of `text` that carry a planted concept; empty for real text.
    pub spans: Vec<ConceptSpan>,
}

/// Bytes `start..end` of a document carry concept number `concept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConceptSpan {
    pub start: u32,
    pub end: u32,
    pub concept: u16,
}

/// Whether the row at `position` of a window counts for SAE training and statistics: not `<|endoftext|>`, not the first position.
pub fn counts(token: u32, position: usize, end_of_text: u32) -> bool {
    position != 0 && token != end_of_text
}
