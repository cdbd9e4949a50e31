//! A SQLite file in the environment's data folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// Where the database of resource `name` lies.
#[must_use]
pub fn path(state: &Path, name: &str) -> PathBuf {
    state.join("data").join(format!("{name}.db"))
}

/// What an application is given as its `DATABASE_URL`.
#[must_use]
pub fn url(state: &Path, name: &str) -> String {
    format!("sqlite://{}", path(state, name).display())
}

/// Opens the database beside the running application. Such a connection never checkpoints: two
/// processes that do can corrupt the file with the versions of SQLite that applications bring.
///
/// # Errors
/// When the file cannot be opened; it is made when it is not there.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        // The folder is the services' own: what they put there must not lead elsewhere.
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // SQLite would refuse a link anywhere in the path; only the file itself is meant.
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let path = match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    };
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(db)
}

/// The schema as SQL, one statement a line, in a stable order, without what Towpath keeps there.
///
/// # Errors
/// When the database cannot be read.
pub fn schema(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = db.prepare(
        "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_schema
         WHERE tbl_name NOT LIKE 'towpath!_%' ESCAPE '!' AND name NOT LIKE 'sqlite!_stat%' ESCAPE '!' ORDER BY type, name",
    )?;
    query.query_map((), |row| row.get(0))?.collect()
}
