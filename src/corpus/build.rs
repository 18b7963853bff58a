//! Sources -> `tokens/`: scan, select, order, tokenize, write.
//!
//! The order of documents is a random key each, a pure function of (seed, document number), so it is the same for any memory and any number of threads.
//! Text up to 512 MiB is kept in memory from the first reading on. More is read three times (scan, tokenizer sample, encoding) and
//! its tokens are sorted through bucket files in `tokens/` of some 256 MiB of text each, so memory stays bounded and the shuffle exact.

use super::config::CorpusConfig;
use super::formats::{Fields, read_file};
use super::labels::token_labels;
use super::mix::{Info, select};
use super::planted::Planted;
use super::shards::{EncodedDocument, SHARD_TOKENS, ShardWriter};
use super::skipped::{Skipped, not_read};
use super::source::{Input, Inputs};
use super::sources_record::SourcesRecord;
use super::spill::Buckets;
use super::stream::{FORMAT_VERSION, Split};
use super::{Document, END_OF_TEXT, Error, OnError, RecordError, Result, Tokenizer};
use crate::artifact::{self, Manifest, Progress, RunDir, seed};
use rand::Rng;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Text up to this size stays in memory between the passes.
const MAX_BYTES_KEPT: u64 = 512 << 20;
/// Text that is encoded at once, on all threads.
const BATCH_BYTES: usize = 8 << 20;
/// Planted documents that are generated at once, on all threads.
const PLANTED_BATCH: u64 = 256;

/// Builds `run.tokens()`: the tokenizer, the shards and their manifest. The caller holds the run's lock.
///
/// # Errors
/// The first bad record with [`OnError::Fail`]; sources that give no document; settings that contradict each other; anything about
/// files; [`Error::Interrupted`]. An older `tokens/` stays as it was until the new one is complete.
pub fn build(config: &CorpusConfig, run: &RunDir, progress: &mut dyn Progress) -> Result<Manifest> {
    build_with(config, run, progress, MAX_BYTES_KEPT, SHARD_TOKENS)
}

/// [`build`] with its memory bound and shard size as arguments, so that tests can make them small.
pub(super) fn build_with(
    config: &CorpusConfig,
    run: &RunDir,
    progress: &mut dyn Progress,
    max_bytes_kept: u64,
    shard_tokens: usize,
) -> Result<Manifest> {
    let building = run.root.join(".tokens-building");
    let io = |e| artifact::Error::io("replace", &run.tokens(), e);
    // What an interrupted build left behind.
    remove_folder(&building).map_err(io)?;
    match build_in(&building, config, progress, max_bytes_kept, shard_tokens) {
        Ok(manifest) => {
            remove_folder(&run.tokens()).and_then(|()| fs::rename(&building, run.tokens())).map_err(io)?;
            Ok(manifest)
        }
        Err(error) => {
            let _ = remove_folder(&building);
            Err(error)
        }
    }
}

