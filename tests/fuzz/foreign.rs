//! Dictionaries of other programs: SAEDashboard's batches, Neuronpedia's tree.

use crate::change::{changed, changes, config};
use crate::harness::ALLOWED;
use crate::memory::peak;
use monosem::features::export::neuronpedia;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::path::Path;

/// The batch file of the only feature there is.
fn batch() -> serde_json::Value {
    serde_json::json!({
        "model_id": "m", "layer": 0, "sae_set": "s", "features": [{
            "feature_index": 3, "neg_str": ["a"], "neg_values": [-1.0], "pos_str": [" b", "<0xE2>"], "pos_values": [2.0, 1.0],
            "frac_nonzero": 0.25, "freq_hist_data_bar_values": [0.5, 1.5], "freq_hist_data_bar_heights": [4, 1],
            "n_prompts_total": 10, "n_tokens_in_prompt": 16, "dataset": "d",
            "activations": [
                { "bin_min": -1, "bin_max": 2.0, "bin_contains": -1, "tokens": ["a", " b", ""], "values": [0.0, 2.0, 0.5], "qualifying_token_index": 1 },
                { "bin_min": 0.0, "bin_max": 1.0, "bin_contains": 0.2, "tokens": ["a", " b", "c"], "values": [0.0, 0.0, 0.5], "qualifying_token_index": 2 },
            ],
        }],
    })
}

#[test]
fn saedashboard_batches() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batch-0.json");
    let bytes = batch().to_string();
    foreign(bytes.as_bytes(), &path, dir.path(), &|_| {});
}

#[test]
fn neuronpedia_trees() {
    use std::io::Write;
    let line = serde_json::json!({
        "modelId": "m", "layer": "0-s", "index": "3", "maxActApprox": 2.0, "frac_nonzero": 0.25, "pos_str": [" b"], "pos_values": [1.0],
        "freq_hist_data_bar_heights": [4, 1], "freq_hist_data_bar_values": [0.5, 1.5], "hookName": "blocks.0.mlp.hook_post",
    });
    let activation = serde_json::json!({
        "id": "x", "tokens": ["a", " b"], "index": 3, "layer": "0-s", "modelId": "m", "maxValue": 2.0, "maxValueTokenIndex": 1, "values": [0.0, 2.0],
        "binMin": 0.0, "binMax": 1.0, "binContains": 0.1, "qualifyingTokenIndex": 1,
    });
    let explanation = serde_json::json!({ "id": "x", "modelId": "m", "layer": "0-s", "index": "3", "description": "d", "notes": "{}" });
    let whole = [line, activation, explanation].map(|v| v.to_string()).join("\n");
    let dir = tempfile::tempdir().unwrap();
    for table in ["features", "activations", "explanations"] {
        std::fs::create_dir_all(dir.path().join(table)).unwrap();
    }
    let path = dir.path().join("lines");
    foreign(whole.as_bytes(), &path, dir.path(), &|folder| {
        let text = std::fs::read(folder.join("lines")).unwrap();
        let mut lines = text.split(|b| *b == b'\n');
        for table in ["features", "activations", "explanations"] {
            let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
            gz.write_all(lines.next().unwrap_or_default()).unwrap();
            std::fs::write(folder.join(table).join("batch-0.jsonl.gz"), gz.finish().unwrap()).unwrap();
        }
    });
    // The archive itself, changed.
    let gz = std::fs::read(dir.path().join("activations/batch-0.jsonl.gz")).unwrap();
    let path = dir.path().join("activations/batch-0.jsonl.gz");
    let mut runner = TestRunner::new(config());
    let done = runner.run(&changes(), |changes| {
        std::fs::write(&path, changed(&gz, &changes)).unwrap();
        let (_, held) = peak(|| neuronpedia::read(dir.path()).is_ok());
        prop_assert!(held < ALLOWED);
        Ok(())
    });
    done.unwrap();
}

/// Imports what comes of changing `whole` at `path`; `spread` makes the folder's other files of it.
fn foreign(whole: &[u8], path: &Path, folder: &Path, spread: &dyn Fn(&Path)) {
    let out = tempfile::tempdir().unwrap();
    let mut runner = TestRunner::new(config());
    let done = runner.run(&changes(), |changes| {
        let bytes = changed(whole, &changes);
        std::fs::write(path, &bytes).unwrap();
        spread(folder);
        let (_, held) = peak(|| {
            let Ok(foreign) = monosem::features::import::read(folder) else { return };
            // A dictionary has a row for each number up to the highest: that is the file's word, within a bound of its own.
            // Files are written for one case in eight: that is what takes the time.
            if bytes.len().is_multiple_of(8) && foreign.features.iter().all(|f| f.feature_index < 1000) {
                let run = monosem::artifact::RunDir::new(out.path(), "run");
                let _ = monosem::features::import::write_run(&foreign, &run);
                let files: Vec<_> = std::fs::read_dir(out.path()).unwrap().flatten().map(|e| e.file_name()).collect();
                assert!(files.iter().all(|f| f == "run"), "{files:?}: nothing is written elsewhere");
            }
        });
        prop_assert!(held < ALLOWED, "{held} bytes");
        Ok(())
    });
    done.unwrap();
}
