//! A model that reads on: keys and values of what it has read are kept, so each token goes through the blocks once.
//!
//! [`KeyValues`] is one window; [`Reader`] is a text in windows, of which only what has changed since the last time is read again. Sums run in
//! another order than in a pass over the whole window, so activations agree with [`super::Engine::forward_to`] to rounding, not bit for bit.

use super::cpu::Acts;
use super::{Activation, GenerateEdit, HookPoint, Lm, LmConfig, Site};
use crate::kernels::activation::{broadcast_rows, gelu_forward, relu_forward};
use crate::kernels::gemm::matmul_nn;
use crate::kernels::layer_norm::layer_norm_forward;

/// Keys and values of the first `len` tokens of a window.
pub(super) struct KeyValues {
    /// One per layer, (n_ctx, 2 d_model).
    layers: Vec<Vec<f32>>,
    len: usize,
}

impl KeyValues {
    pub fn new(config: &LmConfig) -> Self {
        KeyValues { layers: vec![vec![0.0; config.n_ctx * 2 * config.d_model]; config.n_layers], len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Forgets what comes after the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Takes over the first `n` tokens of a whole pass that kept its layers.
    pub fn take(&mut self, acts: &Acts, n: usize, d: usize) {
        for (kept, block) in self.layers.iter_mut().zip(&acts.blocks) {
            for (kept, qkv) in kept.chunks_exact_mut(2 * d).zip(block.qkv.chunks_exact(3 * d)).take(n) {
                kept.copy_from_slice(&qkv[d..]);
            }
        }
        self.len = n;
    }

    /// Reads `ids` after what is known. Returns the rows of `stop`, (ids.len(), d_in), or without it the residual stream after the last block.
    pub fn read(&mut self, lm: &Lm, ids: &[u32], stop: Option<HookPoint>, edit: &mut Option<&mut GenerateEdit>) -> Vec<f32> {
        let config = &lm.config;
        let (n, d, m, first) = (ids.len(), config.d_model, config.d_mlp, self.len);
        assert!(first + n <= config.n_ctx, "{n} tokens after {first}, n_ctx {}", config.n_ctx);
        self.len += n;
        let mut x = Vec::with_capacity(n * d);
        for (at, &id) in (first..).zip(ids) {
            assert!((id as usize) < config.d_vocab, "token {id} is outside the vocabulary of {}", config.d_vocab);
            let (token, position) = (&lm.weights.wte[id as usize * d..][..d], &lm.weights.wpe[at * d..][..d]);
            x.extend(token.iter().zip(position).map(|(a, b)| a + b));
        }
        let (mut normed, mut stats) = (vec![0.0; n * d], vec![0.0; 2 * n]);
        for (layer, (w, cache)) in lm.weights.blocks.iter().zip(&mut self.layers).enumerate() {
            // The edit is applied; true means that the pass ends here.
            let mut at = |site: Site, rows: &mut [f32]| {
                let here = HookPoint { layer, site };
                if let Some(edit) = edit.as_mut().filter(|e| e.hook == here) {
                    (edit.apply)(rows);
                }
                stop == Some(here)
            };
            if at(Site::ResidPre, &mut x) {
                return x;
            }
            layer_norm_forward(&x, &w.ln_1_w, &w.ln_1_b, &mut normed, &mut stats);
            let qkv = linear(&normed, &w.c_attn_w, &w.c_attn_b, 3 * d);
            for (kept, qkv) in cache[first * 2 * d..].chunks_exact_mut(2 * d).zip(qkv.chunks_exact(3 * d)) {
                kept.copy_from_slice(&qkv[d..]);
            }
            let z: Vec<f32> = (first + 1..)
                .zip(qkv.chunks_exact(3 * d))
                .flat_map(|(seen, qkv)| attend(&qkv[..d], &cache[..seen * 2 * d], config.n_heads))
                .collect();
            x.chunks_exact_mut(d).for_each(|x| x.iter_mut().zip(&w.attn_proj_b).for_each(|(x, b)| *x += b));
            matmul_nn(n, d, d, &z, &w.attn_proj_w, &mut x, true);
            if at(Site::ResidMid, &mut x) {
                return x;
            }
            layer_norm_forward(&x, &w.ln_2_w, &w.ln_2_b, &mut normed, &mut stats);
            if at(Site::MlpIn, &mut normed) {
                return normed;
            }
            let mut pre = linear(&normed, &w.c_fc_w, &w.c_fc_b, m);
            if at(Site::MlpPre, &mut pre) {
                return pre;
            }
            let mut post = vec![0.0; n * m];
            match config.activation {
                Activation::Relu => relu_forward(&pre, &mut post),
                Activation::Gelu => gelu_forward(&pre, &mut post),
            }
            if at(Site::MlpPost, &mut post) {
                return post;
            }
            let mut out = linear(&post, &w.mlp_proj_w, &w.mlp_proj_b, d);
            if at(Site::MlpOut, &mut out) {
                return out;
            }
            x.iter_mut().zip(&out).for_each(|(x, y)| *x += y);
            if at(Site::ResidPost, &mut x) {
                return x;
            }
        }
        x
    }
}

/// x w + b for rows x (n, k), w (k, width).
fn linear(x: &[f32], w: &[f32], b: &[f32], width: usize) -> Vec<f32> {
    let k = w.len() / width;
    let n = x.len() / k;
    let mut out = vec![0.0; n * width];
    broadcast_rows(b, &mut out);
    matmul_nn(n, width, k, x, w, &mut out, true);
    out
}

/// Attention of one query (d_model,) over cached keys and values (n, 2 d_model).
fn attend(q: &[f32], cache: &[f32], n_heads: usize) -> Vec<f32> {
    let d = q.len();
    let e = d / n_heads;
    let mut z = vec![0.0; d];
    for h in 0..n_heads {
        let q = &q[h * e..(h + 1) * e];
        let scale = 1.0 / (e as f32).sqrt();
        let mut p: Vec<f32> = cache.chunks_exact(2 * d).map(|kv| q.iter().zip(&kv[h * e..]).map(|(q, k)| q * k).sum::<f32>() * scale).collect();
        let max = p.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
        p.iter_mut().for_each(|p| *p = (*p - max).exp());
        let total: f32 = p.iter().sum();
        for (p, kv) in p.iter().zip(cache.chunks_exact(2 * d)) {
            z[h * e..(h + 1) * e].iter_mut().zip(&kv[d + h * e..]).for_each(|(z, v)| *z += p / total * v);
        }
    }
    z
}

/// A text that changes at its end, in windows of n_ctx, and its activations at one hook.
pub struct Reader {
    hook: HookPoint,
    d_in: usize,
    n_ctx: usize,
    ids: Vec<u32>,
    /// (ids.len(), d_in)
    rows: Vec<f32>,
    windows: Vec<KeyValues>,
}

impl Reader {
    pub fn new(config: &LmConfig, hook: HookPoint) -> Self {
        Reader { hook, d_in: hook.d_in(config), n_ctx: config.n_ctx, ids: vec![], rows: vec![], windows: vec![] }
    }

    /// Makes `ids` the text. Returns how many tokens at its beginning were known and not read again.
    pub fn read(&mut self, lm: &Lm, ids: &[u32]) -> usize {
        let same = self.ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        self.ids.truncate(same);
        self.rows.truncate(same * self.d_in);
        self.windows.truncate(same.div_ceil(self.n_ctx));
        if let Some(last) = self.windows.last_mut() {
            last.truncate(same - (same - 1) / self.n_ctx * self.n_ctx);
        }
        let mut left = &ids[same..];
        while !left.is_empty() {
            if self.ids.len().is_multiple_of(self.n_ctx) {
                self.windows.push(KeyValues::new(&lm.config));
            }
            let window = self.windows.last_mut().expect("a window was added where there was none");
            let (now, later) = left.split_at(left.len().min(self.n_ctx - window.len()));
            self.rows.extend(window.read(lm, now, Some(self.hook), &mut None));
            self.ids.extend_from_slice(now);
            left = later;
        }
        same
    }

    /// Activations of the text, (n_tokens, d_in).
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::random;
    use crate::lm::{CpuEngine, Engine};

    #[test]
    fn a_text_that_is_changed_again_and_again_has_the_activations_of_one_read_whole() {
        let config = LmConfig { d_vocab: 13, n_ctx: 5, d_model: 8, n_layers: 2, n_heads: 2, d_mlp: 12, activation: Activation::Gelu, tied: false };
        let mut lm = Lm::init(&config, 2);
        for (i, tensor) in lm.weights.tensors_mut().into_iter().enumerate() {
            let noise = random(tensor.len(), 90 + i as u64);
            tensor.iter_mut().zip(noise).for_each(|(w, x)| *w += 0.5 * x);
        }
        // (text, tokens at its beginning that the text before had too)
        let texts: [(&[u32], usize); 8] = [
            (&[1, 2, 3], 0),
            (&[1, 2, 3, 4, 5, 6, 7], 3),
            (&[1, 2, 3, 4, 5, 6, 9, 8, 7, 6, 5, 4], 6),
            (&[1, 2, 3, 4, 5], 5),
            (&[1, 2, 3, 4, 5, 11], 5),
            (&[1, 2], 2),
            (&[], 0),
            (&[7, 2, 3, 4, 5, 11], 0),
        ];
        for site in Site::ALL {
            let hook = HookPoint { layer: 1, site };
            let mut reader = Reader::new(&config, hook);
            for (ids, same) in texts {
                assert_eq!(reader.read(&lm, ids), same, "{ids:?}");
                let mut whole = Vec::new();
                for window in ids.chunks(config.n_ctx) {
                    let mut rows = vec![0.0; window.len() * hook.d_in(&config)];
                    CpuEngine::new(lm.clone()).forward_to(window, window.len(), hook, &mut rows);
                    whole.extend(rows);
                }
                assert_eq!(reader.rows().len(), whole.len());
                assert!(reader.rows().iter().zip(&whole).all(|(a, b)| (a - b).abs() < 2e-5), "{ids:?} at {hook}");
            }
        }
    }
}
