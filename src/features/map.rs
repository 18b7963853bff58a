//! Directions laid out in two dimensions, so that near ones stand together. Reads decoder rows; writes `features/<name>.map.safetensors`, a
//! derived file. Does not know text or pages.
//!
//! UMAP (McInnes, Healy, Melville 2018): 1. the k nearest of each by cosine distance, exactly; 2. weights w_ij = exp(-max(0, d_ij - rho_i) /
//! sigma_i) with sigma_i such that they add up to log2 k, made symmetric by w + w' - w w'; 3. a layout by stochastic gradient steps that pull
//! along edges and push from random others, 1 / (1 + a r^2b) being how near two points are.
//!
//! Our own, because the kept crates cannot promise the same map twice: umap-rs steps from several threads at once without order, bhtsne
//! draws from the thread's own generator. Here the neighbours are found in parallel and the steps taken one after another.
//!
//! N = points, D = width of a direction.

use super::{Error, Result};
use crate::artifact::{Dtype, Progress, Tensor, TensorFile, seed, write_tensors};
use crate::kernels::gemm::matmul_nt;
use rand::RngExt;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Neighbours of a point.
const K: usize = 15;
/// The curve of nearness for a least distance of 0.1 and a spread of 1, as the reference implementation fits it.
const A: f64 = 1.577;
const B: f64 = 0.895;
/// Random points that are pushed from for each edge that pulls.
const N_NEGATIVE: usize = 5;
/// Longest step along one axis.
const MAX_STEP: f64 = 4.0;
/// Cosines held at once: 64 MiB.
const BLOCK_ELEMENTS: usize = 1 << 24;

/// Where each point stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Which latents are on it, ascending.
    pub latents: Vec<u32>,
    /// (N, 2)
    pub xy: Vec<f32>,
}

/// Lays out the rows (N, D) of `latents`. The same bits from the same seed at any thread count.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn layout(latents: &[u32], rows: &[f32], d: usize, seed: u64, progress: &mut dyn Progress) -> Result<Map> {
    let n = latents.len();
    assert_eq!(rows.len(), n * d, "{n} directions of width {d}");
    let rows = unit_rows(rows, d);
    progress.begin("nearest directions", n as u64, "directions");
    let neighbours = nearest(&rows, d, K.min(n.saturating_sub(1)), progress)?;
    progress.end();
    let edges = edges(&neighbours);
    let mut y = principal(&rows, d, seed);
    let n_epochs = if n > 10_000 { 200 } else { 500 };
    progress.begin("map", n_epochs as u64, "epochs");
    descend(&mut y, &edges, n_epochs, seed, progress)?;
    progress.end();
    Ok(Map { latents: latents.to_vec(), xy: y.iter().map(|&x| x as f32).collect() })
}

/// The map that was made from these weights, if it is there.
pub fn load(path: &Path, weights_hash: &str) -> Option<Map> {
    let file = TensorFile::open(path).ok()?;
    if file.metadata().get("weights_hash").map(String::as_str) != Some(weights_hash) {
        return None;
    }
    let n = *file.shape("xy").ok()?.first()?;
    let xy = file.f32("xy", &[n, 2]).ok()?;
    let bytes = file.bytes("latents", Dtype::U32, &[Some(n)]).ok()?;
    let latents: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let sound = xy.iter().all(|x| x.is_finite()) && latents.is_sorted();
    sound.then_some(Map { latents, xy })
}

/// Keeps the map beside the dictionary.
pub fn save(path: &Path, weights_hash: &str, map: &Map) -> Result<()> {
    let n = map.latents.len();
    let tensors = [Tensor::u32("latents", &[n], &map.latents), Tensor::f32("xy", &[n, 2], &map.xy)];
    Ok(write_tensors(path, &tensors, &[("weights_hash", weights_hash.to_string())])?)
}

fn unit_rows(rows: &[f32], d: usize) -> Vec<f32> {
    let mut unit = rows.to_vec();
    unit.par_chunks_mut(d.max(1)).for_each(|row| {
        let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
    });
    unit
}

/// The `k` nearest others of each point with their cosine distances, nearest first; of equal ones the first.
fn nearest(rows: &[f32], d: usize, k: usize, progress: &mut dyn Progress) -> Result<Vec<Vec<(u32, f64)>>> {
    let n = rows.len() / d.max(1);
    let block = (BLOCK_ELEMENTS / n.max(1)).clamp(1, n.max(1));
    let mut cosines = vec![0.0; block * n];
    let mut found = Vec::with_capacity(n);
    for (b, part) in rows.chunks(block * d.max(1)).enumerate() {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        let m = part.len() / d;
        let cosines = &mut cosines[..m * n];
        matmul_nt(m, n, d, part, rows, cosines, false);
        let of_row = |(i, row): (usize, &[f32])| {
            let own = b * block + i;
            // Nearly every one is turned away by the first comparison.
            let mut best: Vec<(u32, f32)> = Vec::with_capacity(k + 1);
            for (j, &cosine) in row.iter().enumerate() {
                if j == own || (best.len() == k && best.last().is_none_or(|worst| cosine <= worst.1)) {
                    continue;
                }
                let at = best.partition_point(|b| b.1 >= cosine);
                best.insert(at, (j as u32, cosine));
                best.truncate(k);
            }
            best.into_iter().map(|(j, cosine)| (j, (1.0 - f64::from(cosine)).max(0.0))).collect()
        };
        found.par_extend(cosines.par_chunks(n).enumerate().map(of_row));
        progress.advance(m as u64);
    }
    Ok(found)
}

