//! A small lively model and SAE for tests.

use crate::artifact::seed;
use crate::lm::{Activation, Lm, LmConfig};
use crate::sae::{Sae, Select};
use rand::RngExt;

pub(crate) fn random(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(1, "test/intervene", index);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A model whose logits are far from flat; token 16 ends texts.
pub(crate) fn model(n_layers: usize, d_vocab: usize) -> Lm {
    let config = LmConfig { d_vocab, n_ctx: 9, d_model: 6, n_layers, n_heads: 2, d_mlp: 10, activation: Activation::Gelu, tied: false };
    let mut lm = Lm::init(&config, 3);
    for (i, tensor) in lm.weights.tensors_mut().into_iter().enumerate() {
        let noise = random(tensor.len(), 100 + i as u64);
        tensor.iter_mut().zip(noise).for_each(|(w, x)| *w += 0.4 * x);
    }
    lm
}

/// Random encoder, unit decoder rows; about half of the latents are active.
pub(crate) fn sae(d_in: usize, d_sae: usize, select: Select) -> Sae {
    let mut w_dec = random(d_sae * d_in, 1);
    for row in w_dec.chunks_mut(d_in) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    Sae {
        d_in,
        d_sae,
        select,
        w_enc: random(d_sae * d_in, 2),
        b_enc: random(d_sae, 3),
        w_dec,
        b_dec: random(d_in, 4),
        apply_b_dec_to_input: true,
        transcoder: None,
    }
}

/// An SAE that reconstructs every input: latent j is x_j where positive, latent d_in + j is -x_j where negative.
pub(crate) fn perfect(d_in: usize) -> Sae {
    let mut w = vec![0.0; 2 * d_in * d_in];
    for j in 0..d_in {
        w[j * d_in + j] = 1.0;
        w[(d_in + j) * d_in + j] = -1.0;
    }
    Sae {
        d_in,
        d_sae: 2 * d_in,
        select: Select::Relu,
        w_enc: w.clone(),
        b_enc: vec![0.0; 2 * d_in],
        w_dec: w,
        b_dec: vec![0.0; d_in],
        apply_b_dec_to_input: false,
        transcoder: None,
    }
}

/// An SAE whose latents never fire: every reconstruction is `b_dec`.
pub(crate) fn silent(b_dec: Vec<f32>) -> Sae {
    let d_in = b_dec.len();
    Sae { b_enc: vec![-1e9; 7], b_dec, ..sae(d_in, 7, Select::Relu) }
}
