//! The configuration of one environment: what a manifest means there, with nothing left to default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use towpath_gateway::api::{Cache, Limit};

use super::Edge;
use super::output;
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

/// A typed value that services may be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// What its value is.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// The value as services get it, if it has one here.
    pub value: Option<String>,
    /// Whether it must have one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What an enum may be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a secret is made and rotated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// What it is.
    pub kind: SecretKind,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Age at which no promotion goes with it any more.
    #[serde(rename = "rotate_ms", serialize_with = "output::millis")]
    pub rotate: Duration,
    /// How long the old value stays good beside a new one.
    #[serde(rename = "overlap_ms", serialize_with = "output::millis")]
    pub overlap: Duration,
    /// Whether services know one value only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupting: bool,
    /// What a new value is made of.
    pub generate: Generate,
    /// Whose password it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// What a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKind {
    /// A value that both sides know.
    Plain,
    /// A key that tokens are signed with, by HS256.
    Jwt,
    /// The password of a database that Towpath runs: its value is the agent's alone.
    Database,
}

/// What a new value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generate {
    /// So many random bytes, in hexadecimal.
    Bytes(u32),
    /// So many random letters and digits.
    Length(u32),
}

impl Default for Secret {
    /// As one that says nothing is rotated.
    fn default() -> Secret {
        Secret {
            kind: SecretKind::Plain,
            description: None,
            rotate: Duration::from_secs(90 * 86_400),
            overlap: Duration::from_secs(3600),
            interrupting: false,
            generate: Generate::Bytes(32),
            resource: None,
        }
    }
}

/// What the value of a variable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VariableKind {
    /// Any text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A length of time: `30s`.
    Duration,
    /// A number of bytes: `8MB`.
    Size,
    /// A URL without a password.
    Url,
    /// One of some words.
    Enum,
    /// Texts, divided by commas.
    List,
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

/// https at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Where it is served.
    pub listen: SocketAddr,
    /// Host names, each with a certificate of its own.
    pub hosts: Vec<String>,
    /// Who issues certificates; `None` where somebody puts them into the folder.
    pub acme: Option<Acme>,
}

/// An issuer of certificates, by ACME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acme {
    /// URL of its directory.
    pub directory: String,
    /// PEM file of who signs for that URL, on the environment's machine; the public ones when `None`.
    pub ca: Option<PathBuf>,
    /// Mail address for its warnings.
    pub contact: Option<String>,
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

/// A container that runs a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Where its image comes from.
    pub from: Image,
    /// The port that it listens on, in a network of its own; `None` gives it the machine's network,
    /// and `$PORT` as any service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Where the image of a container comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Image {
    /// It is known by this name.
    Image(String),
    /// It is built from this file below the service's folder.
    Dockerfile(PathBuf),
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

/// The start-up probe: asked until it passes, or until time is up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ready {
    /// What is asked.
    pub probe: Probe,
    /// Passes in a row.
    pub passes: u32,
    /// Time from start to ready.
    #[serde(rename = "within_ms", serialize_with = "output::millis")]
    pub within: Duration,
    /// Time between two asks.
    #[serde(rename = "every_ms", serialize_with = "output::millis")]
    pub every: Duration,
    /// Time one ask may take.
    #[serde(rename = "timeout_ms", serialize_with = "output::millis")]
    pub timeout: Duration,
}

/// The steady probe: asked while an instance runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alive {
    /// What is asked.
    pub probe: Probe,
    /// Passes in a row that make it healthy again.
    pub passes: u32,
    /// Failures in a row that make it unhealthy.
    pub failures: u32,
    /// Time between two asks.
    #[serde(rename = "every_ms", serialize_with = "output::millis")]
    pub every: Duration,
    /// Time one ask may take.
    #[serde(rename = "timeout_ms", serialize_with = "output::millis")]
    pub timeout: Duration,
}

/// A question to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// GET of this path on `$PORT` gives 2xx or 3xx.
    Http(String),
    /// `$PORT` accepts a connection.
    Tcp,
    /// This shell command ends with 0, in the instance's folder and environment.
    Exec(String),
    /// A line of its output contains this text.
    Log(String),
    /// It is still running after this long (the default of a worker: one second).
    #[serde(rename = "stays_ms", serialize_with = "output::millis")]
    Stays(Duration),
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

/// A value with references, as typed: `http://${api.host}/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its pieces in order.
    pub parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// `${name.attribute}` of a service or resource: `url`, `host`, `port`, `path`.
    Attribute {
        /// Service or resource.
        name: String,
        /// Attribute.
        attribute: String,
    },
}

/// What services need and do not run themselves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// How its schema comes about, if anybody cares for it.
    pub migrate: Option<Migrate>,
    /// Major version of a server of ours; the newest there is, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Where it is; `None` for one of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// Where it is for what a pooler does not bear: migrations and backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_url: Option<Address>,
    /// The name that a SQLite file has to have, in a folder of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Who backs it up.
    #[serde(skip_serializing_if = "Backup::is_ours")]
    pub backup: Backup,
    /// How it is asked whether it answers; `None` never asks.
    pub alive: Option<Steady>,
}

/// How often something is asked, and what its answers come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Steady {
    /// Answers in a row that make it healthy again.
    pub passes: u32,
    /// Failures in a row that make it unhealthy.
    pub failures: u32,
    /// Time between two asks.
    #[serde(rename = "every_ms", serialize_with = "output::millis")]
    pub every: Duration,
    /// Time one ask may take.
    #[serde(rename = "timeout_ms", serialize_with = "output::millis")]
    pub timeout: Duration,
}

