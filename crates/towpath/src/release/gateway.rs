//! The gateway as one of the environment's processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use towpath_gateway::api::{Apply, Front, Mode, OwnPaths, Resume, Retire, State, Table};
use towpath_gateway::control::Client;
use towpath_gateway::{Options, Secure};
use towpath_shim::protocol::{Policy, Restart, Stop};

use super::{Environment, Refusal, Version, World, maintenance};
use crate::config::{Config, Tls};
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, InstanceId};
use crate::supervise::Process;

/// The gateway's instance.
pub const GATEWAY: &str = "gateway";

/// The whole life of a gateway, on the listeners that its shim passes it.
///
/// # Errors
/// When it has no listeners, or cannot read its state.
pub fn gateway(
    socket: &Path,
    state: &Path,
    certificates: Option<PathBuf>,
    version: &str,
) -> Result<(), towpath_gateway::Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (socket, state) = (socket.to_owned(), state.to_owned());
    towpath_gateway::run(Options {
        socket,
        state,
        version: version.to_owned(),
        threads,
        secure: certificates.map(|certificates| Secure {
            certificates,
            listeners: 1,
        }),
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

/// Certificates of the environment's hosts.
#[must_use]
pub fn certificates(world: &World) -> PathBuf {
    world.state().join("certificates")
}

fn argv(world: &World, tls: bool) -> Vec<String> {
    let text = |path: PathBuf| path.display().to_string();
    let mut argv = vec![
        text(world.supervisor.places().tow.clone()),
        "gateway".to_owned(),
        text(socket(world, &world.version)),
        text(world.state().join("gateway.json")),
    ];
    argv.extend(tls.then(|| text(certificates(world))));
    argv
}

fn process(world: &World, listen: &str, listen_tls: Option<&str>) -> Process {
    Process {
        id: InstanceId(GATEWAY.to_owned()),
        service: GATEWAY.to_owned(),
        argv: argv(world, listen_tls.is_some()),
        env: std::collections::BTreeMap::new(),
        cwd: world.state(),
        // Its state file and control socket are the agent's.
        user: None,
        // The last one speaks TLS.
        listen: std::iter::once(listen)
            .chain(listen_tls)
            .map(str::to_owned)
            .collect(),
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
        secrets: Vec::new(),
        container: None,
    }
}

/// Starts the gateway, unless it runs; returns when it answers.
///
/// # Errors
/// When its address is taken, or it does not come up.
pub(super) async fn launch_gateway(
    world: &World,
    listen: &str,
    listen_tls: Option<&str>,
) -> Result<(), Diagnostic> {
    let process = process(world, listen, listen_tls);
    world
        .supervisor
        .launch(&process)
        .await
        .map_err(|error| not_started(&process.listen, &error))?;
    world.supervisor.tend(process);
    answers(world).await
}

fn not_started(listen: &[String], error: &crate::supervise::Error) -> Diagnostic {
    let text = format!(
        "the gateway cannot listen on {}: {error}",
        listen.join(" and ")
    );
    let keys = match listen.len() {
        1 => "`listen`",
        _ => "`listen` and `listen_tls`",
    };
    Diagnostic::error("gateway::not-started", text)
        .note("nothing was switched")
        .help(format!("set {keys} of the environment to a free address"))
}

/// https at the gateway, as far as it is served: a rehearsal has no address that was declared.
pub(super) fn tls_of<'a>(world: &World, config: &'a Config) -> Option<&'a Tls> {
    config.tls.as_ref().filter(|_| !world.rehearsal)
}

/// Where plain requests are to come in, as far as the manifest says: a rehearsal has no address that was declared.
pub(super) fn listen_of(world: &World, config: &Config) -> Option<SocketAddr> {
    config.listen.filter(|_| !world.rehearsal)
}

fn shown(tls: Option<&str>) -> String {
    tls.map_or("no https".to_owned(), |tls| format!("https at {tls}"))
}

/// What the gateway has and what `config` wants in its place, as far as that is something else.
fn other_address(world: &World, now: &Environment, config: &Config) -> Option<(String, String)> {
    let listens = now.gateway.clone()?;
    let listen = listen_of(world, config).map(|listen| listen.to_string());
    let plain = listen.map(|listen| (listens, listen));
    let https = tls_of(world, config).map(|tls| tls.listen.to_string());
    let https = (shown(now.gateway_tls.as_deref()), shown(https.as_deref()));
    let both = plain.into_iter().chain([https]);
    let (has, wanted): (Vec<_>, Vec<_>) = both.filter(|(has, wanted)| has != wanted).unzip();
    (!has.is_empty()).then(|| (has.join(" and "), wanted.join(" and ")))
}

/// The listeners belong to the gateway's shim, and cannot be others without closing those there are.
pub(super) fn keeps_address(
    world: &World,
    now: &Environment,
    config: &Config,
) -> Result<(), Refusal> {
    let Some((has, wanted)) = other_address(world, now, config) else {
        return Ok(());
    };
    let environment = &world.environment;
    let text = format!("the gateway has {has}, and the manifest wants {wanted}");
    let listens = now.gateway.as_deref().unwrap_or_default();
    let diagnostic = Diagnostic::error("gateway::other-address", text)
        .note(format!(
            "it listens on {listens} and goes on; nothing was touched"
        ))
        .help(format!(
            "an address changes with a new gateway only: take the environment down with `tow down -e {environment}`, and bring it in again"
        ));
    Err(Refusal::Refused(diagnostic))
}

