//! What this version needs to find in the database. It creates nothing: migrations are applied by whoever deploys.

use crate::db::{Conn, DbError};

/// The tables that this version reads and writes.
const TABLES: [&str; 11] = [
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
    "trace_notes",
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
    Ok(())
}
