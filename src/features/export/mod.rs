//! The dictionary in files of other programs. Reads a dictionary, its text and, where they are there, decoder directions, the model and
//! labels; writes one folder. Does not know where labels are kept.
//!
//! [`dashboard`] is one feature in the words of SAEDashboard and Neuronpedia; each other file is a format.

pub mod dashboard;
pub mod jsonl;
pub mod neuronpedia;
pub mod parquet;
pub mod saedashboard;
pub mod site;
mod upload;

use super::text::Text;
use super::{Dictionary, Error, Result, logits};
use crate::artifact::{self, Progress};
use crate::lm::{HookPoint, Lm};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// A format, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Every table of the dictionary as one Parquet file, contexts and labels included
    Parquet,
    /// features.jsonl: one feature with everything about it to a line
    Jsonl,
    /// batch-N.json as SAEDashboard writes them
    Saedashboard,
    /// The folder tree of Neuronpedia's bulk import and public dumps
    Neuronpedia,
    /// Bodies for Neuronpedia's POST /api/feature/upload-batch
    Upload,
    /// A web site that needs no server: search, list and contexts from file://
    Site,
}

/// A label in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelText {
    pub latent: u32,
    pub text: String,
    pub author: String,
    /// RFC 3339, UTC.
    pub time: String,
}

/// What is exported.
pub struct Source<'a> {
    pub dictionary: &'a Dictionary,
    pub text: &'a dyn Text,
    /// By latent.
    pub labels: &'a [LabelText],
    /// One row of d_in numbers for each unit: decoder rows, or axes for neurons.
    pub directions: Option<Vec<f32>>,
    /// For histograms of logit effects; without it they are empty.
    pub lm: Option<&'a Lm>,
    /// Lower-case names for other programs' columns: the model and the set of features.
    pub model_id: String,
    pub set: String,
    /// What the text is.
    pub dataset: String,
    /// RFC 3339: when the dictionary was made.
    pub created_at: String,
}

impl Source<'_> {
    fn direction(&self, id: u32) -> Option<&[f32]> {
        let d_in = self.dictionary.meta().d_in;
        self.directions.as_deref()?.get(id as usize * d_in..)?.get(..d_in)
    }

    fn labels_of(&self, id: u32) -> &[LabelText] {
        let first = self.labels.partition_point(|l| l.latent < id);
        let n = self.labels[first..].partition_point(|l| l.latent == id);
        &self.labels[first..first + n]
    }

    fn hook(&self) -> Option<HookPoint> {
        self.dictionary.meta().hook.parse().ok()
    }

    fn layer(&self) -> usize {
        self.hook().map_or(0, |h| h.layer)
    }

    /// Centres and counts of the unit's effects on every token's logit; empty without a model.
    fn logit_bars(&self, id: u32, n: usize) -> (Vec<f32>, Vec<u64>) {
        let Some(((lm, hook), direction)) = self.lm.zip(self.hook()).zip(self.direction(id)) else { return (vec![], vec![]) };
        if hook.d_in(&lm.config) != direction.len() || hook.layer >= lm.config.n_layers {
            return (vec![], vec![]);
        }
        logits::bars(&lm.logit_effects(hook, direction), n)
    }
}

/// Writes `format` into the folder `out`, which must be new or empty. Returns the files, relative to it.
///
/// # Errors
/// The folder holds something, or cannot be written; the dictionary is damaged.
pub fn export(format: Format, source: &Source, out: &Path, progress: &mut dyn Progress) -> Result<Vec<PathBuf>> {
    let io = |action| move |e| Error::Artifact(artifact::Error::io(action, out, e));
    std::fs::create_dir_all(out).map_err(io("make"))?;
    if std::fs::read_dir(out).map_err(io("list"))?.next().is_some() {
        return Err(Error::Invalid(format!("{} is not empty\n  name a new folder with --out", out.display())));
    }
    progress.begin("export", u64::from(source.dictionary.meta().n_units), "units");
    let mut to = Folder { root: out.into(), files: vec![] };
    match format {
        Format::Parquet => parquet::write(source, &mut to, progress)?,
        Format::Jsonl => jsonl::write(source, &mut to, progress)?,
        Format::Saedashboard => saedashboard::write(source, &mut to, progress)?,
        Format::Neuronpedia => neuronpedia::write(source, &mut to, progress)?,
        Format::Upload => upload::write(source, &mut to, progress)?,
        Format::Site => site::write(source, &mut to, progress)?,
    }
    progress.end();
    Ok(to.files)
}

/// The folder that an export fills.
pub struct Folder {
    root: PathBuf,
    files: Vec<PathBuf>,
}

impl Folder {
    /// Writes one file under a relative path; a half-written file never has its name.
    fn file(&mut self, path: impl AsRef<Path>, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
        let path = path.as_ref();
        let whole = self.root.join(path);
        if let Some(folder) = whole.parent() {
            std::fs::create_dir_all(folder).map_err(|e| artifact::Error::io("make", folder, e))?;
        }
        artifact::write_atomic(&whole, write)?;
        self.files.push(path.into());
        Ok(())
    }

    fn json<T: Serialize>(&mut self, path: impl AsRef<Path>, value: &T) -> Result<()> {
        self.file(path, |out| Ok(serde_json::to_writer(out, value)?))
    }
}

/// Stops where somebody pressed Ctrl-C; what is written stays.
fn check(progress: &mut dyn Progress) -> Result<()> {
    if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}

/// A name of lower-case letters, digits and single hyphens that starts with a letter, as Neuronpedia wants it.
pub fn slug(name: &str) -> String {
    let words = name.to_lowercase();
    let words = words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect::<Vec<_>>().join("-");
    if words.starts_with(|c: char| c.is_ascii_lowercase()) { words } else { format!("x{}{words}", if words.is_empty() { "" } else { "-" }) }
}
