//! Questions to the dictionary.

use super::types::*;
use crate::corpus::{TokenStream, Tokenizer};
use crate::features::Result;
use std::path::{Path, PathBuf};

/// An opened dictionary. One thread at a time (it holds one SQLite connection); open it again for another thread, that is cheap.
pub struct Dictionary {
    #[allow(dead_code)]
    path: PathBuf,
    #[allow(dead_code)]
    sql: rusqlite::Connection,
}

impl Dictionary {
    /// Opens `features/<name>.sqlite` for reading.
    ///
    /// # Errors
    /// The file is missing, of another version, or not SQLite.
    pub fn open(_path: &Path) -> Result<Self> {
        todo!()
    }

    pub fn meta(&self) -> &Meta {
        todo!()
    }

    /// Refuses when the dictionary was made from another token stream.
    pub fn check(&self, _stream: &TokenStream) -> Result<()> {
        todo!()
    }

    pub fn list(&self, _query: &ListQuery) -> Result<ListPage> {
        todo!()
    }

    pub fn summary(&self, _id: u32) -> Result<FeatureSummary> {
        todo!()
    }

    /// Everything about one feature; contexts are cut from `stream`.
    pub fn feature(&self, _id: u32, _stream: &TokenStream, _tokenizer: &Tokenizer) -> Result<FeatureDetail> {
        todo!()
    }

    /// Features that fire on a token holding `text`, then features with `text` in a context, each sorted by share.
    pub fn search(&self, _text: &str, _limit: usize, _stream: &TokenStream, _tokenizer: &Tokenizer) -> Result<Vec<Hit>> {
        todo!()
    }
}
