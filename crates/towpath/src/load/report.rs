//! What a load says of itself: while it runs, and in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::Token;

/// Where a running load stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Progress {
    /// Requests finished, failed ones among them.
    pub total: u64,
    /// Requests failed.
    pub failed: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Time since the first request was due, milliseconds in JSON.
    #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
    pub elapsed: Duration,
    /// Requests finished a second, over all.
    pub rate: f64,
    /// Requests finished a second, over the last second.
    pub rate_now: f64,
}

/// What a load did, in the end.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The requests.
    pub requests: Requests,
    /// Identifiers of the acknowledged writes, in the order they were acknowledged; their number in JSON.
    #[serde(rename = "acknowledged", serialize_with = "count")]
    pub writes: Vec<String>,
    /// Time from the first due request to the last finished one, milliseconds in JSON.
    #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
    pub elapsed: Duration,
    /// What it signed in with, for the reading back; never in JSON.
    #[serde(skip)]
    pub token: Option<Token>,
}

/// The requests of a load.
#[derive(Debug, Clone, Serialize)]
pub struct Requests {
    /// Finished, failed ones among them.
    pub total: u64,
    /// Failed.
    pub failed: u64,
    /// Achieved: finished a second, over the whole time.
    pub rate: f64,
    /// Declared: due a second.
    pub declared_rate: u32,
    /// Due when the load was stopped, and never sent because all connections were busy.
    pub overdue: u64,
    /// Finished over a kept connection.
    pub kept: u64,
    /// Finished over a connection of their own.
    pub fresh: u64,
    /// Sent a second time because a kept connection had been closed; not failures.
    pub resent: Resent,
    /// The first hundred failures.
    pub failures: Vec<Failure>,
    /// All failures, by kind.
    pub failed_by: BTreeMap<FailureKind, u64>,
    /// Each declared request.
    pub kinds: Vec<KindReport>,
    /// What finished in each tenth of a second, for plotting.
    pub timeline: Vec<Slot>,
}

/// Requests sent a second time on a new connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Resent {
    /// Not one byte of the first had been written.
    pub unsent: u64,
    /// GETs without a byte of answer; the server may have seen the first.
    pub repeated: u64,
}

/// A request that failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// When, since the start; milliseconds in JSON.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// Which: `GET /path`.
    pub request: String,
    /// How.
    pub kind: FailureKind,
    /// In words; of a wrong status the status and the first 200 bytes of the body.
    pub detail: String,
    /// Over which connection.
    pub connection: ConnectionKind,
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// A whole answer with a status that is not expected.
    Status,
    /// The connection ended before the answer was whole.
    Reset,
    /// No whole answer in ten seconds.
    TimeOut,
    /// No connection.
    Connect,
    /// What came is not HTTP.
    Malformed,
}

/// The connection a request goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionKind {
    /// Used for many requests.
    Kept,
    /// Opened for this request and closed after it.
    Fresh,
}

/// One declared request.
#[derive(Debug, Clone, Serialize)]
pub struct KindReport {
    /// Which: `GET /path`.
    pub request: String,
    /// Finished, failed ones among them.
    pub total: u64,
    /// Failed.
    pub failed: u64,
    /// From the time it was due to its end; waiting for a free connection included.
    pub latency: Latency,
    /// From the time it was sent to its end.
    pub service: Latency,
}

/// A distribution, failed requests included; quantiles are at most 1/32 too high. Milliseconds in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half stay within.
    #[serde(rename = "p50_ms", serialize_with = "milliseconds")]
    pub p50: Duration,
    /// Nine of ten stay within.
    #[serde(rename = "p90_ms", serialize_with = "milliseconds")]
    pub p90: Duration,
    /// 99 of a hundred stay within.
    #[serde(rename = "p99_ms", serialize_with = "milliseconds")]
    pub p99: Duration,
    /// The longest, exactly.
    #[serde(rename = "max_ms", serialize_with = "milliseconds")]
    pub max: Duration,
}

/// What finished in a tenth of a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Requests, failed ones among them.
    pub total: u64,
    /// Failed.
    pub failed: u64,
    /// The longest of them, from its due time; milliseconds in JSON.
    #[serde(rename = "slowest_ms", serialize_with = "milliseconds")]
    pub slowest: Duration,
}

/// What became of the acknowledged writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReadBack {
    /// Writes asked for.
    pub acknowledged: u64,
    /// Not there.
    pub lost: u64,
    /// There more than once.
    pub doubled: u64,
    /// Neither found nor known to be missing after four asks; as bad as lost.
    pub unreadable: u64,
    /// The first twenty lost ones.
    pub lost_ids: Vec<String>,
    /// The first twenty doubled ones.
    pub doubled_ids: Vec<String>,
    /// What the first unreadable one answered.
    pub unreadable_detail: Option<String>,
}

impl ReadBack {
    /// Whether every write was found once.
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.unreadable == 0
    }
}

/// A number that the application counts itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Zero {
    /// What is counted.
    pub name: String,
    /// How many; should be 0.
    pub value: u64,
    /// Of how many.
    pub of: u64,
}

impl Zero {
    /// Whether it is 0 of something: 0 of 0 shows nothing.
    pub fn holds(&self) -> bool {
        self.value == 0 && self.of > 0
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1000.0)
}

fn count<S: Serializer>(ids: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(ids.len() as u64)
}
