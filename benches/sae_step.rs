//! One SAE training step at the real shapes, on random rows:
//! `cargo bench --bench sae_step -- [--json] topk|relu|RECIPE [--batch N] [--d N] [--f N] [--k N] [--l0 N] [--reps N] [--dead N]`,
//! or on the rows of a run, of the same flags: `--run DIR/RUN --sae NAME` takes the rows that `monosem harvest` keeps there, and weights and sizes of that SAE.
//! `cargo bench --bench sae_step -- relu --switch`, of the same flags: both paths of a step beside each other by the share of active latents.
//! RECIPE is any of `monosem sae recipes`; `--l0` gives the encoder a bias under which so many latents are active (else a ReLU begins with half).
//!
//! `--json` prints one object with `median_ms`. Without it: phases, GFLOP/s beside the measured peak of the encoder product, and PyTorch in the
//! same run.

mod peer;

use monosem::activations::{Cached, CachedRows, ShuffleConfig};
use monosem::artifact::{Manifest, RunDir, seed};
use monosem::corpus::TokenStream;
use monosem::kernels::gemm::matmul_nt;
use monosem::lm::HookPoint;
use monosem::sae::{CpuEngine, Engine, Params, Recipe, Relu2023, RowSource, Sae, SaeConfig, Select, StepSettings, TrainConfig};
use rand::RngExt;

