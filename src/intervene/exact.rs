//! After the last attention nothing mixes positions any more, so an edit's effect on the next token is one vector added to the residual
//! stream before the final LayerNorm: exact, not a linear approximation, at the price of one row of the unembedding.
//!
//! > logits' = LayerNorm(r + sum (target - act) u\[latent\]) W_U^T,   u\[latent\] = w_dec\[latent\] W_out at the neurons, w_dec\[latent\] after them
//!
//! M = d_model, P = d_mlp, V = d_vocab. Row-major.

use super::{Error, Result, check_width};
use crate::kernels::gemm::{matmul_nn, matmul_nt};
use crate::kernels::layer_norm::EPS;
use crate::lm::{HookPoint, Lm, Site};
use crate::sae::Sae;

/// (mean, 1 / standard deviation) as a LayerNorm has them, in f64.
pub(crate) fn norm_of(x: &[f32]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    (mean, 1.0 / (variance + f64::from(EPS)).sqrt())
}

/// What moves sum over tokens of weights (V,) * logit, weights that sum to 0, in the residual stream before the final norm, (M,): its own weights are in it and what
/// centring takes away is not; the scale of the norm, which depends on the position, is left out.
pub(crate) fn toward(lm: &Lm, weights: &[f64]) -> Vec<f64> {
    let m = lm.config.d_model;
    let mut toward = vec![0.0f64; m];
    for (row, &weight) in lm.weights.unembedding().chunks_exact(m).zip(weights).filter(|(_, w)| **w != 0.0) {
        toward.iter_mut().zip(row).for_each(|(t, &w)| *t += weight * f64::from(w));
    }
    toward.iter_mut().zip(&lm.weights.ln_f_w).for_each(|(t, &w)| *t *= f64::from(w));
    let mean = toward.iter().sum::<f64>() / m as f64;
    toward.iter_mut().for_each(|t| *t -= mean);
    toward
}

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

/// Tokens that latents of an SAE at `hook` promote: whose logit one of them moves at least half as far up as that of the token it moves most, by the direct
/// path, but for the scale of the final norm. Ascending.
///
/// # Errors
/// As [`residual_directions`].
pub fn promoted(lm: &Lm, hook: HookPoint, sae: &Sae, latents: &[u32]) -> Result<Vec<u32>> {
    let (m, v) = (lm.config.d_model, lm.config.d_vocab);
    let mut tokens = Vec::new();
    for mut direction in ExactEffect::new(lm, hook, sae, latents)?.residual.chunks_exact(m).map(<[f32]>::to_vec) {
        let mean = direction.iter().sum::<f32>() / m as f32;
        direction.iter_mut().zip(&lm.weights.ln_f_w).for_each(|(x, w)| *x = (*x - mean) * w);
        let mut logits = vec![0.0; v];
        matmul_nt(1, v, m, &direction, lm.weights.unembedding(), &mut logits, false);
        let most = logits.iter().copied().fold(0.0, f32::max);
        tokens.extend((0..v as u32).filter(|&t| most > 0.0 && logits[t as usize] >= 0.5 * most));
    }
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
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

    /// The same for one direction (d_in,) in place of latents.
    pub fn along(lm: &'a Lm, hook: HookPoint, direction: &[f32]) -> Result<Self> {
        Ok(ExactEffect { lm, residual: residual_directions(lm, hook, direction)? })
    }

    /// Logits (n, V) when each prepared latent's activation changes by `changes` (n, n_latents), given the unedited residual stream
    /// `resid_post` (n, M) of the last layer at n positions.
    pub fn logits(&self, resid_post: &[f32], changes: &[f32]) -> Vec<f32> {
        let (m, v) = (self.lm.config.d_model, self.lm.config.d_vocab);
        let (n, n_latents) = (resid_post.len() / m, self.residual.len() / m);
        assert_eq!(resid_post.len(), n * m, "residual streams of {m}");
        assert_eq!(changes.len(), n * n_latents, "{} changes for {n} positions and {n_latents} latents", changes.len());
        let weights = &self.lm.weights;
        let mut normed = Vec::with_capacity(n * m);
        for (i, resid) in resid_post.chunks_exact(m).enumerate() {
            let changes = &changes[i * n_latents..][..n_latents];
            let mut r: Vec<f64> = resid.iter().map(|&x| x as f64).collect();
            for (u, &change) in self.residual.chunks_exact(m).zip(changes) {
                r.iter_mut().zip(u).for_each(|(r, &u)| *r += change as f64 * u as f64);
            }
            let mean = r.iter().sum::<f64>() / m as f64;
            let variance = r.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / m as f64;
            let scale = 1.0 / (variance + f64::from(EPS)).sqrt();
            let affine = weights.ln_f_w.iter().zip(&weights.ln_f_b);
            normed.extend(r.iter().zip(affine).map(|(x, (&w, &b))| ((x - mean) * scale * w as f64 + b as f64) as f32));
        }
        let mut logits = vec![0.0; n * v];
        matmul_nt(n, v, m, &normed, weights.unembedding(), &mut logits, false);
        logits
    }
}
