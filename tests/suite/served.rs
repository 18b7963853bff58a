//! A real server on loopback, asked through a plain socket, so that headers are exactly what a test says.

use monosem::explorer::{Bound, Options};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::JoinHandle;

/// A running server; ends, and is waited for, when dropped.
pub struct Served {
    pub address: String,
    /// As it is printed.
    pub url: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub dir: tempfile::TempDir,
}

impl Served {
    pub fn new(prepare: impl FnOnce(&Path) -> monosem::artifact::RunDir) -> Self {
        Self::with(&Options::loopback(), prepare)
    }

    pub fn with(options: &Options, prepare: impl FnOnce(&Path) -> monosem::artifact::RunDir) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run = prepare(dir.path());
        let bound = Bound::new(&run, options).unwrap();
        let url = bound.url();
        let address = url.trim_start_matches("http://").split('/').next().unwrap().replace("localhost", "127.0.0.1");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || bound.run(async { drop(stopped.await) }).unwrap());
        Served { address, url, stop: Some(stop), thread: Some(thread), dir }
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_bytes(method, path, headers, body.as_bytes())
    }

    pub fn ask_bytes(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let host = ("Host", self.address.as_str());
        let given = headers.iter().any(|(name, _)| *name == "Host");
        let lines: String = headers.iter().chain((!given).then_some(&host)).map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        let request = format!("{method} {path} HTTP/1.1\r\n{lines}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
        let mut bytes = vec![];
        // A server that refuses a body may close before it was read to its end.
        let _ = stream.read_to_end(&mut bytes);
        Answer::parse(&bytes)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// A form sent from our own page.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        let origin = format!("http://{}", self.address);
        self.ask("POST", path, &[("Origin", &origin), ("Content-Type", "application/x-www-form-urlencoded")], body)
    }

    pub fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{path}: {e}: {}", answer.body))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().expect("it is taken here alone").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server ends cleanly");
    }
}

/// What came back; `head` is in lower case.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("answers are UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        Answer { status, head: head.to_lowercase(), body: if chunked { unchunked(body) } else { body.into() } }
    }

    /// What a reader sees of an element that holds no other of its kind: tags dropped, entities resolved.
    pub fn visible(&self) -> String {
        let mut text = String::new();
        let mut rest = self.body.as_str();
        while let Some((before, after)) = rest.split_once('<') {
            text += before;
            rest = after.split_once('>').map_or("", |(_, after)| after);
        }
        text += rest;
        [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")].iter().fold(text, |t, (from, to)| t.replace(from, to))
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let n = usize::from_str_radix(size, 16).unwrap();
        whole += &rest[..n];
        body = &rest[(n + 2).min(rest.len())..];
    }
    whole
}
