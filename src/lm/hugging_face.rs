//! A model on disk in the layout of Hugging Face's GPT-2: `config.json` and `model.safetensors`, linears stored (in, out).

use super::{Activation, Lm, LmConfig, Weights, tensor_specs};
use crate::artifact::{Error, Manifest, Result, Tensor, TensorFile, read_json, write_json, write_tensors};
use crate::corpus::END_OF_TEXT;
use crate::kernels::layer_norm::EPS;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;

/// Raised when the files of `lm/` change meaning.
pub const FORMAT_VERSION: u32 = 1;

const WEIGHTS: &str = "model.safetensors";

/// The part of a GPT-2 `config.json` that decides what the model computes. Other keys are ignored.
#[derive(Debug, Deserialize)]
struct GptConfig {
    model_type: String,
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    #[serde(default)]
    n_inner: Option<usize>,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default = "gpt_2_eps")]
    layer_norm_epsilon: f64,
    /// Transformers' default for GPT-2 is true.
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
}

fn gelu_new() -> String {
    "gelu_new".into()
}

fn gpt_2_eps() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

impl GptConfig {
    fn to_lm(&self) -> std::result::Result<LmConfig, String> {
        let refuse = |key: &str, found: &dyn std::fmt::Display, known: &str| Err(format!("{key} is {found}; what can be read is {known}"));
        if self.model_type != "gpt2" {
            return refuse("model_type", &self.model_type, "gpt2");
        }
        let activation = match self.activation_function.as_str() {
            "relu" => Activation::Relu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::Gelu,
            other => return refuse("activation_function", &other, "relu, gelu_new or gelu_pytorch_tanh"),
        };
        if (self.layer_norm_epsilon - EPS as f64).abs() > 1e-9 {
            return refuse("layer_norm_epsilon", &self.layer_norm_epsilon, "1e-5");
        }
        if !self.scale_attn_weights || self.scale_attn_by_inverse_layer_idx {
            return refuse("the scale of attention", &"not 1/sqrt(d_head)", "1/sqrt(d_head)");
        }
        let config = LmConfig {
            d_vocab: self.vocab_size,
            n_ctx: self.n_positions,
            d_model: self.n_embd,
            n_layers: self.n_layer,
            n_heads: self.n_head,
            d_mlp: self.n_inner.unwrap_or(self.n_embd.saturating_mul(4)),
            activation,
            tied: self.tie_word_embeddings,
        };
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }
}

impl Lm {
    /// Reads a Hugging Face GPT-2 folder. Tensor names may lack the prefix `transformer.`; every shape is checked, and where a
    /// `manifest.json` lies beside them, the files' hashes too.
    ///
    /// # Errors
    /// Says which key or tensor does not fit, what was found and what can be read.
    pub fn load(dir: &Path) -> Result<Self> {
        if dir.join("manifest.json").exists() {
            Manifest::read(dir, "lm", FORMAT_VERSION)?.check_files(dir)?;
        }
        let path = dir.join("config.json");
        let gpt: GptConfig = read_json(&path)?;
        let config = gpt.to_lm().map_err(|what| Error::Corrupt { path, what })?;
        let file = TensorFile::open(&dir.join(WEIGHTS))?;
        let names = file.names();
        // Shapes are compared with the file before anything of the size that the configuration claims is allocated.
        let mut found = Vec::new();
        for spec in tensor_specs(&config) {
            let prefixed = format!("transformer.{}", spec.name);
            let name = if names.contains(&prefixed) { prefixed } else { spec.name };
            found.push(file.f32(&name, &spec.shape)?);
        }
        let mut weights = Weights::empty(config.n_layers);
        weights.set(found, config.tied);
        Ok(Lm { config, weights })
    }

