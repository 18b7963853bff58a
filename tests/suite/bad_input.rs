//! Files that are cut, changed, of another run, or not writable: an error that names the file and the next step, never a panic, and nothing lost.

use crate::program::{call, copied, copy, fails, finished, works};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn cut(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 2);
}

/// A header that says it is longer than any file.
fn absurd_header(bytes: &mut [u8]) {
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
}

/// The same header length, with text that is not JSON.
fn header_of_noise(bytes: &mut [u8]) {
    bytes[8..24].fill(b'#');
}

fn shard(run: &Path) -> PathBuf {
    run.join("tokens/tokens-00000.safetensors")
}

#[test]
fn every_damaged_file_is_named() {
    type Change = fn(&mut Vec<u8>);
    let reads_tokens: &[&str] = &["corpus", "stats"];
    let reads_lm: &[&str] = &["lm", "generate", "--n-tokens", "3"];
    let reads_sae: &[&str] = &["sae", "info"];
    let reads_dictionary: &[&str] = &["features", "list"];
    let changes: [(&str, Change); 3] = [("cut", cut), ("absurd header", |bytes| absurd_header(bytes)), ("noise", |bytes| header_of_noise(bytes))];
    let weights: [(&str, &[&str]); 4] = [
        ("tokens/tokens-00000.safetensors", reads_tokens),
        ("lm/model.safetensors", reads_lm),
        ("sae/main/sae_weights.safetensors", reads_sae),
        ("sae/main/selftest.safetensors", reads_sae),
    ];
    let json: [(&str, &[&str]); 5] = [
        ("tokens/manifest.json", reads_tokens),
        ("tokens/tokenizer.json", reads_tokens),
        ("lm/config.json", reads_lm),
        ("sae/main/cfg.json", reads_sae),
        ("features/main.sqlite", reads_dictionary),
    ];
    let dir = copied();
    let check = |file: &str, what: &str, change: Change, args: &[&str]| {
        let path = dir.path().join("small").join(file);
        let whole = fs::read(&path).unwrap();
        damage(&path, change);
        let error = fails(dir.path(), &[args, &["--run", "small"]].concat());
        assert!(error.contains(file), "{file}, {what}: {error}");
        assert!(!error.contains("panicked"), "{file}, {what}: {error}");
        fs::write(&path, whole).unwrap();
    };
    for (file, args) in weights {
        for (what, change) in changes {
            check(file, what, change, args);
        }
    }
    for (file, args) in json {
        check(file, "noise", |bytes| bytes.iter_mut().take(64).for_each(|b| *b = b'#'), args);
        check(file, "empty", |bytes| bytes.clear(), args);
    }
}

#[test]
fn one_changed_bit_of_the_weights_of_an_sae_fails_its_self_test() {
    let dir = copied();
    let path = dir.path().join("small/sae/main/sae_weights.safetensors");
    // The highest bit of an exponent, in the middle of the weights.
    damage(&path, |bytes| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let weight = 8 + header + (bytes.len() - 8 - header) / 8 * 4;
        bytes[weight + 3] ^= 0x40;
    });
    let error = fails(dir.path(), &["sae", "info", "--run", "small"]);
    assert!(error.contains("sae/main"), "{error}");
}

#[test]
fn a_config_that_was_edited_is_refused() {
    let dir = copied();
    let config = dir.path().join("small/lm/config.json");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("\"n_inner\": 128"), "{text}");
    fs::write(&config, text.replace("\"n_inner\": 128", "\"n_inner\": 96")).unwrap();
    let error = fails(dir.path(), &["lm", "generate", "--run", "small"]);
    assert!(error.contains("lm/config.json is damaged") && error.contains("train it again with: monosem run"), "{error}");
    assert!(!error.contains("rerun the stage that writes it"), "one remedy, the one that names the command: {error}");
    let info = works(dir.path(), &["info", "--run", "small"]);
    assert!(info.contains("next: monosem run ") && !info.contains("monosem lm train"), "the same remedy, not a model of other sizes: {info}");
}

