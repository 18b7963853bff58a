//! Handlers that answer with HTML: whole pages, and fragments of them that the script puts in place. One file per topic, each with its templates.

pub mod frame;
pub mod list;
pub mod live;
pub mod steer;
pub mod tour;
pub mod unit;

pub use frame::fields;
