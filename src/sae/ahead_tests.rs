//! Batches are read while the step before them is taken: each once and in order, and nothing that is told or drawn depends on it.

use super::tests::{Synthetic, Watch, place};
use crate::artifact::Start;
use crate::sae::{Error, Place, Recipe, Resample, RowSource, SaeConfig, TrainConfig, train};
use std::io;

const BATCH: u64 = 64;
const STEPS: u64 = 20;

/// Remembers where every reading began and how many rows it asked for; fails at a row.
struct Remembering {
    source: Synthetic,
    reads: Vec<(u64, u64)>,
    fails_at: u64,
}

impl Remembering {
    fn new(fails_at: u64) -> Self {
        Remembering { source: Synthetic::new(12, 20, 3, 100_000), reads: Vec::new(), fails_at }
    }
}

impl RowSource for Remembering {
    fn width(&self) -> usize {
        self.source.width()
    }
    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        let (position, n) = (self.position(), (out.len() / self.width()) as u64);
        self.reads.push((position, n));
        if position + n > self.fails_at {
            return Err(io::Error::other("the disk is gone"));
        }
        self.source.next_rows(out)
    }
    fn position(&self) -> u64 {
        self.source.position()
    }
    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.source.seek(position)
    }
}

fn config(recipe: Recipe) -> TrainConfig {
    let mut config = TrainConfig::short(SaeConfig::new(12, 40, recipe), BATCH * STEPS, BATCH as usize, 1);
    (config.init_rows, config.checkpoint_every, config.log_every) = (500, 1, 1);
    config
}

#[test]
fn every_batch_is_read_once_and_a_resampling_draws_from_the_rows_that_follow_its_step() {
    let mut config = config(Recipe::topk(3, false));
    config.sae.d_sae = 400;
    // After step 8: with a window of one step whatever its batch did not make fire is dead.
    config.resample = Some(Resample { at: vec![0.4], window: 0.05, sample_rows: 100, centred: true, random: false });
    let dir = tempfile::tempdir().unwrap();
    let (mut source, mut watch) = (Remembering::new(u64::MAX), Watch::default());
    train(&mut source, &config, &place(dir.path()), &mut watch).unwrap();
    assert!(watch.notes.iter().any(|note| note.starts_with("step 8: resampled")), "{:?}", watch.notes);
    // What initial weights and the self-test are made of is read before the first batch and after the last.
    let batches: Vec<(u64, u64)> = (0..STEPS).map(|step| (step * BATCH, BATCH)).collect();
    let (before, after) = batches.split_at(8);
    let drawn = [(8 * BATCH, BATCH), (9 * BATCH, 100 - BATCH)];
    assert_eq!(source.reads[1..=STEPS as usize + drawn.len()], [before, &drawn, after].concat());
}

#[test]
fn what_was_trained_before_a_row_that_cannot_be_read_is_kept() {
    let config = config(Recipe::topk(3, true));
    let dir = tempfile::tempdir().unwrap();
    let run =
        |fails_at: u64, start: Start| train(&mut Remembering::new(fails_at), &config, &Place { start, ..place(dir.path()) }, &mut Watch::default());
    // The batch of step 11 is read during step 10.
    let failed = run(10 * BATCH + 5, Start::New).err();
    assert!(matches!(failed, Some(Error::Source { position, .. }) if position == 10 * BATCH), "{failed:?}");
    let mut watch = Watch::default();
    let place = Place { start: Start::Resume, ..place(dir.path()) };
    let resumed = train(&mut Remembering::new(u64::MAX), &config, &place, &mut watch).unwrap();
    assert!(watch.notes.contains(&format!("going on after step 10 of {STEPS}")), "{:?}", watch.notes);
    let whole = tempfile::tempdir().unwrap();
    let whole = train(&mut Remembering::new(u64::MAX), &config, &super::tests::place(whole.path()), &mut watch).unwrap();
    assert_eq!(resumed.sae, whole.sae);
}
