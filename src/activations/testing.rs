//! A token stream and a small engine with nothing hidden in it, for tests of what reads activations.

use crate::artifact::{Manifest, seed};
use crate::corpus::{EncodedDocument, ShardWriter, Split, TokenStream};
use crate::lm::{Activation, Edit, Engine, HookPoint, Lm, LmConfig, Moments, StepReport, StepSettings};
use rand::RngExt;
use std::borrow::Cow;
use std::path::Path;

pub(crate) const D_VOCAB: usize = 17;
pub(crate) const END_OF_TEXT: u32 = 16;

/// Documents of the given lengths (without `<|endoftext|>`) of random tokens: all but the last two train, then one of A and one of B.
pub(crate) fn stream(dir: &Path, lengths: &[usize]) -> TokenStream {
    let mut writer = ShardWriter::create(dir, D_VOCAB, END_OF_TEXT, &[], 1000).unwrap();
    for (i, &n) in lengths.iter().enumerate() {
        let mut rng = seed::rng(5, "test/document", i as u64);
        let ids = (0..n).map(|_| rng.random_range(0..END_OF_TEXT)).collect();
        let split = match lengths.len() - i {
            1 => Split::HeldOutB,
            2 => Split::HeldOutA,
            _ => Split::Train,
        };
        writer.push(split, EncodedDocument { ids, ..Default::default() }).unwrap();
    }
    writer.finish(Manifest::new("tokens", 1, serde_json::json!({}), 0)).unwrap();
    TokenStream::open(dir).unwrap()
}

/// Every row depends on its hook and on the window's tokens up to it, so that no two hooks have a row in common. Logits are linear in the rows of
/// this position (at the edited hook, else at `blocks.0.mlp.hook_post`) and, halved at each step, of the earlier ones in its window:
/// logits\[p\]\[v\] = sum over q <= p of 2^(q - p) sum over j of row\[q\]\[j\] u(j, v).
pub(crate) struct Fake {
    config: LmConfig,
    /// Tokens that were run.
    pub n_tokens: u64,
}

impl Fake {
    pub fn new(n_ctx: usize) -> Self {
        let config = LmConfig { d_vocab: D_VOCAB, n_ctx, d_model: 3, n_layers: 2, n_heads: 1, d_mlp: 5, activation: Activation::Relu, tied: false };
        Fake { config, n_tokens: 0 }
    }

    pub fn u(j: usize, v: usize) -> f32 {
        ((j * 7 + v * 3) % 11) as f32 * 0.25 - 1.0
    }

    fn all_logits(&mut self, ids: &[u32], window: usize, edit: Option<Edit>) -> Vec<f32> {
        let hook = edit.as_ref().map_or(HookPoint::mlp_post(0), |e| e.hook);
        let d_in = hook.d_in(&self.config);
        let mut rows = vec![0.0; ids.len() * d_in];
        self.forward_to(ids, window, hook, &mut rows);
        if let Some(edit) = edit {
            (edit.apply)(&mut rows);
        }
        let mut logits = Vec::new();
        let mut state = [0.0f32; D_VOCAB];
        for (i, row) in rows.chunks(d_in).enumerate() {
            if i % window == 0 {
                state = [0.0; D_VOCAB];
            }
            for (v, s) in state.iter_mut().enumerate() {
                *s = 0.5 * *s + row.iter().enumerate().map(|(j, x)| x * Self::u(j, v)).sum::<f32>();
            }
            logits.extend(state);
        }
        logits
    }
}

impl Engine for Fake {
    fn config(&self) -> &LmConfig {
        &self.config
    }

    fn forward_to(&mut self, ids: &[u32], window: usize, hook: HookPoint, rows: &mut [f32]) {
        self.n_tokens += ids.len() as u64;
        let d_in = hook.d_in(&self.config);
        let purpose = format!("test/row/{hook}");
        let mut past = 0u64;
        for (i, row) in rows.chunks_mut(d_in).enumerate() {
            if i % window == 0 {
                past = 1;
            }
            past = past.wrapping_mul(31).wrapping_add(u64::from(ids[i]) + 1);
            let mut rng = seed::rng(past, &purpose, 0);
            row.iter_mut().for_each(|x| *x = rng.random::<f32>() - 0.25);
        }
    }

    fn nll(&mut self, ids: &[u32], targets: &[u32], window: usize, edit: Option<Edit>, nll: &mut [f32]) {
        let logits = self.all_logits(ids, window, edit);
        for (i, z) in logits.chunks(D_VOCAB).enumerate() {
            let sum: f64 = z.iter().map(|&x| (x as f64).exp()).sum();
            nll[i] = (sum.ln() - z[targets[i] as usize] as f64) as f32;
        }
    }

    fn logits(&mut self, ids: &[u32], window: usize, positions: &[usize], edit: Option<Edit>, logits: &mut [f32]) {
        let all = self.all_logits(ids, window, edit);
        for (out, &p) in logits.chunks_mut(D_VOCAB).zip(positions) {
            out.copy_from_slice(&all[p * D_VOCAB..][..D_VOCAB]);
        }
    }

    fn step(&mut self, _: &[u32], _: &[u32], _: usize, _: &StepSettings) -> StepReport {
        unreachable!("the fake is never trained")
    }

    fn lm(&self) -> Cow<'_, Lm> {
        unreachable!("the fake has no weights")
    }

    fn moments(&self) -> Cow<'_, Moments> {
        unreachable!("the fake is never trained")
    }

    fn write(&mut self, _: Lm, _: Moments) {
        unreachable!("the fake has no weights")
    }
}
