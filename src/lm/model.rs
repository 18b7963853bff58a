//! The model's weights in memory, their initialisation, and directions seen through the unembedding.

use super::{HookPoint, LmConfig, Site};
use crate::artifact::seed;
use crate::kernels::gemm::matmul_nn;
use crate::kernels::gemm::matmul_nt;
use rand::RngExt;
use rand::seq::SliceRandom;

/// A decoder with its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Lm {
    pub config: LmConfig,
    pub weights: Weights,
}

/// Every tensor of a model, row-major. The same struct holds gradients and Adam moments.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Token embedding (d_vocab, d_model).
    pub wte: Vec<f32>,
    /// Position embedding (n_ctx, d_model).
    pub wpe: Vec<f32>,
    pub blocks: Vec<BlockWeights>,
    /// Final LayerNorm (d_model,).
    pub ln_f_w: Vec<f32>,
    pub ln_f_b: Vec<f32>,
    /// Unembedding (d_vocab, d_model); empty when tied to `wte`.
    pub lm_head: Vec<f32>,
}

/// One block. Linears are stored (in, out), as GPT-2's Conv1D stores them: y = x w + b.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockWeights {
    /// (d_model,)
    pub ln_1_w: Vec<f32>,
    pub ln_1_b: Vec<f32>,
    /// (d_model, 3 d_model): queries, keys, values side by side, heads in order within each.
    pub c_attn_w: Vec<f32>,
    pub c_attn_b: Vec<f32>,
    /// (d_model, d_model)
    pub attn_proj_w: Vec<f32>,
    pub attn_proj_b: Vec<f32>,
    /// (d_model,)
    pub ln_2_w: Vec<f32>,
    pub ln_2_b: Vec<f32>,
    /// (d_model, d_mlp)
    pub c_fc_w: Vec<f32>,
    pub c_fc_b: Vec<f32>,
    /// (d_mlp, d_model)
    pub mlp_proj_w: Vec<f32>,
    pub mlp_proj_b: Vec<f32>,
}

/// Name (as in Hugging Face files, without `transformer.`) and shape of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
}

impl TensorSpec {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Matrices decay, vectors do not.
    pub fn decays(&self) -> bool {
        self.shape.len() >= 2
    }
}

/// Every tensor of a model in the order in which [`Weights::tensors`] lists them.
pub fn tensor_specs(config: &LmConfig) -> Vec<TensorSpec> {
    let (d, m) = (config.d_model, config.d_mlp);
    let spec = |name: String, shape: &[usize]| TensorSpec { name, shape: shape.to_vec() };
    let mut specs = vec![spec("wte.weight".into(), &[config.d_vocab, d]), spec("wpe.weight".into(), &[config.n_ctx, d])];
    for layer in 0..config.n_layers {
        let block: [(&str, &[usize]); 12] = [
            ("ln_1.weight", &[d]),
            ("ln_1.bias", &[d]),
            ("attn.c_attn.weight", &[d, 3 * d]),
            ("attn.c_attn.bias", &[3 * d]),
            ("attn.c_proj.weight", &[d, d]),
            ("attn.c_proj.bias", &[d]),
            ("ln_2.weight", &[d]),
            ("ln_2.bias", &[d]),
            ("mlp.c_fc.weight", &[d, m]),
            ("mlp.c_fc.bias", &[m]),
            ("mlp.c_proj.weight", &[m, d]),
            ("mlp.c_proj.bias", &[d]),
        ];
        specs.extend(block.iter().map(|(name, shape)| spec(format!("h.{layer}.{name}"), shape)));
    }
    specs.push(spec("ln_f.weight".into(), &[d]));
    specs.push(spec("ln_f.bias".into(), &[d]));
    if !config.tied {
        specs.push(spec("lm_head.weight".into(), &[config.d_vocab, d]));
    }
    specs
}

macro_rules! list_tensors {
    ($self:ident, $borrow:ident, $iter:ident $(, $mutable:tt)?) => {{
        let mut all = vec![& $($mutable)? $self.wte, & $($mutable)? $self.wpe];
        for b in $self.blocks.$iter() {
            all.extend([
                & $($mutable)? b.ln_1_w,
                & $($mutable)? b.ln_1_b,
                & $($mutable)? b.c_attn_w,
                & $($mutable)? b.c_attn_b,
                & $($mutable)? b.attn_proj_w,
                & $($mutable)? b.attn_proj_b,
                & $($mutable)? b.ln_2_w,
                & $($mutable)? b.ln_2_b,
                & $($mutable)? b.c_fc_w,
                & $($mutable)? b.c_fc_b,
                & $($mutable)? b.mlp_proj_w,
                & $($mutable)? b.mlp_proj_b,
            ]);
        }
        all.extend([& $($mutable)? $self.ln_f_w, & $($mutable)? $self.ln_f_b]);
        if !$self.lm_head.is_empty() {
            all.push(& $($mutable)? $self.lm_head);
        }
        all
    }};
}

