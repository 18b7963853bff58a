//! Addresses and bodies -> answers, in JSON.

use super::{NewActivation, SearchAll, SearchExplanations, SourceActivation, Steer, TopByToken};
use crate::explorer::api::answer;
use crate::explorer::app::{App, Page, Problem};
use crate::explorer::server::{Server, blocking};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::Value;

type Sent<T> = Result<Json<T>, JsonRejection>;

async fn asked<T: Send + 'static>(server: Server, sent: Sent<T>, work: fn(&App, &T) -> Page<Value>) -> Response {
    answer(match sent {
        Ok(Json(ask)) => blocking(&server, move |app| work(app, &ask)).await,
        Err(e) => Err(Problem::bad(&e.body_text())),
    })
}

pub async fn feature(State(server): State<Server>, Path((model, source, index)): Path<(String, String, String)>) -> Response {
    answer(blocking(&server, move |app| app.np_feature(&model, &source, &index)).await)
}

pub async fn search_all(State(server): State<Server>, sent: Sent<SearchAll>) -> Response {
    asked(server, sent, App::np_search_all).await
}

pub async fn top_by_token(State(server): State<Server>, sent: Sent<TopByToken>) -> Response {
    asked(server, sent, App::np_top_by_token).await
}

pub async fn activation(State(server): State<Server>, sent: Sent<NewActivation>) -> Response {
    asked(server, sent, App::np_activation).await
}

pub async fn source_activation(State(server): State<Server>, sent: Sent<SourceActivation>) -> Response {
    asked(server, sent, App::np_source_activation).await
}

pub async fn steer(State(server): State<Server>, sent: Sent<Steer>) -> Response {
    asked(server, sent, App::np_steer).await
}

pub async fn explanations(State(server): State<Server>, sent: Sent<SearchExplanations>) -> Response {
    asked(server, sent, App::np_explanations).await
}
