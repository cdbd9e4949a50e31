//! Full-text search: every word must occur, and the last one may be unfinished.
//!
//! What a word is, is decided here, so that both engines find the same: FTS5 and PostgreSQL's parser take texts apart
//! each in its own way, and the latter also by the server's locale. They are given words, and do the finding.

use serde::Serialize;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::db::{Conn, DbError, Dialect};
use crate::prompt::{self, PromptVersion};
use crate::trace::{self, Summary};
use crate::values;

/// Most of each kind that is found.
const LIMIT: u32 = 50;
/// Most words that are looked for.
const MAX_WANTED: usize = 16;
/// Longest beginning of a word that tells it from others, characters: PostgreSQL takes 2 KiB for one.
const MAX_WORD: usize = 200;
/// Most text of one trace or prompt that can be found, bytes: PostgreSQL takes 1 MiB for one.
const MAX_TEXT: usize = 1_000_000;

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
pub fn search(conn: &Conn, text: &str) -> Result<Found, DbError> {
    let Some(expression) = expression(conn.dialect(), text) else {
        return Ok(Found::default());
    };
    let rows = |table: &str| matches(conn, table, &expression);
    Ok(Found {
        traces: trace::at(conn, &rows("trace_search")?)?,
        prompts: prompt::at(conn, &rows("prompt_search")?)?,
    })
}

/// Makes the trace in this row found by its application, its name and the text in it.
///
/// # Errors
/// The database's.
pub fn add_trace(conn: &Conn, row: i64, [app, name, body]: [&str; 3]) -> Result<(), DbError> {
    match conn.dialect() {
        Dialect::Sqlite => conn.execute(
            "INSERT INTO trace_search (rowid, app, name, body) VALUES (?1, ?2, ?3, ?4)",
            values![row, indexed(&[app]), indexed(&[name]), indexed(&[body])],
        )?,
        Dialect::Postgres => conn.execute(
            "INSERT INTO trace_search (id, words) VALUES (?1, array_to_tsvector(string_to_array(?2::text, ' ')))",
            values![row, indexed(&[app, name, body])],
        )?,
    };
    Ok(())
}

/// Makes the version of a prompt in this row found by its name and text.
///
/// # Errors
/// The database's.
pub fn add_prompt(conn: &Conn, row: i64, name: &str, body: &str) -> Result<(), DbError> {
    match conn.dialect() {
        Dialect::Sqlite => conn.execute(
            "INSERT INTO prompt_search (rowid, name, body) VALUES (?1, ?2, ?3)",
            values![row, indexed(&[name]), indexed(&[body])],
        )?,
        Dialect::Postgres => conn.execute(
            "INSERT INTO prompt_search (id, words) VALUES (?1, array_to_tsvector(string_to_array(?2::text, ' ')))",
            values![row, indexed(&[name, body])],
        )?,
    };
    Ok(())
}

fn matches(conn: &Conn, table: &str, expression: &str) -> Result<Vec<i64>, DbError> {
    // By row, not by rank: the newest can be had without scoring every match.
    let (row, found) = match conn.dialect() {
        Dialect::Sqlite => ("rowid", format!("{table} MATCH ?1")),
        Dialect::Postgres => ("id", "words @@ ?1::text::tsquery".to_owned()),
    };
    let sql = format!("SELECT {row} FROM {table} WHERE {found} ORDER BY {row} DESC LIMIT {LIMIT}");
    conn.query(&sql, values![expression], |mut row| row.take())
}

/// The words as a query, quoted so that none of them is an operator; `None` if there are none.
fn expression(dialect: Dialect, text: &str) -> Option<String> {
    let unfinished = text.ends_with(char::is_alphanumeric);
    let wanted: Vec<String> = words(text).into_iter().take(MAX_WANTED).collect();
    if wanted.is_empty() {
        return None;
    }
    let (quote, and, begins) = match dialect {
        Dialect::Sqlite => ('"', " ", "*"),
        Dialect::Postgres => ('\'', " & ", ":*"),
    };
    let quoted: Vec<String> = wanted
        .iter()
        .map(|word| format!("{quote}{word}{quote}"))
        .collect();
    Some(quoted.join(and) + if unfinished { begins } else { "" })
}

/// The words of some texts with a blank between them, as the engines get them.
fn indexed(texts: &[&str]) -> String {
    let mut length = 0;
    let fits = |word: &String| {
        length += word.len() + 1;
        length <= MAX_TEXT
    };
    let words = texts.iter().flat_map(|text| words(text));
    words.take_while(fits).collect::<Vec<_>>().join(" ")
}

/// The words of a text, in lower case and without accents.
fn words(text: &str) -> Vec<String> {
    let plain: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .nfd()
        .filter(|c| !is_combining_mark(*c))
        .nfc()
        .collect();
    plain
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().take(MAX_WORD).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_words() {
        let sqlite = |text| expression(Dialect::Sqlite, text);
        assert_eq!(sqlite("cat OR").as_deref(), Some("\"cat\" \"or\"*"));
        assert_eq!(sqlite("say \"hi\" ").as_deref(), Some("\"say\" \"hi\""));
        assert_eq!(sqlite(" -* "), None);
        let postgres = |text| expression(Dialect::Postgres, text);
        assert_eq!(postgres("cat | !").as_deref(), Some("'cat'"));
        assert_eq!(
            postgres("it's & cat").as_deref(),
            Some("'it' & 's' & 'cat':*")
        );
    }

    #[test]
    fn words_are_plain_whole_and_bounded() {
        assert_eq!(
            words("Café—ÜBER, x1 ﬁ 한국"),
            ["cafe", "uber", "x1", "ﬁ", "한국"]
        );
        assert_eq!(words(&"ä".repeat(500)), ["a".repeat(MAX_WORD)]);
        assert!(indexed(&["first", &"word ".repeat(300_000)]).len() <= MAX_TEXT);
    }
}
