//! Blind rating by keyboard.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::key::Key;

#[test]
fn units_are_rated_by_keyboard_without_knowing_what_they_are_and_the_report_has_medians() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        browser.goto("/rate").await?;
        browser.type_in("#author", "Ada").await?;
        browser.type_in("input[name=n]", &(Key::Control + "a")).await?;
        browser.type_in("input[name=n]", "2").await?;
        browser.click("form.bar button.main").await?;
        for i in 1..=4 {
            browser.until(".head .kind", "the next unit", |t| t == format!("{i} of 4")).await?;
            let source = browser.client.source().await?;
            let main = source.split_once("<main").expect("a page has a main part").1;
            let about_it = main.split_once("class=\"head\"").expect("a unit to rate").1;
            assert!(!about_it.contains("/features/") && !about_it.contains("/neurons/"), "nothing says which unit it is");
            assert!(!about_it.contains("token ") || !about_it.contains("of the stream"), "nor where its contexts stand");
            // Of the first, what it answers to is said.
            if i == 1 {
                browser.type_in("body", "w").await?;
                browser.client.active_element().await?.send_keys(&("forms of do".to_string() + &(Key::Escape + ""))).await?;
            }
            // A wrong digit is taken back; 9 is no answer to anything.
            browser.type_in("body", &("39".to_string() + &(Key::Backspace + "") + "2")).await?;
            browser.type_in("body", if i % 2 == 0 { "512" } else { "513" }).await?;
            browser.type_in("body", &(Key::Enter + "")).await?;
            browser.until(".note", "what it was", |t| t.contains(if i % 2 == 0 { "10 of 14" } else { "11 of 14" })).await?;
            if i == 1 {
                assert!(browser.text(".note").await?.contains("forms of do"));
            }
        }
        let report = browser.text(".ratings").await?;
        assert!(report.contains("Features 2") && report.contains("Neurons 2"), "{report}");
        browser.goto("/rate?author=Ada&seed=1&n=2").await?;
        browser.until(".note", "the session is over", |t| t.contains("All 4")).await
    });
}
