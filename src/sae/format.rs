//! `sae/<name>/` in the layout of SAELens 6: cfg.json, sae_weights.safetensors, and a self-test that every load replays.
//!
//! On disk W_enc is (D, F), W_dec (F, E), E = d_out (= D but for transcoders), W_skip (E, D); activations and biases are in raw model units, decoder rows
//! have unit norm, `normalize_activations` is none.
//!
//! A transcoder that keeps latents by a threshold or above zero is what SAELens calls `jumprelu_transcoder` and `transcoder`, with a linear path
//! `jumprelu_skip_transcoder` and `skip_transcoder`; SAELens has none that keeps k (`topk_transcoder`, `topk_skip_transcoder` here).

use super::{Origin, SAE_FORMAT_VERSION, Sae, Select, SparseRows, Transcoder};
use crate::artifact::{Error, Manifest, Result, Tensor, TensorFile, read_json, write_json, write_tensors};
use serde_json::{Value, json};
use std::path::Path;

/// The weights of a saved SAE.
pub const WEIGHTS_FILE: &str = "sae_weights.safetensors";

/// Rows of the self-test.
pub const SELFTEST_ROWS: usize = 64;

/// Largest difference allowed on replay, as a share of the largest stored value: another CPU sums in another order.
const SELFTEST_TOLERANCE: f32 = 1e-3;

/// The version of SAELens whose layout this is; its loader chooses the meaning of cfg.json by it.
const SAE_LENS_VERSION: &str = "6.54.12";

impl Sae {
    /// Writes `cfg.json`, `sae_weights.safetensors` and `selftest.safetensors`; `sample` (n, D) are raw model activations of which up to 64
    /// become the self-test.
    pub fn save(&self, dir: &Path, origin: &Origin, sample: &[f32]) -> Result<()> {
        let (d, e, f) = (self.d_in, self.d_out(), self.d_sae);
        let w_enc = transpose(f, d, &self.w_enc);
        let b_enc = if matches!(self.select, Select::Gated { .. }) { "b_gate" } else { "b_enc" };
        let mut tensors = vec![
            Tensor::f32("W_enc", &[d, f], &w_enc),
            Tensor::f32(b_enc, &[f], &self.b_enc),
            Tensor::f32("W_dec", &[f, e], &self.w_dec),
            Tensor::f32("b_dec", &[e], &self.b_dec),
        ];
        if let Some(w_skip) = self.skip() {
            tensors.push(Tensor::f32("W_skip", &[e, d], w_skip));
        }
        match &self.select {
            Select::JumpRelu { threshold } => tensors.push(Tensor::f32("threshold", &[f], threshold)),
            Select::Refined { first, threshold, .. } => {
                tensors.push(Tensor::f32("first_threshold", &[f], first));
                tensors.push(Tensor::f32("threshold", &[f], threshold));
            }
            Select::Gated { b_mag, r_mag } => {
                tensors.push(Tensor::f32("b_mag", &[f], b_mag));
                tensors.push(Tensor::f32("r_mag", &[f], r_mag));
            }
            Select::Relu | Select::TopK { .. } => {}
            // Encoder and decoder are one.
            Select::Pursuit { .. } => tensors.retain(|tensor| tensor.name == "W_dec" || tensor.name == "b_dec"),
        }
        write_tensors(&dir.join(WEIGHTS_FILE), &tensors, &[("format", "pt".into())])?;
        let n = (sample.len() / d).min(SELFTEST_ROWS);
        let x = &sample[..n * d];
        let (acts, x_hat) = self.replay(x);
        let selftest = [Tensor::f32("x", &[n, d], x), Tensor::f32("acts", &[n, f], &acts), Tensor::f32("x_hat", &[n, e], &x_hat)];
        write_tensors(&dir.join("selftest.safetensors"), &selftest, &[])?;
        // Last, so that a folder with a cfg.json is complete.
        write_json(&dir.join("cfg.json"), &self.cfg(origin))
    }

