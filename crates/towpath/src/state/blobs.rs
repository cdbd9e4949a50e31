//! Content-addressed files: sources that come in, artifacts that go out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::Digest as _;

use super::Error;
use super::partial::{Partial, Receivers};
use super::room::Limit;
use super::whole::sync_dir;
use crate::clock::Clock;
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
    /// Who receives what.
    receivers: Arc<Mutex<Receivers>>,
    /// What somebody was about to want, and when by the boot clock, milliseconds: whoever sets the
    /// wall clock makes nothing older.
    touched: Arc<Mutex<BTreeMap<Digest, i64>>>,
    clock: Clock,
}

/// A blob comes before the run that wants it; for so long it is left, milliseconds.
const FRESH: i64 = 3_600_000;

impl Blobs {
    /// The blobs of the state directory `state`. Those that were written within the last hour
    /// count as written now.
    #[must_use]
    pub fn new(state: &Path, clock: Clock) -> Blobs {
        let blobs = Blobs {
            dir: state.join("blobs"),
            receivers: Arc::default(),
            touched: Arc::default(),
            clock,
        };
        for (digest, path) in named(&blobs.dir) {
            if blobs.is_young(&path) {
                blobs.touch(digest);
            }
        }
        blobs
    }

    /// Whether somebody may be about to want it.
    #[must_use]
    pub fn is_fresh(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        let digest = name.and_then(|name| name.parse::<Digest>().ok());
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let at = digest.and_then(|digest| touched.get(&digest));
        at.is_some_and(|at| self.clock.boot_ms() - at < FRESH) || self.is_young(path)
    }

    fn is_young(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let written = std::fs::symlink_metadata(path).map_or(i64::MAX, |found| found.mtime());
        written >= (self.clock.wall_ms() - FRESH) / 1000
    }

    /// Somebody is about to want it.
    pub(super) fn touch(&self, digest: Digest) {
        let now = self.clock.boot_ms();
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        touched.retain(|_, at| now - *at < FRESH);
        touched.insert(digest, now);
    }

    /// What has come of blobs that are not whole, bytes each.
    pub(super) fn parts(&self) -> Vec<(Digest, u64)> {
        sizes(&self.dir.join("partial"))
    }

    /// What the whole blobs weigh that are none of `needed`.
    #[must_use]
    pub fn unneeded(&self, needed: &BTreeSet<Digest>) -> u64 {
        let all = sizes(&self.dir).into_iter();
        let others = all.filter(|(digest, _)| !needed.contains(digest));
        others.map(|(_, bytes)| super::weight(bytes)).sum()
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
    /// [`Error::Offset`] when so many have not come; [`Error::Room`] and [`Error::Share`] when it
    /// would be too much, and nothing is kept then; from the file system.
    pub fn receive(&self, digest: Digest, offset: u64, limit: Limit) -> Result<Partial, Error> {
        Partial::open(self, digest, offset, limit)
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

    pub(super) fn receivers(&self) -> std::sync::MutexGuard<'_, Receivers> {
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
        self.touch(digest);
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
            blobs: self.clone(),
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
    blobs: Blobs,
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
        let io = |error| Error::Io(self.blobs.dir.clone(), error);
        self.file.sync_all().map_err(io)?;
        if let Some(path) = &self.path {
            std::fs::rename(path, self.blobs.path(digest)).map_err(io)?;
        }
        sync_dir(&self.blobs.dir).map_err(io)?;
        self.blobs.touch(digest);
        self.path = None;
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

/// The files that are named by a digest.
fn named(dir: &Path) -> impl Iterator<Item = (Digest, PathBuf)> {
    entries(dir).into_iter().filter_map(|path| {
        let digest = path.file_name()?.to_str()?.parse().ok()?;
        Some((digest, path))
    })
}

fn sizes(dir: &Path) -> Vec<(Digest, u64)> {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    named(dir)
        .map(|(digest, path)| (digest, size(&path)))
        .collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
