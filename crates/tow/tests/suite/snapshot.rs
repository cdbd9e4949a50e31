//! Texts that are committed: what a person or a script reads. `UPDATE=1` writes them anew.

use std::path::Path;

use serde_json::{Map, Value};

use crate::fixture::{Fixture, Said};

/// Fails the test unless `text` is what `tests/snapshots/NAME` holds.
pub fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, text, "{} (UPDATE=1 rewrites it)", path.display());
}

/// What a command said and its exit code, without what differs from run to run.
pub fn check_said(fixture: &Fixture, name: &str, said: &Said) {
    let text = format!("exit code {}\n{}{}", said.code, said.out, said.err);
    check(&format!("{name}.txt"), &normal(fixture, &text));
}

fn normal(fixture: &Fixture, text: &str) -> String {
    let text = text
        .replace(&fixture.dir.join("app").display().to_string(), "APP")
        .replace(&fixture.dir.display().to_string(), "DIR");
    let mut lines: Vec<String> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !is_of_shim(line) && !is_of_build(line))
    {
        let line = words(line);
        // How often a dying process says the same depends on when it is looked at.
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// How often a shim has said that it starts again depends on when it is looked at.
fn is_of_shim(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next().is_some_and(is_time) && words.next() == Some("tow")
}

/// A build that takes long says so, and how long it takes differs.
fn is_of_build(line: &str) -> bool {
    line.starts_with("  ... ")
}

fn is_time(word: &str) -> bool {
    word.len() == 24 && word.ends_with('Z') && word.as_bytes()[10] == b'T'
}

/// Times, durations, ports, process ids and digests become words.
fn words(line: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let number = word.trim_matches(|char: char| !char.is_ascii_digit());
        let is_number = !number.is_empty()
            && number
                .chars()
                .all(|char| char.is_ascii_digit() || char == '.');
        let unit = word.trim_end_matches([',', ';', '.']);
        if matches!(unit, "ms" | "s" | "min")
            && parts.last().is_some_and(|last| last.parse::<f64>().is_ok())
        {
            parts.pop();
            parts.push(word.replace(unit, "TIME"));
        } else if parts.last().is_some_and(|last| last.ends_with("process")) && is_number {
            parts.push(word.replace(number, "PID"));
        } else if is_time(word) {
            parts.push("CLOCK".to_owned());
        } else if word.starts_with("suite-") {
            // The test itself, by the name of its process.
            parts.push("SUITE".to_owned());
        } else if word.starts_with('(') && is_number {
            parts.push(word.replace(number, "PID"));
        } else {
            parts.push(ports(word));
        }
    }
    parts.join(" ")
}

/// Numbers that an instance may have as its port, alone or in an address.
fn ports(word: &str) -> String {
    let (mut text, mut digits) = (String::new(), String::new());
    for char in word.chars().chain(['\0']) {
        if char.is_ascii_digit() {
            digits.push(char);
            continue;
        }
        let is_port = digits.len() == 5 && ("20000".."61000").contains(&digits.as_str());
        text.push_str(if is_port { "PORT" } else { &digits });
        digits.clear();
        text.extend((char != '\0').then_some(char));
    }
    text
}

/// The keys of a value, with the types of what they hold: what a script may rely on.
pub fn check_shape(name: &str, value: &Value) {
    let text = serde_json::to_string_pretty(&shape(value)).unwrap();
    check(&format!("{name}.json"), &(text + "\n"));
}

fn shape(value: &Value) -> Value {
    let word = |word: &str| Value::String(word.to_owned());
    match value {
        Value::Null => word("null"),
        Value::Bool(_) => word("boolean"),
        Value::Number(_) => word("number"),
        Value::String(_) => word("string"),
        Value::Array(items) => {
            Value::Array(items.iter().map(shape).reduce(join).into_iter().collect())
        }
        Value::Object(fields) => {
            let shapes = fields.iter().map(|(key, value)| match key.as_str() {
                // What a probe said last differs from moment to moment.
                "error" | "last_error" => (key.clone(), word("null | string")),
                // So does what was the matter before, and who was asked for something lately.
                "last" => (key.clone(), word("null | object")),
                "traffic" if is_counted(value) => (key.clone(), word("object, by service")),
                _ => (key.clone(), shape(value)),
            });
            Value::Object(shapes.collect())
        }
    }
}

/// Whether it is what was asked of services lately, and not the load that a manifest declares.
fn is_counted(value: &Value) -> bool {
    let mut services = value.as_object().into_iter().flat_map(Map::values);
    services.all(|one| one.get("requests_per_second").is_some())
}

/// One shape for two items of an array.
fn join(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut joined: Map<String, Value> = one;
            for (key, value) in other {
                let value = match joined.remove(&key) {
                    Some(known) => join(known, value),
                    None => value,
                };
                joined.insert(key, value);
            }
            Value::Object(joined)
        }
        (Value::String(one), Value::String(other)) if one != other => {
            let mut words: Vec<&str> = one.split(" | ").chain(other.split(" | ")).collect();
            words.sort_unstable();
            words.dedup();
            Value::String(words.join(" | "))
        }
        (one, _) => one,
    }
}
