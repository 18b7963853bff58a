//! TopK: the k largest pre-activations of a row (Gao et al. 2024, section 2.3), dead latents trained on the residual (section 2.4).
//!
//! a = relu(top_k(w_enc (x - b_dec) + b_enc)), loss = |x - x_hat|^2 + aux (`cpu/auxk`). The gradient takes the selection as it is: da/dz is 1 where a latent is kept, else 0.
//! Multi-TopK (the same paper): loss(k) + loss(4 k) / 8, so that more latents than k may be kept when the SAE is used.

use super::{Architecture, Levels, Nesting, Recipe, Select, Selection, Trained};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Settings of TopK.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct TopK {
    /// Latents kept per row.
    pub k: usize,
    /// Whether dead latents are trained on the residual (AuxK).
    pub auxk: bool,
    /// Whether the loss at 4 k is trained as well, at 1/8 of the weight.
    pub multi: bool,
}

impl Default for TopK {
    fn default() -> Self {
        TopK { k: 32, auxk: true, multi: false }
    }
}

impl Recipe {
    /// TopK with k latents a row.
    pub fn topk(k: usize, auxk: bool) -> Recipe {
        TopK { k, auxk, multi: false }.into()
    }
}

impl TopK {
    /// Latents that a step of Multi-TopK looks at.
    const MULTI: usize = 4;
    const MULTI_WEIGHT: f64 = 0.125;
}

impl Architecture for TopK {
    fn about(&self) -> &'static str {
        "The k largest latents of a row, AuxK for dead ones (Gao et al. 2024)"
    }

    fn in_words(&self) -> String {
        let TopK { k, auxk, multi } = self;
        format!("{}TopK (k {k}{})", if *multi { "Multi-" } else { "" }, if *auxk { ", AuxK" } else { "" })
    }

    fn check(&self, _: usize, d_sae: usize) -> Result<(), String> {
        let most = if self.multi { d_sae / Self::MULTI } else { d_sae };
        if (1..=most).contains(&self.k) { Ok(()) } else { Err(format!("k is {}; it must be from 1 to {most} with {d_sae} latents", self.k)) }
    }

    fn tune(&self, config: &mut TrainConfig) {
        config.lr = topk_lr(config.sae.d_sae);
        config.eps = 6.25e-10;
    }

    fn selection(&self) -> Selection {
        Selection::TopK { k: if self.multi { Self::MULTI * self.k } else { self.k } }
    }

    fn levels(&self, _: usize, _: u64, _: u64) -> Option<Levels> {
        let levels =
            Levels { ends: vec![self.k, Self::MULTI * self.k], weights: vec![1.0, Self::MULTI_WEIGHT], nesting: Nesting::Rank, detached: false };
        self.multi.then_some(levels)
    }

    fn select(&self, _: &Trained) -> Select {
        Select::TopK { k: self.k }
    }

    fn auxk(&self) -> bool {
        self.auxk
    }
}

/// 2e-4 / sqrt(d_sae / 2^14): the scaling of figure 3 of Gao et al. 2024, with the constant that dictionary_learning and sparsify have.
pub(super) fn topk_lr(d_sae: usize) -> f64 {
    2e-4 / (d_sae as f64 / 16_384.0).sqrt()
}
