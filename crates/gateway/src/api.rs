//! The control API: what an agent says to a gateway, over HTTP and JSON on a unix socket.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/state` | | [`State`] |
//! | `PUT /v1/table` | [`Apply`] | [`State`]; 409 when `expect` is not the epoch |
//! | `POST /v1/drain` | [`Drain`] | [`Drained`] |
//! | `POST /v1/hold` | [`Hold`] | [`Held`], when nothing is in flight; 409 when held by another |
//! | `POST /v1/renew` | [`Renew`] | [`Held`] |
//! | `POST /v1/resume` | [`Resume`] | [`State`] |
//! | `PUT /v1/challenges` | [`Challenges`] | [`Challenges`], those in force |
//! | `POST /v1/certificates` | | [`Certificates`], after the folder was read again |
//! | `PUT /v1/readiness` | [`Readiness`] | nothing |
//! | `POST /v1/retire` | [`Retire`] | [`Drained`]; the process ends afterwards |
//! | `GET /v1/counts` | | [`Counts`] |
//! | `GET /metrics` | | Prometheus text |

mod edge;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use edge::{Cache, Cors, Edge, Limit, Maintenance};

/// Where requests go: replaced as a whole by a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The longest matching path wins; a route with a host goes before one without.
    pub routes: Vec<Route>,
    /// Instances by pool name.
    pub pools: BTreeMap<String, Pool>,
    /// What holds for all routes.
    #[serde(default, skip_serializing_if = "Front::is_default")]
    pub front: Front,
}

/// What holds for all routes of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Front {
    /// The port of https as clients see it: plain requests are sent there, except those of an issuer of certificates.
    /// Absent: they are served.
    #[serde(default)]
    pub https: Option<u16>,
    /// Networks of proxies (`10.0.0.0/8`), whose `X-Forwarded-*` and `Forwarded` are kept.
    #[serde(default)]
    pub trust: Vec<String>,
    /// What the gateway does by itself.
    #[serde(default, skip_serializing_if = "Edge::is_default")]
    pub edge: Edge,
    /// Nothing else is served while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Paths that are answered here, on any host, and whatever the routes are.
    #[serde(default, skip_serializing_if = "OwnPaths::is_none")]
    pub own: OwnPaths,
}

/// Paths where a gateway is asked about itself. No route has one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPaths {
    /// 200, as long as it lives.
    #[serde(default)]
    pub live: Option<String>,
    /// What [`Readiness`] says.
    #[serde(default)]
    pub ready: Option<String>,
}

