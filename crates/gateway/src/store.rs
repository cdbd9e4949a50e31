//! The state that outlives the process: the table in force, and whether the gateway is closed.
//!
//! A file is a line with a check sum, then JSON. A new generation is written beside, synced and renamed, and the one
//! before is kept; so whatever byte a writer stops at, one of the two is whole. The file that was found broken is never
//! made the one before. Two gateways may read the same file while one takes over from the other, but only the one
//! that holds the lock beside it writes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api;
use crate::random::hex;

const MAGIC: &str = "towpath-gateway 1";

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Raised at every write.
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) label: String,
    pub(crate) closed: bool,
    pub(crate) table: api::Table,
}

/// What was found at the start.
#[derive(Debug)]
pub(crate) enum Found {
    /// No file: the first start.
    Nothing,
    /// The last state, or the one before it.
    State(Kept),
    /// There are files and none is whole.
    Broken,
}

/// Why a write failed.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// Another gateway writes this file.
    Busy,
    /// Another gateway has written it since this one read it.
    Stale,
    /// This one has handed over.
    Retired,
    Io(io::Error),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The file and its writer's lock.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    lock: Option<File>,
    /// Sequence of the last state read or written.
    sequence: u64,
    /// Whether the present file was whole when last seen, so that it may become the one before.
    whole: bool,
    retired: bool,
}

impl Store {
    /// Read what there is. Broken files are no error; unreadable ones are.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Found)> {
        let (found, whole) = look(path)?;
        let sequence = match &found {
            Found::State(kept) => kept.sequence,
            _ => 0,
        };
        Ok((
            Self {
                path: path.to_owned(),
                lock: None,
                sequence,
                whole,
                retired: false,
            },
            found,
        ))
    }

    /// Make `kept` the state that a later start finds; durable on return. Its sequence is filled in.
    pub(crate) fn write(&mut self, mut kept: Kept) -> Result<(), StoreError> {
        self.take_lock()?;
        kept.sequence = self.sequence + 1;
        let beside = beside(&self.path, "new");
        let mut file = File::create(&beside)?;
        file.write_all(&encode(&kept)?)?;
        file.sync_all()?;
        if self.whole {
            fs::rename(&self.path, before(&self.path))?;
            self.whole = false;
        }
        fs::rename(&beside, &self.path)?;
        self.whole = true;
        self.sequence = kept.sequence;
        sync_folder(&self.path)?;
        Ok(())
    }

    /// Let another gateway write, and never write again.
    pub(crate) fn retire(&mut self) {
        self.lock = None;
        self.retired = true;
    }

    fn take_lock(&mut self) -> Result<(), StoreError> {
        if self.retired {
            return Err(StoreError::Retired);
        }
        if self.lock.is_some() {
            return Ok(());
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(beside(&self.path, "lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| StoreError::Busy)?;
        let (found, whole) = look(&self.path)?;
        match found {
            Found::State(kept) if kept.sequence > self.sequence => return Err(StoreError::Stale),
            _ => self.whole = whole,
        }
        self.lock = Some(file);
        Ok(())
    }
}

/// The present state if it is whole, else the one before; and whether the present one is.
fn look(path: &Path) -> io::Result<(Found, bool)> {
    let present = read(path)?;
    if let Look::Whole(kept) = present {
        return Ok((Found::State(kept), true));
    }
    let found = match (present, read(&before(path))?) {
        (_, Look::Whole(kept)) => Found::State(kept),
        (Look::Absent, Look::Absent) => Found::Nothing,
        _ => Found::Broken,
    };
    Ok((found, false))
}

enum Look {
    Absent,
    Broken,
    Whole(Kept),
}

fn read(path: &Path) -> io::Result<Look> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Absent),
        Err(error) => return Err(error),
    };
    Ok(decode(&bytes).map_or(Look::Broken, Look::Whole))
}

fn encode(kept: &Kept) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(kept)?;
    let mut bytes =
        format!("{MAGIC} {} {}\n", json.len(), hex(&Sha256::digest(&json))).into_bytes();
    bytes.extend(json);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<Kept> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (head, json) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    let expected = format!("{MAGIC} {} {}", json.len(), hex(&Sha256::digest(json)));
    (head == expected).then(|| serde_json::from_slice(json).ok())?
}

fn before(path: &Path) -> PathBuf {
    beside(path, "before")
}

/// The file of that name and a suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
