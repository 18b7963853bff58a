//! Why a unit fires at one position: its pre-activation as a sum over source tokens and heads of one block. Reads a model, the tokens of
//! one window and a direction at a hook; writes nothing. Does not know SAEs' selection, dictionaries or pages.
//!
//! What a block adds up is linear once four things are held as they are: the attention pattern, the scales (1 / standard deviation) of both
//! LayerNorms, and each neuron's gate act(pre) / pre (0 or 1 for ReLU; Phi(pre) for GELU). With the direction d of the unit at its hook,
//!
//! > z = d . x_hook + offset = e . x_t + sum over heads h, sources j <= t of p_tj^h (c^h . x_j) + constant
//!
//! where e is d taken back to the residual stream after attention, and c^h is e taken back through head h's output and value matrices and
//! the first LayerNorm. Biases are the constant. In the first block x_j is token embedding + position embedding, so each term splits once more.
//!
//! Exact: the terms add up to z, and taking a source's value away with the rest held changes z by its terms. Not said: how pattern, scales and
//! gates would change without it; for that the text is run again with another token. Source of the idea: Elhage et al. 2021, "A
//! Mathematical Framework for Transformer Circuits" (attention is linear in its values); the circuit analyses of Bricken et al. 2023.
//!
//! D = d_model, P = d_mlp, H = heads, E = D / H. All sums in f64.

use super::{Error, Result};
use crate::kernels::activation::gelu_naive;
use crate::kernels::layer_norm::EPS;
use crate::lm::{Activation, BlockWeights, Engine, HookPoint, Lm, Site};
use serde::Serialize;

/// The unit that is asked about: z = `direction` . x + `offset` at `hook`.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    pub hook: HookPoint,
    /// (d_in of the hook,): an SAE's encoder row, or an axis for a neuron.
    pub direction: &'a [f32],
    /// The latent's bias, minus `direction . b_dec` where the SAE subtracts it.
    pub offset: f64,
}

/// What one token gives, in units of the pre-activation: by what it is and by where it stands. In blocks above the first, whose input is
/// no longer a token and a place, all of it is in `token`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Part {
    pub token: f64,
    pub position: f64,
}

impl Part {
    pub fn total(self) -> f64 {
        self.token + self.position
    }
}

/// What arrives from one source by one head.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeadPart {
    /// Share of the head's attention that the position pays to this source.
    pub pattern: f64,
    pub part: Part,
}

/// The pre-activation of the last of `ids` and what it is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    /// By the engine's forward pass: what the parts are checked against.
    pub pre_act: f64,
    /// Biases of attention, MLP, LayerNorms and SAE: what is there whatever the text says.
    pub constant: f64,
    /// The position's own embedding, past the attention.
    pub direct: Part,
    /// Source tokens from the start of the window to the position itself, each with its H heads.
    pub sources: Vec<Vec<HeadPart>>,
}

impl Why {
    /// All parts together; [`Why::pre_act`] but for rounding.
    pub fn sum(&self) -> f64 {
        self.constant + self.direct.total() + (0..self.sources.len()).map(|j| self.of(j)).sum::<f64>()
    }

    /// What source `j` gives through attention, over all heads.
    pub fn of(&self, j: usize) -> f64 {
        self.sources[j].iter().map(|h| h.part.total()).sum()
    }
}

/// Takes the pre-activation of the unit at the last of `ids` apart. `ids`: a window from its first token, at most n_ctx.
///
/// # Errors
/// The direction does not fit the hook, or the window the model.
pub fn why(engine: &mut dyn Engine, ids: &[u32], reader: Reader) -> Result<Why> {
    let Reader { hook, direction, offset } = reader;
    let config = engine.config().clone();
    let d_in = hook.d_in(&config);
    if hook.layer >= config.n_layers || direction.len() != d_in || ids.is_empty() || ids.len() > config.n_ctx {
        let what = format!("{} numbers for {hook} of {d_in}, {} tokens for windows of {}", direction.len(), ids.len(), config.n_ctx);
        return Err(Error::Check { hook, what });
    }
    let (n, d) = (ids.len(), config.d_model);
    let mut rows = vec![0.0; n * d_in];
    engine.forward_to(ids, n, hook, &mut rows);
    let pre_act = dot(&wide(direction), &wide(&rows[(n - 1) * d_in..])) + offset;
    let mut entering = vec![0.0; n * d];
    engine.forward_to(ids, n, HookPoint { layer: hook.layer, site: Site::ResidPre }, &mut entering);
    let lm = engine.lm();
    let inputs = Inputs::new(&lm, hook.layer, ids, &entering);
    let held = Held::new(&lm, hook.layer, &inputs);
    let block = &lm.weights.blocks[hook.layer];

    let (e, mut constant) = back_to_residual(&lm, hook, &wide(direction), &held);
    constant += offset;
    let t = n - 1;
    let direct = inputs.part(t, &e, 1.0);
    if hook.site == Site::ResidPre {
        return Ok(Why { pre_act, constant, direct, sources: vec![] });
    }
    let mut sources = vec![Vec::with_capacity(config.n_heads); n];
    constant += dot(&e, &wide(&block.attn_proj_b));
    for (h, pattern) in held.pattern.iter().enumerate() {
        let (c, bias) = back_through_head(&lm, block, h, &e);
        constant += bias;
        for (j, (source, &pattern)) in sources.iter_mut().zip(pattern).enumerate() {
            source.push(HeadPart { pattern, part: inputs.part(j, &c, pattern * inputs.scale[j]) });
        }
    }
    Ok(Why { pre_act, constant, direct, sources })
}

