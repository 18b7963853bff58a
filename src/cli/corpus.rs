//! `monosem corpus`: text -> tokens.

use super::{Global, Interrupted, Terminal, again, one_or_more};
use crate::artifact::{Manifest, RunDir, grouped, settings, size};
use crate::corpus::planted::Planted;
use crate::corpus::{self, CorpusConfig, OnError, Source, Split, TokenStream, Tokenizer};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Turn text into a tokenizer and token shards, or count what is in them
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read text, train or load a tokenizer, write DIR/RUN/tokens
    ///
    /// Without --text and --dataset the text is the built-in planted corpus. Documents are shuffled by --seed; about 5 % are held out
    /// by the hash of their text. Formats: txt, md, jsonl (each also .gz, .zst), parquet.
    ///
    /// A record of jsonl or parquet is a document. Files of txt and md have no records, so they are cut into documents: at every
    /// <|endoftext|>, and where a piece has passed 8,000 bytes at the next blank line (16,000: the next line; 65,536: between two words).
    #[command(after_help = EXAMPLES)]
    Build(Box<Build>),
    /// Print what is in DIR/RUN/tokens
    Stats(Stats),
}

const EXAMPLES: &str = "\
Examples:
  monosem corpus build --run mine --text notes/ --text 'mail/*.jsonl.zst'
  monosem corpus build --run mine --dataset roneneldan/TinyStories --max-tokens 50000000
  monosem corpus build --planted-bytes 10000000 --seed 3";

