//! The map: made once, moved, lit up, clicked.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;
use fantoccini::key::Key;

#[test]
fn the_map_is_made_and_a_click_on_a_point_opens_its_feature() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        browser.goto("/map").await?;
        browser.text("#map[data-ready='8']").await?;
        assert!(browser.text("#map-said").await?.starts_with("8 features"), "the dead one is not on it");
        // The key says what the colours are, whichever they are by.
        browser
            .until("#map-key", "of densities", |t| t.starts_with("fires on so much of the text") && t.contains(" %") && t.contains("half of them"))
            .await?;
        assert_eq!(browser.count("#map-key i").await?, 12);
        for (colour, said) in [("polysemantic", "groups of alike contexts"), ("label", "8 without a label")] {
            browser.client.find(Locator::Css("#map-colour")).await?.select_by_value(colour).await?;
            browser.until("#map-key", colour, |t| t.contains(said)).await?;
        }
        let place =
            "const c = document.querySelector('#map'), b = c.getBoundingClientRect(), p = c.placeOf(3); return [p[0] + b.left, p[1] + b.top];";
        let at = |value: serde_json::Value| -> (f64, f64) { serde_json::from_value(value).expect("two numbers") };
        let before = at(browser.client.execute(place, vec![]).await?);
        browser.client.execute("document.querySelector('#map').focus()", vec![]).await?;
        browser.client.active_element().await?.send_keys(&("+".to_string() + &(Key::Right + ""))).await?;
        let after = at(browser.client.execute(place, vec![]).await?);
        assert_ne!(before, after, "keys zoom and move");
        browser.click("[data-zoom='0']").await?;
        browser.type_in("#map-find", "owl").await?;
        browser.until("#map-said", "what is searched lights up", |t| t.contains("lit up")).await?;
        // The wheel zooms at the pointer: the point under it stays.
        let wheel = "const c = document.querySelector('#map'), [x, y] = arguments; c.dispatchEvent(new WheelEvent('wheel', {clientX: x, clientY: y, deltaY: -400, cancelable: true}));";
        let (x, y) = at(browser.client.execute(place, vec![]).await?);
        browser.client.execute(wheel, vec![x.into(), y.into()]).await?;
        let stays = at(browser.client.execute(place, vec![]).await?);
        assert!((stays.0 - x).abs() < 1.0 && (stays.1 - y).abs() < 1.0, "{stays:?} and {x} {y}");
        let click = "const c = document.querySelector('#map'), [x, y] = arguments; for (const kind of ['pointerdown', 'pointerup']) c.dispatchEvent(new PointerEvent(kind, {clientX: x, clientY: y, pointerId: 1}));";
        browser.client.execute(&format!("HTMLElement.prototype.setPointerCapture = () => {{}}; {click}"), vec![x.into(), y.into()]).await?;
        browser.at("/features/3").await?;
        // It is kept: the next visit reads it.
        browser.goto("/map").await?;
        browser.client.wait().at_most(super::PATIENCE).for_element(Locator::Css("#map[data-ready]")).await.map(|_| ())
    });
}
