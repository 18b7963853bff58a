//! The dictionary on disk: `features/<name>.sqlite`. [`write`] makes it from what the collector kept, [`Dictionary`] reads it; context is
//! cut from the token stream when asked, so text is never stored (the search index keeps words, not text).
//!
//! Version 4 (`PRAGMA user_version`). Numbers in blobs are little-endian.
//!
//! | table | a row is |
//! |---|---|
//! | `meta` | one JSON object: [`Meta`] |
//! | `features` | a unit: statistics, flags (bits of [`Flag::bit`]), best concept, category; `examples.id` of its first example (all of a unit's are consecutive), how many of them are in the index of words |
//! | `shapes` | a unit's histogram as JSON; its firings in each part of the pass and each bin of the position as u32 |
//! | `firing_tokens` | a token that a unit fires on: bytes, lower-case text, count, share of activation |
//! | `firing_texts` | a token that some unit fires on: lower-case text |
//! | `groups` | how a group of examples was chosen, its interval of activation, the firings that it stands for, their share of the summed activation |
//! | `examples` | a firing: t, activation, and `around`: (i8 distance, f32 activation) of the unit nearby, 5 bytes each; `loss` alike: nats, where measured; `similar`: firings with nearly the same text that are left out |
//! | `logits` | a token that the unit makes likelier (`up` = 1) or less likely |
//! | `neighbors` | another unit: `coactive` by estimated Jaccard index, `similar` by cosine of decoder directions |
//! | `correlated` | a unit whose activations go along: Pearson's r over all tokens, its standard deviation (0 = exact), the cosine of the two columns of activations |
//! | `neurons` | a coordinate of the hook: `correlated` by Pearson's r, with the cosine of activation and coordinate over tokens; `aligned` by entry of the decoder direction with its share of the L1 norm |
//! | `tokens` | a token of the text that was read: bytes, lower-case text, occurrences |
//! | `token_features` | a unit that fires on it, most activation first: firings, summed activation, lift |
//! | `contexts` | contentless FTS5 index over the words 24 tokens before to 8 after top and random examples; rowid = `examples.id` |
//! | `unit_words` | the same words by unit, without their places; rowid = `features.id`; not in a file that was of an older version |
//!
//! A file of an older version is made one of version 4 when it is opened: what was not collected stays empty, and pages say so. To have it,
//! build the dictionary again (`monosem features build`). Other versions, and an old file that cannot be written to, are refused with that command.

mod dump;
mod list;
mod read;
mod schema;
mod search;
mod types;
mod write;

#[cfg(test)]
mod tests;

pub use dump::{Column, ColumnKind};
pub use read::Dictionary;
pub use search::{ON_WORD_FROM, Seen, has_word};
pub use types::*;
pub use write::{Row, set_concepts, write};

/// `PRAGMA user_version` of the file.
pub const VERSION: i64 = 4;

/// Tokens before and after a firing whose words can be searched.
const INDEXED: (u64, u64) = (24, 8);