/// What enters the block, and the scale of its first LayerNorm at each token.
struct Inputs {
    /// (n, D) each; positions are zero above the first block.
    token: Vec<Vec<f64>>,
    position: Vec<Vec<f64>>,
    /// (n,) 1 / standard deviation.
    scale: Vec<f64>,
}

impl Inputs {
    fn new(lm: &Lm, layer: usize, ids: &[u32], entering: &[f32]) -> Self {
        let d = lm.config.d_model;
        let row = |matrix: &[f32], i: usize| wide(&matrix[i * d..][..d]);
        let first = layer == 0;
        let token: Vec<Vec<f64>> =
            ids.iter().enumerate().map(|(j, &id)| if first { row(&lm.weights.wte, id as usize) } else { row(entering, j) }).collect();
        let position: Vec<Vec<f64>> = (0..ids.len()).map(|j| if first { row(&lm.weights.wpe, j) } else { vec![0.0; d] }).collect();
        let mut inputs = Inputs { token, position, scale: vec![] };
        inputs.scale = (0..ids.len()).map(|j| scale(&inputs.whole(j))).collect();
        inputs
    }

    fn whole(&self, j: usize) -> Vec<f64> {
        self.token[j].iter().zip(&self.position[j]).map(|(a, b)| a + b).collect()
    }

    fn part(&self, j: usize, direction: &[f64], factor: f64) -> Part {
        Part { token: factor * dot(direction, &self.token[j]), position: factor * dot(direction, &self.position[j]) }
    }
}

/// What is held fixed, at the position asked about.
struct Held {
    /// (H, n)
    pattern: Vec<Vec<f64>>,
    /// Of the second LayerNorm.
    scale: f64,
    /// (P,) act(pre) / pre
    gates: Vec<f64>,
}

impl Held {
    fn new(lm: &Lm, layer: usize, inputs: &Inputs) -> Self {
        let (w, d, n_heads) = (&lm.weights.blocks[layer], lm.config.d_model, lm.config.n_heads);
        let (n, width) = (inputs.token.len(), d / n_heads);
        let normed: Vec<Vec<f64>> = (0..n).map(|j| normalised(&inputs.whole(j), inputs.scale[j], &w.ln_1_w, &w.ln_1_b)).collect();
        let at = n - 1;
        let mut mid = inputs.whole(at);
        mid.iter_mut().zip(&w.attn_proj_b).for_each(|(m, &b)| *m += f64::from(b));
        let mut pattern = Vec::with_capacity(n_heads);
        for h in 0..n_heads {
            let columns = |part: usize, x: &[f64]| -> Vec<f64> {
                let first = part * d + h * width;
                (first..first + width).map(|c| column(x, &w.c_attn_w, 3 * d, c) + f64::from(w.c_attn_b[c])).collect()
            };
            let q = columns(0, &normed[at]);
            let scores: Vec<f64> = normed.iter().map(|x| dot(&q, &columns(1, x)) / (width as f64).sqrt()).collect();
            let most = scores.iter().fold(f64::NEG_INFINITY, |m, &s| m.max(s));
            let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
            let p: Vec<f64> = scores.iter().map(|s| (s - most).exp() / total).collect();
            let mixed: Vec<f64> = (0..d).map(|i| normed.iter().zip(&p).map(|(x, p)| p * x[i]).sum()).collect();
            let z = columns(2, &mixed);
            for (e, z) in z.iter().enumerate() {
                let out = &w.attn_proj_w[(h * width + e) * d..][..d];
                mid.iter_mut().zip(out).for_each(|(m, &o)| *m += z * f64::from(o));
            }
            pattern.push(p);
        }
        let scale = scale(&mid);
        let y = normalised(&mid, scale, &w.ln_2_w, &w.ln_2_b);
        let p = lm.config.d_mlp;
        let gates = (0..p).map(|c| gate(lm.config.activation, column(&y, &w.c_fc_w, p, c) + f64::from(w.c_fc_b[c]))).collect();
        Held { pattern, scale, gates }
    }
}

