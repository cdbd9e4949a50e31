//! Reading merged tables into typed values, with the origin of each written down on the way.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Purpose;
use crate::diagnostic::{Diagnostic, Span};
use crate::manifest::Manifest;
use crate::manifest::form;
use crate::manifest::value::{Entry, Kind, Value};

/// A resolved value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its path: `services.api.replicas`.
    pub path: String,
    /// The value, as it would be typed.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// What it would be without the environment, where that says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Overridden>,
}

/// A shared value that an environment has put another in the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overridden {
    /// The value, as it would be typed.
    pub value: String,
    /// Where it stands.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// The shared tables.
    Shared {
        /// The manifest.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// The environment.
    Environment {
        /// The manifest.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// Something else brought it: an entry of `needs` a variable, a reference in `env` a need.
    Injected {
        /// The manifest.
        file: String,
        /// Line of what brought it, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::Shared { file, line } => write!(formatter, "{file}:{line}, shared"),
            Origin::Environment { file, line } => write!(formatter, "{file}:{line}, environment"),
            Origin::Injected { file, line } => {
                write!(formatter, "{file}:{line}, injected")
            }
        }
    }
}

/// What reading gathers.
pub(super) struct Sheet<'a> {
    pub manifest: &'a Manifest,
    pub environment: &'a str,
    pub purpose: Purpose,
    pub explained: RefCell<Vec<Explained>>,
    pub diagnostics: RefCell<Vec<Diagnostic>>,
}

impl<'a> Sheet<'a> {
    pub fn new(manifest: &'a Manifest, environment: &'a str) -> Self {
        Self {
            manifest,
            environment,
            purpose: Purpose::Real,
            explained: RefCell::default(),
            diagnostics: RefCell::default(),
        }
    }

    pub fn report(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    pub fn explain(&self, path: String, value: String, origin: Origin) {
        self.explained.borrow_mut().push(Explained {
            path,
            value,
            origin,
            overridden: None,
        });
    }

    /// The shared value at `path`, where `value` stands in an environment.
    fn overridden(&self, path: &str, value: &Value) -> Option<Overridden> {
        let below = self.manifest.root().find(path);
        let below = below.filter(|_| value.environment)?;
        Some(Overridden {
            value: below.shown(),
            origin: self.origin(below),
        })
    }

    pub fn injected(&self, span: &Span) -> Origin {
        let (file, line) = self.place(span);
        Origin::Injected { file, line }
    }

    fn origin(&self, value: &Value) -> Origin {
        let (file, line) = self.place(&value.span);
        match value.environment {
            true => Origin::Environment { file, line },
            false => Origin::Shared { file, line },
        }
    }

    fn place(&self, span: &Span) -> (String, usize) {
        (self.manifest.name().to_owned(), self.manifest.line(span))
    }
}

/// A place in the merged tables that may hold a value.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    pub sheet: &'a Sheet<'a>,
    pub path: String,
    pub value: Option<&'a Value>,
    /// Place of its key, or of the nearest table that has one.
    pub key: Span,
}

impl<'a> Reader<'a> {
    pub fn root(sheet: &'a Sheet<'a>, root: &'a Value) -> Self {
        Self {
            sheet,
            path: String::new(),
            value: Some(root),
            key: 0..0,
        }
    }

    pub fn at(&self, key: &str) -> Self {
        let entry = self
            .value
            .and_then(Value::as_table)
            .and_then(|table| table.entry(key));
        Self {
            sheet: self.sheet,
            path: self.below(key),
            value: entry.map(|entry| &entry.value),
            key: entry.map_or(self.key.clone(), |entry| entry.key_span.clone()),
        }
    }

    /// The entries of a table of names, in the order of the file.
    pub fn entries(&self) -> Vec<(&'a str, Self)> {
        let table = self.value.and_then(Value::as_table);
        let mut entries: Vec<&'a Entry> =
            table.into_iter().flat_map(|table| &table.entries).collect();
        entries.sort_by_key(|entry| (entry.value.environment, entry.key_span.start));
        entries
            .into_iter()
            .map(|entry| (entry.key.as_str(), self.at(&entry.key)))
            .collect()
    }

