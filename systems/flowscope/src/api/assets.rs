//! The page, which is part of the program.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

use super::App;

/// Only our own scripts and styles, and no frame around the page.
const POLICY: &str =
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/",
            file(
                "text/html; charset=utf-8",
                include_str!("../../page/index.html"),
            ),
        )
        .route(
            "/assets/style.css",
            file("text/css", include_str!("../../page/style.css")),
        )
        .route("/assets/app.js", script(include_str!("../../page/app.js")))
        .route("/assets/dom.js", script(include_str!("../../page/dom.js")))
        .route(
            "/assets/chart.js",
            script(include_str!("../../page/chart.js")),
        )
        .route(
            "/assets/prompts.js",
            script(include_str!("../../page/prompts.js")),
        )
        .route(
            "/assets/trace.js",
            script(include_str!("../../page/trace.js")),
        )
        .route(
            "/assets/traces.js",
            script(include_str!("../../page/traces.js")),
        )
}

fn script(text: &'static str) -> MethodRouter<App> {
    file("text/javascript", text)
}

fn file(kind: &'static str, text: &'static str) -> MethodRouter<App> {
    get(move || async move {
        // Asked for again each time: a new version of the page must not meet an old one's scripts.
        let headers = [
            (CONTENT_TYPE, kind),
            (CACHE_CONTROL, "no-cache"),
            (CONTENT_SECURITY_POLICY, POLICY),
        ];
        (headers, text).into_response()
    })
}
