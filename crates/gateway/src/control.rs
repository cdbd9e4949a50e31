//! The client of the control API.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::{
    Apply, Certificates, Challenges, Conflict, Counts, Drain, Drained, Held, Hold, Readiness,
    Renew, Resume, Retire, State,
};

/// Why a gateway did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// Nobody answers on the socket, or the conversation broke: it may or may not have been done.
    Unreachable(io::Error),
    /// 409: something else is true than was assumed.
    Conflict(Conflict),
    /// Another refusal.
    Refused {
        /// HTTP status.
        status: u16,
        /// One line for a person.
        text: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "gateway unreachable: {error}"),
            Self::Conflict(conflict) => write!(f, "gateway: {}", conflict.reason),
            Self::Refused { status, text } => write!(f, "gateway refused ({status}): {text}"),
        }
    }
}

impl std::error::Error for Error {}

/// A client of one gateway. Each call is a connection of its own; it needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the gateway whose control socket this is.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Everything that is true now.
    ///
    /// # Errors
    /// [`Error`], as all calls.
    pub async fn state(&self) -> Result<State, Error> {
        self.ask(Method::GET, "/v1/state", &()).await
    }

    /// Switch to another table.
    ///
    /// # Errors
    /// `Conflict` when `expect` is not the epoch, `Refused` with 400 when the table is wrong.
    pub async fn apply(&self, apply: &Apply) -> Result<State, Error> {
        self.ask(Method::PUT, "/v1/table", apply).await
    }

    /// Wait for requests of earlier epochs.
    ///
    /// # Errors
    /// [`Error`]; time being up is none.
    pub async fn drain(&self, drain: &Drain) -> Result<Drained, Error> {
        self.ask(Method::POST, "/v1/drain", drain).await
    }

    /// Hold. Dropping the call before it returns takes the hold back.
    ///
    /// # Errors
    /// `Conflict` when another holds; `Refused` with 504 when requests in flight did not end within the lease.
    pub async fn hold(&self, hold: &Hold) -> Result<Held, Error> {
        self.ask(Method::POST, "/v1/hold", hold).await
    }

    /// Lengthen a hold, or change what its end does.
    ///
    /// # Errors
    /// `Conflict` when the token is not the holder's any more.
    pub async fn renew(&self, renew: &Renew) -> Result<Held, Error> {
        self.ask(Method::POST, "/v1/renew", renew).await
    }

    /// End a hold, or open a closed gateway.
    ///
    /// # Errors
    /// `Conflict` when the token is not the holder's any more, or is missing while somebody holds.
    pub async fn resume(&self, resume: &Resume) -> Result<State, Error> {
        self.ask(Method::POST, "/v1/resume", resume).await
    }

    /// What the requests since the start come to.
    ///
    /// # Errors
    /// [`Error`], as all calls.
    pub async fn counts(&self) -> Result<Counts, Error> {
        self.ask(Method::GET, "/v1/counts", &()).await
    }

    /// Replace what is said about what stands behind the gateway.
    ///
    /// # Errors
    /// [`Error`], as all calls.
    pub async fn readiness(&self, readiness: &Readiness) -> Result<(), Error> {
        self.ask(Method::PUT, "/v1/readiness", readiness).await
    }

    /// Replace what issuers of certificates are answered.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn challenges(&self, challenges: &Challenges) -> Result<Challenges, Error> {
        self.ask(Method::PUT, "/v1/challenges", challenges).await
    }

    /// Have the folder of certificates read again.
    ///
    /// # Errors
    /// [`Error`]; a certificate that cannot be used is none.
    pub async fn certificates(&self) -> Result<Certificates, Error> {
        self.ask(Method::POST, "/v1/certificates", &()).await
    }

    /// Have the process finish and end.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn retire(&self, retire: &Retire) -> Result<Drained, Error> {
        self.ask(Method::POST, "/v1/retire", retire).await
    }

    /// Prometheus text.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn metrics(&self) -> Result<String, Error> {
        let (status, bytes) = self
            .exchange(Method::GET, "/metrics", Bytes::new())
            .await
            .map_err(Error::Unreachable)?;
        match status {
            StatusCode::OK => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Err(refused(status, &bytes)),
        }
    }

    async fn ask<T: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &T,
    ) -> Result<A, Error> {
        let body = match method {
            Method::GET => Vec::new(),
            _ => serde_json::to_vec(body).map_err(|error| Error::Unreachable(error.into()))?,
        };
        let (status, bytes) = self
            .exchange(method, path, body.into())
            .await
            .map_err(Error::Unreachable)?;
        match status {
            StatusCode::OK => {
                serde_json::from_slice(&bytes).map_err(|error| Error::Unreachable(error.into()))
            }
            _ => Err(refused(status, &bytes)),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> io::Result<(StatusCode, Bytes)> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Driven beside the call, not spawned: so a dropped call closes the socket, and any runtime will do.
        let call = async {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, HeaderValue::from_static("gateway"))
                .header(header::CONNECTION, HeaderValue::from_static("close"))
                .body(Full::new(body))
                .map_err(io::Error::other)?;
            let response = sender
                .send_request(request)
                .await
                .map_err(io::Error::other)?;
            let status = response.status();
            let bytes = response
                .into_body()
                .collect()
                .await
                .map_err(io::Error::other)?
                .to_bytes();
            Ok((status, bytes))
        };
        let mut call = std::pin::pin!(call);
        tokio::select! {
            answer = &mut call => answer,
            driven = connection => match driven {
                Ok(()) => call.await,
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }
}

fn refused(status: StatusCode, bytes: &[u8]) -> Error {
    if status == StatusCode::CONFLICT
        && let Ok(conflict) = serde_json::from_slice(bytes)
    {
        return Error::Conflict(conflict);
    }
    Error::Refused {
        status: status.as_u16(),
        text: String::from_utf8_lossy(bytes).trim_end().to_owned(),
    }
}
