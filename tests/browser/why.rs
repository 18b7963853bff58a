//! Why it fires: parts that add up, a token swapped.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;

/// The first number of a text, where a minus sign is one of typography.
fn number(text: &str) -> f64 {
    let text = text.replace('\u{2212}', "-");
    let word = text.split_whitespace().find_map(|w| w.trim_matches(|c: char| !c.is_ascii_digit() && c != '-').parse().ok());
    word.unwrap_or_else(|| panic!("a number in {text:?}"))
}

#[test]
fn a_context_leads_to_its_parts_which_add_up_and_a_clicked_token_is_swapped() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        browser.goto("/features/0").await?;
        browser.click(".ctx .line").await?;
        browser.click(".ctx.open .meta a[href*='/why?t=']").await?;
        browser.until("h1", "the page", |t| t.starts_with("Why Feature 0 fires here")).await?;
        let before = number(&browser.text(".verdict b").await?);
        let sum = number(&browser.text(".why .facts dd:last-of-type").await?);
        assert!((before - sum).abs() <= 0.01 * before.abs().max(1.0), "the parts add up: {before} and {sum}");
        let rows = browser.count(".parts tbody tr").await?;
        assert!((2..=13).contains(&rows) && browser.text(".parts thead").await?.contains("head 1"));

        // A token is clicked, another typed in its place, and the model runs again.
        let tokens = browser.count(".sources button.t").await?;
        browser.client.find_all(Locator::Css(".sources button.t")).await?[tokens - 1].click().await?;
        let with = browser.client.active_element().await?;
        assert_eq!(with.attr("id").await?.as_deref(), Some("with"));
        with.clear().await?;
        with.send_keys(" dollars").await?;
        browser.click("#swap button.main").await?;
        browser.until(".verdict", "what changed", |t| t.contains("dollars") && t.contains("changes the pre-activation by")).await?;
        let change = number(&browser.text(".verdict b").await?);
        let after = browser.client.find_all(Locator::Css(".card .verdict")).await?;
        let (was, now) = (number(&after[0].text().await?), number(&after[1].text().await?));
        assert!((now - was - change).abs() <= 0.02 * change.abs().max(1.0), "{was} {now} {change}");

        // The address keeps it; live text leads here too.
        assert!(browser.client.current_url().await?.query().is_some_and(|q| q.contains("with=+dollars")));
        browser.goto("/live?text=Nobody+did+it").await?;
        browser.click(".firing a[href*='/why?text=']").await?;
        browser.until(".kind", "the place in the typed text", |t| t.contains("of the typed text")).await
    });
}
