//! From a committed tree to artifacts: content-addressed folders, built where they stay.
//!
//! A build's folder is named by what goes into it, so the same source is never built twice, and
//! it is never renamed, because tools write its path into what they make. The file `built` is
//! written last: a folder without it is an attempt that a crash cut off, and is made anew.
//!
//! Where builds have a user of their own, a tree is given to that user while it is built, and taken
//! back before anything of it is read, packed or marked (`tree`).

mod artifact;
mod cache;
mod reach;
mod source;
mod tree;
mod unpack;

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use artifact::pack;
pub use cache::Cache;
pub use reach::{Reach, look, reaches, writes};
pub use source::{
    Source, commit_all, commit_named, commit_of, compress, pack_head, pack_revision, plain,
};
pub use tree::{give, inside, migrations_in, read, remove, take};
pub use unpack::unpack;

use crate::id::Digest;

/// Why there is no build.
#[derive(Debug)]
pub enum Error {
    /// From the file system.
    Io(PathBuf, std::io::Error),
    /// `git` could not say what is committed.
    Git(String),
    /// There are changes that are not committed.
    Dirty(Vec<String>),
    /// An archive with something that must not be unpacked.
    Hostile(String),
    /// A file of the artifact is not there after the build.
    NoArtifact(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Git(text) => write!(f, "git: {text}"),
            Error::Dirty(files) => {
                let count = match files.len() {
                    1 => "1 file is".to_owned(),
                    count => format!("{count} files are"),
                };
                write!(f, "{count} not committed: {}", files.join(", "))
            }
            Error::Hostile(what) => write!(f, "archive refused: {what}"),
            Error::NoArtifact(path) => {
                write!(f, "`{}` is not there after the build", path.display())
            }
        }
    }
}

impl std::error::Error for Error {}

/// The file that a finished build is known by.
const BUILT: &str = ".towpath-built";

/// The folder that a build of this digest lives in.
#[must_use]
pub fn folder(state: &Path, id: Digest) -> PathBuf {
    state.join("builds").join(id.short())
}

/// Whether the folder holds a finished build. What a build has written in its own folder says nothing.
#[must_use]
pub fn is_built(folder: &Path) -> bool {
    let own = |found: &std::fs::Metadata| found.uid() == rustix::process::geteuid().as_raw();
    let found = |path: &Path| path.symlink_metadata().ok().filter(own);
    found(folder).is_some() && found(&folder.join(BUILT)).is_some_and(|mark| mark.is_file())
}

/// Says that the folder is whole; everything in it is on disk before.
///
/// # Errors
/// From the file system.
pub fn mark_built(folder: &Path) -> Result<(), Error> {
    let path = folder.join(BUILT);
    let io = |error| Error::Io(path.clone(), error);
    let tree = std::fs::File::open(folder).map_err(io)?;
    rustix::fs::syncfs(&tree).map_err(|error| io(error.into()))?;
    crate::state::write_whole(&path, b"").map_err(io)
}
