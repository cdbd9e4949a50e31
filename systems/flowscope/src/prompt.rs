//! Prompts and their versions, which are numbered from 1 and never change.

use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::db::DbError;

/// Most prompts in a list.
const MAX_LISTED: u32 = 500;

/// Text for a new version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// The prompt's text.
    pub body: String,
    /// Why it was changed.
    #[serde(default)]
    pub comment: String,
}

/// One version of a prompt.
#[derive(Debug, Serialize)]
pub struct PromptVersion {
    /// The prompt's name.
    pub name: String,
    /// Number, from 1.
    pub version: i64,
    /// The prompt's text.
    pub body: String,
    /// Why it was changed.
    pub comment: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// Why a name cannot be a prompt's, if it cannot.
pub fn name_fault(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (name.is_empty() || name.len() > 100 || !name.chars().all(plain))
        .then(|| "`name` must have 1 to 100 letters, digits, `.`, `_` or `-`".to_owned())
}

/// Creates a prompt with its first version; `false` if there is one of that name.
///
/// # Errors
/// The database's.
pub fn create(conn: &Connection, name: &str, first: &NewVersion) -> Result<bool, DbError> {
    let created = conn
        .prepare_cached(
            "INSERT INTO prompts (name, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?
        .execute((name, now_ms()))?;
    if created == 0 {
        return Ok(false);
    }
    insert_version(conn, conn.last_insert_rowid(), name, 1, first)?;
    Ok(true)
}

/// Adds a version and gives its number; `None` if there is no such prompt.
///
/// # Errors
/// The database's.
pub fn add_version(
    conn: &Connection,
    name: &str,
    new: &NewVersion,
) -> Result<Option<i64>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT id, (SELECT coalesce(max(version), 0) + 1 FROM prompt_versions WHERE prompt_id = prompts.id)
         FROM prompts WHERE name = ?1",
    )?;
    let found = query
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((prompt, version)) = found else {
        return Ok(None);
    };
    insert_version(conn, prompt, name, version, new)?;
    Ok(Some(version))
}

fn insert_version(
    conn: &Connection,
    prompt: i64,
    name: &str,
    version: i64,
    new: &NewVersion,
) -> Result<(), DbError> {
    conn.prepare_cached(
        "INSERT INTO prompt_versions (prompt_id, version, body, comment, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((prompt, version, &new.body, &new.comment, now_ms()))?;
    let row = conn.last_insert_rowid();
    conn.prepare_cached("INSERT INTO prompt_search (rowid, name, body) VALUES (?1, ?2, ?3)")?
        .execute((row, name, &new.body))?;
    Ok(())
}

const VERSION: &str = "SELECT prompts.name, version, body, comment, prompt_versions.created_at
     FROM prompt_versions JOIN prompts ON prompts.id = prompt_id";

fn prompt_version(row: &Row<'_>) -> rusqlite::Result<PromptVersion> {
    Ok(PromptVersion {
        name: row.get(0)?,
        version: row.get(1)?,
        body: row.get(2)?,
        comment: row.get(3)?,
        created_at: row.get(4)?,
    })
}

/// The latest version of every prompt, by name.
///
/// # Errors
/// The database's.
pub fn list(conn: &Connection) -> Result<Vec<PromptVersion>, DbError> {
    let mut query = conn.prepare_cached(&format!(
        "{VERSION} WHERE version = (SELECT max(version) FROM prompt_versions WHERE prompt_id = prompts.id)
         ORDER BY prompts.name LIMIT {MAX_LISTED}"
    ))?;
    let rows = query.query_map([], prompt_version)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The versions of a prompt, newest first; empty if there is no such prompt.
///
/// # Errors
/// The database's.
pub fn versions(conn: &Connection, name: &str) -> Result<Vec<PromptVersion>, DbError> {
    let mut query = conn.prepare_cached(&format!(
        "{VERSION} WHERE prompts.name = ?1 ORDER BY version DESC"
    ))?;
    let rows = query.query_map([name], prompt_version)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One version of a prompt, or its latest.
///
/// # Errors
/// The database's.
pub fn get(
    conn: &Connection,
    name: &str,
    version: Option<i64>,
) -> Result<Option<PromptVersion>, DbError> {
    let mut query = conn.prepare_cached(&format!(
        "{VERSION} WHERE prompts.name = ?1 AND version = coalesce(?2,
             (SELECT max(version) FROM prompt_versions WHERE prompt_id = prompts.id))"
    ))?;
    Ok(query
        .query_row((name, version), prompt_version)
        .optional()?)
}

/// The versions in these rows, in the same order.
///
/// # Errors
/// The database's.
pub fn at(conn: &Connection, rows: &[i64]) -> Result<Vec<PromptVersion>, DbError> {
    let mut query = conn.prepare_cached(&format!("{VERSION} WHERE prompt_versions.id = ?1"))?;
    let found = rows
        .iter()
        .map(|row| query.query_row([row], prompt_version));
    Ok(found.collect::<Result<_, _>>()?)
}
