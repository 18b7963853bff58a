//! The dictionary's pass over text: what collecting costs beside encoding alone, in the same run.
//!
//! `cargo bench --bench collect -- [--json] [--f 16384] [--d 512] [--k 32] [--tokens 500000] [--n-ctx 256]`: random rows through a TopK encoder, then
//! through the collector. `--build [--preset laptop]` makes a whole dictionary of an untrained model instead, tells what each part took and
//! how many firings' effects on the loss were measured.

mod peer;

use monosem::artifact::{Manifest, Progress, seed};
use monosem::corpus::{EncodedDocument, ShardWriter, Split, TokenStream, Tokenizer};
use monosem::features::collect::{CollectSettings, Collector, Shape, Windows};
use monosem::features::{BuildConfig, Inputs, Units, build};
use monosem::lm::{CpuEngine, HookPoint, Lm, LmConfig};
use monosem::sae::{Sae, Select, SparseRows};
use rand::RngExt;
use std::time::Instant;

fn main() {
    peer::knows(&["--json", "--f", "--d", "--k", "--tokens", "--n-ctx", "--build", "--preset"]);
    if peer::has("--build") { whole_build() } else { pass() }
}

/// Different rows before they come again: enough that no unit sees only a few.
const N_BATCHES: usize = 4;
const BATCH: usize = 4096;

fn pass() {
    let [f, d, k, n_tokens, n_ctx] =
        [("--f", 16_384), ("--d", 512), ("--k", 32), ("--tokens", 500_000), ("--n-ctx", 256)].map(|(name, default)| peer::number(name, default));
    let sae = sae(d, f, k);
    let mut encoder = sae.encoder();
    let batches: Vec<Vec<f32>> = (0..N_BATCHES as u64).map(|i| normal(BATCH * d, 10 + i)).collect();
    let n_batches = n_tokens.div_ceil(BATCH);
    let shape = Shape { n_units: f, d_in: d, n_ctx, n_windows: (n_batches * BATCH / n_ctx) as u64 };
    let mut collector = Collector::new(shape, CollectSettings::default());
    let mut rows = SparseRows::default();
    let (mut encoding, mut collecting) = (0.0, 0.0);
    let mut rng = seed::rng(0, "bench/collect", 0);
    for b in 0..n_batches {
        let first = (b * BATCH) as u64;
        let t0: Vec<u64> = (0..BATCH / n_ctx).map(|w| first + (w * n_ctx) as u64).collect();
        // Zipf's law over 4,096 tokens, documents of 300.
        let ids: Vec<u32> = (0..BATCH).map(|_| (4096f64.powf(rng.random::<f64>()) - 1.0) as u32).collect();
        let docs: Vec<u32> = (first..first + BATCH as u64).map(|t| (t / 300) as u32).collect();
        let counted: Vec<bool> = (0..BATCH).map(|i| i % n_ctx != 0).collect();
        let x = &batches[b % N_BATCHES];
        encoding += peer::seconds(|| encoder.encode(x, &mut rows));
        collecting += peer::seconds(|| collector.add(Windows { n_ctx, t0: &t0, ids: &ids, docs: &docs, counted: &counted, x }, &rows));
    }
    let before = peer::peak_gib();
    let mut findings = None;
    let finishing = peer::seconds(|| findings = Some(collector.finish()));
    let n = (n_batches * BATCH) as f64;
    let n_firings: u64 = findings.expect("it was finished").units.iter().map(|u| u.n_active).sum();
    let ratio = (encoding + collecting) / encoding;
    if peer::has("--json") {
        println!(
            "{}",
            serde_json::json!({"bench": "collect", "d_sae": f, "d_in": d, "k": k, "tokens": n, "encode_s": encoding, "collect_s": collecting,
                "finish_s": finishing, "ratio": ratio, "tokens_per_s": n / (encoding + collecting), "peak_gib": peer::peak_gib()})
        );
        return;
    }
    println!("{f} latents, d_in {d}, k {k}, {n} tokens, {n_firings} firings; products peak {:.0} GFLOP/s", peer::gemm_peak());
    println!("encode alone         {encoding:8.2} s {:8.0} tokens/s", n / encoding);
    println!("collect beside it    {collecting:8.2} s, together {ratio:.3} times the encode alone");
    println!("finish               {finishing:8.2} s");
    println!("peak {before:.2} GiB in the pass, {:.2} GiB in all", peer::peak_gib());
}

