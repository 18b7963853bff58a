//! Experiments on disk: `outcome.json`, an SVG and a PNG of each picture; and all of them on one page that needs nothing else.

use super::draw::charts::short;
use super::experiments::{Ask, Experiment, Outcome};
use crate::artifact::{self, Figure};
use askama::Template;
use std::io::Write;
use std::path::Path;

/// Writes one experiment into `folder`: `outcome.json`, `<picture>.svg` and `<picture>.png`.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn write_outcome(folder: &Path, experiment: &Experiment, outcome: &Outcome, ask: &Ask) -> artifact::Result<()> {
    let mut json = serde_json::json!({ "experiment": experiment.name, "source": experiment.source, "seed": ask.seed, "quick": ask.quick });
    let rest = serde_json::to_value(outcome).expect("numbers and text become JSON");
    json.as_object_mut().expect("it was made as an object").extend(rest.as_object().cloned().unwrap_or_default());
    artifact::write_json(&folder.join("outcome.json"), &json)?;
    for picture in &outcome.pictures {
        let write =
            |ending: &str, bytes: &[u8]| artifact::write_atomic(&folder.join(format!("{}.{ending}", picture.name)), |file| file.write_all(bytes));
        write("svg", picture.scene.svg_file(&picture.caption).as_bytes())?;
        write("png", &picture.scene.png())?;
    }
    Ok(())
}

#[derive(Template)]
#[template(path = "toy_page.html")]
struct PageTemplate<'a> {
    ask: &'a Ask,
    parts: Vec<Part<'a>>,
    version: &'static str,
}

struct Part<'a> {
    experiment: &'a Experiment,
    outcome: &'a Outcome,
    /// Inline SVG and caption.
    pictures: Vec<(String, &'a str)>,
    held: usize,
    asserted: usize,
}

/// One HTML page of all experiments: figures, pictures inline, explanations.
pub fn html<'a>(done: &'a [(&'a Experiment, Outcome)], ask: &'a Ask) -> String {
    let part = |(experiment, outcome): &'a (&'a Experiment, Outcome)| {
        let count = |state: bool| outcome.figures.iter().filter(|f| f.holds() == Some(state)).count();
        let pictures = outcome.pictures.iter().map(|p| (p.scene.svg(&p.caption), p.caption.as_str())).collect();
        Part { experiment, outcome, pictures, held: count(true), asserted: count(true) + count(false) }
    };
    let parts = done.iter().map(part).collect();
    PageTemplate { ask, parts, version: env!("CARGO_PKG_VERSION") }.render().expect("the page is made of text and numbers")
}

impl Part<'_> {
    fn band(&self, figure: &Figure) -> String {
        let Some((low, high)) = figure.band else { return String::new() };
        match (low.is_finite(), high.is_finite()) {
            (true, true) => format!("{} to {}", short(low), short(high)),
            (true, false) => format!("at least {}", short(low)),
            (false, true) => format!("at most {}", short(high)),
            (false, false) => String::new(),
        }
    }

    fn number(&self, v: &f64) -> String {
        short(*v)
    }
}
