//! How many unrelated things a unit's contexts are about: the effective number of their clusters.
//!
//! The contexts are its examples of all rank quantiles; each stands for an equal share of its quantile's summed activation. Two contexts are alike
//! by the larger of two cosines: of the embeddings of their firing tokens, and of the mean embeddings of the eight tokens before these, each
//! token weighing -ln of its share of the text. Embeddings are the model's own (input, and output where that is another), the mean over the
//! vocabulary taken away, so that words that are used alike are alike: a class of words, a script or a register is one cluster. Contexts join
//! clusters one by one, heaviest first: the cluster to whose members it is most alike on average, if that is [`ALIKE_FROM`] or more, else one of its own.
//!
//! score = exp(-sum p ln p) over clusters, p = the cluster's share of the weight.

use super::collect::{Findings, Firing, effective_tokens};
use super::store::GroupKind;
use super::text::Text;
use crate::lm::Lm;
use rayon::prelude::*;

/// Tokens before a firing that count as its context.
const BEFORE: u64 = 8;
/// Mean cosine to the members of a cluster from which a context belongs to it. Chosen on one planted run, where known concepts are one cluster
/// and neurons several (LOG.md).
const ALIKE_FROM: f64 = 0.6;

/// One score per unit; 0 where it has no examples.
pub fn scores(findings: &Findings, text: &dyn Text, lm: &Lm) -> Vec<f64> {
    let d = lm.config.d_model;
    let mut embeddings = vec![Embedding::new(&lm.weights.wte, d)];
    if !lm.weights.lm_head.is_empty() {
        embeddings.push(Embedding::new(&lm.weights.lm_head, d));
    }
    let mut rarity = vec![0.0; lm.config.d_vocab];
    for of in &findings.tokens {
        rarity[of.token as usize] = (findings.n_tokens as f64 / of.n as f64).ln();
    }
    let context = |firing: &Firing, weight: f64| {
        let mut before = text.ids(firing.t.saturating_sub(BEFORE), firing.t + 1);
        let token = before.pop().expect("a firing is inside the stream");
        Context { token, before: embeddings.iter().map(|e| e.mean(&before, &rarity)).collect(), weight, t: firing.t }
    };
    let score = |unit: &super::collect::Collected| {
        let mut contexts: Vec<Context> = vec![];
        for group in unit.groups.iter().filter(|g| g.kind == GroupKind::Quantile) {
            contexts.extend(group.firings.iter().map(|f| context(f, group.share_mass / group.firings.len() as f64)));
        }
        let alike = |a: &Context, b: &Context| {
            let mean = |cosine: &dyn Fn(usize, &Embedding) -> f64| {
                embeddings.iter().enumerate().map(|(i, e)| cosine(i, e)).sum::<f64>() / embeddings.len() as f64
            };
            let tokens = if a.token == b.token { 1.0 } else { mean(&|_, e| e.cosine(a.token, b.token)) };
            tokens.max(mean(&|i, _| dot(&a.before[i], &b.before[i])))
        };
        effective_clusters(contexts, alike)
    };
    findings.units.par_iter().map(score).collect()
}

struct Context {
    token: u32,
    /// The mean of the tokens before it in each embedding, of length 1 (or 0 where there is none).
    before: Vec<Vec<f32>>,
    weight: f64,
    t: u64,
}

fn effective_clusters(mut contexts: Vec<Context>, alike: impl Fn(&Context, &Context) -> f64) -> f64 {
    contexts.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.t.cmp(&b.t)));
    let mut clusters: Vec<Vec<&Context>> = vec![];
    for context in &contexts {
        let near = |cluster: &Vec<&Context>| cluster.iter().map(|other| alike(context, other)).sum::<f64>() / cluster.len() as f64;
        let best = clusters.iter().map(near).enumerate().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        match best {
            Some((i, likeness)) if likeness >= ALIKE_FROM => clusters[i].push(context),
            _ => clusters.push(vec![context]),
        }
    }
    effective_tokens(clusters.iter().map(|c| c.iter().map(|x| x.weight).sum()))
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

    /// One firing on each of `tokens`, each after 8 times its own `before`.
    fn unit(contexts: &[(u32, u32)]) -> (f64, FakeText) {
        let ids: Vec<u32> = contexts.iter().flat_map(|&(before, token)| [vec![before; 8], vec![token]].concat()).collect();
        let text = FakeText { vocab: vec![vec![]; 12], ids, doc_starts: vec![0] };
        let firing = |i: usize| Firing { t: 9 * i as u64 + 8, act: 1.0, ..Default::default() };
        let group = |firings: Vec<Firing>| Group { kind: GroupKind::Quantile, low: 0.0, high: 2.0, n_firings: 1, share_mass: 0.5, firings };
        let half = contexts.len() / 2;
        let groups = vec![group((0..half).map(firing).collect()), group((half..contexts.len()).map(firing).collect())];
        let findings = Findings {
            units: vec![Collected { groups, ..Default::default() }, Collected::default()],
            tokens: (0..12).map(|token| TokenUnits { token, n: 10, units: vec![] }).collect(),
            n_tokens: 120,
            n_windows: 1,
            time_tokens: vec![],
            position_edges: vec![],
            position_tokens: vec![],
            correlated_over: 0,
        };
        let found = scores(&findings, &text, &lm());
        assert_eq!(found[1], 0.0, "no example, no cluster");
        (found[0], text)
    }

    #[test]
    fn a_word_a_class_and_a_register_are_one_cluster_and_unrelated_things_are_several() {
        let score = |contexts: &[(u32, u32)]| unit(contexts).0;
        assert_eq!(score(&[(10, 1), (4, 1), (7, 1), (1, 1)]), 1.0, "one word in four contexts");
        assert_eq!(score(&[(10, 1), (4, 2), (7, 3), (1, 1)]), 1.0, "words that are used alike");
        assert_eq!(score(&[(7, 1), (8, 4), (9, 10), (7, 2)]), 1.0, "different words in one kind of text");
        // Two and two; the weights of all four are equal.
        assert!((score(&[(10, 1), (10, 2), (7, 4), (8, 5)]) - 2.0).abs() < 1e-9);
        assert!((score(&[(10, 1), (1, 4), (4, 7), (7, 11)]) - 4.0).abs() < 1e-9);
        // 0.5 against 0.25 + 0.25 where one of the groups is one thing and the other two: exp(H) = exp(1.5 ln 2).
        assert!((score(&[(10, 1), (10, 2), (7, 4), (4, 7)]) - 2f64.powf(1.5)).abs() < 1e-9);
    }
}
