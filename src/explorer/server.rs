//! The HTTP server: addresses, limits, beginning and end. Every question to the run is asked on a thread that may block.

use super::accept;
use super::app::{App, Page, Problem};
use super::guard::{self, Guard};
use super::neuronpedia::handlers as neuronpedia;
use super::token::Token;
use super::view::Units;
use super::{Error, Options, Result, api, assets, openapi, pages};
use crate::artifact::RunDir;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Questions that are worked on at once, and that may wait for it.
const AT_ONCE: usize = 4;
const WAITING: usize = 32;
/// How long open answers may take to end after Ctrl-C.
const GRACE: Duration = Duration::from_secs(2);

/// What handlers share.
#[derive(Clone)]
pub struct Server {
    pub app: Arc<App>,
    queue: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// A server that accepts connections once it is run.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    guard: Guard,
    app: Arc<App>,
}

impl Bound {
    /// Opens the run and takes the port.
    pub fn new(run: &RunDir, options: &Options) -> Result<Self> {
        let app = App::open(run, options)?;
        let asked = SocketAddr::new(options.host, options.port);
        let listen = |source| Error::Listen { address: asked.to_string(), source };
        let listener = TcpListener::bind(asked).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let app = Arc::new(app);
        // The network may reach it: who has not seen the address that is printed gets nothing.
        let token = (!address.ip().is_loopback()).then(|| Token::new(address.port())).transpose().map_err(listen)?;
        let guard = Guard { bound: options.host, token: token.map(Arc::new), limits: options.limits };
        Ok(Bound { listener, address, router: router(app.clone(), guard.clone()), guard, app })
    }

    /// Where a browser on this machine finds the pages, with the token where one is needed.
    pub fn url(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => format!("http://localhost:{}/", self.address.port()),
            _ => format!("http://{}/", self.address),
        };
        self.guard.token.as_ref().map_or(host.clone(), |token| format!("{host}?{}", token.query()))
    }

    /// Answers until `stop` is done.
    pub fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let listen = |source| Error::Listen { address: self.address.to_string(), source };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(listen)?;
        let done: std::io::Result<()> = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            // The first text that is typed should not wait for the model.
            tokio::task::spawn_blocking(move || self.app.warm_up());
            accept::serve(listener, self.router, self.guard.limits, stop, GRACE).await;
            Ok(())
        });
        runtime.shutdown_timeout(GRACE);
        done.map_err(listen)
    }
}