impl OwnPaths {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What is answered at [`OwnPaths::ready`]. Before there is one it is 503. The next process begins with `afterwards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// The answer for now.
    pub now: Word,
    /// How long that is, milliseconds.
    pub lasts_ms: u64,
    /// The answer afterwards: what nobody has said again is not passed off as fresh.
    pub afterwards: Word,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// 200, or else 503.
    pub ready: bool,
    /// Its body, a JSON document.
    pub json: String,
}

impl Front {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Host name without port, any when absent.
    #[serde(default)]
    pub host: Option<String>,
    /// Path prefix, matched at segment boundaries; also the `route` label of the metrics, beside `service`: the name of
    /// the pool, up to an `@`.
    pub path: String,
    /// Whether the prefix is taken off before forwarding.
    #[serde(default)]
    pub strip: bool,
    /// Responses of this route are streams (SSE, long poll): counted apart, closed at a deadline.
    /// WebSockets always are.
    #[serde(default)]
    pub stream: bool,
    /// Whether POST and PATCH with an `Idempotency-Key` may be sent again as idempotent methods are.
    #[serde(default)]
    pub idempotency_key: bool,
    /// How many requests a client may make on it, counted apart from the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// The limit of all routes is not that of this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlimited: bool,
    /// Answers that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Name of the pool that serves it.
    pub pool: String,
}

/// Instances that can serve the same requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The instances.
    pub targets: Vec<Target>,
    /// Steady health check; without one every target counts as healthy until a connect fails.
    #[serde(default)]
    pub health: Option<Health>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The instance's id, as the agent names it.
    pub id: String,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// Steady health check of a pool's targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Path answered with 2xx or 3xx by a healthy target; a plain TCP connect when absent.
    #[serde(default)]
    pub path: Option<String>,
    /// Time between checks, milliseconds.
    pub interval_ms: u64,
    /// Time one check may take, milliseconds.
    pub timeout_ms: u64,
    /// Checks passed in a row that make a target healthy again.
    pub passes: u32,
    /// Checks failed in a row that make it unhealthy.
    pub failures: u32,
}

/// Replace the table: the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// Whose change it is; shown in [`State::label`], so a repeated change can be told from a new one.
    pub label: String,
    /// Only when this is the epoch now.
    #[serde(default)]
    pub expect: Option<u64>,
    /// The whole new table.
    pub table: Table,
}

/// Wait until requests of earlier epochs have finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Epochs below this one are waited for.
    pub below: u64,
    /// Longest wait, milliseconds; then streams are closed (WebSocket close code 1012).
    pub timeout_ms: u64,
}

/// What was left when a drain returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drained {
    /// Requests still in flight: 0 unless the time was up.
    pub requests: u64,
    /// Streams closed at the deadline.
    pub streams_closed: u64,
}

/// Keep new requests waiting and wait until none is in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Who holds.
    pub holder: String,
    /// The hold ends by itself after this, milliseconds; at most 30,000. Renewed by `renew`.
    pub lease_ms: u64,
    /// What the end of the lease does.
    pub on_expiry: OnExpiry,
}

/// What the end of a hold's lease does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExpiry {
    /// Traffic goes on as before.
    Old,
    /// 503 and Retry-After until an agent opens it again. Written durably before it is acknowledged.
    Closed,
}

/// A hold is in force: nothing is in flight, waiters are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Proof of being the holder.
    pub token: String,
    /// Requests waiting now.
    pub waiting: u64,
    /// Lease left, milliseconds.
    pub left_ms: u64,
    /// WebSockets and streams that were closed for the hold.
    pub streams_closed: u64,
}

/// Lengthen the lease, or change what its end does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// From [`Held`].
    pub token: String,
    /// New lease from now, milliseconds.
    pub lease_ms: u64,
    /// What its end does from now on.
    pub on_expiry: OnExpiry,
}

/// End a hold, first in first out; or open a closed gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// From [`Held`]; absent only to open a closed gateway.
    #[serde(default)]
    pub token: Option<String>,
}

/// Stop accepting, finish what is in flight, end: another process has taken over the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retire {
    /// Longest wait for idle connections and streams, milliseconds.
    pub timeout_ms: u64,
}

/// What issuers of certificates are answered, all of it: token to answer. Kept until the process ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenges {
    /// Path segment below `/.well-known/acme-challenge/`, and the text to answer.
    pub answers: BTreeMap<String, String>,
}

/// The certificates there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// By host name.
    pub hosts: BTreeMap<String, CertificateState>,
    /// What is wrong with the folder itself; what was served before is served on.
    #[serde(default)]
    pub problem: Option<String>,
}

impl Certificates {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The certificate of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateState {
    /// Whether there is one that is shown to clients: the file's, or the one before a file that cannot be used.
    pub served: bool,
    /// Whether the file itself can be used.
    pub usable: bool,
    /// The first second it is valid, since 1970.
    pub not_before: Option<i64>,
    /// The last one.
    pub not_after: Option<i64>,
    /// What is wrong, in words.
    pub problem: Option<String>,
}

/// What the requests since the start come to, by service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Upper bounds of the buckets, seconds.
    pub bounds: Vec<f64>,
    /// By service: the name of its pool, up to an `@`.
    pub services: BTreeMap<String, Count>,
}

/// The requests of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Answered.
    pub requests: u64,
    /// Answered with 500 or more.
    pub errors: u64,
    /// By how long they took: up to each bound, and longer than the one before. Those that are in none took longer.
    pub buckets: Vec<u64>,
}

/// Everything an agent may want to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The build of the process, as given at its start.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Raised by one at every change of the table.
    pub epoch: u64,
    /// The label of the last change.
    pub label: String,
    /// Whether requests are let through.
    pub mode: Mode,
    /// The table in force.
    pub table: Table,
    /// Requests and streams in flight, by epoch; epochs with none are left out.
    pub in_flight: Vec<InFlight>,
    /// Health of each target of the table, by target id.
    pub targets: BTreeMap<String, TargetState>,
    /// Requests answered since the process started.
    pub answered: u64,
    /// The certificates, as far as the process was given a folder of them.
    #[serde(default, skip_serializing_if = "Certificates::is_none")]
    pub certificates: Certificates,
}

/// The body of every 409.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// One line for a person.
    pub reason: String,
    /// The epoch now.
    pub epoch: u64,
    /// Who holds now, if anybody does.
    #[serde(default)]
    pub holder: Option<String>,
    /// How much of that lease is left, milliseconds.
    #[serde(default)]
    pub left_ms: Option<u64>,
}

/// Whether requests are let through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Mode {
    /// They are.
    Open,
    /// They wait.
    Held {
        /// Who holds.
        holder: String,
        /// Lease left, milliseconds.
        left_ms: u64,
        /// What its end does.
        on_expiry: OnExpiry,
        /// Requests waiting.
        waiting: u64,
    },
    /// They get 503 and Retry-After.
    Closed,
}

/// Requests and streams of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The epoch.
    pub epoch: u64,
    /// Requests.
    pub requests: u64,
    /// Streams and WebSockets.
    pub streams: u64,
}

/// What the steady checks found of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// Whether it gets requests.
    pub healthy: bool,
    /// The last check or connect that failed, in words, with its age; absent while healthy.
    pub last_error: Option<String>,
}