/// What stays at the gateway when `version` wants something else than it has.
pub(super) fn kept_address(world: &World, now: &Environment, version: &Version) -> Option<String> {
    let config = version.config(&world.environment).ok()?;
    let (has, wanted) = other_address(world, now, &config)?;
    Some(format!(
        "the gateway keeps {has}, though that release wants {wanted}"
    ))
}

/// From now on the gateway is kept running; a second call changes nothing.
pub fn tend_gateway(world: &World, listen: &str, listen_tls: Option<&str>) {
    world.supervisor.tend(process(world, listen, listen_tls));
}

async fn answers(world: &World) -> Result<(), Diagnostic> {
    let deadline = Instant::now() + Duration::from_secs(10);
    // One that hangs takes connections and says nothing.
    while !is_heard(&Client::new(socket(world, &world.version))).await {
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

async fn is_heard(client: &Client) -> bool {
    let asked = timeout(Duration::from_secs(5), client.state()).await;
    asked.is_ok_and(|state| state.is_ok())
}

/// The gateway's control, once it answers: it may be on its way up again.
pub(super) async fn client(world: &World) -> Result<Client, Diagnostic> {
    answers(world).await?;
    Ok(Client::new(socket(world, &world.version)))
}

/// The control of the gateway of this build, whether it answers or not.
#[must_use]
pub fn gateway_client(world: &World) -> Client {
    Client::new(socket(world, &world.version))
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
pub async fn adopt_gateway(
    world: &World,
    listen: &str,
    listen_tls: Option<&str>,
) -> Result<(), Diagnostic> {
    let id = InstanceId(GATEWAY.to_owned());
    let own = socket(world, &world.version);
    let others = other_sockets(world, &own);
    if world.supervisor.status(&id).await.is_some()
        && Client::new(own.clone()).state().await.is_err()
    {
        let replaced = !others.is_empty() && any_answers(&others).await;
        if replaced {
            let argv = argv(world, listen_tls.is_some());
            let started = world.supervisor.replace(&id, argv).await;
            started
                .map_err(|error| Diagnostic::error("gateway::not-replaced", error.to_string()))?;
        }
    }
    launch_gateway(world, listen, listen_tls).await?;
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

/// The load of a rehearsal comes from one address, and has to see what is written.
fn unruly(table: &mut Table) {
    table.front.edge.limit = None;
    for route in &mut table.routes {
        (route.limit, route.cache) = (None, None);
    }
}

/// The table that sends requests to a version, with what is set before all of them.
///
/// # Errors
/// When its manifest cannot be read.
pub(super) fn table_of(world: &World, version: &Version) -> Result<Table, Diagnostic> {
    let config = version.config(&world.environment)?;
    let mut table = version.table(&config);
    // A release that was gone back to may want another address than the gateway listens on: nobody
    // is sent where nothing listens.
    let has = world.environment()?.gateway_tls;
    let has = has.and_then(|listen| listen.parse::<SocketAddr>().ok());
    let maintenance = maintenance::front(world, Some(&config));
    table.front = Front {
        https: has
            .filter(|_| tls_of(world, &config).is_some())
            .map(|has| has.port()),
        trust: config.trust.clone(),
        edge: config.edge.map(|edge| edge.rules).unwrap_or_default(),
        maintenance,
        own: OwnPaths {
            live: config.health.live.clone(),
            ready: config.health.ready.clone(),
        },
    };
    if world.rehearsal {
        unruly(&mut table);
    }
    Ok(table)
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
    let table = table_of(world, live)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    const MANIFEST: &str = r#"
app = "notes"
services.web = { run = "serve", routes = [{ path = "/", limit = "5 in 1m", cache = "1m" }] }
edge = { limit = "1000 in 15m", headers = { csp = "default-src *" } }
"#;

    #[test]
    fn a_rehearsal_is_told_of_the_rules_that_do_not_stand_in_its_way() {
        let manifest = Manifest::parse("tow.toml", MANIFEST).unwrap();
        let config = crate::config::resolve(&manifest, "local").unwrap();
        let version = Version {
            run: crate::id::RunId(1),
            release: None,
            root: PathBuf::new(),
            dev: true,
            manifest: MANIFEST.to_owned(),
            instances: Vec::new(),
            seed: None,
            images: std::collections::BTreeMap::new(),
            purpose: crate::config::Purpose::Real,
        };
        let mut table = version.table(&config);
        table.front.edge = config.edge.unwrap().rules;
        assert!(table.routes[0].limit.is_some() && table.routes[0].cache.is_some());
        assert!(table.front.edge.limit.is_some());
        unruly(&mut table);
        assert!(table.routes[0].limit.is_none() && table.routes[0].cache.is_none());
        assert!(table.front.edge.limit.is_none());
        assert!(
            table
                .front
                .edge
                .headers
                .contains_key("content-security-policy")
        );
    }
}
