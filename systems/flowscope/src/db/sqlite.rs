//! SQLite: a file, and one writer at a time over all processes that share it.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, params_from_iter};

use super::conn::{Dialect, Engine};
use super::{DbError, Row, Value};
use crate::clock;

/// How long a statement waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 64;

/// A connection to a file.
pub struct File(Connection);

impl File {
    /// Opens a file, which has to exist.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        // Without CREATE: an empty file in the wrong place would hide a wrong `DATABASE_URL`.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
        )?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self(conn))
    }
}

impl Engine for File {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn begin(&self) -> Result<(), DbError> {
        self.execute("BEGIN IMMEDIATE", &[]).map(drop)
    }

    fn commit(&self) -> Result<(), DbError> {
        let committed = self.execute("COMMIT", &[]).map(drop);
        if committed.is_err() && !self.0.is_autocommit() {
            // Nothing of it was acknowledged; should this fail too, the next BEGIN says so.
            let _ = self.execute("ROLLBACK", &[]);
        }
        committed
    }

    fn query(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, DbError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let columns = statement.column_count();
        let rows = statement.query_map(params_from_iter(values), |row| {
            let columns = (0..columns).map(|column| row.get_ref(column).map(value));
            Ok(Row::new(columns.collect::<Result<_, _>>()?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn execute(&self, sql: &str, values: &[Value]) -> Result<u64, DbError> {
        let mut statement = self.0.prepare_cached(sql)?;
        Ok(statement.execute(params_from_iter(values))? as u64)
    }

    fn has_table(&self, name: &str) -> Result<bool, DbError> {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        Ok(self.0.prepare_cached(sql)?.exists([name])?)
    }

    /// A file is shared by processes of one machine.
    fn now_ms(&self) -> Result<i64, DbError> {
        Ok(clock::now_ms())
    }

    fn is_broken(&self) -> bool {
        false
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(value) => Value::Text(String::from_utf8_lossy(value).into_owned()),
        ValueRef::Blob(value) => Value::Blob(value.to_vec()),
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(text),
            Some(ErrorCode::CannotOpen | ErrorCode::DiskFull) => {
                Self::Unavailable(format!("SQLite: {text}"))
            }
            _ => Self::Failed(text),
        }
    }
}
