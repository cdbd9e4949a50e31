//! The streams of an HTTP/2 connection, as far as hyper does not look after them.
//!
//! Each may need a connection to an instance, so it takes a place as a connection does. A client that takes none of
//! what there is for it on a stream, though its connection is alive, is left; so is one that asks for nothing.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::connection::Place;

/// Longest time a client may leave what it was given on a stream.
const STALL: Duration = Duration::from_secs(30);
/// How long a connection without a stream is kept.
const IDLE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(5);

/// Of one connection.
#[derive(Default)]
pub(crate) struct Streams {
    open: RefCell<Vec<Weak<Stream>>>,
}

/// One stream, until its response was sent.
pub(crate) struct Stream {
    /// Since when the client has had something to take.
    given: Cell<Option<Instant>>,
    _place: Place,
}

impl Streams {
    /// One more, unless there are too many connections and streams.
    pub(crate) fn open(&self, beside: &Place) -> Option<Rc<Stream>> {
        let stream = Rc::new(Stream {
            given: Cell::new(None),
            _place: beside.another()?,
        });
        let mut open = self.open.borrow_mut();
        open.retain(|stream| stream.strong_count() > 0);
        open.push(Rc::downgrade(&stream));
        Some(stream)
    }

    /// Return when the client has left something for too long.
    pub(crate) async fn stalled(&self) {
        let late = |stream: &Weak<Stream>| {
            let given = stream.upgrade().and_then(|stream| stream.given.get());
            given.is_some_and(|since| since.elapsed() > STALL)
        };
        while !self.open.borrow().iter().any(late) {
            sleep(LOOK).await;
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
