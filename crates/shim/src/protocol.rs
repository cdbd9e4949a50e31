//! What crosses between a shim and whoever asks it: the start file and the control messages.
//!
//! The protocol is frozen: a shim started by one version of Towpath is spoken to by later ones, so
//! fields are only ever added, with a default. A message is one line of JSON on the control socket
//! (a unix stream socket); each request gets exactly one reply line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The environment variable every process of a tree inherits; its value is [`Spec::mark`].
pub const MARK: &str = "TOWPATH_MARK";

/// The start file, `spec.json` in the shim's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Unique over all environments of the machine; how remains of a tree are found, together with
    /// a limit that is made of it.
    pub mark: String,
    /// The program (an absolute path, or found through `env["PATH"]`) and its arguments.
    pub argv: Vec<String>,
    /// The whole environment of the child; nothing else is inherited.
    pub env: BTreeMap<String, String>,
    /// Working directory of the child.
    pub cwd: PathBuf,
    /// User and group to run as; `None` keeps the shim's own.
    #[serde(default)]
    pub user: Option<User>,
    /// TCP addresses that the shim binds, keeps, and passes from descriptor 3 on (`LISTEN_FDS`).
    #[serde(default)]
    pub listen: Vec<String>,
    /// What happens when the child ends by itself.
    pub restart: Restart,
    /// How the tree is ended.
    pub stop: Stop,
    /// Where output goes.
    pub log: Log,
    /// The control socket's path, at most 100 bytes.
    pub socket: PathBuf,
    /// Whether [`Handed`] comes on standard input.
    #[serde(default)]
    pub handed: bool,
}

/// What no file may hold: one JSON value on the shim's standard input, up to its end.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// Further environment of the child.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Texts that the log may not hold; `[secret]` stands in their place. One that goes over a
    /// line break cannot be found.
    #[serde(default)]
    pub conceal: Vec<String>,
}

/// Numeric user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id; supplementary groups are dropped.
    pub gid: u32,
}

/// When and how fast an ended child is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Which endings lead to a new start.
    pub policy: Policy,
    /// First pause, doubled at each further start, milliseconds.
    pub backoff_ms: u64,
    /// The longest pause, milliseconds.
    pub backoff_max_ms: u64,
    /// More starts than this within [`Restart::within_ms`] and the shim gives up.
    pub limit: u32,
    /// The span that `limit` counts in, milliseconds; a child that lived this long resets the pause.
    pub within_ms: u64,
}

/// Which endings lead to a new start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// One run: builds, hooks, migrations.
    Never,
    /// After a non-zero status or a signal.
    OnFailure,
    /// After any ending that was not asked for.
    Always,
}

/// How the tree is ended: the signal to the whole tree, then SIGKILL for what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Signal number, usually 15.
    pub signal: i32,
    /// Time between the signal and SIGKILL, milliseconds.
    pub grace_ms: u64,
}

/// A log that rotates by size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The current file; older ones are `PATH.1` (newest) to `PATH.keep`.
    pub path: PathBuf,
    /// Size at which it rotates, bytes.
    pub max_bytes: u64,
    /// Rotated files kept.
    pub keep: u32,
}

/// What can be asked of a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// The state now.
    Status,
    /// Answered when the shim has nothing left to run: after the last child and descendant.
    Wait,
    /// End the tree and the shim; answered when no descendant is left.
    Stop {
        /// Instead of the spec's grace, milliseconds.
        grace_ms: Option<u64>,
    },
    /// Start a second child with these arguments beside the first, on the same listeners. The first
    /// is no longer restarted; it ends by itself (it is told to by other means) or with the shim.
    /// The new one is what is restarted from now on.
    Replace {
        /// As [`Spec::argv`].
        argv: Vec<String>,
    },
}

/// The one answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Reply {
    /// To `Status`, `Wait` and `Stop`.
    Status(Status),
    /// To `Replace`: the new child's pid.
    Replaced {
        /// Process id.
        pid: u32,
    },
    /// The request could not be carried out; nothing changed.
    Refused {
        /// Why, a lower-case fragment.
        why: String,
    },
}

/// What a shim knows of its tree. Also written, whole, to `exit.json` when the shim ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The shim's own process id.
    pub shim_pid: u32,
    /// Where the main child stands.
    pub state: State,
    /// Starts after the first.
    pub restarts: u32,
    /// The last ending of a main child, if any.
    pub last_exit: Option<Exit>,
    /// Processes of the tree, the main child first.
    pub pids: Vec<u32>,
    /// CPU time of the tree now and of children that were reaped, milliseconds.
    pub cpu_ms: u64,
    /// Resident memory of the tree, bytes.
    pub rss_bytes: u64,
    /// What could not be written to the log.
    pub log: LogLoss,
    /// It was told to stop, by request or by signal: what ended did not end by itself.
    #[serde(default)]
    pub stopped: bool,
}

/// Where the main child stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum State {
    /// Alive.
    Running {
        /// Process id.
        pid: u32,
        /// Unix time of its start, milliseconds.
        since_ms: u64,
    },
    /// Ended; a new start is due.
    Backoff {
        /// Time left, milliseconds.
        left_ms: u64,
    },
    /// Being stopped.
    Stopping,
    /// Ended for good.
    Ended,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, when it ended by itself.
    pub code: Option<i32>,
    /// Signal number, when a signal ended it.
    pub signal: Option<i32>,
    /// Why it could not be started at all (no such program, no permission).
    pub start_error: Option<String>,
    /// Descendants still alive when the main process ended: it daemonizes.
    pub left: u32,
    /// Unix time, milliseconds.
    pub at_ms: u64,
}

/// Output that is not in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLoss {
    /// Lines dropped because writing failed.
    pub lines: u64,
    /// Bytes dropped because writing failed.
    pub bytes: u64,
}
