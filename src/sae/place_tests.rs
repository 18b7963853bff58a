//! What becomes of the work that is there: nothing is lost that was not named.

use super::*;
use crate::artifact::Silent;
use crate::sae::train::tests::{Synthetic, Watch, place, small};
use crate::sae::{BatchTopK, Matryoshka, Recipe, Relu2023, RowSource, train, train_all};
use std::fs;
use std::io;
use std::path::Path;

fn rows() -> Synthetic {
    Synthetic::new(12, 30, 3, 1 << 40)
}

/// Names of what lies in a folder.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A training of 30 steps that is interrupted after so many.
fn interrupted(config: &TrainConfig, place: &Place, steps: u64) {
    train(&mut rows(), config, place, &mut Watch { stop_after_rows: Some(64 * steps), ..Watch::default() }).unwrap_err();
}

#[test]
fn a_finished_sae_and_a_checkpoint_are_replaced_only_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let source = || Synthetic::new(12, 30, 3, 4096);
    let (config, other) = (small(Recipe::topk(3, true), 64 * 8), small(Recipe::topk(4, true), 64 * 8));
    let at = |start| Place { start, inputs: BTreeMap::from([("rows".into(), "from here".into())]), ..place(dir.path()) };
    let mut watch = Watch { stop_after_rows: Some(64 * 3), ..Watch::default() };
    train(&mut source(), &config, &at(Start::New), &mut watch).unwrap_err();
    let error = train(&mut source(), &config, &at(Start::New), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("--resume") && error.contains("--yes"), "{error}");
    train(&mut source(), &config, &at(Start::Resume), &mut Silent).unwrap();
    let weights = || fs::read(dir.path().join("sae/sae_weights.safetensors")).unwrap();
    let made = weights();
    for start in [Start::New, Start::Resume] {
        let error = train(&mut source(), &other, &at(start), &mut Silent).unwrap_err().to_string();
        assert!(error.contains("recipe.k is 3 there, 4 here") && error.contains("--name") && error.contains("--yes"), "{error}");
        let elsewhere = Place { inputs: BTreeMap::from([("rows".into(), "from there".into())]), ..at(start) };
        let error = train(&mut source(), &config, &elsewhere, &mut Silent).unwrap_err().to_string();
        assert!(error.contains("rows is from here there, from there here"), "{error}");
        assert!(made == weights());
    }
    let results = ["eval.json", "controls.json", "exam.json"].map(|name| dir.path().join("sae").join(name));
    results.iter().for_each(|path| fs::write(path, "{}").unwrap());
    train(&mut source(), &other, &at(Start::Replace), &mut Silent).unwrap();
    assert!(made != weights());
    assert!(results.iter().all(|path| !path.exists()), "figures of other weights stay");
}

