//! New traces as they arrive, from whichever instance.
//!
//! One task looks for rows past the last one it saw and tells everyone who follows. It asks the database, not this
//! process's own writes: another instance's traces appear the same way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;

use crate::db::{Db, DbError};
use crate::trace::{self, Summary};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// Most traces taken over in one look.
const AT_ONCE: u32 = 500;
/// Traces kept for a follower that is slow; it is told when it missed some.
const KEPT: usize = 2048;

/// Where new traces can be followed.
#[derive(Clone)]
pub struct Live(broadcast::Sender<Arc<Summary>>);

impl Live {
    /// A source that is silent until [`Live::follow`] runs.
    pub fn new() -> Self {
        Self(broadcast::channel(KEPT).0)
    }

    /// Receives the traces that arrive from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Summary>> {
        self.0.subscribe()
    }

    /// Looks for new traces for as long as the process runs.
    pub async fn follow(self, db: Db) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            // A look that fails is repeated: `/health` is where the database's trouble shows.
            if let Ok(last) = self.look(&db, seen).await {
                seen = Some(last);
            }
        }
    }

    async fn look(&self, db: &Db, seen: Option<i64>) -> Result<i64, DbError> {
        let Some(seen) = seen else {
            return db.read(trace::last_seq).await;
        };
        let new = db
            .read(move |conn| trace::after(conn, None, seen, AT_ONCE))
            .await?;
        let last = new.last().map_or(seen, |summary| summary.seq);
        for summary in new {
            // Nobody follows: nothing to do.
            let _ = self.0.send(Arc::new(summary));
        }
        Ok(last)
    }
}
