//! What a manifest says of the tree it stands in.

use std::path::Path;

use super::merge;
use super::sheet::{Reader, Sheet};
use crate::diagnostic::{Diagnostic, Report, Span};
use crate::manifest::{Manifest, keys};

/// Files and folders that the manifest names for these environments, and that are not in the tree `root`.
pub fn check_tree(manifest: &Manifest, environments: &[&str], root: &Path) -> Report {
    let mut found = Vec::new();
    for environment in environments {
        let sheet = Sheet::new(manifest, environment);
        let merged = merge::merge(
            manifest.root(),
            manifest.environment(environment),
            &keys::ENVIRONMENT,
        );
        let root_of = Reader::root(&sheet, &merged);
        let services = root_of.at("services").entries();
        found.extend(services.iter().filter_map(|(_, one)| dockerfile(one, root)));
        let resources = root_of.at("resources").entries();
        found.extend(
            resources
                .iter()
                .filter_map(|(_, one)| migrations(one, root)),
        );
    }
    Report::new(manifest.name(), manifest.text(), found)
}

/// Secrets that services ask for and that nobody has set, all of an environment at once; `has` says which there are.
pub fn check_secrets(
    manifest: &Manifest,
    environments: &[&str],
    has: &dyn Fn(&str, &str) -> bool,
) -> Report {
    let missing = environments.iter().filter_map(|environment| {
        let asked = asked(manifest, environment).into_iter();
        let missing: Vec<_> = asked.filter(|(name, _)| !has(environment, name)).collect();
        not_set(environment, &missing)
    });
    Report::new(manifest.name(), manifest.text(), missing.collect())
}

/// Names of secrets, each with the first place that asks for it.
fn asked(manifest: &Manifest, environment: &str) -> Vec<(String, Span)> {
    let sheet = Sheet::new(manifest, environment);
    let here = manifest.environment(environment);
    let merged = merge::merge(manifest.root(), here, &keys::ENVIRONMENT);
    let root = Reader::root(&sheet, &merged);
    let mut all: Vec<(String, Span)> = Vec::new();
    let mut ask = |name: Option<&str>, span: Span| {
        let name = name.filter(|name| all.iter().all(|(other, _)| other != name));
        all.extend(name.map(|name| (name.to_owned(), span)));
    };
    for (_, service) in root.at("services").entries() {
        for item in service.at("secrets").items() {
            ask(item.quiet_text(), item.span());
        }
    }
    for (_, resource) in root.at("resources").entries() {
        for address in ["url", "direct_url"].map(|key| resource.at(key)) {
            let text = address.quiet_text();
            ask(
                text.and_then(|text| text.strip_prefix("secret:")),
                address.span(),
            );
        }
    }
    all
}

fn not_set(environment: &str, missing: &[(String, Span)]) -> Option<Diagnostic> {
    let (first, place) = missing.first()?;
    let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    let text = format!("missing in {environment}: {}", names.join(", "));
    let (label, more) = match names.len() {
        1 => ("asked for, and set by nobody", ""),
        _ => (
            "the first that is asked for, and set by nobody",
            ", and so for each",
        ),
    };
    let found = Diagnostic::error("secret::missing", text).label(place.clone(), label);
    let help = format!("run `tow secrets set {first} -e {environment}`{more}");
    Some(found.help(help))
}

fn dockerfile(service: &Reader<'_>, root: &Path) -> Option<Diagnostic> {
    let file = service.at("dockerfile");
    let path = file.quiet_text()?;
    let dir = service.at("dir");
    let dir = dir.quiet_text().unwrap_or(".");
    if root.join(dir).join(path).is_file() {
        return None;
    }
    let message = format!("`{}` names a file that is not there", file.path);
    let diagnostic = Diagnostic::error("container::no-dockerfile", message)
        .label(file.span(), "no such file in this tree")
        .note(format!("it is looked for in the service's folder, `{dir}`"))
        .help("commit it, or mend the path");
    Some(diagnostic)
}

/// A folder without migrations is fine. One that is not there is a slip of the pen, or was never
/// committed; taken for none, the application would start on a database without its tables.
fn migrations(resource: &Reader<'_>, root: &Path) -> Option<Diagnostic> {
    let folder = resource.at("migrate").at("folder");
    let path = folder.quiet_text()?;
    if root.join(path).is_dir() {
        return None;
    }
    let message = format!(
        "`{}.migrate` names a folder that is not there",
        resource.path
    );
    let diagnostic = Diagnostic::error("migrate::no-folder", message)
        .label(folder.span(), "no such folder in this tree")
        .note("git keeps no empty folder: one counts once a file in it is committed")
        .help(format!(
            "make it with a first migration, `{path}/0001_first.up.sql`, or take the key out"
        ));
    Some(diagnostic)
}
