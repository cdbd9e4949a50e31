//! Bodies on their way: requests that may have to be sent again, and responses that are counted until they are sent.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::edge::Filling;
use crate::exchange::Exchange;
use crate::streams::Stream;

/// Longest silence of a client in the middle of its request body.
const BODY_STALL: Duration = Duration::from_secs(60);
/// Most of a request body that is kept for sending it again.
const REPLAY: usize = 64 * 1024;

/// Most that is handed on at once where it is watched what a client takes: that shows when more is asked for.
const PIECE: usize = 16 * 1024;

/// Why a body ended early.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The client sent something that is no body, or stopped sending.
    Client,
    /// The instance's connection broke.
    Upstream,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "the client broke off its request body",
            Self::Upstream => "the instance broke off its response body",
        })
    }
}

impl std::error::Error for BodyError {}

/// A client's body, shared by the attempts to send it.
pub(crate) struct Source(RefCell<Feed>);

struct Feed {
    incoming: Incoming,
    /// What was read, while it fits.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// More was read than is kept.
    spilled: bool,
    ended: bool,
    failed: bool,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Source {
    pub(crate) fn new(incoming: Incoming) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Feed {
            incoming,
            kept: Vec::new(),
            kept_bytes: 0,
            spilled: false,
            ended: false,
            failed: false,
            stall: None,
        })))
    }

    /// Whether all that was read can be read again.
    pub(crate) fn replayable(&self) -> bool {
        let feed = self.0.borrow();
        !feed.spilled && !feed.failed
    }

    /// Whether it was read to its end.
    pub(crate) fn ended(&self) -> bool {
        let feed = self.0.borrow();
        // With a length announced nobody asks for more after the last byte.
        feed.ended || feed.incoming.is_end_stream()
    }

    /// Whether the client broke it off.
    pub(crate) fn failed(&self) -> bool {
        self.0.borrow().failed
    }
}

impl Feed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                return self.poll_stall(cx);
            };
            self.stall = None;
            match frame {
                None => self.ended = true,
                Some(Err(_)) => return self.fail(),
                // Trailers are not passed on.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.keep(&data);
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_STALL)));
        ready!(stall.as_mut().poll(cx));
        self.fail()
    }

    fn fail(&mut self) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.failed = true;
        Poll::Ready(Some(Err(BodyError::Client)))
    }

    fn keep(&mut self, data: &Bytes) {
        if self.spilled {
            return;
        }
        self.kept_bytes += data.len();
        if self.kept_bytes > REPLAY {
            self.spilled = true;
            self.kept = Vec::new();
        } else {
            self.kept.push(data.clone());
        }
    }
}

/// One attempt's view of a request body.
pub(crate) enum Outgoing {
    Empty,
    From {
        source: Rc<Source>,
        /// How many kept pieces this attempt has sent.
        sent: usize,
    },
}

