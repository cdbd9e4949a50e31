//! The agent: one a state directory. It supervises services, runs deployments and owns the state;
//! commands talk to it over HTTP and JSON on a unix socket, and may go away at any time.
//!
//! On start it takes the state's lock, adopts what runs by talking to the shims that are there,
//! stops what no version of the journal knows, takes over or replaces the gateway, and goes on
//! with the run that a crash cut off.

mod access;
mod adopt;
mod answer;
pub mod api;
mod blobs;
mod caller;
mod carry;
mod certificates;
mod client;
pub mod dial;
mod doctor;
mod health;
mod http;
mod jobs;
mod logins;
mod logs;
mod maintenance;
mod metrics;
mod passing;
mod patience;
mod releases;
pub mod routes;
mod runs;
mod secrets;
mod status;
mod turn;
mod user;

use std::fmt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use access::GROUP;
pub use carry::Progress;
pub use client::{Client, Error as ClientError, Lines, Linked};
pub use doctor::doctor;

use crate::clock::Clock;
use crate::diagnostic::Diagnostic;
use crate::release::{SigningKey, World, home};
use crate::secret::keep::Keeper;
use crate::state::{self, Blobs, Store};
use crate::supervise::{Places, Supervisor, reap_inherited};
use access::Access;
use caller::Caller;
use runs::Runs;

/// Longest wait for answers under way when an agent ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Parts of blobs that nobody has gone on with for so long are removed, milliseconds.
const FORGOTTEN_MS: i64 = 24 * 3_600_000;

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the application.
    pub app: String,
    /// Name of the environment.
    pub environment: String,
    /// The state directory.
    pub state: PathBuf,
    /// The program that shims and gateways are started from.
    pub tow: PathBuf,
    /// The build of that program.
    pub version: String,
    /// Whether planted faults are accepted.
    pub rehearsal: bool,
    /// For a rehearsal on a server: how long it outlives what it hears last. It takes everything
    /// with it then.
    pub lasts: Option<Duration>,
}

