//! What every stage needs to meet in files: run folders, manifests with hashes, atomic writes, safetensors in and out, logs of trainings, seeds.
//! Knows no stage.

mod atomic;
mod figure;
mod manifest;
mod progress;
mod run;
pub mod seed;
pub mod settings;
mod spell;
mod tensors;
mod train_log;

pub use atomic::{move_file, read_json, remove_if_there, write_atomic, write_json, write_together};
pub use figure::Figure;
pub use manifest::{Manifest, hash_file, why_stale};
pub use progress::{Named, Progress, Silent};
pub use run::{RunDir, RunLock};
pub use settings::Start;
pub use spell::{grouped, shell_word, size, time};
pub use tensors::{Dtype, Tensor, TensorFile, write_sealed, write_tensors};
pub use train_log::TrainLog;

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// What to do about a damaged file where nothing better is known.
pub const RERUN: &str = "delete it and rerun the stage that writes it";

/// What can go wrong with files, said with the path, both values and the next step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}: {source}{}", next_step(source))]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is not the JSON that was expected: {source}\n  if the file was edited, undo that; otherwise {RERUN}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path} is damaged: {what}\n  {RERUN}")]
    Corrupt { path: PathBuf, what: String },
    #[error(
        "{path} is of format version {found} of {stage}, and this program reads version {expected}\n  rerun the stage that writes it, or use the program that wrote it"
    )]
    Version { path: PathBuf, stage: String, found: u32, expected: u32 },
    #[error("{path}: tensor {tensor} is {found}, expected {expected}")]
    Tensor { path: PathBuf, tensor: String, found: String, expected: String },
    #[error("{path} was made from {input} {found}, but {input} is now {expected}\n  rerun: {rerun}")]
    Stale { path: PathBuf, input: String, found: String, expected: String, rerun: String },
    #[error("{path} cannot be used: {what}\n  {next}")]
    Refused { path: PathBuf, what: String, next: String },
    #[error("{path} is finished and was made with other settings: {differs}\n  choose another {other}, or replace it: the same command with --yes")]
    Finished { path: PathBuf, differs: String, other: &'static str },
    #[error("{path} holds work that is not finished\n  go on with it: the command that began it, with --resume; or discard it: with --yes")]
    Unfinished { path: PathBuf },
    #[error("{path} is in use by process {owner}\n  wait for it to end, or choose another --run")]
    Locked { path: PathBuf, owner: String },
}

/// What a person can do about the commonest failures of disks.
fn next_step(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::*;
    match source.kind() {
        StorageFull | QuotaExceeded => "\n  free some space, or choose another disk with --dir",
        ReadOnlyFilesystem | PermissionDenied => "\n  choose a folder that you may write to with --dir, or change its permissions",
        _ => "",
    }
}

impl Error {
    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::Io { action, path: path.into(), source }
    }

    pub fn json(path: &Path, source: serde_json::Error) -> Self {
        Error::Json { path: path.into(), source }
    }
}
