//! What every page shares: its frame, the error page, fragments and how an address is read.

use super::super::app::{Missing, Page, Problem};
use super::super::assets;
use super::super::server::Server;
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};

/// What every page's frame shows.
pub struct Shell {
    pub run: String,
    pub sae: String,
    pub version: &'static str,
    pub here: &'static str,
    /// What the search box of the frame starts with.
    pub query: String,
    /// What the run has that is newer than what the pages show.
    pub stale: Option<Missing>,
    /// There is a dictionary and no model.
    pub imported: bool,
}

impl Shell {
    pub fn new(server: &Server, here: &'static str) -> Self {
        Shell {
            run: server.app.run.name(),
            sae: server.app.sae.clone(),
            version: assets::version(),
            here,
            query: String::new(),
            stale: server.app.out_of_date(),
            imported: server.app.is_imported(),
        }
    }

    /// Address and name; without a model only those that need none.
    pub fn pages(&self) -> Vec<(&'static str, &'static str)> {
        let mut pages = vec![
            ("/", "Tour"),
            ("/features", "Features"),
            ("/neurons", "Neurons"),
            ("/map", "Map"),
            ("/live", "Live"),
            ("/steer", "Steer"),
            ("/compare", "Compare"),
            ("/lists", "Lists"),
            ("/rate", "Rate"),
            ("/training", "Training"),
            ("/toy", "Toy"),
        ];
        pages.retain(|(path, _)| !self.imported || matches!(*path, "/" | "/features" | "/lists" | "/rate" | "/toy"));
        pages
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorTemplate<'a> {
    shell: Shell,
    title: &'a str,
    message: &'a str,
    next: &'a str,
}

/// Renders what was found, or the error page.
pub fn show<T, P: Template>(server: &Server, here: &'static str, found: Page<T>, page: impl FnOnce(Shell, T) -> P) -> Response {
    let rendered = found.and_then(|found| {
        let failed = |e: askama::Error| Problem::new(500, "The page cannot be drawn", &e);
        page(Shell::new(server, here), found).render().map_err(failed)
    });
    match rendered {
        Ok(html) => Html(html).into_response(),
        Err(problem) => error_page(server, here, &problem),
    }
}

pub fn error_page(server: &Server, here: &'static str, problem: &Problem) -> Response {
    let page = ErrorTemplate { shell: Shell::new(server, here), title: problem.title, message: &problem.message, next: &problem.next };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let html = page.render().unwrap_or_else(|e| format!("the error page itself cannot be drawn: {}", e.to_string().replace('<', "&lt;")));
    (status, Html(html)).into_response()
}

/// Whether our script asks, which puts the answer into a page; whoever opens the address wants a whole one.
pub fn asks_for_fragment(headers: &HeaderMap) -> bool {
    headers.contains_key("x-fragment")
}

/// The page that holds a fragment: somebody who opens the address of a fragment alone is led there.
///
/// What a browser opens says so of itself (`Sec-Fetch-Dest: document`); programs get the fragment.
pub async fn lead_to_page(request: Request, next: Next) -> Response {
    let opened = request.headers().get("sec-fetch-dest").is_some_and(|to| to == "document");
    let path = request.uri().path();
    let page = ["/result", "/rows", "/then", "/window", "/stream", "/sweep", "/next"].iter().find_map(|part| path.strip_suffix(part));
    match page.filter(|page| opened && !page.is_empty() && !page.starts_with("/api")) {
        Some(page) => {
            let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
            Redirect::to(&format!("{page}{query}")).into_response()
        }
        None => next.run(request).await,
    }
}

/// What [`fragment`] says, as text.
pub fn fragment_text<T, P: Template>(found: Page<T>, part: impl FnOnce(T) -> P) -> String {
    let rendered = found.and_then(|found| part(found).render().map_err(|e| Problem::new(500, "The page cannot be drawn", &e)));
    rendered.unwrap_or_else(|problem| NoteTemplate { what: &problem.message, next: &problem.next }.render().unwrap_or_default())
}

/// A fragment's error is a note in its place.
pub fn fragment<T, P: Template>(found: Page<T>, part: impl FnOnce(T) -> P) -> Response {
    let rendered = found.and_then(|found| part(found).render().map_err(|e| Problem::new(500, "The page cannot be drawn", &e)));
    match rendered {
        Ok(html) => Html(html).into_response(),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let note = NoteTemplate { what: &problem.message, next: &problem.next };
            (status, Html(note.render().unwrap_or_default())).into_response()
        }
    }
}

#[derive(Template)]
#[template(
    source = "<div class=\"note\" role=\"alert\"><p>{{ what }}</p>{% if !next.is_empty() %}<pre>{{ next }}</pre>{% endif %}</div>",
    ext = "html"
)]
struct NoteTemplate<'a> {
    what: &'a str,
    next: &'a str,
}

/// The fields of an address or a form, or what is wrong with them.
pub fn fields<T>(parsed: Result<Query<T>, QueryRejection>) -> Page<T> {
    parsed.map(|Query(fields)| fields).map_err(|e| {
        let said = e.body_text();
        Problem::bad(&format!("A value of the address does not fit: {}.", said.trim_start_matches("Failed to deserialize query string: ")))
    })
}

pub async fn nothing(State(server): State<Server>) -> Response {
    error_page(&server, "", &Problem::not_found("This address leads nowhere."))
}
