//! What can go wrong in an experiment.

use crate::{artifact, sae};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error(transparent)]
    Sae(#[from] sae::Error),
    #[error("there is no experiment {name}\n  known are all, {known}")]
    Unknown { name: String, known: String },
    #[error("interrupted")]
    Interrupted,
}
