//! What decoder directions say: the nearest of other units, and the coordinates of the hook that a unit writes to.
//!
//! F = units, D = d_in, L = units that fire.

use crate::kernels::gemm::matmul_nt;
use rayon::prelude::*;

/// Nearest directions and largest entries that are kept.
const N_SIMILAR: usize = 10;
const N_ALIGNED: usize = 5;

/// Cosines held at once: 64 MiB.
const BLOCK_ELEMENTS: usize = 1 << 24;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Geometry {
    /// (unit that fires, cosine), largest first; empty for a unit that does not fire.
    pub similar: Vec<(u32, f32)>,
    /// (coordinate, entry, share of the L1 norm), largest size first.
    pub alignment: Vec<(u32, f32, f32)>,
}

/// Of each direction (F, D). All pairs of units that fire are compared, by products of blocks of rows, and only the best of each row are kept.
pub fn of(directions: &[f32], d_in: usize, fires: &[bool]) -> Vec<Geometry> {
    assert_eq!(directions.len(), fires.len() * d_in, "directions of {} units", fires.len());
    let aligned = |w: &[f32]| Geometry { similar: vec![], alignment: alignment(w) };
    let mut found: Vec<Geometry> = directions.par_chunks_exact(d_in).map(aligned).collect();
    let live: Vec<usize> = (0..fires.len()).filter(|u| fires[*u]).collect();
    let unit_rows: Vec<f32> = live
        .par_iter()
        .flat_map_iter(|&u| {
            let w = &directions[u * d_in..][..d_in];
            let norm = w.iter().map(|x| *x as f64 * *x as f64).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            w.iter().map(move |x| (*x as f64 / norm) as f32)
        })
        .collect();
    let block = (BLOCK_ELEMENTS / live.len().max(1)).clamp(32, 1024);
    let mut cosines = vec![0.0; block.min(live.len()) * live.len()];
    for (b, rows) in unit_rows.chunks(block * d_in).enumerate() {
        let n = rows.len() / d_in;
        let cosines = &mut cosines[..n * live.len()];
        matmul_nt(n, live.len(), d_in, rows, &unit_rows, cosines, false);
        let best: Vec<Vec<(u32, f32)>> =
            cosines.par_chunks_exact(live.len()).enumerate().map(|(i, row)| nearest(row, b * block + i, &live)).collect();
        best.into_iter().enumerate().for_each(|(i, best)| found[live[b * block + i]].similar = best);
    }
    found
}

/// The largest of a row of cosines but its own, ties by number.
fn nearest(row: &[f32], own: usize, live: &[usize]) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(N_SIMILAR + 1);
    for (j, &cosine) in row.iter().enumerate() {
        if j == own || (best.len() == N_SIMILAR && cosine <= best[N_SIMILAR - 1].1) {
            continue;
        }
        let at = best.partition_point(|b| b.1 >= cosine);
        best.insert(at, (live[j] as u32, cosine));
        best.truncate(N_SIMILAR);
    }
    best
}

fn alignment(w: &[f32]) -> Vec<(u32, f32, f32)> {
    let l1: f64 = w.iter().map(|x| x.abs() as f64).sum();
    let mut order: Vec<u32> = (0..w.len() as u32).collect();
    let larger = |a: &u32, b: &u32| w[*b as usize].abs().total_cmp(&w[*a as usize].abs()).then(a.cmp(b));
    if order.len() > N_ALIGNED {
        order.select_nth_unstable_by(N_ALIGNED, larger);
        order.truncate(N_ALIGNED);
    }
    order.sort_unstable_by(larger);
    order.retain(|&i| w[i as usize] != 0.0);
    order.into_iter().map(|i| (i, w[i as usize], (w[i as usize].abs() as f64 / l1) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use rand::RngExt;

    #[test]
    fn nearest_directions_are_those_of_all_pairs_and_units_that_never_fire_are_nobodys_neighbour() {
        let (f, d) = (61, 7);
        let mut rng = seed::rng(0, "test/geometry", 0);
        let directions: Vec<f32> = (0..f * d).map(|_| rng.random_range(-1.0..1.0)).collect();
        let fires: Vec<bool> = (0..f).map(|u| u % 5 != 0).collect();
        let found = of(&directions, d, &fires);
        let row = |u: usize| &directions[u * d..][..d];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| *x as f64 * *y as f64).sum::<f64>();
        for (u, got) in found.iter().enumerate() {
            if !fires[u] {
                assert!(got.similar.is_empty());
                continue;
            }
            let cosine = |v: usize| dot(row(u), row(v)) / (dot(row(u), row(u)) * dot(row(v), row(v))).sqrt();
            let mut want: Vec<(usize, f64)> = (0..f).filter(|v| *v != u && fires[*v]).map(|v| (v, cosine(v))).collect();
            want.sort_by(|a, b| b.1.total_cmp(&a.1));
            assert_eq!(got.similar.len(), N_SIMILAR);
            for (got, want) in got.similar.iter().zip(want) {
                assert!(got.0 as usize == want.0 && (got.1 as f64 - want.1).abs() < 1e-6);
            }
        }
        assert!(of(&[], 3, &[]).is_empty());
        assert!(of(&[1.0, 2.0], 2, &[true])[0].similar.is_empty(), "there is no other");
    }

    #[test]
    fn alignment_lists_the_largest_entries_with_their_shares() {
        // |.| sums to 10.
        let found = of(&[1.0, -4.0, 0.0, 2.0, 0.5, 0.5, 2.0], 7, &[true]).remove(0).alignment;
        assert_eq!(found, [(1, -4.0, 0.4), (3, 2.0, 0.2), (6, 2.0, 0.2), (0, 1.0, 0.1), (4, 0.5, 0.05)]);
        assert_eq!(of(&[0.0, 3.0], 2, &[true])[0].alignment, [(1, 3.0, 1.0)]);
    }
}
