//! Roll-ups as the worker writes them, one row an application and second.

use rusqlite::{Connection, Row};
use serde::Serialize;

use crate::db::DbError;

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

fn rollup(row: &Row<'_>) -> rusqlite::Result<Rollup> {
    Ok(Rollup {
        app: row.get(0)?,
        bucket: row.get(1)?,
        traces: row.get(2)?,
        tokens: row.get(3)?,
        error_count: row.get(4)?,
        p50_ms: row.get(5)?,
        p95_ms: row.get(6)?,
    })
}

/// The newest roll-ups, oldest first, of one application or of all.
///
/// # Errors
/// The database's.
pub fn list(conn: &Connection, app: Option<&str>, limit: u32) -> Result<Vec<Rollup>, DbError> {
    let filter = if app.is_some() {
        "app = ?1"
    } else {
        "?1 IS NULL"
    };
    let mut query = conn.prepare_cached(&format!(
        "SELECT app, bucket, traces, tokens, error_count, p50_ms, p95_ms FROM rollups
         WHERE {filter} ORDER BY bucket DESC LIMIT ?2"
    ))?;
    let mut rollups: Vec<Rollup> = query
        .query_map((app, limit), rollup)?
        .collect::<Result<_, _>>()?;
    rollups.reverse();
    Ok(rollups)
}

/// Counts the rows that a single worker would not have written.
///
/// # Errors
/// The database's.
pub fn doubled(conn: &Connection) -> Result<Doubled, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT coalesce(sum(n - 1), 0), coalesce(sum(n), 0)
         FROM (SELECT count(*) AS n FROM rollups GROUP BY app, bucket)",
    )?;
    Ok(query.query_row([], |row| {
        Ok(Doubled {
            doubled: row.get(0)?,
            total: row.get(1)?,
        })
    })?)
}
