//! Providing resources.

use serde_json::{Value, json};

use super::{Result, version};
use crate::diagnostic::Diagnostic;
use crate::release::{OpenRun, Side, World, resources};

pub(super) async fn provide(world: &World, run: &OpenRun, name: &str, port: u16) -> Result<Value> {
    let config = version(run, Side::New)?.config(&world.environment)?;
    let resource = config.resources.get(name).ok_or_else(|| {
        Diagnostic::error("state::plan", "the plan names a resource it does not have")
    })?;
    resources::provide(world, name, resource, port).await
}

/// Data stays, and so does a server that ran before.
pub(super) async fn undo(world: &World, run: &OpenRun, name: &str) -> Result<()> {
    match run.provided_before.contains(name) {
        true => Ok(()),
        false => resources::stop(world, name).await,
    }
}

pub(super) async fn stop_all(world: &World) -> Result<Value> {
    let provided = world.environment()?.provided;
    for name in &provided {
        resources::stop(world, name).await?;
    }
    Ok(json!({ "resources": provided.len() }))
}
