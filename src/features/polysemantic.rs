//! How many unrelated things a unit's contexts are about: the effective number of groups of contexts that are alike.
//!
//! > score = exp(-sum over i of p_i ln(sum over j of z_ij p_j)),   z_ij = 1 where contexts i and j are alike, else 0; z_ii = 1
//!
//! p_i is the share of the unit's activation that context i stands for. Where contexts fall into groups that are alike inside and not across
//! them this is exp(-sum P ln P) over the groups' shares P: the exponential of an entropy, for 1 group 1, for n equal ones n. Source: Leinster and
//! Cobbold 2012, "Measuring diversity: the importance of species similarity", order 1; without similarities it is Hill's number.
//!
//! The contexts are the sampled firings of every tenth by rank and the random ones; those of a tenth share equally what the tenth has of the
//! unit's summed activation. The likeness of two is the larger of two cosines: of the embeddings of their firing tokens (1 for one token), and of
//! the mean embeddings of the eight tokens before these, each token weighing -ln of its share of the text. Embeddings are the model's own (input,
//! and output where that is another), the mean over the vocabulary taken away, so that words that are used alike are alike.
//!
//! How large a likeness is depends on the model. So two contexts are **alike** when they are more so than [`ALIKE_FROM`] of pairs of tokens drawn
//! at random from the same text, and the score of contexts drawn at random stands beside that of units: [`Measured::chance`].

use super::collect::{Collected, Findings, Firing};
use super::store::GroupKind;
use super::text::Text;
use crate::artifact::seed;
use crate::lm::Lm;
use rand::RngExt;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Tokens before a firing that count as its context.
const BEFORE: u64 = 8;
/// Share of random pairs of contexts that are less alike than those that count as alike. Of a planted run's latents with F1 of 0.85 or more for
/// a known concept 1 % then have three groups or more, of its neurons 70 % (LOG.md).
pub const ALIKE_FROM: f64 = 0.9;
/// Pairs that this is measured on: it is right to within 0.2 %.
const N_PAIRS: u64 = 20_000;
/// Sets of random contexts whose median score is [`Measured::chance`].
const N_CHANCE: u64 = 101;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// One per unit; 0 where it has no examples.
    pub scores: Vec<f64>,
    /// Likeness from which two contexts are alike.
    pub alike_from: f64,
    /// Score of as many contexts as units have, drawn at random; 0 where no unit has any.
    pub chance: f64,
}

/// Measures every unit; random contexts are drawn from tokens `range` of the text.
pub fn measure(findings: &Findings, text: &dyn Text, range: Range<u64>, lm: &Lm, run_seed: u64) -> Measured {
    let reader = Reader::new(findings, text, lm);
    let mut units: Vec<Vec<Context>> = findings.units.par_iter().map(|unit| reader.contexts(unit)).collect();
    let mut sizes: Vec<usize> = units.iter().map(Vec::len).filter(|&n| n > 0).collect();
    sizes.sort_unstable();
    let Some(&usual) = sizes.get(sizes.len() / 2) else {
        return Measured { scores: vec![0.0; units.len()], alike_from: 1.0, chance: 0.0 };
    };
    let draw = |n: usize, index: u64| -> Vec<Context> {
        let mut rng = seed::rng(run_seed, "features/polysemantic", index);
        (0..n).map(|_| reader.context(random_place(&mut rng, text, &range), 1.0 / n as f64)).collect()
    };
    let likeness = |pair: u64| {
        let pair = draw(2, pair);
        reader.likeness(&pair[0], &pair[1])
    };
    let mut pairs: Vec<f64> = (0..N_PAIRS).into_par_iter().map(likeness).collect();
    pairs.sort_unstable_by(f64::total_cmp);
    let alike_from = pairs[(ALIKE_FROM * N_PAIRS as f64) as usize];
    let score = |contexts: &[Context]| effective_groups(contexts, |a, b| reader.likeness(a, b) >= alike_from);
    let mut by_chance: Vec<f64> = (0..N_CHANCE).into_par_iter().map(|i| score(&draw(usual, N_PAIRS + i))).collect();
    by_chance.sort_unstable_by(f64::total_cmp);
    Measured { scores: units.par_iter_mut().map(|contexts| score(contexts)).collect(), alike_from, chance: by_chance[by_chance.len() / 2] }
}

