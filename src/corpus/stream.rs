//! The token stream on disk: shards of token ids with document starts, read by index.
//!
//! `tokens-00000.safetensors` and on: `ids` (u16 where d_vocab <= 65,536, else u32), `doc_starts` u64 (stream indices of the documents
//! that begin in the shard), `doc_kinds` u16 (65,535 = none), and for the planted corpus `label_token` u64 with `label_concept` u16.
//! `manifest.json` has the sizes of the splits in `counts`, the names of kinds and concepts in `details`.

use crate::artifact::{Dtype, Error, Manifest, Result, TensorFile};
use std::ops::Range;
use std::path::Path;

/// Raised when the files of `tokens/` change meaning.
pub const FORMAT_VERSION: u32 = 1;
/// The kind of a document that has none.
pub(super) const NO_KIND: u16 = u16::MAX;
/// Streams up to this size are compared with their recorded hashes at every open (a fraction of a second).
const MAX_BYTES_HASHED_ON_OPEN: u64 = 1 << 30;

/// Which part of the stream. A document is held out when the first byte of sha256(text) is below 13; its half is the parity of the second byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    Train,
    /// Everything that is chosen (latent, threshold, union, strength) is chosen here.
    HeldOutA,
    /// Everything that is scored is scored here, once.
    HeldOutB,
}

impl Split {
    /// In the order of the stream.
    pub const ALL: [Split; 3] = [Split::Train, Split::HeldOutA, Split::HeldOutB];

    /// The split of a document. A = even second byte of the hash, B = odd.
    pub fn of(text: &str) -> Split {
        use sha2::Digest;
        Self::of_digest(&sha2::Sha256::digest(text.as_bytes()).into())
    }

    /// The split of a document whose text has this SHA-256.
    pub fn of_digest(hash: &[u8; 32]) -> Split {
        match (hash[0] < 13, hash[1] % 2) {
            (false, _) => Split::Train,
            (true, 0) => Split::HeldOutA,
            (true, _) => Split::HeldOutB,
        }
    }

    /// `train`, `held_out_a`, `held_out_b`: the name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::HeldOutA => "held_out_a",
            Split::HeldOutB => "held_out_b",
        }
    }
}

/// An opened `tokens/` folder: every size agrees with every other, every document start and label is inside the stream.
pub struct TokenStream {
    manifest: Manifest,
    shards: Vec<Shard>,
    n_tokens: u64,
    splits: [Range<u64>; 3],
    d_vocab: usize,
    end_of_text: u32,
    doc_starts: Vec<u64>,
    doc_kinds: Vec<u16>,
    kinds: Vec<String>,
    concepts: Option<ConceptLabels>,
}

struct Shard {
    file: TensorFile,
    tokens: Range<u64>,
    dtype: Dtype,
}

