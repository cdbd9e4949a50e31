//! One thread's connections to the instances.
//!
//! A connection knows how many bytes went each way, so that a request that failed can be told from one that was never
//! written, and an answer that never began from one that was cut.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::{RecvFlags, Shutdown};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::body::Outgoing;

/// Under the keep-alive of the servers in use (Node closes after 5 s).
const IDLE: Duration = Duration::from_secs(4);
/// The same where a request cannot be sent again: a server that was busy closes what it finds idle on its clock before
/// it reads what has come meanwhile. So this leaves it seconds to be busy.
const IDLE_ONCE: Duration = Duration::from_secs(1);
/// Idle connections kept for one address by one thread.
const KEPT: usize = 256;
const CONNECT: Duration = Duration::from_secs(1);
/// Largest head of a response.
const RESPONSE_HEAD: usize = 64 * 1024;

/// A socket to an instance, shared by hyper, which drives it, and the pool, which judges it.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    written: AtomicU64,
    read: AtomicU64,
}

impl Socket {
    /// Whether the peer has neither closed it nor sent anything; true of every idle connection that is still good.
    fn quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let seen = rustix::net::recv(
            self.stream.as_fd(),
            &mut byte,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        );
        matches!(seen, Err(rustix::io::Errno::AGAIN))
    }
}

/// hyper's end of a socket.
struct Wire(Arc<Socket>);

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            // SAFETY: the bytes are only written to, by `ReadBuf`, which never makes an initialized one uninitialized.
            let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
            let count = match self.0.stream.try_read_buf(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
            };
            self.0.read.fetch_add(count as u64, Relaxed);
            // SAFETY: `try_read_buf` has initialized this many bytes.
            unsafe { cursor.advance(count) };
            return Poll::Ready(Ok(()));
        }
    }
}

impl Wire {
    fn write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(cx))?;
            match write(&self.0.stream) {
                Ok(count) => {
                    self.0.written.fetch_add(count as u64, Relaxed);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream| stream.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(self.0.stream.as_fd(), Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream| stream.try_write_vectored(bytes))
    }
}

/// A connection taken for one request.
pub(crate) struct Upstream {
    pub(crate) sender: SendRequest<Outgoing>,
    addr: SocketAddr,
    /// Whether an earlier request went over it.
    pub(crate) reused: bool,
    socket: Arc<Socket>,
    marks: (u64, u64),
}

impl Upstream {
    fn new(idle: Idle, reused: bool) -> Self {
        let marks = (
            idle.socket.written.load(Relaxed),
            idle.socket.read.load(Relaxed),
        );
        Self {
            sender: idle.sender,
            addr: idle.addr,
            reused,
            socket: idle.socket,
            marks,
        }
    }

    /// Whether no byte of this request was written.
    pub(crate) fn unwritten(&self) -> bool {
        self.socket.written.load(Relaxed) == self.marks.0
    }

    /// Whether no byte of its response was read.
    pub(crate) fn silent(&self) -> bool {
        self.socket.read.load(Relaxed) == self.marks.1
    }
}

struct Idle {
    sender: SendRequest<Outgoing>,
    addr: SocketAddr,
    socket: Arc<Socket>,
    since: Instant,
}

/// One thread's idle connections.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>>>,
}

impl Pool {
    /// An idle connection that is still good; a younger one, looked at twice, when the request must not fail on a stale
    /// one.
    pub(crate) async fn reuse(&self, addr: SocketAddr, careful: bool) -> Option<Upstream> {
        let longest = if careful { IDLE_ONCE } else { IDLE };
        loop {
            // Those below the last are older still.
            let mut idle = {
                let mut all = self.idle.borrow_mut();
                all.get_mut(&addr)?
                    .pop_if(|last| last.since.elapsed() <= longest)?
            };
            if (!careful || idle.socket.quiet()) && idle.sender.ready().await.is_ok() {
                return Some(Upstream::new(idle, true));
            }
        }
    }

    /// A new connection.
    pub(crate) async fn connect(&self, addr: SocketAddr) -> io::Result<Upstream> {
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(addr)).await??;
        stream.set_nodelay(true)?;
        let socket = Arc::new(Socket {
            stream,
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
        });
        let mut builder = http1::Builder::new();
        builder.max_header_size(RESPONSE_HEAD);
        let (sender, connection) = builder
            .handshake(Wire(Arc::clone(&socket)))
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(connection.with_upgrades());
        Ok(Upstream::new(
            Idle {
                sender,
                addr,
                socket,
                since: Instant::now(),
            },
            false,
        ))
    }

    /// Keep a connection whose response was read to its end.
    pub(crate) fn keep(&self, upstream: Upstream) {
        if upstream.sender.is_closed() {
            return;
        }
        let Upstream {
            sender,
            addr,
            socket,
            ..
        } = upstream;
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(addr).or_default();
        if kept.len() < KEPT {
            kept.push(Idle {
                sender,
                addr,
                socket,
                since: Instant::now(),
            });
        }
    }

    /// Drop every idle connection to an address whose process is gone.
    pub(crate) fn forget(&self, addr: SocketAddr) {
        self.idle.borrow_mut().remove(&addr);
    }

    /// Drop connections that were idle for too long.
    pub(crate) fn sweep(&self) {
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| idle.since.elapsed() <= IDLE && !idle.sender.is_closed());
            !kept.is_empty()
        });
    }
}
