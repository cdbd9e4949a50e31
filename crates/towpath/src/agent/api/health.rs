//! What an agent says of how its environment is, part by part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How something is. The worse, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// All of it does what it should.
    Healthy,
    /// It serves, and something fails.
    Degraded,
    /// It does not serve.
    Unhealthy,
}

impl Word {
    /// The word.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Word::Healthy => "healthy",
            Word::Degraded => "degraded",
            Word::Unhealthy => "unhealthy",
        }
    }
}

/// How an environment is, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// As a whole: unhealthy where something critical is.
    pub status: Word,
    /// When it was looked at, Unix milliseconds.
    pub at_ms: i64,
    /// What else is to be known about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The gateway.
    pub gateway: Component,
    /// Services that stay, and resources.
    pub components: BTreeMap<String, Component>,
}

impl HealthStatus {
    /// The same without what services and resources say.
    #[must_use]
    pub fn quiet(mut self) -> HealthStatus {
        self.note = None;
        let components = self.components.values_mut();
        for component in components.chain([&mut self.gateway]) {
            component.error = None;
            if let Some(last) = &mut component.last {
                last.error = None;
            }
        }
        self
    }
}

/// How a part of an environment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// `service`, `resource` or `gateway`.
    pub kind: String,
    /// How it is.
    pub status: Word,
    /// Whether the environment is unhealthy without it.
    pub critical: bool,
    /// Since when it is so, Unix milliseconds; as far back as the agent remembers.
    pub since_ms: i64,
    /// What is the matter.
    pub error: Option<String>,
    /// The last time before that something was, and is over.
    pub last: Option<Past>,
    /// Instances of a service that are well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<usize>,
    /// Its instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
    /// Starts after the first, where it is ours to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// Connections to a database, where it counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
}

/// A time when something was the matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// What.
    pub error: Option<String>,
    /// From when, Unix milliseconds.
    pub from_ms: i64,
    /// Until when.
    pub until_ms: i64,
}
