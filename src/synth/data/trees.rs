//! A handful of features in trees, exact: for phenomena that can be worked out by hand.

use super::Dictionary;
use crate::sae::SparseRows;
use crate::synth::source::Generator;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Features that can fire where their parent does; without a parent, in every row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    pub parent: Option<u32>,
    /// One at most, member i with its probability; otherwise each by itself.
    pub exclusive: bool,
    /// (feature, probability given the parent)
    pub members: Vec<(u32, f64)>,
}

/// Feature i fires with magnitude `scale[i]`, always the same.
pub struct Trees {
    dictionary: Dictionary,
    /// Parents stand in groups before those of their children.
    groups: Vec<Group>,
    scale: Vec<f32>,
}

impl Trees {
    pub fn new(dictionary: Dictionary, groups: Vec<Group>, scale: Vec<f32>) -> Self {
        let mut placed: Vec<u32> = Vec::new();
        for group in &groups {
            assert!(group.parent.is_none_or(|p| placed.contains(&p)), "parent {:?} stands behind its children", group.parent);
            let sum: f64 = group.members.iter().map(|m| m.1).sum();
            assert!(!group.exclusive || sum <= 1.0, "exclusive features with {sum} together");
            placed.extend(group.members.iter().map(|m| m.0));
        }
        placed.sort_unstable();
        assert!(placed == (0..scale.len() as u32).collect::<Vec<_>>() && scale.len() == dictionary.n_features(), "each feature stands in one group");
        Trees { dictionary, groups, scale }
    }

    /// Rate of each feature, by its tree.
    pub fn rates(&self) -> Vec<f64> {
        let mut rates = vec![0.0; self.scale.len()];
        for group in &self.groups {
            let parent = group.parent.map_or(1.0, |p| rates[p as usize]);
            group.members.iter().for_each(|&(i, p)| rates[i as usize] = parent * p);
        }
        rates
    }
}

impl Generator for Trees {
    fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    fn draw(&self, rng: &mut ChaCha8Rng, n: usize, rows: &mut SparseRows) {
        let mut on = vec![false; self.scale.len()];
        for _ in 0..n {
            on.fill(false);
            for group in &self.groups {
                if group.parent.is_some_and(|p| !on[p as usize]) {
                    continue;
                }
                let mut v: f64 = rng.random();
                for &(i, p) in &group.members {
                    on[i as usize] = (0.0..p).contains(&v);
                    v = if group.exclusive { v - p } else { rng.random() };
                }
            }
            let ids: Vec<u32> = (0..on.len() as u32).filter(|&i| on[i as usize]).collect();
            let magnitudes: Vec<f32> = ids.iter().map(|&i| self.scale[i as usize]).collect();
            rows.push_row(&ids, &magnitudes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;

    #[test]
    fn trees_fire_at_their_rates_children_with_parents_and_exclusive_ones_alone() {
        let groups = vec![
            Group { parent: None, exclusive: false, members: vec![(0, 0.3), (5, 0.1)] },
            Group { parent: Some(0), exclusive: true, members: vec![(1, 0.2), (2, 0.5)] },
            Group { parent: Some(2), exclusive: false, members: vec![(3, 0.5), (4, 0.4)] },
        ];
        let scale = vec![1.0, 0.9, 1.1, 1.0, 1.0, 2.0];
        let trees = Trees::new(Dictionary::orthogonal(6, 8, 1), groups, scale.clone());
        let want = [0.3, 0.06, 0.15, 0.075, 0.06, 0.1];
        assert!(trees.rates().iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12));
        let mut rows = SparseRows::default();
        trees.draw(&mut seed::rng(0, "test/trees", 0), 30_000, &mut rows);
        let mut fired = [0.0; 6];
        for r in 0..30_000 {
            let (ids, magnitudes) = rows.row(r);
            let on = |i: u32| ids.contains(&i);
            assert!(!(on(1) && on(2)) && (on(0) || !on(1)) && (on(2) || !(on(3) || on(4))), "{ids:?}");
            for (&i, &a) in ids.iter().zip(magnitudes) {
                fired[i as usize] += 1.0 / 30_000.0;
                assert_eq!(a, scale[i as usize]);
            }
        }
        assert!(fired.iter().zip(want).all(|(f, w)| (f - w).abs() < 4.0 * (w / 30_000.0f64).sqrt()), "{fired:?}");
        let both = (0..30_000).filter(|&r| rows.row(r).0.contains(&3) && rows.row(r).0.contains(&4)).count() as f64 / 30_000.0;
        assert!((both - 0.03).abs() < 0.004, "{both}");
    }
}
