//! What the JSON API is: `assets/openapi.json` (OpenAPI 3.1), served as it is with the program's version, and the same for people at `/api`.

use super::app::Problem;
use super::pages::frame::Shell;
use super::pages::frame::show;
use super::server::Server;
use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::sync::OnceLock;

const TEXT: &str = include_str!("../../assets/openapi.json");

fn openapi() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut document: Value = serde_json::from_str(TEXT).expect("the document is checked by a test");
        document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
        document
    })
}

pub async fn document() -> Response {
    Json(openapi()).into_response()
}

/// One question that can be asked.
struct Question {
    method: &'static str,
    path: &'static str,
    summary: String,
    /// Name, kind and description of each parameter.
    parameters: Vec<(String, String, String)>,
    /// The body to send, as an example.
    body: String,
    answer: String,
}

/// The questions of one tag.
struct Section {
    title: String,
    about: String,
    questions: Vec<Question>,
}

#[derive(Template)]
#[template(path = "api.html")]
struct ApiTemplate {
    shell: Shell,
    about: String,
    sections: Vec<Section>,
}

pub async fn page(State(server): State<Server>) -> Response {
    let mut found = sections(openapi());
    // Examples that can be sent as they stand.
    let name = serde_json::to_string(&server.app.run.name()).unwrap_or_default();
    found.iter_mut().flat_map(|s| &mut s.questions).for_each(|q| q.body = q.body.replace("\"quickstart\"", &name));
    let found: Result<_, Problem> = Ok(found);
    let about = text(&openapi()["info"]["description"]);
    show(&server, "/api", found, |shell, sections| ApiTemplate { shell, about, sections })
}

fn sections(document: &'static Value) -> Vec<Section> {
    let tags = document["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    let section = |tag: &'static Value| {
        let paths = document["paths"].as_object().into_iter().flatten();
        let questions = paths.flat_map(|(path, methods)| methods.as_object().into_iter().flatten().map(move |(method, q)| (path, method, q)));
        let questions = questions.filter(|(_, _, q)| q["tags"][0] == tag["name"]).map(|(path, method, q)| question(path, method, q)).collect();
        Section { title: text(&tag["name"]), about: text(&tag["description"]), questions }
    };
    tags.iter().map(section).collect()
}

fn question(path: &'static str, method: &'static str, q: &Value) -> Question {
    let parameter = |p: &Value| (text(&p["name"]), text(&p["schema"]["type"]), text(&p["description"]));
    let example = &q["requestBody"]["content"]["application/json"]["example"];
    Question {
        method,
        path,
        summary: text(&q["summary"]),
        parameters: q["parameters"].as_array().into_iter().flatten().map(parameter).collect(),
        body: if example.is_null() { String::new() } else { serde_json::to_string_pretty(example).unwrap_or_default() },
        answer: text(&q["responses"]["200"]["description"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace('`', "")
}
