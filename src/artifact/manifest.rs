//! `manifest.json`: what a stage made, from what, with which settings. Its hash names the artifact to the stages that read it.

use super::{Error, Result, read_json, write_json};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The record beside every stage's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which stage wrote it: `tokens`, `lm`, `activations`, `sae`, `features`.
    pub stage: String,
    /// Raised when the files beside it change meaning; a reader refuses another number.
    pub format_version: u32,
    /// The stage's resolved configuration, every default written out.
    pub config: serde_json::Value,
    pub seed: u64,
    /// Sizes of what was made: tokens, documents, rows, steps.
    pub counts: BTreeMap<String, u64>,
    pub wall_seconds: f64,
    pub program_version: String,
    /// Stage name -> hash of the manifest it read.
    pub inputs: BTreeMap<String, String>,
    /// blake3 of the bytes of each large output file, by file name, hex.
    pub files: BTreeMap<String, String>,
    /// What else a reader needs to understand the files, such as the names behind numbers.
    #[serde(default)]
    pub details: serde_json::Value,
}

impl Manifest {
    pub fn new(stage: &str, format_version: u32, config: serde_json::Value, seed: u64) -> Self {
        Manifest {
            stage: stage.into(),
            format_version,
            config,
            seed,
            counts: BTreeMap::new(),
            wall_seconds: 0.0,
            program_version: env!("CARGO_PKG_VERSION").into(),
            inputs: BTreeMap::new(),
            files: BTreeMap::new(),
            details: serde_json::Value::Null,
        }
    }

    /// Records the hash of `dir/name` in `files`.
    pub fn record_file(&mut self, dir: &Path, name: &str) -> Result<()> {
        self.files.insert(name.into(), hash_file(&dir.join(name))?);
        Ok(())
    }

    /// Reads the recorded files of `dir` whole and compares their hashes; a single flipped bit is found. Costs about a second per gigabyte.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the first file that differs or lies elsewhere, [`Error::Io`] for one that is missing.
    pub fn check_files(&self, dir: &Path) -> Result<()> {
        for (name, expected) in &self.files {
            let path = dir.join(name);
            // A manifest from elsewhere may name a device, which has no end.
            if Path::new(name).file_name().is_none_or(|plain| plain != name.as_str()) || !path.is_file() && path.exists() {
                return Err(Error::Corrupt { path: dir.join("manifest.json"), what: format!("it names {name:?}, which is no file of its folder") });
            }
            let found = hash_file(&path)?;
            if found != *expected {
                return Err(Error::Corrupt { path, what: format!("its blake3 is {}, the manifest has {}", brief(&found), brief(expected)) });
            }
        }
        Ok(())
    }

    pub fn write(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join("manifest.json"), self)
    }

    /// Reads `dir/manifest.json` and checks its stage and format version.
    pub fn read(dir: &Path, stage: &str, format_version: u32) -> Result<Self> {
        Self::read_from(&dir.join("manifest.json"), stage, format_version)
    }

    /// As [`Self::write`], to `dir/<stage>.manifest.json`: for results that lie in the folder of another stage's artifact.
    pub fn write_beside(&self, dir: &Path) -> Result<()> {
        write_json(&beside(dir, &self.stage), self)
    }

    /// Reads what [`Self::write_beside`] wrote.
    pub fn read_beside(dir: &Path, stage: &str, format_version: u32) -> Result<Self> {
        Self::read_from(&beside(dir, stage), stage, format_version)
    }

    /// Whether the results that lie beside another stage's artifact in `dir` have this configuration and these inputs, and are as they were written.
    pub fn is_fresh_beside(&self, dir: &Path) -> bool {
        Self::read_beside(dir, &self.stage, self.format_version)
            .is_ok_and(|found| found.config == self.config && found.inputs == self.inputs && found.check_files(dir).is_ok())
    }

    fn read_from(path: &Path, stage: &str, format_version: u32) -> Result<Self> {
        let manifest: Manifest = read_json(path)?;
        if manifest.stage != stage {
            return Err(Error::Corrupt { path: path.into(), what: format!("it is of {}, expected {stage}", manifest.stage) });
        }
        if manifest.format_version != format_version {
            return Err(Error::Version { path: path.into(), stage: stage.into(), found: manifest.format_version, expected: format_version });
        }
        Ok(manifest)
    }

    /// First 16 hex digits of the blake3 of what determines the artifact: everything but wall time and program version.
    pub fn hash(&self) -> String {
        let mut named = self.clone();
        named.wall_seconds = 0.0;
        named.program_version.clear();
        let text = serde_json::to_vec(&named).expect("a manifest is plain data");
        blake3::hash(&text).to_hex()[..16].to_string()
    }

    /// Refuses when the manifest of `input` is not the one that this artifact was made from.
    pub fn check_input(&self, dir: &Path, input: &str, current: &Manifest, rerun: &str) -> Result<()> {
        let (found, expected) = (self.inputs.get(input).cloned().unwrap_or_else(|| "nothing".into()), current.hash());
        if found == expected {
            return Ok(());
        }
        Err(Error::Stale { path: dir.into(), input: input.into(), found, expected, rerun: rerun.into() })
    }
}

