//! The first page.

use super::super::server::{Server, blocking};
use super::super::text::Piece;
use super::super::tour::TourPage;
use super::frame::{Shell, show};
use askama::Template;
use axum::extract::State;
use axum::response::Response;

#[derive(Template)]
#[template(path = "tour.html")]
struct TourTemplate {
    shell: Shell,
    page: TourPage,
}

pub async fn tour(State(server): State<Server>) -> Response {
    let found = blocking(&server, |app| app.tour()).await;
    show(&server, "/", found, |shell, page| TourTemplate { shell, page })
}
