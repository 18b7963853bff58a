//! Byte-level BPE: trained here or loaded from any `tokenizer.json`. Tokens are bytes until the screen.

use crate::artifact::Result;
use std::path::Path;

/// A tokenizer and the exact bytes of each of its tokens.
pub struct Tokenizer {
    _private: (),
}

impl Tokenizer {
    pub fn load(_path: &Path) -> Result<Self> {
        todo!()
    }
    pub fn save(&self, _path: &Path) -> Result<()> {
        todo!()
    }
    /// Trains byte-level BPE with the GPT-2 split pattern; `d_vocab` counts `<|endoftext|>`.
    pub fn train<'a>(_texts: impl Iterator<Item = &'a str> + Send, _d_vocab: usize) -> Result<Self> {
        todo!()
    }
    pub fn d_vocab(&self) -> usize {
        todo!()
    }
    pub fn end_of_text(&self) -> u32 {
        todo!()
    }
    /// Token ids of `text`, without special tokens added.
    pub fn encode(&self, _text: &str) -> Vec<u32> {
        todo!()
    }
    /// Token ids and the byte range of `text` that each covers.
    pub fn encode_with_offsets(&self, _text: &str) -> Vec<(u32, std::ops::Range<usize>)> {
        todo!()
    }
    /// The bytes of one token (may be part of a UTF-8 character).
    pub fn bytes(&self, _token: u32) -> &[u8] {
        todo!()
    }
    /// The bytes of a run of tokens, joined.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        tokens.iter().flat_map(|&t| self.bytes(t).to_vec()).collect()
    }
}
