//! The pages in a real browser: script, keys, tooltips, theme. Needs chromium and chromedriver; without them it says so and does nothing,
//! except under CI, where it fails.

#[path = "suite/demo.rs"]
mod demo;

use fantoccini::{Client, ClientBuilder, Locator, key::Key};
use hyper_util::client::legacy::connect::HttpConnector;
use monosem::explorer::{Bound, Options};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running chromedriver; ended when dropped.
struct Driver {
    process: Child,
    url: String,
}

impl Driver {
    fn start() -> Result<Self, String> {
        let spawned = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut process = spawned.map_err(|e| format!("chromedriver: {e}"))?;
        let lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        for line in lines.map_while(Result::ok) {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                return Ok(Driver { process, url: format!("http://127.0.0.1:{}", port.trim_end_matches('.')) });
            }
        }
        let _ = process.kill();
        Err("chromedriver ended without a port".into())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn missing() -> Option<String> {
    let absent = |program: &&str| Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err();
    let absent: Vec<&str> = ["chromium", "chromedriver"].into_iter().filter(absent).collect();
    (!absent.is_empty()).then(|| format!("{} not found; Debian packages chromium and chromium-driver have them", absent.join(" and ")))
}

#[test]
fn the_pages_work_in_a_browser() {
    if let Some(missing) = missing() {
        assert!(std::env::var("CI").is_err(), "{missing}");
        eprintln!("skipped: {missing}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bound = Bound::new(&demo::make(dir.path(), true), &Options::loopback()).unwrap();
    let home = bound.url();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || bound.run(async { drop(stopped.await) }).unwrap());
    let driver = Driver::start().unwrap();
    let profile = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,900",
        ];
        let mut args: Vec<String> = flags.iter().map(|f| f.to_string()).collect();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = serde_json::json!({ "goog:chromeOptions": { "args": args } });
        let capabilities = capabilities.as_object().unwrap().clone();
        let client = ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&driver.url).await.unwrap();
        let result = visit(&client, home.trim_end_matches('/')).await;
        client.close().await.unwrap();
        result.unwrap();
    });
    drop(stop);
    server.join().unwrap();
}

async fn visit(client: &Client, home: &str) -> Result<(), fantoccini::error::CmdError> {
    let body = Locator::Css("body");
    let wait = || tokio::time::sleep(Duration::from_millis(500));

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

    // A label is written with the form and heads the page; the author is remembered.
    client.find(Locator::Css("#text")).await?.send_keys("Hebrew letters").await?;
    client.find(Locator::Css("#author")).await?.send_keys("Ada").await?;
    client.find(Locator::Css(".labelform button")).await?.click().await?;
    wait().await;
    assert_eq!(client.find(Locator::Css("h1")).await?.text().await?, "Hebrew letters");
    client.goto(&format!("{home}/features/0")).await?;
    assert_eq!(client.find(Locator::Css("#author")).await?.prop("value").await?.as_deref(), Some("Ada"));

    // The slash leads to the search; the list follows what is typed; j and Enter open a row.
    client.goto(&format!("{home}/features")).await?;
    client.find(body).await?.send_keys("/").await?;
    client.active_element().await?.send_keys("hebrew").await?;
    wait().await;
    let rows = client.find_all(Locator::Css(".list tbody tr")).await?;
    assert_eq!(rows.len(), 1, "only the labelled feature matches");
    assert!(client.current_url().await?.query().is_some_and(|q| q.contains("q=hebrew")));
    client.active_element().await?.send_keys(&Key::Escape.to_string()).await?;
    client.find(body).await?.send_keys("j").await?;
    client.active_element().await?.send_keys(&Key::Enter.to_string()).await?;
    client.wait().for_url(&format!("{home}/features/2").parse().expect("an address")).await?;

    // No page is wider than a phone.
    client.set_window_size(500, 900).await?;
    for path in ["/", "/features", "/features/0", "/steer"] {
        client.goto(&format!("{home}{path}")).await?;
        let spill = client.execute("return document.documentElement.scrollWidth - innerWidth", vec![]).await?;
        assert!(spill.as_i64().is_some_and(|px| px <= 0), "{path} is {spill} px too wide");
    }
    Ok(())
}
