//! What a request is answered with when it fails: a status and `{"error": "..."}`.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::db::DbError;

/// Why a request failed.
#[derive(Debug)]
pub enum ApiError {
    /// The request makes no sense; the text says why.
    Invalid(String),
    /// No session, or one that is over.
    SignedOut,
    /// A page of another site may not do this.
    Foreign,
    /// There is no such thing.
    NotFound(&'static str),
    /// There is one already.
    Exists(String),
    /// The body could not be taken, with the status that says why.
    Body(StatusCode, String),
    /// Too much at once.
    Overloaded(&'static str),
    /// The database failed.
    Db(DbError),
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl ApiError {
    fn parts(self) -> (StatusCode, String) {
        match self {
            Self::Invalid(text) => (StatusCode::BAD_REQUEST, text),
            Self::SignedOut => (StatusCode::UNAUTHORIZED, "sign in first".to_owned()),
            Self::Foreign => (StatusCode::FORBIDDEN, "not from another site".to_owned()),
            Self::NotFound(what) => (StatusCode::NOT_FOUND, format!("no such {what}")),
            Self::Exists(text) => (StatusCode::CONFLICT, text),
            Self::Body(status, text) => (status, text),
            Self::Overloaded(text) => (StatusCode::SERVICE_UNAVAILABLE, text.to_owned()),
            Self::Db(error @ DbError::Invalid(_)) => (StatusCode::BAD_REQUEST, error.to_string()),
            Self::Db(error @ (DbError::Busy(_) | DbError::Unavailable(_) | DbError::Stopped)) => {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
            Self::Db(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, text) = self.parts();
        (status, Json(json!({ "error": text }))).into_response()
    }
}

/// A JSON body. Its content type must say so, which a form of another site cannot.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(refused) => Err(ApiError::Body(refused.status(), refused.body_text())),
        }
    }
}
