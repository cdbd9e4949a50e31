//! Talking to an agent.

use std::fmt;
use std::path::PathBuf;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::api::Trouble;
use crate::diagnostic::Diagnostic;
use crate::id::Digest;

/// Why an agent gave no answer, or not the one asked for.
#[derive(Debug)]
pub enum Error {
    /// It is not there.
    Unreachable(PathBuf, std::io::Error),
    /// The connection broke.
    Broken(String),
    /// It says no, and why.
    Trouble(Box<Trouble>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable(path, error) => {
                write!(f, "no agent answers on `{}`: {error}", path.display())
            }
            Error::Broken(why) => write!(f, "the connection to the agent broke: {why}"),
            Error::Trouble(trouble) => f.write_str(&trouble.diagnostic.message),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What a command prints, and the exit code it ends with.
    #[must_use]
    pub fn into_trouble(self) -> Trouble {
        match self {
            Error::Trouble(trouble) => *trouble,
            other => {
                let diagnostic = Diagnostic::error("agent::unreachable", other.to_string())
                    .note("services and gateway run on without it")
                    .help("run the command again: it starts an agent where there is none");
                Trouble {
                    exit: 1,
                    diagnostic,
                }
            }
        }
    }
}

fn broken(error: impl fmt::Display) -> Error {
    Error::Broken(error.to_string())
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(bytes: Vec<u8>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A client of the agent on one socket; each call is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the agent on `socket`.
    #[must_use]
    pub fn new(socket: PathBuf) -> Client {
        Client { socket }
    }

    /// The answer to a GET.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        parse(self.send(Method::GET, path, whole(Vec::new())).await?).await
    }

    /// The answer to a POST of `value` as JSON.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(value).map_err(broken)?;
        parse(self.send(Method::POST, path, whole(body)).await?).await
    }

    /// The lines of a GET, as they come.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn lines(&self, path: &str) -> Result<Lines, Error> {
        let response = self.send(Method::GET, path, whole(Vec::new())).await?;
        Ok(Lines {
            body: checked(response).await?.into_body(),
            buffer: BytesMut::new(),
        })
    }

    /// Whether the agent has a blob.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has_blob(&self, digest: Digest) -> Result<bool, Error> {
        let response = self
            .send(
                Method::HEAD,
                &format!("/v1/blobs/{digest}"),
                whole(Vec::new()),
            )
            .await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Sends a blob, unless it is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put_blob(&self, digest: Digest, bytes: Vec<u8>) -> Result<(), Error> {
        if self.has_blob(digest).await? {
            return Ok(());
        }
        let response = self
            .send(Method::PUT, &format!("/v1/blobs/{digest}"), whole(bytes))
            .await?;
        checked(response).await.map(drop)
    }

    /// Sends a blob from this agent to another, piece by piece; returns its bytes.
    ///
    /// # Errors
    /// [`Error`] of either; the other keeps nothing of a blob that did not come whole.
    pub async fn copy_blob(&self, digest: Digest, to: &Client) -> Result<u64, Error> {
        let path = format!("/v1/blobs/{digest}");
        let from = checked(self.send(Method::GET, &path, whole(Vec::new())).await?)
            .await?
            .into_body();
        let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let body = StreamBody::new(Pieces {
            body: from,
            count: count.clone(),
        })
        .boxed_unsync();
        checked(to.send(Method::PUT, &path, body).await?).await?;
        Ok(count.load(std::sync::atomic::Ordering::Relaxed))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| Error::Unreachable(self.socket.clone(), error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "agent")
            .body(body);
        sender
            .send_request(request.map_err(broken)?)
            .await
            .map_err(broken)
    }
}

struct Pieces {
    body: Incoming,
    count: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl futures_core::Stream for Pieces {
    type Item = std::io::Result<Frame<Bytes>>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let polled = hyper::body::Body::poll_frame(std::pin::Pin::new(&mut self.body), context);
        polled.map(|frame| {
            let frame = frame?.map_err(std::io::Error::other);
            let size = frame
                .as_ref()
                .ok()
                .and_then(Frame::data_ref)
                .map_or(0, Bytes::len);
            self.count
                .fetch_add(size as u64, std::sync::atomic::Ordering::Relaxed);
            Some(frame)
        })
    }
}

async fn checked(response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes();
    match serde_json::from_slice::<Trouble>(&bytes) {
        Ok(trouble) => Err(Error::Trouble(Box::new(trouble))),
        Err(_) => Err(Error::Broken(format!("it answered {status}"))),
    }
}

async fn parse<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Error> {
    let bytes = checked(response)
        .await?
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(broken)
}

/// Lines of an answer that goes on.
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next line's value; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Broken`] when the connection broke, which is not the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return serde_json::from_slice(&line).map(Some).map_err(broken);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame.map_err(broken)?.into_data() {
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }
}
