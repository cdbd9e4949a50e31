//! Content-addressed files: sources that come in, artifacts that go out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::Digest as _;

use super::Error;
use super::partial::Partial;
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
    /// Who receives what, by a number that only the latest has.
    pub(super) receivers: Receivers,
}

/// The latest receiver of each blob that is under way.
pub(super) type Receivers = Arc<Mutex<BTreeMap<Digest, u64>>>;

impl Blobs {
    /// The blobs of the state directory `state`.
    #[must_use]
    pub fn new(state: &Path) -> Blobs {
        Blobs {
            dir: state.join("blobs"),
            receivers: Receivers::default(),
        }
    }

    /// Where it is kept while it comes in from elsewhere.
    pub(super) fn partial_path(&self, digest: Digest) -> PathBuf {
        self.dir.join("partial").join(digest.to_string())
    }

    /// How many bytes of it have come so far; none of them count before all have.
    #[must_use]
    pub fn has_part(&self, digest: Digest) -> u64 {
        std::fs::metadata(self.partial_path(digest)).map_or(0, |found| found.len())
    }

    /// Goes on with a blob that comes in from elsewhere, behind its first `offset` bytes. Who
    /// received it until now does so no longer: its connection is one that broke.
    ///
    /// # Errors
    /// [`Error::Offset`] when so many have not come; from the file system.
    pub fn receive(&self, digest: Digest, offset: u64) -> Result<Partial, Error> {
        Partial::open(self, digest, offset)
    }

    /// Removes what crashes have left. Only while nothing is being written.
    pub fn tidy(&self) {
        let cut_off = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("incoming-")
        };
        for path in entries(&self.dir).into_iter().filter(cut_off) {
            // One that stays takes room, and no more.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Removes parts of blobs that nobody has gone on with for `age_ms`.
    pub fn forget_parts(&self, now_ms: i64, age_ms: i64) {
        let old = |path: &PathBuf| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(path).is_ok_and(|found| found.mtime() * 1000 < now_ms - age_ms)
        };
        for path in entries(&self.dir.join("partial")).into_iter().filter(old) {
            let _ = std::fs::remove_file(path);
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn receivers(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, u64>> {
        self.receivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
