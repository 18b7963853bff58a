//! One batch from rows to gradients: select, decode, error, back to the pre-activations, then latent by latent (`latents`).

use super::auxk::{AuxK, AuxWork};
use super::dense::{DensePass, DenseSums};
use super::latents::{ByLatent, FirstSelection, LatentPass};
use super::nested::{LevelScratch, nested, own_gradient};
use super::{Clock, CpuEngine, PreparedScreen, batch_topk, pursuit};
use crate::kernels::gemm::{matmul_nt, matmul_tn};
use crate::kernels::screen::{Keep, MOST_ABOVE, ScreenCount, Wanted};
use crate::kernels::sparse::{axpy, dot, error_row, gather_axpy, gather_dot, squared_distance};
use crate::sae::architectures::{Architecture, Entries, Levels, Selection};
use crate::sae::encode::{self, CHUNK, EncodeScratch, Pool, block_rows, encode_wanted, grow, subtract};
use crate::sae::metrics::NO_VARIANCE;
use crate::sae::transcoder::split;
use crate::sae::{Decoder, Params, SparseRows, StepReport, StepSettings};
use rayon::prelude::*;

/// Latents that are looked at to tell how much is active.
const DENSITY_LATENTS: usize = 1024;

/// Buffers kept between steps.
#[derive(Default)]
pub(super) struct Work {
    /// (B, D) and (B, E): what a transcoder reads and reconstructs.
    x: Vec<f32>,
    target: Vec<f32>,
    /// (B, E): what a skip transcoder reconstructs without latents; then the gradient of it.
    base: Vec<f32>,
    /// (B, D)
    centred: Vec<f32>,
    /// (n, F) of the rows of a block, like the two below it: pre-activations, their gradients, and what they were before they were shaped.
    pre: Vec<f32>,
    d_pre: Vec<f32>,
    z: Vec<f32>,
    /// (B, L, E): x_hat, then the gradient of each reconstruction.
    g: Vec<f32>,
    /// (B, E): that of the SAE's own, where L > 1 and dead latents ask for it.
    last_g: Vec<f32>,
    chunks: Vec<Chunk>,
    by_latent: ByLatent,
    /// (F,): n_j of the penalty.
    norms: Vec<f32>,
    dense: DenseSums,
    aux: AuxWork,
    pub encode: EncodeScratch,
    screens: Pool,
    /// Where the last batch's selections ended, before and after a refining step: guesses for the next ones.
    batch_floors: [f32; 2],
    /// (B, D): rows after a refining step, and the gradient of them.
    refined: Vec<f32>,
    d_refined: Vec<f32>,
    /// The selection before it.
    first_chunks: Vec<Chunk>,
    first_by_latent: ByLatent,
}

/// The sparse activations of [`CHUNK`] rows with their gradients. Buffers beside `rows` have an element to an active latent, or none where they are not needed.
#[derive(Default)]
pub(super) struct Chunk {
    pub rows: SparseRows,
    z: Vec<f32>,
    pub d_pre: Vec<f32>,
    /// Slope of the penalty times act, where decoder norms are free.
    pub pull: Vec<f32>,
    pub d_vectors: Vec<Vec<f32>>,
    /// Which nested reconstruction an entry is the first to be part of, where there are several.
    pub level: Vec<u8>,
    pub sums: Sums,
    scratch: LevelScratch,
    slopes: Vec<f32>,
}

/// Sums over rows, in f64.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
    pub squared_error: f64,
    /// Weighted squared errors of nested reconstructions, beyond the squared error of the SAE's own.
    pub nested: f64,
    pub penalty: f64,
    pub other: f64,
    pub active: f64,
}

impl Sums {
    pub fn plus(self, other: Sums) -> Sums {
        Sums {
            squared_error: self.squared_error + other.squared_error,
            nested: self.nested + other.nested,
            penalty: self.penalty + other.penalty,
            other: self.other + other.other,
            active: self.active + other.active,
        }
    }
}

/// What every row of a step reads.
#[derive(Clone, Copy)]
pub(super) struct StepContext<'a> {
    pub recipe: &'a dyn Architecture,
    pub params: &'a Params,
    /// (F, D): the encoder that is read with.
    pub w_enc: &'a [f32],
    pub norms: &'a [f32],
    pub levels: Option<&'a Levels>,
    /// 2 / B
    pub scale: f32,
    /// Coefficient of the penalty divided by B; 0: none.
    pub sparsity: f32,
}

