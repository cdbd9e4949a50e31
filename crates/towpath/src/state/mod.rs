//! What an environment knows of itself, in one SQLite file with one writer.
//!
//! The journal is the truth: what runs, what is warm and what is under way is a fold of its rows
//! (`release::fold`). Beside it stand the releases, which are immutable, and the keys of those
//! environments that releases are accepted from. Whoever opens the store raises the lease's
//! epoch; rows are appended under that epoch only, so an agent that was replaced cannot write.

mod blobs;
mod hidden;
mod journal;
mod partial;
mod reader;
mod releases;
mod room;
mod whole;

use std::fmt;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;

pub use blobs::{Blobs, Incoming};
pub use journal::{Entry, Kind, Row};
pub use partial::Partial;
pub use reader::results;
pub use releases::StoredRelease;
pub use room::{Limit, room, weight};
pub use whole::{Beside, sync_dir, write_whole};

use crate::clock::{Clock, utc};

/// Bytes set aside so that an undo can be written on a full disk.
const BALLAST: usize = 1 << 20;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, run INTEGER NOT NULL, step TEXT NOT NULL, attempt INTEGER NOT NULL,
    kind TEXT NOT NULL, wall INTEGER NOT NULL, boot_id TEXT NOT NULL, mono INTEGER NOT NULL,
    actor TEXT NOT NULL, data TEXT NOT NULL, prev BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS journal_run ON journal (run, seq);
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO lease VALUES (1, 0);
CREATE TABLE IF NOT EXISTS releases (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, record TEXT NOT NULL,
    signature TEXT NOT NULL, key TEXT NOT NULL, wall INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS trusted (environment TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT;
PRAGMA user_version = 1;";

/// Why the state could not be read or written.
#[derive(Debug)]
pub enum Error {
    /// Another agent has it open.
    Taken {
        /// The state directory.
        dir: PathBuf,
        /// The other agent's process id, when it could be read.
        pid: Option<u32>,
        /// Since when it has it, Unix milliseconds.
        since_ms: Option<i64>,
    },
    /// A newer version of Towpath wrote it.
    Newer {
        /// Version of the schema found.
        found: i64,
    },
    /// A row is not the one its successor was chained to, or was changed.
    Chain {
        /// Sequence number of the first row that does not fit.
        seq: i64,
    },
    /// Another agent has raised the epoch since.
    Superseded {
        /// The epoch of this store.
        ours: i64,
        /// The epoch now.
        now: i64,
    },
    /// The row may not follow those before it; why.
    Refused(String),
    /// What was received is not what its digest says.
    Digest,
    /// So many bytes of it have not come.
    Offset {
        /// Where it was to go on.
        offset: u64,
        /// How many have come.
        have: u64,
    },
    /// A later connection goes on with it.
    Replaced,
    /// It would take what is to stay free of the disk.
    Room {
        /// So many bytes may still come in.
        left: u64,
    },
    /// It is more than is left to whoever sends it, or than was announced.
    Share {
        /// So many bytes may come.
        left: u64,
    },
    /// From the database.
    Database(rusqlite::Error),
    /// From the file system.
    Io(PathBuf, std::io::Error),
    /// A stored value that does not parse.
    Unreadable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Taken { dir, pid, since_ms } => {
                let who = pid.map_or("another agent".to_owned(), |pid| {
                    format!("the agent (process {pid})")
                });
                let since = since_ms.map_or(String::new(), |at| format!("since {} and ", utc(at)));
                write!(
                    f,
                    "{who} holds `{}`, {since}while that process lives",
                    dir.display()
                )
            }
            Error::Newer { found } => write!(
                f,
                "the state was written by a newer version (schema {found})"
            ),
            Error::Chain { seq } => write!(
                f,
                "journal row {seq} does not fit the chain: it was changed or removed"
            ),
            Error::Superseded { ours, now } => write!(
                f,
                "another agent has taken over this state, with epoch {now} after {ours}; this one writes nothing more"
            ),
            Error::Refused(why) => write!(f, "not written: {why}"),
            Error::Digest => f.write_str("the content received does not have the digest announced"),
            Error::Offset { offset, have } => {
                write!(f, "it cannot go on at byte {offset}: {have} have come")
            }
            Error::Room { left } => write!(
                f,
                "{} MiB more may come in, and the rest of the disk is to stay free",
                left >> 20
            ),
            Error::Share { left } => write!(f, "no more than {} MiB of it may come", left >> 20),
            Error::Replaced => f.write_str("a later connection goes on with it"),
            Error::Database(error) => write!(f, "state database: {error}"),
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Unreadable(what) => write!(f, "unreadable state: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Database(error)
    }
}

/// The state of one environment, open for writing.
pub struct Store {
    dir: PathBuf,
    db: Mutex<Connection>,
    clock: Clock,
    epoch: i64,
    last: watch::Sender<i64>,
    _lock: File,
}

impl Store {
    /// Opens, or makes, the state below `dir` and takes its lease.
    ///
    /// # Errors
    /// [`Error::Taken`] while another agent has it, [`Error::Chain`] when the journal was tampered with.
    pub fn open(dir: &Path, clock: Clock) -> Result<Store, Error> {
        match Store::open_once(dir, clock.clone()) {
            // A full disk: what was set aside for it is given back.
            Err(Error::Database(_) | Error::Io(..))
                if std::fs::remove_file(dir.join("ballast")).is_ok() =>
            {
                Store::open_once(dir, clock)
            }
            other => {
                place_ballast(dir);
                other
            }
        }
    }

    fn open_once(dir: &Path, clock: Clock) -> Result<Store, Error> {
        let io = |error| Error::Io(dir.to_owned(), error);
        std::fs::create_dir_all(dir).map_err(io)?;
        hidden::hide(dir);
        let lock = lock(dir, &clock)?;
        let db = Connection::open(dir.join("state.db"))?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", "full")?;
        let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > 1 {
            return Err(Error::Newer { found });
        }
        db.execute_batch(SCHEMA)?;
        std::fs::set_permissions(dir.join("state.db"), std::fs::Permissions::from_mode(0o600))
            .map_err(io)?;
        db.execute("UPDATE lease SET epoch = epoch + 1", ())?;
        let epoch = db.query_row("SELECT epoch FROM lease", (), |row| row.get(0))?;
        let (last, _) = watch::channel(0);
        let store = Store {
            dir: dir.to_owned(),
            db: Mutex::new(db),
            clock,
            epoch,
            last,
            _lock: lock,
        };
        let rows = store.rows(0)?;
        journal::verify(&rows)?;
        store
            .last
            .send_replace(rows.last().map_or(0, |row| row.seq));
        Ok(store)
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The clock that rows are stamped with.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The sequence number of the last row, as it grows.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<i64> {
        self.last.subscribe()
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves the connection itself whole: SQLite rolled its transaction back.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the ballast's room back to a full disk; true when there was any.
    fn drop_ballast(&self) -> bool {
        std::fs::remove_file(self.dir.join("ballast")).is_ok()
    }
}

fn lock(dir: &Path, clock: &Clock) -> Result<File, Error> {
    let path = dir.join("agent.lock");
    let io = |error| Error::Io(path.clone(), error);
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut words = text.split_whitespace();
        return Err(Error::Taken {
            dir: dir.to_owned(),
            pid: words.next().and_then(|word| word.parse().ok()),
            since_ms: words.next().and_then(|word| word.parse().ok()),
        });
    }
    let text = format!("{} {}\n", std::process::id(), clock.wall_ms());
    file.set_len(0)
        .and_then(|()| std::io::Write::write_all(&mut &file, text.as_bytes()))
        .map_err(io)?;
    Ok(file)
}

/// A disk too full for the ballast has none; that is not an error of its own.
fn place_ballast(dir: &Path) {
    let path = dir.join("ballast");
    let whole = std::fs::metadata(&path).is_ok_and(|found| found.len() == BALLAST as u64);
    if !whole && std::fs::write(&path, vec![0u8; BALLAST]).is_err() {
        let _ = std::fs::remove_file(&path);
    }
}
