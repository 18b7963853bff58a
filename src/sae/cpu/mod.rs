//! The training step on the CPU: a screened encoder (TopK) or one dense product, exact sparse gradients after it, a dense path while activations are dense.
//!
//! B = rows in the batch, D = d_in, F = d_sae, K = latents kept per row. All matrices are row-major, weights have one latent per row.
//!
//! xc = x - b_dec (where the recipe has the pre-encoder bias), z = xc w_enc^T + b_enc, a = select(z), e = a w_dec + b_dec - x
//! loss = mean over rows of |e|^2 + l1 * sum over latents of a_j n_j + aux,   n_j = |w_dec[j]| in the April recipe, else 1
//!
//! With g = 2 e / B:  d_a[j] = g . w_dec[j] + l1 n_j / B at active latents,  d_w_dec[j] = sum over rows of a_j g (+ l1 sum(a_j)/B w_dec[j]/n_j),
//! d_w_enc[j] = sum of d_a[j] xc,  d_b_enc[j] = sum of d_a[j],  d_b_dec = sum of g - sum over latents of d_b_enc[j] w_enc[j].
//! The last term is all of the gradient through the pre-encoder bias: a product with a vector where autograd runs another full product.

use super::auxk::{AuxK, AuxWork};
use super::encode::{CHUNK, EncodeScratch, EncoderView, Pool, block_rows, decode, encode, encode_topk, grow, select_rows, subtract};
use super::{Engine, Params, Recipe, Replacement, Select, SparseRows, State, StepReport, StepSettings, TrainConfig};
use crate::kernels::gemm::{matmul_nn, matmul_nt, matmul_tn};
use crate::kernels::screen::{Screen, ScreenCount, TopK};
use crate::kernels::select::{SelectScratch, count_above_zero};
use crate::kernels::sparse::{AdamStep, adam, axpy, dot, error_row, gather_axpy, gather_dot, relu_backward_row, relu_row};
use rayon::prelude::*;
use std::time::Instant;

/// Share of active latents above which a block of rows goes through dense products (measured crossover: 8-9 %).
const DENSE_ABOVE: f64 = 0.08;

/// Latents that one thread updates at a time.
const LATENTS: usize = 32;

/// Trains one SAE on the CPU; bitwise repeatable at any number of threads.
pub struct CpuEngine {
    d_in: usize,
    d_sae: usize,
    recipe: Recipe,
    select: Select,
    clip: Option<f64>,
    beta1: f64,
    beta2: f64,
    eps: f64,
    state: State,
    /// Gradient of the last step; decoder rows projected where the recipe projects.
    gradient: Params,
    fires: Vec<u32>,
    /// See [`DENSE_ABOVE`]; tests force either path with it.
    pub(super) dense_above: f64,
    /// The encoder as the screen of a TopK step reads it.
    pub(super) screen: Screen,
    /// Whether `screen` holds the weights of `state`.
    screen_is_current: bool,
    screened: ScreenCount,
    work: Work,
    /// Seconds spent in each phase of the last step.
    phases: Vec<(&'static str, f64)>,
}

/// Buffers kept between steps.
#[derive(Default)]
struct Work {
    centred: Vec<f32>,
    pre: Vec<f32>,
    d_pre: Vec<f32>,
    /// (B, D): x_hat, then 2 e / B.
    g: Vec<f32>,
    chunks: Vec<Chunk>,
    by_latent: ByLatent,
    /// (F,): n_j of the L1 term.
    norms: Vec<f32>,
    /// (F,): sums over the rows of dense blocks, of d_a and of a.
    dense_d: Vec<f32>,
    dense_act: Vec<f32>,
    aux: AuxWork,
    encode: EncodeScratch,
    screens: Pool,
}

/// The sparse activations of [`CHUNK`] rows with their gradients.
#[derive(Default)]
struct Chunk {
    rows: SparseRows,
    d_act: Vec<f32>,
    sums: Sums,
}

/// Sums over rows, in f64.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    squared_error: f64,
    l1: f64,
    active: f64,
}

