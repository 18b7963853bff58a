//! What the benchmarks of the language model share: flags, medians, the machine's matrix-product peak, PyTorch in the same run.
#![allow(dead_code)]

use monosem::kernels::gemm::matmul_nn;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// `--name value` on the command line.
pub fn flag(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
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

/// What `lm_pytorch.py` printed.
pub struct Peer {
    pub tokens_per_s: f64,
    pub without_unembedding: Option<f64>,
    pub peak_gib: f64,
}

/// Runs `lm_pytorch.py` with the Python of MONOSEM_PEER_PYTHON, with MKL unlocked by the library of MONOSEM_MKL_SHIM if `unlocked`. None, with a line on stderr, where something is absent.
pub fn pytorch(args: &[String], unlocked: bool) -> Option<Peer> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/bench/lm_pytorch.py");
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
    let output = command.arg(&script).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let before = |word: &str, from: &str| {
        let words: Vec<&str> = from.split_whitespace().collect();
        words.iter().position(|w| *w == word).and_then(|i| words[i - 1].parse::<f64>().ok())
    };
    let (head, tail) = text.split_once("without unembedding").unwrap_or((&text, ""));
    let tokens_per_s = before("tokens/s", head);
    if tokens_per_s.is_none() {
        eprintln!("PyTorch failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Some(Peer { tokens_per_s: tokens_per_s?, without_unembedding: before("tokens/s", tail), peak_gib: before("GiB", head).unwrap_or(0.0) })
}
