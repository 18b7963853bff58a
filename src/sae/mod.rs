//! Activations -> sparse autoencoder. Reads rows of numbers from a [`RowSource`]; writes `sae/<name>/` in SAELens layout.
//! Does not know the language model, text or tokens.

pub mod architectures;
mod checkpoint;
mod coefficient;
mod config;
mod consistency;
pub mod controls;
pub(crate) mod cpu;
mod encode;
mod engine;
mod error;
mod fold;
mod forecast;
mod format;
pub mod history;
mod init;
mod metrics;
mod model;
mod place;
mod pursuit;
mod resample;
mod rows;
mod train;
mod training;
mod transcoder;

pub use architectures::{
    Aligned, Architecture, BatchTopK, Gated, JumpRelu, MatchingPursuit, Matryoshka, PAnneal, Recipe, Relu2023, ReluApril2024, Tanh, TopK, Units,
};
pub use checkpoint::{Begun, Checkpoint};
pub use coefficient::Control;
pub use config::{Decoder, Resample, SaeConfig, TrainConfig};
pub use consistency::{Consistency, consistency, consistency_formulas};
pub use cpu::CpuEngine;
pub use engine::{Engine, Params, Replacement, State, StepReport, StepSettings};
pub use error::{Error, Result};
pub use forecast::{Forecast, Speed, seconds_in_words};
pub use format::{SELFTEST_ROWS, WEIGHTS_FILE, read_origin};
pub use metrics::{Eval, JUNK_COSINE, Metrics, metric_formulas};
pub use model::{Encoder, Sae, Select, SparseRows};
pub use place::{LOG, Origin, PLOT, Place, WEIGHTS};
pub use rows::RowSource;
pub use train::{SAE_FORMAT_VERSION, TrainedSae, train, train_all};
pub use transcoder::{Target, Transcoder};
