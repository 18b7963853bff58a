//! One training step of a one-block model at d_model 512, d_mlp 2,048, vocabulary 8,192, context 256, batch 16, beside PyTorch in the same run.
//!
//! `cargo bench --bench lm_step -- [--json] [--preset laptop] [--rounds N]`

mod peer;

use monosem::lm::{CpuEngine, Engine, Lm, TrainConfig};

fn main() {
    peer::knows(&["--json", "--preset", "--rounds"]);
    let (config, batch) = (peer::lm_config(), 16);
    let n = batch * config.n_ctx;
    // Products of forward and backward: every weight but the embeddings six times, attention's two products of the forward pass and five of the backward.
    let weights = config.n_params() - (config.d_vocab + config.n_ctx) * config.d_model;
    let flop_per_token = 6.0 * weights as f64 + 7.0 * (config.n_layers * config.n_ctx * config.d_model) as f64;
    let settings = TrainConfig { batch, ..Default::default() }.step_settings(1e-3, config.n_ctx);
    let ids = peer::lm_ids(&config, n + 1);
    let mut engine = CpuEngine::new(Lm::init(&config, 0));
    let mut step = || engine.step(&ids[..n], &ids[1..], config.n_ctx, &settings);
    step();
    let json = peer::has("--json");
    let (mut times, mut peak, mut stock, mut unlocked, mut peer_gib) = (Vec::new(), 0.0f64, Vec::new(), Vec::new(), 0.0f64);
    for _ in 0..peer::rounds() {
        peak = peak.max(peer::gemm_peak());
        times.extend((0..7).map(|_| {
            peer::seconds(|| {
                step();
            })
        }));
        if !json {
            if let Some(p) = peer::lm_pytorch(&config, batch, &["--reps", "3"], false) {
                stock.push(p.tokens_per_s);
                peer_gib = p.peak_gib;
            }
            if let Some(p) = peer::lm_pytorch(&config, batch, &["--reps", "3"], true) {
                unlocked.push(p.tokens_per_s);
            }
        }
    }
    let seconds = peer::median(&mut times);
    let tokens_per_s = n as f64 / seconds;
    let gflops = flop_per_token * tokens_per_s / 1e9;
    let gib = peer::peak_gib();
    if json {
        println!(
            "{{\"median_ms\": {:.3}, \"tokens_per_s\": {tokens_per_s:.0}, \"gflops\": {gflops:.1}, \"gemm_peak_gflops\": {peak:.1}, \"peak_gib\": {gib:.3}}}",
            seconds * 1e3
        );
        return;
    }
    println!("monosem            {:8.1} ms {tokens_per_s:8.0} tokens/s {gflops:6.0} of {peak:.0} GFLOP/s, peak {gib:.2} GiB", seconds * 1e3);
    for (name, mut runs) in [("PyTorch", stock), ("PyTorch unlocked", unlocked)] {
        if !runs.is_empty() {
            let theirs = peer::median(&mut runs);
            println!(
                "{name:<18} {:8.1} ms {theirs:8.0} tokens/s; ratio {:.2}, peak {peer_gib:.2} GiB",
                n as f64 / theirs * 1e3,
                tokens_per_s / theirs
            );
        }
    }
}
