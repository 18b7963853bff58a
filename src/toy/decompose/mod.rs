//! Stochastic Parameter Decomposition (Bushnaq, Braun and Sharkey 2025) of a toy model x' = ReLU(W^T W x + b): both matrices as sums of matrices of rank
//! one, as few of which as possible matter for any one input.
//!
//! n, m = features and hidden dimensions, C = components of a matrix, G = neurons of a gate, R = samples of a block. W has a row for each feature (n, m).
//! Layer 0 is the embedding (D = n in, E = m out), layer 1 the unembedding (D = m, E = n). Component c is v_c u_c^T with v_c (D,) and u_c (E,); its inner
//! activation is a_c = v_c . input of the layer in the target model. Its causal importance is g_c = hard sigmoid(q_c), q_c = w_out . gelu(w_in a_c +
//! b_in) + b_out, and its mask g_c + (1 - g_c) r, r ~ U(0, 1). The loss is
//!
//!   faithfulness: mean over all weights of (W - sum of components)^2
//!   + reconstruction: mean squared difference of the outputs, both layers masked; and half of it with either layer masked alone
//!   + beta * mean over samples of the sum over components of g_c^power.
//!
//! Masks take a hard sigmoid that leaks below 0, the last term one that leaks above 1, each with slope 0.01. Blocks are stored feature by feature, (., R).

mod gate;

use super::data::{Draws, Inputs};
use super::model::{Weights, normal};
use crate::artifact::seed;
use crate::kernels::adamw::{AdamWStep, adamw_step_here};
use crate::kernels::simd::LANES;
use crate::kernels::small::{small_nn, small_nt_add, small_tn};
use gate::{GATE, Gate, GateGradient, gate_backward, gate_forward, importance_gradient, mask, output_gradient, unmask};
use rayon::prelude::*;

/// How a model is decomposed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// C.
    pub components: usize,
    /// beta.
    pub minimality: f32,
    /// 1 or 2.
    pub power: i32,
    pub steps: u64,
    /// Samples of a step, and how many of them are drawn into a block; the latter divides the former and is a multiple of 32.
    pub batch: usize,
    pub block: usize,
    /// Highest rate of Adam; it falls to 0 as a cosine.
    pub lr: f32,
    /// The gates' rate is so many times that of the components: they follow while components move slowly.
    pub gate_rate: f32,
}

/// A decomposition in training.
pub struct Decomposition {
    pub recipe: Recipe,
    target: Target,
    layers: [Layout; 2],
    params: Vec<f32>,
    moments: [Vec<f32>; 2],
    parts: Vec<Part>,
    step: u64,
}

/// What is decomposed.
struct Target {
    n: usize,
    m: usize,
    /// (n, m), and its transpose (m, n).
    w: Vec<f32>,
    w_t: Vec<f32>,
    /// (n,).
    b: Vec<f32>,
    /// Probability of each feature, (n,).
    p: Vec<f32>,
}

/// Where a layer's parameters stand: `v` (C, D), `u` (C, E), the gates' `w_in`, `b_in`, `w_out` (C, G) and `b_out` (C,), one after the other.
#[derive(Debug, Clone, Copy)]
struct Layout {
    start: usize,
    c: usize,
    d: usize,
    e: usize,
}

impl Layout {
    fn sizes(self) -> [usize; 6] {
        let Layout { c, d, e, .. } = self;
        [c * d, c * e, c * GATE, c * GATE, c * GATE, c]
    }

    fn len(self) -> usize {
        self.sizes().iter().sum()
    }

    fn of(self, params: &[f32]) -> [&[f32]; 6] {
        let mut rest = &params[self.start..self.start + self.len()];
        self.sizes().map(|size| {
            let (first, after) = rest.split_at(size);
            rest = after;
            first
        })
    }

    fn of_mut(self, params: &mut [f32]) -> [&mut [f32]; 6] {
        let mut rest = &mut params[self.start..self.start + self.len()];
        self.sizes().map(|size| {
            let (first, after) = std::mem::take(&mut rest).split_at_mut(size);
            rest = after;
            first
        })
    }
}