impl Outgoing {
    pub(crate) fn new(source: Option<&Rc<Source>>) -> Self {
        source.map_or(Self::Empty, |source| Self::From {
            source: Rc::clone(source),
            sent: 0,
        })
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::From { source, sent } = &mut *self else {
            return Poll::Ready(None);
        };
        let mut feed = source.0.borrow_mut();
        if let Some(again) = feed.kept.get(*sent) {
            *sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(again.clone()))));
        }
        let next = ready!(feed.poll_next(cx));
        *sent += 1;
        Poll::Ready(next.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        let Self::From { source, .. } = self else {
            return SizeHint::with_exact(0);
        };
        // Before anything was read this is the announced length; an attempt after that goes by its Content-Length.
        let feed = source.0.borrow();
        if feed.kept_bytes == 0 && !feed.ended {
            feed.incoming.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

/// What is sent to a client.
pub(crate) enum Reply {
    /// The gateway's own words.
    Text(Bytes),
    /// What an instance has said before.
    Kept {
        body: Bytes,
        /// Of HTTP/2.
        stream: Option<Rc<Stream>>,
    },
    /// An instance's response.
    Forwarded(Box<Forwarded>),
    /// Nothing; the exchange goes on as a tunnel.
    Empty,
}

/// The beginning of what there is.
fn piece(rest: &mut Bytes) -> Frame<Bytes> {
    Frame::data(rest.split_to(rest.len().min(PIECE)))
}

/// An instance's response on its way; dropped when it was sent or the client has gone.
pub(crate) struct Forwarded {
    incoming: Incoming,
    /// What came of it and was not handed on yet: over HTTP/2, where the instance's pieces may be large.
    rest: Bytes,
    exchange: Option<Exchange>,
    closing: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Of HTTP/2.
    stream: Option<Rc<Stream>>,
    /// Where it is kept for others.
    filling: Option<Box<Filling>>,
}

impl Forwarded {
    pub(crate) fn new(
        incoming: Incoming,
        mut exchange: Exchange,
        stream: Option<Rc<Stream>>,
        filling: Option<Box<Filling>>,
    ) -> Self {
        let closing = exchange.take_closing().map(|mut closing| {
            let wait = async move {
                let _ = closing.changed().await;
            };
            Box::pin(wait) as Pin<Box<dyn Future<Output = ()>>>
        });
        Self {
            incoming,
            rest: Bytes::new(),
            exchange: Some(exchange),
            closing,
            stream,
            filling,
        }
    }

    /// Keep in mind since when the client owes it to take what it was given.
    fn poll_watched(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll(cx);
        if let Some(stream) = &self.stream {
            stream.given(polled.is_ready());
        }
        polled
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.exchange.is_none() {
            return Poll::Ready(None);
        }
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            return self.close_stream();
        }
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(piece(&mut self.rest))));
        }
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                self.keep(&frame);
                Poll::Ready(Some(Ok(self.beginning(frame))))
            }
            Some(Err(_)) => {
                if let Some(exchange) = self.exchange.take() {
                    exchange.cut();
                }
                Poll::Ready(Some(Err(BodyError::Upstream)))
            }
        }
    }

    /// What is handed on of a frame at once.
    fn beginning(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if self.stream.is_none() {
            return frame;
        }
        match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                piece(&mut self.rest)
            }
            Err(frame) => frame,
        }
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, coming) = (self.rest.len() as u64, self.incoming.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = coming.upper() {
            hint.set_upper(rest + upper);
        }
        hint.set_lower(rest + coming.lower());
        hint
    }

    /// What is too long, or has trailers, is not kept.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(filling) = &mut self.filling
            && !frame.data_ref().is_some_and(|piece| filling.piece(piece))
        {
            self.filling = None;
        }
    }

    /// The whole response was read: its connection can be used again.
    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish();
            if let Some(filling) = self.filling.take() {
                filling.end();
            }
        }
    }

    /// A stream's time is up: end it where it is.
    fn close_stream(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(exchange) = self.exchange.take() {
            exchange.stream_closed();
        }
        // With a length announced hyper sees that it is not complete and breaks the connection.
        Poll::Ready(None)
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        // hyper asks a body that is known to be at its end for nothing more.
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Kept { body, .. } if body.is_empty() => Poll::Ready(None),
            Self::Kept { body, stream } => Poll::Ready(Some(Ok(match stream {
                Some(stream) => {
                    stream.given(true);
                    piece(body)
                }
                None => Frame::data(std::mem::take(body)),
            }))),
            Self::Forwarded(forwarded) => forwarded.poll_watched(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) | Self::Kept { body: text, .. } => text.is_empty(),
            Self::Forwarded(forwarded) => forwarded.is_at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) | Self::Kept { body: text, .. } => {
                SizeHint::with_exact(text.len() as u64)
            }
            Self::Forwarded(forwarded) => forwarded.size_hint(),
        }
    }
}
