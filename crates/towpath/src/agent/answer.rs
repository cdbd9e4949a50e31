//! Answers, good and bad.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use super::api::Trouble;
use crate::diagnostic::Diagnostic;

/// Body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What goes wrong with a request, and how the command ends that made it.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    trouble: Trouble,
}

fn failure(status: StatusCode, exit: u8, diagnostic: Diagnostic) -> Failure {
    Failure {
        status,
        trouble: Trouble { exit, diagnostic },
    }
}

/// Something outside failed: exit code 1.
pub(super) fn failed(diagnostic: Diagnostic) -> Failure {
    failure(StatusCode::INTERNAL_SERVER_ERROR, 1, diagnostic)
}

/// The request itself is wrong: exit code 2.
pub(super) fn wrong(why: impl std::fmt::Display) -> Failure {
    failure(
        StatusCode::BAD_REQUEST,
        2,
        Diagnostic::error("agent::wrong-request", why.to_string()),
    )
}

/// What is named there is not: exit code 2.
pub(super) fn unknown(diagnostic: Diagnostic) -> Failure {
    failure(StatusCode::BAD_REQUEST, 2, diagnostic)
}

/// Manifest, migration or record is invalid: exit code 3.
pub(super) fn invalid(diagnostic: Diagnostic) -> Failure {
    failure(StatusCode::UNPROCESSABLE_ENTITY, 3, diagnostic)
}

/// A lock or a policy stands against it: exit code 4.
pub(super) fn refused(diagnostic: Diagnostic) -> Failure {
    failure(StatusCode::CONFLICT, 4, diagnostic)
}

/// Whoever asks may not: exit code 4.
pub(super) fn forbidden(diagnostic: Diagnostic) -> Failure {
    failure(StatusCode::FORBIDDEN, 4, diagnostic)
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Response<Body> {
    respond(StatusCode::OK, value)
}

impl Failure {
    pub(super) fn response(&self) -> Response<Body> {
        respond(self.status, &self.trouble)
    }
}

fn respond<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(full(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/json"),
    );
    response
}

/// A body of these bytes.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that is fed from elsewhere.
pub(super) fn channel() -> (mpsc::Sender<Bytes>, Response<Body>) {
    let (sender, receiver) = mpsc::channel::<Bytes>(16);
    let stream = Channel(receiver);
    (
        sender,
        Response::new(StreamBody::new(stream).boxed_unsync()),
    )
}

struct Channel(mpsc::Receiver<Bytes>);

impl futures_core::Stream for Channel {
    type Item = std::io::Result<Frame<Bytes>>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0
            .poll_recv(context)
            .map(|received| received.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// One JSON object and a line's end.
pub(super) fn line(value: &impl serde::Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