/// Why an agent ended.
#[derive(Debug)]
pub enum Error {
    /// The state could not be opened.
    State(state::Error),
    /// From the file system.
    Io(PathBuf, std::io::Error),
    /// The journal cannot be folded, or a version of it not be read.
    Journal(Diagnostic),
    /// Services run as a user of their own, which cannot pass through this folder.
    Closed(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::State(error) => write!(f, "{error}"),
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Journal(diagnostic) => f.write_str(&diagnostic.render(false)),
            Error::Closed(path) => write!(
                f,
                "services run as a user of their own, which cannot pass through `{}`: keep the state elsewhere",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

/// How a served agent ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was told to; services go on running.
    Exit,
    /// It is to become this program, in the same process.
    Become(PathBuf),
}

/// One environment being served.
pub(crate) struct Agent {
    world: Arc<World>,
    runs: Arc<Runs>,
    heard: passing::Heard,
    monitor: Arc<health::Monitor>,
    /// Whether its state goes with it.
    passes: bool,
    end: Mutex<Option<End>>,
    ends: Notify,
}

/// Whether there is an environment in the state directory `state`, running or not.
#[must_use]
pub fn exists(state: &Path) -> bool {
    // Also one that has lost its journal: that is to be told, and not to be taken for nothing.
    state.join("run").is_dir() || state.join("state.db").exists()
}

/// The process that says it holds the state directory `state`, and is an agent.
#[must_use]
pub fn holder(state: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(state.join("agent.lock")).ok()?;
    let pid: u32 = text.split_whitespace().next()?.parse().ok()?;
    // The number may by now be another's.
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let is_agent = line.split(|byte| *byte == 0).nth(1) == Some(b"agent");
    is_agent.then_some(pid)
}

/// The agent's socket, for the state directory `state`.
#[must_use]
pub fn socket(state: &Path) -> PathBuf {
    Places::runtime_of(state).join("agent.sock")
}

/// Its socket for keys that may only deploy.
fn narrow(socket: &Path) -> PathBuf {
    socket.with_file_name("deploy.sock")
}

/// Serves one environment until it is told to end.
///
/// # Errors
/// When the state is taken, or cannot be read or written.
pub async fn serve(options: Options) -> Result<End, Error> {
    reap_inherited();
    let runtime = Places::runtime_of(&options.state);
    let (lasts, passes) = (options.lasts, options.lasts.is_some());
    let access = Access::of_this_machine();
    let store = Store::open(&options.state, Clock::system()).map_err(Error::State)?;
    // With the lease only: the agent before removes the runtime folder when it finds it empty.
    make_dirs(&options.state, &runtime, access)?;
    let agent = Arc::new(open(options, store, runtime.clone())?);
    adopt::adopt(&agent.world).await.map_err(Error::Journal)?;
    let path = runtime.join("agent.sock");
    let bound = |path: &Path| bind(path, access).map_err(|error| Error::Io(path.to_owned(), error));
    let listeners = (bound(&path)?, bound(&narrow(&path))?);
    agent.runs.go_on(&agent.world);
    tokio::spawn(runs::close_windows(agent.world.clone(), agent.runs.clone()));
    tokio::spawn(runs::keep_tables(agent.world.clone()));
    tokio::spawn(certificates::keep(agent.world.clone()));
    tokio::spawn(health::keep(agent.world.clone(), agent.monitor.clone()));
    tokio::spawn(metrics::keep(agent.world.clone(), agent.monitor.clone()));
    let jobs = jobs::Jobs::new(agent.world.clone());
    tokio::spawn(jobs.keep(agent.runs.clone()));
    if let Some(lasts) = lasts {
        tokio::spawn(passing::watch(agent.clone(), lasts));
    }
    let end = accept(&agent, listeners, access).await;
    for path in [&path, &narrow(&path)] {
        let _ = std::fs::remove_file(path);
    }
    // Not where anything still runs: the sockets of shims are in it.
    let _ = std::fs::remove_dir(&runtime);
    if passes {
        passing::remove(&agent.world.state()).await;
    }
    Ok(end)
}

fn open(options: Options, store: Store, runtime: PathBuf) -> Result<Agent, Error> {
    let state = options.state;
    let key =
        SigningKey::open(&state).map_err(|error| Error::Io(state.join("signing.key"), error))?;
    // Made now, so that it can be told who is to read what this environment's services need.
    Keeper::new(&state)
        .identity()
        .map_err(|error| Error::Io(state.join("secret.key"), std::io::Error::other(error)))?;
    let user =
        user::user(&options.environment, &state).map_err(|user::Closed(dir)| Error::Closed(dir))?;
    if let Some(user) = user {
        for dir in [state.join("data"), state.join("cache"), home(&state)] {
            make_dir(&dir, 0o700)
                .and_then(|()| lchown(&dir, Some(user.uid), Some(user.gid)))
                .map_err(|error| Error::Io(dir, error))?;
        }
    }
    let places = Places {
        state: state.clone(),
        runtime,
        tow: options.tow,
    };
    let blobs = Blobs::new(&state, Clock::system());
    blobs.tidy();
    blobs.forget_parts(store.clock().wall_ms(), FORGOTTEN_MS);
    let world = World {
        app: options.app,
        environment: options.environment,
        supervisor: Supervisor::new(places),
        blobs,
        store,
        key,
        user,
        version: options.version,
        rehearsal: options.rehearsal,
        folded: Mutex::default(),
    };
    Ok(Agent {
        world: Arc::new(world),
        runs: Arc::default(),
        heard: passing::Heard::default(),
        monitor: Arc::default(),
        passes: options.lasts.is_some(),
        end: Mutex::default(),
        ends: Notify::new(),
    })
}

/// Services may pass through to their builds, and nobody looks around: databases, backups, logs
/// and the environments of instances are for the agent, and for whom they belong to.
fn make_dirs(state: &Path, runtime: &Path, access: Access) -> Result<(), Error> {
    let private = [
        "data",
        "backups",
        "blobs",
        "run",
        "logs",
        "certificates",
        "acme",
    ]
    .map(|name| (state.join(name), 0o700));
    let open = [
        (state.to_owned(), 0o711),
        (state.join("builds"), 0o711),
        (runtime.to_owned(), access.modes().0),
    ];
    for (dir, mode) in open.into_iter().chain(private) {
        make_dir(&dir, mode).map_err(|error| Error::Io(dir, error))?;
    }
    let given = access.give(runtime);
    given.map_err(|error| Error::Io(runtime.to_owned(), error))
}

fn make_dir(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Bound beside and renamed, so that nobody connects before its mode is right.
fn bind(path: &Path, access: Access) -> std::io::Result<UnixListener> {
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    let mode = access.modes().1;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
    access.give(&beside)?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// The second listener is for keys.
async fn accept(
    agent: &Arc<Agent>,
    listeners: (UnixListener, UnixListener),
    access: Access,
) -> End {
    let mut talks = JoinSet::new();
    let end = loop {
        let end = agent
            .end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(end) = end {
            break end;
        }
        tokio::select! {
            () = agent.ends.notified() => {}
            Ok((stream, _)) = listeners.0.accept() => {
                talks.spawn(converse(agent.clone(), stream, access, false));
            }
            Ok((stream, _)) = listeners.1.accept() => {
                talks.spawn(converse(agent.clone(), stream, access, true));
            }
            Some(_) = talks.join_next() => {}
        }
    };
    if agent.passes && end == End::Exit {
        passing::set_aside(&agent.world);
    }
    // Who comes now is to find nobody, rather than to wait.
    drop(listeners);
    // Who told it to end is still to hear that it does; who follows a log is not waited for.
    let _ = timeout(LAST_WORDS, async {
        while talks.join_next().await.is_some() {}
    })
    .await;
    end
}

/// Whoever has no business here hears nothing.
async fn converse(agent: Arc<Agent>, mut stream: UnixStream, access: Access, is_key: bool) {
    let Ok(peer) = stream.peer_cred() else { return };
    let Some(caller) = access.caller(peer.uid()) else {
        return;
    };
    let caller = match is_key {
        true => Caller::hear(&mut stream).await,
        false => Some(caller),
    };
    let Some(caller) = caller else { return };
    let service = service_fn(move |request| http::answer(agent.clone(), caller.clone(), request));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Agent {
    fn end(&self, end: End) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        // The permit is kept when nobody waits at this moment.
        self.ends.notify_one();
    }
}