/// The same entries ordered by latent: entries `start[j]..start[j + 1]` are those of latent j, rows ascending.
#[derive(Default)]
struct ByLatent {
    start: Vec<usize>,
    row: Vec<u32>,
    act: Vec<f32>,
    d_act: Vec<f32>,
}

impl CpuEngine {
    /// An engine with these weights and no Adam history.
    pub fn new(config: &TrainConfig, params: Params) -> Self {
        let (d_in, d_sae) = (config.sae.d_in, config.sae.d_sae);
        let zeros = || Params { w_enc: vec![0.0; d_sae * d_in], b_enc: vec![0.0; d_sae], w_dec: vec![0.0; d_sae * d_in], b_dec: vec![0.0; d_in] };
        assert_shapes(&params, d_in, d_sae);
        CpuEngine {
            d_in,
            d_sae,
            recipe: config.sae.recipe,
            select: match config.sae.recipe {
                Recipe::TopK { k, .. } => Select::TopK { k },
                _ => Select::Relu,
            },
            clip: config.clip,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            state: State { params, first: zeros(), second: zeros(), steps: 0 },
            gradient: zeros(),
            fires: vec![0; d_sae],
            dense_above: DENSE_ABOVE,
            screen: Screen::default(),
            screen_is_current: false,
            screened: ScreenCount::default(),
            work: Work::default(),
            phases: Vec::new(),
        }
    }

