//! The runner's part of SQLite.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use rustix::fs::{FlockOperation, OFlags, flock};

use super::error::Said;
use super::rules::{Again, again};
use super::runner::not_before;
use super::statement::{Statement, statements_of};
use super::{Applied, Engine, Error, Kind, Migration, Options, Script, State};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS towpath_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_ms INTEGER NOT NULL,
    kind TEXT NOT NULL DEFAULT 'expand', state TEXT NOT NULL DEFAULT 'applied',
    statements INTEGER NOT NULL DEFAULT 0, started_ms INTEGER NOT NULL DEFAULT 0) STRICT";

/// What a table of the first form does not have.
const LATER: [&str; 4] = [
    "kind TEXT NOT NULL DEFAULT 'expand'",
    "state TEXT NOT NULL DEFAULT 'applied'",
    "statements INTEGER NOT NULL DEFAULT 0",
    "started_ms INTEGER NOT NULL DEFAULT 0",
];

/// Pause between looks at a lock.
const LOOK: Duration = Duration::from_millis(20);

fn columns(db: &Connection) -> Result<Vec<String>, Error> {
    let mut query = db.prepare("SELECT name FROM pragma_table_info('towpath_migrations')")?;
    let names = query.query_map((), |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

pub(super) fn applied(db: &Connection) -> Result<BTreeMap<u64, Applied>, Error> {
    let columns = columns(db)?;
    if columns.is_empty() {
        return Ok(BTreeMap::new());
    }
    let further = match columns.iter().any(|name| name == "state") {
        true => "kind, state, statements, started_ms",
        false => "'expand', 'applied', 0, 0",
    };
    let sql =
        format!("SELECT version, name, checksum, applied_ms, {further} FROM towpath_migrations");
    let mut query = db.prepare(&sql)?;
    let found = query.query_map((), |row| {
        let (kind, state): (String, String) = (row.get(4)?, row.get(5)?);
        let applied = Applied {
            name: row.get(1)?,
            checksum: row.get(2)?,
            kind: Kind::from_word(&kind).unwrap_or_default(),
            state: State::from_word(&state),
            statements: row.get::<_, i64>(6)?.cast_unsigned(),
            started_ms: row.get(7)?,
            applied_ms: row.get(3)?,
        };
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), applied))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Keeps other runners out: a lock on a file beside the database, which the death of its holder gives up. A database
/// in memory has no other runners.
pub(super) fn lock(db: &Connection, options: &Options) -> Result<Option<File>, Error> {
    let Some(path) = db.path().filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let beside = PathBuf::from(format!("{path}.migrating"));
    let io = |error| Error::Io(beside.clone(), error);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        // The folder is the services' own: what they put there must not lead elsewhere.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .mode(0o600)
        .open(&beside)
        .map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(std::io::Error::other("it is not a file")));
    }
    let begun = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if begun.elapsed() > options.runner_wait {
            return Err(Error::Busy(holders(&[beside])));
        }
        std::thread::sleep(LOOK);
    }
    Ok(Some(file))
}

/// The processes that hold locks on these files, as the kernel tells.
fn holders(files: &[PathBuf]) -> String {
    let inodes: Vec<u64> = files
        .iter()
        .filter_map(|file| Some(std::fs::metadata(file).ok()?.ino()))
        .collect();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut found: Vec<String> = locks
        .lines()
        .filter_map(|line| holder(line, &inodes))
        .collect();
    found.sort();
    found.dedup();
    match found.is_empty() {
        true => "somebody who has let go of it by now".to_owned(),
        false => found.join(", "),
    }
}

/// Of a line such as `3: POSIX ADVISORY WRITE 4711 08:01:1234 0 EOF`.
fn holder(line: &str, inodes: &[u64]) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| word.matches(':').count() == 2)?;
    let inode: u64 = words[at].rsplit(':').next()?.parse().ok()?;
    let pid: u32 = words.get(at.checked_sub(1)?)?.parse().ok()?;
    // Those that only wait are told with an arrow.
    if !inodes.contains(&inode) || words.contains(&"->") {
        return None;
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("`{}` (process {pid})", name.trim()))
}

fn locked_by(db: &Connection) -> String {
    let Some(path) = db.path().filter(|path| !path.is_empty()) else {
        return "another connection".to_owned();
    };
    let shm = Path::new(&format!("{path}-shm")).to_owned();
    format!(
        "the database is held by {}",
        holders(&[PathBuf::from(path), shm])
    )
}

/// Makes the table, or brings one of the first form up to date.
pub(super) fn prepare(db: &mut Connection, options: &Options) -> Result<(), Error> {
    confine(db)?;
    db.busy_timeout(options.lock_timeout)?;
    let have = columns(db)?;
    if have.len() >= 4 + LATER.len() {
        return Ok(());
    }
    let tx = begin(db, 0)?;
    tx.execute_batch(TABLE)?;
    let have = columns(&tx)?;
    for column in LATER {
        let name = column.split(' ').next().unwrap_or(column);
        if !have.iter().any(|have| have == name) {
            tx.execute_batch(&format!(
                "ALTER TABLE towpath_migrations ADD COLUMN {column}"
            ))?;
        }
    }
    Ok(tx.commit()?)
}

