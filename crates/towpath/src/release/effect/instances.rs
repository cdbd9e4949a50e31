//! Starting and stopping instances.

use serde_json::{Value, json};

use super::{Result, version};
use crate::config::Role;
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::resources::folder;
use crate::release::trouble::{ending, not_ready};
use crate::release::version::release_id;
use crate::release::{OpenRun, Presence, Sabotage, Side, Step, Version, World};
use crate::supervise::{self, Process};

pub(super) fn of_service(run: &OpenRun, service: &str) -> Vec<InstanceId> {
    let instances = run.plan.new.iter().flat_map(|version| &version.instances);
    instances
        .filter(|instance| instance.service == service)
        .map(|instance| instance.id.clone())
        .collect()
}

fn workers(world: &World, run: &OpenRun, side: Side) -> Result<Vec<InstanceId>> {
    let Some(version) = run.plan.side(side) else {
        return Ok(Vec::new());
    };
    let config = version.config(&world.environment)?;
    Ok(version
        .of_role(&config, Role::Worker)
        .map(|instance| instance.id.clone())
        .collect())
}

fn processes(world: &World, run: &OpenRun, side: Side, ids: &[InstanceId]) -> Result<Vec<Process>> {
    let version = version(run, side)?;
    let mut all = version.processes(&world.environment, world.supervisor.places(), world.user)?;
    Ok(ids.iter().filter_map(|id| all.remove(id)).collect())
}

/// Joined where a crash left it running; what it did once is not done again, unless its shim was killed. How it ended
/// is kept until the run has ended, for an agent that comes before that is written down.
pub(super) async fn release(world: &World, run: &OpenRun, service: &str) -> Result<Value> {
    let version = version(run, Side::New)?;
    make_folders(world, &version)?;
    let Some(process) = version.release_command(world, service)? else {
        return Ok(Value::Null);
    };
    let ended = world.supervisor.run_once(&process).await;
    let ended = ended.map_err(|error| trouble(&error))?;
    let exit = ended.last_exit.as_ref();
    if exit.and_then(|exit| exit.code) != Some(0) {
        return Err(release_failed(world, service, &process, &ending(exit)));
    }
    Ok(json!({ "cpu_ms": ended.cpu_ms }))
}

fn release_failed(world: &World, service: &str, process: &Process, how: &str) -> Diagnostic {
    let log = world.supervisor.places().log(&process.service, &process.id);
    let tail = supervise::tail(&log, 20);
    let text = format!("the release command of `{service}` {how}");
    let mut diagnostic = Diagnostic::error("deploy::release-command", text);
    if !tail.is_empty() {
        diagnostic = diagnostic.note(format!("its last lines:\n{}", tail.join("\n")));
    }
    diagnostic
        .note("nothing was switched; what the command itself has changed stays")
        .help(format!("the whole log is {}", log.display()))
}

pub(super) async fn undo_release(world: &World, run: &OpenRun, service: &str) -> Result<()> {
    let Some(version) = &run.plan.new else {
        return Ok(());
    };
    stop(world, &[release_id(service, version.run)]).await
}

/// Also where somebody else backs them up, so that no backup has made them.
fn make_folders(world: &World, version: &Version) -> Result<()> {
    let config = version.config(&world.environment)?;
    folder::make_all(&world.state(), &config, world.user)
}

pub(super) async fn launch(world: &World, run: &OpenRun, service: &str) -> Result<Value> {
    make_folders(world, &version(run, Side::New)?)?;
    let processes = processes(world, run, Side::New, &of_service(run, service))?;
    for process in &processes {
        start(world, process).await?;
    }
    Ok(json!({ "instances": processes.len() }))
}

async fn start(world: &World, process: &Process) -> Result<()> {
    world
        .supervisor
        .launch(process)
        .await
        .map_err(|error| trouble(&error))?;
    world.supervisor.tend(process.clone());
    Ok(())
}

fn trouble(error: &supervise::Error) -> Diagnostic {
    Diagnostic::error("supervise::failed", error.to_string())
}

pub(super) async fn ready(world: &World, run: &OpenRun, service: &str) -> Result<Value> {
    let mut slowest = 0;
    for process in processes(world, run, Side::New, &of_service(run, service))? {
        slowest = slowest.max(is_ready(world, run, &process).await?);
    }
    Ok(json!({ "took_ms": slowest }))
}

