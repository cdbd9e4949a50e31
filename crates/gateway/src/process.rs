//! The process: what it is given, its threads, and its end.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::{Drained, Retire};
use crate::connection::Connections;
use crate::desk::Desk;
use crate::front::Front;
use crate::hold::Keeper;
use crate::keyring::Keyring;
use crate::listen;
use crate::metrics::Metrics;
use crate::readiness::Last;
use crate::store::{Found, Store};
use crate::table::Table;
use crate::traffic::{Gate, Traffic};
use crate::worker::{Phase, Worker};

/// Most requests a hold keeps waiting.
const WAITING: usize = 10_000;
/// Time to finish after SIGTERM, milliseconds.
const TERMINATE_MS: u64 = 10_000;
/// How long a retiring gateway leaves idle connections open, so that their next request gets an answer.
const LINGER: Duration = Duration::from_secs(2);
/// Time for the last answers to leave.
const LAST: Duration = Duration::from_secs(1);

/// What a gateway is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Path of the control socket, at most 105 bytes.
    pub socket: PathBuf,
    /// Path of the state file; files beside it carry its name and a suffix.
    pub state: PathBuf,
    /// The build, as shown in the state.
    pub version: String,
    /// Threads that serve; 0 for one a core.
    pub threads: usize,
    /// Where TLS is spoken, and with what.
    pub secure: Option<Secure>,
}

/// TLS.
#[derive(Debug, Clone)]
pub struct Secure {
    /// Folder of certificates: `HOST.pem`, chain and key. See [`crate::certificate::write`].
    pub certificates: PathBuf,
    /// So many of the passed listeners, the last ones, speak TLS.
    pub listeners: usize,
}

/// How long a client is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time a client may take none of what there is for it, on its connection or on a stream of HTTP/2.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
        }
    }
}