/// (i, j, weight) with i < j, by i then j.
fn edges(neighbours: &[Vec<(u32, f64)>]) -> Vec<(u32, u32, f64)> {
    // Both directions of a pair: from the smaller number and from the larger.
    let mut both: BTreeMap<(u32, u32), (f64, f64)> = BTreeMap::new();
    for (i, near) in neighbours.iter().enumerate() {
        for (&(j, _), weight) in near.iter().zip(weights(near)) {
            let i = i as u32;
            let entry = both.entry((i.min(j), i.max(j))).or_default();
            *(if i < j { &mut entry.0 } else { &mut entry.1 }) = weight;
        }
    }
    both.into_iter().map(|((i, j), (w, v))| (i, j, w + v - w * v)).collect()
}

/// Of one point's neighbours, nearest first: exp(-max(0, d - rho) / sigma), adding up to log2 k.
fn weights(near: &[(u32, f64)]) -> Vec<f64> {
    let rho = near.iter().map(|n| n.1).find(|&d| d > 0.0).unwrap_or(0.0);
    let at = |sigma: f64| near.iter().map(move |n| (-(n.1 - rho).max(0.0) / sigma).exp());
    let wanted = (near.len() as f64).log2().max(1.0);
    let (mut low, mut high) = (1e-9, 1e3);
    for _ in 0..64 {
        let middle = f64::sqrt(low * high);
        if at(middle).sum::<f64>() > wanted { high = middle } else { low = middle }
    }
    at(f64::sqrt(low * high)).collect()
}

/// Where the layout starts: the two principal components, the larger 10 wide, and a little noise so that no two points are the same.
fn principal(rows: &[f32], d: usize, seed: u64) -> Vec<f64> {
    let n = rows.len() / d.max(1);
    let mut rng = seed::rng(seed, "features/map/start", 0);
    let mut axes: Vec<Vec<f64>> = vec![];
    for _ in 0..2 {
        let mut axis: Vec<f64> = (0..d).map(|_| rng.random_range(-1.0..1.0)).collect();
        for _ in 0..30 {
            // Sums over points in blocks of a fixed size, so that threads do not decide their order.
            let parts: Vec<Vec<f64>> = rows
                .par_chunks(4096 * d)
                .map(|part| {
                    let mut sum = vec![0.0; d];
                    for row in part.chunks_exact(d) {
                        let along: f64 = row.iter().zip(&axis).map(|(x, a)| f64::from(*x) * a).sum();
                        sum.iter_mut().zip(row).for_each(|(s, x)| *s += along * f64::from(*x));
                    }
                    sum
                })
                .collect();
            let mut next = vec![0.0; d];
            parts.iter().for_each(|part| next.iter_mut().zip(part).for_each(|(n, p)| *n += p));
            for other in &axes {
                let along: f64 = next.iter().zip(other).map(|(a, b)| a * b).sum();
                next.iter_mut().zip(other).for_each(|(n, o)| *n -= along * o);
            }
            let norm = next.iter().map(|x| x * x).sum::<f64>().sqrt();
            if norm < 1e-12 {
                break;
            }
            axis = next.into_iter().map(|x| x / norm).collect();
        }
        axes.push(axis);
    }
    let mut y = vec![0.0; 2 * n];
    y.par_chunks_mut(2).zip(rows.par_chunks(d.max(1))).for_each(|(y, row)| {
        for (y, axis) in y.iter_mut().zip(&axes) {
            *y = row.iter().zip(axis).map(|(x, a)| f64::from(*x) * a).sum();
        }
    });
    let widest = y.iter().fold(1e-12f64, |m, y| m.max(y.abs()));
    y.iter_mut().for_each(|y| *y = *y / widest * 5.0 + rng.random_range(-1e-3..1e-3));
    y
}

/// The steps, one after another. An edge of the largest weight is followed in every epoch, others in proportion to theirs.
fn descend(y: &mut [f64], edges: &[(u32, u32, f64)], n_epochs: usize, seed: u64, progress: &mut dyn Progress) -> Result<()> {
    let n = y.len() / 2;
    let heaviest = edges.iter().fold(0.0f64, |m, e| m.max(e.2));
    let every: Vec<f64> = edges.iter().map(|e| heaviest / e.2.max(heaviest * 1e-6)).collect();
    let mut due = every.clone();
    let mut rng = seed::rng(seed, "features/map/steps", 0);
    for epoch in 0..n_epochs {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        let rate = 1.0 - epoch as f64 / n_epochs as f64;
        for ((&(i, j, _), every), due) in edges.iter().zip(&every).zip(&mut due) {
            if *due > (epoch + 1) as f64 {
                continue;
            }
            *due += every;
            let (i, j) = (i as usize, j as usize);
            pull(y, i, j, rate);
            for from in [i, j] {
                for _ in 0..N_NEGATIVE {
                    let other = rng.random_range(0..n);
                    if other != from {
                        push(y, from, other, rate);
                    }
                }
            }
        }
        progress.advance(1);
    }
    Ok(())
}