    /// Reads the folder, checks every size, replays the self-test and, where a `manifest.json` lies beside them, compares the files' hashes: the
    /// self-test sees only latents that fire in it.
    ///
    /// # Errors
    /// Anything missing or changed since it was written, of the wrong shape or type, an architecture that is not read here, or a self-test that comes out
    /// differently; a transcoder, which callers would take for an autoencoder ([`Sae::load_any`] reads both).
    pub fn load(dir: &Path) -> Result<Self> {
        let sae = Self::load_any(dir)?;
        if sae.transcoder.is_some() {
            let path = dir.join("cfg.json");
            let what = "it is a transcoder: it reads one place of the model and reconstructs another".to_string();
            return Err(Error::Refused {
                path,
                what,
                next: "name an SAE; a transcoder can be trained, evaluated, compared, and its features built and read".into(),
            });
        }
        Ok(sae)
    }

    /// As [`Sae::load`], transcoders too.
    pub fn load_any(dir: &Path) -> Result<Self> {
        let sae = Self::load_weights(dir)?;
        if dir.join("manifest.json").exists() {
            Manifest::read(dir, "sae", SAE_FORMAT_VERSION)?.check_files(dir)?;
        }
        let path = dir.join("selftest.safetensors");
        let file = TensorFile::open(&path)?;
        let rows = file.shape("x")?.first().copied().unwrap_or(0);
        let (d, e, f) = (sae.d_in, sae.d_out(), sae.d_sae);
        let (acts, x_hat) = sae.replay(&file.f32("x", &[rows, d])?);
        for (name, got, width) in [("acts", acts, f), ("x_hat", x_hat, e)] {
            let want = file.f32(name, &[rows, width])?;
            let most = want.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
            let off = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0f32, |m, v| if v > m || v.is_nan() { v } else { m });
            // Two latents that tie to the last bit may change places on another CPU; x_hat then stays the same, so it is the judge of ties.
            let swapped = name == "acts" && matches!(sae.select, Select::TopK { .. }) && mostly_equal(&got, &want, most * SELFTEST_TOLERANCE);
            if (off.is_nan() || off > SELFTEST_TOLERANCE * most) && !swapped {
                let why = match sae.select {
                    Select::Pursuit { .. } => {
                        "weights and self-test are not of one SAE, or of a former program, whose pursuit ended before a latent came twice"
                    }
                    _ => "weights and self-test are not of one SAE",
                };
                let what = format!("its self-test disagrees: {name} is off by {off:.3e} where values reach {most:.3e}; {why}");
                return Err(Error::Corrupt { path, what });
            }
        }
        Ok(sae)
    }

    fn load_weights(dir: &Path) -> Result<Self> {
        let path = dir.join("cfg.json");
        let cfg: Value = read_json(&path)?;
        let corrupt = |what: String| Error::Corrupt { path: path.clone(), what };
        let size = |key: &str| {
            let n = cfg[key].as_u64().filter(|n| (1..1 << 31).contains(n));
            n.map(|n| n as usize).ok_or_else(|| corrupt(format!("{key} is {}, expected a positive whole number", cfg[key])))
        };
        let (d_in, d_sae) = (size("d_in")?, size("d_sae")?);
        // As it should be, and not what is read here.
        let refused = |what: String, next: &str| Error::Refused { path: path.clone(), what, next: next.into() };
        let with_sae_lens = |with: &str| format!("load it with SAELens, call {with} and save it again");
        for (key, with) in [("normalize_activations", Some("fold_activation_norm_scaling_factor")), ("reshape_activations", None)] {
            if !matches!(cfg[key].as_str(), None | Some("none")) {
                let next = with.map_or("use an SAE that reads rows as they are".into(), with_sae_lens);
                return Err(refused(format!("its {key} is {}, only none is read", cfg[key]), &next));
            }
        }
        if cfg["rescale_acts_by_decoder_norm"] == Value::Bool(true) {
            let what = "its rescale_acts_by_decoder_norm is true, only folded weights are read".into();
            return Err(refused(what, &with_sae_lens("fold_W_dec_norm")));
        }
        let apply_b_dec_to_input =
            cfg["apply_b_dec_to_input"].as_bool().ok_or_else(|| corrupt(format!("apply_b_dec_to_input is {}", cfg["apply_b_dec_to_input"])))?;
        let file = TensorFile::open(&dir.join(WEIGHTS_FILE))?;
        let floats = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let values = file.f32(name, shape)?;
            let what = || format!("{name} holds a value that is not finite");
            if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(Error::Corrupt { path: file.path().into(), what: what() }) }
        };
        // A latent may be switched off by a threshold that nothing exceeds.
        let thresholds = |name: &str| -> Result<Vec<f32>> {
            let values = file.f32(name, &[d_sae])?;
            let what = || format!("{name} holds a value that is no threshold");
            if values.iter().all(|v| *v > f32::NEG_INFINITY) { Ok(values) } else { Err(Error::Corrupt { path: file.path().into(), what: what() }) }
        };
        let architecture = cfg["architecture"].as_str().unwrap_or_default();
        // `skip_transcoder` and `transcoder` alone keep what is above zero.
        let (rule, skip) = match architecture.strip_suffix("transcoder") {
            Some(rest) => {
                let (rest, skip) = rest.strip_suffix("skip_").map_or((rest, false), |rest| (rest, true));
                // `skip_` and the rule before it end in an underscore.
                (if rest.is_empty() { "standard" } else { rest.strip_suffix('_').unwrap_or(architecture) }, Some(skip))
            }
            None => (architecture, None),
        };
        let d_out = if skip.is_some() { size("d_out")? } else { d_in };
        let select = match rule {
            "standard" => Select::Relu,
            "topk" => {
                Select::TopK { k: size("k").and_then(|k| if k <= d_sae { Ok(k) } else { Err(corrupt(format!("k is {k} of {d_sae} latents"))) })? }
            }
            "jumprelu" => Select::JumpRelu { threshold: thresholds("threshold")? },
            "refined_jumprelu" if skip.is_none() => {
                let step = cfg["refine_step"].as_f64().filter(|step| (0.0..=1.0).contains(step));
                let step = step.ok_or_else(|| corrupt(format!("refine_step is {}", cfg["refine_step"])))? as f32;
                Select::Refined { step, first: thresholds("first_threshold")?, threshold: thresholds("threshold")? }
            }
            "gated" if skip.is_none() => Select::Gated { b_mag: floats("b_mag", &[d_sae])?, r_mag: floats("r_mag", &[d_sae])? },
            "matching_pursuit" if skip.is_none() => {
                let least = cfg["residual_threshold"].as_f64().filter(|least| *least >= 0.0);
                let least = least.ok_or_else(|| corrupt(format!("residual_threshold is {}", cfg["residual_threshold"])))?;
                if cfg["stop_on_duplicate_support"] != Value::Bool(true) {
                    let what = format!("its stop_on_duplicate_support is {}, only true is read", cfg["stop_on_duplicate_support"]);
                    return Err(refused(what, "train it with stop_on_duplicate_support"));
                }
                let k = size("max_iterations")?;
                Select::Pursuit {
                    k: if k <= d_sae { k } else { return Err(corrupt(format!("max_iterations is {k} of {d_sae} latents"))) },
                    least: least as f32,
                }
            }
            _ => {
                let known = "standard, topk, jumprelu, refined_jumprelu, gated, matching_pursuit or a transcoder";
                return Err(refused(format!("its architecture is {}, known are {known}", cfg["architecture"]), "use an SAE of one of these"));
            }
        };
        let b_enc_name = if matches!(select, Select::Gated { .. }) { "b_gate" } else { "b_enc" };
        let tied = matches!(select, Select::Pursuit { .. });
        let w_enc = if tied { floats("W_dec", &[d_sae, d_in])? } else { transpose(d_in, d_sae, &floats("W_enc", &[d_in, d_sae])?) };
        let (b_enc, w_dec, b_dec) =
            (if tied { vec![0.0; d_sae] } else { floats(b_enc_name, &[d_sae])? }, floats("W_dec", &[d_sae, d_out])?, floats("b_dec", &[d_out])?);
        let w_skip = if skip == Some(true) { floats("W_skip", &[d_out, d_in])? } else { Vec::new() };
        if skip.is_some() && apply_b_dec_to_input {
            return Err(corrupt("apply_b_dec_to_input is true, but a transcoder's b_dec belongs to what it writes".into()));
        }
        let transcoder = skip.map(|_| Transcoder { d_out, w_skip });
        Ok(Sae { d_in, d_sae, select, w_enc, b_enc, w_dec, b_dec, apply_b_dec_to_input, transcoder })
    }

    /// The linear path (E, D), where there is one.
    fn skip(&self) -> Option<&[f32]> {
        self.transcoder.as_ref().map(|transcoder| &transcoder.w_skip[..]).filter(|w_skip| !w_skip.is_empty())
    }

    /// Up to [`SELFTEST_ROWS`] of the rows x (n, D), each the one on which the most latents fire that fire on none before it.
    pub(super) fn telling_rows(&self, x: &[f32]) -> Vec<f32> {
        let mut rows = SparseRows::default();
        self.encode(x, &mut rows);
        let n = x.len() / self.d_in;
        let (mut seen, mut taken) = (vec![false; self.d_sae], vec![false; n]);
        let mut chosen = Vec::new();
        for _ in 0..n.min(SELFTEST_ROWS) {
            let new = |i: usize| rows.row(i).0.iter().filter(|&&latent| !seen[latent as usize]).count();
            // Of equals the first.
            let best = (0..n).filter(|&i| !taken[i]).max_by_key(|&i| (new(i), std::cmp::Reverse(i))).expect("fewer are taken than there are");
            taken[best] = true;
            rows.row(best).0.iter().for_each(|&latent| seen[latent as usize] = true);
            chosen.extend_from_slice(&x[best * self.d_in..][..self.d_in]);
        }
        chosen
    }

    /// (acts (n, F) dense, x_hat (n, E)) of rows x.
    fn replay(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mut rows = SparseRows::default();
        self.encode(x, &mut rows);
        let mut x_hat = vec![0.0; rows.n_rows() * self.d_out()];
        self.reconstruct(x, &rows, &mut x_hat);
        (rows.to_dense(self.d_sae), x_hat)
    }

    fn cfg(&self, origin: &Origin) -> Value {
        let rule = match self.select {
            Select::Relu => "standard",
            Select::TopK { .. } => "topk",
            Select::JumpRelu { .. } => "jumprelu",
            // Known to no other program.
            Select::Refined { .. } => "refined_jumprelu",
            Select::Gated { .. } => "gated",
            Select::Pursuit { .. } => "matching_pursuit",
        };
        let kind = if self.skip().is_some() { "skip_transcoder" } else { "transcoder" };
        let architecture = match (&self.transcoder, rule) {
            (None, rule) => rule.to_string(),
            (Some(_), "standard") => kind.to_string(),
            (Some(_), rule) => format!("{rule}_{kind}"),
        };
        let mut cfg = json!({
            "architecture": architecture,
            "d_in": self.d_in,
            "d_sae": self.d_sae,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": self.apply_b_dec_to_input,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {
                "sae_lens_version": SAE_LENS_VERSION,
                "sae_lens_training_version": null,
                "monosem_version": env!("CARGO_PKG_VERSION"),
                "model_name": origin.model_name,
                "hook_name": origin.hook_name,
                "hook_head_index": null,
                "context_size": origin.context_size,
                "prepend_bos": false,
                "dataset_path": origin.dataset,
                "exclude_special_tokens": true,
            },
        });
        if let Some(transcoder) = &self.transcoder {
            cfg["d_out"] = transcoder.d_out.into();
            cfg["metadata"]["hook_name_out"] = origin.hook_name_out.clone().into();
            cfg["metadata"]["hook_head_index_out"] = Value::Null;
        }
        if let Select::TopK { k } = self.select {
            cfg["k"] = k.into();
            cfg["rescale_acts_by_decoder_norm"] = false.into();
        }
        if let Select::Refined { step, .. } = self.select {
            cfg["refine_step"] = step.into();
        }
        if let Select::Pursuit { k, least } = self.select {
            cfg["max_iterations"] = k.into();
            cfg["residual_threshold"] = least.into();
            cfg["stop_on_duplicate_support"] = true.into();
        }
        cfg
    }
}

