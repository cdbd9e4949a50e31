//! The resources of one environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::foreign::{self, Services};
use super::sheet::{Reader, Sheet};
use super::{Foreign, Migrate, Steady, merge, probe};
use crate::diagnostic::Diagnostic;
use crate::manifest::form;
use crate::manifest::keys;

/// What services need and do not run themselves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// How its schema comes about, if anybody cares for it.
    pub migrate: Option<Migrate>,
    /// Major version of a server of ours; the newest there is, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Where it is; `None` for one of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// Where it is for what a pooler does not bear: migrations and backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_url: Option<Address>,
    /// The name that a SQLite file has to have, in a folder of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Who backs it up.
    #[serde(skip_serializing_if = "Backup::is_ours")]
    pub backup: Backup,
    /// How it is asked whether it answers; `None` never asks.
    pub alive: Option<Steady>,
}

impl Resource {
    /// The secrets that say where it is.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        let addresses = self.url.iter().chain(&self.direct_url);
        addresses.filter_map(|address| match address {
            Address::Secret(name) => Some(name),
            Address::Url(_) | Address::File(_) => None,
        })
    }

    /// Whether it is a server that Towpath runs.
    #[must_use]
    pub fn is_run(&self) -> bool {
        let is_server = matches!(self.kind, ResourceKind::Postgres | ResourceKind::Redis);
        is_server && self.url.is_none()
    }

    /// Whether it lies in the environment's data folder, beside which nothing runs for it.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.kind, ResourceKind::Sqlite | ResourceKind::Storage)
    }

    /// Whether it has a folder of its own there.
    #[must_use]
    pub fn has_folder(&self) -> bool {
        self.kind == ResourceKind::Storage || self.file.is_some()
    }

    /// Whether it holds data that a deployment backs up.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.kind != ResourceKind::Redis && self.backup == Backup::Towpath
    }

    /// The folder of our migrations, where the schema is ours to bring about.
    #[must_use]
    pub fn migrations(&self) -> Option<&Path> {
        match &self.migrate {
            Some(Migrate::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    /// Who else brings the schema about, where it is not ours to.
    #[must_use]
    pub fn foreign(&self) -> Option<&Foreign> {
        match &self.migrate {
            Some(Migrate::Foreign(foreign)) => Some(foreign),
            _ => None,
        }
    }
}

/// Where something is that is not ours. It holds no password: what is typed is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// As typed.
    Url(String),
    /// In this file, on the environment's machine.
    File(PathBuf),
    /// The secret of this name.
    Secret(String),
}

/// Who backs a database up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backup {
    /// Towpath, before each deployment.
    Towpath,
    /// Whoever runs it.
    Provider,
}

impl Backup {
    fn is_ours(&self) -> bool {
        *self == Backup::Towpath
    }
}

/// Kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// A file in the environment's data folder.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// A folder of files that is kept.
    Storage,
}

/// Keys that only make sense for some kinds.
const ONLY: [(&str, &[ResourceKind]); 6] = [
    ("version", &[ResourceKind::Postgres]),
    ("url", &[ResourceKind::Postgres, ResourceKind::Redis]),
    ("direct_url", &[ResourceKind::Postgres]),
    (
        "backup",
        &[
            ResourceKind::Sqlite,
            ResourceKind::Postgres,
            ResourceKind::Storage,
        ],
    ),
    ("file", &[ResourceKind::Sqlite]),
    ("migrate", &[ResourceKind::Sqlite, ResourceKind::Postgres]),
];

pub(super) fn read(root: &Reader<'_>, started: Services<'_>) -> BTreeMap<String, Resource> {
    let services: BTreeSet<_> = root
        .at("services")
        .entries()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let entries = root.at("resources").entries();
    entries
        .into_iter()
        .filter(|(name, _)| !services.contains(name))
        .map(|(name, reader)| (name.to_owned(), resource(name, &reader, started)))
        .collect()
}

fn resource(name: &str, reader: &Reader<'_>, services: Services<'_>) -> Resource {
    let kind = match reader.at("kind").text() {
        Some("postgres") => ResourceKind::Postgres,
        Some("redis") => ResourceKind::Redis,
        Some("storage") => ResourceKind::Storage,
        _ => ResourceKind::Sqlite,
    };
    fits(reader, kind);
    let version = reader.at("version");
    let resource = Resource {
        kind,
        migrate: foreign::migrate(name, &reader.at("migrate"), services),
        version: (!version.is_absent()).then(|| version.integer(0)),
        url: address(&reader.at("url"), kind),
        direct_url: address(&reader.at("direct_url"), kind),
        file: reader.at("file").text().map(str::to_owned),
        backup: match reader.at("backup").text() {
            Some("provider") => Backup::Provider,
            _ => Backup::Towpath,
        },
        alive: probe::steady(&reader.at("alive")),
    };
    if !reader.at("direct_url").is_absent() && reader.at("url").is_absent() {
        let direct = reader.at("direct_url");
        let message = format!("`{}` stands without a `url`", direct.path);
        reader.sheet.report(
            Diagnostic::error("config::missing", message)
                .label(direct.key.clone(), "the way round what is at `url`")
                .help("give `url` as well: it is what the services get"),
        );
    }
    resource
}

fn name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Sqlite => "sqlite",
        ResourceKind::Postgres => "postgres",
        ResourceKind::Redis => "redis",
        ResourceKind::Storage => "storage",
    }
}

