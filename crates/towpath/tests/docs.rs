//! The documents and the program say the same: every manifest in them is right, and `docs/manifest.md` has every key,
//! with its default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use towpath::config::{Origin, check_text, explain};
use towpath::manifest::{Manifest, schema};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a readable document")
}

/// The documents for people: those at the root, and those of `docs`.
fn documents() -> Vec<PathBuf> {
    let entries = [root(), root().join("docs")]
        .into_iter()
        .flat_map(|folder| {
            let entries = std::fs::read_dir(folder).expect("a folder of documents");
            entries.map(|entry| entry.expect("an entry").path())
        });
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect()
}

/// The blocks of a document that are marked `toml` and nothing else, each with the line of its mark.
fn manifests(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        match (line.trim_end(), blocks.last_mut()) {
            ("```toml", _) => {
                inside = true;
                blocks.push((at + 1, String::new()));
            }
            ("```", _) => inside = false,
            (line, Some((_, block))) if inside => *block += &format!("{line}\n"),
            _ => {}
        }
    }
    blocks
}

#[test]
fn every_manifest_of_the_documents_is_right() {
    let mut looked_at = 0;
    for path in documents() {
        for (line, text) in manifests(&read(&path)) {
            looked_at += 1;
            let report = check_text("tow.toml", &text);
            let wrong = !report.diagnostics.is_empty();
            assert!(
                !wrong,
                "{}:{line}\n{}",
                path.display(),
                report.render(false)
            );
        }
    }
    assert!(looked_at >= 3, "only {looked_at} manifests were found");
}

/// A key by its table (`services.NAME.ready`; empty for the file itself) and its name.
type Key = (String, String);

/// What is said about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    /// Whether it is refused for now.
    later: bool,
    /// Its default, as the document says it.
    default: String,
}

fn below(table: &str, key: &str) -> String {
    match table.is_empty() {
        true => key.to_owned(),
        false => format!("{table}.{key}"),
    }
}

/// Every key of a schema, and whether it is refused for now.
fn keys(schema: &Json, table: &str, keys_of: &mut BTreeMap<Key, bool>) {
    for each in schema["anyOf"].as_array().into_iter().flatten() {
        keys(each, table, keys_of);
    }
    keys_in(&schema["items"], &format!("{table}[]"), keys_of);
    keys_in(
        &schema["patternProperties"]["^(?!x-)"],
        &below(table, "NAME"),
        keys_of,
    );
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if name == "unset" {
            continue;
        }
        let about = property["description"].as_str().unwrap_or_default();
        let later = about.ends_with("(not carried out by this version)");
        keys_of.insert((table.to_owned(), name.clone()), later);
        // What an environment lays over a shared table has the keys of that table.
        if table != "environments.NAME" {
            keys(property, &below(table, name), keys_of);
        }
    }
}

fn keys_in(schema: &Json, table: &str, keys_of: &mut BTreeMap<Key, bool>) {
    if !schema.is_null() {
        keys(schema, table, keys_of);
    }
}

/// The words between backticks.
fn quoted(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// Every key of the tables of `docs/manifest.md`, under the headings that name where they stand.
fn described(text: &str) -> BTreeMap<Key, Said> {
    let mut tables = Vec::new();
    let mut described = BTreeMap::new();
    for line in text.lines() {
        if line.starts_with("## ") {
            let named = quoted(line).into_iter();
            tables = named
                .map(|name| {
                    if name == "tow.toml" {
                        String::new()
                    } else {
                        name
                    }
                })
                .collect();
        }
        let Some(row) = line.strip_prefix("| `") else {
            continue;
        };
        let (name, rest) = row.split_once('`').expect("a key between backticks");
        let cells: Vec<_> = rest.split('|').map(str::trim).collect();
        let said = Said {
            later: cells[3].ends_with("not yet") && !cells[3].contains("`: not yet"),
            default: cells[2].to_owned(),
        };
        for table in &tables {
            described.insert((table.clone(), name.to_owned()), said.clone());
        }
    }
    described
}

fn known() -> BTreeMap<Key, bool> {
    let mut known = BTreeMap::new();
    keys(&schema(), "", &mut known);
    known
}

#[test]
fn every_key_is_described_and_no_other() {
    let known = known();
    let described = described(&read(&root().join("docs/manifest.md")));
    let known_keys: BTreeSet<_> = known.keys().collect();
    let described_keys: BTreeSet<_> = described.keys().collect();
    let missing: Vec<_> = known_keys.difference(&described_keys).collect();
    let invented: Vec<_> = described_keys.difference(&known_keys).collect();
    assert!(known.len() > 90, "the schema has only {} keys", known.len());
    assert!(
        missing.is_empty(),
        "{missing:?} of {} keys are not described",
        known.len()
    );
    assert!(
        invented.is_empty(),
        "{invented:?} are described, and are no keys"
    );
    for (key, later) in known {
        assert_eq!(
            described[&key].later, later,
            "{key:?}: whether it is carried out"
        );
    }
}

/// A manifest that leaves everything to its default.
const BARE: &str = r#"
app = "bare"
services.web = { run = "serve" }
services.site = { run = "serve", ready = "/health", routes = ["/site"], alive.failures = 3 }
services.work = { run = "work", role = "worker" }
resources.db = { kind = "sqlite" }
environments.production = {}
traffic.requests = ["/"]
traffic.write = { post = "/", body = { id = "${id}" }, read = "/${id}" }
rehearse = { next = { ref = "b" }, broken = { ref = "c" } }
"#;

/// The key of a path such as `services.web.routes[0].strip`.
fn key_of(path: &str) -> Key {
    let mut segments: Vec<String> = path.split('.').map(str::to_owned).collect();
    if ["services", "resources"].contains(&segments[0].as_str()) {
        segments[1] = "NAME".to_owned();
    }
    let name = segments.pop().expect("a name");
    (segments.join(".").replace("[0]", "[]"), name)
}

#[test]
fn every_default_is_described() {
    let manifest = Manifest::parse("tow.toml", BARE).expect("a manifest");
    let described = described(&read(&root().join("docs/manifest.md")));
    let mut looked_at = 0;
    for environment in ["local", "production"] {
        for line in explain(&manifest, environment) {
            let said = described.get(&key_of(&line.path));
            let (Origin::Default, Some(said)) = (&line.origin, said) else {
                continue;
            };
            looked_at += 1;
            let values = line.value.trim_matches(['[', ']']).replace('"', "");
            let inherited = line.path.ends_with("alive.http");
            for value in values
                .split(", ")
                .filter(|value| !value.is_empty() && !inherited)
            {
                let found = quoted(&said.default).iter().any(|quoted| quoted == value);
                assert!(
                    found,
                    "{}: the default is {value}, and not {}",
                    line.path, said.default
                );
            }
        }
    }
    assert!(looked_at > 60, "only {looked_at} defaults were found");
}
