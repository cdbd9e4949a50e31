//! One connection, with what a client must know of it before it may send a request again.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::report::FailureKind;
use super::sent::Sent;

/// Why a request has no whole answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FailureKind,
    pub(super) detail: String,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The beginning of the body, as much as was asked for.
    pub(super) body: Vec<u8>,
}

/// A connection to the server.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Sent>,
    passed: Arc<Passed>,
    /// The last answer said that the server closes it.
    closing: bool,
    /// The same socket, to look whether the server has closed it before anything is written.
    socket: OwnedFd,
}

/// Bytes that went over a connection so far.
#[derive(Debug, Default)]
struct Passed {
    read: AtomicU64,
    written: AtomicU64,
}

/// A point in the life of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Connection {
    pub(super) async fn open(addr: SocketAddr) -> Result<Self, Fault> {
        let stream = TcpStream::connect(addr).await.map_err(Fault::connect)?;
        stream.set_nodelay(true).map_err(Fault::connect)?;
        let socket = stream
            .as_fd()
            .try_clone_to_owned()
            .map_err(Fault::connect)?;
        let passed = Arc::new(Passed::default());
        let counted = Counted {
            stream,
            passed: Arc::clone(&passed),
        };
        let (sender, driver) = handshake(TokioIo::new(counted))
            .await
            .map_err(|error| Fault::new(FailureKind::Connect, describe(&error)))?;
        // Ends when `sender` is dropped or the server closes; its error reaches the request that it concerns.
        tokio::spawn(driver);
        Ok(Self {
            sender,
            passed,
            closing: false,
            socket,
        })
    }

    /// Whether the server has kept it open and sent nothing unasked. An open socket has nothing to read yet.
    pub(super) fn is_open(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.socket, &mut byte, flags);
        !self.closing && !self.sender.is_closed() && matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            read: self.passed.read.load(Ordering::SeqCst),
            written: self.passed.written.load(Ordering::SeqCst),
        }
    }

    /// Sends a request and reads its answer to the end, keeping the first `keep` bytes of the body.
    pub(super) async fn send(
        &mut self,
        request: Request<Sent>,
        keep: usize,
    ) -> Result<Answer, Fault> {
        self.sender.ready().await.map_err(Fault::broken)?;
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(Fault::broken)?;
        let status = response.status();
        self.closing = response
            .headers()
            .get_all(CONNECTION)
            .iter()
            .any(says_close);
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(Fault::broken)?;
            if let Some(data) = frame.data_ref() {
                let room = keep - body.len();
                body.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        Ok(Answer { status, body })
    }
}

fn says_close(value: &HeaderValue) -> bool {
    let words = value.to_str().unwrap_or_default().split(',');
    words
        .map(str::trim)
        .any(|word| word.eq_ignore_ascii_case("close"))
}

impl Fault {
    pub(super) fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, detail }
    }

    fn connect(error: io::Error) -> Self {
        Self::new(FailureKind::Connect, error.to_string())
    }

    fn broken(error: hyper::Error) -> Self {
        let kind = if error.is_parse() || has_invalid_data(&error) {
            FailureKind::Malformed
        } else {
            FailureKind::Reset
        };
        Self::new(kind, describe(&error))
    }
}

/// The error and what caused it, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", describe(source)),
        None => error.to_string(),
    }
}

/// A chunk whose size is no number ends as an I/O error of this kind.
fn has_invalid_data(error: &hyper::Error) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| {
        matches!(
            source.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
        )
    })
}

/// A stream that counts what passes.
struct Counted {
    stream: TcpStream,
    passed: Arc<Passed>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        this.passed.read.fetch_add(read as u64, Ordering::SeqCst);
        polled
    }
}

impl Counted {
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = polled {
            self.passed
                .written
                .fetch_add(written as u64, Ordering::SeqCst);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
