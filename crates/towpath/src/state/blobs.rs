//! Content-addressed files: sources that come in, artifacts that go out.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::Error;
use crate::id::Digest;

/// The moment of the call, as the file system has it.
const NOW: rustix::fs::Timespec = rustix::fs::Timespec {
    tv_sec: 0,
    tv_nsec: rustix::fs::UTIME_NOW,
};

/// The folder of blobs, each named by the SHA-256 of its content.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// The blobs of the state directory `state`.
    #[must_use]
    pub fn new(state: &Path) -> Blobs {
        Blobs {
            dir: state.join("blobs"),
        }
    }

    /// Where the blob is, or would be.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    /// Whether it is here, whole.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Whether it is here, whole; somebody is about to want it, so it is not taken for old.
    #[must_use]
    pub fn has_for_use(&self, digest: Digest) -> bool {
        let now = rustix::fs::Timestamps {
            last_access: NOW,
            last_modification: NOW,
        };
        let path = self.path(digest);
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::utimensat(rustix::fs::CWD, &path, &now, flags).is_ok() && path.is_file()
    }

    /// Begins a blob that is written piece by piece.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn incoming(&self) -> Result<Incoming, Error> {
        std::fs::create_dir_all(&self.dir).map_err(|error| Error::Io(self.dir.clone(), error))?;
        let tag = super::super::id::hex(&random()?);
        let path = self.dir.join(format!("incoming-{tag}"));
        let file = File::create_new(&path).map_err(|error| Error::Io(path.clone(), error))?;
        Ok(Incoming {
            file,
            path: Some(path),
            hash: sha2::Sha256::new(),
            dir: self.dir.clone(),
        })
    }
}

fn random() -> Result<[u8; 8], Error> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::Unreadable(error.to_string()))?;
    Ok(bytes)
}

/// A blob being written; removed when it is dropped unfinished.
pub struct Incoming {
    file: File,
    path: Option<PathBuf>,
    hash: sha2::Sha256,
    dir: PathBuf,
}

impl Incoming {
    /// Puts the blob in its place.
    ///
    /// # Errors
    /// [`Error::Digest`] when `expected` is given and is not what came; nothing is kept then.
    pub fn finish(mut self, expected: Option<Digest>) -> Result<Digest, Error> {
        let digest = Digest(std::mem::take(&mut self.hash).finalize().into());
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Error::Digest);
        }
        let io = |error| Error::Io(self.dir.clone(), error);
        self.file.sync_all().map_err(io)?;
        if let Some(path) = &self.path {
            std::fs::rename(path, self.dir.join(digest.to_string())).map_err(io)?;
        }
        self.path = None;
        sync_dir(&self.dir).map_err(io)?;
        Ok(digest)
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Writes a file whole: beside, synced, renamed, and its folder synced.
///
/// # Errors
/// From the file system; the old content stands then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Makes renames in a folder durable.
///
/// # Errors
/// From the file system.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
