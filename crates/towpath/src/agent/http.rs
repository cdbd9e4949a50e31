//! Which request goes where.

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;

use super::answer::{Body, Failure, channel, failed, full, json, line, wrong};
use super::{Agent, End, api, logs, releases, runs, status};
use crate::diagnostic::Diagnostic;
use crate::id::{Digest, ReleaseId, RunId};
use crate::link::PROTOCOL;
use crate::state::Kind;

/// A JSON body is a manifest and little more.
const BODY_LIMIT: usize = 4 << 20;

/// Answers one request.
pub(super) async fn answer(
    agent: Arc<Agent>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let answered = route(&agent, request).await;
    Ok(answered.unwrap_or_else(|failure| failure.response()))
}

async fn route(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["v1", "hello"]) => Ok(json(&hello(agent))),
        (&Method::GET, ["v1", "status"]) => Ok(json(&status::status(&agent.world).await?)),
        (&Method::POST, ["v1", "runs"]) => begin(agent, request).await,
        (&Method::GET, ["v1", "runs", run, "rows"]) => rows(agent, run.parse().map_err(wrong)?),
        (&Method::POST, ["v1", "cancel"]) => {
            let actor: String = read(request).await?;
            Ok(json(&runs::cancel(&agent.world, &agent.runs, &actor)?))
        }
        (&Method::POST, ["v1", "gc"]) => {
            let asked: api::Collect = read(request).await?;
            Ok(json(
                &runs::collect(&agent.world, &agent.runs, asked).await?,
            ))
        }
        (&Method::GET, ["v1", "releases"]) => Ok(json(&releases::list(&agent.world)?)),
        (&Method::GET, ["v1", "releases", id]) => one_release(agent, id.parse().map_err(wrong)?),
        (&Method::POST, ["v1", "releases"]) => Ok(json(&releases::accept(
            &agent.world,
            &read(request).await?,
        )?)),
        (method, ["v1", "blobs", digest]) => {
            let (method, digest) = (method.clone(), digest.parse().map_err(wrong)?);
            blob(agent, &method, digest, request).await
        }
        (&Method::GET, ["v1", "logs"]) => {
            logs::answer(&agent.world, request.uri().query().unwrap_or_default())
        }
        (&Method::POST, ["v1", "exit"]) => Ok(end(agent, End::Exit)),
        (&Method::POST, ["v1", "upgrade"]) => upgrade(agent, read(request).await?),
        _ => Err(wrong(format!(
            "{} /{path} is not known to this version",
            request.method()
        ))),
    }
}

fn hello(agent: &Agent) -> api::Hello {
    api::Hello {
        version: agent.world.version.clone(),
        protocol: PROTOCOL,
    }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let body = Limited::new(request.into_body(), BODY_LIMIT)
        .collect()
        .await;
    let bytes = body
        .map_err(|error| wrong(format!("the body: {error}")))?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| wrong(format!("the body: {error}")))
}

async fn begin(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let asked: api::Begin = read(request).await?;
    if asked.sabotage.is_some() && !agent.world.rehearsal {
        return Err(wrong("faults are planted in rehearsals only"));
    }
    Ok(json(&runs::begin(&agent.world, &agent.runs, asked).await?))
}

fn rows(agent: &Arc<Agent>, run: RunId) -> Result<Response<Body>, Failure> {
    let known = agent.world.environment().map_err(failed)?.last_run;
    if run.0 > known || run.0 == 0 {
        return Err(wrong(format!("there is no run {run}")));
    }
    let (sender, response) = channel();
    let world = agent.world.clone();
    tokio::spawn(async move {
        let (mut last, mut follow) = (0, world.store.follow());
        loop {
            follow.mark_unchanged();
            let Ok(rows) = world.store.rows(last) else {
                return;
            };
            for row in rows {
                last = row.seq;
                let ends =
                    row.step == "run" && matches!(row.kind, Kind::Ok | Kind::Undone | Kind::Stuck);
                if row.run == run && (sender.send(line(&row)).await.is_err() || ends) {
                    return;
                }
            }
            tokio::select! {
                changed = follow.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    Ok(response)
}

fn one_release(agent: &Agent, id: ReleaseId) -> Result<Response<Body>, Failure> {
    Ok(json(&releases::one(&agent.world, id)?))
}

async fn blob(
    agent: &Agent,
    method: &Method,
    digest: Digest,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let blobs = &agent.world.blobs;
    match *method {
        Method::HEAD if blobs.has(digest) => Ok(Response::new(full(Bytes::new()))),
        Method::HEAD => Ok(missing()),
        Method::GET if !blobs.has(digest) => Ok(missing()),
        Method::GET => send_blob(blobs.path(digest)).await,
        Method::PUT => receive_blob(agent, digest, request).await,
        _ => Err(wrong("a blob is got or put")),
    }
}

fn missing() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

async fn send_blob(path: PathBuf) -> Result<Response<Body>, Failure> {
    let mut file = tokio::fs::File::open(&path).await.map_err(wrong)?;
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
    Ok(response)
}

async fn receive_blob(
    agent: &Agent,
    digest: Digest,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let trouble = |error: &dyn std::fmt::Display| {
        failed(
            Diagnostic::error(
                "transfer::failed",
                format!("the blob did not arrive: {error}"),
            )
            .note("nothing of it was kept"),
        )
    };
    if agent.world.blobs.has_for_use(digest) {
        return Ok(json(&digest));
    }
    let mut incoming = agent
        .world
        .blobs
        .incoming()
        .map_err(|error| trouble(&error))?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| trouble(&error))?;
        if let Ok(bytes) = frame.into_data() {
            incoming
                .write_all(&bytes)
                .map_err(|error| trouble(&error))?;
        }
    }
    let finished = tokio::task::spawn_blocking(move || incoming.finish(Some(digest))).await;
    match finished {
        Ok(Ok(digest)) => Ok(json(&digest)),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(error) => Err(trouble(&error)),
    }
}

fn end(agent: &Agent, how: End) -> Response<Body> {
    agent.end(how);
    json(&())
}

fn upgrade(agent: &Agent, upgrade: api::Upgrade) -> Result<Response<Body>, Failure> {
    if !upgrade.tow.is_absolute() || !upgrade.tow.is_file() {
        return Err(wrong(format!(
            "`{}` is not a program's absolute path",
            upgrade.tow.display()
        )));
    }
    Ok(end(agent, End::Become(upgrade.tow)))
}
