//! What is in a run and what is stale, for `monosem info`. Reads manifests and dictionaries; runs nothing.

use super::Recipe;
use super::evaluate::EVAL_FORMAT_VERSION;
use super::saes::{beside, train_command};
use super::stages::{lm_manifest, refuse_other_settings};
use crate::activations::CacheSummary;
use crate::artifact::{Manifest, RunDir, TensorFile, settings, shell_word, why_stale};
use crate::corpus::{FORMAT_VERSION, TokenStream, sources_changed};
use crate::features::{self, Checkpoint, Dictionary, NEURONS, exam};
use crate::sae::SAE_FORMAT_VERSION;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Whether an artifact is there and made from what is there now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    Missing,
    Fresh {
        hash: String,
        figures: BTreeMap<String, u64>,
    },
    /// A training was interrupted after so many steps; its checkpoint is there.
    Interrupted {
        step: u64,
    },
    /// A dictionary's pass over the text was interrupted; what it had read is saved.
    HalfRead,
    /// `input` has changed since, or the files are damaged.
    Stale {
        why: String,
    },
}

/// What is in a run, stage by stage, with the command that makes it.
pub fn status(run: &RunDir, sae: &str) -> Vec<(&'static str, Status, String)> {
    let tokens = TokenStream::open(&run.tokens());
    let tokens_manifest = tokens.as_ref().map(|s| s.manifest().clone()).map_err(|e| e.to_string());
    let tokens_hash = tokens_manifest.as_ref().map(Manifest::hash).ok();
    let lm = lm_manifest(run).map_err(|e| e.to_string());
    let lm_hash = lm.as_ref().map(Manifest::hash).ok();
    let sae_manifest = Manifest::read(&run.sae(sae), "sae", SAE_FORMAT_VERSION).map_err(|e| e.to_string());
    let sae_hash = sae_manifest.as_ref().map(Manifest::hash).ok();
    let made = |file: PathBuf, manifest: std::result::Result<Manifest, String>, inputs: &[(&str, &Option<String>)]| match manifest {
        _ if !file.exists() => Status::Missing,
        Err(why) => Status::Stale { why },
        Ok(manifest) => match inputs.iter().find(|(input, hash)| manifest.inputs.get(*input) != hash.as_ref()) {
            Some((input, hash)) => Status::Stale { why: why_stale(input, hash.as_ref()) },
            // Tokens were compared when they were opened.
            None => match if manifest.stage == "tokens" { Ok(()) } else { manifest.check_files(file.parent().unwrap_or(&file)) } {
                Err(error) => Status::Stale { why: error.to_string() },
                Ok(()) => Status::Fresh { hash: manifest.hash(), figures: manifest.counts },
            },
        },
    };
    let dictionary = |path: PathBuf, of_sae: bool| match Dictionary::open(&path) {
        Err(features::Error::Missing { .. }) => Status::Missing,
        Err(error) => Status::Stale { why: error.to_string() },
        Ok(d) if Some(&d.meta().tokens_hash) != tokens_hash.as_ref() => Status::Stale { why: why_stale("tokens", tokens_hash.as_ref()) },
        Ok(d) if Some(&d.meta().lm_hash) != lm_hash.as_ref() => Status::Stale { why: why_stale("lm", lm_hash.as_ref()) },
        Ok(d) if of_sae && d.meta().sae_hash != sae_hash => Status::Stale { why: why_stale("sae", sae_hash.as_ref()) },
        Ok(d) => {
            let meta = d.meta();
            let figures = [("units", u64::from(meta.n_units)), ("tokens", meta.n_tokens), ("dead", meta.n_dead)];
            Status::Fresh { hash: meta.weights_hash.clone(), figures: figures.map(|(k, v)| (k.to_string(), v)).into() }
        }
    };
    let eval = Manifest::read_beside(&run.sae(sae), "eval", EVAL_FORMAT_VERSION).map_err(|e| e.to_string());
    let manifest = |dir: PathBuf| dir.join("manifest.json");
    let with_run = |command: &str| format!("monosem {command} {}", run.flags());
    let named = |command: &str, flag: &str| {
        let name = if sae == "main" { String::new() } else { format!(" {flag} {}", shell_word(sae)) };
        with_run(&format!("{command}{name}"))
    };
    let checkpoints = [run.checkpoints("lm"), run.sae_checkpoints(sae)];
    let mut all = vec![
        ("tokens", made(manifest(run.tokens()), tokens_manifest, &[]), tokens_command(run)),
        ("lm", made(manifest(run.lm()), lm, &[("tokens", &tokens_hash)]), lm_command(run)),
        ("sae", made(manifest(run.sae(sae)), sae_manifest, &[("lm", &lm_hash), ("tokens", &tokens_hash)]), train_command(run, sae)),
        (
            "eval",
            made(run.sae(sae).join("eval.json"), eval, &[("sae", &sae_hash), ("lm", &lm_hash), ("tokens", &tokens_hash)]),
            named("sae eval", "--name"),
        ),
        ("features", dictionary(run.features(sae), true), named("features build", "--sae")),
        ("neurons", dictionary(run.features(NEURONS), false), with_run("features build --neurons")),
    ];
    if let Some(why) = tokens.ok().and_then(|s| sources_changed(&run.tokens(), &serde_json::from_value(s.manifest().config.clone()).ok()?)) {
        all[0].1 = Status::Stale { why };
    }
    // No command makes the exam alone.
    let path = run.sae(sae).join("exam.json");
    if path.exists() || super::Recipe::read(&run.config()).is_ok_and(|recipe| recipe.sae.name == sae) {
        let exam = Manifest::read_beside(&run.sae(sae), "exam", exam::FORMAT_VERSION).map_err(|e| e.to_string());
        let whole_path = run_again(run);
        all.push(("exam", made(path, exam, &[("sae", &sae_hash), ("lm", &lm_hash), ("tokens", &tokens_hash)]), whole_path));
    }
    for (stage, name) in [("features", sae), ("neurons", NEURONS)] {
        let entry = all.iter_mut().find(|entry| entry.0 == stage).expect("both dictionaries are listed");
        let saved = run.checkpoints(&format!("features-{name}"));
        if !matches!(entry.1, Status::Fresh { .. }) && Checkpoint::is_at(&saved) {
            entry.1 = Status::HalfRead;
            entry.2 = format!("{} --resume", entry.2);
        }
    }
    for (stage, dir) in ["lm", "sae"].into_iter().zip(checkpoints) {
        let Some((step, path)) = newest_checkpoint(&dir) else { continue };
        let entry = all.iter_mut().find(|entry| entry.0 == stage).expect("both stages are listed");
        entry.1 = Status::Interrupted { step };
        entry.2 = match run_toml_made(run, stage, &path) {
            true => run_again(run),
            // It says so already.
            false if stage == "sae" => continue,
            false => format!("{} --resume   (and the flags that it was started with)", with_run("lm train")),
        };
    }
    all
}

