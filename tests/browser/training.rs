//! Watching a training that has not ended.

use super::{Browser, Visit, demo, in_browser};
use std::io::Write;

#[test]
fn a_training_that_goes_on_is_followed_and_its_slider_goes_back() {
    let lm = std::cell::RefCell::new(std::path::PathBuf::new());
    in_browser(
        |dir| {
            let run = demo::make(dir, false);
            std::fs::create_dir_all(run.lm()).unwrap();
            std::fs::write(run.lm().join("train.jsonl"), "{\"step\":10,\"tokens\":100,\"loss\":8.25}\n{\"step\":20,\"tokens\":200,\"loss\":7.5}\n")
                .unwrap();
            *lm.borrow_mut() = run.lm();
            run
        },
        async |browser: &Browser| -> Visit {
            browser.goto("/training").await?;
            browser.until(".training header small", "the last line", |t| t.starts_with("step 20") && t.contains("interrupted")).await?;
            browser.until(".training figcaption", "its loss", |t| t == "loss 7.5").await?;
            let mut log = std::fs::OpenOptions::new().append(true).open(lm.borrow().join("train.jsonl")).unwrap();
            writeln!(log, "{{\"step\":30,\"tokens\":300,\"loss\":6.125}}").unwrap();
            browser.until(".training figcaption", "the new line comes by itself", |t| t == "loss 6.125").await?;
            browser.client.find(fantoccini::Locator::Css(".training input")).await?.send_keys(&(fantoccini::key::Key::Home + "")).await?;
            browser.until(".training figcaption", "the slider goes back", |t| t == "loss 8.25").await
        },
    );
}
