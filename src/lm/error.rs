use crate::artifact;

pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a language model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error("cannot make this model or run: {0}")]
    Config(String),
    #[error("the model has a vocabulary of {model}, the tokens of {tokens}\n  set d_vocab to {tokens}, or rebuild the tokens: monosem corpus build")]
    Vocabulary { model: usize, tokens: usize },
    #[error("{split} has {found} windows of {n_ctx} tokens, {needed} are needed\n  give the corpus more text, or lower n_ctx or the batch")]
    TooFewWindows { split: &'static str, found: u64, needed: u64, n_ctx: usize },
    #[error(
        "the loss is {loss} at step {step} (gradient norm {grad_norm}, learning rate {lr})\n  lower --lr or raise warmup; the last checkpoint is from before this"
    )]
    NotFinite { step: u64, loss: f64, grad_norm: f64, lr: f32 },
    /// `settings`: the settings differ, and not only the inputs.
    #[error("the checkpoint {path} is of another training: {what}\n  give the same flags as then with --resume, or discard it: with --yes instead")]
    OtherRun { path: std::path::PathBuf, what: String, settings: bool },
    #[error("there is no checkpoint in {path}\n  start without --resume")]
    NoCheckpoint { path: std::path::PathBuf },
    /// Everything so far is saved.
    #[error("interrupted after step {step}; everything so far is saved")]
    Interrupted { step: u64 },
}
