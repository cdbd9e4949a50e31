//! What a merged manifest lacks, and what in it this version understands but does not carry out.

use crate::diagnostic::{Diagnostic, Span, closest};
use crate::manifest::shape::{Field, Shape};
use crate::manifest::value::{Kind, Table, Value};

/// A place in the merged tables.
struct Place<'a> {
    path: String,
    key: Span,
    shape: &'a Shape,
    /// A name that stands beside it and may have been meant.
    meant: Option<String>,
}

/// Everything that is missing or not carried out yet.
pub(super) fn audit(root: &Value, shape: &Shape) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let place = Place {
        path: String::new(),
        key: 0..0,
        shape,
        meant: None,
    };
    visit(root, &place, &mut out);
    out
}

fn visit(value: &Value, place: &Place<'_>, out: &mut Vec<Diagnostic>) {
    match (&value.kind, place.shape) {
        (Kind::Table(table), Shape::Map { of, .. }) => entries(table, place, of, out),
        (Kind::Table(table), shape) if shape.keys().is_some() => fields(table, place, out),
        (Kind::List(items), Shape::List { of, .. }) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{}[{index}]", place.path);
                visit(
                    item,
                    &Place {
                        path,
                        key: item.span.clone(),
                        shape: of,
                        meant: None,
                    },
                    out,
                );
            }
        }
        (Kind::Text(word), Shape::Choice { later, .. }) if later.contains(&word.as_str()) => {
            out.push(not_yet(
                &format!("`{} = {word:?}`", place.path),
                value.span.clone(),
            ));
        }
        _ => {}
    }
}

fn entries(table: &Table, place: &Place<'_>, of: &Shape, out: &mut Vec<Diagnostic>) {
    for entry in &table.entries {
        let shared = table
            .entries
            .iter()
            .filter(|other| !other.value.environment);
        let meant = match entry.value.environment {
            true => closest(&entry.key, shared.map(|other| other.key.as_str())),
            false => None,
        };
        let below = Place {
            path: join(&place.path, &entry.key),
            key: entry.key_span.clone(),
            shape: of,
            meant: meant.map(str::to_owned),
        };
        visit(&entry.value, &below, out);
    }
}

fn fields(table: &Table, place: &Place<'_>, out: &mut Vec<Diagnostic>) {
    let Some(keys) = place.shape.keys() else {
        return;
    };
    for field in keys.fields {
        match table.entry(field.name) {
            None if field.required && !stood_in(field, table) => out.push(missing(field, place)),
            None => {}
            Some(entry) if field.later => {
                let path = join(&place.path, field.name);
                out.push(not_yet(&format!("`{path}`"), entry.key_span.clone()));
            }
            Some(entry) => {
                let path = join(&place.path, field.name);
                let key = entry.key_span.clone();
                visit(
                    &entry.value,
                    &Place {
                        path,
                        key,
                        shape: &field.shape,
                        meant: None,
                    },
                    out,
                );
            }
        }
    }
}

fn stood_in(field: &Field, table: &Table) -> bool {
    field
        .unless
        .iter()
        .any(|other| table.entry(other).is_some())
}

fn missing(field: &Field, place: &Place<'_>) -> Diagnostic {
    let owner = match place.path.is_empty() {
        true => "the manifest".to_owned(),
        false => format!("`{}`", place.path),
    };
    let help = match &place.meant {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("add `{} = ...`: {}", field.name, field.about),
    };
    Diagnostic::error(
        "config::missing",
        format!("{owner} has no `{}`", field.name),
    )
    .label(
        place.key.clone(),
        format!("`{}` is needed: {}", field.name, field.shape.describe()),
    )
    .help(help)
}

/// Something that the manifest may say, but that nothing would act on.
pub(super) fn not_yet(what: &str, span: Span) -> Diagnostic {
    Diagnostic::error(
        "config::not-yet",
        format!("{what} is not carried out by this version"),
    )
    .label(span, "understood, but nothing would act on it")
    .note("it is refused rather than ignored")
    .help("take it out until a version carries it out")
}

fn join(path: &str, key: &str) -> String {
    match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    }
}
