//! Starting, finding again and stopping the server of a resource.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use towpath_shim::protocol::{Policy, Restart, Stop, User};

use super::cluster;
use super::{Result, engine, instance, kept, owner, unreadable};
use crate::config::{self, Probe, Resource};
use crate::diagnostic::Diagnostic;
use crate::release::World;
use crate::resource::kept::{Engine, Kept, Password};
use crate::resource::postgres::cluster::{self as server_files, Files};
use crate::resource::postgres::{roles, said};
use crate::resource::{Command, kept as store, redis};
use crate::supervise::{NotReady, Process, free_port};

/// From its start until it answers; a server that was killed reads its log first.
const COMES_UP: Duration = Duration::from_secs(120);

/// How long an agent that starts waits for the servers that it starts.
const RESUMES: Duration = Duration::from_secs(20);

/// From the request to end to SIGKILL: it writes everything out.
const GRACE_MS: u64 = 90_000;

/// Whether this machine has what the resource wants, and nothing stands against providing it. Blocking.
pub(in crate::release) fn check(world: &World, name: &str, resource: &Resource) -> Result<()> {
    let Some(engine) = engine(resource.kind) else {
        return Ok(());
    };
    let before = store::read(&world.state(), name)
        .map_err(|error| unreadable(&world.state(), name, &error))?;
    if let Some(before) = before.as_ref().filter(|before| before.engine != engine) {
        return Err(other(name, &before.engine.to_string(), &engine.to_string()));
    }
    if let (Some(before), Some(wanted)) = (&before, resource.version)
        && before.version != wanted
    {
        let said = |version| format!("{engine} {version}");
        return Err(other(name, &said(before.version), &said(wanted)));
    }
    match engine {
        Engine::Postgres => {
            let wanted = before.map(|before| before.version).or(resource.version);
            cluster::binaries(name, wanted).map(drop)
        }
        Engine::Redis => program(name).map(drop),
    }
}

fn other(name: &str, is: &str, wanted: &str) -> Diagnostic {
    Diagnostic::error(
        "resource::other",
        format!("`{name}` is {is} here, and the manifest wants {wanted}"),
    )
    .note("nothing was touched; its data stays as it is")
    .help(format!(
        "leave it as it is, or give what is new another name than `{name}` and carry the data over"
    ))
}

/// The server's program, as it is called for installing, and which of it this machine has; `None` for what has no
/// server. Blocking.
pub(in crate::release) fn installed(
    name: &str,
    resource: &Resource,
    version: Option<u32>,
) -> Option<(String, Result<String>)> {
    Some(match engine(resource.kind)? {
        Engine::Postgres => {
            let program =
                version.map_or("postgres".to_owned(), |major| format!("postgres-{major}"));
            let found = cluster::binaries(name, version);
            let text = found
                .map(|found| format!("PostgreSQL {}, {}", found.version, found.folder.display()));
            (program, text)
        }
        Engine::Redis => {
            let text = program(name)
                .map(|found| format!("Redis {}, {}", found.version, found.path.display()));
            ("redis-server".to_owned(), text)
        }
    })
}

/// The port that the resource keeps, or one that nobody has.
pub(in crate::release) fn port(
    world: &World,
    name: &str,
    start: u64,
    taken: &BTreeSet<u16>,
) -> Result<u16> {
    let before = store::read(&world.state(), name)
        .map_err(|error| unreadable(&world.state(), name, &error))?;
    if let Some(before) = before {
        return Ok(before.port);
    }
    free_port(start, taken).ok_or_else(|| {
        Diagnostic::error(
            "supervise::no-port",
            "every port from 20000 to 31999 is taken",
        )
    })
}

/// Has the server running and the application's role and database in it; as often as one likes.
pub(in crate::release) async fn provide(
    world: &World,
    name: &str,
    resource: &Resource,
    port: u16,
) -> Result<Value> {
    let kept = keep(world, name, resource, port)?;
    let process = start(world, name, &kept).await?;
    ready(world, name, &kept, &process, COMES_UP).await?;
    Ok(json!({ "port": kept.port, "version": kept.version }))
}

