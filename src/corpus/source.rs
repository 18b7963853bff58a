//! Sources -> a list of inputs, in a fixed order: files of paths, folders and globs, files of a hub data set, the planted generator.

use super::config::{CorpusConfig, Source};
use super::formats::format_of;
use super::{Error, Result};
use globset::{GlobBuilder, GlobMatcher};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// One thing to read.
#[derive(Debug, Clone)]
pub(super) enum Input {
    File {
        path: PathBuf,
        label: String,
    },
    /// A file of a data set, fetched when its turn comes.
    Hub {
        dataset: usize,
        file: String,
    },
    Planted {
        generator_seed: u64,
        bytes: u64,
    },
}

/// The inputs of a configuration and the data sets that some of them are in.
pub(super) struct Inputs {
    pub inputs: Vec<Input>,
    /// Files in the folders that are read whose endings are not.
    pub unread: Vec<PathBuf>,
    datasets: Vec<(String, hf_hub::api::sync::ApiRepo)>,
    /// Name of a data set -> the commit that its revision stood for when it was listed.
    commits: BTreeMap<String, String>,
}

impl Inputs {
    /// Lists everything that `config.sources` name. Data sets are listed over the network; nothing is fetched yet.
    pub fn list(config: &CorpusConfig) -> Result<Self> {
        let mut all = Inputs { inputs: Vec::new(), unread: Vec::new(), datasets: Vec::new(), commits: BTreeMap::new() };
        for source in &config.sources {
            match source {
                Source::Planted { generator_seed, bytes } => all.inputs.push(Input::Planted { generator_seed: *generator_seed, bytes: *bytes }),
                Source::Path(path) => {
                    let file = |path: PathBuf| Input::File { label: path.display().to_string(), path };
                    all.inputs.extend(files(path, &mut all.unread)?.into_iter().map(file));
                }
                Source::Dataset { name, revision, files } => all.add_dataset(name, revision, files)?,
            }
        }
        Ok(all)
    }

    fn add_dataset(&mut self, name: &str, revision: &str, files: &str) -> Result<()> {
        let failed = |what: String| Error::Dataset { name: name.into(), what };
        let matcher = glob(files)?;
        let token = std::env::var("HF_TOKEN").ok().filter(|t| !t.is_empty());
        let mut builder = hf_hub::api::sync::ApiBuilder::from_env().with_progress(false);
        if token.is_some() {
            builder = builder.with_token(token);
        }
        let api = builder.build().map_err(|e| failed(e.to_string()))?;
        let repo = hf_hub::Repo::with_revision(name.into(), hf_hub::RepoType::Dataset, revision.into());
        let repo = api.repo(repo);
        let info = repo.info().map_err(|e| failed(chain(&e)))?;
        self.commits.insert(name.into(), info.sha);
        let mut names: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).filter(|f| matcher.is_match(f)).collect();
        names.retain(|f| format_of(Path::new(f)).is_some_and(|_| !is_paperwork(f)));
        // Hubs often keep the same rows as Parquet and as JSONL; reading both would double the corpus.
        if files == "*" && names.iter().any(|f| f.ends_with(".parquet")) {
            names.retain(|f| f.ends_with(".parquet"));
        }
        if names.is_empty() {
            return Err(failed(format!("none of its files is text, JSONL or Parquet and matches {files:?}")));
        }
        names.sort();
        let dataset = self.datasets.len();
        self.datasets.push((name.into(), repo));
        self.inputs.extend(names.into_iter().map(|file| Input::Hub { dataset, file }));
        Ok(())
    }

    pub fn commits(&self) -> BTreeMap<String, String> {
        self.commits.clone()
    }

    /// The local path of a data set's file, fetched unless it is in the cache (`HF_HOME`), and its name in messages.
    pub fn fetch(&self, dataset: usize, file: &str) -> Result<(PathBuf, String)> {
        let (name, repo) = &self.datasets[dataset];
        let path = repo.get(file).map_err(|e| Error::Dataset { name: name.clone(), what: format!("{file}: {}", chain(&e)) })?;
        Ok((path, format!("{name}/{file}")))
    }
}

/// Bytes of the sources that are on this machine, compressed ones as they are, up to `max_bytes`; what cannot be looked at counts nothing.
pub fn local_bytes(config: &CorpusConfig) -> u64 {
    let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |m| m.len());
    let of_source = |source: &Source| match source {
        Source::Planted { bytes, .. } => *bytes,
        Source::Path(path) => files(path, &mut Vec::new()).unwrap_or_default().iter().map(length).sum(),
        Source::Dataset { .. } => 0,
    };
    let all: u64 = config.sources.iter().map(of_source).sum();
    all.min(config.max_bytes.unwrap_or(u64::MAX))
}

/// Files of a repository that are about the data, not the data.
fn is_paperwork(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
    ["readme", "license", "licence", "dataset_info", "dataset_infos", "config."].iter().any(|p| name.starts_with(p)) || name.starts_with('.')
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// `*` and `?` cross no slash in paths with slashes; `**` does.
pub(super) fn glob(pattern: &str) -> Result<GlobMatcher> {
    let crossing = !pattern.contains('/');
    let built = GlobBuilder::new(pattern).literal_separator(!crossing).build();
    Ok(built.map_err(|e| Error::Config { what: format!("{pattern:?} is not a pattern: {e}") })?.compile_matcher())
}

/// The files of a path, folder or glob, sorted; files of a folder with other endings go to `unread`.
pub(super) fn files(path: &str, unread: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let unusable = |what: &str| Error::Config { what: format!("{path}: {what}") };
    let root = Path::new(path);
    if root.is_file() {
        return Ok(vec![root.into()]);
    }
    if root.is_dir() {
        let (found, others) = walk(root, &|_| true)?.into_iter().partition::<Vec<_>, _>(|file| format_of(file).is_some());
        unread.extend(others);
        return if found.is_empty() { Err(unusable("no file under it ends in txt, md, jsonl, json or parquet (also .gz, .zst)")) } else { Ok(found) };
    }
    if !path.contains(['*', '?', '[', '{']) {
        return Err(unusable("no such file or folder"));
    }
    let fixed: PathBuf = root.components().take_while(|c| !c.as_os_str().to_string_lossy().contains(['*', '?', '[', '{'])).collect();
    let base = if fixed.as_os_str().is_empty() { Path::new(".") } else { &fixed };
    let pattern = GlobBuilder::new(path).literal_separator(true).build().map_err(|e| unusable(&e.to_string()))?.compile_matcher();
    if !base.is_dir() {
        return Err(unusable(&format!("there is no folder {}", base.display())));
    }
    let found = walk(base, &|file| pattern.is_match(file.strip_prefix("./").unwrap_or(file)) || pattern.is_match(file))?;
    if found.is_empty() { Err(unusable("no file matches")) } else { Ok(found) }
}

fn walk(root: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(root).to_path_buf();
            crate::artifact::Error::io("list", &path, e.into())
        })?;
        if entry.file_type().is_file() && keep(entry.path()) {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}