#[test]
fn another_tokenizer_beside_a_model_is_refused_and_no_panic() {
    let dir = copied();
    let path = dir.path().join("small/lm/tokenizer.json");
    // One that has more tokens than the model has.
    let other = tempfile::tempdir().unwrap();
    works(other.path(), &["corpus", "build", "--planted-bytes", "300000", "--d-vocab", "600", "--run", "r"]);
    fs::copy(other.path().join("r/tokens/tokenizer.json"), &path).unwrap();
    let error = fails(dir.path(), &["lm", "generate", "--run", "small"]);
    assert!(
        error.contains("lm/tokenizer.json is damaged") && error.contains("train it again with: monosem run") && !error.contains("panicked"),
        "{error}"
    );
}

#[test]
fn a_damaged_file_has_one_remedy() {
    let dir = copied();
    damage(&dir.path().join("small/sae/main/cfg.json"), |bytes| bytes.truncate(9));
    let error = fails(dir.path(), &["sae", "info", "--run", "small"]);
    assert!(error.contains("train it with: monosem sae train") && !error.contains("delete it and rerun"), "{error}");
}

#[test]
fn a_recipe_that_makes_no_step_is_told_in_the_words_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("r.toml");
    fs::write(&recipe, "base = \"tiny\"\n[sae.train]\nrows = 100\n").unwrap();
    let error = fails(dir.path(), &["run", recipe.to_str().unwrap(), "--run", "r"]);
    assert!(error.contains("100 rows in batches of 1024 make no step; raise rows or lower batch") && !error.contains("--"), "{error}");
}

#[test]
fn stale_inputs_are_refused_with_the_command_to_rerun() {
    let dir = copied();
    let dir = dir.path();
    works(dir, &["lm", "train", "--preset", "tiny", "--steps", "3", "--seed", "5", "--yes", "--run", "small"]);
    for args in [&["sae", "eval"][..], &["features", "build"], &["steer", "run", "--latent", "3", "--zero"]] {
        let error = fails(dir, &[args, &["--run", "small"]].concat());
        assert!(error.contains("DIR/small/sae/main was made from lm") && error.contains("monosem sae train"), "{args:?}: {error}");
    }
}

#[test]
fn an_experiment_says_what_it_has_no_use_for_and_names_its_own_flags() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (flag, value) in [("--recipe", "topk"), ("--seeds", "2")] {
        let error = fails(dir, &["synth", "generator", flag, value]);
        assert!(error.contains(&format!("{flag} is for experiments that train")), "{error}");
    }
    let hedging = |rows: &'static str| ["synth", "hedging", "--recipe", "topk:k=1", "--run", "s", "--rows", rows];
    let told = call(dir, &hedging("20480"));
    assert!(told.stderr.contains("for its steps"), "{}", told.stderr);
    let error = fails(dir, &hedging("40960"));
    assert!(error.contains("train.rows is 20480 there, 40960 here") && error.contains("another --run") && !error.contains("--name"), "{error}");
}

