//! The loop on synthetic rows with known features.

use super::*;
use crate::artifact::{self, Silent, seed};
use crate::sae::architectures::Units;
use crate::sae::config::AUXK_FROM;
use crate::sae::init::{gaussian, mean_to_spread};
use crate::sae::training::{lr_factor, penalty_schedule};
use crate::sae::{
    Architecture, BatchTopK, Begun, Matryoshka, Metrics, Origin, PAnneal, Recipe, Relu2023, ReluApril2024, Resample, SELFTEST_ROWS, SaeConfig,
    SparseRows, Tanh, history,
};
use rand::RngExt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[path = "far_from_zero_tests.rs"]
mod far_from_zero;

/// Rows that are sparse sums of unit directions, row i a pure function of (seed, i).
pub(crate) struct Synthetic {
    d: usize,
    features: Vec<f32>,
    active: usize,
    position: u64,
    n_rows: u64,
}

impl Synthetic {
    pub fn new(d: usize, n_features: usize, active: usize, n_rows: u64) -> Self {
        let mut rng = seed::rng(5, "test/features", 0);
        let mut features: Vec<f32> = (0..n_features * d).map(|_| gaussian(&mut rng)).collect();
        features.chunks_exact_mut(d).for_each(super::super::cpu::normalise);
        Synthetic { d, features, active, position: 0, n_rows }
    }
}

impl RowSource for Synthetic {
    fn width(&self) -> usize {
        self.d
    }
    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        let mut n = 0;
        for row in out.chunks_exact_mut(self.d) {
            if self.position == self.n_rows {
                break;
            }
            let mut rng = seed::rng(5, "test/rows", self.position);
            row.iter_mut().enumerate().for_each(|(i, v)| *v = 0.3 * (i % 3) as f32);
            for _ in 0..self.active {
                let j = rng.random_range(0..self.features.len() / self.d);
                let a = rng.random_range(0.5..1.5f32);
                row.iter_mut().zip(&self.features[j * self.d..]).for_each(|(v, f)| *v += a * f);
            }
            self.position += 1;
            n += 1;
        }
        Ok(n)
    }
    fn position(&self) -> u64 {
        self.position
    }
    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.position = position;
        Ok(())
    }
}

/// That scaled rows (n, D) are in the units that an architecture asks for, as [`Units`] states them, to 3 %.
pub(crate) fn assert_units(units: Units, rows: &[f32], d: usize) {
    let n = (rows.len() / d) as f64;
    let (mut mean, mut norms, mut squares) = (vec![0.0f64; d], 0.0f64, 0.0f64);
    for row in rows.chunks_exact(d) {
        let square: f64 = row.iter().map(|&v| (v as f64).powi(2)).sum();
        norms += square.sqrt() / n;
        squares += square / n;
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += v as f64 / n);
    }
    let root = (d as f64).sqrt();
    let (mean, norm, square) = (mean.iter().map(|m| m * m).sum::<f64>().sqrt() / root, norms / root, squares / d as f64);
    match units {
        // Of the mean of 8,192 rows less that of 4,000 others some 0.02 is chance.
        Units::Centred => assert!(mean < 0.05 && (square - 1.0).abs() < 0.03, "mean {mean}, square {square}"),
        Units::RootNorm => assert!((norm - 1.0).abs() < 0.03, "norm {norm}"),
        Units::Raw => panic!("raw rows have no units to be in"),
    }
}

/// Interrupts after some number of batches; remembers what was noted.
#[derive(Default)]
pub(crate) struct Watch {
    pub stop_after_rows: Option<u64>,
    pub rows: u64,
    pub notes: Vec<String>,
    pub figure: String,
}

impl Progress for Watch {
    fn begin(&mut self, _: &str, _: u64, _: &str) {}
    fn advance(&mut self, n: u64) {
        self.rows += n;
    }
    fn figure(&mut self, text: &str) {
        self.figure = text.into();
    }
    fn note(&mut self, line: &str) {
        self.notes.push(line.into());
    }
    fn end(&mut self) {}
    fn interrupted(&self) -> bool {
        self.stop_after_rows.is_some_and(|n| self.rows >= n)
    }
}

