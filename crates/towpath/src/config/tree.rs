//! What a manifest says of the tree it stands in.

use std::path::Path;

use super::merge;
use super::sheet::{Reader, Sheet};
use crate::diagnostic::{Diagnostic, Report};
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

/// Secrets that services ask for and that nobody has set, in each of these environments; `has` says which there are.
pub fn check_secrets(
    manifest: &Manifest,
    environments: &[&str],
    has: &dyn Fn(&str, &str) -> bool,
) -> Report {
    let mut found = Vec::new();
    for environment in environments {
        let sheet = Sheet::new(manifest, environment);
        let here = manifest.environment(environment);
        let merged = merge::merge(manifest.root(), here, &keys::ENVIRONMENT);
        for (_, service) in Reader::root(&sheet, &merged).at("services").entries() {
            let asked = service.at("secrets").items().into_iter();
            let missing = asked.filter(|item| {
                item.quiet_text()
                    .is_some_and(|name| !has(environment, name))
            });
            found.extend(missing.map(|item| not_set(environment, &item)));
        }
        for (_, resource) in Reader::root(&sheet, &merged).at("resources").entries() {
            let addresses = ["url", "direct_url"].map(|key| resource.at(key));
            let missing = addresses.iter().filter(|item| {
                let name = item
                    .quiet_text()
                    .and_then(|text| text.strip_prefix("secret:"));
                name.is_some_and(|name| !has(environment, name))
            });
            found.extend(missing.map(|item| not_set(environment, item)));
        }
    }
    Report::new(manifest.name(), manifest.text(), found)
}

fn not_set(environment: &str, item: &Reader<'_>) -> Diagnostic {
    let name = item.quiet_text().unwrap_or_default();
    let name = name.strip_prefix("secret:").unwrap_or(name);
    Diagnostic::error(
        "secret::missing",
        format!("missing in {environment}: {name}"),
    )
    .label(item.span(), "asked for, and set by nobody")
    .help(format!("run `tow secrets set {name} -e {environment}`"))
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
