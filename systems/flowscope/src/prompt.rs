//! Prompts and their versions, which are numbered from 1 and never change.

use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::db::{Conn, DbError, Row};
use crate::{search, values};

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
pub fn create(conn: &Conn, name: &str, first: &NewVersion) -> Result<bool, DbError> {
    let created = conn.first(
        "INSERT INTO prompts (name, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING RETURNING id",
        values![name, now_ms()],
        |mut row| row.take(),
    )?;
    let Some(prompt) = created else {
        return Ok(false);
    };
    insert_version(conn, prompt, name, 1, first)?;
    Ok(true)
}

/// Adds a version and gives its number; `None` if there is no such prompt.
///
/// # Errors
/// The database's.
pub fn add_version(conn: &Conn, name: &str, new: &NewVersion) -> Result<Option<i64>, DbError> {
    let found = conn.first(
        "SELECT id, (SELECT coalesce(max(version), 0) + 1 FROM prompt_versions WHERE prompt_id = prompts.id)
         FROM prompts WHERE name = ?1",
        values![name],
        |mut row| Ok((row.take()?, row.take()?)),
    )?;
    let Some((prompt, version)) = found else {
        return Ok(None);
    };
    insert_version(conn, prompt, name, version, new)?;
    Ok(Some(version))
}

fn insert_version(
    conn: &Conn,
    prompt: i64,
    name: &str,
    version: i64,
    new: &NewVersion,
) -> Result<(), DbError> {
    let row = conn.one(
        "INSERT INTO prompt_versions (prompt_id, version, body, comment, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id",
        values![prompt, version, &new.body, &new.comment, now_ms()],
        |mut row| row.take(),
    )?;
    search::add_prompt(conn, row, name, &new.body)
}

const VERSION: &str = "SELECT prompts.name, version, body, comment, prompt_versions.created_at
     FROM prompt_versions JOIN prompts ON prompts.id = prompt_id";

fn prompt_version(mut row: Row) -> Result<PromptVersion, DbError> {
    Ok(PromptVersion {
        name: row.take()?,
        version: row.take()?,
        body: row.take()?,
        comment: row.take()?,
        created_at: row.take()?,
    })
}

/// The latest version of every prompt, by name.
///
/// # Errors
/// The database's.
pub fn list(conn: &Conn) -> Result<Vec<PromptVersion>, DbError> {
    let sql = format!(
        "{VERSION} WHERE version = (SELECT max(version) FROM prompt_versions WHERE prompt_id = prompts.id)
         ORDER BY prompts.name LIMIT {MAX_LISTED}"
    );
    conn.query(&sql, values![], prompt_version)
}

/// The versions of a prompt, newest first; empty if there is no such prompt.
///
/// # Errors
/// The database's.
pub fn versions(conn: &Conn, name: &str) -> Result<Vec<PromptVersion>, DbError> {
    let sql = format!("{VERSION} WHERE prompts.name = ?1 ORDER BY version DESC");
    conn.query(&sql, values![name], prompt_version)
}

/// One version of a prompt, or its latest.
///
/// # Errors
/// The database's.
pub fn get(
    conn: &Conn,
    name: &str,
    version: Option<i64>,
) -> Result<Option<PromptVersion>, DbError> {
    let sql = format!(
        "{VERSION} WHERE prompts.name = ?1 AND version = coalesce(?2,
             (SELECT max(version) FROM prompt_versions WHERE prompt_id = prompts.id))"
    );
    conn.first(&sql, values![name, version], prompt_version)
}

/// The versions in these rows, in the same order.
///
/// # Errors
/// The database's.
pub fn at(conn: &Conn, rows: &[i64]) -> Result<Vec<PromptVersion>, DbError> {
    let sql = format!("{VERSION} WHERE prompt_versions.id = ?1");
    rows.iter()
        .map(|row| conn.one(&sql, values![*row], prompt_version))
        .collect()
}
