//! What a command says to an agent, and what it hears.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/hello` | | [`Hello`] |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/health` | | [`HealthStatus`], or `null` while nothing serves |
//! | `GET /v1/metrics` | | [`MetricsText`] |
//! | `POST /v1/runs` | [`Begin`] | [`Begun`] |
//! | `GET /v1/runs/d7/rows` | | journal rows of that run, one JSON object a line, until it ends |
//! | `POST /v1/cancel` | | [`Begun`] |
//! | `POST /v1/schemas` | [`LookAtSchemas`] | list of `SchemaStatus` |
//! | `POST /v1/gc` | [`Collect`] | `Collected` |
//! | `GET /v1/releases` | | list of [`ReleaseStatus`] |
//! | `GET /v1/releases/r4` | | `StoredRelease` |
//! | `POST /v1/releases` | [`Offer`] | [`Accepted`] |
//! | `HEAD`, `GET`, `PUT /v1/blobs/DIGEST` | bytes | bytes |
//! | `GET /v1/logs?service=web&lines=100&follow=1` | | [`LogLine`], one JSON object a line |
//! | the same with `&from=web-1@PLACE`, once a log | | from those places on |
//! | `GET /v1/secrets` | | [`SecretsStatus`] |
//! | `POST /v1/secrets` | [`TakeSecrets`] | nothing |
//! | `GET /v1/secrets/audit` | | [`AuditRows`] |
//! | `GET /v1/secrets/holders` | | list of [`Holder`] |
//! | `GET /v1/logins/db` | | `LoginStatus` |
//! | `POST /v1/logins/db` | [`MoveLogin`] | nothing |
//! | `GET /v1/drift` | | list of `Drift` |
//! | `POST /v1/maintenance` | [`SetMaintenance`] | [`MaintenanceSet`] |
//! | `POST /v1/exit` | | nothing; services go on running |
//! | `POST /v1/upgrade` | [`Upgrade`] | nothing |
//!
//! What goes wrong is answered with a status of 400 and more, and a [`Trouble`].

mod health;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::build::Source;
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, InstanceId, ReleaseId, RunId};
use crate::release::{Explained, LoginMove, Maintenance, Migrating, Plan, Sabotage, Tree, Version};
use crate::secret::Head;
use crate::secret::rotation::Given;

pub use health::{Component, HealthStatus, Past, Word};
pub use status::{
    CertificateStatus, EndedRun, InstanceStatus, JobEnd, JobStatus, RunStatus, Status,
    TrafficStatus, VersionStatus,
};

/// What went wrong, and the exit code that says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Exit code of the command.
    pub exit: u8,
    /// What failed, what is true now, what to do next.
    pub diagnostic: Diagnostic,
}

/// Who reads an environment's secrets on its machine, and which it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsStatus {
    /// The agent's own contact: what others encrypt to.
    pub contact: String,
    /// Generation of what came last; 0 when nothing did.
    pub generation: u64,
    /// Version of each secret.
    pub versions: BTreeMap<String, u32>,
}

/// The encrypted secrets of the environment, as `tow.secrets.toml` has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeSecrets {
    /// The text of its part of the file.
    pub text: String,
}

/// An instance that runs, and the secrets that it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The instance.
    pub instance: InstanceId,
    /// Version of each, by name.
    pub given: Given,
}

/// Make a step in the rotation of a database's password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveLogin {
    /// Which.
    pub step: LoginMove,
    /// Who asks.
    pub actor: String,
}

/// The chain of who was given which secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRows {
    /// The rows, as they are in the file.
    pub rows: Vec<String>,
    /// The signed head.
    pub head: Option<Head>,
    /// The key that checks it.
    pub key: String,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's build.
    pub version: String,
    /// What it speaks: [`crate::link::PROTOCOL`].
    pub protocol: u32,
}

/// Begin a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// What it is to do.
    pub what: What,
    /// Who asks.
    pub actor: String,
    /// Only plan, and say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// What a dry run plans with in the place of the secrets that are kept, as in [`TakeSecrets`]; it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<String>,
    /// Also where the very release serves already: its instances are started anew.
    #[serde(default)]
    pub again: bool,
    /// A planted fault; only in a rehearsal.
    #[serde(default)]
    pub sabotage: Option<Sabotage>,
    /// What this asking is known by: said twice, it begins one run.
    #[serde(default)]
    pub token: Option<String>,
}

impl Begin {
    /// Asks for `what`, once.
    #[must_use]
    pub fn new(what: What, actor: String) -> Begin {
        Begin {
            what,
            actor,
            dry_run: false,
            secrets: None,
            again: false,
            sabotage: None,
            token: crate::id::token(),
        }
    }
}

