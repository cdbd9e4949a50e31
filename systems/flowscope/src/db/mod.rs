//! The database, SQLite or PostgreSQL: a few threads that read, and one that writes.
//!
//! Over all processes one writes at a time: SQLite locks its file, and on PostgreSQL a lock of ours does. So a process has
//! one thread that writes. It takes whatever waits, carries it out in one transaction with a savepoint for each piece,
//! commits, and only then answers: what was answered survives a crash, and one sync to disk is shared by all that waited.
//! Reads never wait for writes.
//!
//! Each thread has one connection, opened at the first use and again once it is broken, so a service that is started
//! before its database is there, or that loses it, becomes ready by itself. What is sent again over a new connection is
//! only what is safe to repeat: a read, and the beginning of a transaction. A write that may have been committed is not:
//! its client is told that it is not known, and looks.

mod conn;
mod postgres;
mod source;
mod sqlite;
mod value;

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use conn::{Conn, Dialect};
pub use source::{Source, SourceError};
pub use value::{Row, Value};

/// Threads that read.
const READERS: usize = 3;
/// Most writes in one transaction, so that other processes get their turn.
const BATCH: usize = 64;
/// Most that may wait for a reader, and for the writer.
const QUEUE: usize = 1024;
/// How long one may wait, for its turn and its answer together.
const PATIENCE: Duration = Duration::from_secs(20);
/// After a connection could not be opened, how long nobody tries again.
const PAUSE: Duration = Duration::from_millis(200);

/// The parameters of a statement, each whatever a [`Value`] can be made from.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::db::Value::from($value)),*] };
}

/// Why the database did not do what it was asked.
#[derive(Debug, Clone)]
pub enum DbError {
    /// Others were in the way for too long.
    Busy(String),
    /// It is not there, or cannot work just now; whether a write was committed may not be known.
    Unavailable(String),
    /// The schema is not what this version needs.
    Schema(String),
    /// What it was given can be stored by no engine.
    Invalid(String),
    /// Anything else that it says.
    Failed(String),
    /// This process is stopping.
    Stopped,
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(text) => write!(f, "database is busy: {text}"),
            Self::Unavailable(text) => write!(f, "database is unavailable: {text}"),
            Self::Schema(text) | Self::Invalid(text) => f.write_str(text),
            Self::Failed(text) => write!(f, "database: {text}"),
            Self::Stopped => f.write_str("database: this instance is stopping"),
        }
    }
}

type ReadJob = Box<dyn FnOnce(&mut Slot) + Send>;
type WriteJob = Box<dyn FnOnce(Result<&Conn, DbError>) -> Answer + Send>;
/// Hands a write's outcome to who waits for it, once it is known whether the transaction was committed.
type Answer = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// A handle on the database; clones share its threads.
#[derive(Clone)]
pub struct Db {
    readers: SyncSender<ReadJob>,
    writer: SyncSender<WriteJob>,
}

/// The threads behind a [`Db`]. They end when its last clone is dropped.
pub struct Threads(Vec<JoinHandle<Slot>>);

impl Threads {
    /// Closes every connection, one after the other: of two that close an SQLite file at once each sees the other's lock,
    /// and then neither writes the log back into the database.
    pub fn join(self) {
        for thread in self.0 {
            // A thread that panicked has said so itself.
            drop(thread.join());
        }
    }
}

impl Db {
    /// Starts the threads for a database; it is opened when it is first needed.
    pub fn start(source: &Source) -> (Self, Threads) {
        let (readers, read_jobs) = sync_channel(QUEUE);
        let (writer, write_jobs) = sync_channel(QUEUE);
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        let mut threads = Vec::new();
        for _ in 0..READERS {
            let (jobs, slot) = (Arc::clone(&read_jobs), Slot::new(source));
            threads.push(std::thread::spawn(move || read_loop(&jobs, slot)));
        }
        let slot = Slot::new(source);
        threads.push(std::thread::spawn(move || write_loop(&write_jobs, slot)));
        (Self { readers, writer }, Threads(threads))
    }

