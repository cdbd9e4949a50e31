//! What a manifest says of variables and secrets, as files that applications read: `.env.example`, and typed
//! bindings. Each is a pure function of the manifest, so the same manifest gives the same bytes everywhere.
//!
//! A binding reads the environment once, converts every value, and says everything that is missing or wrong at once,
//! by name and never by value: what is wrong may be a secret.
mod env_example;
mod python;
mod rust;
mod typescript;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{self, Config, VariableKind};
use crate::diagnostic::Report;
use crate::manifest::{LOCAL, Manifest};

/// What is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.env.example`.
    EnvExample,
    /// TypeScript.
    TypeScript,
    /// Python.
    Python,
    /// Rust.
    Rust,
}

/// One value that an application may be given.
struct Item {
    name: String,
    kind: VariableKind,
    /// Whether it is there in every environment.
    always: bool,
    secret: bool,
    description: Option<String>,
    values: Vec<String>,
    /// What it is where the source tree runs.
    local: Option<String>,
}

/// Renders what a manifest declares.
///
/// # Errors
/// A manifest that does not resolve in each of its environments.
pub fn render(manifest: &Manifest, format: Format) -> Result<String, Report> {
    let environments = manifest.environments().into_iter();
    let configs = environments.map(|name| config::resolve(manifest, name));
    let configs: Vec<Config> = configs.collect::<Result<_, _>>()?;
    let items = items(&configs);
    Ok(match format {
        Format::EnvExample => env_example::render(&items, &given(&configs)),
        Format::TypeScript => typescript::render(&items),
        Format::Python => python::render(&items),
        Format::Rust => rust::render(&items),
    })
}

fn items(configs: &[Config]) -> Vec<Item> {
    let names: BTreeSet<&String> = configs
        .iter()
        .flat_map(|one| one.variables.keys())
        .collect();
    let item = |name: &String| {
        let known = configs.iter().find_map(|one| one.variables.get(name))?;
        let has = |one: &Config| {
            one.variables
                .get(name)
                .is_some_and(|one| one.value.is_some())
        };
        let local = configs.iter().find(|one| one.environment == LOCAL);
        Some(Item {
            name: name.clone(),
            kind: known.kind,
            always: configs.iter().all(has),
            secret: false,
            description: known.description.clone(),
            values: known.values.clone(),
            local: local.and_then(|one| one.variables.get(name)?.value.clone()),
        })
    };
    names.into_iter().filter_map(item).collect()
}

/// What services get beside variables, each with what it is.
fn given(configs: &[Config]) -> BTreeMap<String, String> {
    let services = configs.iter().flat_map(|one| &one.services);
    let all = services.flat_map(|(service, one)| {
        let pairs = one.env.iter();
        pairs.map(move |(name, template)| (name, format!("{template}, in `{service}`")))
    });
    let mut given = BTreeMap::new();
    for (name, what) in all {
        let is_variable = configs.iter().any(|one| one.variables.contains_key(name));
        if !is_variable {
            given.entry(name.clone()).or_insert(what);
        }
    }
    given
}

impl Item {
    /// What a comment says of it, without a line break.
    fn comment(&self) -> String {
        let kind = match (self.secret, self.kind) {
            (true, _) => "a secret".to_owned(),
            (_, VariableKind::Enum) => format!("one of {}", self.values.join(", ")),
            (_, kind) => kind.to_string(),
        };
        let text = match &self.description {
            Some(about) => format!("{about} ({kind})"),
            None => kind,
        };
        let text: Vec<_> = text.split_whitespace().collect();
        // What ends a comment in one of the languages.
        text.join(" ").replace("*/", "* /")
    }
}

/// A name that is none of a language's own words.
fn apart(name: &str, words: &[&str]) -> String {
    match words.contains(&name) {
        true => format!("{name}_"),
        false => name.to_owned(),
    }
}

/// A text between double quotes, as TypeScript, Python and Rust all read it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// The words of an enum, quoted.
fn words(item: &Item) -> Vec<String> {
    item.values.iter().map(|word| quoted(word)).collect()
}
