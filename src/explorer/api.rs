//! The same answers as JSON, under `/api`: for programs, and for whoever wants another page.

use super::app::{Page, Problem};
use super::learning;
use super::list::{self, there};
use super::pages::fields;
use super::pages::live::LiveAsk;
use super::pages::unit::{LabelForm, Undo};
use super::server::{Server, blocking, id_of};
use super::steering;
use super::view::Units;
use super::why;
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::ops::ControlFlow;

pub fn answer<T: Serialize>(found: Page<T>) -> Response {
    match found {
        Ok(found) => Json(found).into_response(),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, Json(serde_json::json!({ "error": problem }))).into_response()
        }
    }
}

pub async fn index(State(server): State<Server>) -> Response {
    let found = blocking(&server, |app| {
        let meta = |units| match app.dictionary(units) {
            Ok(dictionary) => serde_json::json!(dictionary.meta()),
            Err(missing) => serde_json::json!(missing),
        };
        Ok(serde_json::json!({
            "run": app.run.name(),
            "sae": app.sae,
            "features": meta(Units::Features),
            "neurons": meta(Units::Neurons),
            "get": [
                "/api/tour", "/api/features?q=&sort=&flag=&page=", "/api/features/N", "/api/features/N/why?t= (or text=&at=) &swap=&with=", "/api/neurons", "/api/neurons/N",
                "/api/live?text=&at=", "/api/training", "/api/training/then?sae=&at=&text=", "/api/steer?feature=&strength=&edit=&prompt=&tokens=&temperature=&seed=",
            ],
            "post": ["/api/features/N/label {text, author}", "/api/features/N/label/undo?import=", "/api/neurons/N/label", "/api/neurons/N/label/undo?import="],
        }))
    });
    answer(found.await)
}

pub async fn tour(State(server): State<Server>) -> Response {
    answer(blocking(&server, |app| app.tour()).await)
}

pub async fn list(State(server): State<Server>, units: Units, asked: Result<Query<list::Ask>, QueryRejection>) -> Response {
    match fields(asked) {
        Ok(ask) => answer(blocking(&server, move |app| there(app.list(units, ask))).await),
        Err(problem) => answer::<()>(Err(problem)),
    }
}

pub async fn unit(State(server): State<Server>, units: Units, Path(id): Path<String>) -> Response {
    match id_of(&id) {
        Ok(id) => answer(blocking(&server, move |app| app.unit(units, id)).await),
        Err(problem) => answer::<()>(Err(problem)),
    }
}

pub async fn why(State(server): State<Server>, units: Units, Path(id): Path<String>, asked: Result<Query<why::Ask>, QueryRejection>) -> Response {
    match (id_of(&id), fields(asked)) {
        (Ok(id), Ok(ask)) => answer(blocking(&server, move |app| app.why(units, id, ask)).await),
        (Err(problem), _) | (_, Err(problem)) => answer::<()>(Err(problem)),
    }
}

/// Sets the label and answers with the unit as it is then.
pub async fn set_label(State(server): State<Server>, units: Units, Path(id): Path<String>, sent: Result<Json<LabelForm>, JsonRejection>) -> Response {
    let work = match (id_of(&id), sent) {
        (Ok(id), Ok(Json(form))) => {
            blocking(&server, move |app| {
                app.set_label(units, id, &form.text, &form.author)?;
                Ok(app.unit(units, id)?.labels?)
            })
            .await
        }
        (Err(problem), _) => Err(problem),
        (_, Err(e)) => Err(Problem::bad(&e.body_text())),
    };
    answer(work)
}

pub async fn undo_label(State(server): State<Server>, units: Units, Path(id): Path<String>, asked: Result<Query<Undo>, QueryRejection>) -> Response {
    let work = match (id_of(&id), fields(asked)) {
        (Ok(id), Ok(undo)) => {
            blocking(&server, move |app| {
                app.undo_label(units, id, undo.import)?;
                Ok(app.unit(units, id)?.labels?)
            })
            .await
        }
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    };
    answer(work)
}

pub async fn live(State(server): State<Server>, asked: Result<Query<LiveAsk>, QueryRejection>) -> Response {
    match fields(asked) {
        Ok(ask) => answer(blocking(&server, move |app| there(app.live(&ask.text, ask.at))).await),
        Err(problem) => answer::<()>(Err(problem)),
    }
}

pub async fn then(State(server): State<Server>, asked: Result<Query<learning::Ask>, QueryRejection>) -> Response {
    match fields(asked) {
        Ok(ask) => answer(blocking(&server, move |app| app.then(&ask)).await),
        Err(problem) => answer::<()>(Err(problem)),
    }
}

pub async fn steer(State(server): State<Server>, asked: Result<Query<steering::Ask>, QueryRejection>) -> Response {
    match fields(asked) {
        Ok(ask) => answer(blocking(&server, move |app| app.steer(&ask, &mut |_, _| ControlFlow::Continue(()))).await),
        Err(problem) => answer::<()>(Err(problem)),
    }
}

pub async fn nothing() -> Response {
    answer::<()>(Err(Problem::not_found("This address leads nowhere; /api lists those that do.")))
}