impl Decomposition {
    /// Number `restart` of those of a model whose features have this probability; weights are drawn with a variance of 1 over the inputs they meet,
    /// gates' biases are 0.
    pub fn new(w: Weights, p: f64, recipe: Recipe, seed: u64, restart: u64) -> Self {
        let (n, m, c) = (w.n, w.m, recipe.components);
        assert!(
            recipe.batch.is_multiple_of(recipe.block) && recipe.block.is_multiple_of(LANES),
            "a batch of {} in blocks of {}",
            recipe.batch,
            recipe.block
        );
        let embedding = Layout { start: 0, c, d: n, e: m };
        let layers = [embedding, Layout { start: embedding.len(), c, d: m, e: n }];
        let mut params = vec![0.0; layers[0].len() + layers[1].len()];
        let mut rng = seed::rng(seed, "toy/decompose/init", restart);
        for layer in layers {
            let [v, u, w_in, _, w_out, _] = layer.of_mut(&mut params);
            for (weights, variance) in [(v, 1.0 / layer.d as f32), (u, 1.0 / layer.c as f32), (w_in, 2.0), (w_out, 1.0 / GATE as f32)] {
                weights.iter_mut().for_each(|w| *w = variance.sqrt() * normal(&mut rng));
            }
        }
        let mut w_t = vec![0.0; n * m];
        (0..n * m).for_each(|at| w_t[at % m * n + at / m] = w.w_in[at]);
        let target = Target { n, m, w: w.w_in.to_vec(), w_t, b: w.b.to_vec(), p: vec![p as f32; n] };
        let draws = |i: usize| Draws::new(seed, &format!("toy/decompose/{restart}"), i as u64);
        let parts = (0..recipe.batch / recipe.block).map(|i| Part::new(&target, &recipe, params.len(), draws(i)));
        Decomposition { parts: parts.collect(), recipe, layers, moments: [vec![0.0; params.len()], vec![0.0; params.len()]], params, target, step: 0 }
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Trains on for so many steps; returns the loss of the last. Blocks are shared out to threads and their gradients summed in their order.
    pub fn train_for(&mut self, steps: u64) -> f64 {
        let mut loss = 0.0;
        let mut gradient = vec![0.0; self.params.len()];
        for _ in 0..steps.min(self.recipe.steps - self.step) {
            loss = self.gradient(&mut gradient);
            let done = self.step as f32 / self.recipe.steps as f32;
            let lr = self.recipe.lr * 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
            self.step += 1;
            let adam = AdamWStep { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, step: self.step, gradient_scale: 1.0 };
            let gates = AdamWStep { lr: lr * self.recipe.gate_rate, ..adam };
            let [first, second] = &mut self.moments;
            for layer in self.layers {
                let middle = layer.start + layer.c * (layer.d + layer.e);
                for (adam, at) in [(adam, layer.start..middle), (gates, middle..layer.start + layer.len())] {
                    adamw_step_here(adam, &mut self.params[at.clone()], &gradient[at.clone()], &mut first[at.clone()], &mut second[at]);
                }
            }
        }
        loss
    }

    /// Mean loss of so many more batches.
    pub fn loss(&mut self, batches: u64) -> f64 {
        let mut gradient = vec![0.0; self.params.len()];
        (0..batches).map(|_| self.gradient(&mut gradient)).sum::<f64>() / batches as f64
    }

    /// The loss of the next batch and its gradient.
    fn gradient(&mut self, gradient: &mut [f32]) -> f64 {
        let (params, target, recipe, layers) = (&self.params, &self.target, &self.recipe, self.layers);
        self.parts.par_iter_mut().for_each(|part| part.gradient(params, layers, target, recipe));
        gradient.fill(0.0);
        let mut loss = 0.0;
        for part in &self.parts {
            loss += part.loss;
            gradient.iter_mut().zip(&part.d_params).for_each(|(sum, d)| *sum += d);
        }
        loss + self.faithfulness(gradient)
    }

    /// Mean squared difference of the weights; adds its gradient.
    fn faithfulness(&self, gradient: &mut [f32]) -> f64 {
        let count = 2 * self.target.w.len();
        let mut sum = 0.0;
        for (layer, weights) in self.layers.into_iter().zip([&self.target.w, &self.target.w_t]) {
            let Layout { c, d, e, .. } = layer;
            let [v, u, ..] = layer.of(&self.params);
            let mut error = vec![0.0; d * e];
            small_tn(d, e, c, v, u, &mut error);
            error.iter_mut().zip(weights).for_each(|(error, w)| *error -= w);
            sum += error.iter().map(|e| (*e as f64).powi(2)).sum::<f64>();
            error.iter_mut().for_each(|error| *error *= 2.0 / count as f32);
            let [d_v, d_u, ..] = layer.of_mut(gradient);
            small_nt_add(c, d, e, u, &error, d_v);
            let mut more = vec![0.0; c * e];
            small_nn(c, e, d, v, &error, &mut more);
            d_u.iter_mut().zip(more).for_each(|(d, more)| *d += more);
        }
        sum / count as f64
    }

    /// The components of the embedding as matrices of one row for each feature. Shape: (C, n, m).
    pub fn embedding(&self) -> Vec<f32> {
        let [v, u, ..] = self.layers[0].of(&self.params);
        let (n, m) = (self.target.n, self.target.m);
        let component = |c: usize| (0..n * m).map(move |at| v[c * n + at / m] * u[c * m + at % m]);
        (0..self.recipe.components).flat_map(component).collect()
    }

    /// Causal importance of every component of the embedding where a feature is alone, at 3/4. Shape: (n, C).
    pub fn importances(&self) -> Vec<f32> {
        let [v, _, w_in, b_in, w_out, b_out] = self.layers[0].of(&self.params);
        let (n, c) = (self.target.n, self.recipe.components);
        let mut all = vec![0.0; n * c];
        for (at, g) in all.iter_mut().enumerate() {
            let (i, k) = (at / c, at % c);
            let gate = Gate::of(k, w_in, b_in, w_out, b_out[k]);
            let mut q = [0.0; LANES];
            gate_forward(&gate, &[0.75 * v[k * n + i]; LANES], &mut q);
            *g = q[0].clamp(0.0, 1.0);
        }
        all
    }
}

/// How well components are the features of a matrix. Source: section 3.1 there, after Braun et al. 2025.
///
/// Components with a norm below a twentieth of the largest are left out: in two dimensions one of many that have died points along a feature by chance,
/// and its length says nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// MMCS: mean over features of the largest cosine of W_i with row i of a component.
    pub mmcs: f64,
    /// ML2R: mean over features of |row i of that component| / |W_i|.
    pub ml2r: f64,
    /// Stricter, of each feature: the largest cosine of a whole component with the matrix that has W_i in row i and nothing else. Shape: (n,).
    pub whole: Vec<f64>,
    /// Components that are not left out.
    pub alive: usize,
}

