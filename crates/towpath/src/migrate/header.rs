//! What a migration says about itself, in the comment lines that it begins with.
//!
//! ```sql
//! -- tow: contract
//! -- tow: lock-timeout 2s, statement-timeout 30s
//! ```

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Span, closest};

/// What a migration means for the version of the application that does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It goes on working: applied before the switch.
    #[default]
    Expand,
    /// It stops working: applied once no such version can serve any more.
    Contract,
    /// Nothing may write meanwhile: applied while requests are held.
    Rewrite,
}

impl Kind {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Expand => "expand",
            Kind::Contract => "contract",
            Kind::Rewrite => "rewrite",
        }
    }

    /// From a word; `None` for any other.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Kind> {
        [Kind::Expand, Kind::Contract, Kind::Rewrite]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a script says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// What it means for the version before.
    pub kind: Kind,
    /// It cannot run in a transaction.
    pub no_transaction: bool,
    /// Longest wait for a lock (PostgreSQL), or for the database (SQLite).
    pub lock_timeout: Option<Duration>,
    /// Longest run of one statement (PostgreSQL only).
    pub statement_timeout: Option<Duration>,
}

const WORDS: [&str; 6] = [
    "expand",
    "contract",
    "rewrite",
    "no-transaction",
    "lock-timeout",
    "statement-timeout",
];

/// Reads the comment lines at the beginning.
///
/// # Errors
/// At every word that is none of ours, with its place.
pub(super) fn read(text: &str) -> Result<Header, Vec<Diagnostic>> {
    let (mut header, mut wrong) = (Header::default(), Vec::new());
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at + line.len() - line.trim_start().len();
        at += line.len();
        let trimmed = line.trim();
        if !trimmed.is_empty() && !trimmed.starts_with("--") {
            break;
        }
        let Some(said) = trimmed
            .strip_prefix("--")
            .and_then(|rest| rest.trim_start().strip_prefix("tow:"))
        else {
            continue;
        };
        let mut from = start + trimmed.len() - said.len();
        for part in said.split(',') {
            let word = part.trim();
            let begin = from + part.len() - part.trim_start().len();
            from += part.len() + 1;
            if let Err(diagnostic) = take(&mut header, word, begin..begin + word.len()) {
                wrong.push(diagnostic);
            }
        }
    }
    if wrong.is_empty() {
        Ok(header)
    } else {
        Err(wrong)
    }
}

fn take(header: &mut Header, text: &str, span: Span) -> Result<(), Diagnostic> {
    let mut words = text.split_whitespace();
    let (word, value, more) = (words.next().unwrap_or(""), words.next(), words.next());
    match (word, value, more) {
        ("no-transaction", None, _) => header.no_transaction = true,
        ("lock-timeout", Some(value), None) => header.lock_timeout = Some(time(value, &span)?),
        ("statement-timeout", Some(value), None) => {
            header.statement_timeout = Some(time(value, &span)?);
        }
        ("lock-timeout" | "statement-timeout", ..) => {
            let text = format!("`{word}` wants one time");
            return Err(Diagnostic::error("migrate::header", text)
                .label(span, "")
                .help(format!("write it as `-- tow: {word} 5s`")));
        }
        (word, None, _) if Kind::from_word(word).is_some() => {
            header.kind = Kind::from_word(word).unwrap_or_default();
        }
        _ => return Err(unknown(word, text, span)),
    }
    Ok(())
}

fn unknown(word: &str, text: &str, span: Span) -> Diagnostic {
    let near = closest(word, WORDS.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    Diagnostic::error("migrate::header", format!("`{text}` says nothing here"))
        .label(span, "")
        .help(near.unwrap_or_else(|| {
            format!("what a header may say, after commas: {}", WORDS.join(", "))
        }))
}

/// `500ms`, `2s`, `5min`.
fn time(text: &str, span: &Span) -> Result<Duration, Diagnostic> {
    let split = text
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "min" => Some(60_000),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok().filter(|number| *number > 0);
    // The greatest that PostgreSQL takes.
    let ms = number
        .zip(scale)
        .and_then(|(number, scale)| number.checked_mul(scale))
        .filter(|ms| i32::try_from(*ms).is_ok());
    ms.map(Duration::from_millis).ok_or_else(|| {
        Diagnostic::error("migrate::header", format!("`{text}` is not a time"))
            .label(span.clone(), "")
            .help("a whole number with its unit: `500ms`, `2s`, `5min`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_before_the_sql_are_read_and_no_others() {
        let text = "-- why\n\n--tow: contract, lock-timeout 2s\n-- tow: no-transaction\nSELECT 1;\n-- tow: nonsense\n";
        let header = read(text).unwrap();
        assert_eq!(header.kind, Kind::Contract);
        assert!(header.no_transaction);
        assert_eq!(header.lock_timeout, Some(Duration::from_secs(2)));
        assert_eq!(read("SELECT 1; -- tow: x").unwrap(), Header::default());
    }

    #[test]
    fn a_word_that_is_none_is_told_with_its_place() {
        let text = "-- tow: contract, rewirte\n-- tow: lock-timeout 2\n-- tow: lock-timeout";
        let wrong = read(text).unwrap_err();
        let places: Vec<&str> = wrong
            .iter()
            .map(|one| &text[one.labels[0].span.clone()])
            .collect();
        assert_eq!(places, ["rewirte", "lock-timeout 2", "lock-timeout"]);
    }
}
