//! Migrations of a run: tried out on a copy of its backup, applied, found again, taken back.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::backups::backup_path;
use super::{Result, blocking, version};
use crate::config::{Config, Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::migrate::{self, Engine, Migration, Options, Tried};
use crate::release::{OpenRun, Operation, Presence, Side, World, database, scratch};
use crate::resource::Connection;
use crate::resource::sqlite::Place;
use crate::{backup, build};

/// What the name of a runner's sessions is for; a recovery ends those that are left.
const PURPOSE: &str = "migrate";

fn migrations(world: &World, run: &OpenRun, resource: &str) -> Result<(Engine, Vec<Migration>)> {
    let version = version(run, Side::New)?;
    let config = version.config(&world.environment)?;
    let found = config.resources.get(resource);
    let engine = match found.map(|resource| &resource.kind) {
        Some(ResourceKind::Postgres) => Engine::Postgres,
        _ => Engine::Sqlite,
    };
    let folder = found.and_then(|resource| resource.migrations());
    let folder = folder.unwrap_or(Path::new(""));
    let folder = match version.dev {
        true => version.root.join(folder),
        false => build::migrations_in(&version.root, folder).map_err(|error| {
            Diagnostic::error("migrate::invalid", error.to_string()).note("nothing was applied")
        })?,
    };
    let all = migrate::load(&folder, engine);
    Ok((engine, all.map_err(|error| error.diagnostic(resource))?))
}

fn trouble(resource: &str, error: &migrate::Error) -> Diagnostic {
    error
        .diagnostic(resource)
        .note("the version before serves on")
}

/// Opens a database of the environment. Blocking.
pub(in crate::release) fn open(
    world: &World,
    config: &Config,
    resource: &str,
) -> Result<Connection> {
    let found = config.resources.get(resource);
    if found.is_some_and(|found| found.kind == ResourceKind::Postgres) {
        // The driver has an event loop of its own.
        return tokio::task::block_in_place(|| database::open(world, config, resource, PURPOSE));
    }
    let file = found.and_then(|found| found.file.as_deref());
    let opened = Place::new(&world.state(), resource, file).open();
    opened
        .map_err(migrate::Error::from)
        .map(Connection::Sqlite)
        .map_err(|error| error.diagnostic(resource))
}

/// The schema of a database of the environment, as lines.
pub(super) fn schema(world: &World, config: &Config, resource: &str) -> Result<Vec<String>> {
    // A connection is closed by its driver's own event loop as well.
    tokio::task::block_in_place(|| {
        let mut db = open(world, config, resource)?;
        migrate::schema(&mut db).map_err(|error| error.diagnostic(resource))
    })
}

/// As the version that a run is about says.
fn open_of(world: &World, run: &OpenRun, resource: &str) -> Result<Connection> {
    let config = version(run, Side::New)?.config(&world.environment)?;
    open(world, &config, resource)
}

pub(in crate::release) fn options(world: &World) -> Options {
    Options::new(world.store.clock().clone())
}

/// Applies. It was tried when the run was planned, and its way back is tried when that is to be gone: while this is at
/// work requests may wait, and they are not to wait for a trial.
pub(super) async fn migrate(
    world: &World,
    run: &OpenRun,
    resource: &str,
    versions: &[u64],
) -> Result<Value> {
    let (_, all) = migrations(world, run, resource)?;
    let mut db = open_of(world, run, resource)?;
    let (name, versions, options) = (resource.to_owned(), versions.to_vec(), options(world));
    blocking(move || {
        migrate::up(&mut db, &all, Some(&versions), &options)
            .map_err(|error| trouble(&name, &error))?;
        Ok(json!({ "versions": versions }))
    })
    .await
}

/// On a copy that something else is going to be tried on.
pub(super) async fn up_on_copy(
    world: &World,
    run: &OpenRun,
    (name, resource): (&str, &Resource),
    versions: &[u64],
) -> Result<()> {
    let (_, all) = migrations(world, run, name)?;
    let mut copy = scratch::open(world, name, resource)?;
    let (name, versions, options) = (name.to_owned(), versions.to_vec(), options(world));
    blocking(move || {
        let done = migrate::up(&mut copy, &all, Some(&versions), &options);
        done.map(drop).map_err(|error| error.diagnostic(&name))
    })
    .await
}

/// On a copy of the backup, because that is as the database was before: so the answer is the same when a crash has
/// repeated the step.
fn try_out(
    before: &Path,
    all: &[Migration],
    versions: &[u64],
    options: &Options,
) -> std::result::Result<Tried, String> {
    if !before.is_file() {
        return Err("there is no backup to try it on".to_owned());
    }
    let scratch = Scratch(before.with_extension("scratch"));
    std::fs::copy(before, &scratch.0).map_err(|error| error.to_string())?;
    let copy = rusqlite::Connection::open(&scratch.0).map_err(|error| error.to_string())?;
    let mut copy = Connection::Sqlite(copy);
    migrate::try_out(&mut copy, all, Some(versions), options).map_err(|error| error.to_string())
}

/// A copy that goes with its value.
pub(in crate::release) struct Scratch(pub(in crate::release) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal", ".migrating"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.0.display()));
        }
    }
}

