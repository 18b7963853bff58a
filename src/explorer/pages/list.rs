//! The list of features or neurons, and its rows alone.

use super::super::app::Part;
use super::super::list::{self, ListView};
use super::super::server::{Server, blocking};
use super::super::view::Units;
use super::frame::{Shell, fields, fragment, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;

#[derive(Template)]
#[template(path = "list.html")]
struct ListTemplate {
    shell: Shell,
    kind: Units,
    list: Part<ListView>,
}

#[derive(Template)]
#[template(path = "rows.html")]
struct RowsTemplate {
    list: ListView,
}

pub async fn list(State(server): State<Server>, units: Units, asked: Result<Query<list::Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| app.list(units, ask)).await,
        Err(problem) => Err(problem),
    };
    show(&server, units.path(), found, |mut shell, list| {
        if units == Units::Features {
            shell.query = list.as_ref().map(|l| l.query.q.clone()).unwrap_or_default();
        }
        ListTemplate { shell, kind: units, list }
    })
}

pub async fn rows(State(server): State<Server>, units: Units, asked: Result<Query<list::Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| list::there(app.list(units, ask))).await,
        Err(problem) => Err(problem),
    };
    fragment(found, |list| RowsTemplate { list })
}
