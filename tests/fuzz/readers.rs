//! Text, tokens and tensors. Each test changes one file and reads it.

use crate::change::changed;
use crate::harness::{fuzz, fuzz_in, quiet};
use crate::run::Whole;
use monosem::artifact::{Manifest, TensorFile};
use monosem::corpus::{Fields, TokenStream, Tokenizer, read_file};
use std::path::Path;

#[test]
fn safetensors() {
    fuzz("plain.safetensors", |path| {
        if let Ok(file) = TensorFile::open(path) {
            for name in file.names() {
                let _ = (file.dtype(&name), file.u64s(&name), file.u16s(&name), file.metadata());
                if let Ok(shape) = file.shape(&name) {
                    let _ = file.f32(&name, &shape);
                }
            }
        }
    });
}

#[test]
fn manifests() {
    fuzz("run/tokens/manifest.json", |path| {
        if let Ok(manifest) = Manifest::read(path.parent().unwrap(), "tokens", 1) {
            let _ = (manifest.hash(), manifest.check_files(path.parent().unwrap()));
        }
    });
}

#[test]
fn token_shards() {
    let whole = Whole::new();
    let dir = whole.run().tokens();
    let manifest = Manifest::read(&dir, "tokens", 1).unwrap();
    // The manifest is made to fit: a changed file would not get past its hash.
    fuzz_in(&whole, "run/tokens/tokens-00000.safetensors", changed, |path| {
        std::fs::write(dir.join("manifest.json"), Whole::with_hash(&manifest, &dir, "tokens-00000.safetensors")).unwrap();
        read_stream(path);
    });
}

#[test]
fn token_streams_with_other_manifests() {
    fuzz("run/tokens/manifest.json", read_stream);
}

fn read_stream(path: &Path) {
    let Ok(stream) = TokenStream::open(path.parent().unwrap()) else { return };
    let mut ids = vec![0; stream.len().min(1 << 20) as usize];
    stream.read(0, &mut ids);
    for doc in 0..stream.n_docs().min(1000) {
        let _ = (stream.doc_start(doc), stream.doc_end(doc), stream.doc_kind(doc), stream.doc_of(stream.doc_start(doc)));
    }
}

#[test]
fn tokenizers() {
    quiet();
    fuzz("run/tokens/tokenizer.json", read_tokenizer);
}

#[test]
fn vocabularies_of_gpt_2() {
    quiet();
    fuzz("vocab.json", read_tokenizer);
}

#[test]
fn merges_of_gpt_2() {
    quiet();
    fuzz("merges.txt", |path| read_tokenizer(&path.with_file_name("vocab.json")));
}

/// A tokenizer that can be read reads every text.
fn read_tokenizer(path: &Path) {
    if let Ok(tokenizer) = Tokenizer::load(path) {
        for text in ["The captain 日本\u{0}", "\u{10FFFF}\u{301}\u{200f}x", "", "  \n\r\n  \t<|endoftext|><unk>"] {
            let ids = tokenizer.encode(text);
            let _ = (tokenizer.decode_bytes(&ids), tokenizer.encode_with_offsets(text));
        }
    }
}

fn read_documents(path: &Path) {
    let mut n = 0;
    let _ = read_file(path, "x", Fields { text: "text", kind: "kind" }, &mut |_| {
        n += 1;
        assert!(n < 1_000_000, "a small file has few documents");
        Ok(())
    });
}

#[test]
fn jsonl_sources() {
    fuzz("a.jsonl", read_documents);
}

#[test]
fn text_sources() {
    fuzz("a.txt", read_documents);
}

#[test]
fn gzip_sources() {
    fuzz("a.jsonl.gz", read_documents);
}

#[test]
fn zstd_sources() {
    fuzz("a.jsonl.zst", read_documents);
}

#[test]
fn parquet_sources() {
    quiet();
    fuzz("a.parquet", read_documents);
}
