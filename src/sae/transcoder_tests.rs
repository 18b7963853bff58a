//! Transcoders: gradients beside central differences in f64, folding, files, and training on rows whose true map is known.

use super::*;
use crate::artifact::{Silent, seed};
use crate::sae::fold::fold;
use crate::sae::init::{Normaliser, Scales};
use crate::sae::train::tests::{Watch, assert_units, place};
use crate::sae::training::Training;
use crate::sae::{
    BatchTopK, CpuEngine, Engine, Gated, JumpRelu, Matryoshka, Params, Place, ReluApril2024, RowSource, Sae, SaeConfig, Select, SparseRows, State,
    StepSettings, TopK, TrainConfig, history, train,
};
use rand::RngExt;
use std::io;

const D: usize = 5;
const E: usize = 3;
const F: usize = 7;
const B: usize = 4;

fn random(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "test/transcoder", index);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn config(recipe: Recipe, skip: bool) -> SaeConfig {
    SaeConfig { target: Some(Target { d_out: E, skip }), ..SaeConfig::new(D, F, recipe) }
}

fn params(config: &SaeConfig) -> Params {
    Params {
        w_enc: random(F * D, 1),
        b_enc: random(F, 2),
        w_dec: random(F * E, 3),
        b_dec: random(E, 4),
        w_skip: if config.skip() { random(E * D, 5) } else { vec![] },
        vectors: config.recipe.vectors().iter().map(|(_, first)| vec![*first; F]).collect(),
    }
}

/// The loss by the equations, the selection that of the weights `at`: `levels` are (entries by rank, weight); `l1` weighs a |w_dec|.
fn loss(p: &[Vec<f64>], at: &[Vec<f64>], rows: &[f32], k: usize, levels: &[(usize, f64)], l1: f64) -> f64 {
    let pre = |p: &[Vec<f64>], x: &[f32]| (0..F).map(|j| p[1][j] + (0..D).map(|i| x[i] as f64 * p[0][j * D + i]).sum::<f64>()).collect::<Vec<f64>>();
    let mut total = 0.0;
    for row in rows.chunks(D + E) {
        let (x, y) = row.split_at(D);
        let (fixed, z) = (pre(at, x), pre(p, x));
        let mut order: Vec<usize> = (0..F).filter(|&j| fixed[j] > 0.0).collect();
        order.sort_by(|&a, &b| fixed[b].total_cmp(&fixed[a]));
        order.truncate(k);
        for &(end, weight) in levels {
            for i in 0..E {
                let skip: f64 = p[4].get(i * D..(i + 1) * D).map_or(0.0, |w| w.iter().zip(x).map(|(w, x)| w * *x as f64).sum());
                let y_hat = p[3][i] + skip + order.iter().take(end).map(|&j| z[j] * p[2][j * E + i]).sum::<f64>();
                total += weight * (y_hat - y[i] as f64).powi(2);
            }
        }
        let norm = |j: usize| p[2][j * E..][..E].iter().map(|w| w * w).sum::<f64>().sqrt();
        total += l1 * order.iter().map(|&j| z[j] * norm(j)).sum::<f64>();
    }
    total / B as f64
}

#[test]
fn gradients_equal_central_differences_with_and_without_a_linear_path_sparse_and_dense() {
    let multi = Recipe::from(TopK { k: 1, auxk: false, multi: true });
    for skip in [false, true] {
        let (one, two): (&[_], &[_]) = (&[(F, 1.0)], &[(1, 1.0), (4, 0.125)]);
        for (recipe, dense_above, k, levels, l1) in [
            (Recipe::topk(2, false), 1.1, 2, one, 0.0),
            (multi.clone(), 1.1, 4, two, 0.0),
            (ReluApril2024 { l1: 5.0 }.into(), 1.1, F, one, 0.3),
            (ReluApril2024 { l1: 5.0 }.into(), 0.0, F, one, 0.3),
        ] {
            let config = config(recipe, skip);
            let p = params(&config);
            let rows = random(B * (D + E), 9);
            let mut engine = CpuEngine::forced(&TrainConfig::short(config.clone(), 1_000_000, 100, 0), p.clone(), dense_above);
            let wide = |p: &Params| -> Vec<Vec<f64>> {
                [&p.w_enc, &p.b_enc, &p.w_dec, &p.b_dec, &p.w_skip].map(|t| t.iter().map(|&v| v as f64).collect()).to_vec()
            };
            let (report, gradient) = engine.gradients(&rows, &StepSettings { lr: 0.0, sparsity: l1, dead: &[] });
            let (at, got) = (wide(&p), wide(gradient));
            let want = loss(&at, &at, &rows, k, levels, l1);
            assert!((report.loss - want).abs() < 1e-5 * want.max(1.0), "{config:?}: loss {} and {want}", report.loss);
            assert_eq!(got[4].len(), if skip { E * D } else { 0 });
            for (tensor, got) in got.iter().enumerate() {
                for (i, got) in got.iter().enumerate() {
                    let shifted = |by: f64| {
                        let mut p = at.clone();
                        p[tensor][i] += by;
                        loss(&p, &at, &rows, k, levels, l1)
                    };
                    let want = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                    assert!((got - want).abs() < 1e-4, "{config:?}, dense {dense_above}: tensor {tensor} element {i}: {got} and {want}");
                }
            }
        }
    }
}

