//! Folders of dependencies, kept from one build to the next with the same lock files.
//!
//! They are copied (by reference where the file system can), never hard-linked: a build that
//! writes into its own copy must not change another's. Where builds have a user of their own, it
//! is that user who copies: what a build has put there leads it nowhere that it could not go itself.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use towpath_shim::protocol::User;

use super::{Error, tree};
use crate::id::{Digest, hex};

const LOCK_FILES: [&str; 12] = [
    "Cargo.lock",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "requirements.txt",
    "poetry.lock",
    "uv.lock",
    "Pipfile.lock",
    "go.sum",
    "Gemfile.lock",
];

/// More than any lock file has.
const LONGEST_LOCK: u64 = 64 << 20;

/// A folder of a service that is kept, as the lock files stand before its build.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    kept: PathBuf,
    user: Option<User>,
}

impl Cache {
    /// The folder `folder` of the service in `dir` of the tree `root`. It is copied as `user`.
    #[must_use]
    pub fn new(
        state: &Path,
        (root, dir): (&Path, &Path),
        folder: &Path,
        user: Option<User>,
    ) -> Cache {
        let mut key = format!("{}\n", folder.display());
        for name in LOCK_FILES {
            if let Ok(bytes) = tree::read(root, &dir.join(name), LONGEST_LOCK) {
                key.push_str(&format!("{name} {}\n", Digest::of(&bytes)));
            }
        }
        let kept = state
            .join("cache")
            .join(hex(&Digest::of(key.as_bytes()).0[..8]));
        Cache {
            folder: root.join(dir).join(folder),
            kept,
            user,
        }
    }

    /// Copies what was kept into the tree; nothing when there is nothing, or the folder is already there.
    ///
    /// # Errors
    /// When the copy fails.
    pub fn restore(&self) -> Result<(), Error> {
        if !self.kept.is_dir() || self.folder.symlink_metadata().is_ok() {
            return Ok(());
        }
        if let Some(parent) = self.folder.parent() {
            self.run("mkdir", &["-p", "--"], &[parent])?;
        }
        self.copy(&self.kept, &self.folder)
    }

    /// Keeps the folder for the next build.
    ///
    /// # Errors
    /// When the copy fails; what was kept before stays.
    pub fn store(&self) -> Result<(), Error> {
        let to = &self.kept;
        if !self.folder.is_dir() {
            return Ok(());
        }
        let io = |error| Error::Io(to.clone(), error);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let (fresh, old) = (to.with_extension("new"), to.with_extension("old"));
        tree::remove(&fresh).map_err(io)?;
        tree::remove(&old).map_err(io)?;
        self.copy(&self.folder, &fresh)?;
        if to.symlink_metadata().is_ok() {
            std::fs::rename(to, &old).map_err(io)?;
        }
        std::fs::rename(&fresh, to).map_err(io)?;
        // What is left takes room, and the next build removes it.
        let _ = tree::remove(&old);
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.run("cp", &["-a", "--reflink=auto", "--"], &[from, to])
    }

    fn run(&self, program: &str, options: &[&str], paths: &[&Path]) -> Result<(), Error> {
        let mut command = Command::new(program);
        command.args(options).args(paths).stdin(Stdio::null());
        if let Some(user) = self.user {
            // Groups that root is in are left with that. And whoever runs a program sees its variables.
            let path = std::env::var_os("PATH");
            command.uid(user.uid).gid(user.gid).current_dir("/");
            command.env_clear().envs(path.map(|path| ("PATH", path)));
        }
        let io = |error| Error::Io(self.folder.clone(), error);
        let output = command.output().map_err(io)?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io(std::io::Error::other(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ))),
        }
    }
}
