//! Files. Each test changes one of them and reads it.

use crate::change::{changed, changes, config};
use crate::memory::peak;
use crate::run::Whole;
use monosem::artifact::{Manifest, TensorFile};
use monosem::corpus::{Fields, TokenStream, Tokenizer, read_file};
use monosem::features::export::neuronpedia;
use monosem::labels::{Format, Import, Labels};
use monosem::sae::{Sae, read_origin};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::path::{Path, PathBuf};

/// Bytes that a reader of a small file may hold: decoders have buffers of fixed size, of which zstd's largest window is 128 MiB.
const ALLOWED: usize = 160 << 20;

/// Changes `name` of a whole folder again and again, and calls `read` with the path of the changed copy.
fn fuzz(name: &str, copy_as: impl Fn(&Path) -> PathBuf, read: impl Fn(&Path)) {
    let whole = Whole::new();
    let bytes = whole.bytes(name);
    let path = copy_as(&whole.path(name));
    read(&path);
    let mut runner = TestRunner::new(config());
    runner
        .run(&changes(), |changes| {
            let bytes = changed(&bytes, &changes);
            std::fs::write(&path, &bytes).unwrap();
            let ((), held) = peak(|| read(&path));
            prop_assert!(held < ALLOWED + 64 * bytes.len(), "{held} bytes for a file of {}", bytes.len());
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// What libraries say when they panic, which is caught, is no news a thousand times.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let of_library = |l: &std::panic::Location| l.file().contains("parquet-") || l.file().contains("tokenizers-");
            if !info.location().is_some_and(of_library) {
                tell(info);
            }
        }));
    });
}

/// In its own place.
fn there(path: &Path) -> PathBuf {
    path.into()
}

#[test]
fn safetensors() {
    fuzz("plain.safetensors", there, |path| {
        if let Ok(file) = TensorFile::open(path) {
            for name in file.names() {
                let _ = (file.dtype(&name), file.u64s(&name), file.u16s(&name), file.metadata());
                if let Ok(shape) = file.shape(&name) {
                    let _ = file.f32(&name, &shape);
                }
            }
        }
    });
}

#[test]
fn manifests() {
    fuzz("run/tokens/manifest.json", there, |path| {
        if let Ok(manifest) = Manifest::read(path.parent().unwrap(), "tokens", 1) {
            let _ = (manifest.hash(), manifest.check_files(path.parent().unwrap()));
        }
    });
}

#[test]
fn token_shards() {
    fuzz("run/tokens/tokens-00000.safetensors", there, read_stream);
}

#[test]
fn token_streams_with_other_manifests() {
    fuzz("run/tokens/manifest.json", there, read_stream);
}

fn read_stream(path: &Path) {
    let Ok(stream) = TokenStream::open(path.parent().unwrap()) else { return };
    let mut ids = vec![0; stream.len().min(1 << 20) as usize];
    stream.read(0, &mut ids);
    for doc in 0..stream.n_docs().min(1000) {
        let _ = (stream.doc_start(doc), stream.doc_end(doc), stream.doc_kind(doc), stream.doc_of(stream.doc_start(doc)));
    }
}

#[test]
fn tokenizers() {
    quiet();
    fuzz("run/tokens/tokenizer.json", there, |path| {
        if let Ok(tokenizer) = Tokenizer::load(path) {
            let ids = tokenizer.encode("The captain 日本\u{0}");
            let _ = tokenizer.decode_bytes(&ids);
        }
    });
}

fn read_documents(path: &Path) {
    let mut n = 0;
    let _ = read_file(path, "x", Fields { text: "text", kind: "kind" }, &mut |_| {
        n += 1;
        assert!(n < 1_000_000, "a small file has few documents");
        Ok(())
    });
}

#[test]
fn jsonl_sources() {
    fuzz("a.jsonl", there, read_documents);
}

#[test]
fn text_sources() {
    fuzz("a.txt", there, read_documents);
}

#[test]
fn gzip_sources() {
    fuzz("a.jsonl.gz", there, read_documents);
}

#[test]
fn zstd_sources() {
    fuzz("a.jsonl.zst", there, read_documents);
}

#[test]
fn parquet_sources() {
    quiet();
    fuzz("a.parquet", there, read_documents);
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
    fuzz(name, there, |path| {
        std::fs::copy(&empty, &sqlite).unwrap();
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let _ = Labels::open(&sqlite).unwrap().import(format, &text, Import { weights_hash: "w", n_units: 9, author: "me" });
    });
}

#[test]
fn sae_configurations() {
    fuzz("run/sae/main/cfg.json", there, read_sae);
}

#[test]
fn sae_weights() {
    fuzz("run/sae/main/sae_weights.safetensors", there, read_sae);
}

#[test]
fn sae_self_tests() {
    fuzz("run/sae/main/selftest.safetensors", there, read_sae);
}

fn read_sae(path: &Path) {
    let folder = path.parent().unwrap();
    let _ = (Sae::load(folder).is_ok(), read_origin(folder).is_ok());
}

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
