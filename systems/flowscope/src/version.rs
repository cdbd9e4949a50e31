//! Which FlowScope this is.

/// The version, as `GET /api/version` tells it.
pub const VERSION: &str = "1";
