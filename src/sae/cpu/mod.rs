//! The training step on the CPU: a screened encoder, exact sparse gradients after it, a dense path while activations are dense.
//!
//! B = rows in the batch, D = d_in, E = d_out (= D but for transcoders), F = d_sae, K = latents kept per row, L = nested reconstructions (1 for most). All matrices are row-major, weights
//! have one latent per row. The equations are those of [`super::architectures`]; `step` has the way from rows to gradients, `latents` the gradients of
//! one latent after the other, `dense` the steps in which much is active, `batch_topk` the selection over a whole batch, `nested` the
//! reconstructions of Matryoshka and Multi-TopK, `auxk` the dead latents.
//!
//! d_b_dec = sum of g - sum over latents of (sum of d_z[j]) w_enc[j] (where b_dec is subtracted from the input). The last term is all of the gradient
//! through the pre-encoder bias: a product with a vector where autograd runs another full product.

mod auxk;
mod batch_topk;
#[cfg(test)]
pub(crate) mod check;
mod dense;
mod latents;
mod nested;
mod pursuit;
mod step;

use super::architectures::{Architecture, Trained};
use super::encode::{EncoderView, decode, encode};
use super::init::first_directions;
use super::{Decoder, Engine, Params, Recipe, Replacement, SaeConfig, Select, SparseRows, State, StepReport, StepSettings, TrainConfig};
use crate::kernels::gemm::matmul_nt;
use crate::kernels::screen::{Screen, ScreenCount};
use crate::kernels::skip;
use crate::kernels::sparse::{AdamStep, adam, axpy, dot};
use dense::is_plain;
use rayon::prelude::*;
use std::borrow::Cow;
use std::time::Instant;
use step::Work;

/// Share of active latents above which a batch goes through dense products: where both take equally long (`cargo bench --bench sae_step -- relu --switch`; LOG.md has it by
/// machine and shape).
const DENSE_ABOVE: f64 = 0.08;

/// The same for plain ReLU with L1 where the products of such a batch leave out what is not active (`skip`).
const DENSE_ABOVE_SKIPPING: f64 = 0.04;

/// Latents that one thread updates at a time.
const LATENTS: usize = 32;

/// Trains one SAE on the CPU; bitwise repeatable at any number of threads.
pub struct CpuEngine {
    /// With the recipe as its schedule has it.
    config: SaeConfig,
    seed: u64,
    clip: Option<f64>,
    beta1: f64,
    beta2: f64,
    eps: f64,
    decoder: Decoder,
    /// (F, E): what a decoder that is held began with; else empty.
    first_directions: Vec<f32>,
    state: State,
    /// Gradient of the last step; decoder rows projected where the recipe projects.
    gradient: Params,
    fires: Vec<u32>,
    /// [`DENSE_ABOVE`] or [`DENSE_ABOVE_SKIPPING`]; tests force either path with it.
    dense_above: f64,
    /// Share of active latents below which dense products leave out the others; tests force either with it.
    skip_below: f64,
    encoder: PreparedEncoder,
    screened: ScreenCount,
    work: Work,
    /// Seconds spent in each phase of the last step.
    phases: Vec<(&'static str, f64)>,
}

/// The encoder as a step reads it, made from the weights when they have changed.
#[derive(Default)]
struct PreparedEncoder {
    is_current: bool,
    screen: PreparedScreen,
    /// (F, D) where the architecture ties the encoder; else empty.
    rows: Vec<f32>,
}

/// The screen of an encoder, packed when it is first asked for after the weights have changed: a step that is dense has no use for one.
#[derive(Default)]
struct PreparedScreen {
    is_current: bool,
    screen: Screen,
}

impl PreparedScreen {
    /// Of these weights, w_enc (F, D) and b_enc (F,), for rows like x (n, D), if some are at hand.
    fn of(&mut self, w_enc: &[f32], b_enc: &[f32], x: &[f32]) -> &Screen {
        if !self.is_current {
            self.screen.update(w_enc, b_enc, x);
            self.is_current = true;
        }
        &self.screen
    }
}

impl PreparedEncoder {
    fn update(&mut self, recipe: &dyn Architecture, params: &Params) {
        if self.is_current {
            return;
        }
        if recipe.ties_encoder() {
            let d = params.b_dec.len();
            self.rows.resize(params.w_enc.len(), 0.0);
            (self.rows.par_chunks_mut(d), params.w_enc.par_chunks(d), params.w_dec.par_chunks(d))
                .into_par_iter()
                .for_each(|(out, v, d)| recipe.encoder_row(v, d, out));
        }
        self.screen.is_current = false;
        self.is_current = true;
    }

