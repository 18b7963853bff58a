//! What a corpus is made from: sources, fields, mixture, limits, tokenizer. One struct for TOML, flags and the manifest.

use super::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Settings of `corpus build`; every default is written out in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusConfig {
    /// Where text comes from, read in this order.
    pub sources: Vec<Source>,
    /// JSONL field or Parquet column that holds the text.
    pub field: String,
    /// JSONL field or Parquet column that holds the ground-truth kind, where a record has it.
    pub kind_field: String,
    /// What a bad record does.
    pub on_error: OnError,
    /// An existing tokenizer (`tokenizer.json` or a GPT-2 pair); without it one is trained.
    pub tokenizer: Option<PathBuf>,
    /// Vocabulary of a trained tokenizer, `<|endoftext|>` and the 256 bytes included.
    pub d_vocab: usize,
    /// Bytes of training text that a tokenizer is trained on, drawn evenly from all of it.
    pub tokenizer_sample_bytes: u64,
    /// Seed of the order of documents, of their selection and of the tokenizer's sample.
    pub seed: u64,
    /// At most this many bytes of text.
    pub max_bytes: Option<u64>,
    /// At most this many tokens, `<|endoftext|>` included.
    pub max_tokens: Option<u64>,
    /// Share of the text by kind or file: exact kind, glob over kinds, glob over paths; `*` is divided evenly among the kinds left.
    /// Without it everything is taken. Without `max_bytes` the corpus is the largest that has these shares exactly.
    pub mix: BTreeMap<String, f64>,
}

/// One place that text comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The built-in generator: documents 0, 1, 2, ... of `generator_seed` until `bytes` of text are there.
    Planted { generator_seed: u64, bytes: u64 },
    /// A file, a folder (all files of known formats under it) or a glob.
    Path(String),
    /// A data set of the Hugging Face Hub.
    Dataset {
        name: String,
        #[serde(default = "main_revision")]
        revision: String,
        /// Glob over the file names of its repository.
        #[serde(default = "every_file")]
        files: String,
    },
}

fn main_revision() -> String {
    "main".into()
}

fn every_file() -> String {
    "*".into()
}

/// What to do with a record that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Stop with the file and the record.
    #[default]
    Fail,
    /// Leave the record out and count it.
    Skip,
}

impl Default for CorpusConfig {
    fn default() -> Self {
        CorpusConfig {
            sources: vec![],
            field: "text".into(),
            kind_field: "kind".into(),
            on_error: OnError::Fail,
            tokenizer: None,
            d_vocab: 4096,
            tokenizer_sample_bytes: 20_000_000,
            seed: 0,
            max_bytes: None,
            max_tokens: None,
            mix: BTreeMap::new(),
        }
    }
}

impl CorpusConfig {
    /// 1 MB of the planted corpus, 512 tokens: seconds, for tests.
    pub fn tiny() -> Self {
        CorpusConfig { sources: vec![Source::Planted { generator_seed: 0, bytes: 1_000_000 }], d_vocab: 512, ..Default::default() }
    }

    /// 40 MB of the planted corpus, 4,096 tokens: the quickstart.
    pub fn laptop() -> Self {
        CorpusConfig { sources: vec![Source::Planted { generator_seed: 0, bytes: 40_000_000 }], ..Default::default() }
    }

    /// Refuses settings that contradict each other or can do nothing.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::Config { what });
        if self.sources.is_empty() {
            return bad("there is no source: name files, a data set, or the planted corpus".into());
        }
        if self.tokenizer.is_none() && self.d_vocab < 257 {
            return Err(Error::Vocabulary { d_vocab: self.d_vocab });
        }
        if self.tokenizer.is_none() && self.tokenizer_sample_bytes == 0 {
            return bad("tokenizer_sample_bytes is 0, so no tokenizer can be trained".into());
        }
        if self.max_bytes == Some(0) || self.max_tokens == Some(0) {
            return bad("a limit of 0 leaves no text".into());
        }
        for (key, share) in &self.mix {
            if !(share.is_finite() && *share > 0.0) {
                return bad(format!("the share of {key:?} in the mix is {share}; shares are above 0"));
            }
        }
        let sum: f64 = self.mix.values().sum();
        if !self.mix.is_empty() && (sum - 1.0).abs() > 1e-6 {
            return bad(format!("the shares of the mix add up to {sum}, not 1"));
        }
        for source in &self.sources {
            if let Source::Planted { bytes: 0, .. } = source {
                return bad("0 bytes of the planted corpus".into());
            }
        }
        Ok(())
    }
}
