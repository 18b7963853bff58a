//! The language model: a GPT-2-style decoder with hand-written forward and backward. Reads token shards; writes `lm/` in Hugging Face
//! layout. Does not know SAEs.

mod checkpoint;
mod config;
mod cpu;
mod engine;
mod error;
mod generate;
mod hooks;
mod hugging_face;
mod model;
mod reader;
mod train;
#[cfg(test)]
mod train_tests;

pub use checkpoint::Checkpoints;
pub use config::{Activation, LmConfig, TrainConfig, layers};
pub use cpu::CpuEngine;
pub use engine::{Edit, Engine, Moments, StepReport, StepSettings};
pub use error::{Error, Result};
pub use generate::{GenerateEdit, Generator, Sampling, generate, uniform};
pub use hooks::{HookPoint, Site};
pub use hugging_face::FORMAT_VERSION;
pub use model::{BlockWeights, Lm, TensorSpec, Weights, tensor_specs};
pub use reader::Reader;
pub use train::{TrainLine, TrainReport, held_out_loss, train};
