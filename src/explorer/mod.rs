//! The web server and its pages: a tour, the list of features, one feature or neuron, live text, steering; each also as JSON under `/api`.
//! Reads a finished run folder; writes only labels. Does not train, and knows no file by a name that came from a URL.
//!
//! `guard` decides who may ask, `state` holds what a run has, `view` turns rows of the dictionary into what templates show,
//! `pages` and `api` are the handlers: functions from request to response.

mod text;

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
}

impl Options {
    /// Loopback, a free port, no browser opened.
    pub fn loopback() -> Self {
        Options { sae: None, host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 0, open: false }
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
pub fn serve(_run: &RunDir, _options: &Options, _ready: impl FnOnce(&str)) -> Result<()> {
    todo!()
}
