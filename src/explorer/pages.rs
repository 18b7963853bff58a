//! Handlers that answer with HTML: whole pages, and fragments of them that the script puts in place.

use super::app::{Missing, Page, Part, Problem};
use super::list::ListView;
use super::live::{self, LiveResult};
use super::server::{Server, blocking, id_of};
use super::steering::{self, Limits, SteerResult};
use super::text::Piece;
use super::tour::TourPage;
use super::unit::UnitPage;
use super::view::Units;
use super::{assets, list};
use askama::Template;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, OriginalUri, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;

/// What every page's frame shows.
pub struct Shell {
    run: String,
    sae: String,
    version: &'static str,
    here: &'static str,
    query: String,
    /// What the run has that is newer than what the pages show.
    stale: Option<Missing>,
}

impl Shell {
    fn new(server: &Server, here: &'static str) -> Self {
        Shell {
            run: server.app.run.name(),
            sae: server.app.sae.clone(),
            version: assets::version(),
            here,
            query: String::new(),
            stale: server.app.out_of_date(),
        }
    }

    fn pages(&self) -> [(&'static str, &'static str); 5] {
        [("/", "Tour"), ("/features", "Features"), ("/neurons", "Neurons"), ("/live", "Live"), ("/steer", "Steer")]
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

#[derive(Template)]
#[template(path = "tour.html")]
struct TourTemplate {
    shell: Shell,
    page: TourPage,
}

#[derive(Template)]
#[template(path = "list.html")]
struct ListTemplate {
    shell: Shell,
    kind: Units,
    list: Part<ListView>,
}

#[derive(Template)]
#[template(path = "rows.html")]
struct RowsTemplate {
    list: ListView,
}

#[derive(Template)]
#[template(path = "unit.html")]
struct UnitTemplate {
    shell: Shell,
    page: UnitPage,
}

#[derive(Template)]
#[template(path = "live.html")]
struct LiveTemplate {
    shell: Shell,
    model: Part<usize>,
    text: String,
    result: Option<LiveResult>,
}

#[derive(Template)]
#[template(path = "live_result.html")]
struct LiveResultTemplate {
    result: LiveResult,
}

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

/// Renders what was found, or the error page.
fn show<T, P: Template>(server: &Server, here: &'static str, found: Page<T>, page: impl FnOnce(Shell, T) -> P) -> Response {
    let rendered = found.and_then(|found| {
        let failed = |e: askama::Error| Problem::new(500, "The page cannot be drawn", &e);
        page(Shell::new(server, here), found).render().map_err(failed)
    });
    match rendered {
        Ok(html) => Html(html).into_response(),
        Err(problem) => error_page(server, here, &problem),
    }
}

fn error_page(server: &Server, here: &'static str, problem: &Problem) -> Response {
    let page = ErrorTemplate { shell: Shell::new(server, here), title: problem.title, message: &problem.message, next: &problem.next };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let html = page.render().unwrap_or_else(|e| format!("the error page itself cannot be drawn: {}", e.to_string().replace('<', "&lt;")));
    (status, Html(html)).into_response()
}

/// A fragment's error is a note in its place.
fn fragment<T, P: Template>(found: Page<T>, part: impl FnOnce(T) -> P) -> Response {
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
    parsed.map(|Query(fields)| fields).map_err(|e| Problem::bad(&e.body_text()))
}

pub async fn tour(State(server): State<Server>) -> Response {
    let found = blocking(&server, |app| app.tour()).await;
    show(&server, "/", found, |shell, page| TourTemplate { shell, page })
}

pub async fn list(State(server): State<Server>, units: Units, asked: Result<Query<list::Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| app.list(units, ask)).await,
        Err(problem) => Err(problem),
    };
    show(&server, units.path(), found, |mut shell, list| {
        if units == Units::Features {
            shell.query = list.as_ref().map(|l| l.query.q.clone()).unwrap_or_default();
        }
        ListTemplate { shell, kind: units, list }
    })
}

pub async fn rows(State(server): State<Server>, units: Units, asked: Result<Query<list::Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| list::there(app.list(units, ask))).await,
        Err(problem) => Err(problem),
    };
    fragment(found, |list| RowsTemplate { list })
}

pub async fn unit(State(server): State<Server>, units: Units, Path(id): Path<String>) -> Response {
    let found = match id_of(&id) {
        Ok(id) => blocking(&server, move |app| app.unit(units, id)).await,
        Err(problem) => Err(problem),
    };
    show(&server, units.path(), found, |shell, page| UnitTemplate { shell, page })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LabelForm {
    pub text: String,
    pub author: String,
}

pub async fn set_label(State(server): State<Server>, units: Units, Path(id): Path<String>, form: Result<Form<LabelForm>, FormRejection>) -> Response {
    let done = match (id_of(&id), form) {
        (Ok(id), Ok(Form(form))) => blocking(&server, move |app| app.set_label(units, id, &form.text, &form.author)).await,
        (Err(problem), _) => Err(problem),
        (_, Err(e)) => Err(Problem::bad(&e.body_text())),
    };
    back_to_unit(&server, units, &id, done)
}

pub async fn undo_label(State(server): State<Server>, units: Units, Path(id): Path<String>) -> Response {
    let done = match id_of(&id) {
        Ok(id) => blocking(&server, move |app| app.undo_label(units, id)).await,
        Err(problem) => Err(problem),
    };
    back_to_unit(&server, units, &id, done)
}

fn back_to_unit(server: &Server, units: Units, id: &str, done: Page<()>) -> Response {
    match done {
        Ok(()) => Redirect::to(&format!("{}/{id}", units.path())).into_response(),
        Err(problem) => error_page(server, units.path(), &problem),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveAsk {
    pub text: String,
    pub at: Option<usize>,
}

pub async fn live(State(server): State<Server>, asked: Result<Query<LiveAsk>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => {
            let text = ask.text.clone();
            blocking(&server, move |app| app.live(&text, ask.at)).await.map(|result| (ask.text, result))
        }
        Err(problem) => Err(problem),
    };
    show(&server, "/live", found, |shell, (text, result)| match result {
        Ok(result) => LiveTemplate { shell, model: Ok(live::MAX_CHARS), result: (!text.is_empty()).then_some(result), text },
        Err(missing) => LiveTemplate { shell, model: Err(missing), result: None, text },
    })
}

pub async fn live_result(State(server): State<Server>, asked: Result<Query<LiveAsk>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| list::there(app.live(&ask.text, ask.at))).await,
        Err(problem) => Err(problem),
    };
    fragment(found, |result| LiveResultTemplate { result })
}

/// An address with a prompt, even an empty one, asks for texts; one without asks for the form.
pub async fn steer(State(server): State<Server>, OriginalUri(uri): OriginalUri, asked: Result<Query<steering::Ask>, QueryRejection>) -> Response {
    let says = |name: &str| uri.query().is_some_and(|q| q.split('&').any(|pair| pair.starts_with(name)));
    let (go, named) = (says("prompt="), says("feature="));
    let found = match fields(asked) {
        Ok(mut ask) => {
            let work = move |app: &super::app::App| -> Page<(Part<Limits>, steering::Ask, Option<SteerResult>)> {
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

pub async fn nothing(State(server): State<Server>) -> Response {
    error_page(&server, "", &Problem::not_found("This address leads nowhere."))
}
