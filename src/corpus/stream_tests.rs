use super::*;
use crate::corpus::{EncodedDocument, ShardWriter};
use proptest::prelude::*;

const D_VOCAB: usize = 11;
const END: u32 = 10;

fn doc(ids: &[u32], kind: Option<&str>, labels: &[(u32, u16)]) -> EncodedDocument {
    EncodedDocument { ids: ids.to_vec(), kind: kind.map(str::to_string), labels: labels.to_vec() }
}

fn write(dir: &Path, d_vocab: usize, shard_tokens: usize, docs: &[(Split, EncodedDocument)], concepts: &[String]) -> Manifest {
    let mut writer = ShardWriter::create(dir, d_vocab, END, concepts, shard_tokens).unwrap();
    for (split, document) in docs {
        writer.push(*split, document.clone()).unwrap();
    }
    writer.finish(Manifest::new("tokens", FORMAT_VERSION, serde_json::json!({}), 0)).unwrap()
}

/// Seven documents whose order on disk differs from the order they come in.
fn sample(dir: &Path, shard_tokens: usize) -> TokenStream {
    use Split::*;
    let docs = [
        (HeldOutB, doc(&[9, 9, 9], Some("b"), &[])),
        (Train, doc(&[1, 2, 3, 4], Some("a"), &[(1, 2), (1, 0), (3, 1)])),
        (HeldOutA, doc(&[8, 8], None, &[(0, 1)])),
        (Train, doc(&[5], Some("c"), &[])),
        (Train, doc(&[6, 7, 6, 7, 6], Some("a"), &[(4, 2)])),
        (HeldOutA, doc(&[8], Some("b"), &[])),
    ];
    write(dir, D_VOCAB, shard_tokens, &docs, &["x", "y", "z"].map(String::from));
    TokenStream::open(dir).unwrap()
}

fn all(stream: &TokenStream) -> Vec<u32> {
    let mut out = vec![0; stream.len() as usize];
    stream.read(0, &mut out);
    out
}

#[test]
fn the_stream_is_training_then_half_a_then_half_b_each_document_closed_once() {
    for shard_tokens in [1, 3, 7, 1000] {
        let dir = tempfile::tempdir().unwrap();
        let stream = sample(dir.path(), shard_tokens);
        assert_eq!(all(&stream), [1, 2, 3, 4, END, 5, END, 6, 7, 6, 7, 6, END, 8, 8, END, 8, END, 9, 9, 9, END]);
        assert_eq!(Split::ALL.map(|s| stream.range(s)), [0..13, 13..18, 18..22]);
        assert_eq!(Split::ALL.map(|s| stream.docs(s)), [0..3, 3..5, 5..6]);
        let kinds: Vec<_> = (0..6).map(|d| stream.doc_kind(d).map(|k| stream.kinds()[k as usize].as_str())).collect();
        assert_eq!(kinds, [Some("a"), Some("c"), Some("a"), None, Some("b"), Some("b")]);
        assert_eq!((stream.doc_of(0), stream.doc_of(4), stream.doc_of(5), stream.doc_of(21)), (0, 0, 1, 5));
        assert_eq!((stream.doc_start(2), stream.doc_end(2), stream.doc_end(5)), (7, 13, 22));
        let labels = stream.concepts().unwrap();
        assert_eq!(labels.token, [1, 1, 3, 11, 13]);
        assert_eq!(labels.concept, [0, 2, 1, 2, 1]);
        assert_eq!(labels.within(1..4), 0..3);
        let mut part = [0; 6];
        stream.read(11, &mut part);
        assert_eq!(part, [6, END, 8, 8, END, 8]);
    }
}

#[test]
fn windows_are_whole_and_their_next_token_is_in_the_split() {
    let dir = tempfile::tempdir().unwrap();
    let stream = sample(dir.path(), 1000);
    for n_ctx in 1..30u64 {
        for split in Split::ALL {
            let range = stream.range(split);
            let expected: Vec<u64> = (0..30).filter(|w| w * n_ctx >= range.start && (w + 1) * n_ctx < range.end).collect();
            assert_eq!(stream.windows(split, n_ctx as usize).collect::<Vec<_>>(), expected, "n_ctx {n_ctx}, {split:?}");
        }
    }
}

#[test]
fn spread_windows_are_different_ordered_and_at_even_distances() {
    let dir = tempfile::tempdir().unwrap();
    let stream = sample(dir.path(), 1000);
    for split in Split::ALL {
        let all = stream.windows(split, 1);
        let there = all.end - all.start;
        for n in 0..there + 3 {
            let spread = stream.spread_windows(split, 1, n);
            assert_eq!(spread.len() as u64, n.min(there));
            assert!(spread.first().is_none_or(|&w| w == all.start) && spread.iter().all(|w| all.contains(w)));
            let distances: Vec<u64> = spread.windows(2).map(|w| w[1] - w[0]).collect();
            assert!(distances.iter().all(|&d| d >= 1 && (d == there / n.min(there) || d == there.div_ceil(n.min(there)))), "{spread:?} of {all:?}");
        }
    }
}

#[test]
fn ids_are_narrow_where_the_vocabulary_allows() {
    for (d_vocab, dtype) in [(1 << 16, Dtype::U16), ((1 << 16) + 1, Dtype::U32)] {
        let dir = tempfile::tempdir().unwrap();
        let top = d_vocab as u32 - 1;
        write(dir.path(), d_vocab, 100, &[(Split::Train, doc(&[top, 3], None, &[]))], &[]);
        let stream = TokenStream::open(dir.path()).unwrap();
        assert_eq!(stream.shards[0].dtype, dtype);
        assert_eq!(all(&stream), [top, 3, END]);
        assert!(stream.concepts().is_none() && stream.kinds().is_empty());
    }
}

