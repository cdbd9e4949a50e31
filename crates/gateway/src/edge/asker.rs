//! Whether a request shows who asks, so that its answer is for nobody else.
//!
//! Applications read that from many headers, and a header that is unknown here may be one of them. So any name counts
//! that has a word for it in it; to be wrong about one costs a question to the application.

use hyper::header::{self, HeaderMap, HeaderName};

use crate::request::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};

/// What else an answer depends on.
pub(super) const KEYED: [HeaderName; 3] = [FORWARDED_PROTO, FORWARDED_HOST, header::HOST];

/// Words of a header's name that say whose the request is, or what it may.
const WORDS: [&str; 24] = [
    "account",
    "apikey",
    "assertion",
    "cert",
    "certificate",
    "credential",
    "credentials",
    "email",
    "group",
    "groups",
    "identity",
    "jwt",
    "key",
    "principal",
    "role",
    "roles",
    "secret",
    "session",
    "signature",
    "tenant",
    "token",
    "user",
    "userid",
    "username",
];

/// Nothing in it says who asks, or wants something else than what anybody gets.
pub(super) fn is_anybody(headers: &HeaderMap) -> bool {
    let more = [
        header::COOKIE,
        header::RANGE,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::PRAGMA,
        header::CACHE_CONTROL,
    ];
    let is_more = |name: &HeaderName| more.contains(name) || instead(name) || identifies(name);
    !headers.keys().any(is_more)
}

/// Some frameworks answer these as if something else, or somebody else, had been asked.
fn instead(name: &HeaderName) -> bool {
    let text = name.as_str();
    let known = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST];
    (text.starts_with("x-forwarded-") && !known.contains(name))
        || text.starts_with("x-original-")
        || matches!(
            text,
            "x-host"
                | "x-http-host-override"
                | "x-http-method"
                | "x-http-method-override"
                | "x-method-override"
                | "x-rewrite-url"
        )
}

fn identifies(name: &HeaderName) -> bool {
    let mut words = name.as_str().split('-');
    *name != header::USER_AGENT
        && words.any(|word| word.starts_with("auth") || WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn is_anybodys(name: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static("1"));
        is_anybody(&headers)
    }

    #[test]
    fn who_shows_themselves_is_not_anybody() {
        for name in [
            "authorization",
            "cookie",
            "x-api-key",
            "x-auth-request-email",
            "x-authenticated-userid",
            "x-authentik-username",
            "x-access-token",
            "x-csrf-token",
            "x-amz-security-token",
            "private-token",
            "token",
            "remote-user",
            "remote-groups",
            "x-remote-user",
            "x-forwarded-user",
            "x-forwarded-access-token",
            "x-forwarded-port",
            "x-webauth-user",
            "x-goog-authenticated-user-email",
            "x-ms-client-principal",
            "cf-access-jwt-assertion",
            "ssl-client-cert",
            "x-ssl-client-s-dn-email",
            "x-host",
            "x-original-host",
            "x-original-url",
            "x-rewrite-url",
        ] {
            assert!(!is_anybodys(name), "{name}");
        }
        for name in [
            "accept",
            "accept-encoding",
            "accept-language",
            "forwarded",
            "host",
            "if-none-match",
            "origin",
            "referer",
            "sec-ch-ua",
            "sec-fetch-mode",
            "upgrade-insecure-requests",
            "user-agent",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-real-ip",
            "x-request-id",
            "x-requested-with",
        ] {
            assert!(is_anybodys(name), "{name}");
        }
    }
}