pub(crate) fn place(dir: &Path) -> Place {
    Place { out: dir.join("sae"), checkpoints: dir.join("checkpoints"), ..Place::default() }
}

/// One step of a training on the rows that come next.
fn next(training: &mut Training, source: &mut Synthetic, watch: &mut Watch) {
    let mut rows = vec![0.0; training.config.batch * source.d];
    read_batch(source, training.start, &mut rows).unwrap();
    let taken = training.one_step(&rows, watch).unwrap();
    training.resample_if_due(taken, source, watch).unwrap();
}

pub(crate) fn small(recipe: Recipe, rows: u64) -> TrainConfig {
    let mut config = TrainConfig::short(SaeConfig::new(12, 40, recipe), rows, 64, 1);
    (config.init_rows, config.log_every, config.checkpoint_every) = (500, 5, 7);
    config
}

#[test]
fn a_planted_dictionary_is_recovered() {
    let (d, n_features) = (32, 48);
    let mut source = Synthetic::new(d, n_features, 3, 400_000);
    let mut config = TrainConfig::short(SaeConfig::new(d, 64, Recipe::topk(3, true)), 400_000, 256, 0);
    (config.lr, config.dead_window_rows, config.init_rows) = (3e-3, 20_000, 4000);
    let dir = tempfile::tempdir().unwrap();
    let trained = train(&mut source, &config, &place(dir.path()), &mut Silent).unwrap();
    let best = |feature: &[f32]| {
        let cosine = |w: &[f32]| w.iter().zip(feature).map(|(a, b)| a * b).sum::<f32>();
        trained.sae.w_dec.chunks_exact(d).map(cosine).fold(0.0, f32::max)
    };
    let mean = source.features.chunks_exact(d).map(best).sum::<f32>() / n_features as f32;
    assert!(mean > 0.9, "mean max cosine {mean}, fvu {}, dead {}", trained.fvu, trained.dead_frac);
}

#[test]
fn a_refined_sae_keeps_as_many_as_it_was_trained_for_and_reconstructs_better_than_one_that_is_not() {
    let trained = |refine| {
        let mut config = TrainConfig::short(SaeConfig::new(24, 64, BatchTopK { k: 4.0, refine, ..Default::default() }.into()), 250_000, 256, 0);
        (config.lr, config.dead_window_rows, config.init_rows) = (3e-3, 20_000, 4000);
        let (dir, mut source) = (tempfile::tempdir().unwrap(), Synthetic::new(24, 60, 4, 1 << 40));
        let sae = train(&mut source, &config, &place(dir.path()), &mut Silent).unwrap().sae;
        let mut x = vec![0.0; 4000 * 24];
        source.next_rows(&mut x).unwrap();
        let (mut rows, mut x_hat) = (SparseRows::default(), vec![0.0; x.len()]);
        sae.encode(&x, &mut rows);
        sae.decode(&rows, &mut x_hat);
        (rows.n_active() as f64 / 4000.0, x.iter().zip(&x_hat).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>())
    };
    let ((l0, error), (_, plain)) = (trained(Some(0.3)), trained(None));
    assert!((l0 - 4.0).abs() < 0.4 && error < plain, "l0 {l0}, {error} and {plain}");
}

#[test]
fn a_changed_direction_of_a_latent_that_is_silent_in_the_self_test_is_found() {
    let dir = tempfile::tempdir().unwrap();
    // More latents than 64 rows with three of them can wake.
    let mut config = small(Recipe::topk(3, true), 64 * 8);
    config.sae.d_sae = 260;
    train(&mut Synthetic::new(12, 30, 3, 4096), &config, &place(dir.path()), &mut Silent).unwrap();
    let out = dir.path().join("sae");
    let mut sae = Sae::load(&out).unwrap();
    let acts = artifact::TensorFile::open(&out.join("selftest.safetensors")).unwrap().f32("acts", &[SELFTEST_ROWS, 260]).unwrap();
    let silent = (0..260).find(|&j| acts.chunks(260).all(|row| row[j] == 0.0)).unwrap();
    sae.w_dec[silent * 12..(silent + 1) * 12].iter_mut().for_each(|w| *w = -*w);
    let elsewhere = dir.path().join("changed");
    sae.save(&elsewhere, &Origin::default(), &[]).unwrap();
    fs::copy(elsewhere.join("sae_weights.safetensors"), out.join("sae_weights.safetensors")).unwrap();
    let error = Sae::load(&out).unwrap_err().to_string();
    assert!(error.contains("sae_weights.safetensors is damaged") && error.contains("blake3"), "{error}");
}

