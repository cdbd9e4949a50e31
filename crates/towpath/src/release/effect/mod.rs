//! What each step does, how it is found again, and how it is undone: three exhaustive matches.

pub(in crate::release) mod backups;
pub(in crate::release) mod bakes;
pub(in crate::release) mod builds;
pub(in crate::release) mod images;
mod instances;
pub(in crate::release) mod migrations;
mod migrators;
mod provide;
mod put_back;
pub(in crate::release) mod rehearsal;
mod traffic;

use serde_json::Value;

use super::{OpenRun, Presence, Side, Step, Version, World};
use crate::diagnostic::Diagnostic;

type Result<T> = std::result::Result<T, Diagnostic>;

impl Step {
    /// Acts, as often as one likes; returns what later steps and the undo need.
    pub(super) async fn apply(&self, world: &World, run: &OpenRun) -> Result<Value> {
        match is_held(self, run) {
            true => traffic::under_hold(world, run, self.act(world, run)).await,
            false => self.act(world, run).await,
        }
    }

    async fn act(&self, world: &World, run: &OpenRun) -> Result<Value> {
        match self {
            Step::Gateway { listen, listen_tls } => {
                traffic::start_gateway(world, listen, listen_tls.as_deref()).await
            }
            Step::Build { service } => builds::build(world, run, service).await,
            Step::Bake {
                environment,
                services,
            } => bakes::bake(world, run, environment, services).await,
            Step::Image { service } => images::have(world, run, service).await,
            Step::Pack => builds::pack(world, run).await,
            Step::Provide { resource, port } => provide::provide(world, run, resource, *port).await,
            Step::BackUp { resource } => backups::back_up(world, run, resource).await,
            Step::Migrate { resource, versions } => {
                migrations::migrate(world, run, resource, versions).await
            }
            Step::Hold => traffic::hold(world, run).await,
            Step::Resume { .. } => traffic::resume(world, run).await,
            Step::TakeBack { resource, versions } => {
                migrations::take_back(world, run, resource, versions).await
            }
            Step::Baseline { resource, version } => {
                migrations::baseline(world, run, resource, *version).await
            }
            Step::Rehearse { resources } => rehearsal::rehearse(world, run, resources).await,
            Step::Migrator { resource, .. } => migrators::migrate(world, run, resource).await,
            Step::Release { service } => instances::release(world, run, service).await,
            Step::Launch { service } => instances::launch(world, run, service).await,
            Step::Ready { service } => instances::ready(world, run, service).await,
            Step::StopWorkers => instances::stop_workers(world, run, Side::Old).await,
            Step::StartWorkers => instances::start_workers(world, run, Side::New).await,
            Step::Switch => traffic::switch(world, run).await,
            Step::Drain => traffic::drain(world, run).await,
            Step::Retire { side } => instances::retire(world, run, *side).await,
            Step::Close => traffic::close(world, run).await,
            Step::StopGateway => traffic::stop_gateway(world).await,
            Step::StopResources => provide::stop_all(world).await,
        }
    }

    /// What is there of it, after a crash between intent and result.
    pub(super) async fn probe(&self, world: &World, run: &OpenRun) -> Presence {
        match self {
            Step::Gateway { .. } => traffic::probe_gateway(world).await,
            Step::Build { .. } | Step::Pack => builds::probe(run),
            Step::Bake { .. } | Step::Image { .. } => Presence::Partial,
            // Starting what runs changes nothing, and it may run and not serve yet.
            Step::Provide { .. } => Presence::Partial,
            Step::BackUp { resource } => backups::probe_backup(world, run, resource),
            Step::Migrate { resource, versions } => {
                migrations::probe_migrations(world, run, resource, versions).await
            }
            // It runs on, or has ended: either way it is joined and not run again.
            Step::Release { .. } | Step::Migrator { .. } => Presence::Partial,
            Step::Launch { service } => {
                instances::probe(world, &instances::of_service(run, service)).await
            }
            Step::Ready { .. } | Step::Drain | Step::Hold | Step::Rehearse { .. } => {
                Presence::Absent
            }
            // Both bear being done again.
            Step::Resume { .. } | Step::TakeBack { .. } | Step::Baseline { .. } => {
                Presence::Partial
            }
            Step::StopWorkers => instances::probe_stopped(world, run, Side::Old).await,
            Step::StartWorkers => instances::probe_workers(world, run, Side::New).await,
            Step::Switch => traffic::probe_switch(world, run, false).await,
            Step::Retire { .. } => Presence::Partial,
            Step::Close => traffic::probe_switch(world, run, false).await,
            Step::StopGateway | Step::StopResources => Presence::Partial,
        }
    }