/// Every file below a folder with its bytes, but for the lock.
fn files(dir: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with(".lock") {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn finished_work_of_other_settings_is_refused_with_both_values_and_nothing_is_touched() {
    let copied = copied();
    let dir = copied.path();
    let other = dir.join("other.toml");
    let small = fs::read_to_string(crate::program::recipe(dir)).unwrap();
    fs::write(&other, small.replace("base = \"tiny\"", "base = \"tiny\"\nseed = 5").replace("rows = 20000", "rows = 13000")).unwrap();
    let before = files(&dir.join("small"));
    let cases: [(&[&str], &[&str]); 5] = [
        (&["run", other.to_str().unwrap()], &["tokens: ", "seed is 0 there, 5 here", "train.rows is 20000 there, 13000 here"]),
        (&["quickstart", "--preset", "tiny", "--seed", "5", "--no-serve"], &["tokens: ", "lm: ", "train.tokens is 60000 there, 300000 here"]),
        (&["lm", "train", "--preset", "tiny", "--steps", "3"], &["small/lm", "train.tokens is 60000 there, 3072 here"]),
        (&["sae", "train", "--rows", "4000"], &["small/sae/main", "rows is 20000 there, 4000 here", "--name"]),
        (&["corpus", "build", "--planted-bytes", "100000", "--d-vocab", "300"], &["small/tokens", "d_vocab is 512 there, 300 here"]),
    ];
    for (args, parts) in cases {
        let error = fails(dir, &[args, &["--run", "small"]].concat());
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
        assert!(error.contains("--yes") && error.contains("--run"), "{args:?}: {error}");
        assert!(files(&dir.join("small")) == before, "{args:?} touched something");
    }
    // Said with --yes, it is done.
    let done = call(dir, &["run", other.to_str().unwrap(), "--yes", "--run", "small"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("FLOP of products") && done.stderr.contains(" for its steps; the model's time"), "no forecast: {}", done.stderr);
    assert!(fs::read_to_string(dir.join("small/run.toml")).unwrap().contains("rows = 13000"));
}

#[test]
fn a_damaged_dictionary_is_refused_with_the_command_that_makes_it_again() {
    let dir = copied();
    let dir = dir.path();
    fs::write(dir.join("small/features/main.sqlite"), "no database").unwrap();
    for args in [["features", "show", "3"], ["features", "token", " the"]] {
        let error = fails(dir, &[&args[..], &["--run", "small"]].concat());
        assert!(error.contains("main.sqlite"), "{args:?}: {error}");
        assert!(error.contains("monosem features build --sae main --dir DIR --run small"), "{args:?}: {error}");
    }
}

#[test]
fn a_dictionary_of_a_model_or_sae_that_was_replaced_is_refused_and_its_labels_are_not_lost() {
    let dir = copied();
    let dir = dir.path();
    works(dir, &["label", "set", "3", "digits", "--run", "small"]);
    let reads: [&[&str]; 4] = [&["features", "show", "3"], &["features", "list"], &["features", "search", "the"], &["label", "set", "3", "x"]];
    let refused = |input: &str| {
        for args in reads {
            let error = fails(dir, &[args, &["--run", "small"]].concat());
            assert!(error.contains(&format!("main.sqlite was made from {input}")), "{args:?}: {error}");
            assert!(error.contains("rebuild it: monosem features build --sae main --dir DIR --run small"), "{args:?}: {error}");
        }
        let listed = call(dir, &["label", "list", "--run", "small"]);
        assert!(listed.stdout.contains("digits") && listed.stderr.contains("the dictionary is out of date"), "{}{}", listed.stdout, listed.stderr);
    };
    works(dir, &["sae", "train", "--d-sae", "512", "--rows", "4096", "--batch", "512", "--buffer-mib", "64", "--yes", "--run", "small"]);
    refused("sae");
    // Neurons do not depend on the SAE.
    works(dir, &["features", "list", "--neurons", "--run", "small"]);
    works(dir, &["lm", "train", "--preset", "tiny", "--steps", "3", "--yes", "--run", "small"]);
    refused("lm");
    fails(dir, &["features", "list", "--neurons", "--run", "small"]);
}

#[test]
fn a_file_in_place_of_a_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("r"), "not a folder").unwrap();
    let error = fails(dir.path(), &["corpus", "build", "--planted-bytes", "100000", "--d-vocab", "300", "--run", "r"]);
    assert!(error.contains("DIR/r"), "{error}");
    assert_eq!(fs::read_to_string(dir.path().join("r")).unwrap(), "not a folder");
}

#[test]
fn a_second_writer_waits_its_turn_and_is_told_who_writes() {
    let dir = copied();
    let run = monosem::artifact::RunDir::new(dir.path(), "small");
    let _held = run.lock().unwrap();
    let error = fails(dir.path(), &["lm", "train", "--preset", "tiny", "--steps", "3", "--run", "small"]);
    assert!(error.contains("DIR/small is in use by process") && error.contains(&std::process::id().to_string()), "{error}");
    // Readers need no turn.
    works(dir.path(), &["features", "list", "--run", "small"]);
}

/// A file system of `megabytes`, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|m| m.status.success()).then(|| SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_tokens_and_model_as_they_were() {
    let size: u64 = ["tokens", "lm"].iter().map(|part| folder_size(&finished().join("small").join(part))).sum();
    let Some(disk) = SmallDisk::new((size >> 20) as u32 + 2) else {
        eprintln!("skipped: no small file system can be mounted here (needs root)");
        return;
    };
    let dir = disk.0.path();
    for part in ["tokens", "lm"] {
        copy(&finished().join("small").join(part), &dir.join("small").join(part));
    }
    let model = fs::read(dir.join("small/lm/model.safetensors")).unwrap();
    let ids = fs::read(shard(&dir.join("small"))).unwrap();
    let train: &[&str] = &["lm", "train", "--yes", "--steps", "3", "--batch", "1", "--d-model", "512"];
    let build: &[&str] = &["corpus", "build", "--yes", "--planted-bytes", "6000000", "--d-vocab", "300"];
    for args in [train, &["harvest"], build] {
        let error = fails(dir, &[args, &["--run", "small"]].concat());
        assert!(error.contains("No space left") && error.contains("free some space"), "{args:?}: {error}");
        assert!(fs::read(dir.join("small/lm/model.safetensors")).unwrap() == model, "{args:?}");
        assert!(fs::read(shard(&dir.join("small"))).unwrap() == ids, "{args:?}");
    }
    let generated = call(dir, &["lm", "generate", "--n-tokens", "3", "--run", "small"]);
    assert_eq!(generated.code, Some(0), "{}", generated.stderr);
}

