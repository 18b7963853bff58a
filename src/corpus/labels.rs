//! Byte spans of concepts -> labels of tokens.

use super::ConceptSpan;
use std::ops::Range;

/// (token, concept) pairs, sorted: a token has a concept when more than half of its non-space bytes lie in the concept's spans.
/// A token of spaces alone has none.
///
/// `tokens` are the byte ranges of the document's tokens, rising.
pub(super) fn token_labels(text: &str, spans: &[ConceptSpan], tokens: &[Range<usize>]) -> Vec<(u32, u16)> {
    if spans.is_empty() {
        return vec![];
    }
    // solid[i] = non-space bytes before byte i, so that a count over a range is one subtraction.
    let mut solid = Vec::with_capacity(text.len() + 1);
    solid.push(0u32);
    for byte in text.bytes() {
        solid.push(solid[solid.len() - 1] + u32::from(!byte.is_ascii_whitespace()));
    }
    let n_solid = |range: Range<usize>| solid[range.end] - solid[range.start];
    let mut covered: Vec<(u32, u16, u32)> = Vec::new();
    for (concept, span) in merged(spans, text.len()) {
        let first = tokens.partition_point(|t| t.end <= span.start);
        for (i, token) in tokens.iter().enumerate().skip(first).take_while(|(_, t)| t.start < span.end) {
            covered.push((i as u32, concept, n_solid(token.start.max(span.start)..token.end.min(span.end))));
        }
    }
    covered.sort_unstable();
    let same = |a: &(u32, u16, u32), b: &(u32, u16, u32)| (a.0, a.1) == (b.0, b.1);
    covered
        .chunk_by(same)
        .filter(|part| 2 * part.iter().map(|p| p.2).sum::<u32>() > n_solid(tokens[part[0].0 as usize].clone()))
        .map(|part| (part[0].0, part[0].1))
        .collect()
}

/// The spans of each concept, overlapping and touching ones made one.
fn merged(spans: &[ConceptSpan], n_bytes: usize) -> Vec<(u16, Range<usize>)> {
    let mut sorted: Vec<_> = spans.iter().map(|s| (s.concept, s.start as usize..(s.end as usize).min(n_bytes))).collect();
    sorted.sort_unstable_by_key(|(concept, range)| (*concept, range.start, range.end));
    let mut out: Vec<(u16, Range<usize>)> = Vec::new();
    for (concept, range) in sorted {
        match out.last_mut() {
            Some((last, before)) if *last == concept && range.start <= before.end => before.end = before.end.max(range.end),
            _ => out.push((concept, range)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: u32, end: u32, concept: u16) -> ConceptSpan {
        ConceptSpan { start, end, concept }
    }

    #[test]
    fn more_than_half_of_the_solid_bytes_decide() {
        let text = "  abcd efgh";
        let tokens = [0..2, 2..6, 6..11];
        // "abcd": two of four bytes are not more than half, three are; the space of " efgh" does not count.
        assert_eq!(token_labels(text, &[span(2, 4, 1)], &tokens), []);
        assert_eq!(token_labels(text, &[span(2, 5, 1)], &tokens), [(1, 1)]);
        assert_eq!(token_labels(text, &[span(7, 10, 2)], &tokens), [(2, 2)]);
        assert_eq!(token_labels(text, &[span(6, 9, 2)], &tokens), []);
        // Tokens of spaces alone have no concept, even where a span covers them.
        assert_eq!(token_labels(text, &[span(0, 11, 3)], &tokens), [(1, 3), (2, 3)]);
    }

    #[test]
    fn bytes_covered_twice_count_once_and_pieces_add_up() {
        let tokens = std::slice::from_ref(&(0..4));
        assert_eq!(token_labels("abcd", &[span(0, 2, 1), span(0, 2, 1), span(1, 2, 1)], tokens), []);
        assert_eq!(token_labels("abcd", &[span(0, 2, 1), span(3, 4, 1)], tokens), [(0, 1)]);
    }

    proptest! {
        #[test]
        fn labels_equal_a_count_byte_by_byte(
            text in "[ab \n]{1,30}",
            cuts in proptest::collection::btree_set(1usize..29, 0..8),
            spans in proptest::collection::vec((0u32..30, 0u32..12, 0u16..3), 1..6),
        ) {
            let mut edges: Vec<usize> = cuts.into_iter().filter(|&c| c < text.len()).collect();
            edges.insert(0, 0);
            edges.push(text.len());
            let tokens: Vec<_> = edges.windows(2).map(|w| w[0]..w[1]).collect();
            let n = text.len() as u32;
            let spans: Vec<_> = spans.into_iter().map(|(s, len, c)| span(s.min(n), (s + len).min(n), c)).collect();
            let mut expected = vec![];
            for (i, token) in tokens.iter().enumerate() {
                let solid: Vec<usize> = token.clone().filter(|&b| !text.as_bytes()[b].is_ascii_whitespace()).collect();
                for concept in 0..3 {
                    let inside = |b: &usize| spans.iter().any(|s| s.concept == concept && (s.start..s.end).contains(&(*b as u32)));
                    if 2 * solid.iter().filter(|b| inside(b)).count() > solid.len() {
                        expected.push((i as u32, concept));
                    }
                }
            }
            prop_assert_eq!(token_labels(&text, &spans, &tokens), expected);
        }
    }
}
