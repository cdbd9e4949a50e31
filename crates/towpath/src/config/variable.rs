//! The variables of one environment: declared once with a type and bounds, each with at most one value.
//!
//! What an environment says of a variable is laid over its declaration like everything else, so its value is its
//! `default` as merged. Whatever is wrong with it is said where that value was written.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use super::resource::has_password;
use super::sheet::Reader;
use crate::diagnostic::{Diagnostic, closest};
use crate::manifest::form;
use crate::manifest::value::{Kind, Value};

/// A typed value that services may be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// What its value is.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// The value as services get it, if it has one here.
    pub value: Option<String>,
    /// Whether it must have one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What an enum may be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What the value of a variable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VariableKind {
    /// Any text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A length of time: `30s`.
    Duration,
    /// A number of bytes: `8MB`.
    Size,
    /// A URL without a password.
    Url,
    /// One of some words.
    Enum,
    /// Texts, divided by commas.
    List,
}

/// Keys that only make sense for some types.
const ONLY: [(&str, &[VariableKind]); 6] = [
    ("min", MEASURED),
    ("max", MEASURED),
    ("min_length", LONG),
    ("max_length", LONG),
    ("pattern", &[VariableKind::String, VariableKind::Url]),
    ("values", &[VariableKind::Enum]),
];

const MEASURED: &[VariableKind] = &[
    VariableKind::Integer,
    VariableKind::Number,
    VariableKind::Duration,
    VariableKind::Size,
];
const LONG: &[VariableKind] = &[VariableKind::String, VariableKind::Url, VariableKind::List];

/// What bounds compare.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Measure {
    /// Integers, milliseconds, bytes.
    Whole(i128),
    /// Numbers.
    Real(f64),
}

/// The variables, by name; those without a value are among them.
pub(super) fn read(root: &Reader<'_>) -> BTreeMap<String, Variable> {
    let shared = root.sheet.manifest.get("variables");
    let shared = shared.and_then(Value::as_table);
    let declared = || shared.into_iter().flat_map(|table| &table.entries);
    let mut variables = BTreeMap::new();
    for (name, reader) in root.at("variables").entries() {
        if declared().all(|entry| entry.key != name) {
            undeclared(&reader, name, declared().map(|entry| entry.key.as_str()));
        }
        let own = declared().find(|entry| entry.key == name);
        let own = own.map(|entry| &entry.value);
        variables.insert(name.to_owned(), variable(&reader, own));
    }
    for entry in declared() {
        // Unset for this environment: it is still known, and has no value here.
        if !variables.contains_key(&entry.key) {
            let reader = Reader {
                value: Some(&entry.value),
                ..root.at("variables").at(&entry.key)
            };
            variables.insert(entry.key.clone(), valueless(&reader, &entry.value));
        }
    }
    variables
}

fn undeclared<'a>(reader: &Reader<'_>, name: &str, known: impl Iterator<Item = &'a str>) {
    let message = format!("`{}` is not among the shared variables", reader.path);
    let help = match closest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it: `{name} = {{ type = \"string\" }}` under `[variables]`"),
    };
    reader.sheet.report(
        Diagnostic::error("config::undeclared-variable", message)
            .label(reader.key.clone(), "declared nowhere")
            .note("an environment gives values to variables that the shared table declares")
            .help(help),
    );
}

fn valueless(reader: &Reader<'_>, own: &Value) -> Variable {
    let (kind, required) = (kind(reader, Some(own)), flag(reader, "required"));
    if required {
        missing(reader, reader.key.clone());
    }
    Variable {
        kind,
        value: None,
        required,
        description: reader.at("description").quiet_text().map(str::to_owned),
        values: texts(&reader.at("values")),
    }
}

fn variable(reader: &Reader<'_>, own: Option<&Value>) -> Variable {
    let kind = kind(reader, own);
    let values = texts(&reader.at("values"));
    fits(reader, kind);
    let bounds = Bounds::read(reader, kind);
    let given = reader.at("default");
    let required = flag(reader, "required");
    if required && given.is_absent() {
        missing(reader, reader.key.clone());
    }
    let value = value(&given, kind, &values).filter(|value| bounds.hold(&given, kind, value));
    if let Some(value) = &value {
        given.note_as(&reader.path, value.shown.clone());
    }
    Variable {
        kind,
        value: value.map(|value| value.text),
        required,
        description: reader.at("description").quiet_text().map(str::to_owned),
        values,
    }
}