    /// Writes `config.json` and `model.safetensors`; `end_of_text` becomes the bos and eos token.
    pub fn save(&self, dir: &Path, end_of_text: Option<u32>) -> Result<()> {
        let config = &self.config;
        let specs = tensor_specs(config);
        let tensors: Vec<Tensor> = specs
            .iter()
            .zip(self.weights.tensors())
            .map(|(spec, data)| {
                let name = if spec.name == "lm_head.weight" { spec.name.clone() } else { format!("transformer.{}", spec.name) };
                Tensor::f32(name, &spec.shape, data)
            })
            .collect();
        write_tensors(&dir.join(WEIGHTS), &tensors, &[("format", "pt".into())])?;
        let value = json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": config.d_vocab,
            "n_positions": config.n_ctx,
            "n_embd": config.d_model,
            "n_layer": config.n_layers,
            "n_head": config.n_heads,
            "n_inner": config.d_mlp,
            "activation_function": match config.activation {
                Activation::Relu => "relu",
                Activation::Gelu => "gelu_new",
            },
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "tie_word_embeddings": config.tied,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "scale_attn_weights": true,
            "scale_attn_by_inverse_layer_idx": false,
            "reorder_and_upcast_attn": false,
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            "torch_dtype": "float32",
            "use_cache": true
        });
        write_json(&dir.join("config.json"), &value)
    }
}

