//! What the search box of the frame shows while somebody types.

use super::super::list::there;
use super::super::search::Found;
use super::super::server::{Server, blocking};
use super::frame::{fields, fragment};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

#[derive(Template)]
#[template(path = "search.html")]
struct SearchTemplate {
    found: Found,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub q: String,
}

pub async fn search(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| there(app.search(&ask.q))).await,
        Err(problem) => Err(problem),
    };
    fragment(found, |found| SearchTemplate { found })
}
