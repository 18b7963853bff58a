//! The CPU engine: forward, backward and step over slices, with buffers that are kept and reused.

mod backward;
mod forward;
#[cfg(test)]
mod tests;

use super::{Edit, Engine, HookPoint, Lm, LmConfig, Moments, Site, StepReport, StepSettings};
use crate::kernels::cross_entropy::cross_entropy_forward;
use crate::kernels::gemm::matmul_nt;
use crate::kernels::layer_norm::layer_norm_forward;
use backward::Training;
pub(super) use forward::{Acts, Keep, forward};
use std::borrow::Cow;

/// Tokens that go through the model together when nothing ties them together: few enough for the caches, enough for the products.
const CHUNK_TOKENS: usize = 2048;

/// A model on the CPU.
pub struct CpuEngine {
    lm: Lm,
    acts: Acts,
    training: Option<Box<Training>>,
}

impl CpuEngine {
    pub fn new(lm: Lm) -> Self {
        CpuEngine { lm, acts: Acts::default(), training: None }
    }

    /// The model, the buffers of the forward pass, and what training adds, made when first asked for.
    fn parts(&mut self) -> (&mut Lm, &mut Acts, &mut Training) {
        let CpuEngine { lm, acts, training } = self;
        let training = training.get_or_insert_with(|| Box::new(Training::new(Moments::zeros(&lm.config), &lm.config)));
        (lm, acts, training)
    }

    /// What a pass that stopped at `hook` left there, (n, d_in).
    fn rows_at(&self, hook: HookPoint, n: usize) -> &[f32] {
        let (acts, n) = (&self.acts, n * hook.d_in(&self.lm.config));
        match hook.site {
            Site::ResidPre | Site::ResidPost => &acts.x[..n],
            Site::ResidMid => &acts.blocks[0].mid[..n],
            Site::MlpIn => &acts.blocks[0].ln_2[..n],
            Site::MlpPre => &acts.blocks[0].pre[..n],
            Site::MlpPost => &acts.blocks[0].post[..n],
            Site::MlpOut => &acts.mlp_out[..n],
        }
    }
}

impl Engine for CpuEngine {
    fn config(&self) -> &LmConfig {
        &self.lm.config
    }

    fn forward_to(&mut self, ids: &[u32], window: usize, hook: HookPoint, rows: &mut [f32]) {
        let width = hook.d_in(&self.lm.config);
        assert_eq!(rows.len(), ids.len() * width, "{} rows at {hook}: elements", ids.len());
        let chunk = chunk_tokens(window);
        for (ids, rows) in ids.chunks(chunk).zip(rows.chunks_mut(chunk * width)) {
            forward(&self.lm, &mut self.acts, ids, window, Keep::Nothing, Some(hook), &mut None);
            rows.copy_from_slice(self.rows_at(hook, ids.len()));
        }
    }

    fn forward_to_both(&mut self, ids: &[u32], window: usize, (first, last): (HookPoint, HookPoint), rows: &mut [f32]) {
        let (d, e) = (first.d_in(&self.lm.config), last.d_in(&self.lm.config));
        assert!(first.is_before(&last), "{first} is not before {last}");
        assert_eq!(rows.len(), ids.len() * (d + e), "{} rows at {first} and {last}: elements", ids.len());
        let chunk = chunk_tokens(window);
        for (ids, rows) in ids.chunks(chunk).zip(rows.chunks_mut(chunk * (d + e))) {
            // An edit that changes nothing, and looks.
            let mut look = |seen: &mut [f32]| {
                rows.chunks_exact_mut(d + e).zip(seen.chunks_exact(d)).for_each(|(row, seen)| row[..d].copy_from_slice(seen));
            };
            forward(&self.lm, &mut self.acts, ids, window, Keep::Nothing, Some(last), &mut Some(Edit { hook: first, apply: &mut look }));
            let seen = self.rows_at(last, ids.len());
            rows.chunks_exact_mut(d + e).zip(seen.chunks_exact(e)).for_each(|(row, seen)| row[d..].copy_from_slice(seen));
        }
    }

    fn nll(&mut self, ids: &[u32], targets: &[u32], window: usize, mut edit: Option<Edit>, nll: &mut [f32]) {
        assert!(targets.len() == ids.len() && nll.len() == ids.len(), "{} ids, {} targets, {} losses", ids.len(), targets.len(), nll.len());
        // An edit is promised all rows at once.
        let chunk = if edit.is_some() { ids.len().max(1) } else { chunk_tokens(window) };
        for ((ids, targets), nll) in ids.chunks(chunk).zip(targets.chunks(chunk)).zip(nll.chunks_mut(chunk)) {
            forward(&self.lm, &mut self.acts, ids, window, Keep::Nothing, None, &mut edit);
            self.acts.final_norm(&self.lm, ids.len());
            let Acts { normed, logits, .. } = &mut self.acts;
            cross_entropy_forward(&normed[..ids.len() * self.lm.config.d_model], self.lm.weights.unembedding(), targets, nll, logits);
        }
    }

    fn logits(&mut self, ids: &[u32], window: usize, positions: &[usize], mut edit: Option<Edit>, logits: &mut [f32]) {
        let LmConfig { d_model: d, d_vocab, .. } = self.lm.config;
        assert_eq!(logits.len(), positions.len() * d_vocab, "logits of {} positions: elements", positions.len());
        if positions.is_empty() {
            return;
        }
        forward(&self.lm, &mut self.acts, ids, window, Keep::Nothing, None, &mut edit);
        let rows: Vec<f32> = positions.iter().flat_map(|&p| self.acts.x[p * d..(p + 1) * d].to_vec()).collect();
        let (mut normed, mut stats) = (vec![0.0; rows.len()], vec![0.0; positions.len() * 2]);
        layer_norm_forward(&rows, &self.lm.weights.ln_f_w, &self.lm.weights.ln_f_b, &mut normed, &mut stats);
        matmul_nt(positions.len(), d_vocab, d, &normed, self.lm.weights.unembedding(), logits, false);
    }

    fn step(&mut self, ids: &[u32], targets: &[u32], window: usize, settings: &StepSettings) -> StepReport {
        let pass = settings.pass_tokens;
        assert!(pass > 0 && pass.is_multiple_of(window), "passes of {pass} tokens, windows of {window}");
        let scale = 1.0 / ids.len() as f32;
        let mut loss = 0.0;
        for (i, (ids, targets)) in ids.chunks(pass).zip(targets.chunks(pass)).enumerate() {
            loss += self.accumulate(ids, targets, window, scale, i == 0);
        }
        let grad_norm = self.gradient_norm();
        self.update(settings, grad_norm);
        StepReport { loss: loss / ids.len() as f64, grad_norm }
    }

    fn lm(&self) -> Cow<'_, Lm> {
        Cow::Borrowed(&self.lm)
    }

    fn moments(&self) -> Cow<'_, Moments> {
        match &self.training {
            Some(training) => Cow::Borrowed(&training.moments),
            None => Cow::Owned(Moments::zeros(&self.lm.config)),
        }
    }

    fn write(&mut self, lm: Lm, moments: Moments) {
        assert_eq!(lm.config, self.lm.config, "weights of another model");
        self.training = Some(Box::new(Training::new(moments, &lm.config)));
        self.lm = lm;
    }
}

/// Whole windows of about [`CHUNK_TOKENS`].
fn chunk_tokens(window: usize) -> usize {
    (CHUNK_TOKENS / window.max(1)).max(1) * window.max(1)
}

/// The first `n` elements of a buffer that only grows.
pub(super) fn sized(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    &mut buffer[..n]
}
