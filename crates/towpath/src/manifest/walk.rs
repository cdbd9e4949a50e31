//! From the parsed document to values of the right shape; what is wrong is reported and made [`Kind::Invalid`], so
//! that one mistake hides no other.

use std::collections::HashMap;

use toml::de::{DeArray, DeTable, DeValue};

use super::form::Form;
use super::shape::{Keys, Shape};
use super::value::{Entry, Kind, Table, Value};
use crate::diagnostic::{Diagnostic, Span, closest};

/// Most entries of a table of names: a manifest is written by people, and some checks take the square of it.
const MOST_ENTRIES: usize = 256;

/// Most things that are said to be wrong with one manifest.
const MOST_DIAGNOSTICS: usize = 1000;

/// Deepest nesting that is looked into; no manifest has use for more.
const DEEPEST: usize = 64;

type Raw<'d> = toml::Spanned<DeValue<'d>>;

/// Walks a document and gathers what is wrong with it.
#[derive(Default)]
pub struct Walker {
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    path: Vec<String>,
    environment: bool,
}

impl Walker {
    /// The root table of a document.
    pub fn root(&mut self, table: &DeTable<'_>, span: Span) -> Value {
        let keys = super::keys::ROOT.keys();
        let kind = keys.map_or(Kind::Invalid, |keys| self.table(table, keys));
        self.value(span, kind)
    }

    fn value(&self, span: Span, kind: Kind) -> Value {
        Value {
            span,
            environment: self.environment,
            kind,
        }
    }

    fn walk(&mut self, raw: &Raw<'_>, shape: &Shape) -> Value {
        let span = raw.span();
        if self.path.len() > DEEPEST {
            let message = format!("tables are nested more than {DEEPEST} deep");
            self.report(Diagnostic::error("manifest::too-deep", message).label(span.clone(), ""));
            return self.value(span, Kind::Invalid);
        }
        if let Some(kind) = self.unset(raw) {
            return self.value(span, kind);
        }
        let kind = self.kind(raw, shape);
        self.value(span, kind)
    }

    fn kind(&mut self, raw: &Raw<'_>, shape: &Shape) -> Kind {
        match (shape, raw.get_ref()) {
            (Shape::Open, _) => self.open(raw),
            (Shape::Plain, _) => self.plain(raw, shape),
            (Shape::Json, DeValue::Table(_)) => self.open(raw),
            (Shape::Json, DeValue::String(_)) => self.text(raw, Form::Any),
            (Shape::Bool, DeValue::Boolean(yes)) => Kind::Bool(*yes),
            (Shape::FalseOr(_), DeValue::Boolean(false)) => Kind::Bool(false),
            (Shape::FalseOr(inner), DeValue::String(_) | DeValue::Table(_)) => {
                self.kind(raw, inner)
            }
            (Shape::Text(form), DeValue::String(_)) => self.text(raw, *form),
            (Shape::Choice { now, later }, DeValue::String(word)) => {
                self.choice(raw, word, now, later)
            }
            (Shape::Integer { min, max }, DeValue::Integer(_)) => self.integer(raw, *min, *max),
            (Shape::Share, DeValue::Integer(_) | DeValue::Float(_)) => self.share(raw),
            (Shape::List { of, distinct, .. }, DeValue::Array(items)) => {
                self.list(items, of, *distinct)
            }
            (
                Shape::List {
                    of, single: true, ..
                },
                _,
            ) => Kind::List(vec![self.walk(raw, of)]),
            (Shape::Map { names, of }, DeValue::Table(table)) => self.map(table, *names, of),
            (Shape::Table(keys), DeValue::Table(table)) => self.table(table, keys),
            (Shape::Short { table, .. }, DeValue::Table(_)) => self.kind(raw, table),
            (Shape::Short { key, of, .. }, _) if fits(raw.get_ref(), of) => {
                let value = self.walk(raw, of);
                let entry = Entry {
                    key: (*key).to_owned(),
                    key_span: raw.span(),
                    value,
                };
                Kind::Table(Table {
                    entries: vec![entry],
                })
            }
            _ => self.wrong_type(raw, shape),
        }
    }

