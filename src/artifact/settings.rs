//! Finished work is not replaced unasked: what a stage may do with what it finds in its place, and how two records of settings differ.

use super::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What may become of the work that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// Nothing is replaced: a finished result of other settings is refused, and so is a checkpoint.
    #[default]
    New,
    /// Go on from the checkpoint. Where there is none an SAE begins, as with [`Start::New`], and a model is an error.
    Resume,
    /// Replace whatever is there.
    Replace,
}

impl Start {
    /// From the flags `--resume` and `--yes`.
    pub fn from_flags(resume: bool, yes: bool) -> Self {
        match (resume, yes) {
            (true, _) => Start::Resume,
            (false, true) => Start::Replace,
            (false, false) => Start::New,
        }
    }
}

/// How often is logged or saved changes nothing of what comes about.
const WITHOUT_EFFECT: [&str; 3] = ["log_every", "checkpoint_every", "snapshots"];

/// Settings that differ, each as `train.lr is 0.002 there, 0.25 here`. Numbers that are the same `f32` do not differ, and neither do settings
/// that say how often is logged or saved.
pub fn differences(there: &Value, here: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", there, here, &mut found);
    found
}

fn compare(name: &str, there: &Value, here: &Value, found: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (there, here) {
        let dotted = |key: &str| if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
        let matters = |key: &&String| !WITHOUT_EFFECT.contains(&key.as_str());
        for (key, value) in a.iter().filter(|(key, _)| matters(key)) {
            compare(&dotted(key), value, b.get(key).unwrap_or(&Value::Null), found);
        }
        for (key, value) in b.iter().filter(|(key, _)| matters(key) && !a.contains_key(*key)) {
            compare(&dotted(key), &Value::Null, value, found);
        }
        return;
    }
    let as_f32 = |v: &Value| v.as_f64().filter(|_| v.is_f64()).map(|v| v as f32);
    let same = there == here || (as_f32(there).is_some() && as_f32(there) == as_f32(here));
    if !same {
        found.push(format!("{} is {} there, {} here", if name.is_empty() { "it" } else { name }, spoken(there), spoken(here)));
    }
}

/// A value on one line, cut where it is long.
fn spoken(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::String(text) => text.clone(),
        other => {
            let text = other.to_string();
            if text.chars().count() > 80 { format!("{}...", text.chars().take(77).collect::<String>()) } else { text }
        }
    }
}

/// At most four differences on one line.
pub fn listed(differs: &[String]) -> String {
    let more = differs.len().saturating_sub(4);
    let shown = differs.iter().take(4).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{shown}; and {more} more") } else { shown }
}

/// Refuses to replace the finished work in `path` when it has other settings than are asked for now. `other` names the flags that lead elsewhere.
pub fn refuse_finished(path: &Path, there: &Value, here: &Value, other: &'static str) -> Result<()> {
    let differs = differences(there, here);
    if differs.is_empty() { Ok(()) } else { Err(Error::Finished { path: path.into(), differs: listed(&differs), other }) }
}

/// What a checkpoint is made from, to be compared with what goes on from it: settings, and the hashes of inputs.
pub fn identity(config: &Value, inputs: &BTreeMap<String, String>) -> String {
    serde_json::json!({ "config": config, "inputs": inputs }).to_string()
}

/// How two identities differ, in words, and whether settings do (not only what they were applied to); `None` where they do not. Which rows an
/// SAE reads, in which order, is a setting.
pub fn other_identity(there: &str, here: &str) -> Option<(String, bool)> {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (there, here) = (read(there), read(here));
    let differs = differences(&there["config"], &here["config"]);
    if !differs.is_empty() {
        return Some((listed(&differs), true));
    }
    let inputs = differences(&there["inputs"], &here["inputs"]);
    (!inputs.is_empty()).then(|| (listed(&inputs), there["inputs"]["rows"] != here["inputs"]["rows"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_each_setting_with_both_values() {
        let there = json!({ "lm": { "d_model": 64, "tied": false }, "train": { "lr": 0.002, "old": 1 } });
        let here = json!({ "lm": { "d_model": 128, "tied": false }, "train": { "lr": 0.25, "new": "x" } });
        let expected = [
            "lm.d_model is 64 there, 128 here",
            "train.lr is 0.002 there, 0.25 here",
            "train.old is 1 there, nothing here",
            "train.new is nothing there, x here",
        ];
        assert_eq!(differences(&there, &here), expected);
        assert_eq!(differences(&there, &there), Vec::<String>::new());
    }

    #[test]
    fn the_noise_of_an_f32_written_as_f64_is_no_difference() {
        assert_eq!(differences(&json!({ "lr": 0.002f32 }), &json!({ "lr": 0.002 })), Vec::<String>::new());
        assert_eq!(differences(&json!({ "lr": 0.002 }), &json!({ "lr": 0.00201 })).len(), 1);
        // Whole numbers are exact, however large.
        assert_eq!(differences(&json!({ "tokens": 100_000_001 }), &json!({ "tokens": 100_000_000 })).len(), 1);
    }

    #[test]
    fn identities_are_compared_by_what_they_say_and_not_by_how_it_is_spelt() {
        let identity = |lr: f64, every: u64, lm: &str, rows: &str| {
            let inputs = BTreeMap::from([("lm".to_string(), lm.to_string()), ("rows".to_string(), rows.to_string())]);
            identity(&json!({ "lr": lr, "log_every": every }), &inputs)
        };
        let one = identity(0.5, 10, "a", "all");
        assert_eq!(other_identity(&identity(f64::from(0.9f32), 10, "a", "all"), &identity(0.9, 3, "a", "all")), None);
        assert_eq!(other_identity(&one, &identity(0.25, 10, "b", "all")), Some(("lr is 0.5 there, 0.25 here".into(), true)));
        assert_eq!(other_identity(&one, &identity(0.5, 10, "b", "all")), Some(("lm is a there, b here".into(), false)));
        assert_eq!(other_identity(&one, &identity(0.5, 10, "a", "some")), Some(("rows is all there, some here".into(), true)));
        assert!(other_identity("no JSON", &one).is_some());
    }

    #[test]
    fn a_refusal_names_the_difference_and_both_ways_on() {
        let error = refuse_finished(Path::new("runs/a/lm"), &json!({ "steps": 9 }), &json!({ "steps": 3 }), "--run").unwrap_err().to_string();
        assert!(error.contains("runs/a/lm") && error.contains("steps is 9 there, 3 here"), "{error}");
        assert!(error.contains("--run") && error.contains("--yes"), "{error}");
    }
}