impl StepContext<'_> {
    pub fn n_levels(&self) -> usize {
        self.levels.map_or(1, |levels| levels.ends.len())
    }

    /// Whether the penalty pulls at decoder norms.
    pub fn pulls(&self) -> bool {
        self.sparsity != 0.0 && !self.recipe.unit_decoder()
    }
}

impl CpuEngine {
    /// Fills `self.gradient`; returns its squared norm over everything that is trained but b_dec and w_skip.
    pub(super) fn backward(&mut self, rows: &[f32], settings: &StepSettings, project: bool, clock: &mut Clock) -> (StepReport, f64) {
        let CpuEngine { config, seed, decoder, dense_above, skip_below, screened, state, encoder, work, gradient, fires, .. } = self;
        let (d, e, f) = (config.d_in, config.d_out(), config.d_sae);
        let width = config.d_row();
        assert!(!rows.is_empty() && rows.len().is_multiple_of(width), "{} elements are not rows of width {width}", rows.len());
        let batch = rows.len() / width;
        let recipe: &dyn Architecture = &*config.recipe;
        let pre_bias = config.pre_bias();
        let params = &state.params;
        clock.phase("prepare encoder", || encoder.update(recipe, params));
        let Work { x, target, base, centred, pre, d_pre, z, g, last_g, chunks, by_latent, norms, dense, aux, screens, .. } = work;
        let Work { batch_floors, refined, d_refined, first_chunks, first_by_latent, .. } = work;
        norms.resize(f, 1.0);
        if !recipe.unit_decoder() {
            norms.par_iter_mut().zip(params.w_dec.par_chunks_exact(e)).for_each(|(norm, w)| *norm = dot(w, w).sqrt());
        }
        let levels = recipe.levels(f, state.steps, *seed);
        let (x, target) = match config.target {
            None => (rows, rows),
            Some(_) => {
                split(rows, d, x, target, e);
                (&x[..], &target[..])
            }
        };
        let coefficient = recipe.sparsity(e).map_or(0.0, |_| settings.sparsity);
        let (w_enc, screen) = encoder.parts(params);
        *screened = ScreenCount::default();
        let context = StepContext {
            recipe,
            params,
            w_enc,
            norms,
            levels: levels.as_ref(),
            scale: 2.0 / batch as f32,
            sparsity: (coefficient / batch as f64) as f32,
        };
        let n_levels = context.n_levels();
        fires.fill(0);
        let centred: &[f32] = if pre_bias { subtract(x, &params.b_dec, centred) } else { x };
        if let Selection::Pursuit { k, least } = recipe.selection() {
            let done = clock
                .phase("pursue", || pursuit::backward(params, (k, least), centred, pre, (project, *decoder != Decoder::Frozen), gradient, fires));
            let (mse, l0) = (done.squared_error / batch as f64, done.active as f64 / batch as f64);
            let report = StepReport { loss: mse, mse, l0, variance: variance(target, e), ..StepReport::default() };
            return (report, done.squared_norm);
        }
        let g = grow(g, batch * n_levels * e);
        if config.skip() {
            clock.phase("skip", || begin_with_skip(params, x, grow(base, batch * e), g, n_levels));
        }
        let n_chunks = batch.div_ceil(CHUNK);
        if chunks.len() < n_chunks {
            chunks.resize_with(n_chunks, Chunk::default);
        }
        let chunks = &mut chunks[..n_chunks];
        let mut dense_sums = None;
        let (mut first_kept, mut least_kept) = (None, None);
        let unrefined = centred;
        let mut centred = centred;

        match recipe.selection() {
            Selection::TopK { k } => {
                let screen = clock.phase("prepare encoder", || screen.of(w_enc, &params.b_enc, centred));
                let wanted = Wanted { w: w_enc, bias: &params.b_enc, keep: Keep::Largest(k) };
                let mut parts: Vec<&mut SparseRows> = chunks.iter_mut().map(|chunk| &mut chunk.rows).collect();
                *screened = clock.phase("encode", || encode_wanted(wanted, screen, true, centred, pre, screens, &mut parts));
            }
            Selection::BatchTopK { k } => {
                let wanted = (k * batch as f64).round().max(1.0) as usize;
                let [first_floor, floor] = batch_floors;
                let screen = clock.phase("prepare encoder", || screen.of(w_enc, &params.b_enc, centred));
                let encoder = &mut batch_topk::Encoder { w_enc, b_enc: &params.b_enc, screen, pre, pool: screens, count: screened };
                if let Some(step) = recipe.refine() {
                    clock.phase("refine", || {
                        first_chunks.resize_with(n_chunks, Chunk::default);
                        first_kept = batch_topk::select(encoder, wanted, centred, first_floor, first_chunks);
                        let mut rows = SparseRows::default();
                        first_chunks.iter().for_each(|chunk| rows.append(&chunk.rows));
                        *refined = encode::refined(step, centred, &rows, &params.w_dec);
                    });
                    centred = refined;
                }
                least_kept = clock.phase("encode", || batch_topk::select(encoder, wanted, centred, floor, chunks));
            }
            Selection::Pursuit { .. } => unreachable!("it has a step of its own"),
            Selection::Positive | Selection::Above { .. } => {
                let buffers = Buffers { pre, d_pre, z, g, pool: screens };
                dense_sums =
                    elementwise(context, (target, centred), (*dense_above, *skip_below), (screen, screened), buffers, chunks, gradient, dense, clock);
            }
        }
        if matches!(recipe.selection(), Selection::TopK { .. } | Selection::BatchTopK { .. }) {
            clock.phase("decode", || {
                (&mut *chunks, target.par_chunks(CHUNK * e), g.par_chunks_mut(CHUNK * n_levels * e))
                    .into_par_iter()
                    .for_each(|(chunk, target, g)| chunk.decode_backward(context, target, g))
            });
        }

        clock.phase("order by latent", || by_latent.fill(chunks, f, n_levels, params.vectors.len()));
        let mut aux_loss = None;
        if recipe.auxk() && !settings.dead.is_empty() {
            clock.phase("aux", || {
                aux.begin(params, w_enc, settings.dead);
                let all = 0..settings.dead.len();
                let Some(levels) = &levels else {
                    aux_loss = Some(aux.run(AuxK { part: all, centred, g, weight: 1.0, batch }));
                    return;
                };
                let ends = |l: usize| settings.dead.partition_point(|&j| (j as usize) < levels.ends[l]);
                let of_level = |l: usize| (l, if l == 0 { 0 } else { ends(l - 1) }..ends(l));
                let parts: Vec<_> = if recipe.auxk_by_level() { (0..n_levels).map(of_level).collect() } else { vec![(levels.main(), all)] };
                let mut loss = 0.0;
                for (level, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
                    let own = own_gradient(levels, level, g, e, grow(last_g, batch * e));
                    loss += aux.run(AuxK { part, centred, g: own, weight: levels.weights[level], batch });
                }
                aux_loss = Some(loss);
            });
        }
        let first = recipe.refine().map(|step| {
            clock.phase("refine, back", || {
                let d_u = grow(d_refined, batch * d);
                let back = |(chunk, first, d_u): (&Chunk, &mut Chunk, &mut [f32])| first.back_from(chunk, step, (w_enc, &params.w_dec), d_u);
                (&*chunks, &mut *first_chunks, d_u.par_chunks_mut(CHUNK * d)).into_par_iter().for_each(back);
                first_by_latent.fill(first_chunks, f, 1, 0);
            });
            FirstSelection { by_latent: first_by_latent, centred: unrefined, d_u: d_refined, step }
        });
        let (squared, through_bias, latents_loss) = clock.phase("latent gradients", || {
            let mut sum_centred = vec![0.0; if recipe.shapes_activations() { d } else { 0 }];
            if recipe.shapes_activations() {
                sum_rows(centred, d, d, &mut sum_centred);
            }
            let pass = LatentPass {
                recipe,
                params,
                w_enc,
                by_latent,
                g,
                centred,
                sum_centred: &sum_centred,
                norms,
                dense: dense_sums.is_some().then_some(&*dense),
                aux: aux_loss.is_some().then_some(&*aux),
                first: first.as_ref(),
                project,
                decoder_moves: *decoder != Decoder::Frozen,
            };
            pass.run(gradient)
        });
        clock.phase("bias", || {
            // What b_dec adds is part of the first level, which has gathered the gradients of all that hold it.
            sum_rows(g, e, n_levels * e, &mut gradient.b_dec);
            if pre_bias {
                // A refined row has b_dec in it once more, as a part of what was left.
                axpy(1.0 + recipe.refine().unwrap_or(0.0), &through_bias, &mut gradient.b_dec);
            }
        });
        if config.skip() {
            clock.phase("skip", || {
                let g_base = gradient_of_base(g, n_levels, e, grow(base, batch * e));
                matmul_tn(e, d, batch, g_base, x, &mut gradient.w_skip, false);
            });
        }
        by_latent.count_fires(fires, n_levels, levels.as_ref().map_or(0, Levels::main));
        if dense_sums.is_some() {
            fires.iter_mut().zip(&dense.fires).for_each(|(n, m)| *n += m);
        }

        let since = state.steps - state.kept_since;
        if let Some(first) = first_kept {
            state.kept_first = batch_topk::running_mean(state.kept_first, first, since);
        }
        if let Some(least) = least_kept {
            state.kept = batch_topk::running_mean(state.kept, least, since);
        }
        let sums = chunks.iter().fold(dense_sums.unwrap_or_default(), |sums, chunk| sums.plus(chunk.sums));
        let n = batch as f64;
        let (mse, penalty, aux) = (sums.squared_error / n, sums.penalty / n, aux_loss.unwrap_or(0.0));
        let other = (sums.nested + sums.other + latents_loss) / n;
        let loss = mse + coefficient * penalty + other + aux;
        (StepReport { loss, mse, penalty, l0: sums.active / n, aux, other, grad_norm: 0.0, variance: variance(target, e) }, squared)
    }
}