    /// Seconds spent in each phase of the last step.
    pub fn phases(&self) -> &[(&'static str, f64)] {
        &self.phases
    }

    /// What the screen did with the rows of the last step; nothing where the recipe or the CPU has none.
    pub fn screened(&self) -> ScreenCount {
        self.screened
    }

    pub fn params(&self) -> &Params {
        &self.state.params
    }

    /// Loss and gradient on rows x (B, D), before projection, clipping and update.
    pub fn gradients(&mut self, x: &[f32], settings: &StepSettings) -> (StepReport, &Params) {
        let mut clock = Clock::default();
        let (mut report, _) = self.backward(x, settings, false, &mut clock);
        report.grad_norm = squared_norm(&self.gradient).sqrt();
        (report, &self.gradient)
    }

    /// Fills `self.gradient`; returns its squared norm over everything but b_dec.
    fn backward(&mut self, x: &[f32], settings: &StepSettings, project: bool, clock: &mut Clock) -> (StepReport, f64) {
        let (d, f) = (self.d_in, self.d_sae);
        assert!(!x.is_empty() && x.len().is_multiple_of(d), "{} elements are not rows of width {d}", x.len());
        let batch = x.len() / d;
        let l1_norms = matches!(self.recipe, Recipe::ReluApril2024 { .. });
        let l1 = if matches!(self.recipe, Recipe::TopK { .. }) { 0.0 } else { settings.l1 };
        let params = &self.state.params;
        let work = &mut self.work;

        work.norms.resize(f, 1.0);
        if l1_norms {
            work.norms.par_iter_mut().zip(params.w_dec.par_chunks_exact(d)).for_each(|(norm, w)| *norm = dot(w, w).sqrt());
        }
        for sums in [&mut work.dense_d, &mut work.dense_act] {
            sums.clear();
            sums.resize(f, 0.0);
        }
        self.fires.fill(0);
        grow(&mut work.g, batch * d);
        let centred: &[f32] = if self.recipe.pre_bias() { subtract(x, &params.b_dec, &mut work.centred) } else { x };
        let n_chunks = batch.div_ceil(CHUNK);
        if work.chunks.len() < n_chunks {
            work.chunks.resize_with(n_chunks, Chunk::default);
        }
        let rows = block_rows(f);
        let scale = 2.0 / batch as f32;
        let l1_per_row = (l1 / batch as f64) as f32;
        let mut dense_sums = Sums::default();
        let mut any_dense = false;

        if let Select::TopK { k } = self.select {
            if !self.screen_is_current {
                clock.phase("prepare screen", || self.screen.update(&params.w_enc, &params.b_enc));
                self.screen_is_current = true;
            }
            let top = TopK { w: &params.w_enc, bias: &params.b_enc, k };
            let chunks = &mut work.chunks[..n_chunks];
            self.screened = clock.phase("encode", || {
                let mut parts: Vec<&mut SparseRows> = chunks.iter_mut().map(|chunk| &mut chunk.rows).collect();
                encode_topk(top, &self.screen, centred, &mut work.pre, &work.screens, &mut parts)
            });
            clock.phase("decode", || {
                (chunks, x.par_chunks(CHUNK * d), work.g.par_chunks_mut(CHUNK * d))
                    .into_par_iter()
                    .for_each(|(chunk, x, g)| chunk.decode_backward(params, &work.norms, x, scale, l1_per_row, g))
            });
        }
        // Other recipes: the dense product, block by block.
        let blocks = if self.select == Select::Relu { x } else { &[] };
        for (block, (x, centred)) in blocks.chunks(rows * d).zip(centred.chunks(rows * d)).enumerate() {
            let n = x.len() / d;
            let pre = grow(&mut work.pre, n * f);
            clock.phase("encode", || matmul_nt(n, f, d, centred, &params.w_enc, pre, false));
            let g = &mut work.g[block * rows * d..][..n * d];
            let chunks = &mut work.chunks[block * rows / CHUNK..][..n.div_ceil(CHUNK)];
            if density(&pre[..CHUNK.min(n) * f], &params.b_enc) > self.dense_above {
                for chunk in chunks.iter_mut() {
                    chunk.rows.clear();
                    chunk.d_act.clear();
                    chunk.sums = Sums::default();
                    (0..CHUNK).for_each(|_| chunk.rows.row_start.push(0));
                }
                let d_pre = grow(&mut work.d_pre, n * f);
                let pass = DensePass { x, centred, params, scale, l1_per_row, norms: &work.norms, first: !any_dense };
                let sums = pass.run(pre, d_pre, g, (&mut work.dense_d, &mut work.dense_act, &mut self.fires), &mut self.gradient, clock);
                dense_sums = dense_sums.plus(sums);
                any_dense = true;
            } else {
                let norms = &work.norms;
                let one_chunk = |scratch: &mut SelectScratch, (pre, x, g, chunk): (&[f32], &[f32], &mut [f32], &mut Chunk)| {
                    select_rows(&params.b_enc, None, pre, scratch, &mut chunk.rows);
                    chunk.decode_backward(params, norms, x, scale, l1_per_row, g);
                };
                clock.phase("select, decode", || {
                    (pre.par_chunks(CHUNK * f), x.par_chunks(CHUNK * d), g.par_chunks_mut(CHUNK * d), chunks.par_iter_mut())
                        .into_par_iter()
                        .for_each_init(SelectScratch::default, one_chunk)
                });
            }
        }

        let chunks = &work.chunks[..n_chunks];
        clock.phase("order by latent", || work.by_latent.fill(chunks, f));
        let g = &work.g[..batch * d];
        let mut aux = None;
        if let Recipe::TopK { auxk: true, .. } = self.recipe
            && !settings.dead.is_empty()
        {
            clock.phase("aux", || aux = Some(work.aux.run(AuxK { params, dead: settings.dead, centred, g, batch, d, f })));
        }

        // One pass over the latents: gather both weight gradients, project, and take the norm while the rows are in cache.
        let by_latent = &work.by_latent;
        let aux_work = aux.is_some().then_some(&work.aux);
        let gradient = &mut self.gradient;
        let (dense_d, dense_act, norms) = (&work.dense_d, &work.dense_act, &work.norms);
        let unit_decoder = self.recipe.unit_decoder();
        let partial: Vec<(f64, Vec<f32>)> = clock.phase("latent gradients", || {
            (gradient.w_enc.par_chunks_mut(LATENTS * d), gradient.w_dec.par_chunks_mut(LATENTS * d), gradient.b_enc.par_chunks_mut(LATENTS))
                .into_par_iter()
                .enumerate()
                .map(|(block, (d_w_enc, d_w_dec, d_b_enc))| {
                    let mut squared = 0.0;
                    let mut through_bias = vec![0.0; d];
                    for (i, d_b) in d_b_enc.iter_mut().enumerate() {
                        let j = block * LATENTS + i;
                        let (d_enc, d_dec) = (&mut d_w_enc[i * d..][..d], &mut d_w_dec[i * d..][..d]);
                        if !any_dense {
                            d_enc.fill(0.0);
                            d_dec.fill(0.0);
                        }
                        let range = by_latent.start[j]..by_latent.start[j + 1];
                        let (row, act, d_act) = (&by_latent.row[range.clone()], &by_latent.act[range.clone()], &by_latent.d_act[range]);
                        gather_axpy(row, act, g, d_dec);
                        gather_axpy(row, d_act, centred, d_enc);
                        *d_b = dense_d[j] + d_act.iter().sum::<f32>();
                        if let Some(aux) = aux_work {
                            aux.add(j, d_enc, d_dec, d_b);
                        }
                        let w_dec = &params.w_dec[j * d..][..d];
                        if l1_norms && norms[j] > 0.0 {
                            let acts = dense_act[j] + act.iter().sum::<f32>();
                            axpy(l1_per_row * acts / norms[j], w_dec, d_dec);
                        }
                        if project && unit_decoder {
                            axpy(-dot(d_dec, w_dec) / dot(w_dec, w_dec).max(f32::MIN_POSITIVE), w_dec, d_dec);
                        }
                        if *d_b != 0.0 {
                            axpy(-*d_b, &params.w_enc[j * d..][..d], &mut through_bias);
                        }
                        squared += dot(d_enc, d_enc) as f64 + dot(d_dec, d_dec) as f64 + (*d_b as f64).powi(2);
                    }
                    (squared, through_bias)
                })
                .collect()
        });
        clock.phase("bias", || {
            sum_rows(g, d, &mut gradient.b_dec);
            if self.recipe.pre_bias() {
                for (_, through_bias) in &partial {
                    axpy(1.0, through_bias, &mut gradient.b_dec);
                }
            }
        });
        for (fires, span) in self.fires.iter_mut().zip(by_latent.start.windows(2)) {
            *fires += (span[1] - span[0]) as u32;
        }

        let sums = chunks.iter().fold(dense_sums, |sums, chunk| sums.plus(chunk.sums));
        let n = batch as f64;
        let (mse, l1_mean, aux) = (sums.squared_error / n, sums.l1 / n, aux.unwrap_or(0.0));
        let loss = mse + l1 * l1_mean + aux;
        let report = StepReport { loss, mse, l1: l1_mean, l0: sums.active / n, aux, grad_norm: 0.0, variance: variance(x, d) };
        (report, partial.iter().map(|p| p.0).sum())
    }

    /// Adam with the gradient times `grad_scale`, then unit decoder rows where the recipe has them.
    fn update(&mut self, lr: f64, grad_scale: f32) {
        self.screen_is_current = false;
        self.state.steps += 1;
        let step = &AdamStep::new(lr, self.beta1, self.beta2, self.eps, self.state.steps);
        let d = self.d_in;
        let unit_decoder = self.recipe.unit_decoder();
        let State { params, first, second, .. } = &mut self.state;
        let gradient = &self.gradient;
        let n = LATENTS * d;
        (params.w_enc.par_chunks_mut(n), first.w_enc.par_chunks_mut(n), second.w_enc.par_chunks_mut(n), gradient.w_enc.par_chunks(n))
            .into_par_iter()
            .for_each(|(p, m, v, g)| adam(step, grad_scale, p, m, v, g));
        (params.w_dec.par_chunks_mut(n), first.w_dec.par_chunks_mut(n), second.w_dec.par_chunks_mut(n), gradient.w_dec.par_chunks(n))
            .into_par_iter()
            .for_each(|(p, m, v, g)| {
                adam(step, grad_scale, p, m, v, g);
                if unit_decoder {
                    p.chunks_exact_mut(d).for_each(normalise);
                }
            });
        adam(step, grad_scale, &mut params.b_enc, &mut first.b_enc, &mut second.b_enc, &gradient.b_enc);
        adam(step, grad_scale, &mut params.b_dec, &mut first.b_dec, &mut second.b_dec, &gradient.b_dec);
    }
}

impl Engine for CpuEngine {
    fn d_in(&self) -> usize {
        self.d_in
    }

