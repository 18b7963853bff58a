//! Strongest examples that are nearly the same text are shown as one.

use super::collect::{Collected, Firing};
use super::store::GroupKind;
use super::text::Text;

/// Tokens before and after a firing that are compared.
const COMPARED: (u64, u64) = (12, 4);
/// From this Jaccard index of the sets of three tokens in a row two texts are nearly the same.
const SAME_FROM: f64 = 0.8;

/// The unit with its strongest examples cut to `n_top`; one whose text is nearly that of a stronger one is counted there instead of shown.
pub fn merged(mut unit: Collected, n_top: usize, text: &dyn Text) -> Collected {
    for group in unit.groups.iter_mut().filter(|g| g.kind == GroupKind::Top) {
        let mut shown: Vec<(Firing, Vec<[u32; 3]>)> = vec![];
        for firing in std::mem::take(&mut group.firings) {
            let ids = text.ids(firing.t.saturating_sub(COMPARED.0), firing.t + COMPARED.1 + 1);
            let mut triples: Vec<[u32; 3]> = ids.windows(3).map(|w| [w[0], w[1], w[2]]).collect();
            triples.sort_unstable();
            triples.dedup();
            match shown.iter().position(|(_, other)| jaccard(other, &triples) >= SAME_FROM) {
                Some(stronger) => shown[stronger].0.similar += 1,
                None if shown.len() < n_top => shown.push((firing, triples)),
                None => {}
            }
        }
        group.firings = shown.into_iter().map(|(firing, _)| firing).collect();
        group.n_firings = group.firings.len() as u64;
        let mass: f64 = group.firings.iter().map(|f| f.act as f64).sum();
        group.share_mass = mass / unit.mass;
        group.low = group.firings.last().map_or(group.low, |f| f.act);
    }
    unit
}

/// Of two sorted sets.
fn jaccard(a: &[[u32; 3]], b: &[[u32; 3]]) -> f64 {
    let shared = a.iter().filter(|x| b.binary_search(x).is_ok()).count();
    let all = a.len() + b.len() - shared;
    if all == 0 { 0.0 } else { shared as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::collect::Group;
    use super::super::text::fake::FakeText;
    use super::*;

    #[test]
    fn a_text_that_comes_again_is_counted_and_not_shown() {
        // Twice the same twenty tokens, then twenty others.
        let ids: Vec<u32> = (1..21).chain(1..21).chain(21..41).collect();
        let text = FakeText { vocab: vec![vec![]; 41], ids, doc_starts: vec![0, 20, 40] };
        let firing = |t: u64, act: f32| Firing { t, act, ..Default::default() };
        let group = |firings: Vec<Firing>| Group { kind: GroupKind::Top, low: 1.0, high: 4.0, n_firings: 3, share_mass: 1.0, firings };
        let unit = Collected { mass: 12.0, groups: vec![group(vec![firing(15, 3.0), firing(35, 2.0), firing(55, 1.0)])], ..Default::default() };
        let top = &merged(unit.clone(), 5, &text).groups[0];
        assert_eq!(top.firings.iter().map(|f| (f.t, f.similar)).collect::<Vec<_>>(), [(15, 1), (55, 0)]);
        // 3 + 1 of 12
        assert_eq!((top.n_firings, top.low, top.share_mass), (2, 1.0, 4.0 / 12.0));
        let one = &merged(unit, 1, &text).groups[0];
        assert_eq!(one.firings.iter().map(|f| (f.t, f.similar)).collect::<Vec<_>>(), [(15, 1)]);
    }
}
