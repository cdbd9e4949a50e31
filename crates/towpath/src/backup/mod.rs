//! Backups of an environment's databases, and of its folders.

mod folder;

use std::fmt;
use std::fs::File;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use serde::{Deserialize, Serialize};

pub use folder::folder;

use crate::resource::sqlite::Place;

/// Why there is no backup.
#[derive(Debug)]
pub enum Error {
    /// From SQLite.
    Database(rusqlite::Error),
    /// From the file system.
    Io(std::io::Error),
    /// The copy does not pass SQLite's own check.
    Damaged(String),
    /// The source stayed locked.
    Locked,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Database(error) => write!(f, "{error}"),
            Error::Io(error) => write!(f, "{error}"),
            Error::Damaged(what) => write!(f, "the copy does not pass the integrity check: {what}"),
            Error::Locked => f.write_str("the database stayed locked"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Database(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error)
    }
}

/// What a backup is, for the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its size.
    pub bytes: u64,
}

/// Copies the database at `from` to `to`, whole or not at all, and checks the copy.
///
/// All pages are copied in one step, so under one snapshot: a stepped copy starts again at every
/// write of another process and starves under load.
///
/// # Errors
/// As [`Error`]; `to` does not exist then.
pub fn sqlite(from: &Connection, to: &Path) -> Result<Taken, Error> {
    let beside = to.with_extension("new");
    let result = copy(from, &beside).and_then(|()| {
        File::open(&beside)?.sync_all()?;
        std::fs::rename(&beside, to)?;
        Ok(Taken {
            bytes: std::fs::metadata(to)?.len(),
        })
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    result
}

/// Puts the backup at `from` back in the place of the database at `to`, under whoever has it open:
/// what was written since is lost.
///
/// # Errors
/// As [`Error`]; `to` is as it was then.
pub fn restore_sqlite(from: &Path, to: &Place) -> Result<(), Error> {
    let from = Connection::open(from)?;
    // The folder is the services' own: what they put there must not lead elsewhere.
    let mut live = to.open()?;
    let backup = Backup::new(&from, &mut live)?;
    for _ in 0..1_000 {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    Err(Error::Locked)
}

fn copy(from: &Connection, beside: &Path) -> Result<(), Error> {
    let _ = std::fs::remove_file(beside);
    let mut copy = Connection::open(beside)?;
    {
        let backup = Backup::new(from, &mut copy)?;
        match backup.step(-1)? {
            StepResult::Done => {}
            _ => return Err(Error::Locked),
        }
    }
    let verdict: String = copy.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Error::Damaged(verdict));
    }
    // One file is what is kept: no write-ahead log beside it.
    copy.pragma_update(None, "journal_mode", "delete")?;
    Ok(())
}
