//! Applying migrations, and taking them back: what is the same on both engines.

use std::collections::BTreeMap;

use super::{Applied, Error, Migration, Options, State, postgres, sqlite};
use crate::resource::{self, Connection};

/// What the database knows, by number.
///
/// # Errors
/// When the database cannot be read.
pub fn applied(db: &mut Connection) -> Result<BTreeMap<u64, Applied>, Error> {
    match db {
        Connection::Sqlite(db) => sqlite::applied(db),
        Connection::Postgres(client) => postgres::applied(client),
    }
}

/// The migrations that the database does not have, in order, after checking those it has. One that broke off is among
/// them.
///
/// # Errors
/// [`Error::Edited`]; [`Error::Missing`] for one below the newest of the folder: one above it is of a newer release,
/// which has left something that this one bears.
pub fn pending<'a>(
    db: &mut Connection,
    migrations: &'a [Migration],
) -> Result<Vec<&'a Migration>, Error> {
    let have = applied(db)?;
    let files: BTreeMap<u64, &Migration> =
        migrations.iter().map(|file| (file.version, file)).collect();
    let newest = files.keys().next_back().copied();
    for (version, applied) in &have {
        match files.get(version) {
            Some(file) if is_edited(applied, file) => {
                return Err(Error::Edited(*version, applied.name.clone()));
            }
            None if Some(*version) < newest && applied.state != State::Baseline => {
                return Err(Error::Missing(*version, applied.name.clone()));
            }
            _ => {}
        }
    }
    let is_pending = |migration: &&Migration| {
        have.get(&migration.version)
            .is_none_or(|found| found.state == State::Started)
    };
    Ok(migrations.iter().filter(is_pending).collect())
}

fn is_edited(applied: &Applied, file: &Migration) -> bool {
    // One that broke off may be mended.
    applied.state != State::Started
        && !applied.checksum.is_empty()
        && applied.checksum != file.checksum()
}

/// Applies what is pending, or of that only these; returns the numbers applied now.
///
/// # Errors
/// At the first that fails; those before it stay, it leaves nothing, or what the error says.
pub fn up(
    db: &mut Connection,
    migrations: &[Migration],
    only: Option<&[u64]>,
    options: &Options,
) -> Result<Vec<u64>, Error> {
    let mut done = Vec::new();
    each_up(db, migrations, only, options, |_, version| {
        done.push(version);
        Ok(())
    })?;
    Ok(done)
}

/// As [`up`], and `seen` is told after each.
pub(super) fn each_up(
    db: &mut Connection,
    migrations: &[Migration],
    only: Option<&[u64]>,
    options: &Options,
    mut seen: impl FnMut(&Connection, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    locked(db, options, |db| {
        for migration in pending(db, migrations)? {
            let is_meant = only.is_none_or(|only| only.contains(&migration.version));
            if is_meant && apply(db, migration, options)? {
                seen(db, migration.version)?;
            }
        }
        Ok(())
    })
}

fn apply(db: &mut Connection, migration: &Migration, options: &Options) -> Result<bool, Error> {
    match db {
        Connection::Sqlite(db) => sqlite::apply(db, migration, options),
        Connection::Postgres(client) => postgres::apply(client, migration, options),
    }
}

/// Takes the numbered migrations back, newest first; one the database does not have is passed over.
///
/// # Errors
/// [`Error::NoDown`] and [`Error::Missing`] before anything is touched, or at the first that fails.
pub fn down(
    db: &mut Connection,
    migrations: &[Migration],
    versions: &[u64],
    options: &Options,
) -> Result<(), Error> {
    let mut newest_first: Vec<u64> = versions.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    let mut found = Vec::new();
    for version in newest_first {
        let file = migrations.iter().find(|file| file.version == version);
        let file = file.ok_or_else(|| Error::Missing(version, String::new()))?;
        file.down.as_ref().ok_or(Error::NoDown(version))?;
        found.push(file);
    }
    locked(db, options, |db| {
        let have = applied(db)?;
        for migration in found {
            if !have.contains_key(&migration.version) {
                continue;
            }
            match db {
                Connection::Sqlite(db) => sqlite::take_back(db, migration, options)?,
                Connection::Postgres(client) => postgres::take_back(client, migration, options)?,
            }
        }
        Ok(())
    })
}

/// Counts an existing schema as migrated up to `version`; returns the numbers that count from now on.
///
/// # Errors
/// [`Error::Missing`] when the folder has no migration of that number; when the database cannot be written.
pub fn baseline(
    db: &mut Connection,
    migrations: &[Migration],
    version: u64,
    options: &Options,
) -> Result<Vec<u64>, Error> {
    if !migrations.iter().any(|file| file.version == version) {
        return Err(Error::Missing(version, "baseline".to_owned()));
    }
    locked(db, options, |db| {
        let mut counted = Vec::new();
        for migration in pending(db, migrations)? {
            if migration.version > version {
                continue;
            }
            match db {
                Connection::Sqlite(db) => sqlite::count(db, migration, options)?,
                Connection::Postgres(client) => postgres::count(client, migration, options)?,
            }
            counted.push(migration.version);
        }
        Ok(counted)
    })
}

/// The schema as lines, in a stable order, without what Towpath keeps there.
///
/// # Errors
/// When the database cannot be read.
pub fn schema(db: &mut Connection) -> Result<Vec<String>, Error> {
    Ok(match db {
        Connection::Sqlite(db) => resource::sqlite::schema(db)?,
        Connection::Postgres(client) => resource::postgres::schema(client)?,
    })
}

/// With no other runner at work, and the table there as it is to be.
fn locked<T>(
    db: &mut Connection,
    options: &Options,
    work: impl FnOnce(&mut Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    match db {
        Connection::Sqlite(file) => {
            let _lock = sqlite::lock(file, options)?;
            sqlite::prepare(file, options)?;
            work(db)
        }
        Connection::Postgres(client) => {
            let lock = postgres::lock(client, options)?;
            let done = postgres::prepare(client).and_then(|()| work(db));
            if let Connection::Postgres(client) = db {
                postgres::unlock(client, &lock);
            }
            done
        }
    }
}

/// A time that is not before any the table has: a clock that was set back does not put one migration before another.
pub(super) fn not_before(now_ms: i64, newest_ms: i64) -> i64 {
    now_ms.max(newest_ms)
}
