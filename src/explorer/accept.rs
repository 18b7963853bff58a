//! Connections: how many, how long, how large a request. Knows HTTP, not what is asked.
//!
//! A client that sends its headers slowly, sends nothing, or never reads its answer holds one of a bounded number of connections for a
//! bounded time. What the body of a request may be is `guard`'s.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; others wait in the system's queue.
    pub connections: usize,
    /// From the beginning of a request, or of waiting for one, to the end of its headers.
    pub headers: Duration,
    /// From the end of the headers to that of the body.
    pub body: Duration,
    /// From the beginning of a request to that of its answer.
    pub answer: Duration,
    /// Life of a connection; then it ends with the answer that is being sent, at the latest after `answer` more.
    pub life: Duration,
    /// Longest body of a request, bytes.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits { connections: 256, headers: seconds(15), body: seconds(15), answer: seconds(180), life: seconds(600), body_bytes: 16 << 10 }
    }
}

/// Longest request line and headers together, bytes: a typed text of 2,000 emoji is 24,000 in an address.
const HEADER_BYTES: usize = 64 << 10;
const HEADERS: usize = 64;
/// Pause after a connection could not be accepted, as when files have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until `stop` is done, then lets open answers end for at most `grace`.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: impl Future<Output = ()>, grace: Duration) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let (ending, end) = watch::channel(());
    let mut open = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = open.join_next() => {}
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (router, end) = (router.clone(), end.clone());
                    open.spawn(async move {
                        connection(stream, router, limits, end).await;
                        drop(place);
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
        }
    }
    drop(listener);
    let _ = ending.send(());
    let _ = tokio::time::timeout(grace, async { while open.join_next().await.is_some() {} }).await;
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, mut end: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.headers).max_buf_size(HEADER_BYTES).max_headers(HEADERS);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        // A client that breaks off or speaks no HTTP is its own problem.
        _ = serving.as_mut() => return,
        _ = end.changed() => {}
        () = tokio::time::sleep(limits.life) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(limits.answer, serving).await;
}
