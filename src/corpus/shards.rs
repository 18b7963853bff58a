//! Encoded documents -> token shards. Reads nothing; writes `tokens-*.safetensors` and `manifest.json` of a `tokens/` folder.
//!
//! Training documents go to disk as they come; held-out documents (about 5 %) wait in memory, because they stand at the end of the stream.

use super::stream::{ConceptLabels, NO_KIND, Split};
use crate::artifact::{Error, Manifest, Result, Tensor, write_tensors};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Tokens in one shard unless asked otherwise: 128 MiB of u16 ids.
pub const SHARD_TOKENS: usize = 64 << 20;

/// One document as tokens, its closing `<|endoftext|>` not included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EncodedDocument {
    pub ids: Vec<u32>,
    pub kind: Option<String>,
    /// (index into `ids`, concept), sorted.
    pub labels: Vec<(u32, u16)>,
}

/// Writes a token stream document by document.
pub struct ShardWriter {
    dir: PathBuf,
    d_vocab: usize,
    end_of_text: u32,
    shard_tokens: usize,
    n_shards: usize,
    /// Tokens already in finished shards.
    first: u64,
    ids: Ids,
    doc_starts: Vec<u64>,
    doc_kinds: Vec<u16>,
    labels: ConceptLabels,
    kind_numbers: HashMap<String, u16>,
    kinds: Vec<String>,
    held_out: [Vec<EncodedDocument>; 2],
    n_docs: [u64; 3],
    n_tokens: [u64; 3],
    files: Vec<String>,
}

/// The shard being filled, as narrow as the vocabulary allows.
enum Ids {
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Ids {
    fn len(&self) -> usize {
        match self {
            Ids::U16(ids) => ids.len(),
            Ids::U32(ids) => ids.len(),
        }
    }

    fn extend(&mut self, more: &[u32]) {
        match self {
            Ids::U16(ids) => ids.extend(more.iter().map(|&id| id as u16)),
            Ids::U32(ids) => ids.extend(more),
        }
    }
}

impl ShardWriter {
    /// Empties `dir` of an older stream (its manifest first, so that no half of it can be opened) and begins a new one.
    /// `concepts` names the concept numbers of labels; empty where there are none.
    pub fn create(dir: &Path, d_vocab: usize, end_of_text: u32, concepts: &[String], shard_tokens: usize) -> Result<Self> {
        assert!((end_of_text as usize) < d_vocab, "end_of_text {end_of_text} of a vocabulary of {d_vocab}");
        assert!(shard_tokens > 0, "a shard holds at least one token");
        fs::create_dir_all(dir).map_err(|e| Error::io("make", dir, e))?;
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("replace", path, e)),
            _ => Ok(()),
        };
        remove(&dir.join("manifest.json"))?;
        for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
            let path = entry.map_err(|e| Error::io("list", dir, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("tokens-") && name.ends_with(".safetensors") {
                remove(&path)?;
            }
        }
        let ids = if d_vocab <= 1 << 16 { Ids::U16(Vec::new()) } else { Ids::U32(Vec::new()) };
        Ok(ShardWriter {
            dir: dir.into(),
            d_vocab,
            end_of_text,
            shard_tokens,
            n_shards: 0,
            first: 0,
            ids,
            doc_starts: Vec::new(),
            doc_kinds: Vec::new(),
            labels: ConceptLabels { names: concepts.to_vec(), ..Default::default() },
            kind_numbers: HashMap::new(),
            kinds: Vec::new(),
            held_out: Default::default(),
            n_docs: [0; 3],
            n_tokens: [0; 3],
            files: Vec::new(),
        })
    }

