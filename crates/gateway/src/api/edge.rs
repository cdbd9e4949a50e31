//! What the gateway does with requests and answers by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Rules that hold for all routes of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// How many requests a client may make, on all routes together that do not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Which other origins may read answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Headers of every answer that does not have them, by name in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// `Strict-Transport-Security` of an answer that does not have it, where the client came by https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<String>,
    /// Whether each request has an `X-Request-Id`, which its answer has too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub request_id: bool,
    /// What the answers that are kept may take together, bytes; 64 MiB when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
}

impl Edge {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How many requests a client may make. A client is an IPv4 address, or 64 bits of one of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Limit {
    /// So many in a window, which begins with the client's first request.
    Window {
        /// Requests.
        requests: u32,
        /// Length of the window, milliseconds.
        ms: u64,
    },
    /// So many in that time, evenly, and some at once (GCRA).
    Smooth {
        /// Requests.
        requests: u32,
        /// In so many milliseconds.
        ms: u64,
        /// How many may come at once.
        burst: u32,
    },
}

/// Which other origins may read answers (CORS). What instances say of it themselves is taken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins, `https://app.example.com`; or `*` alone, for all.
    pub origins: Vec<String>,
    /// Whether requests may carry cookies; not with `*`.
    #[serde(default)]
    pub credentials: bool,
    /// Methods that may be used.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Headers that a request may have.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Headers of the answer that may be read.
    #[serde(default)]
    pub expose: Vec<String>,
    /// How long a browser keeps the answer to its preflight, seconds.
    #[serde(default)]
    pub max_age_s: u32,
}

/// Answers to GET are given again without asking an instance, as far as they are for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// How long, milliseconds; less if the answer says so.
    pub ttl_ms: u64,
    /// Longest body that is kept, bytes.
    pub max_bytes: u64,
}

/// Requests are answered with a page that says so, and 503.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// What the page says.
    #[serde(default)]
    pub message: Option<String>,
    /// When clients are told to come again, seconds from now.
    pub retry_after_s: u32,
    /// Paths that are served as always: these very ones.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Networks of clients that are served as always.
    #[serde(default)]
    pub allow: Vec<String>,
}