/// The caches of activations in a run, in the order of their hooks; what is no finished cache is left out. Their rows, which may be many, are not read.
pub fn caches(run: &RunDir) -> Vec<CacheSummary> {
    let tokens = TokenStream::open(&run.tokens()).ok().map(|stream| stream.manifest().hash());
    let inputs = [("lm", lm_manifest(run).ok().map(|lm| lm.hash())), ("tokens", tokens)];
    let mut caches: Vec<CacheSummary> = beside(&run.activations("x")).filter_map(|dir| CacheSummary::read(&dir, &inputs).ok()).collect();
    caches.sort_by_key(|cache| cache.hook.to_string());
    caches
}

/// The command that goes on with `run.toml`; an older result of other settings, which was to be replaced, still stands in its way.
fn run_again(run: &RunDir) -> String {
    let refused = Recipe::read(&run.config()).is_ok_and(|recipe| refuse_other_settings(&recipe, run).is_err());
    format!("monosem run {} {}{}", shell_word(&run.config().to_string_lossy()), run.flags(), if refused { " --yes" } else { "" })
}

/// Whether the run's text is that of `run.toml`, or is not there to tell.
fn is_of_run_toml(run: &RunDir) -> bool {
    let tokens = Manifest::read(&run.tokens(), "tokens", FORMAT_VERSION);
    let is_of_it = |recipe: Recipe| {
        let wanted = serde_json::to_value(&recipe.corpus).expect("a config is plain data");
        tokens.map_or(true, |tokens| settings::differences(&tokens.config, &wanted).is_empty())
    };
    Recipe::read(&run.config()).is_ok_and(is_of_it)
}

/// The command that makes the run's text: as `run.toml` has it, unless that is no more what it says.
fn tokens_command(run: &RunDir) -> String {
    let made = if run.tokens().join("manifest.json").exists() { "   (and the text and flags that it was made from)" } else { "" };
    if is_of_run_toml(run) { run_again(run) } else { format!("monosem corpus build {}{made}", run.flags()) }
}

/// The command that makes the run's model: as `run.toml` has it, for a model of other settings is another one, unless the text is no more what that says.
pub fn lm_command(run: &RunDir) -> String {
    if is_of_run_toml(run) { run_again(run) } else { format!("monosem lm train {}", run.flags()) }
}

/// Step and file of the newest checkpoint in a folder.
fn newest_checkpoint(dir: &Path) -> Option<(u64, PathBuf)> {
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    fs::read_dir(dir).ok()?.flatten().filter_map(|e| Some((step(&e.path())?, e.path()))).max()
}

/// Whether the checkpoint of a stage was made with the settings of `run.toml`, so that running that goes on from it.
fn run_toml_made(run: &RunDir, stage: &str, checkpoint: &Path) -> bool {
    let Ok(recipe) = Recipe::read(&run.config()) else { return false };
    let identity = TensorFile::open(checkpoint).ok().and_then(|file| file.metadata().get("run").cloned()).unwrap_or_default();
    let there: serde_json::Value = serde_json::from_str(&identity).unwrap_or_default();
    let mut here = match stage {
        "lm" => serde_json::json!({ "lm": recipe.lm.model, "train": recipe.lm.train }),
        _ => serde_json::to_value(&recipe.sae.train).expect("a config is plain data"),
    };
    if stage == "lm" {
        here["lm"]["d_vocab"] = there["config"]["lm"]["d_vocab"].clone();
    }
    let rows = stage == "sae" && there["inputs"]["rows"] != recipe.sae.rows();
    settings::differences(&there["config"], &here).is_empty() && !rows
}