    /// `{ unset = true }`, which only an environment has use for.
    fn unset(&mut self, raw: &Raw<'_>) -> Option<Kind> {
        let DeValue::Table(table) = raw.get_ref() else {
            return None;
        };
        let unset = table.get("unset")?;
        // Arrays are replaced whole, so there is nothing to take away inside one.
        let in_array = self.path.iter().any(|step| step.starts_with('['));
        if !self.environment || self.path.len() < 3 || in_array {
            return None;
        }
        if table.len() == 1 && unset.get_ref().as_bool() == Some(true) {
            return Some(Kind::Unset);
        }
        let message = format!("{} is unset in a way that is not understood", self.place());
        let help = "write `{ unset = true }` and nothing beside it";
        self.report(
            Diagnostic::error("manifest::bad-value", message)
                .label(raw.span(), "")
                .help(help),
        );
        Some(Kind::Invalid)
    }

    fn text(&mut self, raw: &Raw<'_>, form: Form) -> Kind {
        let text = raw.get_ref().as_str().unwrap_or_default();
        match form.fault(text) {
            None => Kind::Text(text.to_owned()),
            Some(fault) => {
                let message = format!("{} {fault}", self.place());
                let mut diagnostic =
                    Diagnostic::error("manifest::bad-value", message).label(raw.span(), "");
                diagnostic.notes.extend(form.rule().map(str::to_owned));
                self.report(diagnostic);
                Kind::Invalid
            }
        }
    }

    fn choice(&mut self, raw: &Raw<'_>, word: &str, now: &[&str], later: &[&str]) -> Kind {
        if now.contains(&word) || later.contains(&word) {
            return Kind::Text(word.to_owned());
        }
        let known = now.iter().chain(later).copied();
        let message = format!("{} is none of the words it can be", self.place());
        let diagnostic = Diagnostic::error("manifest::bad-value", message)
            .label(raw.span(), "not one of them")
            .note(format!("expected one of {}", quoted(known.clone())))
            .maybe_help(meant(closest(word, known)));
        self.report(diagnostic);
        Kind::Invalid
    }

    fn integer(&mut self, raw: &Raw<'_>, min: i64, max: i64) -> Kind {
        match integer(raw.get_ref()) {
            Some(number) if (min..=max).contains(&number) => Kind::Integer(number),
            _ => self.out_of_bounds(raw, &format!("an integer from {min} to {max}")),
        }
    }

    fn share(&mut self, raw: &Raw<'_>) -> Kind {
        let number = match raw.get_ref() {
            DeValue::Float(float) => float.as_str().parse().unwrap_or(f64::NAN),
            other => integer(other).map_or(f64::NAN, |number| number as f64),
        };
        match (0.0..=1.0).contains(&number) {
            true => Kind::Float(number),
            false => self.out_of_bounds(raw, "a number from 0 to 1"),
        }
    }

    fn out_of_bounds(&mut self, raw: &Raw<'_>, expected: &str) -> Kind {
        let message = format!("{} is out of bounds", self.place());
        let label = format!("expected {expected}");
        self.report(Diagnostic::error("manifest::out-of-bounds", message).label(raw.span(), label));
        Kind::Invalid
    }

    fn list(&mut self, items: &DeArray<'_>, of: &Shape, distinct: bool) -> Kind {
        let mut values = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        for (index, raw) in items.iter().enumerate() {
            if index == MOST_ENTRIES {
                self.too_many(items.len(), raw.span());
                break;
            }
            self.path.push(format!("[{index}]"));
            let value = self.walk(raw, of);
            self.path.pop();
            let key = match &value.kind {
                Kind::Text(text) => text.clone(),
                Kind::Integer(number) => number.to_string(),
                _ => String::new(),
            };
            if distinct && !key.is_empty() {
                if let Some(first) = seen.get(&key) {
                    let first = first.clone();
                    self.twice(&key, raw.span(), first);
                    continue;
                }
                seen.insert(key, raw.span());
            }
            values.push(value);
        }
        Kind::List(values)
    }

    fn twice(&mut self, item: &str, again: Span, first: Span) {
        let message = format!("{} names `{item}` twice", self.place());
        self.report(
            Diagnostic::error("manifest::duplicate", message)
                .label(again, "again here")
                .label(first, "first here"),
        );
    }