/// Copies the run's `tokenizer.json` beside the model and says how `transformers` opens it. Nothing happens where there is none.
pub(super) fn save_tokenizer(tokens: &Path, lm: &Path, n_ctx: usize) -> Result<()> {
    let from = tokens.join("tokenizer.json");
    if !from.exists() {
        return Ok(());
    }
    let text = std::fs::read(&from).map_err(|e| Error::io("read", &from, e))?;
    crate::artifact::write_atomic(&lm.join("tokenizer.json"), |out| std::io::Write::write_all(out, &text))?;
    let value = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": n_ctx,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": false
    });
    write_json(&lm.join("tokenizer_config.json"), &value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{CpuEngine, Engine, HookPoint, Site};
    use std::path::PathBuf;

    fn small(tied: bool) -> Lm {
        Lm::init(&LmConfig { d_vocab: 9, n_ctx: 5, d_model: 6, n_layers: 2, n_heads: 3, d_mlp: 7, activation: Activation::Gelu, tied }, 1)
    }

    #[test]
    fn a_saved_model_is_loaded_bit_for_bit_tied_or_not() {
        for tied in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let lm = small(tied);
            lm.save(dir.path(), Some(8)).unwrap();
            assert_eq!(Lm::load(dir.path()).unwrap(), lm);
        }
    }

    #[test]
    fn names_without_the_prefix_are_read_and_a_wrong_shape_is_refused_with_both() {
        let dir = tempfile::tempdir().unwrap();
        let lm = small(true);
        lm.save(dir.path(), None).unwrap();
        let specs = tensor_specs(&lm.config);
        let bare = |change: bool| {
            let tensors: Vec<Tensor> = specs
                .iter()
                .zip(lm.weights.tensors())
                .map(|(s, w)| {
                    let shape: Vec<usize> =
                        if change && s.name.ends_with("c_fc.weight") { s.shape.iter().rev().copied().collect() } else { s.shape.clone() };
                    Tensor::f32(s.name.clone(), &shape, w)
                })
                .collect();
            write_tensors(&dir.path().join(WEIGHTS), &tensors, &[]).unwrap();
        };
        bare(false);
        assert_eq!(Lm::load(dir.path()).unwrap(), lm);
        bare(true);
        let error = Lm::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("h.0.mlp.c_fc.weight") && error.contains("[7, 6]") && error.contains("[6, 7]"), "{error}");
    }

    #[test]
    fn settings_that_would_compute_something_else_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        small(true).save(dir.path(), None).unwrap();
        let path = dir.path().join("config.json");
        let good: serde_json::Value = read_json(&path).unwrap();
        for (key, value) in [
            ("activation_function", json!("gelu")),
            ("layer_norm_epsilon", json!(1e-6)),
            ("model_type", json!("llama")),
            ("scale_attn_weights", json!(false)),
            ("n_head", json!(4)),
            ("n_layer", json!(0)),
            ("vocab_size", json!(1u64 << 60)),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            write_json(&path, &bad).unwrap();
            let error = Lm::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains("config.json"), "{key}: {error}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found_where_there_is_a_manifest() {
        let dir = tempfile::tempdir().unwrap();
        small(false).save(dir.path(), None).unwrap();
        let mut manifest = Manifest::new("lm", FORMAT_VERSION, json!({}), 0);
        manifest.record_file(dir.path(), WEIGHTS).unwrap();
        manifest.write(dir.path()).unwrap();
        Lm::load(dir.path()).unwrap();
        let path = dir.path().join(WEIGHTS);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 5;
        bytes[last] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        assert!(Lm::load(dir.path()).unwrap_err().to_string().contains(WEIGHTS));
    }

    fn shared(path: &str) -> Option<PathBuf> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/models").join(path);
        if !path.exists() {
            eprintln!("skipped: {} is not there", path.display());
            return None;
        }
        Some(path)
    }

    #[test]
    fn a_gpt_2_folder_made_by_others_is_read() {
        let Some(dir) = shared("tiny-gpt2-random") else { return };
        let lm = Lm::load(&dir).unwrap();
        assert_eq!((lm.config.d_vocab, lm.config.d_mlp, lm.config.tied), (21, 8, true));
    }

    /// Little-endian floats in base64, as the published model holds them.
    fn floats(base64: &str) -> Vec<f32> {
        let digit = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let quads = base64.trim_end_matches('=').as_bytes().chunks(4);
        let bytes: Vec<u8> = quads
            .flat_map(|quad| {
                let bits = quad.iter().enumerate().fold(0u32, |bits, (i, &c)| bits | (digit(c) as u32) << (18 - 6 * i));
                bits.to_be_bytes()[1..quad.len()].to_vec()
            })
            .collect();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// minGPT stores linears (out, in); the published activations were made by its author's program.
    #[test]
    fn every_stage_of_gpt_nano_sort_equals_its_published_values() {
        let Some(dir) = shared("gpt-nano-sort") else { return };
        let config = LmConfig { d_vocab: 3, n_ctx: 11, d_model: 48, n_layers: 3, n_heads: 3, d_mlp: 192, activation: Activation::Gelu, tied: false };
        let published: serde_json::Value = read_json(&dir.join("gpt-nano-sort-model.json")).unwrap();
        let tensors = tensor_specs(&config).into_iter().map(|spec| {
            let name = if spec.name == "lm_head.weight" { spec.name.clone() } else { format!("transformer.{}", spec.name) };
            let stored = floats(published[&name]["data"].as_str().unwrap());
            assert_eq!(stored.len(), spec.len(), "{name}");
            if spec.shape.len() == 2 && spec.name.starts_with("h.") {
                let (rows, cols) = (spec.shape[0], spec.shape[1]);
                return (0..rows * cols).map(|i| stored[i % cols * rows + i / cols]).collect();
            }
            stored
        });
        let mut weights = Weights::empty(3);
        weights.set(tensors.collect(), false);
        let mut engine = CpuEngine::new(Lm { config, weights });
        let partials = TensorFile::open(&dir.join("partials.safetensors")).unwrap();
        // Three sequences; the inner stages are those of the first block.
        let ids: Vec<u32> = partials.f32("idx", &[3, 11]).unwrap().iter().map(|&x| x as u32).collect();
        let stages = [
            ("attnResid", 0, Site::ResidMid, 48),
            ("fc", 0, Site::MlpPre, 192),
            ("gelu", 0, Site::MlpPost, 192),
            ("block0", 0, Site::ResidPost, 48),
            ("block1", 1, Site::ResidPost, 48),
            ("block2", 2, Site::ResidPost, 48),
        ];
        for (name, layer, site, width) in stages {
            let want = partials.f32(name, &[3, 11, width]).unwrap();
            let mut rows = vec![0.0; 33 * width];
            engine.forward_to(&ids, 11, HookPoint { layer, site }, &mut rows);
            let worst = rows.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: {worst}");
        }
        let mut logits = vec![0.0; 33 * 3];
        engine.logits(&ids, 11, &(0..33).collect::<Vec<_>>(), None, &mut logits);
        let want = partials.f32("lm_head", &[3, 11, 3]).unwrap();
        let worst = logits.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "logits: {worst}");
    }
}