/// What [`elementwise`] works in: pre-activations, their gradient and z of a block (n, F) each, g (B, E), and buffers of the screen.
struct Buffers<'a> {
    pre: &'a mut Vec<f32>,
    d_pre: &'a mut Vec<f32>,
    z: &'a mut Vec<f32>,
    g: &'a mut [f32],
    pool: &'a Pool,
}

/// Rows whose latents are selected one by one: through whole matrices, block after block, where much is active, else sparse. Returns the sums of the former.
#[allow(clippy::too_many_arguments)]
fn elementwise(
    context: StepContext,
    (target, centred): (&[f32], &[f32]),
    (dense_above, skip_below): (f64, f64),
    (screen, screened): (&mut PreparedScreen, &mut ScreenCount),
    Buffers { pre, d_pre, z, g, pool }: Buffers,
    chunks: &mut [Chunk],
    gradient: &mut Params,
    dense: &mut DenseSums,
    clock: &mut Clock,
) -> Option<Sums> {
    let params = context.params;
    let (e, f) = (params.b_dec.len(), params.b_enc.len());
    let d = params.w_enc.len() / f;
    let rows = block_rows(f);
    let threshold: Option<Vec<f32>> = match context.recipe.selection() {
        Selection::Above { margin } => Some(params.vectors[0].iter().map(|t| t - margin).collect()),
        _ => None,
    };
    let keep = Keep::Above { floor: 0.0, threshold: threshold.as_deref() };
    let share = clock.phase("density", || density(context, centred, threshold.as_deref()));
    if share <= dense_above {
        let screen = clock.phase("prepare encoder", || screen.of(context.w_enc, &params.b_enc, centred));
        let wanted = Wanted { w: context.w_enc, bias: &params.b_enc, keep };
        // Rows differ, and more latents are near their limit than above it.
        let try_screen = 2.0 * share * (f as f64) < MOST_ABOVE as f64;
        let mut parts: Vec<&mut SparseRows> = chunks.iter_mut().map(|chunk| &mut chunk.rows).collect();
        *screened += clock.phase("encode", || encode_wanted(wanted, screen, try_screen, centred, pre, pool, &mut parts));
        clock.phase("decode", || {
            (chunks, target.par_chunks(CHUNK * e), g.par_chunks_mut(CHUNK * e))
                .into_par_iter()
                .for_each(|(chunk, target, g)| chunk.decode_backward(context, target, g))
        });
        return None;
    }
    chunks.iter_mut().for_each(Chunk::clear);
    dense.clear(f, params.vectors.len(), context.pulls());
    let mut sums = Sums::default();
    for (block, (target, centred)) in target.chunks(rows * e).zip(centred.chunks(rows * d)).enumerate() {
        let n = target.len() / e;
        let pre = grow(pre, n * f);
        clock.phase("encode", || matmul_nt(n, f, d, centred, context.w_enc, pre, false));
        let d_pre = grow(d_pre, n * f);
        let z = if context.recipe.shapes_activations() { grow(z, n * f) } else { &mut [] };
        let pass = DensePass { target, centred, context, first: block == 0, skips: share < skip_below };
        sums = sums.plus(pass.run(pre, z, d_pre, &mut g[block * rows * e..][..n * e], dense, gradient, clock));
    }
    Some(sums)
}

