//! The questions asked of an instance: while it starts, and while it runs.

use std::time::Duration;

use serde::Serialize;

use super::sheet::Reader;
use super::{Role, output};
use crate::diagnostic::Diagnostic;

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

/// The start-up probe; a web service is ready when its port accepts, a worker when it has run for a second.
pub(super) fn ready(service: &Reader<'_>, role: Role) -> Ready {
    let reader = service.at("ready");
    let probe = probe(&reader, role).unwrap_or_else(|| default(&reader, role));
    let within = reader.at("within").duration("30s");
    if let Probe::Stays(stays) = probe
        && stays >= within
    {
        never_ready(&reader);
    }
    Ready {
        probe,
        passes: reader.at("passes").integer(1),
        within,
        every: positive(&reader.at("every"), "100ms"),
        timeout: positive(&reader.at("timeout"), "2s"),
    }
}

fn never_ready(reader: &Reader<'_>) {
    let message = format!("`{}` can never pass", reader.path);
    reader.sheet.report(
        Diagnostic::error("config::bad-bounds", message)
            .label(reader.span(), "`stays` is not shorter than `within`"),
    );
}

fn default(reader: &Reader<'_>, role: Role) -> Probe {
    match role {
        Role::Web => {
            reader.at("tcp").flag(true);
            Probe::Tcp
        }
        Role::Worker | Role::Job => Probe::Stays(reader.at("stays").duration("1s")),
    }
}

/// The steady probe: what is asked at the start, where that is a request or a connection.
pub(super) fn alive(service: &Reader<'_>, role: Role, ready: &Ready) -> Option<Alive> {
    let reader = service.at("alive");
    if reader.is_false() {
        reader.flag(false);
        return None;
    }
    let probe = match (probe(&reader, role), &ready.probe) {
        (Some(probe), _) => probe,
        (None, Probe::Http(_) | Probe::Tcp) => inherited(&reader, &ready.probe),
        (None, _) if reader.is_absent() => return None,
        (None, _) => {
            no_probe(&reader);
            return None;
        }
    };
    Some(Alive {
        probe,
        passes: reader.at("passes").integer(1),
        failures: reader.at("failures").integer(3),
        every: positive(&reader.at("every"), "2s"),
        timeout: positive(&reader.at("timeout"), "2s"),
    })
}

/// How often a resource is asked; `false` is never.
pub(super) fn steady(reader: &Reader<'_>) -> Option<Steady> {
    if reader.is_false() {
        reader.flag(false);
        return None;
    }
    Some(Steady {
        passes: reader.at("passes").integer(1),
        failures: reader.at("failures").integer(2),
        every: positive(&reader.at("every"), "2s"),
        timeout: positive(&reader.at("timeout"), "2s"),
    })
}

fn inherited(reader: &Reader<'_>, probe: &Probe) -> Probe {
    match probe {
        Probe::Http(path) => Probe::Http(reader.at("http").text_or(path)),
        _ => {
            reader.at("tcp").flag(true);
            probe.clone()
        }
    }
}

fn no_probe(reader: &Reader<'_>) {
    let message = format!("`{}` says when to ask, but not what", reader.path);
    reader.sheet.report(
        Diagnostic::error("config::no-probe", message)
            .label(reader.span(), "the start-up probe cannot be asked again")
            .help("add `http`, `tcp` or `exec`"),
    );
}

fn probe(reader: &Reader<'_>, role: Role) -> Option<Probe> {
    let port = |key: &str, probe: Probe| {
        if role != Role::Web {
            portless(&reader.at(key));
        }
        probe
    };
    if let Some(path) = reader.at("http").text() {
        return Some(port("http", Probe::Http(path.to_owned())));
    }
    if !reader.at("tcp").is_absent() {
        if !reader.at("tcp").flag(true) {
            off(&reader.at("tcp"));
        }
        return Some(port("tcp", Probe::Tcp));
    }
    if let Some(command) = reader.at("exec").text() {
        return Some(Probe::Exec(command.to_owned()));
    }
    if let Some(text) = reader.at("log").text() {
        return Some(Probe::Log(text.to_owned()));
    }
    let stays = reader.at("stays");
    (!stays.is_absent()).then(|| Probe::Stays(stays.duration("1s")))
}

fn portless(reader: &Reader<'_>) {
    let message = format!("`{}` asks a worker, which has no port", reader.path);
    reader.sheet.report(
        Diagnostic::error("config::no-port", message)
            .label(reader.key.clone(), "nothing would answer")
            .help("ask with `exec`, `log` or `stays`"),
    );
}

fn off(reader: &Reader<'_>) {
    let message = format!("`{}` can only be `true`", reader.path);
    reader.sheet.report(
        Diagnostic::error("config::bad-bounds", message)
            .label(reader.span(), "leave it out, or name another probe"),
    );
}

/// A pause or a time-out of nothing would ask without end, or never get an answer.
fn positive(reader: &Reader<'_>, default: &str) -> Duration {
    let duration = reader.duration(default);
    if duration.is_zero() && reader.value.is_some_and(|value| value.as_text().is_some()) {
        let message = format!("`{}` is nothing", reader.path);
        reader.sheet.report(
            Diagnostic::error("config::bad-bounds", message)
                .label(reader.span(), "has to be longer"),
        );
    }
    duration
}
