//! What can go wrong in an experiment.

use crate::{artifact, sae};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error(transparent)]
    Sae(#[from] sae::Error),
    #[error("there is no {what} {name}\n  known are {known}")]
    Unknown { what: &'static str, name: String, known: String },
    #[error("two of the SAEs are called {label}: they would lie in one folder\n  give each --recipe once, or with settings in which they differ")]
    Twice { label: String },
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether Ctrl-C was pressed and everything so far is saved.
    pub fn is_interruption(&self) -> bool {
        matches!(self, Error::Interrupted | Error::Sae(sae::Error::Interrupted { .. }))
    }
}
