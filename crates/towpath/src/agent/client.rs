//! Talking to an agent: on this machine by its socket, on another over a link.
//!
//! A link breaks, and a command that is under way is not to notice: what is only asked, and what
//! may be said twice, is said again with growing pauses, until [`Linked::patience`] is over. Not
//! said again is what was refused, and nothing is tried twice on a server that was never reached.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use super::api::Trouble;
use super::dial;
use super::patience::Patience;
use crate::diagnostic::Diagnostic;
use crate::link::{Channel, Fault, Preface, Route};

/// No answer that is one value is longer than this; the longest has the status of some thousand
/// instances.
const ANSWER: usize = 64 << 20;

/// No line is.
const LINE: usize = 16 << 20;

/// Why an agent gave no answer, or not the one asked for.
#[derive(Debug)]
pub enum Error {
    /// It is not there.
    Unreachable(PathBuf, std::io::Error),
    /// The connection broke.
    Broken(String),
    /// The server is not reached, or the link to it broke.
    Link(Box<Fault>),
    /// What it answered cannot be meant.
    Nonsense(String),
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
            Error::Link(fault) => f.write_str(&fault.diagnostic().message),
            Error::Nonsense(why) => write!(f, "the agent's answer is not understood: {why}"),
            Error::Trouble(trouble) => f.write_str(&trouble.diagnostic.message),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Whether the same may go well a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Unreachable(..) | Error::Broken(_) => true,
            Error::Link(fault) => matches!(**fault, Fault::Passing(_)),
            Error::Nonsense(_) | Error::Trouble(_) => false,
        }
    }

    /// What a command prints, and the exit code it ends with.
    #[must_use]
    pub fn into_trouble(self) -> Trouble {
        let text = self.to_string();
        let (exit, diagnostic) = match self {
            Error::Trouble(trouble) => return *trouble,
            Error::Link(fault) => match *fault {
                Fault::Passing(diagnostic) => (1, diagnostic),
                Fault::Refused(refused) => (refused.exit, refused.diagnostic),
            },
            Error::Nonsense(_) => (
                1,
                Diagnostic::error("agent::nonsense", text)
                    .help("see that both sides are of the same version: `tow --version`"),
            ),
            Error::Unreachable(..) | Error::Broken(_) => (
                1,
                Diagnostic::error("agent::unreachable", text)
                    .note("services and gateway run on without it")
                    .help("run the command again: it starts an agent where there is none"),
            ),
        };
        Trouble { exit, diagnostic }
    }
}

pub(super) fn nonsense(error: impl fmt::Display) -> Error {
    Error::Nonsense(error.to_string())
}

pub(super) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A client of one agent; each call is a connection of its own.
#[derive(Clone)]
pub struct Client(Way);

#[derive(Clone)]
enum Way {
    /// With the name of a key, where it is the socket for keys.
    Socket(PathBuf, Option<String>),
    Link(Arc<Linked>),
}

/// An agent that is reached over a link.
pub struct Linked {
    /// The way to it.
    pub route: Route,
    /// Whether its agent may be of any version: only for bringing it to another.
    pub any_version: bool,
    /// How long a link that broke is tried again.
    pub patience: std::time::Duration,
    /// Hears why it is tried again.
    pub tell: Box<dyn Fn(&str) + Send + Sync>,
    /// What the far side said last.
    pub seen: Mutex<Option<Preface>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Socket(path, _) => write!(f, "Client({})", path.display()),
            Way::Link(linked) => write!(f, "Client({})", linked.route.ssh.server),
        }
    }
}

impl Linked {
    fn seen(&self) -> Option<Preface> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    fn lost(&self, why: &str) -> Error {
        let route = &self.route;
        let text = format!("the link to {} broke: {why}", route.ssh.server);
        let diagnostic = Diagnostic::error("link::lost", text)
            .note("what has begun there goes on without this command")
            .help(format!(
                "`tow status -e {0}` shows it, `tow cancel -e {0}` undoes it",
                route.environment
            ));
        Error::Link(Box::new(Fault::Passing(diagnostic)))
    }
}

impl Client {
    /// A client of the agent on `socket`.
    #[must_use]
    pub fn new(socket: PathBuf) -> Client {
        Client(Way::Socket(socket, None))
    }

    /// A client of the same agent as a key that may only deploy.
    #[must_use]
    pub fn with_key(socket: &Path, name: &str) -> Client {
        Client(Way::Socket(super::narrow(socket), Some(name.to_owned())))
    }

    /// A client of an agent on another machine.
    #[must_use]
    pub fn linked(linked: Linked) -> Client {
        Client(Way::Link(Arc::new(linked)))
    }

