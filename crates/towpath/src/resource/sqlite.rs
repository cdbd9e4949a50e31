//! A SQLite file in the environment's data folder, or in a folder of its own there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// Where a database lies. The way to the data folder is the agent's, and may lead over links; what is below is the
/// services' own, and must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    data: PathBuf,
    below: PathBuf,
}

impl Place {
    /// That of the resource `name`, whose file is called `file` if it has a folder of its own.
    #[must_use]
    pub fn new(state: &Path, name: &str, file: Option<&str>) -> Place {
        Place {
            data: state.join("data"),
            below: match file {
                Some(file) => Path::new(name).join(file),
                None => format!("{name}.db").into(),
            },
        }
    }

    /// The whole path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.data.join(&self.below)
    }

    /// What an application is given as its `DATABASE_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// As [`open`].
    ///
    /// # Errors
    /// When the file cannot be opened; it is made when it is not there.
    pub fn open(&self) -> rusqlite::Result<Connection> {
        let data = self.data.canonicalize();
        open_at(&data.unwrap_or_else(|_| self.data.clone()).join(&self.below))
    }
}

/// Longest wait for whoever writes; he is answer enough.
const BUSY: Duration = Duration::from_millis(200);

impl Place {
    /// Whether the file is there and is read as a database. It is not made, and nothing is written. Blocking.
    ///
    /// # Errors
    /// What is wrong with it; `None` where it is not there.
    pub fn alive(&self) -> Result<(), Option<String>> {
        let data = self.data.canonicalize();
        let path = data.unwrap_or_else(|_| self.data.clone()).join(&self.below);
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(None),
            Err(error) => return Err(Some(format!("{}: {error}", path.display()))),
            // To open a pipe is to wait for its other end.
            Ok(found) if !found.is_file() => {
                return Err(Some(format!("{} is not a file", path.display())));
            }
            Ok(_) => {}
        }
        match read_schema(&path) {
            Err(rusqlite::Error::SqliteFailure(code, _)) if is_busy(code.code) => Ok(()),
            Err(error) => Err(Some(format!("{}: {error}", path.display()))),
            Ok(_) => Ok(()),
        }
    }
}

fn is_busy(code: rusqlite::ErrorCode) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(code, DatabaseBusy | DatabaseLocked)
}

fn read_schema(path: &Path) -> rusqlite::Result<i64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
}

/// Opens the database beside the running application. Such a connection never checkpoints: two
/// processes that do can corrupt the file with the versions of SQLite that applications bring.
///
/// # Errors
/// When the file cannot be opened; it is made when it is not there.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite would refuse a link anywhere in the path; only the file itself is meant.
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => open_at(&folder.join(name)),
        _ => open_at(path),
    }
}

fn open_at(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        // The folder is the services' own: what they put there must not lead elsewhere.
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
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
