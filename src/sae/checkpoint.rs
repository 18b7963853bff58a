//! Checkpoints of a training: everything that the next step depends on, in one safetensors file, written atomically, the last two kept.

use super::coefficient::Control;
use super::init::{Normaliser, Scales};
use super::{Error, Params, Result, SAE_FORMAT_VERSION, SaeConfig, State, TrainConfig};
use crate::artifact::{self, Manifest, Tensor, TensorFile, settings, write_sealed};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a training continues from.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint<'a> {
    pub state: Cow<'a, State>,
    pub scales: Scales,
    /// (F,): rows that had been trained on when the latent last fired or was replaced.
    pub last_fired: Vec<u64>,
    /// (F,), or empty: running mean of the share of rows that each latent fires on.
    pub frequency: Vec<f32>,
    pub control: Control,
    /// That the training took until here, in all its sessions.
    pub seconds: f64,
    /// (n, D) or (n, D + E): raw rows kept for the self-test.
    pub sample: Vec<f32>,
    pub step: u64,
    /// Position of the source where the next step reads, and where training began.
    pub position: u64,
    pub start: u64,
    /// Configuration and inputs: a checkpoint of another training is refused.
    pub run: String,
}

/// A training that was begun, as its newest checkpoint tells it, or its manifest where it is finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    pub config: TrainConfig,
    /// What it is trained from, by name: `rows` says which rows it reads, in which order.
    pub inputs: BTreeMap<String, String>,
    /// Steps that were saved.
    pub step: u64,
}

impl Begun {
    /// Of the training with these checkpoints, or of the SAE that is finished in `out`; none where there is neither, or where an older program wrote other settings.
    ///
    /// # Errors
    /// A folder that cannot be read; the newest checkpoint where none can be opened and nothing is finished.
    pub fn read(checkpoints: &Path, out: &Path) -> Result<Option<Self>> {
        let mut damaged = None;
        let mut of = |path: &PathBuf| {
            let file = TensorFile::open(path).map_err(|error| damaged = damaged.take().or(Some(error))).ok()?;
            let run: serde_json::Value = serde_json::from_str(file.metadata().get("run")?).ok()?;
            let config = serde_json::from_value(run["config"].clone()).ok()?;
            let inputs = serde_json::from_value(run["inputs"].clone()).ok()?;
            Some(Begun { config, inputs, step: step_of(path) })
        };
        let finished = || {
            let made = Manifest::read(out, "sae", SAE_FORMAT_VERSION).ok()?;
            let config: TrainConfig = serde_json::from_value(made.config).ok()?;
            Some(Begun { inputs: made.inputs, step: config.steps(), config })
        };
        match all(checkpoints)?.iter().rev().find_map(&mut of).or_else(finished) {
            None => damaged.map_or(Ok(None), |error| Err(error.into())),
            begun => Ok(begun),
        }
    }
}

const PARTS: [&str; 3] = ["weights", "first_moments", "second_moments"];

