//! Applying migrations to a SQLite database, and taking them back.

use std::collections::BTreeMap;

use rusqlite::limits::Limit;
use rusqlite::{Connection, TransactionBehavior};

use super::{Error, Migration};
use crate::resource::sqlite;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS towpath_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_ms INTEGER NOT NULL) STRICT";

/// A migration that the database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its name when it was applied.
    pub name: String,
    /// Checksum of its SQL when it was applied.
    pub checksum: String,
}

/// What the database has, by number.
///
/// # Errors
/// When the database cannot be read.
pub fn applied(db: &Connection) -> Result<BTreeMap<u64, Applied>, Error> {
    let known: bool = db.query_row(
        "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'towpath_migrations'",
        (),
        |row| row.get(0),
    )?;
    if !known {
        return Ok(BTreeMap::new());
    }
    let mut query = db.prepare("SELECT version, name, checksum FROM towpath_migrations")?;
    let found = query.query_map((), |row| {
        let version = row.get::<_, i64>(0)?.cast_unsigned();
        Ok((
            version,
            Applied {
                name: row.get(1)?,
                checksum: row.get(2)?,
            },
        ))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The migrations that the database does not have, in order, after checking those it has.
///
/// # Errors
/// [`Error::Edited`]; a migration unknown to an older release is no error, since it was an expansion.
pub fn pending<'a>(
    db: &Connection,
    migrations: &'a [Migration],
) -> Result<Vec<&'a Migration>, Error> {
    let have = applied(db)?;
    let edited = migrations.iter().find(|migration| {
        have.get(&migration.version)
            .is_some_and(|applied| applied.checksum != migration.checksum())
    });
    match edited {
        Some(migration) => Err(Error::Edited(migration.version)),
        None => Ok(migrations
            .iter()
            .filter(|migration| !have.contains_key(&migration.version))
            .collect()),
    }
}

/// Applies what is pending, each in a transaction of its own; returns the numbers applied now.
///
/// # Errors
/// At the first that fails; those before it stay, it leaves nothing.
pub fn up(db: &mut Connection, migrations: &[Migration], now_ms: i64) -> Result<Vec<u64>, Error> {
    confine(db)?;
    let mut done = Vec::new();
    for migration in pending(db, migrations)? {
        if up_one(db, migration, now_ms)? {
            done.push(migration.version);
        }
    }
    Ok(done)
}

/// Keeps SQL to its own file. It runs with the agent's rights: `ATTACH` and `VACUUM INTO`, which attaches what it writes,
/// would reach every file of the machine that those reach.
fn confine(db: &Connection) -> Result<(), Error> {
    db.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    Ok(())
}

/// False when another runner applied it in the meantime.
fn up_one(db: &mut Connection, migration: &Migration, now_ms: i64) -> Result<bool, Error> {
    let version = migration.version;
    let sql = |error| Error::Sql { version, error };
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(TABLE)?;
    let inserted = tx.execute(
        "INSERT OR IGNORE INTO towpath_migrations VALUES (?1, ?2, ?3, ?4)",
        (
            version.cast_signed(),
            &migration.name,
            migration.checksum(),
            now_ms,
        ),
    )?;
    if inserted == 0 {
        return Ok(false);
    }
    tx.execute_batch(&migration.up).map_err(sql)?;
    if tx.is_autocommit() {
        return Err(Error::Transaction(version));
    }
    tx.commit().map_err(sql)?;
    Ok(true)
}

/// Takes the numbered migrations back, newest first; one the database does not have is passed over.
///
/// # Errors
/// [`Error::NoDown`], or at the first that fails.
pub fn down(db: &mut Connection, migrations: &[Migration], versions: &[u64]) -> Result<(), Error> {
    confine(db)?;
    let mut newest_first: Vec<u64> = versions.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    for version in newest_first {
        let found = migrations
            .iter()
            .find(|migration| migration.version == version);
        let migration = found.ok_or(Error::Missing(version))?;
        down_one(db, migration)?;
    }
    Ok(())
}

fn down_one(db: &mut Connection, migration: &Migration) -> Result<(), Error> {
    let version = migration.version;
    let sql = |error| Error::Sql { version, error };
    let text = migration.down.as_deref().ok_or(Error::NoDown(version))?;
    if !applied(db)?.contains_key(&version) {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute(
        "DELETE FROM towpath_migrations WHERE version = ?1",
        [version.cast_signed()],
    )?;
    tx.execute_batch(text).map_err(sql)?;
    if tx.is_autocommit() {
        return Err(Error::Transaction(version));
    }
    tx.commit().map_err(sql)
}

/// On a scratch copy: goes up, down again, and compares the schema with what it was.
///
/// # Errors
/// What failed on the way, or [`Error::RoundTrip`] with the lines that differ.
pub fn round_trip(copy: &mut Connection, migrations: &[Migration]) -> Result<(), Error> {
    let before = sqlite::schema(copy)?;
    let done = up(copy, migrations, 0)?;
    down(copy, migrations, &done)?;
    let after = sqlite::schema(copy)?;
    if before == after {
        return Ok(());
    }
    let lost = before
        .iter()
        .filter(|line| !after.contains(line))
        .map(|line| format!("-{line}"));
    let left = after
        .iter()
        .filter(|line| !before.contains(line))
        .map(|line| format!("+{line}"));
    Err(Error::RoundTrip(lost.chain(left).collect()))
}
