//! What stands against a migration, and how a person is told.

use std::fmt;
use std::path::PathBuf;

use super::Kind;
use crate::diagnostic::{Diagnostic, Report, Span};

/// A statement that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The migration's number.
    pub version: u64,
    /// Where, and what the database said.
    pub report: Report,
    /// PostgreSQL's code, or SQLite's.
    pub code: String,
    /// What is true now, where it is not "as before".
    pub left: Option<String>,
}

/// Why migrations could not be read or applied. The database is as it was before the migration named, but for what
/// [`Failed::left`] and [`Error::Unfinished`] say.
#[derive(Debug)]
pub enum Error {
    /// The folder or a file cannot be read.
    Io(PathBuf, std::io::Error),
    /// A file's name is not of the form `0001_name.up.sql`.
    Name(String),
    /// Two migrations have the same number: the files.
    Duplicate(u64, String, String),
    /// What the files say about themselves is wrong.
    Invalid(Vec<Report>),
    /// A migration was edited after it was applied.
    Edited(u64, String),
    /// A migration that was applied is not in the folder.
    Missing(u64, String),
    /// A migration ended or began a transaction of its own.
    Transaction(u64),
    /// There is no `.down.sql`.
    NoDown(u64),
    /// A statement failed.
    Sql(Box<Failed>),
    /// Another runner is at work: who.
    Busy(String),
    /// The database, or a table of it, stayed locked: by whom.
    Locked(u64, String),
    /// It broke off in a statement of which only a person can tell whether it is done.
    Unfinished(u64, Box<Report>),
    /// Rows refer to rows that are gone, after the migration and not before.
    ForeignKeys(u64, Vec<String>),
    /// Going up and down again leaves another schema.
    RoundTrip(Vec<String>),
    /// The database itself.
    Database(String),
}

/// What this module's functions give.
pub type Outcome<T> = Result<T, Error>;

impl Error {
    pub(super) fn sql(version: u64, file: &str, text: &str, span: Span, said: Said) -> Error {
        let mut diagnostic = Diagnostic::error("migrate::failed", said.message).label(span, "");
        diagnostic.notes = said.notes;
        diagnostic.help = said.help;
        Error::Sql(Box::new(Failed {
            version,
            report: Report::new(file, text, vec![diagnostic]),
            code: said.code,
            left: None,
        }))
    }

    /// Says what is true now, where that is not "as before".
    pub(super) fn leaving(self, what: impl Into<String>) -> Error {
        match self {
            Error::Sql(mut failed) => {
                failed.left = Some(what.into());
                Error::Sql(failed)
            }
            other => other,
        }
    }

