//! Gradients of the mean cross-entropy and the AdamW step. The order of the backward pass is the forward pass read from its end.

use super::super::{Activation, Lm, LmConfig, Moments, StepSettings, Weights, tensor_specs};
use super::{Acts, CpuEngine, Keep, forward, sized};
use crate::kernels::activation::{gelu_backward, relu_backward, sum_rows};
use crate::kernels::adamw::{AdamWStep, adamw_step, sum_of_squares};
use crate::kernels::attention::{AttentionShape, attention_backward};
use crate::kernels::cross_entropy::cross_entropy_backward;
use crate::kernels::embedding::embedding_backward;
use crate::kernels::gemm::{matmul_nt, matmul_tn};
use crate::kernels::layer_norm::layer_norm_backward;

/// What training adds to a model: moments, gradients, and the buffers of the backward pass.
pub struct Training {
    pub moments: Moments,
    pub gradients: Weights,
    /// Gradient of the residual stream (T, d_model), and of what a block reads or writes.
    d_x: Vec<f32>,
    d_narrow: Vec<f32>,
    /// (T, d_mlp) or (T, 3 d_model)
    d_wide: Vec<f32>,
    nll: Vec<f32>,
}

impl Training {
    pub fn new(moments: Moments, config: &LmConfig) -> Self {
        Training { moments, gradients: Weights::zeros(config), d_x: Vec::new(), d_narrow: Vec::new(), d_wide: Vec::new(), nll: Vec::new() }
    }
}

impl CpuEngine {
    /// Forward and backward over whole windows; returns the sum of the losses in nats.
    ///
    /// Gradients of `scale` times that sum are written with `first`, otherwise added to what is there.
    pub fn accumulate(&mut self, ids: &[u32], targets: &[u32], window: usize, scale: f32, first: bool) -> f64 {
        let (lm, acts, training) = self.parts();
        forward(lm, acts, ids, window, Keep::Backward, None, &mut None);
        acts.final_norm(lm, ids.len());
        backward(lm, acts, training, ids, targets, window, scale, first);
        training.nll[..ids.len()].iter().map(|&x| x as f64).sum()
    }

    /// The gradient that [`Self::accumulate`] left, laid out like the weights.
    pub fn gradients(&mut self) -> &Weights {
        &self.parts().2.gradients
    }

    /// L2 norm of the whole gradient.
    pub(super) fn gradient_norm(&mut self) -> f64 {
        self.gradients().tensors().iter().map(|g| sum_of_squares(g)).sum::<f64>().sqrt()
    }