    /// The items of an array.
    pub fn items(&self) -> Vec<Self> {
        let items = self.value.map_or(&[][..], Value::items);
        let item = |(index, value): (usize, &'a Value)| Self {
            sheet: self.sheet,
            path: format!("{}[{index}]", self.path),
            value: Some(value),
            key: value.span.clone(),
        };
        items.iter().enumerate().map(item).collect()
    }

    pub fn is_absent(&self) -> bool {
        self.value.is_none()
    }

    pub fn is_false(&self) -> bool {
        self.value
            .is_some_and(|value| value.kind == Kind::Bool(false))
    }

    /// Where to point: at the value, else at the key of the table that lacks it.
    pub fn span(&self) -> Span {
        self.value
            .map_or(self.key.clone(), |value| value.span.clone())
    }

    pub fn text(&self) -> Option<&'a str> {
        let text = self.value?.as_text()?;
        self.note(format!("{text:?}"));
        Some(text)
    }

    /// The text, without writing down that it was read.
    pub fn quiet_text(&self) -> Option<&'a str> {
        self.value?.as_text()
    }

    pub fn text_or(&self, default: &str) -> String {
        self.text().map_or_else(
            || self.default(default, format!("{default:?}")),
            str::to_owned,
        )
    }

    pub fn path_or(&self, default: &str) -> PathBuf {
        self.text_or(default).into()
    }

    pub fn flag(&self, default: bool) -> bool {
        match self.value.map(|value| &value.kind) {
            Some(Kind::Bool(yes)) => {
                self.note(yes.to_string());
                *yes
            }
            _ => self.default(default, default.to_string()),
        }
    }

    pub fn integer(&self, default: u32) -> u32 {
        match self.value.map(|value| &value.kind) {
            Some(Kind::Integer(number)) => {
                self.note(number.to_string());
                (*number).try_into().unwrap_or(default)
            }
            _ => self.default(default, default.to_string()),
        }
    }

    pub fn share(&self, default: f64) -> f64 {
        match self.value.map(|value| &value.kind) {
            Some(Kind::Float(number)) => {
                self.note(number.to_string());
                *number
            }
            _ => self.default(default, default.to_string()),
        }
    }

    pub fn duration(&self, default: &str) -> Duration {
        form::duration(&self.text_or(default)).unwrap_or_default()
    }

    pub fn size(&self, default: &str) -> u64 {
        form::size(&self.text_or(default)).unwrap_or_default()
    }

    pub fn statuses(&self, default: &[u16]) -> Vec<u16> {
        if self.is_absent() {
            return self.default(default.to_vec(), format!("{default:?}"));
        }
        let number = |item: Self| match item.value?.kind {
            Kind::Integer(number) => number.try_into().ok(),
            _ => None,
        };
        let statuses: Vec<u16> = self.items().into_iter().filter_map(number).collect();
        self.note(format!("{statuses:?}"));
        statuses
    }

    /// The texts of an array, each with its place.
    pub fn texts(&self) -> Vec<(String, Span)> {
        let text = |item: &Self| Some((item.value?.as_text()?.to_owned(), item.span()));
        let texts: Vec<(String, Span)> = self.items().iter().filter_map(text).collect();
        let names: Vec<_> = texts.iter().map(|(text, _)| text).collect();
        match self.is_absent() {
            true => self.default((), "[]".to_owned()),
            false => self.note(format!("{names:?}")),
        }
        texts
    }

    /// Writes down that this value was read.
    pub fn note(&self, shown: String) {
        self.note_as(&self.path, shown);
    }

    /// Writes down under another path that this value was read.
    pub fn note_as(&self, path: &str, shown: String) {
        if let Some(value) = self.value {
            self.sheet.explained.borrow_mut().push(Explained {
                path: path.to_owned(),
                value: shown,
                origin: self.sheet.origin(value),
                overridden: self.sheet.overridden(&self.path, value),
            });
        }
    }

    /// The path of the table that it stands in.
    pub fn above(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(above, _)| above)
    }

    fn default<T, U: From<T>>(&self, value: T, shown: String) -> U {
        // Something invalid was reported already and is no default.
        if self.is_absent() {
            self.sheet
                .explain(self.path.clone(), shown, Origin::Default);
        }
        value.into()
    }

    fn below(&self, key: &str) -> String {
        match self.path.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.path),
        }
    }
}