    /// Whether it is on another machine.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        matches!(self.0, Way::Link(_))
    }

    /// What the far side of the link says of itself; it is asked where it has not been yet.
    ///
    /// # Errors
    /// [`Error::Link`]; `None` for an agent on this machine.
    pub async fn preface(&self) -> Result<Option<Preface>, Error> {
        let Way::Link(linked) = &self.0 else {
            return Ok(None);
        };
        if linked.seen().is_none() {
            self.connect().await?;
        }
        Ok(linked.seen())
    }

    /// The answer to a GET.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.again(async || self.ask(Method::GET, path, Bytes::new()).await)
            .await
    }

    /// The answer to a POST of `value` as JSON. Where the link breaks before there is one, nobody
    /// knows whether it was heard.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(value).map_err(nonsense)?;
        self.ask(Method::POST, path, body.into()).await
    }

    /// The same for what may be said twice, and is said again when the link breaks.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn post_again<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, Error> {
        let body = Bytes::from(serde_json::to_vec(value).map_err(nonsense)?);
        self.again(async || self.ask(Method::POST, path, body.clone()).await)
            .await
    }

    /// The lines of a GET, as they come.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn lines(&self, path: &str) -> Result<Lines, Error> {
        let open = async || {
            let response = self.send(Method::GET, path, whole(Bytes::new())).await?;
            self.checked(response).await
        };
        Ok(Lines {
            client: self.clone(),
            body: self.again(open).await?.into_body(),
            buffer: BytesMut::new(),
        })
    }

    /// Does `work` until the link holds, or patience is over.
    pub(super) async fn again<T>(
        &self,
        work: impl AsyncFn() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Way::Link(linked) = &self.0 else {
            return work().await;
        };
        let mut patience = Patience::new(linked.patience);
        loop {
            match work().await {
                Err(error) if error.is_passing() && linked.seen().is_some() => {
                    let pause = patience.next().ok_or(error)?;
                    tokio::time::sleep(pause).await;
                    (linked.tell)(&format!(
                        "the link to {} broke; trying again",
                        linked.route.ssh.server
                    ));
                }
                ended => return ended,
            }
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let response = self.send(method, path, whole(body)).await?;
        let body = self.checked(response).await?.into_body();
        serde_json::from_slice(&self.all(body).await?).map_err(nonsense)
    }

    async fn connect(&self) -> Result<Stream, Error> {
        match &self.0 {
            Way::Socket(path, key) => {
                let stream = dial::open(path, key.as_deref()).await;
                let stream = stream.map_err(|error| Error::Unreachable(path.clone(), error))?;
                Ok(Box::new(stream))
            }
            Way::Link(linked) => {
                let opened = Channel::open(&linked.route, linked.any_version).await;
                let (channel, preface) = opened.map_err(|fault| Error::Link(Box::new(fault)))?;
                let mut seen = linked.seen.lock().unwrap_or_else(PoisonError::into_inner);
                *seen = Some(preface);
                Ok(Box::new(channel))
            }
        }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        self.send_with(method, path, None, body).await
    }

    /// With a number in the head.
    pub(super) async fn send_with(
        &self,
        method: Method,
        path: &str,
        number: Option<(&str, u64)>,
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "agent");
        if let Some((name, value)) = number {
            request = request.header(name, value);
        }
        let request = request.body(body);
        sender
            .send_request(request.map_err(nonsense)?)
            .await
            .map_err(|error| self.broken(error))
    }

    /// The connection broke, or what came over it is no HTTP.
    pub(super) fn broken(&self, error: impl std::error::Error + 'static) -> Error {
        let whole: &(dyn std::error::Error + 'static) = &error;
        let is_parse = whole
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse);
        match &self.0 {
            _ if is_parse => nonsense(error),
            Way::Socket(..) => Error::Broken(error.to_string()),
            Way::Link(linked) => linked.lost(&error.to_string()),
        }
    }

    pub(super) async fn checked(
        &self,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, Error> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.all(response.into_body()).await?;
        match serde_json::from_slice::<Trouble>(&bytes) {
            Ok(trouble) => Err(Error::Trouble(Box::new(trouble))),
            Err(_) => Err(nonsense(format!("it answered {status}"))),
        }
    }

    async fn all(&self, body: Incoming) -> Result<Bytes, Error> {
        let collected = Limited::new(body, ANSWER).collect().await;
        let collected = collected.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => self.broken(*error),
            Err(error) => nonsense(error),
        })?;
        Ok(collected.to_bytes())
    }
}

type Stream = Box<dyn Both>;

/// What a connection reads from and writes to.
trait Both: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// Lines of an answer that goes on.
pub struct Lines {
    client: Client,
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next line's value; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Broken`] or [`Error::Link`] when the connection broke, which is not the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return serde_json::from_slice(&line).map(Some).map_err(nonsense);
            }
            if self.buffer.len() > LINE {
                return Err(nonsense(format!("a line of more than {LINE} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(|error| self.client.broken(error))?;
                    if let Ok(bytes) = frame.into_data() {
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }
}
