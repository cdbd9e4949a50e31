//! A script as statements, and those as words: enough to know what a statement is, without knowing all of its grammar.

use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::error::Said;
use super::{Engine, Error, Script};
use crate::diagnostic::{Diagnostic, Span};

/// One word, name, literal or mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lexeme {
    /// A bare word, in capitals.
    Word(String),
    /// A name in quotes.
    Name(String),
    /// A literal.
    Literal,
    /// Anything else.
    Mark(String),
}

/// A lexeme and where it stands in the script.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) lexeme: Lexeme,
    pub(super) span: Span,
}

/// One statement, without its semicolon.
#[derive(Debug, Clone)]
pub(super) struct Statement<'a> {
    /// As it stands in the script, from its first word to its last.
    pub(super) text: &'a str,
    /// Where that is.
    pub(super) span: Span,
    pub(super) pieces: Vec<Piece>,
}

impl Statement<'_> {
    /// The bare word at that place, in capitals; empty for anything else.
    pub(super) fn word(&self, at: usize) -> &str {
        match self.pieces.get(at).map(|piece| &piece.lexeme) {
            Some(Lexeme::Word(word)) => word,
            _ => "",
        }
    }

    /// Whether these words stand there in a row.
    pub(super) fn has(&self, at: usize, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(index, word)| self.word(at + index) == *word)
    }

    /// Where these words stand in a row.
    pub(super) fn find(&self, words: &[&str]) -> Option<usize> {
        (0..self.pieces.len()).find(|at| self.has(*at, words))
    }

    pub(super) fn mark(&self, at: usize) -> &str {
        match self.pieces.get(at).map(|piece| &piece.lexeme) {
            Some(Lexeme::Mark(mark)) => mark,
            _ => "",
        }
    }

    /// The name at that place, its schema left out, and the place after it. A bare name is in lower case.
    pub(super) fn name(&self, at: usize) -> Option<(String, usize)> {
        let name = match &self.pieces.get(at)?.lexeme {
            Lexeme::Word(word) => word.to_lowercase(),
            Lexeme::Name(name) => name.clone(),
            _ => return None,
        };
        match self.mark(at + 1) {
            "." => self.name(at + 2),
            _ => Some((name, at + 1)),
        }
    }

    /// The place after `word` where it stands there, else the place itself.
    pub(super) fn past(&self, at: usize, words: &[&str]) -> usize {
        if self.has(at, words) {
            at + words.len()
        } else {
            at
        }
    }

    /// The span of some pieces.
    pub(super) fn span_of(&self, from: usize, to: usize) -> Span {
        let last = self.pieces.len().saturating_sub(1);
        let (from, to) = (from.min(last), to.min(last));
        match (self.pieces.get(from), self.pieces.get(to)) {
            (Some(first), Some(last)) => first.span.start..last.span.end,
            _ => self.span.clone(),
        }
    }
}

/// The statements of a migration's script.
///
/// # Errors
/// As [`split`], with the place in its file.
pub(super) fn statements_of(
    engine: Engine,
    version: u64,
    script: &Script,
) -> Result<Vec<Statement<'_>>, Error> {
    split(engine, &script.text).map_err(|diagnostic| {
        let span = diagnostic
            .labels
            .first()
            .map_or(0..0, |label| label.span.clone());
        let said = Said {
            message: diagnostic.message,
            code: String::new(),
            notes: diagnostic.notes,
            help: diagnostic.help,
        };
        Error::sql(version, &script.file, &script.text, span, said)
    })
}

/// Splits a script into its statements.
///
/// # Errors
/// When it cannot be read: a string or comment that does not end.
pub(super) fn split(engine: Engine, text: &str) -> Result<Vec<Statement<'_>>, Diagnostic> {
    let dialect: &dyn Dialect = match engine {
        Engine::Sqlite => &SQLiteDialect {},
        Engine::Postgres => &PostgreSqlDialect {},
    };
    let tokens = Tokenizer::new(dialect, text)
        .with_unescape(false)
        .tokenize_with_location();
    let tokens = tokens.map_err(|error| {
        let at = Places::new(text).byte(error.location);
        Diagnostic::error("migrate::unreadable", error.message).label(at..at + 1, "from here on")
    })?;
    let mut places = Places::new(text);
    let (mut statements, mut pieces) = (Vec::new(), Vec::new());
    let mut body = Body::default();
    for TokenWithSpan { token, span } in tokens {
        let span = places.byte(span.start)..places.byte(span.end);
        let Some(lexeme) = lexeme(token) else {
            continue;
        };
        if let Lexeme::Mark(mark) = &lexeme
            && hides_comment(mark)
        {
            return Err(unclear(span));
        }
        if lexeme == Lexeme::Mark(";".to_owned()) && !body.is_inside() {
            end(text, &mut pieces, &mut statements);
            body = Body::default();
            continue;
        }
        body.see(engine, &lexeme, pieces.len());
        pieces.push(Piece { lexeme, span });
    }
    end(text, &mut pieces, &mut statements);
    Ok(statements)
}

