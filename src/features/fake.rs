//! A stream, a model and an SAE small enough to know by heart.

use crate::artifact::{Manifest, seed};
use crate::corpus::{EncodedDocument, ShardWriter, Split, TokenStream};
use crate::lm::{Activation, Edit, Engine, HookPoint, Lm, LmConfig, Moments, StepReport, StepSettings};
use crate::sae::{Sae, Select};
use rand::RngExt;
use std::borrow::Cow;
use std::path::Path;

pub const END: u32 = 12;

/// 300 documents of 1 to 40 tokens below 12. Concept 0 `odd` is on odd tokens, concept 1 `after 5` on a token after a 5, concept 2 `noise`
/// on a tenth of them.
pub fn stream(dir: &Path) -> TokenStream {
    let concepts = ["odd", "after 5", "noise"].map(String::from);
    let mut writer = ShardWriter::create(dir, END as usize + 1, END, &concepts, 1000).unwrap();
    let mut rng = seed::rng(0, "test/features", 0);
    for d in 0..300 {
        let ids: Vec<u32> = (0..rng.random_range(1..40)).map(|_| rng.random_range(0..END)).collect();
        let mut labels = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            let after_5 = i > 0 && ids[i - 1] == 5;
            let has = [id % 2 == 1, after_5, rng.random_bool(0.1)];
            labels.extend((0..3u16).filter(|&c| has[c as usize]).map(|c| (i as u32, c)));
        }
        let split = Split::ALL[[0, 0, 1, 2][d % 4]];
        let kind = ["a", "b"][(ids[0] % 2) as usize];
        writer.push(split, EncodedDocument { ids, kind: Some(kind.into()), labels }).unwrap();
    }
    writer.finish(Manifest::new("tokens", 1, serde_json::json!({}), 0)).unwrap();
    TokenStream::open(dir).unwrap()
}

/// d_in 4, n_ctx 8: neuron i is 1 + token / 8 where token % 4 == i, otherwise 0 (a ReLU model).
pub struct FakeEngine {
    config: LmConfig,
}

impl FakeEngine {
    pub fn new() -> Self {
        let config = LmConfig { d_vocab: 13, n_ctx: 8, d_model: 4, n_layers: 1, n_heads: 1, d_mlp: 4, activation: Activation::Relu, tied: true };
        FakeEngine { config }
    }
}

impl Engine for FakeEngine {
    fn config(&self) -> &LmConfig {
        &self.config
    }
    fn forward_to(&mut self, ids: &[u32], _window: usize, _hook: HookPoint, rows: &mut [f32]) {
        rows.fill(0.0);
        for (row, id) in rows.chunks_mut(4).zip(ids) {
            row[(id % 4) as usize] = 1.0 + *id as f32 / 8.0;
        }
    }
    fn nll(&mut self, _: &[u32], _: &[u32], _: usize, _: Option<Edit>, _: &mut [f32]) {
        unreachable!("the dictionary asks for activations only")
    }
    fn logits(&mut self, _: &[u32], _: usize, _: &[usize], _: Option<Edit>, _: &mut [f32]) {
        unreachable!("the dictionary asks for activations only")
    }
    fn step(&mut self, _: &[u32], _: &[u32], _: usize, _: &StepSettings) -> StepReport {
        unreachable!("the dictionary asks for activations only")
    }
    fn lm(&self) -> Cow<'_, Lm> {
        unreachable!("the dictionary asks for activations only")
    }
    fn moments(&self) -> Cow<'_, Moments> {
        unreachable!("the dictionary asks for activations only")
    }
    fn write(&mut self, _: Lm, _: Moments) {
        unreachable!("the dictionary asks for activations only")
    }
}

/// Latents: 0 to 3 copy the neurons, 4 fires on neurons 1 and 3 (odd tokens), 5 never fires.
pub fn sae() -> Sae {
    let w = vec![1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 1., 0., 1., 0., 0., 0., 0.];
    Sae {
        d_in: 4,
        d_sae: 6,
        select: Select::Relu,
        w_enc: w.clone(),
        b_enc: vec![0., 0., 0., 0., 0., -1.],
        w_dec: w,
        b_dec: vec![0.0; 4],
        apply_b_dec_to_input: false,
        transcoder: None,
    }
}
