//! A block of rows through whole matrices (n, F): the first steps of a ReLU SAE, where every second latent is active. Four of the five products leave out what is not
//! active, where that pays (three where activations are shaped).

use super::Clock;
use super::step::{StepContext, Sums};
use crate::kernels::gemm::{matmul_nn, matmul_nt, matmul_tn};
use crate::kernels::skip;
use crate::kernels::sparse::{axpy, dot, error_row, relu_backward_row, relu_row};
use crate::sae::Params;
use crate::sae::architectures::{Architecture, Entries};
use crate::sae::encode::CHUNK;
use rayon::prelude::*;

/// Latents whose penalty is computed at a time.
const PENALTY_CHUNK: usize = 1024;

/// Whether activations are ReLU's and the penalty is their sum.
pub(super) fn is_plain(recipe: &dyn Architecture) -> bool {
    !recipe.shapes_activations() && recipe.penalty(&mut []).is_none()
}

/// Sums over the rows of dense blocks, (F,) each.
#[derive(Default)]
pub(super) struct DenseSums {
    pub d_pre: Vec<f32>,
    /// Slope of the penalty times act; empty where decoder norms are fixed.
    pub pull: Vec<f32>,
    pub d_vectors: Vec<Vec<f32>>,
    pub fires: Vec<u32>,
}

impl DenseSums {
    /// Zeros.
    pub fn clear(&mut self, f: usize, n_vectors: usize, pulls: bool) {
        *self = DenseSums {
            d_pre: vec![0.0; f],
            pull: vec![0.0; if pulls { f } else { 0 }],
            d_vectors: vec![vec![0.0; f]; n_vectors],
            fires: vec![0; f],
        };
    }

    fn add(&mut self, other: &DenseSums) {
        axpy(1.0, &other.d_pre, &mut self.d_pre);
        axpy(1.0, &other.pull, &mut self.pull);
        self.d_vectors.iter_mut().zip(&other.d_vectors).for_each(|(to, from)| axpy(1.0, from, to));
        self.fires.iter_mut().zip(&other.fires).for_each(|(n, m)| *n += m);
    }
}

/// n = rows of the block.
pub(super) struct DensePass<'a> {
    /// (n, E)
    pub target: &'a [f32],
    /// (n, D)
    pub centred: &'a [f32],
    pub context: StepContext<'a>,
    /// Overwrites the gradients instead of adding to them.
    pub first: bool,
    /// Whether products leave out what is not active.
    pub skips: bool,
}

