//! Reading: tooltips, contexts, theme, keys, phone.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;

#[test]
fn contexts_open_tokens_tell_their_bytes_and_no_page_is_wider_than_a_phone() {
    in_browser(demo::make_full, visit);
}

#[test]
fn a_feature_s_page_has_all_that_was_collected_and_every_context_leads_to_its_place_in_the_corpus() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        browser.goto("/features/0").await?;
        let about = browser.text("#about").await?;
        for part in [
            "Label",
            "What its activation falls on",
            "Activations",
            "Effect on the next token",
            "raises",
            "lowers",
            "What it is",
            "Fires together with",
        ] {
            assert!(about.contains(part), "{part}: {about}");
        }
        assert!(browser.count("svg.hist rect").await? > 3 && browser.count(".near a").await? > 0 && browser.count(".effects .tok").await? == 20);
        // The key says what shades and lines mean; the lines are there.
        let key = browser.text("#key").await?;
        assert!(key.contains("share of its largest activation") && key.contains("loss of a token without the feature"), "{key}");
        assert!(browser.count(".group .up2").await? > 0);
        // A text that stands on the page already is grey until somebody looks at it.
        let opacity = "getComputedStyle(document.querySelector('.ctx.again .line')).opacity";
        browser.is_true("it is grey", &format!("{opacity} < 0.6")).await?;
        browser.hover(".ctx.again .line").await?;
        browser.is_true("and black under the pointer", &format!("{opacity} == 1")).await?;

        // Short is one line, wide all that is kept, full the window of the model.
        let long = "document.querySelector('.group .ctx .line').querySelectorAll('[data-t]').length";
        browser.is_true("one line", "document.querySelectorAll('.ctx.open').length == 0").await?;
        browser.click("[data-size=wide]").await?;
        browser.is_true("opened", "document.querySelectorAll('.group .ctx.open').length == document.querySelectorAll('.group .ctx').length").await?;
        let wide = browser.client.execute(&format!("return {long}"), vec![]).await?.as_u64().unwrap_or(0);
        browser.click("[data-size=full]").await?;
        browser.is_true("the whole window", &format!("{long} == {}", demo::N_CTX)).await?;
        assert!((2..demo::N_CTX as u64).contains(&wide), "{wide}");
        browser.click("[data-size=short]").await?;
        browser.is_true("as before", &format!("{long} == {wide}")).await?;

        // Its place in the corpus: the same token, marked, in its document; from there to the next document.
        browser.click(".ctx .line").await?;
        let token = browser.text(".ctx.open .t.fires").await?;
        browser.click(".ctx.open .meta a[href*='/corpus?']").await?;
        browser.until("h1", "the document", |t| t.starts_with("Document ")).await?;
        assert_eq!(browser.text(".corpus .t.fires").await?, token);
        let document = browser.text("h1").await?;
        browser.type_in("body", "j").await?;
        browser.until("h1", "the next document", |t| t.starts_with("Document ") && t != document).await
    });
}

#[test]
fn scripts_of_both_directions_and_what_cannot_be_seen_are_shown_as_they_are() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        // Hebrew runs from the right: what comes before the firing token stands to the right of it.
        browser.goto("/features/2").await?;
        let sides = "(() => { const line = document.querySelector('.line[dir=rtl]'), x = (css) => line.querySelector(css).getBoundingClientRect().right; \
                     return x('.before') > x('.t.fires') && x('.t.fires') > x('.after'); })()";
        browser.is_true("before is to the right", sides).await?;
        let text = browser.client.find(Locator::Css("main")).await?.prop("textContent").await?.unwrap_or_default();
        assert!(text.contains("שלום") && text.contains("מלחמה"), "letters cut over tokens come back whole");
        // An emoji of several tokens is one; the pieces that only begin it are boxes without text.
        browser.goto("/features/6").await?;
        let line = browser.client.find(Locator::Css(".group .ctx .line")).await?.prop("textContent").await?.unwrap_or_default();
        assert!(line.contains('🦉') && !line.contains('\u{fffd}'), "{line}");
        // Control characters, blanks and line ends have marks.
        browser.goto("/features/8").await?;
        let line = browser.client.find(Locator::Css(".group .ctx .line")).await?.prop("textContent").await?.unwrap_or_default();
        assert!(line.contains("⟨1b⟩") && !line.contains('\u{1b}'), "{line}");
        browser.goto("/live?text=tab%09here%0Anew%20%20%20two").await?;
        browser.until(".livetext", "line ends, tabs and blanks", |t| t.contains('↵') && t.contains('⇥') && t.contains('·')).await
    });
}

