//! The page of all lists, and the form that changes one.

use super::super::app::Problem;
use super::super::lists::{ListsPage, PutForm};
use super::super::server::{Server, blocking, id_of};
use super::super::view::Units;
use super::frame::{Shell, show};
use super::unit::back_to_unit;
use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, State};
use axum::response::Response;

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

pub async fn put(State(server): State<Server>, units: Units, Path(id): Path<String>, form: Result<Form<PutForm>, FormRejection>) -> Response {
    let done = match (id_of(&id), form) {
        (Ok(id), Ok(Form(form))) => blocking(&server, move |app| app.put_in_list(units, id, &form)).await,
        (Err(problem), _) => Err(problem),
        (_, Err(e)) => Err(Problem::bad(&e.body_text())),
    };
    back_to_unit(&server, units, &id, done)
}
