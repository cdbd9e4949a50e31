//! Full-text search: every word must occur, and the last one may be unfinished.

use rusqlite::Connection;
use serde::Serialize;

use crate::db::DbError;
use crate::prompt::{self, PromptVersion};
use crate::trace::{self, Summary};

/// Most of each kind that is found.
const LIMIT: u32 = 50;

/// What was found, newest first.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    /// Traces with all words in their application, name, texts or spans.
    pub traces: Vec<Summary>,
    /// Versions of prompts with all words in their name or text.
    pub prompts: Vec<PromptVersion>,
}

/// Searches traces and prompts for the words of `text`.
///
/// # Errors
/// The database's.
pub fn search(conn: &Connection, text: &str) -> Result<Found, DbError> {
    let Some(expression) = expression(text) else {
        return Ok(Found::default());
    };
    let rows = |table: &str| matches(conn, table, &expression);
    Ok(Found {
        traces: trace::at(conn, &rows("trace_search")?)?,
        prompts: prompt::at(conn, &rows("prompt_search")?)?,
    })
}

fn matches(conn: &Connection, table: &str, expression: &str) -> Result<Vec<i64>, DbError> {
    // By row, not by rank: the newest can be had without scoring every match.
    let mut query = conn.prepare_cached(&format!(
        "SELECT rowid FROM {table} WHERE {table} MATCH ?1 ORDER BY rowid DESC LIMIT {LIMIT}"
    ))?;
    let rows = query.query_map([expression], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The words as a query of FTS5, quoted so that none of them is an operator; `None` if there are none.
fn expression(text: &str) -> Option<String> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(16)
        .map(|word| format!("\"{word}\""))
        .collect();
    let unfinished = text.ends_with(char::is_alphanumeric);
    (!words.is_empty()).then(|| words.join(" ") + if unfinished { "*" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_words() {
        assert_eq!(expression("cat OR").as_deref(), Some("\"cat\" \"OR\"*"));
        assert_eq!(expression("say \"hi\" ").as_deref(), Some("\"say\" \"hi\""));
        assert_eq!(expression(" -* "), None);
    }
}
