//! The pages in a real browser, used as a person would: typed, clicked, read. One file per topic. Needs chromium and chromedriver; without them it says so and does nothing,
//! except under CI, where it fails.

mod beside;
#[path = "../suite/demo.rs"]
mod demo;
mod find;
mod labels;
mod live;
mod map;
mod odd;
mod rate;
mod reading;
mod toy;
mod training;
mod why;

use fantoccini::actions::{InputSource, MouseActions, PointerAction};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use monosem::artifact::RunDir;
use monosem::explorer::{Bound, Options};
use std::io::{BufRead, BufReader};
use std::path::Path;
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

/// A browser that looks at a run.
struct Browser {
    client: Client,
    home: String,
}

/// Why a visit failed: what the driver said, or what was not there.
type Visit = Result<(), fantoccini::error::CmdError>;

/// Serves the run that `make` makes and lets `visit` use it in a browser. Skips, and says so, where there is no browser.
fn in_browser(make: impl FnOnce(&Path) -> RunDir, visit: impl AsyncFnOnce(&Browser) -> Visit) {
    if let Some(missing) = missing() {
        assert!(std::env::var("CI").is_err(), "{missing}");
        eprintln!("skipped: {missing}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bound = Bound::new(&make(dir.path()), &Options::loopback()).unwrap();
    let home = bound.url().trim_end_matches('/').to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || bound.run(async { drop(stopped.await) }).unwrap());
    // Tests that begin at the same moment may be given the same port, and then one of the drivers ends.
    let driver = (0..4).find_map(|_| Driver::start().ok()).unwrap_or_else(|| Driver::start().unwrap());
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
        let browser = Browser { client: client.clone(), home };
        let result = visit(&browser).await;
        client.close().await.unwrap();
        result.unwrap();
    });
    drop(stop);
    server.join().unwrap();
}

impl Browser {
    async fn goto(&self, path: &str) -> Visit {
        self.client.goto(&format!("{}{path}", self.home)).await
    }

    /// Waits until an element is there, some seconds at most, and reads it.
    async fn text(&self, css: &str) -> Result<String, fantoccini::error::CmdError> {
        self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await?.text().await
    }

    async fn click(&self, css: &str) -> Visit {
        // A page that is redrawn may take the element away between looking and clicking; what waits for an answer of the server cannot be clicked.
        for _ in 0..100 {
            let element = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await?;
            // Not under the head of the page, which stays where it is.
            let into_view = self.client.execute("arguments[0].scrollIntoView({block: 'center'})", vec![serde_json::to_value(&element)?]).await;
            if into_view.is_ok() && element.click().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.client.find(Locator::Css(css)).await?.click().await
    }

    /// Types into a field; into the page itself for keys.
    async fn type_in(&self, css: &str, text: &str) -> Visit {
        self.client.find(Locator::Css(css)).await?.send_keys(text).await
    }

    /// Adds text to a field as pasting does: drivers type no characters beyond the first plane.
    async fn paste_in(&self, css: &str, text: &str) -> Visit {
        let field = self.client.find(Locator::Css(css)).await?;
        let script = "arguments[0].value += arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))";
        self.client.execute(script, vec![serde_json::to_value(&field)?, text.into()]).await?;
        Ok(())
    }

    async fn count(&self, css: &str) -> Result<usize, fantoccini::error::CmdError> {
        Ok(self.client.find_all(Locator::Css(css)).await?.len())
    }

    /// Puts the pointer on an element.
    async fn hover(&self, css: &str) -> Visit {
        let element = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await?;
        self.client.execute("arguments[0].scrollIntoView({block: 'center'})", vec![serde_json::to_value(&element)?]).await?;
        let onto = PointerAction::MoveToElement { element, duration: None, x: 0.0, y: 0.0 };
        self.client.perform_actions(MouseActions::new("mouse".into()).then(onto)).await
    }

    /// Waits until what a script returns is true.
    async fn is_true(&self, what: &str, script: &str) -> Visit {
        for _ in 0..100 {
            if self.client.execute(&format!("return {script}"), vec![]).await? == serde_json::Value::Bool(true) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {script} is not true");
    }

    /// Waits until what an element says satisfies `is`; fails with what it says instead.
    async fn until(&self, css: &str, what: &str, is: impl Fn(&str) -> bool) -> Visit {
        let mut said = String::new();
        for _ in 0..100 {
            // An element that is being replaced is looked for again.
            if let Ok(element) = self.client.find(Locator::Css(css)).await
                && let Ok(text) = element.text().await
            {
                if is(&text) {
                    return Ok(());
                }
                said = text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {css} says {said:?}");
    }

    async fn at(&self, path: &str) -> Visit {
        let url = format!("{}{path}", self.home).parse().expect("an address");
        self.client.wait().at_most(PATIENCE).for_url(&url).await
    }

    /// How many pixels the page is wider than its window.
    async fn spill(&self) -> Result<i64, fantoccini::error::CmdError> {
        let spill = self.client.execute("return document.documentElement.scrollWidth - innerWidth", vec![]).await?;
        Ok(spill.as_i64().unwrap_or(i64::MAX))
    }
}

/// How long a page may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
