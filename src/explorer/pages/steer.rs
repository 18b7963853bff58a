//! Steering: the form, and the two texts alone.

use super::super::app::{App, Page, Part};
use super::super::server::{Server, blocking};
use super::super::steering::{self, Limits, SteerResult};
use super::super::view::Units;
use super::frame::{Shell, fields, fragment, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{OriginalUri, Query, State};
use axum::response::Response;

#[derive(Template)]
#[template(path = "steer.html")]
struct SteerTemplate {
    shell: Shell,
    model: Part<Limits>,
    ask: steering::Ask,
    result: Option<SteerResult>,
}

#[derive(Template)]
#[template(path = "steer_result.html")]
struct SteerResultTemplate {
    result: SteerResult,
}

/// An address with a prompt, even an empty one, asks for texts; one without asks for the form.
pub async fn steer(State(server): State<Server>, OriginalUri(uri): OriginalUri, asked: Result<Query<steering::Ask>, QueryRejection>) -> Response {
    let says = |name: &str| uri.query().is_some_and(|q| q.split('&').any(|pair| pair.starts_with(name)));
    let (go, named) = (says("prompt="), says("feature="));
    let found = match fields(asked) {
        Ok(mut ask) => {
            let work = move |app: &App| -> Page<(Part<Limits>, steering::Ask, Option<SteerResult>)> {
                let limits = app.steer_limits();
                if !named && let Ok(dictionary) = app.dictionary(Units::Features) {
                    ask.feature = Some(app.first_choice(&dictionary)?);
                }
                let result = if go && limits.is_ok() { Some(app.steer(&ask)?) } else { None };
                Ok((limits, ask, result))
            };
            blocking(&server, work).await
        }
        Err(problem) => Err(problem),
    };
    show(&server, "/steer", found, |shell, (model, ask, result)| SteerTemplate { shell, model, ask, result })
}

pub async fn steer_result(State(server): State<Server>, asked: Result<Query<steering::Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| app.steer(&ask)).await,
        Err(problem) => Err(problem),
    };
    fragment(found, |result| SteerResultTemplate { result })
}
