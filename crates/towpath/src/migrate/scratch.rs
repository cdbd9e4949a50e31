//! Trying migrations out on a scratch copy, before the database itself is touched.

use std::fs::File;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Error, Migration, Options, State, applied, difference, down, runner, schema, up};
use crate::resource::Connection;

/// What takes less has not written what a disk would take seconds for.
const QUICK: Duration = Duration::from_millis(100);

/// What a scratch copy has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Numbers that would be applied.
    pub versions: Vec<u64>,
    /// What they change of the schema, a line each.
    pub difference: Vec<String>,
    /// Why they cannot be taken back; `None` when up, down and up again was seen to leave nothing behind.
    pub one_way: Option<String>,
    /// The longest that one of them took, milliseconds: as long it holds its locks.
    pub longest_ms: u64,
    /// How long they took together, milliseconds.
    pub total_ms: u64,
}

/// On a scratch copy: goes up, down and up again, and compares the schemas.
///
/// # Errors
/// When the migrations cannot be applied: what the database itself would say.
pub fn try_out(
    copy: &mut Connection,
    migrations: &[Migration],
    only: Option<&[u64]>,
    options: &Options,
) -> Result<Tried, Error> {
    hurry(copy)?;
    let before = schema(copy)?;
    let (versions, longest, total) = timed(copy, migrations, only, options)?;
    let after = schema(copy)?;
    let one_way = back_and_forth(copy, migrations, &versions, (&before, &after), options);
    Ok(Tried {
        difference: difference(&before, &after),
        one_way: one_way.err().map(|error| error.to_string()),
        longest_ms: u64::try_from(longest.as_millis()).unwrap_or(u64::MAX),
        total_ms: u64::try_from(total.as_millis()).unwrap_or(u64::MAX),
        versions,
    })
}

/// Applies them, and takes the time of each with the writing to disk that it would wait for.
fn timed(
    copy: &mut Connection,
    migrations: &[Migration],
    only: Option<&[u64]>,
    options: &Options,
) -> Result<(Vec<u64>, Duration, Duration), Error> {
    let mut versions = Vec::new();
    let (mut longest, mut total) = (Duration::ZERO, Duration::ZERO);
    let mut begun = Instant::now();
    runner::each_up(copy, migrations, only, options, |copy, version| {
        let took = begun.elapsed();
        let writing = match took > QUICK {
            true => written(copy)?,
            false => Duration::ZERO,
        };
        longest = longest.max(took + writing);
        total += took + writing;
        versions.push(version);
        begun = Instant::now();
        Ok(())
    })?;
    Ok((versions, longest, total))
}

/// Nothing of the copy has to outlive a crash: so its thousand migrations do not wait for the disk.
fn hurry(copy: &Connection) -> Result<(), Error> {
    if let Connection::Sqlite(db) = copy {
        db.pragma_update(None, "synchronous", "off")?;
    }
    Ok(())
}

/// How long the disk takes for what was written: with a rollback journal it is written twice.
fn written(copy: &Connection) -> Result<Duration, Error> {
    let Connection::Sqlite(db) = copy else {
        return Ok(Duration::ZERO);
    };
    let Some(path) = db.path().filter(|path| !path.is_empty()) else {
        return Ok(Duration::ZERO);
    };
    let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let (file, times) = match mode.as_str() {
        "wal" => (format!("{path}-wal"), 1),
        _ => (path.to_owned(), 2),
    };
    let begun = Instant::now();
    let synced = File::open(&file).and_then(|file| file.sync_all());
    synced.map_err(|error| Error::Io(file.into(), error))?;
    Ok(begun.elapsed() * times)
}

fn back_and_forth(
    copy: &mut Connection,
    migrations: &[Migration],
    versions: &[u64],
    (before, after): (&[String], &[String]),
    options: &Options,
) -> Result<(), Error> {
    down(copy, migrations, versions, options)?;
    same(before, &schema(copy)?)?;
    up(copy, migrations, Some(versions), options)?;
    same(after, &schema(copy)?)
}

fn same(wanted: &[String], found: &[String]) -> Result<(), Error> {
    match difference(wanted, found) {
        lines if lines.is_empty() => Ok(()),
        lines => Err(Error::RoundTrip(lines)),
    }
}

/// The schema that the migrations which `db` has would make of nothing, on an empty scratch database.
///
/// # Errors
/// When one of them is not in the folder any more, or cannot be applied there.
pub fn expected(
    db: &mut Connection,
    empty: &mut Connection,
    migrations: &[Migration],
    options: &Options,
) -> Result<Vec<String>, Error> {
    let have = applied(db)?;
    let mut versions = Vec::new();
    for (version, found) in have {
        if found.state == State::Started {
            continue;
        }
        if !migrations.iter().any(|file| file.version == version) {
            return Err(Error::Missing(version, found.name));
        }
        versions.push(version);
    }
    up(empty, migrations, Some(&versions), options)?;
    schema(empty)
}
