//! Trying migrations out on a scratch copy, before the database itself is touched.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Error, Migration, Options, State, applied, difference, down, runner, schema, up};
use crate::resource::Connection;

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
    let before = schema(copy)?;
    let (versions, longest) = timed(copy, migrations, only, options)?;
    let after = schema(copy)?;
    let one_way = back_and_forth(copy, migrations, &versions, (&before, &after), options);
    Ok(Tried {
        difference: difference(&before, &after),
        one_way: one_way.err().map(|error| error.to_string()),
        longest_ms: u64::try_from(longest.as_millis()).unwrap_or(u64::MAX),
        versions,
    })
}

fn timed(
    copy: &mut Connection,
    migrations: &[Migration],
    only: Option<&[u64]>,
    options: &Options,
) -> Result<(Vec<u64>, Duration), Error> {
    let (mut versions, mut longest) = (Vec::new(), Duration::ZERO);
    let pending: Vec<u64> = runner::pending(copy, migrations)?
        .iter()
        .map(|migration| migration.version)
        .filter(|version| only.is_none_or(|only| only.contains(version)))
        .collect();
    for version in pending {
        let begun = Instant::now();
        versions.extend(up(copy, migrations, Some(&[version]), options)?);
        longest = longest.max(begun.elapsed());
    }
    Ok((versions, longest))
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
