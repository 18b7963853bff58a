//! The map: its page, the arrays that it draws, and what it asks while somebody looks around.

use super::super::api::answer;
use super::super::app::{Page, Part};
use super::super::map::Tip;
use super::super::server::{Server, blocking};
use super::frame::{Shell, fields, fragment, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "map.html")]
struct MapTemplate {
    shell: Shell,
    part: Part<u32>,
}

#[derive(Template)]
#[template(
    source = "<b>{{ tip.unit.title() }}</b> <small class=\"num\">{{ tip.unit.density_text() }}</small><br>{% for t in tip.unit.tokens %}<span class=\"tok\">{{ t }}</span>{% endfor %}",
    ext = "html"
)]
struct TipTemplate {
    tip: Tip,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub q: String,
    pub id: u32,
}

pub async fn map(State(server): State<Server>) -> Response {
    let found = blocking(&server, |app| Ok(app.map_part())).await;
    show(&server, "/map", found, |shell, part| MapTemplate { shell, part })
}

pub async fn state(State(server): State<Server>) -> Response {
    answer(blocking(&server, |app| app.map_state()).await)
}

pub async fn points(State(server): State<Server>) -> Response {
    match blocking(&server, |app| app.map_points()).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Err(problem) => answer::<()>(Err(problem)),
    }
}

pub async fn labels(State(server): State<Server>) -> Response {
    answer(blocking(&server, |app| app.map_labels()).await)
}

pub async fn find(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    answer(asked_of(&server, asked, |app, ask| app.map_find(&ask.q)).await)
}

pub async fn tip(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    fragment(asked_of(&server, asked, |app, ask| app.map_tip(ask.id)).await, |tip| TipTemplate { tip })
}

async fn asked_of<T: Send + 'static>(
    server: &Server,
    asked: Result<Query<Ask>, QueryRejection>,
    work: impl FnOnce(&super::super::app::App, Ask) -> Page<T> + Send + 'static,
) -> Page<T> {
    let ask = fields(asked)?;
    blocking(server, move |app| work(app, ask)).await
}