/// Keeps SQL to its own file. It runs with the agent's rights: `ATTACH` and `VACUUM INTO`, which attaches what it writes,
/// would reach every file of the machine that those reach.
fn confine(db: &Connection) -> Result<(), Error> {
    db.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    Ok(())
}

fn begin(db: &Connection, version: u64) -> Result<Transaction<'_>, Error> {
    Transaction::new_unchecked(db, TransactionBehavior::Immediate).map_err(|error| {
        match is_busy(&error) {
            true => Error::Locked(version, locked_by(db)),
            false => error.into(),
        }
    })
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// False when another runner applied it in the meantime.
pub(super) fn apply(
    db: &mut Connection,
    migration: &Migration,
    options: &Options,
) -> Result<bool, Error> {
    confine(db)?;
    db.busy_timeout(
        migration
            .up
            .header
            .lock_timeout
            .unwrap_or(options.lock_timeout),
    )?;
    if migration.up.header.no_transaction {
        return outside(db, migration, options);
    }
    let version = migration.version;
    guarded(db, migration.up.header.kind, version, |tx| {
        if !note(tx, migration, State::Applied, options)? {
            return Ok(false);
        }
        run_all(tx, version, &migration.up)?;
        finish(tx, migration, options)?;
        Ok(true)
    })
}

/// A transaction. What is more than an expansion may take rows and tables away: foreign keys are off, so that nothing
/// is removed with them, and what is left is checked before the end.
fn guarded<T>(
    db: &mut Connection,
    kind: Kind,
    version: u64,
    work: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    let is_on: bool = db.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
    let is_checked = kind != Kind::Expand;
    if is_checked {
        db.pragma_update(None, "foreign_keys", false)?;
    }
    let done = begin(db, version).and_then(|tx| {
        let before = if is_checked {
            dangling(&tx)?
        } else {
            Vec::new()
        };
        let done = work(&tx)?;
        if is_checked {
            let after = dangling(&tx)?;
            let new: Vec<String> = after
                .into_iter()
                .filter(|row| !before.contains(row))
                .collect();
            if !new.is_empty() {
                return Err(Error::ForeignKeys(
                    version,
                    new.into_iter().take(5).collect(),
                ));
            }
        }
        match tx.commit() {
            Err(error) if is_busy(&error) => Err(Error::Locked(version, "a reader".to_owned())),
            other => Ok(other.map(|()| done)?),
        }
    });
    if is_checked {
        db.pragma_update(None, "foreign_keys", is_on)?;
    }
    done
}

