//! Migrations.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backups::backup_path;
use super::{Result, blocking, version};
use crate::build;
use crate::diagnostic::Diagnostic;
use crate::migrate::{self, Migration};
use crate::release::{OpenRun, Presence, Side, World};
use crate::resource::sqlite;

/// What a migration step leaves for its undo.
#[derive(Debug, Serialize, Deserialize)]
struct Migrated {
    /// Numbers applied.
    versions: Vec<u64>,
    /// Why they cannot be taken back; `None` when up and down again was seen to leave nothing.
    one_way: Option<String>,
}

fn migrations(world: &World, run: &OpenRun, resource: &str) -> Result<Vec<Migration>> {
    let version = version(run, Side::New)?;
    let config = version.config(&world.environment)?;
    let folder = config
        .resources
        .get(resource)
        .and_then(|resource| resource.migrations());
    let folder = folder.unwrap_or(Path::new(""));
    let folder = match version.dev {
        true => version.root.join(folder),
        false => build::migrations_in(&version.root, folder)
            .map_err(|error| migrate_trouble(resource, &error))?,
    };
    migrate::load(&folder).map_err(|error| migrate_trouble(resource, &error))
}

fn migrate_trouble(resource: &str, error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        "migrate::failed",
        format!("`{resource}` could not be migrated: {error}"),
    )
    .note("the failing migration left nothing; the version before serves on")
    .help("mend the migration under its own number and deploy again")
}

fn open(world: &World, resource: &str) -> Result<Connection> {
    sqlite::open(&sqlite::path(&world.state(), resource))
        .map_err(|error| migrate_trouble(resource, &error))
}

/// Tries the round trip on a copy of the backup, then applies. On the backup, because it is as the
/// database was before: so the answer is the same when a crash has repeated the step.
pub(super) async fn migrate(
    world: &World,
    run: &OpenRun,
    resource: &str,
    versions: &[u64],
) -> Result<Value> {
    let all = migrations(world, run, resource)?;
    let mut db = open(world, resource)?;
    let before = backup_path(world, run.plan.run, resource);
    let scratch = before.with_extension("scratch");
    let (name, versions, now) = (
        resource.to_owned(),
        versions.to_vec(),
        world.store.clock().wall_ms(),
    );
    blocking(move || {
        let one_way = match before.is_file() {
            true => round_trip(&before, &scratch, &all).err(),
            false => Some("there is no backup to try it on".to_owned()),
        };
        migrate::up(&mut db, &all, now).map_err(|error| migrate_trouble(&name, &error))?;
        Ok(serde_json::to_value(Migrated { versions, one_way }).unwrap_or_default())
    })
    .await
}

fn round_trip(
    before: &PathBuf,
    scratch: &PathBuf,
    all: &[Migration],
) -> std::result::Result<(), String> {
    let tried = std::fs::copy(before, scratch)
        .map_err(|error| error.to_string())
        .and_then(|_| {
            let mut copy = Connection::open(scratch).map_err(|error| error.to_string())?;
            migrate::round_trip(&mut copy, all).map_err(|error| error.to_string())
        });
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", scratch.display()));
    }
    tried
}

pub(super) async fn probe_migrations(world: &World, resource: &str, versions: &[u64]) -> Presence {
    let have = open(world, resource)
        .ok()
        .and_then(|db| migrate::applied(&db).ok());
    let Some(have) = have else {
        return Presence::Absent;
    };
    match versions
        .iter()
        .filter(|version| have.contains_key(version))
        .count()
    {
        0 => Presence::Absent,
        count if count == versions.len() => Presence::Present,
        _ => Presence::Partial,
    }
}

/// Takes the expansions back where that was seen to leave nothing behind; else they stay, and the
/// version before goes on working with them.
pub(super) async fn undo_migrate(
    world: &World,
    run: &OpenRun,
    resource: &str,
    versions: &[u64],
) -> Result<()> {
    let gave = run
        .steps
        .get(&format!("migrate:{resource}"))
        .and_then(|state| state.gave());
    let migrated = gave.and_then(|gave| serde_json::from_value::<Migrated>(gave.clone()).ok());
    if migrated.is_some_and(|migrated| migrated.one_way.is_some()) {
        return Ok(());
    }
    let all = migrations(world, run, resource)?;
    let versions = versions.to_vec();
    let mut db = open(world, resource)?;
    let before = backup_path(world, run.plan.run, resource);
    blocking(move || {
        let scratch = before.with_extension("scratch");
        if before.is_file() && round_trip(&before, &scratch, &all).is_ok() {
            // A `down` that fails leaves the expansion, which the old version bears.
            let _ = migrate::down(&mut db, &all, &versions);
        }
        Ok(())
    })
    .await
}