    /// Takes back what it did, whether it did all of it, some, or nothing.
    pub(super) async fn undo(&self, world: &World, run: &OpenRun) -> Result<()> {
        match is_held(self, run) {
            true => traffic::under_hold(world, run, self.act_back(world, run)).await,
            false => self.act_back(world, run).await,
        }
    }

    async fn act_back(&self, world: &World, run: &OpenRun) -> Result<()> {
        match self {
            Step::Gateway { .. } => traffic::stop_gateway(world).await.map(drop),
            Step::Build { service } => builds::undo_build(world, run, service).await,
            Step::Bake {
                environment,
                services,
            } => bakes::undo(world, run, environment, services).await,
            Step::Image { service } => images::undo(world, run, service).await,
            // A release is a record of what was built; it stays, unused.
            Step::Pack => Ok(()),
            Step::Provide { resource, .. } => provide::undo(world, run, resource).await,
            Step::BackUp { resource } => backups::undo_backup(world, run, resource).await,
            Step::Migrate { resource, versions } => {
                migrations::undo_migrate(world, run, resource, versions).await
            }
            Step::Rehearse { resources } => rehearsal::undo(world, run, resources).await,
            Step::Migrator { resource, held } => migrators::undo(world, run, resource, *held).await,
            Step::Release { service } => instances::undo_release(world, run, service).await,
            Step::Launch { service } => instances::undo_launch(world, run, service).await,
            Step::Hold => traffic::undo_hold(world, run).await,
            // What could not be taken back, or not counted, is as it was: each is one transaction.
            Step::TakeBack { .. } | Step::Baseline { .. } => Ok(()),
            Step::Ready { .. } | Step::Drain | Step::Resume { .. } => Ok(()),
            Step::StopWorkers => instances::start_workers(world, run, Side::Old)
                .await
                .map(drop),
            Step::StartWorkers => instances::stop_workers(world, run, Side::New)
                .await
                .map(drop),
            Step::Switch => traffic::switch_back(world, run).await,
            // Forward-only: the executor never asks.
            Step::Retire { .. } | Step::Close | Step::StopGateway | Step::StopResources => Ok(()),
        }
    }

    /// Whether a cancellation may end it in the middle: it waits, and what it starts is undone.
    pub(super) fn can_be_cut_off(&self, world: &World, run: &OpenRun) -> bool {
        match self {
            Step::Build { .. }
            | Step::Bake { .. }
            | Step::Image { .. }
            | Step::Release { .. }
            | Step::Rehearse { .. }
            | Step::Migrator { .. }
            | Step::Ready { .. }
            | Step::Drain => true,
            Step::BackUp { resource } => backups::is_dumped(world, run, resource),
            _ => false,
        }
    }
}

/// Whether requests wait while the step acts, or is undone.
fn is_held(step: &Step, run: &OpenRun) -> bool {
    let steps = &run.plan.steps;
    let place = |wanted: &Step| steps.iter().position(|step| step == wanted);
    let resume = steps
        .iter()
        .position(|step| matches!(step, Step::Resume { .. }));
    match (place(&Step::Hold), place(step), resume) {
        (Some(hold), Some(step), Some(resume)) => hold < step && step < resume,
        _ => false,
    }
}

/// The version on `side`, with the release that the run has made of it.
fn version(run: &OpenRun, side: Side) -> Result<Version> {
    let found = if side == Side::New {
        run.new_version()
    } else {
        run.plan.side(side).cloned()
    };
    found.ok_or_else(|| {
        Diagnostic::error("state::plan", "the plan names a version it does not have")
    })
}

/// Runs blocking work, such as SQLite's, beside the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(Diagnostic::error(
            "deploy::panicked",
            "a step panicked; this is a bug in Towpath",
        ))
    })
}
