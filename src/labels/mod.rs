//! Labels of people and programs. Reads and writes `labels/<name>.sqlite`, keyed by (hash of the SAE's weights, latent): they outlive
//! every rebuild of the dictionary. Does not know what a feature fires on.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with labels.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the labels {path}: {source}")]
    Sql { path: PathBuf, source: rusqlite::Error },
    #[error("{0}")]
    Invalid(String),
}

/// One label. A feature may have several; a replaced one stays in the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub id: i64,
    /// blake3 of the SAE's weights (`Meta::weights_hash`).
    pub weights_hash: String,
    pub latent: u32,
    pub text: String,
    pub author: String,
    /// RFC 3339, UTC, to the second.
    pub time: String,
}

/// An opened `labels/<name>.sqlite`.
pub struct Labels {
    #[allow(dead_code)]
    sql: rusqlite::Connection,
}

impl Labels {
    /// Opens the file, and makes it where there is none.
    pub fn open(_path: &Path) -> Result<Self> {
        todo!()
    }
    /// Replaces the author's label of this feature; labels of others stay. An empty text removes it.
    pub fn set(&mut self, _weights_hash: &str, _latent: u32, _text: &str, _author: &str) -> Result<()> {
        todo!()
    }
    /// Labels in force for one SAE, by latent, then time; one latent's with `latent`.
    pub fn list(&self, _weights_hash: &str, _latent: Option<u32>) -> Result<Vec<Label>> {
        todo!()
    }
    /// Every change ever made to one feature, oldest first; removals have an empty text.
    pub fn history(&self, _weights_hash: &str, _latent: u32) -> Result<Vec<Label>> {
        todo!()
    }
    /// Takes back the last change made to this SAE's labels (or this latent's); says which.
    pub fn undo(&mut self, _weights_hash: &str, _latent: Option<u32>) -> Result<Option<Label>> {
        todo!()
    }
}