#[test]
fn dead_latents_learn_what_is_left_of_the_target() {
    // |y - y_hat - sum a_j w_dec[j]|^2 over the dead ones, y_hat fixed: k_aux = min(E / 2, 2) = 1.
    let config = config(Recipe::topk(2, true), true);
    let p = params(&config);
    let rows = random(B * (D + E), 9);
    let gradients = |dead: &[u32]| {
        let mut engine = CpuEngine::new(&TrainConfig::short(config.clone(), 1_000_000, 100, 0), p.clone());
        let (report, gradient) = engine.gradients(&rows, &StepSettings { lr: 0.0, sparsity: 0.0, dead });
        (report.aux, gradient.clone())
    };
    let ((none, without), (aux, with)) = (gradients(&[]), gradients(&[0, 6]));
    let mut want = 0.0;
    for row in rows.chunks(D + E) {
        let (x, y) = row.split_at(D);
        let mut z: Vec<f32> = (0..F).map(|j| p.b_enc[j] + (0..D).map(|i| x[i] * p.w_enc[j * D + i]).sum::<f32>()).collect();
        let dead = if z[0] >= z[6] { 0 } else { 6 };
        let kept = z[dead];
        let mut order: Vec<usize> = (0..F).collect();
        order.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
        z.iter_mut().enumerate().for_each(|(j, z)| *z = if order[..2].contains(&j) { z.max(0.0) } else { 0.0 });
        for (i, y) in y.iter().enumerate() {
            let y_hat = p.b_dec[i] + (0..D).map(|c| x[c] * p.w_skip[i * D + c]).sum::<f32>() + (0..F).map(|j| z[j] * p.w_dec[j * E + i]).sum::<f32>();
            want += f64::from(y - y_hat - kept * p.w_dec[dead * E + i]).powi(2);
        }
    }
    let want = want / B as f64;
    assert!(none == 0.0 && (aux - want).abs() < 1e-5 * want, "{aux} and {want}");
    assert!(with.w_skip == without.w_skip && with.b_dec == without.b_dec, "what the live ones made is held fixed");
    let row = |p: &Params, j: usize| p.w_dec[j * E..][..E].to_vec();
    assert!(row(&with, 0) != row(&without, 0) || row(&with, 6) != row(&without, 6));
}

