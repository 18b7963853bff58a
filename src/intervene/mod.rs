//! An SAE spliced into the language model. Reads an engine (or a model), a token stream and an SAE; writes nothing. Knows neither the
//! dictionary nor labels.
//!
//! - [`splice`]: what the SAE's reconstruction costs the model: cross-entropy recovered, KL, and the same for the largest neurons.
//! - [`edit`]: latents set, raised, scaled or removed, with the SAE's error kept: x' = x + sum (target - act) w_dec\[latent\]; [`saved`] is how edits are written down.
//! - [`write`] and [`mod@steer`]: texts with an edit, one or many; beside the unedited text, drawn with the same luck.
//! - [`effect`], [`quality`], [`concept`]: what an edit does to each prediction, whether the text is still text, how much of a concept it has.
//! - [`strength`]: texts at several strengths, and the one to take.
//! - [`exact`]: the effect on the next token without running the model again.
//! - [`ablation`]: what each token's loss would be without a latent.
//! - [`why`]: a pre-activation as an exact sum over source tokens and heads.
//!
//! The SAE is trained on rows that count ([`counts`](crate::corpus::counts)); at the other positions - `<|endoftext|>` and the first of a
//! window - nothing is ever spliced, edited or averaged.

pub mod ablation;
pub mod attribution;
pub mod classify;
pub mod concept;
pub mod edit;
pub mod effect;
pub mod exact;
pub mod fit;
pub mod measure;
pub mod quality;
pub mod saved;
pub mod splice;
#[cfg(test)]
mod splice_tests;
pub mod steer;
pub mod strength;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod vectors;
pub mod why;
pub mod write;
#[cfg(test)]
mod write_tests;

pub use edit::{Editor, LatentEdit, Rule, Scope, Steering};
pub use splice::{Baseline, CeReport, NeuronsReport, Rest, evaluate};
pub use steer::{Side, Steered, steer};

use crate::lm::HookPoint;

pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when an SAE is put into a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the SAE reads {sae} numbers, {hook} of this model has {model}\n  use the SAE that was trained on this model, or another hook")]
    Width { sae: usize, model: usize, hook: HookPoint },
    #[error("there is no latent {latent}: the SAE has 0 to {}", d_sae - 1)]
    NoLatent { latent: u32, d_sae: usize },
    #[error("latent {latent} is edited twice; give one rule for each latent")]
    EditedTwice { latent: u32 },
    #[error("the strength {strength} of latent {latent} is not a finite number")]
    NotFinite { latent: u32, strength: f32 },
    #[error(
        "{hook} cannot be edited in this model: {what}\n  do not trust any number of a splice here; this is a fault of the program, please report it"
    )]
    Check { hook: HookPoint, what: String },
    #[error("held-out text has no token that counts in windows of {n_ctx}\n  build a larger corpus: monosem corpus build")]
    NoTokens { n_ctx: usize },
    #[error(
        "the effect of an edit at {hook} is not exact: later layers read it\n  generate instead, or take a hook after the attention of the last layer"
    )]
    NotExact { hook: HookPoint },
    #[error(
        "this is a transcoder: it reads {hook} and writes elsewhere, so there is no reconstruction of {hook} to put in its place\n  edits need an SAE: choose another with --sae"
    )]
    Transcoder { hook: HookPoint },
    #[error("the edit cannot be used: {what}")]
    Edit { what: String },
    #[error("interrupted")]
    Interrupted,
}

/// Refuses an SAE of another width than the hook.
pub(crate) fn check_width(config: &crate::lm::LmConfig, hook: HookPoint, sae: &crate::sae::Sae) -> Result<()> {
    if sae.transcoder.is_some() {
        return Err(Error::Transcoder { hook });
    }
    check_widths(config, (hook, hook), sae)
}

/// Refuses a transcoder of other widths than the hooks that it reads and writes.
pub(crate) fn check_widths(config: &crate::lm::LmConfig, (from, to): (HookPoint, HookPoint), sae: &crate::sae::Sae) -> Result<()> {
    for (hook, sae) in [(from, sae.d_in), (to, sae.d_out())] {
        if hook.layer >= config.n_layers {
            return Err(Error::Check { hook, what: format!("it has {}", crate::lm::layers(config.n_layers)) });
        }
        let model = hook.d_in(config);
        if sae != model {
            return Err(Error::Width { sae, model, hook });
        }
    }
    Ok(())
}
