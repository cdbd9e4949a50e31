//! The process: starts, serves or rolls up, and ends when it is told to.
//!
//! On SIGTERM no more connections are taken, requests under way are answered, long polls are answered at once, and
//! WebSockets are closed with 1012 so that their clients come back to another instance.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::account;
use crate::api::{self, App};
use crate::db::{Db, DbError, Source};
use crate::live::Live;
use crate::settings::Settings;
use crate::version::VERSION;
use crate::worker::{self, Ended};

/// Time that requests under way get to end; only a client that does not send its request whole takes longer.
const DRAIN: Duration = Duration::from_secs(25);
/// Time between two attempts to create the first user while the schema is not there.
const RETRY: Duration = Duration::from_millis(250);

/// Why the process cannot serve.
#[derive(Debug)]
pub enum ServerError {
    /// The runtime or a signal handler could not be set up.
    Start(io::Error),
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// Serving ended by itself.
    Serve(io::Error),
    /// The worker cannot go on.
    Work(DbError),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cannot start: {error}"),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Serve(error) => write!(f, "cannot serve: {error}"),
            Self::Work(error) => write!(f, "cannot roll up: {error}"),
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting; once it serves, only a failing listener.
pub fn run(settings: Settings) -> Result<(), ServerError> {
    let runtime = runtime(2)?;
    let (db, threads) = Db::start(&settings.database);
    let outcome = runtime.block_on(serve(settings, db));
    // Drops what still holds the database, so that its connections close and the last one checkpoints.
    runtime.shutdown_timeout(Duration::from_secs(1));
    threads.join();
    outcome
}

/// Rolls up until SIGTERM or SIGINT.
///
/// # Errors
/// What waiting does not mend.
pub fn roll_up(source: &Source) -> Result<(), ServerError> {
    let runtime = runtime(1)?;
    let (db, threads) = Db::start(source);
    let outcome = runtime.block_on(async {
        let stop = stop_signal().map_err(ServerError::Start)?;
        let ended = worker::work(&db, &source.to_string(), stop).await;
        ended.map_err(ServerError::Work)
    });
    drop(db);
    // A transaction that still waits ends with the process, and leaves nothing.
    if !matches!(outcome, Ok(Ended::Waiting)) {
        threads.join();
    }
    outcome.map(|_| println!("rollup: stops"))
}

fn runtime(threads: usize) -> Result<Runtime, ServerError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(ServerError::Start)
}

async fn serve(settings: Settings, db: Db) -> Result<(), ServerError> {
    let stop = stop_signal().map_err(ServerError::Start)?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| ServerError::Listen(settings.listen, error))?;
    let address = listener.local_addr().map_err(ServerError::Start)?;
    let live = Live::new();
    tokio::spawn(live.clone().follow(db.clone()));
    let app = App::new(db, live, stop.clone());
    tokio::spawn(create_first_user(app.clone(), settings.first_user));
    println!("flowscope {VERSION} listens on http://{address}");
    serve_until(stop, listener, app).await
}

async fn serve_until(
    stop: watch::Receiver<bool>,
    listener: TcpListener,
    app: App,
) -> Result<(), ServerError> {
    let listener = listener.tap_io(|stream| {
        // Fails only where the client has gone already.
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, api::router(app.clone()))
        .with_graceful_shutdown(stopped(stop.clone()));
    let whole = async {
        let served = server.await;
        app.sockets_closed().await;
        served
    };
    tokio::select! {
        served = whole => served.map_err(ServerError::Serve),
        () = async { stopped(stop).await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}

/// Waits for the signal to stop.
pub async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the process is ending anyhow.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn stop_signal() -> io::Result<watch::Receiver<bool>> {
    let (send, receive) = watch::channel(false);
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        send.send_replace(true);
    });
    Ok(receive)
}

/// Creates the first user as soon as the schema is there; `/health` waits for it.
async fn create_first_user(app: App, user: Option<(String, String)>) {
    if let Some((name, password)) = user {
        while let Err(error) = account::create_first(&app.db, &name, &password).await {
            app.starting(format!("first user: {error}"));
            tokio::time::sleep(RETRY).await;
        }
    }
    app.started();
}