impl Weights {
    pub fn zeros(config: &LmConfig) -> Self {
        let (d, m) = (config.d_model, config.d_mlp);
        let z = |n: usize| vec![0.0; n];
        let block = || BlockWeights {
            ln_1_w: z(d),
            ln_1_b: z(d),
            c_attn_w: z(3 * d * d),
            c_attn_b: z(3 * d),
            attn_proj_w: z(d * d),
            attn_proj_b: z(d),
            ln_2_w: z(d),
            ln_2_b: z(d),
            c_fc_w: z(d * m),
            c_fc_b: z(m),
            mlp_proj_w: z(m * d),
            mlp_proj_b: z(d),
        };
        Weights {
            wte: z(config.d_vocab * d),
            wpe: z(config.n_ctx * d),
            blocks: (0..config.n_layers).map(|_| block()).collect(),
            ln_f_w: z(d),
            ln_f_b: z(d),
            lm_head: z(if config.tied { 0 } else { config.d_vocab * d }),
        }
    }

    /// No tensors yet; [`Weights::set`] puts them in.
    pub(super) fn empty(n_layers: usize) -> Self {
        let none = LmConfig { d_vocab: 0, n_ctx: 0, d_model: 0, n_layers, n_heads: 1, d_mlp: 0, activation: super::Activation::Relu, tied: true };
        Weights::zeros(&none)
    }

    /// Puts in `tensors`, which stand in the order of [`tensor_specs`].
    pub(super) fn set(&mut self, mut tensors: Vec<Vec<f32>>, tied: bool) {
        self.lm_head = if tied { Vec::new() } else { tensors.pop().expect("an untied model has an unembedding") };
        let places = self.tensors_mut();
        // The unembedding, when there is one, was put in first.
        let n = places.len() - usize::from(!tied);
        assert_eq!(n, tensors.len(), "tensors of the model");
        for (place, tensor) in places.into_iter().zip(tensors) {
            *place = tensor;
        }
    }

    /// Every tensor in the order of [`tensor_specs`].
    pub fn tensors(&self) -> Vec<&Vec<f32>> {
        list_tensors!(self, tensors, iter)
    }

    /// Every tensor in the order of [`tensor_specs`].
    pub fn tensors_mut(&mut self) -> Vec<&mut Vec<f32>> {
        list_tensors!(self, tensors_mut, iter_mut, mut)
    }

    /// The matrix (d_vocab, d_model) that reads logits: `lm_head`, or `wte` when tied.
    pub fn unembedding(&self) -> &[f32] {
        if self.lm_head.is_empty() { &self.wte } else { &self.lm_head }
    }
}

impl Lm {
    /// GPT-2's initialisation: normal 0.02, projections into the residual stream scaled by 1/sqrt(2 n_layers), biases zero, gains one.
    ///
    /// Each tensor draws from its own generator `("lm/init", tensor index)`. Source: Radford et al. 2019, section 2.3.
    pub fn init(config: &LmConfig, seed: u64) -> Self {
        let mut weights = Weights::zeros(config);
        let residual = 0.02 / (2.0 * config.n_layers as f64).sqrt();
        for (i, (spec, tensor)) in tensor_specs(config).iter().zip(weights.tensors_mut()).enumerate() {
            if spec.name.ends_with("bias") {
                continue;
            }
            if !spec.decays() {
                tensor.fill(1.0);
                continue;
            }
            let std = if spec.name.ends_with("c_proj.weight") { residual } else { 0.02 };
            let mut rng = seed::rng(seed, "lm/init", i as u64);
            for pair in tensor.chunks_mut(2) {
                // Box-Muller: two uniforms give two normals.
                let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
                let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
                pair[0] = (std * radius * angle.cos()) as f32;
                if let Some(second) = pair.get_mut(1) {
                    *second = (std * radius * angle.sin()) as f32;
                }
            }
        }
        Lm { config: config.clone(), weights }
    }

