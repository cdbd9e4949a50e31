//! What is said while an environment is being worked on.

use std::net::IpAddr;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::api;
use crate::trust::Network;

const TITLE: &str = "Down for maintenance";
const MESSAGE: &str = "This service is being worked on and will be back soon.";

/// Maintenance in force.
#[derive(Debug)]
pub(crate) struct Maintenance {
    message: String,
    retry_after_s: u32,
    paths: Vec<String>,
    allow: Vec<Network>,
}

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Html,
    Json,
}

impl Maintenance {
    /// Or what is wrong with it.
    pub(crate) fn new(source: &api::Maintenance) -> Result<Self, String> {
        let network =
            |text: &String| Network::parse(text).ok_or_else(|| format!("{text:?} is no network"));
        Ok(Self {
            message: source.message.clone().unwrap_or_else(|| MESSAGE.to_owned()),
            retry_after_s: source.retry_after_s,
            paths: source.paths.clone(),
            allow: source.allow.iter().map(network).collect::<Result<_, _>>()?,
        })
    }

    /// Whether this path is served all the same.
    pub(crate) fn passes(&self, path: &str) -> bool {
        self.paths.iter().any(|one| one == path)
    }

    /// Whether this client is served all the same.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        self.allow.iter().any(|network| network.holds(client))
    }

    /// Whether anybody is.
    pub(crate) fn admits_some(&self) -> bool {
        !self.allow.is_empty()
    }

    /// The page as the client likes it, and its headers.
    pub(crate) fn page(&self, request: &HeaderMap, answer: &mut HeaderMap) -> Bytes {
        let kind = preferred(request);
        let (content, text) = match kind {
            Kind::Html => ("text/html; charset=utf-8", html(&self.message)),
            Kind::Json => ("application/json", self.json()),
        };
        answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
        answer.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer.insert(header::VARY, HeaderValue::from_static("Accept"));
        Bytes::from(text)
    }

    fn json(&self) -> String {
        let body = serde_json::json!({
            "error": "maintenance",
            "message": self.message,
            "retry_after_seconds": self.retry_after_s,
        });
        format!("{body}\n")
    }
}

/// Whichever is named first; a page for people where neither is.
fn preferred(request: &HeaderMap) -> Kind {
    let values = request.get_all(header::ACCEPT).iter();
    let kinds = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for kind in kinds {
        let name = kind.split(|byte| *byte == b';').next().unwrap_or_default();
        let name = name.trim_ascii().to_ascii_lowercase();
        match name.as_slice() {
            b"text/html" | b"application/xhtml+xml" => return Kind::Html,
            b"application/json" | b"application/problem+json" => return Kind::Json,
            _ => {}
        }
    }
    Kind::Html
}

fn html(message: &str) -> String {
    let message = escaped(message);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{TITLE}</title></head>\n\
         <body><h1>{TITLE}</h1><p>{message}</p></body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}
