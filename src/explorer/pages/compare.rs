//! Two dictionaries beside each other.

use super::super::compare::ComparePage;
use super::super::server::{Server, blocking};
use super::frame::{Shell, fields, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

#[derive(Template)]
#[template(path = "compare.html")]
struct CompareTemplate {
    shell: Shell,
    page: ComparePage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub with: String,
}

pub async fn compare(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| app.compare(&ask.with)).await,
        Err(problem) => Err(problem),
    };
    show(&server, "/compare", found, |shell, page| CompareTemplate { shell, page })
}
