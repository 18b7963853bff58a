//! Ctrl-C saves and says how to go on; kill -9 loses at most what came after the last checkpoint. Either way the end is the same, bit for bit.

use crate::program::{copied, copy, fails, finished, recipe, works};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LM: [&str; 11] = ["lm", "train", "--yes", "--preset", "tiny", "--tokens", "160000", "--batch", "8", "--checkpoint-every", "20"];
const SAE: [&str; 12] = ["sae", "train", "--name", "second", "--d-sae", "512", "--rows", "100000", "--batch", "512", "--buffer-mib", "64"];

fn start(dir: &Path, args: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("monosem"))
        .args(args)
        .args(["--run", "small", "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: kill takes two numbers and touches no memory of ours; the process is our child and not yet waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// Waits until `ready`, which must come before the program ends.
fn wait(child: &mut Child, ready: impl Fn() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        assert!(began.elapsed() < Duration::from_secs(120), "nothing happened in two minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn n_checkpoints(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, |entries| entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("step-")).count())
}

/// The command after `resume:`.
fn resume_command(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let line = stderr.lines().find_map(|line| line.trim().strip_prefix("resume: "));
    line.unwrap_or_else(|| panic!("no command to resume with: {stderr}")).to_string()
}

/// Both folders' runs have the same bytes in `file`.
fn assert_same(file: &str, a: &Path, b: &Path) {
    let read = |dir: &Path| fs::read(dir.join("small").join(file)).unwrap();
    assert!(read(a) == read(b), "{file} differ");
}

fn shell(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Interrupts `args` once `checkpoints` or `log` shows that it works, resumes by the printed command, and compares `weights` with a run left alone.
fn interrupted_equals_uninterrupted(args: &[&str], log: &str, weights: &str) {
    let (stopped, whole) = (copied(), copied());
    let stale = stopped.path().join("small").join(log);
    let _ = fs::remove_file(&stale);
    let mut child = start(stopped.path(), args);
    wait(&mut child, || fs::metadata(&stale).is_ok_and(|m| m.len() > 0));
    signal(&child, libc::SIGINT);
    let command = resume_command(&child.wait_with_output().unwrap());
    assert!(command.ends_with("--resume"), "{command}");
    shell(&command);
    works(whole.path(), &[args, &["--run", "small"]].concat());
    assert_same(weights, stopped.path(), whole.path());
}

#[test]
fn a_model_interrupted_by_ctrl_c_ends_with_the_same_weights() {
    interrupted_equals_uninterrupted(&LM, "checkpoints/lm/train.jsonl", "lm/model.safetensors");
}

#[test]
fn an_sae_interrupted_by_ctrl_c_ends_with_the_same_weights() {
    interrupted_equals_uninterrupted(&SAE, "checkpoints/sae-second/train.jsonl", "sae/second/sae_weights.safetensors");
}

/// Kills `args` after its first checkpoint, goes on with `again`, compares.
fn killed_equals_unkilled(args: &[&str], again: &[&str], checkpoints: &str, weights: &str) {
    let (stopped, whole) = (copied(), copied());
    let folder = stopped.path().join("small/checkpoints").join(checkpoints);
    let _ = fs::remove_dir_all(&folder);
    let mut child = start(stopped.path(), args);
    wait(&mut child, || n_checkpoints(&folder) > 0);
    signal(&child, libc::SIGKILL);
    child.wait().unwrap();
    works(stopped.path(), &[again, &["--resume", "--run", "small"]].concat());
    works(whole.path(), &[args, &["--run", "small"]].concat());
    assert_same(weights, stopped.path(), whole.path());
}

#[test]
fn a_killed_model_goes_on_from_its_checkpoint_to_the_same_weights() {
    let again: Vec<&str> = LM.into_iter().filter(|word| *word != "--yes").collect();
    killed_equals_unkilled(&LM, &again, "lm", "lm/model.safetensors");
}

#[test]
fn a_killed_sae_goes_on_from_its_checkpoint_to_the_same_weights() {
    killed_equals_unkilled(&SAE, &SAE, "sae-second", "sae/second/sae_weights.safetensors");
}

#[test]
fn a_killed_sae_goes_on_by_its_name_alone() {
    killed_equals_unkilled(&SAE, &["sae", "train", "--name", "second"], "sae-second", "sae/second/sae_weights.safetensors");
}

#[test]
fn a_killed_sweep_goes_on_by_its_name_alone() {
    let sweep: Vec<&str> = SAE.into_iter().chain(["--seed", "1,2"]).collect();
    killed_equals_unkilled(&sweep, &["sae", "train", "--name", "second"], "sae-second-s2", "sae/second-s2/sae_weights.safetensors");
}

#[test]
fn a_killed_sae_of_a_model_that_is_no_more_is_made_anew_with_its_settings_by_the_command_that_is_told() {
    let dir = copied();
    let dir = dir.path();
    let folder = dir.join("small/checkpoints/sae-second");
    let mut child = start(dir, &SAE);
    wait(&mut child, || n_checkpoints(&folder) > 0);
    signal(&child, libc::SIGKILL);
    child.wait().unwrap();
    works(dir, &["lm", "train", "--preset", "tiny", "--steps", "3", "--yes", "--run", "small"]);
    let by_name = ["sae", "train", "--name", "second", "--run", "small", "--resume"];
    let refused = fails(dir, &by_name);
    assert!(refused.contains("lm is ") && refused.contains("--yes beside --resume"), "{refused}");
    assert!(n_checkpoints(&folder) > 0, "a refusal costs nothing");
    let told = fails(dir, &["sae", "eval", "--name", "second", "--run", "small"]);
    assert!(told.contains("sae train --name second") && told.contains("--resume --yes"), "{told}");
    let mixed = fails(dir, &[&by_name[..], &["--yes", "--k", "9"]].concat());
    assert!(mixed.contains("say one of them") && n_checkpoints(&folder) > 0, "{mixed}");
    works(dir, &[&by_name[..], &["--yes"]].concat());
    let made = fs::read_to_string(dir.join("small/sae/second/manifest.json")).unwrap();
    assert!(made.contains("\"d_sae\": 512") && made.contains("\"batch\": 512") && n_checkpoints(&folder) == 0, "{made}");
}

#[test]
fn the_whole_path_interrupted_at_its_model_and_at_its_sae_ends_as_if_it_never_was() {
    let dir = tempfile::tempdir().unwrap();
    copy(&finished().join("small/tokens"), &dir.path().join("small/tokens"));
    let recipe = recipe(dir.path());
    let args = ["run", recipe.to_str().unwrap()];
    let mut command = String::new();
    for log in ["checkpoints/lm/train.jsonl", "checkpoints/sae-main/train.jsonl"] {
        let log = dir.path().join("small").join(log);
        let mut child = start(dir.path(), &args);
        wait(&mut child, || fs::metadata(&log).is_ok_and(|m| m.len() > 0));
        signal(&child, libc::SIGINT);
        command = resume_command(&child.wait_with_output().unwrap());
    }
    shell(&command);
    for weights in ["small/lm/model.safetensors", "small/sae/main/sae_weights.safetensors"] {
        assert!(fs::read(dir.path().join(weights)).unwrap() == fs::read(finished().join(weights)).unwrap(), "{weights} differ");
    }
}
