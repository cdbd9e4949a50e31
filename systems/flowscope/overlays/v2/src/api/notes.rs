//! Notes on traces: `/api/traces/{id}/notes`, and `/api/notes` for the traces noted last.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::auth::SignedIn;
use super::error::Body;
use super::{ApiError, App};
use crate::clock::now_ms;
use crate::db::{Conn, DbError};
use crate::values;

/// Longest note, bytes.
const MAX_BODY: usize = 10_000;
/// Most traces in the list of noted ones.
const MAX_LISTED: u32 = 50;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/notes", get(noted))
        .route("/api/traces/{id}/notes", get(list).post(create))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNote {
    body: String,
}

#[derive(Serialize)]
struct Note {
    author: String,
    body: String,
    created_at: i64,
}

#[derive(Serialize)]
struct Noted {
    id: String,
    app: String,
    name: String,
    noted_at: i64,
}

async fn list(
    State(app): State<App>,
    _user: SignedIn,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let notes = app.db.read(move |conn| notes(conn, &id)).await?;
    Ok(Json(json!({ "notes": notes })))
}

async fn create(
    State(app): State<App>,
    user: SignedIn,
    Path(id): Path<String>,
    Body(new): Body<NewNote>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    if new.body.trim().is_empty() || new.body.len() > MAX_BODY {
        return Err(ApiError::Invalid(format!(
            "`body` must have 1 to {MAX_BODY} bytes"
        )));
    }
    let author = user.name;
    let added = app
        .db
        .write(move |conn| add(conn, &id, &author, &new.body))
        .await?;
    if !added {
        return Err(ApiError::NotFound("trace"));
    }
    Ok((StatusCode::CREATED, Json(json!({ "status": "added" }))))
}

async fn noted(State(app): State<App>, _user: SignedIn) -> Result<Json<Value>, ApiError> {
    let traces = app.db.read(noted_traces).await?;
    Ok(Json(json!({ "traces": traces })))
}

fn notes(conn: &Conn, id: &str) -> Result<Vec<Note>, DbError> {
    let sql = "SELECT author, body, created_at FROM trace_notes WHERE trace_id = ?1 ORDER BY id";
    conn.query(sql, values![id], |mut row| {
        Ok(Note {
            author: row.take()?,
            body: row.take()?,
            created_at: row.take()?,
        })
    })
}

/// Adds a note; `false` if there is no such trace.
fn add(conn: &Conn, id: &str, author: &str, body: &str) -> Result<bool, DbError> {
    let now = now_ms();
    let sql = "UPDATE traces SET noted_at = ?2 WHERE trace_id = ?1";
    if conn.execute(sql, values![id, now])? == 0 {
        return Ok(false);
    }
    conn.execute(
        "INSERT INTO trace_notes (trace_id, author, body, created_at) VALUES (?1, ?2, ?3, ?4)",
        values![id, author, body, now],
    )?;
    Ok(true)
}

fn noted_traces(conn: &Conn) -> Result<Vec<Noted>, DbError> {
    let sql = format!(
        "SELECT trace_id, app, name, noted_at FROM traces
         WHERE noted_at IS NOT NULL ORDER BY noted_at DESC LIMIT {MAX_LISTED}"
    );
    conn.query(&sql, values![], |mut row| {
        Ok(Noted {
            id: row.take()?,
            app: row.take()?,
            name: row.take()?,
            noted_at: row.take()?,
        })
    })
}
