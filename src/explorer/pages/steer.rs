//! Steering: the form, the next token while a slider moves, the two texts alone or while they are written, and a sweep over strengths.

use super::super::app::{App, Page, Part, Problem};
use super::super::server::{Server, blocking};
use super::super::steering::next::NextView;
use super::super::steering::sweep::{self, SweptView};
use super::super::steering::{self, Limits, SteerResult};
use super::super::view::Units;
use super::frame::{Shell, fields, fragment, fragment_text, show};
use crate::intervene::saved::SavedEdit;
use crate::intervene::{Scope, Side};
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{OriginalUri, Query, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::ops::ControlFlow;
use tokio::sync::mpsc;

#[derive(Template)]
#[template(path = "steer.html")]
struct SteerTemplate {
    shell: Shell,
    model: Part<Limits>,
    ask: steering::Ask,
    form: SavedEdit,
    /// The scope that is chosen.
    here: &'static str,
    /// The position from which the edit holds, where it says one.
    from: Option<usize>,
    result: Option<SteerResult>,
}

#[derive(Template)]
#[template(path = "steer_result.html")]
struct SteerResultTemplate {
    result: SteerResult,
}

#[derive(Template)]
#[template(path = "steer_next.html")]
struct NextTemplate {
    next: NextView,
}

#[derive(Template)]
#[template(path = "steer_swept.html")]
struct SweptTemplate {
    swept: SweptView,
}

/// An address with a prompt, even an empty one, asks for texts; one without asks for the form.
pub async fn steer(State(server): State<Server>, OriginalUri(uri): OriginalUri, asked: Result<Query<steering::Ask>, QueryRejection>) -> Response {
    let says = |name: &str| uri.query().is_some_and(|q| q.split('&').any(|pair| pair.starts_with(name)));
    let (go, named) = (says("prompt="), says("feature=") || says("edit="));
    let found = match fields(asked) {
        Ok(mut ask) => {
            let work = move |app: &App| -> Page<(Part<Limits>, steering::Ask, Option<SteerResult>, SavedEdit)> {
                let limits = app.steer_limits();
                let dictionary = app.dictionary(Units::Features);
                if !named && let Ok(dictionary) = &dictionary {
                    ask.feature = Some(app.first_choice(dictionary)?);
                }
                let result = if go && limits.is_ok() { Some(app.steer(&ask, &mut |_, _| ControlFlow::Continue(()))?) } else { None };
                let form = ask.form(&app.run)?;
                if let Ok(dictionary) = &dictionary {
                    // A feature that is not there is told at once, not when texts are asked for.
                    form.edits.iter().try_for_each(|e| dictionary.summary(e.latent).map(drop))?;
                }
                Ok((limits, ask, result, form))
            };
            blocking(&server, work).await
        }
        Err(problem) => Err(problem),
    };
    show(&server, "/steer", found, |shell, (model, ask, result, form)| {
        let from = if let Scope::From(n) = form.scope { Some(n) } else { None };
        SteerTemplate { shell, model, here: steering::scope_name(form.scope), from, form, ask, result }
    })
}

/// The texts while they are written: events `token` with a side and its next piece of text, then `done` with the whole result or what went wrong. Whoever stops
/// listening stops the writing.
pub async fn stream(State(server): State<Server>, asked: Result<Query<steering::Ask>, QueryRejection>) -> Response {
    // There is room for all that can be said, so that a slow reader holds nothing up.
    let (send, receive) = mpsc::channel::<Event>(2 * steering::MAX_TOKENS + 3);
    let told = send.clone();
    let work = move |app: &App| -> Page<SteerResult> {
        let ask = fields(asked)?;
        app.steer(&ask, &mut |side, text| {
            let side = if side == Side::Edited { "edited" } else { "unedited" };
            let event = Event::default().event("token").data(serde_json::json!({ "side": side, "text": text }).to_string());
            if told.try_send(event).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    };
    tokio::spawn(async move {
        let html = fragment_text(blocking(&server, work).await, |result| SteerResultTemplate { result });
        // Nobody may be listening any more.
        let _ = send.send(Event::default().event("done").data(html.replace('\r', ""))).await;
    });
    let events = stream::unfold(receive, |mut receive| async { receive.recv().await.map(|event| (Ok::<_, Infallible>(event), receive)) });
    Sse::new(events).into_response()
}

/// What the edit does to the token after the prompt, without writing.
pub async fn next(State(server): State<Server>, asked: Result<Query<steering::Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| steering::next::next(app, &ask)).await,
        Err(problem) => Err::<NextView, Problem>(problem),
    };
    fragment(found, |next| NextTemplate { next })
}

pub async fn swept(State(server): State<Server>, asked: Result<Query<steering::Ask>, QueryRejection>) -> Response {
    let found = match fields(asked) {
        Ok(ask) => blocking(&server, move |app| sweep::sweep(app, &ask)).await,
        Err(problem) => Err::<SweptView, Problem>(problem),
    };
    fragment(found, |swept| SweptTemplate { swept })
}