fn whole_build() {
    let [f, k, n_tokens] = [("--f", 16_384), ("--k", 32), ("--tokens", 1_000_000)].map(|(name, default)| peer::number(name, default));
    let mut config = LmConfig::preset(&peer::flag("--preset").unwrap_or("laptop".into())).expect("a preset");
    let dir = std::env::temp_dir().join(format!("monosem-bench-collect-{}", std::process::id()));
    let mut rng = seed::rng(0, "bench/build", 0);
    let text: Vec<String> = (0..400u32).map(|i| format!("{} {}", i * 7919, "the cat sat on a mat ".repeat(3))).collect();
    let tokenizer = Tokenizer::train(text.iter().map(String::as_str), 512).expect("a tokenizer");
    config.d_vocab = config.d_vocab.max(tokenizer.d_vocab());
    let vocabulary = tokenizer.d_vocab() as f64 - 1.0;
    let mut writer = ShardWriter::create(&dir, config.d_vocab, tokenizer.end_of_text(), &[], 1 << 24).expect("a stream");
    for _ in 0..n_tokens.div_ceil(250) + 50 {
        let ids = (0..300).map(|_| (vocabulary.powf(rng.random::<f64>()) - 1.0) as u32).collect();
        writer.push(Split::Train, EncodedDocument { ids, ..Default::default() }).expect("a document");
    }
    writer.finish(Manifest::new("tokens", 1, serde_json::json!({}), 0)).and_then(|m| m.write(&dir)).expect("a manifest");
    let stream = TokenStream::open(&dir).expect("a stream");
    let hook = HookPoint::mlp_post(0);
    let sae = sae(hook.d_in(&config), f, k);
    let mut engine = CpuEngine::new(Lm::init(&config, 0));
    let build_config = BuildConfig { n_tokens: n_tokens as u64, ..Default::default() };
    let inputs = Inputs { engine: &mut engine, lm_hash: "", stream: &stream, tokenizer: &tokenizer, hook, checkpoint: None };
    let units = Units::Latents { sae: &sae, name: "bench", manifest_hash: "", target: None };
    let mut parts = Parts { began: Instant::now(), parts: vec![] };
    let path = dir.join("bench.sqlite");
    let meta = build(&path, inputs, units, &build_config, &mut parts).expect("a dictionary");
    let bytes = std::fs::metadata(&path).map(|m| m.len()).unwrap_or(0);
    let _ = std::fs::remove_dir_all(&dir);
    if peer::has("--json") {
        let parts: serde_json::Map<String, serde_json::Value> = parts.parts.iter().map(|(what, _, s)| (what.clone(), (*s).into())).collect();
        println!(
            "{}",
            serde_json::json!({"bench": "build", "d_sae": f, "tokens": meta.n_tokens, "seconds": parts, "peak_gib": peer::peak_gib(), "bytes": bytes})
        );
        return;
    }
    for (what, total, seconds) in &parts.parts {
        println!("{what:<32} {seconds:8.1} s  {total}");
    }
    println!("{} bytes, peak {:.2} GiB", bytes, peer::peak_gib());
}

/// Keeps how long each part took.
struct Parts {
    began: Instant,
    parts: Vec<(String, String, f64)>,
}

impl Progress for Parts {
    fn begin(&mut self, what: &str, total: u64, unit: &str) {
        self.began = Instant::now();
        self.parts.push((what.into(), format!("{total} {unit}"), 0.0));
    }
    fn advance(&mut self, _: u64) {}
    fn figure(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn end(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.2 = self.began.elapsed().as_secs_f64();
        }
    }
    fn interrupted(&self) -> bool {
        false
    }
}

fn sae(d: usize, f: usize, k: usize) -> Sae {
    let w_dec = normal(f * d, 1);
    let w_dec: Vec<f32> = w_dec
        .chunks_exact(d)
        .flat_map(|w| {
            let norm = w.iter().map(|x| x * x).sum::<f32>().sqrt();
            w.iter().map(move |x| x / norm)
        })
        .collect();
    Sae {
        d_in: d,
        d_sae: f,
        select: Select::TopK { k },
        w_enc: w_dec.clone(),
        b_enc: vec![0.0; f],
        w_dec,
        b_dec: vec![0.0; d],
        apply_b_dec_to_input: false,
        transcoder: None,
    }
}

/// Sums of twelve uniform draws.
fn normal(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "bench/collect/normal", index);
    (0..n).map(|_| (0..12).map(|_| rng.random_range(0.0..1.0f32)).sum::<f32>() - 6.0).collect()
}