fn beside(dir: &Path, stage: &str) -> PathBuf {
    dir.join(format!("{stage}.manifest.json"))
}

/// Why what was made from `input` is stale; `now` is the hash of what is there now, if it can be read.
pub fn why_stale(input: &str, now: Option<&String>) -> String {
    format!("{input} {}", if now.is_some() { "has changed since" } else { "is missing or damaged" })
}

/// blake3 of the bytes of a file, hex.
pub fn hash_file(path: &Path) -> Result<String> {
    let io = |e| Error::io("read", path, e);
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path).map_err(io)?, &mut hasher).map_err(io)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn brief(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_in_a_recorded_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rows"), [1, 2, 3]).unwrap();
        let mut manifest = Manifest::new("lm", 1, serde_json::json!({}), 0);
        manifest.record_file(dir.path(), "rows").unwrap();
        manifest.check_files(dir.path()).unwrap();
        std::fs::write(dir.path().join("rows"), [1, 3, 3]).unwrap();
        assert!(manifest.check_files(dir.path()).unwrap_err().to_string().contains("rows"));
    }

    #[test]
    fn a_manifest_that_names_files_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["/dev/zero", "../x", "sub/../../x", "sub", "", ".", ".."] {
            let mut manifest = Manifest::new("lm", 1, serde_json::json!({}), 0);
            manifest.files.insert(name.into(), "ab".into());
            let refused = manifest.check_files(dir.path()).unwrap_err().to_string();
            assert!(refused.contains("no file of its folder"), "{name}: {refused}");
        }
    }

    #[test]
    fn a_result_beside_an_artifact_is_fresh_until_its_settings_its_inputs_or_its_bytes_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Manifest::new("eval", 1, serde_json::json!({"tokens": 5}), 0);
        record.inputs.insert("sae".into(), "1234".into());
        assert!(!record.is_fresh_beside(dir.path()), "nothing is there");
        std::fs::write(dir.path().join("eval.json"), "{}").unwrap();
        let mut written = record.clone();
        written.record_file(dir.path(), "eval.json").unwrap();
        written.write_beside(dir.path()).unwrap();
        assert!(record.is_fresh_beside(dir.path()));
        assert!(!Manifest { config: serde_json::json!({"tokens": 6}), ..record.clone() }.is_fresh_beside(dir.path()));
        assert!(!Manifest { inputs: BTreeMap::from([("sae".into(), "5678".into())]), ..record.clone() }.is_fresh_beside(dir.path()));
        assert!(!Manifest { format_version: 2, ..record.clone() }.is_fresh_beside(dir.path()));
        std::fs::write(dir.path().join("eval.json"), "{ }").unwrap();
        assert!(!record.is_fresh_beside(dir.path()));
    }

    #[test]
    fn a_record_of_another_version_of_the_program_is_not_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let record = Manifest::new("exam", 2, serde_json::json!({}), 0);
        record.write(dir.path()).unwrap();
        let refused = |stage: &str, version| Manifest::read(dir.path(), stage, version).unwrap_err().to_string();
        let other = refused("exam", 3);
        assert!(other.contains("format version 2 of exam") && other.contains("reads version 3") && !other.contains("damaged"), "{other}");
        assert!(refused("lm", 2).contains("is of exam, expected lm"));
        assert!(Manifest::read(dir.path(), "exam", 2).is_ok());
    }

    #[test]
    fn the_hash_ignores_wall_time_and_sees_the_seed() {
        let a = Manifest::new("lm", 1, serde_json::json!({"d_model": 4}), 0);
        let b = Manifest { wall_seconds: 3.0, ..a.clone() };
        let c = Manifest { seed: 1, ..a.clone() };
        assert_eq!(a.hash(), b.hash());
        assert_ne!(a.hash(), c.hash());
    }

    #[test]
    fn a_reader_refuses_another_seed_with_the_next_step() {
        let tokens = Manifest::new("tokens", 1, serde_json::json!({}), 0);
        let mut lm = Manifest::new("lm", 1, serde_json::json!({}), 0);
        lm.inputs.insert("tokens".into(), tokens.hash());
        assert!(lm.check_input(Path::new("lm"), "tokens", &tokens, "x").is_ok());
        let other = Manifest { seed: 7, ..tokens };
        let error = lm.check_input(Path::new("lm"), "tokens", &other, "monosem lm train --run tiny").unwrap_err().to_string();
        assert!(error.contains("monosem lm train --run tiny") && error.contains(&other.hash()), "{error}");
    }
}
