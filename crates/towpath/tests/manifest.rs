//! Manifests in files, and what is said about them; `UPDATE=1` writes the expected files anew.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use towpath::config::{check_secrets, check_text, explain, resolve};
use towpath::diagnostic::Diagnostic;
use towpath::manifest::{Manifest, schema};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifest")
}

fn data(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect("a readable file of test data")
}

/// The manifests of the folder, by name.
fn manifests() -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("a folder of test data");
    let names = files.map(|file| file.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a plain name"));
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".toml")).collect();
    names.sort();
    names
}

/// What is wrong with a manifest; or, if nothing is, what it means in each environment.
fn verdict(text: &str) -> String {
    let report = check_text("tow.toml", text);
    if !report.diagnostics.is_empty() {
        return report.render(false);
    }
    let manifest = Manifest::parse("tow.toml", text).expect("a manifest that was checked");
    let mut verdict = String::new();
    for environment in manifest.environments() {
        let config = resolve(&manifest, environment).expect("an environment that was checked");
        verdict += &format!("# {environment}: starts {}\n", config.order.join(", "));
        for line in explain(&manifest, environment) {
            verdict += &format!("{} = {}    # {}\n", line.path, line.value, line.origin);
        }
    }
    verdict
}

#[test]
fn every_manifest_says_what_is_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for name in manifests() {
        let found = verdict(&data(&name));
        let expected = folder().join(name.replace(".toml", ".expected"));
        if update {
            std::fs::write(&expected, &found).expect("a file to write");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("--- {name}\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
}

/// The codes that a text names: `"manifest::..."` in code, `[manifest::...]` in what is rendered.
/// The secrets of the others are set by whoever deploys them.
#[test]
fn flowscope_can_be_deployed_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systems/flowscope/tow.toml");
    let text = std::fs::read_to_string(file).expect("FlowScope's manifest");
    let report = check_text("tow.toml", &text);
    assert!(!report.has_errors(), "{}", report.render(false));
    let manifest = Manifest::parse("tow.toml", &text).expect("a manifest");
    for environment in manifest.environments() {
        assert!(resolve(&manifest, environment).is_ok(), "{environment}");
    }
}

fn codes(text: &str, open: char, close: char) -> BTreeSet<String> {
    let starts = ["manifest::", "config::"].map(|layer| format!("{open}{layer}"));
    let mut codes = BTreeSet::new();
    for start in &starts {
        for (at, _) in text.match_indices(start.as_str()) {
            let code = &text[at + open.len_utf8()..];
            let end = code.find(close).expect("the end of a code");
            codes.insert(code[..end].to_owned());
        }
    }
    codes
}

#[test]
fn every_code_is_shown_by_some_manifest() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut known = BTreeSet::new();
    for folder in ["manifest", "config"] {
        for file in std::fs::read_dir(source.join(folder)).expect("a folder of source") {
            let path = file.expect("an entry").path();
            let text = std::fs::read_to_string(path).expect("a readable source");
            known.extend(codes(&text, '"', '"'));
        }
    }
    let mut shown = BTreeSet::new();
    for name in manifests() {
        shown.extend(codes(&data(&name.replace(".toml", ".expected")), '[', ']'));
    }
    // Held by the tests of hostile texts: a file of test data would have to be huge, or no text at all.
    for code in [
        "manifest::too-large",
        "manifest::not-utf8",
        "manifest::too-many",
    ] {
        shown.insert(code.to_owned());
    }
    let missing: Vec<_> = known.difference(&shown).collect();
    assert!(
        known.len() > 25 && missing.is_empty(),
        "{missing:?} of {} have no manifest",
        known.len()
    );
}

#[test]
fn secrets_that_nobody_has_set_are_named_together() {
    let text = r#"
app = "shop"
[services.web]
run = "serve"
secrets = ["HERE", "A", "B"]
[services.job]
role = "worker"
run = "work"
secrets = ["B"]
[resources]
db = { kind = "postgres", url = "secret:C", backup = "provider" }
"#;
    let manifest = Manifest::parse("tow.toml", text).unwrap();
    let has = |_: &str, name: &str| name == "HERE";
    let report = check_secrets(&manifest, &["local"], &has);
    let messages: Vec<_> = report
        .diagnostics
        .iter()
        .map(|one| one.message.as_str())
        .collect();
    assert_eq!(messages, ["missing in local: A, B, C"]);
    assert!(
        check_secrets(&manifest, &["local"], &|_, _| true)
            .diagnostics
            .is_empty()
    );
}

#[test]
fn the_configuration_as_json() {
    let manifest = Manifest::parse("tow.toml", &data("good-flowscope.toml")).expect("a manifest");
    let config = resolve(&manifest, "production").expect("a configuration");
    let found = serde_json::to_string_pretty(&config).expect("JSON") + "\n";
    let expected = folder().join("good-flowscope.production.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&expected, &found).expect("a file to write");
    }
    assert_eq!(
        std::fs::read_to_string(&expected).unwrap_or_default(),
        found
    );
}

#[test]
fn an_environment_that_is_not_there() {
    let manifest = Manifest::parse("tow.toml", &data("good-flowscope.toml")).expect("a manifest");
    let report = resolve(&manifest, "prodution").expect_err("a refusal");
    let expected = "\
error[config::unknown-environment]: there is no environment `prodution`
  = note: tow.toml has `local`, `staging`, `production`
help: did you mean `production`?
";
    assert_eq!(report.render(false), expected);
    assert!(explain(&manifest, "prodution").is_empty());
}

