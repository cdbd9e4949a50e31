//! Our migrations: a folder of `0001_name.up.sql` and `0001_name.down.sql`, applied in order, on both engines.
//!
//! Where the engines differ, the files stand in the sub-folder `sqlite/` or `postgres/`, under the same number and name.
//! A migration says in its first comment lines what it means ([`Header`]); what its statements would do against that
//! is refused before anything is touched ([`check`]).
//!
//! Each migration and its row in `towpath_migrations` are one transaction, so after a crash at
//! any point a migration is applied and recorded, or neither. One that cannot run in a transaction has its row first,
//! in the state `started`, with the number of statements that are done: the next runner knows what it has to look
//! after. One runner is at work at a time: a lock is held that its death gives up. What was applied is known by
//! checksum: an edited or a missing file is refused before anything runs.

mod difference;
mod error;
mod folder;
mod header;
mod postgres;
mod rules;
mod runner;
mod scratch;
mod sqlite;
mod statement;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use difference::difference;
pub use error::{Error, Failed, Outcome};
pub use folder::{Migration, Script, check, load};
pub use header::{Header, Kind};
pub use postgres::end_survivors;
pub use runner::{applied, baseline, down, pending, schema, up};
pub use scratch::{Tried, expected, try_out};

use crate::clock::Clock;
use crate::resource::Connection;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

impl Engine {
    /// The engine of a connection.
    #[must_use]
    pub fn of(db: &Connection) -> Engine {
        match db {
            Connection::Sqlite(_) => Engine::Sqlite,
            Connection::Postgres(_) => Engine::Postgres,
        }
    }

    /// The sub-folder of what is for it alone.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        }
    }

    fn other(self) -> Engine {
        match self {
            Engine::Sqlite => Engine::Postgres,
            Engine::Postgres => Engine::Sqlite,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Sqlite => "SQLite",
            Engine::Postgres => "PostgreSQL",
        })
    }
}

/// How far a migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It cannot run in a transaction, and its end was not seen.
    Started,
    /// It is applied.
    Applied,
    /// It counts as applied: what it does was there when Towpath came.
    Baseline,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Started => "started",
            State::Applied => "applied",
            State::Baseline => "baseline",
        }
    }

    fn from_word(word: &str) -> State {
        match word {
            "started" => State::Started,
            "baseline" => State::Baseline,
            _ => State::Applied,
        }
    }
}

/// A migration that the database knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its name when it was applied.
    pub name: String,
    /// Checksum of its SQL when it was applied; empty where a baseline had no file for it.
    pub checksum: String,
    /// What it meant.
    pub kind: Kind,
    /// How far it has come.
    pub state: State,
    /// Statements that are done, of one that cannot run in a transaction.
    pub statements: u64,
    /// When it began, Unix milliseconds; 0 where that was not noted.
    pub started_ms: i64,
    /// When it was applied, Unix milliseconds; 0 while it is not.
    pub applied_ms: i64,
}

/// How long a runner waits, and what time it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest wait for another runner.
    pub runner_wait: Duration,
    /// Longest wait for a lock on a table (PostgreSQL) or on the database (SQLite), unless a migration says otherwise.
    pub lock_timeout: Duration,
    /// Longest run of one statement (PostgreSQL), unless a migration says otherwise.
    pub statement_timeout: Option<Duration>,
    /// Attempts of a migration that does not get its locks (PostgreSQL).
    pub tries: u32,
    /// The time.
    pub clock: Clock,
}

impl Options {
    /// As they are for people.
    #[must_use]
    pub fn new(clock: Clock) -> Options {
        Options {
            runner_wait: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            statement_timeout: None,
            tries: 4,
            clock,
        }
    }
}
