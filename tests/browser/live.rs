//! Text that is typed: what fires on it, and what it becomes when a feature is turned up.

use super::{Browser, Visit, demo, in_browser};

#[test]
fn features_follow_what_is_typed_a_token_narrows_them_and_a_row_leads_to_its_page() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        browser.goto("/live").await?;
        browser.type_in("#text", "Nobody did").await?;
        browser.until("#result .faint", "what fires on two words", |t| t.contains("features fire on these")).await?;
        let before = browser.count(".livetext .t").await?;
        browser.type_in("#text", " the work").await?;
        browser.until(".livetext", "the new words are there", |t| t.contains("work")).await?;
        assert!(browser.count(".livetext .t").await? > before);
        let all = browser.count(".firing tbody tr").await?;

        // A token is clicked: only what fires on it; again: everything.
        browser.click(".livetext .t:last-child").await?;
        browser.until("#result .faint", "what fires on one token", |t| t.contains("fire on \u{201c}") || t.contains("fires on \u{201c}")).await?;
        assert!(browser.count(".firing tbody tr").await? <= all && browser.count(".livetext .t[aria-pressed=true]").await? == 1);
        browser.click(".livetext .t:last-child").await?;
        browser.until("#result .faint", "everything again", |t| t.contains("on these")).await?;

        // Under the pointer a row shades the text by its feature alone; without it by the strongest of each token.
        let shades = "[...document.querySelectorAll('.livetext .t')].map((t) => t.className.replace(' fires', '')).join()";
        let all_together = browser.client.execute(&format!("return {shades}"), vec![]).await?;
        browser.hover(".firing tbody tr:last-child .name").await?;
        browser.is_true("shaded by one", "!document.querySelector('.livetext').classList.contains('all')").await?;
        let places =
            browser.client.find(fantoccini::Locator::Css(".firing tbody tr:last-child")).await?.attr("data-shades").await?.unwrap_or_default();
        let shaded = "[...document.querySelectorAll('.livetext .t')].map((t, i) => [i, t.className.match(/ a([1-9][0-9]*)/)]).filter((p) => p[1]).map((p) => p[0] + ':' + p[1][1]).join(' ')";
        browser.is_true("where it fires", &format!("{shaded} == {places:?}")).await?;
        browser.hover("h1").await?;
        assert_eq!(browser.client.execute(&format!("return {shades}"), vec![]).await?, all_together);

        // The address has the text, and a row its feature.
        assert!(browser.client.current_url().await?.query().is_some_and(|q| q.contains("Nobody+did+the+work")));
        let first = browser.text(".firing tbody tr:first-child td a").await?;
        browser.click(".firing tbody tr:first-child td a").await?;
        browser.at(&format!("/features/{first}")).await
    });
}

#[test]
fn a_feature_is_turned_up_beside_the_unedited_text() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        browser.goto("/steer?feature=0").await?;
        browser.click("#steer button.main").await?;
        browser.until("#result", "both texts", |t| t.contains("Unedited") && t.contains("\u{d7} max") && t.contains("Link to exactly this")).await?;
        let texts = browser.client.find_all(fantoccini::Locator::Css("#result .said")).await?;
        let (unedited, edited) = (texts[0].text().await?, texts[1].text().await?);
        assert!(!unedited.is_empty() && !edited.is_empty());
        let file = browser.client.find(fantoccini::Locator::Css("#result details pre")).await?.prop("textContent").await?;
        assert!(file.is_some_and(|text| text.contains("[[edits]]") && text.contains("max_act")), "the edit as a file");
        // The link gives the same texts again.
        browser.click("#result p a[href*='/steer?']").await?;
        browser.until("#result .card:first-child .said", "the same unedited text", |t| t == unedited).await?;
        browser.until("#result .card:last-child .said", "the same edited text", |t| t == edited).await?;
        // A strength far beyond what the feature ever reached is warned of, with numbers.
        browser.goto("/steer?feature=0&strength=20&prompt=Nobody&tokens=5").await?;
        browser.until("#result .note", "why", |t| t.starts_with("20 times its maximum is more than the 8") && t.contains("times as long")).await
    });
}