/// Removes a folder; that there is none is no error.
fn remove_folder(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn build_in(dir: &Path, config: &CorpusConfig, progress: &mut dyn Progress, max_bytes_kept: u64, shard_tokens: usize) -> Result<Manifest> {
    let begun = Instant::now();
    config.check()?;
    let loaded = config.tokenizer.as_ref().map(|path| Tokenizer::load(path)).transpose()?;
    let inputs = Inputs::list(config)?;
    // Before they are read: what changes meanwhile is noticed the next time.
    let sources = SourcesRecord::of(config, &inputs)?;
    let mut reader = Reader { config, inputs, kept: Some(Vec::new()), skipped: Skipped::default() };
    let unread = not_read(&reader.inputs.unread, progress);
    let mut scan = reader.scan(progress, max_bytes_kept)?;
    let order = select(config, &mut scan, progress)?;
    let tokenizer = match loaded {
        Some(tokenizer) => tokenizer,
        None => train_tokenizer(&mut reader, &scan.infos, &order, progress)?,
    };

    let concepts = reader.concepts()?;
    let mut writer = ShardWriter::create(dir, tokenizer.d_vocab(), tokenizer.end_of_text(), &concepts, shard_tokens)?;
    tokenizer.save(&dir.join("tokenizer.json"))?;
    let mut written =
        Written { max_tokens: config.max_tokens.unwrap_or(u64::MAX), past: None, kinds: BTreeMap::new(), n_bytes: 0, bayes_nats: [0.0; 3] };
    let n_bytes: u64 = order.iter().map(|&i| scan.infos[i].n_bytes).sum();
    progress.begin("encode", n_bytes, "bytes");
    if reader.kept.is_some() {
        encode_kept(&reader, &scan.infos, &order, &tokenizer, &mut writer, &mut written, progress)?;
    } else {
        let buckets = Buckets::create(dir, n_bytes)?;
        encode_spilled(&mut reader, &scan.infos, &order, &tokenizer, buckets, &mut writer, &mut written, progress)?;
    }
    progress.end();
    if let (0, Some(first)) = (writer.n_tokens(), written.past) {
        return Err(Error::Config {
            what: format!(
                "--max-tokens (max_tokens) is {}, but the first document has {first} tokens, its {END_OF_TEXT} included\n  raise the limit to that at least, or leave it out",
                written.max_tokens
            ),
        });
    }

    let mut manifest = Manifest::new("tokens", FORMAT_VERSION, serde_json::to_value(config).expect("a config is plain data"), config.seed);
    manifest.record_file(dir, "tokenizer.json")?;
    if let Some(hash) = sources.hash() {
        sources.write(dir)?;
        manifest.inputs.insert("sources".into(), hash);
    }
    manifest.counts.insert("bytes".into(), written.n_bytes);
    manifest.counts.insert("skipped_records".into(), reader.skipped.n());
    manifest.details = serde_json::json!({
        "kind_bytes": written.kinds,
        "skipped": reader.skipped.details(),
        "files_not_read": unread,
    });
    if !concepts.is_empty() {
        // The generator's own cost of each split's documents; over the split's tokens it is the Bayes loss.
        let [train, a, b] = written.bayes_nats;
        manifest.details["bayes_nats"] = serde_json::json!({"train": train, "held_out_a": a, "held_out_b": b});
    }
    manifest.wall_seconds = begun.elapsed().as_secs_f64();
    Ok(writer.finish(manifest)?)
}

/// Everything known of the documents after the first reading.
pub(super) struct Scan {
    pub infos: Vec<Info>,
    /// Names of kinds, indexed by [`Info::kind`].
    pub kinds: Vec<String>,
    /// Names of inputs, indexed by [`Info::input`].
    pub inputs: Vec<String>,
}

/// Reads the sources, again if need be; the same documents in the same order each time.
struct Reader<'a> {
    config: &'a CorpusConfig,
    inputs: Inputs,
    /// All documents in reading order, where they fit in memory.
    kept: Option<Vec<Document>>,
    skipped: Skipped,
}

/// A document, its input's number and name, and its Bayes cost where it has one.
struct Read<'a> {
    document: Document,
    input: usize,
    input_name: &'a str,
    bayes_nats: f64,
}

