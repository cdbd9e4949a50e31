//! How a schema comes about: by a folder of ours, or by a program of somebody else's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::sheet::Reader;
use super::{Role, Service};
use crate::diagnostic::Diagnostic;

/// How the schema of a database comes about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Migrate {
    /// Folder of our migrations, below the manifest's.
    Folder(PathBuf),
    /// By a program of somebody else's.
    Foreign(Foreign),
}

/// A program of somebody else's that brings a schema about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreign {
    /// Which.
    pub by: Migrator,
    /// Whether the version before cannot work with what it leaves.
    pub rewrite: bool,
    /// Whether it is tried on a copy first.
    pub rehearse: bool,
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Migrator {
    /// A shell command.
    Run {
        /// The command.
        command: String,
        /// The service whose folder and environment it gets.
        service: String,
    },
    /// The application itself, when it starts.
    OnStart,
}

/// Keys that say how a foreign migrator is handled.
const OF_FOREIGN: [&str; 3] = ["service", "rewrite", "rehearse"];

/// The services, and the order of their start.
pub(super) type Services<'a> = (&'a BTreeMap<String, Service>, &'a [String]);

/// What `migrate` of the resource `name` says.
pub(super) fn migrate(name: &str, reader: &Reader<'_>, services: Services<'_>) -> Option<Migrate> {
    let by = match reader.at("run").text() {
        Some(command) => Some(run(name, command, reader, services)),
        None if is_set(reader, "on_start") => {
            on_start(name, reader, services);
            Some(Migrator::OnStart)
        }
        None => None,
    };
    if !matches!(by, Some(Migrator::Run { .. })) {
        has_no(reader, &["service"], "`run`");
    }
    let Some(by) = by else {
        has_no(reader, &OF_FOREIGN[1..], "`run` and `on_start`");
        let folder = reader.at("folder").text();
        return folder.map(|folder| Migrate::Folder(PathBuf::from(folder)));
    };
    Some(Migrate::Foreign(Foreign {
        by,
        rewrite: reader.at("rewrite").flag(false),
        rehearse: reader.at("rehearse").flag(true),
    }))
}

/// A flag that is there, and not for its default.
fn is_set(reader: &Reader<'_>, key: &str) -> bool {
    let value = reader.at(key);
    !value.is_absent() && value.flag(false)
}

/// Keys that nothing would heed.
fn has_no(reader: &Reader<'_>, keys: &[&str], only: &str) {
    for key in keys {
        let value = reader.at(key);
        if value.is_absent() {
            continue;
        }
        let message = format!("`{}` is only for {only}", value.path);
        reader.sheet.report(
            Diagnostic::error("config::not-for-migrate", message)
                .label(value.key.clone(), "nothing would heed it")
                .help("take it out, or `{ unset = true }` it for this environment"),
        );
    }
}

/// In the folder of the service that is named, or of the one that needs it.
fn run(name: &str, command: &str, reader: &Reader<'_>, services: Services<'_>) -> Migrator {
    let (all, order) = services;
    let named = reader.at("service");
    let needs = |service: &&String| all[*service].needs.iter().any(|need| need == name);
    let needing: Vec<&String> = order.iter().filter(needs).collect();
    let service = match (named.text(), needing.as_slice()) {
        (Some(service), _) => service.to_owned(),
        (None, [only]) => (*only).clone(),
        (None, _) => {
            which(name, reader, &needing);
            String::new()
        }
    };
    if let Some(text) = named.quiet_text().filter(|text| !all.contains_key(*text)) {
        let message = format!("`{}` names `{text}`, which is no service", named.path);
        reader
            .sheet
            .report(Diagnostic::error("config::unknown-service", message).label(named.span(), ""));
    }
    if all.get(&service).is_some_and(|one| one.container.is_some()) {
        let message = format!("`{}` would run in a container", reader.at("run").path);
        reader.sheet.report(
            Diagnostic::error("config::contained", message)
                .label(reader.at("run").span(), "not carried out by this version")
                .help(format!(
                    "let `{service}` migrate when it starts: `migrate = {{ on_start = true }}`"
                )),
        );
    }
    Migrator::Run {
        command: command.to_owned(),
        service,
    }
}

fn which(name: &str, reader: &Reader<'_>, needing: &[&String]) {
    let message = match needing {
        [] => format!(
            "no service needs `{name}`, so there is no folder for `{}.run`",
            reader.path
        ),
        _ => format!("several services need `{name}`"),
    };
    let names: Vec<String> = needing.iter().map(|name| format!("`{name}`")).collect();
    let note = (!names.is_empty()).then(|| names.join(", "));
    let mut diagnostic = Diagnostic::error("config::which-service", message)
        .label(
            reader.span(),
            "in whose folder, and with whose environment?",
        )
        .help("say it: `service = \"NAME\"`");
    diagnostic.notes.extend(note);
    reader.sheet.report(diagnostic);
}

/// Somebody has to start, and to be ready, before requests go there.
fn on_start(name: &str, reader: &Reader<'_>, (all, _): Services<'_>) {
    let is_migrated = all.values().any(|service| {
        let is_web = service.role == Role::Web;
        is_web && service.needs.iter().any(|need| need == name)
    });
    if !is_migrated {
        let message = format!("no service that serves requests needs `{name}`");
        reader.sheet.report(
            Diagnostic::error("config::nobody-migrates", message)
                .label(reader.span(), "who would migrate it when it starts?")
                .help(format!(
                    "add `needs = [\"{name}\"]` to the service that does"
                )),
        );
    }
}