/// A token of the range that is not the end of a document, if one is met in a few tries.
fn random_place(rng: &mut impl rand::Rng, text: &dyn Text, range: &Range<u64>) -> u64 {
    let mut t = range.start;
    for _ in 0..20 {
        t = rng.random_range(range.clone());
        if text.ids(t, t + 1)[0] != text.end_of_text() {
            break;
        }
    }
    t
}

/// One context of a unit.
struct Context {
    token: u32,
    /// The mean of the tokens before it in each embedding, of length 1 (or 0 where there is none).
    before: Vec<Vec<f32>>,
    weight: f64,
}

/// What contexts are read from.
struct Reader<'a> {
    text: &'a dyn Text,
    embeddings: Vec<Embedding<'a>>,
    /// Per token, nats.
    rarity: Vec<f64>,
}

impl<'a> Reader<'a> {
    fn new(findings: &Findings, text: &'a dyn Text, lm: &'a Lm) -> Self {
        let d = lm.config.d_model;
        let mut embeddings = vec![Embedding::new(&lm.weights.wte, d)];
        if !lm.weights.lm_head.is_empty() {
            embeddings.push(Embedding::new(&lm.weights.lm_head, d));
        }
        let mut rarity = vec![0.0; lm.config.d_vocab];
        for of in &findings.tokens {
            rarity[of.token as usize] = (findings.n_tokens as f64 / of.n as f64).ln();
        }
        Reader { text, embeddings, rarity }
    }

    fn context(&self, t: u64, weight: f64) -> Context {
        let mut before = self.text.ids(t.saturating_sub(BEFORE), t + 1);
        let token = before.pop().expect("a firing is inside the stream");
        Context { token, before: self.embeddings.iter().map(|e| e.mean(&before, &self.rarity)).collect(), weight }
    }

    /// The sampled firings of a unit, each once, by place.
    fn contexts(&self, unit: &Collected) -> Vec<Context> {
        // Tenths from the weakest up, as they are looked for by activation.
        let mut tenths: Vec<(f32, f64)> = unit.groups.iter().filter(|g| g.kind == GroupKind::Quantile).map(|g| (g.low, g.share_mass)).collect();
        tenths.sort_by(|a, b| a.0.total_cmp(&b.0));
        if tenths.is_empty() {
            return vec![];
        }
        let sampled = unit.groups.iter().filter(|g| matches!(g.kind, GroupKind::Quantile | GroupKind::Random)).flat_map(|g| &g.firings);
        let tenth_of = |f: &Firing| tenths.partition_point(|tenth| tenth.0 <= f.act).saturating_sub(1);
        let places: BTreeMap<u64, usize> = sampled.map(|f| (f.t, tenth_of(f))).collect();
        let mut of_tenth = vec![0usize; tenths.len()];
        places.values().for_each(|&tenth| of_tenth[tenth] += 1);
        places.into_iter().map(|(t, tenth)| self.context(t, tenths[tenth].1 / of_tenth[tenth] as f64)).collect()
    }

    fn likeness(&self, a: &Context, b: &Context) -> f64 {
        let mean = |cosine: &dyn Fn(usize, &Embedding) -> f64| {
            self.embeddings.iter().enumerate().map(|(i, e)| cosine(i, e)).sum::<f64>() / self.embeddings.len() as f64
        };
        let tokens = if a.token == b.token { 1.0 } else { mean(&|_, e| e.cosine(a.token, b.token)) };
        tokens.max(mean(&|i, _| dot(&a.before[i], &b.before[i])))
    }
}

/// The module's formula; weights need not add up to 1.
fn effective_groups(contexts: &[Context], alike: impl Fn(&Context, &Context) -> bool) -> f64 {
    let all: f64 = contexts.iter().map(|c| c.weight).sum();
    if all <= 0.0 {
        return 0.0;
    }
    // How much of the weight is alike to each.
    let mut near: Vec<f64> = contexts.iter().map(|c| c.weight).collect();
    for (i, a) in contexts.iter().enumerate() {
        for (j, b) in contexts.iter().enumerate().skip(i + 1) {
            if alike(a, b) {
                near[i] += b.weight;
                near[j] += a.weight;
            }
        }
    }
    let entropy: f64 = contexts.iter().zip(near).filter(|(c, _)| c.weight > 0.0).map(|(c, near)| -c.weight / all * (near / all).ln()).sum();
    entropy.exp()
}

