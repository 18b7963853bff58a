//! The text around a place of the stream.

use super::super::corpus::{Ask, CorpusPage, WindowView};
use super::super::server::{Server, blocking};
use super::super::text::Piece;
use super::frame::{Shell, fields, fragment, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;

#[derive(Template)]
#[template(path = "corpus.html")]
struct CorpusTemplate {
    shell: Shell,
    page: CorpusPage,
}

#[derive(Template)]
#[template(
    source = "{%- import \"macros.html\" as m -%}<div class=\"line\"{% if window.rtl %} dir=\"rtl\"{% endif %}>{% call m::tokens(&window.tokens) %}{% endcall %}</div>",
    ext = "html"
)]
struct WindowTemplate {
    window: WindowView,
}

/// The whole window around a context.
pub async fn window(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| app.window(&ask)).await,
        Err(problem) => Err(problem),
    };
    fragment(found, |window| WindowTemplate { window })
}

pub async fn corpus(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| app.corpus(ask)).await,
        Err(problem) => Err(problem),
    };
    show(&server, "/corpus", found, |shell, page| CorpusTemplate { shell, page })
}
