//! Checkpoints of training: weights, both moments and where the run stands, in one safetensors file each, the newest two kept.

use super::train::Standing;
use super::{Engine, Error, Lm, Moments, Result, Weights, tensor_specs};
use crate::artifact::{Error as FileError, Tensor, TensorFile, settings, write_sealed};
use std::fs;
use std::path::PathBuf;

/// Checkpoints that are kept: the newest and, should it be damaged, the one before.
const KEPT: usize = 2;

/// The checkpoints of one training.
pub struct Checkpoints {
    dir: PathBuf,
    /// Settings and inputs of the run; a checkpoint of another run is refused.
    identity: String,
}

impl Checkpoints {
    pub fn new(dir: PathBuf, identity: String) -> Self {
        Checkpoints { dir, identity }
    }

    pub fn save(&self, engine: &dyn Engine, at: &Standing) -> Result<()> {
        let floats = [at.loss_sum, at.train_loss, at.held_out_loss, at.seconds];
        let (lm, moments) = (engine.lm(), engine.moments());
        let counts = [at.step, at.loss_steps, moments.steps];
        let specs = tensor_specs(&lm.config);
        let mut tensors = vec![Tensor::f64("figures", &[floats.len()], &floats), Tensor::u64("counts", &[counts.len()], &counts)];
        for (prefix, weights) in [("w", &lm.weights), ("m", &moments.first), ("v", &moments.second)] {
            tensors.extend(specs.iter().zip(weights.tensors()).map(|(spec, data)| Tensor::f32(format!("{prefix}.{}", spec.name), &spec.shape, data)));
        }
        write_sealed(&self.dir.join(format!("step-{:012}.safetensors", at.step)), &tensors, &[("run", self.identity.clone())])?;
        let files = self.files();
        for old in &files[..files.len().saturating_sub(KEPT)] {
            fs::remove_file(old).map_err(|e| FileError::io("remove", old, e))?;
        }
        Ok(())
    }

    /// Puts the newest checkpoint into the engine.
    pub fn load(&self, engine: &mut dyn Engine) -> Result<Standing> {
        let path = self.files().pop().ok_or_else(|| Error::NoCheckpoint { path: self.dir.clone() })?;
        let file = TensorFile::open(&path)?;
        file.check_seal()?;
        let found = file.metadata().get("run").cloned().unwrap_or_default();
        if let Some((what, settings)) = settings::other_identity(&found, &self.identity) {
            return Err(Error::OtherRun { path, what, settings });
        }
        let counts = file.u64s("counts")?;
        let figures = file.bytes("figures", crate::artifact::Dtype::F64, &[Some(4)])?;
        let figures: Vec<f64> = figures.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("chunks of eight"))).collect();
        let &[step, loss_steps, steps] = &counts[..] else {
            return Err(FileError::Corrupt { path, what: format!("{} counts, expected 3", counts.len()) }.into());
        };
        let config = engine.config().clone();
        let read = |prefix: &str| -> Result<Weights> {
            let mut weights = Weights::zeros(&config);
            for (spec, place) in tensor_specs(&config).iter().zip(weights.tensors_mut()) {
                *place = file.f32(&format!("{prefix}.{}", spec.name), &spec.shape)?;
            }
            Ok(weights)
        };
        let moments = Moments { first: read("m")?, second: read("v")?, steps };
        let weights = read("w")?;
        engine.write(Lm { config, weights }, moments);
        Ok(Standing { step, loss_steps, loss_sum: figures[0], train_loss: figures[1], held_out_loss: figures[2], seconds: figures[3] })
    }

    /// Refuses where there is a checkpoint that would be lost.
    pub fn refuse_any(&self) -> Result<()> {
        let path = self.dir.clone();
        if self.files().is_empty() { Ok(()) } else { Err(FileError::Unfinished { path }.into()) }
    }

    pub fn clear(&self) -> Result<()> {
        for path in self.files() {
            fs::remove_file(&path).map_err(|e| FileError::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// Oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let ours = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("step-") && n.ends_with(".safetensors"));
        let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(ours).collect();
        files.sort();
        files
    }
}
