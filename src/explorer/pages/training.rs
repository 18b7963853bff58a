//! How the trainings go: a page that follows them, and an SAE at a chosen moment of its training.

use super::super::api::answer;
use super::super::app::{App, Page};
use super::super::learning::{Ask, Then};
use super::super::live::MAX_CHARS;
use super::super::server::{Server, blocking};
use super::super::text::Piece;
use super::super::training::TrainingPage;
use super::frame::{Shell, fields, fragment, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;

#[derive(Template)]
#[template(path = "training.html")]
struct TrainingTemplate {
    shell: Shell,
    page: TrainingPage,
    sections: Vec<Section>,
    /// What the script makes the section of another SAE from.
    blank: Section,
}

/// The slider over one SAE.
#[derive(Default)]
struct Section {
    sae: String,
    /// Positions of the slider: 0 to last.
    last: usize,
    at: usize,
    when: String,
    text: String,
    max_chars: usize,
    then: Option<Then>,
}

#[derive(Template)]
#[template(path = "learning_result.html")]
struct ThenTemplate {
    result: Then,
}

/// The page; without a script a form asks for one SAE, one point and a text.
pub async fn training(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| page(app, &ask)).await,
        Err(problem) => Err(problem),
    };
    show(&server, "/training", found, |shell, (page, sections, blank)| TrainingTemplate { shell, page, sections, blank })
}

fn page(app: &App, ask: &Ask) -> Page<(TrainingPage, Vec<Section>, Section)> {
    let page = app.training()?;
    let then = if ask.sae.is_empty() { None } else { Some(app.then(ask)?) };
    let text = ask.text.clone().unwrap_or_else(|| app.first_words());
    let blank = || Section { text: text.clone(), max_chars: MAX_CHARS, ..Section::default() };
    let section = |l: &super::super::learning::Learning| {
        let last = l.points.len() - 1;
        Section { sae: l.sae.clone(), last, at: last, when: l.points[last].when.clone(), ..blank() }
    };
    let mut sections: Vec<Section> = page.learning.iter().map(section).collect();
    if let Some(then) = then
        && let Some(section) = sections.iter_mut().find(|s| s.sae == then.sae)
    {
        (section.at, section.when) = (then.at, then.point.when.clone());
        section.then = Some(then);
    }
    Ok((page, sections, blank()))
}

pub async fn data(State(server): State<Server>) -> Response {
    answer(blocking(&server, |app| app.training()).await)
}

pub async fn then(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| app.then(&ask)).await,
        Err(problem) => Err(problem),
    };
    fragment(found, |result| ThenTemplate { result })
}
