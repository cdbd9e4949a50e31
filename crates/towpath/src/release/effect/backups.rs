//! Backups before a deployment changes anything.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Result, blocking, version};
use crate::backup;
use crate::config::{Migrator, Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::id::{InstanceId, RunId};
use crate::release::resources::folder;
use crate::release::trouble::ending;
use crate::release::{OpenRun, Operation, Presence, Side, World, database};
use crate::resource::postgres;
use crate::supervise::tail;

/// Where a run's backup of a resource lies.
pub(in crate::release) fn backup_path(world: &World, run: RunId, resource: &str) -> PathBuf {
    path(world, run, resource, "db")
}

fn path(world: &World, run: RunId, resource: &str, kind: &str) -> PathBuf {
    let folder = world.state().join("backups");
    folder.join(format!("{run}-{resource}.{kind}"))
}

/// As [`backup_path`], for a dump of PostgreSQL.
pub(super) fn dump_path(world: &World, run: RunId, resource: &str) -> PathBuf {
    path(world, run, resource, "dump")
}

/// As [`backup_path`], for the files of a storage.
fn archive_path(world: &World, run: RunId, resource: &str) -> PathBuf {
    path(world, run, resource, "tar")
}

pub(super) async fn back_up(world: &World, run: &OpenRun, name: &str) -> Result<Value> {
    let config = version(run, Side::New)?.config(&world.environment)?;
    let Some(resource) = config.resources.get(name) else {
        return Ok(Value::Null);
    };
    folder::make_all(&world.state(), &config, world.user)?;
    match resource.kind {
        ResourceKind::Postgres => dump(world, run, name, resource).await,
        ResourceKind::Storage => pack(world, run, name).await,
        _ => copy(world, run, name, resource).await,
    }
}

async fn copy(world: &World, run: &OpenRun, name: &str, resource: &Resource) -> Result<Value> {
    let to = backup_path(world, run.plan.run, name);
    let from = database::place(world, name, resource);
    let (state, user) = (world.state(), world.user);
    let (name, resource) = (name.to_owned(), resource.clone());
    let taken = blocking(move || {
        let trouble = |error: &dyn std::fmt::Display| trouble(&name, error);
        if let Ok(found) = std::fs::metadata(&to) {
            return Ok(json!({ "file": to, "bytes": found.len(), "reused": true }));
        }
        for path in [&from.path(), &to] {
            std::fs::create_dir_all(path.parent().unwrap_or(path))
                .map_err(|error| trouble(&error))?;
        }
        let db = from.open().map_err(|error| trouble(&error))?;
        if let Some(user) = user {
            // One that a root agent makes belongs to whom the services run as.
            folder::give_file(&state, &name, &resource, user).map_err(|error| trouble(&error))?;
        }
        let taken = backup::sqlite(&db, &to).map_err(|error| trouble(&error))?;
        Ok(json!({ "file": to, "bytes": taken.bytes }))
    });
    taken.await
}

/// The files of a storage, as they lie there.
async fn pack(world: &World, run: &OpenRun, name: &str) -> Result<Value> {
    let to = archive_path(world, run.plan.run, name);
    let (state, name) = (world.state(), name.to_owned());
    let taken = blocking(move || {
        if let Ok(found) = std::fs::metadata(&to) {
            return Ok(json!({ "file": to, "bytes": found.len(), "reused": true }));
        }
        let from = folder::open(&state, &name).map_err(|error| trouble(&name, &error))?;
        let taken = backup::folder(&from, &to).map_err(|error| trouble(&name, &error))?;
        Ok(json!({ "file": to, "bytes": taken.bytes }))
    });
    taken.await
}

fn trouble(resource: &str, error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        "backup::failed",
        format!("`{resource}` could not be backed up: {error}"),
    )
    .note("no migration was applied")
    .help("see that there is room on the disk and that nothing holds the database locked")
}

fn stays(resource: &str, error: &dyn std::fmt::Display) -> Diagnostic {
    let text = format!("the backup of `{resource}` could not be removed: {error}");
    Diagnostic::error("backup::stays", text)
        .note("it is of no use any more, and does no harm")
        .help("see what stands in its place among the backups")
}

/// Written beside under a shim, looked at, synced, renamed: whole or not at all.
async fn dump(world: &World, run: &OpenRun, name: &str, resource: &Resource) -> Result<Value> {
    let to = dump_path(world, run.plan.run, name);
    if let Ok(found) = std::fs::metadata(&to) {
        return Ok(json!({ "file": to, "bytes": found.len(), "reused": true }));
    }
    let beside = to.with_extension("new");
    let taken = dump_to(world, name, resource, &beside).await;
    if taken.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    taken?;
    let failed = |error: std::io::Error| trouble(name, &error);
    let file = std::fs::File::open(&beside).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&beside, &to).map_err(failed)?;
    crate::state::sync_dir(to.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    Ok(json!({ "file": to, "bytes": bytes }))
}

