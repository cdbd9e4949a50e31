//! `/api/search`.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::auth::SignedIn;
use super::{ApiError, App};
use crate::search::{self, Found};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/search", get(find))
}

#[derive(Deserialize)]
struct Wanted {
    q: String,
}

async fn find(
    State(app): State<App>,
    _user: SignedIn,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Found>, ApiError> {
    Ok(Json(
        app.db
            .read(move |conn| search::search(conn, &wanted.q))
            .await?,
    ))
}
