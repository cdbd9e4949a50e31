//! `.env` and the examples of it: names, and values that are no secrets.

use std::collections::BTreeMap;

use super::finding::Findings;
use super::secret;
use super::sketch::Variable;
use super::tree::{File, Tree, join};

/// What examples of `.env` are called.
const EXAMPLES: [&str; 5] = [
    ".env.example",
    ".env.sample",
    ".env.template",
    "env.example",
    ".env.dist",
];

/// Every name and value of a file, if it is there.
pub fn values(tree: &Tree, path: &str) -> BTreeMap<String, String> {
    let variables = tree.read(path).map(|file| variables(&file));
    let pairs = variables.unwrap_or_default().into_iter();
    pairs
        .filter_map(|one| Some((one.name, one.value?)))
        .collect()
}

/// The variables of a file.
pub fn variables(file: &File) -> Vec<Variable> {
    let lines = file.text.lines().enumerate();
    lines
        .filter_map(|(at, line)| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            let name = name.trim();
            let plain = crate::manifest::form::is_variable(name);
            plain.then(|| Variable::new(name, Some(&unquoted(value)), &file.at(at + 1)))
        })
        .collect()
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            let end = rest.find(quote).unwrap_or(rest.len());
            return rest[..end].to_owned();
        }
    }
    if value.starts_with('#') {
        return String::new();
    }
    let end = value.find(" #").unwrap_or(value.len());
    value[..end].trim_end().to_owned()
}

/// What the files of a folder say its service is told: the example's values before those of one machine.
pub fn of(tree: &Tree, dir: &str, findings: &mut Findings) -> Vec<Variable> {
    let mut all: Vec<Variable> = Vec::new();
    if let Some(file) = tree.first(dir, &EXAMPLES).and_then(|path| tree.read(&path)) {
        all.extend(variables(&file));
        for one in &all {
            let value = one.value.as_deref().unwrap_or_default();
            if secret::is_name(&one.name) && secret::is_common(value) {
                secret::known_default(findings, &one.place, &one.name);
            }
        }
    }
    let Some(file) = tree.read(&join(dir, ".env")) else {
        return all;
    };
    ignored(tree, &file, findings);
    for one in variables(&file) {
        let value = one.value.as_deref().unwrap_or_default();
        if secret::is_name(&one.name) && secret::is_known(value) {
            secret::known_default(findings, &one.place, &one.name);
        }
        match all.iter_mut().find(|known| known.name == one.name) {
            Some(known) if known.value.as_deref() == Some("") => *known = one,
            Some(_) => {}
            None => all.push(one),
        }
    }
    all
}

fn ignored(tree: &Tree, file: &File, findings: &mut Findings) {
    if !tree.is_dir(".git") {
        return;
    }
    let dirs = [".", file.dir()];
    let texts = dirs
        .iter()
        .filter_map(|dir| tree.read(&join(dir, ".gitignore")));
    let matches = |line: &str| {
        let line = line
            .trim()
            .trim_start_matches('/')
            .trim_start_matches("**/");
        matches!(line, ".env" | ".env*" | "*.env" | ".env.*" | ".*") || line == file.path
    };
    let is_ignored = texts.into_iter().any(|text| text.text.lines().any(matches));
    if !is_ignored {
        findings.fault(
            "env-not-ignored",
            &file.at(0),
            "git does not ignore it: the next `git add` takes its values in",
            "echo .env >> .gitignore",
        );
    }
}
