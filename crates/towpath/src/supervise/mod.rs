//! Supervision: every process runs under a shim of its own, and this is who talks to the shims.
//!
//! Launching and stopping are idempotent, because after a crash of the agent either may be asked
//! for again. An instance that should run is *tended*: its shim is asked how it is, its steady
//! probe is put, and where the shim itself is gone (somebody killed it) what remains of the tree
//! is killed and the instance is launched anew. An agent that starts adopts what runs by talking
//! to the shims that are there; nothing is started twice, because a shim locks its folder.

mod inherit;
mod launch;
mod listening;
mod logs;
mod probe;
mod process;
mod ready;
mod sockets;
mod tend;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use towpath_shim::protocol::Status;

pub use inherit::reap_inherited;
pub use logs::tail;
pub use probe::{Asked, Question};
pub use process::{Places, Process};
pub use ready::{NotReady, Readiness};
pub use sockets::{Owner, free_port, owner};
pub use tend::Health;

use crate::container;
use crate::id::InstanceId;
use crate::secret;
use tend::Tended;

/// Why a process could not be started or stopped.
#[derive(Debug)]
pub enum Error {
    /// From the file system, with the path concerned.
    Io(PathBuf, std::io::Error),
    /// The shim did not come up.
    Shim(InstanceId, String),
    /// The shim did not answer in time.
    Silent(InstanceId),
    /// It could not be given its secrets.
    Secret(InstanceId, secret::Error),
    /// Its container could not be ended.
    Container(InstanceId, container::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Shim(id, why) => write!(f, "the shim of `{id}` did not come up: {why}"),
            Error::Silent(id) => write!(f, "the shim of `{id}` does not answer"),
            Error::Secret(id, error) => {
                write!(f, "the secrets of `{id}` could not be handed over: {error}")
            }
            Error::Container(id, error) => {
                write!(f, "the container of `{id}` could not be ended: {error}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// The processes of one environment.
pub struct Supervisor {
    places: Places,
    tended: Mutex<BTreeMap<InstanceId, Tended>>,
    turns: Mutex<BTreeMap<InstanceId, Arc<Turn>>>,
    locks: Mutex<BTreeMap<InstanceId, PathBuf>>,
}

/// Starting and stopping of one instance come one after the other.
type Turn = tokio::sync::Mutex<()>;

impl Supervisor {
    /// Starts with nothing tended.
    #[must_use]
    pub fn new(places: Places) -> Arc<Supervisor> {
        Arc::new(Supervisor {
            places,
            tended: Mutex::default(),
            turns: Mutex::default(),
            locks: Mutex::default(),
        })
    }

    /// Where its files are.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// From now on the lock file of `id` is taken away whenever it is started and nothing of it is alive: the number in
    /// one that a killed server has left may be another process's by now, and it would not start for as long as that
    /// one runs.
    pub fn unlock(&self, id: &InstanceId, lock: PathBuf) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.insert(id.clone(), lock);
    }

    fn lock_of(&self, id: &InstanceId) -> Option<PathBuf> {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.get(id).cloned()
    }

    /// How each tended instance is.
    #[must_use]
    pub fn health(&self) -> BTreeMap<InstanceId, Health> {
        self.tended()
            .iter()
            .map(|(id, tended)| (id.clone(), tended.health()))
            .collect()
    }

    /// The instances that have a folder here, whether they run or not.
    #[must_use]
    pub fn known(&self) -> Vec<InstanceId> {
        let entries = std::fs::read_dir(self.places.runs())
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| InstanceId(entry.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    async fn turn(&self, id: &InstanceId) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Every run of a job is an instance of its own, and comes once.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(id.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }

    fn tended(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Tended>> {
        self.tended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole life of a shim, whose folder this is.
///
/// # Errors
/// When it could not start what it was to start.
pub fn shim(dir: &std::path::Path) -> Result<(), towpath_shim::Error> {
    towpath_shim::run(dir)
}

/// Whether a status is of a tree that is still at work.
#[must_use]
pub fn is_running(status: &Status) -> bool {
    matches!(status.state, towpath_shim::protocol::State::Running { .. })
}
