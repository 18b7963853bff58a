//! Text from a model: one token at a time with cached keys and values, sampled so that two runs can share their draws.

use super::cpu::{Acts, Keep, forward};
use super::reader::KeyValues;
use super::{Edit, HookPoint, Lm};
use crate::artifact::seed;
use crate::kernels::gemm::matmul_nt;
use crate::kernels::layer_norm::layer_norm_forward;
use crate::kernels::softmax::weights_in_place;
use rand::RngExt;

/// How the next token is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only the k likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together hold this much probability.
    pub top_p: Option<f32>,
    pub seed: u64,
}

impl Sampling {
    /// The token where the cumulative distribution over what temperature, top-k and top-p leave, likeliest first, passes `u` in [0, 1).
    ///
    /// Equal logits stand in the order of their ids. With the same `u`, slightly other logits give the same token most of the time.
    pub fn pick(&self, logits: &[f32], u: f64) -> u32 {
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if self.temperature <= 0.0 {
            return ids.into_iter().min_by(by_logit).expect("a vocabulary is not empty");
        }
        if let Some(k) = self.top_k.filter(|&k| k < ids.len()) {
            ids.select_nth_unstable_by(k.max(1) - 1, by_logit);
            ids.truncate(k.max(1));
        }
        let mut weights = logits.to_vec();
        let all = f64::from(weights_in_place(1.0 / self.temperature, &mut weights));
        let weight = |id: u32| f64::from(weights[id as usize]);
        let mut total = if ids.len() < logits.len() { ids.iter().map(|&id| weight(id)).sum() } else { all };
        // Most draws end among the likeliest, so ids are put in order part by part.
        let mut sorted = 0;
        let mut at = |place: usize| {
            while place >= sorted {
                let n = (64 << (sorted / 64).min(16)).min(ids.len() - sorted);
                let rest = &mut ids[sorted..];
                if n < rest.len() {
                    rest.select_nth_unstable_by(n - 1, by_logit);
                }
                rest[..n].sort_unstable_by(by_logit);
                sorted += n;
            }
            ids[place]
        };
        let n = self.top_k.map_or(logits.len(), |k| k.clamp(1, logits.len()));
        let mut kept = n;
        if let Some(p) = self.top_p {
            let mut sum = 0.0;
            let enough = (0..n).find(|&place| {
                sum += weight(at(place));
                sum >= f64::from(p) * total
            });
            if let Some(last) = enough {
                (kept, total) = (last + 1, sum);
            }
        }
        let mut left = u * total;
        for place in 0..kept {
            let id = at(place);
            left -= weight(id);
            if left < 0.0 {
                return id;
            }
        }
        // Rounding left something over: the last one that can be drawn.
        (0..kept).rev().map(&mut at).find(|&id| weight(id) > 0.0).unwrap_or_else(|| at(0))
    }
}

/// An edit that is applied at a hook in every step. `apply` gets the rows of the tokens that are new in this step, (n_new, d_in): one, or
/// the last of the text where a context is read again.
pub struct GenerateEdit<'a> {
    pub hook: HookPoint,
    pub apply: &'a mut dyn FnMut(&mut [f32]),
}

/// The uniform draw in [0, 1) of step `step`: a pure function of its arguments, so that an edited and an unedited run share their luck.
pub fn uniform(seed: u64, step: u64) -> f64 {
    seed::rng(seed, "lm/generate", step).random()
}

/// A model in the middle of a text. When its context is full it forgets the first half and reads the second again.
pub struct Generator<'a> {
    lm: &'a Lm,
    acts: Acts,
    cache: KeyValues,
    /// The tokens that the cache covers.
    ids: Vec<u32>,
    logits: Vec<f32>,
}

impl<'a> Generator<'a> {
    pub fn new(lm: &'a Lm) -> Self {
        Generator { lm, acts: Acts::default(), cache: KeyValues::new(&lm.config), ids: Vec::new(), logits: vec![0.0; lm.config.d_vocab] }
    }

    /// Forgets everything, reads `ids` (at least one; the last n_ctx are used) and returns the logits after the last, (d_vocab,).
    pub fn prefill(&mut self, ids: &[u32], edit: Option<&mut GenerateEdit>) -> &[f32] {
        assert!(!ids.is_empty(), "a prompt needs at least one token");
        let d = self.lm.config.d_model;
        self.ids = ids[ids.len().saturating_sub(self.lm.config.n_ctx)..].to_vec();
        let n = self.ids.len();
        let mut edit = edit.map(|e| Edit { hook: e.hook, apply: &mut *e.apply });
        forward(self.lm, &mut self.acts, &self.ids, n, Keep::Layers, None, &mut edit);
        self.cache.take(&self.acts, n, d);
        let last = self.acts.x[(n - 1) * d..n * d].to_vec();
        self.read_logits(&last)
    }

    /// Reads one more token and returns the logits after it, (d_vocab,).
    pub fn step(&mut self, id: u32, mut edit: Option<&mut GenerateEdit>) -> &[f32] {
        let n_ctx = self.lm.config.n_ctx;
        if self.ids.len() >= n_ctx {
            let mut tail = self.ids[n_ctx - n_ctx / 2..].to_vec();
            tail.push(id);
            return self.prefill(&tail, edit);
        }
        let x = self.cache.read(self.lm, &[id], None, &mut edit);
        self.ids.push(id);
        self.read_logits(&x)
    }

    fn read_logits(&mut self, x: &[f32]) -> &[f32] {
        let d = x.len();
        let (mut normed, mut stats) = (vec![0.0; d], [0.0; 2]);
        layer_norm_forward(x, &self.lm.weights.ln_f_w, &self.lm.weights.ln_f_b, &mut normed, &mut stats);
        matmul_nt(1, self.logits.len(), d, &normed, self.lm.weights.unembedding(), &mut self.logits, false);
        &self.logits
    }
}