/// What is kept of it, or is from now on.
fn keep(world: &World, name: &str, resource: &Resource, port: u16) -> Result<Kept> {
    let state = world.state();
    if let Some(before) =
        store::read(&state, name).map_err(|error| unreadable(&state, name, &error))?
    {
        return Ok(before);
    }
    let engine = engine(resource.kind).unwrap_or(Engine::Postgres);
    let version = match engine {
        Engine::Postgres => cluster::binaries(name, resource.version)?.major,
        Engine::Redis => program(name)?.major,
    };
    let user = owner::user(world);
    let password = || Password::random().map_err(|error| io(name, &error));
    let kept = Kept {
        engine,
        version,
        port,
        name: role(world),
        login: None,
        password: password()?,
        previous: None,
        back: false,
        set: world.store.clock().wall_ms() / 1000,
        admin: password()?,
        uid: user.map(|user| user.uid),
        home: owner::home(&state, name, user),
    };
    cluster::none_there(name, &kept)?;
    owner::make_way(&store::path(&state, name)).map_err(|error| io(name, &error))?;
    store::write(&state, name, &kept).map_err(|error| io(name, &error))?;
    Ok(kept)
}

/// No two environments have the same, also where somebody connects to the wrong one of two.
fn role(world: &World) -> String {
    let name = format!("{}_{}", world.app, world.environment).replace('-', "_");
    name.chars().take(63).collect()
}

pub(super) fn io(name: &str, error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        "resource::failed",
        format!("`{name}` could not be provided: {error}"),
    )
    .help("see that there is room on the disk, and that its folders are the agent's")
}

fn program(name: &str) -> Result<redis::Program> {
    redis::find().ok_or_else(|| {
        let text = format!("`{name}` is Redis, and this machine has no `redis-server`");
        Diagnostic::error("resource::missing", text)
            .note("nothing was touched")
            .help(
                "install it: `apt-get install redis-server`, or give `url` for one that is elsewhere",
            )
    })
}

/// Makes its data where there is none, and starts it where it does not run.
async fn start(world: &World, name: &str, kept: &Kept) -> Result<Process> {
    if kept.engine == Engine::Postgres {
        cluster::make(world, name, kept).await?;
    }
    let process = process(name, kept)?;
    prepare(world, name, kept)?;
    let launched = world.supervisor.launch(&process).await;
    launched.map_err(|error| io(name, &error))?;
    world.supervisor.tend(process.clone());
    Ok(process)
}

/// Writes what the server is told. One that runs reads it when it is started again.
fn prepare(world: &World, name: &str, kept: &Kept) -> Result<()> {
    let failed = |error: std::io::Error| io(name, &error);
    let folder = store::folder(&world.state());
    match kept.engine {
        Engine::Postgres => {
            let folder = kept.home.parent().unwrap_or(&folder);
            let files = Files::of(folder, name);
            let title = format!("{}/{}", world.app, world.environment);
            let settings = server_files::settings(kept, &files, &title);
            let access = server_files::access();
            store::write_private(&files.config, settings.as_bytes(), 0o644).map_err(failed)?;
            store::write_private(&files.access, access.as_bytes(), 0o644).map_err(failed)?;
            let lock = server_files::lock(&kept.home);
            world.supervisor.unlock(&instance(name), lock);
            Ok(())
        }
        Engine::Redis => {
            owner::make_way(&kept.home).map_err(failed)?;
            cluster::make_home(&kept.home, user(kept)).map_err(failed)?;
            let config = redis_config(kept);
            store::write_private(&config, redis::settings(kept).as_bytes(), 0o600)
                .map_err(failed)?;
            match user(kept) {
                Some(user) => std::os::unix::fs::lchown(&config, Some(user.uid), Some(user.gid))
                    .map_err(failed),
                None => Ok(()),
            }
        }
    }
}

/// Beside its folder: what is in that is the server's to change.
fn redis_config(kept: &Kept) -> std::path::PathBuf {
    kept.home.with_extension("conf")
}

fn user(kept: &Kept) -> Option<User> {
    kept.uid.map(|uid| User { uid, gid: uid })
}

fn process(name: &str, kept: &Kept) -> Result<Process> {
    let command = match kept.engine {
        Engine::Postgres => {
            let binaries = cluster::binaries(name, Some(kept.version))?;
            let folder = kept.home.parent().unwrap_or(&kept.home);
            server_files::run(&binaries, kept, &Files::of(folder, name))
        }
        Engine::Redis => redis::run(&program(name)?, kept, &redis_config(kept)),
    };
    let Command { argv, env, cwd } = command;
    Ok(Process {
        id: instance(name),
        service: name.to_owned(),
        argv,
        env,
        cwd,
        user: user(kept),
        listen: Vec::new(),
        port: Some(kept.port),
        // Everything else depends on it: it is tried for ever, and never given up.
        restart: Restart {
            policy: Policy::Always,
            backoff_ms: 100,
            backoff_max_ms: 2_000,
            limit: u32::MAX,
            within_ms: 60_000,
        },
        stop: Stop {
            signal: match kept.engine {
                // Sessions are ended, and everything is written out: PostgreSQL's `fast`.
                Engine::Postgres => 2,
                Engine::Redis => 15,
            },
            grace_ms: GRACE_MS,
        },
        log: (8 << 20, 4),
        secrets: Vec::new(),
        container: None,
        ready: Some(config::Ready {
            probe: Probe::Tcp,
            passes: 1,
            within: COMES_UP,
            every: Duration::from_millis(25),
            timeout: Duration::from_secs(2),
        }),
        alive: Some(config::Alive {
            probe: Probe::Tcp,
            passes: 1,
            failures: 3,
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
        }),
    })
}

