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
        let (bytes, ends) = joined(tokenizer, prompt.iter().chain(tokens));
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

    /// Which of `tokens`, a document or a part of one, an occurrence begins in: rising, each once. That is the first token of a word and not the one that completes it,
    /// and for a context the token that opens it, e.g. "(". A model that is to be asked whether it writes the concept of its own accord reads what comes before.
    pub fn begins(&self, tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<usize> {
        let (bytes, ends) = joined(tokenizer, tokens.iter());
        let mut places: Vec<usize> = match self {
            Concept::Tokens(wanted) => return (0..tokens.len()).filter(|&i| wanted.contains(&tokens[i])).collect(),
            Concept::Regex(regex) => regex.find_iter(&bytes).filter(|m| !m.is_empty()).map(|m| m.start()).collect(),
            Concept::Planted(planted, number) => planted.begins(*number, &one_char_a_byte(&bytes)),
        };
        // A space before a word is no part of it, whichever token holds it; a line break that opens a list is.
        places.iter_mut().for_each(|place| *place += bytes[*place..].iter().take_while(|&&b| b == b' ').count());
        let mut begins: Vec<usize> =
            places.into_iter().map(|place| ends.partition_point(|&end| end <= place)).filter(|&i| i < tokens.len()).collect();
        begins.dedup();
        begins
    }

    /// Matches among `tokens`.
    pub fn count(&self, tokenizer: &Tokenizer, prompt: &[u32], tokens: &[u32]) -> u64 {
        self.matches(tokenizer, prompt, tokens).into_iter().filter(|&m| m).count() as u64
    }
}

/// The bytes of `tokens`, and where each ends.
fn joined<'a>(tokenizer: &Tokenizer, tokens: impl Iterator<Item = &'a u32>) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for &token in tokens {
        bytes.extend_from_slice(tokenizer.bytes(token));
        ends.push(bytes.len());
    }
    (bytes, ends)
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
    fn an_occurrence_begins_with_the_first_token_of_a_word_or_with_what_opens_a_context() {
        let tokenizer = tokenizer();
        let tokens = tokenizer.encode("the others did what the king (did");
        let begins = |concept: &Concept| -> Vec<String> {
            let of = |at: usize| String::from_utf8_lossy(&tokenizer.decode_bytes(&tokens[at..])).trim_start().to_string();
            concept.begins(&tokenizer, &tokens).into_iter().map(of).collect()
        };
        // Two tokens and more, of which a match holds the last; in the second a space goes before the word.
        assert_eq!(begins(&Concept::Regex(Regex::new("others did| the").unwrap())), ["others did what the king (did", "the king (did"]);
        let planted = Arc::new(Planted::new(3));
        let number = |name: &str| planted.concepts().iter().position(|c| c.name == name).unwrap();
        assert_eq!(begins(&Concept::Planted(planted.clone(), number("form of do"))), ["did what the king (did", "did"]);
        assert_eq!(begins(&Concept::Planted(planted.clone(), number("aside"))), ["(did"]);
        assert_eq!(begins(&Concept::Tokens([*tokens.last().unwrap()].into())).len(), tokens.iter().filter(|t| *t == tokens.last().unwrap()).count());
        let list = tokenizer.encode("did what\n- the king\n- the queen");
        let at = Concept::Planted(planted.clone(), number("list")).begins(&tokenizer, &list);
        // The second item is of the same list.
        assert!(at.len() == 1 && tokenizer.decode_bytes(&list[at[0]..]) == b"\n- the king\n- the queen", "{at:?}");
        assert!(Concept::Planted(planted.clone(), number("gem")).begins(&tokenizer, &tokens).is_empty());
    }

    #[test]
    fn broken_bytes_keep_their_places() {
        assert_eq!(one_char_a_byte(b"a\xff\xc3\xa9b\xe2\x82"), "a?\u{e9}b??");
    }
}