fn fits(reader: &Reader<'_>, kind: ResourceKind) {
    for (key, kinds) in ONLY {
        let value = reader.at(key);
        if value.is_absent() || kinds.contains(&kind) {
            continue;
        }
        let message = format!("`{}` is not for `{}`", value.path, name(kind));
        let kinds: Vec<_> = kinds
            .iter()
            .map(|kind| format!("`{}`", name(*kind)))
            .collect();
        reader.sheet.report(
            Diagnostic::error("config::not-for-kind", message)
                .label(
                    value.key.clone(),
                    format!("only for {}", kinds.join(" and ")),
                )
                .help("take it out, or `{ unset = true }` it for this environment"),
        );
    }
}

/// What is typed is never shown when it is wrong: it may hold a password.
fn address(reader: &Reader<'_>, kind: ResourceKind) -> Option<Address> {
    let text = reader.quiet_text()?;
    let wrong = |code: &'static str, why: &str, help: &str| {
        let message = format!("`{}` {why}", reader.path);
        reader
            .sheet
            .report(Diagnostic::error(code, message).help(help.to_owned()));
        None
    };
    let file =
        "put the URL into a file of the environment's machine, and name it: `url = \"file:/path\"`";
    if let Some(path) = text.strip_prefix("file:") {
        return match path.starts_with('/') {
            true => {
                reader.note(format!("{text:?}"));
                Some(Address::File(PathBuf::from(path)))
            }
            false => wrong(
                "config::bad-url",
                "names a file that is not at an absolute path",
                file,
            ),
        };
    }
    if let Some(name) = text.strip_prefix("secret:") {
        return match form::is_variable(name) {
            true => {
                reader.note(format!("{text:?}"));
                Some(Address::Secret(name.to_owned()))
            }
            false => wrong(
                "config::bad-url",
                "names a secret by what is no name",
                "a name is that of an environment variable: `url = \"secret:DATABASE_URL\"`",
            ),
        };
    }
    let schemes: &[&str] = match kind {
        ResourceKind::Redis => &["redis://", "rediss://"],
        _ => &["postgres://", "postgresql://"],
    };
    if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
        let why = format!("does not begin with `{}`", schemes[0]);
        return wrong("config::bad-url", &why, file);
    }
    if has_password(text) {
        return wrong(
            "config::password",
            "holds a password, and the manifest is committed and kept in releases",
            file,
        );
    }
    reader.note(format!("{text:?}"));
    Some(Address::Url(text.to_owned()))
}

/// In the part before the host, or among the parameters.
pub(super) fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    // The last sign: a password may hold another, and a slash.
    let named = query.split('&').any(|pair| {
        let key = pair.split('=').next().unwrap_or_default();
        key.contains('%') || matches!(key, "password" | "sslpassword")
    });
    place
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
        || named
}

/// Databases at the end of the way of releases that are reached over a network, and by no TLS.
pub(super) fn plain(sheet: &Sheet<'_>) -> Vec<Diagnostic> {
    let manifest = sheet.manifest;
    let own = manifest.environment(sheet.environment);
    let merged = merge::merge(manifest.root(), own, &keys::ENVIRONMENT);
    let entries = Reader::root(sheet, &merged).at("resources").entries();
    let addresses = entries
        .iter()
        .flat_map(|(_, resource)| [resource.at("url"), resource.at("direct_url")]);
    addresses
        .filter_map(|address| {
            let text = address.quiet_text()?;
            let message = format!(
                "`{}` has `sslmode=disable`, and releases end in {}",
                address.path, sheet.environment
            );
            (is_plain(text) && !has_password(text)).then(|| {
                Diagnostic::warning("config::plain-database", message)
                    .label(
                        address.key.clone(),
                        "data and passwords' proofs can be read on the way",
                    )
                    .note("`tow promote` refuses it")
                    .help(VERIFY)
            })
        })
        .collect()
}

/// What to do about a URL that [`is_plain`].
pub const VERIFY: &str = "make it `sslmode=verify-full&sslrootcert=system`, or name a file of the authority's certificate";

/// Whether what goes to the PostgreSQL of this URL leaves the machine, and unencrypted.
#[must_use]
pub fn is_plain(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair == "sslmode=disable") && !is_here(url)
}

/// Whether the host is this machine itself.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let place = rest.split(['/', '?']).next().unwrap_or_default();
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    host.is_empty() || ["localhost", "[::1]"].contains(&host) || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for url in [
            "postgres://a@localhost/d",
            "postgres://127.0.0.1:1/d",
            "postgres://[::1]/d",
            "postgres:///d",
        ] {
            assert!(is_here(url), "{url}");
        }
        for url in [
            "postgres://a@h/d",
            "postgres://localhost.example.com/d",
            "postgres://[::2]:5/d",
        ] {
            assert!(!is_here(url), "{url}");
        }
    }

    #[test]
    fn a_password_is_found_wherever_it_stands() {
        for url in [
            "postgres://a:b@h/db",
            "postgres://a:b/c@h/db",
            "postgres://h/db?password=x",
            "postgres://h/db?pass%77ord=x",
            "redis://:x@h:1",
        ] {
            assert!(has_password(url), "{url}");
        }
        for url in [
            "postgres://a@h:5432/db",
            "postgres://h/db?sslmode=require",
            "redis://h:1/0",
        ] {
            assert!(!has_password(url), "{url}");
        }
    }
}