impl TokenStream {
    /// Opens and checks `dir` (the run's `tokens/`). Files of up to 1 GiB together are compared with their hashes.
    ///
    /// # Errors
    /// Names the file that is missing, damaged or does not fit the others.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = Manifest::read(dir, "tokens", FORMAT_VERSION)?;
        let corrupt = |what: String| Error::Corrupt { path: dir.into(), what };
        let count = |name: &str| manifest.counts.get(name).copied().ok_or_else(|| corrupt(format!("manifest.json has no count {name}")));
        let names = |key: &str| -> Result<Vec<String>> {
            serde_json::from_value(manifest.details[key].clone()).map_err(|e| Error::json(&dir.join("manifest.json"), e))
        };
        let mut n_bytes = 0;
        for name in manifest.files.keys() {
            let path = dir.join(name);
            n_bytes += std::fs::metadata(&path).map_err(|e| Error::io("open", &path, e))?.len();
        }
        let is_read_whole = n_bytes <= MAX_BYTES_HASHED_ON_OPEN;
        if is_read_whole {
            manifest.check_files(dir)?;
        }
        let (d_vocab, end_of_text) = (count("d_vocab")?, count("end_of_text")?);
        if end_of_text >= d_vocab || d_vocab > 1 << 32 {
            return Err(corrupt(format!("end_of_text {end_of_text} is outside the vocabulary of {d_vocab}")));
        }
        let (mut next, mut splits) = (0u64, [0..0, 0..0, 0..0]);
        for (split, range) in Split::ALL.into_iter().zip(&mut splits) {
            let n = count(&format!("{}_tokens", split.name()))?;
            *range = next..next.checked_add(n).ok_or_else(|| corrupt(format!("{} has {n} tokens", split.name())))?;
            next = range.end;
        }
        let mut stream = TokenStream {
            shards: Vec::new(),
            n_tokens: count("tokens")?,
            splits,
            d_vocab: d_vocab as usize,
            end_of_text: end_of_text as u32,
            doc_starts: Vec::new(),
            doc_kinds: Vec::new(),
            kinds: names("kinds")?,
            concepts: None,
            manifest: manifest.clone(),
        };
        let concept_names = names("concepts")?;
        let mut labels = ConceptLabels { names: concept_names, token: Vec::new(), concept: Vec::new() };
        for name in manifest.files.keys().filter(|n| n.starts_with("tokens-")) {
            stream.add_shard(TensorFile::open(&dir.join(name))?, &mut labels)?;
        }
        stream.check(&labels, count("documents")?).map_err(corrupt)?;
        if is_read_whole && let Some(id) = stream.largest_id().filter(|&id| id as usize >= stream.d_vocab) {
            return Err(corrupt(format!("it holds token {id}, outside the vocabulary of {}", stream.d_vocab)));
        }
        stream.concepts = (!labels.names.is_empty()).then_some(labels);
        Ok(stream)
    }

    fn add_shard(&mut self, file: TensorFile, labels: &mut ConceptLabels) -> Result<()> {
        let dtype = file.dtype("ids")?;
        let dtype = if dtype == Dtype::U16 { Dtype::U16 } else { Dtype::U32 };
        file.bytes("ids", dtype, &[None])?;
        let n = file.shape("ids")?[0] as u64;
        let first = self.shards.last().map_or(0, |s| s.tokens.end);
        self.doc_starts.extend(file.u64s("doc_starts")?);
        self.doc_kinds.extend(file.u16s("doc_kinds")?);
        if !labels.names.is_empty() {
            labels.token.extend(file.u64s("label_token")?);
            labels.concept.extend(file.u16s("label_concept")?);
        }
        self.shards.push(Shard { file, tokens: first..first + n, dtype });
        Ok(())
    }

    /// What the struct promises; the text says what is wrong.
    fn check(&self, labels: &ConceptLabels, n_docs: u64) -> std::result::Result<(), String> {
        let in_shards = self.shards.last().map_or(0, |s| s.tokens.end);
        let in_splits = self.splits[2].end;
        if in_shards != self.n_tokens || in_splits != self.n_tokens {
            return Err(format!("its shards hold {in_shards} tokens and its splits {in_splits}, the manifest says {}", self.n_tokens));
        }
        let (starts, n_kinds) = (&self.doc_starts, self.kinds.len());
        if starts.len() as u64 != n_docs || self.doc_kinds.len() != starts.len() {
            return Err(format!("it has {} document starts and {} kinds, the manifest says {n_docs}", starts.len(), self.doc_kinds.len()));
        }
        if starts.first() != Some(&0) || starts.windows(2).any(|w| w[0] >= w[1]) || starts.last().is_some_and(|&t| t >= self.n_tokens) {
            return Err("its document starts do not rise from 0 to the end of the stream".into());
        }
        if self.splits.iter().any(|r| r.start < self.n_tokens && starts.binary_search(&r.start).is_err()) {
            return Err("a split does not begin with a document".into());
        }
        if self.doc_kinds.iter().any(|&k| k != NO_KIND && k as usize >= n_kinds) {
            return Err(format!("a document has a kind above the {n_kinds} that are named"));
        }
        let ConceptLabels { names, token, concept } = labels;
        let pairs = || token.iter().zip(concept);
        if token.len() != concept.len() || pairs().zip(pairs().skip(1)).any(|(a, b)| a >= b) || token.last().is_some_and(|&t| t >= self.n_tokens) {
            return Err("its concept labels are not sorted pairs inside the stream".into());
        }
        if concept.iter().any(|&c| c as usize >= names.len()) {
            return Err(format!("a token has a concept above the {} that are named", names.len()));
        }
        Ok(())
    }

    fn largest_id(&self) -> Option<u32> {
        let ids = self.shards.iter().map(|Shard { file, dtype, .. }| {
            let bytes = file.bytes("ids", *dtype, &[None]).expect("checked when it was added");
            match dtype {
                Dtype::U16 => bytes.chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))).max(),
                _ => bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).max(),
            }
        });
        ids.flatten().max()
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Tokens in the whole stream.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.n_tokens
    }

    pub fn d_vocab(&self) -> usize {
        self.d_vocab
    }

    /// Copies tokens `t..t + out.len()` into `out`. Panics outside the stream.
    pub fn read(&self, t: u64, out: &mut [u32]) {
        let end = t + out.len() as u64;
        assert!(end <= self.n_tokens, "tokens {t}..{end} of a stream of {}", self.n_tokens);
        let mut at = t;
        let mut shard = self.shards.partition_point(|s| s.tokens.end <= t);
        let mut out = out;
        while !out.is_empty() {
            let Shard { file, tokens, dtype } = &self.shards[shard];
            let n = ((tokens.end - at) as usize).min(out.len());
            let (here, rest) = out.split_at_mut(n);
            let first = (at - tokens.start) as usize;
            let bytes = file.bytes("ids", *dtype, &[None]).expect("checked when it was opened");
            match dtype {
                Dtype::U16 => {
                    let ids = bytes[2 * first..2 * (first + n)].chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]])));
                    here.iter_mut().zip(ids).for_each(|(to, id)| *to = id);
                }
                _ => {
                    let ids = bytes[4 * first..4 * (first + n)].chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                    here.iter_mut().zip(ids).for_each(|(to, id)| *to = id);
                }
            }
            (at, out, shard) = (at + n as u64, rest, shard + 1);
        }
    }

    /// The tokens of one split.
    pub fn range(&self, split: Split) -> Range<u64> {
        self.splits[split as usize].clone()
    }

    /// Windows w (tokens `w n_ctx .. (w + 1) n_ctx`) that lie wholly inside one split and whose next token is in it too.
    pub fn windows(&self, split: Split, n_ctx: usize) -> Range<u64> {
        let (Range { start, end }, n_ctx) = (self.range(split), n_ctx as u64);
        let first = start.div_ceil(n_ctx);
        first..(end.saturating_sub(1) / n_ctx).max(first)
    }

    /// `n` windows of one split at even distances over it; all of them where there are fewer.
    pub fn spread_windows(&self, split: Split, n_ctx: usize, n: u64) -> Vec<u64> {
        let Range { start, end } = self.windows(split, n_ctx);
        let n = n.min(end - start);
        (0..n).map(|i| start + (i as u128 * (end - start) as u128 / n as u128) as u64).collect()
    }

    pub fn n_docs(&self) -> usize {
        self.doc_starts.len()
    }

    /// The document that token `t` belongs to (its closing `<|endoftext|>` included).
    pub fn doc_of(&self, t: u64) -> usize {
        assert!(t < self.n_tokens, "token {t} of a stream of {}", self.n_tokens);
        self.doc_starts.partition_point(|&start| start <= t) - 1
    }

    pub fn doc_start(&self, doc: usize) -> u64 {
        self.doc_starts[doc]
    }

    /// One past the closing `<|endoftext|>` of a document.
    pub fn doc_end(&self, doc: usize) -> u64 {
        self.doc_starts.get(doc + 1).copied().unwrap_or(self.n_tokens)
    }

    /// The documents of one split.
    pub fn docs(&self, split: Split) -> Range<usize> {
        let Range { start, end } = self.range(split);
        self.doc_starts.partition_point(|&t| t < start)..self.doc_starts.partition_point(|&t| t < end)
    }

    /// Ground-truth kind of a document as an index into [`TokenStream::kinds`].
    pub fn doc_kind(&self, doc: usize) -> Option<u16> {
        Some(self.doc_kinds[doc]).filter(|&kind| kind != NO_KIND)
    }

    pub fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// Planted concept labels, where the corpus has them.
    pub fn concepts(&self) -> Option<&ConceptLabels> {
        self.concepts.as_ref()
    }

    /// Token id of `<|endoftext|>`.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }
}

/// Which tokens carry which planted concept: pairs (token index, concept), sorted by token then concept.
#[derive(Debug, Clone, Default, PartialEq)]
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

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
