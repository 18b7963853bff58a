//! Why a unit fires at one place: the page, and its result alone for swaps.

use super::super::server::{Server, blocking, id_of};
use super::super::text::Piece;
use super::super::view::Units;
use super::super::why::{Ask, WhyPage};
use super::frame::{Shell, fields, fragment, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;

#[derive(Template)]
#[template(path = "why.html")]
struct WhyTemplate {
    shell: Shell,
    page: WhyPage,
}

#[derive(Template)]
#[template(path = "why_result.html")]
struct WhyResultTemplate {
    page: WhyPage,
}

pub async fn why(State(server): State<Server>, units: Units, Path(id): Path<String>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match (id_of(&id), fields(asked)) {
        (Ok(id), Ok(ask)) => blocking(&server, move |app| app.why(units, id, ask)).await,
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    };
    show(&server, units.path(), found, |shell, page| WhyTemplate { shell, page })
}

pub async fn result(State(server): State<Server>, units: Units, Path(id): Path<String>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match (id_of(&id), fields(asked)) {
        (Ok(id), Ok(ask)) => blocking(&server, move |app| app.why(units, id, ask)).await,
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    };
    fragment(found, |page| WhyResultTemplate { page })
}
