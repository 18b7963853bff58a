use super::*;
use crate::artifact::Silent;
use crate::corpus::{Source, TokenStream};
use std::path::Path;

/// Twelve words in many orders: 60 documents of three kinds in three files of two formats.
fn write_sources(dir: &Path) {
    let words = ["the", "cat", "does", "sit", "on", "a", "mat", "and", "did", "run", "past", "it"];
    let text = |i: usize| (0..20 + i % 7).map(|j| words[(i * 7 + j * j * 5 + i * j) % words.len()]).collect::<Vec<_>>().join(" ");
    for (file, kind) in [("x/a.jsonl", "english_a"), ("x/b.jsonl", "english_b"), ("y/c.jsonl", "dna")] {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let first = kind.len() * 100;
        let lines = (first..first + 100).map(|i| serde_json::json!({"text": format!("{kind} {i} {}", text(i)), "kind": kind}).to_string() + "\n");
        std::fs::write(path, lines.collect::<String>()).unwrap();
    }
}

fn config(dir: &Path) -> CorpusConfig {
    CorpusConfig { sources: vec![Source::Path(dir.display().to_string())], d_vocab: 300, ..Default::default() }
}

fn built(config: &CorpusConfig, max_bytes_kept: u64, shard_tokens: usize) -> Result<(tempfile::TempDir, TokenStream)> {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path(), "r");
    build_with(config, &run, &mut Silent, max_bytes_kept, shard_tokens)?;
    let stream = TokenStream::open(&run.tokens())?;
    Ok((dir, stream))
}

fn ids(stream: &TokenStream) -> Vec<u32> {
    let mut out = vec![0; stream.len() as usize];
    stream.read(0, &mut out);
    out
}

/// The texts of the stream's documents, in order.
fn documents(dir: &Path, stream: &TokenStream) -> Vec<String> {
    let tokenizer = Tokenizer::load(&dir.join("r/tokens/tokenizer.json")).unwrap();
    let all = ids(stream);
    let text = |doc| {
        let range = stream.doc_start(doc) as usize..stream.doc_end(doc) as usize - 1;
        assert_eq!(all[range.end], tokenizer.end_of_text());
        String::from_utf8(tokenizer.decode_bytes(&all[range])).unwrap()
    };
    (0..stream.n_docs()).map(text).collect()
}

#[test]
fn every_document_is_in_the_stream_once_in_its_split_and_shuffled() {
    let source = tempfile::tempdir().unwrap();
    write_sources(source.path());
    let (dir, stream) = built(&config(source.path()), u64::MAX, 1000).unwrap();
    let texts = documents(dir.path(), &stream);
    assert_eq!(texts.len(), 300);
    let distinct: std::collections::BTreeSet<&String> = texts.iter().collect();
    assert_eq!(distinct.len(), 300);
    for split in Split::ALL {
        assert!(stream.docs(split).all(|d| Split::of(&texts[d]) == split));
    }
    assert!(!stream.docs(Split::HeldOutA).is_empty() && !stream.docs(Split::HeldOutB).is_empty());
    // Kinds come in blocks of a hundred in the files; in the stream neighbours are of one kind about every third time.
    let same = (1..300).filter(|&d| stream.doc_kind(d) == stream.doc_kind(d - 1)).count();
    assert!((60..150).contains(&same), "{same} neighbours of one kind");
    assert!(texts.iter().enumerate().all(|(d, t)| t.starts_with(&stream.kinds()[stream.doc_kind(d).unwrap() as usize])));
}

#[test]
fn the_stream_does_not_depend_on_memory_or_threads_but_on_the_seed() {
    let source = tempfile::tempdir().unwrap();
    write_sources(source.path());
    let config = config(source.path());
    let with_threads = |n, kept| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| ids(&built(&config, kept, 700).unwrap().1))
    };
    let base = with_threads(1, u64::MAX);
    assert_eq!(base, with_threads(3, u64::MAX));
    assert_eq!(base, with_threads(2, 500), "spilled to disk");
    let other = CorpusConfig { seed: 1, ..config.clone() };
    assert_ne!(base, ids(&built(&other, u64::MAX, 700).unwrap().1));
}

#[test]
fn limits_hold_and_are_nearly_reached() {
    let source = tempfile::tempdir().unwrap();
    write_sources(source.path());
    for kept in [u64::MAX, 500] {
        let bytes = CorpusConfig { max_bytes: Some(5_000), ..config(source.path()) };
        let n = built(&bytes, kept, 700).unwrap().1.manifest().counts["bytes"];
        assert!((4_800..=5_000).contains(&n), "{n} bytes");
        let tokens = CorpusConfig { max_tokens: Some(1_000), ..config(source.path()) };
        let n = built(&tokens, kept, 700).unwrap().1.len();
        assert!((900..=1_000).contains(&n), "{n} tokens");
    }
}

