//! Live text: the page, and the result alone.

use super::super::app::Part;
use super::super::list::there;
use super::super::live::{self, LiveResult};
use super::super::server::{Server, blocking};
use super::super::text::Piece;
use super::frame::{Shell, fields, fragment, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

#[derive(Template)]
#[template(path = "live.html")]
struct LiveTemplate {
    shell: Shell,
    model: Part<usize>,
    text: String,
    result: Option<LiveResult>,
}

#[derive(Template)]
#[template(path = "live_result.html")]
struct LiveResultTemplate {
    result: LiveResult,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveAsk {
    pub text: String,
    pub at: Option<usize>,
}

pub async fn live(State(server): State<Server>, asked: Result<Query<LiveAsk>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => {
            let text = ask.text.clone();
            blocking(&server, move |app| app.live(&text, ask.at)).await.map(|result| (ask.text, result))
        }
        Err(problem) => Err(problem),
    };
    show(&server, "/live", found, |shell, (text, result)| match result {
        Ok(result) => LiveTemplate { shell, model: Ok(live::MAX_CHARS), result: (!text.is_empty()).then_some(result), text },
        Err(missing) => LiveTemplate { shell, model: Err(missing), result: None, text },
    })
}

pub async fn live_result(State(server): State<Server>, asked: Result<Query<LiveAsk>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| there(app.live(&ask.text, ask.at))).await,
        Err(problem) => Err(problem),
    };
    fragment(found, |result| LiveResultTemplate { result })
}
