//! What the gateway does with requests and answers by itself.

use std::collections::BTreeMap;

use serde::Serialize;
use towpath_gateway::api::{self, Cache, Cors, Limit};

use super::sheet::Reader;
use crate::diagnostic::Diagnostic;
use crate::manifest::edge::rate;

/// Methods that a page of an allowed origin may use, when nothing is said.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Headers that its requests may have.
const HEADERS: &[&str] = &[
    "authorization",
    "content-type",
    "idempotency-key",
    "x-request-id",
    "x-requested-with",
];

/// What the gateway does by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Its rules, as it is told them.
    pub rules: api::Edge,
    /// What is served all the same during maintenance.
    pub maintenance: Passing,
}

/// What is served during maintenance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Passing {
    /// Requests for these paths.
    pub paths: Vec<String>,
    /// Requests of clients in these networks.
    pub allow: Vec<String>,
}

/// The table `edge`, if there is one: without it the gateway adds nothing.
pub(super) fn edge(reader: &Reader<'_>) -> Option<Edge> {
    reader.value?.as_table()?;
    let mut rules = api::Edge {
        limit: limit(&reader.at("limit")),
        cors: cors(&reader.at("cors")),
        request_id: reader.at("request_id").flag(true),
        cache_bytes: Some(reader.at("cache").size("64MiB")),
        ..api::Edge::default()
    };
    headers(&reader.at("headers"), &mut rules);
    let maintenance = reader.at("maintenance");
    Some(Edge {
        rules,
        maintenance: Passing {
            paths: words(&maintenance.at("paths"), &[]),
            allow: words(&maintenance.at("allow"), &[]),
        },
    })
}

/// A limit; none where there is none, or `false` says so.
pub(super) fn limit(reader: &Reader<'_>) -> Option<Limit> {
    reader.value?;
    if reader.is_false() {
        reader.note("false".to_owned());
        return None;
    }
    let burst = reader.at("burst");
    if let Some((requests, time)) = reader.at("window").text().and_then(rate) {
        if !burst.is_absent() {
            unused(
                &burst,
                "`burst` is for `rate`: a window may be used up at once",
            );
        }
        let ms = millis(time);
        return Some(Limit::Window { requests, ms });
    }
    let Some((requests, time)) = reader.at("rate").text().and_then(rate) else {
        if reader.value?.as_table().is_some() && reader.at("window").is_absent() {
            unused(reader, "it has neither `window` nor `rate`");
        }
        return None;
    };
    Some(Limit::Smooth {
        requests,
        ms: millis(time),
        burst: burst.integer(requests),
    })
}

/// What of a route's answers is kept.
pub(super) fn cache(reader: &Reader<'_>) -> Option<Cache> {
    reader.value?.as_table()?;
    Some(Cache {
        ttl_ms: millis(reader.at("ttl").duration("1m")),
        max_bytes: reader.at("max").size("1MiB"),
    })
}

fn unused(reader: &Reader<'_>, why: &str) {
    reader.sheet.report(
        Diagnostic::error("config::bad-limit", format!("`{}`: {why}", reader.path))
            .label(reader.key.clone(), "")
            .help(
                "write `limit = \"1000 in 15m\"`, or `limit = { rate = \"10 in 1s\", burst = 20 }`",
            ),
    );
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn cors(reader: &Reader<'_>) -> Option<Cors> {
    reader.value?.as_table()?;
    let cors = Cors {
        origins: words(&reader.at("origins"), &[]),
        credentials: reader.at("credentials").flag(false),
        methods: words(&reader.at("methods"), METHODS),
        headers: words(&reader.at("headers"), HEADERS),
        expose: words(&reader.at("expose"), &[]),
        max_age_s: u32::try_from(reader.at("max_age").duration("10m").as_secs())
            .unwrap_or(u32::MAX),
    };
    if cors.origins.iter().any(|origin| origin == "*") {
        any(reader, &cors);
    }
    Some(cors)
}

/// `*` is for what everybody may read.
fn any(reader: &Reader<'_>, cors: &Cors) {
    let origins = reader.at("origins").span();
    if cors.credentials {
        let text =
            "`edge.cors` lets the pages of every site in, with the cookies of who looks at them";
        reader.sheet.report(
            Diagnostic::error("config::cors-any", text)
                .label(origins.clone(), "every site")
                .label(reader.at("credentials").span(), "as the user")
                .note("any page that a user opens could read and do what the user can")
                .help("name the origins: `origins = [\"https://app.example.com\"]`"),
        );
    }
    if cors.origins.len() > 1 {
        reader.sheet.report(
            Diagnostic::error("config::cors-any", "`*` stands beside other origins")
                .label(origins, "`*` is all of them")
                .help("take `*` out, or the others"),
        );
    }
}

/// Headers that a browser wants of answers, and those that applications forget.
fn headers(reader: &Reader<'_>, rules: &mut api::Edge) {
    if reader.is_false() {
        reader.note("false".to_owned());
        return;
    }
    let mut headers = BTreeMap::new();
    if reader.at("nosniff").flag(true) {
        headers.insert("x-content-type-options".to_owned(), "nosniff".to_owned());
    }
    let with_default = [
        ("frame", "x-frame-options", "SAMEORIGIN"),
        (
            "referrer",
            "referrer-policy",
            "strict-origin-when-cross-origin",
        ),
    ];
    for (key, name, default) in with_default {
        headers.extend(header(&reader.at(key), default).map(|value| (name.to_owned(), value)));
    }
    // What an application loads from where only it knows.
    if let Some(csp) = reader.at("csp").text() {
        headers.insert("content-security-policy".to_owned(), csp.to_owned());
    }
    rules.headers = headers;
    rules.hsts = header(&reader.at("hsts"), "max-age=31536000");
}

fn header(reader: &Reader<'_>, default: &str) -> Option<String> {
    if reader.is_false() {
        reader.note("false".to_owned());
        return None;
    }
    Some(reader.text_or(default))
}

/// The texts of a list, or these.
fn words(reader: &Reader<'_>, default: &[&str]) -> Vec<String> {
    if reader.is_absent() {
        reader.sheet.explain(
            reader.path.clone(),
            format!("{default:?}"),
            super::Origin::Default,
        );
        return default.iter().map(|word| (*word).to_owned()).collect();
    }
    reader.texts().into_iter().map(|(text, _)| text).collect()
}
