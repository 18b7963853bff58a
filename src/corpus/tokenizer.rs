//! Byte-level BPE: trained here or loaded from any `tokenizer.json`. Tokens are bytes until the screen.

use super::END_OF_TEXT;
use crate::artifact::{self, Result, write_atomic};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner};

/// The special tokens that close a text in known families, in the order they are looked for.
const END_TOKENS: [&str; 7] = [END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]", "<|end|>"];
/// More text than a tokenizer must be able to read: control bytes, accents, CJK, an emoji.
const PROBE: &str = "a\u{0}\té 你 \u{1F642}\r\n";

/// A tokenizer and the exact bytes of each of its tokens.
pub struct Tokenizer {
    inner: Inner,
    bytes: Vec<Box<[u8]>>,
    end_of_text: u32,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or a GPT-2 pair: `encoder.json` beside `vocab.bpe`, or `vocab.json` beside `merges.txt`.
    /// `path` is the file (the JSON of a pair) or the folder that holds them.
    ///
    /// # Errors
    /// Names the file when it is missing, is no tokenizer, or has no token that ends a text.
    pub fn load(path: &Path) -> Result<Self> {
        let refused = |what: String| artifact::Error::Refused {
            path: path.into(),
            what,
            next: "give a tokenizer.json, encoder.json with vocab.bpe, vocab.json with merges.txt, or a folder with one of these".into(),
        };
        let names = ["tokenizer.json", "encoder.json", "vocab.json"];
        let file = if path.is_dir() {
            names.iter().map(|n| path.join(n)).find(|p| p.is_file()).ok_or_else(|| refused(format!("it holds none of {names:?}")))?
        } else {
            path.to_path_buf()
        };
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let merges = match name.as_str() {
            "encoder.json" => Some(file.with_file_name("vocab.bpe")),
            "vocab.json" => Some(file.with_file_name("merges.txt")),
            _ => None,
        };
        let inner = match merges {
            Some(merges) => {
                for part in [&file, &merges] {
                    std::fs::File::open(part).map_err(|e| artifact::Error::io("read", part, e))?;
                }
                let built = std::panic::catch_unwind(|| {
                    let bpe = BPE::from_file(&file.to_string_lossy(), &merges.to_string_lossy()).build();
                    let mut inner = byte_level(bpe.map_err(|e| e.to_string())?);
                    if inner.token_to_id(END_OF_TEXT).is_some() {
                        inner.add_special_tokens([AddedToken::from(END_OF_TEXT, true)]).map_err(|e| e.to_string())?;
                    }
                    Ok(inner)
                });
                // The library adds to ids without looking how large they are.
                built.unwrap_or_else(|_| Err("its parts contradict each other".into())).map_err(refused)?
            }
            None => {
                let text = std::fs::read(&file).map_err(|e| artifact::Error::io("read", &file, e))?;
                // The library unwraps some of what it parses.
                let parsed = std::panic::catch_unwind(|| Inner::from_bytes(text).map_err(|e| e.to_string()));
                let parsed = parsed.unwrap_or_else(|_| Err("its parts contradict each other".into()));
                parsed.map_err(|e| refused(format!("it is not a tokenizer: {e}")))?
            }
        };
        Self::new(inner).map_err(refused)
    }

    /// Checks `inner` and takes the bytes of its tokens.
    fn new(mut inner: Inner) -> std::result::Result<Self, String> {
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        inner.with_padding(None);
        let end_of_text = END_TOKENS.iter().find_map(|t| inner.token_to_id(t));
        let end_of_text = end_of_text.ok_or_else(|| format!("it has no token that ends a text (looked for {END_TOKENS:?})"))?;
        inner.encode_fast(PROBE, false).map_err(|e| format!("it cannot encode every text: {e}"))?;
        let bytes = token_bytes(&inner)?;
        Ok(Tokenizer { inner, bytes, end_of_text })
    }