impl Chunk {
    /// No active latents; one empty row for each of [`CHUNK`].
    fn clear(&mut self) {
        self.rows.clear();
        (0..CHUNK).for_each(|_| self.rows.row_start.push(0));
        for buffer in [&mut self.z, &mut self.d_pre, &mut self.pull] {
            buffer.clear();
        }
        self.d_vectors.iter_mut().for_each(Vec::clear);
        self.level.clear();
        self.sums = Sums::default();
    }

    /// Of the selection before a refining step: d_u (rows, D), the gradient of the refined rows that `second` was selected from, and what of it reaches these
    /// activations, u = xc + step (xc - act w_dec). Weights (w_enc, w_dec), (F, D) each.
    fn back_from(&mut self, second: &Chunk, step: f32, (w_enc, w_dec): (&[f32], &[f32]), d_u: &mut [f32]) {
        self.d_pre.resize(self.rows.n_active(), 0.0);
        let d = d_u.len() / self.rows.n_rows();
        for (r, d_u) in d_u.chunks_exact_mut(d).enumerate() {
            let of_second = second.rows.row_start[r]..second.rows.row_start[r + 1];
            d_u.fill(0.0);
            gather_axpy(&second.rows.latent[of_second.clone()], &second.d_pre[of_second], w_enc, d_u);
            let range = self.rows.row_start[r]..self.rows.row_start[r + 1];
            let d_pre = &mut self.d_pre[range.clone()];
            gather_dot(&self.rows.latent[range], w_dec, d_u, d_pre);
            d_pre.iter_mut().for_each(|d| *d *= -step);
        }
    }

