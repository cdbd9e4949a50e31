//! What may stand where in a manifest, as data: the walker, the merge, the audit and the JSON Schema all read it.

use super::form::Form;

/// What a value may be.
#[derive(Debug)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// `false`, or else the other shape.
    FalseOr(&'static Shape),
    /// A string of some form.
    Text(Form),
    /// One of some words; those in `later` are understood, but not carried out yet.
    Choice {
        /// Words that work.
        now: &'static [&'static str],
        /// Words that are refused where they would be used.
        later: &'static [&'static str],
    },
    /// An integer within bounds.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A number from 0 to 1.
    Share,
    /// An array; with `single` also a lone item.
    List {
        /// Each item.
        of: &'static Shape,
        /// Whether an item may stand for an array of one.
        single: bool,
        /// Whether no item may stand twice.
        distinct: bool,
    },
    /// A table whose keys are names.
    Map {
        /// Form of the names.
        names: Form,
        /// Each value.
        of: &'static Shape,
    },
    /// A table with known keys.
    Table(&'static Keys),
    /// A short form: a value that stands for a table with that value under `key`.
    Short {
        /// The key.
        key: &'static str,
        /// The short value.
        of: &'static Shape,
        /// The long form.
        table: &'static Shape,
    },
    /// A string, a number, a boolean, or an array of strings.
    Plain,
    /// A JSON document: a string, or a table.
    Json,
    /// Anything; its inside is not looked at.
    Open,
}

/// The keys of a table.
#[derive(Debug)]
pub struct Keys {
    /// The keys.
    pub fields: &'static [Field],
    /// Keys of which one excludes the others; a later one takes the place of an earlier one when tables merge.
    pub one_of: &'static [&'static str],
}

/// A key and what it may hold.
#[derive(Debug)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What it may hold.
    pub shape: Shape,
    /// What it is for, in one line.
    pub about: &'static str,
    /// Whether it must be there once the environment is merged in.
    pub required: bool,
    /// Keys any of which stands in for it where it must be there.
    pub unless: &'static [&'static str],
    /// Understood, but not carried out yet.
    pub later: bool,
    /// The list that this key is a list of one of.
    pub alias_of: Option<&'static str>,
}

impl Field {
    /// A key that may be left out.
    pub const fn new(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self {
            name,
            shape,
            about,
            required: false,
            unless: &[],
            later: false,
            alias_of: None,
        }
    }

    /// It must be there.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// It must be there, unless one of these is.
    pub const fn required_unless(mut self, others: &'static [&'static str]) -> Self {
        self.required = true;
        self.unless = others;
        self
    }

    /// It is not carried out yet.
    pub const fn later(mut self) -> Self {
        self.later = true;
        self
    }

    /// It stands for a list of one under another key.
    pub const fn alias_of(mut self, list: &'static str) -> Self {
        self.alias_of = Some(list);
        self
    }
}

impl Keys {
    /// The field of a key.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.fields.iter().map(|field| field.name).collect();
        names.sort_unstable();
        names
    }
}

impl Shape {
    /// The keys of the table form, if it has one.
    pub fn keys(&self) -> Option<&'static Keys> {
        match self {
            Shape::Table(keys) => Some(keys),
            Shape::Short { table, .. } => table.keys(),
            Shape::FalseOr(inner) => inner.keys(),
            _ => None,
        }
    }

    /// The shape below a key.
    pub fn below(&self, key: &str) -> Option<&'static Shape> {
        match self {
            Shape::Map { of, .. } => Some(of),
            Shape::Short { key: short, of, .. } if *short == key => {
                let field = self.keys().and_then(|keys| keys.field(key));
                Some(field.map_or(*of, |field| &field.shape))
            }
            _ => self.keys()?.field(key).map(|field| &field.shape),
        }
    }

    /// What to call it in a message.
    pub fn describe(&self) -> String {
        match self {
            Shape::Bool => "`true` or `false`".to_owned(),
            Shape::FalseOr(inner) => format!("`false`, {}", inner.describe()),
            Shape::Text(form) => form.describe().to_owned(),
            Shape::Choice { now, .. } => words(now),
            Shape::Integer { min, max } => format!("an integer from {min} to {max}"),
            Shape::Share => "a number from 0 to 1".to_owned(),
            Shape::List { of, single, .. } => {
                let item = of.describe();
                match single {
                    true => format!("{item}, or an array of such"),
                    false => format!("an array, each item {item}"),
                }
            }
            Shape::Map { .. } | Shape::Table(_) => "a table".to_owned(),
            Shape::Short { of, .. } => format!("{} or a table", of.describe()),
            Shape::Plain => "a string, a number, a boolean, an array of strings".to_owned(),
            Shape::Json => "a string or a table".to_owned(),
            Shape::Open => "any value".to_owned(),
        }
    }
}

/// `"a"`, or `"a" or "b"`, or `"a", "b" or "c"`.
fn words(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