    /// Reads, on a thread of its own; if the connection turns out to be broken, once more on a new one.
    ///
    /// # Errors
    /// What `work` or opening the database gives; `Stopped` at the end of the process.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&Conn) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let (answer, answered) = oneshot::channel();
        let job: ReadJob = Box::new(move |slot| {
            // Nobody waits any more: the request has ended.
            if !answer.is_closed() {
                let _ = answer.send(slot.run(work));
            }
        });
        queue(&self.readers, job)?;
        in_time(answered).await
    }

    /// Writes; when this returns `Ok`, the write is committed and on disk. What fails leaves nothing behind, except where
    /// the database went away during the commit: then it is not known.
    ///
    /// # Errors
    /// What `work`, opening the database or the commit gives; `Stopped` at the end of the process.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Conn) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let (answer, answered) = oneshot::channel();
        let job: WriteJob = Box::new(move |conn| {
            let outcome = match conn {
                Ok(_) if answer.is_closed() => Err(DbError::Stopped),
                conn => conn.and_then(|conn| conn.in_savepoint(work)),
            };
            Box::new(move |committed| {
                let _ = answer.send(committed.and(outcome));
            })
        });
        queue(&self.writer, job)?;
        in_time(answered).await
    }
}

fn queue<J>(jobs: &SyncSender<J>, job: J) -> Result<(), DbError> {
    jobs.try_send(job).map_err(|error| match error {
        TrySendError::Full(_) => DbError::Busy("too many requests wait for it".to_owned()),
        TrySendError::Disconnected(_) => DbError::Stopped,
    })
}

async fn in_time<T>(answered: oneshot::Receiver<Result<T, DbError>>) -> Result<T, DbError> {
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(answer) => answer.map_err(|_| DbError::Stopped)?,
        Err(_) => Err(DbError::Busy(format!("no answer within {PATIENCE:?}"))),
    }
}

fn read_loop(jobs: &Mutex<Receiver<ReadJob>>, mut slot: Slot) -> Slot {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return slot };
        job(&mut slot);
    }
}

fn write_loop(jobs: &Receiver<WriteJob>, mut slot: Slot) -> Slot {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(BATCH - 1));
        commit_together(&mut slot, batch);
    }
    slot
}

fn commit_together(slot: &mut Slot, batch: Vec<WriteJob>) {
    // Safe to repeat: a transaction ends with its connection.
    let begun = slot.run(Conn::begin).and_then(|()| slot.opened());
    let answers: Vec<Answer> = batch.into_iter().map(|job| job(begun.clone())).collect();
    let committed = begun.and_then(Conn::commit);
    for answer in answers {
        answer(committed.clone());
    }
}

/// Where a thread has its connection, once it could be opened.
struct Slot {
    source: Source,
    open: Option<Conn>,
    failed: Option<(Instant, DbError)>,
}

impl Slot {
    fn new(source: &Source) -> Self {
        Self {
            source: source.clone(),
            open: None,
            failed: None,
        }
    }

    /// Does `work`, which must be safe to repeat: on a new connection if the one from before turns out to be broken.
    fn run<T>(&mut self, work: impl Fn(&Conn) -> Result<T, DbError>) -> Result<T, DbError> {
        let kept = self.open.as_ref().is_some_and(|conn| !conn.is_broken());
        let outcome = self.connection().and_then(&work);
        if kept && self.open.as_ref().is_some_and(Conn::is_broken) {
            return self.connection().and_then(&work);
        }
        outcome
    }

    /// The connection, opened anew if it has to be.
    fn connection(&mut self) -> Result<&Conn, DbError> {
        let usable = self.open.take().filter(|conn| !conn.is_broken());
        let conn = usable.map_or_else(|| self.connect(), Ok)?;
        Ok(self.open.insert(conn))
    }

    /// The connection as it is, broken or not: never another one in the middle of a transaction.
    fn opened(&self) -> Result<&Conn, DbError> {
        self.open.as_ref().ok_or(DbError::Stopped)
    }

    fn connect(&mut self) -> Result<Conn, DbError> {
        if let Some((at, error)) = &self.failed
            && at.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        let connected = self.source.connect();
        self.failed = connected
            .as_ref()
            .err()
            .map(|error| (Instant::now(), error.clone()));
        connected
    }
}
