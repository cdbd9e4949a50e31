//! Whether this instance lives, and whether it can answer.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::App;
use crate::schema;
use crate::version::VERSION;

/// Time that the database gets to answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/health", get(health))
        .route(
            "/livez",
            get(|| async { Json(json!({ "status": "alive" })) }),
        )
        .route(
            "/api/version",
            get(|| async { Json(json!({ "version": VERSION })) }),
        )
}

/// Readiness: the database answers, it has the tables this version needs, and the start is over.
async fn health(State(app): State<App>) -> Response {
    match trouble(&app).await {
        None => Json(json!({ "status": "healthy" })).into_response(),
        Some(error) => {
            // There is only one that it could be.
            let body = json!({ "status": "unhealthy", "dependency": "database", "error": error });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn trouble(app: &App) -> Option<String> {
    match tokio::time::timeout(PATIENCE, app.db.read(schema::check)).await {
        Ok(Ok(())) => app.waits_for(),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("database: no answer within 2 s".to_owned()),
    }
}
