//! ReLU + L1 of Bricken et al. 2023: raw inputs, pre-encoder bias at the geometric median, unit-norm decoder with gradient projection before and
//! renormalisation after the step, resampling of dead latents.
//!
//! a = relu(w_enc (x - b_dec) + b_enc), loss = |x - x_hat|^2 + D l1 sum a. The paper's squared error is a mean over D, ours is a sum, hence D.

use super::{Architecture, Init, Select, Selection, Trained, Units};
use crate::sae::{Resample, TrainConfig};
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of the 2023 recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Relu2023 {
    /// Coefficient of L1 beside the squared error averaged over d_in, as in the paper.
    pub l1: f64,
}

impl Default for Relu2023 {
    fn default() -> Self {
        Relu2023 { l1: 1e-3 }
    }
}

impl Architecture for Relu2023 {
    fn about(&self) -> &'static str {
        "ReLU + L1 with resampling (Bricken et al. 2023)"
    }

    fn in_words(&self) -> String {
        format!("ReLU of 2023 (L1 {})", self.l1)
    }

    fn tune(&self, config: &mut TrainConfig) {
        (config.lr, config.lr_warmup, config.l1_warmup, config.clip) = (3e-4, 0.0, 0.0, None);
        config.resample = Some(Resample::over(config.rows));
    }

    fn tune_as_published(&self, config: &mut TrainConfig) {
        config.lr_decay = 0.0;
        if let Some(resample) = &mut config.resample {
            (resample.at, resample.window) = (vec![0.025, 0.05, 0.075, 0.1], 0.0125);
        }
    }

    fn units(&self) -> Units {
        Units::Raw
    }

    fn init(&self, _: usize, _: usize) -> Init {
        Init::Linear
    }

    fn selection(&self) -> Selection {
        Selection::Positive
    }

    fn select(&self, _: &Trained) -> Select {
        Select::Relu
    }

    fn sparsity(&self, d_out: usize) -> Option<f64> {
        Some(self.l1 * d_out as f64)
    }
}
