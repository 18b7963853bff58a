//! Edits as vectors that other tools add to a model: a GGUF control vector (llama.cpp), safetensors.
//!
//! Only what is a constant push has a vector: [`Rule::Set`] and [`Rule::Add`] of latents that are silent otherwise. A clamped latent is pushed by its target, which is
//! what the clamp adds wherever the latent is silent.
//!
//! GGUF, version 3, little-endian: magic `GGUF`, u32 version, u64 tensors, u64 pairs; pairs of (string, u32 type, value); for each tensor its name, u32 dimensions,
//! u64 sizes, u32 type (0 = f32), u64 offset; then, from a multiple of 32 bytes on, the data, each tensor at a multiple of 32. A string is u64 length and
//! UTF-8. Source: the format's specification in ggml, and llama.cpp's reader of control vectors: `direction.N` is added after block N, counted from 0, and there is none after block 0.

use super::{Error, Result, Rule, Scope, Steering};
use crate::kernels::gemm::matmul_nn;
use crate::lm::{HookPoint, Lm, Site};
use crate::sae::Sae;

/// The vectors of an edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// (d_in,): what is added at the hook.
    pub hook: Vec<f32>,
    /// (d_model,): what that adds to the residual stream after the hook's block; absent where the block itself reads the hook in a way that depends on the text.
    pub residual: Option<Vec<f32>>,
}

/// What the edit adds where its latents are silent.
///
/// # Errors
/// A rule that is no constant push.
pub fn vectors(lm: &Lm, hook: HookPoint, sae: &Sae, steering: &Steering) -> Result<Vectors> {
    if steering.scope != Scope::All || !steering.keep_error || !steering.rest_after.is_empty() {
        return Err(Error::Edit {
            what: "a vector is added at every position and takes nothing away\n  export an edit of scope all that keeps the SAE's error and rests nowhere".into(),
        });
    }
    let mut sum = vec![0.0f64; sae.d_in];
    for edit in &steering.edits {
        let act = match edit.rule {
            Rule::Set(act) | Rule::Add(act) if !edit.only_active => act,
            _ => {
                return Err(Error::Edit {
                    what: format!(
                        "the rule of latent {} depends on the text, so it is no vector\n  only set and add, at every position, can be exported",
                        edit.latent
                    ),
                });
            }
        };
        sum.iter_mut().zip(sae.direction(edit.latent)).for_each(|(s, &w)| *s += f64::from(act) * f64::from(w));
    }
    let at_hook: Vec<f32> = sum.into_iter().map(|s| s as f32).collect();
    let residual = match hook.site {
        Site::ResidPost | Site::MlpOut => Some(at_hook.clone()),
        Site::MlpPost => {
            let (m, p) = (lm.config.d_model, lm.config.d_mlp);
            let mut residual = vec![0.0; m];
            matmul_nn(1, m, p, &at_hook, &lm.weights.blocks[hook.layer].mlp_proj_w, &mut residual, false);
            Some(residual)
        }
        _ => None,
    };
    Ok(Vectors { hook: at_hook, residual })
}

/// A GGUF file with one control vector, added after block `layer` (from 1: the format has none for block 0).
pub fn gguf(direction: &[f32], layer: usize, model_hint: &str) -> Vec<u8> {
    const ALIGNMENT: usize = 32;
    const STRING: u32 = 8;
    const U32: u32 = 4;
    let mut out = Vec::new();
    let string = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    out.extend(b"GGUF");
    out.extend(3u32.to_le_bytes());
    out.extend(1u64.to_le_bytes());
    out.extend(3u64.to_le_bytes());
    for (key, value) in [("general.architecture", "controlvector"), ("controlvector.model_hint", model_hint)] {
        string(&mut out, key);
        out.extend(STRING.to_le_bytes());
        string(&mut out, value);
    }
    string(&mut out, "controlvector.layer_count");
    out.extend(U32.to_le_bytes());
    out.extend((layer as u32).to_le_bytes());
    string(&mut out, &format!("direction.{layer}"));
    out.extend(1u32.to_le_bytes());
    out.extend((direction.len() as u64).to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    direction.iter().for_each(|x| out.extend(x.to_le_bytes()));
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{model, sae};
    use super::*;
    use crate::intervene::LatentEdit;
    use crate::sae::Select;

    #[test]
    fn a_vector_is_the_sum_of_what_is_set_and_added() {
        let (lm, sae) = (model(1, 17), sae(10, 7, Select::Relu));
        let steering = Steering::of(vec![LatentEdit::new(2, Rule::Set(3.0)), LatentEdit::new(5, Rule::Add(-0.5))]);
        let found = vectors(&lm, HookPoint::mlp_post(0), &sae, &steering).unwrap();
        for (i, x) in found.hook.iter().enumerate() {
            assert!((x - (3.0 * sae.direction(2)[i] - 0.5 * sae.direction(5)[i])).abs() < 1e-6);
        }
        let residual = super::super::exact::residual_directions(&lm, HookPoint::mlp_post(0), &found.hook).unwrap();
        assert_eq!(found.residual.unwrap(), residual);
        let early = HookPoint { layer: 0, site: Site::ResidPre };
        let wide = super::super::testing::sae(6, 7, Select::Relu);
        assert_eq!(vectors(&lm, early, &wide, &Steering::one(2, Rule::Add(1.0))).unwrap().residual, None, "attention reads it");
        let scoped = Steering { scope: Scope::Generated, ..steering.clone() };
        let resting = Steering { rest_after: vec![1], ..steering.clone() };
        assert!(vectors(&lm, HookPoint::mlp_post(0), &sae, &resting).is_err());
        assert!(vectors(&lm, HookPoint::mlp_post(0), &sae, &scoped).is_err());
        for rule in [Rule::Zero, Rule::Scale(2.0), Rule::AtLeast(1.0)] {
            assert!(vectors(&lm, HookPoint::mlp_post(0), &sae, &Steering::one(4, rule)).unwrap_err().to_string().contains("latent 4"));
        }
    }

    #[test]
    fn the_file_is_what_the_format_says_byte_by_byte() {
        let file = gguf(&[1.5, -2.0, 0.25], 1, "gpt2");
        assert!(file.starts_with(
            b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0\x0d\0\0\0\0\0\0\0controlvector"
        ));
        let name = file.windows(11).position(|w| w == b"direction.1").unwrap();
        assert_eq!(file[name - 8..name], 11u64.to_le_bytes());
        let info = &file[name + 11..];
        assert_eq!(
            (&info[..4], &info[4..12], &info[12..16], &info[16..24]),
            (&1u32.to_le_bytes()[..], &3u64.to_le_bytes()[..], &[0; 4][..], &[0; 8][..])
        );
        let data = (name + 11 + 24).next_multiple_of(32);
        let numbers: Vec<f32> = file[data..data + 12].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(numbers, [1.5, -2.0, 0.25]);
        assert!(file.len().is_multiple_of(32) && file.len() == data + 32);
    }
}
