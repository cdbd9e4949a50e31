//! `/api/live`: new traces over a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::auth::SignedIn;
use super::{ApiError, App};
use crate::server::stopped;
use crate::trace::Summary;

/// Time between two pings, which keep the way open and find clients that have gone.
const PING: Duration = Duration::from_secs(20);
/// Time that a client gets to answer a close.
const CLOSING: Duration = Duration::from_secs(2);
/// Close code "service restart": come back, another instance is there.
const RESTART: u16 = 1012;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/live", get(open))
}

#[derive(Deserialize)]
struct Wanted {
    app: Option<String>,
}

async fn open(
    State(app): State<App>,
    _user: SignedIn,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    if !same_site(&headers) {
        return Err(ApiError::Foreign);
    }
    let permit = app
        .socket()
        .ok_or(ApiError::Overloaded("too many live connections"))?;
    let arriving = app.live.subscribe();
    Ok(upgrade.on_upgrade(move |socket| serve(socket, app, wanted.app, arriving, permit)))
}

/// A browser names the page that opens the socket; it must be ours, or none.
fn same_site(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &axum::http::HeaderValue| value.to_str().ok())
    };
    let Some(origin) = text(ORIGIN.as_str()) else {
        return true;
    };
    let origin = origin.split_once("://").map_or(origin, |(_, host)| host);
    [HOST.as_str(), "x-forwarded-host"]
        .into_iter()
        .any(|name| text(name) == Some(origin))
}

async fn serve(
    mut socket: WebSocket,
    app: App,
    only: Option<String>,
    arriving: Receiver<Arc<Summary>>,
    _open: OwnedSemaphorePermit,
) {
    // An error is a client that has gone.
    let _ = follow(&mut socket, &app, only.as_deref(), arriving).await;
}

async fn follow(
    socket: &mut WebSocket,
    app: &App,
    only: Option<&str>,
    mut arriving: Receiver<Arc<Summary>>,
) -> Result<(), axum::Error> {
    let mut ping = tokio::time::interval(PING);
    let stop = stopped(app.stop.clone());
    tokio::pin!(stop);
    loop {
        let message = tokio::select! {
            () = &mut stop => return close(socket).await,
            _ = ping.tick() => Message::Ping(Vec::new().into()),
            said = socket.recv() => match said {
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            trace = arriving.recv() => match told(trace, only) {
                Some(message) => message,
                None => continue,
            },
        };
        socket.send(message).await?;
    }
}

/// The message for what arrived; `None` if this client did not ask for it.
fn told(trace: Result<Arc<Summary>, RecvError>, only: Option<&str>) -> Option<Message> {
    let body = match trace {
        Ok(trace) if only.is_some_and(|app| app != trace.app) => return None,
        Ok(trace) => json!({ "type": "trace", "trace": *trace }),
        // The client was too slow for what arrived and should load the list again.
        Err(RecvError::Lagged(missed)) => json!({ "type": "missed", "count": missed }),
        Err(RecvError::Closed) => return None,
    };
    Some(Message::Text(body.to_string().into()))
}

async fn close(socket: &mut WebSocket) -> Result<(), axum::Error> {
    let frame = CloseFrame {
        code: RESTART,
        reason: "service restart".into(),
    };
    socket.send(Message::Close(Some(frame))).await?;
    let answered = async { while let Some(Ok(_)) = socket.recv().await {} };
    // A client that does not answer has had its time.
    let _ = tokio::time::timeout(CLOSING, answered).await;
    Ok(())
}
