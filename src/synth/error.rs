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
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether Ctrl-C was pressed and everything so far is saved.
    pub fn is_interruption(&self) -> bool {
        matches!(self, Error::Interrupted | Error::Sae(sae::Error::Interrupted { .. }))
    }
}
