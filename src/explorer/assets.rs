//! Style sheet, scripts and icon, embedded in the program.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;
use std::sync::OnceLock;

#[derive(Embed)]
#[folder = "assets/"]
struct Files;

/// Name and media type; nothing else is looked for, whatever the address says.
const NAMES: [(&str, &str); 11] = [
    ("style.css", "text/css; charset=utf-8"),
    ("app.js", SCRIPT),
    ("search.js", SCRIPT),
    ("labels.js", SCRIPT),
    ("rate.js", SCRIPT),
    ("map.js", SCRIPT),
    ("learning.js", SCRIPT),
    ("training.js", SCRIPT),
    ("steer.js", SCRIPT),
    ("toy.js", SCRIPT),
    ("icon.svg", "image/svg+xml"),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

pub async fn file(Path(asked): Path<String>) -> Response {
    let Some((name, media)) = NAMES.iter().find(|(name, _)| *name == asked) else {
        return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response();
    };
    let bytes = Files::get(name).expect("the names are those of the folder").data;
    let headers = [(header::CONTENT_TYPE, *media), (header::CACHE_CONTROL, "private, max-age=86400")];
    (headers, bytes.into_owned()).into_response()
}

/// Stands in the files' addresses, so that a browser never keeps those of another build.
pub fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let mut hasher = blake3::Hasher::new();
        for (name, _) in NAMES {
            hasher.update(&Files::get(name).expect("the names are those of the folder").data);
        }
        hasher.finalize().to_hex()[..12].to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_and_style_sheet_of_the_folder_can_be_fetched() {
        for file in Files::iter().filter(|f| !f.contains('/') && (f.ends_with(".js") || f.ends_with(".css"))) {
            assert!(NAMES.iter().any(|(name, _)| *name == file), "{file} is not among the names");
        }
    }
}
