//! The place of an SAE on disk, and what may become of the work that is there already.

use super::checkpoint::{Begun, Checkpoint};
use super::format::WEIGHTS_FILE;
use super::history;
use super::train::{SAE_FORMAT_VERSION, TrainedSae};
use super::{Error, Result, Sae, TrainConfig};
use crate::artifact::{self, Manifest, Start, settings};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The log of a training, a line of JSON for each logged step.
pub const LOG: &str = "train.jsonl";

/// The picture that `sae curves` draws.
pub const PLOT: &str = "curves.svg";

/// The input of an SAE that says what was done to its model's weights; absent where nothing was.
pub const WEIGHTS: &str = "weights";

/// Where the result goes and what it is made from.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// `sae/<name>/`
    pub out: PathBuf,
    /// Folder of this SAE's checkpoints, and of its log and snapshots until it is finished.
    pub checkpoints: PathBuf,
    /// What becomes of a checkpoint and of a finished SAE that are there.
    pub start: Start,
    /// Recorded in cfg.json for other tools.
    pub origin: Origin,
    /// What it is made from, by name, for manifest.json: hashes of manifests (`lm`, `tokens`, `activations`), `rows` and [`WEIGHTS`] in words.
    pub inputs: BTreeMap<String, String>,
}

/// Where the rows come from, in SAELens' words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    pub model_name: String,
    /// e.g. `blocks.0.mlp.hook_post`
    pub hook_name: String,
    /// What a transcoder reconstructs, e.g. `blocks.0.hook_mlp_out`.
    pub hook_name_out: Option<String>,
    /// n_ctx
    pub context_size: usize,
    pub dataset: String,
}

impl Place {
    /// What its lines are told under, where `n` SAEs are trained at a time; nothing for one alone.
    pub(super) fn name(&self, n: usize) -> String {
        let name = || self.out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if n > 1 { name() } else { String::new() }
    }

    /// Refuses, before anything is measured or read, what [`train`](super::train()) would refuse because of what is there. What is finished and was killed before its log and snapshots
    /// were moved beside it is healed on the way, as `train` does it.
    ///
    /// # Errors
    /// A finished SAE of other settings and, without [`Start::Resume`], a checkpoint, unless they are to be replaced; with it, a checkpoint of another training.
    pub fn refuse(&self, config: &TrainConfig) -> Result<()> {
        already(config, self).map(|_| ())
    }

    /// The share of its steps that the training still has to make.
    pub fn left(&self, config: &TrainConfig) -> f64 {
        if self.start != Start::Replace && self.is_fresh(config) {
            return 0.0;
        }
        let begun = if self.start == Start::Resume { Begun::read(&self.checkpoints, &self.out).ok().flatten() } else { None };
        // A finished one that is not fresh is trained anew.
        begun.filter(|begun| begun.step < config.steps()).map_or(1.0, |begun| 1.0 - begun.step as f64 / config.steps() as f64)
    }

    /// Tries what the last step of the training has to be able to do.
    pub(super) fn try_to_write(&self) -> Result<()> {
        let there = self.out.exists();
        artifact::write_together::<Error>(&self.out, |_| Ok(()), || Ok(()))?;
        if !there {
            // An empty folder would be listed as an SAE.
            std::fs::remove_dir(&self.out).map_err(|e| artifact::Error::io("delete", &self.out, e))?;
        }
        Ok(())
    }

    /// How the SAE that is finished here differs in its settings from what is asked for, the order of rows and what was done to the model included; empty where there is none.
    /// Of weights whose manifest is missing or no JSON nobody can tell, unless a checkpoint leads back to them.
    ///
    /// # Errors
    /// A manifest that cannot be read, or of another program.
    pub fn differences(&self, config: &TrainConfig) -> artifact::Result<Vec<String>> {
        if !self.out.join("manifest.json").exists() {
            let is_known = !self.out.join(WEIGHTS_FILE).exists() || Checkpoint::refuse_any(&self.checkpoints).is_err();
            return Ok(if is_known { Vec::new() } else { vec!["which, nobody can tell: its manifest.json is missing".into()] });
        }
        let there = match Manifest::read(&self.out, "sae", SAE_FORMAT_VERSION) {
            Err(artifact::Error::Json { source, .. }) => return Ok(vec![format!("which, nobody can tell: its manifest.json is no JSON ({source})")]),
            there => there?,
        };
        let all = |config: &serde_json::Value, inputs: &BTreeMap<String, String>| json!({ "train": config, "rows": inputs.get("rows"), WEIGHTS: inputs.get(WEIGHTS) });
        let here = serde_json::to_value(config).expect("plain data");
        Ok(settings::differences(&all(&there.config, &there.inputs), &all(&here, &self.inputs)))
    }