/// A recipe with settings that do something in 60 steps on 12 numbers.
fn shrunk(recipe: Recipe) -> Recipe {
    match recipe {
        Recipe::Matryoshka(m) => Matryoshka { k: 3.0, k_start: Some(6.0), sort_every: Some(7), random: 3, ..m }.into(),
        Recipe::PAnneal(p) => PAnneal { l1: 0.1, ..p }.into(),
        Recipe::Relu2023(_) => Relu2023 { l1: 2e-3 }.into(),
        Recipe::ReluApril2024(_) => ReluApril2024 { l1: 0.5 }.into(),
        other => match other.settings().iter().any(|(name, _)| name == "k") {
            true => Recipe::named(other.name(), &[("k", 3.into())]).unwrap(),
            false => other,
        },
    }
}

#[test]
fn several_saes_of_one_stream_are_those_that_are_trained_alone_also_when_interrupted() {
    let configs: Vec<TrainConfig> =
        [Recipe::topk(3, true), Recipe::topk(5, false), Relu2023 { l1: 2e-3 }.into()].map(|recipe| small(recipe, 64 * 30)).into();
    let source = || Synthetic::new(12, 30, 3, 1 << 40);
    let dirs: Vec<tempfile::TempDir> = (0..6).map(|_| tempfile::tempdir().unwrap()).collect();
    for (config, dir) in configs.iter().zip(&dirs) {
        train(&mut source(), config, &place(dir.path()), &mut Silent).unwrap();
    }
    let places: Vec<Place> = dirs[3..].iter().map(|dir| Place { start: Start::Resume, ..place(dir.path()) }).collect();
    let jobs: Vec<(&TrainConfig, &Place)> = configs.iter().zip(&places).collect();
    let mut watch = Watch { stop_after_rows: Some(64 * 16), ..Watch::default() };
    train_all(&mut source(), &jobs, &mut watch).unwrap_err();
    // As a kill between two writes would leave it: the second is a checkpoint behind.
    let steps = |e: &PathBuf| e.extension().is_some_and(|e| e == "safetensors");
    let newest = fs::read_dir(&places[1].checkpoints).unwrap().map(|e| e.unwrap().path()).filter(steps).max().unwrap();
    fs::remove_file(newest).unwrap();
    let mut watch = Watch::default();
    train_all(&mut source(), &jobs, &mut watch).unwrap();
    assert!(watch.notes.iter().any(|n| n.contains("going on after step 14 of 30")), "{:?}", watch.notes);
    for (alone, together) in dirs[..3].iter().zip(&dirs[3..]) {
        for name in ["sae_weights.safetensors", "selftest.safetensors"] {
            assert!(fs::read(alone.path().join("sae").join(name)).unwrap() == fs::read(together.path().join("sae").join(name)).unwrap());
        }
    }
    // A kill while the first checkpoints are written leaves some without one: all begin again, and come to the same end.
    let dirs: Vec<tempfile::TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let fresh: Vec<Place> = dirs.iter().map(|dir| Place { start: Start::Resume, ..place(dir.path()) }).collect();
    let again: Vec<(&TrainConfig, &Place)> = configs.iter().zip(&fresh).collect();
    train_all(&mut source(), &again, &mut Watch { stop_after_rows: Some(64 * 3), ..Watch::default() }).unwrap_err();
    let only = fs::read_dir(&fresh[2].checkpoints).unwrap().map(|e| e.unwrap().path()).find(|p| steps(p)).unwrap();
    fs::remove_file(only).unwrap();
    let mut watch = Watch::default();
    train_all(&mut source(), &again, &mut watch).unwrap();
    assert!(watch.notes.iter().any(|n| n.contains("2 of 3 SAEs have a first checkpoint")), "{:?}", watch.notes);
    // What is said of one of several is said under its name, their figures side by side.
    assert!(watch.notes.iter().any(|n| n.starts_with("sae: the mean of the activations")), "{:?}", watch.notes);
    assert_eq!(watch.figure.matches(" | ").count(), 3 * 2, "{}", watch.figure);
    for (one, two) in places.iter().zip(&fresh) {
        assert!(fs::read(one.out.join("sae_weights.safetensors")).unwrap() == fs::read(two.out.join("sae_weights.safetensors")).unwrap());
    }
    let other = small(Recipe::topk(3, true), 64 * 31);
    let error = train_all(&mut source(), &[(&configs[0], &places[0]), (&other, &places[1])], &mut Silent).unwrap_err().to_string();
    assert!(error.contains("one number of rows"), "{error}");
}

