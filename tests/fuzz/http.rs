//! Addresses and bodies: every question gets an answer, and none makes a part of the program fail.

use crate::change::{changed, changes, config};
use crate::demo;
use crate::served::Served;
use monosem::artifact::RunDir;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

const ADDRESSES: [&str; 30] = [
    "/features?q=do&sort=dense&flag=alive&page=2",
    "/features/rows?q=%D7%A9&sort=f1",
    "/api/features?q=%22%20OR&page=18446744073709551615",
    "/features/3",
    "/neurons/0",
    "/live?text=Nobody%20did&at=1",
    "/api/live?text=%F0%9F%A6%89",
    "/steer?feature=0&strength=1&prompt=x&tokens=1&temperature=0&seed=1",
    "/steer/next?feature=0&strength=1&prompt=x",
    "/api/steer?feature=1&strength=-2&prompt=&tokens=1",
    "/api/feature/demo/0-main/4",
    "/assets/app.js?v=1",
    "/api/openapi.json",
    "/",
    "/api/tour",
    "/features?token=%20the&author=Ada&list=bookmarks&from=0.1&to=20&f1=0.5",
    "/search?q=committee",
    "/features/0/why?t=70",
    "/features/0/why/result?text=Nobody%20did%20it&at=2&swap=1&with=%20was",
    "/api/features/1/why?t=130&swap=3&with=x",
    "/corpus?t=100&feature=2&neuron=",
    "/corpus/window?t=4000&feature=&neuron=3",
    "/map/find?q=the",
    "/map/tip?id=3",
    "/compare?with=other",
    "/training/then?sae=main&at=1&text=Nobody",
    "/api/training/then?sae=main&at=0",
    "/rate?author=Ada&seed=3&n=4&last=1",
    "/api/neurons/2",
    "/toy?n=2&m=1&p=1&base=0.9&output=relu&seed=1",
];

const BODIES: [(&str, &str, &str); 11] = [
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
    ("/features/2/list", "application/x-www-form-urlencoded", "list=bookmarks&to=in&author=Ada"),
    (
        "/rate",
        "application/x-www-form-urlencoded",
        "author=Ada&seed=3&n=4&place=0&said=forms+of+do&confidence=3&activations=5&logits=2&specificity=3",
    ),
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
    let served = Served::new(demo::make_full);
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
    let served = Served::new(demo::make_full);
    let labels = RunDir::new(served.dir.path(), "demo").labels("main");
    let n = std::cell::Cell::new(0);
    let done = runner().run(&(0..BODIES.len(), changes()), |(which, changes)| {
        n.set(n.get() + 1);
        if n.get() % 500 == 0 {
            // What was written is read back with every answer: it must not become more and more.
            let _ = std::fs::remove_file(&labels);
        }
        let (address, media, body) = BODIES[which];
        let body = changed(body.as_bytes(), &changes);
        let answer = served.ask_bytes("POST", address, &[("Content-Type", media)], &body);
        prop_assert!(answer.status >= 200 && !answer.body.contains("A part of this page failed"), "{address}: {} {}", answer.status, answer.body);
        Ok(())
    });
    done.unwrap();
}

/// Whole requests, as bytes on the wire.
const REQUESTS: [&str; 4] = [
    "GET /api/features/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "POST /api/features/1/label HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"text\":\"time\"}",
    "POST /features/0/label HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n6\r\ntext=x\r\n0\r\n\r\n",
    "HEAD http://localhost/ HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-origin\r\nCookie: monosem-token=1\r\n\r\n",
];

#[test]
fn requests() {
    let served = Served::new(demo::make_full);
    let done = runner().run(&(0..REQUESTS.len(), changes()), |(which, changes)| {
        let request = changed(REQUESTS[which].as_bytes(), &changes);
        let mut stream = TcpStream::connect(&served.address).unwrap();
        // A server that has seen enough may close before it has read everything.
        let _ = stream.write_all(&request).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        // A changed request may be of version 1.0, and is answered in it.
        let is_http = answer.starts_with(b"HTTP/1.1 ") || answer.starts_with(b"HTTP/1.0 ");
        prop_assert!(answer.is_empty() || is_http, "{}", String::from_utf8_lossy(&answer));
        prop_assert!(!String::from_utf8_lossy(&answer).contains("A part of this page failed"));
        Ok(())
    });
    done.unwrap();
    assert_eq!(served.get("/").status, 200, "it goes on");
}
