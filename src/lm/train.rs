//! Tokens -> a trained model. Reads the token stream; writes `lm/` and checkpoints.

use super::{LmConfig, Result, TrainConfig};
use crate::artifact::{Progress, RunDir};
use crate::corpus::TokenStream;
use serde::{Deserialize, Serialize};

/// What a finished run reports; also the `counts` and figures of its manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    pub steps: u64,
    pub tokens: u64,
    pub n_params: u64,
    /// Mean loss in nats over the last logged steps.
    pub train_loss: f64,
    /// Mean loss in nats on the windows of held-out half A.
    pub held_out_loss: f64,
    pub tokens_per_s: f64,
    pub wall_seconds: f64,
}

/// Trains a model on the stream's training windows and saves it to the run's `lm/`.
///
/// With `resume` it goes on from the newest checkpoint, bit for bit as if it had never stopped; a finished run is returned as it is.
pub fn train(
    _stream: &TokenStream,
    _config: &LmConfig,
    _train: &TrainConfig,
    _run: &RunDir,
    _resume: bool,
    _progress: &mut dyn Progress,
) -> Result<TrainReport> {
    todo!()
}
