//! The toy models, many instances at once: h = act(W x), x' = act(V h + b), with V = W^T in the models of superposition.
//!
//! I = instances, n = features, m = hidden dimensions, P = parameters of an instance, B = samples of a step, R = samples of a block.
//! Parameters of all instances are one array (I, P): `w_in` (n, m), then `w_out` (n, m) unless it is `w_in`, then `b` (n,). Row i of both weights belongs
//! to feature i: the columns of the paper's W. Source: Elhage et al. 2022, "Demonstrating superposition".

use super::data::{Draws, Inputs};
use crate::artifact::seed;
use crate::kernels::adamw::{AdamWStep, adamw_step_here};
use crate::kernels::simd::{LANES, dispatch, sum_lanes};
use crate::kernels::small::{small_nn, small_nt_add, small_tn};
use rand::RngExt;
use rayon::prelude::*;

/// Samples that go through a model at once: what a block of 30 features needs stays in the first cache.
const BLOCK: usize = 128;

/// What an instance computes, the same for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    pub n: usize,
    pub m: usize,
    /// h = ReLU(W x) instead of W x.
    pub hidden_relu: bool,
    /// x' = ReLU(V h + b) instead of V h + b.
    pub output_relu: bool,
    /// V is W^T; otherwise it has weights of its own.
    pub tied: bool,
    /// The target is |x| instead of x.
    pub absolute: bool,
    /// Coefficient of the sum of |h|.
    pub hidden_l1: f32,
    pub inputs: Inputs,
}

impl Model {
    /// x' = ReLU(W^T W x + b): "ReLU output model".
    pub fn relu_output(n: usize, m: usize) -> Self {
        Model { n, m, hidden_relu: false, output_relu: true, tied: true, absolute: false, hidden_l1: 0.0, inputs: Inputs::INDEPENDENT }
    }

    /// x' = W^T W x + b.
    pub fn linear(n: usize, m: usize) -> Self {
        Model { output_relu: false, ..Model::relu_output(n, m) }
    }

    /// P.
    pub fn n_params(&self) -> usize {
        self.n * self.m * if self.tied { 1 } else { 2 } + self.n
    }
}

/// What differs between instances. Shapes: both (n,).
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Probability of each feature, 1 - S in the paper.
    pub p: Vec<f32>,
    /// I_i: weight of each feature's squared error.
    pub importance: Vec<f32>,
}

impl Setting {
    /// One probability and one importance for all.
    pub fn uniform(n: usize, p: f64) -> Self {
        Setting { p: vec![p as f32; n], importance: vec![1.0; n] }
    }

    /// One probability; feature i has importance `base`^i.
    pub fn falling(n: usize, p: f64, base: f64) -> Self {
        Setting { importance: (0..n as i32).map(|i| base.powi(i) as f32).collect(), ..Setting::uniform(n, p) }
    }
}

/// Length and rate of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub steps: u64,
    /// Samples of a step; a multiple of 16.
    pub batch: usize,
    pub lr: f32,
    /// The rate falls linearly to 0 at the last step; otherwise it stays.
    pub decay: bool,
}

impl Schedule {
    pub fn falling(steps: u64, batch: usize, lr: f32) -> Self {
        Schedule { steps, batch, lr, decay: true }
    }
}

/// Several instances of one model in training.
#[derive(Debug, Clone)]
pub struct Instances {
    pub model: Model,
    pub settings: Vec<Setting>,
    /// (I, P).
    params: Vec<f32>,
    /// Adam's moments, (I, P) each.
    moments: [Vec<f32>; 2],
    draws: Vec<Draws>,
    /// Steps done.
    step: u64,
    seed: u64,
}

/// Weights of one instance.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    pub n: usize,
    pub m: usize,
    /// (n, m).
    pub w_in: &'a [f32],
    /// (n, m).
    pub w_out: &'a [f32],
    /// (n,).
    pub b: &'a [f32],
}

impl<'a> Weights<'a> {
    fn new(model: &Model, params: &'a [f32]) -> Self {
        let (weights, b) = params.split_at(params.len() - model.n);
        let (w_in, rest) = weights.split_at(model.n * model.m);
        Weights { n: model.n, m: model.m, w_in, w_out: if model.tied { w_in } else { rest }, b }
    }

