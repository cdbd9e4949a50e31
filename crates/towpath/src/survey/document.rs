//! TOML as the same tree that YAML becomes, so that one way of asking does for both.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree::{File, Tree};
use super::yaml::{self, Document, Key, Kind, Node};

const NO_MAPPING: &str = "is no mapping";

/// A YAML file as a tree; what is wrong with it is kept by `tree`.
pub fn yaml(tree: &Tree, file: &File) -> Option<Node> {
    let Document { root, more } = match yaml::parse(&file.text) {
        Ok(document) => document,
        Err(fault) => {
            tree.refuse(&file.path, fault.line, &fault.text);
            return None;
        }
    };
    if let Some(line) = more {
        tree.leave(&file.at(line), "another document: the first alone is read");
    }
    if !matches!(root.kind, Kind::Map(_) | Kind::Null) {
        tree.refuse(&file.path, root.line, NO_MAPPING);
        return None;
    }
    Some(root)
}

/// A TOML file as a tree; what is wrong with it is kept by `tree`.
pub fn toml(tree: &Tree, file: &File) -> Option<Node> {
    let lines = Lines::of(&file.text);
    match DeTable::parse(&file.text) {
        Ok(table) => Some(Node::new(1, entries(table.get_ref(), &lines))),
        Err(error) => {
            let line = error.span().map_or(0, |span| lines.at(span.start));
            let fault = format!("is no TOML: {}", error.message());
            tree.refuse(&file.path, line, &fault);
            None
        }
    }
}

/// A JSON file; what is wrong with it is kept by `tree`.
pub fn json(tree: &Tree, file: &File) -> Option<serde_json::Value> {
    match serde_json::from_str(&file.text) {
        Ok(value @ serde_json::Value::Object(_)) => Some(value),
        Ok(_) => {
            tree.refuse(&file.path, 1, NO_MAPPING);
            None
        }
        Err(error) => {
            let fault = format!("is no JSON: {error}");
            tree.refuse(&file.path, error.line(), &fault);
            None
        }
    }
}

struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|end| *end < byte) + 1
    }
}

fn entries(table: &DeTable<'_>, lines: &Lines) -> Kind {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let text: &std::borrow::Cow<'_, str> = key.get_ref();
        let key = Key {
            text: text.to_string(),
            line: lines.at(key.span().start),
        };
        (key, node(value, lines))
    };
    let mut found: Vec<_> = table.iter().map(entry).collect();
    found.sort_by_key(|(key, _)| key.line);
    Kind::Map(found)
}

fn node(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Node {
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(number) => Kind::Text(number.as_str().to_owned()),
        DeValue::Float(number) => Kind::Text(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Kind::Text(yes.to_string()),
        DeValue::Datetime(time) => Kind::Text(time.to_string()),
        DeValue::Array(items) => Kind::List(items.iter().map(|item| node(item, lines)).collect()),
        DeValue::Table(table) => entries(table, lines),
    };
    Node::new(lines.at(value.span().start), kind)
}
