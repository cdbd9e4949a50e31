//! Which request goes where.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde::de::DeserializeOwned;

use super::answer::{Body, Failure, channel, failed, json, line, wrong};
use super::caller::Caller;
use super::routes::{self, Action};
use super::{
    Agent, End, api, blobs, logins, logs, maintenance, metrics, releases, runs, secrets, status,
};
use crate::id::{ReleaseId, RunId};
use crate::link::PROTOCOL;
use crate::release::drift;
use crate::state::Kind;

/// A JSON body is a manifest and little more.
const BODY_LIMIT: usize = 4 << 20;

/// Answers one request.
pub(super) async fn answer(
    agent: Arc<Agent>,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    agent.heard.now();
    let answered = route(&agent, &caller, request).await;
    Ok(answered.unwrap_or_else(|failure| failure.response()))
}

async fn route(
    agent: &Arc<Agent>,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().clone();
    let Some((action, part)) = routes::find(method.as_str(), &path) else {
        return Err(wrong(format!(
            "{method} {path} is not known to this version"
        )));
    };
    if !caller.may(action) {
        return Err(caller.refusal(&format!("ask for {method} {path}")));
    }
    match action {
        Action::Hello => Ok(json(&hello(agent))),
        Action::Status => {
            let status = status::status(&agent.world, &agent.monitor).await?;
            Ok(json(&caller.status(status)))
        }
        Action::Metrics => Ok(json(&api::MetricsText {
            text: metrics::text(&agent.world, &agent.monitor).await,
        })),
        Action::Health => Ok(json(&status::health(&agent.world, &agent.monitor).await?)),
        Action::Begin => begin(agent, caller, request).await,
        Action::Rows => rows(agent, caller, part.parse().map_err(wrong)?, &query),
        Action::Cancel => cancel(agent, caller, request).await,
        Action::Collect => {
            let asked: api::Collect = read(request).await?;
            Ok(json(
                &runs::collect(&agent.world, &agent.runs, asked).await?,
            ))
        }
        Action::Schemas => {
            let asked: api::LookAtSchemas = read(request).await?;
            caller.admit_tree(asked.tree.is_some())?;
            Ok(json(&runs::schemas(&agent.world, asked).await?))
        }
        Action::Releases => Ok(json(&releases::list(&agent.world)?)),
        Action::Release => one_release(agent, part.parse().map_err(wrong)?),
        Action::Accept => {
            let offer = read(request).await?;
            Ok(json(&releases::accept(&agent.world, caller, &offer)?))
        }
        Action::LookForBlob => Ok(blobs::look(agent, part.parse().map_err(wrong)?)),
        Action::SendBlob => blobs::send(agent, part.parse().map_err(wrong)?, &query).await,
        Action::ReceiveBlob => {
            blobs::receive(agent, caller, part.parse().map_err(wrong)?, &query, request).await
        }
        Action::Logs => logs::answer(&agent.world, &query),
        Action::Exit => Ok(end(agent, End::Exit)),
        Action::Secrets => Ok(json(&secrets::status(&agent.world)?)),
        Action::TakeSecrets => Ok(json(&secrets::take(&agent.world, &read(request).await?)?)),
        Action::Drift => Ok(json(&drift(&agent.world).map_err(failed)?)),
        Action::Maintenance => {
            let asked = read(request).await?;
            Ok(json(&maintenance::set(&agent.world, asked).await?))
        }
        Action::Holders => Ok(json(&secrets::holders(&agent.world).await?)),
        Action::Login => Ok(json(&logins::look(&agent.world, part).await?)),
        Action::MoveLogin => {
            let asked: api::MoveLogin = read(request).await?;
            Ok(json(
                &logins::go(&agent.world, &agent.runs, part, asked).await?,
            ))
        }
        Action::Audit => Ok(json(&secrets::audit(&agent.world)?)),
        Action::Upgrade => upgrade(agent, caller, &read(request).await?),
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

async fn begin(
    agent: &Arc<Agent>,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let mut asked: api::Begin = read(request).await?;
    if asked.sabotage.is_some() && !agent.world.rehearsal {
        return Err(wrong("faults are planted in rehearsals only"));
    }
    caller.admit(&asked)?;
    asked.actor = caller.actor(asked.actor);
    // A connection that breaks takes its own task with it, but not what it has asked for: half a plan would go on
    // unpacking beside the next attempt.
    let (world, runs) = (agent.world.clone(), agent.runs.clone());
    let begun = tokio::spawn(async move { runs::begin(&world, &runs, asked).await });
    Ok(json(&begun.await.map_err(|_| failed(runs::panicked()))??))
}

async fn cancel(
    agent: &Arc<Agent>,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let actor = caller.actor(read(request).await?);
    let open = agent.world.environment().map_err(failed)?.open;
    if let Some(run) = open {
        caller.own(&run.plan.actor)?;
    }
    Ok(json(&runs::cancel(&agent.world, &agent.runs, &actor)?))
}

/// The rows of a run, behind the one that `after=SEQ` names.
fn rows(
    agent: &Arc<Agent>,
    caller: &Caller,
    run: RunId,
    query: &str,
) -> Result<Response<Body>, Failure> {
    let after = number(query, "after")?;
    let known = agent.world.environment().map_err(failed)?.last_run;
    if run.0 > known || run.0 == 0 {
        return Err(wrong(format!("there is no run {run}")));
    }
    caller.own(&runs::actor(&agent.world, run)?)?;
    let caller = caller.clone();
    let (sender, response) = channel();
    let world = agent.world.clone();
    tokio::spawn(async move {
        let (mut last, mut follow) = (after, world.store.follow());
        loop {
            follow.mark_unchanged();
            let Ok(rows) = world.store.rows(last) else {
                return;
            };
            let turns = rows
                .iter()
                .filter(|row| row.run == run && row.step == "run");
            let turned = turns.map(|row| row.seq).max().unwrap_or(0);
            for row in rows {
                last = row.seq;
                // A stuck run that a person has gone on with has not ended there.
                let ends = row.step == "run"
                    && match row.kind {
                        Kind::Ok | Kind::Undone => true,
                        Kind::Stuck => row.seq == turned,
                        _ => false,
                    };
                if row.run == run && (sender.send(line(&caller.row(row))).await.is_err() || ends) {
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

/// A query of at most one number, `name=7`; 0 where there is none.
pub(super) fn number<T: FromStr + Default>(query: &str, name: &str) -> Result<T, Failure> {
    if query.is_empty() {
        return Ok(T::default());
    }
    let value = query
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('='));
    let number = value.and_then(|value| value.parse().ok());
    number.ok_or_else(|| wrong(format!("`{query}` is not understood")))
}

fn one_release(agent: &Agent, id: ReleaseId) -> Result<Response<Body>, Failure> {
    Ok(json(&releases::one(&agent.world, id)?))
}

fn end(agent: &Agent, how: End) -> Response<Body> {
    agent.end(how);
    json(&())
}

fn upgrade(
    agent: &Agent,
    caller: &Caller,
    upgrade: &api::Upgrade,
) -> Result<Response<Body>, Failure> {
    caller.admit_program(&upgrade.tow, &agent.world.supervisor.places().tow)?;
    if !upgrade.tow.is_absolute() || !upgrade.tow.is_file() {
        return Err(wrong(format!(
            "`{}` is not a program's absolute path",
            upgrade.tow.display()
        )));
    }
    Ok(end(agent, End::Become(upgrade.tow.clone())))
}