#[derive(Debug, clap::Args)]
struct Build {
    /// A file, a folder or a quoted glob of text; may be given more than once
    #[arg(long, value_name = "PATH")]
    text: Vec<String>,
    /// A data set of the Hugging Face Hub, NAME or NAME@REVISION (honours HF_ENDPOINT, HF_TOKEN, HF_HOME); may be given more than once
    #[arg(long, value_name = "NAME")]
    dataset: Vec<String>,
    /// Which files of the data sets to read, as a glob [default: all Parquet files, else all JSONL and text files]
    #[arg(long, value_name = "GLOB", default_value = "*", hide_default_value = true)]
    dataset_files: String,
    /// Size of the planted corpus in bytes [default: 40,000,000 where there is no other source]
    #[arg(long, value_name = "BYTES")]
    planted_bytes: Option<u64>,
    /// Seed of the planted corpus's generator
    #[arg(long, value_name = "N", default_value_t = 0)]
    generator_seed: u64,
    /// JSONL field or Parquet column that holds the text
    #[arg(long, default_value = "text")]
    field: String,
    /// JSONL field or Parquet column that holds the ground-truth kind, where there is one
    #[arg(long, default_value = "kind")]
    kind_field: String,
    /// What a record does that cannot be used: stop with its place, or be left out and counted
    #[arg(long, value_enum, default_value_t = OnError::Fail)]
    on_error: OnError,
    /// Use this tokenizer.json (or encoder.json with vocab.bpe, or a folder with either) instead of training one
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Tokens in a trained vocabulary, 257 or more
    #[arg(long, value_name = "N", default_value_t = 4096)]
    d_vocab: usize,
    /// Bytes of text that the tokenizer is trained on
    #[arg(long, value_name = "BYTES", default_value_t = 20_000_000)]
    tokenizer_sample_bytes: u64,
    /// Seed of the order of documents
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Take at most this many bytes of text
    #[arg(long, value_name = "BYTES", value_parser = one_or_more::<u64>)]
    max_bytes: Option<u64>,
    /// Take at most this many tokens
    #[arg(long, value_name = "N", value_parser = one_or_more::<u64>)]
    max_tokens: Option<u64>,
    /// Shares by kind or file that add up to 1, such as 'english*=0.6,*=0.4': a kind, a glob over kinds or paths; * is divided evenly
    /// among the kinds that no other key matches. Without --max-bytes: the largest corpus that has these shares
    #[arg(long, value_name = "KEY=SHARE,...", value_delimiter = ',', value_parser = share)]
    mix: Vec<(String, f64)>,
    /// Replace finished tokens of other settings
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct Stats {
    /// How many of the most frequent tokens to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

fn share(text: &str) -> Result<(String, f64), String> {
    let (key, share) = text.rsplit_once('=').ok_or("expected KEY=SHARE")?;
    Ok((key.to_string(), share.parse().map_err(|e| format!("{share:?}: {e}"))?))
}

impl Args {
    /// Whether the command makes a run, so that there need be none yet.
    pub fn builds(&self) -> bool {
        matches!(self.command, Command::Build(_))
    }
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    match args.command {
        Command::Build(args) => build(*args, global, &run),
        Command::Stats(args) => stats(&args, global, &run),
    }
}

impl Build {
    fn config(self) -> CorpusConfig {
        let mut sources: Vec<Source> = self.text.into_iter().map(Source::Path).collect();
        for name in self.dataset {
            let (name, revision) = name.split_once('@').unwrap_or((&name, "main"));
            sources.push(Source::Dataset { name: name.into(), revision: revision.into(), files: self.dataset_files.clone() });
        }
        if sources.is_empty() || self.planted_bytes.is_some() {
            sources.push(Source::Planted { generator_seed: self.generator_seed, bytes: self.planted_bytes.unwrap_or(40_000_000) });
        }
        CorpusConfig {
            sources,
            field: self.field,
            kind_field: self.kind_field,
            on_error: self.on_error,
            tokenizer: self.tokenizer,
            d_vocab: self.d_vocab,
            tokenizer_sample_bytes: self.tokenizer_sample_bytes,
            seed: self.seed,
            max_bytes: self.max_bytes,
            max_tokens: self.max_tokens,
            mix: self.mix.into_iter().collect(),
        }
    }
}

fn build(args: Build, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let yes = args.yes;
    let config = args.config();
    config.check()?;
    let _lock = run.lock()?;
    let dir = run.tokens();
    if !yes && dir.join("manifest.json").exists() {
        let there = Manifest::read(&dir, "tokens", corpus::FORMAT_VERSION)?;
        settings::refuse_finished(&dir, &there.config, &serde_json::to_value(&config)?, "--run")?;
    }
    let vocabulary = match &config.tokenizer {
        Some(path) => format!("the tokenizer {}", path.display()),
        None => format!("a new vocabulary of {}", config.d_vocab),
    };
    tell!("writes {} with {vocabulary}, seed {}; reads:", run.tokens().display(), config.seed);
    for source in &config.sources {
        match source {
            Source::Planted { generator_seed, bytes } => tell!("  {bytes} bytes of the planted corpus, generator seed {generator_seed}"),
            Source::Path(path) => tell!("  {path}"),
            Source::Dataset { name, revision, files } => tell!("  data set {name} at {revision}, files {files}"),
        }
    }
    let mut progress = Terminal::new();
    let manifest = match corpus::build(&config, run, &mut progress) {
        Err(corpus::Error::Interrupted) => {
            return Err(Interrupted { resume: format!("{}   (text is read from its beginning)", again("")) }.into());
        }
        done => done.with_context(|| format!("cannot build {}", run.tokens().display()))?,
    };
    let n = |name: &str| manifest.counts.get(name).copied().unwrap_or(0);
    if global.json {
        say!("{}", serde_json::to_string(&manifest)?);
    } else {
        let per_token = n("bytes") as f64 / n("tokens") as f64;
        let (documents, tokens) = (grouped(n("documents")), grouped(n("tokens")));
        say!("{documents} documents, {tokens} tokens, {} of text ({per_token:.2} bytes a token)", size(n("bytes")));
        for split in Split::ALL {
            let name = split.name();
            let [documents, tokens] = ["documents", "tokens"].map(|of| grouped(n(&format!("{name}_{of}"))));
            say!("  {name:<11} {documents:>9} documents {tokens:>14} tokens");
        }
        if n("skipped_records") > 0 {
            say!("{} records were left out: {}", grouped(n("skipped_records")), reasons(&manifest));
        }
    }
    tell!("{}\n  next: monosem lm train {}", run.tokens().display(), run.flags());
    Ok(())
}

/// What `corpus stats` prints.
#[derive(serde::Serialize)]
struct Report {
    counts: BTreeMap<String, u64>,
    bytes_per_token: f64,
    /// Kind -> documents and tokens.
    kinds: BTreeMap<String, Kind>,
    /// Planted concept -> tokens that carry it; only those that the exam scores, because labels of no others are stored.
    concepts: BTreeMap<String, u64>,
    /// Planted concepts without stored labels.
    concepts_without_labels: usize,
    /// The most frequent tokens: id, text, count.
    top_tokens: Vec<(u32, String, u64)>,
    /// Tokens of the vocabulary that never occur.
    unused_tokens: usize,
}

#[derive(Default, serde::Serialize)]
struct Kind {
    documents: u64,
    tokens: u64,
}

fn stats(args: &Stats, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dir = run.tokens();
    let open = || format!("cannot read {}\n  build it with: monosem corpus build {}", dir.display(), run.flags());
    let stream = TokenStream::open(&dir).with_context(open)?;
    let tokenizer = Tokenizer::load(&dir.join("tokenizer.json")).with_context(open)?;
    let report = gather(&stream, &tokenizer, args.top);
    if global.json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report, stream.manifest())?;
    }
    Ok(())
}

