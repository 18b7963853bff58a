//! *Toy Models of Superposition* (Elhage et al. 2022): every experiment, each beside its closed form or published outcome, with pictures; and what the
//! paper could not do yet, an SAE on the hidden layer that finds the features again. Reads nothing; writes `toy/` of a run. Knows neither language
//! models nor text.

pub mod data;
pub mod decompose;
pub mod draw;
mod error;
pub mod exact;
pub mod experiments;
pub mod model;
pub mod page;
pub mod theory;

pub use error::{Error, Result};