async fn dump_to(world: &World, name: &str, resource: &Resource, beside: &Path) -> Result<()> {
    let id = InstanceId(format!("{name}.dump"));
    // What an agent that was killed has begun holds a snapshot, and is no use to anybody.
    let ended = world.supervisor.stop(&id, None).await;
    ended.map_err(|error| trouble(name, &error))?;
    let (state, asked, (of, by)) = (
        world.state(),
        resource.clone(),
        (name.to_owned(), beside.to_owned()),
    );
    let commands = blocking(move || {
        let target = database::keeper(&state, &of, &asked)?;
        let programs = database::programs(&of, &target)?;
        let (dump, list) = (
            postgres::dump::dump(&programs.0, &target, &by),
            postgres::dump::list(&programs.1, &by),
        );
        Ok([dump, list])
    });
    for command in commands.await? {
        if let Err(why) = ends_well(world, name, &id, command).await {
            let told = trouble(name, &why.text);
            let notes = why.tail.into_iter();
            let notes = notes.chain(locked(world, name, resource).await);
            return Err(notes.fold(told, Diagnostic::note));
        }
    }
    Ok(())
}

/// Whoever a dump may have waited for in vain, as far as the server says so.
async fn locked(world: &World, name: &str, resource: &Resource) -> Vec<String> {
    let (state, name, resource) = (world.state(), name.to_owned(), resource.clone());
    let asked = blocking(move || {
        let target = database::keeper(&state, &name, &resource)?;
        let mut client = database::connect(&name, &target, "backup")?;
        postgres::dump::locked(&mut client).map_err(|error| trouble(&name, &error))
    });
    asked.await.unwrap_or_default()
}

/// Why a database's own program did not do what it was to do.
pub(in crate::release) struct Ended {
    /// In words.
    pub text: String,
    /// What it said last.
    pub tail: Option<String>,
}

impl From<crate::supervise::Error> for Ended {
    fn from(error: crate::supervise::Error) -> Ended {
        Ended {
            text: error.to_string(),
            tail: None,
        }
    }
}

/// Runs one of a database's own programs to its end, under a shim.
pub(in crate::release) async fn ends_well(
    world: &World,
    name: &str,
    id: &InstanceId,
    command: crate::resource::Command,
) -> std::result::Result<(), Ended> {
    let process = crate::release::resources::once(name, id, command, None);
    let ended = world.supervisor.run_once(&process).await?;
    let log = world.supervisor.places().log(name, id);
    world.supervisor.stop(id, None).await?;
    let exit = ended.last_exit.as_ref();
    match exit.and_then(|exit| exit.code) {
        Some(0) => Ok(()),
        _ => Err(Ended {
            text: format!("`{}` {}", process.argv[0], ending(exit)),
            tail: Some(format!("its last lines:\n{}", tail(&log, 10).join("\n"))),
        }),
    }
}

pub(super) fn probe_backup(world: &World, run: &OpenRun, resource: &str) -> Presence {
    let run = run.plan.run;
    let there = [
        backup_path(world, run, resource),
        dump_path(world, run, resource),
        archive_path(world, run, resource),
    ];
    match there.iter().any(|path| path.is_file()) {
        true => Presence::Present,
        false => Presence::Absent,
    }
}

/// Not where something may stay that it protects from: a later run collects it in its time.
fn is_needed(run: &OpenRun, resource: &str, migrates_itself: bool) -> bool {
    let has_begun = |step: &str| run.steps.contains_key(&format!("{step}:{resource}"));
    let has_any = |kind: &str| run.intents.iter().any(|step| step.starts_with(kind));
    let is_tried = run.steps.contains_key("rehearse");
    // What a command before a start does, nobody knows: to any of them.
    if has_begun("migrator") || has_any("release:") {
        return true;
    }
    if has_any("launch:") && (is_tried || migrates_itself) {
        return true;
    }
    let stays = run.plan.operation == Operation::Migrate || run.provides(resource);
    stays && (has_begun("migrate") || has_begun("take-back") || has_begun("baseline"))
}

fn declared(world: &World, run: &OpenRun, name: &str) -> Result<Option<Resource>> {
    let config = version(run, Side::New)?.config(&world.environment)?;
    Ok(config.resources.get(name).cloned())
}

/// Whether it is a program's work, under a shim: no thread of ours is left at work when nobody waits for it any more.
pub(super) fn is_dumped(world: &World, run: &OpenRun, name: &str) -> bool {
    let found = declared(world, run, name);
    found.is_ok_and(|found| found.is_some_and(|one| one.kind == ResourceKind::Postgres))
}

/// Whether the new version brings the schema about when it starts.
fn migrates_itself(world: &World, run: &OpenRun, name: &str) -> Result<bool> {
    let found = declared(world, run, name)?;
    let foreign = found.as_ref().and_then(Resource::foreign);
    Ok(foreign.is_some_and(|foreign| foreign.by == Migrator::OnStart))
}

pub(super) async fn undo_backup(world: &World, run: &OpenRun, resource: &str) -> Result<()> {
    // Where that cannot be told, it stays.
    let migrates_itself = migrates_itself(world, run, resource).unwrap_or(true);
    if is_needed(run, resource, migrates_itself) {
        return Ok(());
    }
    let run = run.plan.run;
    let id = InstanceId(format!("{resource}.dump"));
    let stopped = world.supervisor.stop(&id, None).await;
    stopped.map_err(|error| stays(resource, &error))?;
    let dump = dump_path(world, run, resource);
    for path in [
        backup_path(world, run, resource),
        archive_path(world, run, resource),
        dump.with_extension("new"),
        dump,
    ] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(stays(resource, &error));
            }
            _ => {}
        }
    }
    Ok(())
}