    fn map(&mut self, table: &DeTable<'_>, names: Form, of: &Shape) -> Kind {
        let mut entries = Vec::new();
        for (key, raw) in in_order(table) {
            if is_extension(key.get_ref()) {
                continue;
            }
            if entries.len() == MOST_ENTRIES {
                self.too_many(table.len(), key.span());
                break;
            }
            self.path.push(key.get_ref().to_string());
            if let Some(fault) = names.fault(key.get_ref()) {
                let message = format!("{} {fault}", self.place());
                let mut diagnostic =
                    Diagnostic::error("manifest::bad-name", message).label(key.span(), "");
                diagnostic.notes.extend(names.rule().map(str::to_owned));
                self.report(diagnostic);
            }
            let value = self.entry_value(raw, of);
            self.path.pop();
            entries.push(entry(key, value));
        }
        Kind::Table(Table { entries })
    }

    fn table(&mut self, table: &DeTable<'_>, keys: &'static Keys) -> Kind {
        let mut entries: Vec<Entry> = Vec::new();
        let mut chosen: Option<(String, Span)> = None;
        for (key, raw) in in_order(table) {
            let name: &str = key.get_ref();
            let Some(field) = keys.field(name) else {
                self.unknown_key(key, keys);
                continue;
            };
            if keys.one_of.contains(&name) {
                if let Some((first, span)) = &chosen {
                    let (first, span) = (first.clone(), span.clone());
                    self.conflict(name, key.span(), &first, span);
                    continue;
                }
                chosen = Some((name.to_owned(), key.span()));
            }
            self.path.push(name.to_owned());
            let value = self.entry_value(raw, &field.shape);
            self.path.pop();
            entries.push(match field.alias_of {
                Some(list) => listed(list, entry(key, value)),
                None => entry(key, value),
            });
        }
        Kind::Table(Table { entries })
    }

    /// What stands under `environments` is marked as such.
    fn entry_value(&mut self, raw: &Raw<'_>, shape: &Shape) -> Value {
        let outside = self.environment;
        self.environment |= self
            .path
            .first()
            .is_some_and(|first| first == "environments");
        let value = self.walk(raw, shape);
        self.environment = outside;
        value
    }

    fn unknown_key(&mut self, key: &toml::Spanned<toml::de::DeString<'_>>, keys: &Keys) {
        let name: &str = key.get_ref();
        if is_extension(name) {
            return;
        }
        let place = match self.path.is_empty() {
            true => "the manifest".to_owned(),
            false => self.place(),
        };
        let names = keys.names();
        let diagnostic = Diagnostic::error(
            "manifest::unknown-key",
            format!("unknown key `{name}` in {place}"),
        )
        .label(key.span(), "not a key of this table")
        .note(format!("expected one of {}", quoted(names.iter().copied())))
        .maybe_help(meant(closest(name, names)));
        self.report(diagnostic);
    }

    fn conflict(&mut self, name: &str, span: Span, first: &str, first_span: Span) {
        let message = format!("{} has both `{first}` and `{name}`", self.place());
        self.report(
            Diagnostic::error("manifest::conflict", message)
                .label(span, "one excludes the other")
                .label(first_span, "the other"),
        );
    }

    fn wrong_type(&mut self, raw: &Raw<'_>, shape: &Shape) -> Kind {
        let expected = shape.describe();
        let found = found(raw.get_ref());
        let message = format!("{} is {found}", self.place());
        self.report(
            Diagnostic::error("manifest::wrong-type", message)
                .label(raw.span(), format!("expected {expected}"))
                .maybe_help(rewrite(shape, raw.get_ref())),
        );
        Kind::Invalid
    }

    fn plain(&mut self, raw: &Raw<'_>, shape: &Shape) -> Kind {
        match raw.get_ref() {
            DeValue::String(_) => self.text(raw, Form::Plain),
            DeValue::Array(items) => self.list(items, &Shape::Text(Form::Plain), false),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => self.open(raw),
            DeValue::Datetime(_) | DeValue::Table(_) => self.wrong_type(raw, shape),
        }
    }