#[test]
fn weights_whose_manifest_is_gone_or_damaged_are_replaced_only_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(Recipe::topk(3, true), 64 * 8);
    train(&mut rows(), &config, &place(dir.path()), &mut Silent).unwrap();
    let (weights, manifest) = (dir.path().join("sae").join(WEIGHTS_FILE), dir.path().join("sae/manifest.json"));
    let made = fs::read(&weights).unwrap();
    let other = small(Recipe::topk(4, true), 64 * 8);
    let damage: [fn(&Path); 2] = [|path| fs::write(path, "{").unwrap(), |path| fs::remove_file(path).unwrap()];
    for damage in damage {
        damage(&manifest);
        for start in [Start::New, Start::Resume] {
            let error = train(&mut rows(), &other, &Place { start, ..place(dir.path()) }, &mut Silent).unwrap_err().to_string();
            assert!(error.contains("--name") && error.contains("--yes"), "{error}");
        }
        assert!(fs::read(&weights).unwrap() == made);
    }
    train(&mut rows(), &other, &Place { start: Start::Replace, ..place(dir.path()) }, &mut Silent).unwrap();
    assert!(fs::read(&weights).unwrap() != made);
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_gone_on_with() {
    let (whole, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = small(Recipe::topk(3, true), 64 * 30);
    train(&mut rows(), &config, &place(whole.path()), &mut Silent).unwrap();
    let going = Place { start: Start::Resume, ..place(dir.path()) };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let cut = |path: &Path| fs::write(path, &fs::read(path).unwrap()[..1000]).unwrap();
    // In what tells whose it is: it is damaged, not that of another training.
    let flip_settings = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.windows(5).position(|w| w == b"d_sae").unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for (damage, stop) in [(&flip as &dyn Fn(&Path), 14), (&flip_settings, 19), (&cut, 24)] {
        interrupted(&config, &going, stop);
        let (newest, _) = Checkpoint::passed_over(&going.checkpoints, 0).unwrap().unwrap();
        damage(&newest);
        let mut watch = Watch { stop_after_rows: Some(64), ..Watch::default() };
        train(&mut rows(), &config, &going, &mut watch).unwrap_err();
        let said = |note: &String| note.contains(&format!("{0} is passed over: {0} is damaged", newest.display()));
        assert!(watch.notes.iter().any(said), "{:?}", watch.notes);
    }
    train(&mut rows(), &config, &going, &mut Silent).unwrap();
    let weights = |dir: &Path| fs::read(dir.join("sae").join(WEIGHTS_FILE)).unwrap();
    assert!(weights(whole.path()) == weights(dir.path()));
    // With no other to go on from, it is what is said.
    let dir = tempfile::tempdir().unwrap();
    let going = Place { start: Start::Resume, ..place(dir.path()) };
    interrupted(&config, &going, 9);
    for path in fs::read_dir(&going.checkpoints).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "safetensors")) {
        cut(&path);
    }
    let errors = [
        Begun::read(&going.checkpoints, &going.out).unwrap_err().to_string(),
        train(&mut rows(), &config, &going, &mut Silent).unwrap_err().to_string(),
    ];
    assert!(errors.iter().all(|error| error.contains("step-") && error.contains("is damaged")), "{errors:?}");
}

#[test]
fn an_sae_of_an_older_program_that_knew_fewer_settings_is_of_the_same() {
    let matryoshka = Matryoshka { k: 3.0, ..Default::default() };
    for (recipe, later) in [
        (BatchTopK { k: 3.0, ..Default::default() }.into(), &["refine", "k_until"][..]),
        (matryoshka.into(), &["refine", "k_until", "auxk_by_level"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(recipe, 64 * 8);
        train(&mut Synthetic::new(12, 30, 3, 4096), &config, &place(dir.path()), &mut Silent).unwrap();
        let path = dir.path().join("sae/manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
        for setting in later {
            assert!(old["config"]["sae"]["recipe"].as_object_mut().unwrap().remove(*setting).is_some());
        }
        fs::write(&path, old.to_string()).unwrap();
        assert!(place(dir.path()).differences(&config).unwrap().is_empty());
    }
}

/// Rows without a number in them.
struct Broken;

impl RowSource for Broken {
    fn width(&self) -> usize {
        12
    }
    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        out.fill(f32::NAN);
        Ok(out.len() / 12)
    }
    fn position(&self) -> u64 {
        0
    }
    fn seek(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn checkpoints_that_are_to_be_replaced_stay_until_the_new_training_can_begin() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(Recipe::topk(3, true), 64 * 30);
    interrupted(&config, &place(dir.path()), 9);
    let there = names(&dir.path().join("checkpoints"));
    assert!(there.iter().any(|name| name.starts_with("step-")), "{there:?}");
    let replace = Place { start: Start::Replace, ..place(dir.path()) };
    let error = train(&mut Broken, &config, &replace, &mut Silent).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
    let refused = train(&mut rows(), &TrainConfig { init_rows: 1 << 40, ..config.clone() }, &replace, &mut Silent).unwrap_err().to_string();
    assert!(refused.contains("init_rows is 1099511627776"), "{refused}");
    assert_eq!(names(&dir.path().join("checkpoints")), there);
    train(&mut rows(), &config, &replace, &mut Silent).unwrap();
}

#[test]
fn a_training_that_diverges_is_named_with_its_rate_and_keeps_what_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig { lr: 1e30, lr_warmup: 0.0, checkpoint_every: 1, ..small(Relu2023 { l1: 1e-3 }.into(), 64 * 30) };
    let error = train(&mut rows(), &config, &place(dir.path()), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 2, .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("{}", dir.path().join("sae").display())) && said.contains("below 1000000000000"), "{said}");
    assert!(said.contains("--yes"), "{said}");
    assert!(names(&dir.path().join("checkpoints")).iter().any(|name| name == "step-0000000001.safetensors"));
}

#[test]
fn a_new_member_of_a_sweep_costs_the_others_nothing() {
    let dirs: Vec<tempfile::TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let configs: Vec<TrainConfig> = [3, 4, 5].map(|k| small(Recipe::topk(k, true), 64 * 30)).into();
    let places: Vec<Place> =
        dirs.iter().zip(["a", "b", "c"]).map(|(dir, name)| Place { out: dir.path().join(name), start: Start::Resume, ..place(dir.path()) }).collect();
    let jobs: Vec<(&TrainConfig, &Place)> = configs.iter().zip(&places).collect();
    train_all(&mut rows(), &jobs[..2], &mut Watch { stop_after_rows: Some(64 * 3), ..Watch::default() }).unwrap_err();
    let error = train_all(&mut rows(), &jobs, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("of 3 SAEs") && error.contains("c has no checkpoint") && error.contains("step 3"), "{error}");
    for place in &places[..2] {
        assert!(names(&place.checkpoints).contains(&"step-0000000003.safetensors".into()), "{:?}", names(&place.checkpoints));
    }
    assert_eq!(train_all(&mut rows(), &jobs[..2], &mut Silent).unwrap().len(), 2);
}

#[test]
fn a_place_that_cannot_be_written_is_refused_before_anything_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(Recipe::topk(3, true), 64 * 30);
    fs::write(dir.path().join("sae"), "a file").unwrap();
    let mut watch = Watch::default();
    let error = train(&mut rows(), &config, &place(dir.path()), &mut watch).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("sae") && watch.rows == 0, "{error}");
    fs::remove_file(dir.path().join("sae")).unwrap();
    interrupted(&config, &place(dir.path()), 9);
    assert_eq!(names(dir.path()), ["checkpoints"], "an SAE that is not there has no folder");
}