    fn d_sae(&self) -> usize {
        self.d_sae
    }

    fn step(&mut self, x: &[f32], settings: &StepSettings) -> StepReport {
        let mut clock = Clock::default();
        let (mut report, squared) = self.backward(x, settings, true, &mut clock);
        let squared = squared + self.gradient.b_dec.iter().map(|&g| (g as f64).powi(2)).sum::<f64>();
        report.grad_norm = squared.sqrt();
        // PyTorch's clip_grad_norm_: the small constant keeps a zero gradient finite.
        let grad_scale = self.clip.map_or(1.0, |clip| (clip / (report.grad_norm + 1e-6)).min(1.0) as f32);
        clock.phase("adam", || self.update(settings.lr, grad_scale));
        self.phases = clock.phases;
        report
    }

    fn fires(&self) -> &[u32] {
        &self.fires
    }

    fn encode(&mut self, x: &[f32], out: &mut SparseRows) {
        let params = &self.state.params;
        if !self.screen_is_current && matches!(self.select, Select::TopK { .. }) {
            self.screen.update(&params.w_enc, &params.b_enc);
            self.screen_is_current = true;
        }
        let pre_bias = self.recipe.pre_bias().then_some(&params.b_dec[..]);
        let view = EncoderView { w_enc: &params.w_enc, b_enc: &params.b_enc, pre_bias, select: &self.select };
        encode(view, &self.screen, x, &mut self.work.encode, out);
    }

