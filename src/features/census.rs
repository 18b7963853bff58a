//! Flags of a unit, and its one category. The rules are written at [`Flag`] and [`Category`].

use super::collect::{Collected, Findings, TokenUnits};
use super::geometry::Geometry;
use super::store::{Category, CategoryCount, Flag, Row};
use super::text::Text;
use crate::sae::JUNK_COSINE;

/// Fires on more than this share of tokens: [`Flag::Dense`].
pub const DENSE_ABOVE: f64 = 0.1;
/// Fires, but on a smaller share of tokens: [`Flag::UltraRare`].
pub const ULTRA_RARE_BELOW: f64 = 1e-6;
/// At least this share of firings on one token: [`Flag::SingleToken`].
const SINGLE_TOKEN_FROM: f64 = 0.9;
/// [`Flag::PositionLocked`]: share of firings, share of tokens, windows.
const LOCKED: (f64, f64, u64) = (0.9, 0.1, 20);
/// Cosine with another unit: [`Flag::Duplicated`].
const DUPLICATED_ABOVE: f32 = 0.9;
/// Groups of alike contexts: [`Flag::Polysemantic`], and [`Category::Context`] below.
pub const POLYSEMANTIC_FROM: f64 = 3.0;
const CONTEXT_BELOW: f64 = 2.0;
/// Share of activation: [`Category::WordFamily`], [`Category::Class`]; share of occurrences: the latter.
const FAMILY_FROM: f64 = 0.8;
const CLASS_FROM: (f64, f64) = (0.8, 0.5);

/// What the rules look at beside the unit.
pub struct Census<'a> {
    n_tokens: u64,
    position_tokens: &'a [u64],
    /// By token.
    tokens: &'a [TokenUnits],
    text: &'a dyn Text,
}

impl<'a> Census<'a> {
    pub fn new(findings: &'a Findings, text: &'a dyn Text) -> Self {
        Census { n_tokens: findings.n_tokens, position_tokens: &findings.position_tokens, tokens: &findings.tokens, text }
    }

    pub fn flags(&self, unit: &Collected, polysemantic: f64, cosine: Option<f32>, geometry: &Geometry) -> Vec<Flag> {
        let density = unit.n_active as f64 / self.n_tokens.max(1) as f64;
        let fires = unit.n_active > 0;
        let is = |flag: &Flag| match flag {
            Flag::Dead => !fires,
            Flag::UltraRare => fires && density < ULTRA_RARE_BELOW,
            Flag::Dense => density > DENSE_ABOVE,
            Flag::SingleToken => fires && unit.top_share >= SINGLE_TOKEN_FROM,
            Flag::Junk => cosine.is_some_and(|c| (c as f64) < JUNK_COSINE),
            Flag::PositionLocked => unit.n_windows >= LOCKED.2 && is_position_locked(&unit.over_position, self.position_tokens),
            Flag::Duplicated => geometry.similar.first().is_some_and(|n| n.1 > DUPLICATED_ABOVE),
            Flag::Polysemantic => polysemantic >= POLYSEMANTIC_FROM,
        };
        Flag::ALL.into_iter().filter(is).collect()
    }

    pub fn category(&self, unit: &Collected, flags: &[Flag], polysemantic: f64) -> Category {
        let is = |category: &Category| match category {
            Category::Dead => flags.contains(&Flag::Dead),
            Category::UltraRare => flags.contains(&Flag::UltraRare),
            Category::Dense => flags.contains(&Flag::Dense),
            Category::SingleToken => flags.contains(&Flag::SingleToken),
            Category::WordFamily => self.family_share(unit) >= FAMILY_FROM,
            Category::Polysemantic => flags.contains(&Flag::Polysemantic),
            Category::Class => self.token_decides(unit),
            Category::Context => polysemantic < CONTEXT_BELOW,
            Category::Unexplained => true,
        };
        Category::ALL.into_iter().find(is).expect("the last rule always holds")
    }

    /// Share of the activation on forms of the token with most of it.
    fn family_share(&self, unit: &Collected) -> f64 {
        let word = |token: u32| {
            let text = String::from_utf8(self.text.bytes(token).to_vec()).ok()?;
            let word: Vec<char> = text.trim().to_lowercase().chars().collect();
            (!word.is_empty() && word.iter().all(|c| c.is_alphabetic())).then_some(word)
        };
        let Some(first) = unit.top_tokens.first().and_then(|t| word(t.token)) else { return 0.0 };
        let related = |other: &[char]| {
            let common = first.iter().zip(other).take_while(|(a, b)| a == b).count();
            first == other || (common >= 3 && 2 * common >= first.len().max(other.len()))
        };
        let mass: f64 = unit.top_tokens.iter().filter(|t| word(t.token).is_some_and(|w| related(&w))).map(|t| t.mass).sum();
        mass / unit.mass
    }

    fn token_decides(&self, unit: &Collected) -> bool {
        let mass: f64 = unit.top_tokens.iter().map(|t| t.mass).sum();
        let occurrences = |token: u32| self.tokens.binary_search_by_key(&token, |t| t.token).map_or(u64::MAX, |i| self.tokens[i].n);
        let fires_on: f64 = unit.top_tokens.iter().map(|t| t.mass / mass * t.n as f64 / occurrences(t.token) as f64).sum();
        mass / unit.mass >= CLASS_FROM.0 && fires_on >= CLASS_FROM.1
    }
}

