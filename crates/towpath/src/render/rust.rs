//! A module of Rust.

use super::{Item, apart, quoted, words};
use crate::config::VariableKind;

const HEAD: &str = r#"// Written by `tow config render --format rust`: change `tow.toml` instead.
//! What the environment gives, typed: `Settings::read` says everything that is wrong at once.
#![allow(dead_code, non_snake_case)]

use std::time::Duration;

"#;

const TAIL: &str = r#"
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = (text[..end].parse::<u64>().ok()?, text[end..].trim_start_matches(' '));
    if count == 0 && unit.is_empty() {
        return Some(0);
    }
    let (_, factor) = units.iter().find(|(known, _)| *known == unit)?;
    count.checked_mul(*factor)
}

fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    amount(text, &units).map(Duration::from_millis)
}

fn size(text: &str) -> Option<u64> {
    let units = [
        ("B", 1),
        ("KB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
    ];
    amount(text, &units)
}

fn plain(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn url(text: &str) -> Option<String> {
    text.contains("://").then(|| text.to_owned())
}

fn one_of(text: &str, words: &[&str]) -> Option<String> {
    words.contains(&text).then(|| text.to_owned())
}

fn items(text: &str) -> Option<Vec<String>> {
    let items = text.split(',').filter(|_| !text.is_empty());
    Some(items.map(str::to_owned).collect())
}

fn read<T>(
    source: &dyn Fn(&str) -> Option<String>,
    wrong: &mut Vec<String>,
    (name, always): (&str, bool),
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let Some(text) = source(name) else {
        if always {
            wrong.push(format!("{name} is missing"));
        }
        return None;
    };
    let value = parse(&text);
    if value.is_none() {
        wrong.push(format!("{name} is of the wrong form"));
    }
    value
}

impl Settings {
    /// Reads what `source` gives under each name: `|name| std::env::var(name).ok()`.
    pub fn read(source: &dyn Fn(&str) -> Option<String>) -> Result<Settings, Vec<String>> {
        let mut wrong = Vec::new();
"#;

/// What cannot be the name of a field, not even after `r#`; and what can.
const WORDS: &[&str] = &[
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield", "_",
];

pub(super) fn render(items: &[Item]) -> String {
    let mut text = String::from(HEAD);
    text += "#[derive(Clone)]\npub struct Settings {\n";
    for item in items {
        let kind = match item.always {
            true => kind(item).to_owned(),
            false => format!("Option<{}>", kind(item)),
        };
        text += &format!("    /// {}\n", item.comment());
        text += &format!("    pub {}: {kind},\n", field(item));
    }
    text += "}\n";
    text += TAIL;
    for item in items {
        let (name, always) = (quoted(&item.name), item.always);
        text += &format!(
            "        let {} = read(source, &mut wrong, ({name}, {always}), {});\n",
            local(item),
            parse(item)
        );
    }
    text += "        match (wrong.is_empty(),";
    items.iter().for_each(|item| {
        text += &match item.always {
            true => format!(" {},", local(item)),
            false => String::new(),
        };
    });
    text += ") {\n            (true,";
    items.iter().filter(|item| item.always).for_each(|item| {
        text += &format!(" Some({}),", local(item));
    });
    text += ") => Ok(Settings {\n";
    for item in items {
        text += &format!("                {}: {},\n", field(item), local(item));
    }
    text += "            }),\n            _ => Err(wrong),\n        }\n    }\n}\n";
    text
}

fn field(item: &Item) -> String {
    apart(&item.name, WORDS)
}

/// No name of the manifest's is that of a function here.
fn local(item: &Item) -> String {
    format!("v_{}", item.name)
}

fn kind(item: &Item) -> &'static str {
    match item.kind {
        VariableKind::Integer => "i64",
        VariableKind::Number => "f64",
        VariableKind::Duration => "Duration",
        VariableKind::Size => "u64",
        VariableKind::Boolean => "bool",
        VariableKind::String | VariableKind::Url | VariableKind::Enum => "String",
        VariableKind::List => "Vec<String>",
    }
}

fn parse(item: &Item) -> String {
    match item.kind {
        VariableKind::Integer => "|text| text.parse::<i64>().ok()".to_owned(),
        VariableKind::Number => {
            "|text| text.parse::<f64>().ok().filter(|number| number.is_finite())".to_owned()
        }
        VariableKind::Boolean => "|text| text.parse::<bool>().ok()".to_owned(),
        VariableKind::Duration => "duration".to_owned(),
        VariableKind::Size => "size".to_owned(),
        VariableKind::String => "plain".to_owned(),
        VariableKind::Url => "url".to_owned(),
        VariableKind::Enum => format!("|text| one_of(text, &[{}])", words(item).join(", ")),
        VariableKind::List => "items".to_owned(),
    }
}