    /// Writes a `tokenizer.json` that the `tokenizers` library of Hugging Face reads.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = self.inner.to_string(true).map_err(|e| artifact::Error::io("write", path, std::io::Error::other(e.to_string())))?;
        write_atomic(path, |out| out.write_all(text.as_bytes()))
    }

    /// Trains byte-level BPE with the GPT-2 split pattern. `d_vocab` counts `<|endoftext|>` (id 0) and the 256 bytes (ids 1..=256);
    /// a text too small for that many merges gives a smaller vocabulary. Pairs of equal count merge in the order of their ids.
    ///
    /// Source: Sennrich et al. 2016; Radford et al. 2019, section 2.2.
    ///
    /// # Errors
    /// When `d_vocab` is below 257.
    pub fn train<'a>(texts: impl Iterator<Item = &'a str> + Send, d_vocab: usize) -> super::Result<Self> {
        if d_vocab < 257 {
            return Err(super::Error::Vocabulary { d_vocab });
        }
        let trainer = BpeTrainer::builder()
            .vocab_size(d_vocab)
            .show_progress(false)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut inner = byte_level(BPE::default());
        let trained = inner.train(&mut TrainerWrapper::from(trainer), texts).map_err(|e| e.to_string()).map(|_| ());
        trained.and_then(|()| Self::new(inner)).map_err(|what| super::Error::Training { what })
    }

    /// A tokenizer whose vocabulary is `<|endoftext|>` (id 0) and `tokens` (ids from 1), then the single bytes that are not among them. It
    /// has no merges: it says what tokens are, and reads a text byte by byte.
    ///
    /// # Errors
    /// A token is empty, or there twice.
    pub fn of_tokens(tokens: &[Vec<u8>]) -> std::result::Result<Self, String> {
        let letters: HashMap<u8, char> = inverse_alphabet().into_iter().map(|(c, b)| (b, c)).collect();
        let mut vocabulary = serde_json::Map::from_iter([(END_OF_TEXT.to_string(), 0.into())]);
        let known: HashSet<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
        let bytes = (0..=255u8).map(|b| vec![b]).filter(|b| !known.contains(b.as_slice()));
        for (i, token) in tokens.iter().cloned().chain(bytes).enumerate() {
            let spelled: String = token.iter().map(|b| letters[b]).collect();
            if token.is_empty() || vocabulary.insert(spelled, (i + 1).into()).is_some() {
                return Err(format!("token {:?} is empty or there twice", String::from_utf8_lossy(&token)));
            }
        }
        let mut shape = serde_json::to_value(byte_level(BPE::default())).map_err(|e| e.to_string())?;
        shape["model"]["vocab"] = vocabulary.into();
        let mut inner = Inner::from_bytes(shape.to_string()).map_err(|e| e.to_string())?;
        inner.add_special_tokens([AddedToken::from(END_OF_TEXT, true)]).map_err(|e| e.to_string())?;
        Self::new(inner)
    }

    /// One more than the largest token id.
    pub fn d_vocab(&self) -> usize {
        self.bytes.len()
    }

    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// Token ids of `text`, without special tokens added.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.inner.encode_fast(text, false).expect("the tokenizer encoded the probe").get_ids().to_vec()
    }

    /// Token ids and the byte range of `text` that each covers. Ranges are exact to the byte, also inside a character,
    /// wherever the tokens' bytes joined give the text; a tokenizer that normalises gives ranges of whole characters.
    pub fn encode_with_offsets(&self, text: &str) -> Vec<(u32, Range<usize>)> {
        let ids = self.encode(text);
        let n_bytes: usize = ids.iter().map(|&id| self.bytes(id).len()).sum();
        if n_bytes == text.len() {
            let mut end = 0;
            let exact = |id: u32| {
                let start = end;
                end += self.bytes(id).len();
                (self.bytes(id) == &text.as_bytes()[start..end]).then_some((id, start..end))
            };
            if let Some(pairs) = ids.into_iter().map(exact).collect() {
                return pairs;
            }
        }
        let encoding = self.inner.encode(text, false).expect("the tokenizer encoded the probe");
        encoding.get_ids().iter().zip(encoding.get_offsets()).map(|(&id, &(start, end))| (id, start..end)).collect()
    }

    /// The bytes of one token (may be part of a UTF-8 character). Ids that no token has are empty.
    pub fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], |bytes| bytes)
    }

    /// The bytes of a run of tokens, joined.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        tokens.iter().flat_map(|&t| self.bytes(t).iter().copied()).collect()
    }
}

/// A GPT-2 tokenizer around `bpe`: no prefix space, the GPT-2 split pattern, offsets untrimmed.
fn byte_level(bpe: BPE) -> Inner {
    let mut inner = Inner::new(bpe);
    let level = ByteLevel::new(false, false, true);
    inner.with_pre_tokenizer(Some(level)).with_decoder(Some(level)).with_post_processor(Some(level));
    inner
}

