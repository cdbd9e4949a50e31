//! One thread of the data path: it accepts, serves, and ends when told to.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::connection::{ClientIo, Connections};
use crate::exchange::Line;
use crate::front::Front;
use crate::handshake;
use crate::metrics::{Failure, Metrics};
use crate::pool::Pool;
use crate::process::Limits;
use crate::proxy::Client;
use crate::request::{HEADERS, Peer};
use crate::socket::Socket;
use crate::streams::{Streams, until_left};
use crate::traffic::{Door, Traffic};

/// Time for a whole head, and for an idle connection to say something.
const HEAD: Duration = Duration::from_secs(30);
/// Largest head of a request, and most headers in it.
const HEAD_BYTES: usize = 64 * 1024;
/// Most streams of an HTTP/2 connection at once, and what of each may wait to be sent or taken, bytes.
const STREAMS: u32 = 100;
const SEND_BYTES: usize = 64 * 1024;
const WINDOW: u32 = 256 * 1024;
/// A connection that has said nothing for so long is asked whether it lives, so often and so many times.
const SILENCE: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASKS: u32 = 6;
/// Pause after an accept failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const SWEEP: Duration = Duration::from_secs(1);

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Accepts nothing; the next response of a connection is its last.
    Lingering,
    /// Idle connections are closed too.
    Closing,
    /// Whatever is left is dropped.
    Ended,
}

/// What a thread needs.
pub(crate) struct Worker {
    pub(crate) shard: usize,
    pub(crate) listeners: Vec<TcpListener>,
    /// So many of them, the first ones, do not speak TLS.
    pub(crate) plain: usize,
    pub(crate) front: Arc<Front>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) limits: Limits,
    pub(crate) phase: watch::Receiver<Phase>,
}

impl Worker {
    /// Serve until the process ends. Blocks.
    pub(crate) fn run(self) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        let line = Rc::new(Line {
            door: Door::new(self.traffic, self.shard),
            front: self.front,
            pool: Pool::default(),
            metrics: self.metrics,
        });
        for (index, listener) in self.listeners.into_iter().enumerate() {
            find_the_dead(&listener)?;
            let acceptor = Rc::new(Acceptor {
                secure: index >= self.plain,
                listener: tokio::net::TcpListener::from_std(listener)?,
                line: Rc::clone(&line),
                connections: Arc::clone(&self.connections),
                limits: self.limits,
                phase: self.phase.clone(),
            });
            spawn_local(acceptor.always());
        }
        spawn_local(sweep(line));
        let mut phase = self.phase;
        let _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
        Ok(())
    }
}

/// Have the kernel end connections whose client is gone without a word: a WebSocket may be silent for ever. Accepted
/// connections have it from their listener.
fn find_the_dead(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_tcp_keepidle(listener, SILENCE)?;
    sockopt::set_tcp_keepintvl(listener, ASK_EVERY)?;
    sockopt::set_tcp_keepcnt(listener, ASKS)?;
    sockopt::set_socket_keepalive(listener, true)?;
    Ok(())
}

async fn sweep(line: Rc<Line>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        line.pool.sweep();
    }
}

struct Acceptor {
    secure: bool,
    listener: tokio::net::TcpListener,
    line: Rc<Line>,
    connections: Arc<Connections>,
    limits: Limits,
    phase: watch::Receiver<Phase>,
}

impl Acceptor {
    /// A panic ends its task and not the accepting.
    async fn always(self: Rc<Self>) {
        while spawn_local(Rc::clone(&self).run()).await.is_err() {}
    }

    async fn run(self: Rc<Self>) {
        let mut phase = self.phase.clone();
        let retired = async move {
            let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
        };
        let mut retired = pin!(retired);
        loop {
            tokio::select! {
                biased;
                () = &mut retired => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let Some(place) = self.connections.take() else {
            self.line.metrics.failed(Failure::TooManyConnections);
            spawn_local(refuse(stream));
            return;
        };
        let client = Client {
            line: Rc::clone(&self.line),
            peer: Peer::new(peer.ip(), self.secure),
            phase: self.phase.clone(),
            place: Rc::new(place),
            session: None,
            streams: Rc::new(Streams::new(self.limits.stall)),
        };
        let stream = Socket::new(stream, self.limits.stall);
        // A panic ends its task, hence this connection, and nothing else.
        if self.secure {
            spawn_local(secure(stream, client));
        } else {
            spawn_local(one(ClientIo::http1(stream), Rc::new(client)));
        }
    }
}

async fn secure(stream: Socket, mut client: Client) {
    let Line { front, metrics, .. } = &*client.line;
    let Some(secured) = handshake::shake(stream, &front.keyring, metrics).await else {
        return;
    };
    client.session = Some(secured.session);
    let client = Rc::new(client);
    match secured.http2 {
        true => two(ClientIo::http2(secured.stream), client).await,
        false => one(ClientIo::http1(secured.stream), client).await,
    }
}

/// HTTP/1 on a connection, until it ends.
async fn one<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    io: ClientIo<S>,
    client: Rc<Client>,
) {
    let mut phase = client.phase.clone();
    let service = service_fn(move |request| Rc::clone(&client).answer(request));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEADERS);
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = reached(&mut phase, Phase::Closing) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        _ = reached(&mut phase, Phase::Ended) => {}
    }
}

/// HTTP/2 on a connection, until it ends. A gateway that retires says so at once: the client opens no more streams
/// here, and those there are are finished.
async fn two<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    io: ClientIo<S>,
    client: Rc<Client>,
) {
    let mut phase = client.phase.clone();
    let streams = Rc::clone(&client.streams);
    let service = service_fn(move |request| Rc::clone(&client).answer(request));
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .max_send_buf_size(SEND_BYTES)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .keep_alive_interval(HEAD)
        .keep_alive_timeout(HEAD);
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut watch = pin!(streams.watch());
    tokio::select! {
        _ = connection.as_mut() => return,
        never = watch.as_mut() => match never {},
        () = streams.idle() => connection.as_mut().graceful_shutdown(),
        () = reached(&mut phase, Phase::Lingering) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        never = watch => match never {},
        // It was said goodbye to, and has no stream: what is left of answers is not taken.
        () = streams.idle() => {}
        () = reached(&mut phase, Phase::Ended) => {}
    }
}

/// Tasks of a connection stay on its thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(until_left(future));
    }
}

async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

async fn refuse(mut stream: TcpStream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let _ = stream.write_all(answer).await;
}
