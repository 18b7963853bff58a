//! What people write by hand and what stages write for each other: recipes, labels, scores, maps.

use crate::change::changed;
use crate::harness::{fuzz, fuzz_in};
use crate::run::Whole;
use monosem::artifact::{TrainLog, read_json};
use monosem::features::exam::ExamReport;
use monosem::features::map;
use monosem::intervene::saved::{SavedEdit, Scale};
use monosem::labels::{Format, Import, Labels};
use monosem::lm::HookPoint;
use monosem::pipeline::{ConceptGap, Controls, Recipe, status};
use monosem::sae::Eval;

#[test]
fn recipes() {
    fuzz("run/run.toml", |path| {
        if let Ok(recipe) = Recipe::read(path) {
            let _ = Recipe::parse(&recipe.to_toml()).expect("what was read can be written and read again");
        }
    });
}

#[test]
fn saved_edits() {
    fuzz("edit.toml", |path| {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        if let Ok(edit) = SavedEdit::parse(&text) {
            // A number that is none is not equal to itself.
            let same = |a: &SavedEdit| format!("{a:?}") == format!("{edit:?}");
            assert!(same(&SavedEdit::parse(&edit.to_toml()).expect("what was read can be written and read again")));
            let resolved = edit.resolve("here", &mut |_| Ok(Scale { max_act: 2.0, mean_act: 0.5 }), &mut || Ok(10.0));
            assert!(resolved.is_err() || resolved.is_ok_and(|s| s.edits.len() == edit.edits.len()));
        }
    });
}

#[test]
fn names_of_hooks() {
    fuzz("hook", |path| {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        if let Ok(hook) = text.parse::<HookPoint>() {
            assert_eq!(hook.to_string().parse(), Ok(hook));
        }
    });
}

/// What stages keep of their scores, in one file instead of four.
#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Scores {
    eval: Eval,
    exam: ExamReport,
    controls: Controls,
    gaps: Vec<ConceptGap>,
}

#[test]
fn scores() {
    assert!(read_json::<Scores>(&Whole::new().path("scores.json")).is_ok());
    fuzz("scores.json", |path| drop(read_json::<Scores>(path)));
}

#[test]
fn logs_of_trainings() {
    fuzz("train.jsonl", |path| {
        if let Some(log) = TrainLog::read(path) {
            let points = log.fields.iter().map(|field| log.curve("step", field).len());
            assert!(points.max().unwrap_or(0) <= log.len());
        }
    });
}

#[test]
fn runs_with_other_recipes() {
    read_run("run/run.toml");
}

#[test]
fn runs_with_other_sources() {
    read_run("run/tokens/sources.json");
}

/// What `monosem info` reads.
fn read_run(name: &str) {
    let whole = Whole::new();
    fuzz_in(&whole, name, changed, |_| drop(status(&whole.run(), "main")));
}

#[test]
fn maps() {
    fuzz("run/features/main.map.safetensors", |path| drop(map::load(path, "w")));
}

#[test]
fn labels_in_csv() {
    read_labels("labels.csv", Format::Csv);
}

#[test]
fn labels_in_jsonl() {
    read_labels("labels.jsonl", Format::Jsonl);
}

fn read_labels(name: &str, format: Format) {
    let dir = tempfile::tempdir().unwrap();
    let (empty, sqlite) = (dir.path().join("empty.sqlite"), dir.path().join("l.sqlite"));
    drop(Labels::open(&empty).unwrap());
    fuzz(name, |path| {
        std::fs::copy(&empty, &sqlite).unwrap();
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let _ = Labels::open(&sqlite).unwrap().import(format, &text, Import { weights_hash: "w", n_units: 9, author: "me" });
    });
}

#[test]
fn files_of_labels() {
    fuzz("labels.sqlite", |path| {
        if let Ok(Some(labels)) = Labels::open_to_read(path) {
            let _ = (labels.list("w", None).is_ok(), labels.history("w", 1).is_ok(), labels.members("w", None).is_ok());
            let _ = (labels.ratings("w").is_ok(), labels.export("w", Format::Csv, &mut std::io::sink()).is_ok());
        }
    });
}