/// Whether the fewest bins that hold 90 % of the firings, those in which it fires most often first, hold at most 10 % of the tokens.
fn is_position_locked(firings: &[u32], tokens: &[u64]) -> bool {
    let n_firings: u64 = firings.iter().map(|&n| n as u64).sum();
    let n_tokens: u64 = tokens.iter().sum();
    let density = |bin: &usize| firings[*bin] as f64 / tokens[*bin].max(1) as f64;
    let mut bins: Vec<usize> = (0..firings.len()).collect();
    bins.sort_by(|a, b| density(b).total_cmp(&density(a)).then(a.cmp(b)));
    let (mut held, mut of) = (0, 0);
    for bin in bins {
        if held as f64 >= LOCKED.0 * n_firings as f64 {
            break;
        }
        held += firings[bin] as u64;
        of += tokens[bin];
    }
    n_firings > 0 && of as f64 <= LOCKED.1 * n_tokens as f64
}

/// How many rows are of each category.
pub fn count(rows: &[Row]) -> Vec<CategoryCount> {
    let of = |category| rows.iter().filter(|r| r.category == Some(category)).count() as u64;
    Category::ALL.into_iter().map(|category| CategoryCount { category, n: of(category) }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::collect::TokenMass;
    use super::super::text::fake::FakeText;
    use super::*;

    #[test]
    fn a_unit_that_fires_at_one_place_of_the_window_is_locked_to_it() {
        // Bins of 10, 10 and 180 tokens: 10 % may be two of the small ones together.
        let tokens = [10, 10, 180];
        assert!(is_position_locked(&[9, 8, 1], &tokens), "17 of 18 in 20 of 200");
        assert!(!is_position_locked(&[9, 8, 2], &tokens), "17 of 19 are less than 90 %");
        assert!(!is_position_locked(&[1, 1, 18], &tokens));
        assert!(!is_position_locked(&[0, 0, 0], &tokens) && !is_position_locked(&[], &tokens));
    }

    fn unit(tokens: &[(u32, u32, f64)], mass: f64) -> Collected {
        let top_tokens: Vec<TokenMass> = tokens.iter().map(|&(token, n, mass)| TokenMass { token, n, mass }).collect();
        let n_active = top_tokens.iter().map(|t| t.n as u64).sum();
        let top_share = top_tokens.iter().map(|t| t.n).max().unwrap_or(0) as f64 / n_active as f64;
        Collected { n_active, mass, top_share, top_tokens, n_windows: 50, over_position: vec![5, 5], ..Default::default() }
    }

    #[test]
    fn each_unit_has_the_first_category_whose_rule_holds() {
        let vocab = ["", " walk", " Walked", " walking", " red", " blue", "12"].map(|t| t.as_bytes().to_vec()).to_vec();
        let text = FakeText { vocab, ids: vec![], doc_starts: vec![] };
        let tokens: Vec<TokenUnits> = (1..7).map(|token| TokenUnits { token, n: 20, units: vec![] }).collect();
        let findings = Findings {
            units: vec![],
            tokens,
            n_tokens: 1000,
            n_windows: 60,
            time_tokens: vec![],
            position_edges: vec![],
            position_tokens: vec![500, 500],
            correlated_over: 0,
        };
        let census = Census::new(&findings, &text);
        let category = |unit: &Collected, groups: f64| {
            let flags = census.flags(unit, groups, Some(0.9), &Geometry::default());
            census.category(unit, &flags, groups)
        };
        assert_eq!(category(&unit(&[], 0.0), 0.0), Category::Dead);
        assert_eq!(category(&unit(&[(4, 60, 60.0), (5, 60, 60.0)], 120.0), 9.0), Category::Dense);
        assert_eq!(category(&unit(&[(4, 9, 9.0), (5, 1, 1.0)], 10.0), 9.0), Category::SingleToken);
        let family = [(1, 5, 5.0), (2, 3, 3.0), (3, 2, 2.0), (4, 1, 1.0)];
        assert_eq!(category(&unit(&family, 11.0), 9.0), Category::WordFamily, "10 of 11 on forms of walk");
        let colours = [(4, 15, 15.0), (5, 14, 14.0)];
        assert_eq!(category(&unit(&colours, 29.0), 9.0), Category::Polysemantic);
        assert_eq!(category(&unit(&colours, 29.0), 2.5), Category::Class, "15 and 14 of 20 occurrences each");
        assert_eq!(category(&unit(&colours, 60.0), 1.5), Category::Context, "the tokens have less than half of its activation");
        assert_eq!(category(&unit(&[(4, 5, 5.0), (6, 4, 4.0)], 9.0), 2.5), Category::Unexplained, "5 and 4 of 20");
        let twin = Geometry { similar: vec![(7, 0.91)], ..Default::default() };
        assert_eq!(census.flags(&unit(&colours, 29.0), 1.0, Some(0.01), &twin), [Flag::Junk, Flag::Duplicated]);
    }
}