/// Paths that the gateway answers itself, on any host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HealthPaths {
    /// 200 as long as the gateway lives.
    pub live: Option<String>,
    /// How everything is, and 503 where something critical fails.
    pub ready: Option<String>,
    /// Whether the errors are shown there too.
    pub errors: bool,
}

impl HealthPaths {
    fn is_none(&self) -> bool {
        self.live.is_none() && self.ready.is_none()
    }
}

/// Where something is that is not ours. It holds no password: what is typed is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// As typed.
    Url(String),
    /// In this file, on the environment's machine.
    File(PathBuf),
    /// The secret of this name.
    Secret(String),
}

impl Resource {
    /// The secrets that say where it is.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        let addresses = self.url.iter().chain(&self.direct_url);
        addresses.filter_map(|address| match address {
            Address::Secret(name) => Some(name),
            Address::Url(_) | Address::File(_) => None,
        })
    }
}

/// Who backs a database up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backup {
    /// Towpath, before each deployment.
    Towpath,
    /// Whoever runs it.
    Provider,
}

/// How the schema of a database comes about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Migrate {
    /// Folder of our migrations, below the manifest's.
    Folder(PathBuf),
    /// By a program of somebody else's.
    Foreign(Foreign),
}

/// A program of somebody else's that brings a schema about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreign {
    /// Which.
    pub by: Migrator,
    /// Whether the version before cannot work with what it leaves.
    pub rewrite: bool,
    /// Whether it is tried on a copy first.
    pub rehearse: bool,
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Migrator {
    /// A shell command.
    Run {
        /// The command.
        command: String,
        /// The service whose folder and environment it gets.
        service: String,
    },
    /// The application itself, when it starts.
    OnStart,
}

impl Backup {
    fn is_ours(&self) -> bool {
        *self == Backup::Towpath
    }
}

impl Resource {
    /// Whether it is a server that Towpath runs.
    #[must_use]
    pub fn is_run(&self) -> bool {
        let is_server = matches!(self.kind, ResourceKind::Postgres | ResourceKind::Redis);
        is_server && self.url.is_none()
    }

    /// Whether it lies in the environment's data folder, beside which nothing runs for it.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.kind, ResourceKind::Sqlite | ResourceKind::Storage)
    }

    /// Whether it has a folder of its own there.
    #[must_use]
    pub fn has_folder(&self) -> bool {
        self.kind == ResourceKind::Storage || self.file.is_some()
    }

    /// Whether it holds data that a deployment backs up.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.kind != ResourceKind::Redis && self.backup == Backup::Towpath
    }

    /// The folder of our migrations, where the schema is ours to bring about.
    #[must_use]
    pub fn migrations(&self) -> Option<&Path> {
        match &self.migrate {
            Some(Migrate::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    /// Who else brings the schema about, where it is not ours to.
    #[must_use]
    pub fn foreign(&self) -> Option<&Foreign> {
        match &self.migrate {
            Some(Migrate::Foreign(foreign)) => Some(foreign),
            _ => None,
        }
    }
}

/// Kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// A file in the environment's data folder.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// A folder of files that is kept.
    Storage,
}

/// Load that the application declares for its rehearsals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// Requests a second, reads and writes together.
    pub rate: u32,
    /// Connections at once.
    pub connections: u32,
    /// Share of requests that open a connection of their own, 0 to 1.
    pub fresh: f64,
    /// Sent once before the load; what it answers is sent with every request.
    pub sign_in: Option<SignIn>,
    /// The reads.
    pub requests: Vec<TrafficRequest>,
    /// The write that is counted and read back.
    pub write: Option<TrafficWrite>,
    /// Numbers that the application counts itself and that must be 0 in the end.
    pub zeros: Vec<TrafficZero>,
}

/// A request whose JSON answer holds a bearer token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignIn {
    /// POST path.
    pub post: String,
    /// JSON body.
    pub body: String,
    /// JSON pointer to the token in the answer; sent as `Authorization: Bearer`.
    pub token: String,
}

/// A read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficRequest {
    /// Relative frequency.
    pub weight: u32,
    /// GET path.
    pub get: String,
    /// Statuses that count as answered.
    pub expect: Vec<u16>,
}

/// The counted write: every acknowledged one must be found again, once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficWrite {
    /// Relative frequency.
    pub weight: u32,
    /// POST path.
    pub post: String,
    /// JSON body; `${id}` becomes an identifier of its own, `${n}` its number.
    pub body: String,
    /// Statuses that acknowledge it.
    pub expect: Vec<u16>,
    /// GET path with `${id}` that finds it: 200 when it is there, 404 when not.
    pub read: String,
    /// JSON pointer into that answer to the number of times it is there; `None` trusts the status.
    pub count: Option<String>,
}

/// A number the application counts itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficZero {
    /// What is counted, for the table: `doubled roll-ups`.
    pub name: String,
    /// GET path.
    pub get: String,
    /// JSON pointer to the number that must be 0.
    pub value: String,
    /// JSON pointer to its denominator.
    pub of: String,
}

/// The versions a rehearsal goes through.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rehearse {
    /// The first, which goes all the way to the last environment.
    pub first: Version,
    /// The next, deployed under load and rolled back.
    pub next: Version,
    /// One that never becomes ready and is refused.
    pub broken: Version,
    /// Requests at least.
    pub requests: u64,
    /// Acknowledged writes at least.
    pub writes: u64,
    /// What a PostgreSQL is rehearsed as where the machine has none; without it that is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_postgres: Option<ResourceKind>,
}

/// Which source a rehearsal deploys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// The committed tree.
    Head,
    /// A git ref.
    Ref(String),
    /// The committed tree with this folder's files laid over it (folder below the manifest's).
    Overlay(PathBuf),
}