async fn is_ready(world: &World, run: &OpenRun, process: &Process) -> Result<u64> {
    let readiness = world.supervisor.ready(process).await;
    readiness
        .map(|readiness| readiness.took_ms)
        .map_err(|why| not_ready(&world.environment, run, process, &why))
        .map_err(|trouble| super::rehearsal::after_start(world, run, trouble))
}

pub(super) async fn probe(world: &World, ids: &[InstanceId]) -> Presence {
    let mut running = 0;
    for id in ids {
        running += usize::from(world.supervisor.status(id).await.is_some());
    }
    match running {
        0 => Presence::Absent,
        count if count == ids.len() => Presence::Present,
        _ => Presence::Partial,
    }
}

pub(super) async fn probe_workers(world: &World, run: &OpenRun, side: Side) -> Presence {
    match workers(world, run, side) {
        Ok(ids) => probe(world, &ids).await,
        Err(_) => Presence::Absent,
    }
}

pub(super) async fn probe_stopped(world: &World, run: &OpenRun, side: Side) -> Presence {
    match probe_workers(world, run, side).await {
        Presence::Absent => Presence::Present,
        Presence::Present => Presence::Absent,
        other => other,
    }
}

pub(super) async fn undo_launch(world: &World, run: &OpenRun, service: &str) -> Result<()> {
    stop(world, &of_service(run, service)).await
}

async fn stop(world: &World, ids: &[InstanceId]) -> Result<()> {
    // All at once: the slowest instance's grace is the whole wait.
    let stops = ids.iter().cloned().map(|id| {
        let supervisor = world.supervisor.clone();
        tokio::spawn(async move { supervisor.stop(&id, None).await })
    });
    for stopped in stops.collect::<Vec<_>>() {
        if let Ok(Err(error)) = stopped.await {
            return Err(trouble(&error));
        }
    }
    Ok(())
}

pub(super) async fn stop_workers(world: &World, run: &OpenRun, side: Side) -> Result<Value> {
    let mut ids = workers(world, run, side)?;
    let mut jobs = Vec::new();
    // While requests wait for a rewrite nothing else may write either: also no job that the version which is warm has begun.
    if super::is_held(&Step::StopWorkers, run) {
        for version in [side, Side::Warm]
            .iter()
            .filter_map(|side| run.plan.side(*side))
        {
            jobs.extend(version.job_runs(world)?);
        }
    }
    let (instances, stopped) = (ids.len(), jobs.clone());
    ids.extend(jobs);
    stop(world, &ids).await?;
    Ok(json!({ "instances": instances, "jobs": stopped }))
}

pub(super) async fn start_workers(world: &World, run: &OpenRun, side: Side) -> Result<Value> {
    let ids = workers(world, run, side)?;
    if let Some(version) = run.plan.side(side) {
        make_folders(world, version)?;
    }
    let processes = if ids.is_empty() {
        Vec::new()
    } else {
        processes(world, run, side, &ids)?
    };
    for process in &processes {
        start(world, process).await?;
    }
    for process in &processes {
        is_ready(world, run, process).await?;
    }
    Ok(json!({ "instances": ids.len() }))
}

/// Instances of a version, and runs of its jobs that have not ended.
fn all_of(world: &World, version: &Version) -> Result<Vec<InstanceId>> {
    let instances = version.instances.iter();
    let instances = instances.map(|instance| instance.id.clone());
    Ok(instances.chain(version.job_runs(world)?).collect())
}

/// Stops everything of a version. Under the sabotages that kill, without a word first.
pub(super) async fn retire(world: &World, run: &OpenRun, side: Side) -> Result<Value> {
    let ids = match run.plan.side(side) {
        Some(version) => all_of(world, version)?,
        None => Vec::new(),
    };
    let kills = matches!(
        run.plan.sabotage,
        Some(Sabotage::EarlyKill | Sabotage::SkipDrain)
    );
    if kills {
        for id in &ids {
            world
                .supervisor
                .kill(id)
                .await
                .map_err(|error| trouble(&error))?;
        }
    }
    stop(world, &ids).await?;
    if run.plan.sabotage == Some(Sabotage::PutBack) {
        super::put_back::put_back(world, &version(run, side)?).await?;
    }
    Ok(json!({ "instances": ids.len() }))
}
