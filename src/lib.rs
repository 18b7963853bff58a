//! Monosem takes a language model apart into features that a person can read, search, label and turn up or down.
//!
//! The modules stand in the order of the pipeline; `ARCHITECTURE.md` has the table of who may use whom.

/// Language model + tokens -> activation rows, streamed through a shuffle buffer or cached.
pub mod activations;
/// Run folders, manifests, hashes, atomic writes, safetensors, seeds.
pub mod artifact;
/// Subcommands: flags -> config -> library call -> report.
pub mod cli;
/// Text -> tokens: sources, tokenizer, token shards, the planted corpus.
pub mod corpus;
/// The web server and its pages.
pub mod explorer;
/// One streaming pass -> the feature dictionary: examples, statistics, search, scores.
pub mod features;
/// An SAE spliced into the language model: CE recovered, clamp, steer, ablate.
pub mod intervene;
/// CPU numerics over slices, forward and backward, each with its naive twin.
pub mod kernels;
/// Labels of people and programs, kept apart from what can be rebuilt.
pub mod labels;
/// The language model: training, generation, hook points, Hugging Face layout.
pub mod lm;
/// The whole path: recipes, fresh stages, quickstart, reports.
pub mod pipeline;
/// Activations -> sparse autoencoder: recipes, training, metrics, SAELens layout.
pub mod sae;
/// Data whose features are known: generators, scores against the truth, experiments with published numbers.
pub mod synth;
/// Toy Models of Superposition: every experiment, with its closed form, its picture and an SAE that undoes it.
pub mod toy;