fn gather(stream: &TokenStream, tokenizer: &Tokenizer, top: usize) -> Report {
    let mut n_of = vec![0u64; stream.d_vocab()];
    let mut buffer = vec![0; 1 << 16];
    let mut t = 0;
    while t < stream.len() {
        let n = buffer.len().min((stream.len() - t) as usize);
        stream.read(t, &mut buffer[..n]);
        buffer[..n].iter().for_each(|&id| n_of[id as usize] += 1);
        t += n as u64;
    }
    let n_bytes: u64 =
        n_of.iter().enumerate().map(|(id, n)| if id as u32 == stream.end_of_text() { 0 } else { n * tokenizer.bytes(id as u32).len() as u64 }).sum();
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    for doc in 0..stream.n_docs() {
        let name = stream.doc_kind(doc).map_or("none", |kind| &stream.kinds()[kind as usize]);
        let kind = kinds.entry(name.to_string()).or_default();
        kind.documents += 1;
        kind.tokens += stream.doc_end(doc) - stream.doc_start(doc);
    }
    let (mut concepts, mut concepts_without_labels) = (BTreeMap::new(), 0);
    if let Some(labels) = stream.concepts() {
        let mut counts = vec![0u64; labels.names.len()];
        labels.concept.iter().for_each(|&c| counts[c as usize] += 1);
        let stored = with_labels(stream.manifest());
        concepts = labels.names.iter().cloned().zip(counts).filter(|(name, n)| *n > 0 || stored.contains(name)).collect();
        concepts_without_labels = labels.names.len() - concepts.len();
    }
    let mut ids: Vec<u32> = (0..n_of.len() as u32).collect();
    ids.sort_by_key(|&id| (std::cmp::Reverse(n_of[id as usize]), id));
    let spell = |id: u32| (id, String::from_utf8_lossy(tokenizer.bytes(id)).into_owned(), n_of[id as usize]);
    Report {
        counts: stream.manifest().counts.clone(),
        bytes_per_token: n_bytes as f64 / stream.len() as f64,
        kinds,
        concepts,
        concepts_without_labels,
        top_tokens: ids.into_iter().take(top).filter(|&id| n_of[id as usize] > 0).map(spell).collect(),
        unused_tokens: n_of.iter().filter(|&&n| n == 0).count(),
    }
}

/// Concepts of the planted sources whose labels are stored: those that the exam scores.
fn with_labels(manifest: &Manifest) -> BTreeSet<String> {
    let config: CorpusConfig = serde_json::from_value(manifest.config.clone()).unwrap_or_default();
    let seeds = config.sources.iter().filter_map(|source| match source {
        Source::Planted { generator_seed, .. } => Some(*generator_seed),
        Source::Path(_) | Source::Dataset { .. } => None,
    });
    seeds.flat_map(|seed| Planted::new(seed).concepts().iter().filter(|c| c.scored).map(|c| c.name.clone()).collect::<Vec<_>>()).collect()
}

/// Why records were left out, in words: `3 empty, 2 not UTF-8`.
fn reasons(manifest: &Manifest) -> String {
    let counts = manifest.details["skipped"]["by_reason"].as_object().into_iter().flatten();
    counts.map(|(reason, n)| format!("{} {reason}", grouped(n.as_u64().unwrap_or(0)))).collect::<Vec<_>>().join(", ")
}

fn print(report: &Report, manifest: &Manifest) -> anyhow::Result<()> {
    let n = |name: &str| report.counts.get(name).copied().unwrap_or(0);
    say!(
        "{} documents, {} tokens, {:.2} bytes a token, vocabulary {} ({} never occur)",
        grouped(n("documents")),
        grouped(n("tokens")),
        report.bytes_per_token,
        grouped(n("d_vocab")),
        grouped(report.unused_tokens as u64)
    );
    for split in Split::ALL {
        let name = split.name();
        let n_tokens = n(&format!("{name}_tokens"));
        let nats = manifest.details["bayes_nats"][name].as_f64().filter(|_| n_tokens > 0);
        let bayes = nats.map(|nats| format!("   Bayes loss {:.3} nats a token", nats / n_tokens as f64)).unwrap_or_default();
        say!("  {name:<11} {:>9} documents {:>14} tokens{bayes}", grouped(n(&format!("{name}_documents"))), grouped(n_tokens));
    }
    if n("skipped_records") > 0 {
        say!("{} records were left out when it was built: {}", grouped(n("skipped_records")), reasons(manifest));
    }
    let mut kinds: Vec<_> = report.kinds.iter().collect();
    kinds.sort_by_key(|(_, kind)| std::cmp::Reverse(kind.tokens));
    say!("\nkind                        documents         tokens");
    for (name, kind) in kinds {
        say!("{name:<24} {:>12} {:>14}", grouped(kind.documents), grouped(kind.tokens));
    }
    if !report.concepts.is_empty() {
        let mut concepts: Vec<_> = report.concepts.iter().collect();
        concepts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        say!("\nplanted concept                              tokens   per 1,000");
        for (name, &count) in concepts.into_iter().take(40) {
            say!("{name:<40} {:>10} {:>11.3}", grouped(count), 1000.0 * count as f64 / n("tokens") as f64);
        }
        if report.concepts.len() > 40 {
            say!("... and {} more (--json prints all)", report.concepts.len() - 40);
        }
        if report.concepts_without_labels > 0 {
            say!("Labels of {} other concepts are not stored: the exam does not score them.", grouped(report.concepts_without_labels as u64));
        }
    }
    say!("\ntoken                           count");
    for (id, text, count) in &report.top_tokens {
        say!("{id:>6} {:<18} {:>10}", format!("{text:?}"), grouped(*count));
    }
    Ok(())
}
