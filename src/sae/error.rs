//! What can go wrong while training an SAE.

use crate::artifact;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error("these settings cannot work: {what}")]
    Config { what: String },
    #[error("cannot read activation rows at row {position}: {source}")]
    Source { position: u64, source: std::io::Error },
    #[error(
        "rows of {found} numbers, but the SAE was configured for {expected} (d_in, and d_out of a transcoder)\n  configure it for these rows, or choose another hook"
    )]
    Width { found: usize, expected: usize },
    #[error("the activations ended after {found} rows, {expected} were asked for\n  lower the number of rows or add text")]
    TooFewRows { found: u64, expected: u64 },
    #[error("an activation at row {row} is not finite ({value})\n  check the model with: monosem lm eval")]
    NotFinite { row: u64, value: f32 },
    #[error(
        "{path}: the loss became {loss} at step {step}, the norm of its gradient {grad_norm}\n  train it anew, with a learning rate below {lr} and --yes"
    )]
    Diverged { path: PathBuf, step: u64, loss: f64, grad_norm: f64, lr: f64 },
    #[error(
        "{path}: {name} holds a value that is not finite after step {step}\n  nothing was replaced; train it anew, with a learning rate below {lr} and --yes"
    )]
    WeightsNotFinite { path: PathBuf, name: &'static str, step: u64, lr: f64 },
    /// `settings`: the settings differ, and not only the inputs.
    #[error(
        "the checkpoint {path} is of another training: {what}\n  {}",
        of_another(.settings)
    )]
    OtherRun { path: PathBuf, what: String, settings: bool },
    #[error("interrupted after {step} steps; saved in {path}")]
    Interrupted { step: u64, path: PathBuf },
}

/// What to do about a checkpoint of another training.
fn of_another(settings: &bool) -> &'static str {
    match settings {
        true => "give the same flags as then with --resume (an SAE needs none but --name), or discard it: with --yes in place of --resume",
        false => "what it was made from is no more; discard it and train anew: with --yes beside --resume",
    }
}