/// A table of token vectors (V, D) seen from their mean.
struct Embedding<'a> {
    table: &'a [f32],
    mean: Vec<f32>,
    /// Length of each vector from the mean.
    norms: Vec<f32>,
}

impl<'a> Embedding<'a> {
    fn new(table: &'a [f32], d: usize) -> Self {
        let mut sums = vec![0.0f64; d];
        table.chunks_exact(d).for_each(|row| sums.iter_mut().zip(row).for_each(|(s, x)| *s += *x as f64));
        let n = (table.len() / d) as f64;
        let mean: Vec<f32> = sums.iter().map(|s| (s / n) as f32).collect();
        let norm = |row: &[f32]| row.iter().zip(&mean).map(|(x, m)| (x - m) * (x - m)).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        let norms = table.par_chunks_exact(d).map(norm).collect();
        Embedding { table, mean, norms }
    }

    fn row(&self, token: u32) -> &[f32] {
        let d = self.mean.len();
        &self.table[token as usize * d..][..d]
    }

    fn cosine(&self, a: u32, b: u32) -> f64 {
        let products = self.row(a).iter().zip(self.row(b)).zip(&self.mean).map(|((a, b), m)| (a - m) * (b - m));
        (products.sum::<f32>() / (self.norms[a as usize] * self.norms[b as usize])) as f64
    }

    /// The weighted mean of unit vectors, of length 1.
    fn mean(&self, tokens: &[u32], weights: &[f64]) -> Vec<f32> {
        let mut sum = vec![0.0f32; self.mean.len()];
        for &token in tokens {
            let weight = weights[token as usize] as f32 / self.norms[token as usize];
            sum.iter_mut().zip(self.row(token)).zip(&self.mean).for_each(|((s, x), m)| *s += weight * (x - m));
        }
        let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().for_each(|x| *x /= norm);
        sum
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>() as f64
}

#[cfg(test)]
mod tests {
    use super::super::collect::{Collected, Group, TokenUnits};
    use super::super::text::fake::FakeText;
    use super::*;
    use crate::lm::LmConfig;

    /// Tokens 1-3 have one vector, 4-6 another at right angles, 7-9 a third; 10 and 11 are something else.
    fn lm() -> Lm {
        let config = LmConfig { d_vocab: 12, d_model: 4, n_heads: 1, tied: true, ..LmConfig::tiny() };
        let mut lm = Lm::init(&config, 0);
        for token in 0..12 {
            let kind = [3, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3][token];
            for i in 0..4 {
                lm.weights.wte[token * 4 + i] = if i == kind { 1.0 } else { 0.0 };
            }
        }
        lm
    }

    /// The score of a unit with one firing on each of `tokens`, each after 8 times its own `before`, half of them in either of two tenths. The last
    /// two of four are random firings.
    fn unit(contexts: &[(u32, u32)], mass: [f64; 2]) -> f64 {
        let ids: Vec<u32> = contexts.iter().flat_map(|&(before, token)| [vec![before; 8], vec![token]].concat()).collect();
        let text = FakeText { vocab: vec![vec![]; 12], ids, doc_starts: vec![0] };
        let firing = |i: usize, act: f32| Firing { t: 9 * i as u64 + 8, act, ..Default::default() };
        let group = |kind, low: f32, share_mass: f64, firings: Vec<Firing>| Group { kind, low, high: low + 1.0, n_firings: 1, share_mass, firings };
        let half = contexts.len() / 2;
        let strong: Vec<Firing> = (0..half).map(|i| firing(i, 1.5)).collect();
        let mut weak: Vec<Firing> = (half..contexts.len()).map(|i| firing(i, 0.5)).collect();
        // One of the weak ones is known as a random firing alone, one as both.
        let random = weak.split_off(weak.len() - 1);
        let groups = vec![
            group(GroupKind::Random, 0.0, 1.0, [weak.clone(), random].concat()),
            group(GroupKind::Quantile, 1.0, mass[0], strong),
            group(GroupKind::Quantile, 0.0, mass[1], weak),
        ];
        let findings = findings(vec![Collected { groups, ..Default::default() }, Collected::default()]);
        let lm = lm();
        let reader = Reader::new(&findings, &text, &lm);
        let score = |unit: &Collected| effective_groups(&reader.contexts(unit), |a, b| reader.likeness(a, b) >= 0.6);
        assert_eq!(score(&findings.units[1]), 0.0, "no example, no group");
        score(&findings.units[0])
    }

