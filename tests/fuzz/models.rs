//! Models, SAEs, cached rows and what an interrupted work leaves. Where a manifest has the hash of a file, it is made to fit: a changed
//! file would not get past it.

use crate::change::{Change, changed};
use crate::harness::{fuzz, fuzz_in};
use crate::run::{D_IN, D_SAE, N_CTX, Whole};
use monosem::activations::{Cached, CachedRows, ShuffleConfig};
use monosem::artifact::{Manifest, Start, Tensor, write_tensors};
use monosem::corpus::TokenStream;
use monosem::features;
use monosem::features::collect::{CollectSettings, Collector, Shape, Windows};
use monosem::lm::{self, CpuEngine, Engine, HookPoint, Lm, Sampling, generate};
use monosem::sae::{self, Recipe, RowSource, Sae, SaeConfig, SparseRows, history, read_origin};
use std::path::Path;

#[test]
fn model_configurations() {
    fuzz("run/lm/config.json", read_lm);
}

#[test]
fn model_weights() {
    fuzz("run/lm/model.safetensors", read_lm);
}

/// A model that can be read can be asked, whatever its weights are.
fn read_lm(path: &Path) {
    let Ok(lm) = Lm::load(path.parent().unwrap()) else { return };
    let n = lm.config.n_ctx.min(4);
    let ids: Vec<u32> = (0..n as u32).map(|i| i % lm.config.d_vocab as u32).collect();
    let mut rows = vec![0.0; n * lm.config.d_mlp];
    let sampling = Sampling { temperature: 1.0, top_k: Some(3), top_p: Some(0.9), seed: 0 };
    let _ = generate(&lm, &ids[..1], 2, &sampling, None, None);
    CpuEngine::new(lm).forward_to(&ids, n, HookPoint::mlp_post(0), &mut rows);
}

#[test]
fn model_checkpoints() {
    let whole = Whole::new();
    let mut engine = CpuEngine::new(whole.lm());
    let checkpoints = lm::Checkpoints::new(whole.run().checkpoints("lm"), "{}".into());
    checkpoints.save(&engine, &Default::default()).unwrap();
    let engine = std::cell::RefCell::new(&mut engine);
    fuzz_in(&whole, "run/checkpoints/lm/step-000000000000.safetensors", changed, |_| {
        let _ = checkpoints.load(*engine.borrow_mut()).is_ok();
    });
}

#[test]
fn sae_configurations() {
    fuzz("run/sae/main/cfg.json", read_sae);
}

#[test]
fn sae_weights() {
    fuzz("run/sae/main/sae_weights.safetensors", read_sae);
}

#[test]
fn gated_weights() {
    fuzz("run/sae/gated/sae_weights.safetensors", read_sae);
}

#[test]
fn refined_weights() {
    fuzz("run/sae/refined/sae_weights.safetensors", read_sae);
}

#[test]
fn transcoder_weights() {
    fuzz("run/sae/transcoder/sae_weights.safetensors", read_sae);
}

#[test]
fn transcoder_configurations() {
    fuzz("run/sae/transcoder/cfg.json", read_sae);
}

#[test]
fn sae_self_tests() {
    fuzz("run/sae/main/selftest.safetensors", read_sae);
}

fn read_sae(path: &Path) {
    let folder = path.parent().unwrap();
    let _ = (Sae::load_any(folder).is_ok(), read_origin(folder).is_ok());
}

#[test]
fn sae_snapshots() {
    fuzz("run/sae/main/history/00000003.safetensors", |path| {
        let folder = path.parent().and_then(Path::parent).unwrap();
        let _ = history::list(folder);
        if let Ok(sae) = history::load(folder, 3) {
            sae.encode(&vec![0.5; sae.d_in], &mut SparseRows::default());
        }
    });
}

