//! The dictionary on disk: `features/<name>.sqlite`. [`Dictionary`] reads it; context is cut from the token stream when asked.

mod read;
mod types;

pub use read::Dictionary;
pub use types::*;

/// `PRAGMA user_version` of the file.
pub const VERSION: i64 = 1;
