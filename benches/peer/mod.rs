//! What the benchmarks share: flags, medians, the machine's matrix-product peak, the model they run, PyTorch in the same run.
#![allow(dead_code)]

use monosem::kernels::gemm::matmul_nn;
use monosem::lm::{Activation, LmConfig};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: monosem::kernels::aligned::Aligned = monosem::kernels::aligned::Aligned;

/// Refuses flags that nothing reads; cargo's own `--bench` is let through.
pub fn knows(flags: &[&str]) {
    let unknown = std::env::args().find(|a| a.starts_with("--") && a != "--bench" && !flags.contains(&a.as_str()));
    assert_eq!(unknown, None, "give some of {flags:?}");
}

/// `--name value` on the command line.
pub fn flag(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

/// The number after `--name`, or `default`.
pub fn number(name: &str, default: usize) -> usize {
    flag(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} wants a number, got {value:?}")))
}

/// Repetitions of the whole comparison: `--rounds`, else one for `--json`, which compares nothing, and three without.
pub fn rounds() -> usize {
    number("--rounds", if has("--json") { 1 } else { 3 })
}

pub fn has(name: &str) -> bool {
    std::env::args().any(|a| a == name)
}

pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds that `work` takes.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// GFLOP/s of a square product of 2,048, the best of five: what the machine gives now.
pub fn gemm_peak() -> f64 {
    let n = 2048;
    let (a, b, mut c) = (vec![1.0; n * n], vec![1.0; n * n], vec![0.0; n * n]);
    let best = (0..5).map(|_| seconds(|| matmul_nn(n, n, n, &a, &b, &mut c, false))).fold(f64::INFINITY, f64::min);
    2.0 * (n as f64).powi(3) / best / 1e9
}

/// Peak resident memory of this process in GiB, where the system tells.
pub fn peak_gib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / (1 << 20) as f64
}

/// The model of the language-model benchmarks: `--preset`, or the shape that PyTorch is compared at.
pub fn lm_config() -> LmConfig {
    match flag("--preset") {
        Some(name) => LmConfig::preset(&name).expect("a preset"),
        None => LmConfig { d_vocab: 8192, n_ctx: 256, d_model: 512, n_layers: 1, n_heads: 8, d_mlp: 2048, activation: Activation::Gelu, tied: false },
    }
}

/// `n` token numbers that repeat at no short distance.
pub fn lm_ids(config: &LmConfig, n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 + i * i % 31) % config.d_vocab) as u32).collect()
}

/// What `lm_pytorch.py` printed.
pub struct Peer {
    pub tokens_per_s: f64,
    pub without_unembedding: Option<f64>,
    pub peak_gib: f64,
}

/// `lm_pytorch.py` at the sizes of `config`; `more` are further arguments.
pub fn lm_pytorch(config: &LmConfig, batch: usize, more: &[&str], unlocked: bool) -> Option<Peer> {
    let sizes = [
        ("--d-vocab", config.d_vocab),
        ("--d-model", config.d_model),
        ("--d-mlp", config.d_mlp),
        ("--n-heads", config.n_heads),
        ("--n-ctx", config.n_ctx),
        ("--batch", batch),
    ];
    let text = pytorch("lm_pytorch.py", more, &sizes, unlocked)?;
    let (head, tail) = text.split_once("without unembedding").unwrap_or((&text, ""));
    let tokens_per_s = before("tokens/s", head)?;
    Some(Peer { tokens_per_s, without_unembedding: before("tokens/s", tail), peak_gib: before("GiB", head).unwrap_or(0.0) })
}

/// The number that stands before `word`.
pub fn before(word: &str, text: &str) -> Option<f64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.iter().position(|w| *w == word).and_then(|i| words[i.checked_sub(1)?].parse().ok())
}

/// What a script of `../shared/bench` prints, run with the Python of MONOSEM_PEER_PYTHON, and with MKL unlocked by the library of
/// MONOSEM_MKL_SHIM if `unlocked`. None, with a line on stderr, where something is absent or fails.
pub fn pytorch(script: &str, more: &[&str], sizes: &[(&str, usize)], unlocked: bool) -> Option<String> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/bench").join(script);
    let python = std::env::var("MONOSEM_PEER_PYTHON").ok().filter(|_| script.exists());
    let Some(python) = python else {
        eprintln!("skipped PyTorch: set MONOSEM_PEER_PYTHON to a python with torch; {} is needed too", script.display());
        return None;
    };
    let mut command = Command::new(python);
    if unlocked {
        let Ok(shim) = std::env::var("MONOSEM_MKL_SHIM") else {
            eprintln!("skipped PyTorch with MKL unlocked: set MONOSEM_MKL_SHIM to the compiled shim");
            return None;
        };
        command.env("LD_PRELOAD", shim);
    }
    command.arg(&script).args(more);
    for (name, value) in sizes {
        command.arg(name).arg(value.to_string());
    }
    match command.output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            eprintln!("PyTorch failed: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            eprintln!("PyTorch could not be started: {error}");
            None
        }
    }
}