#[test]
fn what_a_kill_left_of_a_checkpoint_goes_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = dir.path().join("checkpoints");
    fs::create_dir(&checkpoints).unwrap();
    let half = || fs::write(checkpoints.join(".step-0000000003.safetensors.77.tmp"), "half").unwrap();
    half();
    let config = small(Recipe::topk(3, true), 64 * 30);
    interrupted(&config, &place(dir.path()), 9);
    assert_eq!(names(&checkpoints).iter().filter(|name| name.ends_with(".tmp")).count(), 0);
    half();
    train(&mut rows(), &config, &Place { start: Start::Resume, ..place(dir.path()) }, &mut Silent).unwrap();
    assert!(names(&checkpoints).is_empty(), "{:?}", names(&checkpoints));
}

#[test]
fn a_training_that_was_killed_when_it_was_done_is_finished_by_the_same_command() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(Recipe::topk(3, true), 64 * 30);
    interrupted(&config, &place(dir.path()), 9);
    let (checkpoints, saved) = (dir.path().join("checkpoints"), dir.path().join("saved"));
    fs::create_dir(&saved).unwrap();
    for name in names(&checkpoints).iter().filter(|name| name.starts_with("step-")) {
        fs::copy(checkpoints.join(name), saved.join(name)).unwrap();
    }
    train(&mut rows(), &config, &Place { start: Start::Resume, ..place(dir.path()) }, &mut Silent).unwrap();
    let weights = || fs::read(dir.path().join("sae/sae_weights.safetensors")).unwrap();
    let (done, log) = (weights(), fs::read_to_string(dir.path().join("sae/train.jsonl")).unwrap());
    // The manifest was written; log and checkpoints were not yet seen to.
    fs::remove_dir_all(&checkpoints).unwrap();
    fs::rename(&saved, &checkpoints).unwrap();
    fs::rename(dir.path().join("sae/train.jsonl"), checkpoints.join("train.jsonl")).unwrap();
    train(&mut rows(), &config, &place(dir.path()), &mut Silent).unwrap();
    assert!(names(&checkpoints).is_empty() && weights() == done, "{:?}", names(&checkpoints));
    assert_eq!(fs::read_to_string(dir.path().join("sae/train.jsonl")).unwrap(), log);
}