    /// Whether the SAE that is finished here was trained with these settings from these inputs and is as it was written.
    pub fn is_fresh(&self, config: &TrainConfig) -> bool {
        let same = || self.differences(config).is_ok_and(|d| d.is_empty());
        Manifest::read(&self.out, "sae", SAE_FORMAT_VERSION).is_ok_and(|there| there.inputs == self.inputs && there.check_files(&self.out).is_ok())
            && same()
    }
}

/// Names what determines the result: a checkpoint made from anything else is refused.
pub(super) fn identity(config: &TrainConfig, place: &Place) -> String {
    settings::identity(&serde_json::to_value(config).expect("plain data"), &place.inputs)
}

/// The SAE that is there already, if it is what is asked for; refuses where something would be lost.
pub(super) fn already(config: &TrainConfig, place: &Place) -> Result<Option<TrainedSae>> {
    if place.start == Start::Replace {
        return Ok(None);
    }
    let resumes = place.start == Start::Resume;
    let newest = match Checkpoint::newest(&place.checkpoints, &config.sae, &identity(config, place), u64::MAX) {
        // That of another training is refused below, after the SAE that is there.
        Err(Error::OtherRun { .. }) if !resumes => None,
        newest => newest?,
    };
    if newest.is_some() && logged_to_the_end(config, place) && place.is_fresh(config) {
        // It was stopped after the SAE was written and before the rest was handed over.
        hand_over(place)?;
    } else if newest.is_some() && resumes {
        return Ok(None);
    }
    if let Some(done) = finished(config, place)? {
        return Ok(Some(done));
    }
    Checkpoint::refuse_any(&place.checkpoints)?;
    Ok(None)
}

/// Whether the log beside the checkpoints is that of a whole training, or was handed over already.
fn logged_to_the_end(config: &TrainConfig, place: &Place) -> bool {
    let Ok(text) = std::fs::read_to_string(place.checkpoints.join(LOG)) else { return true };
    let last = text.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    last.is_some_and(|line| line["step"].as_u64() == Some(config.steps()))
}

/// Moves what lies beside the checkpoints to the finished SAE, and deletes these.
pub(super) fn hand_over(place: &Place) -> Result<()> {
    let log = place.checkpoints.join(LOG);
    if log.exists() {
        artifact::move_file(&log, &place.out.join(LOG))?;
    }
    history::hand_over(&place.checkpoints, &place.out)?;
    artifact::remove_if_there(&place.checkpoints.join(PLOT))?;
    // Last: whoever is interrupted before goes on from here and comes to the same end.
    Checkpoint::clear(&place.checkpoints)
}

/// The SAE in `place.out`, if it was trained with these settings from these inputs; refuses one of other settings.
fn finished(config: &TrainConfig, place: &Place) -> Result<Option<TrainedSae>> {
    let differs = place.differences(config)?;
    if !differs.is_empty() {
        return Err(artifact::Error::Finished { path: place.out.clone(), differs: settings::listed(&differs), other: "--name or --run" }.into());
    }
    if !place.is_fresh(config) {
        return Ok(None);
    }
    let there = Manifest::read(&place.out, "sae", SAE_FORMAT_VERSION)?;
    let figure = |key: &str| {
        let lacks = || artifact::Error::Refused {
            path: place.out.join("manifest.json"),
            what: format!("its {key} is {}, not a number: an older program wrote it", there.details[key]),
            next: "train it anew: the same command with --yes".into(),
        };
        there.details[key].as_f64().ok_or_else(lacks)
    };
    let (fvu, l0, dead_frac, sparsity_factor) = (figure("fvu")?, figure("l0")?, figure("dead_frac")?, there.details["sparsity_factor"].as_f64());
    let rows = config.rows_of_steps();
    Ok(Some(TrainedSae { sae: Sae::load_any(&place.out)?, steps: config.steps(), rows, fvu, l0, dead_frac, sparsity_factor }))
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