#[test]
fn auxk_begins_when_latents_have_had_their_turn() {
    let mut config = small(Recipe::topk(1, true), 64 * 60);
    (config.sae.d_sae, config.dead_window_rows, config.log_every) = (400, 64 * 6, 1);
    let dir = tempfile::tempdir().unwrap();
    train(&mut Synthetic::new(12, 30, 3, 64 * 60), &config, &place(dir.path()), &mut Silent).unwrap();
    let log = fs::read_to_string(dir.path().join("sae/train.jsonl")).unwrap();
    let steps: Vec<(u64, f64, f64)> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| (line["step"].as_u64().unwrap(), line["aux"].as_f64().unwrap(), line["dead_frac"].as_f64().unwrap()))
        .collect();
    let from = 6 * AUXK_FROM;
    assert!(steps.iter().any(|&(step, _, dead)| (7..=from).contains(&step) && dead > 0.0), "{steps:?}");
    let first = steps.iter().find(|(_, aux, _)| *aux > 0.0).expect("of 400 latents some are dead");
    assert!(first.0 > from && first.0 < from + 20, "{first:?} of {steps:?}");
}

#[test]
fn an_interrupted_training_goes_on_bit_for_bit() {
    // Between them: AuxK, resampling, running thresholds, sorting and k that falls, a changing penalty, a steered coefficient, trained vectors.
    let mut recipes: Vec<Recipe> = Recipe::all().into_iter().map(shrunk).collect();
    recipes.push(BatchTopK { k: 3.0, refine: Some(0.3), ..Default::default() }.into());
    recipes.push(Matryoshka { k: 3.0, refine: Some(0.2), detached: true, ..Default::default() }.into());
    for recipe in recipes {
        let mut config = small(recipe.clone(), 64 * 60);
        // Some latents do not fire in a batch.
        config.dead_window_rows = 64;
        config.target_l0 = config.sae.recipe.sparsity(12).is_some().then_some(3.0);
        if let Some(resample) = &mut config.resample {
            (resample.window, resample.sample_rows) = (0.05, 300);
        }
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // The source ends in the middle, so that starting over is part of what must repeat.
        let source = || Synthetic::new(12, 30, 3, 64 * 41 + 17);
        let mut watch = Watch::default();
        train(&mut source(), &config, &place(whole.path()), &mut watch).unwrap();
        assert!(watch.notes.iter().any(|n| n.contains("starting over")), "{:?}", watch.notes);
        let mut going = Place { start: Start::Resume, ..place(parts.path()) };
        for stop in [64 * 11, 64 * 20] {
            let mut watch = Watch { stop_after_rows: Some(stop), ..Watch::default() };
            let error = train(&mut source(), &config, &going, &mut watch).unwrap_err();
            assert!(matches!(error, Error::Interrupted { .. }), "{error}");
        }
        let kept = parts.path().join("kept.safetensors");
        fs::copy(parts.path().join("checkpoints/step-0000000020.safetensors"), &kept).unwrap();
        // What a resume by name alone goes by, and the time of both sessions.
        let begun = || Begun::read(&going.checkpoints, &going.out).unwrap().unwrap();
        assert_eq!((begun().config, begun().step), (config.clone(), 20));
        let newest = |dir: &str| Checkpoint::newest(&parts.path().join(dir), &config.sae, &identity(&config, &going), 20).unwrap().unwrap();
        let mut saved = newest("checkpoints");
        assert!(saved.seconds > 0.0);
        saved.control.level = -0.25;
        saved.write(&parts.path().join("copy")).unwrap();
        assert!(newest("copy") == saved);
        // Where k stops falling: what changes with the next step is told from the step before it.
        let mut watch = Watch { stop_after_rows: Some(64 * 54), ..Watch::default() };
        train(&mut source(), &config, &going, &mut watch).unwrap_err();
        assert_eq!(begun().step, 54);
        train(&mut source(), &config, &going, &mut Silent).unwrap();
        for name in ["sae_weights.safetensors", "selftest.safetensors", "cfg.json"] {
            assert!(
                fs::read(whole.path().join("sae").join(name)).unwrap() == fs::read(parts.path().join("sae").join(name)).unwrap(),
                "{name} {recipe:?}"
            );
        }
        let log = |dir: &Path| -> Vec<serde_json::Value> {
            let text = fs::read_to_string(dir.join("sae/train.jsonl")).unwrap();
            let line = |l: &str| {
                let mut v: serde_json::Value = serde_json::from_str(l).unwrap();
                v["rows_per_s"].take();
                v
            };
            text.lines().map(line).collect()
        };
        assert_eq!(log(whole.path()), log(parts.path()));
        let steps = |dir: &Path| history::list(&dir.join("sae")).iter().map(|m| m.step).collect::<Vec<_>>();
        assert_eq!((steps(whole.path()), steps(parts.path())), (config.snapshot_steps(), config.snapshot_steps()));
        for step in config.snapshot_steps() {
            let snapshot = |dir: &Path| history::load(&dir.join("sae"), step).unwrap();
            assert!(snapshot(whole.path()) == snapshot(parts.path()), "snapshot {step} {recipe:?}");
        }
        assert_eq!((begun().config, begun().step), (config.clone(), config.steps()));
        // Done: nothing is left to go on from, and asking again trains nothing.
        let checkpoints = parts.path().join("checkpoints");
        assert_eq!(fs::read_dir(&checkpoints).unwrap().count(), 0);
        let mut watch = Watch::default();
        train(&mut source(), &config, &going, &mut watch).unwrap();
        assert_eq!(watch.rows, 0);
        // Nor does it where the end was killed before the last checkpoint was deleted, or before the log was handed over: nothing of the log and the snapshots is lost.
        let before = files(&parts.path().join("sae"));
        for handed_over in [true, false] {
            fs::copy(&kept, checkpoints.join("step-0000000020.safetensors")).unwrap();
            if !handed_over {
                fs::rename(parts.path().join("sae/train.jsonl"), checkpoints.join("train.jsonl")).unwrap();
            }
            let mut watch = Watch::default();
            train(&mut source(), &config, &going, &mut watch).unwrap();
            assert!(watch.rows == 0 && files(&parts.path().join("sae")) == before && fs::read_dir(&checkpoints).unwrap().count() == 0);
        }
        going.inputs.insert("lm".into(), "other".into());
        let mut watch = Watch { stop_after_rows: Some(64), ..Watch::default() };
        train(&mut source(), &config, &going, &mut watch).unwrap_err();
        assert_eq!(watch.rows, 64, "other inputs are trained anew");
        going.inputs.insert("lm".into(), "third".into());
        let error = train(&mut source(), &config, &going, &mut Silent).unwrap_err();
        assert!(matches!(error, Error::OtherRun { .. }), "{error}");
    }
}

