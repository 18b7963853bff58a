//! The SAEs of a run: their names, which of them are unfinished, and the command that makes one.

use super::stages::lm_manifest;
use crate::activations::ReadRows;
use crate::artifact::{Manifest, RunDir, TensorFile, grouped, shell_word};
use crate::features::NEURONS;
use crate::lm::LmConfig;
use crate::sae::{Begun, SAE_FORMAT_VERSION, TrainConfig, WEIGHTS, WEIGHTS_FILE};
use std::fs;
use std::path::{Path, PathBuf};

/// Names of the run's SAEs, those with a dictionary first, `main` before others, `k8` before `k16`: finished ones, those in the making, and dictionaries that were imported without one.
pub fn saes(run: &RunDir) -> Vec<String> {
    let inside = |path: PathBuf| beside(&path);
    let named = |path: &Path| Some(path.file_name()?.to_str()?.to_string());
    let finished = inside(run.sae("x")).filter(|path| path.is_dir()).filter_map(|path| named(&path));
    let making = run.saes_begun().into_iter().filter(|name| is_full(&run.sae_checkpoints(name)));
    let dictionaries = inside(run.features("x")).filter_map(|path| Some(named(&path)?.strip_suffix(".sqlite")?.to_string()));
    let imported = dictionaries.filter(|name| name != NEURONS && !name.starts_with('.'));
    let mut names: Vec<String> = finished.chain(making).chain(imported).collect();
    names.sort_by_key(|name| (!run.features(name).is_file(), name != "main", by_numbers(name), name.clone()));
    names.dedup();
    names
}

/// A name as pieces of text, each with the number behind it, for an order in which 8 comes before 16.
fn by_numbers(name: &str) -> Vec<(String, u64)> {
    let mut pieces = vec![(String::new(), 0u64)];
    let mut in_number = false;
    for c in name.chars() {
        match c.to_digit(10) {
            Some(digit) => {
                let number = &mut pieces.last_mut().expect("never empty").1;
                *number = number.saturating_mul(10).saturating_add(digit.into());
            }
            None if in_number => pieces.push((c.into(), 0)),
            None => pieces.last_mut().expect("never empty").0.push(c),
        }
        in_number = c.is_ascii_digit();
    }
    pieces
}

