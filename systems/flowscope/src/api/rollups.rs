//! `/api/rollups`.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::SignedIn;
use super::{ApiError, App};
use crate::rollup::{self, Doubled};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/rollups", get(list))
        .route("/api/rollups/doubled", get(doubled))
}

#[derive(Deserialize)]
struct Wanted {
    app: Option<String>,
    limit: Option<u32>,
}

async fn list(
    State(app): State<App>,
    _user: SignedIn,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    let limit = wanted.limit.unwrap_or(300).min(3600);
    let rollups = app
        .db
        .read(move |conn| rollup::list(conn, wanted.app.as_deref(), limit))
        .await?;
    Ok(Json(json!({ "rollups": rollups })))
}

async fn doubled(State(app): State<App>, _user: SignedIn) -> Result<Json<Doubled>, ApiError> {
    Ok(Json(app.db.read(rollup::doubled).await?))
}
