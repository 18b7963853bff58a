//! The text behind token indices: the token stream with its tokenizer, or a made-up one in tests.

use crate::corpus::{TokenStream, Tokenizer};

/// What the dictionary needs to cut contexts.
pub trait Text: Sync {
    /// Tokens in the stream.
    fn n_tokens(&self) -> u64;
    /// Copies tokens `t..t + out.len()`.
    fn read(&self, t: u64, out: &mut [u32]);
    fn doc_of(&self, t: u64) -> usize;
    fn doc_start(&self, doc: usize) -> u64;
    /// The place of its closing `<|endoftext|>`.
    fn doc_end(&self, doc: usize) -> u64;
    /// Bytes of one token.
    fn bytes(&self, token: u32) -> &[u8];
    fn end_of_text(&self) -> u32;

    /// Token ids `start..end`, cut to the stream.
    fn ids(&self, start: u64, end: u64) -> Vec<u32> {
        let end = end.min(self.n_tokens());
        // A place behind the end has no tokens: what a damaged file says is no reason to panic.
        let start = start.min(end);
        let mut ids = vec![0; (end - start) as usize];
        self.read(start, &mut ids);
        ids
    }

    /// The text of tokens, their bytes joined before they are decoded, U+FFFD for what is not UTF-8.
    fn lossy(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id).iter().copied()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A stream and its tokenizer.
#[derive(Clone, Copy)]
pub struct StreamText<'a> {
    pub stream: &'a TokenStream,
    pub tokenizer: &'a Tokenizer,
}

impl Text for StreamText<'_> {
    fn n_tokens(&self) -> u64 {
        self.stream.len()
    }
    fn read(&self, t: u64, out: &mut [u32]) {
        self.stream.read(t, out);
    }
    fn doc_of(&self, t: u64) -> usize {
        self.stream.doc_of(t)
    }
    fn doc_start(&self, doc: usize) -> u64 {
        self.stream.doc_start(doc)
    }
    fn doc_end(&self, doc: usize) -> u64 {
        self.stream.doc_end(doc) - 1
    }
    fn bytes(&self, token: u32) -> &[u8] {
        self.tokenizer.bytes(token)
    }
    fn end_of_text(&self) -> u32 {
        self.stream.end_of_text()
    }
}

#[cfg(test)]
pub mod fake {
    use super::Text;

    /// Documents of words; token ids are places in `vocab`, id 0 is the end of text.
    pub struct FakeText {
        pub vocab: Vec<Vec<u8>>,
        pub ids: Vec<u32>,
        pub doc_starts: Vec<u64>,
    }

    impl Text for FakeText {
        fn n_tokens(&self) -> u64 {
            self.ids.len() as u64
        }
        fn read(&self, t: u64, out: &mut [u32]) {
            out.copy_from_slice(&self.ids[t as usize..t as usize + out.len()]);
        }
        fn doc_of(&self, t: u64) -> usize {
            self.doc_starts.partition_point(|&s| s <= t) - 1
        }
        fn doc_start(&self, doc: usize) -> u64 {
            self.doc_starts[doc]
        }
        fn doc_end(&self, doc: usize) -> u64 {
            self.doc_starts.get(doc + 1).copied().unwrap_or(self.n_tokens() + 1) - 1
        }
        fn bytes(&self, token: u32) -> &[u8] {
            &self.vocab[token as usize]
        }
        fn end_of_text(&self) -> u32 {
            0
        }
    }
}