fn dangling(db: &Connection) -> Result<Vec<String>, Error> {
    let mut query = db.prepare("PRAGMA foreign_key_check")?;
    let rows = query.query_map((), |row| {
        let (table, row_id, parent): (String, Option<i64>, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let row_id = row_id.map_or("a row".to_owned(), |id| format!("row {id}"));
        Ok(format!("{row_id} of `{table}` to `{parent}`"))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn newest(db: &Connection) -> Result<i64, Error> {
    let sql = "SELECT coalesce(max(max(applied_ms, started_ms)), 0) FROM towpath_migrations";
    Ok(db.query_row(sql, (), |row| row.get(0))?)
}

/// The row of a migration that begins; false when it is there already.
fn note(
    db: &Connection,
    migration: &Migration,
    state: State,
    options: &Options,
) -> Result<bool, Error> {
    let now = not_before(options.clock.wall_ms(), newest(db)?);
    let sql = "INSERT INTO towpath_migrations (version, name, checksum, applied_ms, kind, state, statements, started_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7)
        ON CONFLICT (version) DO UPDATE SET name = excluded.name, checksum = excluded.checksum,
            applied_ms = excluded.applied_ms, kind = excluded.kind, state = excluded.state, statements = 0
        WHERE state = 'started'";
    let applied_ms = if state == State::Started { 0 } else { now };
    let rows = db.execute(
        sql,
        (
            migration.version.cast_signed(),
            &migration.name,
            migration.checksum(),
            applied_ms,
            migration.up.header.kind.word(),
            state.word(),
            now,
        ),
    )?;
    Ok(rows == 1)
}

fn finish(db: &Connection, migration: &Migration, options: &Options) -> Result<(), Error> {
    let now = not_before(options.clock.wall_ms(), newest(db)?);
    let sql = "UPDATE towpath_migrations SET state = 'applied', applied_ms = ?2 WHERE version = ?1";
    db.execute(sql, (migration.version.cast_signed(), now))?;
    Ok(())
}

pub(super) fn count(
    db: &mut Connection,
    migration: &Migration,
    options: &Options,
) -> Result<(), Error> {
    let tx = begin(db, migration.version)?;
    note(&tx, migration, State::Baseline, options)?;
    Ok(tx.commit()?)
}

fn run_all(db: &Connection, version: u64, script: &Script) -> Result<(), Error> {
    for one in statements_of(Engine::Sqlite, version, script)? {
        run(db, version, script, &one)?;
        // One that goes on in a transaction of its own would be taken for ours.
        if db.is_autocommit() && !script.header.no_transaction {
            return Err(Error::Transaction(version));
        }
    }
    Ok(())
}

fn run(db: &Connection, version: u64, script: &Script, one: &Statement<'_>) -> Result<(), Error> {
    db.execute_batch(one.text).map_err(|error| {
        if is_busy(&error) {
            return Error::Locked(version, locked_by(db));
        }
        let offset = match &error {
            rusqlite::Error::SqlInputError { offset, .. } => usize::try_from(*offset).ok(),
            _ => None,
        };
        let span = match offset {
            Some(offset) => one.span.start + offset..one.span.start + offset + 1,
            None => one.span_of(0, 2),
        };
        Error::sql(version, &script.file, &script.text, span, said(&error))
    })
}

fn said(error: &rusqlite::Error) -> Said {
    let (message, code) = match error {
        rusqlite::Error::SqlInputError { msg, error, .. } => (msg.clone(), error.extended_code),
        rusqlite::Error::SqliteFailure(error, message) => (
            message.clone().unwrap_or_else(|| error.to_string()),
            error.extended_code,
        ),
        other => (other.to_string(), 0),
    };
    let is_full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
    Said {
        message,
        code: code.to_string(),
        notes: Vec::new(),
        help: is_full.then(|| "make room on the disk, and try again".to_owned()),
    }
}

/// Statement by statement, each its own transaction: what is done is noted after each.
fn outside(db: &mut Connection, migration: &Migration, options: &Options) -> Result<bool, Error> {
    let version = migration.version;
    let found = applied(db)?.remove(&version);
    if found
        .as_ref()
        .is_some_and(|found| found.state != State::Started)
    {
        return Ok(false);
    }
    let same = found
        .as_ref()
        .filter(|found| found.checksum == migration.checksum());
    let done = same.map_or(0, |found| usize::try_from(found.statements).unwrap_or(0));
    let all = statements_of(Engine::Sqlite, version, &migration.up)?;
    if let Some(one) = all.get(done)
        && same.is_some()
        && again(one) == Again::Unknown
    {
        return Err(unfinished(version, &migration.up, one));
    }
    if same.is_none() {
        note(db, migration, State::Started, options)?;
    }
    for (index, one) in all.iter().enumerate().skip(done) {
        let ran = run(db, version, &migration.up, one);
        if let Err(error) = ran {
            return Err(failed(db, version, index, found.is_some(), error));
        }
        let sql = "UPDATE towpath_migrations SET statements = ?2 WHERE version = ?1";
        db.execute(
            sql,
            (
                version.cast_signed(),
                i64::try_from(index + 1).unwrap_or(i64::MAX),
            ),
        )?;
    }
    finish(db, migration, options)?;
    Ok(true)
}

/// A statement that failed left nothing; so the row goes where it was the first.
fn failed(db: &Connection, version: u64, index: usize, was_there: bool, error: Error) -> Error {
    if index > 0 || was_there {
        return error.leaving(half_done(index));
    }
    let sql = "DELETE FROM towpath_migrations WHERE version = ?1 AND state = 'started'";
    match db.execute(sql, [version.cast_signed()]) {
        Ok(_) => error,
        Err(_) => error.leaving(half_done(0)),
    }
}

pub(super) fn half_done(statements: usize) -> String {
    format!(
        "statements of it that are done, and stay: {statements}; `tow migrate up` goes on behind them"
    )
}

pub(super) fn unfinished(version: u64, script: &Script, one: &Statement<'_>) -> Error {
    use crate::diagnostic::{Diagnostic, Report};
    let text = "a runner ended while this ran";
    let diagnostic = Diagnostic::error("migrate::unfinished", text).label(one.span_of(0, 2), "");
    let report = Report::new(&script.file, &script.text, vec![diagnostic]);
    Error::Unfinished(version, Box::new(report))
}

pub(super) fn take_back(
    db: &mut Connection,
    migration: &Migration,
    options: &Options,
) -> Result<(), Error> {
    let version = migration.version;
    let script = migration.down.as_ref().ok_or(Error::NoDown(version))?;
    confine(db)?;
    db.busy_timeout(script.header.lock_timeout.unwrap_or(options.lock_timeout))?;
    let forget = |db: &Connection| {
        let sql = "DELETE FROM towpath_migrations WHERE version = ?1";
        db.execute(sql, [version.cast_signed()])
    };
    if script.header.no_transaction {
        run_all(db, version, script)?;
        forget(db)?;
        return Ok(());
    }
    // Whatever a `down` takes away, nothing else may go with it.
    guarded(db, Kind::Contract, version, |tx| {
        forget(tx)?;
        run_all(tx, version, script)
    })
}