/// What a run is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// Run the source tree at `root`.
    Up {
        /// Folder of the manifest.
        root: PathBuf,
        /// The manifest.
        manifest: String,
    },
    /// Stop everything; data stays.
    Down,
    /// Build a source archive that was sent before, and bring it in.
    Deploy {
        /// Digest of the archive.
        tree: Digest,
        /// Where it came from.
        source: Source,
    },
    /// Bring in a release that was built elsewhere and accepted before.
    Promote {
        /// Its number here.
        release: ReleaseId,
    },
    /// Go back.
    Rollback {
        /// To this release; to the last good one when absent.
        to: Option<ReleaseId>,
    },
    /// Start what serves anew, in its own place.
    Restart {
        /// Stop the warm version, whose window is not over, too.
        #[serde(default)]
        ends_window: bool,
    },
    /// Apply migrations, take them back or count them.
    Migrate {
        /// Which.
        how: Migrating,
        /// Of this resource; of all when absent.
        #[serde(default)]
        resource: Option<String>,
        /// Those of a source tree; of the version that serves when absent.
        #[serde(default)]
        tree: Option<Tree>,
    },
}

/// How do the schemas stand?
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookAtSchemas {
    /// Against a source tree's migrations; against those of the version that serves when absent.
    #[serde(default)]
    pub tree: Option<Tree>,
}

/// Remove what is not needed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// Only say what.
    #[serde(default)]
    pub dry_run: bool,
}

/// Put maintenance in force, or end it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetMaintenance {
    /// Whether it is to be in force.
    pub on: bool,
    /// What the page says; words of the gateway's own when `None`.
    #[serde(default)]
    pub message: Option<String>,
    /// When clients are told to come again, seconds.
    #[serde(default)]
    pub retry_after_s: u32,
    /// Who says so.
    pub actor: String,
    /// Only say what.
    #[serde(default)]
    pub dry_run: bool,
}

/// Maintenance as it was, and is, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MaintenanceSet {
    /// As it was.
    pub before: Option<Maintenance>,
    /// As it is.
    pub now: Option<Maintenance>,
    /// Whether there is a gateway that answers.
    pub serving: bool,
}

/// A run has begun, or would.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Begun {
    /// The run.
    pub run: RunId,
    /// Its steps, by name.
    pub steps: Vec<String>,
    /// The version that comes in.
    pub to: Option<String>,
    /// The version that goes.
    pub from: Option<String>,
    /// What going back costs (roll-back only).
    pub price: Option<String>,
    /// What changes in the schemas, a line each.
    #[serde(default)]
    pub changes: Vec<String>,
    /// The release that serves already: nothing was begun, and `run` is the last one.
    #[serde(default)]
    pub already: Option<ReleaseId>,
    /// What each step means for the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained: Option<Explained>,
    /// Rows up to this number are of before it was asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: i64,
}

impl Begun {
    /// A run of `plan`, from its first step.
    #[must_use]
    pub fn of(plan: &Plan, price: Option<String>) -> Begun {
        Begun {
            run: plan.run,
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            to: plan.new.as_ref().map(Version::name),
            from: plan.old.as_ref().map(Version::name),
            price,
            already: None,
            changes: plan.changes.clone(),
            explained: Some(plan.explain()),
            after: 0,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A release that was built elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The record, JSON.
    pub record: String,
    /// Its signature.
    pub signature: String,
    /// The key it was signed with.
    pub key: String,
}

/// A release was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Accepted {
    /// Its number here.
    pub release: ReleaseId,
    /// The artifacts that are not here yet.
    pub missing: Vec<Digest>,
}

/// Become another build of the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// Path of that build.
    pub tow: PathBuf,
}

/// A release, in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseStatus {
    /// Its number here.
    pub release: ReleaseId,
    /// Digest of its record, the same everywhere.
    pub digest: Digest,
    /// Where it was built.
    pub built_in: String,
    /// Digests of its artifacts.
    #[serde(default)]
    pub artifacts: BTreeMap<String, Digest>,
    /// By environment, those that stand there in the place of these, because a value is baked in.
    #[serde(default)]
    pub baked: BTreeMap<String, BTreeMap<String, Digest>>,
    /// What it was built from.
    pub source: Source,
    /// When it was kept, Unix milliseconds.
    pub kept_ms: i64,
    /// `live`, `warm`, or what became of its last run: `served`, `undone`, `not deployed`.
    pub state: String,
}

/// A logged line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLine {
    /// Whose.
    pub instance: InstanceId,
    /// The line, with its time and channel.
    pub line: String,
    /// How far its log is read with it, when logs are followed: `from=web-1@PLACE` goes on there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// It is no line, and only says how far that log is read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_place: bool,
}

/// The metrics of an environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MetricsText {
    /// As Prometheus reads them.
    pub text: String,
}
