//! CPU numerics for everyone, as plain functions over slices: products, normalisation, attention, activations, fused cross-entropy,
//! optimisers, sparse rows, matrices with zeros, the assignment problem. Forward and backward side by side, each beside its naive twin (the oracle of its tests).
//!
//! Rules: all matrices are row-major; a wrong shape panics with both numbers; no allocation in hot loops, no I/O, no configuration;
//! work is split into fixed blocks and reductions have a fixed order, so results do not depend on the number of threads.

pub mod activation;
pub mod adamw;
pub mod aligned;
pub mod assignment;
pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod gemm;
pub mod layer_norm;
pub mod screen;
pub mod select;
pub mod simd;
pub mod skip;
pub mod small;
pub mod softmax;
pub mod sparse;
#[cfg(test)]
pub mod testing;
pub mod wide;
