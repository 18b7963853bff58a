//! Superposition live: the form with the trained model, the training as it goes, and the page of all experiments.

use super::super::app::{App, Page, Part};
use super::super::server::{Server, blocking};
use super::super::toy::{self, Ask, Frame, Training};
use super::frame::{Shell, error_page, fields, fragment_text, show};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{OriginalUri, Query, State};
use axum::http::header;
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// From one picture to the next, at least: a training of 60 takes some four seconds, so that one can watch.
const PACE: Duration = Duration::from_millis(65);

#[derive(Template)]
#[template(path = "toy.html")]
struct ToyTemplate {
    shell: Shell,
    ask: Ask,
    frame: Option<Frame>,
    /// Whether the page of all experiments is there.
    paper: Part<()>,
}

#[derive(Template)]
#[template(path = "toy_result.html")]
struct FrameTemplate {
    frame: Frame,
}

/// An address with parameters asks for a trained model; one without asks for the form.
pub async fn toy(State(server): State<Server>, OriginalUri(uri): OriginalUri, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let go = uri.query().is_some_and(|q| !q.is_empty());
    let found = match fields(asked) {
        Ok(ask) => {
            let work = move |app: &App| -> Page<(Option<Frame>, Part<()>)> {
                let training = Training::new(ask)?;
                Ok((go.then(|| training.last()), app.toy_paper().map(|_| ())))
            };
            blocking(&server, work).await.map(|(frame, paper)| (ask, frame, paper))
        }
        Err(problem) => Err(problem),
    };
    show(&server, "/toy", found, |shell, (ask, frame, paper)| ToyTemplate { shell, ask, frame, paper })
}

/// A training as it goes: events `frame`, then `done`; or `problem` with what went wrong. Each picture is made when it is asked for: whoever stops listening
/// stops the training, and while nothing is computed no turn is held.
pub async fn stream(State(server): State<Server>, asked: Result<Query<Ask>, QueryRejection>) -> Response {
    let mut clock = tokio::time::interval(PACE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = fields(asked).and_then(Training::new);
    let events = stream::unfold(Some((begun, clock)), move |state| {
        let server = server.clone();
        async move {
            let (training, mut clock) = state?;
            clock.tick().await;
            let next = match training {
                Ok(mut training) => blocking(&server, move |_| Ok((training.next(), training))).await,
                Err(problem) => Err(problem),
            };
            let (event, html, then) = match next {
                Ok((Some(frame), training)) => ("frame", fragment_text(Ok(frame), |frame| FrameTemplate { frame }), Some((Ok(training), clock))),
                Ok((None, _)) => ("done", "trained".into(), None),
                Err(problem) => ("problem", fragment_text(Err(problem), |frame| FrameTemplate { frame }), None),
            };
            Some((Ok::<_, Infallible>(Event::default().event(event).data(html.replace('\r', ""))), then))
        }
    });
    Sse::new(events).into_response()
}

/// The page of all experiments has its style inline, which no page of ours may; so it may do nothing else.
const PAPER_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

pub async fn paper(State(server): State<Server>) -> Response {
    match blocking(&server, |app| Ok(app.toy_paper()?)).await {
        Ok(html) => ([(header::CONTENT_SECURITY_POLICY, PAPER_POLICY)], Html(html)).into_response(),
        Err(problem) => error_page(&server, "/toy", &problem),
    }
}
