//! A manifest's values as typed: in the order of the file, each with its place.

use crate::diagnostic::Span;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Its place.
    pub span: Span,
    /// Whether it stands under an environment, rather than in the shared tables.
    pub environment: bool,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date or a time, as typed.
    Date(String),
    /// An array.
    List(Vec<Value>),
    /// A table.
    Table(Table),
    /// `{ unset = true }`: takes the shared entry away.
    Unset,
    /// Something that is wrong and was reported.
    Invalid,
}

/// The entries of a table, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its place.
    pub key_span: Span,
    /// The value.
    pub value: Value,
}

impl Table {
    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&Table> {
        match &self.kind {
            Kind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The items; none if it is no array.
    pub fn items(&self) -> &[Value] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// As a program is given it: plain text, the items of an array divided by commas.
    pub fn plain(&self) -> String {
        match &self.kind {
            Kind::Text(text) | Kind::Date(text) => text.clone(),
            Kind::Integer(number) => number.to_string(),
            Kind::Float(number) => number.to_string(),
            Kind::Bool(yes) => yes.to_string(),
            Kind::List(items) => {
                let items: Vec<_> = items.iter().map(Value::plain).collect();
                items.join(",")
            }
            Kind::Table(_) | Kind::Unset | Kind::Invalid => String::new(),
        }
    }

    /// As it would be typed.
    pub fn shown(&self) -> String {
        match &self.kind {
            Kind::Text(text) => format!("{text:?}"),
            Kind::List(items) => {
                let items: Vec<_> = items.iter().map(Value::shown).collect();
                format!("[{}]", items.join(", "))
            }
            Kind::Table(_) | Kind::Unset | Kind::Invalid => self.kind.name().to_owned(),
            _ => self.plain(),
        }
    }

    /// What stands at a path such as `services.web.routes[0].path` below it.
    pub fn find(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |value, step| {
            let mut parts = step.split('[');
            let named = value.as_table()?.get(parts.next()?)?;
            parts.try_fold(named, |value, index| {
                let index: usize = index.strip_suffix(']')?.parse().ok()?;
                value.items().get(index)
            })
        })
    }

    /// The same as JSON; what JSON has no number for becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Text(text) | Kind::Date(text) => text.clone().into(),
            Kind::Integer(number) => (*number).into(),
            Kind::Float(number) => (*number).into(),
            Kind::Bool(yes) => (*yes).into(),
            Kind::List(items) => items.iter().map(Value::to_json).collect(),
            Kind::Table(table) => table
                .entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Kind::Unset | Kind::Invalid => serde_json::Value::Null,
        }
    }
}

impl Kind {
    /// What to call it in a message.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Text(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a number",
            Kind::Bool(_) => "a boolean",
            Kind::Date(_) => "a date",
            Kind::List(_) => "an array",
            Kind::Table(_) => "a table",
            Kind::Unset => "`unset`",
            Kind::Invalid => "an invalid value",
        }
    }
}
