//! What is known of a container that runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towpath_shim::tree;

use crate::state::write_whole;

/// A container that runs, as our program left word of it; `container.pid` in the folder of its shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The engine's name for it.
    pub id: String,
    /// Its first process, and those by which the engine serves its port; each with its start, in
    /// clock ticks after boot.
    pub roots: Vec<(u32, u64)>,
}

impl Running {
    fn path(dir: &Path) -> PathBuf {
        dir.join("container.pid")
    }

    pub(super) fn write(&self, dir: &Path) -> std::io::Result<()> {
        write_whole(&Running::path(dir), &serde_json::to_vec(self)?)
    }

    /// What is known of the instance whose shim has this folder.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Running> {
        let text = std::fs::read(Running::path(dir)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn forget(dir: &Path) {
        // One that stays is of processes that are gone, and names nobody.
        let _ = std::fs::remove_file(Running::path(dir));
    }

    /// The roots that live, and none that has come after them under the same number.
    #[must_use]
    pub fn alive(&self) -> Vec<u32> {
        let lives = |(pid, start): &&(u32, u64)| tree::start_time(*pid) == Some(*start);
        self.roots
            .iter()
            .filter(lives)
            .map(|(pid, _)| *pid)
            .collect()
    }

    /// Its processes, and those of the engine that serve its port.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let alive = self.alive();
        let below = alive.iter().flat_map(|pid| tree::members(*pid));
        alive.iter().copied().chain(below).collect()
    }
}
