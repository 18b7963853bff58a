//! The page of one feature or neuron, and its label form.

use super::super::app::{Page, Problem};
use super::super::server::{Server, blocking, id_of};
use super::super::text::Piece;
use super::super::unit::UnitPage;
use super::super::view::Units;
use super::frame::{Shell, error_page, fields, show};
use askama::Template;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "unit.html")]
struct UnitTemplate {
    shell: Shell,
    page: UnitPage,
}

pub async fn unit(State(server): State<Server>, units: Units, Path(id): Path<String>) -> Response {
    let found = match id_of(&id) {
        Ok(id) => blocking(&server, move |app| app.unit(units, id)).await,
        Err(problem) => Err(problem),
    };
    show(&server, units.path(), found, |shell, page| UnitTemplate { shell, page })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LabelForm {
    pub text: String,
    pub author: String,
}

pub async fn set_label(State(server): State<Server>, units: Units, Path(id): Path<String>, form: Result<Form<LabelForm>, FormRejection>) -> Response {
    let done = match (id_of(&id), form) {
        (Ok(id), Ok(Form(form))) => blocking(&server, move |app| app.set_label(units, id, &form.text, &form.author)).await,
        (Err(problem), _) => Err(problem),
        (_, Err(e)) => Err(Problem::bad(&e.body_text())),
    };
    back_to_unit(&server, units, &id, done)
}

/// What is taken back.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Undo {
    /// The whole import with which the last change came.
    pub import: bool,
}

pub async fn undo_label(State(server): State<Server>, units: Units, Path(id): Path<String>, asked: Result<Query<Undo>, QueryRejection>) -> Response {
    let done = match (id_of(&id), fields(asked)) {
        (Ok(id), Ok(undo)) => blocking(&server, move |app| app.undo_label(units, id, undo.import)).await,
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    };
    back_to_unit(&server, units, &id, done)
}

pub fn back_to_unit(server: &Server, units: Units, id: &str, done: Page<()>) -> Response {
    match done {
        Ok(()) => Redirect::to(&format!("{}/{id}", units.path())).into_response(),
        Err(problem) => error_page(server, units.path(), &problem),
    }
}