    fn decode(&mut self, rows: &SparseRows, x_hat: &mut [f32]) {
        decode(rows, &self.state.params.w_dec, &self.state.params.b_dec, x_hat);
    }

    fn read(&self) -> State {
        self.state.clone()
    }

    fn write(&mut self, state: &State) {
        for params in [&state.params, &state.first, &state.second] {
            assert_shapes(params, self.d_in, self.d_sae);
        }
        self.state.clone_from(state);
        self.screen_is_current = false;
    }

    fn replace_latents(&mut self, replacements: &[Replacement]) {
        let d = self.d_in;
        self.screen_is_current = false;
        for replacement in replacements {
            let j = replacement.latent as usize;
            let row = j * d..(j + 1) * d;
            self.state.params.w_enc[row.clone()].copy_from_slice(&replacement.w_enc);
            self.state.params.w_dec[row.clone()].copy_from_slice(&replacement.w_dec);
            self.state.params.b_enc[j] = replacement.b_enc;
            for moments in [&mut self.state.first, &mut self.state.second] {
                moments.w_enc[row.clone()].fill(0.0);
                moments.w_dec[row.clone()].fill(0.0);
                moments.b_enc[j] = 0.0;
            }
        }
    }

    fn read_b_dec(&self) -> Vec<f32> {
        self.state.params.b_dec.clone()
    }

    fn mean_encoder_norm(&self, alive: &[bool]) -> f64 {
        let rows = self.state.params.w_enc.chunks_exact(self.d_in).zip(alive);
        let norms: Vec<f64> = rows.filter(|(_, alive)| **alive).map(|(w, _)| w.iter().map(|&v| (v as f64).powi(2)).sum::<f64>().sqrt()).collect();
        norms.iter().sum::<f64>() / norms.len().max(1) as f64
    }
}

impl Chunk {
    /// x_hat, error, loss and the gradient of each active latent, row by row while the row's decoder directions are in cache.
    /// `g` (rows, D) becomes 2 e / B.
    fn decode_backward(&mut self, params: &Params, norms: &[f32], x: &[f32], scale: f32, l1_per_row: f32, g: &mut [f32]) {
        let d = params.b_dec.len();
        self.d_act.resize(self.rows.n_active(), 0.0);
        self.sums = Sums { active: self.rows.n_active() as f64, ..Sums::default() };
        for (r, (x, g)) in x.chunks_exact(d).zip(g.chunks_exact_mut(d)).enumerate() {
            let (latent, act) = self.rows.row(r);
            g.copy_from_slice(&params.b_dec);
            gather_axpy(latent, act, &params.w_dec, g);
            self.sums.squared_error += error_row(x, scale, g);
            let d_act = &mut self.d_act[self.rows.row_start[r]..self.rows.row_start[r + 1]];
            gather_dot(latent, &params.w_dec, g, d_act);
            for ((d_act, &act), &j) in d_act.iter_mut().zip(act).zip(latent) {
                *d_act += l1_per_row * norms[j as usize];
                self.sums.l1 += (act * norms[j as usize]) as f64;
            }
        }
    }
}

/// A block of rows through dense products: the first steps of a ReLU SAE, where every second latent is active.
struct DensePass<'a> {
    x: &'a [f32],
    centred: &'a [f32],
    params: &'a Params,
    scale: f32,
    l1_per_row: f32,
    norms: &'a [f32],
    /// Overwrites the gradients instead of adding to them.
    first: bool,
}