/// act(pre) / pre
fn gate(activation: Activation, pre: f64) -> f64 {
    match activation {
        Activation::Relu => f64::from(u8::from(pre > 0.0)),
        // The limit at 0.
        Activation::Gelu if pre == 0.0 => 0.5,
        Activation::Gelu => gelu_naive(pre) / pre,
    }
}

/// The direction at the hook as one (D,) in the residual stream after attention (of the block's input, at `hook_resid_pre`), and the biases
/// that are met on the way.
fn back_to_residual(lm: &Lm, hook: HookPoint, direction: &[f64], held: &Held) -> (Vec<f64>, f64) {
    let w = &lm.weights.blocks[hook.layer];
    let (d, p) = (lm.config.d_model, lm.config.d_mlp);
    let (mut e, mut constant) = (vec![0.0; d], 0.0);
    // At the MLP's pre-activations, (P,): what each neuron's counts for.
    let neurons: Option<Vec<f64>> = match hook.site {
        Site::ResidPre | Site::ResidMid | Site::MlpIn => None,
        Site::MlpPre => Some(direction.to_vec()),
        Site::MlpPost => Some(direction.iter().zip(&held.gates).map(|(u, g)| u * g).collect()),
        Site::MlpOut | Site::ResidPost => {
            constant += dot(direction, &wide(&w.mlp_proj_b));
            Some((0..p).map(|n| dot(direction, &wide(&w.mlp_proj_w[n * d..][..d])) * held.gates[n]).collect())
        }
    };
    if matches!(hook.site, Site::ResidPre | Site::ResidMid | Site::ResidPost) {
        e.copy_from_slice(direction);
    }
    // At the output of the LayerNorm, (D,).
    let normed: Option<Vec<f64>> = match neurons {
        Some(neurons) => {
            constant += dot(&neurons, &wide(&w.c_fc_b));
            Some((0..d).map(|i| dot(&neurons, &wide(&w.c_fc_w[i * p..][..p]))).collect())
        }
        None => (hook.site == Site::MlpIn).then(|| direction.to_vec()),
    };
    if let Some(q) = normed {
        constant += dot(&q, &wide(&w.ln_2_b));
        e.iter_mut().zip(before_norm(&q, &w.ln_2_w)).for_each(|(e, q)| *e += held.scale * q);
    }
    (e, constant)
}

/// Direction `e` (D,) after head `h`'s output as one (D,) of a source's residual stream, before the LayerNorm's scale; and the head's biases,
/// which do not depend on the source because a pattern adds up to 1.
fn back_through_head(lm: &Lm, w: &BlockWeights, h: usize, e: &[f64]) -> (Vec<f64>, f64) {
    let d = lm.config.d_model;
    let width = d / lm.config.n_heads;
    let of_value: Vec<f64> = (0..width).map(|k| dot(e, &wide(&w.attn_proj_w[(h * width + k) * d..][..d]))).collect();
    let values = 2 * d + h * width;
    let of_normed: Vec<f64> = (0..d).map(|i| dot(&of_value, &wide(&w.c_attn_w[i * 3 * d + values..][..width]))).collect();
    let bias = dot(&of_value, &wide(&w.c_attn_b[values..][..width])) + dot(&of_normed, &wide(&w.ln_1_b));
    (before_norm(&of_normed, &w.ln_1_w), bias)
}

/// A direction after a LayerNorm's gain as one before its centring: g - mean(g) with g = direction * gain. The scale is left to the caller.
fn before_norm(direction: &[f64], gain: &[f32]) -> Vec<f64> {
    let g: Vec<f64> = direction.iter().zip(gain).map(|(x, &w)| x * f64::from(w)).collect();
    let mean = g.iter().sum::<f64>() / g.len() as f64;
    g.into_iter().map(|x| x - mean).collect()
}

/// 1 / standard deviation, as LayerNorm has it.
fn scale(x: &[f64]) -> f64 {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    1.0 / (variance + f64::from(EPS)).sqrt()
}

fn normalised(x: &[f64], scale: f64, gain: &[f32], bias: &[f32]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().zip(gain.iter().zip(bias)).map(|(x, (&w, &b))| (x - mean) * scale * f64::from(w) + f64::from(b)).collect()
}

/// Column `c` of x (D,) times a matrix (D, `width`).
fn column(x: &[f64], matrix: &[f32], width: usize, c: usize) -> f64 {
    x.iter().enumerate().map(|(i, x)| x * f64::from(matrix[i * width + c])).sum()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "a product of {} and {} numbers", a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
