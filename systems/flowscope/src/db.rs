//! The database: a few threads that read, and one that writes.
//!
//! SQLite lets one connection write at a time, so this process has one thread that does. It takes whatever waits, carries
//! it out in one transaction with a savepoint for each piece, commits, and only then answers: what was answered survives
//! a crash, and one sync to disk is shared by all that waited. Other processes may write to the same file; the busy
//! time-out waits for them. Reads never wait for writes (WAL).
//!
//! Connections are opened at the first use and again after a failure to open, so a service that is started before its
//! database is there becomes ready by itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::oneshot;

/// How long a statement waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Threads that read.
const READERS: usize = 3;
/// Most writes in one transaction, so that other processes get their turn.
const BATCH: usize = 64;
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 64;

/// Why the database did not do what it was asked.
#[derive(Debug, Clone)]
pub enum DbError {
    /// Another process held the write lock for too long.
    Busy(String),
    /// The schema is not what this version needs.
    Schema(String),
    /// Anything else that SQLite says.
    Sqlite(String),
    /// This process is stopping.
    Stopped,
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(text) => write!(f, "database is busy: {text}"),
            Self::Schema(text) => f.write_str(text),
            Self::Sqlite(text) => write!(f, "database: {text}"),
            Self::Stopped => f.write_str("database: this instance is stopping"),
        }
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Busy(error.to_string())
            }
            _ => Self::Sqlite(error.to_string()),
        }
    }
}

type ReadJob = Box<dyn FnOnce(Result<&Connection, DbError>) + Send>;
type WriteJob = Box<dyn FnOnce(Result<&Connection, DbError>) -> Answer + Send>;
/// Hands a write's outcome to who waits for it, once it is known whether the transaction was committed.
type Answer = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// A handle on the database; clones share its threads.
#[derive(Clone)]
pub struct Db {
    readers: Sender<ReadJob>,
    writer: Sender<WriteJob>,
}

/// The threads behind a [`Db`]. They end when its last clone is dropped.
pub struct Threads(Vec<JoinHandle<File>>);

impl Threads {
    /// Closes every connection, one after the other: of two that close at once each sees the other's lock, and then
    /// neither writes the log back into the database.
    pub fn join(self) {
        for thread in self.0 {
            // A thread that panicked has said so itself.
            drop(thread.join());
        }
    }
}

impl Db {
    /// Starts the threads for the file at `path`; it is opened when it is first needed.
    pub fn start(path: &Path) -> (Self, Threads) {
        let (readers, read_jobs) = channel();
        let (writer, write_jobs) = channel();
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        let mut threads = Vec::new();
        for _ in 0..READERS {
            let (jobs, file) = (Arc::clone(&read_jobs), File::new(path));
            threads.push(std::thread::spawn(move || read_loop(&jobs, file)));
        }
        let file = File::new(path);
        threads.push(std::thread::spawn(move || write_loop(&write_jobs, file)));
        (Self { readers, writer }, Threads(threads))
    }

    /// Reads, on a thread of its own.
    ///
    /// # Errors
    /// What `work` or opening the database gives; `Stopped` at the end of the process.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let (answer, answered) = oneshot::channel();
        let job: ReadJob = Box::new(move |conn| {
            let _ = answer.send(conn.and_then(work));
        });
        self.readers.send(job).map_err(|_| DbError::Stopped)?;
        answered.await.map_err(|_| DbError::Stopped)?
    }

    /// Writes; when this returns `Ok`, the write is committed and on disk. What fails leaves nothing behind.
    ///
    /// # Errors
    /// What `work`, opening the database or the commit gives; `Stopped` at the end of the process.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let (answer, answered) = oneshot::channel();
        let job: WriteJob = Box::new(move |conn| {
            let outcome = conn.and_then(|conn| in_savepoint(conn, work));
            Box::new(move |committed| {
                let _ = answer.send(committed.and(outcome));
            })
        });
        self.writer.send(job).map_err(|_| DbError::Stopped)?;
        answered.await.map_err(|_| DbError::Stopped)?
    }
}

fn in_savepoint<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, DbError>,
) -> Result<T, DbError> {
    statement(conn, "SAVEPOINT piece")?;
    let outcome = work(conn);
    if outcome.is_err() {
        statement(conn, "ROLLBACK TO piece")?;
    }
    statement(conn, "RELEASE piece")?;
    outcome
}

fn statement(conn: &Connection, sql: &str) -> Result<(), DbError> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn read_loop(jobs: &Mutex<Receiver<ReadJob>>, mut file: File) -> File {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return file };
        job(file.connection());
    }
}

fn write_loop(jobs: &Receiver<WriteJob>, mut file: File) -> File {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(BATCH - 1));
        commit_together(file.connection(), batch);
    }
    file
}

fn commit_together(conn: Result<&Connection, DbError>, batch: Vec<WriteJob>) {
    let begun = conn.and_then(|conn| statement(conn, "BEGIN IMMEDIATE").map(|()| conn));
    let answers: Vec<Answer> = batch.into_iter().map(|job| job(begun.clone())).collect();
    let committed = begun.and_then(commit);
    for answer in answers {
        answer(committed.clone());
    }
}

fn commit(conn: &Connection) -> Result<(), DbError> {
    let committed = statement(conn, "COMMIT");
    if committed.is_err() && !conn.is_autocommit() {
        // Nothing of it was acknowledged; should this fail too, the next BEGIN says so.
        let _ = statement(conn, "ROLLBACK");
    }
    committed
}

/// A file and, once it could be opened, its connection.
struct File {
    path: PathBuf,
    open: Option<Connection>,
}

impl File {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            open: None,
        }
    }

    fn connection(&mut self) -> Result<&Connection, DbError> {
        let conn = match self.open.take() {
            Some(conn) => conn,
            None => connect(&self.path)?,
        };
        Ok(self.open.insert(conn))
    }
}

fn connect(path: &Path) -> Result<Connection, DbError> {
    // Without CREATE: an empty file in the wrong place would hide a wrong `DATABASE_URL`.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
    )?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}