    /// One AdamW step with the gradients scaled down to `clip` if `norm` is above it.
    pub(super) fn update(&mut self, settings: &StepSettings, norm: f64) {
        let (lm, _, training) = self.parts();
        let Training { gradients, moments: Moments { first, second, steps }, .. } = training;
        *steps += 1;
        // PyTorch's clip_grad_norm_ has the same 1e-6.
        let gradient_scale = (settings.clip as f64 / (norm + 1e-6)).min(1.0) as f32;
        let specs = tensor_specs(&lm.config);
        let moments = first.tensors_mut().into_iter().zip(second.tensors_mut());
        for (((spec, w), g), (m, v)) in specs.iter().zip(lm.weights.tensors_mut()).zip(gradients.tensors()).zip(moments) {
            let numbers = AdamWStep {
                lr: settings.lr,
                beta1: settings.beta1,
                beta2: settings.beta2,
                eps: settings.eps,
                weight_decay: if spec.decays() { settings.weight_decay } else { 0.0 },
                step: *steps,
                gradient_scale,
            };
            adamw_step(numbers, w, g, m, v);
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn backward(lm: &Lm, acts: &mut Acts, training: &mut Training, ids: &[u32], targets: &[u32], window: usize, scale: f32, first: bool) {
    let (config, weights) = (&lm.config, &lm.weights);
    let (n, d, m) = (ids.len(), config.d_model, config.d_mlp);
    let Training { gradients: g, d_x, d_narrow, d_wide, nll, .. } = training;
    if first {
        clear_sums(g);
    }
    let (d_x, d_narrow) = (sized(d_x, n * d), sized(d_narrow, n * d));
    let shape = AttentionShape { n_windows: n / window, window, n_heads: config.n_heads, d_head: config.d_head() };

    let d_unembedding = if config.tied { &mut g.wte } else { &mut g.lm_head };
    let normed = &acts.normed[..n * d];
    cross_entropy_backward(normed, weights.unembedding(), targets, scale, sized(nll, n), d_narrow, d_unembedding, !first, &mut acts.logits);
    layer_norm_backward(&acts.x[..n * d], &acts.normed_stats[..2 * n], &weights.ln_f_w, d_narrow, d_x, false, &mut g.ln_f_w, &mut g.ln_f_b);

    for ((w, b), g) in weights.blocks.iter().zip(&acts.blocks).zip(&mut g.blocks).rev() {
        // x = mid + post W_proj + b_proj
        let d_pre = sized(d_wide, n * m);
        matmul_tn(m, d, n, &b.post[..n * m], d_x, &mut g.mlp_proj_w, !first);
        sum_rows(d_x, &mut g.mlp_proj_b);
        matmul_nt(n, m, d, d_x, &w.mlp_proj_w, d_pre, false);
        match config.activation {
            Activation::Relu => relu_backward(&b.pre[..n * m], d_pre),
            Activation::Gelu => gelu_backward(&b.pre[..n * m], d_pre),
        }
        matmul_tn(d, m, n, &b.ln_2[..n * d], d_pre, &mut g.c_fc_w, !first);
        sum_rows(d_pre, &mut g.c_fc_b);
        matmul_nt(n, d, m, d_pre, &w.c_fc_w, d_narrow, false);
        layer_norm_backward(&b.mid[..n * d], &b.ln_2_stats[..2 * n], &w.ln_2_w, d_narrow, d_x, true, &mut g.ln_2_w, &mut g.ln_2_b);

        // mid = resid_pre + z W_o + b_o
        matmul_tn(d, d, n, &b.z[..n * d], d_x, &mut g.attn_proj_w, !first);
        sum_rows(d_x, &mut g.attn_proj_b);
        matmul_nt(n, d, d, d_x, &w.attn_proj_w, d_narrow, false);
        let d_qkv = sized(d_wide, n * 3 * d);
        attention_backward(shape, &b.qkv[..n * 3 * d], &b.z[..n * d], &b.lse[..n * config.n_heads], d_narrow, d_qkv);
        matmul_tn(d, 3 * d, n, &b.ln_1[..n * d], d_qkv, &mut g.c_attn_w, !first);
        sum_rows(d_qkv, &mut g.c_attn_b);
        matmul_nt(n, d, 3 * d, d_qkv, &w.c_attn_w, d_narrow, false);
        layer_norm_backward(&b.resid_pre[..n * d], &b.ln_1_stats[..2 * n], &w.ln_1_w, d_narrow, d_x, true, &mut g.ln_1_w, &mut g.ln_1_b);
    }
    if first && !config.tied {
        g.wte.fill(0.0);
    }
    embedding_backward(ids, window, d, d_x, &mut g.wte, &mut g.wpe);
}

/// Gradients that the kernels add to, set to zero; the others are overwritten by the first product.
fn clear_sums(g: &mut Weights) {
    for b in &mut g.blocks {
        for sum in [&mut b.ln_1_w, &mut b.ln_1_b, &mut b.c_attn_b, &mut b.attn_proj_b, &mut b.ln_2_w, &mut b.ln_2_b, &mut b.c_fc_b, &mut b.mlp_proj_b]
        {
            sum.fill(0.0);
        }
    }
    for sum in [&mut g.ln_f_w, &mut g.ln_f_b, &mut g.wpe] {
        sum.fill(0.0);
    }
}
