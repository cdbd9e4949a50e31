//! The configuration of one environment: what a manifest means there, with nothing left to default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use towpath_gateway::api::{Cache, Limit};

use super::{
    Alive, Container, Edge, HealthPaths, Ready, Rehearse, Resource, Secret, Template, Tls, Traffic,
    Variable, output,
};
use crate::manifest::schedule::Schedule;

/// An application as it is to run in one environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Name of the application.
    pub app: String,
    /// Name of the environment.
    pub environment: String,
    /// The way a release goes, first environment first.
    pub promote: Vec<String>,
    /// Where the gateway listens; `None` lets the agent choose a free loopback port once and keep it.
    pub listen: Option<SocketAddr>,
    /// Host name that the environment's routes answer to; `None` answers to any.
    pub domain: Option<String>,
    /// The machine that it runs on; `None` is this one.
    pub server: Option<Server>,
    /// https at the gateway; `None` leaves it to a proxy before it, or to nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Networks of proxies whose word is taken for who a client is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<String>,
    /// What the gateway does with requests and answers by itself; `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
    /// How long the old version stays warm after a switch.
    #[serde(rename = "window_ms", serialize_with = "output::millis")]
    pub window: Duration,
    /// Releases whose builds, artifacts and backups `tow gc` keeps.
    pub keep: u32,
    /// The variables, by name; those without a value here are among them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// How secrets are made and rotated, by name: those that say so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// The services, by name.
    pub services: BTreeMap<String, Service>,
    /// Names of the services, each after those it needs.
    pub order: Vec<String>,
    /// The resources, by name.
    pub resources: BTreeMap<String, Resource>,
    /// Where the gateway says how the environment is.
    #[serde(skip_serializing_if = "HealthPaths::is_none")]
    pub health: HealthPaths,
    /// Where the agent gives the metrics, beside its socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Declared load, when there is any.
    pub traffic: Option<Traffic>,
    /// What a rehearsal deploys, when it is declared.
    pub rehearse: Option<Rehearse>,
}

/// A machine that is reached by ssh.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// The user to be there; ssh's own choice when not given.
    pub user: Option<String>,
    /// Its name or address, or what ssh's configuration calls it.
    pub host: String,
    /// The port; ssh's own choice when not given.
    pub port: Option<u16>,
}

/// A part that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// What kind of part it is.
    pub role: Role,
    /// Folder below the manifest's that its commands run in; `.` when not given.
    pub dir: PathBuf,
    /// The container that it runs in; `None` runs it as a process of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Shell command that builds it, run in `dir`.
    pub build: Option<String>,
    /// Further environment of the build.
    pub build_env: BTreeMap<String, String>,
    /// Folders below `dir` kept between builds with the same lock files (`target`, `node_modules`).
    pub cache: Vec<PathBuf>,
    /// Paths below `dir` that are carried to other environments; all of `dir` when empty.
    pub artifact: Vec<PathBuf>,
    /// Shell command that runs an instance, in `dir`; `exec` is implied. `None` only for a
    /// container: its image says what runs.
    pub run: Option<String>,
    /// Instead of `run` where the source tree runs (`tow up`).
    pub dev: Option<String>,
    /// Shell command run once in `dir` before a new version of it starts, after the migrations.
    pub release: Option<String>,
    /// When a job is due; of no other role.
    pub schedule: Option<Schedule>,
    /// Time that one run of a job may take; `None` is for ever.
    #[serde(rename = "timeout_ms", serialize_with = "output::some_millis")]
    pub timeout: Option<Duration>,
    /// Paths it serves; empty for a worker.
    pub routes: Vec<Route>,
    /// When a started instance is ready.
    pub ready: Ready,
    /// Whether it still works later on; `None` means as long as it runs.
    pub alive: Option<Alive>,
    /// Services and resources it needs, in the order given.
    pub needs: Vec<String>,
    /// Those of them that it can do without for a while.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub optional: Vec<String>,
    /// Whether the environment is unhealthy without it; `None` leaves it to who needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
    /// Environment variables, with references.
    pub env: BTreeMap<String, Template>,
    /// Secrets that it is given, by their own names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Copies that run.
    pub replicas: u32,
    /// A worker's old and new copies may run at once; of a job, a run may begin before the one before it has ended.
    pub overlap: bool,
    /// What happens when an instance ends by itself.
    pub restart: Restart,
    /// Signal that ends it, a number.
    pub stop_signal: i32,
    /// Time between that signal and SIGKILL.
    #[serde(rename = "stop_grace_ms", serialize_with = "output::millis")]
    pub stop_grace: Duration,
    /// Size at which its log rotates, bytes.
    pub log_max_bytes: u64,
    /// Rotated logs kept.
    pub log_keep: u32,
}

/// What kind of part a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves requests on `$PORT`; old and new run side by side during a deployment.
    Web,
    /// Serves none; old stops before new starts.
    Worker,
    /// Runs when it is due, and ends.
    Job,
}

/// A path prefix that a service answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Host name that it answers to; `None` is the domain of the environment.
    pub host: Option<String>,
    /// Prefix, matched at segment boundaries.
    pub path: String,
    /// Whether the prefix is taken off.
    pub strip: bool,
    /// Whether its responses are streams (SSE, long poll).
    pub stream: bool,
    /// Whether POST and PATCH with an `Idempotency-Key` may be repeated.
    pub idempotency_key: bool,
    /// How many requests a client may make on it, if that is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Whether the limit of all routes is not that of this one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unlimited: bool,
    /// Answers that the gateway keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
}

/// What happens when an instance ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// Which endings start it again.
    pub policy: RestartPolicy,
    /// First pause; doubled each time.
    #[serde(rename = "backoff_ms", serialize_with = "output::millis")]
    pub backoff: Duration,
    /// Longest pause.
    #[serde(rename = "backoff_max_ms", serialize_with = "output::millis")]
    pub backoff_max: Duration,
    /// Starts within `within` after which it is given up.
    pub limit: u32,
    /// The span that `limit` counts in.
    #[serde(rename = "within_ms", serialize_with = "output::millis")]
    pub within: Duration,
}

/// Which endings start an instance again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// None.
    Never,
    /// A status other than 0, or a signal.
    OnFailure,
    /// Any.
    Always,
}