    /// The weights that are read with and their screen.
    fn parts<'a>(&'a mut self, params: &'a Params) -> (&'a [f32], &'a mut PreparedScreen) {
        (if self.rows.is_empty() { &params.w_enc } else { &self.rows }, &mut self.screen)
    }
}

impl CpuEngine {
    /// An engine with these weights and no Adam history.
    pub fn new(config: &TrainConfig, params: Params) -> Self {
        let (d_in, d_out, d_sae) = (config.sae.d_in, config.sae.d_out(), config.sae.d_sae);
        let zeros = || Params {
            w_enc: vec![0.0; d_sae * d_in],
            b_enc: vec![0.0; d_sae],
            w_dec: vec![0.0; d_sae * d_out],
            b_dec: vec![0.0; d_out],
            w_skip: vec![0.0; if config.sae.skip() { d_out * d_in } else { 0 }],
            vectors: vec![vec![0.0; d_sae]; params.vectors.len()],
        };
        assert_shapes(&params, &config.sae);
        let skips = skip::pays_below() > 0.0;
        CpuEngine {
            config: config.sae.clone(),
            seed: config.seed,
            clip: config.clip,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            decoder: config.decoder,
            first_directions: if config.decoder == Decoder::Free { Vec::new() } else { first_directions(&config.sae, config.seed) },
            gradient: zeros(),
            state: State { first: zeros(), second: zeros(), params, steps: 0, kept: 0.0, kept_first: 0.0, kept_since: 0 },
            fires: vec![0; d_sae],
            dense_above: if skips && is_plain(&*config.sae.recipe) { DENSE_ABOVE_SKIPPING } else { DENSE_ABOVE },
            skip_below: skip::pays_below(),
            encoder: PreparedEncoder::default(),
            screened: ScreenCount::default(),
            work: Work::default(),
            phases: Vec::new(),
        }
    }

    /// An engine that takes the dense path above this share of active latents and not above what was measured, for tests and benchmarks.
    pub fn forced(config: &TrainConfig, params: Params, dense_above: f64) -> Self {
        CpuEngine { dense_above, ..Self::new(config, params) }
    }

