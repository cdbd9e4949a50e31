//! Values that name a file of a database by a relative path: it would lie in the tree of one release, and stay there.

use crate::diagnostic::{Diagnostic, Span};
use crate::manifest::LOCAL;

use super::sheet::Reader;
use super::{Part, Template};

/// What such files end with.
const ENDS: [&str; 3] = [".db", ".sqlite", ".sqlite3"];

/// The first steps of paths that are meant from the root of the machine: `sqlite:///var/lib/notes.db` is absolute to
/// some libraries and relative to others, and who writes that means the former.
const OF_MACHINE: [&str; 9] = [
    "etc", "home", "mnt", "opt", "root", "run", "srv", "tmp", "var",
];

/// A value that names a file of a database by a relative path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeFile<'a> {
    /// What stands before the path: nothing, or the beginning of a URL.
    pub start: &'a str,
    /// The path.
    pub path: &'a str,
    /// What stands behind it: nothing, or parameters of a URL.
    pub end: &'a str,
}

impl<'a> RelativeFile<'a> {
    /// What a value names, if it is that.
    #[must_use]
    pub fn of(value: &'a str) -> Option<Self> {
        if value.contains("${") || value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return None;
        }
        let (start, rest) = match value.find(':') {
            None => ("", value),
            Some(at) => value.split_at(start_of_path(value, at)?),
        };
        let (path, end) = match start.is_empty() {
            true => (rest, ""),
            false => rest.split_at(rest.find('?').unwrap_or(rest.len())),
        };
        let is_relative = !path.is_empty() && !path.starts_with(['/', '~', '$', ':']);
        // Of a URL of SQLite nothing else can be meant.
        let is_file = start.starts_with("sqlite") || is_named(path);
        let is_of_machine = start.ends_with("///") && OF_MACHINE.contains(&first(path));
        (is_relative && is_file && !is_of_machine).then_some(Self { start, path, end })
    }

    /// As it is given to a service, with `path` in its place.
    #[must_use]
    pub fn with(&self, path: &str) -> String {
        format!("{}{path}{}", self.start, self.end)
    }
}

/// Where the path begins in a URL whose scheme ends at `at`.
fn start_of_path(value: &str, at: usize) -> Option<usize> {
    let (scheme, rest) = (&value[..at], &value[at + 1..]);
    let is_sqlite = matches!(scheme.split('+').next(), Some("sqlite" | "sqlite3"));
    let slashes = match rest.strip_prefix("//") {
        // `sqlite:///notes.db`: no host, and a path that does not begin with a slash of its own.
        Some(rest) if is_sqlite => 2 + usize::from(rest.starts_with('/')),
        None if is_sqlite || scheme == "file" => 0,
        _ => return None,
    };
    Some(at + 1 + slashes)
}

fn is_named(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = ENDS.iter().find_map(|end| name.strip_suffix(end));
    let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    stem.is_some_and(|stem| !stem.is_empty() && stem.chars().all(is_plain))
}

fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// Warns of such a value of the variable `name` that a service is given, and that stands at `span`.
pub(super) fn check(value: &Reader<'_>, name: &str, template: &Template, span: Span) {
    let [Part::Text(text)] = template.parts.as_slice() else {
        return;
    };
    // The source tree is the only one of `local`: what counts there is what the others are given.
    let sheet = value.sheet;
    let has_releases = sheet.environment != LOCAL || sheet.manifest.environments() == [LOCAL];
    let Some(file) = RelativeFile::of(text).filter(|_| has_releases) else {
        return;
    };
    let message = format!(
        "`{name}` names a file of a database inside the tree: `{}`",
        file.path
    );
    sheet.report(
        Diagnostic::warning("config::file-in-tree", message)
            .label(span, "each release has a tree of its own, and would begin without data")
            .note("what is written there is not carried to the next release, and not backed up")
            .help(format!(
                "`{}` of a resource with `kind = \"sqlite\"`, or a file in one of `kind = \"storage\"`: `${{NAME.path}}/{}`",
                file.with("${NAME.path}"),
                file.path.rsplit('/').next().unwrap_or_default(),
            )),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_files_are_known_in_every_form() {
        for (value, path, with) in [
            ("guestbook.db", "guestbook.db", "P"),
            ("./data/a.sqlite3", "./data/a.sqlite3", "P"),
            ("../a.sqlite", "../a.sqlite", "P"),
            ("sqlite:///guestbook.db", "guestbook.db", "sqlite:///P"),
            ("sqlite://a.db?mode=rwc", "a.db", "sqlite://P?mode=rwc"),
            ("sqlite:data.db", "data.db", "sqlite:P"),
            ("sqlite:data", "data", "sqlite:P"),
            (
                "sqlite+aiosqlite:///./a.db",
                "./a.db",
                "sqlite+aiosqlite:///P",
            ),
            ("file:./dev.db?x=1", "./dev.db", "file:P?x=1"),
        ] {
            let found = RelativeFile::of(value).unwrap_or_else(|| panic!("{value}"));
            assert_eq!((found.path, found.with("P").as_str()), (path, with));
        }
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        for value in [
            "",
            ".db",
            "/srv/a.db",
            "~/a.db",
            "$HOME/a.db",
            "${db.path}",
            "sqlite:///${db.path}",
            "sqlite:////srv/a.db",
            "sqlite:///srv/a.db",
            "sqlite::memory:",
            "sqlite:///:memory:",
            "sqlite://",
            "file:/srv/a.db",
            "file:notes.txt",
            "postgres://db/a.db",
            "http://a.db",
            "localhost:5432",
            "*.db",
            "a.db,b.db",
            "words with a.db",
            "notes.database",
        ] {
            assert_eq!(RelativeFile::of(value), None, "{value}");
        }
    }
}