#[test]
fn the_examples_of_the_design_parse() {
    for name in ["example-notes.toml", "example-focusflow.toml"] {
        Manifest::parse(name, &data(name)).expect("a manifest of the right shape");
    }
    let notes = Manifest::parse("tow.toml", &data("example-notes.toml")).expect("a manifest");
    for environment in ["local", "staging"] {
        resolve(&notes, environment).expect("a configuration");
    }
}

#[test]
fn a_report_as_json_has_lines_and_columns() {
    let report = check_text("tow.toml", "app = \"shop\"\nservices.web.run = 3\n");
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["file"], "tow.toml");
    let first = &json["diagnostics"][0];
    assert_eq!(
        (&first["code"], &first["severity"]),
        (&"manifest::wrong-type".into(), &"error".into())
    );
    let label = &first["labels"][0];
    assert_eq!((&label["line"], &label["column"]), (&2.into(), &20.into()));
}

#[test]
fn an_error_of_a_run_is_rendered_the_same_way() {
    let error = Diagnostic::error("deploy::not-ready", "service `api` of r42 did not become ready within 30 s")
        .note("last probe, 0.8 s ago: GET http://127.0.0.1:20173/readyz -> 503 \"database: connection refused\"")
        .note("production still serves r41; nothing was switched")
        .help("run `tow logs api -e production --release r42`");
    let expected = "\
error[deploy::not-ready]: service `api` of r42 did not become ready within 30 s
  = note: last probe, 0.8 s ago: GET http://127.0.0.1:20173/readyz -> 503 \"database: connection refused\"
  = note: production still serves r41; nothing was switched
help: run `tow logs api -e production --release r42`
";
    assert_eq!(error.render(false), expected);
    let colour = error.render(true);
    assert!(colour.contains("\u{1b}[") && colour.contains("deploy::not-ready"));
}

/// Whether a document keeps a schema, as far as the schemas of manifests go; the first place where it does not.
fn breach(schema: &Json, value: &Json, path: &str) -> Option<String> {
    if let Some(choices) = schema["anyOf"].as_array() {
        let breaches: Vec<_> = choices
            .iter()
            .map(|choice| breach(choice, value, path))
            .collect();
        return match breaches.iter().any(Option::is_none) {
            true => None,
            false => breaches.into_iter().flatten().max_by_key(String::len),
        };
    }
    let kinds = match &schema["type"] {
        Json::Array(kinds) => kinds.clone(),
        Json::Null => Vec::new(),
        kind => vec![kind.clone()],
    };
    let fits = |kind: &Json| match kind.as_str().expect("the name of a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        other => panic!("{other} is no type"),
    };
    let among = |words: &Json| words.as_array().is_none_or(|words| words.contains(value));
    let is_const = schema.get("const").is_none_or(|only| only == value);
    if !(kinds.is_empty() || kinds.iter().any(fits)) || !among(&schema["enum"]) || !is_const {
        return Some(path.to_owned());
    }
    let number = value.as_f64().unwrap_or_default();
    let over = schema["maximum"].as_f64().is_some_and(|most| number > most);
    if over
        || schema["minimum"]
            .as_f64()
            .is_some_and(|least| number < least)
    {
        return Some(path.to_owned());
    }
    let items = value.as_array().into_iter().flatten();
    let mut items = items.map(|item| breach(&schema["items"], item, &format!("{path}[]")));
    items
        .find_map(|found| found)
        .or_else(|| breach_below(schema, value, path))
}

fn breach_below(schema: &Json, value: &Json, path: &str) -> Option<String> {
    for (key, value) in value.as_object().into_iter().flatten() {
        if key.starts_with("x-") {
            continue;
        }
        let path = format!("{path}.{key}");
        let named = schema["properties"].get(key);
        let found = match named.or_else(|| schema["patternProperties"].get("^(?!x-)")) {
            Some(below) => breach(below, value, &path),
            None if schema["additionalProperties"] == false => Some(path),
            None => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn as_json(name: &str) -> Json {
    let table: toml::Table = data(name).parse().expect("TOML");
    serde_json::to_value(table).expect("JSON")
}

#[test]
fn the_schema_takes_what_the_parser_takes() {
    let schema = schema();
    let all = manifests();
    let good = all
        .iter()
        .filter(|name| name.starts_with("good-") || name.starts_with("example-"));
    for name in good {
        assert_eq!(breach(&schema, &as_json(name), ""), None, "{name}");
    }
    assert_eq!(
        breach(&schema, &as_json("unknown-keys.toml"), "").as_deref(),
        Some(".environments.staging.app")
    );
    let breaches = |text: &str| {
        let table: toml::Table = text.parse().expect("TOML");
        breach(&schema, &serde_json::to_value(table).expect("JSON"), "")
    };
    assert!(breaches("services.web.replicas = 65").is_some());
    assert!(breaches("services.web.role = 'wbe'").is_some());
    assert!(breaches("services.web.run = { unset = true }").is_some());
    assert_eq!(
        breaches("environments.a.services.web.run = { unset = true }"),
        None
    );
}
