//! The gateway: starting it, switching, draining.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use towpath_gateway::api::{Apply, Drain, Hold, Mode, OnExpiry, Resume, Table};

use super::{Result, version};
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::fold::label;
use crate::release::gateway::{GATEWAY, client, launch_gateway, table_of};
use crate::release::version::millis;
use crate::release::{OpenRun, Presence, Side, World};

pub(super) async fn start_gateway(
    world: &World,
    listen: &str,
    listen_tls: Option<&str>,
) -> Result<Value> {
    launch_gateway(world, listen, listen_tls).await?;
    Ok(json!({ "listen": listen }))
}

pub(super) async fn probe_gateway(world: &World) -> Presence {
    match client(world).await.is_ok() {
        true => Presence::Present,
        false => Presence::Absent,
    }
}

pub(super) async fn stop_gateway(world: &World) -> Result<Value> {
    let id = InstanceId(GATEWAY.to_owned());
    let stopped = world
        .supervisor
        .stop(&id, Some(Duration::from_secs(5)))
        .await;
    stopped.map_err(|error| Diagnostic::error("gateway::failed", error.to_string()))?;
    // Neither its table nor its last word is that of another.
    for name in ["gateway.json", "gateway.json.ready"] {
        let _ = std::fs::remove_file(world.state().join(name));
    }
    Ok(Value::Null)
}

async fn apply(world: &World, label: String, table: Table) -> Result<u64> {
    let state = client(world)
        .await?
        .apply(&Apply {
            label,
            expect: None,
            table,
        })
        .await;
    state.map(|state| state.epoch).map_err(|error| {
        Diagnostic::error(
            "gateway::failed",
            format!("the gateway did not take the routes: {error}"),
        )
        .note("it goes on with the routes it has")
    })
}

fn table(world: &World, run: &OpenRun, side: Side) -> Result<Table> {
    let version = version(run, side)?;
    table_of(world, &version)
}

pub(super) async fn switch(world: &World, run: &OpenRun) -> Result<Value> {
    let epoch = apply(
        world,
        label(run.plan.run, false),
        table(world, run, Side::New)?,
    )
    .await?;
    Ok(json!({ "epoch": epoch }))
}

pub(super) async fn close(world: &World, run: &OpenRun) -> Result<Value> {
    let epoch = apply(world, label(run.plan.run, false), Table::default()).await?;
    Ok(json!({ "epoch": epoch }))
}

/// Back to the version before, and nothing of this one is in flight afterwards.
pub(super) async fn switch_back(world: &World, run: &OpenRun) -> Result<()> {
    let table = match run.plan.old {
        Some(_) => table(world, run, Side::Old)?,
        None => Table::default(),
    };
    let epoch = apply(world, label(run.plan.run, true), table).await?;
    drain_below(world, run, epoch).await.map(drop)
}

pub(super) async fn probe_switch(world: &World, run: &OpenRun, undone: bool) -> Presence {
    let Ok(client) = client(world).await else {
        return Presence::Absent;
    };
    match client.state().await {
        Ok(state) if state.label == label(run.plan.run, undone) => Presence::Present,
        Ok(state) if is_ours(&state.label, run) => Presence::Absent,
        Ok(_) => Presence::Foreign,
        Err(_) => Presence::Absent,
    }
}

/// How long a hold lives without its agent, milliseconds: the longest that the gateway takes.
const LEASE_MS: u64 = 30_000;

/// Pause between renewals.
const RENEWS: Duration = Duration::from_secs(5);

/// The right to end the hold, taken anew: the same holder's second hold goes on with the first.
async fn held(world: &World, run: &OpenRun, on_expiry: OnExpiry) -> Result<String> {
    let hold = Hold {
        holder: run.plan.run.to_string(),
        lease_ms: LEASE_MS,
        on_expiry,
    };
    let held = client(world).await?.hold(&hold).await;
    held.map(|held| held.token).map_err(|error| {
        Diagnostic::error(
            "gateway::not-held",
            format!("the gateway did not hold requests: {error}"),
        )
        .note("it goes on with the routes it has")
    })
}

/// Until something is changed behind it, the end of the lease lets requests go on.
pub(super) async fn hold(world: &World, run: &OpenRun) -> Result<Value> {
    held(world, run, OnExpiry::Old).await?;
    Ok(Value::Null)
}

/// Acts while requests wait. Should the agent die in it, the gateway closes at the end of the lease: what is behind
/// it may not fit the version that it knows.
pub(super) async fn under_hold<T>(
    world: &World,
    run: &OpenRun,
    act: impl Future<Output = Result<T>>,
) -> Result<T> {
    held(world, run, OnExpiry::Closed).await?;
    let renews = async {
        loop {
            sleep(RENEWS).await;
            // One that fails is tried again; the lease bears several.
            let _ = held(world, run, OnExpiry::Closed).await;
        }
    };
    tokio::select! {
        done = act => done,
        () = renews => Err(Diagnostic::error("gateway::not-held", "the hold ended")),
    }
}

/// Lets requests go on as before. One that did not come about has nothing to end.
pub(super) async fn undo_hold(world: &World, run: &OpenRun) -> Result<()> {
    let state = client(world).await?.state().await;
    match state.map(|state| state.mode) {
        Ok(Mode::Open) => Ok(()),
        _ => resume(world, run).await.map(drop),
    }
}

pub(super) async fn resume(world: &World, run: &OpenRun) -> Result<Value> {
    let token = held(world, run, OnExpiry::Closed).await?;
    let resumed = client(world)
        .await?
        .resume(&Resume { token: Some(token) })
        .await;
    resumed
        .map(|_| Value::Null)
        .map_err(|error| Diagnostic::error("gateway::failed", error.to_string()))
}

fn is_ours(found: &str, run: &OpenRun) -> bool {
    found.is_empty()
        || found == run.label_before
        || found.starts_with(&format!("{}/", run.plan.run))
}

pub(super) async fn drain(world: &World, run: &OpenRun) -> Result<Value> {
    let state = client(world).await?.state().await;
    let epoch = state
        .map_err(|error| Diagnostic::error("gateway::failed", error.to_string()))?
        .epoch;
    drain_below(world, run, epoch).await
}

/// Requests that outlast the drain are told of, and left to the instance's own grace.
async fn drain_below(world: &World, run: &OpenRun, below: u64) -> Result<Value> {
    let timeout_ms = run.plan.drain_ms.min(millis(Duration::from_secs(60)));
    let drained = client(world)
        .await?
        .drain(&Drain { below, timeout_ms })
        .await;
    let drained =
        drained.map_err(|error| Diagnostic::error("gateway::failed", error.to_string()))?;
    Ok(json!({ "requests_left": drained.requests, "streams_closed": drained.streams_closed }))
}
