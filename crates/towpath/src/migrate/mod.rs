//! Our migrations: a folder of `0001_name.up.sql` and `0001_name.down.sql`, applied in order.
//!
//! Each migration and its row in `towpath_migrations` are one transaction, so after a crash at
//! any point a migration is applied and recorded, or neither. What was applied is known by
//! checksum: an edited or a missing file is refused before anything runs.

mod folder;
mod runner;

use std::fmt;
use std::path::PathBuf;

pub use folder::{Migration, load};
pub use runner::{Applied, applied, down, pending, round_trip, up};

/// Why migrations could not be read or applied. The database is as it was before the migration named.
#[derive(Debug)]
pub enum Error {
    /// The folder or a file cannot be read.
    Io(PathBuf, std::io::Error),
    /// A file's name is not of the form `0001_name.up.sql`.
    Name(String),
    /// Two migrations have the same number.
    Duplicate(u64),
    /// A migration was edited after it was applied.
    Edited(u64),
    /// A migration that was applied is not in the folder.
    Missing(u64),
    /// A migration ended or began a transaction of its own.
    Transaction(u64),
    /// There is no `.down.sql`.
    NoDown(u64),
    /// Its SQL failed.
    Sql {
        /// The migration's number.
        version: u64,
        /// From SQLite.
        error: rusqlite::Error,
    },
    /// Going up and down again leaves another schema.
    RoundTrip(Vec<String>),
    /// The database itself.
    Database(rusqlite::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Name(name) => write!(
                f,
                "`{name}` is not of the form `0001_name.up.sql` or `.down.sql`"
            ),
            Error::Duplicate(version) => write!(f, "two migrations are numbered {version:04}"),
            Error::Edited(version) => {
                write!(f, "migration {version:04} was edited after it was applied")
            }
            Error::Missing(version) => {
                write!(
                    f,
                    "migration {version:04} was applied, and is not in this release"
                )
            }
            Error::Transaction(version) => {
                write!(
                    f,
                    "migration {version:04} begins or ends a transaction itself"
                )
            }
            Error::NoDown(version) => write!(f, "migration {version:04} has no `.down.sql`"),
            Error::Sql { version, error } => write!(f, "migration {version:04}: {error}"),
            Error::RoundTrip(lines) => {
                write!(
                    f,
                    "up and down again leaves another schema: {}",
                    lines.join("; ")
                )
            }
            Error::Database(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Database(error)
    }
}