pub(super) async fn probe_migrations(
    world: &World,
    run: &OpenRun,
    resource: &str,
    versions: &[u64],
) -> Presence {
    let Ok(mut db) = open_of(world, run, resource) else {
        return Presence::Absent;
    };
    let versions = versions.to_vec();
    let found = blocking(move || {
        if let Connection::Postgres(client) = &mut db {
            // What an agent before has left at work would change what is found.
            let _ = migrate::end_survivors(client, &format!("tow/{PURPOSE}"));
        }
        let have = migrate::applied(&mut db).unwrap_or_default();
        let is_applied = |version: &&u64| {
            have.get(version)
                .is_some_and(|found| found.state != migrate::State::Started)
        };
        let (all, known) = (versions.len(), versions.iter().filter(is_applied).count());
        Ok(match known {
            0 => Presence::Absent,
            count if count == all => Presence::Present,
            _ => Presence::Partial,
        })
    });
    found.await.unwrap_or(Presence::Absent)
}

/// Takes expansions back where that was seen to leave nothing behind; else they stay, and the version before goes on
/// working with them. A rewrite it cannot work with: nothing was written since the backup, because requests wait, and so
/// that is put back.
pub(super) async fn undo_migrate(
    world: &World,
    run: &OpenRun,
    resource: &str,
    versions: &[u64],
) -> Result<()> {
    // What is applied stays: nothing came in that would not work without it.
    if run.plan.operation == Operation::Migrate {
        return Ok(());
    }
    // Nobody knew what a server that was down had when the run was planned: what is named may be of long before.
    if is_run_here(world, run, resource)? && !run.provided_before.contains(resource) {
        return Ok(());
    }
    let (_, all) = migrations(world, run, resource)?;
    let is_borne = |version: &u64| {
        let file = all.iter().find(|file| file.version == *version);
        file.is_none_or(|file| file.up.header.kind.is_borne())
    };
    let all_borne = versions.iter().all(is_borne);
    let mut db = open_of(world, run, resource)?;
    let before = backup_path(world, run.plan.run, resource);
    let live = place_of(world, run, resource)?;
    let (name, versions, options) = (resource.to_owned(), versions.to_vec(), options(world));
    blocking(move || {
        let have = migrate::applied(&mut db).map_err(|error| trouble(&name, &error))?;
        if !versions.iter().any(|version| have.contains_key(version)) {
            return Ok(());
        }
        match (&db, all_borne) {
            (Connection::Sqlite(_), false) if before.is_file() => {
                drop(db);
                backup::restore_sqlite(&before, &live).map_err(|error| not_restored(&name, &error))
            }
            (_, true) => {
                let tried = try_out(&before, &all, &versions, &options);
                if tried.is_ok_and(|tried| tried.one_way.is_none()) {
                    // A `down` that fails leaves the expansion, which the old version bears.
                    let _ = migrate::down(&mut db, &all, &versions, &options);
                }
                Ok(())
            }
            (_, false) => migrate::down(&mut db, &all, &versions, &options)
                .map_err(|error| trouble(&name, &error)),
        }
    })
    .await
}

fn place_of(world: &World, run: &OpenRun, resource: &str) -> Result<Place> {
    let config = version(run, Side::New)?.config(&world.environment)?;
    let found = config.resources.get(resource);
    let file = found.and_then(|found| found.file.as_deref());
    Ok(Place::new(&world.state(), resource, file))
}

/// Whether it is a PostgreSQL of ours.
fn is_run_here(world: &World, run: &OpenRun, resource: &str) -> Result<bool> {
    let config = version(run, Side::New)?.config(&world.environment)?;
    let found = config.resources.get(resource);
    Ok(found.is_some_and(|found| found.kind == ResourceKind::Postgres && found.is_run()))
}

pub(super) fn not_restored(resource: &str, error: &backup::Error) -> Diagnostic {
    let text = format!("the backup of `{resource}` could not be put back: {error}");
    Diagnostic::error("backup::not-restored", text)
        .note("requests are not let through: the version before does not fit the schema")
        .help("see that nothing holds the database locked, then `tow cancel` tries again")
}

/// Newest first. Where one fails, those before it are back and it is not: each is a transaction.
pub(super) async fn take_back(
    world: &World,
    run: &OpenRun,
    resource: &str,
    versions: &[u64],
) -> Result<Value> {
    let (_, all) = migrations(world, run, resource)?;
    let mut db = open_of(world, run, resource)?;
    let (name, versions, options) = (resource.to_owned(), versions.to_vec(), options(world));
    blocking(move || {
        let done = migrate::down(&mut db, &all, &versions, &options);
        done.map_err(|error| error.diagnostic(&name))?;
        Ok(json!({ "versions": versions }))
    })
    .await
}

pub(super) async fn baseline(
    world: &World,
    run: &OpenRun,
    resource: &str,
    version: u64,
) -> Result<Value> {
    let (_, all) = migrations(world, run, resource)?;
    let mut db = open_of(world, run, resource)?;
    let (name, options) = (resource.to_owned(), options(world));
    blocking(move || {
        let counted = migrate::baseline(&mut db, &all, version, &options);
        let counted = counted.map_err(|error| error.diagnostic(&name))?;
        Ok(json!({ "versions": counted }))
    })
    .await
}
