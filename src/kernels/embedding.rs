//! Token and position embedding: gather forward, scatter backward.

use super::simd::Shared;
use rayon::prelude::*;

/// Columns that one task of the scatter owns.
const COLUMNS: usize = 64;

/// x_i = wte[ids_i] + wpe[i mod window]. Shapes: wte (V, D), wpe (at least window, D), x (N, D).
pub fn embedding_forward(ids: &[u32], window: usize, d: usize, wte: &[f32], wpe: &[f32], x: &mut [f32]) {
    assert!(x.len() == ids.len() * d && wpe.len() >= window * d, "{} ids of width {d}: {} elements, positions {}", ids.len(), x.len(), wpe.len());
    x.par_chunks_mut(d).enumerate().with_min_len(64).for_each(|(i, x)| {
        let token = &wte[ids[i] as usize * d..][..d];
        let position = &wpe[i % window * d..][..d];
        for j in 0..d {
            x[j] = token[j] + position[j];
        }
    });
}

/// d_wte[ids_i] += d_x_i and d_wpe[i mod window] += d_x_i, in the order of i: each task owns some columns and goes through all tokens.
pub fn embedding_backward(ids: &[u32], window: usize, d: usize, d_x: &[f32], d_wte: &mut [f32], d_wpe: &mut [f32]) {
    assert!(
        d_x.len() == ids.len() * d && d_wpe.len() >= window * d,
        "{} ids of width {d}: {} elements, positions {}",
        ids.len(),
        d_x.len(),
        d_wpe.len()
    );
    assert!(ids.iter().all(|&id| (id as usize + 1) * d <= d_wte.len()), "an id is outside the embedding of {} elements", d_wte.len());
    let (wte, wpe) = (Shared(d_wte.as_mut_ptr()), Shared(d_wpe.as_mut_ptr()));
    (0..d.div_ceil(COLUMNS)).into_par_iter().for_each(|task| {
        let from = task * COLUMNS;
        let n = COLUMNS.min(d - from);
        for (i, &id) in ids.iter().enumerate() {
            let d_x = &d_x[i * d + from..][..n];
            // SAFETY: rows are inside (asserted above); columns from..from + n belong to this task alone.
            let (token, position) = unsafe {
                (
                    std::slice::from_raw_parts_mut(wte.get().add(id as usize * d + from), n),
                    std::slice::from_raw_parts_mut(wpe.get().add(i % window * d + from), n),
                )
            };
            for j in 0..n {
                token[j] += d_x[j];
                position[j] += d_x[j];
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{at_threads, bits, random};

    #[test]
    fn the_scatter_is_the_transpose_of_the_gather() {
        // <gather(w), y> = <w, scatter(y)> for every w and y, which is what a gradient of a linear map is.
        let (ids, window, d) = ([3u32, 1, 3, 0, 4, 3], 3, 5);
        let (wte, wpe, y) = (random(5 * d, 50), random(4 * d, 51), random(6 * d, 52));
        let mut x = vec![0.0; 6 * d];
        embedding_forward(&ids, window, d, &wte, &wpe, &mut x);
        assert_eq!(x[2 * d + 1], wte[3 * d + 1] + wpe[2 * d + 1]);
        let (mut d_wte, mut d_wpe) = (vec![0.0; 5 * d], vec![0.0; 4 * d]);
        embedding_backward(&ids, window, d, &y, &mut d_wte, &mut d_wpe);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
        assert!((dot(&x, &y) - dot(&wte, &d_wte) - dot(&wpe, &d_wpe)).abs() < 1e-5);
        assert!(d_wte[2 * d..3 * d].iter().all(|&g| g == 0.0), "token 2 does not occur");
    }

    #[test]
    fn the_scatter_is_bitwise_repeatable_at_any_thread_count() {
        let ids: Vec<u32> = (0..900).map(|i| i * i % 7).collect();
        let d_x = random(900 * 130, 53);
        let run = |threads| {
            at_threads(threads, || {
                let (mut d_wte, mut d_wpe) = (vec![0.0; 7 * 130], vec![0.0; 30 * 130]);
                embedding_backward(&ids, 30, 130, &d_x, &mut d_wte, &mut d_wpe);
                bits(&[d_wte, d_wpe])
            })
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(3));
    }
}
