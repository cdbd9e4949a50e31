//! What a request must be to be passed on, and what is taken off and put on.
//!
//! `framing` has already refused what hyper would read leniently; this is what can be seen in the parsed head.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Of one hop only, in both directions.
const HOP: [HeaderName; 9] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Why a request is refused: the status and one line.
pub(crate) type Refusal = (StatusCode, &'static str);

/// What the checks found out.
pub(crate) struct Checked {
    /// The `Host` as it came, to be told to the instance.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) websocket: bool,
    /// The client asked for some upgrade: its connection ends with the response.
    pub(crate) upgrade: bool,
}

impl Checked {
    /// The host's name without port, empty when there is none.
    pub(crate) fn host_name(&self) -> &str {
        self.host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .map_or("", name_of)
    }
}

/// What every request of one client is told to the instance by.
pub(crate) struct Peer {
    forwarded_for: HeaderValue,
    forwarded: HeaderValue,
}

impl Peer {
    pub(crate) fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let node = if ip.is_ipv6() {
            format!("\"[{ip}]\"")
        } else {
            ip.to_string()
        };
        let value =
            |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            forwarded_for: value(&ip.to_string()),
            forwarded: value(&format!("for={node};proto=http")),
        }
    }
}

/// Check a request's head.
pub(crate) fn check(parts: &Parts) -> Result<Checked, Refusal> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
    }
    let host = check_host(parts)?;
    check_coding(&parts.headers)?;
    let upgrade = parts.headers.contains_key(header::UPGRADE);
    let websocket = upgrade && is_websocket(parts)?;
    Ok(Checked {
        host,
        websocket,
        upgrade,
    })
}

fn check_host(parts: &Parts) -> Result<Option<HeaderValue>, Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err((StatusCode::BAD_REQUEST, "more than one Host"));
    }
    let Some(host) = host else {
        return match parts.version {
            Version::HTTP_10 => Ok(None),
            _ => Err((StatusCode::BAD_REQUEST, "no Host")),
        };
    };
    if !host
        .as_bytes()
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(b))
    {
        return Err((StatusCode::BAD_REQUEST, "bad Host"));
    }
    match parts.uri.authority() {
        Some(authority)
            if !authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Err((StatusCode::BAD_REQUEST, "authority and Host differ"))
        }
        _ => Ok(Some(host.clone())),
    }
}

/// hyper accepts any list of codings that ends in `chunked`, but undoes only that one.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err((StatusCode::BAD_REQUEST, "unknown transfer coding"));
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err((
            StatusCode::BAD_REQUEST,
            "Content-Length with Transfer-Encoding",
        ));
    }
    Ok(())
}

/// Other upgrades are taken off and the request answered without; a websocket one that is wrong is refused.
fn is_websocket(parts: &Parts) -> Result<bool, Refusal> {
    let headers = &parts.headers;
    let wanted = headers
        .get_all(header::UPGRADE)
        .iter()
        .any(|value| lists(value, "websocket"));
    let named = headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| lists(value, "upgrade"));
    if !wanted || !named {
        return Ok(false);
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .is_some_and(|length| length != "0");
    if parts.method != Method::GET || length || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err((
            StatusCode::BAD_REQUEST,
            "a websocket is asked for with GET and no body",
        ));
    }
    Ok(true)
}

fn lists(value: &HeaderValue, word: &str) -> bool {
    let mut words = value.as_bytes().split(|b| *b == b',');
    words.any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Take off what is of this hop or pretends to be ours, and put on what the instance is told.
pub(crate) fn dress(headers: &mut HeaderMap, checked: &Checked, peer: &Peer) {
    remove_hop(headers);
    let pretended: Vec<HeaderName> = headers
        .keys()
        .filter(|name| pretends(name))
        .cloned()
        .collect();
    for name in pretended {
        headers.remove(name);
    }
    headers.remove(header::EXPECT);
    headers.insert(FORWARDED_FOR, peer.forwarded_for.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    headers.insert(header::FORWARDED, peer.forwarded.clone());
    if let Some(host) = &checked.host {
        headers.insert(FORWARDED_HOST, host.clone());
    }
    if checked.websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// Take off the headers of one hop and those that `Connection` names.
pub(crate) fn remove_hop(headers: &mut HeaderMap) {
    for connection in headers
        .get_all(header::CONNECTION)
        .iter()
        .cloned()
        .collect::<Vec<_>>()
    {
        for word in connection.as_bytes().split(|b| *b == b',') {
            // `Host` and the lengths are of the message, whatever `Connection` says.
            if let Ok(name) = HeaderName::from_bytes(word.trim_ascii())
                && ![header::HOST, header::CONTENT_LENGTH].contains(&name)
            {
                headers.remove(name);
            }
        }
    }
    for name in HOP {
        headers.remove(name);
    }
}

fn pretends(name: &HeaderName) -> bool {
    let text = name.as_str();
    // Servers that turn names into variables cannot tell `x_a` from `x-a`.
    text.contains('_')
        || text.starts_with("x-forwarded-")
        || *name == REAL_IP
        || *name == header::FORWARDED
}

/// Whether a request may be sent a second time when it is not known what the first did.
pub(crate) fn idempotent(method: &Method, headers: &HeaderMap, opted_in: bool) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE => true,
        Method::POST | Method::PATCH => opted_in && headers.contains_key(IDEMPOTENCY_KEY),
        _ => false,
    }
}

fn name_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(end) => &host[..end + 2],
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}
