//! What of a trial is done, so that a stopped one goes on: what was written with every feature, and the concepts that have a result.

use super::screen::Screen;
use super::{ConceptTrial, TrialConfig};
use serde::{Deserialize, Serialize};

/// Of one trial; see [`super::trial`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    config: TrialConfig,
    /// The SAE's name, and of its weights.
    sae: String,
    weights_hash: String,
    pub(super) screen: Option<Screen>,
    /// In the order in which concepts are tried.
    pub done: Vec<ConceptTrial>,
}

impl Kept {
    /// Nothing done yet.
    pub fn new(config: &TrialConfig, sae: &str, weights_hash: &str) -> Self {
        Kept { config: config.clone(), sae: sae.into(), weights_hash: weights_hash.into(), screen: None, done: Vec::new() }
    }

    /// Whether this is of the trial that `other` is of.
    pub fn same_trial(&self, other: &Kept) -> bool {
        (&self.config, &self.sae, &self.weights_hash) == (&other.config, &other.sae, &other.weights_hash)
    }

    pub fn sae(&self) -> &str {
        &self.sae
    }

    pub fn config(&self) -> &TrialConfig {
        &self.config
    }
}
