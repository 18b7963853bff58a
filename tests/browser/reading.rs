//! Reading: tooltips, contexts, theme, keys, phone.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;

#[test]
fn contexts_open_tokens_tell_their_bytes_and_no_page_is_wider_than_a_phone() {
    in_browser(demo::make_full, visit);
}

async fn visit(browser: &Browser) -> Visit {
    let (client, home) = (&browser.client, browser.home.as_str());
    let body = Locator::Css("body");

    // Corpus text that says </script> and onerror=alert(1) runs nothing.
    client.goto(&format!("{home}/features/3")).await?;
    assert!(client.get_alert_text().await.is_err(), "text of a document must not run");

    // A token tells its number, bytes and activation.
    let token = client.find(Locator::Css(".group .t.fires")).await?;
    client.execute("arguments[0].dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))", vec![serde_json::to_value(&token)?]).await?;
    let tip = client.find(Locator::Css("#tip")).await?.text().await?;
    assert!(tip.contains("activation ") && tip.contains("bytes 3"), "{tip}");

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
    ] {
        client.goto(&format!("{home}{path}")).await?;
        let spill = browser.spill().await?;
        assert!(spill <= 0, "{path} is {spill} px too wide");
    }
    Ok(())
}
