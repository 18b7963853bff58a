//! Training steps of the ReLU-output toy model, many instances at once, beside PyTorch's batched tensors in the same run:
//! 20 features in 5 dimensions (10 instances, batch 1,024) and 400 in 30 (5 instances, batch 256).
//!
//! `cargo bench --bench toy_step -- [--json] [--rounds N]`

mod peer;

use monosem::toy::model::{Instances, Model, Schedule, Setting};

struct Case {
    n: usize,
    m: usize,
    instances: usize,
    batch: usize,
    /// Steps of one measurement.
    steps: u64,
}

const CASES: [Case; 2] = [Case { n: 20, m: 5, instances: 10, batch: 1024, steps: 500 }, Case { n: 400, m: 30, instances: 5, batch: 256, steps: 300 }];

/// Seconds of a measurement: settings as in the PyTorch script, p from 1 to 1/20.
fn measure(case: &Case) -> f64 {
    let p = |i: usize| 20f64.powf(-(i as f64) / (case.instances - 1) as f64);
    let settings = (0..case.instances).map(|i| Setting::falling(case.n, p(i), 0.7)).collect();
    let mut all = Instances::new(Model::relu_output(case.n, case.m), settings, 0);
    let schedule = Schedule { steps: u64::MAX, batch: case.batch, lr: 1e-3, decay: false };
    all.train_for(schedule, 20);
    peer::seconds(|| {
        all.train_for(schedule, case.steps);
    })
}

fn main() {
    peer::knows(&["--json", "--rounds"]);
    let json = peer::has("--json");
    let mut printed = Vec::new();
    for case in &CASES {
        let (mut ours, mut stock, mut unlocked) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..peer::rounds() {
            ours.extend((0..5).map(|_| measure(case)));
            let sizes = [("--n", case.n), ("--m", case.m), ("--instances", case.instances), ("--batch", case.batch)];
            for (runs, unlock) in [(&mut stock, false), (&mut unlocked, true)] {
                if !json && let Some(text) = peer::pytorch("toy_pytorch.py", &["--steps", "100"], &sizes, unlock) {
                    runs.extend(peer::before("instance-steps/s", &text));
                }
            }
        }
        let seconds = peer::median(&mut ours);
        let rate = case.instances as f64 * case.steps as f64 / seconds;
        let of = format!("n={} m={} instances={} batch={}", case.n, case.m, case.instances, case.batch);
        let median_ms = seconds * 1e3 / case.steps as f64;
        printed.push(format!("{{\"case\": \"{of}\", \"median_ms\": {median_ms:.4}, \"instance_steps_per_s\": {rate:.0}}}"));
        if json {
            continue;
        }
        println!("{of}\n  monosem            {rate:9.0} instance-steps/s");
        for (name, mut runs) in [("PyTorch", stock), ("PyTorch unlocked", unlocked)] {
            if !runs.is_empty() {
                let theirs = peer::median(&mut runs);
                println!("  {name:<18} {theirs:9.0} instance-steps/s; ratio {:.1}", rate / theirs);
            }
        }
    }
    if json {
        println!("[{}]", printed.join(", "));
    }
}
