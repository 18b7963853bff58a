//! The language model: a GPT-2-style decoder with hand-written forward and backward. Reads token shards; writes `lm/` in Hugging Face
//! layout. Does not know SAEs.

mod config;
mod engine;
mod hooks;
mod model;

pub use config::{Activation, LmConfig};
pub use engine::{Edit, Engine};
pub use hooks::{HookPoint, Site};
pub use model::Lm;
