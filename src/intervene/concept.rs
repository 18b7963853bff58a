//! What a text is searched for to see whether an edit worked: which of its tokens match a concept.

use crate::corpus::Tokenizer;
use crate::corpus::planted::Planted;
use regex::bytes::Regex;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// A concept that can be recognised in any text.
#[derive(Clone)]
pub enum Concept {
    /// A token matches that holds the last byte of a match.
    Regex(Regex),
    /// One of these tokens.
    Tokens(BTreeSet<u32>),
    /// A concept of the planted corpus by its number: a token matches when more than half of its bytes other than spaces carry it.
    Planted(Arc<Planted>, usize),
}

impl Concept {
    /// Which of `tokens` match, as the continuation of `prompt`; a cue in the prompt counts, matches within it do not.
    pub fn matches(&self, tokenizer: &Tokenizer, prompt: &[u32], tokens: &[u32]) -> Vec<bool> {
        if let Concept::Tokens(wanted) = self {
            return tokens.iter().map(|t| wanted.contains(t)).collect();
        }
        let end_of_text = tokenizer.end_of_text();
        // A text is of the last document that the prompt holds.
        let prompt = &prompt[prompt.iter().rposition(|&t| t == end_of_text).map_or(0, |at| at + 1)..];
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for &token in prompt.iter().chain(tokens) {
            bytes.extend_from_slice(tokenizer.bytes(token));
            ends.push(bytes.len());
        }
        let marked = match self {
            Concept::Regex(regex) => regex.find_iter(&bytes).filter(|m| !m.is_empty()).map(|m| m.end() - 1..m.end()).collect(),
            Concept::Planted(planted, number) => planted.recognise(*number, &one_char_a_byte(&bytes)),
            Concept::Tokens(_) => unreachable!("answered above"),
        };
        let within = |range: &Range<usize>| match self {
            Concept::Regex(_) => marked.iter().any(|m| range.contains(&m.start)),
            _ => mostly(&bytes, range, &marked),
        };
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).skip(prompt.len()).map(|(start, &end)| within(&(start..end))).collect()
    }

    /// Matches among `tokens`.
    pub fn count(&self, tokenizer: &Tokenizer, prompt: &[u32], tokens: &[u32]) -> u64 {
        self.matches(tokenizer, prompt, tokens).into_iter().filter(|&m| m).count() as u64
    }
}

/// Whether more than half of the bytes of `token` that are no spaces lie in `marked`.
fn mostly(bytes: &[u8], token: &Range<usize>, marked: &[Range<usize>]) -> bool {
    let own = || token.clone().filter(|&i| !bytes[i].is_ascii_whitespace());
    2 * own().filter(|i| marked.iter().any(|m| m.contains(i))).count() > own().count()
}

/// The text of `bytes` with every byte that is no part of a character replaced by one `?`, so that places in it are those of the bytes.
fn one_char_a_byte(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(["the king and the queen do what the others did "].into_iter().cycle().take(20), 300).unwrap()
    }

    #[test]
    fn a_match_belongs_to_the_token_of_its_last_byte_and_not_to_the_prompt() {
        let tokenizer = tokenizer();
        let (prompt, text) = (tokenizer.encode("the king and"), tokenizer.encode(" the queen do what"));
        let regex = Concept::Regex(Regex::new("the (king|queen)").unwrap());
        let hits = regex.matches(&tokenizer, &prompt, &text);
        assert_eq!(hits.iter().filter(|&&h| h).count(), 1, "that of the prompt does not count");
        let at = hits.iter().position(|&h| h).unwrap();
        assert!(tokenizer.decode_bytes(&text[..=at]).ends_with(b"n"));
        let cued = Concept::Regex(Regex::new("king and the queen").unwrap());
        assert_eq!(cued.count(&tokenizer, &prompt, &text), 1, "a match that begins in the prompt does");
        assert_eq!(Concept::Tokens([text[1]].into()).count(&tokenizer, &prompt, &text), text.iter().filter(|&&t| t == text[1]).count() as u64);
    }

    #[test]
    fn what_precedes_the_last_end_of_text_is_no_cue() {
        let tokenizer = tokenizer();
        let end = tokenizer.end_of_text();
        let prompt = [tokenizer.encode("the king"), vec![end], tokenizer.encode("and")].concat();
        let cued = Concept::Regex(Regex::new("king.*queen").unwrap());
        assert_eq!(cued.count(&tokenizer, &prompt, &tokenizer.encode(" the queen")), 0);
    }

    #[test]
    fn planted_concepts_are_found_token_by_token() {
        let planted = Arc::new(Planted::new(3));
        let number = planted.concepts().iter().position(|c| c.name == "form of do").unwrap();
        let tokenizer = tokenizer();
        let text = tokenizer.encode("the others did what");
        let hits = Concept::Planted(planted, number).matches(&tokenizer, &[tokenizer.end_of_text()], &text);
        let found: Vec<u8> = text.iter().zip(&hits).filter(|(_, h)| **h).flat_map(|(&t, _)| tokenizer.bytes(t).to_vec()).collect();
        assert_eq!(String::from_utf8(found).unwrap().trim(), "did");
    }

    #[test]
    fn broken_bytes_keep_their_places() {
        assert_eq!(one_char_a_byte(b"a\xff\xc3\xa9b\xe2\x82"), "a?\u{e9}b??");
    }
}
