//! What an edit does to the token that comes next, while its slider moves.

use super::super::app::{App, Page};
use super::super::view::significant;
use super::{Ask, shown, with_a_strength, with_edit};
use crate::intervene::effect::{Moved, next_effect};

/// What the page shows.
pub struct NextView {
    /// Whether the prompt is.
    pub is_empty: bool,
    pub says: String,
    /// Those that rose most ("up") and those that fell most ("down"), the most first; none where nothing moves.
    pub sides: Vec<(&'static str, Vec<Row>)>,
}

/// A token and its probability before and after, also as the ends of a bar of 100, which is the largest of all that are shown.
pub struct Row {
    pub token: String,
    pub p: String,
    pub from: String,
    pub width: String,
}

/// Tokens of each kind.
const MOVED: usize = 6;

/// The prediction of the token after the prompt, with and without the edit.
pub fn next(app: &App, asked: &Ask) -> Page<NextView> {
    let ask = with_a_strength(asked);
    let found = with_edit(app, &ask, |rig, edit, resolve| next_effect(rig, &resolve(edit)?, &rig.prompt(&ask.prompt), MOVED))?;
    let largest = found.promoted.iter().chain(&found.suppressed).map(|m| m.unedited.max(m.edited)).fold(f64::MIN_POSITIVE, f64::max);
    let row = |m: &Moved| Row {
        token: shown(&m.text),
        p: format!("{:.3} \u{2192} {:.3}", m.unedited, m.edited),
        from: format!("{:.1}", 100.0 * m.unedited.min(m.edited) / largest),
        width: format!("{:.1}", 100.0 * (m.edited - m.unedited).abs() / largest),
    };
    Ok(NextView {
        is_empty: ask.prompt.is_empty(),
        says: match ask.prompt.is_empty() {
            true => "An empty prompt has no position that is edited: with one, what happens to the token after it stands here.".into(),
            false => format!("The token after the prompt: KL {} nats from the unedited prediction.", significant(found.kl)),
        },
        sides: [("up", &found.promoted), ("down", &found.suppressed)]
            .into_iter()
            .filter(|(_, moved)| !moved.is_empty())
            .map(|(class, moved)| (class, moved.iter().map(row).collect()))
            .collect(),
    })
}
