//! Blobs that come and go.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::timeout;

use super::Agent;
use super::answer::{Body, Failure, channel, failed, full, json, refused, wrong};
use super::caller::Caller;
use super::http::number;
use crate::diagnostic::Diagnostic;
use crate::id::Digest;
use crate::release::of_no_release;
use crate::state::{self, Limit, Partial};

/// How many bytes of a blob have come, in the answer that it is not here.
pub(super) const HAVE: &str = "towpath-have";

/// How many bytes a blob has in all, in the head of the request that sends it.
pub(super) const SIZE: &str = "towpath-size";

/// Who is refused may still be sending; so long it is listened to, that it hears why.
const LISTENS: Duration = Duration::from_secs(10);

/// Whether it is here, and how large it is; if not, how much of it is.
pub(super) fn look(agent: &Agent, digest: Digest) -> Response<Body> {
    let blobs = &agent.world.blobs;
    // Who asks will not send it, so it is not to be taken for forgotten from now on.
    let _ = blobs.has_for_use(digest);
    match std::fs::metadata(blobs.path(digest)) {
        Ok(found) => with(
            Response::new(full(Bytes::new())),
            CONTENT_LENGTH,
            found.len(),
        ),
        Err(_) => with(missing(), HAVE, blobs.has_part(digest)),
    }
}

fn with(
    mut response: Response<Body>,
    name: impl hyper::header::IntoHeaderName,
    value: u64,
) -> Response<Body> {
    response.headers_mut().insert(name, value.into());
    response
}

fn missing() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Its bytes, from `offset=N` on. Their number is said, so that an end in the middle is seen.
pub(super) async fn send(
    agent: &Agent,
    digest: Digest,
    query: &str,
) -> Result<Response<Body>, Failure> {
    let offset: u64 = number(query, "offset")?;
    let path = agent.world.blobs.path(digest);
    let Ok(mut file) = tokio::fs::File::open(&path).await else {
        return Ok(missing());
    };
    let size = file.metadata().await.map_err(wrong)?.len();
    let left = size
        .checked_sub(offset)
        .ok_or_else(|| wrong(format!("it has {size} bytes")))?;
    file.seek(std::io::SeekFrom::Start(offset))
        .await
        .map_err(wrong)?;
    let (sender, response) = channel();
    tokio::spawn(async move {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = file.read(&mut piece).await {
            if sender
                .send(Bytes::copy_from_slice(&piece[..read]))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    Ok(with(response, CONTENT_LENGTH, left))
}

/// Takes its bytes from `offset=N` on, behind those that have come. What comes before the link
/// breaks is kept, and counts for nothing until all has come and is what its digest says.
pub(super) async fn receive(
    agent: &Agent,
    caller: &Caller,
    digest: Digest,
    query: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    if agent.world.blobs.has_for_use(digest) {
        return Ok(json(&digest));
    }
    let offset = number(query, "offset")?;
    let limit = limit(agent, caller, &request)?;
    let mut body = request.into_body();
    let taken = take(agent, (digest, offset, limit), &mut body).await;
    let partial = taken.inspect_err(|_| {
        tokio::spawn(timeout(LISTENS, async move {
            while let Some(Ok(_)) = body.frame().await {}
        }));
    })?;
    let finished = tokio::task::spawn_blocking(move || partial.finish()).await;
    let finished = finished.map_err(|error| cut(&error))?;
    finished
        .map(|digest| json(&digest))
        .map_err(|error| trouble(&error))
}

fn limit(agent: &Agent, caller: &Caller, request: &Request<Incoming>) -> Result<Limit, Failure> {
    let size = request.headers().get(SIZE).map(|size| {
        let size = size.to_str().ok().and_then(|size| size.parse().ok());
        size.ok_or_else(|| wrong(format!("`{SIZE}` is no number")))
    });
    let taken = |share: u64| Ok(share.saturating_sub(of_no_release(&agent.world)?));
    let share = caller.share().map(taken).transpose().map_err(failed)?;
    let size = size.transpose()?;
    Ok(Limit { size, share })
}

async fn take(
    agent: &Agent,
    (digest, offset, limit): (Digest, u64, Limit),
    body: &mut Incoming,
) -> Result<Partial, Failure> {
    let partial = agent.world.blobs.receive(digest, offset, limit);
    let mut partial = partial.map_err(|error| trouble(&error))?;
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(|error| cut(&error))?.into_data() {
            partial.add(&bytes).map_err(|error| trouble(&error))?;
        }
    }
    Ok(partial)
}

fn cut(error: &dyn std::fmt::Display) -> Failure {
    let text = format!("the blob did not arrive: {error}");
    failed(
        Diagnostic::error("transfer::cut", text)
            .note("what has come is kept, and the next attempt goes on behind it"),
    )
}

fn trouble(error: &state::Error) -> Failure {
    let text = format!("the blob did not arrive: {error}");
    match error {
        state::Error::Digest => {
            failed(Diagnostic::error("transfer::digest", text).note("nothing of it was kept"))
        }
        state::Error::Offset { .. } | state::Error::Replaced => refused(
            Diagnostic::error("transfer::replaced", text)
                .note("it comes in over another connection"),
        ),
        state::Error::Room { .. } => failed(
            Diagnostic::error("transfer::no-room", text)
                .note("nothing of it was kept")
                .help("make room on the disk of the environment; `tow gc` removes what no release needs"),
        ),
        state::Error::Share { .. } => refused(
            Diagnostic::error("transfer::too-much", text)
                .note("what a key sends, and no release needs, has a limit; nothing of it was kept")
                .help("an operator's `tow gc` removes what is older than an hour"),
        ),
        _ => failed(Diagnostic::error("transfer::failed", text).note("nothing of it counts")),
    }
}
