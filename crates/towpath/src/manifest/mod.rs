//! `tow.toml` as typed, with the place of everything in it.
//!
//! The text is parsed, then walked along the table of keys ([`keys`]); everything that is wrong is gathered, each with
//! its place. Short forms become long ones on the way. What a manifest means in an environment is for `config` to say:
//! this module depends on the text alone, so a release can carry the text to another machine.
pub mod edge;
mod edit;
pub mod form;
mod image;
pub mod keys;
mod load;
pub mod schedule;
mod schema;
mod service;
pub mod shape;
pub mod value;
mod walk;

use crate::diagnostic::{Diagnostic, Report, Span};

pub use edit::{Cloned, clone_environment};
pub use schema::schema;
use value::Value;

/// Longest manifest, bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Code of what is there twice.
const DUPLICATE: &str = "manifest::duplicate";

/// The environment that is there without being named.
pub const LOCAL: &str = "local";

/// A manifest whose every key and value is of the right shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    name: String,
    text: String,
    root: Value,
    /// Where each line ends; a line is asked for with every value that is explained.
    line_ends: Vec<usize>,
}

impl Manifest {
    /// Parses a manifest; `name` is what its file is called in messages.
    ///
    /// # Errors
    /// Everything that is wrong with the syntax, the keys and the values.
    pub fn parse(name: &str, text: &str) -> Result<Self, Report> {
        match Self::read(name, text) {
            (Some(manifest), diagnostics) if diagnostics.is_empty() => Ok(manifest),
            (_, diagnostics) => Err(Report::new(name, shown(text), diagnostics)),
        }
    }

    /// Parses the bytes of a file.
    ///
    /// # Errors
    /// As [`Manifest::parse`], and bytes that are no UTF-8.
    pub fn parse_bytes(name: &str, bytes: &[u8]) -> Result<Self, Report> {
        if bytes.len() > MAX_BYTES {
            return Err(Report::new(name, "", vec![too_large(bytes.len())]));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(name, text),
            Err(error) => Err(not_utf8(name, bytes, error.valid_up_to())),
        }
    }

    /// Parses what can be parsed, and says what is wrong with the rest; nothing can be if the text is no TOML.
    pub fn read(name: &str, text: &str) -> (Option<Self>, Vec<Diagnostic>) {
        if text.len() > MAX_BYTES {
            return (None, vec![too_large(text.len())]);
        }
        let (document, errors) = toml::de::DeTable::parse_recoverable(text);
        let mut diagnostics: Vec<_> = errors.iter().map(|error| syntax(text, error)).collect();
        // Of two entries with one key the first counts, and the rest of the file can still be looked at.
        if diagnostics.iter().any(|d| d.code != DUPLICATE) {
            return (None, diagnostics);
        }
        let mut walker = walk::Walker::default();
        let root = walker.root(document.get_ref(), 0..text.len());
        diagnostics.extend(walker.diagnostics);
        let manifest = Self {
            name: name.to_owned(),
            text: text.to_owned(),
            root,
            line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
        };
        (Some(manifest), diagnostics)
    }

    /// What its file is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text as typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The root table.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// The value of a key of the root table.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.root.as_table()?.get(key)
    }

    /// What stands under `[environments.NAME]`, if anything does.
    pub fn environment(&self, name: &str) -> Option<&Value> {
        self.get("environments")?.as_table()?.get(name)
    }

    /// The environments: local, then the others in the order of the file.
    pub fn environments(&self) -> Vec<&str> {
        let named = self.get("environments").and_then(Value::as_table);
        let named = named.into_iter().flat_map(|table| &table.entries);
        std::iter::once(LOCAL)
            .chain(
                named
                    .map(|entry| entry.key.as_str())
                    .filter(|name| *name != LOCAL),
            )
            .collect()
    }

    /// Line, from 1, of a place in the text.
    pub fn line(&self, span: &Span) -> usize {
        self.line_ends.partition_point(|end| *end < span.start) + 1
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Diagnostic {
    let message = error.message();
    let span = error.span().unwrap_or(0..0);
    if message == "duplicate key" {
        let key = text.get(span.clone()).unwrap_or_default();
        return Diagnostic::error(DUPLICATE, format!("`{key}` is there twice"))
            .label(span, "again here, in the same table");
    }
    Diagnostic::error("manifest::syntax", message).label(span, "not TOML from here")
}

/// The text that a report carries: none where it is too large to be looked at.
fn shown(text: &str) -> &str {
    match text.len() > MAX_BYTES {
        true => "",
        false => text,
    }
}

fn too_large(bytes: usize) -> Diagnostic {
    Diagnostic::error("manifest::too-large", "the manifest is larger than 1 MiB")
        .note(format!(
            "it has {bytes} bytes; at most {MAX_BYTES} are read"
        ))
        .help("check that the file is a manifest")
}

fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> Report {
    let line = bytes[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
    let diagnostic = Diagnostic::error("manifest::not-utf8", format!("{name} is not UTF-8"))
        .note(format!(
            "byte {valid}, on line {line}, is no part of a character"
        ))
        .help("save the file as UTF-8");
    Report::new(name, "", vec![diagnostic])
}