    /// A value whose inside has no shape.
    fn open(&mut self, raw: &Raw<'_>) -> Kind {
        match raw.get_ref() {
            DeValue::String(_) => self.text(raw, Form::Any),
            DeValue::Integer(_) => self.integer(raw, i64::MIN, i64::MAX),
            DeValue::Float(float) => match float.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Kind::Float(number),
                _ => self.out_of_bounds(raw, "a finite number"),
            },
            DeValue::Boolean(yes) => Kind::Bool(*yes),
            DeValue::Datetime(date) => Kind::Date(date.to_string()),
            DeValue::Array(items) => self.list(items, &Shape::Open, false),
            DeValue::Table(table) => self.map(table, Form::Any, &Shape::Open),
        }
    }

    /// The path so far, as it would be written with dots.
    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            if !place.is_empty() && !step.starts_with('[') {
                place.push('.');
            }
            place.push_str(step);
        }
        format!("`{place}`")
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MOST_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        }
    }

    fn too_many(&mut self, count: usize, span: Span) {
        let message = format!("{} has {count} entries", self.place());
        let label = format!("at most {MOST_ENTRIES} are read");
        self.report(Diagnostic::error("manifest::too-many", message).label(span, label));
    }
}

fn entry(key: &toml::Spanned<toml::de::DeString<'_>>, value: Value) -> Entry {
    Entry {
        key: key.get_ref().to_string(),
        key_span: key.span(),
        value,
    }
}

/// An entry as the only item of a list.
fn listed(list: &str, entry: Entry) -> Entry {
    let Entry {
        key_span, value, ..
    } = entry;
    let (span, environment) = (value.span.clone(), value.environment);
    let kind = match value.kind {
        Kind::Unset => Kind::Unset,
        _ => Kind::List(vec![value]),
    };
    Entry {
        key: list.to_owned(),
        key_span,
        value: Value {
            span,
            environment,
            kind,
        },
    }
}

/// Entries in the order of the file; the parser sorts them by name.
fn in_order<'t, 'd>(
    table: &'t DeTable<'d>,
) -> Vec<(&'t toml::Spanned<toml::de::DeString<'d>>, &'t Raw<'d>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn is_extension(key: &str) -> bool {
    key.starts_with("x-")
}

/// Whether a value is of the short form's type, right or wrong.
fn fits(raw: &DeValue<'_>, shape: &Shape) -> bool {
    matches!(
        (shape, raw),
        (Shape::Text(_) | Shape::Choice { .. }, DeValue::String(_))
            | (
                Shape::Plain,
                DeValue::String(_)
                    | DeValue::Integer(_)
                    | DeValue::Float(_)
                    | DeValue::Boolean(_)
                    | DeValue::Array(_)
            )
    )
}

fn integer(raw: &DeValue<'_>) -> Option<i64> {
    let number = raw.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The same value in the type that was expected, if that is plain.
fn rewrite(shape: &Shape, raw: &DeValue<'_>) -> Option<String> {
    let written = match (shape, raw) {
        (Shape::Text(Form::Duration), DeValue::Integer(number)) => format!("\"{number}s\""),
        (Shape::Text(Form::Size), DeValue::Integer(number)) => format!("\"{number}B\""),
        (Shape::Text(Form::Template | Form::Plain | Form::Any), DeValue::Integer(number)) => {
            format!("\"{number}\"")
        }
        (Shape::Text(Form::Template | Form::Plain | Form::Any), DeValue::Boolean(yes)) => {
            format!("\"{yes}\"")
        }
        (Shape::Integer { .. }, DeValue::String(text)) => text.parse::<i64>().ok()?.to_string(),
        (Shape::Bool, DeValue::String(text)) => text.parse::<bool>().ok()?.to_string(),
        (Shape::List { .. }, DeValue::String(text)) if text.len() < 64 => format!("[{text:?}]"),
        _ => return None,
    };
    Some(format!("write `{written}`"))
}

fn found(raw: &DeValue<'_>) -> &'static str {
    match raw {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn meant(name: Option<&str>) -> Option<String> {
    name.map(|name| format!("did you mean `{name}`?"))
}
