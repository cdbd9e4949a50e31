//! Roll-ups as the worker writes them, one row an application and second.

use serde::Serialize;

use crate::db::{Conn, DbError, Row};
use crate::values;

/// What happened in one second to one application.
#[derive(Debug, Serialize)]
pub struct Rollup {
    /// Application.
    pub app: String,
    /// The second, since 1970.
    pub bucket: i64,
    /// Traces that arrived in it.
    pub traces: i64,
    /// Their tokens.
    pub tokens: i64,
    /// How many of them failed.
    pub error_count: i64,
    /// Median of their durations, milliseconds.
    pub p50_ms: f64,
    /// 95th percentile of their durations, milliseconds.
    pub p95_ms: f64,
}

/// How many rows are there beyond the first of an application and second.
#[derive(Debug, Serialize)]
pub struct Doubled {
    /// Rows beyond the first.
    pub doubled: i64,
    /// All rows.
    pub total: i64,
}

fn rollup(mut row: Row) -> Result<Rollup, DbError> {
    Ok(Rollup {
        app: row.take()?,
        bucket: row.take()?,
        traces: row.take()?,
        tokens: row.take()?,
        error_count: row.take()?,
        p50_ms: row.take()?,
        p95_ms: row.take()?,
    })
}

/// The newest roll-ups, oldest first, of one application or of all.
///
/// # Errors
/// The database's.
pub fn list(conn: &Conn, app: Option<&str>, limit: u32) -> Result<Vec<Rollup>, DbError> {
    let filter = match app {
        Some(_) => "app = ?1",
        None => "CAST(?1 AS TEXT) IS NULL",
    };
    let sql = format!(
        "SELECT app, bucket, traces, tokens, error_count, p50_ms, p95_ms FROM rollups
         WHERE {filter} ORDER BY bucket DESC LIMIT ?2"
    );
    let mut rollups = conn.query(&sql, values![app, limit], rollup)?;
    rollups.reverse();
    Ok(rollups)
}

/// Counts the rows that a single worker would not have written.
///
/// # Errors
/// The database's.
pub fn doubled(conn: &Conn) -> Result<Doubled, DbError> {
    conn.one(
        "SELECT CAST(coalesce(sum(n - 1), 0) AS BIGINT), CAST(coalesce(sum(n), 0) AS BIGINT)
         FROM (SELECT count(*) AS n FROM rollups GROUP BY app, bucket) AS counted",
        values![],
        |mut row| {
            Ok(Doubled {
                doubled: row.take()?,
                total: row.take()?,
            })
        },
    )
}