/// A run of operators that the databases read up to the comment in it.
fn hides_comment(mark: &str) -> bool {
    mark.contains("--") || mark.contains("/*")
}

fn unclear(span: Span) -> Diagnostic {
    Diagnostic::error("migrate::unreadable", "a comment begins within an operator")
        .label(span, "")
        .help("put a space before the comment")
}

fn end<'a>(text: &'a str, pieces: &mut Vec<Piece>, statements: &mut Vec<Statement<'a>>) {
    let pieces = std::mem::take(pieces);
    if let (Some(first), Some(last)) = (pieces.first(), pieces.last()) {
        let span = first.span.start..last.span.end;
        let text = &text[span.clone()];
        statements.push(Statement { text, span, pieces });
    }
}

fn lexeme(token: Token) -> Option<Lexeme> {
    Some(match token {
        Token::Whitespace(_) | Token::EOF => return None,
        Token::Word(word) if word.quote_style.is_none() => Lexeme::Word(word.value.to_uppercase()),
        Token::Word(word) => Lexeme::Name(word.value),
        Token::DoubleQuotedString(name) => Lexeme::Name(name),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_) => Lexeme::Literal,
        other => Lexeme::Mark(other.to_string()),
    })
}

/// Statements within a statement: the body of a trigger (SQLite) or of a function (`BEGIN ATOMIC`).
#[derive(Default)]
struct Body {
    can_have_one: bool,
    depth: usize,
    last: String,
}

impl Body {
    fn is_inside(&self) -> bool {
        self.depth > 0
    }

    fn see(&mut self, engine: Engine, lexeme: &Lexeme, at: usize) {
        let Lexeme::Word(word) = lexeme else {
            self.last = String::new();
            return;
        };
        let creates = at == 0 && word == "CREATE";
        let of_sqlite = engine == Engine::Sqlite;
        match word.as_str() {
            _ if creates => self.can_have_one = false,
            "TRIGGER" if of_sqlite && at < 3 => self.can_have_one = true,
            "FUNCTION" | "PROCEDURE" if !of_sqlite && at < 4 => self.can_have_one = true,
            "BEGIN" if of_sqlite && self.can_have_one && self.depth == 0 => self.depth = 1,
            "ATOMIC" if self.can_have_one && self.last == "BEGIN" => self.depth = 1,
            "CASE" if self.depth > 0 => self.depth += 1,
            "END" if self.depth > 0 => self.depth -= 1,
            _ => {}
        }
        self.last.clone_from(word);
    }
}

/// Turns lines and columns, which come in order, into bytes.
struct Places<'a> {
    chars: std::str::CharIndices<'a>,
    at: (u64, u64),
    len: usize,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Places<'a> {
        Places {
            chars: text.char_indices(),
            at: (1, 1),
            len: text.len(),
        }
    }

    fn byte(&mut self, wanted: Location) -> usize {
        while self.at < (wanted.line, wanted.column) {
            match self.chars.next() {
                Some((_, '\n')) => self.at = (self.at.0 + 1, 1),
                Some(_) => self.at.1 += 1,
                None => return self.len,
            }
        }
        self.chars.offset()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(engine: Engine, text: &str) -> Vec<&str> {
        let statements = split(engine, text).unwrap();
        statements.iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn semicolons_in_strings_comments_and_bodies_do_not_split() {
        let text = "-- a; b\nSELECT ';', \"x;\" /* ; */ ; CREATE TRIGGER t AFTER INSERT ON a BEGIN \
            SELECT CASE 1 WHEN 1 THEN 2 END; DELETE FROM b; END; SELECT 2";
        let found = texts(Engine::Sqlite, text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].ends_with("END"));
        let text = "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END; \
            DO $x$ BEGIN PERFORM 1; END $x$; SELECT E'\\';', 'é';";
        let found = texts(Engine::Postgres, text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[2], "SELECT E'\\';', 'é'");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for text in ["SELECT 'x", "SELECT 1 /* x"] {
            let found = split(Engine::Postgres, text);
            assert!(found.is_err(), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_comment_behind_an_operator_is_a_comment_or_is_refused() {
        for operator in ["+", "-", "@>", "<", "||", "%", "^", "!~"] {
            let text = format!("SELECT 1 {operator}--x; DROP TABLE a;\n2");
            let found = split(Engine::Postgres, &text);
            assert!(found.as_ref().map_or(1, Vec::len) == 1, "{text}: {found:?}");
        }
    }

    #[test]
    fn names_are_found_behind_their_schemas() {
        let found = split(Engine::Postgres, "DROP TABLE a.\"B c\", d").unwrap();
        assert_eq!(found[0].name(2), Some(("B c".to_owned(), 5)));
    }
}