/// What lies in the folder of a path.
pub(super) fn beside(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(path.parent().unwrap_or(path)).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// A finished training leaves its folder of checkpoints behind, empty.
fn is_full(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether an SAE of the run was begun and is not there yet: its training goes on, or was interrupted.
pub fn is_unfinished(run: &RunDir, name: &str) -> bool {
    is_full(&run.sae_checkpoints(name)) && !run.sae(name).join("cfg.json").is_file() && !run.features(name).is_file()
}

/// [`saes`] but for `without`, as one line that tells which of them are unfinished; `none` where there are none.
pub fn saes_in_words(run: &RunDir, without: Option<&str>) -> String {
    let told = |name: String| if is_unfinished(run, &name) { format!("{name} (unfinished)") } else { name };
    match saes(run).into_iter().filter(|name| Some(&name[..]) != without).map(told).collect::<Vec<_>>() {
        names if names.is_empty() => "none".into(),
        names => names.join(", "),
    }
}

/// What an SAE of the run is, in a line: kind, width and figures of its training's last batch, or why there are none. Weights are looked at, not read.
pub fn in_a_line(run: &RunDir, name: &str) -> String {
    let dir = run.sae(name);
    if is_unfinished(run, name) {
        return match Begun::read(&run.sae_checkpoints(name), &dir) {
            Ok(Some(begun)) => format!("{}; unfinished, saved after step {} of {}", kind(&begun.config), begun.step, begun.config.steps()),
            Ok(None) => "unfinished, no checkpoint yet".into(),
            Err(error) => format!("unfinished; {}", first_line(&error)),
        };
    }
    if !dir.join(WEIGHTS_FILE).exists() {
        return if run.features(name).is_file() { "a dictionary alone".into() } else { "no weights".into() };
    }
    let Ok(made) = Manifest::read(&dir, "sae", SAE_FORMAT_VERSION) else { return "its manifest.json is missing or cannot be read".into() };
    let figure = |key: &str, decimals: usize| made.details[key].as_f64().map_or("-".into(), |x| format!("{x:.decimals$}"));
    let of = serde_json::from_value::<TrainConfig>(made.config.clone()).map_or("of an older program".into(), |config| kind(&config));
    let shuffled = if made.inputs.contains_key(WEIGHTS) { " of the model with its weights shuffled" } else { "" };
    let stale = match lm_manifest(run) {
        Ok(lm) if made.inputs.get("lm") == Some(&lm.hash()) => "",
        Ok(_) => "; the model has changed since",
        Err(_) => "; the model is missing or damaged",
    };
    let damaged = TensorFile::open(&dir.join(WEIGHTS_FILE)).err().map_or(String::new(), |error| format!("; {}", first_line(&error)));
    format!("{of}{shuffled}; last batch: fvu {}, L0 {}{stale}{damaged}", figure("fvu", 4), figure("l0", 1))
}

fn first_line(error: &dyn std::error::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().into()
}

fn kind(config: &TrainConfig) -> String {
    let transcoder = if config.sae.target.is_some() { ", a transcoder" } else { "" };
    format!("{}, {} latents{transcoder}", config.sae.recipe.in_words(), grouped(config.sae.d_sae as u64))
}

fn begun(run: &RunDir, name: &str) -> Option<Begun> {
    Begun::read(&run.sae_checkpoints(name), &run.sae(name)).ok().flatten()
}

/// The SAE that `name` is the shuffled control of, if its training was begun as one.
pub fn shuffled_control_of(run: &RunDir, name: &str) -> Option<String> {
    let of = name.strip_suffix("-shuffled")?;
    begun(run, name)?.inputs.contains_key(WEIGHTS).then(|| of.into())
}

/// Whether the name alone says what to train: a finished SAE can be made anew from another model, a checkpoint is of its own.
fn can_go_on(run: &RunDir, name: &str) -> bool {
    let lm = || lm_manifest(run).ok().map(|lm| lm.hash());
    begun(run, name).is_some_and(|begun| begun.step == begun.config.steps() || begun.inputs.get("lm") == lm().as_ref())
}

/// Whether what was begun reads rows that are as wide as those of the model that the run has now; of rows that are not known nothing can be gone on with.
fn fits(run: &RunDir, begun: &Begun) -> bool {
    let lm = lm_manifest(run).ok().and_then(|lm| serde_json::from_value::<LmConfig>(lm.config["lm"].clone()).ok());
    let Some(ReadRows { hook, target, .. }) = begun.inputs.get("rows").and_then(|rows| ReadRows::parse(rows)) else { return false };
    let (Some(lm), sae) = (lm, &begun.config.sae) else { return true };
    hook.layer < lm.n_layers
        && hook.d_in(&lm) == sae.d_in
        && target.is_none_or(|target| target.layer < lm.n_layers && target.d_in(&lm) == sae.d_out())
}

/// The command that makes an SAE from what the run holds now: with the settings of the one that is there or was begun, where that can be.
pub fn train_command(run: &RunDir, name: &str) -> String {
    let flags = run.flags();
    if let Some(of) = shuffled_control_of(run, name) {
        return format!("monosem sae controls --name {} {flags}", shell_word(&of));
    }
    let how = match begun(run, name) {
        // What is there was made in a way that nothing tells.
        None if run.sae(name).join(WEIGHTS_FILE).exists() => " --yes   (and the flags that it is to have)",
        None => "",
        // Its settings are of no use.
        Some(begun) if !fits(run, &begun) => " --yes",
        Some(_) if can_go_on(run, name) => " --resume",
        Some(_) => " --resume --yes",
    };
    format!("monosem sae train --name {} {flags}{how}", shell_word(name))
}

/// The SAEs that a sweep of that name made or began.
pub fn members(run: &RunDir, sweep: &str) -> Vec<String> {
    let is_control = |name: &str| ["-frozen", "-shuffled"].iter().any(|word| name.ends_with(word));
    saes(run).into_iter().filter(|name| name.starts_with(&format!("{sweep}-")) && !is_control(name)).collect()
}

/// What to do for an SAE that cannot be opened: go on with its training where that was begun, else train it, or name one of a sweep.
pub fn train_it(run: &RunDir, name: &str) -> String {
    let train = train_command(run, name);
    let members = members(run, name);
    match (begun(run, name), is_unfinished(run, name)) {
        (Some(_), true) if can_go_on(run, name) || shuffled_control_of(run, name).is_some() => {
            format!("the training of {name} is not finished; go on with: {train}")
        }
        (None, _) if !run.sae(name).exists() && !members.is_empty() => format!("name one of {}, or train it with: {train}", members.join(", ")),
        _ => format!("train it with: {train}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{Tensor, write_tensors};
    use crate::sae::{Recipe, SaeConfig};
    use serde_json::json;

    const ROWS: &str = "blocks.0.mlp.hook_post through 64 MiB, seed 0";

    /// What is there of a training that was interrupted after seven steps.
    fn interrupt(run: &RunDir, name: &str, inputs: serde_json::Value) {
        let config = TrainConfig::short(SaeConfig::new(4, 8, Recipe::topk(2, false)), 640, 64, 0);
        let identity = json!({ "config": config, "inputs": inputs }).to_string();
        let path = run.sae_checkpoints(name).join("step-0000000007.safetensors");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_tensors(&path, &[Tensor::f32("x", &[1], &[0.0])], &[("run", identity)]).unwrap();
    }

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        let mut names = ["s-k16-s1", "s-k8", "s", "s-k16-s0", "s-k100", "9", "10"];
        names.sort_by_key(|name| by_numbers(name));
        assert_eq!(names, ["9", "10", "s", "s-k8", "s-k16-s0", "s-k16-s1", "s-k100"]);
    }

    #[test]
    fn an_sae_whose_training_was_interrupted_is_told_from_those_that_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "mine");
        assert_eq!(saes_in_words(&run, None), "none");
        let main = run.sae("main").join("cfg.json");
        fs::create_dir_all(main.parent().unwrap()).unwrap();
        fs::write(main, "").unwrap();
        interrupt(&run, "wide", json!({ "rows": ROWS }));
        assert_eq!(saes_in_words(&run, None), "main, wide (unfinished)");
        assert_eq!(saes_in_words(&run, Some("main")), "wide (unfinished)");
        let said = in_a_line(&run, "wide");
        assert_eq!(said, "TopK (k 2), 8 latents; unfinished, saved after step 7 of 10");
        assert_eq!(in_a_line(&run, "main"), "no weights");
        let said = train_it(&run, "wide");
        assert!(said.contains("go on with: monosem sae train --name wide") && said.ends_with("--resume"), "{said}");
        let said = train_it(&run, "other");
        assert!(said.starts_with("train it with: monosem sae train --name other") && !said.contains("--resume"), "{said}");
        assert!(!is_unfinished(&run, "other"), "nothing was begun");
        // One that is there and trained anew can be opened all the while.
        interrupt(&run, "main", json!({ "rows": ROWS }));
        assert!(!is_unfinished(&run, "main"));
        // Deleted, with the empty folder that every finished training leaves.
        fs::create_dir_all(run.sae_checkpoints("gone")).unwrap();
        assert!(!is_unfinished(&run, "gone") && train_it(&run, "gone").starts_with("train it with"));
    }

    #[test]
    fn the_command_for_an_sae_is_the_one_that_makes_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "mine");
        let config = TrainConfig::short(SaeConfig::new(4, 8, Recipe::topk(2, false)), 640, 64, 0);
        fs::create_dir_all(run.sae("main")).unwrap();
        let mut made = Manifest::new("sae", SAE_FORMAT_VERSION, serde_json::to_value(&config).unwrap(), 0);
        made.inputs.insert("rows".into(), ROWS.into());
        made.details = json!({ "fvu": 0.25, "l0": 2.0 });
        made.write(&run.sae("main")).unwrap();
        let weights = run.sae("main").join(WEIGHTS_FILE);
        write_tensors(&weights, &[Tensor::f32("x", &[1], &[0.0])], &[]).unwrap();
        assert_eq!(in_a_line(&run, "main"), "TopK (k 2), 8 latents; last batch: fvu 0.2500, L0 2.0; the model is missing or damaged");
        fs::write(&weights, "short").unwrap();
        assert!(in_a_line(&run, "main").contains("sae_weights.safetensors is damaged"), "{}", in_a_line(&run, "main"));
        assert!(train_command(&run, "main").ends_with("--resume"), "a finished one has its settings in its manifest");
        interrupt(&run, "main-shuffled", json!({ "rows": ROWS, WEIGHTS: "shuffled, seed 0" }));
        assert!(train_it(&run, "main-shuffled").contains("go on with: monosem sae controls --name main "), "{}", train_it(&run, "main-shuffled"));
        interrupt(&run, "mine-shuffled", json!({ "rows": ROWS }));
        assert!(train_command(&run, "mine-shuffled").contains("sae train --name mine-shuffled"), "a name alone makes no control");
        for k in [16, 32] {
            interrupt(&run, &format!("sweep-k{k}"), json!({ "rows": ROWS }));
        }
        assert!(train_it(&run, "sweep").starts_with("name one of sweep-k16, sweep-k32, or train it with: "), "{}", train_it(&run, "sweep"));
        // A damaged one is trained, whatever else has a name that begins so.
        interrupt(&run, "main-k2", json!({ "rows": ROWS }));
        assert!(train_it(&run, "main").starts_with("train it with: "), "{}", train_it(&run, "main"));
        // What was begun on a model that is no more cannot go on: it is made anew with its settings, if they are of any use.
        interrupt(&run, "older", json!({ "rows": ROWS, "lm": "replaced" }));
        let said = train_it(&run, "older");
        assert!(said.starts_with("train it with: ") && said.ends_with("--resume --yes"), "{said}");
        let model = LmConfig { d_mlp: 4, ..LmConfig::tiny() };
        let lm = Manifest::new("lm", crate::lm::FORMAT_VERSION, json!({ "lm": model }), 0);
        lm.write(&run.lm()).unwrap();
        let rows = |hook: &str| json!({ "rows": format!("{hook} through 64 MiB, seed 0"), "lm": "replaced" });
        interrupt(&run, "older", rows("blocks.0.mlp.hook_post"));
        assert!(train_command(&run, "older").ends_with("--resume --yes"));
        interrupt(&run, "wider", rows("blocks.0.hook_resid_mid"));
        let said = train_command(&run, "wider");
        assert!(said.ends_with("--yes") && !said.contains("--resume"), "{said}");
        // Of a transcoder both ends: it reads 4 neurons and comes to d_model numbers, not to 4.
        assert_ne!(model.d_model, 4);
        interrupt(&run, "across", json!({ "rows": "blocks.0.mlp.hook_post through 64 MiB, seed 0 to blocks.0.hook_mlp_out", "lm": "replaced" }));
        let said = train_command(&run, "across");
        assert!(said.ends_with("--yes") && !said.contains("--resume"), "{said}");
        interrupt(&run, "unknown", json!({ "rows": "those of a former program", "lm": "replaced" }));
        let said = train_command(&run, "unknown");
        assert!(said.ends_with("--yes") && !said.contains("--resume"), "{said}");
        interrupt(&run, "along", json!({ "rows": "blocks.0.mlp.hook_post through 64 MiB, seed 0 to blocks.0.mlp.hook_post", "lm": "replaced" }));
        assert!(train_command(&run, "along").ends_with("--resume --yes"));
    }
}
