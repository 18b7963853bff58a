//! What fires where on a text, and in which order it is told. Pure functions of activations; knows no dictionary.

use crate::corpus::counts;
use crate::sae::SparseRows;
use std::collections::BTreeMap;

/// Features above this density do not darken a token: they fire on anything.
pub const DENSE: f64 = 0.1;

/// What a latent's activations are measured by.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Its largest activation.
    pub max: f32,
    /// Share of tokens on which it fires.
    pub density: f64,
}

/// What fires where on the typed tokens, which are `ids` without the `<|endoftext|>` in front.
pub struct Fires {
    /// Latent -> (token, act).
    pub places: BTreeMap<u32, Vec<(usize, f32)>>,
    /// Per token: the largest share of its maximum that a feature reaches which is not dense.
    pub strongest: Vec<f32>,
    pub n_features: Vec<usize>,
}

/// A feature's place in the table: the token it is ranked by, its activation there and the share of its maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    pub latent: u32,
    pub place: usize,
    pub act: f32,
    pub share: f32,
}

impl Fires {
    /// `acts` has a row for each of `ids`. Where `scale` knows nothing of a latent, its activation is its maximum.
    pub fn new(ids: &[u32], acts: &SparseRows, n_ctx: usize, end_of_text: u32, scale: &dyn Fn(u32) -> Option<Scale>) -> Self {
        let n = ids.len() - 1;
        let mut fires = Fires { places: BTreeMap::new(), strongest: vec![0.0; n], n_features: vec![0; n] };
        for (i, &token) in ids.iter().enumerate().skip(1) {
            if !counts(token, i % n_ctx, end_of_text) {
                continue;
            }
            let (latents, values) = acts.row(i);
            for (&latent, &act) in latents.iter().zip(values) {
                fires.places.entry(latent).or_default().push((i - 1, act));
                fires.n_features[i - 1] += 1;
                let scale = scale(latent);
                if density(scale) <= DENSE {
                    fires.strongest[i - 1] = fires.strongest[i - 1].max(share(act, scale));
                }
            }
        }
        fires
    }

    /// By the share of its maximum that a feature reaches (on token `at`, or anywhere) times the surprise that it fires at all. `n_tokens`:
    /// what densities are shares of.
    pub fn ranked(&self, at: Option<usize>, scale: &dyn Fn(u32) -> Option<Scale>, n_tokens: u64) -> Vec<Ranked> {
        let mut ranked: Vec<(f64, Ranked)> = self
            .places
            .iter()
            .filter_map(|(&latent, places)| {
                let here = places.iter().filter(|p| at.is_none_or(|i| p.0 == i));
                let &(place, act) = here.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
                let scale = scale(latent);
                let share = share(act, scale).min(1.0);
                Some((f64::from(share) * surprise(density(scale), n_tokens), Ranked { latent, place, act, share }))
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.latent.cmp(&b.1.latent)));
        ranked.into_iter().map(|(_, ranked)| ranked).collect()
    }
}

fn density(scale: Option<Scale>) -> f64 {
    scale.map_or(0.0, |s| s.density)
}

fn share(act: f32, scale: Option<Scale>) -> f32 {
    act / scale.map_or(act, |s| s.max.max(f32::MIN_POSITIVE))
}

/// Nats of surprise that a feature of this density fires at a token; a dead one counts as one firing. The same for all where no densities are known (`n_tokens` 0).
fn surprise(density: f64, n_tokens: u64) -> f64 {
    match n_tokens {
        0 => 1.0,
        n => -density.max(1.0 / n as f64).ln(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_strong_for_itself_and_rare_comes_first_and_what_fires_on_anything_darkens_nothing() {
        let mut acts = SparseRows::default();
        acts.push_row(&[0], &[9.0]);
        acts.push_row(&[1, 2], &[1.0, 4.0]);
        acts.push_row(&[0, 2], &[5.0, 2.0]);
        let scale =
            |latent: u32| [Some((10.0, 0.5)), Some((2.0, 1e-4)), Some((8.0, 0.01))][latent as usize].map(|(max, density)| Scale { max, density });
        // Token 99 ends a text; the first row, which stands before the text, is nobody's.
        let fires = Fires::new(&[99, 7, 8], &acts, 16, 99, &scale);
        assert_eq!((&fires.strongest[..], &fires.n_features[..]), (&[0.5, 0.25][..], &[2, 2][..]));
        let order = |at| fires.ranked(at, &scale, 1000).iter().map(|r| (r.latent, r.place, r.share)).collect::<Vec<_>>();
        assert_eq!(order(None), [(1, 0, 0.5), (2, 0, 0.5), (0, 1, 0.5)], "equal shares, rarest first");
        assert_eq!(order(Some(1)), [(2, 1, 0.25), (0, 1, 0.5)]);
        // No densities known: the strongest first, whatever their numbers.
        let of_text = |_| Some(Scale { max: 9.0, density: 0.0 });
        assert_eq!(fires.ranked(None, &of_text, 0).iter().map(|r| r.latent).collect::<Vec<_>>(), [0, 2, 1]);
        // Nothing known: everything is at its maximum.
        assert_eq!(Fires::new(&[99, 7, 8], &acts, 16, 99, &|_| None).strongest, [1.0, 1.0]);
    }
}