impl DensePass<'_> {
    fn run(
        &self,
        acts: &mut [f32],
        d_acts: &mut [f32],
        g: &mut [f32],
        sums: (&mut [f32], &mut [f32], &mut [u32]),
        gradient: &mut Params,
        clock: &mut Clock,
    ) -> Sums {
        let Params { w_dec, b_enc, b_dec, .. } = self.params;
        let (d, f) = (b_dec.len(), b_enc.len());
        let n = self.x.len() / d;
        let norms = self.norms;
        let l1: Vec<f64> = clock.phase("dense activations", || {
            let weighted = |acts: &[f32]| acts.chunks(1024).zip(norms.chunks(1024)).map(|(a, n)| dot(a, n) as f64).sum::<f64>();
            acts.par_chunks_mut(CHUNK * f)
                .map(|acts| {
                    acts.chunks_exact_mut(f)
                        .map(|acts| {
                            relu_row(b_enc, acts);
                            weighted(acts)
                        })
                        .sum()
                })
                .collect()
        });
        let errors: Vec<f64> = clock.phase("dense decode", || {
            g.chunks_exact_mut(d).for_each(|g| g.copy_from_slice(b_dec));
            matmul_nn(n, d, f, acts, w_dec, g, true);
            (g.par_chunks_mut(CHUNK * d), self.x.par_chunks(CHUNK * d))
                .into_par_iter()
                .map(|(g, x)| g.chunks_exact_mut(d).zip(x.chunks_exact(d)).map(|(g, x)| error_row(x, self.scale, g)).sum())
                .collect()
        });
        let (sum_d, sum_act, fires) = sums;
        let before: u64 = fires.iter().map(|&n| n as u64).sum();
        clock.phase("dense backward", || {
            matmul_nt(n, f, d, g, w_dec, d_acts, false);
            let parts: Vec<(Vec<f32>, Vec<f32>, Vec<u32>)> = (d_acts.par_chunks_mut(CHUNK * f), acts.par_chunks(CHUNK * f))
                .into_par_iter()
                .map(|(d_acts, acts)| {
                    let (mut sum_d, mut sum_act, mut fires) = (vec![0.0; f], vec![0.0; f], vec![0; f]);
                    for (d_acts, acts) in d_acts.chunks_exact_mut(f).zip(acts.chunks_exact(f)) {
                        relu_backward_row(acts, self.l1_per_row, norms, d_acts, &mut sum_d, &mut sum_act, &mut fires);
                    }
                    (sum_d, sum_act, fires)
                })
                .collect();
            for (part_d, part_act, part_fires) in &parts {
                axpy(1.0, part_d, sum_d);
                axpy(1.0, part_act, sum_act);
                fires.iter_mut().zip(part_fires).for_each(|(n, m)| *n += m);
            }
        });
        clock.phase("dense gradients", || {
            matmul_tn(f, d, n, acts, g, &mut gradient.w_dec, !self.first);
            matmul_tn(f, d, n, d_acts, self.centred, &mut gradient.w_enc, !self.first);
        });
        let active = fires.iter().map(|&n| n as u64).sum::<u64>() - before;
        Sums { squared_error: errors.iter().sum(), l1: l1.iter().sum(), active: active as f64 }
    }
}

impl Sums {
    fn plus(self, other: Sums) -> Sums {
        Sums { squared_error: self.squared_error + other.squared_error, l1: self.l1 + other.l1, active: self.active + other.active }
    }
}