    /// Seconds spent in each phase of the last step.
    pub fn phases(&self) -> &[(&'static str, f64)] {
        &self.phases
    }

    /// What the screen did with the rows of the last step; nothing where the recipe or the CPU has none.
    pub fn screened(&self) -> ScreenCount {
        self.screened
    }

    /// Loss and gradient on rows (B, D) or (B, D + E), before projection, clipping and update.
    pub fn gradients(&mut self, x: &[f32], settings: &StepSettings) -> (StepReport, &Params) {
        let mut clock = Clock::default();
        let (mut report, _) = self.backward(x, settings, false, &mut clock);
        report.grad_norm = squared_norm(&self.gradient).sqrt();
        (report, &self.gradient)
    }

    /// Adam with the gradient times `grad_scale`, then unit decoder rows where the recipe has them.
    fn update(&mut self, lr: f64, grad_scale: f32) {
        self.encoder.is_current = false;
        self.state.steps += 1;
        let step = &AdamStep::new(lr, self.beta1, self.beta2, self.eps, self.state.steps);
        let (d, d_out) = (self.config.d_in, self.config.d_out());
        let unit_decoder = self.config.recipe.unit_decoder();
        let State { params, first, second, .. } = &mut self.state;
        let gradient = &self.gradient;
        let n = LATENTS * d;
        (params.w_enc.par_chunks_mut(n), first.w_enc.par_chunks_mut(n), second.w_enc.par_chunks_mut(n), gradient.w_enc.par_chunks(n))
            .into_par_iter()
            .for_each(|(p, m, v, g)| adam(step, grad_scale, p, m, v, g));
        let held = &self.first_directions;
        let n = LATENTS * d_out;
        if self.decoder != Decoder::Frozen {
            (params.w_dec.par_chunks_mut(n), first.w_dec.par_chunks_mut(n), second.w_dec.par_chunks_mut(n), gradient.w_dec.par_chunks(n))
                .into_par_iter()
                .enumerate()
                .for_each(|(block, (p, m, v, g))| {
                    adam(step, grad_scale, p, m, v, g);
                    if unit_decoder {
                        p.chunks_exact_mut(d_out).for_each(normalise);
                    }
                    if !held.is_empty() {
                        p.chunks_exact_mut(d_out).zip(held[block * n..].chunks_exact(d_out)).for_each(|(row, first)| hold(row, first));
                    }
                });
        }
        adam(step, grad_scale, &mut params.b_enc, &mut first.b_enc, &mut second.b_enc, &gradient.b_enc);
        adam(step, grad_scale, &mut params.b_dec, &mut first.b_dec, &mut second.b_dec, &gradient.b_dec);
        adam(step, grad_scale, &mut params.w_skip, &mut first.w_skip, &mut second.w_skip, &gradient.w_skip);
        for (((p, m), v), g) in params.vectors.iter_mut().zip(&mut first.vectors).zip(&mut second.vectors).zip(&gradient.vectors) {
            adam(step, grad_scale, p, m, v, g);
        }
    }
}

impl Engine for CpuEngine {
    fn d_in(&self) -> usize {
        self.config.d_in
    }

    fn d_sae(&self) -> usize {
        self.config.d_sae
    }

    fn set_recipe(&mut self, recipe: &Recipe) {
        if self.config.recipe.selection() != recipe.selection() {
            self.state.kept_since = self.state.steps;
        }
        self.config.recipe.clone_from(recipe);
    }

    fn step(&mut self, rows: &[f32], settings: &StepSettings) -> StepReport {
        let mut clock = Clock::default();
        let (mut report, squared) = self.backward(rows, settings, true, &mut clock);
        let squared = squared + self.gradient.b_dec.iter().chain(&self.gradient.w_skip).map(|&g| (g as f64).powi(2)).sum::<f64>();
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
        self.encoder.update(&*self.config.recipe, params);
        let select = self.config.recipe.select(&Trained {
            b_enc: &params.b_enc,
            vectors: &params.vectors,
            kept: self.state.kept,
            kept_first: self.state.kept_first,
            factors: &[],
        });
        let pre_bias = self.config.pre_bias().then_some(&params.b_dec[..]);
        let (w_enc, screen) = self.encoder.parts(params);
        let screen = (!matches!(select, Select::Pursuit { .. })).then(|| screen.of(w_enc, &params.b_enc, &[]));
        let view = EncoderView { w_enc, b_enc: &params.b_enc, w_dec: &params.w_dec, pre_bias, select: &select };
        encode(view, screen, x, &mut self.work.encode, out);
    }

    fn decode(&mut self, x: &[f32], rows: &SparseRows, x_hat: &mut [f32]) {
        let Params { w_dec, b_dec, w_skip, .. } = &self.state.params;
        decode(rows, w_dec, b_dec, x_hat);
        if !w_skip.is_empty() {
            matmul_nt(rows.n_rows(), b_dec.len(), self.config.d_in, x, w_skip, x_hat, true);
        }
    }

    fn read(&self) -> Cow<'_, State> {
        Cow::Borrowed(&self.state)
    }