    /// W_i (m,).
    pub fn feature(&self, i: usize) -> &'a [f32] {
        &self.w_in[i * self.m..(i + 1) * self.m]
    }
}

impl Instances {
    /// An instance for each setting; Xavier-normal weights, biases zero.
    ///
    /// # Panics
    /// If a setting is not of n features.
    pub fn new(model: Model, settings: Vec<Setting>, seed: u64) -> Self {
        let (n, m, p) = (model.n, model.m, model.n_params());
        for s in &settings {
            assert!(
                s.p.len() == n && s.importance.len() == n,
                "a model of {n} features: got {} rates and {} importances",
                s.p.len(),
                s.importance.len()
            );
        }
        let sd = (2.0 / (n + m) as f32).sqrt();
        let mut params = vec![0.0; settings.len() * p];
        for (i, params) in params.chunks_exact_mut(p).enumerate() {
            let mut rng = seed::rng(seed, "toy/init", i as u64);
            params[..p - n].iter_mut().for_each(|w| *w = sd * normal(&mut rng));
        }
        let draws = (0..settings.len() as u64).map(|i| Draws::new(seed, "toy/train", i)).collect();
        Instances { model, moments: [vec![0.0; params.len()], vec![0.0; params.len()]], params, settings, draws, step: 0, seed }
    }

    /// Changes what training starts from: `start` gets the setting, w_in (n, m), w_out (n, m; empty where it is w_in) and b (n,) of each instance.
    pub fn starting(mut self, start: impl Fn(&Setting, &mut [f32], &mut [f32], &mut [f32])) -> Self {
        let (n, m, p) = (self.model.n, self.model.m, self.model.n_params());
        for (params, setting) in self.params.chunks_exact_mut(p).zip(&self.settings) {
            let (weights, b) = params.split_at_mut(p - n);
            let (w_in, w_out) = weights.split_at_mut(n * m);
            start(setting, w_in, w_out, b);
        }
        self
    }

    pub fn len(&self) -> usize {
        self.settings.len()
    }

    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    pub fn weights(&self, instance: usize) -> Weights<'_> {
        let p = self.model.n_params();
        Weights::new(&self.model, &self.params[instance * p..(instance + 1) * p])
    }

    /// Starts an instance of a tied model from these weights. Shapes: w (n, m), b (n,).
    pub fn start_from(&mut self, instance: usize, w: &[f32], b: &[f32]) {
        let p = self.model.n_params();
        assert!(self.model.tied && w.len() + b.len() == p, "a tied model of {p} parameters: got {} and {}", w.len(), b.len());
        let (weights, biases) = self.params[instance * p..(instance + 1) * p].split_at_mut(w.len());
        weights.copy_from_slice(w);
        biases.copy_from_slice(b);
    }

    /// Trains every instance to the end of `schedule`. Each is a sequence of its own: threads share instances, and the result does not depend on their number.
    pub fn train(&mut self, schedule: Schedule) {
        self.train_for(schedule, schedule.steps);
    }

    /// Trains on for `steps` of `schedule`; returns the loss of the last step's batch for each instance.
    pub fn train_for(&mut self, schedule: Schedule, steps: u64) -> Vec<f64> {
        assert!(schedule.batch > 0 && schedule.batch.is_multiple_of(super::data::LANES), "a batch of {} is not a multiple of 16", schedule.batch);
        let (model, first, p) = (self.model, self.step, self.model.n_params());
        let [first_moment, second_moment] = &mut self.moments;
        let parameters = self.params.par_chunks_exact_mut(p).zip(first_moment.par_chunks_exact_mut(p)).zip(second_moment.par_chunks_exact_mut(p));
        let losses = parameters
            .zip(&mut self.draws)
            .zip(&self.settings)
            .map(|((((params, m1), m2), draws), setting)| {
                let mut work = Work::new(&model);
                let mut loss = 0.0;
                for step in first..first + steps {
                    loss = work.gradient(&model, setting, params, draws, schedule.batch);
                    let left = if schedule.decay { 1.0 - step as f32 / schedule.steps as f32 } else { 1.0 };
                    let adam = AdamWStep {
                        lr: schedule.lr * left.max(0.0),
                        beta1: 0.9,
                        beta2: 0.999,
                        eps: 1e-8,
                        weight_decay: 0.0,
                        step: step + 1,
                        gradient_scale: 1.0,
                    };
                    adamw_step_here(adam, params, &work.d_params, m1, m2);
                }
                loss
            })
            .collect();
        self.step += steps;
        losses
    }

    /// Steps done so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Mean loss of each instance on `rows` fresh samples, the same for all of one model and seed. Sum over samples in f64.
    pub fn losses(&self, rows: usize) -> Vec<f64> {
        let p = self.model.n_params();
        let loss = |(params, setting): (&[f32], &Setting)| {
            let (mut work, mut draws) = (Work::new(&self.model), Draws::new(self.seed, "toy/eval", 0));
            let rounds = rows.div_ceil(BLOCK);
            (0..rounds).map(|_| work.loss(&self.model, setting, params, &mut draws)).sum::<f64>() / rounds as f64
        };
        self.params.par_chunks_exact(p).zip(&self.settings).map(loss).collect()
    }
}

