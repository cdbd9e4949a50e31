//! `/api/prompts`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::SignedIn;
use super::error::Body;
use super::{ApiError, App};
use crate::prompt::{self, NewVersion, PromptVersion};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/prompts", get(list).post(create))
        .route("/api/prompts/{name}", get(latest))
        .route(
            "/api/prompts/{name}/versions",
            get(versions).post(add_version),
        )
        .route("/api/prompts/{name}/versions/{version}", get(version))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPrompt {
    name: String,
    body: String,
    #[serde(default)]
    comment: String,
}

async fn list(State(app): State<App>, _user: SignedIn) -> Result<Json<Value>, ApiError> {
    let prompts = app.db.read(prompt::list).await?;
    Ok(Json(json!({ "prompts": prompts })))
}

async fn create(
    State(app): State<App>,
    _user: SignedIn,
    Body(new): Body<NewPrompt>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    if let Some(fault) = prompt::name_fault(&new.name) {
        return Err(ApiError::Invalid(fault));
    }
    let name = new.name.clone();
    let first = NewVersion {
        body: new.body,
        comment: new.comment,
    };
    if !app
        .db
        .write(move |conn| prompt::create(conn, &new.name, &first))
        .await?
    {
        return Err(ApiError::Exists(format!(
            "there is a prompt `{name}`; add a version to it"
        )));
    }
    Ok((
        StatusCode::CREATED,
        Json(json!({ "name": name, "version": 1 })),
    ))
}

async fn add_version(
    State(app): State<App>,
    _user: SignedIn,
    Path(name): Path<String>,
    Body(new): Body<NewVersion>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let prompt = name.clone();
    let version = app
        .db
        .write(move |conn| prompt::add_version(conn, &prompt, &new))
        .await?;
    let version = version.ok_or(ApiError::NotFound("prompt"))?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "name": name, "version": version })),
    ))
}

async fn versions(
    State(app): State<App>,
    _user: SignedIn,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let versions = app
        .db
        .read(move |conn| prompt::versions(conn, &name))
        .await?;
    if versions.is_empty() {
        return Err(ApiError::NotFound("prompt"));
    }
    Ok(Json(json!({ "versions": versions })))
}

async fn latest(
    State(app): State<App>,
    _user: SignedIn,
    Path(name): Path<String>,
) -> Result<Json<PromptVersion>, ApiError> {
    one(&app, name, None).await
}

async fn version(
    State(app): State<App>,
    _user: SignedIn,
    Path((name, version)): Path<(String, i64)>,
) -> Result<Json<PromptVersion>, ApiError> {
    one(&app, name, Some(version)).await
}

async fn one(
    app: &App,
    name: String,
    version: Option<i64>,
) -> Result<Json<PromptVersion>, ApiError> {
    let found = app
        .db
        .read(move |conn| prompt::get(conn, &name, version))
        .await?;
    found
        .map(Json)
        .ok_or(ApiError::NotFound("version of this prompt"))
}