/// `n` tokens after `prompt`; stops early after the token `stop`, which is not returned. Step i is drawn with [`uniform`]`(seed, i)`.
pub fn generate(lm: &Lm, prompt: &[u32], n: usize, sampling: &Sampling, stop: Option<u32>, mut edit: Option<GenerateEdit>) -> Vec<u32> {
    let mut generator = Generator::new(lm);
    let mut tokens = Vec::with_capacity(n);
    generator.prefill(prompt, edit.as_mut());
    for step in 0..n {
        let token = sampling.pick(&generator.logits, uniform(sampling.seed, step as u64));
        if stop == Some(token) {
            break;
        }
        tokens.push(token);
        if step + 1 < n {
            generator.step(token, edit.as_mut());
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::random;
    use crate::lm::{Activation, CpuEngine, Engine, LmConfig, Site};

    fn model() -> Lm {
        let config = LmConfig { d_vocab: 13, n_ctx: 9, d_model: 8, n_layers: 2, n_heads: 2, d_mlp: 12, activation: Activation::Gelu, tied: false };
        let mut lm = Lm::init(&config, 2);
        for (i, tensor) in lm.weights.tensors_mut().into_iter().enumerate() {
            let noise = random(tensor.len(), 2000 + i as u64);
            tensor.iter_mut().zip(noise).for_each(|(w, x)| *w += 0.5 * x);
        }
        lm
    }

    fn uncached(lm: &Lm, ids: &[u32], edit: Option<Edit>) -> Vec<f32> {
        let mut logits = vec![0.0; lm.config.d_vocab];
        CpuEngine::new(lm.clone()).logits(ids, ids.len(), &[ids.len() - 1], edit, &mut logits);
        logits
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5)
    }

    #[test]
    fn cached_logits_equal_uncached_ones_with_and_without_an_edit_at_every_hook() {
        let lm = model();
        let ids = [3u32, 1, 4, 1, 5, 9, 2, 6];
        for site in Site::ALL {
            let hook = HookPoint { layer: 1, site };
            for strength in [0.0, 1.5] {
                let mut apply = |rows: &mut [f32]| rows.iter_mut().for_each(|x| *x += strength * x.cos());
                let mut generator = Generator::new(&lm);
                let mut got = generator.prefill(&ids[..3], Some(&mut GenerateEdit { hook, apply: &mut apply })).to_vec();
                for n in 3..=ids.len() {
                    assert!(close(&got, &uncached(&lm, &ids[..n], Some(Edit { hook, apply: &mut apply }))), "{hook} after {n}");
                    if n < ids.len() {
                        got = generator.step(ids[n], Some(&mut GenerateEdit { hook, apply: &mut apply })).to_vec();
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_context_goes_on_from_its_second_half() {
        let lm = model();
        let ids: Vec<u32> = (0..10).map(|i| i * 5 % 13).collect();
        let mut generator = Generator::new(&lm);
        generator.prefill(&ids[..9], None);
        let got = generator.step(ids[9], None).to_vec();
        assert!(close(&got, &uncached(&lm, &ids[5..], None)));
        let long: Vec<u32> = (0..30).map(|i| i % 13).collect();
        assert!(close(Generator::new(&lm).prefill(&long, None), &uncached(&lm, &long[21..], None)));
    }

    #[test]
    fn draws_follow_the_softmax_and_the_cuts() {
        let logits = [0.0f32, 2.0, 1.0, -1.0];
        let base = Sampling { temperature: 1.0, top_k: None, top_p: None, seed: 0 };
        let share = |sampling: &Sampling| {
            let mut counts = [0.0; 4];
            (0..10_000).for_each(|i| counts[sampling.pick(&logits, (i as f64 + 0.5) / 10_000.0) as usize] += 1e-4);
            counts
        };
        let softmax = |keep: &[usize]| {
            let total: f64 = keep.iter().map(|&i| (logits[i] as f64).exp()).sum();
            std::array::from_fn::<f64, 4, _>(|i| if keep.contains(&i) { (logits[i] as f64).exp() / total } else { 0.0 })
        };
        let near = |a: [f64; 4], b: [f64; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-4);
        assert!(near(share(&base), softmax(&[0, 1, 2, 3])));
        assert!(near(share(&Sampling { top_k: Some(2), ..base.clone() }), softmax(&[1, 2])));
        // Softmax is 0.087, 0.644, 0.237, 0.032: the two likeliest hold 0.881.
        assert!(near(share(&Sampling { top_p: Some(0.85), ..base.clone() }), softmax(&[1, 2])));
        assert!(near(share(&Sampling { top_p: Some(0.5), ..base.clone() }), softmax(&[1])));
        assert!(near(share(&Sampling { temperature: 0.0, ..base.clone() }), softmax(&[1])));
        assert_eq!(base.pick(&logits, 0.999_999_999), 3);
    }

    #[test]
    fn generation_is_a_function_of_its_seed() {
        let lm = model();
        let run = |seed| generate(&lm, &[1], 25, &Sampling { temperature: 1.0, top_k: None, top_p: None, seed }, None, None);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert_eq!(run(1).len(), 25);
        let stop = run(1)[4];
        let first = run(1).iter().position(|&t| t == stop).unwrap();
        let sampling = Sampling { temperature: 1.0, top_k: None, top_p: None, seed: 1 };
        assert_eq!(generate(&lm, &[1], 25, &sampling, Some(stop), None), run(1)[..first]);
        assert!((0..100).all(|i| (0.0..1.0).contains(&uniform(1, i))) && uniform(1, 0) != uniform(1, 1));
    }
}