#[test]
fn several_features_are_edited_at_once_the_texts_stream_and_strengths_are_tried() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        let client = &browser.client;
        browser.goto("/steer?feature=0").await?;
        browser.click("#more").await?;
        let rows = client.find_all(fantoccini::Locator::Css("#edits .edit")).await?;
        assert_eq!(rows.len(), 2);
        let feature = rows[1].find(fantoccini::Locator::Css("[name=feature]")).await?;
        feature.send_keys("1").await?;
        rows[1].find(fantoccini::Locator::Css("select[data-part=rule] option[value=zero]")).await?.click().await?;
        // A slider and a unit change what is said beside it; the second row's rule has no number.
        let set = async |css: &str, value: &str| {
            let moved =
                format!("const s = document.querySelector('{css}'); s.value = '{value}'; s.dispatchEvent(new Event('input', {{ bubbles: true }}))");
            client.execute(&moved, vec![]).await
        };
        set("#edits [name=strength]", "4").await?;
        browser.until("#edits .strength", "the slider's number", |t| t.starts_with("4 \u{d7} its maximum")).await?;
        set("#edits [data-part=unit]", "norm").await?;
        browser.until("#edits .strength", "the unit", |t| t.starts_with("4 \u{d7} the usual length")).await?;
        set("#edits [data-part=unit]", "max").await?;
        set("#steer [name=prompt]", "Nobody").await?;
        // What it does to the next token is there without writing.
        browser.until("#next", "the next token", |t| t.starts_with("The token after the prompt") && t.contains('\u{2192}')).await?;
        // What stands in the edited column while it is written.
        let watch = "window.seen = new Set(); new MutationObserver(() => { const t = document.querySelector('#result .writing .card:last-child .said'); \
                     if (t) window.seen.add(t.textContent); }).observe(document.querySelector('#result'), { subtree: true, childList: true, characterData: true })";
        client.execute(watch, vec![]).await?;
        browser.click("#steer button.main").await?;
        browser
            .until("#result", "the second feature removed", |t| {
                t.contains("removed") && t.contains("2 features edited") && t.contains("Link to exactly this")
            })
            .await?;
        let grown = client.execute("return window.seen.size", vec![]).await?;
        assert!(grown.as_u64().is_some_and(|n| n > 2), "the text appears while it is written: {grown} states of it");
        let address = client.current_url().await?;
        assert!(address.as_str().contains("edit=%7B") && address.as_str().contains("%22value%22%3A4"), "{address}");
        // The address alone gives the form and the texts again.
        let texts = client.find_all(fantoccini::Locator::Css("#result .said")).await?;
        let edited = texts[1].text().await?;
        browser.goto(&address.as_str()[address.as_str().find("/steer").expect("it is the page")..]).await?;
        browser.until("#result .card:last-child .said", "the same edited text", |t| t == edited).await?;
        assert_eq!(client.find_all(fantoccini::Locator::Css("#edits .edit")).await?.len(), 2);
        browser.click("#result details.moves summary").await?;
        browser.until("#result details.moves", "what rose and fell", |t| t.contains("Mean KL") && t.contains('\u{2192}')).await?;
        browser.click("#sweep").await?;
        browser.until("#swept", "a table of strengths", |t| t.contains("Strengths") && t.contains("comes apart") | t.contains("whole")).await?;
        assert!(!client.find_all(fantoccini::Locator::Css("#swept svg circle")).await?.is_empty());
        // One of two can be left out again.
        browser.click("#edits .edit:last-child [data-part=remove]").await?;
        assert_eq!(client.find_all(fantoccini::Locator::Css("#edits .edit")).await?.len(), 1);
        Ok(())
    });
}