    /// The same model with the entries of each weight matrix permuted: no features can have been learned, the statistics of the weights are kept.
    /// Vectors (biases, gains) stay. The control of Bricken et al. 2023.
    pub fn shuffled(&self, seed: u64) -> Self {
        let mut shuffled = self.clone();
        let specs = tensor_specs(&self.config);
        for (i, (_, tensor)) in specs.iter().zip(shuffled.weights.tensors_mut()).enumerate().filter(|(_, (spec, _))| spec.decays()) {
            tensor.shuffle(&mut seed::rng(seed, "lm/shuffle", i as u64));
        }
        shuffled
    }

    /// The direction in logit space of adding a vector at a hook: `direction` (d_in) through the rest of the block's MLP and the
    /// unembedding, with the final LayerNorm's gain applied and its centring, its scale left out. Shape (d_vocab,).
    ///
    /// At `mlp.hook_pre` and `ln2.hook_normalized` the non-linearity is taken as the identity; attention of later positions and blocks above are left out.
    pub fn logit_effects(&self, hook: HookPoint, direction: &[f32]) -> Vec<f32> {
        let (d, m, v) = (self.config.d_model, self.config.d_mlp, self.config.d_vocab);
        assert_eq!(direction.len(), hook.d_in(&self.config), "direction of the wrong width for {hook}");
        assert!(hook.layer < self.config.n_layers, "{hook} of a model with {} layers", self.config.n_layers);
        let block = &self.weights.blocks[hook.layer];
        let through_mlp = |neurons: &[f32]| {
            let mut out = vec![0.0; d];
            matmul_nn(1, d, m, neurons, &block.mlp_proj_w, &mut out, false);
            out
        };
        let mut residual = match hook.site {
            Site::MlpIn => {
                let mut neurons = vec![0.0; m];
                matmul_nn(1, m, d, direction, &block.c_fc_w, &mut neurons, false);
                through_mlp(&neurons)
            }
            Site::MlpPre | Site::MlpPost => through_mlp(direction),
            _ => direction.to_vec(),
        };
        let mean = (residual.iter().map(|&x| x as f64).sum::<f64>() / d as f64) as f32;
        for (x, gain) in residual.iter_mut().zip(&self.weights.ln_f_w) {
            *x = (*x - mean) * gain;
        }
        let mut effects = vec![0.0; v];
        matmul_nt(1, v, d, &residual, self.weights.unembedding(), &mut effects, false);
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_and_their_specs_are_in_one_order() {
        for tied in [false, true] {
            let config = LmConfig { n_layers: 2, tied, ..LmConfig::tiny() };
            let mut lm = Lm::init(&config, 0);
            let specs = tensor_specs(&config);
            assert_eq!(specs.iter().map(TensorSpec::len).sum::<usize>(), config.n_params());
            assert_eq!(specs.iter().map(TensorSpec::len).collect::<Vec<_>>(), lm.weights.tensors().iter().map(|t| t.len()).collect::<Vec<_>>());
            assert_eq!(specs.len(), lm.weights.tensors_mut().len());
        }
    }

    #[test]
    fn initial_weights_have_the_spread_of_gpt_2() {
        let lm = Lm::init(&LmConfig { n_layers: 2, ..LmConfig::tiny() }, 3);
        let std = |x: &[f32]| (x.iter().map(|x| (x * x) as f64).sum::<f64>() / x.len() as f64).sqrt();
        // 8,192 to 32,768 draws: the sample deviation is within 4 % of the true one at five sigma.
        assert!((std(&lm.weights.wte) / 0.02 - 1.0).abs() < 0.04);
        assert!((std(&lm.weights.blocks[1].mlp_proj_w) / 0.01 - 1.0).abs() < 0.04);
        assert!((std(&lm.weights.blocks[0].c_fc_w) / 0.02 - 1.0).abs() < 0.04);
        assert!(lm.weights.blocks[0].ln_1_w.iter().all(|&x| x == 1.0) && lm.weights.blocks[0].c_fc_b.iter().all(|&x| x == 0.0));
    }

    #[test]
    fn a_neurons_logit_effect_is_its_output_row_through_the_unembedding() {
        let lm = Lm::init(&LmConfig::tiny(), 1);
        let mut one = vec![0.0; 128];
        one[5] = 2.0;
        let got = lm.logit_effects(HookPoint::mlp_post(0), &one);
        let row: Vec<f64> = lm.weights.blocks[0].mlp_proj_w[5 * 64..6 * 64].iter().map(|&x| 2.0 * x as f64).collect();
        let mean = row.iter().sum::<f64>() / 64.0;
        let token = 77;
        let want: f64 = (0..64).map(|j| (row[j] - mean) * lm.weights.lm_head[token * 64 + j] as f64).sum();
        assert!((got[token] as f64 - want).abs() < 1e-6);
    }
}
