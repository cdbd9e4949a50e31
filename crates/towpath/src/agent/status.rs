//! What an environment is, now.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;
use towpath_gateway::api::State;
use towpath_shim::protocol;

use super::answer::{Failure, failed};
use super::api::{
    CertificateStatus, EndedRun, HealthStatus, InstanceStatus, RunStatus, Status, VersionStatus,
    Word,
};
use super::health::Monitor;
use super::{certificates, jobs};
use crate::id::InstanceId;
use crate::release::{
    Environment, Instance, OpenRun, Phase, StepState, Version, Warm, World, gateway_state,
    maintenance, resource_instance, resource_version,
};
use crate::supervise::Health;

/// Longest wait for the gateway.
const GATEWAY: Duration = Duration::from_secs(2);

/// Runs shown.
const SHOWN: usize = 20;

/// What the gateway says, unless it hangs.
async fn gateway(world: &World) -> Option<State> {
    let state = timeout(GATEWAY, gateway_state(world)).await;
    state.ok().flatten()
}

/// How it is, part by part.
pub(super) async fn health(
    world: &World,
    monitor: &Monitor,
) -> Result<Option<HealthStatus>, Failure> {
    let gateway = gateway(world).await;
    let looked = monitor.look_whole(world, gateway.as_ref()).await;
    looked.map_err(failed)
}

pub(super) async fn status(world: &World, monitor: &Monitor) -> Result<Status, Failure> {
    let now = world.environment().map_err(failed)?;
    let gateway = gateway(world).await;
    let tended = world.supervisor.health();
    let mut instances = instances(&now, &tended);
    instances.extend(resources(world, &now, &tended));
    let certificates = certificates::status(world, &now, gateway.as_ref()).map_err(failed)?;
    let health = monitor.look_whole(world, gateway.as_ref()).await;
    let health = health.map_err(failed)?;
    let word = health.as_ref().map(|health| health.status);
    let verdict = match (verdict(&now, &instances, gateway.is_some()), word) {
        ("serving" | "degraded", Some(Word::Unhealthy)) => "failing",
        ("serving", Some(Word::Degraded)) => "degraded",
        ("serving", _) if certificates.iter().any(|one| !one.good) => "degraded",
        (verdict, _) => verdict,
    };
    Ok(Status {
        app: world.app.clone(),
        environment: world.environment.clone(),
        verdict: verdict.to_owned(),
        version: world.version.clone(),
        agent_pid: std::process::id(),
        state: world.state(),
        listen: now.gateway.clone(),
        https: https(&now, &certificates),
        certificates,
        jobs: match &now.live {
            Some(live) => jobs::status(world, live).map_err(failed)?,
            None => Vec::new(),
        },
        maintenance: maintenance(&world.state()),
        live: now.live.as_ref().map(|live| VersionStatus {
            name: live.name(),
            release: live.release,
            since_ms: now.live_since.as_ref().map_or(0, |mark| mark.wall_ms),
            left_ms: None,
        }),
        warm: now.warm.as_ref().map(|warm| warm_status(world, warm)),
        run: now.open.as_ref().map(run_status),
        health,
        traffic: monitor.traffic(),
        instances,
        gateway,
        ended: now.ended.iter().rev().take(SHOWN).map(ended).collect(),
    })
}

/// The first host, and the port where it is not the usual one.
fn https(now: &Environment, certificates: &[CertificateStatus]) -> Option<String> {
    let listen: std::net::SocketAddr = now.gateway_tls.as_ref()?.parse().ok()?;
    let host = &certificates.first()?.host;
    Some(match listen.port() {
        443 => format!("https://{host}"),
        port => format!("https://{host}:{port}"),
    })
}

fn warm_status(world: &World, warm: &Warm) -> VersionStatus {
    let left = world
        .store
        .clock()
        .left(&warm.since, Duration::from_millis(warm.window_ms));
    VersionStatus {
        name: warm.version.name(),
        release: warm.version.release,
        since_ms: warm.since.wall_ms,
        left_ms: u64::try_from(left.as_millis()).ok(),
    }
}

fn run_status(run: &OpenRun) -> RunStatus {
    let waits = match run.at() {
        Some((_, StepState::Waiting(failure))) => Some(failure),
        _ => None,
    };
    let failure = run.failure.as_ref().or(waits);
    RunStatus {
        run: run.plan.run,
        operation: run.plan.operation,
        actor: run.plan.actor.clone(),
        since_ms: run.since.wall_ms,
        phase: run.phase,
        step: run.at().map(|(name, _)| name.to_owned()),
        failure: failure.and_then(|value| serde_json::from_value(value.clone()).ok()),
    }
}