impl Reader<'_> {
    /// Gives every document of every input to `each`, bad records to `bad`; stops early where `each` fails.
    fn read(&self, each: &mut dyn FnMut(Read) -> Result<()>, bad: &mut dyn FnMut(RecordError) -> Result<()>) -> Result<()> {
        let fields = Fields { text: &self.config.field, kind: &self.config.kind_field };
        let mut hub_bytes = 0u64;
        for (input, what) in self.inputs.inputs.iter().enumerate() {
            let (path, label) = match what {
                Input::Planted { generator_seed, bytes } => {
                    read_planted(*generator_seed, *bytes, &mut |document, bayes_nats| {
                        each(Read { document, input, input_name: "planted", bayes_nats })
                    })?;
                    continue;
                }
                Input::File { path, label } => (path.clone(), label.clone()),
                // A data set may be far larger than what was asked for: no further file is fetched than the limit needs.
                Input::Hub { .. } if self.config.mix.is_empty() && self.config.max_bytes.is_some_and(|max| hub_bytes >= max) => continue,
                Input::Hub { dataset, file } => self.inputs.fetch(*dataset, file)?,
            };
            let is_hub = matches!(what, Input::Hub { .. });
            read_file(&path, &label, fields, &mut |record| match record {
                Ok(document) => {
                    hub_bytes += if is_hub { document.text.len() as u64 } else { 0 };
                    each(Read { document, input, input_name: &label, bayes_nats: 0.0 })
                }
                Err(e) => bad(e),
            })?;
        }
        Ok(())
    }

    /// The first reading: counts, splits, keys; keeps the documents while they fit in `max_bytes_kept`.
    fn scan(&mut self, progress: &mut dyn Progress, max_bytes_kept: u64) -> Result<Scan> {
        let mut kept = self.kept.take();
        let mut scan = Scan { infos: Vec::new(), kinds: Vec::new(), inputs: vec![String::new(); self.inputs.inputs.len()] };
        let mut kind_numbers = std::collections::HashMap::new();
        let (mut n_bytes, mut skipped) = (0u64, Skipped::default());
        progress.begin("read", self.inputs.inputs.len() as u64, "inputs");
        let mut done_inputs = 0;
        let told = std::cell::RefCell::new(&mut *progress);
        let mut each = |read: Read| {
            let Read { document, input, input_name, bayes_nats } = read;
            if told.borrow().interrupted() {
                return Err(Error::Interrupted);
            }
            if input > done_inputs {
                told.borrow_mut().advance((input - done_inputs) as u64);
                done_inputs = input;
            }
            if scan.inputs[input].is_empty() {
                scan.inputs[input] = input_name.to_string();
            }
            let kind = document.kind.as_ref().map(|kind| {
                let next = scan.kinds.len() as u32;
                *kind_numbers.entry(kind.clone()).or_insert_with(|| {
                    scan.kinds.push(kind.clone());
                    next
                })
            });
            let number = scan.infos.len() as u64;
            n_bytes += document.text.len() as u64;
            scan.infos.push(Info {
                key: seed::rng(self.config.seed, "corpus/order", number).next_u64(),
                n_bytes: document.text.len() as u64,
                kind,
                input: input as u32,
                split: Split::of(&document.text),
                bayes_nats,
            });
            match &mut kept {
                Some(documents) if n_bytes <= max_bytes_kept => documents.push(document),
                _ => kept = None,
            }
            Ok(())
        };
        let mut bad = |e: RecordError| {
            if self.config.on_error == OnError::Fail {
                return Err(Error::Record(e));
            }
            skipped.add(e, &mut **told.borrow_mut());
            Ok(())
        };
        self.read(&mut each, &mut bad)?;
        progress.advance((self.inputs.inputs.len() - done_inputs) as u64);
        progress.end();
        skipped.tell(progress);
        (self.kept, self.skipped) = (kept, skipped);
        Ok(scan)
    }

    /// Reads again the documents that `wanted` names by number. Refuses when there are now fewer or more than `n_documents`.
    fn reread(&self, n_documents: usize, wanted: &dyn Fn(usize) -> bool, each: &mut dyn FnMut(usize, Document) -> Result<()>) -> Result<()> {
        let mut number = 0;
        self.read(
            &mut |read| {
                number += 1;
                if number <= n_documents && wanted(number - 1) { each(number - 1, read.document) } else { Ok(()) }
            },
            &mut |_| Ok(()),
        )?;
        if number != n_documents {
            return Err(Error::Config { what: format!("the sources changed while they were read: {n_documents} documents, then {number}") });
        }
        Ok(())
    }

    /// Names of planted concepts; empty where no source is planted.
    ///
    /// # Errors
    /// When two planted sources name their concepts differently.
    fn concepts(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for input in &self.inputs.inputs {
            let Input::Planted { generator_seed, .. } = input else { continue };
            let here: Vec<String> = Planted::new(*generator_seed).concepts().iter().map(|c| c.name.clone()).collect();
            if !names.is_empty() && names != here {
                return Err(Error::Config { what: "two planted sources with different generator seeds have different concepts; use one".into() });
            }
            names = here;
        }
        Ok(names)
    }
}

/// Documents 0, 1, 2, ... of the generator until `bytes` of text are there, made in parallel, given in order. They keep the spans of the
/// exam's concepts only: all of them would be some six labels a token, more bytes than the tokens.
fn read_planted(generator_seed: u64, bytes: u64, each: &mut dyn FnMut(Document, f64) -> Result<()>) -> Result<()> {
    let planted = Planted::new(generator_seed);
    let mut n_bytes = 0;
    for first in (0..).step_by(PLANTED_BATCH as usize) {
        let batch: Vec<_> = (first..first + PLANTED_BATCH).into_par_iter().map(|index| planted.document(index)).collect();
        for made in batch {
            if n_bytes >= bytes {
                return Ok(());
            }
            let mut document = made.document;
            n_bytes += document.text.len() as u64;
            document.spans.retain(|span| planted.concepts()[span.concept as usize].scored);
            each(document, made.bayes_nats)?;
        }
    }
    Ok(())
}

/// Trains on training documents in the order of their keys, which is an even draw from all of them.
fn train_tokenizer(reader: &mut Reader, infos: &[Info], order: &[usize], progress: &mut dyn Progress) -> Result<Tokenizer> {
    let config = reader.config;
    let mut n_bytes = 0;
    let mut sample: Vec<usize> = Vec::new();
    for &i in order.iter().filter(|&&i| infos[i].split == Split::Train) {
        if n_bytes >= config.tokenizer_sample_bytes {
            break;
        }
        n_bytes += infos[i].n_bytes;
        sample.push(i);
    }
    progress.begin("train the tokenizer", n_bytes, "bytes");
    let tokenizer = match &reader.kept {
        Some(documents) => Tokenizer::train(sample.iter().map(|&i| documents[i].text.as_str()), config.d_vocab)?,
        None => {
            let wanted: std::collections::HashSet<usize> = sample.into_iter().collect();
            let mut texts = Vec::new();
            reader.reread(infos.len(), &|i| wanted.contains(&i), &mut |_, document| {
                texts.push(document.text);
                Ok(())
            })?;
            Tokenizer::train(texts.iter().map(String::as_str), config.d_vocab)?
        }
    };
    progress.advance(n_bytes);
    progress.end();
    if tokenizer.d_vocab() < config.d_vocab {
        progress.note(&format!("the text has no more than {} tokens to merge, {} were asked for", tokenizer.d_vocab(), config.d_vocab));
    }
    if progress.interrupted() { Err(Error::Interrupted) } else { Ok(tokenizer) }
}

