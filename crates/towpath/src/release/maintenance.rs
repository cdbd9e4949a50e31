//! Maintenance: what a person says of the environment, whatever serves in it.
//!
//! It is one file in the state directory, which is there or not, so it outlives the agent, the gateway, a deployment and
//! `tow down`. The gateway is told with every table, and whenever what it has is not what the file says.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towpath_gateway::api::{self, Apply};
use towpath_gateway::control;

use super::gateway::gateway_client;
use super::{OpenRun, World};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::state::write_whole;

/// When clients come again, if nothing else is said, seconds.
pub const RETRY_AFTER_S: u32 = 300;

/// Times that somebody else's change of the table is waited for.
const TRIES: u32 = 20;

/// Maintenance in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// What the page says; its own words when `None`.
    pub message: Option<String>,
    /// When clients are told to come again, seconds.
    pub retry_after_s: u32,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// Who has said so.
    pub actor: String,
}

fn path(state: &Path) -> PathBuf {
    state.join("maintenance.json")
}

/// What is in force. A file that cannot be read says that much: nobody is served by mistake.
#[must_use]
pub fn maintenance(state: &Path) -> Option<Maintenance> {
    let unread = || Maintenance {
        message: None,
        retry_after_s: RETRY_AFTER_S,
        since_ms: 0,
        actor: "somebody".to_owned(),
    };
    match std::fs::read(path(state)) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap_or_else(|_| unread())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => Some(unread()),
    }
}

/// Put it in force, or end it; the gateway is told if it answers, and else as soon as it does.
///
/// # Errors
/// When it cannot be written down: nothing has changed then. When the gateway does not take it.
pub async fn set_maintenance(
    world: &World,
    wanted: Option<&Maintenance>,
) -> Result<(), Diagnostic> {
    let path = path(&world.state());
    let written = match wanted {
        Some(wanted) => serde_json::to_vec(wanted)
            .map_err(Into::into)
            .and_then(|text| write_whole(&path, &text)),
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    written.map_err(|error| {
        Diagnostic::error(
            "maintenance::not-written",
            format!("{}: {error}", path.display()),
        )
        .note("nothing was changed")
    })?;
    keep_maintenance(world).await
}

/// Tells the gateway what the file says, where it has something else. Its routes stay as they are.
///
/// # Errors
/// When the gateway does not take it.
pub async fn keep_maintenance(world: &World) -> Result<(), Diagnostic> {
    let client = gateway_client(world);
    for _ in 0..TRIES {
        let kept = maintenance(&world.state());
        // One that does not answer is told when it comes up.
        let Ok(state) = client.state().await else {
            return Ok(());
        };
        if says(state.table.front.maintenance.as_ref(), kept.as_ref()) {
            return Ok(());
        }
        let mut table = state.table;
        table.front.maintenance = of_environment(world)?;
        let apply = Apply {
            label: state.label,
            expect: Some(state.epoch),
            table,
        };
        match client.apply(&apply).await {
            // Somebody has switched meanwhile.
            Err(control::Error::Conflict(_)) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(not_told(&error.to_string())),
        }
    }
    Err(not_told("its table goes on changing"))
}

fn not_told(why: &str) -> Diagnostic {
    Diagnostic::error(
        "maintenance::not-told",
        format!("the gateway did not take it: {why}"),
    )
    .note("it is written down, and the gateway is told again")
    .help("see `tow status`")
}

fn says(has: Option<&api::Maintenance>, kept: Option<&Maintenance>) -> bool {
    match (has, kept) {
        (Some(has), Some(kept)) => {
            has.message == kept.message && has.retry_after_s == kept.retry_after_s
        }
        (has, kept) => has.is_none() && kept.is_none(),
    }
}

/// As the gateway is told, by what the version says that serves or comes.
fn of_environment(world: &World) -> Result<Option<api::Maintenance>, Diagnostic> {
    let now = world.environment()?;
    let version = now
        .live
        .or_else(|| now.open.as_ref().and_then(OpenRun::new_version));
    let config = version
        .map(|version| version.config(&world.environment))
        .transpose()?;
    Ok(front(world, config.as_ref()))
}

/// What the gateway's table says of it.
pub(super) fn front(world: &World, config: Option<&Config>) -> Option<api::Maintenance> {
    let kept = maintenance(&world.state())?;
    let passing = config
        .and_then(|config| config.edge.as_ref())
        .map(|edge| edge.maintenance.clone())
        .unwrap_or_default();
    Some(api::Maintenance {
        message: kept.message,
        retry_after_s: kept.retry_after_s,
        paths: passing.paths,
        allow: passing.allow,
    })
}
