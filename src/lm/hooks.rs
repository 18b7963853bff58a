//! Places in the model where activations are read or edited, with TransformerLens names.

use super::LmConfig;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A hook point, printed and parsed as e.g. `blocks.0.mlp.hook_post`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HookPoint {
    pub layer: usize,
    pub site: Site,
}

impl HookPoint {
    /// The residual stream that the final norm reads.
    pub fn last(config: &LmConfig) -> Self {
        HookPoint { layer: config.n_layers - 1, site: Site::ResidPost }
    }
}

/// What is read within a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    /// Residual stream entering the block (d_model).
    ResidPre,
    /// After attention has been added (d_model).
    ResidMid,
    /// What the MLP reads: the residual stream after attention, normalised, with the LayerNorm's gain and bias (d_model).
    MlpIn,
    /// MLP pre-activations (d_mlp).
    MlpPre,
    /// MLP post-activations, the "neurons" (d_mlp).
    MlpPost,
    /// The MLP's output before it is added (d_model).
    MlpOut,
    /// Residual stream leaving the block (d_model).
    ResidPost,
}

impl Site {
    /// In the order in which a block computes them.
    pub const ALL: [Site; 7] = [Site::ResidPre, Site::ResidMid, Site::MlpIn, Site::MlpPre, Site::MlpPost, Site::MlpOut, Site::ResidPost];
}

const NAMES: [(Site, &str); 7] = [
    (Site::ResidPre, "hook_resid_pre"),
    (Site::ResidMid, "hook_resid_mid"),
    (Site::MlpIn, "ln2.hook_normalized"),
    (Site::MlpPre, "mlp.hook_pre"),
    (Site::MlpPost, "mlp.hook_post"),
    (Site::MlpOut, "hook_mlp_out"),
    (Site::ResidPost, "hook_resid_post"),
];

impl HookPoint {
    pub fn mlp_post(layer: usize) -> Self {
        HookPoint { layer, site: Site::MlpPost }
    }

    /// Whether the model computes this before `other`.
    pub fn is_before(&self, other: &HookPoint) -> bool {
        let place = |hook: &HookPoint| (hook.layer, Site::ALL.iter().position(|site| *site == hook.site));
        place(self) < place(other)
    }

    /// Width of the activations read here.
    pub fn d_in(&self, config: &LmConfig) -> usize {
        match self.site {
            Site::MlpPre | Site::MlpPost => config.d_mlp,
            _ => config.d_model,
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (_, name) = NAMES.iter().find(|(site, _)| *site == self.site).expect("every site has a name");
        write!(f, "blocks.{}.{name}", self.layer)
    }
}

impl FromStr for HookPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || format!("unknown hook point {text}; known are {}", NAMES.map(|(_, n)| format!("blocks.N.{n}")).join(", "));
        let (layer, name) = text.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')).ok_or_else(known)?;
        let &(site, _) = NAMES.iter().find(|(_, n)| *n == name).ok_or_else(known)?;
        Ok(HookPoint { layer: layer.parse().map_err(|_| known())?, site })
    }
}

impl TryFrom<String> for HookPoint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HookPoint> for String {
    fn from(hook: HookPoint) -> String {
        hook.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_point_is_parsed_as_it_is_printed() {
        for (site, _) in NAMES {
            let hook = HookPoint { layer: 3, site };
            assert_eq!(hook.to_string().parse::<HookPoint>().unwrap(), hook);
        }
        assert!("blocks.0.hook_z".parse::<HookPoint>().unwrap_err().contains("mlp.hook_post"));
    }
}
