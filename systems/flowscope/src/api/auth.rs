//! Sign-in, sign-out, and who a request comes from.

use axum::extract::{FromRequestParts, State};
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Body;
use super::{ApiError, App};
use crate::account;
use crate::db::DbError;

const COOKIE_NAME: &str = "flowscope_session";

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/session", post(sign_in).get(who).delete(sign_out))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    user: String,
    password: String,
}

async fn sign_in(
    State(app): State<App>,
    Body(given): Body<Credentials>,
) -> Result<impl IntoResponse, ApiError> {
    let name = given.user.clone();
    let user = app.db.read(move |conn| account::find(conn, &name)).await?;
    let user = checked(&app, user, given.password).await?;
    let token = account::new_token().ok_or(ApiError::Overloaded("no randomness"))?;
    let kept = token.clone();
    app.db
        .write(move |conn| account::open_session(conn, user.id, &kept))
        .await?;
    let cookie = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Strict");
    let answer = json!({ "token": token, "user": user.name });
    Ok((
        StatusCode::CREATED,
        AppendHeaders([(SET_COOKIE, cookie)]),
        Json(answer),
    ))
}

async fn checked(
    app: &App,
    user: Option<account::User>,
    password: String,
) -> Result<account::User, ApiError> {
    let _permit = app.hashing.acquire().await.map_err(|_| DbError::Stopped)?;
    tokio::task::spawn_blocking(move || {
        if account::password_fits(user.as_ref(), &password) {
            user
        } else {
            None
        }
    })
    .await
    .map_err(|_| DbError::Stopped)?
    .ok_or(ApiError::SignedOut)
}

async fn who(user: SignedIn) -> Json<Value> {
    Json(json!({ "user": user.name }))
}

async fn sign_out(State(app): State<App>, user: SignedIn) -> Result<impl IntoResponse, ApiError> {
    app.db
        .write(move |conn| account::close_session(conn, &user.token))
        .await?;
    let cookie = format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    Ok((
        StatusCode::NO_CONTENT,
        AppendHeaders([(SET_COOKIE, cookie)]),
    ))
}

/// Who a request comes from; a handler that takes one is closed to everyone else.
pub struct SignedIn {
    /// The user's name.
    pub name: String,
    token: String,
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = token(&parts.headers).ok_or(ApiError::SignedOut)?.to_owned();
        // Asked of the database every time: a session ended through another instance is over here too.
        let asked = token.clone();
        let name = app
            .db
            .read(move |conn| account::session_user(conn, &asked))
            .await?;
        Ok(Self {
            name: name.ok_or(ApiError::SignedOut)?,
            token,
        })
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    bearer.or_else(|| {
        headers
            .get_all(COOKIE)
            .iter()
            .find_map(|value| cookie(value.to_str().ok()?))
    })
}

fn cookie(header: &str) -> Option<&str> {
    header
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE_NAME).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::cookie;

    #[test]
    fn the_session_is_found_among_other_cookies() {
        assert_eq!(cookie("a=1; flowscope_session=t; b=2"), Some("t"));
        assert_eq!(cookie("xflowscope_session=t"), None);
    }
}
