//! The control socket: HTTP and JSON over a unix socket, for the owner only.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::Mode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::hold::{Denied, Keeper};
use crate::process::Life;

/// Largest body of a control request.
const BODY: usize = 1 << 20;
const HEAD: Duration = Duration::from_secs(5);

type Answer = Response<Full<Bytes>>;

/// A bound control socket; its file is removed when dropped, unless another took its place.
pub(crate) struct Desk {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Desk {
    /// Bind beside and rename, so that the path is never missing and never a socket nobody accepts on.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".n");
        let beside = PathBuf::from(beside);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The mode must be right from the first moment. No other thread exists yet.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(&beside);
        rustix::process::umask(before);
        let listener = bound?;
        fs::rename(&beside, path)?;
        let inode = fs::metadata(path)?.ino();
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode,
        })
    }

    /// Answer until the life of the process is over.
    pub(crate) async fn serve(self, keeper: Rc<Keeper>, life: Rc<Life>) {
        let mut over = life.over();
        loop {
            tokio::select! {
                _ = over.wait_for(|over| *over) => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        spawn_local(converse(stream, Rc::clone(&keeper), Rc::clone(&life)));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn converse(stream: UnixStream, keeper: Rc<Keeper>, life: Rc<Life>) {
    let mut over: watch::Receiver<bool> = life.over();
    let _talk = life.talk();
    let service = service_fn(move |request| {
        let (keeper, life) = (Rc::clone(&keeper), Rc::clone(&life));
        async move { Ok::<_, Infallible>(answer(request, &keeper, &life).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = over.wait_for(|over| *over) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(request: Request<Incoming>, keeper: &Rc<Keeper>, life: &Rc<Life>) -> Answer {
    let path = request.uri().path().to_owned();
    let Some(method) = method_of(&path) else {
        return text(StatusCode::NOT_FOUND, format!("no such path: {path}"));
    };
    if request.method() != method {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{path} is asked with {method}"),
        );
    }
    match act(&path, request, keeper, life).await {
        Ok(answer) => answer,
        Err(Denied::Conflict(conflict)) => json(StatusCode::CONFLICT, &conflict),
        Err(Denied::Refused(status, words)) => text(status, words),
    }
}

fn method_of(path: &str) -> Option<Method> {
    match path {
        "/v1/state" | "/v1/counts" | "/metrics" => Some(Method::GET),
        "/v1/table" | "/v1/challenges" | "/v1/readiness" => Some(Method::PUT),
        "/v1/certificates" | "/v1/drain" | "/v1/hold" | "/v1/renew" | "/v1/resume"
        | "/v1/retire" => Some(Method::POST),
        _ => None,
    }
}

async fn act(
    path: &str,
    request: Request<Incoming>,
    keeper: &Rc<Keeper>,
    life: &Rc<Life>,
) -> Result<Answer, Denied> {
    let body = request.into_body();
    Ok(match path {
        "/v1/state" => ok(&keeper.state()),
        "/v1/counts" => ok(&keeper.counts()),
        "/v1/table" => ok(&keeper.apply(read(body).await?)?),
        "/v1/drain" => ok(&keeper.drain(read(body).await?).await),
        "/v1/hold" => ok(&keeper.hold(read(body).await?).await?),
        "/v1/renew" => ok(&keeper.renew(&read(body).await?)?),
        "/v1/resume" => ok(&keeper.resume(&read(body).await?)?),
        "/v1/challenges" => ok(&keeper.set_challenges(read(body).await?)),
        "/v1/readiness" => {
            keeper.set_readiness(read(body).await?);
            ok(&())
        }
        "/v1/certificates" => ok(&keeper.reload_certificates()),
        "/v1/retire" => {
            let drained = life.retire(keeper, &read(body).await?).await;
            life.end();
            ok(&drained)
        }
        _ => text(StatusCode::OK, keeper.metrics()),
    })
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Denied> {
    let refused = |words: String| Denied::Refused(StatusCode::BAD_REQUEST, words);
    let bytes = Limited::new(body, BODY)
        .collect()
        .await
        .map_err(|error| refused(format!("body: {error}")))?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| refused(format!("body: {error}")))
}

fn ok<T: Serialize>(value: &T) -> Answer {
    json(StatusCode::OK, value)
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => respond(status, "application/json", bytes),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("answer: {error}"),
        ),
    }
}

fn text(status: StatusCode, mut words: String) -> Answer {
    if !words.ends_with('\n') {
        words.push('\n');
    }
    respond(status, "text/plain; charset=utf-8", words.into_bytes())
}

fn respond(status: StatusCode, kind: &'static str, bytes: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(bytes)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
