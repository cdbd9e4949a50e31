//! The streams of an HTTP/2 connection, as far as hyper does not look after them.
//!
//! Each may need a connection to an instance, so it takes a place as a connection does. One whose client takes none of
//! what there is for it, though the connection is alive, is reset: its task is dropped, and the others go on. A
//! connection without a stream is said goodbye to.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::connection::Place;

/// How long a connection without a stream is kept.
const IDLE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Tells the task of a stream that its client has left it.
    static LEFT: Rc<Notify>;
}

/// Of one connection.
pub(crate) struct Streams {
    open: RefCell<Vec<Weak<Stream>>>,
    /// Longest time a client may leave what it was given on a stream.
    patience: Duration,
}

/// One stream, until its response was sent.
pub(crate) struct Stream {
    /// Since when the client has had something to take.
    given: Cell<Option<Instant>>,
    left: Option<Rc<Notify>>,
    _place: Place,
}

/// The whole of one stream's task: it ends early when the client leaves what it was given. What hyper holds of the
/// stream is dropped then, which resets it.
pub(crate) async fn until_left(task: impl Future) {
    let left = Rc::<Notify>::default();
    let task = LEFT.scope(Rc::clone(&left), task);
    tokio::select! {
        biased;
        _ = task => {}
        () = left.notified() => {}
    }
}

impl Streams {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            open: RefCell::default(),
            patience,
        }
    }

    /// One more, unless there are too many connections and streams.
    pub(crate) fn open(&self, beside: &Place) -> Option<Rc<Stream>> {
        let stream = Rc::new(Stream {
            given: Cell::new(None),
            left: LEFT.try_with(Rc::clone).ok(),
            _place: beside.another()?,
        });
        let mut open = self.open.borrow_mut();
        open.retain(|stream| stream.strong_count() > 0);
        open.push(Rc::downgrade(&stream));
        Some(stream)
    }

    /// End the streams that their client has left for too long, for as long as the connection lasts.
    pub(crate) async fn watch(&self) -> Infallible {
        loop {
            sleep(LOOK.min(self.patience / 4)).await;
            for stream in self.open.borrow().iter().filter_map(Weak::upgrade) {
                let given = stream.given.get();
                if given.is_some_and(|since| since.elapsed() > self.patience)
                    && let Some(left) = &stream.left
                {
                    left.notify_one();
                }
            }
        }
    }

    /// Return when there has been no stream for a while.
    pub(crate) async fn idle(&self) {
        let mut since = Instant::now();
        while since.elapsed() < IDLE {
            sleep(LOOK).await;
            let open = self.open.borrow();
            if open.iter().any(|stream| stream.strong_count() > 0) {
                since = Instant::now();
            }
        }
    }
}

impl Stream {
    /// The client was given something, or has taken everything there was.
    pub(crate) fn given(&self, something: bool) {
        self.given.set(something.then(Instant::now));
    }
}