#[test]
fn the_frame_is_used_without_a_mouse_in_light_and_dark() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        use fantoccini::key::Key;
        browser.goto("/features").await?;
        // The first stop of the tab key skips to the content.
        browser.type_in("body", &(Key::Tab + "")).await?;
        let first = browser.client.active_element().await?;
        assert_eq!(first.text().await?, "Skip to the content");
        first.send_keys(&(Key::Enter + "")).await?;
        browser.is_true("the focus is in the content", "document.activeElement.id == 'main'").await?;
        // j and k walk the rows, Enter opens, the arrows turn the pages of features, e writes a label.
        browser.type_in("body", "jjk").await?;
        browser.is_true("the first row", "document.querySelector('.list tr.here a').textContent == '0'").await?;
        browser.client.active_element().await?.send_keys(&(Key::Enter + "")).await?;
        browser.at("/features/0").await?;
        browser.type_in("body", &(Key::Right + "")).await?;
        browser.at("/features/1").await?;
        browser.type_in("body", &(Key::Left + "")).await?;
        browser.at("/features/0").await?;
        browser.type_in("body", "e").await?;
        browser.is_true("the label's field", "document.activeElement.id == 'text'").await?;
        // Ink and paper change places, and text stays readable against what is behind it.
        let contrast = "(() => { const rgb = (css) => getComputedStyle(document.documentElement)[css].match(/[0-9.]+/g).slice(0, 3).map(Number); \
                        const light = (c) => c.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0); \
                        const [a, b] = [light(rgb('color')), light(rgb('backgroundColor'))]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) > 7; })()";
        let paper = "return getComputedStyle(document.documentElement).backgroundColor";
        let before = browser.client.execute(paper, vec![]).await?;
        browser.is_true("ink on paper", contrast).await?;
        browser.click("#theme").await?;
        assert_ne!(browser.client.execute(paper, vec![]).await?, before);
        browser.is_true("ink on paper", contrast).await
    });
}

async fn visit(browser: &Browser) -> Visit {
    let (client, home) = (&browser.client, browser.home.as_str());
    let body = Locator::Css("body");

    // Corpus text that says </script> and onerror=alert(1) runs nothing.
    client.goto(&format!("{home}/features/3")).await?;
    assert!(client.get_alert_text().await.is_err(), "text of a document must not run");

    // A token tells its number, bytes and activation.
    browser.hover(".group .t.fires").await?;
    let tip = client.find(Locator::Css("#tip")).await?.text().await?;
    assert!(tip.contains("activation ") && tip.contains("token ") && tip.contains("bytes 3"), "{tip}");

    // A context is one line until it is clicked.
    client.find(Locator::Css(".ctx .line")).await?.click().await?;
    assert_eq!(client.find_all(Locator::Css(".ctx.open")).await?.len(), 1);

    // The theme is switched and kept on the next page; k goes to the previous feature.
    client.find(Locator::Css("#theme")).await?.click().await?;
    let chosen = client.find(Locator::Css("html")).await?.attr("data-theme").await?;
    client.find(body).await?.send_keys("k").await?;
    client.wait().for_url(&format!("{home}/features/2").parse().expect("an address")).await?;
    assert!(chosen.is_some() && client.find(Locator::Css("html")).await?.attr("data-theme").await? == chosen);

    // No page is wider than a phone.
    client.set_window_size(500, 900).await?;
    for path in [
        "/",
        "/features",
        "/features/0",
        "/neurons/1",
        "/live",
        "/steer",
        "/lists",
        "/rate",
        "/features/0/why?t=70",
        "/corpus?t=70&feature=5",
        "/map",
        "/compare",
        "/training",
        "/toy",
    ] {
        client.goto(&format!("{home}{path}")).await?;
        let spill = browser.spill().await?;
        assert!(spill <= 0, "{path} is {spill} px too wide");
    }
    Ok(())
}
