//! Readers of foreign bytes, fed with files that were whole and then changed: no panic, and no more memory than the file is worth. A program of
//! its own, because it counts every allocation.
//!
//! Few cases in `cargo test`; many with `PROPTEST_CASES=100000 cargo test --release --test fuzz`.

mod change;
#[path = "../suite/demo.rs"]
#[allow(dead_code)]
mod demo;
mod dictionary;
mod foreign;
mod harness;
mod http;
mod memory;
mod models;
mod readers;
mod records;
mod run;
#[path = "../suite/served.rs"]
#[allow(dead_code)]
mod served;
