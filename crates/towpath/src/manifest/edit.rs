//! Writing into a manifest that a person keeps: everything that is there stays as it is, comments and all.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::form::is_name;
use crate::diagnostic::Diagnostic;

/// A manifest with one environment more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloned {
    /// Its text.
    pub text: String,
    /// Keys of the other that were left out: where it is reached, and whose data it uses.
    pub left_out: Vec<String>,
}

/// Where an environment is reached; no two can share it.
const PLACE: [&str; 4] = ["domain", "listen", "listen_tls", "trust"];

/// Whose data an environment uses; shared, the new one would write into that of the other.
const DATA: [&str; 2] = ["url", "direct_url"];

/// The manifest `text` with an environment `to` that says what `from` says, but for its place and its data, and for
/// the variables in `set`, each a name and a value as text.
///
/// # Errors
/// A text that is no TOML, an environment that is not there, or is there already, or has no right name.
pub fn clone_environment(
    text: &str,
    from: &str,
    to: &str,
    set: &[(String, String)],
) -> Result<Cloned, Diagnostic> {
    let mut document: DocumentMut = text.parse().map_err(|_| {
        Diagnostic::error("manifest::syntax", "the manifest is not TOML").help("run `tow check`")
    })?;
    if !is_name(to) {
        let message = format!("`{to}` cannot name an environment");
        let note = "a name is 1 to 31 of `a-z`, `0-9` and `-`, and starts with a letter";
        return Err(Diagnostic::error("manifest::bad-name", message).note(note));
    }
    let kinds = |name: &str| declared(&document, name);
    let values: Vec<(&str, Value)> = set
        .iter()
        .map(|(name, value)| Ok((name.as_str(), typed(name, value, &kinds(name))?)))
        .collect::<Result<_, Diagnostic>>()?;
    let (mut copy, left_out) = copy_of(&document, from, to)?;
    if let Some(table) = copy.as_table_like_mut() {
        let variables = table
            .entry("variables")
            .or_insert_with(|| match set.is_empty() {
                true => Item::None,
                false => Item::Table(Table::new()),
            });
        for (name, value) in values {
            put(variables, name, value);
        }
    }
    insert(&mut document, to, copy);
    Ok(Cloned {
        text: document.to_string(),
        left_out,
    })
}

fn copy_of(
    document: &DocumentMut,
    from: &str,
    to: &str,
) -> Result<(Item, Vec<String>), Diagnostic> {
    let environments = document.get("environments").and_then(Item::as_table_like);
    if environments.is_some_and(|table| table.contains_key(to)) {
        let message = format!("there is an environment `{to}` already");
        return Err(Diagnostic::error("config::duplicate-name", message)
            .note("nothing was written")
            .help("choose another name, or take it out first"));
    }
    let found = environments.and_then(|table| table.get(from));
    let mut copy = match found {
        Some(found) => found.clone(),
        // It is there without being named.
        None if from == super::LOCAL => Item::Table(Table::new()),
        None => {
            let message = format!("there is no environment `{from}`");
            return Err(Diagnostic::error("config::unknown-environment", message)
                .note("nothing was written"));
        }
    };
    let mut left_out = Vec::new();
    if let Some(table) = copy.as_table_like_mut() {
        leave_out(table, &PLACE, "", &mut left_out);
        let resources = table.get_mut("resources").and_then(Item::as_table_like_mut);
        for (name, resource) in resources.into_iter().flat_map(|table| table.iter_mut()) {
            let above = format!("resources.{}.", name.get());
            if let Some(resource) = resource.as_table_like_mut() {
                leave_out(resource, &DATA, &above, &mut left_out);
            }
        }
    }
    afloat(&mut copy);
    Ok((copy, left_out))
}

fn leave_out(table: &mut dyn TableLike, keys: &[&str], above: &str, left_out: &mut Vec<String>) {
    for key in keys {
        if table.remove(key).is_some() {
            left_out.push(format!("{above}{key}"));
        }
    }
}

/// A copied table would be written where the one it is copied from stands.
fn afloat(item: &mut Item) {
    if let Item::Table(table) = item {
        table.set_position(None);
        for (_, below) in table.iter_mut() {
            afloat(below);
        }
    }
}

fn insert(document: &mut DocumentMut, to: &str, copy: Item) {
    let environments = document.entry("environments").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    match environments {
        Item::Table(table) => {
            let copy = match copy.into_table() {
                Ok(mut table) => {
                    table.set_dotted(false);
                    table.set_implicit(false);
                    Item::Table(table)
                }
                Err(other) => other,
            };
            table.insert(to, copy);
        }
        other => {
            if let (Some(table), Ok(copy)) = (other.as_table_like_mut(), copy.into_value()) {
                table.insert(to, Item::Value(copy));
            }
        }
    }
}

