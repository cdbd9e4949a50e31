//! What this version needs to find in the database. It creates nothing: migrations are applied by whoever deploys.

use crate::db::{Conn, DbError};
use crate::values;

/// The tables that this version reads and writes.
const TABLES: [&str; 10] = [
    "users",
    "sessions",
    "traces",
    "spans",
    "trace_search",
    "prompts",
    "prompt_versions",
    "prompt_search",
    "rollups",
    "rollup_cursor",
];

/// Checks that every table is there.
///
/// # Errors
/// `Schema` names the first table that is missing; anything else means that the database cannot be read.
pub fn check(conn: &Conn) -> Result<(), DbError> {
    for table in TABLES {
        if !conn.has_table(table)? {
            return Err(DbError::Schema(format!(
                "schema: table `{table}` is missing"
            )));
        }
    }
    warm_up(conn)
}

/// Touches every segment of the search index, so that the first search after a start is not the slow one.
fn warm_up(conn: &Conn) -> Result<(), DbError> {
    let sql = "SELECT count(*), sum(length(block)) FROM search_segments";
    conn.first(sql, values![], |_| Ok(()))
        .map(drop)
        .map_err(|error| DbError::Schema(format!("index warm-up: {error}")))
}
