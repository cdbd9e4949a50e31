//! Which database each environment of a rehearsal ran on, and why.
//!
//! What runs is what the agent of the environment says runs; why is seen from the manifest.

use serde::Serialize;
use towpath::agent::api::{InstanceStatus, Status};
use towpath::config::{Resource, ResourceKind, resolve};
use towpath::manifest::Manifest;

use crate::place::Place;
use crate::render;

/// A database of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Where.
    pub environment: String,
    /// The resource.
    pub resource: String,
    /// `SQLite`, or `PostgreSQL 15`.
    pub engine: String,
    /// Why that one.
    pub why: String,
}

impl Database {
    /// For people, while the rehearsal goes on.
    pub fn line(&self) -> String {
        let Self {
            environment,
            resource,
            engine,
            why,
        } = self;
        format!("         {environment:<12}{resource} is on {engine}: {why}")
    }
}

/// The databases of an environment that serves.
pub fn of(place: &Place, status: &Status) -> Vec<Database> {
    let manifest = Manifest::parse("tow.toml", &place.app.text);
    let declared = manifest.and_then(|manifest| resolve(&manifest, &place.environment));
    let resources = declared.map(|config| config.resources).unwrap_or_default();
    let databases = resources.iter().filter(|(_, resource)| {
        matches!(resource.kind, ResourceKind::Sqlite | ResourceKind::Postgres)
    });
    databases
        .map(|(name, resource)| {
            let server = status
                .instances
                .iter()
                .find(|one| one.side == "resource" && one.service == *name);
            Database {
                environment: place.environment.clone(),
                resource: name.clone(),
                engine: server.map_or("SQLite".to_owned(), |server| server.version.clone()),
                why: why(resource, server, place),
            }
        })
        .collect()
}

fn why(declared: &Resource, server: Option<&InstanceStatus>, place: &Place) -> String {
    match (declared.kind, server) {
        (ResourceKind::Postgres, Some(_)) if declared.url.is_some() => {
            "a server of the rehearsal's own, not the one at its `url`".to_owned()
        }
        (ResourceKind::Postgres, Some(_)) => {
            "as tow.toml says; a server of the rehearsal's own".to_owned()
        }
        (ResourceKind::Postgres, None) => {
            let machine = match &place.server {
                Some(server) => server.to_string(),
                None => "this machine".to_owned(),
            };
            format!(
                "tow.toml says PostgreSQL, and {machine} has none (`apt-get install postgresql`)"
            )
        }
        _ => "as tow.toml says".to_owned(),
    }
}

/// For people, in the end.
pub fn render(databases: &[Database]) -> String {
    let row = |one: &Database| {
        vec![
            one.environment.clone(),
            one.resource.clone(),
            one.engine.clone(),
            one.why.clone(),
        ]
    };
    let rows: Vec<_> = databases.iter().map(row).collect();
    format!(
        "{}\neach environment began with data of its own: nothing was moved from one to the next",
        render::table(&["ENVIRONMENT", "DATABASE", "RAN ON", "WHY"], &rows)
    )
}
