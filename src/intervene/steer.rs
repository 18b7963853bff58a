//! Text with an edit beside the text without it. Both sides draw step n with the same uniform number, so whatever differs is the edit's
//! doing; with an edit that changes nothing they are equal token for token.

use super::write::{Change, Continuation, Position, Rig, Writer, Writing};
use super::{Result, Steering};
use serde::Serialize;
use std::ops::ControlFlow;

/// Which of the two texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Unedited,
    Edited,
}

/// Both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steered {
    pub unedited: Continuation,
    pub edited: Continuation,
    /// Index of the first generated token that differs (also where one side stopped earlier).
    pub first_difference: Option<usize>,
}

/// Goes on from `prompt` (not empty) without and with the edits; each side stops at `<|endoftext|>` and at stop strings. `on_token`
/// hears of each token as it is drawn, the two sides in turn, and may stop both.
pub fn steer(
    rig: Rig,
    steering: &Steering,
    prompt: &[u32],
    writing: &Writing,
    on_token: &mut dyn FnMut(Side, &Position) -> ControlFlow<()>,
) -> Result<Steered> {
    let mut unedited = Writer::new(rig, Change::default(), prompt)?;
    let mut edited = Writer::new(rig, steering.into(), prompt)?;
    'all: for step in 0..writing.n_tokens {
        for (side, writer) in [(Side::Unedited, &mut unedited), (Side::Edited, &mut edited)] {
            let Some(position) = writer.write(step, writing) else { continue };
            if on_token(side, position).is_break() {
                break 'all;
            }
        }
    }
    let (unedited, edited) = (unedited.finish(), edited.finish());
    let shorter = unedited.tokens.len().min(edited.tokens.len());
    let first_difference =
        (0..shorter).find(|&i| unedited.tokens[i] != edited.tokens[i]).or_else(|| (unedited.tokens.len() != edited.tokens.len()).then_some(shorter));
    Ok(Steered { unedited, edited, first_difference })
}