fn main() {
    peer::knows(&["--json", "--batch", "--d", "--f", "--k", "--l0", "--reps", "--dead", "--switch", "--run", "--sae"]);
    let known = |word: &str| word == "relu" || Recipe::NAMES.contains(&word);
    let args: Vec<String> = std::env::args().collect();
    let is_value = |before: &String| before.starts_with("--") && !["--bench", "--json", "--switch"].contains(&&**before);
    let words: Vec<&String> = args.windows(2).filter(|pair| !is_value(&pair[0]) && !pair[1].starts_with("--")).map(|pair| &pair[1]).collect();
    assert!(words.iter().all(|w| known(w)), "{words:?}: relu, or one of {}", Recipe::NAMES.join(", "));
    let [batch, mut d, mut f, mut k, l0_asked, reps, n_dead] =
        [("--batch", 4096), ("--d", 512), ("--f", 16_384), ("--k", 32), ("--l0", 0), ("--reps", 7), ("--dead", 0)]
            .map(|(name, default)| peer::number(name, default));
    let trained = peer::flag("--run").map(|root| {
        let run = RunDir { root: root.into() };
        let sae = Sae::load(&run.sae(&peer::flag("--sae").expect("--run and --sae go together"))).expect("an SAE");
        (run, sae)
    });
    let mut mode = words.first().map_or("topk", |word| word.as_str());
    if let Some((_, sae)) = &trained {
        (d, f) = (sae.d_in, sae.d_sae);
        match sae.select {
            Select::TopK { k: of_sae } => (mode, k) = ("topk", of_sae),
            _ => mode = "relu",
        }
    }
    let recipe = match mode {
        "relu" => Relu2023 { l1: 1e-3 / d as f64 }.into(),
        "topk" => Recipe::topk(k, true),
        name => {
            let has_k = Recipe::named(name, &[]).expect("a known name").settings().iter().any(|(name, _)| name == "k");
            let settings: Vec<(&str, serde_json::Value)> = if has_k { vec![("k", k.into())] } else { Vec::new() };
            Recipe::named(name, &settings).expect("a whole k")
        }
    };
    let mut config = TrainConfig::short(SaeConfig::new(d, f, recipe), 1 << 30, batch, 0);
    config.clip = Some(1.0);
    if peer::has("--switch") {
        return switch(&config, reps);
    }
    let (params, batches) = match &trained {
        Some((run, sae)) => of_run(run, sae, batch, reps + 1),
        None => (params(&config.sae, l0_asked as f64 / f as f64), vec![random(batch * d, 2)]),
    };
    let mut engine = CpuEngine::new(&config, params);
    // The first latents stand for dead ones where that is asked for.
    let dead: Vec<u32> = (0..n_dead as u32).collect();
    // Small, so that L0 stays where it is.
    let settings = StepSettings { lr: 1e-6, sparsity: 1e-3, dead: &dead };
    let mut times = Vec::new();
    let mut phases: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut l0 = 0.0;
    for rep in 0..=reps {
        let x = &batches[rep % batches.len()];
        let seconds = peer::seconds(|| l0 = engine.step(x, &settings).l0);
        // The first step makes the buffers.
        if rep > 0 {
            times.push(seconds * 1e3);
            for &(name, seconds) in engine.phases() {
                match phases.iter_mut().find(|p| p.0 == name) {
                    Some(phase) => phase.1.push(seconds * 1e3),
                    None => phases.push((name, vec![seconds * 1e3])),
                }
            }
        }
    }
    let ms = peer::median(&mut times);
    let rows_per_s = batch as f64 / ms * 1e3;
    if peer::has("--json") {
        let peak = peer::peak_gib();
        let phases: std::collections::BTreeMap<&str, f64> = phases.iter_mut().map(|(name, times)| (*name, peer::median(times))).collect();
        println!(
            "{}",
            serde_json::json!({"bench": "sae_step", "mode": mode, "median_ms": ms, "least_ms": times[0], "rows_per_s": rows_per_s, "peak_gib": peak, "l0": l0,
                "batch": batch, "d_in": d, "d_sae": f, "k": k, "reps": reps, "phases_ms": phases})
        );
        return;
    }
    println!("{} d_in {d} d_sae {f} batch {batch} l0 {l0:.0}: {ms:.1} ms, {rows_per_s:.0} rows/s, peak {:.2} GiB", mode, peer::peak_gib());
    for (name, times) in &mut phases {
        println!("  {name:18} {:8.1} ms", peer::median(times));
    }
    let flop = 2.0 * (batch * d * f) as f64;
    let screened = engine.screened();
    if screened.rows > 0 {
        let (rows, decided) = (screened.rows as f64, (screened.rows - screened.undecided) as f64);
        let (candidates, undecided) = (screened.candidates as f64 / decided, 100.0 * screened.undecided as f64 / rows);
        println!("  screen: {candidates:.1} candidates per row, {undecided:.2} % of rows left to f32");
    }
    if let Some((_, encode)) = phases.iter_mut().find(|p| p.0 == "encode") {
        println!(
            "  encoder: {:.0} GFLOP/s in the step as if all products were made; {:.0} of the f32 product alone (best of 5)",
            flop / peer::median(encode) / 1e6,
            peak_gflops(batch, f, d)
        );
    }
    for (name, unlocked) in [("PyTorch", false), ("PyTorch, MKL unlocked", true)] {
        let sizes = [("--d", d), ("--f", f), ("--k", k), ("--batch", batch)];
        // The dense step of a library costs the same whatever the recipe.
        let theirs = if matches!(config.sae.recipe, Recipe::TopK(_)) { "topk" } else { "relu" };
        let Some(text) = peer::pytorch("sae_pytorch.py", &[theirs], &sizes, unlocked) else { continue };
        println!("{name}: {}", text.trim());
        if let Some(theirs) = peer::before("rows/s", &text) {
            println!("  ours / {name}: {:.1}", rows_per_s / theirs);
        }
    }
}

/// A trained SAE as a step begins with it, and (B, D) rows of its run, so many batches.
fn of_run(run: &RunDir, sae: &Sae, batch: usize, n: usize) -> (Params, Vec<Vec<f32>>) {
    assert!(sae.apply_b_dec_to_input && matches!(sae.select, Select::TopK { .. } | Select::Relu), "a TopK or ReLU of 2023 is timed on rows of a run");
    let stream = TokenStream::open(&run.tokens()).expect("tokens");
    let lm = Manifest::read(&run.lm(), "lm", monosem::lm::FORMAT_VERSION).expect("a language model");
    let hook = HookPoint::mlp_post(0);
    let rows = CachedRows::open(&run.activations(&hook.to_string()), hook, &lm, &stream, "monosem harvest").expect("harvested rows");
    let mut rows = Cached::open(rows, &stream, ShuffleConfig::default()).expect("rows that count");
    let mut next = || {
        let mut x = vec![0.0; batch * sae.d_in];
        assert_eq!(rows.next_rows(&mut x).expect("rows"), batch, "rows of the run are short");
        x
    };
    let Sae { w_enc, b_enc, w_dec, b_dec, .. } = sae.clone();
    (Params { w_enc, b_enc, w_dec, b_dec, ..Params::default() }, (0..n).map(|_| next()).collect())
}

