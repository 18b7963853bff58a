//! The page of all lists, and the form that changes one.

use super::super::app::Problem;
use super::super::lists::{ListsPage, PutForm};
use super::super::server::{Server, blocking, id_of};
use super::super::view::Units;
use super::frame::{Shell, error_page, show};
use super::unit::back_to_unit;
use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};

#[derive(Template)]
#[template(path = "lists.html")]
struct ListsTemplate {
    shell: Shell,
    page: ListsPage,
}

pub async fn lists(State(server): State<Server>) -> Response {
    let found = blocking(&server, |app| app.lists()).await;
    show(&server, "/lists", found, |shell, page| ListsTemplate { shell, page })
}

/// Takes back the last step that was made to labels.
pub async fn undo_step(State(server): State<Server>, units: Units) -> Response {
    match blocking(&server, move |app| app.undo_step(units)).await {
        Ok(()) => Redirect::to("/lists#labels").into_response(),
        Err(problem) => error_page(&server, "/lists", &problem),
    }
}

pub async fn put(State(server): State<Server>, units: Units, Path(id): Path<String>, form: Result<Form<PutForm>, FormRejection>) -> Response {
    let done = match (id_of(&id), form) {
        (Ok(id), Ok(Form(form))) => blocking(&server, move |app| app.put_in_list(units, id, &form)).await,
        (Err(problem), _) => Err(problem),
        (_, Err(e)) => Err(Problem::bad(&e.body_text())),
    };
    back_to_unit(&server, units, &id, done)
}
