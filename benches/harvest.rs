//! Forward without the unembedding at d_model 512, d_mlp 2,048, context 256: what a harvest of activations costs, beside PyTorch in the same run.
//!
//! `cargo bench --bench harvest -- [--json] [--preset laptop] [--rounds N]`

mod peer;

use monosem::lm::{CpuEngine, Engine, HookPoint, Lm, Site};

fn main() {
    peer::knows(&["--json", "--preset", "--rounds"]);
    let config = peer::lm_config();
    let batch = 16;
    let n = batch * config.n_ctx;
    let ids = peer::lm_ids(&config, n);
    let mut engine = CpuEngine::new(Lm::init(&config, 0));
    let json = peer::has("--json");
    let hooks = [HookPoint { layer: 0, site: Site::ResidPost }, HookPoint::mlp_post(0)];
    let mut times = [Vec::new(), Vec::new()];
    let (mut stock, mut unlocked, mut peak) = (Vec::new(), Vec::new(), 0.0f64);
    for _ in 0..peer::rounds() {
        peak = peak.max(peer::gemm_peak());
        for (hook, times) in hooks.iter().zip(&mut times) {
            let mut rows = vec![0.0; n * hook.d_in(&config)];
            engine.forward_to(&ids, config.n_ctx, *hook, &mut rows);
            times.extend((0..9).map(|_| peer::seconds(|| engine.forward_to(&ids, config.n_ctx, *hook, &mut rows))));
        }
        if !json {
            stock.extend(peer::lm_pytorch(&config, batch, &["--forward"], false).and_then(|p| p.without_unembedding));
            unlocked.extend(peer::lm_pytorch(&config, batch, &["--forward"], true).and_then(|p| p.without_unembedding));
        }
    }
    let [resid, post] = times.map(|mut t| peer::median(&mut t));
    let (resid_rate, post_rate) = (n as f64 / resid, n as f64 / post);
    if json {
        println!(
            "{{\"median_ms\": {:.3}, \"tokens_per_s\": {resid_rate:.0}, \"mlp_post_tokens_per_s\": {post_rate:.0}, \"gemm_peak_gflops\": {peak:.1}, \"peak_gib\": {:.3}}}",
            resid * 1e3,
            peer::peak_gib()
        );
        return;
    }
    println!(
        "hook_resid_post    {:8.1} ms {resid_rate:8.0} tokens/s, products peak {peak:.0} GFLOP/s, peak {:.2} GiB",
        resid * 1e3,
        peer::peak_gib()
    );
    println!("mlp.hook_post      {:8.1} ms {post_rate:8.0} tokens/s", post * 1e3);
    for (name, mut runs) in [("PyTorch", stock), ("PyTorch unlocked", unlocked)] {
        if !runs.is_empty() {
            let theirs = peer::median(&mut runs);
            println!("{name:<18} {:8.1} ms {theirs:8.0} tokens/s at hook_resid_post; ratio {:.2}", n as f64 / theirs * 1e3, resid_rate / theirs);
        }
    }
}
