//! Folders of dependencies, kept from one build to the next with the same lock files.
//!
//! They are copied (by reference where the file system can), never hard-linked: a build that
//! writes into its own copy must not change another's.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;
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

fn place(state: &Path, dir: &Path, folder: &Path) -> PathBuf {
    let mut key = format!("{}\n", folder.display());
    for name in LOCK_FILES {
        if let Ok(bytes) = std::fs::read(dir.join(name)) {
            key.push_str(&format!("{name} {}\n", Digest::of(&bytes)));
        }
    }
    state
        .join("cache")
        .join(hex(&Digest::of(key.as_bytes()).0[..8]))
}

/// Copies what was kept into `dir/folder`; nothing when there is nothing, or `folder` is already there.
///
/// # Errors
/// When the copy fails.
pub fn restore(state: &Path, dir: &Path, folder: &Path) -> Result<(), Error> {
    let from = place(state, dir, folder);
    let to = dir.join(folder);
    if from.is_dir() && !to.exists() {
        copy(&from, &to)
    } else {
        Ok(())
    }
}

/// Keeps `dir/folder` for the next build.
///
/// # Errors
/// When the copy fails; what was kept before stays.
pub fn store(state: &Path, dir: &Path, folder: &Path) -> Result<(), Error> {
    let (from, to) = (dir.join(folder), place(state, dir, folder));
    if !from.is_dir() {
        return Ok(());
    }
    let io = |error| Error::Io(to.clone(), error);
    std::fs::create_dir_all(state.join("cache")).map_err(io)?;
    let (fresh, old) = (to.with_extension("new"), to.with_extension("old"));
    let _ = std::fs::remove_dir_all(&fresh);
    let _ = std::fs::remove_dir_all(&old);
    copy(&from, &fresh)?;
    if to.exists() {
        std::fs::rename(&to, &old).map_err(io)?;
    }
    std::fs::rename(&fresh, &to).map_err(io)?;
    let _ = std::fs::remove_dir_all(&old);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let io = |error| Error::Io(to.to_owned(), error);
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(io)?;
    }
    let output = Command::new("cp")
        .args(["-a", "--reflink=auto", "--"])
        .arg(from)
        .arg(to)
        .output()
        .map_err(io)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io(std::io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))),
    }
}
