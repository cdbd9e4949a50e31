//! What a run does to databases, before anything is touched.

use std::path::{Path, PathBuf};

use super::planner::Result;
use super::prepare::Prepared;
use super::{Operation, Refusal, Step, World, database};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::resource::sqlite;
use crate::{build, migrate};

/// A backup of each, and the migrations that it lacks.
pub(super) fn steps_of_data(
    world: &World,
    config: &Config,
    prepared: &Prepared,
    operation: Operation,
) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (name, resource) in &config.resources {
        database::check(&world.state(), name, resource).map_err(Refusal::Refused)?;
        let versions = match resource.migrations() {
            Some(folder) => pending(world, name, &within(prepared, folder)?)?,
            None => Vec::new(),
        };
        let is_due = operation != Operation::Up || !versions.is_empty();
        if is_due && resource.is_backed_up() {
            steps.push(Step::BackUp {
                resource: name.clone(),
            });
        }
        if !versions.is_empty() {
            steps.push(Step::Migrate {
                resource: name.clone(),
                versions,
            });
        }
    }
    Ok(steps)
}

/// What a finished build has put in the place of its migrations may lead anywhere.
fn within(prepared: &Prepared, folder: &Path) -> Result<PathBuf> {
    let path = prepared.root.join(folder);
    if prepared.dev || path.symlink_metadata().is_err() {
        return Ok(path);
    }
    build::migrations_in(&prepared.root, folder).map_err(|error| {
        Refusal::Invalid(
            Diagnostic::error("migrate::invalid", error.to_string()).note("nothing was applied"),
        )
    })
}

fn pending(world: &World, resource: &str, folder: &Path) -> Result<Vec<u64>> {
    let refuse = |error: migrate::Error| {
        Refusal::Invalid(
            Diagnostic::error("migrate::invalid", format!("`{resource}`: {error}"))
                .note("nothing was applied")
                .help("an applied migration stays as it is: write a new one with the next number"),
        )
    };
    let all = migrate::load(folder).map_err(refuse)?;
    let file = sqlite::path(&world.state(), resource);
    if !file.exists() {
        return Ok(all.iter().map(|migration| migration.version).collect());
    }
    let db = sqlite::open(&file).map_err(|error| refuse(error.into()))?;
    let pending = migrate::pending(&db, &all).map_err(refuse)?;
    Ok(pending
        .into_iter()
        .map(|migration| migration.version)
        .collect())
}
