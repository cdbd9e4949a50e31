//! How the secrets of one environment are made and rotated. Their values are nowhere near.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::sheet::Reader;
use super::{Resource, ResourceKind, Service, output};
use crate::diagnostic::Diagnostic;

/// How a secret is made and rotated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// What it is.
    pub kind: SecretKind,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Age at which no promotion goes with it any more.
    #[serde(rename = "rotate_ms", serialize_with = "output::millis")]
    pub rotate: Duration,
    /// How long the old value stays good beside a new one.
    #[serde(rename = "overlap_ms", serialize_with = "output::millis")]
    pub overlap: Duration,
    /// Whether services know one value only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupting: bool,
    /// What a new value is made of.
    pub generate: Generate,
    /// Whose password it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl Default for Secret {
    /// As one that says nothing is rotated.
    fn default() -> Secret {
        Secret {
            kind: SecretKind::Plain,
            description: None,
            rotate: Duration::from_secs(90 * 86_400),
            overlap: Duration::from_secs(3600),
            interrupting: false,
            generate: Generate::Bytes(32),
            resource: None,
        }
    }
}

/// What a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKind {
    /// A value that both sides know.
    Plain,
    /// A key that tokens are signed with, by HS256.
    Jwt,
    /// The password of a database that Towpath runs: its value is the agent's alone.
    Database,
}

/// What a new value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generate {
    /// So many random bytes, in hexadecimal.
    Bytes(u32),
    /// So many random letters and digits.
    Length(u32),
}

/// Fewest bytes of a key that tokens are signed with: as long as what HS256 makes.
pub const KEY_BYTES: u32 = 32;

/// The declared secrets, by name.
pub(super) fn read(root: &Reader<'_>) -> BTreeMap<String, Secret> {
    let declared = root.at("secrets").entries().into_iter();
    declared
        .map(|(name, reader)| (name.to_owned(), secret(&reader)))
        .collect()
}

fn secret(reader: &Reader<'_>) -> Secret {
    let kind = match reader.at("kind").text_or("plain").as_str() {
        "jwt" => SecretKind::Jwt,
        "database" => SecretKind::Database,
        _ => SecretKind::Plain,
    };
    let description = reader.at("description").text().map(str::to_owned);
    let interrupting = reader.at("interrupting").flag(false);
    let overlap = reader.at("overlap");
    if interrupting && !overlap.is_absent() {
        let message = format!("`{}` is for a secret that overlaps", overlap.path);
        reader.sheet.report(
            Diagnostic::error("config::not-for-kind", message)
                .label(overlap.key.clone(), "an interrupting one has no overlap")
                .help("take one of them out"),
        );
    }
    Secret {
        kind,
        description,
        rotate: reader.at("rotate").duration("90d"),
        overlap: overlap.duration("1h"),
        interrupting,
        generate: generate(reader, kind),
        resource: reader.at("resource").text().map(str::to_owned),
    }
}

/// Whether those that are passwords of databases are, and no other says so.
pub(super) fn check(
    root: &Reader<'_>,
    secrets: &BTreeMap<String, Secret>,
    services: &BTreeMap<String, Service>,
    resources: &BTreeMap<String, Resource>,
) {
    // A rehearsal has other resources than those that the manifest speaks of.
    if !root.sheet.purpose.is_real() {
        return;
    }
    for (name, secret) in secrets {
        let reader = root.at("secrets").at(name);
        let resource = reader.at("resource");
        if secret.kind != SecretKind::Database {
            if !resource.is_absent() {
                not_for(&resource, "only for `database`");
            }
            continue;
        }
        for key in ["overlap", "interrupting", "generate"] {
            let value = reader.at(key);
            if !value.is_absent() {
                not_for(&value, "two users connect in turn: it has no second value");
            }
        }
        let is_asked = |service: &&Service| service.secrets.contains(name);
        if services.values().any(|service| is_asked(&service)) {
            not_for(&reader, "services have it by `${NAME.url}` of the resource");
        }
        let meant = secret
            .resource
            .as_ref()
            .and_then(|name| resources.get(name));
        if !meant.is_some_and(|one| one.kind == ResourceKind::Postgres && one.is_run()) {
            let message = format!("`{}` is the password of no database", reader.path);
            root.sheet.report(
                Diagnostic::error("config::no-database", message)
                    .label(resource.span(), "not a PostgreSQL that Towpath runs")
                    .help(
                        "add `resource = \"NAME\"`, of one with `kind = \"postgres\"` and no `url`; `{ unset = true }` where that is elsewhere",
                    ),
            );
        }
    }
}

fn not_for(reader: &Reader<'_>, why: &str) {
    let message = format!("`{}` is not for that kind of secret", reader.path);
    reader.sheet.report(
        Diagnostic::error("config::not-for-kind", message)
            .label(reader.key.clone(), why.to_owned())
            .help("take it out"),
    );
}

fn generate(reader: &Reader<'_>, kind: SecretKind) -> Generate {
    let table = reader.at("generate");
    let (bytes, length) = (table.at("bytes"), table.at("length"));
    let (generate, least, given) = match length.is_absent() {
        true => (Generate::Bytes(bytes.integer(KEY_BYTES)), KEY_BYTES, bytes),
        false => (Generate::Length(length.integer(0)), KEY_BYTES, length),
    };
    let count = match generate {
        Generate::Bytes(count) | Generate::Length(count) => count,
    };
    if kind == SecretKind::Jwt && count < least {
        let message = format!("`{}` makes too short a key", given.path);
        reader.sheet.report(
            Diagnostic::error("config::out-of-bounds", message)
                .label(given.span(), format!("expected {least} or more"))
                .note("HS256 wants a key of 32 bytes or more"),
        );
    }
    generate
}