#[test]
fn dead_latents_are_resampled_on_time_come_alive_and_cost_no_rows() {
    // Rows as they come, and in units in which they have to be brought as every step's are.
    for (random, units) in [(false, None), (true, None), (false, Some(Units::Centred))] {
        resampled_on_time(random, units);
    }
}

fn resampled_on_time(random: bool, units: Option<Units>) {
    let mut config = TrainConfig { units, ..small(Relu2023 { l1: 1e-3 }.into(), 64 * 200) };
    config.resample = Some(Resample { at: vec![0.3], window: 0.1, sample_rows: 1000, centred: true, random });
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    let mut source = Synthetic::new(12, 30, 3, 1 << 40);
    let mut training = Training::start(&mut source, &config, &place, "run".into(), &mut Silent).unwrap();
    let killed = [3usize, 8, 20];
    let mut state = training.engine.read().into_owned();
    killed.iter().for_each(|&j| state.params.b_enc[j] = -100.0);
    training.engine.write(state);
    let mut watch = Watch::default();
    while training.step < 59 {
        next(&mut training, &mut source, &mut watch);
    }
    let before = training.engine.read().into_owned();
    let already = source.position() + 64;
    assert!(watch.notes.is_empty() && killed.iter().all(|&j| before.params.b_enc[j] < -99.0));
    next(&mut training, &mut source, &mut watch);
    // Step 60 of 200 is 0.3; 20 steps are the window.
    assert_eq!(watch.notes, ["step 60: resampled 3 dead latents of 40"]);
    assert_eq!(source.position(), 60 * 64);
    let after = training.engine.read().into_owned();
    for j in killed {
        let row = &after.params.w_dec[j * 12..][..12];
        assert_eq!(after.params.b_enc[j], 0.0);
        assert!((row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(after.second.w_enc[j * 12..][..12].iter().all(|&v| v == 0.0));
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        assert!(cosine(row, &after.params.w_enc[j * 12..][..12]) > 1.0 - 1e-6, "the encoder points where the decoder does");
        // Each is the direction of one of the 1,000 rows that come next, from the b_dec of then; or of none of them.
        let mut rows = vec![0.0; 1000 * 12];
        source.seek(already).unwrap();
        source.next_rows(&mut rows).unwrap();
        source.seek(already).unwrap();
        training.scales.apply(&mut rows);
        rows.chunks_exact_mut(12).for_each(|r| r.iter_mut().zip(&after.params.b_dec).for_each(|(v, b)| *v -= b));
        let best = rows.chunks_exact(12).map(|r| cosine(r, row)).fold(-1.0, f64::max);
        assert_eq!(best > 1.0 - 1e-6, !random, "{best}");
    }
    for _ in 0..5 {
        next(&mut training, &mut source, &mut watch);
    }
    assert!(killed.iter().all(|&j| training.last_fired[j] > 60 * 64), "the new latents fire");
}

/// Rows of two directions in turn, the second with twice the squared length; counts what is read.
struct TwoKinds {
    position: u64,
    read: u64,
}

impl RowSource for TwoKinds {
    fn width(&self) -> usize {
        12
    }
    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        for row in out.chunks_exact_mut(12) {
            row.fill(0.0);
            let kind = (self.position % 2) as usize;
            row[kind] = [1.0, std::f32::consts::SQRT_2][kind];
            self.position += 1;
            self.read += 1;
        }
        Ok(out.len() / 12)
    }
    fn position(&self) -> u64 {
        self.position
    }
    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.position = position;
        Ok(())
    }
}