/// The bytes of each token id: added tokens as they are spelled, byte-level tokens through the inverse alphabet, `<0x0A>` of a
/// byte-fallback vocabulary as that byte, and the word-start mark of SentencePiece as a space.
fn token_bytes(inner: &Inner) -> std::result::Result<Vec<Box<[u8]>>, String> {
    let vocabulary = inner.get_vocab(true);
    let d_vocab = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
    // Before anything else: the library writes a vocabulary by counting up to its largest id.
    if d_vocab > 1 << 22 {
        return Err(format!("its largest token id is {}, above the 4,194,303 that are read", d_vocab - 1));
    }
    let shape = serde_json::to_value(inner).map_err(|e| e.to_string())?;
    let is_byte_level = [&shape["pre_tokenizer"], &shape["decoder"]].iter().any(|part| part.to_string().contains("\"ByteLevel\""));
    let falls_back = shape["model"]["byte_fallback"].as_bool().unwrap_or(false);
    let alphabet = inverse_alphabet();
    let added = inner.get_added_tokens_decoder();
    let mut bytes = vec![Box::<[u8]>::default(); d_vocab];
    for (token, id) in vocabulary {
        let spelled = if added.contains_key(&id) {
            token.into_bytes()
        } else if is_byte_level {
            token.chars().map(|c| alphabet.get(&c).copied()).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.into_bytes())
        } else if let Some(byte) = fallback_byte(&token).filter(|_| falls_back) {
            vec![byte]
        } else {
            token.replace('\u{2581}', " ").into_bytes()
        };
        bytes[id as usize] = spelled.into();
    }
    Ok(bytes)
}