#[test]
#[should_panic(expected = "token 11 of a vocabulary of 11")]
fn a_token_outside_the_vocabulary_is_a_bug() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), D_VOCAB, 100, &[(Split::Train, doc(&[11], None, &[]))], &[]);
}

#[test]
fn a_stream_without_documents_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let writer = ShardWriter::create(dir.path(), D_VOCAB, END, &[], 10).unwrap();
    let error = writer.finish(Manifest::new("tokens", FORMAT_VERSION, serde_json::json!({}), 0)).unwrap_err();
    assert!(error.to_string().contains("no document"), "{error}");
}

#[test]
fn a_shorter_stream_leaves_no_shard_of_the_longer_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), 3);
    write(dir.path(), D_VOCAB, 100, &[(Split::Train, doc(&[1], None, &[]))], &[]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(all(&TokenStream::open(dir.path()).unwrap()), [1, END]);
}

/// sha256 begins e3b0 for "", 0976 for "n 25" and 0b6b for "n 80" (`printf 'n 25' | sha256sum`).
#[test]
fn the_split_is_the_first_two_bytes_of_sha256() {
    assert_eq!(Split::of(""), Split::Train);
    assert_eq!(Split::of("n 25"), Split::HeldOutA);
    assert_eq!(Split::of("n 80"), Split::HeldOutB);
    let splits: Vec<Split> = (0..20_000).map(|i| Split::of(&format!("document {i}"))).collect();
    // 13/256 of 20,000 is 1,016 with a standard deviation of 31; each half 508 with 22.
    let n = |s| splits.iter().filter(|&&x| x == s).count();
    assert!((400..=620).contains(&n(Split::HeldOutA)) && (400..=620).contains(&n(Split::HeldOutB)), "{} {}", n(Split::HeldOutA), n(Split::HeldOutB));
}

#[test]
fn one_flipped_bit_or_a_cut_shard_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), 1000);
    let path = dir.path().join("tokens-00000.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for at in [0, 9, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = TokenStream::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("tokens-00000.safetensors") && error.contains("rerun"), "{error}");
    }
    std::fs::write(&path, &whole[..whole.len() - 2]).unwrap();
    assert!(TokenStream::open(dir.path()).is_err());
    std::fs::remove_file(&path).unwrap();
    let error = TokenStream::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("tokens-00000.safetensors"), "{error}");
}

#[test]
fn a_manifest_that_does_not_fit_its_shards_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = sample(dir.path(), 1000).manifest().clone();
    for (name, value) in [("tokens", 21), ("documents", 5), ("train_tokens", 12), ("held_out_b_tokens", u64::MAX), ("end_of_text", 11)] {
        let mut bad = good.clone();
        bad.counts.insert(name.into(), value);
        bad.write(dir.path()).unwrap();
        assert!(TokenStream::open(dir.path()).is_err(), "{name} = {value} was believed");
    }
    for (key, value) in [("kinds", serde_json::json!(["a"])), ("concepts", serde_json::json!(["x"])), ("kinds", serde_json::json!(3))] {
        let mut bad = good.clone();
        bad.details[key] = value;
        bad.write(dir.path()).unwrap();
        assert!(TokenStream::open(dir.path()).is_err(), "{key} was believed");
    }
    let mut bad = good.clone();
    bad.counts.extend([("d_vocab".to_string(), 10), ("end_of_text".to_string(), 9)]);
    bad.write(dir.path()).unwrap();
    let error = TokenStream::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("token 10, outside the vocabulary of 10"), "{error}");
    let mut bad = good.clone();
    bad.counts.remove("tokens");
    bad.write(dir.path()).unwrap();
    assert!(TokenStream::open(dir.path()).err().unwrap().to_string().contains("tokens"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn documents_come_back_at_any_shard_size(
        docs in proptest::collection::vec((0usize..3, proptest::collection::vec(0u32..10, 0..9), 0u16..3), 1..12),
        shard_tokens in 1usize..30,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let docs: Vec<_> = docs.into_iter().map(|(split, ids, kind)| {
            let labels: Vec<(u32, u16)> = ids.iter().enumerate().filter(|(_, id)| **id < 3).map(|(i, &id)| (i as u32, id as u16)).collect();
            (Split::ALL[split], doc(&ids, Some(&format!("k{kind}")), &labels))
        }).collect();
        write(dir.path(), D_VOCAB, shard_tokens, &docs, &["p", "q", "r"].map(String::from));
        let stream = TokenStream::open(dir.path()).unwrap();
        let ordered: Vec<_> = Split::ALL.iter().flat_map(|s| docs.iter().filter(move |d| d.0 == *s)).collect();
        prop_assert_eq!(stream.n_docs(), ordered.len());
        for (i, (split, document)) in ordered.into_iter().enumerate() {
            let range = stream.doc_start(i)..stream.doc_end(i);
            let mut ids = vec![0; (range.end - range.start) as usize];
            stream.read(range.start, &mut ids);
            prop_assert_eq!(ids.pop(), Some(END));
            prop_assert_eq!(&ids, &document.ids);
            prop_assert!(stream.docs(*split).contains(&i));
            let kind = stream.doc_kind(i).map(|k| stream.kinds()[k as usize].clone());
            prop_assert_eq!(&kind, &document.kind);
            let labels = stream.concepts().unwrap();
            let found: Vec<(u32, u16)> = labels.within(range.clone()).map(|j| ((labels.token[j] - range.start) as u32, labels.concept[j])).collect();
            prop_assert_eq!(&found, &document.labels);
        }
    }
}