#[test]
fn a_limit_below_the_first_document_is_refused_with_both_lengths() {
    let source = tempfile::tempdir().unwrap();
    write_sources(source.path());
    let limit = |n: u64, kept: u64| built(&CorpusConfig { max_tokens: Some(n), ..config(source.path()) }, kept, 700);
    let refused = |kept: u64| limit(3, kept).err().unwrap().to_string();
    let said = refused(u64::MAX);
    assert_eq!(said, refused(500), "spilled to disk");
    let first = said.split("--max-tokens (max_tokens) is 3, but the first document has ").nth(1).unwrap();
    // With as many tokens as it says there is a stream, with one less there is none.
    let n: u64 = first.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(limit(n, u64::MAX).unwrap().1.len(), n);
    assert!(limit(n - 1, u64::MAX).is_err());
}

#[test]
fn a_mix_gives_each_key_its_share_and_divides_the_star() {
    let source = tempfile::tempdir().unwrap();
    write_sources(source.path());
    let shares = |mix: &[(&str, f64)]| {
        let mix = mix.iter().map(|(k, s)| (k.to_string(), *s)).collect();
        built(&CorpusConfig { mix, ..config(source.path()) }, u64::MAX, 700).map(|(_, stream)| {
            let kinds = stream.manifest().details["kind_bytes"].clone();
            let bytes = |kind: &str| kinds[kind].as_f64().unwrap_or(0.0);
            let sum = bytes("english_a") + bytes("english_b") + bytes("dna");
            ["english_a", "english_b", "dna"].map(|kind| (100.0 * bytes(kind) / sum).round())
        })
    };
    let close = |found: [f64; 3], expected: [f64; 3]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 2.0), "{found:?} for {expected:?}");
    };
    close(shares(&[("english_a", 0.6), ("*", 0.4)]).unwrap(), [60., 20., 20.]);
    close(shares(&[("english_b", 0.5), ("english*", 0.3), ("dna", 0.2)]).unwrap(), [30., 50., 20.]);
    close(shares(&[("**/y/*", 0.75), ("english_a", 0.25)]).unwrap(), [25., 0., 75.]);
    let error = shares(&[("french", 0.5), ("*", 0.5)]).unwrap_err().to_string();
    assert!(error.contains("french") && error.contains("dna"), "{error}");
    assert!(shares(&[("dna", 0.5)]).unwrap_err().to_string().contains("add up to 0.5"));
}

