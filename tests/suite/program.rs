//! The program as its users start it, and one small finished run that tests copy.

use assert_cmd::Command;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Every stage in a second or two.
const SMALL: &str = r#"
base = "tiny"
[corpus]
sources = [{ planted = { generator_seed = 0, bytes = 800000 } }]
[lm.train]
tokens = 60000
[sae.train]
rows = 20000
batch = 512
dead_window_rows = 4000
checkpoint_every = 5
[sae.shuffle]
buffer_mib = 64
[dictionary]
tokens = 20000
"#;

/// `monosem` with a terminal width of 100 and nobody's environment.
pub fn monosem() -> Command {
    let mut command = Command::cargo_bin("monosem").expect("cargo builds the binary before its tests");
    command.env("COLUMNS", "100").env("USER", "tester").env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command
}

/// What one call did.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `monosem ARGS --dir DIR` to its end.
pub fn call(dir: &Path, args: &[&str]) -> Done {
    let output = monosem().args(args).arg("--dir").arg(dir).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// As [`call`], and it must succeed; returns stdout.
pub fn works(dir: &Path, args: &[&str]) -> String {
    let done = call(dir, args);
    assert_eq!(done.code, Some(0), "{args:?}\n{}", done.stderr);
    done.stdout
}

/// As [`call`], and it must fail with exit code 1 and no panic; returns stderr with DIR for the folder.
pub fn fails(dir: &Path, args: &[&str]) -> String {
    let done = call(dir, args);
    assert_eq!(done.code, Some(1), "{args:?}\n{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("error: "), "{args:?}: {}", done.stderr);
    done.stderr.replace(&dir.display().to_string(), "DIR")
}

/// As [`works`] with --json: one JSON object and nothing else.
pub fn json(dir: &Path, args: &[&str]) -> serde_json::Value {
    let stdout = works(dir, &[args, &["--json"]].concat());
    let value: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {stdout}"));
    assert!(value.is_object(), "{args:?}: {stdout}");
    value
}

/// The folder of the small run `small`, made once. Only for reading.
pub fn finished() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        works(dir.path(), &["run", recipe(dir.path()).to_str().unwrap(), "--run", "small"]);
        dir
    })
    .path()
}

/// The small recipe as a file in `dir`.
pub fn recipe(dir: &Path) -> PathBuf {
    let path = dir.join("small.toml");
    fs::write(&path, SMALL).unwrap();
    path
}

/// A folder of one's own with a copy of the finished run `small`.
pub fn copied() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&finished().join("small"), &dir.path().join("small"));
    dir
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}