/// The declared type; else that of the shared value, so that no environment changes it by its own.
fn kind(reader: &Reader<'_>, own: Option<&Value>) -> VariableKind {
    if let Some(word) = reader.at("type").quiet_text() {
        return VariableKind::parse(word);
    }
    if !reader.at("values").is_absent() {
        return VariableKind::Enum;
    }
    let own = own.and_then(|own| own.as_table()?.get("default"));
    match own.map(|value| &value.kind) {
        Some(Kind::Integer(_)) => VariableKind::Integer,
        Some(Kind::Float(_)) => VariableKind::Number,
        Some(Kind::Bool(_)) => VariableKind::Boolean,
        Some(Kind::List(_)) => VariableKind::List,
        _ => VariableKind::String,
    }
}

fn missing(reader: &Reader<'_>, key: crate::diagnostic::Span) {
    let name = reader.path.trim_start_matches("variables.");
    let environment = reader.sheet.environment;
    let message = format!("`{}` has no value in {environment}", reader.path);
    let table = format!("[environments.{environment}.variables]");
    reader.sheet.report(
        Diagnostic::error("config::missing", message)
            .label(key, "every environment must have one")
            .help(format!("add `{name} = ...` under `{table}`")),
    );
}

fn fits(reader: &Reader<'_>, kind: VariableKind) {
    for (key, kinds) in ONLY {
        let value = reader.at(key);
        if value.is_absent() || kinds.contains(&kind) {
            continue;
        }
        let kinds: Vec<_> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
        let message = format!("`{}` is not for the type `{kind}`", value.path);
        reader.sheet.report(
            Diagnostic::error("config::not-for-kind", message)
                .label(value.key.clone(), format!("only for {}", kinds.join(", ")))
                .help(format!(
                    "take it out, or give `{}` another `type`",
                    reader.path
                )),
        );
    }
    if kind == VariableKind::Enum && reader.at("values").is_absent() {
        let message = format!("`{}` is an enum of nothing", reader.path);
        reader.sheet.report(
            Diagnostic::error("config::missing", message)
                .label(reader.key.clone(), "what may it be?")
                .help("add `values = [\"...\", \"...\"]`"),
        );
    }
}

/// A value of the right type.
struct Given {
    /// As services get it.
    text: String,
    /// As it would be typed.
    shown: String,
    /// What bounds compare.
    measure: Option<Measure>,
    /// Characters or items.
    length: usize,
}

fn value(given: &Reader<'_>, kind: VariableKind, values: &[String]) -> Option<Given> {
    let found = given.value.filter(|value| value.kind != Kind::Invalid)?;
    if kind == VariableKind::Url && found.as_text().is_some_and(has_password) {
        password(given);
        return None;
    }
    match converted(found, kind, values) {
        Ok(value) => Some(value),
        Err(expected) => {
            wrong(given, &expected);
            None
        }
    }
}

fn converted(found: &Value, kind: VariableKind, values: &[String]) -> Result<Given, String> {
    let measure = measure(found, kind);
    let expected = || kind.expected(values);
    let right = match (kind, &found.kind) {
        (VariableKind::String, Kind::Text(_)) | (VariableKind::Boolean, Kind::Bool(_)) => true,
        (VariableKind::Url, Kind::Text(text)) => form::is_url(text),
        (VariableKind::Enum, Kind::Text(text)) => values.is_empty() || values.contains(text),
        (VariableKind::List, Kind::List(items)) => {
            // They reach services as one text, divided by commas.
            let divided = |text: &str| text.contains(',') || text.is_empty();
            items
                .iter()
                .all(|item| item.as_text().is_some_and(|text| !divided(text)))
        }
        (kind, _) => MEASURED.contains(&kind) && measure.is_some(),
    };
    match right {
        true => Ok(Given {
            text: found.plain(),
            shown: found.shown(),
            measure,
            length: match &found.kind {
                Kind::List(items) => items.len(),
                _ => found.plain().chars().count(),
            },
        }),
        false => Err(expected()),
    }
}

fn measure(value: &Value, kind: VariableKind) -> Option<Measure> {
    let whole = |number: Option<u128>| Some(Measure::Whole(number?.try_into().ok()?));
    match (kind, &value.kind) {
        (VariableKind::Integer, Kind::Integer(number)) => Some(Measure::Whole((*number).into())),
        (VariableKind::Number, Kind::Integer(number)) => Some(Measure::Real(*number as f64)),
        (VariableKind::Number, Kind::Float(number)) => Some(Measure::Real(*number)),
        (VariableKind::Duration, Kind::Text(text)) => {
            whole(form::duration(text).map(|span| span.as_millis()))
        }
        (VariableKind::Size, Kind::Text(text)) => whole(form::size(text).map(u128::from)),
        _ => None,
    }
}

