//! Handlers that answer with HTML: whole pages, and fragments of them that the script puts in place. One file per topic, each with its templates.

pub mod compare;
pub mod corpus;
pub mod frame;
pub mod list;
pub mod lists;
pub mod live;
pub mod map;
pub mod rate;
pub mod search;
pub mod steer;
pub mod tour;
pub mod toy;
pub mod training;
pub mod unit;
pub mod why;

pub use frame::fields;