/// What a variable is declared to be: its `type`, or that of its value.
fn declared(document: &DocumentMut, name: &str) -> String {
    let variable = document
        .get("variables")
        .and_then(|table| table.as_table_like()?.get(name));
    let Some(variable) = variable else {
        return String::new();
    };
    let table = variable.as_table_like();
    let kind = table.and_then(|table| table.get("type")?.as_str());
    if let Some(kind) = kind {
        return kind.to_owned();
    }
    let value = table.map_or(Some(variable), |table| table.get("default"));
    match value {
        Some(value) if value.is_integer() => "integer",
        Some(value) if value.is_float() => "number",
        Some(value) if value.is_bool() => "boolean",
        Some(value) if value.is_array() => "list",
        _ => "string",
    }
    .to_owned()
}

/// A value of the declared type; one that is not is left as text, for the check to say what is wrong.
fn typed(name: &str, text: &str, kind: &str) -> Result<Value, Diagnostic> {
    let value = match kind {
        "" => {
            let message = format!("`{name}` is no variable");
            return Err(Diagnostic::error("config::undeclared-variable", message)
                .note("nothing was written")
                .help("declare it under `[variables]`"));
        }
        "integer" => text.parse::<i64>().ok().map(Value::from),
        "number" => text
            .parse::<i64>()
            .map(Value::from)
            .ok()
            .or_else(|| text.parse::<f64>().ok().map(Value::from)),
        "boolean" => text.parse::<bool>().ok().map(Value::from),
        "list" => Some(Value::Array(text.split(',').collect::<Array>())),
        _ => None,
    };
    Ok(value.unwrap_or_else(|| Value::from(text)))
}

/// A variable may be written as a value, or as a table with its bounds.
fn put(variables: &mut Item, name: &str, value: Value) {
    let Some(table) = variables.as_table_like_mut() else {
        return;
    };
    let long = table.get_mut(name).and_then(Item::as_table_like_mut);
    match long {
        Some(long) => {
            long.remove("unset");
            long.insert("default", Item::Value(value));
        }
        None => {
            table.insert(name, Item::Value(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# The whole.
app = \"whisper\"

[variables]
MAX = { type = \"integer\", default = 25 } # MB
NAMES = [\"a\"]

[environments.production] # the real one
server = \"deploy@203.0.113.7\"
domain = \"example.com\"
resources.db = { url = \"file:/etc/db\", backup = \"provider\" }
variables.MAX = 20 # since May

# The end.
[services.web]
run = \"serve\"
";

    fn set(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_copy_stands_beside_and_nothing_else_changes() {
        let values = [set("MAX", "10"), set("NAMES", "b,c")];
        let cloned = clone_environment(TEXT, "production", "dev", &values).expect("a manifest");
        assert_eq!(cloned.left_out, ["domain", "resources.db.url"]);
        for line in TEXT.lines() {
            assert!(cloned.text.contains(line), "{line} in\n{}", cloned.text);
        }
        let (before, after) = cloned
            .text
            .split_once("[environments.dev]")
            .expect("a table");
        assert!(before.contains("variables.MAX = 20 # since May"));
        assert!(after.contains("variables.MAX = 10"), "{after}");
        assert!(after.contains("server = \"deploy@203.0.113.7\""), "{after}");
        assert!(
            after.contains("variables.NAMES = [\"b\", \"c\"]"),
            "{after}"
        );
        assert!(
            !after.contains("domain") && !after.contains("url"),
            "{after}"
        );
    }

    #[test]
    fn an_inline_table_is_copied_inside_its_table() {
        let text = "app = \"a\"\nenvironments = { one = { window = \"1h\" } }\n[services]\n";
        let cloned = clone_environment(text, "one", "two", &[]).expect("a manifest");
        assert!(
            cloned.text.contains("two = { window = \"1h\" }"),
            "{}",
            cloned.text
        );
        let text = "app = \"a\"\nenvironments.one.window = \"1h\"\n";
        let cloned = clone_environment(text, "one", "two", &[]).expect("a manifest");
        let parsed: DocumentMut = cloned.text.parse().expect("TOML");
        assert_eq!(parsed["environments"]["two"]["window"].as_str(), Some("1h"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let code = |from: &str, to: &str, values: &[(String, String)]| {
            let refused = clone_environment(TEXT, from, to, values);
            refused.expect_err("a refusal").code.into_owned()
        };
        assert_eq!(code("staging", "dev", &[]), "config::unknown-environment");
        assert_eq!(
            code("production", "production", &[]),
            "config::duplicate-name"
        );
        assert_eq!(code("production", "Dev", &[]), "manifest::bad-name");
        let unknown = [set("MIN", "1")];
        assert_eq!(
            code("production", "dev", &unknown),
            "config::undeclared-variable"
        );
        assert!(clone_environment(TEXT, "local", "dev", &[]).is_ok());
    }
}
