//! How the trainings go: a page that follows them.

use super::super::api::answer;
use super::super::server::{Server, blocking};
use super::super::training::TrainingPage;
use super::frame::{Shell, show};
use askama::Template;
use axum::extract::State;
use axum::response::Response;

#[derive(Template)]
#[template(path = "training.html")]
struct TrainingTemplate {
    shell: Shell,
    page: TrainingPage,
}

pub async fn training(State(server): State<Server>) -> Response {
    let found = blocking(&server, |app| app.training()).await;
    show(&server, "/training", found, |shell, page| TrainingTemplate { shell, page })
}

pub async fn data(State(server): State<Server>) -> Response {
    answer(blocking(&server, |app| app.training()).await)
}
