//! The HTTP API: which path leads where.

mod app;
mod assets;
mod auth;
mod error;
mod health;
mod live;
mod prompts;
mod rollups;
mod search;
mod traces;

use axum::Router;
use axum::extract::DefaultBodyLimit;

pub use app::App;
pub use error::ApiError;

/// Largest request body, bytes.
const MAX_BODY: usize = 1024 * 1024;

/// All paths.
pub fn router(app: App) -> Router {
    Router::new()
        .merge(assets::routes())
        .merge(auth::routes())
        .merge(health::routes())
        .merge(live::routes())
        .merge(prompts::routes())
        .merge(rollups::routes())
        .merge(search::routes())
        .merge(traces::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}