/// Random directions, of whose latents `share` are active on Gaussian rows; half of them where it is 0.
fn params(config: &SaeConfig, share: f64) -> Params {
    let (d, f) = (config.d_in, config.d_sae);
    let mut w_dec = random(f * d, 1);
    w_dec.chunks_exact_mut(d).for_each(|w| {
        let norm = w.iter().map(|v| v * v).sum::<f32>().sqrt();
        w.iter_mut().for_each(|v| *v /= norm);
    });
    let vectors = config.recipe.vectors().iter().map(|&(_, first)| vec![first; f]).collect();
    let b_dec = random(d, 3).iter().map(|v| v * 0.01).collect();
    let b_enc = vec![if share > 0.0 { -exceeded_by(share, &random(16 * d, 2), &w_dec, d) } else { 0.0 }; f];
    Params { w_enc: w_dec.clone(), b_enc, w_dec, b_dec, vectors, ..Params::default() }
}

/// Times the sparse and the dense path in turn, and says at which share of active latents they take equally long.
fn switch(config: &TrainConfig, reps: usize) {
    assert!(
        config.sae.recipe.settings().iter().all(|(name, _)| name != "k"),
        "where a k says how many latents are active there is nothing to switch"
    );
    const SHARES: [f64; 7] = [0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.16];
    let x = random(config.batch * config.sae.d_in, 2);
    let settings = StepSettings { lr: 1e-6, sparsity: 1e-3, dead: &[] };
    println!("{} d_in {} d_sae {} batch {}", config.sae.recipe.name(), config.sae.d_in, config.sae.d_sae, config.batch);
    let mut before: Option<(f64, f64)> = None;
    for share in SHARES {
        // No share is above 1, and all are above 0.
        let mut engines = [1.0, 0.0].map(|above| (CpuEngine::forced(config, params(&config.sae, share), above), Vec::new()));
        let mut l0 = 0.0;
        for rep in 0..=reps {
            for (engine, times) in &mut engines {
                let seconds = peer::seconds(|| l0 = engine.step(&x, &settings).l0);
                // The first step makes the buffers.
                times.extend((rep > 0).then_some(seconds * 1e3));
            }
        }
        let [sparse, dense] = engines.map(|(_, mut times)| peer::median(&mut times));
        let (active, more) = (l0 / config.sae.d_sae as f64, sparse - dense);
        println!("  {:5.1} % active: sparse {sparse:8.1} ms, dense {dense:8.1} ms", 100.0 * active);
        if let Some((at, less)) = before.filter(|(_, less)| *less < 0.0 && more >= 0.0) {
            println!("  equal at {:.1} %", 100.0 * (at + (active - at) * less / (less - more)));
        }
        before = Some((active, more));
    }
}

/// Gaussian rows: sums of twelve uniform draws.
fn random(n: usize, index: u64) -> Vec<f32> {
    let mut rng = seed::rng(0, "bench/sae_step", index);
    (0..n).map(|_| (0..12).map(|_| rng.random_range(0.0..1.0f32)).sum::<f32>() - 6.0).collect()
}

/// What the share `p` of products w . x exceeds, from the first rows (Gaussian rows and unit directions).
fn exceeded_by(p: f64, x: &[f32], w: &[f32], d: usize) -> f32 {
    let n = 16;
    let f = w.len() / d;
    let mut z = vec![0.0; n * f];
    matmul_nt(n, f, d, &x[..n * d], w, &mut z, false);
    let at = ((1.0 - p) * z.len() as f64) as usize;
    *z.select_nth_unstable_by(at, f32::total_cmp).1
}

fn peak_gflops(m: usize, n: usize, k: usize) -> f64 {
    let (a, b, mut c) = (random(m * k, 4), random(n * k, 5), vec![0.0; m * n]);
    let best = (0..6).map(|_| peer::seconds(|| matmul_nt(m, n, k, &a, &b, &mut c, false)));
    2.0 * (m * n * k) as f64 / best.fold(f64::INFINITY, f64::min) / 1e9
}
