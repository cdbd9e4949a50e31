//! What a starting agent finds running, and what it makes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::turn;
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::{
    Environment, GATEWAY, OpenRun, Step, StepState, Version, World, adopt_gateway, bake_ids,
    image_id, migrator_id, release_id, resource_instance, resume_resources, tend_gateway,
};
use crate::state::write_whole;

/// Tends what the journal says is running; stops what no version knows.
///
/// # Errors
/// When the journal cannot be read, or a version of it not be resolved.
pub(super) async fn adopt(world: &Arc<World>) -> Result<(), Diagnostic> {
    let now = world.environment()?;
    let (mut wanted, known) = (wanted(&now), known(world, &now)?);
    wanted.extend(now.provided.iter().map(|name| resource_instance(name)));
    for id in world.supervisor.known() {
        // A resource is no run's, and its name does not look like one.
        if run_of(&id).is_some_and(|run| run > now.last_run) {
            return Err(older(world, &id));
        }
    }
    for id in world.supervisor.known() {
        if !known.contains(&id) {
            let _ = world.supervisor.stop(&id, None).await;
        }
    }
    let is_reboot = forget_ends(world, &wanted);
    // What services need comes first. What stands against it is said by the next run, and in its log.
    let _ = resume_resources(world, &now.provided).await;
    let coming = now.open.as_ref().and_then(OpenRun::new_version);
    for version in serving(&now).chain(coming.as_ref()) {
        let processes =
            version.processes(&world.environment, world.supervisor.places(), world.user);
        let mut processes = match processes {
            // Without an agent nobody could mend it: what runs goes on untended, and the next run says why.
            Err(trouble) if trouble.code.starts_with("resource::") => continue,
            processes => processes?,
        };
        processes.retain(|id, _| wanted.contains(id));
        match is_reboot {
            true => turn::start(world, version, processes)?,
            false => processes
                .into_values()
                .for_each(|process| world.supervisor.tend(process)),
        }
    }
    if let Some(listen) = &now.gateway {
        // A gateway that cannot be replaced serves on, and the next run will say so.
        let _ = adopt_gateway(world, listen, now.gateway_tls.as_deref()).await;
        // One that cannot listen yet, because its address comes up after this agent, is tried again.
        tend_gateway(world, listen, now.gateway_tls.as_deref());
    }
    Ok(())
}

/// On another boot of the machine than the last agent's, how instances ended is no longer of any
/// account: the machine went down around them, in whatever order. Says whether it is another boot.
fn forget_ends(world: &World, wanted: &BTreeSet<InstanceId>) -> bool {
    let path = world.state().join("boot-id");
    let boot = world.store.clock().boot_id();
    if std::fs::read_to_string(&path).is_ok_and(|last| last == boot) {
        return false;
    }
    let places = world.supervisor.places();
    for id in wanted {
        let _ = std::fs::remove_file(places.run(id).join("exit.json"));
    }
    // Where it cannot be written, on a full disk, the next agent forgets once more.
    let _ = write_whole(&path, boot.as_bytes());
    true
}

/// The number of the run that launched an instance, from its id.
fn run_of(id: &InstanceId) -> Option<u64> {
    let mut parts = id.0.rsplit('-');
    let last = parts.next()?;
    let run = if last.starts_with('d') {
        last
    } else {
        parts.next()?
    };
    run.strip_prefix('d')?.parse().ok()
}

/// What runs is newer than what the journal knows: stopping it would be wrong, and so would any plan.
fn older(world: &World, id: &InstanceId) -> Diagnostic {
    let text = format!("`{id}` runs, and the journal ends before the run that launched it");
    Diagnostic::error("state::older", text)
        .note("`state.db` was lost, or an older one was put back; nothing was stopped or changed")
        .help(format!(
            "put the right `state.db` back (with `state.db-wal`) into {}",
            world.state().display()
        ))
}

fn versions(now: &Environment) -> Vec<&Version> {
    let open = now.open.as_ref().and_then(|run| run.plan.new.as_ref());
    serving(now).chain(open).collect()
}

