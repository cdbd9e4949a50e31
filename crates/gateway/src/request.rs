//! What a request must be to be passed on, and what is taken off and put on.
//!
//! `framing` has already refused what hyper would read leniently; this is what can be seen in the parsed head.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Most headers of a request.
pub(crate) const HEADERS: usize = 100;
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
    http2: bool,
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
    pub(crate) ip: IpAddr,
    forwarded_for: HeaderValue,
    forwarded: HeaderValue,
    proto: HeaderValue,
}

impl Peer {
    pub(crate) fn new(ip: IpAddr, secure: bool) -> Self {
        let ip = ip.to_canonical();
        let proto = if secure { "https" } else { "http" };
        let node = if ip.is_ipv6() {
            format!("\"[{ip}]\"")
        } else {
            ip.to_string()
        };
        let value =
            |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            ip,
            forwarded_for: value(&ip.to_string()),
            forwarded: value(&format!("for={node};proto={proto}")),
            proto: HeaderValue::from_static(proto),
        }
    }
}

/// Check a request's head.
pub(crate) fn check(parts: &Parts) -> Result<Checked, Refusal> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
    }
    let http2 = parts.version == Version::HTTP_2;
    let host = match http2 {
        true => Some(check_authority(parts)?),
        false => check_host(parts)?,
    };
    check_coding(&parts.headers)?;
    let upgrade = !http2 && parts.headers.contains_key(header::UPGRADE);
    let websocket = upgrade && is_websocket(parts)?;
    Ok(Checked {
        host,
        websocket,
        upgrade,
        http2,
    })
}

/// HTTP/2 names the host in its authority, in `Host`, or in both alike.
fn check_authority(parts: &Parts) -> Result<HeaderValue, Refusal> {
    if parts.headers.len() > HEADERS {
        let text = "too many headers";
        return Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
    }
    if parts
        .uri
        .scheme_str()
        .is_some_and(|scheme| scheme != "https")
    {
        return Err((
            StatusCode::BAD_REQUEST,
            "the scheme is not that of the connection",
        ));
    }
    let named = parts.uri.authority().map(|authority| authority.as_str());
    if parts.headers.contains_key(header::HOST) {
        return check_host(parts)?.ok_or((StatusCode::BAD_REQUEST, "no Host"));
    }
    let host = named.and_then(|named| HeaderValue::from_str(named).ok());
    host.filter(is_name)
        .ok_or((StatusCode::BAD_REQUEST, "no Host, or a bad one"))
}

fn is_name(host: &HeaderValue) -> bool {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(b);
    host.as_bytes().iter().all(fits)
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
    if !is_name(host) {
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

/// Take off what is of this hop or pretends to be ours, and put on what the instance is told. What a trusted proxy
/// says of the client is kept, and the proxy itself added.
pub(crate) fn dress(headers: &mut HeaderMap, checked: &Checked, peer: &Peer, trusted: bool) {
    remove_hop(headers);
    let pretended: Vec<HeaderName> = headers
        .keys()
        // Servers that turn names into variables cannot tell `x_a` from `x-a`.
        .filter(|name| name.as_str().contains('_') || (!trusted && pretends(name)))
        .cloned()
        .collect();
    for name in pretended {
        headers.remove(name);
    }
    headers.remove(header::EXPECT);
    join(headers, FORWARDED_FOR, ", ", Some(&peer.forwarded_for));
    join(headers, header::FORWARDED, ", ", Some(&peer.forwarded));
    headers
        .entry(FORWARDED_PROTO)
        .or_insert_with(|| peer.proto.clone());
    if let Some(host) = &checked.host {
        headers
            .entry(FORWARDED_HOST)
            .or_insert_with(|| host.clone());
    }
    if checked.http2 {
        back_to_http1(headers, checked);
    }
    if checked.websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// HTTP/2 has no `Host` of its own, and may send a cookie in pieces (RFC 9113, 8.2.3).
fn back_to_http1(headers: &mut HeaderMap, checked: &Checked) {
    if let Some(host) = &checked.host {
        headers.insert(header::HOST, host.clone());
    }
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        join(headers, header::COOKIE, "; ", None);
    }
}

/// Make one value of all there are, and one more.
fn join(headers: &mut HeaderMap, name: HeaderName, between: &str, more: Option<&HeaderValue>) {
    let mut joined: Vec<u8> = Vec::new();
    for value in headers.get_all(&name).iter().chain(more) {
        if !joined.is_empty() {
            joined.extend(between.as_bytes());
        }
        joined.extend(value.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, value);
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
    text.starts_with("x-forwarded-") || *name == REAL_IP || *name == header::FORWARDED
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