#[test]
fn a_full_disk_leaves_the_dictionary_as_it_was() {
    let whole = finished().join("small");
    let parts = ["tokens", "lm", "sae/main", "features"];
    let size: u64 = parts.iter().map(|part| folder_size(&whole.join(part))).sum();
    let Some(disk) = SmallDisk::new((size >> 20) as u32 + 2) else {
        eprintln!("skipped: no small file system can be mounted here (needs root)");
        return;
    };
    let run = disk.0.path().join("small");
    parts.iter().for_each(|part| copy(&whole.join(part), &run.join(part)));
    // All but some 100 kB is taken, less than a dictionary.
    let left = Command::new("df").args(["--output=avail", "-B1"]).arg(&run).output().unwrap().stdout;
    let left: usize = String::from_utf8(left).unwrap().lines().last().unwrap().trim().parse().unwrap();
    fs::write(disk.0.path().join("ballast"), vec![1; left.saturating_sub(100_000)]).unwrap();
    let dictionary = fs::read(run.join("features/main.sqlite")).unwrap();
    let error = fails(disk.0.path(), &["features", "build", "--tokens", "20000", "--run", "small"]);
    assert!(error.contains("DIR/small/features/main.sqlite: no storage space") && error.contains("free some space"), "{error}");
    assert!(fs::read(run.join("features/main.sqlite")).unwrap() == dictionary);
    let left: Vec<_> = fs::read_dir(run.join("features")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| whole.join("features").join(name).exists()), "half a dictionary was left: {left:?}");
    works(disk.0.path(), &["features", "list", "--run", "small"]);
}

fn folder_size(dir: &Path) -> u64 {
    let size = |entry: fs::DirEntry| if entry.path().is_dir() { folder_size(&entry.path()) } else { entry.metadata().unwrap().len() };
    fs::read_dir(dir).unwrap().flatten().map(size).sum()
}
