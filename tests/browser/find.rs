//! Search as you type, filters, saved views.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::key::Key;

#[test]
fn what_is_typed_into_the_search_box_is_found_in_labels_tokens_and_contexts_and_opened_by_keyboard() {
    in_browser(
        |dir| demo::make(dir, false),
        async |browser: &Browser| -> Visit {
            browser.goto("/live").await?;
            browser.type_in("body", "/").await?;
            browser.client.active_element().await?.send_keys("e").await?;
            browser.until("#found", "tokens are found", |t| t.contains("Tokens") && t.contains("of it")).await?;
            browser.type_in("#search", &(Key::Backspace + "did not answer")).await?;
            browser.until("#found", "words of a context are found", |t| t.contains("Contexts") && t.contains("did not answer")).await?;
            // Down to the first hit and Enter: its page.
            browser.type_in("#search", &(Key::Down + "")).await?;
            let first = browser.text("#found a.here b").await?;
            browser.type_in("#search", &(Key::Enter + "")).await?;
            browser.at(&format!("/features/{first}")).await?;
            // A label is found as soon as it is written.
            browser.type_in("#text", "Hebrew letters").await?;
            browser.type_in("#author", "Ada").await?;
            browser.click(".labelform button").await?;
            browser.until("h1", "the label heads the page", |t| t == "Hebrew letters").await?;
            browser.type_in("#search", "hebrew let").await?;
            browser.until("#found", "the label is found", |t| t.contains("Labels") && t.contains("Hebrew letters")).await?;
            browser.type_in("#search", &(Key::Escape + "")).await?;
            assert!(!browser.client.find(fantoccini::Locator::Css("#found")).await?.is_displayed().await?, "Escape closes");
            browser.client.find(fantoccini::Locator::Css("#search")).await?.clear().await?;
            browser.type_in("#search", "zzqq").await?;
            browser.until("#found", "nothing is said to be nothing", |t| t.contains("Nothing has")).await
        },
    );
}

#[test]
fn a_list_is_narrowed_by_density_token_and_flags_and_its_address_gives_the_same_view_again() {
    in_browser(
        |dir| demo::make(dir, false),
        async |browser: &Browser| -> Visit {
            browser.goto("/features").await?;
            assert_eq!(browser.count(".list tbody tr").await?, 9);
            browser.click(".more summary").await?;
            browser.type_in("input[name=from]", "5").await?;
            browser.until("#rows .faint", "only frequent ones are left", |t| !t.starts_with("9 of 9")).await?;
            let dense = browser.count(".list tbody tr").await?;
            assert!((1..9).contains(&dense));
            browser.type_in("input[name=token]", "e").await?;
            browser.click("#rows .chip[href*='token=e'][href*='flag=alive']").await?;
            browser.until("#rows .chip[aria-current]", "the chip is set", |t| t.starts_with("alive")).await?;
            let url = browser.client.current_url().await?;
            let query = url.query().unwrap_or_default().to_string();
            assert!(query.contains("from=5") && query.contains("token=e") && query.contains("flag=alive"), "{query}");
            browser.until("#rows .faint", "the rows are those of the filter", |t| t.contains(" of 9")).await?;
            let rows = browser.text("#rows").await?;
            browser.goto("/").await?;
            browser.goto(&format!("/features?{query}")).await?;
            assert_eq!(browser.text("#rows").await?, rows, "the address is the view");
            // j walks to a row, Enter opens it.
            browser.type_in("body", "j").await?;
            browser.client.active_element().await?.send_keys(&(Key::Enter + "")).await?;
            browser.text(".facts").await.map(|_| ())
        },
    );
}
