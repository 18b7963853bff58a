//! Blind rating: the page, and the form that keeps a rating.

use super::super::app::Problem;
use super::super::rate::{RateForm, RatePage, Session};
use super::super::server::{Server, blocking};
use super::super::text::Piece;
use super::frame::{Shell, error_page, fields, show};
use askama::Template;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "rate.html")]
struct RateTemplate {
    shell: Shell,
    page: RatePage,
}

/// The session in the address, and the place that was rated last.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub author: String,
    pub seed: u32,
    pub n: u32,
    pub last: Option<usize>,
}

impl Default for Ask {
    fn default() -> Self {
        let Session { author, seed, n } = Session::default();
        Ask { author, seed, n, last: None }
    }
}

pub async fn rate(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => {
            let session = Session { author: ask.author.trim().into(), seed: ask.seed, n: ask.n };
            blocking(&server, move |app| app.rate(session, ask.last)).await
        }
        Err(problem) => Err(problem),
    };
    show(&server, "/rate", found, |shell, page| RateTemplate { shell, page })
}

pub async fn set(State(server): State<Server>, form: Result<Form<RateForm>, FormRejection>) -> Response {
    let done = match form {
        Ok(Form(form)) => blocking(&server, move |app| app.set_rating(&form)).await,
        Err(e) => Err(Problem::bad(&e.body_text())),
    };
    match done {
        Ok(next) => Redirect::to(&next).into_response(),
        Err(problem) => error_page(&server, "/rate", &problem),
    }
}