    fn write(&mut self, state: State) {
        for params in [&state.params, &state.first, &state.second] {
            assert_shapes(params, &self.config);
        }
        self.state = state;
        self.encoder.is_current = false;
    }

    fn replace_latents(&mut self, replacements: &[Replacement]) {
        let (d, d_out) = (self.config.d_in, self.config.d_out());
        self.encoder.is_current = false;
        let fresh = self.config.recipe.vectors();
        for replacement in replacements {
            let j = replacement.latent as usize;
            let (enc_row, dec_row) = (j * d..(j + 1) * d, j * d_out..(j + 1) * d_out);
            let State { params, first, second, .. } = &mut self.state;
            params.w_enc[enc_row.clone()].copy_from_slice(&replacement.w_enc);
            params.w_dec[dec_row.clone()].copy_from_slice(&replacement.w_dec);
            params.b_enc[j] = replacement.b_enc;
            params.vectors.iter_mut().zip(&fresh).for_each(|(vector, (_, value))| vector[j] = *value);
            for moments in [first, second] {
                moments.w_enc[enc_row.clone()].fill(0.0);
                moments.w_dec[dec_row.clone()].fill(0.0);
                moments.b_enc[j] = 0.0;
                moments.vectors.iter_mut().for_each(|vector| vector[j] = 0.0);
            }
        }
    }

    fn permute_latents(&mut self, order: &[u32]) {
        let (d, d_out) = (self.config.d_in, self.config.d_out());
        self.encoder.is_current = false;
        let State { params, first, second, .. } = &mut self.state;
        for Params { w_enc, b_enc, w_dec, vectors, .. } in [params, first, second] {
            for (rows, d) in [(w_enc, d), (w_dec, d_out)] {
                *rows = order.iter().flat_map(|&j| &rows[j as usize * d..][..d]).copied().collect();
            }
            for vector in std::iter::once(b_enc).chain(vectors) {
                *vector = order.iter().map(|&j| vector[j as usize]).collect();
            }
        }
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

/// Turns a row back towards the unit vector `first` until their cosine is [`Decoder::LEAST_COSINE`]; its norm stays.
fn hold(row: &mut [f32], first: &[f32]) {
    let (norm, along) = (dot(row, row).sqrt(), dot(row, first));
    let least = Decoder::LEAST_COSINE;
    if norm == 0.0 || along >= least * norm {
        return;
    }
    axpy(-along, first, row);
    let across = dot(row, row).sqrt();
    let scale = if across > 0.0 { norm * (1.0 - least * least).sqrt() / across } else { 0.0 };
    row.iter_mut().zip(first).for_each(|(v, f)| *v = *v * scale + norm * least * f);
}

/// Scales a row to unit norm; a zero row stays.
pub(super) fn normalise(row: &mut [f32]) {
    let norm = dot(row, row).sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|v| *v /= norm);
    }
}

fn squared_norm(params: &Params) -> f64 {
    let Params { w_enc, b_enc, w_dec, b_dec, w_skip, vectors } = params;
    [w_enc, b_enc, w_dec, b_dec, w_skip].into_iter().chain(vectors).flatten().map(|&g| (g as f64).powi(2)).sum()
}

fn assert_shapes(params: &Params, config: &SaeConfig) {
    let (d, e, f) = (config.d_in, config.d_out(), config.d_sae);
    let Params { w_enc, b_enc, w_dec, b_dec, w_skip, vectors } = params;
    let got = [w_enc, b_enc, w_dec, b_dec, w_skip].map(Vec::len);
    let want = [f * d, f, f * e, e, if config.skip() { e * d } else { 0 }];
    assert_eq!(got, want, "elements of the weights of {f} latents from {d} to {e}");
    let n_vectors = config.recipe.vectors().len();
    assert!(
        vectors.len() == n_vectors && vectors.iter().all(|v| v.len() == f),
        "{n_vectors} vectors of {f} elements: got {:?}",
        vectors.iter().map(Vec::len).collect::<Vec<_>>()
    );
}

#[cfg(test)]
mod tests;