#[test]
fn sae_checkpoints() {
    let whole = Whole::new();
    let dir = whole.run().checkpoints("sae-main");
    let (w, b, d) = (vec![0.5f32; D_SAE * D_IN], vec![0.5f32; D_SAE], vec![0.5f32; D_IN]);
    let (fired, numbers) = (vec![7u64; D_SAE], [3, 3, 96, 0, 0.5f64.to_bits(), 1.0f64.to_bits(), 2.5f64.to_bits()]);
    let mut tensors = vec![
        Tensor::f32("mean", &[D_IN], &d),
        Tensor::f32("scale", &[1], &d[..1]),
        Tensor::f32("sample", &[D_SAE, D_IN], &w),
        Tensor::u64("last_fired", &[D_SAE], &fired),
        Tensor::f32("frequency", &[D_SAE], &b),
        Tensor::u64("numbers", &[7], &numbers),
    ];
    for part in ["weights", "first_moments", "second_moments"] {
        tensors.push(Tensor::f32(format!("{part}/w_enc"), &[D_SAE, D_IN], &w));
        tensors.push(Tensor::f32(format!("{part}/b_enc"), &[D_SAE], &b));
        tensors.push(Tensor::f32(format!("{part}/w_dec"), &[D_SAE, D_IN], &w));
        tensors.push(Tensor::f32(format!("{part}/b_dec"), &[D_IN], &d));
        tensors.push(Tensor::f32(format!("{part}/vector-0"), &[D_SAE], &b));
    }
    write_tensors(&dir.join("step-0000000003.safetensors"), &tensors, &[("run", "{}".into())]).unwrap();
    let config = SaeConfig::new(D_IN, D_SAE, Recipe::topk(2, true));
    let read = |_: &Path| sae::Checkpoint::newest(&dir, &config, "{}", u64::MAX).is_ok();
    assert!(read(&dir));
    fuzz_in(&whole, "run/checkpoints/sae-main/step-0000000003.safetensors", changed, |path| {
        let _ = read(path);
    });
}

#[test]
fn caches_with_other_manifests() {
    read_cache("manifest.json");
}

#[test]
fn shards_of_caches() {
    read_cache("rows-00000.safetensors");
}

/// The rows of a cache that can be opened are served.
fn read_cache(name: &str) {
    let whole = Whole::new();
    let lm = whole.cache();
    let dir = whole.run().activations("main");
    let manifest = Manifest::read(&dir, "activations", 1).unwrap();
    let stream = TokenStream::open(&whole.run().tokens()).unwrap();
    let open = || {
        let config = ShuffleConfig { buffer_mib: 1, ..ShuffleConfig::default() };
        CachedRows::open(&dir, HookPoint::mlp_post(0), &lm, &stream, "").and_then(|rows| Cached::open(rows, &stream, config))
    };
    open().unwrap_or_else(|e| panic!("{e}"));
    fuzz_in(&whole, &format!("run/activations/main/{name}"), changed, |_| {
        if name != "manifest.json" {
            std::fs::write(dir.join("manifest.json"), Whole::with_hash(&manifest, &dir, name)).unwrap();
        }
        let Ok(mut rows) = open() else { return };
        let mut out = vec![0.0; 5 * rows.width()];
        let _ = rows.next_rows(&mut out).is_ok();
    });
}

#[test]
fn half_read_dictionaries() {
    let whole = Whole::new();
    let checkpoint = features::Checkpoint::new(whole.run().checkpoints("features-main"), Start::Resume);
    let mut collector = Collector::new(Shape { n_units: 3, d_in: 2, n_ctx: N_CTX, n_windows: 2 }, CollectSettings::default());
    let mut rows = SparseRows { row_start: vec![0], ..Default::default() };
    (0..N_CTX).for_each(|i| rows.push_row(&[(i % 3) as u32], &[0.5 + i as f32]));
    let (ids, docs, counted, x) = ([1; N_CTX], [0; N_CTX], [true; N_CTX], [0.25; 2 * N_CTX]);
    collector.add(Windows { n_ctx: N_CTX, t0: &[0], ids: &ids, docs: &docs, counted: &counted, x: &x }, &rows);
    checkpoint.save("{}", &collector).unwrap();
    // The hash at its end is made right again: nobody who forges a file forgets it.
    let forged = |bytes: &[u8], changes: &[Change]| {
        let mut bytes = changed(&bytes[..bytes.len() - 32], changes);
        let hash = blake3::hash(&bytes);
        bytes.extend(hash.as_bytes());
        bytes
    };
    fuzz_in(&whole, "run/checkpoints/features-main/collector.bin", forged, |_| {
        let _ = checkpoint.load("{}").is_ok();
    });
}
