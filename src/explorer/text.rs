//! Token bytes -> what a browser may show. Reads the bytes of a run of tokens; knows no dictionary and no HTML (templates escape).
//!
//! The bytes of the whole run are decoded together, so a character that is split over tokens is shown once, in the token that holds its
//! last byte; a token that only holds part of a character keeps its own box. Everything invisible gets a mark.

/// A part of a token's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Characters as they are.
    Text(String),
    /// A glyph that stands for something invisible: a line break, a control character, a byte that is not UTF-8.
    Mark(String),
    /// The token holds only the beginning or middle of a character that a later token completes.
    Half,
}

/// The pieces of each token of a run.
pub fn pieces(tokens: &[&[u8]]) -> Vec<Vec<Piece>> {
    let owner: Vec<usize> = tokens.iter().enumerate().flat_map(|(i, bytes)| std::iter::repeat_n(i, bytes.len())).collect();
    let joined = tokens.concat();
    let mut shown: Vec<Vec<Piece>> = vec![Vec::new(); tokens.len()];
    let mut at = 0;
    for chunk in joined.utf8_chunks() {
        for c in chunk.valid().chars() {
            at += c.len_utf8();
            push(&mut shown[owner[at - 1]], c);
        }
        for byte in chunk.invalid() {
            shown[owner[at]].push(Piece::Mark(format!("\\x{byte:02x}")));
            at += 1;
        }
    }
    for (pieces, bytes) in shown.iter_mut().zip(tokens) {
        if pieces.is_empty() && !bytes.is_empty() {
            pieces.push(Piece::Half);
        }
        show_bare_spaces(pieces);
    }
    shown
}

/// The text of one token alone, for lists and tooltips: marks inline, no boxes.
pub fn plain(bytes: &[u8]) -> String {
    let parts = pieces(&[bytes]);
    parts[0].iter().map(|piece| if let Piece::Text(text) | Piece::Mark(text) = piece { text.as_str() } else { "" }).collect()
}

/// Bytes of running text: line breaks stay, other invisible characters get their marks, what is not UTF-8 its bytes.
pub fn flowing(bytes: &[u8]) -> String {
    let mut lines = bytes.split(|&b| b == b'\n').map(plain_with_spaces);
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |text, line| text + "\n" + &line)
}

fn plain_with_spaces(bytes: &[u8]) -> String {
    if bytes.iter().all(|&b| b == b' ') { String::from_utf8_lossy(bytes).into_owned() } else { plain(bytes) }
}

/// Bytes as hexadecimal pairs.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

/// Whether more letters of a run are written right to left than left to right.
pub fn is_right_to_left(tokens: &[&[u8]]) -> bool {
    let joined = tokens.concat();
    let text = String::from_utf8_lossy(&joined);
    let rtl = text.chars().filter(|c| matches!(*c as u32, 0x590..=0x8ff | 0xfb1d..=0xfdff | 0xfe70..=0xfefc)).count();
    let ltr = text.chars().filter(|c| c.is_alphabetic()).count().saturating_sub(rtl);
    rtl > ltr
}

fn push(pieces: &mut Vec<Piece>, c: char) {
    match mark(c) {
        Some(glyph) => pieces.push(Piece::Mark(glyph)),
        None => match pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(c),
            _ => pieces.push(Piece::Text(c.into())),
        },
    }
}

/// The glyph of a character that cannot be seen, or that would rearrange the page (directional controls).
fn mark(c: char) -> Option<String> {
    Some(match c {
        '\n' => "↵".into(),
        '\t' => "⇥".into(),
        '\u{a0}' | '\u{202f}' => "⍽".into(),
        // Spaces of other widths; U+3000 is as wide as a Chinese character.
        '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{205f}' | '\u{3000}' => format!("⟨{:04x}⟩", c as u32),
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => {
            format!("⟨{:02x}⟩", c as u32)
        }
        _ => return None,
    })
}

/// A token of spaces alone shows a dot for each: otherwise its shade is all one sees.
fn show_bare_spaces(pieces: &mut [Piece]) {
    if let [Piece::Text(text)] = pieces
        && text.chars().all(|c| c == ' ')
    {
        pieces[0] = Piece::Mark("·".repeat(text.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(s: &str) -> Piece {
        Piece::Text(s.into())
    }
    fn glyph(s: &str) -> Piece {
        Piece::Mark(s.into())
    }

    #[test]
    fn a_character_split_over_tokens_is_shown_once_by_the_token_that_completes_it() {
        let owl = "🦉".as_bytes();
        let shown = pieces(&[b"an ", &owl[..1], &owl[1..3], &owl[3..], b" hoots"]);
        assert_eq!(shown, [vec![text("an ")], vec![Piece::Half], vec![Piece::Half], vec![text("🦉")], vec![text(" hoots")]]);
    }

    #[test]
    fn hebrew_letters_cut_in_the_middle_come_back_whole_and_in_order() {
        let word = "שלום".as_bytes();
        let shown = pieces(&[&word[..3], &word[3..5], &word[5..]]);
        assert_eq!(shown, [vec![text("ש")], vec![text("ל")], vec![text("ום")]]);
        assert!(is_right_to_left(&[word]) && !is_right_to_left(&[b"peace"]));
    }

    #[test]
    fn what_cannot_be_seen_gets_a_glyph_and_what_is_not_text_its_bytes() {
        let shown = pieces(&[b"a\n\t\x00", b"  ", b" b", b"\xff\xd7", "x\u{202e}y".as_bytes(), "\u{3000}\u{2003}".as_bytes()]);
        assert_eq!(
            shown,
            [
                vec![text("a"), glyph("↵"), glyph("⇥"), glyph("⟨00⟩")],
                vec![glyph("··")],
                vec![text(" b")],
                vec![glyph("\\xff"), glyph("\\xd7")],
                vec![text("x"), glyph("⟨202e⟩"), text("y")],
                vec![glyph("⟨3000⟩"), glyph("⟨2003⟩")],
            ]
        );
    }

    proptest! {
        #[test]
        fn every_cut_of_every_text_shows_the_same_characters(s in "\\PC{0,12}", cuts in prop::collection::vec(0usize..48, 0..6)) {
            let bytes = s.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort();
            let tokens: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let shown: String = pieces(&tokens).concat().iter().map(|p| match p { Piece::Text(t) => t.replace(' ', "·"), Piece::Mark(t) => t.clone(), Piece::Half => String::new() }).collect();
            let whole: String = pieces(&[bytes]).concat().iter().map(|p| match p { Piece::Text(t) => t.replace(' ', "·"), Piece::Mark(t) => t.clone(), Piece::Half => String::new() }).collect();
            prop_assert_eq!(shown, whole);
        }

        #[test]
        fn no_bytes_are_lost_or_make_it_panic(tokens in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..8)) {
            let slices: Vec<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
            let shown = pieces(&slices);
            for (pieces, bytes) in shown.iter().zip(&slices) {
                prop_assert_eq!(pieces.is_empty(), bytes.is_empty());
            }
        }
    }
}
