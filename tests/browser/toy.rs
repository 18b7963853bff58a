//! Superposition live: the picture moves while the model trains, and a slider begins another training.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;

/// The step that the page shows.
const STEP: &str = "parseInt(document.querySelector('#toy-step')?.textContent ?? '-1')";

/// Moves a slider as a hand would: the value, then its event.
fn moved(slider: &str, to: &str) -> String {
    format!(
        "(() => {{ const s = document.querySelector(\"{slider}\"); s.value = {to}; s.dispatchEvent(new Event('input', {{ bubbles: true }})); return true; }})()"
    )
}

#[test]
fn the_picture_moves_while_it_trains_and_a_slider_begins_anew() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        let client = &browser.client;
        // The page begins by itself.
        browser.goto("/toy").await?;
        browser.is_true("it trains", &format!("{STEP} > 0")).await?;
        let picture = "document.querySelector('.toypicture svg').outerHTML";
        let before = client.execute(&format!("return {picture}"), vec![]).await?;
        browser.is_true("the step moves on", &format!("{STEP} > 100")).await?;
        assert_ne!(client.execute(&format!("return {picture}"), vec![]).await?, before, "the picture moves");
        assert_eq!(browser.text("#toy button.main").await?, "Stop");
        assert_eq!(browser.count(".toypicture svg").await?, 2, "two dimensions are drawn as a plane too");

        // Another size, in the middle of it: another training, from the beginning.
        browser.is_true("a slider moves", &moved("#toy [name=n]", "3")).await?;
        browser.until("#result", "three features", |t| t.contains("of 3\n")).await?;
        assert!(client.current_url().await?.query().is_some_and(|q| q.contains("n=3&m=2")));
        browser.is_true("from the beginning", &format!("{STEP} < 2000")).await?;
        browser.is_true("another p", &moved("#toy [data-part=sparsity]", "0")).await?;
        browser.until("[data-of=p]", "p is 1", |t| t == "1").await?;

        // Stop, and the step stands.
        browser.is_true("it trains again", &format!("location.search.includes('p=1&') && {STEP} > 0 && {STEP} < 400")).await?;
        browser.click("#toy button.main").await?;
        browser.until("#toy button.main", "it has stopped", |t| t == "Train").await?;
        let stopped = client.execute(&format!("return {STEP}"), vec![]).await?;
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        assert!(client.execute(&format!("return {STEP}"), vec![]).await? == stopped && stopped.as_i64().is_some_and(|s| s < 3000), "{stopped}");

        // Fewer features than dimensions cannot be asked for.
        browser.is_true("two features", &moved("#toy [name=n]", "2")).await?;
        browser.until("[data-of=m]", "one dimension", |t| t == "1").await?;

        // The address alone has the trained model.
        browser.goto("/toy?n=2&m=1&p=1&output=linear&seed=4").await?;
        browser.until("#toy-step", "it is trained", |t| t.starts_with("3000")).await?;
        assert_eq!(client.find(Locator::Css("#toy [name=output]")).await?.prop("value").await?.as_deref(), Some("linear"));
        browser.click("#toy button.main").await?;
        browser.is_true("it is trained again", &format!("{STEP} < 3000")).await?;
        browser.until("#toy button.main", "to its end", |t| t == "Train").await?;
        browser.until("#toy-step", "it is trained", |t| t.starts_with("3000")).await?;

        for width in [360, 500] {
            client.set_window_size(width, 900).await?;
            browser.goto("/toy?n=6&m=2&p=0.5").await?;
            let spill = browser.spill().await?;
            assert!(spill <= 0, "{spill} px too wide at {width}");
        }
        Ok(())
    });
}
