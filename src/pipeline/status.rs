//! What is in a run and what is stale, for `monosem info`. Reads manifests and dictionaries; runs nothing.

use super::Recipe;
use super::evaluate::EVAL_FORMAT_VERSION;
use super::stages::{lm_manifest, refuse_other_settings};
use crate::activations::CacheSummary;
use crate::artifact::{Manifest, RunDir, TensorFile, settings, shell_word, why_stale};
use crate::corpus::{TokenStream, sources_changed};
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
    let checkpoints = [run.checkpoints("lm"), run.checkpoints(&format!("sae-{sae}"))];
    let mut all = vec![
        ("tokens", made(manifest(run.tokens()), tokens_manifest, &[]), with_run("corpus build")),
        ("lm", made(manifest(run.lm()), lm, &[("tokens", &tokens_hash)]), with_run("lm train")),
        ("sae", made(manifest(run.sae(sae)), sae_manifest, &[("lm", &lm_hash), ("tokens", &tokens_hash)]), named("sae train", "--name")),
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
            // What is in an SAE's checkpoint is all that its training needs.
            false if stage == "sae" => format!("{} --resume", entry.2),
            false => format!("{} --resume   (and the flags that it was started with)", entry.2),
        };
    }
    all
}

/// Names of the run's SAEs, those with a dictionary first, `main` before others: finished ones, those in the making, and dictionaries that were imported without one.
pub fn saes(run: &RunDir) -> Vec<String> {
    let inside = |path: PathBuf| beside(&path);
    let named = |path: &Path| Some(path.file_name()?.to_str()?.to_string());
    let is_full = |path: &PathBuf| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let finished = inside(run.sae("x")).filter(|path| path.is_dir()).filter_map(|path| named(&path));
    let making = inside(run.checkpoints("x")).filter(is_full).filter_map(|path| Some(named(&path)?.strip_prefix("sae-")?.to_string()));
    let dictionaries = inside(run.features("x")).filter_map(|path| Some(named(&path)?.strip_suffix(".sqlite")?.to_string()));
    let imported = dictionaries.filter(|name| name != NEURONS && !name.starts_with('.'));
    let mut names: Vec<String> = finished.chain(making).chain(imported).collect();
    names.sort_by_key(|name| (!run.features(name).is_file(), name != "main", name.clone()));
    names.dedup();
    names
}

/// Whether an SAE of the run was begun and is not there yet: its training goes on, or was interrupted.
pub fn is_unfinished(run: &RunDir, name: &str) -> bool {
    run.checkpoints(&format!("sae-{name}")).is_dir() && !run.sae(name).join("cfg.json").is_file() && !run.features(name).is_file()
}

/// [`saes`] but for `without`, as one line that tells which of them are unfinished; `none` where there are none.
pub fn saes_in_words(run: &RunDir, without: Option<&str>) -> String {
    let told = |name: String| if is_unfinished(run, &name) { format!("{name} (unfinished)") } else { name };
    match saes(run).into_iter().filter(|name| Some(&name[..]) != without).map(told).collect::<Vec<_>>() {
        names if names.is_empty() => "none".into(),
        names => names.join(", "),
    }
}

/// What to do for an SAE that cannot be opened: go on with its training where that was begun, else train it.
pub fn train_it(run: &RunDir, name: &str) -> String {
    let train = format!("monosem sae train --name {} {}", shell_word(name), run.flags());
    match is_unfinished(run, name) {
        true => format!("the training of {name} is not finished; go on with: {train} --resume"),
        false => format!("train it with: {train}"),
    }
}

/// The caches of activations in a run, in the order of their hooks; what is no finished cache is left out. Their rows, which may be many, are not read.
pub fn caches(run: &RunDir) -> Vec<CacheSummary> {
    let tokens = TokenStream::open(&run.tokens()).ok().map(|stream| stream.manifest().hash());
    let inputs = [("lm", lm_manifest(run).ok().map(|lm| lm.hash())), ("tokens", tokens)];
    let mut caches: Vec<CacheSummary> = beside(&run.activations("x")).filter_map(|dir| CacheSummary::read(&dir, &inputs).ok()).collect();
    caches.sort_by_key(|cache| cache.hook.to_string());
    caches
}

/// What lies in the folder of a path.
fn beside(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(path.parent().unwrap_or(path)).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The command that goes on with `run.toml`; an older result of other settings, which was to be replaced, still stands in its way.
fn run_again(run: &RunDir) -> String {
    let refused = Recipe::read(&run.config()).is_ok_and(|recipe| refuse_other_settings(&recipe, run).is_err());
    format!("monosem run {} {}{}", shell_word(&run.config().to_string_lossy()), run.flags(), if refused { " --yes" } else { "" })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sae_whose_training_was_interrupted_is_told_from_those_that_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "mine");
        assert_eq!(saes_in_words(&run, None), "none");
        for file in [run.sae("main").join("cfg.json"), run.checkpoints("sae-wide").join("step-00000007.safetensors")] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        assert_eq!(saes_in_words(&run, None), "main, wide (unfinished)");
        assert_eq!(saes_in_words(&run, Some("main")), "wide (unfinished)");
        assert!(train_it(&run, "wide").contains("go on with: monosem sae train --name wide"), "{}", train_it(&run, "wide"));
        assert!(train_it(&run, "other").starts_with("train it with: monosem sae train --name other"), "{}", train_it(&run, "other"));
        assert!(!is_unfinished(&run, "other"), "nothing was begun");
        // One that is there and trained anew can be opened all the while.
        let anew = run.checkpoints("sae-main");
        fs::create_dir_all(&anew).unwrap();
        fs::write(anew.join("step-00000007.safetensors"), "").unwrap();
        assert!(!is_unfinished(&run, "main"));
    }
}