    /// x_hat, errors, loss and the gradient of each active latent, row by row while the row's decoder directions are in cache.
    /// `g` (rows, L, E) becomes the gradients of the reconstructions; of a skip transcoder its first E numbers are what a row is without latents.
    pub fn decode_backward(&mut self, context: StepContext, target: &[f32], g: &mut [f32]) {
        let StepContext { recipe, params, norms, sparsity, scale, .. } = context;
        let d = params.b_dec.len();
        let n = self.rows.n_active();
        let Chunk { rows, z, d_pre, pull, d_vectors, level, sums, scratch, slopes } = self;
        *sums = Sums::default();
        d_pre.clear();
        d_pre.resize(n, 0.0);
        pull.clear();
        pull.resize(if context.pulls() { n } else { 0 }, 0.0);
        level.clear();
        level.resize(if context.levels.is_some() { n } else { 0 }, 0);
        d_vectors.resize(params.vectors.len(), Vec::new());
        for v in d_vectors.iter_mut() {
            v.clear();
            v.resize(n, 0.0);
        }
        z.clear();
        if recipe.shapes_activations() {
            z.extend_from_slice(&rows.act);
        }
        for (r, (target, g)) in target.chunks_exact(d).zip(g.chunks_exact_mut(context.n_levels() * d)).enumerate() {
            let range = rows.row_start[r]..rows.row_start[r + 1];
            let (latent, act) = (&rows.latent[range.clone()], &mut rows.act[range.clone()]);
            let d_pre = &mut d_pre[range.clone()];
            let mut entries = Entries {
                latent,
                z: z.get(range.clone()).unwrap_or_default(),
                act,
                d_pre,
                d_vectors,
                range: range.clone(),
                sparsity,
                scale,
                target,
                norms,
                b_enc: &params.b_enc,
                w_dec: &params.w_dec,
                b_dec: &params.b_dec,
                penalty: 0.0,
                other: 0.0,
            };
            if recipe.shapes_activations() {
                recipe.activate(&mut entries, &params.vectors);
            }
            match context.levels {
                None => {
                    if params.w_skip.is_empty() {
                        g.copy_from_slice(&params.b_dec);
                    }
                    gather_axpy(latent, entries.act, &params.w_dec, g);
                    sums.squared_error += error_row(target, scale, g);
                    gather_dot(latent, &params.w_dec, g, entries.d_pre);
                }
                Some(levels) => nested(levels, context, &mut entries, target, g, &mut level[range.clone()], scratch, sums),
            }
            let main = context.levels.map_or(0, Levels::main) as u8;
            sums.active +=
                (entries.act.iter().enumerate()).filter(|&(i, &a)| a > 0.0 && level.get(range.start + i).is_none_or(|&l| l <= main)).count() as f64;
            if sparsity != 0.0 {
                slopes.clear();
                slopes.extend(entries.act.iter().zip(latent).map(|(&a, &j)| a * norms[j as usize]));
                let linear = slopes.iter().map(|&u| u as f64).sum::<f64>();
                match recipe.penalty(slopes) {
                    Some(value) => sums.penalty += value,
                    None => {
                        sums.penalty += linear;
                        slopes.fill(1.0);
                    }
                }
                for (i, ((d, &slope), &j)) in entries.d_pre.iter_mut().zip(&*slopes).zip(latent).enumerate() {
                    *d += sparsity * slope * norms[j as usize];
                    if let Some(pull) = pull.get_mut(range.start + i) {
                        *pull = sparsity * slope * entries.act[i];
                    }
                }
            }
            if recipe.shapes_activations() {
                recipe.backward(&mut entries, &params.vectors);
                sums.penalty += entries.penalty;
                sums.other += entries.other;
            }
        }
    }
}

