//! The secret of a server that others on the network can reach. It is printed in the address; a browser that opens it gets a cookie and
//! an address without the secret, a program sends `Authorization: Bearer TOKEN` or, as Neuronpedia's clients do, `X-Api-Key: TOKEN`.

use axum::http::{HeaderMap, Uri, header};
use rand::TryRng;
use rand::rngs::SysRng;

/// 128 random bits of the operating system, as hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    /// Browsers send the cookies of a host to all its ports.
    cookie: String,
}

/// Says nothing of itself: what is debugged is logged.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// How a request shows the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// In a header or cookie.
    Header,
    /// In the address; this is the address without it.
    Address(String),
    No,
}

impl Token {
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn new(port: u16) -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        SysRng.try_fill_bytes(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
        Ok(Self::of(bytes.iter().map(|b| format!("{b:02x}")).collect(), port))
    }

    fn of(text: String, port: u16) -> Self {
        Token { text, cookie: format!("monosem-{port}") }
    }

    /// What stands behind `?` in the address that is printed.
    pub fn query(&self) -> String {
        format!("token={}", self.text)
    }

    /// No other site gets this cookie sent for it, no script reads it.
    pub fn set_cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.text)
    }

    pub fn shown_by(&self, headers: &HeaderMap, uri: &Uri) -> Shown {
        let texts = |name: header::HeaderName| headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>();
        let cookies =
            texts(header::COOKIE).into_iter().flat_map(|v| v.split(';')).filter_map(|c| c.trim().strip_prefix(&self.cookie)?.strip_prefix('='));
        let bearers = texts(header::AUTHORIZATION).into_iter().filter_map(|v| v.strip_prefix("Bearer "));
        let keys = texts(header::HeaderName::from_static("x-api-key")).into_iter();
        if cookies.chain(bearers).chain(keys).any(|t| self.is(t.trim())) {
            return Shown::Header;
        }
        let query = uri.query().unwrap_or_default();
        let (ours, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.strip_prefix("token=").is_some_and(|t| self.is(t)));
        match ours.is_empty() {
            true => Shown::No,
            false if others.is_empty() => Shown::Address(uri.path().into()),
            false => Shown::Address(format!("{}?{}", uri.path(), others.join("&"))),
        }
    }

    /// By the hashes of both, whose comparison takes the same time wherever they differ.
    fn is(&self, text: &str) -> bool {
        blake3::hash(self.text.as_bytes()) == blake3::hash(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn the_token_is_taken_from_cookie_header_and_address_and_nothing_like_it() {
        let token = Token::of("abc123".into(), 8080);
        let shown = |name: &'static str, value: &'static str, uri: &'static str| {
            let map = [(HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect();
            token.shown_by(&map, &Uri::from_static(uri))
        };
        for (name, value) in [("cookie", "a=b; monosem-8080=abc123"), ("authorization", "Bearer abc123"), ("x-api-key", "abc123")] {
            assert_eq!(shown(name, value, "/"), Shown::Header, "{name}");
        }
        for (name, value) in [
            ("cookie", "monosem-8081=abc123"),
            ("cookie", "monosem-8080=abc1234"),
            ("cookie", "monosem-8080="),
            ("authorization", "abc123"),
            ("x-api-key", "ABC123"),
            ("x-other", "abc123"),
        ] {
            assert_eq!(shown(name, value, "/?token=abc"), Shown::No, "{name}: {value}");
        }
        assert_eq!(shown("x-other", "", "/features?q=a&token=abc123&page=2"), Shown::Address("/features?q=a&page=2".into()));
        assert_eq!(shown("x-other", "", "/?token=abc123"), Shown::Address("/".into()));
    }

    #[test]
    fn two_tokens_differ_and_have_128_bits() {
        let (a, b) = (Token::new(1).unwrap(), Token::new(1).unwrap());
        assert!(a != b && a.query().len() == "token=".len() + 32);
        assert_eq!(format!("{a:?}"), "Token", "a log does not tell it");
    }
}
