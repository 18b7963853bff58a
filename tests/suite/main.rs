//! Everything that needs the whole crate, as one program that is linked once. The browser's tests are a program of their own: they need a browser.

mod api;
mod architectures;
mod bad_input;
mod cli;
mod corpus;
mod demo;
mod explorer;
mod explorer_pages;
mod exports;
mod hooks;
#[cfg(unix)]
mod interrupt;
mod layering;
mod lm_pytorch;
mod program;
mod recipes;
mod sae_lens;
mod security;
mod served;
mod splice;
mod steering;
mod toy;
