//! The body of a request: at once, or in two halves as from a client on a slow line.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// What a slow client takes between the two halves.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How often one begins, so that two are always under way. A deployer that cuts off what is under way is seen by these:
/// what lasts milliseconds may be over before the old version is killed.
const EVERY: Duration = Duration::from_millis(500);
/// With fewer connections than this, two that are taken would keep the others from their rate.
const CONNECTIONS: u32 = 8;

/// Whose turn it is to be slow.
#[derive(Debug)]
pub(super) struct SlowLine {
    next: Mutex<Duration>,
}

impl SlowLine {
    pub(super) fn new(connections: u32) -> Option<Self> {
        (connections >= CONNECTIONS).then(|| Self {
            next: Mutex::new(EVERY),
        })
    }

    /// Whether a write that is due at this time since the start is the next slow one.
    pub(super) fn takes(&self, due: Duration) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let is_its = due >= *next;
        if is_its {
            *next = due + EVERY;
        }
        is_its
    }
}

/// A body that knows its length.
pub(super) struct Sent {
    now: Option<Bytes>,
    later: Option<(Pin<Box<Sleep>>, Bytes)>,
}

impl Sent {
    pub(super) fn new(mut body: Bytes, slowly: bool) -> Self {
        let later = slowly.then(|| body.split_off(body.len() / 2));
        Self {
            now: Some(body).filter(|body| !body.is_empty()),
            later: later.map(|rest| (Box::pin(sleep(PAUSE)), rest)),
        }
    }

    fn left(&self) -> usize {
        let later = self.later.as_ref().map_or(0, |(_, rest)| rest.len());
        self.now.as_ref().map_or(0, Bytes::len) + later
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(now) = self.now.take() {
            return Poll::Ready(Some(Ok(Frame::data(now))));
        }
        if let Some((pause, _)) = &mut self.later {
            ready!(pause.as_mut().poll(context));
        }
        let rest = self.later.take().map(|(_, rest)| rest);
        Poll::Ready(rest.map(|rest| Ok(Frame::data(rest))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left() as u64)
    }
}