fn apart(y: &[f64], i: usize, j: usize) -> ([f64; 2], f64) {
    let d = [y[2 * i] - y[2 * j], y[2 * i + 1] - y[2 * j + 1]];
    (d, d[0] * d[0] + d[1] * d[1])
}

/// Both ends of an edge move: the gradient of log 1 / (1 + a r^2b).
fn pull(y: &mut [f64], i: usize, j: usize, rate: f64) {
    let (d, r2) = apart(y, i, j);
    if r2 > 0.0 {
        let c = -2.0 * A * B * r2.powf(B - 1.0) / (1.0 + A * r2.powf(B));
        for axis in 0..2 {
            let step = rate * (c * d[axis]).clamp(-MAX_STEP, MAX_STEP);
            y[2 * i + axis] += step;
            y[2 * j + axis] -= step;
        }
    }
}

/// One point moves: the gradient of log (1 - 1 / (1 + a r^2b)).
fn push(y: &mut [f64], i: usize, other: usize, rate: f64) {
    let (d, r2) = apart(y, i, other);
    let c = 2.0 * B / ((0.001 + r2) * (1.0 + A * r2.powf(B)));
    for axis in 0..2 {
        y[2 * i + axis] += rate * (c * d[axis]).clamp(-MAX_STEP, MAX_STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Silent;

    /// Three bundles of directions in seven dimensions, mixed.
    fn bundles(n: usize) -> (Vec<f32>, Vec<usize>) {
        let mut rng = seed::rng(0, "test/map", 0);
        let of: Vec<usize> = (0..n).map(|i| i % 3).collect();
        let rows = of.iter().flat_map(|&b| (0..7).map(|c| rng.random_range(-0.2f32..0.2) + f32::from(u8::from(c == 2 * b))).collect::<Vec<_>>());
        (rows.collect(), of)
    }

    #[test]
    fn directions_of_one_bundle_stand_together_and_bundles_apart() {
        let (rows, of) = bundles(120);
        let latents: Vec<u32> = (0..120).collect();
        let map = layout(&latents, &rows, 7, 3, &mut Silent).unwrap();
        let at = |i: usize| (f64::from(map.xy[2 * i]), f64::from(map.xy[2 * i + 1]));
        let distance = |i: usize, j: usize| (at(i).0 - at(j).0).hypot(at(i).1 - at(j).1);
        // The nearest on the map is of the same bundle for nearly all.
        let same = (0..120).filter(|&i| {
            let near = (0..120).filter(|&j| j != i).min_by(|&a, &b| distance(i, a).total_cmp(&distance(i, b))).unwrap();
            of[near] == of[i]
        });
        assert!(same.count() >= 118);
    }

    #[test]
    fn the_map_is_the_same_bits_at_any_thread_count_and_another_with_another_seed() {
        let (rows, _) = bundles(60);
        let latents: Vec<u32> = (0..60).collect();
        let run = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| layout(&latents, &rows, 7, seed, &mut Silent).unwrap())
        };
        let one = run(1, 5);
        assert!(run(2, 5) == one && run(3, 5) == one && run(1, 6) != one);
        assert!(one.xy.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn weights_of_neighbours_add_up_to_the_logarithm_of_their_number() {
        let near: Vec<(u32, f64)> = [0.1, 0.2, 0.25, 0.5, 0.7, 0.71, 0.9, 1.2].iter().map(|&d| (0, d)).collect();
        let weights = weights(&near);
        assert!((weights.iter().sum::<f64>() - 3.0).abs() < 1e-6 && weights[0] == 1.0 && weights.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn a_map_is_read_back_for_the_weights_that_it_was_made_from_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.map.safetensors");
        assert_eq!(load(&path, "w"), None);
        let map = Map { latents: vec![0, 3, 131_071], xy: vec![0.5, -1.0, 2.0, 3.0, 4.0, 5.0] };
        save(&path, "w", &map).unwrap();
        assert_eq!(load(&path, "w"), Some(map));
        assert_eq!(load(&path, "other"), None);
        std::fs::write(&path, "damaged").unwrap();
        assert_eq!(load(&path, "w"), None);
    }

    #[test]
    fn one_or_two_directions_have_a_map_too() {
        for n in [1usize, 2] {
            let map = layout(&(0..n as u32).collect::<Vec<_>>(), &vec![0.5; 3 * n], 3, 0, &mut Silent).unwrap();
            assert!(map.xy.len() == 2 * n && map.xy.iter().all(|x| x.is_finite()));
        }
    }
}
