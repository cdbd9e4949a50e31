//! A strict HTTP/1.1 client: nothing that may have had an effect is sent twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request};

use super::connection::{Answer, Connection, Fault, Mark};
use super::report::{FailureKind, Resent};
use super::sent::Sent;
use super::{Error, Token};

/// Time from sending a request to the end of its answer.
const TIME_OUT: Duration = Duration::from_secs(10);

/// Whom requests are for, and in whose name.
#[derive(Debug)]
pub(super) struct Target {
    addr: SocketAddr,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

/// A request as it is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Bytes,
    /// Whether it opens a connection of its own and closes it.
    pub(super) fresh: bool,
    /// Whether it takes its time over the body.
    pub(super) slow: bool,
}

/// A client with at most one kept connection.
#[derive(Debug)]
pub(super) struct Client {
    target: Arc<Target>,
    kept: Option<Connection>,
    /// Requests that were sent again.
    pub(super) resent: Resent,
}

impl Target {
    pub(super) fn new(
        addr: SocketAddr,
        host: Option<&str>,
        token: Option<&Token>,
    ) -> Result<Self, Error> {
        let host = host.map_or_else(|| addr.to_string(), str::to_owned);
        let authorization = token.map(Token::authorization).transpose()?;
        Ok(Self {
            addr,
            host: HeaderValue::from_str(&host).map_err(|_| Error::Host(host))?,
            authorization,
        })
    }

    /// The request; an error when its path is none.
    pub(super) fn request(&self, ask: &Ask<'_>) -> Result<Request<Sent>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(ask.path)
            .header(header::HOST, &self.host);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if ask.method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if ask.fresh {
            request = request.header(header::CONNECTION, "close");
        }
        request.body(Sent::new(ask.body.clone(), ask.slow))
    }
}

impl<'a> Ask<'a> {
    /// A GET over a kept connection.
    pub(super) fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: Bytes::new(),
            fresh: false,
            slow: false,
        }
    }
}

impl Client {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            kept: None,
            resent: Resent::default(),
        }
    }

    /// The whole answer, with the first `keep` bytes of its body.
    pub(super) async fn send(&mut self, ask: &Ask<'_>, keep: usize) -> Result<Answer, Fault> {
        let late = || {
            Fault::new(
                FailureKind::TimeOut,
                format!("no whole answer in {} s", TIME_OUT.as_secs()),
            )
        };
        let sent = tokio::time::timeout(TIME_OUT, self.exchange(ask, keep)).await;
        sent.unwrap_or_else(|_| Err(late()))
    }

    /// A connection goes back to be kept only after a whole answer; a time-out drops it here.
    async fn exchange(&mut self, ask: &Ask<'_>, keep: usize) -> Result<Answer, Fault> {
        if !ask.fresh
            && let Some(connection) = self.kept.take().filter(Connection::is_open)
            && let Some(answered) = self.reuse(connection, ask, keep).await
        {
            return answered;
        }
        let request = self.request(ask)?;
        let mut connection = Connection::open(self.target.addr).await?;
        let answer = connection.send(request, keep).await?;
        if !ask.fresh {
            self.kept = Some(connection);
        }
        Ok(answer)
    }

    /// `None` when the connection turned out to be closed and the request may go over another.
    async fn reuse(
        &mut self,
        mut connection: Connection,
        ask: &Ask<'_>,
        keep: usize,
    ) -> Option<Result<Answer, Fault>> {
        let request = match self.request(ask) {
            Ok(request) => request,
            Err(fault) => return Some(Err(fault)),
        };
        let before = connection.mark();
        let answered = connection.send(request, keep).await;
        if answered.is_ok() {
            self.kept = Some(connection);
        } else if self.may_resend(ask, before, connection.mark()) {
            return None;
        }
        Some(answered)
    }

    fn may_resend(&mut self, ask: &Ask<'_>, before: Mark, after: Mark) -> bool {
        if after == before {
            self.resent.unsent += 1;
            return true;
        }
        let repeatable = after.read == before.read && ask.method == Method::GET;
        self.resent.repeated += u64::from(repeatable);
        repeatable
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Sent>, Fault> {
        self.target
            .request(ask)
            .map_err(|error| Fault::new(FailureKind::Malformed, error.to_string()))
    }
}