/// Why a gateway did not start, or broke.
#[derive(Debug)]
pub enum Error {
    /// No listeners were passed: `LISTEN_FDS` is absent, or meant for another process.
    NoListeners,
    /// What was passed is no listener.
    Listener(io::Error),
    /// The state file cannot be read. (A broken one is no error.)
    State(PathBuf, io::Error),
    /// The control socket cannot be bound.
    Socket(PathBuf, io::Error),
    /// A thread or its runtime could not be made.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoListeners => f.write_str("no listeners were passed"),
            Self::Listener(error) => write!(f, "passed listener: {error}"),
            Self::State(path, error) => write!(f, "state {}: {error}", path.display()),
            Self::Socket(path, error) => write!(f, "control socket {}: {error}", path.display()),
            Self::Thread(error) => write!(f, "thread: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Be a gateway. Returns after it was retired, or after SIGTERM.
///
/// # Errors
/// When it cannot start; nothing was served then.
pub fn run(options: Options) -> Result<(), Error> {
    run_within(options, Limits::default())
}

/// Be a gateway with limits of one's own.
///
/// # Errors
/// As [`run`].
pub fn run_within(options: Options, limits: Limits) -> Result<(), Error> {
    let listeners = listen::inherited().map_err(Error::Listener)?;
    if listeners.is_empty() {
        return Err(Error::NoListeners);
    }
    let descriptors = listen::descriptors();
    let (store, found) =
        Store::open(&options.state).map_err(|error| Error::State(options.state.clone(), error))?;
    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(Error::Thread)?;
    let desk = runtime.block_on(async { Desk::bind(&options.socket) });
    let desk = desk.map_err(|error| Error::Socket(options.socket.clone(), error))?;
    let plain = listeners.len() - secure_of(&options, listeners.len())?;
    let folder = options.secure.map(|secure| secure.certificates);
    let last = Last::beside(&options.state);
    let crew = Crew {
        front: Arc::new(Front::new(Keyring::open(folder), last.heard())),
        plain,
        traffic: Arc::new(begin(found, threads, WAITING.min(descriptors / 4))),
        metrics: (0..threads).map(|_| Arc::default()).collect(),
        // A client's connection may need one to an instance.
        connections: Connections::new(descriptors.saturating_sub(64) / 2),
        limits,
        phase: watch::Sender::new(Phase::Serving),
    };
    let workers = crew.start(listeners).map_err(Error::Thread)?;
    let ended = runtime.block_on(live(desk, crew, options.version, store, last));
    ended.map_err(Error::Thread)?;
    workers
        .into_iter()
        .try_for_each(|worker| worker.join().unwrap_or(Ok(())))
        .map_err(Error::Thread)
}

/// How many listeners speak TLS.
fn secure_of(options: &Options, listeners: usize) -> Result<usize, Error> {
    let secure = options.secure.as_ref().map_or(0, |secure| secure.listeners);
    match secure > listeners {
        true => Err(Error::NoListeners),
        false => Ok(secure),
    }
}

/// What the threads share.
struct Crew {
    front: Arc<Front>,
    /// So many listeners, the first ones, do not speak TLS.
    plain: usize,
    traffic: Arc<Traffic>,
    /// One a thread.
    metrics: Vec<Arc<Metrics>>,
    connections: Arc<Connections>,
    limits: Limits,
    phase: watch::Sender<Phase>,
}

impl Crew {
    fn start(&self, listeners: Vec<TcpListener>) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
        let start = |(shard, metrics): (usize, &Arc<Metrics>)| {
            let worker = Worker {
                shard,
                listeners: listeners
                    .iter()
                    .map(TcpListener::try_clone)
                    .collect::<io::Result<_>>()?,
                plain: self.plain,
                front: Arc::clone(&self.front),
                traffic: Arc::clone(&self.traffic),
                metrics: Arc::clone(metrics),
                connections: Arc::clone(&self.connections),
                limits: self.limits,
                phase: self.phase.subscribe(),
            };
            thread::Builder::new()
                .name(format!("gateway-{shard}"))
                .spawn(move || worker.run())
        };
        self.metrics.iter().enumerate().map(start).collect()
    }
}

/// The state to begin with. A table that was good once is good still.
fn begin(found: Found, threads: usize, waiting: usize) -> Traffic {
    let kept = match found {
        Found::Nothing => None,
        Found::State(kept) => Table::new(kept.table, None)
            .ok()
            .map(|table| (kept.epoch, kept.label, table, kept.closed)),
        Found::Broken => Some((0, "state lost".to_owned(), Table::empty(), true)),
    };
    let (epoch, label, table, closed) = kept.unwrap_or((0, String::new(), Table::empty(), false));
    let gate = if closed { Gate::Closed } else { Gate::Open };
    Traffic::new(epoch, label, table, gate, threads, waiting)
}

async fn live(desk: Desk, crew: Crew, version: String, store: Store, last: Last) -> io::Result<()> {
    let Crew {
        front,
        plain: _,
        traffic,
        metrics,
        connections,
        limits: _,
        phase,
    } = crew;
    let keeper = Keeper::new(traffic, front, metrics, version, store, last);
    let life = Rc::new(Life {
        phase,
        connections,
        over: watch::Sender::new(false),
        talks: watch::Sender::new(0),
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        life.retire(
            &keeper,
            &Retire {
                timeout_ms: TERMINATE_MS,
            },
        )
        .await;
        life.end();
    };
    tokio::select! {
        () = desk.serve(Rc::clone(&keeper), Rc::clone(&life)) => {}
        () = async { stop.await; std::future::pending().await } => {}
    }
    life.last_words().await;
    Ok(())
}

/// The way from serving to the end.
pub(crate) struct Life {
    phase: watch::Sender<Phase>,
    connections: Arc<Connections>,
    over: watch::Sender<bool>,
    /// Open connections of the control socket.
    talks: watch::Sender<usize>,
}

impl Life {
    /// Becomes true when the process is to end.
    pub(crate) fn over(&self) -> watch::Receiver<bool> {
        self.over.subscribe()
    }

    /// A control connection begins; it ends when this is dropped.
    pub(crate) fn talk(self: &Rc<Self>) -> Talk {
        self.talks.send_modify(|talks| *talks += 1);
        Talk(Rc::clone(self))
    }

    /// Stop accepting, finish what is under way, close what remains at the deadline.
    pub(crate) async fn retire(&self, keeper: &Keeper, retire: &Retire) -> Drained {
        let deadline = Instant::now() + Duration::from_millis(retire.timeout_ms);
        keeper.retire();
        self.advance(Phase::Lingering);
        let linger = LINGER.min(Duration::from_millis(retire.timeout_ms / 2));
        let mut streams_closed = 0;
        if tokio::time::timeout(linger, self.connections.emptied())
            .await
            .is_err()
        {
            self.advance(Phase::Closing);
            if tokio::time::timeout_at(deadline, self.connections.emptied())
                .await
                .is_err()
            {
                streams_closed = keeper.close_all_streams().await;
                let _ = tokio::time::timeout(LAST, self.connections.emptied()).await;
            }
        }
        Drained {
            requests: keeper.requests(),
            streams_closed,
        }
    }

    /// The process may end.
    pub(crate) fn end(&self) {
        self.advance(Phase::Ended);
        self.over.send_replace(true);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = *phase < to;
            *phase = to.max(*phase);
            forward
        });
    }

    async fn last_words(&self) {
        let mut talks = self.talks.subscribe();
        let _ = tokio::time::timeout(LAST, talks.wait_for(|talks| *talks == 0)).await;
    }
}

/// An open control connection.
pub(crate) struct Talk(Rc<Life>);

impl Drop for Talk {
    fn drop(&mut self) {
        self.0.talks.send_modify(|talks| *talks -= 1);
    }
}
