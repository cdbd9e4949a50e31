//! The steps of a run: a closed set, so that a step without an undo does not compile.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which of a run's versions a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The version that the run brings in.
    New,
    /// The version that serves when the run begins.
    Old,
    /// The version that is warm when the run begins.
    Warm,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Start the gateway, with no routes.
    Gateway {
        /// Address it listens on.
        listen: String,
        /// Address for https, where it speaks TLS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listen_tls: Option<String>,
    },
    /// Build one service in the build's folder.
    Build {
        /// The service.
        service: String,
    },
    /// Pack the artifacts and make the release of them.
    Pack,
    /// Back a database up.
    BackUp {
        /// The resource.
        resource: String,
    },
    /// Apply the pending expansions.
    Migrate {
        /// The resource.
        resource: String,
        /// Their numbers.
        versions: Vec<u64>,
    },
    /// Run the command that comes before a service's start, to its end.
    Release {
        /// The service.
        service: String,
    },
    /// Start the new instances of a service beside the old.
    Launch {
        /// The service.
        service: String,
    },
    /// Wait until they are ready.
    Ready {
        /// The service.
        service: String,
    },
    /// Stop the workers of the version that serves.
    StopWorkers,
    /// Start the workers of the version that comes in.
    StartWorkers,
    /// Send new requests to the version that comes in.
    Switch,
    /// Wait until the requests that the other version has are answered.
    Drain,
    /// Stop a version for good.
    Retire {
        /// Which.
        side: Side,
    },
    /// Send requests nowhere.
    Close,
    /// Stop the gateway.
    StopGateway,
}

/// What going back over a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Nothing is changed.
    ReadOnly,
    /// It can be undone.
    Reversible,
    /// It can only be finished.
    ForwardOnly,
}

/// What a probe finds of a step's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// None of it.
    Absent,
    /// Some of it.
    Partial,
    /// All of it.
    Present,
    /// Something else is in its place, which is not ours to overwrite.
    Foreign,
}

impl Step {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Step::Ready { .. } | Step::Drain => Class::ReadOnly,
            Step::Gateway { .. }
            | Step::Build { .. }
            | Step::Pack
            | Step::BackUp { .. }
            | Step::Migrate { .. }
            | Step::Release { .. }
            | Step::Launch { .. }
            | Step::StopWorkers
            | Step::StartWorkers
            | Step::Switch => Class::Reversible,
            Step::Retire { .. } | Step::Close | Step::StopGateway => Class::ForwardOnly,
        }
    }
}

impl fmt::Display for Step {
    /// The step's name in the journal, unique within a run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Gateway { .. } => f.write_str("gateway"),
            Step::Build { service } => write!(f, "build:{service}"),
            Step::Pack => f.write_str("pack"),
            Step::BackUp { resource } => write!(f, "back-up:{resource}"),
            Step::Migrate { resource, .. } => write!(f, "migrate:{resource}"),
            Step::Release { service } => write!(f, "release:{service}"),
            Step::Launch { service } => write!(f, "launch:{service}"),
            Step::Ready { service } => write!(f, "ready:{service}"),
            Step::StopWorkers => f.write_str("stop-workers"),
            Step::StartWorkers => f.write_str("start-workers"),
            Step::Switch => f.write_str("switch"),
            Step::Drain => f.write_str("drain"),
            Step::Retire { side: Side::New } => f.write_str("retire:new"),
            Step::Retire { side: Side::Old } => f.write_str("retire:old"),
            Step::Retire { side: Side::Warm } => f.write_str("retire:warm"),
            Step::Close => f.write_str("close"),
            Step::StopGateway => f.write_str("stop-gateway"),
        }
    }
}
