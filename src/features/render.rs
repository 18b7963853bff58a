//! An example as text for the screen: bytes of all tokens are joined before they are decoded, so a character that is split between tokens
//! comes out whole and is coloured when any of its bytes belongs to a firing token.

use super::store::Example;

/// How a piece of text is shown. Later ones win where a character belongs to several tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Style {
    /// Outside the model's window: it was not seen.
    Outside,
    Plain,
    /// The feature fires here too.
    Fires,
    /// The firing that the example is about.
    Focus,
}

/// Pieces of one style, in order. Bytes that are not UTF-8 are written like `\xe2`, control characters as visible signs (nothing in a text can
/// steer a terminal).
pub fn pieces(example: &Example) -> Vec<(Style, String)> {
    let tokens = example.tokens.iter().enumerate().map(|(i, token)| {
        let style = match i {
            _ if i == example.focus => Style::Focus,
            _ if example.acts[i] > 0.0 => Style::Fires,
            _ if (example.window.0..example.window.1).contains(&i) => Style::Plain,
            _ => Style::Outside,
        };
        (style, token.bytes.as_slice())
    });
    styled(tokens)
}

fn styled<'a>(tokens: impl Iterator<Item = (Style, &'a [u8])>) -> Vec<(Style, String)> {
    let (mut bytes, mut styles) = (Vec::new(), Vec::new());
    for (style, token) in tokens {
        bytes.extend_from_slice(token);
        styles.resize(bytes.len(), style);
    }
    let mut out: Vec<(Style, String)> = Vec::new();
    let mut at = 0;
    for (n_bytes, shown) in signs(&bytes) {
        let style = *styles[at..at + n_bytes].iter().max().expect("a character has a byte");
        at += n_bytes;
        match out.last_mut() {
            Some(last) if last.0 == style => last.1 += &shown,
            _ => out.push((style, shown)),
        }
    }
    out
}

/// The text of each token of a run: a character split between tokens stands in the one that holds its last byte.
pub fn per_token(tokens: &[&[u8]]) -> Vec<String> {
    let owners: Vec<usize> = tokens.iter().enumerate().flat_map(|(i, bytes)| std::iter::repeat_n(i, bytes.len())).collect();
    let (mut out, mut end) = (vec![String::new(); tokens.len()], 0);
    for (n_bytes, shown) in signs(&tokens.concat()) {
        end += n_bytes;
        out[owners[end - 1]] += &shown;
    }
    out
}

/// Bytes of one or more tokens as text for the screen, in the same signs as [`pieces`].
pub fn plain(bytes: &[u8]) -> String {
    signs(bytes).map(|(_, shown)| shown).collect()
}

/// Each character, or byte that belongs to none: how many bytes it is, and what is shown for it.
fn signs(bytes: &[u8]) -> impl Iterator<Item = (usize, String)> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let characters = chunk.valid().chars().map(|c| (c.len_utf8(), visible(c).to_string()));
        characters.chain(chunk.invalid().iter().map(|b| (1, format!("\\x{b:02x}"))))
    })
}

/// Line ends and tabs as arrows, other control characters as their pictures.
fn visible(c: char) -> char {
    match c {
        '\n' => '\u{21b5}',
        '\t' => '\u{2192}',
        '\u{7f}' => '\u{2421}',
        c if (c as u32) < 0x20 => char::from_u32(0x2400 + c as u32).expect("a picture for every control character"),
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_split_between_tokens_is_whole_and_in_colour() {
        // U+20AC is E2 82 AC; only its last byte belongs to the firing token.
        let tokens: [(Style, &[u8]); 3] = [(Style::Plain, b"a \xE2\x82"), (Style::Focus, b"\xAC"), (Style::Plain, b" b\n")];
        let want = [(Style::Plain, "a ".to_string()), (Style::Focus, "\u{20ac}".into()), (Style::Plain, " b\u{21b5}".into())];
        assert_eq!(styled(tokens.into_iter()), want);
    }

    #[test]
    fn a_part_of_a_character_is_shown_as_its_bytes_and_a_control_character_as_a_sign() {
        assert_eq!(plain(b"\xe2\x82"), "\\xe2\\x82");
        assert_eq!(plain(b"a\x0f\tb\n"), "a\u{240f}\u{2192}b\u{21b5}");
    }

    proptest! {
        #[test]
        fn any_bytes_cut_into_any_tokens_read_as_the_whole_does(tokens in prop::collection::vec((0..4usize, prop::collection::vec(any::<u8>(), 0..6)), 0..20)) {
            let styles = [Style::Outside, Style::Plain, Style::Fires, Style::Focus];
            let joined: Vec<u8> = tokens.iter().flat_map(|t| t.1.clone()).collect();
            let want = plain(&joined);
            let got: String = styled(tokens.iter().map(|t| (styles[t.0], t.1.as_slice()))).into_iter().map(|p| p.1).collect();
            let slices: Vec<&[u8]> = tokens.iter().map(|t| t.1.as_slice()).collect();
            prop_assert_eq!(per_token(&slices).concat(), want.clone());
            prop_assert!(!got.chars().any(|c| c.is_control()));
            prop_assert_eq!(got, want);
        }
    }
}
