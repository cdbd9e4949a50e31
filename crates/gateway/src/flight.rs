//! What is under way in one epoch, counted a thread.
//!
//! The counts of a thread are touched by that thread alone, so requests share no cache line; a reader adds them up.
//! The sum may be read while it moves: after the generation was raised (see `traffic`) a thread's count that was once
//! seen at zero holds nothing that was let in, and never will.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use tokio::sync::{Notify, watch};

/// What an entry is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Stream,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    requests: AtomicU64,
    streams: AtomicU64,
}

impl Shard {
    fn count(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Request => &self.requests,
            Kind::Stream => &self.streams,
        }
    }
}

/// What is under way in one epoch.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) epoch: u64,
    shards: Box<[Shard]>,
    /// Somebody waits, or once waited, for zero, so who leaves must say so.
    watched: AtomicBool,
    left: Notify,
    /// Raised to close the streams there are.
    closing: watch::Sender<u64>,
}

impl Flight {
    pub(crate) fn new(epoch: u64, threads: usize) -> Self {
        Self {
            epoch,
            shards: (0..threads).map(|_| Shard::default()).collect(),
            watched: AtomicBool::new(false),
            left: Notify::new(),
            closing: watch::Sender::new(0),
        }
    }

    pub(crate) fn enter(&self, shard: usize, kind: Kind) {
        self.shards[shard].count(kind).fetch_add(1, SeqCst);
    }

    pub(crate) fn leave(&self, shard: usize, kind: Kind) {
        if self.shards[shard].count(kind).fetch_sub(1, SeqCst) == 1 && self.watched.load(SeqCst) {
            self.left.notify_waiters();
        }
    }

    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.count(kind).load(SeqCst))
            .sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count(Kind::Request) + self.count(Kind::Stream) == 0
    }

    /// Return when nothing is under way. Whoever comes later is the caller's concern.
    pub(crate) async fn emptied(&self) {
        self.until(Self::is_empty).await;
    }

    /// Return when no stream is under way.
    pub(crate) async fn streams_ended(&self) {
        self.until(|flight| flight.count(Kind::Stream) == 0).await;
    }

    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            self.watched.store(true, SeqCst);
            if reached(self) {
                return;
            }
            left.await;
        }
    }

    /// Take this before entering: it sees every closing asked for after the entry was let in.
    pub(crate) fn closing(&self) -> watch::Receiver<u64> {
        self.closing.subscribe()
    }

    /// Ask the streams there are to close; their number.
    pub(crate) fn close_streams(&self) -> u64 {
        let open = self.count(Kind::Stream);
        self.closing.send_modify(|times| *times += 1);
        open
    }
}
