//! `tokens/sources.json`: which files a corpus was made from, so that a change in them is noticed later. Reads sources; knows no documents.
//!
//! A data set of the Hub is recorded with the commit that was read; whether the Hub has a newer one is not asked, so that a rerun stays offline.

use super::Result;
use super::config::{CorpusConfig, Source};
use super::source::{Input, Inputs, files};
use crate::artifact::{self, hash_file, read_json, write_json};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const NAME: &str = "sources.json";

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourcesRecord {
    /// By the path as it was named.
    files: BTreeMap<String, SourceFile>,
    /// Name of a data set -> its commit.
    datasets: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceFile {
    bytes: u64,
    /// Nanoseconds since 1970. A file with another time and the same bytes is the same.
    modified: u64,
    blake3: String,
}

impl SourceFile {
    fn of(path: &Path) -> Result<Self> {
        let (bytes, modified) = stamp(path)?;
        // A file that cannot be read is told of, or skipped, where it is read as text.
        Ok(SourceFile { bytes, modified, blake3: hash_file(path).unwrap_or_default() })
    }

    /// Looks at size and time first; reads the file only where the time differs.
    fn is_still(&self, path: &Path) -> Result<bool> {
        let (bytes, modified) = stamp(path)?;
        Ok(bytes == self.bytes && (modified == self.modified || hash_file(path)? == self.blake3))
    }
}

/// Size and time of change.
fn stamp(path: &Path) -> Result<(u64, u64)> {
    let io = |e| artifact::Error::io("read", path, e);
    let meta = std::fs::metadata(path).map_err(io)?;
    let since = meta.modified().map_err(io)?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok((meta.len(), since.as_nanos() as u64))
}

impl SourcesRecord {
    /// Hashes every local file of the inputs, and a tokenizer that is read: about a second per gigabyte.
    pub fn of(config: &CorpusConfig, inputs: &Inputs) -> Result<Self> {
        let mut record = SourcesRecord { files: BTreeMap::new(), datasets: inputs.commits() };
        for input in &inputs.inputs {
            if let Input::File { path, label } = input {
                record.files.insert(label.clone(), SourceFile::of(path)?);
            }
        }
        if let Some(path) = config.tokenizer.as_deref().filter(|path| path.is_file()) {
            record.files.insert(path.display().to_string(), SourceFile::of(path)?);
        }
        Ok(record)
    }

    /// Names and contents as one hash; none where everything was generated.
    pub fn hash(&self) -> Option<String> {
        let contents: BTreeMap<&String, &String> = self.files.iter().map(|(name, file)| (name, &file.blake3)).collect();
        let text = serde_json::to_vec(&(contents, &self.datasets)).expect("plain data");
        (!self.files.is_empty() || !self.datasets.is_empty()).then(|| blake3::hash(&text).to_hex()[..16].to_string())
    }

    pub fn write(&self, tokens: &Path) -> Result<()> {
        Ok(write_json(&tokens.join(NAME), self)?)
    }
}

/// Refuses a configuration that names files which are not there, before anything is written.
pub fn check_sources(config: &CorpusConfig) -> Result<()> {
    for source in &config.sources {
        if let Source::Path(path) = source {
            files(path, &mut Vec::new())?;
        }
    }
    Ok(())
}

/// What has changed in the sources since the tokens in `tokens` were made from them: the first file that is new, gone or different. `None` where
/// nothing has, where nothing was recorded, and where no source is there any more: the tokens are then all that there is. They also hold the
/// tokenizer, so that one which is gone is no change.
pub fn sources_changed(tokens: &Path, config: &CorpusConfig) -> Option<String> {
    let record: SourcesRecord = read_json(&tokens.join(NAME)).ok()?;
    let mut now = BTreeSet::new();
    for source in &config.sources {
        if let Source::Path(path) = source {
            // A source that is not there any more has lost all its files.
            now.extend(files(path, &mut Vec::new()).unwrap_or_default());
        }
    }
    if now.is_empty() && !record.files.is_empty() {
        return None;
    }
    now.extend(config.tokenizer.iter().filter(|path| path.is_file()).cloned());
    for path in &now {
        match record.files.get(&path.display().to_string()) {
            None => return Some(format!("{} is new", path.display())),
            Some(file) if !file.is_still(path).unwrap_or(false) => return Some(format!("{} has changed", path.display())),
            Some(_) => {}
        }
    }
    let is_tokenizer = |name: &str| config.tokenizer.as_deref().is_some_and(|path| path == Path::new(name));
    let gone = record.files.keys().find(|name| !now.contains(Path::new(name)) && !is_tokenizer(name));
    gone.map(|name| format!("{name} is gone"))
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::*;
    use crate::artifact::{RunDir, Silent};
    use crate::corpus::TokenStream;
    use std::fs;

    #[test]
    fn a_file_that_is_added_changed_or_removed_is_named_and_a_touched_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::create_dir_all(&text).unwrap();
        let write = |name: &str, what: &str| fs::write(text.join(name), format!("{what} ").repeat(200)).unwrap();
        write("a.txt", "one cat sat");
        write("b.txt", "two cats sat");
        let config = CorpusConfig { sources: vec![Source::Path(text.display().to_string())], d_vocab: 260, ..Default::default() };
        let run = RunDir::new(dir.path(), "r");
        let first = build(&config, &run, &mut Silent).unwrap().hash();
        let changed = || sources_changed(&run.tokens(), &config);
        assert_eq!(changed(), None);

        write("a.txt", "one cat sat");
        assert_eq!(changed(), None, "the same bytes, written again");
        assert_eq!(build(&config, &run, &mut Silent).unwrap().hash(), first, "and the same tokens");
        write("a.txt", "six cat sat");
        assert!(changed().unwrap().ends_with("a.txt has changed"), "as many bytes as before");
        assert_ne!(build(&config, &run, &mut Silent).unwrap().hash(), first);
        write("c.txt", "three");
        assert!(changed().unwrap().ends_with("c.txt is new"));
        fs::remove_file(text.join("c.txt")).unwrap();
        fs::remove_file(text.join("b.txt")).unwrap();
        assert!(changed().unwrap().ends_with("b.txt is gone"));
        fs::remove_dir_all(&text).unwrap();
        assert_eq!(changed(), None, "the tokens are all that there is");
        TokenStream::open(&run.tokens()).unwrap();
    }

    #[test]
    fn one_source_that_is_gone_hides_no_change_in_another() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, vocabulary) = (dir.path().join("a.txt"), dir.path().join("b.txt"), dir.path().join("tokenizer.json"));
        fs::write(&a, "one cat sat ".repeat(200)).unwrap();
        fs::write(&b, "two cats sat ".repeat(200)).unwrap();
        let sources = [&a, &b].map(|path| Source::Path(path.display().to_string())).to_vec();
        let run = RunDir::new(dir.path(), "first");
        build(&CorpusConfig { sources: sources.clone(), d_vocab: 260, ..Default::default() }, &run, &mut Silent).unwrap();
        fs::copy(run.tokens().join("tokenizer.json"), &vocabulary).unwrap();
        let config = CorpusConfig { sources, tokenizer: Some(vocabulary.clone()), ..Default::default() };
        let run = RunDir::new(dir.path(), "second");
        build(&config, &run, &mut Silent).unwrap();
        let changed = || sources_changed(&run.tokens(), &config);
        fs::remove_file(&vocabulary).unwrap();
        assert_eq!(changed(), None, "the tokens hold the tokenizer");
        fs::remove_file(&b).unwrap();
        assert!(changed().unwrap().ends_with("b.txt is gone"));
        fs::write(&a, "six cats sat ".repeat(200)).unwrap();
        assert!(changed().unwrap().ends_with("a.txt has changed"));
    }
}