#[test]
fn the_folded_transcoder_gives_the_reconstruction_of_training_in_raw_units_and_is_read_back_from_its_files() {
    for skip in [false, true] {
        let jump = JumpRelu::default();
        for recipe in [Recipe::topk(3, false), ReluApril2024 { l1: 1.0 }.into(), jump.into()] {
            let config = config(recipe, skip);
            let mut state = State { params: params(&config), ..State::default() };
            if config.recipe.unit_decoder() {
                state.params.w_dec.chunks_exact_mut(E).for_each(crate::sae::cpu::normalise);
            }
            let scales =
                Scales { input: Normaliser { mean: random(D, 20), scale: 1.7 }, target: Some(Normaliser { mean: random(E, 21), scale: 0.4 }) };
            let sae = fold(&config, &state, &scales);
            let (n, mut rows) = (9, random(9 * (D + E), 22));
            let x: Vec<f32> = rows.chunks(D + E).flat_map(|row| row[..D].to_vec()).collect();
            scales.apply(&mut rows);
            let scaled: Vec<f32> = rows.chunks(D + E).flat_map(|row| row[..D].to_vec()).collect();
            let mut engine = CpuEngine::new(&TrainConfig::short(config.clone(), 1000, 10, 0), state.params.clone());
            let (mut acts, mut raw_acts, mut y_hat, mut raw_hat) = (SparseRows::default(), SparseRows::default(), vec![0.0; n * E], vec![0.0; n * E]);
            engine.encode(&scaled, &mut acts);
            engine.decode(&scaled, &acts, &mut y_hat);
            sae.encode(&x, &mut raw_acts);
            sae.reconstruct(&x, &raw_acts, &mut raw_hat);
            assert!(acts.n_active() > n && acts.latent == raw_acts.latent);
            let target = scales.output();
            for (i, (raw, trained)) in raw_hat.iter().zip(&y_hat).enumerate() {
                let want = trained / target.scale + target.mean[i % E];
                assert!((raw - want).abs() < 1e-4, "{config:?}: {raw} and {want}");
            }
            assert!(sae.w_dec.chunks_exact(E).all(|w| (w.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5));

            let dir = tempfile::tempdir().unwrap();
            let origin = crate::sae::Origin { hook_name_out: Some("blocks.0.hook_mlp_out".into()), ..Default::default() };
            sae.save(dir.path(), &origin, &x).unwrap();
            assert_eq!(Sae::load_any(dir.path()).unwrap(), sae);
            assert_eq!(crate::sae::read_origin(dir.path()).unwrap(), origin);
            let error = Sae::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains("transcoder") && error.contains("cfg.json"), "{error}");
            let cfg: serde_json::Value = crate::artifact::read_json(&dir.path().join("cfg.json")).unwrap();
            let rule = match sae.select {
                Select::TopK { .. } => "topk_",
                Select::JumpRelu { .. } => "jumprelu_",
                _ => "",
            };
            assert_eq!(cfg["architecture"], format!("{rule}{}transcoder", if skip { "skip_" } else { "" }));
            assert_eq!((cfg["d_out"].as_u64(), cfg["metadata"]["hook_name_out"].as_str()), (Some(E as u64), Some("blocks.0.hook_mlp_out")));
        }
    }
}

/// Rows x with y = M x + what a few known latents, which read x along their own directions, add. Row i is a pure function of i.
struct Known {
    position: u64,
}

impl Known {
    const D: usize = 12;
    const E: usize = 9;
    const N: usize = 16;

    fn map(skip: bool) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let unit = |n: usize, d: usize, i: u64| {
            let mut rows = random(n * d, i);
            rows.chunks_exact_mut(d).for_each(crate::sae::cpu::normalise);
            rows
        };
        let linear = if skip { random(Self::E * Self::D, 40) } else { vec![0.0; Self::E * Self::D] };
        (linear, unit(Self::N, Self::D, 41), unit(Self::N, Self::E, 42))
    }
}