impl DensePass<'_> {
    /// `acts` (n, F) holds products without biases and becomes activations; `z` (n, F) is used where the architecture shapes activations; `d_acts` (n, F);
    /// `g` (n, E) becomes the gradient of the reconstruction. Adds to `sums` and `gradient`.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        acts: &mut [f32],
        z: &mut [f32],
        d_acts: &mut [f32],
        g: &mut [f32],
        sums: &mut DenseSums,
        gradient: &mut Params,
        clock: &mut Clock,
    ) -> Sums {
        let Params { w_dec, b_dec, b_enc, .. } = self.context.params;
        let (e, f) = (b_dec.len(), b_enc.len());
        let n = self.target.len() / e;
        let d = self.centred.len() / n;
        clock.phase("dense activations", || self.activate(acts, z));
        let errors: Vec<f64> = clock.phase("dense decode", || {
            if self.context.params.w_skip.is_empty() {
                g.chunks_exact_mut(e).for_each(|g| g.copy_from_slice(b_dec));
            }
            match self.skips {
                true => skip::matmul_nn((n, e, f), acts, w_dec, g, true),
                false => matmul_nn(n, e, f, acts, w_dec, g, true),
            }
            (g.par_chunks_mut(CHUNK * e), self.target.par_chunks(CHUNK * e))
                .into_par_iter()
                .map(|(g, y)| g.chunks_exact_mut(e).zip(y.chunks_exact(e)).map(|(g, y)| error_row(y, self.context.scale, g)).sum())
                .collect()
        });
        let mut done = Sums { squared_error: errors.iter().sum(), ..Sums::default() };
        if self.skips && is_plain(self.context.recipe) {
            return done.plus(self.back_skipping(acts, d_acts, g, sums, gradient, clock));
        }
        clock.phase("dense backward", || {
            // A shaped activation may have a gradient where it is zero.
            match self.skips && z.is_empty() {
                true => skip::matmul_nt_where((n, f, e), g, w_dec, acts, &vec![0.0; f], d_acts),
                false => matmul_nt(n, f, e, g, w_dec, d_acts, false),
            }
            let z: Vec<&[f32]> = if z.is_empty() { vec![&[]; n.div_ceil(CHUNK)] } else { z.chunks(CHUNK * f).collect() };
            let parts: Vec<(DenseSums, Sums)> =
                (d_acts.par_chunks_mut(CHUNK * f), acts.par_chunks_mut(CHUNK * f), z, self.target.par_chunks(CHUNK * e))
                    .into_par_iter()
                    .map(|(d_acts, acts, z, target)| self.back(d_acts, acts, z, target))
                    .collect();
            for (part, part_sums) in &parts {
                sums.add(part);
                done = done.plus(*part_sums);
            }
        });
        clock.phase("dense gradients", || {
            for (coef, rows, width, out) in [(&*acts, &*g, e, &mut gradient.w_dec), (&*d_acts, self.centred, d, &mut gradient.w_enc)] {
                match self.skips {
                    true => skip::matmul_tn((f, width, n), coef, rows, out, !self.first, None),
                    false => matmul_tn(f, width, n, coef, rows, out, !self.first),
                }
            }
        });
        done
    }

    /// From `g` (n, E) back to the gradients, of a plain ReLU with L1: what is not active is left out, and sums over rows are taken while the products read them.
    fn back_skipping(&self, acts: &[f32], d_acts: &mut [f32], g: &[f32], sums: &mut DenseSums, gradient: &mut Params, clock: &mut Clock) -> Sums {
        let StepContext { params, norms, sparsity, .. } = self.context;
        let (e, f) = (params.b_dec.len(), norms.len());
        let n = g.len() / e;
        let d = self.centred.len() / n;
        clock.phase("dense backward", || {
            let pull: Vec<f32> = norms.iter().map(|norm| sparsity * norm).collect();
            skip::matmul_nt_where((n, f, e), g, &params.w_dec, acts, &pull, d_acts);
        });
        clock.phase("dense gradients", || {
            let (mut act_sums, mut fires) = (vec![0.0; f], vec![0; f]);
            skip::matmul_tn((f, e, n), acts, g, &mut gradient.w_dec, !self.first, Some((&mut act_sums, &mut fires)));
            // A gradient may be zero by chance where the latent is active: these are not counted.
            skip::matmul_tn((f, d, n), d_acts, self.centred, &mut gradient.w_enc, !self.first, Some((&mut sums.d_pre, &mut vec![0; f])));
            sums.fires.iter_mut().zip(&fires).for_each(|(n, m)| *n += m);
            if self.context.pulls() {
                axpy(sparsity, &act_sums, &mut sums.pull);
            }
            let penalty = if sparsity == 0.0 { 0.0 } else { act_sums.iter().zip(norms).map(|(&a, &norm)| f64::from(a) * f64::from(norm)).sum() };
            Sums { penalty, active: fires.iter().map(|&n| f64::from(n)).sum(), ..Sums::default() }
        })
    }

    fn activate(&self, acts: &mut [f32], z: &mut [f32]) {
        let b_enc = &self.context.params.b_enc;
        let f = b_enc.len();
        if z.is_empty() {
            acts.par_chunks_mut(CHUNK * f).for_each(|acts| acts.chunks_exact_mut(f).for_each(|acts| relu_row(b_enc, acts)));
            return;
        }
        let latent: Vec<u32> = (0..f as u32).collect();
        (acts.par_chunks_mut(CHUNK * f), z.par_chunks_mut(CHUNK * f)).into_par_iter().for_each(|(acts, z)| {
            for (acts, z) in acts.chunks_exact_mut(f).zip(z.chunks_exact_mut(f)) {
                z.iter_mut().zip(&*acts).zip(b_enc).for_each(|((z, p), b)| *z = p + b);
                acts.copy_from_slice(z);
                let (mut d_pre, mut d_vectors) = ([], []);
                let mut entries = self.entries(&latent, z, acts, &mut d_pre, &mut d_vectors, &[]);
                self.context.recipe.activate(&mut entries, &self.context.params.vectors);
            }
        });
    }

    /// The gradients of some rows' pre-activations in place of those of their activations, and their sums.
    fn back(&self, d_acts: &mut [f32], acts: &mut [f32], z: &[f32], target: &[f32]) -> (DenseSums, Sums) {
        let StepContext { recipe, params, norms, sparsity, .. } = self.context;
        let f = norms.len();
        let e = self.context.params.b_dec.len();
        let mut sums = DenseSums::default();
        sums.clear(f, params.vectors.len(), self.context.pulls());
        let mut done = Sums::default();
        let plain = is_plain(recipe);
        let latent: Vec<u32> = if z.is_empty() { Vec::new() } else { (0..f as u32).collect() };
        let mut slopes = vec![0.0; PENALTY_CHUNK];
        let mut d_vectors = vec![vec![0.0; f]; params.vectors.len()];
        for (r, (d_acts, acts)) in d_acts.chunks_exact_mut(f).zip(acts.chunks_exact_mut(f)).enumerate() {
            if plain {
                if sparsity != 0.0 {
                    done.penalty += acts.chunks(PENALTY_CHUNK).zip(norms.chunks(PENALTY_CHUNK)).map(|(a, n)| dot(a, n) as f64).sum::<f64>();
                    if self.context.pulls() {
                        axpy(sparsity, acts, &mut sums.pull);
                    }
                }
                relu_backward_row(acts, sparsity, norms, d_acts, &mut sums.d_pre, &mut sums.fires);
                continue;
            }
            if sparsity != 0.0 {
                for (block, acts) in acts.chunks(PENALTY_CHUNK).enumerate() {
                    let first = block * PENALTY_CHUNK;
                    let slopes = &mut slopes[..acts.len()];
                    slopes.iter_mut().zip(acts).zip(&norms[first..]).for_each(|((u, a), n)| *u = a * n);
                    let linear = slopes.iter().map(|&u| u as f64).sum::<f64>();
                    done.penalty += recipe.penalty(slopes).unwrap_or_else(|| {
                        slopes.fill(1.0);
                        linear
                    });
                    for (i, (&slope, &a)) in slopes.iter().zip(acts).enumerate() {
                        d_acts[first + i] += sparsity * slope * norms[first + i];
                        if let Some(pull) = sums.pull.get_mut(first + i) {
                            *pull += sparsity * slope * a;
                        }
                    }
                }
            }
            if z.is_empty() {
                d_acts.iter_mut().zip(&*acts).for_each(|(d, &a)| *d = if a > 0.0 { *d } else { 0.0 });
            } else {
                let mut entries = self.entries(&latent, &z[r * f..][..f], acts, d_acts, &mut d_vectors, &target[r * e..][..e]);
                recipe.backward(&mut entries, &params.vectors);
                done.penalty += entries.penalty;
                done.other += entries.other;
                sums.d_vectors.iter_mut().zip(&d_vectors).for_each(|(to, from)| axpy(1.0, from, to));
            }
            axpy(1.0, d_acts, &mut sums.d_pre);
            sums.fires.iter_mut().zip(&*acts).for_each(|(n, &a)| *n += u32::from(a > 0.0));
        }
        done.active = sums.fires.iter().map(|&n| n as f64).sum();
        (sums, done)
    }

    fn entries<'a>(
        &'a self,
        latent: &'a [u32],
        z: &'a [f32],
        act: &'a mut [f32],
        d_pre: &'a mut [f32],
        d_vectors: &'a mut [Vec<f32>],
        target: &'a [f32],
    ) -> Entries<'a> {
        let StepContext { params, sparsity, scale, norms, .. } = self.context;
        let range = 0..latent.len();
        Entries {
            latent,
            z,
            act,
            d_pre,
            d_vectors,
            range,
            sparsity,
            scale,
            target,
            norms,
            b_enc: &params.b_enc,
            w_dec: &params.w_dec,
            b_dec: &params.b_dec,
            penalty: 0.0,
            other: 0.0,
        }
    }
}