fn serving(now: &Environment) -> impl Iterator<Item = &Version> {
    let warm = now.warm.iter().map(|warm| &warm.version);
    now.live.iter().chain(warm)
}

/// Instances with a reason to have a folder: those of versions, runs of their jobs, and what the open run runs once.
fn known(world: &World, now: &Environment) -> Result<BTreeSet<InstanceId>, Diagnostic> {
    let instances = versions(now)
        .into_iter()
        .flat_map(|version| &version.instances);
    let mut known: BTreeSet<InstanceId> = instances.map(|instance| instance.id.clone()).collect();
    if now.gateway.is_some() || now.open.is_some() {
        known.insert(InstanceId(GATEWAY.to_owned()));
    }
    known.extend(now.provided.iter().map(|name| resource_instance(name)));
    if let Some(run) = &now.open {
        // Being provided when a crash came: it is gone on with, or undone.
        known.extend(run.plan.steps.iter().filter_map(|step| match step {
            Step::Provide { resource, .. } => Some(resource_instance(resource)),
            _ => None,
        }));
        known.extend(run.plan.steps.iter().filter_map(|step| match step {
            Step::Build { service } => {
                Some(InstanceId(format!("build-{service}-{}", run.plan.run)))
            }
            Step::Release { service } => Some(release_id(service, run.plan.run)),
            Step::Migrator { resource, .. } => Some(migrator_id(resource, run.plan.run)),
            Step::Image { service } => Some(image_id(run.plan.run, service)),
            _ => None,
        }));
        known.extend(run.plan.steps.iter().flat_map(|step| match step {
            Step::Bake {
                environment,
                services,
            } => bake_ids(environment, services, run.plan.run),
            _ => Vec::new(),
        }));
    }
    for version in versions(now) {
        known.extend(version.job_runs(world)?);
    }
    Ok(known)
}

/// Instances that should run now. Of the run under way, what it has finished starting counts, and
/// what it has begun to stop does not: the rest is its own to go on with.
pub(super) fn wanted(now: &Environment) -> BTreeSet<InstanceId> {
    let mut wanted = BTreeSet::new();
    if let Some(live) = &now.live {
        wanted.extend(live.instances.iter().map(|instance| instance.id.clone()));
    }
    if let Some(warm) = &now.warm {
        wanted.extend(of_kind(&warm.version, true));
    }
    if let Some(run) = &now.open {
        of_run(run, &mut wanted);
    }
    wanted
}

/// Webs have ports and are kept warm; workers have none and are not.
fn of_kind(version: &Version, web: bool) -> impl Iterator<Item = InstanceId> + '_ {
    let chosen = version
        .instances
        .iter()
        .filter(move |instance| instance.port.is_some() == web);
    chosen.map(|instance| instance.id.clone())
}

fn of_run(run: &OpenRun, wanted: &mut BTreeSet<InstanceId>) {
    for step in &run.plan.steps {
        let state = run.steps.get(&step.to_string());
        let stands = matches!(state, Some(StepState::Ok(_)));
        let begun = state.is_some_and(|state| !matches!(state, StepState::Undone));
        match step {
            Step::Launch { service } if stands => {
                let new = run.plan.new.iter().flat_map(|version| &version.instances);
                wanted.extend(
                    new.filter(|found| found.service == *service)
                        .map(|found| found.id.clone()),
                );
            }
            Step::StartWorkers if stands => {
                wanted.extend(
                    run.plan
                        .new
                        .iter()
                        .flat_map(|version| of_kind(version, false)),
                );
            }
            Step::StopWorkers if begun => {
                let old: Vec<InstanceId> = run
                    .plan
                    .old
                    .iter()
                    .flat_map(|version| of_kind(version, false))
                    .collect();
                wanted.retain(|id| !old.contains(id));
            }
            Step::Retire { side } if begun => {
                let gone = run
                    .plan
                    .side(*side)
                    .into_iter()
                    .flat_map(|version| &version.instances);
                let gone: BTreeSet<_> = gone.map(|instance| instance.id.clone()).collect();
                wanted.retain(|id| !gone.contains(id));
            }
            _ => {}
        }
    }
}
