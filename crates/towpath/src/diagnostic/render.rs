//! Diagnostics as text for people, and as JSON for machines.

use annotate_snippets::{
    AnnotationKind, Element, Group, Level, Renderer, Snippet, Title, normalize_untrusted_str,
};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::{Diagnostic, Label, Report, Severity, Span};

/// Diagnostics shown in full; a file with more of them is best mended from the top.
const SHOWN: usize = 100;

impl Diagnostic {
    /// As text, with a line end; labels are left out, for they need the text they point into.
    pub fn render(&self, colour: bool) -> String {
        let renderer = renderer(colour);
        let title = Group::with_title(self.title());
        let mut text = finish(renderer.render(&[title]));
        for note in &self.notes {
            text.push_str(&note_line(note, colour));
        }
        if let Some(help) = self.help_group() {
            text.push_str(&finish(renderer.render(&[help])));
        }
        text
    }

    fn title(&self) -> Title<'_> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        level
            .primary_title(clean(&self.message))
            .id(self.code.as_ref())
    }

    fn help_group(&self) -> Option<Group<'_>> {
        let help = self.help.as_ref()?;
        Some(Group::with_title(Level::HELP.secondary_title(clean(help))))
    }

    /// In parts, with the lines of the source that the labels touch.
    fn groups<'a>(&'a self, source: &'a Report) -> Vec<Group<'a>> {
        let notes = self
            .notes
            .iter()
            .map(|note| Element::from(Level::NOTE.message(clean(note))));
        let main = Group::with_title(self.title())
            .elements(snippet(source, &self.labels))
            .elements(notes);
        std::iter::once(main).chain(self.help_group()).collect()
    }
}

impl Report {
    /// As text: each with file, line, column and the place marked.
    pub fn render(&self, colour: bool) -> String {
        let renderer = renderer(colour);
        let mut text = String::new();
        for diagnostic in self.diagnostics.iter().take(SHOWN) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&match diagnostic.labels.is_empty() {
                true => diagnostic.render(colour),
                false => finish(renderer.render(&diagnostic.groups(self))),
            });
        }
        if self.diagnostics.len() > SHOWN {
            let more = self.diagnostics.len() - SHOWN;
            text.push_str(&format!("\n... and {more} more\n"));
        }
        text
    }
}

/// Only the lines that the labels touch: a caret needs no megabyte around it.
fn snippet<'a>(
    report: &'a Report,
    labels: &'a [Label],
) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let window = window(&report.text, labels)?;
    let line = report.text[..window.start].matches('\n').count() + 1;
    let annotations = labels.iter().enumerate().map(|(index, label)| {
        let kind = match index {
            0 => AnnotationKind::Primary,
            _ => AnnotationKind::Context,
        };
        let annotation = kind.span(shift(&label.span, &window));
        match label.text.is_empty() {
            true => annotation,
            false => annotation.label(clean(&label.text)),
        }
    });
    Some(
        Snippet::source(&report.text[window.clone()])
            .line_start(line)
            .path(&report.name)
            .annotations(annotations),
    )
}

fn window(text: &str, labels: &[Label]) -> Option<Span> {
    let start = labels.iter().map(|label| label.span.start).min()?;
    let end = labels.iter().map(|label| label.span.end).max()?;
    let start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[end..].find('\n').map_or(text.len(), |at| end + at);
    Some(start..end)
}

fn shift(span: &Span, window: &Span) -> Span {
    span.start - window.start..span.end - window.start
}

/// A note where there is no source beside it; its further lines stand below its first.
fn note_line(note: &str, colour: bool) -> String {
    let note = clean(note).replace('\n', "\n          ");
    match colour {
        true => format!("  \x1b[1;94m=\x1b[0m \x1b[1;92mnote\x1b[0m: {note}\n"),
        false => format!("  = note: {note}\n"),
    }
}

fn renderer(colour: bool) -> Renderer {
    match colour {
        true => Renderer::styled(),
        false => Renderer::plain(),
    }
}

/// Text from a file or a process may hold control characters that would drive the terminal.
fn clean(text: &str) -> String {
    text.split('\n')
        .map(normalize_untrusted_str)
        .collect::<Vec<_>>()
        .join("\n")
}

fn finish(rendered: String) -> String {
    let mut text: String = rendered
        .lines()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

impl Serialize for Report {
    /// The text itself is left out; each label has its line and column instead.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Report", 2)?;
        map.serialize_field("file", &self.name)?;
        let diagnostics: Vec<_> = self.diagnostics.iter().map(|d| self.located(d)).collect();
        map.serialize_field("diagnostics", &diagnostics)?;
        map.end()
    }
}

impl Report {
    fn located(&self, diagnostic: &Diagnostic) -> serde_json::Value {
        let labels: Vec<_> = diagnostic
            .labels
            .iter()
            .map(|label| {
                let (line, column) = self.position(label.span.start);
                serde_json::json!({
                    "line": line, "column": column, "text": label.text,
                    "start": label.span.start, "end": label.span.end,
                })
            })
            .collect();
        serde_json::json!({
            "code": diagnostic.code, "severity": diagnostic.severity, "message": diagnostic.message,
            "labels": labels, "notes": diagnostic.notes, "help": diagnostic.help,
        })
    }
}