fn router(app: Arc<App>, guard: Guard) -> Router {
    let server = Server { app, queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)), turns: Arc::new(Semaphore::new(AT_ONCE)) };
    let mut router = Router::new().route("/", get(pages::tour::tour)).route("/assets/{name}", get(assets::file));
    for units in ["features", "neurons"] {
        router = router
            .route(&format!("/{units}"), get(pages::list::list))
            .route(&format!("/{units}/rows"), get(pages::list::rows))
            .route(&format!("/{units}/{{id}}"), get(pages::unit::unit))
            .route(&format!("/{units}/{{id}}/list"), post(pages::lists::put))
            .route(&format!("/{units}/{{id}}/label"), post(pages::unit::set_label))
            .route(&format!("/{units}/label/undo"), post(pages::lists::undo_step))
            .route(&format!("/{units}/{{id}}/label/undo"), post(pages::unit::undo_label))
            .route(&format!("/{units}/{{id}}/why"), get(pages::why::why))
            .route(&format!("/{units}/{{id}}/why/result"), get(pages::why::result))
            .route(&format!("/api/{units}/{{id}}/why"), get(api::why))
            .route(&format!("/api/{units}"), get(api::list))
            .route(&format!("/api/{units}/{{id}}"), get(api::unit))
            .route(&format!("/api/{units}/{{id}}/label"), post(api::set_label))
            .route(&format!("/api/{units}/{{id}}/label/undo"), post(api::undo_label));
    }
    router
        .route("/search", get(pages::search::search))
        .route("/corpus/window", get(pages::corpus::window))
        .route("/corpus", get(pages::corpus::corpus))
        .route("/map", get(pages::map::map))
        .route("/map/state", get(pages::map::state))
        .route("/map/points", get(pages::map::points))
        .route("/map/labels", get(pages::map::labels))
        .route("/map/find", get(pages::map::find))
        .route("/map/tip", get(pages::map::tip))
        .route("/compare", get(pages::compare::compare))
        .route("/training", get(pages::training::training))
        .route("/training/data", get(pages::training::data))
        .route("/training/then", get(pages::training::then))
        .route("/lists", get(pages::lists::lists))
        .route("/rate", get(pages::rate::rate).post(pages::rate::set))
        .route("/live", get(pages::live::live))
        .route("/live/result", get(pages::live::live_result))
        .route("/steer", get(pages::steer::steer))
        .route("/steer/stream", get(pages::steer::stream))
        .route("/steer/sweep", get(pages::steer::swept))
        .route("/steer/next", get(pages::steer::next))
        .route("/toy", get(pages::toy::toy))
        .route("/toy/stream", get(pages::toy::stream))
        .route("/toy/paper", get(pages::toy::paper))
        .route("/api", get(openapi::page))
        .route("/api/openapi.json", get(openapi::document))
        .route("/api/run", get(api::index))
        .route("/api/tour", get(api::tour))
        .route("/api/live", get(api::live))
        .route("/api/training", get(pages::training::data))
        .route("/api/training/then", get(api::then))
        .route("/api/steer", get(api::steer).post(neuronpedia::steer))
        .route("/api/feature/{model}/{source}/{index}", get(neuronpedia::feature))
        .route("/api/search-all", post(neuronpedia::search_all))
        .route("/api/search-topk-by-token", post(neuronpedia::top_by_token))
        .route("/api/activation/new", post(neuronpedia::activation))
        .route("/api/activation/source", post(neuronpedia::source_activation))
        .route("/api/explanation/search", post(neuronpedia::explanations))
        .route("/api/{*rest}", get(api::nothing))
        .fallback(pages::frame::nothing)
        .with_state(server)
        .layer(from_fn(pages::frame::lead_to_page))
        // The guard has taken the body, within its own bounds.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(guard, guard::watch))
}

/// Asks the run, on a thread that may block, when it is one's turn. Too long a queue and a panic are answered like any other problem.
pub async fn blocking<T: Send + 'static>(server: &Server, work: impl FnOnce(&App) -> Page<T> + Send + 'static) -> Page<T> {
    let busy = |_| Problem::new(503, "The server is busy", &"Too many questions are waiting; try again in a moment.");
    let place = server.queue.clone().try_acquire_owned().map_err(busy)?;
    let ended = || Problem::new(503, "The server is ending", &"Start it again with monosem explore.");
    let turn = server.turns.clone().acquire_owned().await.map_err(|_| ended())?;
    let app = server.app.clone();
    let task = tokio::task::spawn_blocking(move || {
        let _held = (place, turn);
        work(&app)
    });
    task.await.unwrap_or_else(|failed| {
        let panic = failed.try_into_panic().ok();
        let said = panic.as_ref().and_then(|p| p.downcast_ref::<String>().map(String::as_str).or_else(|| p.downcast_ref::<&str>().copied()));
        let message = format!("A part of this page failed: {}", said.unwrap_or("no reason was given"));
        Err(Problem {
            status: 500,
            title: "This page cannot be shown",
            message,
            next: "the other pages still work; please report this with the address".into(),
        })
    })
}

/// The number of a feature in an address.
pub fn id_of(text: &str) -> Page<u32> {
    text.parse().map_err(|_| Problem::not_found(&format!("“{}” is not the number of a feature.", text.chars().take(40).collect::<String>())))
}

/// Features or neurons, by the address.
impl<S: Sync> FromRequestParts<S> for Units {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Infallible> {
        let path = parts.uri.path();
        let path = path.strip_prefix("/api").unwrap_or(path);
        Ok(if path.starts_with(Units::Neurons.path()) { Units::Neurons } else { Units::Features })
    }
}