impl RowSource for Known {
    fn width(&self) -> usize {
        Self::D + Self::E
    }
    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        let (linear, read, write) = Self::map(true);
        for row in out.chunks_exact_mut(self.width()) {
            let mut rng = seed::rng(6, "test/transcoder/rows", self.position);
            let (x, y) = row.split_at_mut(Self::D);
            x.iter_mut().for_each(|v| *v = rng.random_range(-1.0..1.0));
            for (y, w) in y.iter_mut().zip(linear.chunks(Self::D)) {
                *y = 2.0 + w.iter().zip(&*x).map(|(w, x)| w * x).sum::<f32>();
            }
            for (r, w) in read.chunks(Self::D).zip(write.chunks(Self::E)) {
                let act = (r.iter().zip(&*x).map(|(r, x)| r * x).sum::<f32>() - 0.7).max(0.0);
                y.iter_mut().zip(w).for_each(|(y, w)| *y += 4.0 * act * w);
            }
            self.position += 1;
        }
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

fn known(recipe: Recipe, skip: bool, rows: u64) -> TrainConfig {
    let sae = SaeConfig { target: Some(Target { d_out: Known::E, skip }), ..SaeConfig::new(Known::D, 32, recipe) };
    let mut config = TrainConfig::short(sae, rows, 128, 3);
    (config.lr, config.init_rows, config.checkpoint_every, config.dead_window_rows) = (3e-3, 2000, 7, 5000.min(rows / 5));
    config
}

#[test]
fn both_ends_of_rows_that_come_after_those_of_the_estimate_are_in_the_units_of_the_recipe() {
    for recipe in [Recipe::topk(3, false), ReluApril2024 { l1: 1.0 }.into()] {
        let config = TrainConfig { init_rows: 16_384, ..known(recipe, true, 128 * 60) };
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let mut source = Known { position: 0 };
        let training = Training::start(&mut source, &config, &place, "run".into(), &mut Silent).unwrap();
        let mut rows = vec![0.0; 16_384 * (Known::D + Known::E)];
        source.seek(100_000).unwrap();
        source.next_rows(&mut rows).unwrap();
        training.scales.apply(&mut rows);
        let (mut x, mut y) = (vec![], vec![]);
        split(&rows, Known::D, &mut x, &mut y, Known::E);
        let units = config.sae.recipe.units();
        assert_units(units, &x, Known::D);
        assert_units(units, &y, Known::E);
        assert!(training.scales.output() != &training.scales.input, "each end has its own");
    }
}

#[test]
fn a_linear_path_takes_over_what_is_linear_and_latents_what_is_not() {
    let fvu = |skip| {
        let dir = tempfile::tempdir().unwrap();
        let config = known(BatchTopK { k: 3.0, ..Default::default() }.into(), skip, 250_000);
        train(&mut Known { position: 0 }, &config, &place(dir.path()), &mut Silent).unwrap()
    };
    let (with, without) = (fvu(true), fvu(false));
    assert!(with.fvu < 0.05 && without.fvu > 2.0 * with.fvu, "{} and {}", with.fvu, without.fvu);
    let (linear, _, write) = Known::map(true);
    let Transcoder { w_skip, .. } = with.sae.transcoder.as_ref().unwrap();
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    assert!(cosine(w_skip, &linear) > 0.95, "{}", cosine(w_skip, &linear));
    let best = |w: &[f32]| with.sae.w_dec.chunks_exact(Known::E).map(|d| cosine(d, w)).fold(0.0, f32::max);
    let mean = write.chunks_exact(Known::E).map(best).sum::<f32>() / Known::N as f32;
    assert!(mean > 0.9, "mean max cosine {mean}");
    let snapshot_dir = tempfile::tempdir().unwrap();
    let moment = history::Moment {
        step: 1,
        steps: 2,
        rows: 3,
        loss: 0.0,
        fvu: 0.0,
        l0: 3.0,
        dead_frac: 0.0,
        hook: String::new(),
        hook_out: None,
        run: String::new(),
    };
    history::write(snapshot_dir.path(), &with.sae, &moment).unwrap();
    let read = history::load(snapshot_dir.path(), 1).unwrap();
    assert_eq!((read.transcoder, read.b_dec), (with.sae.transcoder.clone(), with.sae.b_dec.clone()));
}

#[test]
fn an_interrupted_transcoder_goes_on_bit_for_bit() {
    let matryoshka = Matryoshka { k: 3.0, ..Default::default() };
    for (recipe, skip) in [(Recipe::topk(3, true), true), (matryoshka.into(), true), (crate::sae::Relu2023 { l1: 2e-3 }.into(), false)] {
        let mut config = known(recipe, skip, 128 * 60);
        if let Some(resample) = &mut config.resample {
            (resample.window, resample.sample_rows) = (0.05, 300);
        }
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        train(&mut Known { position: 0 }, &config, &place(whole.path()), &mut Silent).unwrap();
        let going = Place { start: crate::artifact::Start::Resume, ..place(parts.path()) };
        let mut watch = Watch { stop_after_rows: Some(128 * 20), ..Watch::default() };
        train(&mut Known { position: 0 }, &config, &going, &mut watch).unwrap_err();
        train(&mut Known { position: 0 }, &config, &going, &mut Silent).unwrap();
        for name in ["sae_weights.safetensors", "selftest.safetensors", "cfg.json"] {
            let read = |dir: &std::path::Path| std::fs::read(dir.join("sae").join(name)).unwrap();
            assert!(read(whole.path()) == read(parts.path()), "{name} of {:?}", config.sae.recipe);
        }
    }
}

#[test]
fn what_has_no_transcoder_says_so_and_rows_of_another_width_are_refused() {
    for recipe in [Gated::default().into(), crate::sae::Aligned::default().into(), crate::sae::MatchingPursuit::default().into()] {
        let error = known(recipe, false, 1000).check().unwrap_err().to_string();
        assert!(error.contains("has no transcoder"), "{error}");
    }
    let refined = BatchTopK { k: 3.0, refine: Some(0.3), ..Default::default() };
    let error = known(refined.into(), false, 1000).check().unwrap_err().to_string();
    assert!(error.contains("leave refine out"), "{error}");
    let mut config = known(Recipe::topk(3, false), false, 1000);
    config.sae.target = Some(Target { d_out: 5, skip: false });
    let error = train(&mut Known { position: 0 }, &config, &place(tempfile::tempdir().unwrap().path()), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("21") && error.contains("17"), "{error}");
}