    /// Tokens taken so far, `<|endoftext|>` included.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens.iter().sum()
    }

    /// Adds a document. Panics on a token id outside the vocabulary or a label outside the document: such a document is a bug of its maker.
    pub fn push(&mut self, split: Split, document: EncodedDocument) -> Result<()> {
        if let Some(id) = document.ids.iter().find(|&&id| id as usize >= self.d_vocab) {
            panic!("token {id} of a vocabulary of {}", self.d_vocab);
        }
        for &(token, concept) in &document.labels {
            assert!((token as usize) < document.ids.len(), "label at token {token} of {}", document.ids.len());
            assert!((concept as usize) < self.labels.names.len(), "concept {concept} of {}", self.labels.names.len());
        }
        self.n_docs[split as usize] += 1;
        self.n_tokens[split as usize] += document.ids.len() as u64 + 1;
        match split {
            Split::Train => self.write(document)?,
            Split::HeldOutA => self.held_out[0].push(document),
            Split::HeldOutB => self.held_out[1].push(document),
        }
        Ok(())
    }

    fn write(&mut self, document: EncodedDocument) -> Result<()> {
        if self.ids.len() >= self.shard_tokens {
            self.flush()?;
        }
        let start = self.first + self.ids.len() as u64;
        self.doc_starts.push(start);
        let kind = document.kind.map_or(Ok(NO_KIND), |kind| self.kind_number(kind))?;
        self.doc_kinds.push(kind);
        self.ids.extend(&document.ids);
        self.ids.extend(&[self.end_of_text]);
        let mut labels = document.labels;
        labels.sort_unstable();
        labels.dedup();
        self.labels.token.extend(labels.iter().map(|l| start + u64::from(l.0)));
        self.labels.concept.extend(labels.iter().map(|l| l.1));
        Ok(())
    }

    fn kind_number(&mut self, kind: String) -> Result<u16> {
        if let Some(&number) = self.kind_numbers.get(&kind) {
            return Ok(number);
        }
        let number = self.kinds.len() as u16;
        if number == NO_KIND {
            return Err(Error::Refused {
                path: self.dir.clone(),
                what: format!("the documents have more than {NO_KIND} kinds; the last was {kind:?}"),
                next: "choose another kind field, or none".into(),
            });
        }
        self.kinds.push(kind.clone());
        self.kind_numbers.insert(kind, number);
        Ok(number)
    }

    /// Writes the shard being filled.
    fn flush(&mut self) -> Result<()> {
        let name = format!("tokens-{:05}.safetensors", self.n_shards);
        let n = self.ids.len();
        let ids = match &self.ids {
            Ids::U16(ids) => Tensor::u16("ids", &[n], ids),
            Ids::U32(ids) => Tensor::u32("ids", &[n], ids),
        };
        let n_docs = self.doc_starts.len();
        let mut tensors = vec![ids, Tensor::u64("doc_starts", &[n_docs], &self.doc_starts), Tensor::u16("doc_kinds", &[n_docs], &self.doc_kinds)];
        if !self.labels.names.is_empty() {
            let n = self.labels.token.len();
            tensors.push(Tensor::u64("label_token", &[n], &self.labels.token));
            tensors.push(Tensor::u16("label_concept", &[n], &self.labels.concept));
        }
        write_tensors(&self.dir.join(&name), &tensors, &[("first_token", self.first.to_string())])?;
        drop(tensors);
        self.files.push(name);
        self.n_shards += 1;
        self.first += n as u64;
        match &mut self.ids {
            Ids::U16(ids) => ids.clear(),
            Ids::U32(ids) => ids.clear(),
        }
        self.doc_starts.clear();
        self.doc_kinds.clear();
        self.labels.token.clear();
        self.labels.concept.clear();
        Ok(())
    }

    /// Writes the held-out halves, the last shard and `manifest.json`: `manifest` with the counts, hashes and names of this stream added.
    ///
    /// # Errors
    /// Also when there was no document at all.
    pub fn finish(mut self, mut manifest: Manifest) -> Result<Manifest> {
        for document in std::mem::take(&mut self.held_out).into_iter().flatten() {
            self.write(document)?;
        }
        if self.ids.len() > 0 {
            self.flush()?;
        }
        if self.n_shards == 0 {
            return Err(Error::Refused {
                path: self.dir,
                what: "there is no document to write".into(),
                next: "check the sources, and the limit on their size".into(),
            });
        }
        for split in Split::ALL {
            manifest.counts.insert(format!("{}_documents", split.name()), self.n_docs[split as usize]);
            manifest.counts.insert(format!("{}_tokens", split.name()), self.n_tokens[split as usize]);
        }
        manifest.counts.insert("documents".into(), self.n_docs.iter().sum());
        manifest.counts.insert("tokens".into(), self.n_tokens.iter().sum());
        manifest.counts.insert("d_vocab".into(), self.d_vocab as u64);
        manifest.counts.insert("end_of_text".into(), u64::from(self.end_of_text));
        if !manifest.details.is_object() {
            manifest.details = serde_json::json!({});
        }
        manifest.details["kinds"] = self.kinds.clone().into();
        manifest.details["concepts"] = self.labels.names.clone().into();
        for name in &self.files {
            manifest.record_file(&self.dir, name)?;
        }
        manifest.write(&self.dir)?;
        Ok(manifest)
    }
}
