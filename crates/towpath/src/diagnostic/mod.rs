//! What went wrong, what is true now, and what to do next.
//!
//! A [`Diagnostic`] is data: a stable code, a message, labels on a source text, notes and a help line. It is rendered
//! only at the edge, as text or as JSON. One about a file lives in a [`Report`], which owns the text that its labels
//! point into; one about a run has no labels and renders by itself.
mod render;
mod suggest;

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use suggest::closest;

/// Bytes of a source text, from its start.
pub type Span = Range<usize>;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// What was asked is not done.
    Error,
    /// It is done, but should be looked at.
    Warning,
}

/// A place in the source text, and what to say there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is said there; may be empty.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable name: `module::what`.
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
    /// What failed, in one line.
    pub message: String,
    /// Where; the first is the place itself, the others explain it.
    pub labels: Vec<Label>,
    /// What is true now.
    pub notes: Vec<String>,
    /// What to do next.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error with nothing but its message.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message.into())
    }

    /// A warning with nothing but its message.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message.into())
    }

    fn new(code: &'static str, severity: Severity, message: String) -> Self {
        Self {
            code: Cow::Borrowed(code),
            severity,
            message,
            labels: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// Adds a place in the source text.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds something that is true now.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Says what to do next, where there is something to say.
    #[must_use]
    pub fn maybe_help(mut self, text: Option<String>) -> Self {
        self.help = text.or(self.help);
        self
    }
}

/// Diagnostics about one source text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Name of the source, as the user knows it.
    pub name: String,
    /// The source text.
    pub text: String,
    /// What is wrong with it, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// A report on a text. Labels are brought inside the text, and what is said twice is said once.
    pub fn new(name: &str, text: &str, diagnostics: Vec<Diagnostic>) -> Self {
        let mut report = Self {
            name: name.to_owned(),
            text: text.to_owned(),
            diagnostics,
        };
        report.tidy();
        report
    }

    /// Whether anything in it is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Adds further diagnostics about the same text.
    pub fn extend(&mut self, diagnostics: Vec<Diagnostic>) {
        self.diagnostics.extend(diagnostics);
        self.tidy();
    }

    /// Line and column, both from 1, of a byte; columns count characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..floor(&self.text, byte)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }

    fn tidy(&mut self) {
        for label in self.diagnostics.iter_mut().flat_map(|d| &mut d.labels) {
            label.span = inside(&self.text, &label.span);
        }
        self.diagnostics
            .sort_by_key(|d| d.labels.first().map_or(0, |label| label.span.start));
        let mut seen = std::collections::HashSet::new();
        self.diagnostics.retain(|d| seen.insert(d.clone()));
    }
}

/// The span cut to the text and widened to whole characters.
fn inside(text: &str, span: &Span) -> Span {
    let start = floor(text, span.start);
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

fn floor(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}
