//! Text with an edit beside the text without it. Both sides draw step n with the same uniform number, so whatever differs is the edit's
//! doing; with an edit that changes nothing they are equal token for token.

use super::write::{Change, Continuation, Rig, Writer, Writing};
use super::{Result, Steering};
use serde::Serialize;
use std::ops::ControlFlow;

/// Which of the two texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Unedited,
    Edited,
}

/// Both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steered {
    pub unedited: Continuation,
    pub edited: Continuation,
    /// Index of the first generated token that differs (also where one side stopped earlier).
    pub first_difference: Option<usize>,
}

/// Goes on from `prompt` (not empty) without and with the edits; each side stops at `<|endoftext|>` and at stop strings. `on_text` hears what is written, the two sides in
/// turn, and may stop both. It hears nothing that is taken back later: what could begin a stop string, or is a part of a character, waits for what follows. What it
/// hears of a side is in the end that side's whole text.
pub fn steer(
    rig: Rig,
    steering: &Steering,
    prompt: &[u32],
    writing: &Writing,
    on_text: &mut dyn FnMut(Side, &str) -> ControlFlow<()>,
) -> Result<Steered> {
    let mut unedited = Writer::new(rig, Change::default(), prompt)?;
    let mut edited = Writer::new(rig, steering.into(), prompt)?;
    let mut told = [Told::new(&writing.stop), Told::new(&writing.stop)];
    let mut stopped = false;
    'all: for step in 0..writing.n_tokens {
        for ((side, writer), told) in [(Side::Unedited, &mut unedited), (Side::Edited, &mut edited)].into_iter().zip(&mut told) {
            let Some(position) = writer.write(step, writing) else { continue };
            let text = told.add(rig.tokenizer.bytes(position.token));
            if !text.is_empty() && on_text(side, &text).is_break() {
                stopped = true;
                break 'all;
            }
        }
    }
    let (unedited, edited) = (unedited.finish(), edited.finish());
    for ((side, text), told) in [(Side::Unedited, &unedited), (Side::Edited, &edited)].into_iter().zip(&mut told).filter(|_| !stopped) {
        let rest = told.rest(&rig.tokenizer.decode_bytes(&text.tokens));
        if !rest.is_empty() && on_text(side, &rest).is_break() {
            break;
        }
    }
    let shorter = unedited.tokens.len().min(edited.tokens.len());
    let first_difference =
        (0..shorter).find(|&i| unedited.tokens[i] != edited.tokens[i]).or_else(|| (unedited.tokens.len() != edited.tokens.len()).then_some(shorter));
    Ok(Steered { unedited, edited, first_difference })
}

/// What of a text has been told while it is written.
struct Told<'a> {
    stop: &'a [String],
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`: a stop string takes whole tokens back.
    ends: Vec<usize>,
    /// Bytes that were told.
    n: usize,
}

impl<'a> Told<'a> {
    fn new(stop: &'a [String]) -> Self {
        Told { stop, bytes: Vec::new(), ends: Vec::new(), n: 0 }
    }

    /// Takes the next token and gives what can be told.
    fn add(&mut self, token: &[u8]) -> String {
        self.bytes.extend_from_slice(token);
        self.ends.push(self.bytes.len());
        // Where the longest end that begins a stop string begins.
        let begins = |from: usize| self.stop.iter().any(|s| s.as_bytes().starts_with(&self.bytes[from..]));
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let sure = (self.bytes.len().saturating_sub(longest)..self.bytes.len()).find(|&from| begins(from)).unwrap_or(self.bytes.len());
        let end = self.ends.iter().rev().copied().find(|&end| end <= sure).unwrap_or(0);
        self.tell(end)
    }

    /// What of the finished text was not told.
    fn rest(&mut self, whole: &[u8]) -> String {
        debug_assert!(whole.starts_with(&self.bytes[..self.n]), "what was told is the beginning of the text");
        String::from_utf8_lossy(&whole[self.n.min(whole.len())..]).into_owned()
    }

    /// Tells up to byte `end`, but for a character that is not whole there.
    fn tell(&mut self, end: usize) -> String {
        let Some(new) = self.bytes.get(self.n..end) else { return String::new() };
        let whole = new.utf8_chunks().last().map_or(0, |last| {
            // The rest of a character may still come, if what is there can begin one.
            let cut = last.invalid().len();
            if std::str::from_utf8(last.invalid()).is_err_and(|e| e.error_len().is_none()) { new.len() - cut } else { new.len() }
        });
        let text = String::from_utf8_lossy(&new[..whole]).into_owned();
        self.n += whole;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_that_is_taken_back_and_everything_that_stays() {
        let stop = ["whom".to_string(), "END".into()];
        let mut told = Told::new(&stop);
        let said: Vec<String> = [&b"A"[..], b" wh", b"at", b" w", b"ho", b"m"].iter().map(|t| told.add(t)).collect();
        // " wh" may begin a stop string and is taken back whole if it does.
        assert_eq!(said, ["A", "", " what", "", "", ""]);
        assert_eq!(told.rest(b"A what"), "", "the stop string took its tokens with it");
        let mut told = Told::new(&stop);
        assert_eq!((told.add(b"E"), told.rest(b"E")), (String::new(), "E".into()), "a text may end in what begins one");
    }

    #[test]
    fn a_character_in_two_tokens_is_told_once_it_is_whole() {
        let mut told = Told::new(&[]);
        let [first, second] = ["é".as_bytes()[0], "é".as_bytes()[1]];
        assert_eq!((told.add(&[b'a', first]), told.add(&[second, b'b'])), ("a".into(), "éb".to_string()));
        // A byte that begins nothing is told as what it is.
        assert_eq!(told.add(&[0xff]), "\u{fffd}");
        assert_eq!((told.add(&[first]), told.rest(&[b"a\xc3\xa9b\xff".to_vec(), vec![first]].concat())), (String::new(), "\u{fffd}".into()));
    }
}