#[test]
fn a_row_is_drawn_by_the_square_of_its_loss_out_of_as_many_as_were_asked_for() {
    let mut config = small(Relu2023 { l1: 1e-3 }.into(), 64 * 200);
    config.sae.d_sae = 401;
    config.resample = Some(Resample { at: vec![0.3], window: 0.1, sample_rows: 1500, centred: true, random: false });
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    let mut source = TwoKinds { position: 0, read: 0 };
    let mut training = Training::start(&mut source, &config, &place, "run".into(), &mut Silent).unwrap();
    // Nothing fires, so that the loss of a row is its squared length, and all but one latent are dead.
    let mut state = training.engine.read().into_owned();
    state.params.b_enc.fill(-100.0);
    state.params.b_dec.fill(0.0);
    training.engine.write(state);
    (training.step, training.last_fired[0]) = (60, 60 * 64);
    source.read = 0;
    training.resample(0.0, &mut source, &mut Silent).unwrap();
    assert_eq!((source.read, source.position), (1500, 0));
    let after = training.engine.read().into_owned().params;
    let second = (1..401).filter(|j| after.w_dec[j * 12 + 1].abs() > 0.999).count();
    let first = (1..401).filter(|j| after.w_dec[j * 12].abs() > 0.999).count();
    // Losses of 1 and 2: squared, four fifths are of the second kind (standard deviation 0.02); not squared, two thirds.
    let share = second as f64 / 400.0;
    assert!(first + second == 400 && (share - 0.8).abs() < 0.06, "{share}");
}