impl Checkpoint<'_> {
    /// Writes `dir/step-<step>.safetensors` and deletes all but the last two.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(format!("step-{:010}.safetensors", self.step));
        let State { params, first, second, steps, kept, kept_first, kept_since } = &*self.state;
        let (e, f) = (params.b_dec.len(), params.b_enc.len());
        let d = params.w_enc.len() / f;
        let mut tensors = Vec::new();
        for (part, params) in PARTS.iter().zip([params, first, second]) {
            tensors.push(Tensor::f32(format!("{part}/w_enc"), &[f, d], &params.w_enc));
            tensors.push(Tensor::f32(format!("{part}/b_enc"), &[f], &params.b_enc));
            tensors.push(Tensor::f32(format!("{part}/w_dec"), &[f, e], &params.w_dec));
            tensors.push(Tensor::f32(format!("{part}/b_dec"), &[e], &params.b_dec));
            if !params.w_skip.is_empty() {
                tensors.push(Tensor::f32(format!("{part}/w_skip"), &[e, d], &params.w_skip));
            }
            for (i, vector) in params.vectors.iter().enumerate() {
                tensors.push(Tensor::f32(format!("{part}/vector-{i}"), &[f], vector));
            }
        }
        let numbers = [*steps, self.step, self.position, self.start, kept.to_bits(), self.control.factor.to_bits(), self.control.l0.to_bits()];
        let Scales { input, target } = &self.scales;
        let scale = [input.scale, self.scales.output().scale];
        tensors.push(Tensor::f32("mean", &[d], &input.mean));
        tensors.push(Tensor::f32("scale", &[1], &scale[..1]));
        if let Some(target) = target {
            tensors.push(Tensor::f32("target_mean", &[e], &target.mean));
            tensors.push(Tensor::f32("target_scale", &[1], &scale[1..]));
        }
        let width = d + if target.is_some() { e } else { 0 };
        tensors.push(Tensor::f32("sample", &[self.sample.len() / width, width], &self.sample));
        tensors.push(Tensor::u64("last_fired", &[f], &self.last_fired));
        tensors.push(Tensor::f32("frequency", &[self.frequency.len()], &self.frequency));
        tensors.push(Tensor::u64("numbers", &[7], &numbers));
        let kept_first = [kept_first.to_bits()];
        tensors.push(Tensor::u64("kept_first", &[1], &kept_first));
        tensors.push(Tensor::u64("kept_since", &[1], std::slice::from_ref(kept_since)));
        let later = [self.control.level.to_bits(), self.seconds.to_bits()];
        tensors.push(Tensor::u64("control_level", &[1], &later[..1]));
        tensors.push(Tensor::u64("seconds", &[1], &later[1..]));
        write_sealed(&path, &tensors, &[("run", self.run.clone())])?;
        delete(all(dir)?.iter().rev().skip(2))?;
        delete(&halves(dir)?)?;
        Ok(path)
    }

    /// The newest checkpoint of `dir` after at most `limit` steps, if there is one. One that is damaged is passed over for the one before it.
    ///
    /// # Errors
    /// [`Error::OtherRun`] when it was written under other settings or from other inputs.
    pub fn newest(dir: &Path, config: &SaeConfig, run: &str, limit: u64) -> Result<Option<Self>> {
        let mut damaged = None;
        for path in all(dir)?.iter().rev().filter(|path| step_of(path) <= limit) {
            match Self::read(path, config, run) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(Error::Artifact(error)) => damaged = damaged.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        damaged.map_or(Ok(None), |error| Err(error.into()))
    }

    /// A checkpoint of `dir` that is newer than `step`, the newest that can be read, and why it cannot be.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn passed_over(dir: &Path, step: u64) -> Result<Option<(PathBuf, String)>> {
        let Some(path) = all(dir)?.pop().filter(|path| step_of(path) > step) else { return Ok(None) };
        let why = TensorFile::open(&path).and_then(|file| file.check_seal()).err();
        let why = why.map_or("it lacks what this training needs".into(), |error| error.to_string().lines().next().unwrap_or_default().to_string());
        Ok(Some((path, why)))
    }

    fn read(path: &Path, config: &SaeConfig, run: &str) -> Result<Self> {
        let (d, e, f) = (config.d_in, config.d_out(), config.d_sae);
        let file = TensorFile::open(path)?;
        file.check_seal()?;
        let found = file.metadata().get("run").cloned().unwrap_or_default();
        if let Some((what, settings)) = settings::other_identity(&found, run) {
            return Err(Error::OtherRun { path: path.into(), what, settings });
        }
        let names = file.names();
        let vectors = |part: &str| -> Result<Vec<Vec<f32>>> {
            let named = (0..).map(|i| format!("{part}/vector-{i}")).take_while(|name| names.iter().any(|n| n == name));
            Ok(named.map(|name| file.f32(&name, &[f])).collect::<artifact::Result<_>>()?)
        };
        let params = |part: &str| -> Result<Params> {
            Ok(Params {
                w_enc: file.f32(&format!("{part}/w_enc"), &[f, d])?,
                b_enc: file.f32(&format!("{part}/b_enc"), &[f])?,
                w_dec: file.f32(&format!("{part}/w_dec"), &[f, e])?,
                b_dec: file.f32(&format!("{part}/b_dec"), &[e])?,
                w_skip: if config.skip() { file.f32(&format!("{part}/w_skip"), &[e, d])? } else { Vec::new() },
                vectors: vectors(part)?,
            })
        };
        let normaliser = |mean: &str, scale: &str, width: usize| -> Result<Normaliser> {
            Ok(Normaliser { mean: file.f32(mean, &[width])?, scale: file.f32(scale, &[1])?[0] })
        };
        let numbers = file.u64s("numbers")?;
        // Absent in a checkpoint of an older program.
        let later = |name: &str| -> artifact::Result<u64> {
            if names.iter().any(|n| n == name) { Ok(file.u64s(name)?.first().copied().unwrap_or(0)) } else { Ok(0) }
        };
        let (kept_first, kept_since) = (later("kept_first")?, later("kept_since")?);
        let seconds = f64::from_bits(later("seconds")?);
        let last_fired = file.u64s("last_fired")?;
        let &[steps, step, position, start, kept, factor, l0] = &numbers[..] else {
            return Err(artifact::Error::Corrupt { path: path.into(), what: format!("it holds {} numbers, expected 7", numbers.len()) }.into());
        };
        let factor = f64::from_bits(factor);
        let level = match names.iter().any(|n| n == "control_level") {
            true => f64::from_bits(later("control_level")?),
            false if config.recipe.saturates().is_some() => 0.0,
            false => factor.ln(),
        };
        if last_fired.len() != f {
            return Err(artifact::Error::Corrupt { path: path.into(), what: format!("it counts {} latents, expected {f}", last_fired.len()) }.into());
        }
        let n_frequency = file.shape("frequency")?.first().copied().unwrap_or(0);
        if n_frequency != 0 && n_frequency != f {
            return Err(artifact::Error::Corrupt {
                path: path.into(),
                what: format!("it has the frequencies of {n_frequency} latents, expected {f}"),
            }
            .into());
        }
        let n_sample = file.shape("sample")?.first().copied().unwrap_or(0);
        Ok(Checkpoint {
            state: Cow::Owned(State {
                params: params(PARTS[0])?,
                first: params(PARTS[1])?,
                second: params(PARTS[2])?,
                steps,
                kept: f64::from_bits(kept),
                kept_first: f64::from_bits(kept_first),
                kept_since,
            }),
            scales: Scales {
                input: normaliser("mean", "scale", d)?,
                target: config.target.map(|target| normaliser("target_mean", "target_scale", target.d_out)).transpose()?,
            },
            last_fired,
            frequency: file.f32("frequency", &[n_frequency])?,
            control: Control { factor, l0: f64::from_bits(l0), level },
            seconds,
            sample: file.f32("sample", &[n_sample, config.d_row()])?,
            step,
            position,
            start,
            run: found,
        })
    }

    /// Refuses where there is a checkpoint that would be lost.
    pub fn refuse_any(dir: &Path) -> Result<()> {
        if all(dir)?.is_empty() { Ok(()) } else { Err(artifact::Error::Unfinished { path: dir.into() }.into()) }
    }

    /// Deletes every checkpoint of a folder: the training is done, or begins anew.
    ///
    /// # Errors
    /// A folder that cannot be read, a file that cannot be deleted.
    pub fn clear(dir: &Path) -> Result<()> {
        delete(&all(dir)?)?;
        delete(&halves(dir)?)
    }
}

fn delete<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    for path in paths {
        fs::remove_file(path).map_err(|e| artifact::Error::io("delete", path, e))?;
    }
    Ok(())
}

/// The step in a checkpoint's name.
fn step_of(path: &Path) -> u64 {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.strip_prefix("step-").and_then(|step| step.parse().ok()).unwrap_or(0)
}

/// Checkpoints of a folder, oldest first.
fn all(dir: &Path) -> Result<Vec<PathBuf>> {
    named(dir, "step-", ".safetensors")
}

/// What a kill while one was written has left of it.
fn halves(dir: &Path) -> Result<Vec<PathBuf>> {
    named(dir, ".step-", ".tmp")
}

/// Files of a folder whose names begin and end so, in the order of their names; none where there is no folder.
fn named(dir: &Path, begins: &str, ends: &str) -> Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let io = |e| artifact::Error::io("read", dir, e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(begins) && name.ends_with(ends) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