/// b_dec + w_skip x of each row, at the beginning of its (L, E) in `g`.
fn begin_with_skip(params: &Params, x: &[f32], base: &mut [f32], g: &mut [f32], n_levels: usize) {
    let e = params.b_dec.len();
    let n = base.len() / e;
    base.chunks_exact_mut(e).for_each(|base| base.copy_from_slice(&params.b_dec));
    matmul_nt(n, e, x.len() / n, x, &params.w_skip, base, true);
    g.chunks_exact_mut(n_levels * e).zip(base.chunks_exact(e)).for_each(|(g, base)| g[..e].copy_from_slice(base));
}

/// (B, E): the gradient of what every reconstruction of a row begins with, out of g (B, L, E), whose first level has gathered it.
fn gradient_of_base<'a>(g: &'a [f32], n_levels: usize, e: usize, base: &'a mut [f32]) -> &'a [f32] {
    if n_levels == 1 {
        return g;
    }
    base.chunks_exact_mut(e).zip(g.chunks_exact(n_levels * e)).for_each(|(base, g)| base.copy_from_slice(&g[..e]));
    base
}

/// Share of latents that are above zero and above their threshold (F,): of some [`CHUNK`] rows of x (n, D) and some [`DENSITY_LATENTS`], both at even distances.
fn density(context: StepContext, x: &[f32], threshold: Option<&[f32]>) -> f64 {
    let bias = &context.params.b_enc;
    let f = bias.len();
    let d = context.w_enc.len() / f;
    let limit = |j: usize| threshold.map_or(0.0, |t| t[j].max(0.0));
    let of_row = |x: &[f32]| {
        let latents = (0..f).step_by((f / DENSITY_LATENTS).max(1));
        latents.fold([0, 0], |[active, all], j| [active + usize::from(dot(&context.w_enc[j * d..][..d], x) + bias[j] > limit(j)), all + 1])
    };
    let rows: Vec<&[f32]> = x.chunks_exact(d).step_by((x.len() / d / CHUNK).max(1)).collect();
    let [active, all] = rows.into_par_iter().map(of_row).reduce(|| [0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
    active as f64 / all.max(1) as f64
}

/// out (D,) = sum of the first D elements of each `stride` of x, by fixed blocks.
pub(super) fn sum_rows(x: &[f32], d: usize, stride: usize, out: &mut [f32]) {
    let block_sum = |rows: &[f32]| {
        let mut sum = vec![0.0; d];
        rows.chunks_exact(stride).for_each(|row| axpy(1.0, &row[..d], &mut sum));
        sum
    };
    let parts: Vec<Vec<f32>> = x.par_chunks(CHUNK * stride).map(block_sum).collect();
    out.fill(0.0);
    parts.iter().for_each(|part| axpy(1.0, part, out));
}

/// Mean squared distance of the rows from their mean; 0 where it is nothing but rounding, as for [`crate::sae::Metrics`].
fn variance(x: &[f32], d: usize) -> f64 {
    let n = x.len() / d;
    let mut mean = vec![0.0; d];
    sum_rows(x, d, d, &mut mean);
    mean.iter_mut().for_each(|sum| *sum /= n as f32);
    let of_rows = |rows: &[f32]| rows.chunks_exact(d).map(|row| squared_distance(row, &mean) as f64).sum();
    let squares: Vec<f64> = x.par_chunks(CHUNK * d).map(of_rows).collect();
    let variance = squares.iter().sum::<f64>() / n as f64;
    let around_zero = variance + mean.iter().map(|&m| f64::from(m).powi(2)).sum::<f64>();
    if variance > NO_VARIANCE * around_zero { variance } else { 0.0 }
}