    /// Whether it is about what is asked for, and not about the database: nothing was touched.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(
            self,
            Error::Io(..)
                | Error::Name(_)
                | Error::Duplicate(..)
                | Error::Invalid(_)
                | Error::Edited(..)
                | Error::Missing(..)
                | Error::NoDown(_)
        )
    }

    /// What a person is told; `resource` is whose migrations they are.
    #[must_use]
    pub fn diagnostic(&self, resource: &str) -> Diagnostic {
        let text = format!("`{resource}`: {self}");
        match self {
            Error::Invalid(reports) => {
                let diagnostic = Diagnostic::error("migrate::invalid", text);
                let shown = reports.iter().map(|report| report.render(false));
                shown
                    .fold(diagnostic, |diagnostic, shown| diagnostic.note(shown.trim_end()))
                    .note("nothing was applied")
            }
            Error::Sql(failed) => {
                let left = failed.left.clone().unwrap_or_else(|| {
                    "the failing migration left nothing; those before it stay".to_owned()
                });
                Diagnostic::error("migrate::failed", text)
                    .note(failed.report.render(false).trim_end())
                    .note(left)
                    .help("mend the migration under its own number")
            }
            Error::Unfinished(version, report) => Diagnostic::error("migrate::unfinished", text)
                .note(report.render(false).trim_end())
                .note("nothing was done now")
                .help(format!(
                    "look whether the statement has had its effect: if so, `tow migrate baseline {version}`; if not, write it with \
                     `IF NOT EXISTS` (an unfinished migration may be edited)"
                )),
            other => Diagnostic::error(other.code(), text)
                .note(match other {
                    Error::Busy(_) => "nothing was done now",
                    _ if other.is_invalid() => "nothing was applied",
                    _ => "the migration left nothing; those before it stay",
                })
                .maybe_help(other.help()),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Error::Edited(..) => "migrate::edited",
            Error::Missing(..) => "migrate::missing",
            Error::Busy(_) => "migrate::busy",
            Error::Locked(..) => "migrate::locked",
            Error::ForeignKeys(..) => "migrate::foreign-keys",
            Error::RoundTrip(_) => "migrate::round-trip",
            Error::Database(_) | Error::Transaction(_) => "migrate::failed",
            _ => "migrate::invalid",
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Error::Edited(..) => {
                "put the file back as it was, and write a new migration with the next number"
            }
            Error::Missing(..) => {
                "put the file back; where it is of another branch, merge that first"
            }
            Error::Duplicate(..) => "give one of them the next free number",
            Error::Name(_) => "`tow migrate new NAME` writes both files",
            Error::Busy(_) => "wait until it is done, or end it",
            Error::Locked(..) => {
                "try again when that is done, or allow a longer wait: `-- tow: lock-timeout 30s`"
            }
            Error::NoDown(_) => "write one, or restore the backup of the run that applied it",
            Error::ForeignKeys(..) => "move or remove those rows in the same migration",
            _ => return None,
        };
        Some(help.to_owned())
    }
}

/// What a database said about a statement.
pub(super) struct Said {
    pub(super) message: String,
    pub(super) code: String,
    pub(super) notes: Vec<String>,
    pub(super) help: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Name(name) => write!(
                f,
                "`{name}` is not of the form `0001_name.up.sql` or `.down.sql`"
            ),
            Error::Duplicate(version, first, second) => {
                write!(
                    f,
                    "number {version:04} is taken twice: `{first}` and `{second}`"
                )
            }
            Error::Invalid(reports) => {
                let files: Vec<String> = reports
                    .iter()
                    .map(|report| format!("`{}`", report.name))
                    .collect();
                write!(f, "{} cannot be applied as it is", files.join(", "))
            }
            Error::Edited(version, name) => {
                write!(
                    f,
                    "migration {version:04}_{name} was edited after it was applied"
                )
            }
            Error::Missing(version, name) => {
                write!(
                    f,
                    "migration {version:04}_{name} was applied, and is not in the folder"
                )
            }
            Error::Transaction(version) => {
                write!(
                    f,
                    "migration {version:04} begins or ends a transaction itself"
                )
            }
            Error::NoDown(version) => write!(f, "migration {version:04} has no `.down.sql`"),
            Error::Sql(failed) => {
                write!(f, "migration {:04} failed", failed.version)?;
                let said = failed.report.diagnostics.first();
                said.map_or(Ok(()), |said| write!(f, ": {}", said.message))
            }
            Error::Busy(who) => write!(f, "another runner is at work: {who}"),
            Error::Locked(version, who) => {
                write!(
                    f,
                    "migration {version:04} did not get its lock in time: {who}"
                )
            }
            Error::Unfinished(version, _) => {
                write!(
                    f,
                    "migration {version:04} broke off, and only a person can tell where"
                )
            }
            Error::ForeignKeys(version, rows) => {
                write!(
                    f,
                    "after migration {version:04} rows refer to others that are not there: {}",
                    rows.join("; ")
                )
            }
            Error::RoundTrip(lines) => {
                write!(
                    f,
                    "up and down again leaves another schema: {}",
                    lines.join("; ")
                )
            }
            Error::Database(said) => f.write_str(said),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Database(error.to_string())
    }
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Error {
        Error::Database(super::postgres::said(&error).message)
    }
}

/// Why a contract or a rewrite cannot be where an expansion has to be.
impl Kind {
    /// Whether a version that does not know it goes on working.
    #[must_use]
    pub fn is_borne(self) -> bool {
        self == Kind::Expand
    }
}
