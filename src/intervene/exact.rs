//! After the last attention nothing mixes positions any more, so an edit's effect on the next token is one vector added to the residual
//! stream before the final LayerNorm: exact, not a linear approximation, at the price of one row of the unembedding.
//!
//! > logits' = LayerNorm(r + sum (target - act) u\[latent\]) W_U^T,   u\[latent\] = w_dec\[latent\] W_out at the neurons, w_dec\[latent\] after them
//!
//! M = d_model, P = d_mlp, V = d_vocab. Row-major.

use super::{Error, Result, check_width};
use crate::kernels::gemm::{matmul_nn, matmul_nt};
use crate::lm::{HookPoint, Lm, Site};
use crate::sae::Sae;

/// GPT-2's epsilon.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Effects of latents on the next token, without running the model again.
pub struct ExactEffect<'a> {
    lm: &'a Lm,
    /// (n_latents, M): what one unit of each latent adds to the residual stream.
    residual: Vec<f32>,
}

/// What one unit of each direction (n, d_in) at `hook` adds to the residual stream before the final norm, (n, M).
///
/// # Errors
/// [`Error::NotExact`] where the hook is not at the neurons of the last layer or after them.
pub fn residual_directions(lm: &Lm, hook: HookPoint, directions: &[f32]) -> Result<Vec<f32>> {
    if hook.layer + 1 != lm.config.n_layers || !matches!(hook.site, Site::MlpPost | Site::MlpOut | Site::ResidPost) {
        return Err(Error::NotExact { hook });
    }
    if hook.site != Site::MlpPost {
        return Ok(directions.to_vec());
    }
    let (m, p) = (lm.config.d_model, lm.config.d_mlp);
    let n = directions.len() / p;
    let mut residual = vec![0.0; n * m];
    matmul_nn(n, m, p, directions, &lm.weights.blocks[hook.layer].mlp_proj_w, &mut residual, false);
    Ok(residual)
}

impl<'a> ExactEffect<'a> {
    /// Prepares `latents` of an SAE at `hook`, which must be at the neurons of the last layer or after them.
    pub fn new(lm: &'a Lm, hook: HookPoint, sae: &Sae, latents: &[u32]) -> Result<Self> {
        check_width(&lm.config, hook, sae)?;
        let mut directions = Vec::with_capacity(latents.len() * sae.d_in);
        for &latent in latents {
            if latent as usize >= sae.d_sae {
                return Err(Error::NoLatent { latent, d_sae: sae.d_sae });
            }
            directions.extend_from_slice(sae.direction(latent));
        }
        Ok(ExactEffect { lm, residual: residual_directions(lm, hook, &directions)? })
    }

    /// Logits (V,) when each prepared latent's activation changes by `changes` (n_latents,), given the unedited residual stream
    /// `resid_post` (M,) of the last layer at that position.
    pub fn logits(&self, resid_post: &[f32], changes: &[f32]) -> Vec<f32> {
        let (m, v) = (self.lm.config.d_model, self.lm.config.d_vocab);
        assert_eq!(resid_post.len(), m, "residual stream of {} for a model of {m}", resid_post.len());
        assert_eq!(changes.len() * m, self.residual.len(), "{} changes for {} latents", changes.len(), self.residual.len() / m);
        let mut r: Vec<f64> = resid_post.iter().map(|&x| x as f64).collect();
        for (u, &change) in self.residual.chunks_exact(m).zip(changes) {
            r.iter_mut().zip(u).for_each(|(r, &u)| *r += change as f64 * u as f64);
        }
        let mean = r.iter().sum::<f64>() / m as f64;
        let variance = r.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / m as f64;
        let scale = 1.0 / (variance + LAYER_NORM_EPS).sqrt();
        let weights = &self.lm.weights;
        let normed: Vec<f32> =
            r.iter().zip(weights.ln_f_w.iter().zip(&weights.ln_f_b)).map(|(x, (&w, &b))| ((x - mean) * scale * w as f64 + b as f64) as f32).collect();
        let mut logits = vec![0.0; v];
        matmul_nt(1, v, m, &normed, weights.unembedding(), &mut logits, false);
        logits
    }
}