/// Waits until the server listens on its port, itself, and then until it answers.
async fn ready(
    world: &World,
    name: &str,
    kept: &Kept,
    process: &Process,
    limit: Duration,
) -> Result<()> {
    let mut process = process.clone();
    if let Some(ready) = &mut process.ready {
        ready.within = limit;
    }
    let deadline = Instant::now() + limit;
    let listens = world.supervisor.ready(&process).await;
    listens.map_err(|why| not_ready(world, name, kept, &why))?;
    if kept.engine == Engine::Redis {
        return Ok(());
    }
    loop {
        let asked = kept.clone();
        let answer = tokio::task::spawn_blocking(move || {
            roles::provide(&asked).map_err(|error| (roles::is_coming(&error), said(&error)))
        });
        match answer.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err((true, _))) if Instant::now() < deadline => {
                sleep(Duration::from_millis(50)).await;
            }
            Ok(Err((_, error))) => return Err(refuses(world, name, &error)),
            Err(_) => return Err(io(name, &"it panicked; this is a bug")),
        }
    }
}

fn refuses(world: &World, name: &str, error: &str) -> Diagnostic {
    Diagnostic::error(
        "resource::refused",
        format!("`{name}` runs and does not serve: {error}"),
    )
    .note("its data stays as it is")
    .help(format!("see `tow logs {name} -e {}`", world.environment))
}

fn not_ready(world: &World, name: &str, kept: &Kept, why: &NotReady) -> Diagnostic {
    let port = kept.port;
    let text = match (&why.taken_by, &why.exit) {
        (Some(holder), _) => format!("port {port} of `{name}` is taken by {holder}"),
        (None, Some(exit)) => format!(
            "{} of `{name}` {}",
            kept.engine,
            crate::release::trouble::ending(Some(exit))
        ),
        (None, None) => format!(
            "{} of `{name}` did not listen within {} s",
            kept.engine,
            why.waited.as_secs()
        ),
    };
    let code = match why.taken_by {
        Some(_) => "resource::port-taken",
        None => "resource::not-ready",
    };
    let mut diagnostic = Diagnostic::error(code, text);
    if !why.tail.is_empty() {
        diagnostic = diagnostic.note(format!("its last lines:\n{}", why.tail.join("\n")));
    }
    diagnostic
        .note("its data stays as it is")
        .help(match why.taken_by {
            Some(_) => {
                format!("end what listens there; `{name}` keeps its port, which services were told")
            }
            None => format!("run `tow logs {name} -e {}`", world.environment),
        })
}

/// Stops the server; its data stays, and what is kept of it.
pub(in crate::release) async fn stop(world: &World, name: &str) -> Result<()> {
    let stopped = world.supervisor.stop(&instance(name), None).await;
    stopped.map_err(|error| {
        Diagnostic::error(
            "resource::failed",
            format!("`{name}` could not be stopped: {error}"),
        )
    })
}

/// Has the servers of these resources running again, as a starting agent finds them wanted, and waits a while until
/// they answer: who needs them would otherwise be started in vain, and given up.
///
/// # Errors
/// What stands against it, a resource each; the others are started all the same.
pub async fn resume(world: &World, names: &BTreeSet<String>) -> Vec<Diagnostic> {
    let deadline = Instant::now() + RESUMES;
    let (mut troubles, mut started) = (Vec::new(), Vec::new());
    for name in names {
        let found = kept(&world.state(), name);
        match found {
            Ok(kept) => match start(world, name, &kept).await {
                Ok(process) => started.push((name, kept, process)),
                Err(trouble) => troubles.push(trouble),
            },
            Err(trouble) => troubles.push(trouble),
        }
    }
    for (name, kept, process) in started {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(trouble) = ready(world, name, &kept, &process, left).await {
            troubles.push(trouble);
        }
    }
    troubles
}
