//! Data with known features: the directions, which of them are active in a row, and how strongly. A file per generator.

pub mod copula;
mod dictionary;
pub mod forest;
pub mod plain;
pub mod trees;

pub use dictionary::Dictionary;
