//! A small classifier of texts, to say whether generated ones are of a kind: naive Bayes over tokens and pairs of tokens.
//!
//! > score(text) = mean over its tokens of ln p(token | token before, positive) - ln p(token | token before, negative)
//!
//! p is the pair's share, interpolated with the token's own share and a uniform one by their counts (Witten-Bell), so that no token is impossible.

use std::collections::HashMap;

/// Counts of one side.
#[derive(Debug, Clone, Default)]
struct Side {
    n: u64,
    token: HashMap<u32, u64>,
    pair: HashMap<(u32, u32), u64>,
    /// Per token: how often it is followed, and by how many others.
    before: HashMap<u32, (u64, u64)>,
}

impl Side {
    fn add(&mut self, text: &[u32]) {
        for (i, &token) in text.iter().enumerate() {
            self.n += 1;
            *self.token.entry(token).or_default() += 1;
            if i > 0 {
                let seen = self.pair.entry((text[i - 1], token)).or_default();
                *seen += 1;
                let first = u64::from(*seen == 1);
                let (n, kinds) = self.before.entry(text[i - 1]).or_default();
                *n += 1;
                *kinds += first;
            }
        }
    }

    fn p(&self, before: Option<u32>, token: u32, d_vocab: usize) -> f64 {
        let smoothed = |seen: u64, n: u64, kinds: u64, lower: f64| (seen as f64 + kinds as f64 * lower) / (n + kinds) as f64;
        let own = if self.n == 0 {
            1.0 / d_vocab as f64
        } else {
            smoothed(self.token.get(&token).copied().unwrap_or(0), self.n, self.token.len() as u64, 1.0 / d_vocab as f64)
        };
        match before.and_then(|b| Some((b, *self.before.get(&b)?))) {
            Some((before, (n, kinds))) => smoothed(self.pair.get(&(before, token)).copied().unwrap_or(0), n, kinds, own),
            None => own,
        }
    }
}

/// Tells positive texts from negative ones.
#[derive(Debug, Clone)]
pub struct Classifier {
    sides: [Side; 2],
    d_vocab: usize,
}

impl Classifier {
    pub fn train<'a>(d_vocab: usize, positive: impl IntoIterator<Item = &'a [u32]>, negative: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut sides = [Side::default(), Side::default()];
        negative.into_iter().for_each(|t| sides[0].add(t));
        positive.into_iter().for_each(|t| sides[1].add(t));
        Classifier { sides, d_vocab }
    }

    /// Nats per token in favour of positive; 0 for an empty text.
    pub fn score(&self, text: &[u32]) -> f64 {
        let before = |i: usize| i.checked_sub(1).map(|i| text[i]);
        let one =
            |(i, &token): (usize, &u32)| self.sides[1].p(before(i), token, self.d_vocab).ln() - self.sides[0].p(before(i), token, self.d_vocab).ln();
        text.iter().enumerate().map(one).sum::<f64>() / text.len().max(1) as f64
    }

    pub fn is_positive(&self, text: &[u32]) -> bool {
        self.score(text) > 0.0
    }

    /// Share of `texts` that are positive.
    pub fn hit_rate<'a>(&self, texts: impl IntoIterator<Item = &'a [u32]>) -> f64 {
        let (mut hits, mut n) = (0, 0);
        texts.into_iter().for_each(|t| {
            hits += u32::from(self.is_positive(t));
            n += 1;
        });
        f64::from(hits) / f64::from(n.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_one_over_the_vocabulary() {
        let mut side = Side::default();
        side.add(&[1, 2, 1, 3, 1, 2]);
        for before in [None, Some(1), Some(2), Some(4)] {
            let sum: f64 = (0..5).map(|t| side.p(before, t, 5)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{before:?}: {sum}");
        }
        assert_eq!(Side::default().p(None, 3, 5), 0.2);
        // Token 1 is followed three times, by two kinds; of six tokens two are a 2, of three kinds; a fifth of the vocabulary.
        let own = (2.0 + 3.0 * 0.2) / 9.0;
        assert!((side.p(Some(1), 2, 5) - (2.0 + 2.0 * own) / 5.0).abs() < 1e-12);
    }

    #[test]
    fn order_tells_what_counts_do_not() {
        let positive: Vec<u32> = (0..60).map(|i| [1, 2, 3][i % 3]).collect();
        let negative: Vec<u32> = (0..60).map(|i| [3, 2, 1][i % 3]).collect();
        let classifier = Classifier::train(8, [positive.as_slice()], [negative.as_slice()]);
        assert!(classifier.is_positive(&[1, 2, 3, 1, 2]) && !classifier.is_positive(&[3, 2, 1, 3, 2]));
        assert!(!classifier.is_positive(&[]) && classifier.hit_rate([&[1u32, 2, 3][..], &[3, 2, 1]]) == 0.5);
    }
}
