//! What the kernels' tests share: seeded numbers, thread pools, finite differences.

use crate::artifact::seed;
use rand::RngExt;

/// `n` numbers in [-1, 1), another sequence for each index.
pub fn random(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "test/kernels", index);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

pub fn at_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

pub fn bits(arrays: &[Vec<f32>]) -> Vec<u32> {
    arrays.iter().flatten().map(|x| x.to_bits()).collect()
}

/// Largest difference between `gradient` and central differences of `loss` around `x`, relative to the largest gradient.
///
/// The loss must be computed in f64; the step is 2^-10, so that x + step is nearly exact and the error of the difference, O(step^2), stays below 1e-5.
pub fn gradient_error(x: &[f32], gradient: &[f32], loss: impl Fn(&[f32]) -> f64) -> f64 {
    assert_eq!(x.len(), gradient.len());
    let step = 1.0 / 1024.0;
    let mut moved = x.to_vec();
    let largest = gradient.iter().fold(1e-3f64, |m, g| m.max(g.abs() as f64));
    let mut worst = 0.0f64;
    for i in 0..x.len() {
        let (above, below) = (x[i] + step, x[i] - step);
        moved[i] = above;
        let up = loss(&moved);
        moved[i] = below;
        let down = loss(&moved);
        moved[i] = x[i];
        let want = (up - down) / (above as f64 - below as f64);
        worst = worst.max((want - gradient[i] as f64).abs() / largest);
    }
    worst
}
