//! The dictionary on disk: `features/<name>.sqlite`. [`write`] makes it from what the collector kept, [`Dictionary`] reads it; context is
//! cut from the token stream when asked, so text is never stored (the search index keeps words, not text).
//!
//! Version 1 (`PRAGMA user_version`):
//!
//! | table | a row is |
//! |---|---|
//! | `meta` | one JSON object: [`Meta`] |
//! | `features` | a unit: statistics, flags (bits of [`Flag::bit`]), histogram (first coarse bin, then counts, as JSON), best concept |
//! | `firing_tokens` | a token that a unit fires on: bytes, lower-case text, count, share of activation |
//! | `groups` | how a group of examples was chosen, its interval of activation, the firings that it stands for |
//! | `examples` | a firing: t, activation, and `around`: (i8 distance, little-endian f32 activation) of the unit nearby, 5 bytes each |
//! | `logits` | a token that the unit makes likelier (`up` = 1) or less likely |
//! | `contexts` | contentless FTS5 index over the words 24 tokens before to 8 after top and random examples; rowid = `examples.id` |

mod read;
mod types;
mod write;

#[cfg(test)]
mod tests;

pub use read::Dictionary;
pub use types::*;
pub use write::{Row, set_concepts, write};

/// `PRAGMA user_version` of the file.
pub const VERSION: i64 = 1;

/// Tokens before and after a firing whose words can be searched.
const INDEXED: (u64, u64) = (24, 8);