fn encode(tokenizer: &Tokenizer, document: &Document) -> EncodedDocument {
    if document.spans.is_empty() {
        return EncodedDocument { ids: tokenizer.encode(&document.text), kind: document.kind.clone(), labels: vec![] };
    }
    let (ids, ranges): (Vec<u32>, Vec<_>) = tokenizer.encode_with_offsets(&document.text).into_iter().unzip();
    EncodedDocument { ids, kind: document.kind.clone(), labels: token_labels(&document.text, &document.spans, &ranges) }
}

/// What went into the stream, and when it is full.
struct Written {
    max_tokens: u64,
    /// Tokens of the document that would have passed the limit, its `<|endoftext|>` included.
    past: Option<u64>,
    kinds: BTreeMap<String, u64>,
    n_bytes: u64,
    bayes_nats: [f64; 3],
}

impl Written {
    /// Writes the document unless it would pass the limit of tokens; says whether it was written.
    fn push(&mut self, writer: &mut ShardWriter, info: &Info, document: EncodedDocument) -> Result<bool> {
        let n_tokens = document.ids.len() as u64 + 1;
        if writer.n_tokens() + n_tokens > self.max_tokens {
            self.past = Some(n_tokens);
            return Ok(false);
        }
        *self.kinds.entry(document.kind.clone().unwrap_or_else(|| "none".into())).or_default() += info.n_bytes;
        self.n_bytes += info.n_bytes;
        self.bayes_nats[info.split as usize] += info.bayes_nats;
        writer.push(info.split, document)?;
        Ok(true)
    }
}

/// Documents in memory: batches of the final order, encoded in parallel, written in order.
fn encode_kept(
    reader: &Reader,
    infos: &[Info],
    order: &[usize],
    tokenizer: &Tokenizer,
    writer: &mut ShardWriter,
    written: &mut Written,
    progress: &mut dyn Progress,
) -> Result<()> {
    let documents = reader.kept.as_ref().expect("the caller looked");
    let mut rest = order;
    while !rest.is_empty() {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        let mut n_bytes = 0;
        let fits = |&&i: &&usize| {
            let goes_in = n_bytes < BATCH_BYTES;
            n_bytes += infos[i].n_bytes as usize;
            goes_in
        };
        let (batch, after) = rest.split_at(rest.iter().take_while(fits).count());
        let encoded: Vec<EncodedDocument> = batch.par_iter().map(|&i| encode(tokenizer, &documents[i])).collect();
        for (&i, document) in batch.iter().zip(encoded) {
            if !written.push(writer, &infos[i], document)? {
                return Ok(());
            }
            progress.advance(infos[i].n_bytes);
        }
        rest = after;
    }
    Ok(())
}

/// Documents read again: encoded as they come, put into buckets of the key, each bucket then sorted and written.
#[allow(clippy::too_many_arguments)]
fn encode_spilled(
    reader: &mut Reader,
    infos: &[Info],
    order: &[usize],
    tokenizer: &Tokenizer,
    mut buckets: Buckets,
    writer: &mut ShardWriter,
    written: &mut Written,
    progress: &mut dyn Progress,
) -> Result<()> {
    let mut chosen = vec![false; infos.len()];
    order.iter().for_each(|&i| chosen[i] = true);
    let mut batch: Vec<(usize, Document)> = Vec::new();
    let mut batch_bytes = 0;
    let mut spill = |batch: &mut Vec<(usize, Document)>, progress: &mut dyn Progress| -> Result<()> {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        let encoded: Vec<EncodedDocument> = batch.par_iter().map(|(_, document)| encode(tokenizer, document)).collect();
        for ((i, _), document) in batch.drain(..).zip(encoded) {
            progress.advance(infos[i].n_bytes);
            buckets.push(infos[i].key, i as u64, &document)?;
        }
        Ok(())
    };
    reader.reread(infos.len(), &|i| chosen[i], &mut |i, document| {
        batch_bytes += document.text.len();
        batch.push((i, document));
        if batch_bytes >= BATCH_BYTES {
            batch_bytes = 0;
            spill(&mut batch, progress)?;
        }
        Ok(())
    })?;
    spill(&mut batch, progress)?;
    for bucket in 0..buckets.len() {
        for (i, document) in buckets.take(bucket)? {
            if !written.push(writer, &infos[i as usize], document)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
