//! ReLU + L1 weighted by free decoder norms, of Anthropic's April 2024 update ("Training Sparse Autoencoders").
//!
//! a = relu(w_enc x + b_enc), loss = |x - x_hat|^2 + l1 sum a_j |w_dec[j]|; inputs scaled so that E|x| = sqrt(D), no pre-encoder bias, no cure for dead
//! latents but the warm-up of l1.

use super::{Architecture, Init, Select, Selection, Trained, Units};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of the April 2024 recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct ReluApril2024 {
    /// Coefficient of the penalty beside the squared error summed over d_in.
    pub l1: f64,
}

impl Default for ReluApril2024 {
    fn default() -> Self {
        ReluApril2024 { l1: 5.0 }
    }
}

impl Architecture for ReluApril2024 {
    fn about(&self) -> &'static str {
        "ReLU + L1 weighted by decoder norms (Anthropic, April 2024)"
    }

    fn in_words(&self) -> String {
        format!("ReLU of April 2024 (L1 {})", self.l1)
    }

    /// The update's 5e-5 is for 200,000 steps; a short run needs larger ones.
    fn tune(&self, config: &mut TrainConfig) {
        config.lr = 3e-4;
    }

    fn tune_as_published(&self, config: &mut TrainConfig) {
        (config.lr, config.lr_warmup) = (5e-5, 0.0);
    }

    fn units(&self) -> Units {
        Units::RootNorm
    }

    fn init(&self, _: usize, _: usize) -> Init {
        Init::Tied { norm: 0.1, encoder: 1.0 }
    }

    fn pre_bias(&self) -> bool {
        false
    }

    fn unit_decoder(&self) -> bool {
        false
    }

    fn selection(&self) -> Selection {
        Selection::Positive
    }

    fn select(&self, _: &Trained) -> Select {
        Select::Relu
    }

    fn sparsity(&self, _: usize) -> Option<f64> {
        Some(self.l1)
    }
}
