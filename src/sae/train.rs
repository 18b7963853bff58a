//! The training loop: schedules, dead latents, log, checkpoints.

use super::{Result, RowSource, Sae, TrainConfig};
use crate::artifact::Progress;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the result goes and what it is made from.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// `sae/<name>/`
    pub out: PathBuf,
    /// Folder of this SAE's checkpoints.
    pub checkpoints: PathBuf,
    /// Go on from the newest checkpoint, if there is one.
    pub resume: bool,
    /// Recorded in cfg.json for other tools.
    pub origin: Origin,
    /// Stage name -> hash of its manifest, for manifest.json.
    pub inputs: BTreeMap<String, String>,
}

/// Where the rows come from, in SAELens' words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    pub model_name: String,
    /// e.g. `blocks.0.mlp.hook_post`
    pub hook_name: String,
    /// n_ctx
    pub context_size: usize,
    pub dataset: String,
}

/// What a finished training hands back; everything is on disk as well.
#[derive(Debug, Clone)]
pub struct TrainedSae {
    pub sae: Sae,
    pub steps: u64,
    pub rows: u64,
    /// Of the last logged step.
    pub fvu: f64,
    pub l0: f64,
    pub dead_frac: f64,
}

/// Trains on the rows of `source`, from its present position.
pub fn train(_source: &mut dyn RowSource, _config: &TrainConfig, _place: &Place, _progress: &mut dyn Progress) -> Result<TrainedSae> {
    todo!()
}