#[test]
fn schedules_rise_and_fall_where_they_should() {
    let mut config = small(ReluApril2024 { l1: 5.0 }.into(), 64 * 100);
    (config.lr_warmup, config.lr_decay) = (0.1, 0.2);
    assert!((lr_factor(&config, 0) - 0.1).abs() < 1e-12);
    assert_eq!((lr_factor(&config, 9), lr_factor(&config, 50), lr_factor(&config, 80)), (1.0, 1.0, 1.0));
    assert!((lr_factor(&config, 90) - 0.5).abs() < 1e-12 && (lr_factor(&config, 99) - 0.05).abs() < 1e-12);
    assert_eq!(Relu2023 { l1: 0.004 }.sparsity(12), Some(0.004 * 12.0));
    (config.l1_warmup, config.l1_decay) = (0.2, 0.5);
    let factors = [0.0, 0.1, 0.2, 0.5, 0.75, 1.0].map(|done| penalty_schedule(&config, done));
    assert_eq!(factors, [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]);
    // With a target a rise is over at half of the run, or nothing would ever be steered.
    (config.l1_warmup, config.l1_decay) = (1.0, 0.0);
    assert_eq!(penalty_schedule(&config, 0.5), 0.5);
    config.target_l0 = Some(3.0);
    assert_eq!((penalty_schedule(&config, 0.25), penalty_schedule(&config, 0.5)), (0.5, 1.0));
}

#[test]
fn activations_that_are_not_finite_stop_the_training_with_their_row() {
    struct Broken(Synthetic);
    impl RowSource for Broken {
        fn width(&self) -> usize {
            self.0.width()
        }
        fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
            let first = self.0.position();
            let n = self.0.next_rows(out)?;
            if (first..first + n as u64).contains(&1000) {
                out[(1000 - first) as usize * 12 + 3] = f32::NAN;
            }
            Ok(n)
        }
        fn position(&self) -> u64 {
            self.0.position()
        }
        fn seek(&mut self, position: u64) -> io::Result<()> {
            self.0.seek(position)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut source = Broken(Synthetic::new(12, 30, 3, 1 << 40));
    let error = train(&mut source, &small(Recipe::topk(3, false), 6400), &place(dir.path()), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("row 1000"), "{error}");
    // Behind the end of a training it costs nothing.
    let mut source = Broken(Synthetic::new(12, 30, 3, 1 << 40));
    let dir = tempfile::tempdir().unwrap();
    let trained = train(&mut source, &small(Recipe::topk(3, false), 64 * 15), &place(dir.path()), &mut Silent).unwrap();
    assert_eq!(trained.rows, 960);
    Sae::load(&place(dir.path()).out).unwrap();
}

#[test]
fn a_finished_sae_has_its_own_figures_whatever_was_begun_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path());
    let config = |k| small(Recipe::topk(k, false), 64 * 30);
    let source = || Synthetic::new(12, 30, 3, 1 << 40);
    let first = train(&mut source(), &config(3), &place, &mut Silent).unwrap();
    let replacing = Place { start: Start::Replace, ..place.clone() };
    let mut watch = Watch { stop_after_rows: Some(64), ..Watch::default() };
    train(&mut source(), &config(5), &replacing, &mut watch).unwrap_err();
    let again = train(&mut source(), &config(3), &place, &mut Silent).unwrap();
    assert_eq!((again.fvu, again.l0, again.dead_frac), (first.fvu, first.l0, first.dead_frac));
    assert!(first.fvu > 0.0 && again.sae == first.sae);
}

