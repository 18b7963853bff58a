//! Who may ask, and what every answer forbids the browser. Knows addresses and headers, no data.
//!
//! A page on the network must not reach a server on loopback: names that merely resolve to it are refused (DNS rebinding), so are
//! requests that another site makes, and answers allow no script, style or address but our own.

use super::accept::Limits;
use super::token::{Shown, Token};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// What requests are measured by.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The address that the server was bound to.
    pub bound: IpAddr,
    /// Needed by every request where the network can send one.
    pub token: Option<Arc<Token>>,
    pub limits: Limits,
}

pub async fn watch(State(guard): State<Guard>, request: Request<Body>, next: Next) -> Response {
    let mut answer = match refusal(guard.bound, request.method(), request.headers()) {
        Some((status, why)) => (status, why).into_response(),
        None => match guard.token.as_deref().map(|token| (token, token.shown_by(request.headers(), request.uri()))) {
            None | Some((_, Shown::Header)) => within(guard.limits, request, next).await,
            Some((token, Shown::Address(clean))) if *request.method() == Method::GET => {
                (StatusCode::SEE_OTHER, [(header::LOCATION, clean), (header::SET_COOKIE, token.set_cookie())]).into_response()
            }
            Some(_) => (StatusCode::UNAUTHORIZED, NO_TOKEN).into_response(),
        },
    };
    for (name, value) in HEADERS {
        // The one page that is not ours brings a policy of its own.
        answer.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    answer.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

const NO_TOKEN: &str = "This server asks for its token: open the address that it printed when it began, which ends in ?token=...\n\
                        A program sends the token in a header: Authorization: Bearer TOKEN\n";

/// Takes the body whole, then answers; both in bounded time and the body in bounded length.
async fn within(limits: Limits, request: Request<Body>, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(limits.body, axum::body::to_bytes(body, limits.body_bytes)).await {
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "The request's body did not arrive in time.\n").into_response(),
        Ok(Err(_)) => {
            let why = format!("A request's body has at most {} bytes.\n", limits.body_bytes);
            return (StatusCode::PAYLOAD_TOO_LARGE, why).into_response();
        }
        Ok(Ok(body)) => body,
    };
    match tokio::time::timeout(limits.answer, next.run(Request::from_parts(parts, body.into()))).await {
        Ok(answer) => answer,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "The answer took too long; ask for less.\n").into_response(),
    }
}

fn refusal(bound: IpAddr, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let host = text("host").unwrap_or_default();
    if headers.get_all("host").iter().count() != 1 || !host_is_ours(host, bound) {
        return Some((StatusCode::MISDIRECTED_REQUEST, "This server answers only to the address it listens on.\n"));
    }
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    let site = text("sec-fetch-site").unwrap_or("none");
    let is_visit = !changes && text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document");
    if !matches!(site, "same-origin" | "none") && !is_visit {
        return Some((StatusCode::FORBIDDEN, "Another site may link to these pages, not use them.\n"));
    }
    // Browsers send Origin with every POST; a program such as curl does not, and no page can make it lie.
    let origin_is_ours = headers.get("origin").is_none_or(|o| o.as_bytes() == format!("http://{host}").as_bytes());
    if changes && !origin_is_ours {
        return Some((StatusCode::FORBIDDEN, "Changes are accepted from these pages only.\n"));
    }
    None
}

/// An address is ours when it is loopback or the one bound; a name only when it is `localhost`, for any other name could be rebound.
/// Bound to every address (0.0.0.0), the server takes any address.
fn host_is_ours(host: &str, bound: IpAddr) -> bool {
    let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((name, port))) => (name, port),
        Some(None) => return false,
        None => match host.split_once(':') {
            Some((name, port)) => (name, &host[host.len() - port.len() - 1..]),
            None => (host, ""),
        },
    };
    let port_is_a_port = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    let name_is_ours = match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address == bound || bound.is_unspecified(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    };
    port_is_a_port && name_is_ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn status(method: Method, headers: &[(&'static str, &'static str)]) -> Option<u16> {
        let map = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        refusal(LOOPBACK, &method, &map).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_loopback_and_the_bound_address_are_answered() {
        let lan: IpAddr = "192.168.1.5".parse().unwrap();
        for host in ["127.0.0.1:80", "localhost", "LOCALHOST:8080", "[::1]:9", "127.9.9.9"] {
            assert!(host_is_ours(host, LOOPBACK), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io", "192.168.1.5", "[::1", "127.0.0.1:x", "0.0.0.0", "a@127.0.0.1"]
        {
            assert!(!host_is_ours(host, LOOPBACK), "{host}");
        }
        assert!(host_is_ours("192.168.1.5:8080", lan) && !host_is_ours("192.168.1.6:8080", lan));
        assert!(host_is_ours("192.168.1.6", "0.0.0.0".parse().unwrap()) && !host_is_ours("evil.example", "0.0.0.0".parse().unwrap()));
    }

    #[test]
    fn a_change_needs_our_own_origin_and_a_foreign_page_may_only_link() {
        let host = ("host", "127.0.0.1:7");
        assert_eq!(status(Method::POST, &[host, ("origin", "http://127.0.0.1:7")]), None);
        assert_eq!(status(Method::POST, &[host]), None);
        assert_eq!(status(Method::POST, &[host, ("origin", "http://127.0.0.1:8")]), Some(403));
        assert_eq!(status(Method::POST, &[host, ("origin", "null")]), Some(403));
        assert_eq!(status(Method::GET, &[host, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(status(Method::GET, &[host, ("sec-fetch-site", "same-site")]), Some(403));
        let visit = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(status(Method::GET, &visit), None);
        assert_eq!(status(Method::POST, &visit), Some(403));
        assert_eq!(status(Method::GET, &[host, host]), Some(421));
        assert_eq!(status(Method::GET, &[]), Some(421));
    }
}
