//! Foreign migrators that are commands: on a copy, and on the database itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::backups::{backup_path, dump_path};
use super::{Result, blocking, migrations, rehearsal, version};
use crate::backup;
use crate::config::{Config, Migrator, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::id::{InstanceId, RunId};
use crate::release::scratch::{self, Copies};
use crate::release::trouble::ending;
use crate::release::{OpenRun, Side, Step, World, database, migrator_id};
use crate::supervise::{Process, tail};

/// What the command is, and whose folder and environment it gets.
fn command(config: &Config, resource: &str) -> Option<(String, String)> {
    let foreign = config.resources.get(resource)?.foreign()?;
    match &foreign.by {
        Migrator::Run { command, service } => Some((command.clone(), service.clone())),
        Migrator::OnStart => None,
    }
}

/// Of an earlier attempt nothing counts: what it worked on is gone.
fn on_copy_id(resource: &str, run: RunId) -> InstanceId {
    InstanceId(format!("rehearses-{resource}-{run}"))
}

/// Ends what an agent before has left at work on copies, and what this run may just be starting.
pub(super) async fn stop_on_copies(world: &World, run: &OpenRun) -> Result<()> {
    let mut all: BTreeSet<InstanceId> = world.supervisor.known().into_iter().collect();
    all.retain(|id| {
        let last = id.0.rsplit('-').next().unwrap_or_default();
        id.0.starts_with("rehearses-") && last.parse::<RunId>().is_ok()
    });
    for step in &run.plan.steps {
        if let Step::Migrator { resource, .. } = step {
            all.insert(on_copy_id(resource, run.plan.run));
        }
    }
    for id in &all {
        stop(world, id).await?;
    }
    Ok(())
}

async fn stop(world: &World, id: &InstanceId) -> Result<()> {
    let stopped = world.supervisor.stop(id, None).await;
    stopped.map_err(|error| Diagnostic::error("supervise::failed", error.to_string()))
}

/// Runs the command on the copies.
pub(super) async fn on_copy(
    world: &World,
    run: &OpenRun,
    resource: &str,
    copies: &Copies,
) -> Result<()> {
    let version = version(run, Side::New)?;
    let Some((command, service)) = command(&version.config(&world.environment)?, resource) else {
        return Ok(());
    };
    let id = on_copy_id(resource, run.plan.run);
    let process = version.command(world, &service, &id, &command, copies)?;
    let ended = to_its_end(world, &process, &command).await;
    stop(world, &id).await?;
    ended.map(drop).map_err(|trouble| Diagnostic {
        code: "rehearse::migrator-failed".into(),
        ..trouble
    })
}

async fn to_its_end(world: &World, process: &Process, command: &str) -> Result<u64> {
    let ended = world.supervisor.run_once(process).await;
    let ended = ended.map_err(|error| Diagnostic::error("supervise::failed", error.to_string()))?;
    let exit = ended.last_exit.as_ref();
    if exit.and_then(|exit| exit.code) == Some(0) {
        return Ok(ended.cpu_ms);
    }
    let log = world.supervisor.places().log(&process.service, &process.id);
    let lines = tail(&log, 20);
    let text = format!("`{command}` {}", ending(exit));
    let mut told = Diagnostic::error("migrate::migrator-failed", text);
    if !lines.is_empty() {
        told = told.note(format!("its last lines:\n{}", lines.join("\n")));
    }
    Err(told.help(format!("the whole log is {}", log.display())))
}

/// Runs it on the database itself; joined where a crash left it running, and what it did once is not done again.
pub(super) async fn migrate(world: &World, run: &OpenRun, resource: &str) -> Result<Value> {
    let version = version(run, Side::New)?;
    let config = version.config(&world.environment)?;
    note(world, run, &config, resource)?;
    let Some((command, service)) = command(&config, resource) else {
        return Ok(Value::Null);
    };
    let id = migrator_id(resource, run.plan.run);
    let process = version.command(world, &service, &id, &command, &Copies::new())?;
    let ended = to_its_end(world, &process, &command).await;
    let changed = rehearsal::changed(world, run, &config, resource).unwrap_or_default();
    match ended {
        Ok(cpu_ms) => Ok(json!({ "cpu_ms": cpu_ms, "difference": changed })),
        Err(trouble) => Err(trouble.note(format!(
            "what it has left:\n{}",
            rehearsal::said(resource, &changed).join("\n")
        ))),
    }
}

fn note(world: &World, run: &OpenRun, config: &Config, resource: &str) -> Result<()> {
    let schema = migrations::schema(world, config, resource)?;
    rehearsal::note_schema(world, run, resource, &schema)
}

/// Where requests wait, or nothing serves, the backup is as the database was: it is put back. Else the schema stays, and
/// the undo of the rehearsal sees that the version before works with it. So it does where the new version has served:
/// what was written then is not in the backup.
pub(super) async fn undo(world: &World, run: &OpenRun, resource: &str, held: bool) -> Result<()> {
    stop(world, &migrator_id(resource, run.plan.run)).await?;
    let serves = run.plan.old.is_some() || run.steps.contains_key("switch");
    if !held && serves {
        return Ok(());
    }
    let config = version(run, Side::New)?.config(&world.environment)?;
    let Some(found) = config.resources.get(resource) else {
        return Ok(());
    };
    if found.kind == ResourceKind::Postgres {
        let before = dump_path(world, run.plan.run, resource);
        return match before.is_file() && found.is_run() {
            true => scratch::put_back(world, resource, found, &before).await,
            false => Ok(()),
        };
    }
    let before = backup_path(world, run.plan.run, resource);
    if !before.is_file() {
        return Ok(());
    }
    let (live, name) = (database::place(world, resource, found), resource.to_owned());
    blocking(move || {
        backup::restore_sqlite(&before, &live)
            .map_err(|error| migrations::not_restored(&name, &error))
    })
    .await
}
