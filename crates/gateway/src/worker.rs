//! One thread of the data path: it accepts, serves, and ends when told to.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::connection::{ClientIo, Connections};
use crate::exchange::Line;
use crate::metrics::{Failure, Metrics};
use crate::pool::Pool;
use crate::proxy::Client;
use crate::request::Peer;
use crate::traffic::{Door, Traffic};

/// Time for a whole head, and for an idle connection to say something.
const HEAD: Duration = Duration::from_secs(30);
/// Largest head of a request, and most headers in it.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;
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
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) connections: Arc<Connections>,
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
            pool: Pool::default(),
            metrics: self.metrics,
        });
        for listener in self.listeners {
            let acceptor = Rc::new(Acceptor {
                listener: tokio::net::TcpListener::from_std(listener)?,
                line: Rc::clone(&line),
                connections: Arc::clone(&self.connections),
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

async fn sweep(line: Rc<Line>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        line.pool.sweep();
    }
}

struct Acceptor {
    listener: tokio::net::TcpListener,
    line: Rc<Line>,
    connections: Arc<Connections>,
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
            peer: Peer::new(peer.ip()),
            phase: self.phase.clone(),
            place: Rc::new(place),
        };
        // A panic ends its task, hence this connection, and nothing else.
        spawn_local(serve(ClientIo::new(stream), Rc::new(client)));
    }
}

async fn serve(io: ClientIo, client: Rc<Client>) {
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

async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

async fn refuse(mut stream: TcpStream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let _ = stream.write_all(answer).await;
}
