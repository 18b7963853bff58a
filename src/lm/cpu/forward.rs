//! The forward pass, to the end or to a hook, with or without what the backward pass needs.
//!
//! x = wte + wpe;  per block: mid = x + attention(ln_1(x)) W_o + b_o,  x = mid + act(ln_2(mid) W_fc + b_fc) W_proj + b_proj.
//! Biases are written into the output first and the products accumulated onto them.

use super::super::{Activation, Edit, HookPoint, Lm, Site};
use super::sized;
use crate::kernels::activation::{add, add_rows, broadcast_rows, gelu_forward, relu_forward};
use crate::kernels::attention::{AttentionShape, attention_forward};
use crate::kernels::embedding::embedding_forward;
use crate::kernels::gemm::matmul_nn;
use crate::kernels::layer_norm::layer_norm_forward;

/// Buffers of a pass; they only grow. T = tokens of the pass.
#[derive(Default)]
pub(in super::super) struct Acts {
    /// Residual stream (T, d_model) where the pass stands.
    pub x: Vec<f32>,
    /// One per layer when the backward pass or the key-value cache needs them, otherwise one that every layer uses in turn.
    pub blocks: Vec<BlockActs>,
    /// Output of the MLP (T, d_model), only when a hook reads or edits it.
    pub mlp_out: Vec<f32>,
    /// Final LayerNorm (T, d_model) and its statistics.
    pub normed: Vec<f32>,
    pub normed_stats: Vec<f32>,
    /// A block of logits.
    pub logits: Vec<f32>,
}

#[derive(Default)]
pub(in super::super) struct BlockActs {
    /// (T, d_model), kept for the backward pass only.
    pub resid_pre: Vec<f32>,
    pub ln_1: Vec<f32>,
    pub ln_1_stats: Vec<f32>,
    /// (T, 3 d_model)
    pub qkv: Vec<f32>,
    /// (T, d_model): heads' outputs before the projection.
    pub z: Vec<f32>,
    pub lse: Vec<f32>,
    pub mid: Vec<f32>,
    pub ln_2: Vec<f32>,
    pub ln_2_stats: Vec<f32>,
    /// (T, d_mlp)
    pub pre: Vec<f32>,
    pub post: Vec<f32>,
}

/// What a pass leaves behind beside the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Keep {
    /// Nothing: every layer uses the same buffers.
    Nothing,
    /// The activations of every layer: keys and values for a cache.
    Layers,
    /// All that the backward pass reads. No hooks.
    Backward,
}