fn ended(ended: &crate::release::Ended) -> EndedRun {
    EndedRun {
        run: ended.run,
        operation: ended.operation,
        actor: ended.actor.clone(),
        release: ended.release,
        outcome: if ended.done { "done" } else { "undone" }.to_owned(),
        began_ms: ended.began_ms,
        ended_ms: ended.ended_ms,
    }
}

fn instances(now: &Environment, health: &BTreeMap<InstanceId, Health>) -> Vec<InstanceStatus> {
    let new = now.open.as_ref().and_then(OpenRun::new_version);
    let known = now
        .live
        .as_ref()
        .map(|live| live.run)
        .into_iter()
        .chain(now.warm.as_ref().map(|warm| warm.version.run));
    let known: Vec<_> = known.collect();
    let new = new.filter(|version| !known.contains(&version.run));
    let sides = [
        ("live", now.live.clone()),
        ("warm", now.warm.as_ref().map(|warm| warm.version.clone())),
        ("new", new),
    ];
    let mut shown = Vec::new();
    for (side, version) in sides {
        if let Some(version) = version {
            let instances = version.instances.iter();
            shown.extend(instances.map(|one| instance(side, &version, one, health.get(&one.id))));
        }
    }
    shown
}

/// The servers of resources belong to no version.
fn resources(
    world: &World,
    now: &Environment,
    health: &BTreeMap<InstanceId, Health>,
) -> Vec<InstanceStatus> {
    let shown = now.provided.iter().map(|name| {
        let id = resource_instance(name);
        let found = health.get(&id);
        let one = Instance {
            service: name.clone(),
            port: found.and_then(|health| health.port),
            id,
        };
        status_of(
            "resource",
            resource_version(&world.state(), name),
            &one,
            found,
        )
    });
    shown.collect()
}

fn instance(
    side: &str,
    version: &Version,
    instance: &Instance,
    health: Option<&Health>,
) -> InstanceStatus {
    status_of(side, version.name(), instance, health)
}

fn status_of(
    side: &str,
    version: String,
    instance: &Instance,
    health: Option<&Health>,
) -> InstanceStatus {
    let status = health.and_then(|health| health.status.as_ref());
    let (pid, since_ms) = match status.map(|status| &status.state) {
        Some(protocol::State::Running { pid, since_ms }) => (Some(*pid), Some(*since_ms)),
        _ => (None, None),
    };
    InstanceStatus {
        id: instance.id.clone(),
        service: instance.service.clone(),
        side: side.to_owned(),
        version,
        state: word(health).to_owned(),
        pid,
        port: instance.port,
        since_ms,
        restarts: health.map_or(0, Health::starts),
        cpu_ms: status.map_or(0, |status| status.cpu_ms),
        rss_bytes: status.map_or(0, |status| status.rss_bytes),
        log_lines_dropped: status.map_or(0, |status| status.log.lines),
        // What a ready instance said while it started is no error of now.
        error: health
            .and_then(|health| health.error.clone())
            .filter(|_| word(health) != "ready"),
    }
}

fn word(health: Option<&Health>) -> &'static str {
    let Some(health) = health else {
        return "stopped";
    };
    match health.status.as_ref().map(|status| &status.state) {
        _ if health.gave_up => "failed",
        Some(protocol::State::Running { .. }) if health.healthy == Some(false) => "unhealthy",
        Some(protocol::State::Running { .. }) if health.is_coming() => "starting",
        Some(protocol::State::Running { .. }) => "ready",
        Some(protocol::State::Backoff { .. }) => "restarting",
        Some(protocol::State::Stopping | protocol::State::Ended) => "stopped",
        None if health.healthy == Some(false) => "unhealthy",
        None => "starting",
    }
}

fn verdict(now: &Environment, instances: &[InstanceStatus], gateway: bool) -> &'static str {
    if now
        .open
        .as_ref()
        .is_some_and(|run| run.phase == Phase::Stuck)
    {
        return "stuck";
    }
    if now.live.is_none() {
        return "stopped";
    }
    // While a run turns the workers round, they are meant to be away.
    let turning = now.open.is_some();
    let live: Vec<_> = instances
        .iter()
        .filter(|instance| instance.side == "live" && !(turning && instance.port.is_none()))
        .collect();
    let bad = |instance: &&&InstanceStatus| instance.state != "ready";
    let services: std::collections::BTreeSet<_> =
        live.iter().map(|instance| &instance.service).collect();
    let a_service_is_gone = services.iter().any(|name| {
        live.iter()
            .filter(|one| one.service == **name)
            .all(|one| one.state != "ready")
    });
    let resources = instances.iter().filter(|one| one.side == "resource");
    let a_resource_is_gone = resources.filter(|one| one.state != "ready").count() > 0;
    match live.iter().filter(bad).count() {
        _ if !gateway || a_service_is_gone => "failing",
        _ if a_resource_is_gone => "degraded",
        0 => "serving",
        _ => "degraded",
    }
}
