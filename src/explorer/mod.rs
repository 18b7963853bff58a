//! The web server and its pages: a tour, the list of features, one feature or neuron, why it fires, live text, steering, lists, blind rating, superposition in a small model;
//! most of them also as JSON under `/api`. Reads a run folder, finished or not; writes only labels, lists and ratings. Trains nothing of the run, and knows no file by a name that came from a URL.
//!
//! `accept` takes connections, `guard` decides who may ask; `app` holds what a run has, `shelf` its opened dictionaries and `summaries` what is kept of one; `tour`, `list`, `search`, `unit`,
//! `lists`, `live`, `why`, `corpus`, `map`, `compare`, `steering`, `rate`, `training`, `learning` (an SAE at a moment of its training) and `toy` (a small model that trains while one looks) each answer one kind of question with plain data;
//! `fires`, `view` and `text` are what that data is made of; `pages` and `api` turn it into HTML and JSON.

mod accept;
mod api;
mod app;
mod assets;
mod compare;
mod corpus;
mod evidence;
mod fires;
mod guard;
mod learning;
mod list;
mod lists;
mod live;
mod map;
mod neuronpedia;
mod openapi;
mod pages;
mod rate;
mod search;
mod server;
mod shelf;
mod steering;
mod summaries;
mod text;
mod token;
mod tour;
mod toy;
mod training;
mod unit;
mod view;
mod why;

pub use accept::Limits;
pub use server::Bound;

use crate::artifact::RunDir;
use std::net::{IpAddr, Ipv4Addr};

/// What to serve and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the SAE under `sae/`; none: the only one that has a dictionary, or the first by name.
    pub sae: Option<String>,
    /// Address to listen on. Anything but loopback shows the run to the network.
    pub host: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Whether to ask the desktop to open the page.
    pub open: bool,
    pub limits: Limits,
}

impl Options {
    /// Loopback, a free port, no browser opened.
    pub fn loopback() -> Self {
        Options { sae: None, host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 0, open: false, limits: Limits::default() }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Why a run cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}\n  choose another --port, or 0 for a free one")]
    Listen { address: String, source: std::io::Error },
    #[error("{path} has nothing to show: {what}\n  make it: {next}")]
    Nothing { path: std::path::PathBuf, what: String, next: String },
}

/// Serves the run until Ctrl-C. `ready` is told the URL as soon as connections are accepted.
pub fn serve(run: &RunDir, options: &Options, ready: impl FnOnce(&str)) -> Result<()> {
    let bound = Bound::new(run, options)?;
    let url = bound.url();
    ready(&url);
    if options.open {
        open_in_desktop(&url);
    }
    bound.run(async {
        // Without a way to hear Ctrl-C the server would end at once; it then runs until the process is ended.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Asks the desktop for its browser. That there is none is no error: the URL has been printed.
fn open_in_desktop(url: &str) {
    use std::process::{Command, Stdio};
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Ok(mut child) = started {
        std::thread::spawn(move || child.wait());
    }
}
