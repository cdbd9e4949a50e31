//! A small application: it counts what reaches it, and can be slow, stream, and echo over a WebSocket.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Length of the answer to `/large`: more than a client takes of a stream that nobody reads.
pub const LARGE: usize = 4 << 20;

/// What the test sees of an application.
#[derive(Default)]
pub struct Seen {
    /// Requests that reached it.
    pub requests: AtomicU64,
    /// Connections it accepted.
    pub connections: AtomicU64,
    /// Lets requests to `/wait` go on.
    pub go: Notify,
    /// Senders of the open `/events` streams.
    pub events: Mutex<Vec<mpsc::UnboundedSender<Bytes>>>,
    /// Close the connection instead of answering so many requests.
    pub slam: AtomicU64,
}

/// A running application; everything of it is closed at once when it is killed or dropped.
pub struct App {
    pub addr: SocketAddr,
    pub seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl App {
    pub fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), Arc::default())
    }

    /// A new one at an address that is free again.
    pub fn again(addr: SocketAddr, seen: Arc<Seen>) -> Self {
        // Standard listeners set SO_REUSEADDR, so connections in TIME_WAIT are no hindrance.
        Self::on(TcpListener::bind(addr).unwrap(), seen)
    }

    fn on(listener: TcpListener, seen: Arc<Seen>) -> Self {
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            addr,
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn count(&self) -> u64 {
        self.seen.requests.load(SeqCst)
    }

    pub fn kill(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        seen.connections.fetch_add(1, SeqCst);
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&seen)));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

/// An error makes hyper close the connection without an answer.
async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Answer, std::io::Error> {
    seen.requests.fetch_add(1, SeqCst);
    if seen
        .slam
        .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
        .is_ok()
    {
        return Err(std::io::Error::other("slam"));
    }
    let path = request.uri().path().to_owned();
    Ok(match path.trim_start_matches("/stream") {
        "/wait" if !request.headers().contains_key("x-now") => {
            seen.go.notified().await;
            whole("waited")
        }
        "/echo" => whole(
            request
                .into_body()
                .collect()
                .await
                .map_err(std::io::Error::other)?
                .to_bytes(),
        ),
        "/head" => whole(head(&request)),
        "/with" => with(&request),
        "/large" => whole(vec![b'x'; LARGE]),
        "/events" => events(&seen),
        "/ws" => websocket(request),
        _ => whole("hello"),
    })
}

fn whole(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()).boxed())
}

/// An answer with the headers that the request asks for: `X-Answer: name: value`.
fn with(request: &Request<Incoming>) -> Answer {
    let body = request.headers().get("x-body");
    let mut answer = whole(body.map_or(&b"with"[..], |body| body.as_bytes()).to_vec());
    for wanted in request.headers().get_all("x-answer") {
        let (name, value) = wanted.to_str().unwrap().split_once(": ").unwrap();
        let name = hyper::header::HeaderName::try_from(name).unwrap();
        answer.headers_mut().append(name, value.parse().unwrap());
    }
    if let Some(status) = request.headers().get("x-status") {
        *answer.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
    }
    answer
}

/// The request as it arrived, a line each.
fn head(request: &Request<Incoming>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!(
            "{name}: {}\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    text
}

fn events(seen: &Seen) -> Answer {
    let (sender, receiver) = mpsc::unbounded_channel();
    seen.events.lock().unwrap().push(sender);
    Response::new(Events(receiver).boxed())
}

/// A body of whatever is sent into a channel.
struct Events(mpsc::UnboundedReceiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|item| item.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Echoes frames back unmasked, as they are short: two bytes of head, four of mask.
fn websocket(mut request: Request<Incoming>) -> Answer {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut head = [0; 6];
        // The instance may speak first, at once.
        let _ = stream.write_all(b"\x81\x02hi").await;
        while stream.read_exact(&mut head).await.is_ok() {
            let mut payload = vec![0; usize::from(head[1] & 0x7f)];
            stream.read_exact(&mut payload).await.unwrap();
            payload
                .iter_mut()
                .zip(head[2..].iter().cycle())
                .for_each(|(byte, mask)| *byte ^= mask);
            let frame = [&[head[0], payload.len() as u8], payload.as_slice()].concat();
            let _ = stream.write_all(&frame).await;
        }
    });
    let mut response = whole("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert("upgrade", "websocket".parse().unwrap());
    response
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    response
}
