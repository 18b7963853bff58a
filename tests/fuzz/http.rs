//! Addresses and bodies: every question gets an answer, and none makes a part of the program fail.

use crate::change::{changed, changes, config};
use crate::demo;
use crate::served::Served;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const ADDRESSES: [&str; 14] = [
    "/features?q=do&sort=dense&flag=alive&page=2",
    "/features/rows?q=%D7%A9&sort=f1",
    "/api/features?q=%22%20OR&page=18446744073709551615",
    "/features/3",
    "/neurons/0",
    "/live?text=Nobody%20did&at=1",
    "/api/live?text=%F0%9F%A6%89",
    "/steer?feature=0&strength=1&prompt=x&tokens=1&temperature=0&seed=1",
    "/api/steer?feature=1&strength=-2&prompt=&tokens=1",
    "/api/feature/demo/0-main/4",
    "/assets/app.js?v=1",
    "/api/openapi.json",
    "/",
    "/api/tour",
];

const BODIES: [(&str, &str, &str); 9] = [
    ("/features/0/label", "application/x-www-form-urlencoded", "text=forms+of+%3Cb%3E&author=Ada"),
    ("/api/features/1/label", "application/json", r#"{"text": "time", "author": "Eve"}"#),
    (
        "/api/search-all",
        "application/json",
        r#"{"modelId":"demo","sourceSet":"main","text":"Nobody did","selectedLayers":["0-main"],"sortIndexes":[1],"densityThreshold":-1,"numResults":3}"#,
    ),
    (
        "/api/search-topk-by-token",
        "application/json",
        r#"{"modelId":"demo","source":"0-main","text":"Nobody","numResults":2,"densityThreshold":0.5}"#,
    ),
    ("/api/activation/new", "application/json", r#"{"feature":{"modelId":"demo","source":"0-main","index":"1"},"customText":"x"}"#),
    ("/api/activation/source", "application/json", r#"{"modelId":"demo","source":"0-main","customText":"x y"}"#),
    (
        "/api/steer",
        "application/json",
        r#"{"prompt":"x","modelId":"demo","features":[{"modelId":"demo","layer":"0-main","index":1,"strength":2.5}],"n_tokens":1,"temperature":0,"seed":1}"#,
    ),
    ("/api/explanation/search", "application/json", r#"{"modelId":"demo","layers":["0-main"],"query":"forms","offset":0}"#),
    ("/neurons/0/label/undo", "application/x-www-form-urlencoded", ""),
];

/// Bytes that may stand in a request line; others would be another request.
fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let one = |c: char| if c.is_ascii_graphic() { c.to_string() } else { c.to_string().bytes().map(|b| format!("%{b:02X}")).collect() };
    format!("/{}", text.chars().map(one).collect::<String>().trim_start_matches('/'))
}

fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig { max_shrink_iters: 200, ..config() })
}

#[test]
fn addresses() {
    let served = Served::new(demo::make_with_model);
    let done = runner().run(&(0..ADDRESSES.len(), changes()), |(which, changes)| {
        let address = line(&changed(ADDRESSES[which].as_bytes(), &changes));
        let answer = served.get(&address);
        prop_assert!(answer.status >= 200 && !answer.body.contains("A part of this page failed"), "{address}: {} {}", answer.status, answer.body);
        Ok(())
    });
    done.unwrap();
}

#[test]
fn bodies() {
    let served = Served::new(demo::make_with_model);
    let done = runner().run(&(0..BODIES.len(), changes()), |(which, changes)| {
        let (address, media, body) = BODIES[which];
        let body = changed(body.as_bytes(), &changes);
        let answer = served.ask_bytes("POST", address, &[("Content-Type", media)], &body);
        prop_assert!(answer.status >= 200 && !answer.body.contains("A part of this page failed"), "{address}: {} {}", answer.status, answer.body);
        Ok(())
    });
    done.unwrap();
}
