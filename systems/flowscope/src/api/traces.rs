//! `/api/traces`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::auth::SignedIn;
use super::error::Body;
use super::{ApiError, App};
use crate::account;
use crate::server::stopped;
use crate::trace::{self, NewTrace, Summary, Trace};

/// Longest wait of a long poll, milliseconds.
const MAX_WAIT_MS: u64 = 30_000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/traces", get(list).post(create))
        .route("/api/traces/next", get(next))
        .route("/api/traces/{id}", get(one))
}

#[derive(Deserialize)]
struct Wanted {
    app: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

async fn list(
    State(app): State<App>,
    _user: SignedIn,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    let limit = wanted.limit.unwrap_or(50).min(200);
    let before = wanted.before.unwrap_or(i64::MAX);
    let traces = app
        .db
        .read(move |conn| trace::list(conn, wanted.app.as_deref(), before, limit))
        .await?;
    Ok(Json(json!({ "traces": traces })))
}

async fn create(
    State(app): State<App>,
    _user: SignedIn,
    Body(new): Body<NewTrace>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    if let Some(fault) = new.fault() {
        return Err(ApiError::Invalid(fault));
    }
    let id = new.id.clone().or_else(account::new_token);
    let id = id.ok_or(ApiError::Overloaded("no randomness"))?;
    let stored = id.clone();
    app.db
        .write(move |conn| trace::insert(conn, &stored, &new))
        .await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

async fn one(
    State(app): State<App>,
    _user: SignedIn,
    Path(id): Path<String>,
) -> Result<Json<Trace>, ApiError> {
    let found = app.db.read(move |conn| trace::get(conn, &id)).await?;
    found.map(Json).ok_or(ApiError::NotFound("trace"))
}

#[derive(Deserialize)]
struct Awaited {
    app: String,
    after: Option<i64>,
    timeout_ms: Option<u64>,
}

/// Long poll: the next trace of an application, or 204 when none came in time or the process ends.
async fn next(
    State(app): State<App>,
    _user: SignedIn,
    Query(wanted): Query<Awaited>,
) -> Result<Response, ApiError> {
    let mut arriving = app.live.subscribe();
    if let Some(missed) = missed(&app, &wanted).await? {
        return Ok(Json(missed).into_response());
    }
    let wait = Duration::from_millis(wanted.timeout_ms.unwrap_or(MAX_WAIT_MS).min(MAX_WAIT_MS));
    let came = tokio::select! {
        trace = first_of(&wanted.app, &mut arriving) => trace,
        () = tokio::time::sleep(wait) => None,
        () = stopped(app.stop.clone()) => None,
    };
    Ok(match came {
        Some(trace) => Json(trace.as_ref()).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// What came after the trace that the client saw last, and before it asked.
async fn missed(app: &App, wanted: &Awaited) -> Result<Option<Summary>, ApiError> {
    let Some(after) = wanted.after else {
        return Ok(None);
    };
    let name = wanted.app.clone();
    let found = app
        .db
        .read(move |conn| trace::after(conn, Some(&name), after, 1))
        .await?;
    Ok(found.into_iter().next())
}

async fn first_of(app: &str, arriving: &mut Receiver<Arc<Summary>>) -> Option<Arc<Summary>> {
    loop {
        match arriving.recv().await {
            Ok(trace) if trace.app == app => return Some(trace),
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}
