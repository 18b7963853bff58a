//! What a stranger can and cannot do to the server: without the token, with slow or large requests, with many connections.

use crate::demo;
use crate::served::{Answer, Served};
use monosem::explorer::{Limits, Options};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

fn open_to_all() -> Served {
    let options = Options { host: Ipv4Addr::UNSPECIFIED.into(), ..Options::loopback() };
    Served::with(&options, |dir| demo::make(dir, false))
}

#[test]
fn bound_to_the_network_nothing_is_answered_without_the_token() {
    let served = open_to_all();
    let token = served.url.split_once("?token=").expect("the address that is printed has the token").1.to_string();
    assert_eq!(token.len(), 32);
    for path in ["/", "/features/0", "/api/features", "/assets/style.css", "/nope", "/?token=", "/?token=0123456789abcdef0123456789abcdef"] {
        let answer = served.get(path);
        assert!(
            answer.status == 401 && !answer.body.contains("density") && !answer.body.contains(&token),
            "{path}: {} {}",
            answer.status,
            answer.body
        );
        assert!(answer.head.contains("content-security-policy"), "{path}");
    }
    assert_eq!(served.post("/features/0/label", "text=x&author=y").status, 401);
    assert_eq!(served.post(&format!("/features/0/label?token={token}"), "text=x&author=y").status, 401, "an address changes nothing");
    let first = served.get(&format!("/features?sort=dense&token={token}"));
    assert!(first.status == 303 && first.head.contains("location: /features?sort=dense\r\n"), "{}", first.head);
    let cookie = first.head.lines().find_map(|l| l.strip_prefix("set-cookie: ")).expect("a cookie is set");
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let with = |name: &str, value: &str| served.ask("GET", "/api/features/0", &[(name, value)], "");
    assert_eq!(with("Cookie", pair).status, 200);
    assert_eq!(with("Authorization", &format!("Bearer {token}")).status, 200);
    assert_eq!(with("X-Api-Key", &token).status, 200);
    assert_eq!(with("X-Api-Key", &token[1..]).status, 401);
    let origin = format!("http://{}", served.address);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let post = |origin: &str| served.ask("POST", "/features/0/label", &[("Origin", origin), form, ("Cookie", pair)], "text=x&author=y").status;
    assert_eq!((post("http://evil.example"), post(&origin)), (403, 303), "the token does not replace the check of the origin");
    let rebound = served.ask("GET", "/", &[("Host", "evil.example"), ("Cookie", pair)], "");
    assert_eq!(rebound.status, 421);
}

#[test]
fn on_loopback_no_token_is_needed_and_none_is_printed() {
    let served = Served::new(|dir| demo::make(dir, false));
    assert!(!served.url.contains("token") && served.get("/").status == 200);
}

fn hurried() -> Served {
    let limits = Limits { connections: 3, headers: Duration::from_millis(300), body: Duration::from_millis(300), ..Limits::default() };
    Served::with(&Options { limits, ..Options::loopback() }, |dir| demo::make(dir, false))
}

/// Reads until the server closes; how long that took and what was said.
fn until_closed(mut stream: TcpStream) -> (Duration, Vec<u8>) {
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut said = vec![];
    let _ = stream.read_to_end(&mut said);
    (began.elapsed(), said)
}

#[test]
fn slow_headers_a_slow_body_and_silence_end_in_time() {
    let served = hurried();
    let open = || TcpStream::connect(&served.address).unwrap();
    let silent = until_closed(open());
    assert!(silent.0 < Duration::from_secs(5), "silence was borne for {:?}", silent.0);
    let mut half = open();
    half.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\nX-Slow: ", served.address).as_bytes()).unwrap();
    assert!(until_closed(half).0 < Duration::from_secs(5));
    let mut body = open();
    let head = format!("POST /features/0/label HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\nConnection: close\r\n\r\ntext=", served.address);
    body.write_all(head.as_bytes()).unwrap();
    let (took, said) = until_closed(body);
    assert!(took < Duration::from_secs(5) && Answer::parse(&said).status == 408, "{took:?}");
}

#[test]
fn idle_connections_cannot_shut_others_out() {
    let served = hurried();
    let idle: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(&served.address).unwrap()).collect();
    // Three places, four rounds of 0.3 s until the twelve are gone.
    let began = Instant::now();
    assert_eq!(served.get("/api/features/0").status, 200);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    drop(idle);
}

#[test]
fn what_is_too_large_is_refused_and_the_server_goes_on() {
    let served = Served::new(|dir| demo::make(dir, false));
    let origin = format!("http://{}", served.address);
    let json = [("Origin", origin.as_str()), ("Content-Type", "application/json")];
    assert_eq!(served.ask("POST", "/api/features/0/label", &json, &"[".repeat(16 << 10)).status, 400, "nesting");
    assert_eq!(served.ask("POST", "/api/features/0/label", &json, &" ".repeat(17 << 10)).status, 413);
    let long = served.get(&format!("/features?q={}", "x".repeat(100 << 10)));
    assert!(matches!(long.status, 414 | 431 | 0), "{}", long.status);
    let many: Vec<(String, String)> = (0..200).map(|i| (format!("X-{i}"), "y".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert!(matches!(served.ask("GET", "/", &many, "").status, 431 | 0));
    assert_eq!(served.get("/features/0").status, 200);
}

#[test]
fn no_path_of_an_address_reaches_the_disk() {
    let served = Served::new(|dir| demo::make(dir, false));
    let paths = [
        "/../../../../etc/passwd",
        "/assets/../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%5c..%5cetc%5cpasswd",
        "/assets/style.css%00",
        "/features/..%2f..%2ftokens%2ftokenizer.json",
        "/features/0%00/label",
        "/api/features/../../run.toml",
        "/neurons/%2e%2e",
        "//etc/passwd",
        "/tokens/tokenizer.json",
        "/labels/main.sqlite",
    ];
    for path in paths {
        let answer = served.get(path);
        assert!(matches!(answer.status, 400 | 404 | 405), "{path}: {}", answer.status);
        assert!(!answer.body.contains("root:") && !answer.body.contains("\"vocab\"") && !answer.body.contains("SQLite format"), "{path}");
    }
}