/// Runs the model on `ids`, whole windows of `window`, leaving the residual stream in `acts.x`, or stops where `stop` has been computed.
pub(in super::super) fn forward(lm: &Lm, acts: &mut Acts, ids: &[u32], window: usize, keep: Keep, stop: Option<HookPoint>, edit: &mut Option<Edit>) {
    let (config, weights) = (&lm.config, &lm.weights);
    let (n, d, m) = (ids.len(), config.d_model, config.d_mlp);
    assert!(window > 0 && window <= config.n_ctx && n.is_multiple_of(window), "{n} tokens in windows of {window}, n_ctx {}", config.n_ctx);
    assert!(ids.iter().all(|&id| (id as usize) < config.d_vocab), "a token is outside the vocabulary of {}", config.d_vocab);
    assert!(keep != Keep::Backward || (stop.is_none() && edit.is_none()), "a pass that is kept has no hooks");
    for hook in stop.iter().chain(edit.iter().map(|e| &e.hook)) {
        assert!(hook.layer < config.n_layers, "{hook} of a model with {} layers", config.n_layers);
    }
    let n_slots = if keep == Keep::Nothing { 1 } else { config.n_layers };
    if acts.blocks.len() < n_slots {
        acts.blocks.resize_with(n_slots, BlockActs::default);
    }
    let shape = AttentionShape { n_windows: n / window, window, n_heads: config.n_heads, d_head: config.d_head() };
    embedding_forward(ids, window, d, &weights.wte, &weights.wpe, sized(&mut acts.x, n * d));
    for (layer, w) in weights.blocks.iter().enumerate() {
        let b = &mut acts.blocks[if keep == Keep::Nothing { 0 } else { layer }];
        // What happens at a site: the edit is applied; true means that the pass ends here.
        let mut at = |site: Site, rows: &mut [f32]| {
            let here = HookPoint { layer, site };
            if let Some(edit) = edit.as_mut().filter(|e| e.hook == here) {
                (edit.apply)(rows);
            }
            stop == Some(here)
        };
        let x = &mut acts.x[..n * d];
        if at(Site::ResidPre, x) {
            return;
        }
        let ln_1 = sized(&mut b.ln_1, n * d);
        layer_norm_forward(x, &w.ln_1_w, &w.ln_1_b, ln_1, sized(&mut b.ln_1_stats, 2 * n));
        let qkv = sized(&mut b.qkv, n * 3 * d);
        broadcast_rows(&w.c_attn_b, qkv);
        matmul_nn(n, 3 * d, d, ln_1, &w.c_attn_w, qkv, true);
        let z = sized(&mut b.z, n * d);
        attention_forward(shape, qkv, z, sized(&mut b.lse, n * config.n_heads));
        let mid = sized(&mut b.mid, n * d);
        add_rows(x, &w.attn_proj_b, mid);
        matmul_nn(n, d, d, z, &w.attn_proj_w, mid, true);
        if at(Site::ResidMid, mid) {
            return;
        }
        let ln_2 = sized(&mut b.ln_2, n * d);
        layer_norm_forward(mid, &w.ln_2_w, &w.ln_2_b, ln_2, sized(&mut b.ln_2_stats, 2 * n));
        if at(Site::MlpIn, ln_2) {
            return;
        }
        let pre = sized(&mut b.pre, n * m);
        broadcast_rows(&w.c_fc_b, pre);
        matmul_nn(n, m, d, ln_2, &w.c_fc_w, pre, true);
        if at(Site::MlpPre, pre) {
            return;
        }
        let post = sized(&mut b.post, n * m);
        match config.activation {
            Activation::Relu => relu_forward(pre, post),
            Activation::Gelu => gelu_forward(pre, post),
        }
        if at(Site::MlpPost, post) {
            return;
        }
        if keep == Keep::Backward {
            // Training has no hooks. The old residual stream stays for LayerNorm's backward pass; the buffer that comes instead is overwritten below.
            sized(&mut b.resid_pre, n * d);
            std::mem::swap(&mut b.resid_pre, &mut acts.x);
        }
        if keep == Keep::Backward {
            let x = sized(&mut acts.x, n * d);
            add_rows(mid, &w.mlp_proj_b, x);
            matmul_nn(n, d, m, post, &w.mlp_proj_w, x, true);
        } else {
            // Apart from the residual stream, so that an edit of the output that changes nothing changes no bit.
            let out = sized(&mut acts.mlp_out, n * d);
            broadcast_rows(&w.mlp_proj_b, out);
            matmul_nn(n, d, m, post, &w.mlp_proj_w, out, true);
            if at(Site::MlpOut, out) {
                return;
            }
            let x = sized(&mut acts.x, n * d);
            x.copy_from_slice(mid);
            add(out, x);
        }
        let here = HookPoint { layer, site: Site::ResidPost };
        if let Some(edit) = edit.as_mut().filter(|e| e.hook == here) {
            (edit.apply)(&mut acts.x[..n * d]);
        }
        if stop == Some(here) {
            return;
        }
    }
}

impl Acts {
    /// Final LayerNorm of the first `n` rows of the residual stream.
    pub fn final_norm(&mut self, lm: &Lm, n: usize) {
        let d = lm.config.d_model;
        let stats = sized(&mut self.normed_stats, 2 * n);
        layer_norm_forward(&self.x[..n * d], &lm.weights.ln_f_w, &lm.weights.ln_f_b, sized(&mut self.normed, n * d), stats);
    }
}
