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
    /// Build and pack anew what is another environment's own, because its build takes in what differs there.
    Bake {
        /// The environment.
        environment: String,
        /// The services.
        services: Vec<String>,
    },
    /// Have the image of a service's container here, and know which it is.
    Image {
        /// The service.
        service: String,
    },
    /// Pack the artifacts and make the release of them.
    Pack,
    /// Start the server of a resource, with the application's part in it.
    Provide {
        /// The resource.
        resource: String,
        /// Its port, unless it has one already.
        port: u16,
    },
    /// Back a database up.
    BackUp {
        /// The resource.
        resource: String,
    },
    /// Let requests wait at the gateway: nothing is in flight until `resume`.
    Hold,
    /// Apply pending migrations.
    Migrate {
        /// The resource.
        resource: String,
        /// Their numbers.
        versions: Vec<u64>,
    },
    /// Have a foreign migrator at work on copies of the databases, and the version that serves on what it leaves there.
    Rehearse {
        /// The resources.
        resources: Vec<String>,
    },
    /// Run a foreign migrator, to its end; one that is the application itself comes with its start.
    Migrator {
        /// The resource.
        resource: String,
        /// Whether requests wait, so that nothing is lost with the backup.
        held: bool,
    },
    /// Run the command that comes before a service's start, to its end.
    Release {
        /// The service.
        service: String,
    },
    /// Let requests go on.
    Resume {
        /// Whether the version before cannot come back: what was written since would be lost with the backup.
        settles: bool,
    },
    /// Take migrations back, newest first.
    TakeBack {
        /// The resource.
        resource: String,
        /// Their numbers.
        versions: Vec<u64>,
    },
    /// Count an existing schema as migrated.
    Baseline {
        /// The resource.
        resource: String,
        /// Up to this number.
        version: u64,
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
    /// Stop the servers of all resources; their data stays.
    StopResources,
}

/// What going back over a step means, within the plan it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing is changed.
    ReadOnly,
    /// It can be undone.
    Reversible,
    /// It can be undone, and this is lost then.
    Loses(&'static str),
    /// The first step with no way back: the run passes the point of no return with it.
    Pivot,
    /// It stands behind the pivot, and can only be finished.
    ForwardOnly,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::ReadOnly => "read-only",
            Class::Reversible => "reversible",
            Class::Loses(_) => "loses",
            Class::Pivot => "pivot",
            Class::ForwardOnly => "forward-only",
        })
    }
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
    /// Its class by itself; [`super::Plan::class`] knows what it is in its place.
    pub(super) fn class(&self) -> Class {
        match self {
            Step::Ready { .. } | Step::Rehearse { .. } => Class::ReadOnly,
            Step::Gateway { .. }
            | Step::Build { .. }
            | Step::Bake { .. }
            | Step::Image { .. }
            | Step::Pack
            | Step::Provide { .. }
            | Step::BackUp { .. }
            | Step::Release { .. }
            | Step::Migrator { held: true, .. }
            | Step::Hold
            | Step::Resume { settles: false }
            | Step::TakeBack { .. }
            | Step::Baseline { .. }
            | Step::Launch { .. }
            | Step::StopWorkers
            | Step::StartWorkers
            | Step::Switch => Class::Reversible,
            Step::Migrate { .. } => {
                Class::Loses("what was written meanwhile into the tables and columns it adds")
            }
            Step::Migrator { held: false, .. } => {
                Class::Loses("the schema as it was: it stays as the migrator leaves it")
            }
            Step::Drain => {
                Class::Loses("open streams: they were closed, and clients connect again")
            }
            Step::Resume { settles: true }
            | Step::Retire { .. }
            | Step::Close
            | Step::StopGateway
            | Step::StopResources => Class::ForwardOnly,
        }
    }

    /// Whether it can be undone where no step before it stands in the way.
    pub(super) fn has_way_back(&self) -> bool {
        self.class() != Class::ForwardOnly
    }

    /// What its undo does, in a few words.
    pub(super) fn way_back(&self) -> &'static str {
        match self {
            Step::Gateway { .. } => "the gateway is stopped",
            Step::Build { .. } => "the folder of the build is removed",
            Step::Bake { .. } => "the folder of that build is removed",
            Step::Pack => "the release stays on the list, and is not deployed",
            Step::Image { .. } => "the image stays, unused",
            Step::BackUp { .. } => "the backup is removed, unless what came behind it may stay",
            Step::Hold => "requests go on",
            Step::TakeBack { .. } => "nothing to do: each is one transaction",
            Step::Baseline { .. } => "nothing to do: it is one transaction",
            Step::Release { .. } => "it is ended; what it has changed stays",
            Step::Rehearse { .. } => "the copies are removed, and what runs on them",
            Step::Migrator { held: true, .. } => {
                "the backup is put back: nothing was written since"
            }
            Step::Migrator { held: false, .. } => {
                "it is ended; the version before works with what it leaves, or a person is asked"
            }
            Step::Migrate { .. } => {
                "taken back where going up and down again left nothing behind; else the expansion stays"
            }
            Step::Launch { .. } => "the new instances are stopped",
            Step::Ready { .. } | Step::Drain | Step::Resume { settles: false } => "nothing to do",
            Step::StopWorkers => "the workers before are started again",
            Step::StartWorkers => "the new workers are stopped",
            Step::Switch => "requests go where they went before",
            Step::Provide { .. } => "the server is stopped if it was started here; its data stays",
            Step::Resume { settles: true }
            | Step::Retire { .. }
            | Step::Close
            | Step::StopGateway
            | Step::StopResources => "none",
        }
    }
}

impl fmt::Display for Step {
    /// The step's name in the journal, unique within a run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Gateway { .. } => f.write_str("gateway"),
            Step::Build { service } => write!(f, "build:{service}"),
            Step::Bake { environment, .. } => write!(f, "bake:{environment}"),
            Step::Image { service } => write!(f, "image:{service}"),
            Step::Pack => f.write_str("pack"),
            Step::Provide { resource, .. } => write!(f, "provide:{resource}"),
            Step::BackUp { resource } => write!(f, "back-up:{resource}"),
            Step::Migrate { resource, .. } => write!(f, "migrate:{resource}"),
            Step::Rehearse { .. } => f.write_str("rehearse"),
            Step::Migrator { resource, .. } => write!(f, "migrator:{resource}"),
            Step::Release { service } => write!(f, "release:{service}"),
            Step::Hold => f.write_str("hold"),
            Step::Resume { .. } => f.write_str("resume"),
            Step::TakeBack { resource, .. } => write!(f, "take-back:{resource}"),
            Step::Baseline { resource, .. } => write!(f, "baseline:{resource}"),
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
            Step::StopResources => f.write_str("stop-resources"),
        }
    }
}