/// The bounds of a variable, those that can be understood.
struct Bounds {
    min: Option<(Measure, String)>,
    max: Option<(Measure, String)>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    pattern: Option<String>,
}

impl Bounds {
    fn read(reader: &Reader<'_>, kind: VariableKind) -> Bounds {
        let bound = |key: &str| {
            let at = reader.at(key);
            let value = at.value.filter(|value| value.kind != Kind::Invalid)?;
            let found = measure(value, kind).map(|measure| (measure, value.shown()));
            if found.is_none() && MEASURED.contains(&kind) {
                wrong(&at, &kind.expected(&[]));
            }
            found
        };
        let length = |key: &str| match reader.at(key).value?.kind {
            Kind::Integer(number) => usize::try_from(number).ok(),
            _ => None,
        };
        let bounds = Bounds {
            min: bound("min"),
            max: bound("max"),
            min_length: length("min_length"),
            max_length: length("max_length"),
            pattern: reader.at("pattern").quiet_text().map(str::to_owned),
        };
        let crossed = matches!((&bounds.min, &bounds.max), (Some(min), Some(max)) if min.0 > max.0)
            || matches!((bounds.min_length, bounds.max_length), (Some(min), Some(max)) if min > max);
        if crossed {
            let message = format!("no value of `{}` can keep its bounds", reader.path);
            reader.sheet.report(
                Diagnostic::error("config::bad-bounds", message)
                    .label(reader.key.clone(), "the least is more than the most"),
            );
        }
        bounds
    }

    /// Whether a value keeps them; what it does not keep is reported.
    fn hold(&self, given: &Reader<'_>, kind: VariableKind, value: &Given) -> bool {
        let broken = self.broken(kind, value);
        for rule in &broken {
            let message = format!("`{}` is out of bounds", given.above());
            given.sheet.report(
                Diagnostic::error("config::out-of-bounds", message)
                    .label(given.span(), format!("expected {rule}")),
            );
        }
        broken.is_empty()
    }

    fn broken(&self, kind: VariableKind, value: &Given) -> Vec<String> {
        let mut broken = Vec::new();
        let beyond = |bound: &Option<(Measure, String)>, wrong: Ordering| {
            let (bound, shown) = bound.as_ref()?;
            let order = value.measure?.partial_cmp(bound);
            (order == Some(wrong)).then(|| shown.clone())
        };
        let least = beyond(&self.min, Ordering::Less);
        let most = beyond(&self.max, Ordering::Greater);
        broken.extend(least.map(|bound| format!("{bound} or more")));
        broken.extend(most.map(|bound| format!("{bound} or less")));
        let unit = match kind {
            VariableKind::List => "items",
            _ => "characters",
        };
        let short = self.min_length.filter(|least| value.length < *least);
        let long = self.max_length.filter(|most| value.length > *most);
        broken.extend(short.map(|least| format!("{least} {unit} or more")));
        broken.extend(long.map(|most| format!("{most} {unit} or fewer")));
        let pattern = self.pattern.as_ref().filter(|pattern| {
            form::pattern(pattern).is_some_and(|pattern| !pattern.is_match(&value.text))
        });
        broken.extend(pattern.map(|pattern| format!("what matches `{pattern}`")));
        broken
    }
}

fn wrong(given: &Reader<'_>, expected: &str) {
    let path = given.path.strip_suffix(".default").unwrap_or(&given.path);
    let message = format!("`{path}` is not of its type");
    given.sheet.report(
        Diagnostic::error("config::wrong-type", message)
            .label(given.span(), format!("expected {expected}")),
    );
}

/// What is typed is not shown: it holds a password.
fn password(given: &Reader<'_>) {
    let message = format!(
        "`{}` holds a password, and the manifest is committed and kept in releases",
        given.above()
    );
    given.sheet.report(
        Diagnostic::error("config::password", message)
            .note(format!(
                "it stands on line {}",
                given.sheet.manifest.line(&given.span())
            ))
            .help("leave it out of the URL"),
    );
}

fn flag(reader: &Reader<'_>, key: &str) -> bool {
    matches!(
        reader.at(key).value.map(|value| &value.kind),
        Some(Kind::Bool(true))
    )
}

fn texts(reader: &Reader<'_>) -> Vec<String> {
    let items = reader.items();
    let texts = items.iter().filter_map(Reader::quiet_text);
    texts.map(str::to_owned).collect()
}
