//! Two dictionaries of directions beside each other: which latents both have, which of one are several of the other, which are new and which
//! are lost. [`compare`] reads two SAEs; [`open`] finds them in runs. Does not know text or pages.
//!
//! > cos(a, b) = w_dec_a . w_dec_b / (|w_dec_a| |w_dec_b|)
//!
//! A pair is **matched** where each is the other's nearest and cos >= [`MATCHED`]; a latent of A is **split** where it is the nearest of two or
//! more of B with cos >= [`RELATED`]; **lost** or **new** is what has no nearest with cos >= [`RELATED`]. Source: feature splitting by
//! decoder geometry, Bricken et al. 2023; mean max cosine similarity, Sharkey et al. 2022.
//!
//! F = d_sae, D = width of the directions. Nothing of size F x F is held: a block of rows of A meets all of B, and only the nearest are kept.

mod side;

pub use side::{Named, cautions, names, open};

use super::{Error, Result};
use crate::kernels::gemm::matmul_nt;
use crate::sae::Sae;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// From this cosine on, mutually nearest latents are taken for the same.
pub const MATCHED: f32 = 0.7;
/// Below this cosine the nearest latent is taken for another.
pub const RELATED: f32 = 0.5;
/// Cosines held at once: 64 MiB.
const BLOCK_ELEMENTS: usize = 1 << 24;

/// One side: an SAE and which of its latents count (the living ones), all of them where nothing is known.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub sae: &'a Sae,
    /// (F,)
    pub alive: Option<&'a [bool]>,
}

/// A latent and the nearest of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Nearest {
    pub latent: u32,
    pub other: u32,
    pub cosine: f32,
}

/// A latent of one side and those of the other that it is the nearest of, nearest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Split {
    pub latent: u32,
    pub into: Vec<(u32, f32)>,
}

/// Latents by number within each list, but for `splits` and `merges`: those of most parts first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Latents that count.
    pub n_a: usize,
    pub n_b: usize,
    /// Every latent of A that counts, with the nearest of B.
    pub nearest_of_a: Vec<Nearest>,
    pub nearest_of_b: Vec<Nearest>,
    /// `latent` of A, `other` of B.
    pub matched: Vec<Nearest>,
    /// Of A, several of B.
    pub splits: Vec<Split>,
    /// Of B, several of A.
    pub merges: Vec<Split>,
    /// Of A, none of B.
    pub lost: Vec<Nearest>,
    /// Of B, none of A.
    pub new: Vec<Nearest>,
    /// Mean over A of the cosine with the nearest of B, and the reverse.
    pub mean_max_cosine: (f64, f64),
}

/// Compares two SAEs of the same activations.
///
/// # Errors
/// Their directions have different widths, or one has no latent that counts.
pub fn compare(a: Side, b: Side) -> Result<Comparison> {
    if a.sae.d_out() != b.sae.d_out() {
        let what = format!("the SAEs write {} and {} numbers\n  compare SAEs of the same hook and model width", a.sae.d_out(), b.sae.d_out());
        return Err(Error::Invalid(what));
    }
    let (of_a, of_b) = (Directions::new(a)?, Directions::new(b)?);
    let nearest_of_a = of_a.nearest(&of_b);
    let nearest_of_b = of_b.nearest(&of_a);
    let back: BTreeMap<u32, u32> = nearest_of_b.iter().map(|n| (n.latent, n.other)).collect();
    let matched = nearest_of_a.iter().filter(|n| n.cosine >= MATCHED && back.get(&n.other) == Some(&n.latent)).copied().collect();
    let unrelated = |all: &[Nearest]| all.iter().filter(|n| n.cosine < RELATED).copied().collect();
    let mean = |all: &[Nearest]| all.iter().map(|n| f64::from(n.cosine)).sum::<f64>() / all.len().max(1) as f64;
    Ok(Comparison {
        n_a: nearest_of_a.len(),
        n_b: nearest_of_b.len(),
        matched,
        splits: splits(&nearest_of_b),
        merges: splits(&nearest_of_a),
        lost: unrelated(&nearest_of_a),
        new: unrelated(&nearest_of_b),
        mean_max_cosine: (mean(&nearest_of_a), mean(&nearest_of_b)),
        nearest_of_a,
        nearest_of_b,
    })
}

/// What two or more have as their nearest.
fn splits(nearest: &[Nearest]) -> Vec<Split> {
    let mut parts: BTreeMap<u32, Vec<(u32, f32)>> = BTreeMap::new();
    for n in nearest.iter().filter(|n| n.cosine >= RELATED) {
        parts.entry(n.other).or_default().push((n.latent, n.cosine));
    }
    let mut splits: Vec<Split> = parts.into_iter().filter(|(_, into)| into.len() > 1).map(|(latent, into)| Split { latent, into }).collect();
    for split in &mut splits {
        split.into.sort_by(|x, y| y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)));
    }
    splits.sort_by(|x, y| y.into.len().cmp(&x.into.len()).then(x.latent.cmp(&y.latent)));
    splits
}

/// Unit decoder directions of the latents that count.
struct Directions {
    /// Numbers, ascending.
    latents: Vec<u32>,
    /// (n, D)
    rows: Vec<f32>,
    d: usize,
}

