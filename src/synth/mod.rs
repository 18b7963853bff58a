//! SAE training against known features. Makes rows of features that it knows; trains SAEs on them with `sae`; scores what was found against the
//! truth, beside what was published. Reads nothing; writes `synth/<experiment>/` of a run. Knows neither language models nor text.

pub mod data;
mod error;
pub mod experiments;
mod normal;
pub mod prune;
pub mod scores;
pub mod source;

pub use error::{Error, Result};
pub use source::{Generator, Rows};
