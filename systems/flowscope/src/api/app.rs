//! What the handlers share.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::db::Db;
use crate::live::Live;

/// Most WebSockets open at once.
const SOCKETS: u32 = 1024;
/// Most passwords hashed at once; each takes 19 MiB and a core.
const HASHES: usize = 2;

/// What the handlers share; clones are handles on the same.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub db: Db,
    /// New traces.
    pub live: Live,
    /// Becomes true when the process is to end.
    pub stop: watch::Receiver<bool>,
    /// Permits to hash a password.
    pub hashing: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
    startup: Arc<Mutex<Option<String>>>,
}

impl App {
    /// Shares these.
    pub fn new(db: Db, live: Live, stop: watch::Receiver<bool>) -> Self {
        Self {
            db,
            live,
            stop,
            hashing: Arc::new(Semaphore::new(HASHES)),
            sockets: Arc::new(Semaphore::new(SOCKETS as usize)),
            startup: Arc::new(Mutex::new(Some("starting".to_owned()))),
        }
    }

    /// Says what the start still waits for.
    pub fn starting(&self, waits_for: String) {
        *self.startup.lock().unwrap_or_else(PoisonError::into_inner) = Some(waits_for);
    }

    /// Says that the start is over.
    pub fn started(&self) {
        *self.startup.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the start still waits for, if it does.
    pub fn waits_for(&self) -> Option<String> {
        self.startup
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The right to hold a WebSocket open; `None` if there are too many.
    pub fn socket(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sockets).try_acquire_owned().ok()
    }

    /// Waits until no WebSocket is open.
    pub async fn sockets_closed(&self) {
        // The semaphore is never closed, so this is not an error.
        let _ = self.sockets.acquire_many(SOCKETS).await;
    }
}
