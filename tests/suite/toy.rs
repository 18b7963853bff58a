//! `monosem toy` as a user runs it.

use crate::program::{fails, monosem};
use std::path::Path;

fn stdout(args: &[&str], dir: &Path) -> String {
    let output = monosem().current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_experiment_leaves_its_figures_and_pictures_the_same_for_the_same_seed_at_any_thread_count() {
    let dir = tempfile::tempdir().unwrap();
    let run = |out: &str, threads: &str| {
        let said = stdout(&["toy", "pentagon", "--quick", "--check", "--out", out, "--threads", threads, "--json"], dir.path());
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["experiments"][0]["experiment"], "pentagon");
        let folder = dir.path().join(out).join("pentagon");
        let png = std::fs::read(folder.join("shapes.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG") && std::fs::read_to_string(folder.join("shapes.svg")).unwrap().contains("prefers-color-scheme"));
        (std::fs::read_to_string(folder.join("outcome.json")).unwrap(), png)
    };
    let one = run("one", "1");
    assert_eq!(one, run("two", "2"));
    let outcome: serde_json::Value = serde_json::from_str(&one.0).unwrap();
    assert!(outcome["figures"].as_array().is_some_and(|f| f.len() > 5) && outcome["says"].as_str().is_some_and(|s| s.contains("pentagon")));
}

#[test]
fn experiments_are_listed_and_an_unknown_one_is_refused_with_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let list = stdout(&["toy", "list"], dir.path());
    assert!(list.contains("basic") && list.contains("geometry"), "{list}");
    let error = fails(dir.path(), &["toy", "nope"]);
    assert!(error.contains("nope") && error.contains("pentagon"), "{error}");
    assert!(!dir.path().join("runs").exists(), "what is refused leaves nothing");
}