/// Where an SAE says that it comes from.
pub fn read_origin(dir: &Path) -> Result<Origin> {
    let cfg: Value = read_json(&dir.join("cfg.json"))?;
    let text = |key: &str| cfg["metadata"][key].as_str().unwrap_or_default().to_string();
    Ok(Origin {
        model_name: text("model_name"),
        hook_name: text("hook_name"),
        hook_name_out: cfg["metadata"]["hook_name_out"].as_str().map(String::from),
        context_size: cfg["metadata"]["context_size"].as_u64().unwrap_or(0) as usize,
        dataset: text("dataset_path"),
    })
}

/// Whether all but one in ten thousand of the values agree.
fn mostly_equal(got: &[f32], want: &[f32], tolerance: f32) -> bool {
    let off = got.iter().zip(want).filter(|(g, w)| (*g - *w).abs() > tolerance || g.is_nan()).count();
    off <= got.len() / 10_000
}

/// (rows, cols) -> (cols, rows).
fn transpose(rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for (i, row) in x.chunks_exact(cols).enumerate() {
        for (j, &v) in row.iter().enumerate() {
            out[j * rows + i] = v;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use rand::RngExt;

    pub(crate) fn random_sae(select: Select, apply_b_dec_to_input: bool) -> Sae {
        let (d_in, d_sae) = (5, 7);
        let mut rng = seed::rng(0, "test/format", 0);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        Sae { d_in, d_sae, select, w_enc: random(35), b_enc: random(7), w_dec: random(35), b_dec: random(5), apply_b_dec_to_input, transcoder: None }
    }

    fn sample() -> Vec<f32> {
        let mut rng = seed::rng(0, "test/format", 1);
        (0..70 * 5).map(|_| rng.random_range(-2.0..2.0)).collect()
    }

    fn gated() -> Select {
        Select::Gated { b_mag: vec![0.1, -0.2, 0.3, 0.0, 0.5, -0.1, 0.2], r_mag: vec![0.2, 0.0, -0.3, 0.1, 0.4, 0.0, -0.1] }
    }

    fn refined() -> Select {
        Select::Refined { step: 0.3, first: vec![0.1; 7], threshold: vec![0.2, 0.0, 0.3, 0.1, 0.4, 0.0, 0.2] }
    }

    #[test]
    fn a_pursuit_is_saved_by_its_directions_alone_and_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut sae = random_sae(Select::Pursuit { k: 3, least: 0.25 }, true);
        sae.w_dec.chunks_exact_mut(5).for_each(crate::sae::cpu::normalise);
        (sae.w_enc, sae.b_enc) = (sae.w_dec.clone(), vec![0.0; 7]);
        sae.save(dir.path(), &Origin::default(), &sample()).unwrap();
        assert_eq!(Sae::load(dir.path()).unwrap(), sae);
        assert_eq!(TensorFile::open(&dir.path().join("sae_weights.safetensors")).unwrap().names().len(), 2);
        let (mut rows, x) = (SparseRows::default(), sample());
        sae.encode(&x, &mut rows);
        assert!(rows.to_dense(7).iter().zip(&sae.encode_dense(&x)).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!(rows.n_active() > x.len() / 5);
    }

    #[test]
    fn what_is_saved_is_loaded_for_every_architecture() {
        let jump = Select::JumpRelu { threshold: vec![0.1, 0.5, 0.0, 0.9, 0.2, 0.3, 0.4] };
        for select in [Select::Relu, Select::TopK { k: 3 }, jump, gated(), refined()] {
            let dir = tempfile::tempdir().unwrap();
            let sae = random_sae(select, true);
            let origin = Origin {
                model_name: "m".into(),
                hook_name: "blocks.0.hook_mlp_out".into(),
                hook_name_out: None,
                context_size: 64,
                dataset: "t".into(),
            };
            sae.save(dir.path(), &origin, &sample()).unwrap();
            assert_eq!(Sae::load(dir.path()).unwrap(), sae);
            assert_eq!(read_origin(dir.path()).unwrap(), origin);
            assert_eq!(TensorFile::open(&dir.path().join("selftest.safetensors")).unwrap().shape("acts").unwrap(), [64, 7]);
        }
    }

    #[test]
    fn the_rows_of_the_self_test_make_as_many_latents_fire_as_they_can() {
        let (d_in, d_sae) = (9, 300);
        let mut rng = seed::rng(0, "test/format", 2);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        let (w_enc, w_dec, x) = (random(d_in * d_sae), random(d_in * d_sae), random(1500 * d_in));
        let (b_enc, b_dec) = (vec![0.0; d_sae], vec![0.0; d_in]);
        let sae = Sae { d_in, d_sae, select: Select::TopK { k: 3 }, w_enc, b_enc, w_dec, b_dec, apply_b_dec_to_input: false, transcoder: None };
        let fire = |x: &[f32]| {
            let mut rows = SparseRows::default();
            sae.encode(x, &mut rows);
            (0..rows.n_rows()).flat_map(|i| rows.row(i).0.to_vec()).collect::<std::collections::BTreeSet<u32>>().len()
        };
        let chosen = sae.telling_rows(&x);
        assert_eq!(chosen.len(), SELFTEST_ROWS * d_in);
        let (ours, first, all) = (fire(&chosen), fire(&x[..SELFTEST_ROWS * d_in]), fire(&x));
        assert!(10 * ours > 12 * first, "{ours} latents, {first} in the first rows, {all} in all");
        assert!(sae.telling_rows(&x[..5 * d_in]).len() == 5 * d_in && sae.telling_rows(&[]).is_empty());
    }

    #[test]
    fn weights_of_another_sae_are_caught_by_the_self_test() {
        let dir = tempfile::tempdir().unwrap();
        let sae = random_sae(Select::TopK { k: 3 }, true);
        sae.save(dir.path(), &Origin::default(), &sample()).unwrap();
        let mut cfg: Value = read_json(&dir.path().join("cfg.json")).unwrap();
        cfg["apply_b_dec_to_input"] = false.into();
        write_json(&dir.path().join("cfg.json"), &cfg).unwrap();
        let error = Sae::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("selftest.safetensors") && error.contains("disagrees"), "{error}");
    }

    #[test]
    fn absurd_configurations_are_refused_and_say_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        random_sae(Select::TopK { k: 3 }, true).save(dir.path(), &Origin::default(), &sample()).unwrap();
        let path = dir.path().join("cfg.json");
        let good: Value = read_json(&path).unwrap();
        for (key, value) in [
            ("k", json!(8)),
            ("d_in", json!(-5)),
            ("d_sae", json!(1u64 << 40)),
            ("architecture", json!("temporal")),
            ("normalize_activations", json!("layer_norm")),
            ("reshape_activations", json!("hook_z")),
            ("rescale_acts_by_decoder_norm", json!(true)),
        ] {
            let mut cfg = good.clone();
            cfg[key] = value.clone();
            write_json(&path, &cfg).unwrap();
            let error = Sae::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(key) || error.contains(value.to_string().as_str()), "{key}: {error}");
        }
        let mut cfg = good.clone();
        cfg["d_in"] = json!(6);
        write_json(&path, &cfg).unwrap();
        let error = Sae::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("W_enc") && error.contains("[5, 7]"), "{error}");
    }

    #[test]
    fn encode_and_decode_equal_their_dense_oracles() {
        for (select, pre_bias) in [
            (Select::Relu, true),
            (Select::TopK { k: 3 }, false),
            (Select::JumpRelu { threshold: vec![0.5; 7] }, true),
            (gated(), true),
            (refined(), true),
        ] {
            let sae = random_sae(select, pre_bias);
            let (acts, x_hat) = sae.replay(&sample());
            let dense = sae.encode_dense(&sample());
            assert!(acts.iter().zip(&dense).all(|(a, b)| (a - b).abs() < 1e-5));
            assert!(acts.iter().any(|&a| a > 0.0));
            assert!(x_hat.iter().zip(sae.decode_dense(&dense)).all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }

    #[test]
    fn encoding_is_bitwise_repeatable_at_any_thread_count() {
        let sae = random_sae(Select::TopK { k: 2 }, true);
        let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| sae.replay(&sample()));
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(3));
    }
}