impl Directions {
    fn new(side: Side) -> Result<Self> {
        let d = side.sae.d_out();
        if let Some(alive) = side.alive.filter(|alive| alive.len() != side.sae.d_sae) {
            return Err(Error::Invalid(format!("{} latents are known alive or dead, the SAE has {}", alive.len(), side.sae.d_sae)));
        }
        let (mut latents, mut rows) = (vec![], vec![]);
        for (latent, row) in side.sae.w_dec.chunks_exact(d).enumerate() {
            let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            if norm > 0.0 && side.alive.is_none_or(|alive| alive[latent]) {
                latents.push(latent as u32);
                rows.extend(row.iter().map(|x| (f64::from(*x) / norm) as f32));
            }
        }
        if latents.is_empty() {
            return Err(Error::Invalid("an SAE has no living latent to compare\n  train it longer, or compare another".into()));
        }
        Ok(Directions { latents, rows, d })
    }

    /// The nearest of `other` to each of these; of equal ones the first.
    fn nearest(&self, other: &Directions) -> Vec<Nearest> {
        let n_other = other.latents.len();
        let block = (BLOCK_ELEMENTS / n_other).max(1);
        let mut cosines = vec![0.0; block.min(self.latents.len()) * n_other];
        let mut nearest = Vec::with_capacity(self.latents.len());
        for (latents, rows) in self.latents.chunks(block).zip(self.rows.chunks(block * self.d)) {
            let cosines = &mut cosines[..latents.len() * n_other];
            matmul_nt(latents.len(), n_other, self.d, rows, &other.rows, cosines, false);
            nearest.par_extend(cosines.par_chunks(n_other).zip(latents).map(|(row, &latent)| {
                let best = (1..n_other).fold(0, |best, i| if row[i] > row[best] { i } else { best });
                Nearest { latent, other: other.latents[best], cosine: row[best] }
            }));
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::Select;

    /// An SAE in three dimensions whose decoder has these rows.
    fn sae(rows: &[[f32; 3]]) -> Sae {
        let w_dec: Vec<f32> = rows.concat();
        let d_sae = rows.len();
        Sae {
            d_in: 3,
            d_sae,
            select: Select::Relu,
            w_enc: w_dec.clone(),
            b_enc: vec![0.0; d_sae],
            w_dec,
            b_dec: vec![0.0; 3],
            apply_b_dec_to_input: false,
            transcoder: None,
        }
    }

    fn all(sae: &Sae) -> Side<'_> {
        Side { sae, alive: None }
    }

    #[test]
    fn what_is_kept_split_new_and_lost_is_told_apart() {
        // A: x, y, z. B: y turned by little, x as two that are 0.9 to it and apart from each other, minus z.
        let a = sae(&[[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]);
        let b = sae(&[[0.1, 1.0, 0.0], [0.9, 0.43589, 0.0], [0.8, -0.6, 0.0], [0.0, 0.0, -1.0]]);
        let found = compare(all(&a), all(&b)).unwrap();
        let pairs: Vec<(u32, u32)> = found.matched.iter().map(|n| (n.latent, n.other)).collect();
        assert_eq!(pairs, [(0, 1), (1, 0)], "length does not matter");
        assert_eq!(found.splits.iter().map(|s| (s.latent, s.into.iter().map(|p| p.0).collect::<Vec<_>>())).collect::<Vec<_>>(), [(0, vec![1, 2])]);
        assert_eq!((found.merges.len(), found.lost.len(), found.new.len()), (0, 1, 1));
        assert_eq!((found.lost[0].latent, found.new[0].latent), (2, 3), "the opposite direction is another feature");
        // Of A: 0.9, 1 / sqrt(1.01), 0.
        assert!((found.mean_max_cosine.0 - (0.9 + 1.0 / 1.01f64.sqrt()) / 3.0).abs() < 1e-6);
    }

    #[test]
    fn an_sae_beside_itself_is_matched_to_the_last_living_latent() {
        let a = sae(&[[1.0, 0.5, 0.0], [0.0, 2.0, 0.1], [0.3, 0.0, 1.0], [0.0, 0.0, 0.0]]);
        let alive = [true, false, true, true];
        let side = Side { sae: &a, alive: Some(&alive) };
        let found = compare(side, side).unwrap();
        assert_eq!(found.matched.iter().map(|n| (n.latent, n.other)).collect::<Vec<_>>(), [(0, 0), (2, 2)], "dead ones and zeros do not count");
        assert!((found.n_a, found.lost.len(), found.splits.len()) == (2, 0, 0) && found.mean_max_cosine.0 > 0.999_999);
    }

    #[test]
    fn the_nearest_are_those_of_the_definition_at_any_thread_count() {
        use crate::artifact::seed;
        use rand::RngExt;
        let random = |n: usize, index| {
            let mut rng = seed::rng(0, "test/compare", index);
            sae(&(0..n).map(|_| [0; 3].map(|_| rng.random_range(-1.0f32..1.0))).collect::<Vec<_>>())
        };
        let (a, b) = (random(41, 0), random(57, 1));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| compare(all(&a), all(&b)).unwrap())
        };
        let found = run(1);
        assert!(run(2) == found && run(3) == found);
        let cosine = |x: &[f32], y: &[f32]| {
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
        };
        for n in &found.nearest_of_a {
            let best = b.w_dec.chunks(3).map(|row| cosine(a.direction(n.latent), row)).fold(-2.0, f64::max);
            // Unit rows and their products in f32.
            assert!((f64::from(n.cosine) - best).abs() < 1e-6);
        }
    }

    #[test]
    fn saes_of_different_widths_and_without_living_latents_are_refused() {
        let a = sae(&[[1.0, 0.0, 0.0]]);
        let wide = Sae { d_in: 1, d_sae: 3, ..a.clone() };
        assert!(compare(all(&a), all(&wide)).unwrap_err().to_string().contains("3 and 1 numbers"));
        assert!(compare(Side { sae: &a, alive: Some(&[false]) }, all(&a)).is_err());
        assert!(compare(Side { sae: &a, alive: Some(&[true, true]) }, all(&a)).is_err());
    }
}