impl ByLatent {
    /// Counting sort of all entries by latent; rows stay in order.
    fn fill(&mut self, chunks: &[Chunk], f: usize) {
        let n: usize = chunks.iter().map(|c| c.rows.n_active()).sum();
        self.start.clear();
        self.start.resize(f + 1, 0);
        for &j in chunks.iter().flat_map(|c| &c.rows.latent) {
            self.start[j as usize + 1] += 1;
        }
        for j in 0..f {
            self.start[j + 1] += self.start[j];
        }
        self.row.resize(n, 0);
        self.act.resize(n, 0.0);
        self.d_act.resize(n, 0.0);
        // start[j] moves to the end of latent j while it is filled, and is shifted back afterwards.
        for (c, chunk) in chunks.iter().enumerate() {
            for r in 0..chunk.rows.n_rows() {
                for p in chunk.rows.row_start[r]..chunk.rows.row_start[r + 1] {
                    let at = &mut self.start[chunk.rows.latent[p] as usize];
                    self.row[*at] = (c * CHUNK + r) as u32;
                    self.act[*at] = chunk.rows.act[p];
                    self.d_act[*at] = chunk.d_act[p];
                    *at += 1;
                }
            }
        }
        self.start.copy_within(0..f, 1);
        self.start[0] = 0;
    }
}

/// Seconds per phase, in the order of first use.
#[derive(Default)]
struct Clock {
    phases: Vec<(&'static str, f64)>,
}

impl Clock {
    fn phase<R>(&mut self, name: &'static str, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        match self.phases.iter_mut().find(|p| p.0 == name) {
            Some(phase) => phase.1 += seconds,
            None => self.phases.push((name, seconds)),
        }
        result
    }
}

/// Scales a row to unit norm; a zero row stays.
pub(super) fn normalise(row: &mut [f32]) {
    let norm = dot(row, row).sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|v| *v /= norm);
    }
}

fn density(pre: &[f32], bias: &[f32]) -> f64 {
    let active: usize = pre.chunks_exact(bias.len()).map(|pre| count_above_zero(pre, bias)).sum();
    active as f64 / pre.len().max(1) as f64
}

/// out (D,) = sum of the rows of x (B, D), by fixed blocks.
fn sum_rows(x: &[f32], d: usize, out: &mut [f32]) {
    let block_sum = |rows: &[f32]| {
        let mut sum = vec![0.0; d];
        rows.chunks_exact(d).for_each(|row| axpy(1.0, row, &mut sum));
        sum
    };
    let parts: Vec<Vec<f32>> = x.par_chunks(CHUNK * d).map(block_sum).collect();
    out.fill(0.0);
    parts.iter().for_each(|part| axpy(1.0, part, out));
}

/// Mean squared distance of the rows from their mean.
fn variance(x: &[f32], d: usize) -> f64 {
    let n = (x.len() / d) as f64;
    let mut sum = vec![0.0; d];
    sum_rows(x, d, &mut sum);
    let squares: Vec<f64> = x.par_chunks(CHUNK * d).map(|rows| rows.chunks_exact(d).map(|row| dot(row, row) as f64).sum()).collect();
    squares.iter().sum::<f64>() / n - sum.iter().map(|&s| (s as f64 / n).powi(2)).sum::<f64>()
}

fn squared_norm(params: &Params) -> f64 {
    [&params.w_enc, &params.b_enc, &params.w_dec, &params.b_dec].into_iter().flatten().map(|&g| (g as f64).powi(2)).sum()
}

fn assert_shapes(params: &Params, d: usize, f: usize) {
    let Params { w_enc, b_enc, w_dec, b_dec } = params;
    assert!(
        w_enc.len() == f * d && b_enc.len() == f && w_dec.len() == f * d && b_dec.len() == d,
        "weights of {} by {} latents: got {}, {}, {} and {} elements",
        d,
        f,
        w_enc.len(),
        b_enc.len(),
        w_dec.len(),
        b_dec.len()
    );
}

#[cfg(test)]
#[path = "cpu_tests.rs"]
mod tests;
