//! Search: what the box of the frame shows while somebody types, and the same as a page for whoever opens its address.

use super::super::list::there;
use super::super::search::Found;
use super::super::server::{Server, blocking};
use super::frame::{Shell, asks_for_fragment, fields, fragment, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;

#[derive(Template)]
#[template(path = "search.html")]
struct SearchTemplate {
    found: Found,
}

#[derive(Template)]
#[template(path = "search_page.html")]
struct SearchPageTemplate {
    shell: Shell,
    found: Found,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub q: String,
}

pub async fn search(State(server): State<Server>, headers: HeaderMap, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| there(app.search(&ask.q))).await,
        Err(problem) => Err(problem),
    };
    if asks_for_fragment(&headers) {
        return fragment(found, |found| SearchTemplate { found });
    }
    show(&server, "/search", found, |mut shell, found| {
        shell.query = found.query.clone();
        SearchPageTemplate { shell, found }
    })
}
