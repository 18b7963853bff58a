//! From features to rows: any generator becomes a [`RowSource`] that can also say which features each row was made of.

use super::data::Dictionary;
use crate::artifact::seed;
use crate::kernels::sparse::gather_axpy;
use crate::sae::{RowSource, SparseRows};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::io;

/// Rows that share one random generator. The rows of a block are a function of (seed, stream, block), wherever reading begins and however it is cut.
pub const BLOCK: usize = 64;

/// Blocks that are drawn at once, in parallel.
const BLOCKS: usize = 16;

/// Rows that are drawn at once.
const CHUNK: u64 = (BLOCK * BLOCKS) as u64;

/// Data whose features are known: row x = bias + sum over its active features of magnitude * direction.
pub trait Generator: Send + Sync {
    fn dictionary(&self) -> &Dictionary;

    /// Appends the active features (ids ascending, magnitudes above 0) of `n` more rows.
    fn draw(&self, rng: &mut ChaCha8Rng, n: usize, rows: &mut SparseRows);
}

/// Endless rows of a generator. Different streams of one seed are independent: "train" to train on, "eval" to be scored on.
pub struct Rows<'a> {
    generator: &'a dyn Generator,
    seed: u64,
    stream: &'static str,
    position: u64,
    /// The chunk of CHUNK rows that is in `x` (CHUNK, D) and, block by block, in `features`.
    drawn: Option<u64>,
    x: Vec<f32>,
    features: Vec<SparseRows>,
}

impl<'a> Rows<'a> {
    pub fn new(generator: &'a dyn Generator, seed: u64, stream: &'static str) -> Self {
        Rows { generator, seed, stream, position: 0, drawn: None, x: Vec::new(), features: Vec::new() }
    }

    /// Fills x (n, D) with the next rows and `features` with what they were made of.
    pub fn next_with_features(&mut self, x: &mut [f32], features: &mut SparseRows) {
        features.clear();
        self.read(x, |block, row| {
            let (ids, magnitudes) = block.row(row);
            features.push_row(ids, magnitudes);
        });
    }

    fn read(&mut self, out: &mut [f32], mut each: impl FnMut(&SparseRows, usize)) {
        for out in out.chunks_exact_mut(self.width()) {
            let (chunk, row) = (self.position / CHUNK, (self.position % CHUNK) as usize);
            if self.drawn != Some(chunk) {
                self.draw(chunk);
            }
            out.copy_from_slice(&self.x[row * out.len()..][..out.len()]);
            each(&self.features[row / BLOCK], row % BLOCK);
            self.position += 1;
        }
    }

    fn draw(&mut self, chunk: u64) {
        let dictionary = self.generator.dictionary();
        let d = dictionary.d_in;
        self.x.resize(CHUNK as usize * d, 0.0);
        self.features.resize_with(BLOCKS, SparseRows::default);
        let blocks = self.x.par_chunks_exact_mut(BLOCK * d).zip(&mut self.features).enumerate();
        blocks.for_each(|(block, (x, features))| {
            features.clear();
            let index = chunk * BLOCKS as u64 + block as u64;
            self.generator.draw(&mut seed::rng(self.seed, &format!("synth/{}", self.stream), index), BLOCK, features);
            for (r, x) in x.chunks_exact_mut(d).enumerate() {
                let (ids, magnitudes) = features.row(r);
                x.copy_from_slice(&dictionary.bias);
                gather_axpy(ids, magnitudes, &dictionary.directions, x);
            }
        });
        self.drawn = Some(chunk);
    }
}

impl RowSource for Rows<'_> {
    fn width(&self) -> usize {
        self.generator.dictionary().d_in
    }

    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        self.read(out, |_, _| {});
        Ok(out.len() / self.width())
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.position = position;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::data::forest::{Forest, ForestConfig};

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn rows_depend_on_their_position_only_not_on_how_reads_are_cut_nor_on_threads() {
        let forest = Forest::new(&ForestConfig::tiny(), 1);
        let (d, n) = (forest.dictionary().d_in, 2500);
        let whole = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let mut x = vec![0.0; n * d];
                Rows::new(&forest, 7, "train").next_rows(&mut x).unwrap();
                bits(&x)
            })
        };
        let one = whole(1);
        assert_eq!(one, whole(3));
        let mut rows = Rows::new(&forest, 7, "train");
        let mut cut = vec![0.0; n * d];
        for part in cut.chunks_mut(37 * d) {
            rows.next_rows(part).unwrap();
        }
        assert_eq!(one, bits(&cut));
        rows.seek(1999).unwrap();
        let mut few = vec![0.0; 100 * d];
        rows.next_rows(&mut few).unwrap();
        assert_eq!((bits(&few).as_slice(), rows.position()), (&one[1999 * d..2099 * d], 2099));
        for other in [Rows::new(&forest, 8, "train"), Rows::new(&forest, 7, "eval")] {
            let mut rows = other;
            rows.next_rows(&mut few).unwrap();
            assert_ne!(bits(&few)[..], one[..100 * d]);
        }
    }

    #[test]
    fn a_row_is_the_bias_and_the_sum_of_the_features_it_is_said_to_be_made_of() {
        let forest = Forest::new(&ForestConfig::tiny(), 1);
        let Dictionary { d_in: d, directions, bias } = forest.dictionary();
        let (mut x, mut features) = (vec![0.0; 90 * d], SparseRows::default());
        Rows::new(&forest, 7, "train").next_with_features(&mut x, &mut features);
        assert_eq!(features.n_rows(), 90);
        for (r, x) in x.chunks_exact(*d).enumerate() {
            let (ids, magnitudes) = features.row(r);
            assert!(ids.is_sorted_by(|a, b| a < b) && magnitudes.iter().all(|&m| m > 0.0));
            for (i, &got) in x.iter().enumerate() {
                let sum: f64 = ids.iter().zip(magnitudes).map(|(&j, &m)| m as f64 * directions[j as usize * d + i] as f64).sum();
                assert!((got as f64 - sum - bias[i] as f64).abs() < 1e-4, "row {r}: {got}");
            }
        }
    }
}
