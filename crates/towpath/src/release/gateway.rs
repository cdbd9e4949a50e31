//! The gateway as one of the environment's processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use towpath_gateway::Options;
use towpath_gateway::api::{Apply, Mode, Resume, Retire, State};
use towpath_gateway::control::Client;
use towpath_shim::protocol::{Policy, Restart, Stop};

use super::World;
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, InstanceId};
use crate::supervise::Process;

/// The gateway's instance.
pub const GATEWAY: &str = "gateway";

/// The whole life of a gateway, on the listeners that its shim passes it.
///
/// # Errors
/// When it has no listeners, or cannot read its state.
pub fn gateway(socket: &Path, state: &Path, version: &str) -> Result<(), towpath_gateway::Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (socket, state) = (socket.to_owned(), state.to_owned());
    towpath_gateway::run(Options {
        socket,
        state,
        version: version.to_owned(),
        threads,
        secure: None,
    })
}

/// One socket a build of the program: while one gateway replaces another, both answer.
fn socket(world: &World, version: &str) -> PathBuf {
    let tag = &Digest::of(version.as_bytes()).short()[..8];
    world
        .supervisor
        .places()
        .runtime
        .join(format!("gateway-{tag}.sock"))
}

fn argv(world: &World) -> Vec<String> {
    let text = |path: PathBuf| path.display().to_string();
    vec![
        text(world.supervisor.places().tow.clone()),
        "gateway".to_owned(),
        text(socket(world, &world.version)),
        text(world.state().join("gateway.json")),
    ]
}

fn process(world: &World, listen: &str) -> Process {
    Process {
        id: InstanceId(GATEWAY.to_owned()),
        service: GATEWAY.to_owned(),
        argv: argv(world),
        env: std::collections::BTreeMap::new(),
        cwd: world.state(),
        // Its state file and control socket are the agent's.
        user: None,
        listen: vec![listen.to_owned()],
        port: None,
        // It must always come back, and clients wait in the backlog until it does.
        restart: Restart {
            policy: Policy::Always,
            backoff_ms: 10,
            backoff_max_ms: 1_000,
            limit: u32::MAX,
            within_ms: 60_000,
        },
        stop: Stop {
            signal: 15,
            grace_ms: 5_000,
        },
        log: (8 << 20, 4),
        ready: None,
        alive: None,
    }
}

/// Starts the gateway, unless it runs; returns when it answers.
///
/// # Errors
/// When its address is taken, or it does not come up.
pub(super) async fn launch_gateway(world: &World, listen: &str) -> Result<(), Diagnostic> {
    let process = process(world, listen);
    world.supervisor.launch(&process).await.map_err(|error| {
        Diagnostic::error(
            "gateway::not-started",
            format!("the gateway cannot listen on {listen}: {error}"),
        )
        .note("nothing was switched")
        .help("set `listen` of the environment to a free address")
    })?;
    world.supervisor.tend(process);
    answers(world).await
}

async fn answers(world: &World) -> Result<(), Diagnostic> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Client::new(socket(world, &world.version))
        .state()
        .await
        .is_err()
    {
        if Instant::now() > deadline {
            let log = world
                .supervisor
                .places()
                .log(GATEWAY, &InstanceId(GATEWAY.to_owned()));
            let text = "the gateway does not answer on its control socket";
            return Err(
                Diagnostic::error("gateway::silent", text).help(format!("see {}", log.display()))
            );
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The gateway's control, once it answers: it may be on its way up again.
pub(super) async fn client(world: &World) -> Result<Client, Diagnostic> {
    answers(world).await?;
    Ok(Client::new(socket(world, &world.version)))
}

/// What the gateway says now; `None` while it does not answer.
pub async fn gateway_state(world: &World) -> Option<State> {
    Client::new(socket(world, &world.version))
        .state()
        .await
        .ok()
}

/// Tends the gateway that an earlier agent started; one of another build is replaced by one of
/// this build on the same listeners, without a connection refused.
///
/// # Errors
/// When the new one does not come up; the old one serves on then.
pub async fn adopt_gateway(world: &World, listen: &str) -> Result<(), Diagnostic> {
    let id = InstanceId(GATEWAY.to_owned());
    let own = socket(world, &world.version);
    let others = other_sockets(world, &own);
    if world.supervisor.status(&id).await.is_some()
        && Client::new(own.clone()).state().await.is_err()
    {
        let replaced = !others.is_empty() && any_answers(&others).await;
        if replaced {
            let started = world.supervisor.replace(&id, argv(world)).await;
            started
                .map_err(|error| Diagnostic::error("gateway::not-replaced", error.to_string()))?;
        }
    }
    launch_gateway(world, listen).await?;
    for other in others {
        let _ = Client::new(other.clone())
            .retire(&Retire { timeout_ms: 10_000 })
            .await;
        let _ = std::fs::remove_file(other);
    }
    Ok(())
}

fn other_sockets(world: &World, own: &PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&world.supervisor.places().runtime)
        .into_iter()
        .flatten()
        .flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path != own)
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("gateway-") && name.ends_with(".sock")
        })
        .collect()
}

async fn any_answers(sockets: &[PathBuf]) -> bool {
    for socket in sockets {
        if Client::new(socket.clone()).state().await.is_ok() {
            return true;
        }
    }
    false
}

/// Puts the live version's table back into a gateway that has another: one that lost its state, or
/// was given an older one. Only while no run is under way.
///
/// # Errors
/// When the gateway does not take it.
pub async fn keep_table(world: &World) -> Result<(), Diagnostic> {
    let now = world.environment()?;
    let (Some(live), None, Some(_)) = (&now.live, &now.open, &now.gateway) else {
        return Ok(());
    };
    let Some(state) = gateway_state(world).await else {
        return Ok(());
    };
    if state.label == now.label {
        return Ok(());
    }
    let table = live.table(&live.config(&world.environment)?);
    let client = Client::new(socket(world, &world.version));
    // Whatever was done meanwhile has raised the epoch, and is not overwritten.
    let apply = Apply {
        label: now.label.clone(),
        expect: Some(state.epoch),
        table,
    };
    client
        .apply(&apply)
        .await
        .map_err(|error| Diagnostic::error("gateway::failed", error.to_string()))?;
    if state.mode != Mode::Closed {
        return Ok(());
    }
    let opened = client.resume(&Resume { token: None }).await;
    opened
        .map(drop)
        .map_err(|error| Diagnostic::error("gateway::failed", error.to_string()))
}