/// Every file under a folder with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let of = |path: PathBuf| if path.is_dir() { files(&path) } else { BTreeMap::from([(path.clone(), fs::read(&path).unwrap())]) };
    entries.flat_map(of).collect()
}

#[test]
fn a_training_that_replaces_an_sae_touches_nothing_of_it_before_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let old = place(dir.path());
    let config = |k| TrainConfig { snapshots: 2, ..small(Recipe::topk(k, false), 64 * 30) };
    let source = || Synthetic::new(12, 30, 3, 1 << 40);
    train(&mut source(), &config(3), &old, &mut Silent).unwrap();
    fs::write(old.out.join("eval.json"), "{}").unwrap();
    let before = files(&old.out);
    let replacing = Place { start: Start::Replace, ..old.clone() };
    let mut watch = Watch { stop_after_rows: Some(64 * 20), ..Watch::default() };
    train(&mut source(), &config(5), &replacing, &mut watch).unwrap_err();
    assert!(files(&old.out) == before, "weights, manifest, log, snapshots and figures are those of the old one");
    let making = history::list(&old.checkpoints);
    assert!(making.len() == 2 && fs::read_to_string(old.checkpoints.join("train.jsonl")).unwrap().lines().count() > 0);
    train(&mut source(), &config(5), &Place { start: Start::Resume, ..old.clone() }, &mut Silent).unwrap();
    let after = files(&old.out);
    assert!(!old.out.join("eval.json").exists() && after.keys().len() == before.keys().len() - 1);
    assert!(after.iter().all(|(path, bytes)| before[path] != *bytes), "all is the new one's");
    assert_eq!((history::list(&old.out), files(&old.checkpoints).len()), (making, 0));
}

#[test]
fn snapshots_are_the_sae_on_its_way_and_change_nothing_of_the_result() {
    let config = |snapshots| TrainConfig { snapshots, ..small(Recipe::topk(3, true), 64 * 50) };
    let source = || Synthetic::new(12, 30, 3, 1 << 40);
    let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trained = train(&mut source(), &config(4), &place(with.path()), &mut Silent).unwrap();
    let other = train(&mut source(), &config(0), &place(without.path()), &mut Silent).unwrap();
    let out = with.path().join("sae");
    assert!(trained.sae == other.sae && !without.path().join("sae/history").exists());
    let moments = history::list(&out);
    assert_eq!(moments.iter().map(|m| (m.step, m.steps, m.rows)).collect::<Vec<_>>(), [(3, 50, 192), (6, 50, 384), (12, 50, 768), (25, 50, 1600)]);
    // Step 25 has a line in the log, and the figures are the same.
    let log = fs::read_to_string(out.join("train.jsonl")).unwrap();
    let line = log.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()).find(|l| l["step"] == 25).unwrap();
    let last = &moments[3];
    assert_eq!(json!([last.loss, last.fvu, last.l0, last.dead_frac]), json!([line["loss"], line["fvu"], line["l0"], line["dead_frac"]]));
    // Directions come nearer to what they become, and are not there yet.
    let alike = |step| {
        let then = history::load(&out, step).unwrap();
        let cosine = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        then.w_dec.chunks(12).zip(trained.sae.w_dec.chunks(12)).map(cosine).sum::<f32>() / 40.0
    };
    let (early, late) = (alike(3), alike(25));
    assert!(early < late && late < 0.9999, "{early} {late}");
    // One that is the last step is the saved SAE but for bf16: how it is folded is the same.
    let whole = Place { start: Start::Replace, ..place(with.path()) };
    let mut rows = source();
    let again = config(1);
    let training = Training::start(&mut rows, &again, &whole, "run".into(), &mut Silent).unwrap();
    let mut trainings = [training];
    run(&mut rows, &mut trainings, &mut Silent).unwrap();
    let [training] = trainings;
    training.snapshot().unwrap();
    let snapshot = history::load(&whole.checkpoints, 50).unwrap();
    assert!(snapshot.b_enc == trained.sae.b_enc && snapshot.b_dec == trained.sae.b_dec && snapshot.select == trained.sae.select);
    // Asking for another number of them is no other training.
    assert!(place(without.path()).differences(&config(6)).unwrap().is_empty());
}
