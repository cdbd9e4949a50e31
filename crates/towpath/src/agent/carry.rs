//! Carrying blobs to an agent: only what it has not, and behind what has come before.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Response, StatusCode};

use super::blobs::{HAVE, SIZE};
use super::client::{Client, Error, nonsense, whole};
use crate::id::Digest;

/// Hears how many bytes of how many are there.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Attempts that were refused because something stood differently on the far side than it had
/// said; what stands there is asked anew each time.
const ATTEMPTS: u32 = 3;

/// Most bytes in one piece.
const PIECE: usize = 64 << 10;

/// What an agent has of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Have {
    /// All of it: so many bytes.
    All(u64),
    /// The first so many.
    Part(u64),
}

impl Client {
    /// Sends a blob, unless it is there; behind what has come of it, when the link broke before.
    /// Returns the bytes sent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put_blob(
        &self,
        digest: Digest,
        bytes: impl Into<Bytes>,
        progress: Progress,
    ) -> Result<u64, Error> {
        let bytes = bytes.into();
        let total = bytes.len() as u64;
        let source = async |offset: u64| {
            let from = usize::try_from(offset.min(total)).unwrap_or(0);
            Ok((Source::Memory(bytes.slice(from..)), total))
        };
        self.carry(self, digest, progress, source).await
    }

    /// Sends a blob from this agent to another, piece by piece; returns the bytes sent.
    ///
    /// # Errors
    /// [`Error`] of either; of a blob that did not come whole, nothing counts.
    pub async fn copy_blob(
        &self,
        digest: Digest,
        to: &Client,
        progress: Progress,
    ) -> Result<u64, Error> {
        let source = async |offset: u64| {
            let path = format!("/v1/blobs/{digest}?offset={offset}");
            let response = self.send(Method::GET, &path, whole(Bytes::new())).await?;
            let response = self.checked(response).await?;
            let left = number(&response, CONTENT_LENGTH.as_str())
                .ok_or_else(|| nonsense("it does not say how large a blob is"))?;
            Ok((Source::Agent(response.into_body()), offset + left))
        };
        // Of two links either may break.
        let patient = if to.is_linked() { to } else { self };
        to.carry(patient, digest, progress, source).await
    }

    /// `source` gives what comes behind an offset, and how many bytes there are in all.
    async fn carry(
        &self,
        patient: &Client,
        digest: Digest,
        progress: Progress,
        source: impl AsyncFn(u64) -> Result<(Source, u64), Error>,
    ) -> Result<u64, Error> {
        let resumed = AtomicBool::new(false);
        let attempt = async || {
            let offset = match self.has(digest).await? {
                Have::All(_) => return Ok(0),
                Have::Part(offset) => offset,
            };
            resumed.store(offset > 0, Ordering::Relaxed);
            let (source, total) = source(offset).await?;
            let body = StreamBody::new(Pieces {
                source,
                done: offset,
                total,
                progress: progress.clone(),
            });
            let path = format!("/v1/blobs/{digest}?offset={offset}");
            let size = Some((SIZE, total));
            let body = body.boxed_unsync();
            let sent = self.send_with(Method::PUT, &path, size, body).await?;
            self.checked(sent).await?;
            Ok(total.saturating_sub(offset))
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            match patient.again(&attempt).await {
                // What had come before was torn or another's, and is gone now; or somebody else
                // is at it.
                Err(Error::Trouble(trouble))
                    if attempts < ATTEMPTS
                        && match trouble.diagnostic.code.as_ref() {
                            "transfer::digest" => resumed.load(Ordering::Relaxed),
                            code => matches!(code, "transfer::replaced" | "transfer::cut"),
                        } => {}
                ended => return ended,
            }
        }
    }

    /// Whether the agent has a blob.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has_blob(&self, digest: Digest) -> Result<bool, Error> {
        let have = self.again(async || self.has(digest).await).await?;
        Ok(matches!(have, Have::All(_)))
    }

    async fn has(&self, digest: Digest) -> Result<Have, Error> {
        let path = format!("/v1/blobs/{digest}");
        let response = self.send(Method::HEAD, &path, whole(Bytes::new())).await?;
        match response.status() {
            StatusCode::OK => Ok(Have::All(
                number(&response, CONTENT_LENGTH.as_str()).unwrap_or(0),
            )),
            StatusCode::NOT_FOUND => Ok(Have::Part(number(&response, HAVE).unwrap_or(0))),
            status => Err(nonsense(format!("it answered {status}"))),
        }
    }
}

fn number(response: &Response<Incoming>, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

/// Where the bytes come from.
enum Source {
    Memory(Bytes),
    Agent(Incoming),
}

/// A body, piece by piece.
struct Pieces {
    source: Source,
    done: u64,
    total: u64,
    progress: Progress,
}

impl futures_core::Stream for Pieces {
    type Item = std::io::Result<Frame<Bytes>>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let polled = match &mut self.source {
            Source::Memory(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Memory(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Source::Agent(body) => hyper::body::Body::poll_frame(Pin::new(body), context)
                .map(|frame| frame.map(|frame| frame.map_err(std::io::Error::other))),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.done += frame.data_ref().map_or(0, Bytes::len) as u64;
            (self.progress)(self.done, self.total);
        }
        polled
    }
}