    fn findings(units: Vec<Collected>) -> Findings {
        Findings {
            units,
            tokens: (0..12).map(|token| TokenUnits { token, n: 10, units: vec![] }).collect(),
            n_tokens: 120,
            n_windows: 1,
            time_tokens: vec![],
            position_edges: vec![],
            position_tokens: vec![],
            correlated_over: 0,
        }
    }

    #[test]
    fn a_word_a_class_and_a_register_are_one_thing_and_unrelated_things_are_several() {
        let equal = |contexts: &[(u32, u32)]| unit(contexts, [0.5, 0.5]);
        let near = |score: f64, want: f64| assert!((score - want).abs() < 1e-9, "{score} is not {want}");
        near(equal(&[(10, 1), (4, 1), (7, 1), (1, 1)]), 1.0); // one word in four contexts
        near(equal(&[(10, 1), (4, 2), (7, 3), (1, 1)]), 1.0); // words that are used alike
        near(equal(&[(7, 1), (8, 4), (9, 10), (7, 2)]), 1.0); // different words in one kind of text
        near(equal(&[(10, 1), (10, 2), (7, 4), (8, 5)]), 2.0);
        near(equal(&[(10, 1), (1, 4), (4, 7), (7, 11)]), 4.0);
        // 0.5 against 0.25 + 0.25 where one of the halves is one thing and the other two: exp(H) = exp(1.5 ln 2).
        near(equal(&[(10, 1), (10, 2), (7, 4), (4, 7)]), 2f64.powf(1.5));
        // Tenths weigh what they have of the activation: 0.9 of one thing, 0.05 each of two others.
        near(unit(&[(10, 1), (10, 2), (7, 4), (4, 7)], [0.9, 0.1]), (-(0.9 * 0.9f64.ln() + 0.1 * 0.05f64.ln())).exp());
    }

    #[test]
    fn contexts_count_as_alike_that_are_more_so_than_nine_in_ten_random_pairs() {
        // Twelve tokens that are alike in four groups of three, in an order without one.
        let mut rng = seed::rng(0, "test/polysemantic", 0);
        let ids: Vec<u32> = (0..4000).map(|_| rng.random_range(0..12)).collect();
        let text = FakeText { vocab: vec![vec![]; 12], ids, doc_starts: vec![0] };
        let firings: Vec<Firing> = (0..20).map(|i| Firing { t: 100 + 37 * i, act: 1.0, ..Default::default() }).collect();
        let group = Group { kind: GroupKind::Quantile, low: 0.0, high: 2.0, n_firings: 20, share_mass: 1.0, firings };
        let findings = findings(vec![Collected { groups: vec![group], ..Default::default() }, Collected::default()]);
        let lm = lm();
        let measured = measure(&findings, &text, 0..4000, &lm, 0);
        let reader = Reader::new(&findings, &text, &lm);
        let mut rng = seed::rng(0, "test/polysemantic", 1);
        let mut pair = || [0; 2].map(|_| reader.context(random_place(&mut rng, &text, &(0..4000)), 0.5));
        let alike = (0..2000)
            .filter(|_| {
                let [a, b] = pair();
                reader.likeness(&a, &b) > measured.alike_from
            })
            .count();
        assert!(alike <= 240, "{alike} of 2000 random pairs are more alike than nine in ten");
        assert!(measured.chance > 2.0 && measured.chance <= 20.0, "{measured:?}");
        // Firings at even distances in text without an order are no better than chance, give or take.
        assert!((measured.scores[0] / measured.chance - 1.0).abs() < 0.6 && measured.scores[1] == 0.0, "{measured:?}");
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| measure(&findings, &text, 0..4000, &lm, 0)), measured);
        }
    }
}