#[test]
fn a_bad_record_stops_the_build_or_is_counted() {
    let source = tempfile::tempdir().unwrap();
    write_sources(source.path());
    std::fs::write(source.path().join("z.jsonl"), "{\"text\": \"fine\"}\nnot json\n{\"other\": 1}\n").unwrap();
    let error = built(&config(source.path()), u64::MAX, 700).err().unwrap().to_string();
    assert!(error.contains("z.jsonl, line 2") && error.contains("--on-error skip"), "{error}");
    for kept in [u64::MAX, 500] {
        let skipping = CorpusConfig { on_error: OnError::Skip, ..config(source.path()) };
        let (_dir, stream) = built(&skipping, kept, 700).unwrap();
        assert_eq!((stream.manifest().counts["skipped_records"], stream.n_docs()), (2, 301));
        assert!(stream.manifest().details["skipped"]["records"][1].as_str().unwrap().contains("line 3"));
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Told(Vec<String>, u64, u64);

impl Progress for Told {
    fn begin(&mut self, _: &str, total: u64, _: &str) {
        (self.1, self.2) = (total, 0);
    }
    fn advance(&mut self, n: u64) {
        self.2 += n;
    }
    fn figure(&mut self, _: &str) {}
    fn note(&mut self, line: &str) {
        self.0.push(line.into());
    }
    fn end(&mut self) {
        assert_eq!(self.2, self.1, "a part that is done says that all of it is done");
    }
    fn interrupted(&self) -> bool {
        false
    }
}

#[test]
fn every_file_with_something_left_out_is_told_of_and_counted_by_reason() {
    let source = tempfile::tempdir().unwrap();
    write_sources(source.path());
    // One file with many bad records comes first, so that a limit on all records would hide the files after it.
    let bad: [(&str, &[u8]); 6] = [
        ("a.jsonl", b"1\n2\n3\n4\n5\n6\n7\n8\n"),
        ("b.txt", b"caf\xe9 in another encoding\n"),
        ("c.txt", b""),
        ("d.jsonl", b"{\"text\": \"fine\"}\n{\"text\": \"\xff\"}\n"),
        ("e.jsonl", b"{\"body\": 1}\n"),
        ("f.bin", b"\x00\x01"),
    ];
    bad.iter().for_each(|(name, bytes)| std::fs::write(source.path().join(name), bytes).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    let skipping = CorpusConfig { on_error: OnError::Skip, ..config(source.path()) };
    let manifest = build(&skipping, &RunDir::new(dir.path(), "r"), &mut told).unwrap();
    let story = told.0.join("\n");
    for (name, _) in bad {
        assert!(story.contains(name), "{name}: {story}");
    }
    // Line 5 of a.jsonl is told of, line 6 is only listed.
    assert!(story.contains("a.jsonl, line 5") && !story.contains("a.jsonl, line 6"), "{story}");
    let skipped = &manifest.details["skipped"];
    assert_eq!(skipped["by_reason"], serde_json::json!({"empty": 1, "no text in the field": 1, "not UTF-8": 2, "not a JSON object": 8}), "{story}");
    assert!(story.contains("left out 12 records of 5 files: 8 not a JSON object, 1 no text in the field, 1 empty, 2 not UTF-8"), "{story}");
    assert_eq!(skipped["records"].as_array().unwrap().len(), 12);
    assert_eq!(skipped["by_file"][source.path().join("a.jsonl").display().to_string()], 8);
    assert_eq!(manifest.details["files_not_read"], serde_json::json!([source.path().join("f.bin").display().to_string()]));
}

#[test]
fn a_failed_build_leaves_the_older_stream_as_it_was() {
    let source = tempfile::tempdir().unwrap();
    write_sources(source.path());
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path(), "r");
    let before = build(&config(source.path()), &run, &mut Silent).unwrap();
    let bad = CorpusConfig { field: "body".into(), ..config(source.path()) };
    assert!(build(&bad, &run, &mut Silent).is_err());
    assert_eq!(TokenStream::open(&run.tokens()).unwrap().manifest().hash(), before.hash());
}

#[test]
fn the_planted_corpus_is_labelled_and_knows_its_cost() {
    let config = CorpusConfig { sources: vec![Source::Planted { generator_seed: 0, bytes: 60_000 }], d_vocab: 400, ..Default::default() };
    let (dir, stream) = built(&config, u64::MAX, 1 << 20).unwrap();
    let planted = Planted::new(0);
    let labels = stream.concepts().unwrap();
    assert_eq!(labels.names.len(), planted.concepts().len());
    assert!(labels.token.len() > 1000);
    let manifest = stream.manifest();
    let nats: f64 = Split::ALL.iter().map(|s| manifest.details["bayes_nats"][s.name()].as_f64().unwrap()).sum();
    let per_byte = nats / manifest.counts["bytes"] as f64;
    assert!((0.2..2.0).contains(&per_byte), "{per_byte} nats a byte");
    // The spans of a document, found again by its text, say of each of its tokens what the labels say.
    let texts = documents(dir.path(), &stream);
    let mut made = planted.documents().map(|d| d.document).find(|d| d.text == texts[0]).unwrap();
    made.spans.retain(|s| planted.concepts()[s.concept as usize].scored);
    let range = stream.doc_start(0)..stream.doc_end(0);
    let whole = made.spans.iter().find(|s| (s.start, s.end as usize) == (0, made.text.len()));
    let carried = |concept: u16| labels.within(range.clone()).filter(|&i| labels.concept[i] == concept).count();
    let longest = whole.or(made.spans.iter().max_by_key(|s| s.end - s.start)).unwrap();
    assert!(carried(longest.concept) > 0);
    let absent = (0..labels.names.len() as u16).find(|c| made.spans.iter().all(|s| s.concept != *c)).unwrap();
    assert_eq!(carried(absent), 0);
}

#[test]
fn a_config_survives_toml_and_presets_are_sound() {
    for preset in [CorpusConfig::tiny(), CorpusConfig::laptop()] {
        preset.check().unwrap();
        assert_eq!(toml::from_str::<CorpusConfig>(&toml::to_string(&preset).unwrap()).unwrap(), preset);
    }
    assert_eq!((CorpusConfig::tiny().d_vocab, CorpusConfig::laptop().d_vocab), (512, 4096));
    let text = "d_vocab = 1024\nsources = [{ path = 'books/*.txt' }, { dataset = { name = 'a/b' } }]\n[mix]\n'english*' = 0.6\n'*' = 0.4\n";
    let config: CorpusConfig = toml::from_str(text).unwrap();
    assert_eq!(config.sources[1], Source::Dataset { name: "a/b".into(), revision: "main".into(), files: "*".into() });
    assert_eq!((config.mix["*"], config.field.as_str()), (0.4, "text"));
    assert!(toml::from_str::<CorpusConfig>("d_vocabulary = 3").is_err());
}

#[test]
fn sources_that_give_nothing_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.bin"), "x").unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for path in [at(""), at("none.txt"), at("*.txt"), at("no/*.txt"), at("[")] {
        let error = built(&CorpusConfig { sources: vec![Source::Path(path.clone())], ..Default::default() }, 1, 1).err().unwrap().to_string();
        assert!(error.contains(path.trim_end_matches('/')), "{error}");
    }
    assert!(CorpusConfig::default().check().unwrap_err().to_string().contains("no source"));
}
