//! A client's connection: its bytes are looked at before hyper parses them, and there is a limit to how many there are.
//!
//! Over TLS the bytes looked at are those that were inside; HTTP/2 has frames of its own, and they are not looked at.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::framing::Framing;

/// A client's connection as hyper drives it.
pub(crate) struct ClientIo<S> {
    stream: S,
    /// None where nothing is to be looked at.
    framing: Option<Framing>,
}

impl<S> ClientIo<S> {
    /// A connection that speaks HTTP/1.
    pub(crate) fn http1(stream: S) -> Self {
        Self {
            stream,
            framing: Some(Framing::default()),
        }
    }

    /// A connection that speaks HTTP/2.
    pub(crate) fn http2(stream: S) -> Self {
        Self {
            stream,
            framing: None,
        }
    }
}

impl<S: AsyncRead + Unpin> Read for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: the bytes are only written to, by `ReadBuf`, which never makes an initialized one uninitialized.
        let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        if let Some(framing) = &mut self.framing {
            framing.scan(buffer.filled_mut());
        }
        let count = buffer.filled().len();
        // SAFETY: what is filled is initialized.
        unsafe { cursor.advance(count) };
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Write for ClientIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }
}

/// How many client connections there are, and may be.
#[derive(Debug)]
pub(crate) struct Connections {
    open: AtomicUsize,
    limit: usize,
    left: Notify,
}

/// One connection's place; given up when dropped.
pub(crate) struct Place(Arc<Connections>);

impl Connections {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            limit,
            left: Notify::new(),
        })
    }

    /// A place, unless all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(self));
        (self.open.fetch_add(1, SeqCst) < self.limit).then_some(place)
    }

    /// Return when there is no connection.
    pub(crate) async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.open.load(SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Place {
    /// One more beside this one.
    pub(crate) fn another(&self) -> Option<Place> {
        self.0.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, SeqCst) == 1 {
            self.0.left.notify_waiters();
        }
    }
}
