//! What an agent says of its environment: what serves, what runs, and how the last runs ended.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::HealthStatus;
use crate::diagnostic::Diagnostic;
use crate::id::{InstanceId, ReleaseId, RunId};
use crate::release::{Maintenance, Operation, Phase};

/// An environment now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The application.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// In one word: `serving`, `degraded`, `failing`, `stuck`, `stopped`.
    pub verdict: String,
    /// The agent's build.
    pub version: String,
    /// The agent's process id; 0 where the environment is not there yet, and so no agent.
    pub agent_pid: u32,
    /// The state directory.
    pub state: PathBuf,
    /// Where the gateway listens.
    pub listen: Option<String>,
    /// Where clients find it by https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// The certificates of its hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// The jobs of the version that serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobStatus>,
    /// Maintenance, while it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// What serves.
    pub live: Option<VersionStatus>,
    /// What is kept for the way back.
    pub warm: Option<VersionStatus>,
    /// The run under way.
    pub run: Option<RunStatus>,
    /// How it is, part by part; `None` while nothing serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// The requests of the last minute, by service.
    #[serde(default)]
    pub traffic: BTreeMap<String, TrafficStatus>,
    /// Instances of all versions.
    pub instances: Vec<InstanceStatus>,
    /// The gateway's own words.
    pub gateway: Option<towpath_gateway::api::State>,
    /// The last runs that ended, newest first.
    pub ended: Vec<EndedRun>,
}

/// The requests of a service in the last minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// Requests a second.
    pub requests_per_second: f64,
    /// Of them those answered with 500 or more.
    pub errors_per_second: f64,
    /// Half of them took no longer, milliseconds; as near as the buckets tell, and at most 10 s.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
}

/// The certificate of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The host.
    pub host: String,
    /// Whether clients are shown one that they can accept.
    pub good: bool,
    /// When it ends, Unix milliseconds.
    pub until_ms: Option<i64>,
    /// What is wrong, or was with the last attempt to get one.
    pub problem: Option<String>,
    /// The next attempt, Unix milliseconds.
    pub next_ms: Option<i64>,
}

/// A job of the version that serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its service.
    pub service: String,
    /// When it is due, as typed.
    pub schedule: String,
    /// When it is due next, Unix milliseconds.
    pub next_ms: Option<i64>,
    /// Its runs under way.
    pub running: Vec<InstanceId>,
    /// How the last one ended.
    pub last: Option<JobEnd>,
    /// How often it was due while one before still ran, and was left out.
    pub skipped: u64,
}

/// How a run of a job ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobEnd {
    /// The run.
    pub id: InstanceId,
    /// When it began, Unix milliseconds.
    pub began_ms: i64,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Whether it did what it is for.
    pub good: bool,
    /// How it ended, as the end of "it ...".
    pub how: String,
}

/// A version that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionStatus {
    /// `r4`, or `source tree`.
    pub name: String,
    /// Its release.
    pub release: Option<ReleaseId>,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// How long it is still kept, milliseconds (the warm one only).
    pub left_ms: Option<u64>,
}

/// A run under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunStatus {
    /// The run.
    pub run: RunId,
    /// What it is for.
    pub operation: Operation,
    /// Who asked for it.
    pub actor: String,
    /// When it began, Unix milliseconds.
    pub since_ms: i64,
    /// Which way it goes.
    pub phase: Phase,
    /// The step it is at.
    pub step: Option<String>,
    /// Why it goes back, is stuck, or tries a step again.
    pub failure: Option<Diagnostic>,
}

/// A run that has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndedRun {
    /// The run.
    pub run: RunId,
    /// What it was for.
    pub operation: Operation,
    /// Who asked for it.
    pub actor: String,
    /// The release it was about.
    pub release: Option<ReleaseId>,
    /// `done` or `undone`.
    pub outcome: String,
    /// When it began, Unix milliseconds.
    pub began_ms: i64,
    /// When it ended, Unix milliseconds.
    pub ended_ms: i64,
}

/// An instance now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its id.
    pub id: InstanceId,
    /// Its service.
    pub service: String,
    /// `live`, `warm` or `new`.
    pub side: String,
    /// The version it is of.
    pub version: String,
    /// In one word: `ready`, `starting`, `unhealthy`, `restarting`, `failed`, `stopped`.
    pub state: String,
    /// Process id of its main process.
    pub pid: Option<u32>,
    /// Port it serves on.
    pub port: Option<u16>,
    /// Since when it runs, Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Starts after the first.
    pub restarts: u32,
    /// CPU time of its tree, milliseconds.
    pub cpu_ms: u64,
    /// Memory of its tree, bytes.
    pub rss_bytes: u64,
    /// Log lines that could not be written.
    pub log_lines_dropped: u64,
    /// What its steady probe said last, or how it ended.
    pub error: Option<String>,
}
