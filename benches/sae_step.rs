//! One SAE training step at the real shapes, on random rows: `cargo bench --bench sae_step -- [--json] topk|relu [--batch N --d N --f N --k N --reps N]`.
//!
//! `--json` prints one object with `median_ms`. Without it: phases, GFLOP/s beside the measured peak of the encoder product, and, where
//! `MONOSEM_PEER_PYTHON` names an interpreter with torch and the comparison scripts are in `../shared/bench`, the ratio to PyTorch in the same run
//! (also with `MONOSEM_MKL_SHIM` preloaded).

use monosem::artifact::seed;
use monosem::kernels::gemm::matmul_nt;
use monosem::sae::{CpuEngine, Engine, Params, Recipe, SaeConfig, StepSettings, TrainConfig};
use rand::RngExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

struct Options {
    mode: String,
    json: bool,
    batch: usize,
    d: usize,
    f: usize,
    k: usize,
    reps: usize,
    dead: usize,
}

fn main() {
    let options = options();
    let Options { batch, d, f, k, .. } = options;
    let recipe = match options.mode.as_str() {
        "relu" => Recipe::Relu2023 { l1: 1e-3 / d as f64 },
        _ => Recipe::TopK { k, auxk: true },
    };
    let mut config = TrainConfig::short(SaeConfig { d_in: d, d_sae: f, recipe }, 1 << 30, batch, 0);
    config.clip = Some(1.0);
    let mut w_dec = random(f * d, 1);
    w_dec.chunks_exact_mut(d).for_each(|w| {
        let norm = w.iter().map(|v| v * v).sum::<f32>().sqrt();
        w.iter_mut().for_each(|v| *v /= norm);
    });
    let x = random(batch * d, 2);
    let mut engine =
        CpuEngine::new(&config, Params { w_enc: w_dec.clone(), b_enc: vec![0.0; f], w_dec, b_dec: random(d, 3).iter().map(|v| v * 0.01).collect() });
    // The first latents stand for dead ones where that is asked for.
    let dead: Vec<u32> = (0..options.dead as u32).collect();
    let settings = StepSettings { lr: 1e-4, l1: 1e-3, dead: &dead };
    let mut times = Vec::new();
    let mut phases: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut l0 = 0.0;
    for rep in 0..=options.reps {
        let start = Instant::now();
        l0 = engine.step(&x, &settings).l0;
        // The first step makes the buffers.
        if rep > 0 {
            times.push(start.elapsed().as_secs_f64() * 1e3);
            for &(name, seconds) in engine.phases() {
                match phases.iter_mut().find(|p| p.0 == name) {
                    Some(phase) => phase.1.push(seconds * 1e3),
                    None => phases.push((name, vec![seconds * 1e3])),
                }
            }
        }
    }
    let ms = median(&times);
    let rows_per_s = batch as f64 / ms * 1e3;
    if options.json {
        let peak = peak_gib();
        println!(
            "{}",
            serde_json::json!({"bench": "sae_step", "mode": options.mode, "median_ms": ms, "rows_per_s": rows_per_s, "peak_gib": peak, "l0": l0,
                "batch": batch, "d_in": d, "d_sae": f, "k": k, "reps": options.reps})
        );
        return;
    }
    println!("{} d_in {d} d_sae {f} batch {batch} l0 {l0:.0}: {ms:.1} ms, {rows_per_s:.0} rows/s, peak {:.2} GiB", options.mode, peak_gib());
    for (name, times) in &phases {
        println!("  {name:18} {:8.1} ms", median(times));
    }
    let flop = 2.0 * (batch * d * f) as f64;
    let screened = engine.screened();
    if screened.rows > 0 {
        let (rows, decided) = (screened.rows as f64, (screened.rows - screened.undecided) as f64);
        let (candidates, undecided) = (screened.candidates as f64 / decided, 100.0 * screened.undecided as f64 / rows);
        println!("  screen: {candidates:.1} candidates per row, {undecided:.2} % of rows left to f32");
    }
    if let Some((_, encode)) = phases.iter().find(|p| p.0 == "encode") {
        println!(
            "  encoder: {:.0} GFLOP/s in the step as if all products were made; {:.0} of the f32 product alone (best of 5)",
            flop / median(encode) / 1e6,
            peak_gflops(batch, f, d)
        );
    }
    compare(&options, rows_per_s);
}

fn options() -> Options {
    let mut options = Options { mode: "topk".into(), json: false, batch: 4096, d: 512, f: 16_384, k: 32, reps: 7, dead: 0 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = |arguments: &mut dyn Iterator<Item = String>| {
            let value = arguments.next().unwrap_or_default();
            value.parse().unwrap_or_else(|_| panic!("{argument} wants a number, got {value:?}"))
        };
        match argument.as_str() {
            "--json" => options.json = true,
            "--bench" => {}
            "--batch" => options.batch = number(&mut arguments),
            "--d" => options.d = number(&mut arguments),
            "--f" => options.f = number(&mut arguments),
            "--k" => options.k = number(&mut arguments),
            "--reps" => options.reps = number(&mut arguments),
            "--dead" => options.dead = number(&mut arguments),
            "topk" | "relu" => options.mode = argument.clone(),
            _ => panic!("{argument} is not known; give topk or relu, --json, --batch, --d, --f, --k, --reps, --dead"),
        }
    }
    options
}

/// Gaussian rows: sums of twelve uniform draws.
fn random(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "bench/sae_step", index);
    (0..n).map(|_| (0..12).map(|_| rng.random_range(0.0..1.0f32)).sum::<f32>() - 6.0).collect()
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn peak_gflops(m: usize, n: usize, k: usize) -> f64 {
    let (a, b, mut c) = (random(m * k, 4), random(n * k, 5), vec![0.0; m * n]);
    let best = (0..6).map(|_| {
        let start = Instant::now();
        matmul_nt(m, n, k, &a, &b, &mut c, false);
        start.elapsed().as_secs_f64()
    });
    2.0 * (m * n * k) as f64 / best.fold(f64::INFINITY, f64::min) / 1e9
}

/// Largest resident size of this process.
fn peak_gib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0 / 1024.0)
}

fn compare(options: &Options, rows_per_s: f64) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/bench/sae_pytorch.py");
    let Ok(python) = std::env::var("MONOSEM_PEER_PYTHON") else {
        println!("MONOSEM_PEER_PYTHON is not set: no comparison with PyTorch");
        return;
    };
    if !script.exists() {
        println!("{} is not there: no comparison with PyTorch", script.display());
        return;
    }
    let shim = std::env::var("MONOSEM_MKL_SHIM").ok();
    for (name, preload) in [("PyTorch", None), ("PyTorch, MKL unlocked", shim)] {
        if name != "PyTorch" && preload.is_none() {
            println!("MONOSEM_MKL_SHIM is not set: no comparison with MKL unlocked");
            continue;
        }
        let mut command = Command::new(&python);
        command.arg(&script).arg(&options.mode);
        for (flag, value) in [("--d", options.d), ("--f", options.f), ("--k", options.k), ("--batch", options.batch)] {
            command.arg(flag).arg(value.to_string());
        }
        if let Some(shim) = preload {
            command.env("LD_PRELOAD", shim);
        }
        match command.output() {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
                let theirs = text.split('\t').find_map(|part| part.strip_suffix(" rows/s")).and_then(|n| n.parse::<f64>().ok());
                println!("{name}: {text}");
                if let Some(theirs) = theirs {
                    println!("  ours / {name}: {:.1}", rows_per_s / theirs);
                }
            }
            Ok(output) => println!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()),
            Err(error) => println!("{name} could not be started: {error}"),
        }
    }
}