/// `<0x0A>` -> 10.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The byte-level alphabet of GPT-2, character -> byte: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up in order.
fn inverse_alphabet() -> HashMap<char, u8> {
    let is_printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    (0..=255u8)
        .map(|b| {
            if is_printable(b) {
                return (char::from(b), b);
            }
            next += 1;
            (char::from_u32(next - 1).expect("below the surrogates"), b)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vocabulary_with_the_largest_of_all_ids_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("vocab.json"), r#"{"<|endoftext|>": 0, "a": 1, "b": 4294967295}"#).unwrap();
        std::fs::write(dir.path().join("merges.txt"), "#version: 0.2\n").unwrap();
        let refused = Tokenizer::load(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("4294967295"), "{refused}");
    }

    #[test]
    fn a_tokenizer_of_given_tokens_has_their_bytes_and_reads_every_text() {
        let tokens = [" the", "\u{e9}t\u{e9}", "\n", "a"].map(|t| t.as_bytes().to_vec());
        let tokens: Vec<Vec<u8>> = tokens.into_iter().chain([vec![0xE2, 0x82]]).collect();
        let tokenizer = Tokenizer::of_tokens(&tokens).unwrap();
        let dir = tempfile::tempdir().unwrap();
        tokenizer.save(&dir.path().join("tokenizer.json")).unwrap();
        let again = Tokenizer::load(&dir.path().join("tokenizer.json")).unwrap();
        for (i, token) in tokens.iter().enumerate() {
            assert_eq!((tokenizer.bytes(i as u32 + 1), again.bytes(i as u32 + 1)), (token.as_slice(), token.as_slice()));
        }
        // 5 tokens, <|endoftext|>, and the 254 bytes that are not among them.
        assert_eq!((again.d_vocab(), again.end_of_text()), (260, 0));
        assert_eq!(again.decode_bytes(&again.encode("the \u{20ac}")), "the \u{20ac}".as_bytes());
        assert!(Tokenizer::of_tokens(&[vec![]]).is_err() && Tokenizer::of_tokens(&[b"a".to_vec(), b"a".to_vec()]).is_err());
    }
    use proptest::prelude::*;

    const TEXT: &str = "the cat sat on the mat, and the cat's hat sat on that. naïve café 你好 🙂 1920s\n\n  do does did";

    fn small() -> Tokenizer {
        Tokenizer::train([TEXT, "the thing that they thought"].into_iter(), 300).unwrap()
    }

    /// A file of the shared data folder, or a message that it is absent.
    fn data(path: &str) -> Option<std::path::PathBuf> {
        let path = Path::new("../shared/data/models").join(path);
        if !path.exists() {
            eprintln!("skipped: {} is absent", path.display());
            return None;
        }
        Some(path)
    }

    fn golden(folder: &str) {
        let Some(dir) = data(folder) else { return };
        let tokenizer = Tokenizer::load(&dir).unwrap();
        let text = std::fs::read_to_string(dir.join("golden.jsonl")).unwrap();
        let mut n_checked = 0;
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = record["text"].as_str().unwrap();
            let expected: Vec<u32> = serde_json::from_value(record["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(text), expected, "{text:?}");
            let joined = tokenizer.decode_bytes(&expected);
            // One string of the GPT-NeoX file does not come back: its tokenizer composes characters (NFC).
            if joined != text.as_bytes() {
                assert!(folder.contains("neox"), "{text:?}");
            }
            let ranges = tokenizer.encode_with_offsets(text);
            assert!(ranges.iter().all(|(_, r)| r.end <= text.len() && r.start <= r.end));
            n_checked += 1;
        }
        assert_eq!(n_checked, 209);
    }

    #[test]
    fn an_id_above_the_vocabulary_has_no_bytes() {
        let tokenizer = small();
        let above = tokenizer.d_vocab() as u32;
        assert_eq!(tokenizer.bytes(above), b"");
        assert_eq!(tokenizer.decode_bytes(&[above, tokenizer.encode("a")[0], u32::MAX]), b"a");
    }

    #[test]
    fn gpt2_encodes_the_golden_strings() {
        golden("tokenizer-gpt2");
    }

    #[test]
    fn gpt_neox_encodes_the_golden_strings() {
        golden("tokenizer-gpt-neox-20b");
    }

    #[test]
    fn a_vocab_json_with_merges_is_read_and_ends_texts_with_its_own_token() {
        let Some(dir) = data("tiny-gpt2-random") else { return };
        let tokenizer = Tokenizer::load(&dir).unwrap();
        assert_eq!((tokenizer.d_vocab(), tokenizer.end_of_text()), (21, 20));
        assert_eq!(tokenizer.bytes(14), b" low");
    }

    #[test]
    fn a_trained_vocabulary_has_the_end_first_then_all_bytes() {
        let tokenizer = small();
        assert_eq!(tokenizer.end_of_text(), 0);
        assert_eq!(tokenizer.bytes(0), END_OF_TEXT.as_bytes());
        let mut singles: Vec<u8> = (1..=256).flat_map(|id| tokenizer.bytes(id).to_vec()).collect();
        singles.sort_unstable();
        assert_eq!(singles, (0..=255).collect::<Vec<u8>>());
        assert_eq!(tokenizer.d_vocab(), 300);
    }

    #[test]
    fn a_vocabulary_too_small_for_the_bytes_is_refused() {
        let error = Tokenizer::train([TEXT].into_iter(), 256).err().unwrap().to_string();
        assert!(error.contains("256") && error.contains("257"), "{error}");
    }

    #[test]
    fn a_saved_tokenizer_encodes_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let before = small();
        before.save(&path).unwrap();
        let after = Tokenizer::load(&path).unwrap();
        assert_eq!(before.encode(TEXT), after.encode(TEXT));
        assert_eq!(before.bytes, after.bytes);
    }

    #[test]
    fn tokenizers_that_are_none_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        for bad in ["", "{", "[]", "{\"model\": 3}", "\u{0}\u{0}"] {
            std::fs::write(&path, bad).unwrap();
            let error = Tokenizer::load(&path).err().unwrap().to_string();
            assert!(error.contains("tokenizer.json"), "{error}");
        }
        assert!(Tokenizer::load(&dir.path().join("absent.json")).err().unwrap().to_string().contains("absent.json"));
    }

    #[test]
    fn training_gives_the_same_vocabulary_at_any_thread_count() {
        let train = |n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| small().inner.to_string(false).unwrap())
        };
        assert_eq!(train(1), train(3));
    }

    /// The merges of `tokenizer` in order, as pairs of byte strings.
    fn merges(tokenizer: &Tokenizer) -> Vec<(Vec<u8>, Vec<u8>)> {
        let shape = serde_json::to_value(&tokenizer.inner).unwrap();
        let alphabet = inverse_alphabet();
        let spell = |v: &serde_json::Value| v.as_str().unwrap().chars().map(|c| alphabet[&c]).collect();
        shape["model"]["merges"].as_array().unwrap().iter().map(|pair| (spell(&pair[0]), spell(&pair[1]))).collect()
    }

    /// A recount of every pair before each merge: the slow definition of BPE. Panics where a merge was not of the largest count.
    /// Returns, for each merge, whether another pair had the same count.
    fn check_greedy(text: &str, merges: &[(Vec<u8>, Vec<u8>)]) -> Vec<bool> {
        // The regex crate has no look-ahead; `\s+(?!\S)` leaves the last space of a run to the word after it, done here by hand.
        let split = regex::Regex::new(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+").unwrap();
        let mut words: HashMap<Vec<Vec<u8>>, u64> = HashMap::new();
        let mut at = 0;
        while let Some(found) = split.find_at(text, at) {
            let mut end = found.end();
            let last = found.as_str().chars().next_back().unwrap();
            if found.as_str().trim().is_empty() && end < text.len() && found.as_str().chars().count() > 1 {
                end -= last.len_utf8();
            }
            *words.entry(text.as_bytes()[at..end].iter().map(|&b| vec![b]).collect()).or_default() += 1;
            at = end;
        }
        let mut tied = Vec::new();
        for merge in merges {
            let mut counts: HashMap<(&[u8], &[u8]), u64> = HashMap::new();
            for (word, n) in &words {
                for pair in word.windows(2) {
                    *counts.entry((&pair[0], &pair[1])).or_default() += n;
                }
            }
            let best = *counts.values().max().unwrap();
            assert_eq!(counts.get(&(&merge.0[..], &merge.1[..])), Some(&best), "{:?}", String::from_utf8_lossy(&[&merge.0[..], &merge.1].concat()));
            tied.push(counts.values().filter(|&&n| n == best).count() > 1);
            let join = |word: Vec<Vec<u8>>| {
                let mut joined: Vec<Vec<u8>> = Vec::new();
                let mut i = 0;
                while i < word.len() {
                    if i + 1 < word.len() && word[i] == merge.0 && word[i + 1] == merge.1 {
                        joined.push([&word[i][..], &word[i + 1]].concat());
                        i += 2;
                    } else {
                        joined.push(word[i].clone());
                        i += 1;
                    }
                }
                joined
            };
            let mut next: HashMap<Vec<Vec<u8>>, u64> = HashMap::new();
            for (word, n) in words {
                *next.entry(join(word)).or_default() += n;
            }
            words = next;
        }
        tied
    }

    /// The reference breaks ties towards the lexicographically greatest pair of byte strings, the `tokenizers` crate towards the
    /// smallest pair of ids, which no option of it changes. So both must be greedy at every step, and equal until the first tie.
    #[test]
    fn training_agrees_with_the_reference_merges_up_to_ties() {
        let Some(dir) = data("bpe-training-reference") else { return };
        let text = std::fs::read_to_string(dir.join("corpus.en")).unwrap();
        let ours = merges(&Tokenizer::train([&text[..]].into_iter(), 500).unwrap());
        let alphabet = inverse_alphabet();
        let spell = |s: &str| s.chars().map(|c| alphabet[&c]).collect::<Vec<u8>>();
        let reference: Vec<_> = std::fs::read_to_string(dir.join("train-bpe-reference-merges.txt"))
            .unwrap()
            .lines()
            .map(|line| line.split_once(' ').map(|(a, b)| (spell(a), spell(b))).unwrap())
            .collect();
        assert_eq!((ours.len(), reference.len()), (243, 243));
        let ties = check_greedy(&text, &ours);
        check_greedy(&text, &reference);
        let first_tie = ties.iter().position(|&t| t).unwrap_or(243);
        assert!(first_tie > 20, "the first tie is merge {first_tie}");
        assert_eq!(ours[..first_tie], reference[..first_tie]);
        let common = ours.iter().filter(|m| reference.contains(m)).count();
        println!("first tie at merge {first_tie}; {common} of 243 merges in common");
        assert!(common >= 225, "{common} merges in common");
    }

    proptest! {
        #[test]
        fn every_text_comes_back_byte_for_byte(text in "\\PC{0,40}|[a-e \\n\\t']{0,40}|\\x00[é你🙂 ]{0,9}") {
            static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(small);
            let tokenizer = &*TOKENIZER;
            let pairs = tokenizer.encode_with_offsets(&text);
            let ids: Vec<u32> = pairs.iter().map(|p| p.0).collect();
            prop_assert_eq!(&tokenizer.encode(&text), &ids);
            prop_assert_eq!(tokenizer.decode_bytes(&ids), text.as_bytes());
            for (id, range) in pairs {
                prop_assert_eq!(tokenizer.bytes(id), &text.as_bytes()[range]);
            }
        }
    }
}