/// One standard normal draw (Box and Muller).
pub(super) fn normal(rng: &mut impl rand::Rng) -> f32 {
    (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt() * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

/// h = act(W x) and V h, without the bias.
fn forward(model: &Model, w: Weights, x: &[f32], h: &mut [f32], out: &mut [f32]) {
    let (n, m, r) = (model.n, model.m, x.len() / model.n);
    small_tn(m, r, n, w.w_in, x, h);
    if model.hidden_relu {
        h.iter_mut().for_each(|h| *h = h.max(0.0));
    }
    small_nn(n, r, m, w.w_out, h, out);
}

/// Buffers of one instance's step.
struct Work {
    /// (n, BLOCK).
    x: Vec<f32>,
    /// Outputs, then their gradients, (n, BLOCK).
    out: Vec<f32>,
    /// (m, BLOCK).
    h: Vec<f32>,
    d_h: Vec<f32>,
    /// (P,).
    d_params: Vec<f32>,
}

impl Work {
    fn new(model: &Model) -> Self {
        let (x, h) = (vec![0.0; model.n * BLOCK], vec![0.0; model.m * BLOCK]);
        Work { out: x.clone(), x, d_h: h.clone(), h, d_params: vec![0.0; model.n_params()] }
    }

    /// Mean loss of one batch, its gradient in `d_params`.
    fn gradient(&mut self, model: &Model, setting: &Setting, params: &[f32], draws: &mut Draws, batch: usize) -> f64 {
        self.d_params.fill(0.0);
        let mut loss = 0.0;
        for start in (0..batch).step_by(BLOCK) {
            loss += self.block(model, setting, params, draws, BLOCK.min(batch - start), 1.0 / batch as f32);
        }
        loss / batch as f64
    }

    /// Adds the gradient of a block's loss times `share`; returns the sum of the loss over its `r` samples.
    fn block(&mut self, model: &Model, setting: &Setting, params: &[f32], draws: &mut Draws, r: usize, share: f32) -> f64 {
        let (n, m, w) = (model.n, model.m, Weights::new(model, params));
        let (x, out, h, d_h) = (&mut self.x[..n * r], &mut self.out[..n * r], &mut self.h[..m * r], &mut self.d_h[..m * r]);
        let (d_weights, d_b) = self.d_params.split_at_mut(params.len() - n);
        model.inputs.fill(draws, &setting.p, x);
        forward(model, w, x, h, out);
        let mut loss = 0.0;
        for i in 0..n {
            let (row, x) = (&mut out[i * r..(i + 1) * r], &x[i * r..(i + 1) * r]);
            let (sum, d) = row_gradient(model.output_relu, model.absolute, w.b[i], setting.importance[i], share, x, row);
            loss += sum as f64;
            d_b[i] += d;
        }
        small_tn(m, r, n, w.w_out, out, d_h);
        if model.hidden_l1 > 0.0 {
            loss += model.hidden_l1 as f64 * h.iter().map(|h| h.abs() as f64).sum::<f64>();
            d_h.iter_mut().zip(h.iter()).for_each(|(d, h)| *d += if *h == 0.0 { 0.0 } else { share * model.hidden_l1 * h.signum() });
        }
        if model.hidden_relu {
            d_h.iter_mut().zip(h.iter()).for_each(|(d, h)| *d = if *h > 0.0 { *d } else { 0.0 });
        }
        let (d_in, d_out) = d_weights.split_at_mut(n * m);
        small_nt_add(n, m, r, x, d_h, d_in);
        small_nt_add(n, m, r, out, h, if model.tied { d_in } else { d_out });
        loss
    }

    /// Mean loss of one block, without its gradient.
    fn loss(&mut self, model: &Model, setting: &Setting, params: &[f32], draws: &mut Draws) -> f64 {
        let w = Weights::new(model, params);
        model.inputs.fill(draws, &setting.p, &mut self.x);
        forward(model, w, &self.x, &mut self.h, &mut self.out);
        let rows = self.out.chunks_exact_mut(BLOCK).zip(self.x.chunks_exact(BLOCK)).zip(w.b.iter().zip(&setting.importance));
        let squares = rows.map(|((out, x), (b, importance))| row_gradient(model.output_relu, model.absolute, *b, *importance, 1.0, x, out).0 as f64);
        let l1 = model.hidden_l1 as f64 * self.h.iter().map(|h| h.abs() as f64).sum::<f64>();
        (squares.sum::<f64>() + l1) / BLOCK as f64
    }
}

dispatch! {
    /// Of one feature: the sum over samples of I (target - x')^2, the sum of the gradient of `share` times that by the output before its activation,
    /// and in `out` (R,), V h so far, that gradient itself.
    fn row_gradient(relu: bool, absolute: bool, b: f32, importance: f32, share: f32, x: &[f32], out: &mut [f32]) -> (f32, f32) {
        let (mut losses, mut sums) = ([0.0f32; LANES], [0.0f32; LANES]);
        let factor = 2.0 * importance * share;
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        let mut one = |l: usize, x: f32, out: &mut f32| {
            let target = if absolute { x.abs() } else { x };
            let pre = *out + b;
            let error = (if pre > floor { pre } else { 0.0 }) - target;
            let d = if pre > floor { factor * error } else { 0.0 };
            losses[l] = error.mul_add(error, losses[l]);
            sums[l] += d;
            *out = d;
        };
        let (blocks, rest) = x.as_chunks::<LANES>();
        let (out_blocks, out_rest) = out.as_chunks_mut::<LANES>();
        for (x, out) in blocks.iter().zip(out_blocks) {
            for l in 0..LANES {
                one(l, x[l], &mut out[l]);
            }
        }
        rest.iter().zip(out_rest).enumerate().for_each(|(l, (x, out))| one(l, *x, out));
        (importance * sum_lanes(&losses), sum_lanes(&sums))
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::Together;
    use super::*;
    use crate::kernels::testing::{at_threads, bits, gradient_error, random};

    /// The loss of a batch, written for one sample at a time in f64.
    fn naive(model: &Model, setting: &Setting, params: &[f32], x: &[f32], r: usize) -> f64 {
        let w = Weights::new(model, params);
        let mut total = 0.0;
        for s in 0..r {
            let relu = |on: bool, v: f64| if on { v.max(0.0) } else { v };
            let h: Vec<f64> = (0..model.m)
                .map(|k| relu(model.hidden_relu, (0..model.n).map(|i| w.w_in[i * model.m + k] as f64 * x[i * r + s] as f64).sum()))
                .collect();
            for i in 0..model.n {
                let out = relu(model.output_relu, w.b[i] as f64 + (0..model.m).map(|k| w.w_out[i * model.m + k] as f64 * h[k]).sum::<f64>());
                let target = if model.absolute { (x[i * r + s] as f64).abs() } else { x[i * r + s] as f64 };
                total += setting.importance[i] as f64 * (out - target).powi(2);
            }
            total += model.hidden_l1 as f64 * h.iter().map(|h| h.abs()).sum::<f64>();
        }
        total / r as f64
    }

    #[test]
    fn loss_and_gradient_of_every_kind_of_model_match_the_naive_loss() {
        let plain = Model::relu_output(5, 3);
        let kinds = [
            plain,
            Model::linear(5, 3),
            Model { hidden_relu: true, ..plain },
            Model { tied: false, hidden_relu: true, absolute: true, inputs: Inputs { signed: true, ..Inputs::INDEPENDENT }, ..plain },
            Model { hidden_l1: 0.3, inputs: Inputs { together: Together::Correlated(2), signed: false }, ..plain },
        ];
        for (index, model) in kinds.into_iter().enumerate() {
            let setting = Setting::falling(5, 0.6, 0.8);
            let params: Vec<f32> = random(model.n_params(), index as u64).iter().map(|x| 0.7 * x).collect();
            // 144 samples: a whole block and a part of one.
            let (r, draws) = (144, Draws::new(3, "test/toy", index as u64));
            let mut work = Work::new(&model);
            let loss = work.gradient(&model, &setting, &params, &mut draws.clone(), r);
            // The same samples: both blocks side by side.
            let mut again = draws;
            let (mut first, mut second) = (vec![0.0; 5 * BLOCK], vec![0.0; 5 * (r - BLOCK)]);
            model.inputs.fill(&mut again, &setting.p, &mut first);
            model.inputs.fill(&mut again, &setting.p, &mut second);
            let x: Vec<f32> = first.chunks(BLOCK).zip(second.chunks(r - BLOCK)).flat_map(|(a, b)| [a, b].concat()).collect();
            let want = naive(&model, &setting, &params, &x, r);
            assert!((loss - want).abs() < 1e-5 * want, "{loss} {want}");
            // A step of 2^-10 crosses the corner of a ReLU in some of the 144 samples: with two layers of them that is half a percent.
            let error = gradient_error(&params, &work.d_params, |moved| naive(&model, &setting, moved, &x, r));
            assert!(error < 1e-2, "kind {index}: {error}");
        }
    }

    #[test]
    fn training_is_bitwise_the_same_at_any_thread_count_and_in_parts() {
        let run = |threads, parts: u64| {
            at_threads(threads, || {
                let settings = (0..5).map(|i| Setting::uniform(7, 0.1 + 0.2 * i as f64)).collect();
                let mut all = Instances::new(Model::relu_output(7, 3), settings, 4);
                let schedule = Schedule::falling(24, 48, 1e-2);
                for _ in 0..parts {
                    all.train_for(schedule, 24 / parts);
                }
                (bits(&[all.params.clone()]), all.losses(1000).iter().map(|l| l.to_bits()).collect::<Vec<_>>())
            })
        };
        let whole = run(1, 1);
        assert_eq!(whole, run(2, 1));
        assert_eq!(whole, run(3, 4));
    }

    #[test]
    fn a_start_of_ones_own_replaces_the_weights_of_each_instance() {
        let model = Model { tied: false, ..Model::relu_output(3, 2) };
        let settings = vec![Setting::uniform(3, 0.5), Setting::uniform(3, 0.1)];
        let all = Instances::new(model, settings, 0).starting(|setting, w_in, w_out, b| {
            w_in.fill(1.0);
            w_out.fill(2.0);
            b.fill(setting.p[0]);
        });
        let w = all.weights(1);
        assert_eq!((w.w_in, w.w_out, w.b), (&[1.0; 6][..], &[2.0; 6][..], &[0.1; 3][..]));
        let tied = Instances::new(Model::relu_output(3, 2), vec![Setting::uniform(3, 0.5)], 0);
        tied.starting(|_, _, w_out, _| assert!(w_out.is_empty()));
    }

    #[test]
    fn one_feature_in_one_dimension_is_learned_exactly() {
        let mut one = Instances::new(Model::relu_output(1, 1), vec![Setting::uniform(1, 0.5)], 0);
        one.train(Schedule::falling(2000, 128, 1e-2));
        assert!((one.weights(0).feature(0)[0].abs() - 1.0).abs() < 1e-3 && one.losses(10_000)[0] < 1e-6);
    }
}
