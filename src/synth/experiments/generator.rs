//! The generator of SynthSAEBench-16k by itself: is it the published one, and what does a row cost?

use super::{Ask, Experiment, Outcome};
use crate::artifact::{Figure, Progress, grouped};
use crate::kernels::gemm::matmul_nt;
use crate::sae::{RowSource, SparseRows};
use crate::synth::data::Dictionary;
use crate::synth::data::forest::{Forest, ForestConfig};
use crate::synth::source::{Generator, Rows};
use crate::synth::{Error, Result};
use rayon::prelude::*;
use std::time::Instant;

pub const GENERATOR: Experiment = Experiment {
    name: "generator",
    about: "the data of SynthSAEBench-16k: its figures and what a row costs",
    source: "Chanin and Garriga-Alonso 2026, SynthSAEBench",
    rows: 0,
    takes: "1 minute",
    run,
};

/// Rows that are counted.
const ROWS: usize = 200_000;

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let n_rows = ask.rows.map_or(ROWS, |rows| rows as usize).max(1);
    progress.note("pushing 16,384 directions apart");
    let began = Instant::now();
    let forest = Forest::new(&ForestConfig::bench_16k(), 0);
    let made = began.elapsed().as_secs_f64();
    let d = forest.dictionary().d_in;
    let mut rows = Rows::new(&forest, ask.seeds[0], "train");
    let (mut x, mut features) = (vec![0.0; 1024 * d], SparseRows::default());
    rows.next_rows(&mut x).expect("rows of a generator do not fail");
    let (mut fires, mut first, mut seconds) = (0, 0, 0.0);
    progress.begin("rows", n_rows as u64, "rows");
    let mut left = n_rows;
    while left > 0 {
        let n = left.min(1024);
        let began = Instant::now();
        rows.next_with_features(&mut x[..n * d], &mut features);
        seconds += began.elapsed().as_secs_f64();
        fires += features.n_active();
        first += features.latent.iter().filter(|&&i| i < 4096).count();
        left -= n;
        progress.advance(n as u64);
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    progress.end();
    let per_row = |count: usize| count as f64 / n_rows as f64;
    let crowding = mean_largest_cosine(forest.dictionary());
    let rate = n_rows as f64 / seconds;
    let figure = |what: &str, value: f64| Figure::new("generator", what, &[value]);
    Ok(Outcome {
        experiment: GENERATOR.name,
        says: format!(
            "{:.1} features fire in a row, {:.1} of them among the first 4,096, which are as many as the benchmark's SAEs have latents. \
             A direction's nearest neighbour has |cos| {crowding:.3} with it on average: 16,384 directions share 768 dimensions. \
             Rows come at {} a second on {} threads, because rare features are skipped over and not asked.",
            per_row(fires),
            per_row(first),
            grouped(rate as u64),
            rayon::current_num_threads()
        ),
        figures: vec![
            figure("true l0", per_row(fires)).published(34.0).within(33.0, 35.0),
            figure("true l0 of the first 4,096", per_row(first)).published(25.0).within(24.0, 26.0),
            figure("mean largest |cos|", crowding).published(0.15).within(0.14, 0.16),
            figure("smallest expected rate", forest.smallest_rate()),
            figure("rows per second", rate),
            figure("seconds to make the directions", made),
        ],
    })
}

/// Mean over features of the largest |cos| with another one.
fn mean_largest_cosine(dictionary: &Dictionary) -> f64 {
    let (n, d) = (dictionary.n_features(), dictionary.d_in);
    let mut sum = 0.0;
    for first in (0..n).step_by(1024) {
        let some = 1024.min(n - first);
        let mut cosines = vec![0.0; some * n];
        matmul_nt(some, n, d, &dictionary.directions[first * d..][..some * d], &dictionary.directions, &mut cosines, false);
        let largest = |(i, row): (usize, &[f32])| {
            let others = row.iter().enumerate().filter(|(j, _)| *j != first + i).map(|(_, c)| c.abs());
            others.fold(0.0, f32::max) as f64
        };
        sum += cosines.par_chunks(n).enumerate().map(largest).collect::<Vec<f64>>().iter().sum::<f64>();
    }
    sum / n as f64
}