/// Shapes: w (n, m), components (C, n, m).
pub fn recovered(w: &[f32], m: usize, components: &[f32]) -> Recovered {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
    let norm = |a: &[f32]| dot(a, a).sqrt().max(1e-30);
    let (mut cosines, mut ratios, mut whole) = (0.0, 0.0, Vec::new());
    let largest = components.chunks_exact(w.len()).map(norm).fold(0.0, f64::max);
    let alive: Vec<&[f32]> = components.chunks_exact(w.len()).filter(|p| norm(p) > largest / 20.0).collect();
    for (i, feature) in w.chunks_exact(m).enumerate() {
        let rows = alive.iter().map(|p| (*p, &p[i * m..(i + 1) * m]));
        let best = rows
            .clone()
            .map(|(_, row)| (dot(row, feature) / (norm(row) * norm(feature)), norm(row)))
            .fold((-1.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
        cosines += best.0;
        ratios += best.1 / norm(feature);
        whole.push(rows.map(|(p, row)| dot(row, feature) / (norm(p) * norm(feature))).fold(-1.0, f64::max));
    }
    let n = (w.len() / m) as f64;
    Recovered { mmcs: cosines / n, ml2r: ratios / n, whole, alive: alive.len() }
}

/// One block of a batch: its random numbers, its gradient, its buffers.
struct Part {
    draws: Draws,
    loss: f64,
    d_params: Vec<f32>,
    /// (n, block).
    drawn: Vec<f32>,
    x: Vec<f32>,
    /// How many samples each column stands for.
    weight: Vec<f32>,
    /// Of the target: (m, R) and (n, R).
    h: Vec<f32>,
    y: Vec<f32>,
    layers: [Block; 2],
    /// Of what is masked: hidden layer and output, and gradients.
    masked_h: Vec<f32>,
    d_h: Vec<f32>,
    out: Vec<f32>,
    /// (C, R) each.
    inner: Vec<f32>,
    masked: Vec<f32>,
    d_masked: Vec<f32>,
}

/// Of one layer, (C, R) each.
struct Block {
    a: Vec<f32>,
    d_a: Vec<f32>,
    /// Outputs of the gates, then their gradients.
    q: Vec<f32>,
    /// Gradient by the causal importance that masks take.
    d_g: Vec<f32>,
    /// Uniform numbers: for both layers masked, and for this one alone.
    noise: [Vec<f32>; 2],
}

impl Part {
    fn new(target: &Target, recipe: &Recipe, params: usize, draws: Draws) -> Self {
        let r = recipe.block + LANES;
        let (features, dimensions, components) = (vec![0.0; target.n * r], vec![0.0; target.m * r], vec![0.0; recipe.components * r]);
        let block = || Block {
            a: components.clone(),
            d_a: components.clone(),
            q: components.clone(),
            d_g: components.clone(),
            noise: [components.clone(), components.clone()],
        };
        Part {
            draws,
            loss: 0.0,
            d_params: vec![0.0; params],
            drawn: vec![0.0; target.n * recipe.block],
            x: features.clone(),
            weight: vec![0.0; r],
            h: dimensions.clone(),
            y: features.clone(),
            layers: [block(), block()],
            masked_h: dimensions.clone(),
            d_h: dimensions,
            out: features,
            inner: components.clone(),
            masked: components.clone(),
            d_masked: components,
        }
    }

    /// Draws inputs. Those without an active feature are all the same: they share column 0, the others have one each, and some at the end are of no weight.
    fn draw(&mut self, target: &Target, block: usize) -> usize {
        let n = target.n;
        Inputs::INDEPENDENT.fill(&mut self.draws, &target.p, &mut self.drawn);
        let active: Vec<usize> = (0..block).filter(|&s| (0..n).any(|i| self.drawn[i * block + s] > 0.0)).collect();
        let r = (active.len() + 1).next_multiple_of(LANES);
        self.x[..n * r].fill(0.0);
        self.weight[..r].fill(0.0);
        self.weight[0] = (block - active.len()) as f32;
        for (column, &s) in active.iter().enumerate() {
            self.weight[column + 1] = 1.0;
            (0..n).for_each(|i| self.x[i * r + column + 1] = self.drawn[i * block + s]);
        }
        r
    }

    /// This block's part of the loss, without faithfulness, and its gradient.
    fn gradient(&mut self, params: &[f32], layers: [Layout; 2], target: &Target, recipe: &Recipe) {
        let r = self.draw(target, recipe.block);
        let (n, m, c) = (target.n, target.m, recipe.components);
        self.d_params.fill(0.0);
        let (x, h, y) = (&self.x[..n * r], &mut self.h[..m * r], &mut self.y[..n * r]);
        small_tn(m, r, n, &target.w, x, h);
        small_nn(n, r, m, &target.w, h, y);
        for (y, b) in y.chunks_exact_mut(r).zip(&target.b) {
            y.iter_mut().for_each(|y| *y = (*y + b).max(0.0));
        }
        for ((layer, block), input) in layers.into_iter().zip(&mut self.layers).zip([x, &*h]) {
            let [v, _, w_in, b_in, w_out, b_out] = layer.of(params);
            small_nn(c, r, layer.d, v, input, &mut block.a[..c * r]);
            for (k, &b_out) in b_out.iter().enumerate() {
                let at = k * r..(k + 1) * r;
                gate_forward(&Gate::of(k, w_in, b_in, w_out, b_out), &block.a[at.clone()], &mut block.q[at]);
            }
            block.d_a[..c * r].fill(0.0);
            block.d_g[..c * r].fill(0.0);
            block.noise.iter_mut().for_each(|noise| Inputs::INDEPENDENT.fill(&mut self.draws, &[1.0], &mut noise[..c * r]));
        }
        let both = self.reconstruction(params, layers, target, recipe, r, Masked::Both);
        let first = self.reconstruction(params, layers, target, recipe, r, Masked::First);
        let second = self.reconstruction(params, layers, target, recipe, r, Masked::Second);
        self.loss = both + first + second;
        for (index, layer) in layers.into_iter().enumerate() {
            self.loss += self.importance(params, layer, index, recipe, r);
        }
    }

    /// One of the reconstruction losses; adds its gradients by `u`, by `v` of a masked second layer, by inner activations and by causal importances.
    fn reconstruction(&mut self, params: &[f32], layers: [Layout; 2], target: &Target, recipe: &Recipe, r: usize, which: Masked) -> f64 {
        let (n, m, c) = (target.n, target.m, recipe.components);
        let share = if which == Masked::Both { 1.0 } else { 0.5 } / (n * recipe.batch) as f32;
        let set = usize::from(which != Masked::Both);
        let [_, u_first, ..] = layers[0].of(params);
        let [v_second, u_second, ..] = layers[1].of(params);
        let [first, second] = &mut self.layers;
        let (masked, d_masked, inner) = (&mut self.masked[..c * r], &mut self.d_masked[..c * r], &mut self.inner[..c * r]);
        let (hidden, out, d_h) = (&mut self.masked_h[..m * r], &mut self.out[..n * r], &mut self.d_h[..m * r]);
        if which != Masked::Second {
            mask(&first.q[..c * r], &first.noise[set][..c * r], &first.a[..c * r], masked);
            small_tn(m, r, c, u_first, masked, hidden);
        }
        match which {
            Masked::First => small_nn(n, r, m, &target.w, hidden, out),
            Masked::Both => small_nn(c, r, m, v_second, hidden, inner),
            Masked::Second => inner.copy_from_slice(&second.a[..c * r]),
        }
        if which != Masked::First {
            mask(&second.q[..c * r], &second.noise[set][..c * r], inner, masked);
            small_tn(n, r, c, u_second, masked, out);
        }
        let mut loss = 0.0;
        for ((out, y), b) in out.chunks_exact_mut(r).zip(self.y.chunks_exact(r)).zip(&target.b) {
            loss += output_gradient(*b, share, y, out) as f64;
        }
        if which == Masked::First {
            small_tn(m, r, n, &target.w, out, d_h);
        } else {
            let [_, d_u, ..] = layers[1].of_mut(&mut self.d_params);
            small_nt_add(c, n, r, masked, out, d_u);
            small_nn(c, r, n, u_second, out, d_masked);
            // From here on `inner` is its gradient.
            unmask(&second.q[..c * r], &second.noise[set][..c * r], d_masked, inner, &mut second.d_g[..c * r]);
            if which == Masked::Both {
                let [d_v, ..] = layers[1].of_mut(&mut self.d_params);
                small_nt_add(c, m, r, inner, hidden, d_v);
                small_tn(m, r, c, v_second, inner, d_h);
            } else {
                second.d_a[..c * r].iter_mut().zip(&*inner).for_each(|(sum, d)| *sum += d);
            }
        }
        if which != Masked::Second {
            // The second layer has taken its place: once more what was masked in the first.
            mask(&first.q[..c * r], &first.noise[set][..c * r], &first.a[..c * r], masked);
            let [_, d_u, ..] = layers[0].of_mut(&mut self.d_params);
            small_nt_add(c, m, r, masked, d_h, d_u);
            small_nn(c, r, m, u_first, d_h, d_masked);
            inner.copy_from_slice(&first.a[..c * r]);
            unmask(&first.q[..c * r], &first.noise[set][..c * r], d_masked, inner, &mut first.d_g[..c * r]);
            first.d_a[..c * r].iter_mut().zip(&*inner).for_each(|(sum, d)| *sum += d);
        }
        loss
    }

    /// Importance minimality of a layer; then the way back from causal importances and inner activations to its gates and `v`.
    fn importance(&mut self, params: &[f32], layer: Layout, index: usize, recipe: &Recipe, r: usize) -> f64 {
        let Layout { c, d, .. } = layer;
        let [_, _, w_in, b_in, w_out, b_out] = layer.of(params);
        let [d_v, _, d_w_in, d_b_in, d_w_out, d_b_out] = layer.of_mut(&mut self.d_params);
        let block = &mut self.layers[index];
        let share = recipe.minimality / recipe.batch as f32;
        let mut loss = 0.0;
        for k in 0..c {
            let at = k * r..(k + 1) * r;
            let q = &mut block.q[at.clone()];
            loss += importance_gradient(recipe.power == 2, share, &self.weight[..r], &block.d_g[at.clone()], q) as f64;
            let gate = Gate::of(k, w_in, b_in, w_out, b_out[k]);
            let neurons = k * GATE..(k + 1) * GATE;
            let d = GateGradient { w_in: &mut d_w_in[neurons.clone()], b_in: &mut d_b_in[neurons.clone()], w_out: &mut d_w_out[neurons] };
            d_b_out[k] += gate_backward(&gate, &block.a[at.clone()], q, d, &mut block.d_a[at]);
        }
        let input = if index == 0 { &self.x[..d * r] } else { &self.h[..d * r] };
        small_nt_add(c, d, r, &block.d_a[..c * r], input, d_v);
        loss
    }
}

/// Which layers are replaced by masked components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Masked {
    Both,
    First,
    Second,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{at_threads, bits, gradient_error, random};
    use crate::toy::model::{Instances, Model, Setting};

    const RECIPE: Recipe = Recipe { components: 7, minimality: 0.05, power: 2, steps: 20, batch: 64, block: 32, lr: 1e-2, gate_rate: 2.0 };

    fn small(power: i32) -> Decomposition {
        let models = Instances::new(Model::relu_output(5, 3), vec![Setting::uniform(5, 0.3)], 1);
        let mut small = Decomposition::new(models.weights(0), 0.3, Recipe { power, ..RECIPE }, 2, 0);
        small.target.b = vec![0.1, -0.05, 0.0, 0.2, 0.05];
        small.params.iter_mut().zip(random(10_000, 3)).for_each(|(p, more)| *p += 0.3 * more);
        small
    }

    /// The loss of what the parts have drawn, one sample at a time in f64.
    #[allow(clippy::needless_range_loop)]
    fn naive(of: &Decomposition, params: &[f32]) -> f64 {
        let (n, m, c) = (of.target.n, of.target.m, of.recipe.components);
        let component = |layer: usize, k: usize| {
            let [v, u, ..] = of.layers[layer].of(params);
            let (d, e) = (of.layers[layer].d, of.layers[layer].e);
            let (v, u) = (&v[k * d..(k + 1) * d], &u[k * e..(k + 1) * e]);
            v.iter().map(|v| u.iter().map(|u| *u as f64 * *v as f64).collect()).collect::<Vec<Vec<f64>>>()
        };
        let weights = |layer: usize| if layer == 0 { &of.target.w } else { &of.target.w_t };
        let mut loss = 0.0;
        for layer in 0..2 {
            let (d, e) = (of.layers[layer].d, of.layers[layer].e);
            for at in 0..d * e {
                let sum: f64 = (0..c).map(|k| component(layer, k)[at / e][at % e]).sum();
                loss += (weights(layer)[at] as f64 - sum).powi(2) / (2 * n * m) as f64;
            }
        }
        for part in &of.parts {
            let active = (0..of.recipe.block).filter(|s| part.drawn.iter().skip(*s).step_by(of.recipe.block).any(|x| *x > 0.0)).count();
            let r = (active + 1).next_multiple_of(LANES);
            for s in 0..r {
                let x: Vec<f64> = (0..n).map(|i| part.x[i * r + s] as f64).collect();
                let times = |rows: &[Vec<f64>], x: &[f64]| {
                    (0..rows[0].len()).map(|j| rows.iter().zip(x).map(|(row, x)| row[j] * x).sum()).collect::<Vec<f64>>()
                };
                let full = |layer: usize| {
                    weights(layer).chunks(of.layers[layer].e).map(|row| row.iter().map(|w| *w as f64).collect()).collect::<Vec<Vec<f64>>>()
                };
                let answer = |h: &[f64], last: &[Vec<f64>]| {
                    times(last, h).iter().zip(&of.target.b).map(|(o, b)| (o + *b as f64).max(0.0)).collect::<Vec<f64>>()
                };
                let h = times(&full(0), &x);
                let y = answer(&h, &full(1));
                let mut masked: Vec<Vec<Vec<Vec<f64>>>> = vec![Vec::new(), Vec::new()];
                for layer in 0..2 {
                    let input = if layer == 0 { &x } else { &h };
                    let [v, _, w_in, b_in, w_out, b_out] = of.layers[layer].of(params);
                    let (d, e) = (of.layers[layer].d, of.layers[layer].e);
                    let q: Vec<f64> = (0..c)
                        .map(|k| {
                            let a: f64 = (0..d).map(|i| v[k * d + i] as f64 * input[i]).sum();
                            let neuron = |at: usize| {
                                let z = a * w_in[at] as f64 + b_in[at] as f64;
                                w_out[at] as f64 * z / (1.0 + (-1.702 * z).exp())
                            };
                            b_out[k] as f64 + (k * GATE..(k + 1) * GATE).map(neuron).sum::<f64>()
                        })
                        .collect();
                    let upper = |q: f64| {
                        if q < 0.0 {
                            0.0
                        } else if q < 1.0 {
                            q
                        } else {
                            1.0 + 0.01 * (q - 1.0)
                        }
                    };
                    let sum: f64 = q.iter().map(|q| upper(*q).powi(of.recipe.power)).sum();
                    loss += of.recipe.minimality as f64 * part.weight[s] as f64 * sum / of.recipe.batch as f64;
                    for set in 0..2 {
                        let mut all = vec![vec![0.0; e]; d];
                        for k in 0..c {
                            let g = if q[k] < 0.0 { 0.01 * q[k] } else { q[k].min(1.0) };
                            let mask = g + (1.0 - g) * part.layers[layer].noise[set][k * r + s] as f64;
                            let p = component(layer, k);
                            (0..d * e).for_each(|at| all[at / e][at % e] += mask * p[at / e][at % e]);
                        }
                        masked[layer].push(all);
                    }
                }
                let off = |got: Vec<f64>| got.iter().zip(&y).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / (n * of.recipe.batch) as f64;
                loss += off(answer(&times(&masked[0][0], &x), &masked[1][0]));
                loss += 0.5 * (off(answer(&times(&masked[0][1], &x), &full(1))) + off(answer(&h, &masked[1][1])));
            }
        }
        loss
    }

    #[test]
    fn loss_and_gradient_match_the_naive_loss() {
        for power in [1, 2] {
            let mut of = small(power);
            let mut gradient = vec![0.0; of.params.len()];
            let loss = of.gradient(&mut gradient);
            let want = naive(&of, &of.params);
            assert!((loss - want).abs() < 1e-5 * want, "{loss} {want}");
            // A step of 2^-10 crosses corners of the hard sigmoids and ReLUs in some of the samples.
            let error = gradient_error(&of.params, &gradient, |moved| naive(&of, moved));
            assert!(error < 1e-2, "{power}: {error}");
        }
    }

    #[test]
    fn training_is_bitwise_the_same_at_any_thread_count() {
        let run = |threads| {
            at_threads(threads, || {
                let mut of = small(1);
                of.train_for(20);
                bits(&[of.params])
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn the_features_of_a_matrix_are_themselves_its_best_components() {
        let w = [1.0, 0.0, 0.0, 2.0, -1.0, 1.0];
        let alone = |i: usize, scale: f32| (0..6).map(move |at| if at / 2 == i { scale * w[at] } else { 0.0 });
        let exact: Vec<f32> = (0..3).flat_map(|i| alone(i, 1.0)).collect();
        let of = recovered(&w, 2, &exact);
        assert!([of.mmcs, of.ml2r].iter().chain(&of.whole).all(|v| (v - 1.0).abs() < 1e-6) && of.alive == 3);
        // Halves have the directions; one matrix for all has them too, but is of no feature; what is tiny does not count.
        let halves: Vec<f32> = (0..3).flat_map(|i| alone(i, 0.5)).chain(alone(0, 1e-3)).collect();
        assert!((recovered(&w, 2, &halves).ml2r - 0.5).abs() < 1e-6 && recovered(&w, 2, &halves).alive == 3);
        let one = recovered(&w, 2, &w);
        assert!((one.mmcs - 1.0).abs() < 1e-6 && one.whole.iter().all(|v| *v < 0.9));
    }
}
